//! One quick look at a JSON text, for what a parser that builds values lets pass: duplicate keys, and, in members that it
//! skips, numbers beyond their ranges, halves of surrogate pairs and any depth.

use super::MAX_DEPTH;

/// Tokens of numbers that are shorter are in the range of their kinds.
const SAFE_NUMBER: usize = 19;
/// Keys of an object that are compared with each other; more are sorted.
const FEW_KEYS: usize = 8;

/// Whether a text, if it is JSON at all, has nothing of that. "No" means that it needs a closer look.
pub(super) fn is_plain(bytes: &[u8]) -> bool {
    let mut keys: Vec<&[u8]> = Vec::with_capacity(32);
    let mut containers: Vec<Container> = Vec::with_capacity(8);
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let Some(end) = end_of_string(bytes, at + 1) else { return false };
                if let Some(Container::Object { next_is_key, .. }) = containers.last_mut()
                    && std::mem::take(next_is_key)
                {
                    let key = &bytes[at + 1..end];
                    if key.contains(&b'\\') {
                        return false;
                    }
                    keys.push(key);
                }
                at = end;
            }
            b'{' => {
                containers.push(Container::Object { keys: keys.len(), next_is_key: true });
            }
            b'[' => containers.push(Container::Array),
            b'}' => {
                let Some(Container::Object { keys: first, .. }) = containers.pop() else {
                    return false;
                };
                if !are_unique(&mut keys[first..]) {
                    return false;
                }
                keys.truncate(first);
            }
            b']' => {
                let Some(Container::Array) = containers.pop() else { return false };
            }
            b',' => {
                if let Some(Container::Object { next_is_key, .. }) = containers.last_mut() {
                    *next_is_key = true;
                }
            }
            b'-' | b'0'..=b'9' => {
                let rest = bytes[at..].iter();
                let length = rest.take_while(|b| matches!(b, b'0'..=b'9' | b'.' | b'-')).count();
                if length >= SAFE_NUMBER || matches!(bytes.get(at + length), Some(b'e' | b'E')) {
                    return false;
                }
                at += length - 1;
            }
            _ => {}
        }
        if containers.len() > MAX_DEPTH {
            return false;
        }
        at += 1;
    }
    true
}

enum Container {
    Object {
        /// Where its keys begin among those of all open objects.
        keys: usize,
        next_is_key: bool,
    },
    Array,
}

/// The place of the quote that ends the string that begins at `at`; none if it does not end, or has half of a surrogate
/// pair, or might.
fn end_of_string(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at);
        }
        // "\ud8.." to "\udf.." are halves.
        if let [b'u' | b'U', b'd' | b'D', ..] = bytes.get(at + 1..)? {
            return None;
        }
        at += 2;
    }
}

fn are_unique(keys: &mut [&[u8]]) -> bool {
    if keys.len() > FEW_KEYS {
        keys.sort_unstable();
        return keys.windows(2).all(|pair| pair[0] != pair[1]);
    }
    keys.iter().enumerate().all(|(n, key)| !keys[..n].contains(key))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::{DeserializeSeed, IgnoredAny};

    use super::*;
    use crate::json::{UniqueKeys, check_integers};

    /// What a quick look need not find out.
    fn passes_a_closer_look(text: &str) -> bool {
        let mut reader = serde_json::Deserializer::from_str(text);
        check_integers(text.as_bytes()).is_ok()
            && UniqueKeys.deserialize(&mut reader).is_ok()
            && reader.end().is_ok()
    }

    /// Pieces of JSON, in any order.
    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"a\"",
            "\"b\"",
            "\"a\\u0062\"",
            "\"\\ud800\"",
            "\"\\\\\"",
            "\"\\\"\"",
            "1",
            "-0.5",
            "1e5",
            "1e999",
            "18446744073709551616",
            "null",
            "true",
            " ",
            "\"a\":1",
            "\"a\":{\"a\":[]}",
            "\"b\":[{},{}]",
            "\"",
            "\\",
        ]);
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    /// JSON, some of it with keys that are there twice.
    fn json() -> impl Strategy<Value = String> {
        let scalar =
            prop::sample::select(vec!["1", "\"a\"", "\"\\ud83d\\ude00\"", "null", "1e9", "-0.25"]);
        let scalar = scalar.prop_map(str::to_owned);
        scalar.prop_recursive(4, 24, 10, |inner| {
            let key =
                prop::sample::select(vec!["a", "b", "c", "d", "e", "\\u0061", "f", "g", "h", "i"]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4)
                    .prop_map(|items| format!("[{}]", items.join(","))),
                prop::collection::vec((key, inner), 0..10).prop_map(|members| {
                    let members = members.iter().map(|(key, value)| format!("\"{key}\" : {value}"));
                    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
                }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_a_quick_look_passes_a_closer_one_passes_too(text in prop_oneof![pieces(), json()]) {
            if is_plain(text.as_bytes()) && serde_json::from_str::<IgnoredAny>(&text).is_ok() {
                prop_assert!(passes_a_closer_look(&text), "{text}");
            }
        }
    }

    #[test]
    fn a_quick_look_is_enough_for_most_texts() {
        for text in [
            r#"{"a":{"b":[1,-2.5,true,null],"c":"x \" y \\ é \u00e9"},"d":"a","e":[{"a":1},{"a":2}]}"#,
            r#"{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"i":9,"j":10}"#,
        ] {
            assert!(is_plain(text.as_bytes()) && passes_a_closer_look(text), "{text}");
        }
    }

    #[test]
    fn what_needs_a_closer_look_gets_it() {
        let deep = "[".repeat(65);
        for text in [
            r#"{"a":1,"a":2}"#,
            r#"{"x":{"a":1,"b":{},"a":2}}"#,
            r#"{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"i":9,"a":10}"#,
            r#"{"a\u0062":1}"#,
            r#"{"a":"\uD800"}"#,
            r#"{"a":1e400}"#,
            r#"{"a":-9223372036854775809}"#,
            &deep,
        ] {
            assert!(!is_plain(text.as_bytes()), "{text}");
        }
    }
}
