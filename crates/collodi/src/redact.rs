//! What is secret, and what stands in its place: one redactor in front of logs and packets (F30). Profiles and exports hold
//! no keys in the first place (decision 15).

use std::borrow::Cow;
use std::ffi::OsString;
use std::sync::LazyLock;

use collodi_profiles::settings::redact::is_secret;
use regex::Regex;
use serde_json::Value;

/// What stands in the place of a secret.
pub(crate) const MASK: &str = "***";
/// Shorter values are no keys, and would take harmless words out of every line.
const SHORTEST: usize = 6;

/// Takes secrets out of texts: those that it was told, and whatever looks like one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Redactor {
    known: Vec<String>,
}

impl Redactor {
    /// Knows these, and the same as they stand inside of JSON.
    pub(crate) fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut known: Vec<String> = Vec::new();
        for secret in secrets.into_iter().filter(|secret| secret.len() >= SHORTEST) {
            let quoted = Value::from(secret.as_str()).to_string();
            known.push(quoted[1..quoted.len() - 1].to_owned());
            known.push(secret);
        }
        // A secret that holds another goes first.
        known.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        known.dedup();
        Self { known }
    }

    /// Keys and tokens of this process's environment, by the names of their variables.
    pub(crate) fn of_environment(more: impl IntoIterator<Item = String>) -> Self {
        // What is no text is no key that anybody could type.
        let text = |(name, value): (OsString, OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let named = std::env::vars_os()
            .filter_map(text)
            .filter(|(name, _)| names_a_secret(&name.to_ascii_lowercase().replace('_', "-")))
            .map(|(_, value)| value.trim().to_owned());
        Self::new(named.chain(more))
    }

    /// Only what it was told: cheap enough for every log line.
    pub(crate) fn known<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for secret in &self.known {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), MASK).into();
            }
        }
        text
    }

    /// And what looks like a secret.
    pub(crate) fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = self.known(text);
        for (pattern, with) in &*PATTERNS {
            if pattern.is_match(&text) {
                text = pattern.replace_all(&text, *with).into_owned().into();
            }
        }
        text
    }

    /// And what a name says is one: members of objects, and pairs of a name and a value, as headers are written.
    pub(crate) fn json(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(clean) = self.text(text) {
                    *text = clean;
                }
            }
            Value::Array(items) => {
                if let [Value::String(name), value] = &mut items[..]
                    && names_a_secret(&name.to_ascii_lowercase())
                {
                    mask(value);
                }
                for item in items {
                    self.json(item);
                }
            }
            Value::Object(members) => {
                // A header as browsers write it down.
                let named =
                    members.get("name").and_then(Value::as_str).map(str::to_ascii_lowercase);
                let value = members.get_mut("value");
                if let Some(value) = value.filter(|_| named.is_some_and(|n| names_a_secret(&n))) {
                    mask(value);
                }
                for (name, value) in members {
                    if names_a_secret(&name.to_ascii_lowercase()) {
                        mask(value);
                    }
                    self.json(value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// What a secret name stands for, whatever it is: flags, small counts and schemas of secrets are none.
fn mask(value: &mut Value) {
    match value {
        Value::String(text) if !text.is_empty() => MASK.clone_into(text),
        Value::Number(number) if number.to_string().len() >= SHORTEST => *value = MASK.into(),
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::Object(members) => members.get_mut("value").into_iter().for_each(mask),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Whether what a name stands for is a secret; in lower case.
fn names_a_secret(name: &str) -> bool {
    const WHOLE: [&str; 8] = [
        "authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
        "password",
        "passwd",
        "secret",
        "token",
    ];
    const ENDS: [&str; 9] = [
        "-api-key",
        "_api_key",
        "apikey",
        "-token",
        "_token",
        "-secret",
        "_secret",
        "-password",
        "_password",
    ];
    WHOLE.contains(&name) || is_secret(name) || ENDS.iter().any(|end| name.ends_with(end))
}

/// Keys as the providers make them, credentials of headers and addresses.
static PATTERNS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let patterns = [
        (r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{6,}", "$1 ***"),
        (r"\b(sk|pk|rk)-[A-Za-z0-9_-]{8,}", "***"),
        (r"\bAIza[0-9A-Za-z_-]{20,}", "***"),
        (r"\bgh[pousr]_[A-Za-z0-9]{20,}", "***"),
        (r"://[^\s/@\x22]+@", "://***@"),
        (r"(?i)([?&](?:key|api[_-]?key|token|access_token|password)=)[^&\s]+", "$1***"),
        // A header is secret to its end, as `curl -v` writes it, and inside of JSON inside of JSON.
        (
            r#"(?i)((?:proxy-)?authorization|(?:set-)?cookie)(\\*"?\s*[:=]\s*\\*"?)[^\r\n"\\]+"#,
            "$1$2***",
        ),
        (
            r#"(?i)([a-z_-]*(?:api[_-]?key|password|secret|[_-]token|\btoken)\\*"?\s*[:=]\s*)(\\+"[^"]*"|"[^"]+"|[^\s",;}]+)"#,
            "$1***",
        ),
    ];
    let compile = |(pattern, with)| Some((Regex::new(pattern).ok()?, with));
    patterns.into_iter().filter_map(compile).collect()
});

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_pattern_is_one() {
        assert_eq!(PATTERNS.len(), 8);
    }

    #[test]
    fn what_was_told_goes_wherever_it_stands() {
        let redactor =
            Redactor::new(["canary\"one".into(), "canary".into(), "abc".into(), String::new()]);
        for (text, clean) in [
            ("a canary in a mine", "a *** in a mine"),
            ("canary\"one canary", "*** ***"),
            ("{\"k\":\"canary\\\"one\"}", "{\"k\":\"***\"}"),
            ("abc is too short to be a key", "abc is too short to be a key"),
        ] {
            assert_eq!(redactor.known(text), clean);
        }
    }

    #[test]
    fn what_looks_like_a_secret_goes_and_the_rest_stays() {
        let redactor = Redactor::default();
        for (text, clean) in [
            ("Authorization: Bearer abcdef.ghi", "Authorization: ***"),
            ("> Cookie: a=b; session=abc\n> Accept: x", "> Cookie: ***\n> Accept: x"),
            ("Authorization: Token abc", "Authorization: ***"),
            (
                "said {\\\"authorization\\\":\\\"Token a\\\"}",
                "said {\\\"authorization\\\":\\\"***\\\"}",
            ),
            (
                "said {\\\"api_key\\\":\\\"x y\\\",\\\"b\\\":1}",
                "said {\\\"api_key\\\":***,\\\"b\\\":1}",
            ),
            (
                "said {\\\\\\\"token\\\\\\\": \\\\\\\"x\\\\\\\"}",
                "said {\\\\\\\"token\\\\\\\": ***}",
            ),
            ("DEPLOY_TOKEN=abc X-Auth-Token: def", "DEPLOY_TOKEN=*** X-Auth-Token: ***"),
            ("https://abcdef@host/x", "https://***@host/x"),
            ("sent Bearer abcdef.ghi there", "sent Bearer *** there"),
            ("wrong key sk-proj-abcdefgh1234", "wrong key ***"),
            ("postgres://app:pass@db/x", "postgres://***@db/x"),
            ("GET /v1?key=abc&x=1", "GET /v1?key=***&x=1"),
            ("OPENAI_API_KEY=abc next", "OPENAI_API_KEY=*** next"),
            ("password: \"a b\"", "password: ***"),
            ("max_tokens: 12, usage tokens 5", "max_tokens: 12, usage tokens 5"),
            ("http://127.0.0.1:8080/api", "http://127.0.0.1:8080/api"),
        ] {
            assert_eq!(redactor.text(text), clean);
        }
    }

    #[test]
    fn names_say_what_is_secret() {
        let mut value = json!({
            "headers": [["Set-Cookie", "chat_profile=x"], ["content-type", "text/plain"]],
            "Authorization": "x", "openai-api-key": "k", "openai-base-url": "http://h/v1", "token": "t",
            "max_tokens": 5, "input_tokens": 7, "deep": {"client_secret": "s", "note": "told Bearer abcdefgh"},
            "password": "", "cookie": ["a=b", "c=d"], "api_key": {"type": "string"},
            "pin_token": 123_456, "api-secret": {"value": "v", "note": "n"},
            "har": [{"name": "Cookie", "value": "a=b"}, {"name": "Accept", "value": "x"}],
        });
        Redactor::default().json(&mut value);
        assert_eq!(
            value,
            json!({
                "headers": [["Set-Cookie", "***"], ["content-type", "text/plain"]],
                "Authorization": "***", "openai-api-key": "***", "openai-base-url": "http://h/v1", "token": "***",
                "max_tokens": 5, "input_tokens": 7, "deep": {"client_secret": "***", "note": "told Bearer ***"},
                "password": "", "cookie": ["***", "***"], "api_key": {"type": "string"},
                "pin_token": "***", "api-secret": {"value": "***", "note": "n"},
                "har": [{"name": "Cookie", "value": "***"}, {"name": "Accept", "value": "x"}],
            })
        );
    }
}
