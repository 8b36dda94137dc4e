//! The newest log lines, kept in memory for the escalation packet (line 20 of the operator's checklist).

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde_json::{Map, Value};

/// Lines that are kept at most.
pub const MAX_LINES: usize = 10_000;
/// Bytes of fields that are kept at most.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;

/// A log line. Its writer has taken secrets out.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// `error`, `warn`, `info`, ...
    pub level: &'static str,
    /// The part of the program.
    pub target: String,
    /// `message` and what belongs to it.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

/// Which lines are wanted: all that is given must be equal.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Names of fields and their texts.
    pub fields: Vec<(&'static str, String)>,
    /// The newest of them; absent is all.
    pub limit: Option<usize>,
}

/// The newest lines, bounded in count and bytes.
#[derive(Debug, Default)]
pub struct Ring {
    lines: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<(usize, Line)>,
    bytes: usize,
}

impl Ring {
    /// Keeps a line of that many bytes; the oldest make place for it.
    pub fn push(&self, bytes: usize, line: Line) {
        let mut kept = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += bytes;
        kept.lines.push_back((bytes, line));
        while kept.lines.len() > MAX_LINES || (kept.bytes > MAX_BYTES && kept.lines.len() > 1) {
            let gone = kept.lines.pop_front().map_or(0, |(bytes, _)| bytes);
            kept.bytes = kept.bytes.saturating_sub(gone);
        }
    }

    /// The lines that are wanted, the oldest first.
    #[must_use]
    pub fn select(&self, wanted: &Wanted) -> Vec<Line> {
        let kept = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let is = |line: &Line| {
            wanted.fields.iter().all(|(name, text)| match *name {
                "level" => line.level == text,
                name => line.fields.get(name).and_then(Value::as_str) == Some(text),
            })
        };
        let newest = kept.lines.iter().rev().map(|(_, line)| line).filter(|line| is(line));
        let mut found: Vec<Line> =
            newest.take(wanted.limit.unwrap_or(usize::MAX)).cloned().collect();
        found.reverse();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(n: usize) -> Line {
        let Value::Object(fields) =
            json!({"message": "request", "request_id": format!("r{}", n % 2), "n": n})
        else {
            unreachable!("an object")
        };
        Line { at_ms: 0, level: if n == 3 { "warn" } else { "info" }, target: "t".into(), fields }
    }

    fn numbers(ring: &Ring, wanted: &Wanted) -> Vec<u64> {
        ring.select(wanted).iter().filter_map(|line| line.fields["n"].as_u64()).collect()
    }

    #[test]
    fn the_newest_lines_stay_within_count_and_bytes() {
        let ring = Ring::default();
        for n in 0..MAX_LINES + 5 {
            ring.push(10, line(n));
        }
        let all = numbers(&ring, &Wanted::default());
        assert_eq!((all.len(), all[0]), (MAX_LINES, 5));
        ring.push(MAX_BYTES, line(1));
        assert_eq!(numbers(&ring, &Wanted::default()), [1], "one that is too large stands alone");
        ring.push(10, line(2));
        assert_eq!(numbers(&ring, &Wanted::default()), [2]);
    }

    #[test]
    fn lines_are_found_by_their_fields() {
        let ring = Ring::default();
        for n in 0..6 {
            ring.push(10, line(n));
        }
        let of = |fields: &[(&'static str, &str)], limit| {
            let fields = fields.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
            numbers(&ring, &Wanted { fields, limit })
        };
        assert_eq!(of(&[("request_id", "r1")], None), [1, 3, 5]);
        assert_eq!(of(&[("request_id", "r1")], Some(2)), [3, 5]);
        assert_eq!(of(&[("request_id", "r1"), ("level", "warn")], None), [3]);
        assert_eq!(of(&[("slug", "x")], None), Vec::<u64>::new());
    }
}
