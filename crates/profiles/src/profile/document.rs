//! The texts of a profile: the JSON that is hashed, stored and sent, and the item of the list (chapter 20 §4). A version
//! is encoded once; what is stored and what is sent are put together from that text.

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::{Extensions, Metadata, Policy, Profile, Runtime};
use crate::ids::{ProfileSlug, RegistrySlug};
use crate::json::sha256_hex;

/// What the author owns of a profile, as JSON text in two parts with room for the server's metadata between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The members up to the policy, after a brace.
    before: String,
    tags: String,
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
        Self { before, tags: encode(&profile.metadata.tags), after }
    }

    /// Objects are sorted, so equal content has equal text.
    fn text(&self) -> [&str; 4] {
        [self.before.get(1..).unwrap_or_default(), ",\"tags\":", &self.tags, &self.after]
    }

    /// SHA-256 in lower-case hex; two versions with the same content have the same.
    #[must_use]
    pub fn hash(&self) -> String {
        sha256_hex(&self.text().concat())
    }

    /// Bytes of its text.
    #[must_use]
    pub fn size(&self) -> usize {
        self.text().iter().map(|part| part.len()).sum()
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

/// A profile as it is sent, while it is or is not the default of its registry, and the words that lists look for. All of
/// it lies in one piece of memory: thousands of them are kept, and small pieces between them would scatter everything else.
#[derive(Debug, Clone)]
pub struct Rendered {
    text: Bytes,
    /// Where the entity tag begins, behind the document.
    etag: usize,
    /// Where the labels begin, behind the entity tag.
    labels: usize,
}

/// Stands before each tag; no byte of a text is like it.
const BEFORE_TAG: u8 = 0xFF;
/// How a document ends, by whether it is the default.
const ENDS: [&str; 2] = [",\"is_default\":false}\n", ",\"is_default\":true}\n"];

impl Rendered {
    /// The answer for a profile whose stored text is `document`: that text with its place in the registry around it.
    #[must_use]
    pub fn new(
        registry: &RegistrySlug,
        profile: &Profile,
        document: &str,
        is_default: bool,
    ) -> Self {
        let inner = document.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        let before = ["{\"registry\":\"", registry.as_str(), "\",", inner.unwrap_or_default()];
        let tags = &profile.metadata.tags;
        let labels = tags.iter().fold(profile.display_name.len(), |sum, tag| sum + 1 + tag.len());
        let (version, end) = (profile.metadata.version, ENDS[usize::from(is_default)]);
        let size = before.iter().map(|part| part.len()).sum::<usize>() + end.len();
        let mut text = Vec::with_capacity(size + labels + 24);
        before.iter().chain([&end]).for_each(|part| text.extend_from_slice(part.as_bytes()));
        text.extend_from_slice(etag(version, is_default).as_bytes());
        let labels = text.len();
        text.extend_from_slice(profile.display_name.as_bytes());
        for tag in tags {
            text.push(BEFORE_TAG);
            text.extend_from_slice(tag.as_bytes());
        }
        Self { text: text.into(), etag: size, labels }
    }

    /// The answer for the same profile once it is the default, or is it no more.
    #[must_use]
    pub fn turned(&self, version: u64, is_default: bool) -> Self {
        let end = ENDS[usize::from(is_default)].as_bytes();
        let before = self.etag.saturating_sub(ENDS[usize::from(!is_default)].len());
        let etag = etag(version, is_default);
        let text = [&self.text[..before], end, etag.as_bytes(), &self.text[self.labels..]].concat();
        let size = before + end.len();
        Self { text: text.into(), etag: size, labels: size + etag.len() }
    }

    /// The document, one JSON value and a line end.
    #[must_use]
    pub fn document(&self) -> Bytes {
        self.text.slice(..self.etag)
    }

    /// The strong entity tag, quotes included (decision 12).
    #[must_use]
    pub fn etag(&self) -> Bytes {
        self.text.slice(self.etag..self.labels)
    }

    /// The display name.
    #[must_use]
    pub fn display_name(&self) -> &str {
        let name = self.labels().next().unwrap_or_default();
        str::from_utf8(name).unwrap_or_default()
    }

    /// Whether the profile has a tag.
    #[must_use]
    pub fn has_tag(&self, tag: &str) -> bool {
        self.labels().skip(1).any(|has| has == tag.as_bytes())
    }

    fn labels(&self) -> impl Iterator<Item = &[u8]> {
        self.text[self.labels..].split(|byte| *byte == BEFORE_TAG)
    }

    /// The document as text.
    #[must_use]
    pub fn text(&self) -> &str {
        str::from_utf8(&self.text[..self.etag]).unwrap_or_default()
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
        let rendered = Rendered::new(&registry, &p, &p.document(), false);
        assert_eq!(
            rendered.document(),
            "{\"registry\":\"default\",\"slug\":\"x1\",\"runtime\":{},\"policy\":{\"allow_overrides\":false,\"read_only\":false},\"metadata\":{\"version\":3},\"is_default\":false}\n"
        );
        assert_eq!(list_item(&p, false), r#"{"slug":"x1","version":3}"#);
        assert_eq!(rendered.etag(), "\"3\"");
        let (other, rendered) = (rendered, Rendered::new(&registry, &p, &p.document(), true));
        let turned = rendered.turned(3, false);
        assert_eq!((turned.document(), turned.etag()), (other.document(), other.etag()));
        assert_eq!(list_item(&p, true), r#"{"slug":"x1","is_default":true,"version":3}"#);
        assert_eq!(rendered.etag(), "\"3.d\"");
    }

    #[test]
    fn labels_lie_behind_the_text_whichever_way_it_is_turned() {
        let registry = RegistrySlug::parse("default").unwrap();
        let mut p = profile("x1");
        p.display_name = "Ann's \u{0} \u{ff}".into();
        p.metadata.tags = vec!["one".into(), String::new(), "one two".into()];
        let rendered = Rendered::new(&registry, &p, &p.document(), false);
        for rendered in [rendered.turned(0, true), rendered] {
            assert_eq!(rendered.display_name(), p.display_name);
            for (tag, there) in [("one", true), ("", true), ("two", false), ("Ann's", false)] {
                assert_eq!(rendered.has_tag(tag), there, "{tag}");
            }
            assert_eq!(serde_json::from_str::<Profile>(rendered.text()).unwrap(), p);
        }
        p.metadata.tags.clear();
        assert!(!Rendered::new(&registry, &p, &p.document(), false).has_tag(""));
    }
}
