//! What handlers know of a request beside itself.

use std::fmt;
use std::sync::Arc;

use collodi_profiles::profile::resolve::EffectiveProfile;
use collodi_profiles::{ProfileSlug, RegistrySlug};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use uuid::Uuid;

use crate::access::Principal;

/// The header that names a request, in both directions.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Names a request in answers, log lines and the change log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The caller's own id if it is a plain word of at most 128 bytes, else a new one.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let plain = |id: &[u8]| {
            (1..=128).contains(&id.len())
                && id.iter().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b))
        };
        match headers.get(X_REQUEST_ID) {
            Some(given) if plain(given.as_bytes()) => Self(given.clone()),
            _ => Self::new(),
        }
    }

    fn new() -> Self {
        let mut text = Uuid::encode_buffer();
        let text = Uuid::now_v7().hyphenated().encode_lower(&mut text);
        // Hex digits and hyphens are a header value.
        Self(HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown")))
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// The id as a header.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the log says of an answer beside its status; travels with it as an extension.
#[derive(Clone)]
pub(crate) enum About {
    /// A write of a profile.
    Profile {
        registry: RegistrySlug,
        slug: ProfileSlug,
        /// Absent after a delete.
        version: Option<u64>,
        registry_version: u64,
        outcome: &'static str,
    },
    /// A prompt, and the runtime that was composed for it.
    Turn { conv_id: String, runtime: Arc<EffectiveProfile>, outcome: &'static str },
}

/// An admitted request without its body.
#[derive(Debug)]
pub struct Incoming {
    /// The head, its path without the mount prefix.
    pub parts: Parts,
    /// Names it.
    pub request_id: RequestId,
    /// Who asks.
    pub principal: Principal,
}
