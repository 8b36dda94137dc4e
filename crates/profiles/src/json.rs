//! JSON as this project reads and writes it: strict on the way in, canonical where it is hashed.
//!
//! `serde_json` keeps objects sorted by key here (its `preserve_order` feature is off, a test below holds that), so every
//! walk over an object is in ascending byte order and the same input always reports the same first error (D24).

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

mod scan;

/// A JSON object.
pub type Object = Map<String, Value>;

/// Deepest nesting of a document's free-form parts (decision 40).
pub const MAX_DEPTH: usize = 64;

/// A text that is not acceptable JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidJson(String);

/// Reads one JSON value and nothing else.
///
/// # Errors
/// Malformed text, invalid UTF-8, trailing data, duplicate keys, integers outside i64 and u64, numbers outside the
/// range of doubles, nesting beyond 128 levels (decisions 8 and 45).
pub fn parse(bytes: &[u8]) -> Result<Value, InvalidJson> {
    parse_as(bytes)
}

/// Reads one JSON value of a type and nothing else, as strictly as [`parse`].
///
/// # Errors
/// As [`parse`], and a value of another shape.
pub fn parse_as<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, InvalidJson> {
    let invalid = |e: serde_json::Error| InvalidJson(e.to_string());
    let text = std::str::from_utf8(bytes).map_err(|e| InvalidJson(e.to_string()))?;
    if !scan::is_plain(text.as_bytes()) {
        check_integers(text.as_bytes())?;
        let mut reader = serde_json::Deserializer::from_str(text);
        UniqueKeys.deserialize(&mut reader).map_err(invalid)?;
        reader.end().map_err(invalid)?;
    }
    serde_json::from_str(text).map_err(invalid)
}

/// `serde_json` turns integers beyond 64 bits into doubles without a word; they are looked for before it runs.
fn check_integers(bytes: &[u8]) -> Result<(), InvalidJson> {
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at += 1;
                while let Some(next) = bytes.get(at..).and_then(|b| memchr::memchr2(b'"', b'\\', b))
                {
                    at += next;
                    if bytes[at] == b'"' {
                        break;
                    }
                    at += 2;
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let start = at;
                at += 1;
                while at < bytes.len()
                    && matches!(bytes[at], b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')
                {
                    at += 1;
                }
                if at - start >= 19 && is_oversized_integer(&bytes[start..at]) {
                    return Err(InvalidJson("integer outside the range of 64 bits".into()));
                }
            }
            _ => at += 1,
        }
    }
    Ok(())
}

fn is_oversized_integer(token: &[u8]) -> bool {
    let digits = token.strip_prefix(b"-").unwrap_or(token);
    digits.iter().all(u8::is_ascii_digit)
        && std::str::from_utf8(token)
            .is_ok_and(|text| text.parse::<i64>().is_err() && text.parse::<u64>().is_err())
}

/// A struct that is read from an object only: as it is, serde would also take a list as its members in their order.
#[derive(Debug, Clone, Default)]
pub struct Members<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Members<T> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfMap<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for OfMap<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members))
            }
        }
        deserializer.deserialize_map(OfMap(PhantomData)).map(Self)
    }
}

/// Walks over a value, builds nothing, and refuses duplicate keys and numbers that are not finite.
struct UniqueKeys;

impl<'de> DeserializeSeed<'de> for UniqueKeys {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for UniqueKeys {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        if value.is_finite() { Ok(()) } else { Err(E::custom("number is not finite")) }
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        // Keys without escapes are borrowed from the text; sorting few of them is cheaper than hashing.
        let mut keys: Vec<Cow<'de, str>> = Vec::with_capacity(8);
        while let Some(Key(key)) = entries.next_key()? {
            keys.push(key);
            entries.next_value_seed(Self)?;
        }
        keys.sort_unstable();
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(de::Error::custom("duplicate key"));
        }
        Ok(())
    }
}

/// A key, borrowed where it can be.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// The canonical text of a value: sorted keys, no white space, integral doubles written as integers (1.0 is 1).
///
/// Two values that mean the same have the same text; it is what hashes are taken over (decision 16).
#[must_use]
pub fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write_canonical(value, &mut out);
    out
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::Object(object) => {
            out.push('{');
            for (i, (key, item)) in object.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                write_canonical(item, out);
            }
            out.push('}');
        }
        Value::Number(number) => match as_integer(number) {
            Some(integer) => out.push_str(&integer.to_string()),
            None => out.push_str(&number.to_string()),
        },
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// The integer that a number stands for, if it stands for one that doubles and 64-bit integers agree on.
#[must_use]
pub fn as_integer(number: &Number) -> Option<i128> {
    if let Some(value) = number.as_i64() {
        return Some(value.into());
    }
    if let Some(value) = number.as_u64() {
        return Some(value.into());
    }
    let value = number.as_f64()?;
    #[expect(clippy::cast_possible_truncation, reason = "checked to be integral and in range")]
    (value.fract() == 0.0 && value.abs() <= 18_446_744_073_709_551_615.0).then_some(value as i128)
}

/// Whether two values mean the same; numbers are compared by value, not by representation (D16).
#[must_use]
pub fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => match (as_integer(x), as_integer(y)) {
            (Some(x), Some(y)) => x == y,
            (None, None) => x.as_f64() == y.as_f64(),
            _ => false,
        },
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| equal(x, y))
        }
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(k, x)| y.get(k).is_some_and(|y| equal(x, y)))
        }
        _ => a == b,
    }
}

/// Levels of nesting: 0 for a scalar, 1 for `[]`.
#[must_use]
pub fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(object) => 1 + object.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// One segment of a JSON pointer, escaped.
#[must_use]
pub fn escape_pointer(segment: &str) -> Cow<'_, str> {
    if segment.contains(['~', '/']) {
        segment.replace('~', "~0").replace('/', "~1").into()
    } else {
        segment.into()
    }
}

/// The SHA-256 of a text.
#[must_use]
pub fn sha256(text: &str) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    Sha256::digest(text).into()
}

/// The same in lower-case hex.
#[must_use]
pub fn sha256_hex(text: &str) -> String {
    hex(&sha256(text))
}

/// Lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_are_kept_sorted() {
        let value: Value = serde_json::from_str(r#"{"b":1,"a":2}"#).unwrap();
        assert_eq!(
            value.to_string(),
            r#"{"a":2,"b":1}"#,
            "serde_json/preserve_order must stay off"
        );
    }

    #[test]
    fn c10_d12_numbers_in_range_round_trip_and_others_are_refused() {
        for text in
            ["9223372036854775807", "-9223372036854775808", "18446744073709551615", "0.1", "1e300"]
        {
            let value = parse(text.as_bytes()).unwrap();
            assert_eq!(parse(value.to_string().as_bytes()).unwrap(), value, "{text}");
        }
        for text in
            ["18446744073709551616", "-9223372036854775809", "1e400", &"1".repeat(1_000_000)]
        {
            assert!(parse(text.as_bytes()).is_err(), "{}", &text[..20.min(text.len())]);
        }
        assert!(
            parse(br#"{"a":"18446744073709551616"}"#).is_ok(),
            "digits inside strings are text"
        );
        assert!(parse(br#"{"a\"1":1}"#).is_ok());
    }

    #[test]
    fn duplicate_keys_trailing_data_and_bad_text_are_refused() {
        for text in [
            &br#"{"a":1,"a":1}"#[..],
            br#"{"a":{"b":1,"b":2}}"#,
            b"{} x",
            b"{}{}",
            b"",
            b"{",
            b"\xff",
            br#""\ud800""#,
            b"nul",
            b"[1,]",
        ] {
            assert!(parse(text).is_err(), "{}", String::from_utf8_lossy(text));
        }
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
        assert!(parse(b" {} \n").is_ok());
    }

    #[test]
    fn canonical_text_and_equality_ignore_the_representation_of_numbers() {
        let a = json!({"x": 1.0, "y": [1, 2.5], "z": {"b": "<é>", "a": null}});
        let b = json!({"y": [1.0, 2.5], "x": 1, "z": {"a": null, "b": "<é>"}});
        assert_eq!(canonical(&a), canonical(&b));
        assert_eq!(canonical(&a), r#"{"x":1,"y":[1,2.5],"z":{"a":null,"b":"<é>"}}"#);
        assert!(equal(&a, &b));
        assert!(!equal(&json!(1), &json!(1.5)));
        assert!(!equal(&json!(1), &json!("1")));
    }

    #[test]
    fn depth_counts_levels() {
        assert_eq!(depth(&json!(1)), 0);
        assert_eq!(depth(&json!([{"a": []}])), 3);
    }
}
