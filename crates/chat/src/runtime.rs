//! The composer: makes of a resolved profile what a run needs (chapter 40 §9). Done once per run, off the owner's task.

use std::sync::Arc;

use collodi_profiles::profile::resolve::EffectiveProfile;

use crate::middleware::{
    Around, Middleware, Notice, Toolbox, Working, reorder_results, set_system_prompt,
};
use crate::model::{Model, ModelError, Models};
use crate::tool::ToolSet;
use crate::turn::Block;

/// The parts of one run.
pub struct Composed {
    profile: Arc<EffectiveProfile>,
    middlewares: Vec<Box<dyn Middleware>>,
    toolbox: Arc<dyn Toolbox>,
    /// The registry's tools that the profile offers; middlewares add theirs before each call.
    pub tools: ToolSet,
    /// Who answers.
    pub model: Arc<dyn Model>,
}

/// Builds middlewares, tools and model of a profile.
///
/// # Errors
/// In words for the user: a middleware that cannot be built, a model that cannot be called.
pub fn compose(
    profile: Arc<EffectiveProfile>,
    toolbox: Arc<dyn Toolbox>,
    models: &dyn Models,
) -> Result<Composed, ModelError> {
    let mut middlewares = Vec::new();
    for used in profile.middlewares.iter().filter(|used| used.enabled) {
        let built = toolbox.middleware(&used.name, &used.config).map_err(|reason| {
            tracing::error!(middleware = used.name, %reason, "a middleware cannot be built");
            ModelError::new("middleware", format!("the middleware {} cannot be started", used.name))
        })?;
        middlewares.push(built);
    }
    let mut tools = ToolSet::default();
    for tool in toolbox.tools() {
        tools.add(tool).map_err(|reason| ModelError::new("tool", reason))?;
    }
    tools.allow(profile.tools.as_deref());
    let model = models.model(&profile)?;
    Ok(Composed { profile, middlewares, toolbox, tools, model })
}

impl Composed {
    /// Runs the chain before a call of the model; `tools` are those of this call.
    ///
    /// # Errors
    /// A middleware's own, in words for the user.
    pub fn before(
        &self,
        turn: &mut Working,
        tools: &mut ToolSet,
        new_id: &(dyn Fn() -> String + Send + Sync),
    ) -> Result<Vec<Notice>, ModelError> {
        let active: Vec<&str> = self
            .profile
            .middlewares
            .iter()
            .filter(|m| m.enabled)
            .map(|m| m.name.as_str())
            .collect();
        self.toolbox.clean(turn, &active);
        let mut around = Around { tools, allowed: None, new_id, notices: Vec::new() };
        for middleware in &self.middlewares {
            middleware.before(turn, &mut around).map_err(broken)?;
        }
        around.tools.allow(around.allowed.as_deref());
        set_system_prompt(&mut turn.blocks, &self.profile.system_prompt, &new_id);
        reorder_results(&mut turn.blocks);
        Ok(around.notices)
    }

    /// Runs the chain backwards after an answer of `new` blocks, which are in the turn already.
    ///
    /// # Errors
    /// As [`Self::before`].
    pub fn after(
        &self,
        turn: &mut Working,
        new: &[Arc<Block>],
        tools: &mut ToolSet,
        new_id: &(dyn Fn() -> String + Send + Sync),
    ) -> Result<Vec<Notice>, ModelError> {
        let mut around = Around { tools, allowed: None, new_id, notices: Vec::new() };
        for middleware in self.middlewares.iter().rev() {
            middleware.after(turn, new, &mut around).map_err(broken)?;
        }
        Ok(around.notices)
    }
}

fn broken(reason: String) -> ModelError {
    ModelError::new("middleware", reason)
}
