//! `instr` and `replace` that look at every byte once. SQLite's own take the product of their lengths, and no deadline
//! interrupts a function; `LIKE` and `GLOB` are bounded by the length of their patterns.

use memchr::memmem;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Error, Result};

/// Puts them in the place of SQLite's.
pub(super) fn install(connection: &Connection) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("instr", 2, flags, |context| Ok(instr(context)))?;
    connection.create_scalar_function("replace", 3, flags, |context| replace(context))
}

/// The place of the second in the first, from 1: in bytes when both are blobs, else in characters.
fn instr(context: &Context<'_>) -> Option<i64> {
    let (text, part) = (context.get_raw(0), context.get_raw(1));
    let both_blobs = matches!((text, part), (ValueRef::Blob(_), ValueRef::Blob(_)));
    let (Some(text), Some(part)) = (bytes(text), bytes(part)) else { return None };
    let place = memmem::find(&text, &part).map_or(0, |at| {
        1 + if both_blobs { at } else { text[..at].iter().filter(|b| **b & 0xC0 != 0x80).count() }
    });
    i64::try_from(place).ok()
}

/// The first with every second replaced by the third.
fn replace(context: &Context<'_>) -> Result<Option<Value>> {
    let read = |n| bytes(context.get_raw(n));
    let (Some(text), Some(part)) = (read(0), read(1)) else { return Ok(None) };
    if part.is_empty() {
        return Ok(Some(as_text(&text)));
    }
    let Some(new) = read(2) else { return Ok(None) };
    let mut out = Vec::new();
    let mut rest = &text[..];
    let finder = memmem::Finder::new(&part);
    while let Some(at) = finder.find(rest) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(&new);
        rest = &rest[at + part.len()..];
        if out.len() > super::MAX_VALUE {
            return Err(Error::UserFunctionError("string or blob too big".into()));
        }
    }
    out.extend_from_slice(rest);
    Ok(Some(as_text(&out)))
}

fn as_text(bytes: &[u8]) -> Value {
    Value::Text(String::from_utf8_lossy(bytes).into_owned())
}

/// A value as SQLite casts it to text; none for NULL.
fn bytes(value: ValueRef<'_>) -> Option<Vec<u8>> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(n) => Some(n.to_string().into_bytes()),
        ValueRef::Real(n) => Some(format!("{n:?}").into_bytes()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(bytes.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inf_4_instr_and_replace_answer_as_sqlite_s_own_do() {
        let (ours, theirs) =
            (Connection::open_in_memory().unwrap(), Connection::open_in_memory().unwrap());
        install(&ours).unwrap();
        let values = [
            "''",
            "'a'",
            "'aa'",
            "'banana'",
            "'ana'",
            "'\u{e9}a\u{1f600}a'",
            "'a\u{1f600}'",
            "NULL",
            "7",
            "1747",
            "-1.5",
            "2.0",
            "x'616e61'",
            "x'62616e616e61'",
            "x''",
        ];
        let read = |connection: &Connection, sql: &str| -> Value {
            connection.query_row(sql, [], |row| row.get(0)).unwrap()
        };
        for text in values {
            for part in values {
                let sql = format!("SELECT instr({text}, {part})");
                assert_eq!(read(&ours, &sql), read(&theirs, &sql), "{sql}");
                for new in ["'xy'", "''", "NULL", "5"] {
                    let sql = format!("SELECT replace({text}, {part}, {new})");
                    assert_eq!(read(&ours, &sql), read(&theirs, &sql), "{sql}");
                }
            }
        }
    }
}
