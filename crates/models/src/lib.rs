//! Models over real providers, and the offline demo model.
//!
//! - [`demo`] answers when no provider is configured.
//! - [`openai`] is the wire format of Chat Completions: pure functions over values.
//! - [`sse`] splits server-sent events: bytes in, events out.
//! - [`http`] is the one loop that calls a provider, with its timeouts.
//! - [`Providers`] finds the model that a runtime's settings name.

pub mod demo;
pub mod http;
pub mod openai;
pub mod sse;

use std::sync::Arc;
use std::time::Duration;

use collodi_chat::model::{Model, ModelError, Models};
use collodi_profiles::profile::resolve::EffectiveProfile;
use collodi_profiles::settings::Settings;
use collodi_profiles::settings::url::check_provider_url;
use secrecy::SecretString;

/// Where the demo model stands in for a provider.
pub const DEMO: &str = "demo";

/// The keys that the operator gave; they never leave this crate but for the provider they are for.
#[derive(Debug, Default)]
pub struct Keys {
    /// For Chat Completions.
    pub openai: Option<SecretString>,
    /// For Messages.
    pub claude: Option<SecretString>,
    /// For Gemini.
    pub gemini: Option<SecretString>,
}

impl Keys {
    fn is_empty(&self) -> bool {
        self.openai.is_none() && self.claude.is_none() && self.gemini.is_none()
    }
}

/// What the operator configured.
pub struct Providers {
    operator: Settings,
    keys: Keys,
    allow_local: bool,
    is_demo: bool,
    demo_pace: Duration,
    clients: http::Clients,
}

impl Providers {
    /// Takes the operator's settings and keys. `allow_local` lets profiles name providers in the local network;
    /// `demo_pace` is the time between two words of the demo model.
    ///
    /// # Errors
    /// When no TLS client can be made.
    pub fn new(
        operator: Settings,
        keys: Keys,
        allow_local: bool,
        demo_pace: Duration,
    ) -> Result<Self, String> {
        let asked = operator.text("ai-api-type").as_deref() == Some(DEMO);
        let is_demo = asked || (keys.is_empty() && operator.summary().is_empty());
        let clients = http::Clients::new(allow_local)?;
        Ok(Self { operator, keys, allow_local, is_demo, demo_pace, clients })
    }

    /// Whether the demo model answers everything (decision 39).
    #[must_use]
    pub fn is_demo(&self) -> bool {
        self.is_demo
    }

    /// What answers, in words for the operator.
    #[must_use]
    pub fn describe(&self) -> String {
        if self.is_demo {
            return "offline demo model (no provider configured)".into();
        }
        let text = |name: &str| self.operator.text(name).unwrap_or_default();
        let (format, model) = (text("ai-api-type"), text("ai-engine"));
        match format.as_str() {
            "openai" => format!("{model} over {format} at {}", text("openai-base-url")),
            _ => format!("{model} over {format}"),
        }
    }

    fn openai(&self, runtime: &EffectiveProfile) -> Result<Arc<dyn Model>, ModelError> {
        const URL: &str = "openai-base-url";
        let base_url = runtime.settings.text(URL).unwrap_or_default();
        let from_operator = self.operator.text(URL).as_deref() == Some(base_url.as_str());
        if !from_operator && !self.allow_local {
            check_provider_url(&base_url)
                .map_err(|e| ModelError::new("url", format!("invalid openai chat URL: {e}")))?;
        }
        // An operator's key goes only where the operator said, or whoever writes profiles could send it home (INF-7).
        let key = if from_operator { self.keys.openai.clone() } else { None };
        if from_operator && key.is_none() && !self.operator.is_set(URL) {
            return Err(ModelError::new("missing_key", "missing API key openai-api-key"));
        }
        let client = self.clients.for_url(from_operator);
        Ok(Arc::new(http::OpenAi::new(client, &base_url, key, &runtime.settings)))
    }
}

impl Models for Providers {
    fn model(&self, runtime: &EffectiveProfile) -> Result<Arc<dyn Model>, ModelError> {
        if self.is_demo {
            return Ok(Arc::new(demo::Demo { pace: self.demo_pace }));
        }
        match runtime.settings.text("ai-api-type").unwrap_or_default().as_str() {
            "openai" => self.openai(runtime),
            DEMO => Ok(Arc::new(demo::Demo { pace: self.demo_pace })),
            other => {
                let text = format!("the provider format {other} is not spoken by this version");
                Err(ModelError::new("unsupported", text))
            }
        }
    }
}
