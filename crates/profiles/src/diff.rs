//! What changed between two documents, by field: one engine for the API, the command line and the UI.
//!
//! Objects are compared member by member; lists of things that have names or ids by those, other lists by value; texts of
//! several lines by line, with the words that changed marked. Pure.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

/// Lines of a long text that are shown around a change.
const CONTEXT: usize = 3;
/// A text longer than this, in bytes, is compared by line even if it has only one.
const LONG: usize = 120;

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Members joined by dots; an element of a list by its name and id: `runtime.middlewares[agentmode#default].enabled`.
    pub path: String,
    /// What happened to it.
    pub kind: Kind,
    /// Absent for what was added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// Absent for what was removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
    /// Of a long text that changed: its lines around the changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<Line>,
}

/// What happened to a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It was not there.
    Added,
    /// It is gone.
    Removed,
    /// It is another.
    Changed,
    /// The same elements in another order.
    Moved,
}

/// A line of a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// `" "` in both, `"-"` before, `"+"` after, `"@"` for lines that are left out.
    pub sign: char,
    /// The line in parts.
    pub parts: Vec<Part>,
}

/// A part of a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its text, without the end of the line.
    pub text: String,
    /// Whether just this changed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub changed: bool,
}

/// Every field that differs, in byte order of the paths of `before` and `after` together.
#[must_use]
pub fn diff(before: &Value, after: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", Some(before), Some(after), &mut found);
    found
}

fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Difference>) {
    if before == after {
        return;
    }
    let nothing = Value::Object(serde_json::Map::new());
    match (before, after) {
        (Some(Value::Object(_)), Some(Value::Object(_)) | None)
        | (None, Some(Value::Object(_))) => {
            let side = |value: Option<&Value>| value.unwrap_or(&nothing).as_object().cloned();
            let (before, after) =
                (side(before).unwrap_or_default(), side(after).unwrap_or_default());
            if before.is_empty() && after.is_empty() {
                return; // an empty object, and none: the same to a reader
            }
            let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(&path, before.get(key), after.get(key), found);
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after))) => {
            compare_lists(path, before, after, found);
        }
        (Some(Value::String(old)), Some(Value::String(new))) if is_long(old) || is_long(new) => {
            found.push(Difference { lines: lines(old, new), ..changed(path, before, after) });
        }
        _ => found.push(changed(path, before, after)),
    }
}

fn is_long(text: &str) -> bool {
    text.contains('\n') || text.len() > LONG
}

fn changed(path: &str, before: Option<&Value>, after: Option<&Value>) -> Difference {
    let kind = match (before, after) {
        (None, _) => Kind::Added,
        (_, None) => Kind::Removed,
        _ => Kind::Changed,
    };
    let (before, after) = (before.cloned(), after.cloned());
    Difference { path: path.to_owned(), kind, before, after, lines: Vec::new() }
}

/// Elements by what names them, the n-th of the same name by its place among those.
fn named(list: &[Value]) -> Vec<(String, &Value)> {
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    list.iter()
        .map(|element| {
            let text = |key: &str| element.get(key).and_then(Value::as_str).unwrap_or_default();
            let name = match (text("name"), text("id"), element) {
                ("", "", Value::String(value)) => value.clone(),
                ("", "", other) => other.to_string(),
                (name, "", _) => name.to_owned(),
                ("", id, _) => format!("#{id}"),
                (name, id, _) => format!("{name}#{id}"),
            };
            let count = seen.entry(name.clone()).or_default();
            *count += 1;
            let name = if *count == 1 { name } else { format!("{name}({count})") };
            (name, element)
        })
        .collect()
}

fn compare_lists(path: &str, before: &[Value], after: &[Value], found: &mut Vec<Difference>) {
    let (old, new) = (named(before), named(after));
    let of = |list: &[(String, &Value)], name: &str| {
        list.iter().find(|(other, _)| other == name).map(|(_, element)| (*element).clone())
    };
    for (name, element) in &old {
        let path = format!("{path}[{name}]");
        match of(&new, name) {
            Some(now) => compare(&path, Some(element), Some(&now), found),
            None => found.push(changed(&path, Some(element), None)),
        }
    }
    for (name, element) in &new {
        if of(&old, name).is_none() {
            found.push(changed(&format!("{path}[{name}]"), None, Some(element)));
        }
    }
    let kept = |list: &[(String, &Value)], other: &[(String, &Value)]| -> Vec<Value> {
        let stays = list.iter().filter(|(name, _)| other.iter().any(|(n, _)| n == name));
        stays.map(|(name, _)| Value::String(name.clone())).collect()
    };
    let (order, now) = (kept(&old, &new), kept(&new, &old));
    if order != now {
        let (before, after) = (Some(Value::Array(order)), Some(Value::Array(now)));
        found.push(Difference {
            path: path.to_owned(),
            kind: Kind::Moved,
            before,
            after,
            lines: Vec::new(),
        });
    }
}

fn lines(before: &str, after: &str) -> Vec<Line> {
    let compared = TextDiff::from_lines(before, after);
    let mut out: Vec<Line> = Vec::new();
    for (at, group) in compared.grouped_ops(CONTEXT).iter().enumerate() {
        let begins = group.first().is_some_and(|op| op.old_range().start == 0);
        if at > 0 || !begins {
            let text = "...".to_owned();
            out.push(Line { sign: '@', parts: vec![Part { text, changed: false }] });
        }
        for op in group {
            for change in compared.iter_inline_changes(op) {
                let sign = match change.tag() {
                    ChangeTag::Equal => ' ',
                    ChangeTag::Delete => '-',
                    ChangeTag::Insert => '+',
                };
                let parts = change.iter_strings_lossy().map(|(changed, text)| Part {
                    text: text.trim_end_matches(['\n', '\r']).to_owned(),
                    changed: changed && sign != ' ',
                });
                let parts: Vec<Part> = parts.filter(|part| !part.text.is_empty()).collect();
                out.push(Line { sign, parts });
            }
        }
    }
    out
}

/// The differences as people read them in a terminal: one line a field, long texts below it.
#[must_use]
pub fn text(differences: &[Difference]) -> String {
    let mut out = String::new();
    for difference in differences {
        let sign = match difference.kind {
            Kind::Added => '+',
            Kind::Removed => '-',
            Kind::Changed => '~',
            Kind::Moved => '>',
        };
        let value =
            |value: &Option<Value>| value.as_ref().map_or_else(String::new, Value::to_string);
        let (before, after) = (value(&difference.before), value(&difference.after));
        let line = match (difference.kind, difference.lines.is_empty()) {
            (_, false) => format!("{sign} {}\n", difference.path),
            (Kind::Added, _) => format!("{sign} {}: {after}\n", difference.path),
            (Kind::Removed, _) => format!("{sign} {}: {before}\n", difference.path),
            _ => format!("{sign} {}: {before} -> {after}\n", difference.path),
        };
        out.push_str(&line);
        for line in &difference.lines {
            let whole: String = line.parts.iter().map(|part| part.text.as_str()).collect();
            out.push_str(format!("    {} {whole}", line.sign).trim_end());
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(before: &Value, after: &Value) -> Vec<String> {
        text(&diff(before, after)).lines().map(str::to_owned).collect()
    }

    #[test]
    fn fields_are_compared_by_path_and_nothing_is_nothing() {
        let before = json!({"a": 1, "gone": true, "same": [1], "deep": {"x": "y"}});
        let after = json!({"a": 2, "new": null, "same": [1], "deep": {"x": "z", "more": {"k": 1}}, "empty": {}});
        assert_eq!(
            shown(&before, &after),
            [
                "~ a: 1 -> 2",
                "+ deep.more.k: 1",
                "~ deep.x: \"y\" -> \"z\"",
                "- gone: true",
                "+ new: null"
            ]
        );
        assert!(diff(&before, &before).is_empty());
        assert!(diff(&json!({}), &json!({"runtime": {}})).is_empty());
    }

    #[test]
    fn lists_are_compared_by_name_and_id_and_moving_is_told_apart() {
        let before = json!({"m": [{"name": "a", "id": "1"}, {"name": "b"}, {"name": "b"}], "tools": ["x", "y", "z"]});
        let after = json!({"m": [{"name": "b"}, {"name": "a", "id": "1", "enabled": false}], "tools": ["y", "x", "w"]});
        assert_eq!(
            shown(&before, &after),
            [
                "+ m[a#1].enabled: false",
                "- m[b(2)]: {\"name\":\"b\"}",
                "> m: [\"a#1\",\"b\"] -> [\"b\",\"a#1\"]",
                "- tools[z]: \"z\"",
                "+ tools[w]: \"w\"",
                "> tools: [\"x\",\"y\"] -> [\"y\",\"x\"]",
            ]
        );
    }

    #[test]
    fn long_texts_are_compared_by_line_with_the_words_marked() {
        let rules: Vec<String> = (1..=20).map(|n| format!("Rule {n} is kept.\n")).collect();
        let old = rules.concat();
        let new = old.replace("Rule 10 is kept", "Rule 10 is dropped");
        let found = diff(&json!({"prompt": old}), &json!({"prompt": new}));
        let signs: String = found[0].lines.iter().map(|line| line.sign).collect();
        assert_eq!(signs, "@   -+   ");
        let marked = |sign| -> Vec<&str> {
            let line = found[0].lines.iter().find(|line| line.sign == sign).unwrap();
            line.parts.iter().filter(|part| part.changed).map(|part| part.text.as_str()).collect()
        };
        assert_eq!((marked('-'), marked('+')), (vec!["kept."], vec!["dropped."]));
        assert!(text(&found).contains("    - Rule 10 is kept.\n    + Rule 10 is dropped.\n"));
    }

    #[test]
    fn a_text_that_begins_or_ends_is_no_line_diff_of_nothing() {
        assert_eq!(shown(&json!({}), &json!({"p": "a\nb"})), ["+ p: \"a\\nb\""]);
        let found = diff(&json!({"p": ""}), &json!({"p": "a\nb"}));
        let signs: String = found[0].lines.iter().map(|line| line.sign).collect();
        assert_eq!(signs, "++");
    }
}
