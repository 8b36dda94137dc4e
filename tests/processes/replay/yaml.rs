//! Reads the block YAML that stored turns are shown in: what the reference wrote, and what we write. No anchors, no flow
//! collections but the empty ones.

use serde_json::{Map, Value};

struct Lines<'t> {
    lines: Vec<&'t str>,
    at: usize,
}

/// The document as data.
pub(super) fn read(text: &str) -> Value {
    let mut lines = Lines { lines: text.lines().collect(), at: 0 };
    let value = lines.node(0);
    assert_eq!(lines.peek(), None, "what follows is no part of the document:\n{text}");
    value
}

fn depth(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

impl<'t> Lines<'t> {
    /// The next line that says something.
    fn peek(&mut self) -> Option<&'t str> {
        while self.lines.get(self.at).is_some_and(|line| line.trim().is_empty()) {
            self.at += 1;
        }
        self.lines.get(self.at).copied()
    }

    /// A mapping or a list at `least` columns or more.
    fn node(&mut self, least: usize) -> Value {
        let Some(line) = self.peek().filter(|line| depth(line) >= least) else {
            return Value::Null;
        };
        let indent = depth(line);
        if line[indent..].starts_with("- ") { self.list(indent) } else { self.mapping(indent) }
    }

    fn list(&mut self, indent: usize) -> Value {
        let mut items = Vec::new();
        while let Some(line) = self.peek().filter(|line| depth(line) == indent) {
            let Some(rest) = line[indent..].strip_prefix("- ") else { break };
            let inner = indent + 2 + depth(rest);
            if key(rest.trim_start()).is_some() {
                items.push(self.mapping(inner));
            } else {
                self.at += 1;
                items.push(scalar(rest.trim()));
            }
        }
        Value::Array(items)
    }

    /// Keys at `indent`; the first may follow the dash of a list.
    fn mapping(&mut self, indent: usize) -> Value {
        let mut entries = Map::new();
        while let Some(line) = self.peek() {
            let first = entries.is_empty() && depth(line) < indent;
            if !first && (depth(line) != indent || line[indent..].starts_with("- ")) {
                break;
            }
            let (name, rest) = key(&line[indent..]).unwrap_or_else(|| panic!("no key: {line}"));
            self.at += 1;
            let value = match rest {
                "" if self.peek().is_some_and(|next| continues(next, indent)) => self.node(indent),
                "" => Value::Null,
                "|" | "|-" | "|+" | ">" | ">-" | ">+" => Value::String(self.block(indent, rest)),
                rest => scalar(rest),
            };
            entries.insert(name, value);
        }
        Value::Object(entries)
    }

    /// A literal block. A line of a transcript that says only that its wording is free belongs to it.
    fn block(&mut self, indent: usize, style: &str) -> String {
        assert!(style.starts_with('|'), "folded text is not read");
        let mut lines: Vec<&str> = Vec::new();
        let mut inner = None;
        while let Some(line) = self.lines.get(self.at) {
            let blank = line.trim().is_empty();
            if !blank && depth(line) <= indent && line.trim() != "<wording free>" {
                break;
            }
            if !blank && inner.is_none() {
                inner = Some(depth(line));
            }
            let whole = line.trim() == "<wording free>" && depth(line) < inner.unwrap_or(0);
            lines.push(if whole {
                line
            } else {
                line.get(inner.unwrap_or(0)..).unwrap_or_default()
            });
            self.at += 1;
        }
        let text = lines.join("\n");
        let text = text.trim_end_matches('\n').to_owned();
        if style == "|" { text + "\n" } else { text }
    }
}

/// Whether a line is the value of the key above it: deeper, or a list at the same column.
fn continues(line: &str, indent: usize) -> bool {
    depth(line) > indent || (depth(line) == indent && line[indent..].starts_with("- "))
}

fn key(text: &str) -> Option<(String, &str)> {
    let (name, rest) = text.split_once(':')?;
    let plain = !name.contains([' ', '\'', '"']) && (rest.is_empty() || rest.starts_with(' '));
    plain.then(|| (name.to_owned(), rest.trim()))
}

fn scalar(text: &str) -> Value {
    if let Some(quoted) = text.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')) {
        return Value::String(quoted.replace("''", "'"));
    }
    match text {
        "[]" => Value::Array(Vec::new()),
        "{}" => Value::Object(Map::new()),
        "~" => Value::Null,
        _ => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
    }
}
