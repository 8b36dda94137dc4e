//! Compares what was recorded with what was played. Tokens of the recording stand for values: equal tokens are equal
//! values, different tokens are different ones.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Where two documents differ, and how.
pub(super) type Difference = (Vec<String>, String);

/// Stands for any value.
pub(super) const ANY: &str = "<any>";

/// What the tokens of a recording stand for in the run that is compared with it.
#[derive(Default)]
pub(super) struct Tokens {
    values: BTreeMap<String, String>,
    tokens: BTreeMap<String, String>,
}

enum Part<'t> {
    Text(&'t str),
    Token(&'t str),
}

/// The token that `text` begins with.
fn token(text: &str) -> Option<&str> {
    for free in ["<wording free>", "<html, wording free>"] {
        if text.starts_with(free) {
            return Some(free);
        }
    }
    let end = text.starts_with('<').then(|| text.find('>'))??;
    let name = text[1..end].strip_suffix(":number").unwrap_or(&text[1..end]);
    let kind = name.split('-').next().unwrap_or_default();
    let kinds = ["uuid", "seq", "ms", "duration", "date", "port", "own"];
    kinds.contains(&kind).then(|| &text[..=end])
}

fn is_uuid(text: &str) -> bool {
    let shape = |(i, b): (usize, u8)| {
        if [8, 13, 18, 23].contains(&i) { b == b'-' } else { b.is_ascii_hexdigit() }
    };
    text.len() >= 36 && text.bytes().take(36).enumerate().all(shape)
}

fn parts(text: &str) -> Vec<Part<'_>> {
    let (mut parts, mut from, mut at) = (Vec::new(), 0, 0);
    while let Some(found) = text[at..].find('<') {
        at += found;
        if let Some(token) = token(&text[at..]) {
            if at > from {
                parts.push(Part::Text(&text[from..at]));
            }
            parts.push(Part::Token(token));
            at += token.len();
            from = at;
        } else {
            at += 1;
        }
    }
    if from < text.len() {
        parts.push(Part::Text(&text[from..]));
    }
    parts
}

impl Tokens {
    /// The text with the values of its tokens.
    pub(super) fn fill(&self, text: &str) -> String {
        let value = |token: &str| self.values.get(&token.replace(":number", "")).cloned();
        parts(text)
            .iter()
            .map(|part| match part {
                Part::Text(text) => (*text).to_owned(),
                Part::Token(token) => value(token).unwrap_or_else(|| (*token).to_owned()),
            })
            .collect()
    }

    fn bind(&mut self, token: &str, value: &str) -> bool {
        if token.ends_with("wording free>") {
            return !value.trim().is_empty();
        }
        if !token.contains('-') {
            let digits = value.bytes().all(|b| b.is_ascii_digit()) && !value.is_empty();
            return digits || token.starts_with("<date");
        }
        let token = token.replace(":number", "");
        match (self.values.get(&token), self.tokens.get(value)) {
            (Some(bound), _) => bound == value,
            (None, Some(_)) => false,
            (None, None) => {
                self.values.insert(token.clone(), value.to_owned());
                self.tokens.insert(value.to_owned(), token);
                true
            }
        }
    }

    fn fits(&mut self, recorded: &str, text: &str) -> bool {
        let parts = parts(recorded);
        let mut rest = text;
        for (i, part) in parts.iter().enumerate() {
            match part {
                Part::Text(literal) => match rest.strip_prefix(literal) {
                    Some(left) => rest = left,
                    None => return false,
                },
                Part::Token(token) => {
                    let end = match parts.get(i + 1) {
                        _ if token.starts_with("<uuid") && is_uuid(rest) => Some(36),
                        // The last literal stands at the end; others as near as possible.
                        Some(Part::Text(next)) if i + 2 == parts.len() => rest.rfind(next),
                        Some(Part::Text(next)) => rest.find(next),
                        Some(Part::Token(_)) | None => Some(rest.len()),
                    };
                    let Some(end) = end else { return false };
                    if !self.bind(token, &rest[..end]) {
                        return false;
                    }
                    rest = &rest[end..];
                }
            }
        }
        rest.is_empty()
    }

    /// Notes where `played` is not what was `recorded`.
    pub(super) fn compare(
        &mut self,
        place: &[String],
        recorded: &Value,
        played: &Value,
        found: &mut Vec<Difference>,
    ) {
        let below = |key: &str| [place, &[key.to_owned()]].concat();
        match (recorded, played) {
            (Value::Object(a), Value::Object(b)) => {
                let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
                for key in keys {
                    match (a.get(key), b.get(key)) {
                        (Some(a), Some(b)) => self.compare(&below(key), a, b, found),
                        (Some(a), None) => found.push((below(key), format!("{a} is gone"))),
                        (None, b) => found.push((below(key), format!("{} is new", b.unwrap()))),
                    }
                }
            }
            (Value::Array(a), Value::Array(b)) => {
                if a.len() != b.len() {
                    let what = format!("{} items became {}:\n{}", a.len(), b.len(), sides(a, b));
                    found.push((place.to_vec(), what));
                    return;
                }
                for (i, (a, b)) in a.iter().zip(b).enumerate() {
                    self.compare(&below(&i.to_string()), a, b, found);
                }
            }
            (Value::String(any), _) if any == ANY => {}
            (Value::String(a), Value::String(b)) if self.fits(a, b) => {}
            (Value::String(a), Value::Number(b))
                if a.ends_with(":number>") && self.fits(a, &b.to_string()) => {}
            (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => {}
            (a, b) if a == b => {}
            (a, b) => found.push((place.to_vec(), format!("{a} became {b}"))),
        }
    }
}

/// Two lists side by side, each item as short as it can be told from others.
fn sides(recorded: &[Value], played: &[Value]) -> String {
    let side = |list: &[Value]| list.iter().map(short).collect::<Vec<_>>().join(" | ");
    format!("    was {}\n    is  {}", side(recorded), side(played))
}

fn short(value: &Value) -> String {
    let text = |key: &str| value[key].as_str().unwrap_or_default();
    let entity = value["data"].get("entity").unwrap_or(value);
    let props = &entity["props"];
    let words = [
        text("type"),
        text("phase"),
        entity["kind"].as_str().unwrap_or_default(),
        props["role"].as_str().unwrap_or_default(),
        props["content"].as_str().unwrap_or_default(),
    ];
    let told = words.iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>().join(" ");
    let told = if told.is_empty() { value.to_string() } else { told };
    told.chars().take(100).collect()
}
