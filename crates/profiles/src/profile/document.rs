//! The two shapes in which a profile leaves this program (chapter 20 §4): the document and the list item. They are
//! rendered once per version, so that a read sends bytes that are there already.

use bytes::Bytes;
use serde::Serialize;

use super::{Extensions, Metadata, Policy, Profile, Runtime};
use crate::ids::{ProfileSlug, RegistrySlug};

#[derive(Serialize)]
struct Document<'a> {
    registry: &'a RegistrySlug,
    slug: &'a ProfileSlug,
    #[serde(skip_serializing_if = "str::is_empty")]
    display_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    runtime: &'a Runtime,
    policy: &'a Policy,
    metadata: &'a Metadata,
    #[serde(skip_serializing_if = "Extensions::is_empty")]
    extensions: &'a Extensions,
    is_default: bool,
}

#[derive(Serialize)]
struct ListItem<'a> {
    slug: &'a ProfileSlug,
    #[serde(skip_serializing_if = "str::is_empty")]
    display_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    default_prompt: &'a str,
    #[serde(skip_serializing_if = "Extensions::is_empty")]
    extensions: &'a Extensions,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_default: bool,
    version: u64,
}

/// A profile as it is sent, while it is or is not the default of its registry.
#[derive(Debug, Clone)]
pub struct Rendered {
    /// The document, one JSON value and a line end.
    pub document: Bytes,
    /// The strong entity tag, quotes included (decision 12).
    pub etag: Bytes,
}

impl Rendered {
    /// Renders the document of `profile`.
    ///
    /// # Errors
    /// Never for profiles that passed validation; encoding happens before any status is sent (H18).
    pub fn new(
        registry: &RegistrySlug,
        profile: &Profile,
        is_default: bool,
    ) -> Result<Self, serde_json::Error> {
        let document = Document {
            registry,
            slug: &profile.slug,
            display_name: &profile.display_name,
            description: &profile.description,
            runtime: &profile.runtime,
            policy: &profile.policy,
            metadata: &profile.metadata,
            extensions: &profile.extensions,
            is_default,
        };
        let mut bytes = serde_json::to_vec(&document)?;
        bytes.push(b'\n');
        Ok(Self { document: bytes.into(), etag: etag(profile.metadata.version, is_default).into() })
    }
}

/// Renders the list item of `profile`, one JSON value.
///
/// # Errors
/// As [`Rendered::new`].
pub fn list_item(profile: &Profile, is_default: bool) -> Result<Bytes, serde_json::Error> {
    let item = ListItem {
        slug: &profile.slug,
        display_name: &profile.display_name,
        description: &profile.description,
        default_prompt: &profile.runtime.system_prompt,
        extensions: &profile.extensions,
        is_default,
        version: profile.metadata.version,
    };
    serde_json::to_vec(&item).map(Bytes::from)
}

/// `"3"`, and `"3.d"` while the profile is the default, since the document says so (decision 12).
#[must_use]
pub fn etag(version: u64, is_default: bool) -> String {
    if is_default { format!("\"{version}.d\"") } else { format!("\"{version}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::validate::tests::profile;

    #[test]
    fn empty_parts_are_left_out_of_both_shapes() {
        let registry = RegistrySlug::parse("default").unwrap();
        let mut p = profile("x1");
        p.metadata.version = 3;
        let rendered = Rendered::new(&registry, &p, false).unwrap();
        assert_eq!(
            rendered.document,
            "{\"registry\":\"default\",\"slug\":\"x1\",\"runtime\":{},\"policy\":{\"allow_overrides\":false,\"read_only\":false},\"metadata\":{\"version\":3},\"is_default\":false}\n"
        );
        assert_eq!(list_item(&p, false).unwrap(), r#"{"slug":"x1","version":3}"#);
        assert_eq!(rendered.etag, "\"3\"");
        let rendered = Rendered::new(&registry, &p, true).unwrap();
        assert_eq!(list_item(&p, true).unwrap(), r#"{"slug":"x1","is_default":true,"version":3}"#);
        assert_eq!(rendered.etag, "\"3.d\"");
    }
}
