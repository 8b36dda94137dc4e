//! What requests carry: JSON bodies, queries, cookies, conditions. Everything that cannot be read is a clear 4xx.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use collodi_profiles::RegistrySlug;
use collodi_profiles::json::{self, Members};
use collodi_profiles::registry::IfMatch;
use http::header::{CONTENT_TYPE, COOKIE, HeaderName, IF_MATCH, IF_NONE_MATCH};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;

use crate::problem::Failure;

/// Largest body of a request, in bytes (decision 8).
pub const MAX_BODY: usize = 1024 * 1024;
/// How long a body may take.
const BODY_DEADLINE: Duration = Duration::from_secs(15);

/// Reads a whole body that must be JSON by its content type, if it has one (decision 8, chapter 30 D46).
///
/// # Errors
/// 413 above the limit, 415 for a body of another content type, 408 when it takes too long, 400 when it breaks off.
pub async fn read_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Failure> {
    let collected = tokio::time::timeout(BODY_DEADLINE, Limited::new(body, limit).collect()).await;
    let Ok(collected) = collected else {
        return Err(Failure::new(StatusCode::REQUEST_TIMEOUT, "timeout", "request timeout"));
    };
    let collected = collected.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "request body too large")
        } else {
            Failure::bad_request()
        }
    })?;
    let bytes = collected.to_bytes();
    if !bytes.is_empty() && !is_json(headers) {
        let text = "unsupported media type";
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", text));
    }
    Ok(bytes)
}

/// JSON, or not said (decision 8).
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else { return true };
    let kind = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    let kind = kind.trim().to_ascii_lowercase();
    kind.is_empty()
        || kind == "application/json"
        || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// Parses a body as an object of that type. Unknown members are ignored; `null` members are absent ones.
///
/// # Errors
/// 400 `bad request`.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    let Members(body) = json::parse_as(bytes).map_err(|_| Failure::bad_request())?;
    Ok(body)
}

/// The members of a query, decoded once.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Parses the query of a request.
    ///
    /// # Errors
    /// 400 `bad request` for what cannot be decoded (H10).
    pub fn of(parts: &Parts) -> Result<Self, Failure> {
        let Some(raw) = parts.uri.query() else { return Ok(Self::default()) };
        if raw.contains(';') {
            return Err(Failure::bad_request());
        }
        let pairs = raw.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text: &str| {
                let text = text.replace('+', " ");
                percent_decode(&text).map(Cow::into_owned).ok_or_else(Failure::bad_request)
            };
            Ok((decode(key)?, decode(value)?))
        });
        pairs.collect::<Result<_, _>>().map(Self)
    }

    /// The first occurrence, trimmed; blank counts as absent.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(k, _)| k == key)?;
        Some(value.trim()).filter(|value| !value.is_empty())
    }

    /// Whether a switch is on: `1` or `true`.
    #[must_use]
    pub fn is_on(&self, key: &str) -> bool {
        matches!(self.get(key), Some("1" | "true"))
    }

    /// `expected_version`: decimal digits, 0 when absent.
    ///
    /// # Errors
    /// 400 `invalid expected_version`.
    pub fn expected_version(&self) -> Result<u64, Failure> {
        let Some(text) = self.get("expected_version") else { return Ok(0) };
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|_| digits).ok_or_else(|| {
            Failure::new(StatusCode::BAD_REQUEST, "bad_request", "invalid expected_version")
        })
    }

    /// The registry: the body's, then the query's, then the default.
    ///
    /// # Errors
    /// 400 `invalid registry`.
    pub fn registry(
        &self,
        body: Option<&str>,
        default: &RegistrySlug,
    ) -> Result<RegistrySlug, Failure> {
        let raw =
            body.map(str::trim).filter(|raw| !raw.is_empty()).or_else(|| self.get("registry"));
        match raw {
            None => Ok(default.clone()),
            Some(raw) => RegistrySlug::parse(raw)
                .map_err(|_| collodi_profiles::Error::InvalidRegistry(raw.to_owned()).into()),
        }
    }

    /// A number, leniently: leading digits count, anything else is absent (chapter 30, conventions).
    #[must_use]
    pub fn number(&self, key: &str) -> Option<u64> {
        let text = self.get(key)?;
        let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
        text[..end].parse().ok()
    }
}

/// Decodes `%XX` once; `None` for broken escapes and invalid UTF-8.
#[must_use]
pub fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(text.into());
    }
    let hex = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let [high, low, after @ ..] = tail else { return None };
            bytes.push(hex(*high)? * 16 + hex(*low)?);
            rest = after;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok().map(Cow::from)
}

/// Encodes everything but unreserved characters (RFC 3986 §2.3), for links.
#[must_use]
pub fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The first cookie of that name; surrounding double quotes are not part of it (chapter 20 §5.7).
#[must_use]
pub fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| {
            let value = value.trim();
            value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value).to_owned()
        })
}

/// The condition of a write. Tags that are none of ours match no version.
#[must_use]
pub fn if_match(headers: &HeaderMap) -> Option<IfMatch> {
    // A condition that cannot be read holds for nothing; it is never no condition.
    headers.get(IF_MATCH)?;
    let tags: Vec<&str> = tags(headers, &IF_MATCH).collect();
    if tags.contains(&"*") {
        return Some(IfMatch::Any);
    }
    let version = |tag: &&str| -> Option<u64> {
        let inner = tag.strip_prefix('"')?.strip_suffix('"')?;
        inner.strip_suffix(".d").unwrap_or(inner).parse().ok()
    };
    Some(IfMatch::Versions(tags.iter().filter_map(version).collect()))
}

/// Whether the client has this state already.
#[must_use]
pub fn has_current(headers: &HeaderMap, etag: &[u8]) -> bool {
    tags(headers, &IF_NONE_MATCH)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == etag)
}

fn tags<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|tag| !tag.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn query(raw: &str) -> Result<Query, Failure> {
        let request = http::Request::get(format!("/x?{raw}")).body(()).unwrap();
        Query::of(&request.into_parts().0)
    }

    #[test]
    fn c20_h10_queries_decode_once_or_not_at_all() {
        assert_eq!(query("a=%20x+y%20&a=z").unwrap().get("a"), Some("x y"));
        assert_eq!(query("a=%2525").unwrap().get("a"), Some("%25"));
        for raw in ["registry=%zz", "a=1;b=2", "a=%ff", "a=%2"] {
            assert!(query(raw).is_err(), "{raw}");
        }
    }

    #[test]
    fn expected_versions_are_decimal_digits() {
        for (raw, expected) in [
            ("", Some(0)),
            ("7", Some(7)),
            ("%2B1", None),
            ("0x1", None),
            ("abc", None),
            ("18446744073709551616", None),
            ("-1", None),
        ] {
            let got = query(&format!("expected_version={raw}")).unwrap().expected_version();
            assert_eq!(got.ok(), expected, "{raw}");
        }
    }

    #[test]
    fn cookies_are_found_by_name_and_unquoted() {
        let mut headers = HeaderMap::new();
        headers.insert(
            COOKIE,
            HeaderValue::from_static("a=1; chat_profile=\"agent\"; chat_profile=b"),
        );
        assert_eq!(cookie(&headers, "chat_profile").as_deref(), Some("agent"));
        assert_eq!(cookie(&headers, "profile"), None);
    }

    #[test]
    fn conditions_read_our_tags() {
        let mut headers = HeaderMap::new();
        assert_eq!(if_match(&headers), None);
        headers.insert(IF_MATCH, HeaderValue::from_static("\"3.d\", \"4\", W/\"5\", junk"));
        assert_eq!(if_match(&headers), Some(IfMatch::Versions(vec![3, 4])));
        headers.insert(IF_NONE_MATCH, HeaderValue::from_static("\"1\", W/\"3.d\""));
        assert!(has_current(&headers, b"\"3.d\"") && !has_current(&headers, b"\"3\""));
    }
}
