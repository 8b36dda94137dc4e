//! Models over real providers, and the offline demo model.
//!
//! - [`demo`] answers when no provider is configured.
//! - [`format`] is the face of the wire formats, each of them pure functions over values: [`openai`] (Chat Completions),
//!   [`responses`], [`claude`] (Messages), [`gemini`].
//! - [`sse`] splits server-sent events: bytes in, events out.
//! - [`http`] is the one loop that calls a provider, with its timeouts.
//! - [`Providers`] finds the model that a runtime's settings name.

pub mod claude;
pub mod demo;
#[cfg(test)]
mod fixture;
pub mod format;
pub mod gemini;
pub mod http;
pub mod openai;
pub mod responses;
pub mod sse;

use std::sync::Arc;
use std::time::Duration;

use collodi_chat::model::{Model, ModelError, Models};
use collodi_profiles::profile::resolve::EffectiveProfile;
use collodi_profiles::settings::Settings;
use collodi_profiles::settings::url::check_provider_url;
use secrecy::{ExposeSecret, SecretString};

use format::Format;

/// Where the demo model stands in for a provider.
pub const DEMO: &str = "demo";

/// The keys that the operator gave; they never leave this crate but for the provider they are for.
#[derive(Debug, Default)]
pub struct Keys {
    /// For Chat Completions, and for Responses where it has none of its own.
    pub openai: Option<SecretString>,
    /// For Responses.
    pub responses: Option<SecretString>,
    /// For Messages.
    pub claude: Option<SecretString>,
    /// For Gemini.
    pub gemini: Option<SecretString>,
}

impl Keys {
    fn is_empty(&self) -> bool {
        self.openai.is_none()
            && self.responses.is_none()
            && self.claude.is_none()
            && self.gemini.is_none()
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
    #[must_use]
    pub fn new(operator: Settings, keys: Keys, allow_local: bool, demo_pace: Duration) -> Self {
        let asked = operator.text("ai-api-type").as_deref() == Some(DEMO);
        let is_demo = asked || (keys.is_empty() && operator.summary().is_empty());
        let clients = http::Clients::new(allow_local);
        Self { operator, keys, allow_local, is_demo, demo_pace, clients }
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
        match Format::parse(&format) {
            Some(known) => format!("{model} over {format} at {}", text(known.url_setting())),
            None => format!("{model} over {format}"),
        }
    }

    fn key(&self, format: Format) -> Option<&SecretString> {
        let keys = &self.keys;
        match format {
            Format::OpenAi => keys.openai.as_ref(),
            Format::Responses => keys.responses.as_ref().or(keys.openai.as_ref()),
            Format::Claude => keys.claude.as_ref(),
            Format::Gemini => keys.gemini.as_ref(),
        }
    }

    fn remote(
        &self,
        format: Format,
        runtime: &EffectiveProfile,
    ) -> Result<Arc<dyn Model>, ModelError> {
        let setting = format.url_setting();
        let base_url = runtime.settings.text(setting).unwrap_or_default();
        let from_operator = self.operator.text(setting).as_deref() == Some(base_url.as_str());
        if !from_operator && !self.allow_local {
            check_provider_url(&base_url).map_err(|e| {
                ModelError::new("url", format!("invalid {} URL: {e}", format.name()))
            })?;
        }
        // An operator's key goes only where the operator said, or whoever writes profiles could send it home (INF-7).
        let key = if from_operator { self.key(format) } else { None };
        let key = key.filter(|key| !key.expose_secret().is_empty()).cloned();
        // A base URL of the operator's own needs none: Ollama, vLLM (decision 39).
        if from_operator && key.is_none() && !self.operator.is_set(setting) {
            let text = format!("missing API key {}", format.key_name());
            return Err(ModelError::new("missing_key", text));
        }
        let client = self.clients.for_url(from_operator)?;
        Ok(Arc::new(http::Remote::new(client, format, &base_url, key, &runtime.settings)))
    }
}

impl Models for Providers {
    fn model(&self, runtime: &EffectiveProfile) -> Result<Arc<dyn Model>, ModelError> {
        let asked = runtime.settings.text("ai-api-type").unwrap_or_default();
        if self.is_demo || asked == DEMO {
            return Ok(Arc::new(demo::Demo { pace: self.demo_pace }));
        }
        let format = Format::parse(&asked)
            .ok_or_else(|| ModelError::new("unsupported", format!("unknown provider {asked}")))?;
        self.remote(format, runtime)
    }
}
