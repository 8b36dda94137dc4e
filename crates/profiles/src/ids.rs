//! Identifiers: registry slug, profile slug, runtime key, extension key (chapter 10 §1 and §7).
//!
//! The three slugs share one grammar and are types of their own, so that none can stand in for another. All of them
//! are canonical once parsed (trimmed, lower case), cheap to clone, and ordered by their bytes.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::quote::quote;

/// Longest slug, in bytes.
const MAX_SLUG: usize = 128;
/// Longest namespace or feature of an extension key, in bytes.
const MAX_KEY_PART: usize = 64;

/// A text that is no identifier. The display text is the contract's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidId(String);

macro_rules! slug {
    ($(#[$doc:meta])* $name:ident, $label:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Normalises and checks `raw`.
            ///
            /// # Errors
            /// Blank text, anything but ASCII, or text outside the grammar; the raw text is quoted in the message.
            pub fn parse(raw: &str) -> Result<Self, InvalidId> {
                parse_slug($label, raw).map(Self)
            }

            /// Reads a field in which blank text means "not given".
            ///
            /// # Errors
            /// As [`Self::parse`], but not for blank text.
            pub fn parse_optional(raw: &str) -> Result<Option<Self>, InvalidId> {
                if raw.trim().is_empty() { Ok(None) } else { Self::parse(raw).map(Some) }
            }

            /// The canonical text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let raw = String::deserialize(deserializer)?;
                Self::parse(&raw).map_err(de::Error::custom)
            }
        }
    };
}

slug!(
    /// Names a registry.
    RegistrySlug,
    "registry slug"
);
slug!(
    /// Names a profile within its registry.
    ProfileSlug,
    "profile slug"
);
slug!(
    /// Names the runtime that answered; by default the profile's slug.
    RuntimeKey,
    "runtime key"
);

impl From<&ProfileSlug> for RuntimeKey {
    fn from(slug: &ProfileSlug) -> Self {
        Self(slug.0.clone())
    }
}

fn parse_slug(label: &str, raw: &str) -> Result<Arc<str>, InvalidId> {
    let trimmed = raw.trim();
    if trimmed.len() <= MAX_SLUG && is_word(trimmed, b"._-") {
        return Ok(trimmed.into());
    }
    if trimmed.is_empty() {
        return Err(InvalidId(format!("{label} cannot be empty")));
    }
    let slug = trimmed.to_ascii_lowercase();
    if slug.len() <= MAX_SLUG && is_word(&slug, b"._-") {
        Ok(slug.into())
    } else {
        Err(InvalidId(format!("{label} {} is invalid", quote(raw))))
    }
}

/// Lower-case alphanumerics with `inner` allowed between the first and the last byte.
fn is_word(text: &str, inner: &[u8]) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    match bytes {
        [] => false,
        [one] => alphanumeric(one),
        [first, middle @ .., last] => {
            alphanumeric(first)
                && alphanumeric(last)
                && middle.iter().all(|b| alphanumeric(b) || inner.contains(b))
        }
    }
}

/// A canonical extension key, `namespace.feature@vN` (chapter 10 §7).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtensionKey(Arc<str>);

impl ExtensionKey {
    /// Normalises and checks `raw`.
    ///
    /// # Errors
    /// Blank text or text outside the grammar, with the contract's wording.
    pub fn parse(raw: &str) -> Result<Self, InvalidId> {
        let trimmed = raw.trim();
        if trimmed.is_empty() {
            return Err(InvalidId("extension key cannot be empty".into()));
        }
        let key = trimmed.to_ascii_lowercase();
        if Self::is_valid(&key) {
            Ok(Self(key.into()))
        } else {
            let quoted = quote(raw);
            Err(InvalidId(format!(
                "extension key {quoted} is invalid (expected namespace.feature@vN)"
            )))
        }
    }

    /// Builds a key from its parts.
    ///
    /// # Errors
    /// Version 0, or parts outside the grammar.
    pub fn from_parts(namespace: &str, feature: &str, version: u16) -> Result<Self, InvalidId> {
        if version == 0 {
            return Err(InvalidId("extension key version must be >= 1".into()));
        }
        Self::parse(&format!("{namespace}.{feature}@v{version}"))
    }

    /// The key that holds the configuration of a middleware (chapter 10 §8).
    ///
    /// # Errors
    /// Blank names, names that cannot be part of a key, names of more than 57 bytes.
    pub fn for_middleware(name: &str) -> Result<Self, InvalidId> {
        let trimmed = name.trim();
        if trimmed.is_empty() {
            return Err(InvalidId("middleware name must not be empty".into()));
        }
        let lower = trimmed.to_ascii_lowercase();
        if lower.len() > MAX_KEY_PART || !is_word(&lower, b"_-") {
            let quoted = quote(name);
            return Err(InvalidId(format!(
                "middleware name {quoted} is invalid for typed-key extension mapping"
            )));
        }
        Self::from_parts("middleware", &format!("{lower}_config"), 1)
    }

    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn is_valid(key: &str) -> bool {
        let Some((namespace, rest)) = key.split_once('.') else { return false };
        let Some((feature, version)) = rest.split_once("@v") else { return false };
        let part = |text: &str| text.len() <= MAX_KEY_PART && is_word(text, b"_-");
        let digits = version.bytes().all(|b| b.is_ascii_digit());
        part(namespace)
            && part(feature)
            && digits
            && (1..=5).contains(&version.len())
            && !version.starts_with('0')
    }
}

impl fmt::Display for ExtensionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ExtensionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl std::borrow::Borrow<str> for ExtensionKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for ExtensionKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ExtensionKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = String::deserialize(deserializer)?;
        Self::parse(&raw).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_normalised_and_checked() {
        for (raw, expected) in [
            ("agent", Ok("agent")),
            ("  AGENT ", Ok("agent")),
            ("a", Ok("a")),
            ("a..b--c", Ok("a..b--c")),
            ("9", Ok("9")),
            ("", Err("profile slug cannot be empty")),
            (" \t", Err("profile slug cannot be empty")),
            ("Bad Slug", Err(r#"profile slug "Bad Slug" is invalid"#)),
            ("-a", Err(r#"profile slug "-a" is invalid"#)),
            ("a.", Err(r#"profile slug "a." is invalid"#)),
            ("a\"b\n", Err(r#"profile slug "a\"b\n" is invalid"#)),
        ] {
            let got = ProfileSlug::parse(raw);
            let got = got.as_ref().map(ProfileSlug::as_str).map_err(ToString::to_string);
            assert_eq!(got, expected.map_err(ToString::to_string), "{raw:?}");
        }
        assert!(ProfileSlug::parse(&"a".repeat(128)).is_ok());
        assert!(ProfileSlug::parse(&"a".repeat(129)).is_err());
    }

    #[test]
    fn letters_that_lower_case_into_ascii_are_refused() {
        for raw in ["\u{212a}ey", "\u{130}d", "caf\u{e9}"] {
            assert!(RegistrySlug::parse(raw).is_err(), "{raw}");
        }
    }

    #[test]
    fn labels_differ_by_type() {
        let labels = [
            RegistrySlug::parse("").unwrap_err().to_string(),
            RuntimeKey::parse("").unwrap_err().to_string(),
        ];
        assert_eq!(labels, ["registry slug cannot be empty", "runtime key cannot be empty"]);
    }

    #[test]
    fn json_values_decode_with_normalisation() {
        let decode = |text| serde_json::from_str::<ProfileSlug>(text);
        assert_eq!(decode(r#"" Agent ""#).unwrap().as_str(), "agent");
        assert!(decode("5").is_err());
        assert!(decode(r#""a b""#).is_err());
        assert_eq!(ProfileSlug::parse_optional("  ").unwrap(), None);
    }

    #[test]
    fn extension_keys_are_normalised_and_checked() {
        for (raw, valid) in [
            ("webchat.starter_suggestions@v1", true),
            (" WebChat.Starter@V12 ", true),
            ("a.b@v99999", true),
            ("a.b@v100000", false),
            ("a.b@v0", false),
            ("a.b@v01", false),
            ("a.b.c@v1", false),
            ("a.b", false),
            ("bad key", false),
            ("a.b@v1@v2", false),
            ("_a.b@v1", false),
        ] {
            assert_eq!(ExtensionKey::parse(raw).is_ok(), valid, "{raw}");
        }
        let text = |r: Result<ExtensionKey, InvalidId>| r.unwrap_err().to_string();
        assert_eq!(text(ExtensionKey::parse(" ")), "extension key cannot be empty");
        assert_eq!(
            text(ExtensionKey::parse("bad key")),
            r#"extension key "bad key" is invalid (expected namespace.feature@vN)"#
        );
        assert_eq!(
            text(ExtensionKey::from_parts("a", "b", 0)),
            "extension key version must be >= 1"
        );
    }

    #[test]
    fn middleware_names_map_to_keys() {
        let key = ExtensionKey::for_middleware(" AgentMode ").unwrap();
        assert_eq!(key.as_str(), "middleware.agentmode_config@v1");
        assert!(ExtensionKey::for_middleware(&"a".repeat(57)).is_ok());
        let text = |name: &str| ExtensionKey::for_middleware(name).unwrap_err().to_string();
        assert!(text(&"a".repeat(58)).starts_with("extension key "));
        assert_eq!(text(" "), "middleware name must not be empty");
        assert_eq!(
            text("a.b"),
            r#"middleware name "a.b" is invalid for typed-key extension mapping"#
        );
    }
}
