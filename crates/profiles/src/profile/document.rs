//! The texts of a profile: the JSON that is hashed, stored and sent, and the item of the list (chapter 20 §4). A version
//! is encoded once; what is stored and what is sent are put together from that text.

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::{Extensions, Metadata, Policy, Profile, Runtime};
use crate::ids::{ProfileSlug, RegistrySlug};
use crate::json::sha256_hex_of;

/// What the author owns of a profile, as JSON text in two parts with room for the server's metadata between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// SHA-256 in lower-case hex; two versions with the same content have the same.
    pub hash: String,
    /// Bytes of its text.
    pub size: usize,
    /// The members up to the policy, after a brace.
    before: String,
    /// The extensions with the comma before them, or nothing.
    after: String,
}

impl Content {
    /// Encodes the content of `profile`.
    #[must_use]
    pub fn of(profile: &Profile) -> Self {
        #[derive(Serialize)]
        struct Before<'a> {
            slug: &'a ProfileSlug,
            #[serde(skip_serializing_if = "str::is_empty")]
            display_name: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            description: &'a str,
            runtime: &'a Runtime,
            policy: &'a Policy,
        }
        let mut before = encode(&Before {
            slug: &profile.slug,
            display_name: &profile.display_name,
            description: &profile.description,
            runtime: &profile.runtime,
            policy: &profile.policy,
        });
        before.pop();
        let after = match &profile.extensions {
            none if none.is_empty() => String::new(),
            extensions => [",\"extensions\":", &encode(extensions)].concat(),
        };
        // Objects are sorted, so equal content has equal text.
        let tags = encode(&profile.metadata.tags);
        let owned = [before.get(1..).unwrap_or_default(), ",\"tags\":", &tags, &after];
        let size = owned.iter().map(|part| part.len()).sum();
        Self { hash: sha256_hex_of(&owned), size, before, after }
    }

    /// The whole profile as it is stored.
    #[must_use]
    pub fn document(&self, metadata: &Metadata) -> String {
        [&self.before, ",\"metadata\":", &encode(metadata), &self.after, "}"].concat()
    }
}

/// Values of our own types always encode.
fn encode(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// What of a profile's document is its author's: versions, times and names of writers differ by themselves, tags do not.
#[must_use]
pub fn authored(mut document: Value) -> Value {
    let tags = document.get_mut("metadata").and_then(|metadata| metadata.get_mut("tags"));
    let tags = tags.map(Value::take);
    if let Some(members) = document.as_object_mut() {
        members.remove("metadata");
        members.extend(tags.map(|tags| ("tags".to_owned(), tags)));
    }
    document
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
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    tags: &'a [String],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    read_only: bool,
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
    /// The answer for a profile whose stored text is `document`: that text with its place in the registry around it.
    #[must_use]
    pub fn new(registry: &RegistrySlug, document: &str, version: u64, is_default: bool) -> Self {
        let inner = document.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        let flag = if is_default { "true" } else { "false" };
        let answer = [
            "{\"registry\":\"",
            registry.as_str(),
            "\",",
            inner.unwrap_or_default(),
            ",\"is_default\":",
            flag,
            "}\n",
        ];
        Self { document: answer.concat().into(), etag: etag(version, is_default).into() }
    }

    /// The answer for the same profile once it is the default, or is it no more.
    #[must_use]
    pub fn turned(&self, version: u64, is_default: bool) -> Self {
        let flags: [&[u8]; 2] = [b"false}\n", b"true}\n"];
        let (now, before) = (flags[usize::from(is_default)], flags[usize::from(!is_default)]);
        let inner = self.document.strip_suffix(before).unwrap_or_default();
        Self { document: [inner, now].concat().into(), etag: etag(version, is_default).into() }
    }
}

/// Renders the list item of `profile`, one JSON value.
#[must_use]
pub fn list_item(profile: &Profile, is_default: bool) -> Bytes {
    encode(&ListItem { tags: &[], read_only: false, ..item(profile, is_default) }).into()
}

/// The same with tags and lock, for whoever asks for them: the contract's items have no other keys (chapter 20 §4).
#[must_use]
pub fn detailed_list_item(profile: &Profile, is_default: bool) -> Bytes {
    encode(&item(profile, is_default)).into()
}

fn item(profile: &Profile, is_default: bool) -> ListItem<'_> {
    ListItem {
        slug: &profile.slug,
        display_name: &profile.display_name,
        description: &profile.description,
        default_prompt: &profile.runtime.system_prompt,
        extensions: &profile.extensions,
        is_default,
        version: profile.metadata.version,
        tags: &profile.metadata.tags,
        read_only: profile.policy.read_only,
    }
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
        let rendered = Rendered::new(&registry, &p.document(), 3, false);
        assert_eq!(
            rendered.document,
            "{\"registry\":\"default\",\"slug\":\"x1\",\"runtime\":{},\"policy\":{\"allow_overrides\":false,\"read_only\":false},\"metadata\":{\"version\":3},\"is_default\":false}\n"
        );
        assert_eq!(list_item(&p, false), r#"{"slug":"x1","version":3}"#);
        assert_eq!(rendered.etag, "\"3\"");
        let rendered = Rendered::new(&registry, &p.document(), 3, true);
        let turned = rendered.turned(3, false);
        assert_eq!((turned.document, turned.etag), {
            let other = Rendered::new(&registry, &p.document(), 3, false);
            (other.document, other.etag)
        });
        assert_eq!(list_item(&p, true), r#"{"slug":"x1","is_default":true,"version":3}"#);
        assert_eq!(rendered.etag, "\"3.d\"");
    }
}
