//! The statements that read conversations.

use std::collections::HashMap;
use std::sync::Arc;

use collodi_chat::recover::is_streaming;
use collodi_chat::store::{
    Attribution, ConversationFilter, ConversationRecord, Loaded, RequestRecord, Row, TimelinePage,
    TimelineRange, TurnFilter, TurnRecord, TurnSnapshot, TurnState, Unfinished,
};
use collodi_chat::timeline::Entity;
use collodi_chat::turn::{Block, Layout};
use collodi_profiles::json::Object;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, ToSql, params};
use serde::de::DeserializeOwned;

use crate::sqlite::row::{signed, unsigned};

const CONVERSATION: &str = "c.conv_id, c.session_id, c.title, c.status, c.last_error, c.runtime_key, c.created_at_ms, \
    c.last_activity_ms, c.seq, c.id";
const TURN: &str = "t.ordinal, t.turn_id, t.inference_id, t.session_id, t.state, t.registry, t.profile, \
    t.profile_version, t.runtime_key, t.fingerprint, t.superseded, t.base, t.layout, t.data, t.metadata, \
    t.started_at_ms, t.ended_at_ms";

/// Entities of a timeline that are few, and their bytes.
const FEW: usize = 64;
const FEW_BYTES: usize = 64 * 1024;

type SqlRow<'a> = rusqlite::Row<'a>;

fn conversation(row: &SqlRow<'_>) -> rusqlite::Result<(Row, ConversationRecord)> {
    let record = ConversationRecord {
        conv_id: row.get(0)?,
        session_id: row.get(1)?,
        title: row.get(2)?,
        status: row.get(3)?,
        last_error: row.get(4)?,
        runtime_key: row.get(5)?,
        created_at_ms: row.get(6)?,
        last_activity_ms: row.get(7)?,
        seq: unsigned(row.get(8)?),
    };
    Ok((row.get(9)?, record))
}

/// The turn whose columns begin at `at`.
fn turn(row: &SqlRow<'_>, at: usize) -> rusqlite::Result<TurnRecord> {
    let state: String = row.get(at + 4)?;
    Ok(TurnRecord {
        ordinal: unsigned(row.get(at)?),
        turn_id: row.get(at + 1)?,
        inference_id: row.get(at + 2)?,
        session_id: row.get(at + 3)?,
        state: TurnState::parse(&state).ok_or_else(|| {
            let unknown = format!("unknown state {state}");
            rusqlite::Error::FromSqlConversionFailure(at + 4, Type::Text, unknown.into())
        })?,
        attribution: Attribution {
            registry: row.get(at + 5)?,
            profile: row.get(at + 6)?,
            version: unsigned(row.get(at + 7)?),
            runtime_key: row.get(at + 8)?,
            fingerprint: row.get(at + 9)?,
        },
        superseded: row.get(at + 10)?,
        base: json(row, at + 11)?,
        layout: json(row, at + 12)?,
        data: json(row, at + 13)?,
        metadata: json(row, at + 14)?,
        started_at_ms: row.get(at + 15)?,
        ended_at_ms: row.get(at + 16)?,
    })
}

fn json<T: DeserializeOwned>(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, e.into()))
}

pub(super) fn load(connection: &Connection, conv_id: &str) -> rusqlite::Result<Option<Loaded>> {
    let reading = connection.unchecked_transaction()?;
    let found = reading
        .prepare_cached(&format!(
            "SELECT {CONVERSATION} FROM conversations c WHERE c.conv_id = ?1"
        ))?
        .query_row([conv_id], conversation)
        .optional()?;
    let Some((row, record)) = found else { return Ok(None) };
    let head = reading
        .prepare_cached(&format!(
            "SELECT {TURN} FROM turns t WHERE t.conversation = ?1 ORDER BY t.ordinal DESC LIMIT 1"
        ))?
        .query_row([row], |row| turn(row, 0))
        .optional()?;
    let next_place = next_place(&reading, row)?;
    Ok(Some(Loaded { row, record, head, next_place }))
}

fn next_place(connection: &Connection, row: Row) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT coalesce(max(place), 0) + 1 FROM blocks WHERE conversation = ?1")?
        .query_row([row], |row| row.get(0))
        .map(unsigned)
}

pub(super) fn blocks(
    connection: &Connection,
    row: Row,
    layout: &Layout,
) -> rusqlite::Result<Vec<Arc<Block>>> {
    let mut statement = connection.prepare_cached(
        "SELECT place, body FROM blocks WHERE conversation = ?1 AND place BETWEEN ?2 AND ?3 ORDER BY place",
    )?;
    let mut blocks = Vec::new();
    for (first, last) in &layout.0 {
        let mut rows = statement.query(params![row, signed(*first), signed(*last)])?;
        while let Some(row) = rows.next()? {
            let block = Block::from_json(&json(row, 1)?);
            let _ = block.place.set(unsigned(row.get(0)?));
            blocks.push(Arc::new(block));
        }
    }
    Ok(blocks)
}

pub(super) fn request(
    connection: &Connection,
    row: Row,
    key: &str,
) -> rusqlite::Result<Option<RequestRecord>> {
    connection
        .prepare_cached(
            "SELECT key, prompt_sha256, status, turn_id, inference_id, error, runtime, at_ms FROM requests \
             WHERE conversation = ?1 AND key = ?2",
        )?
        .query_row(params![row, key], |row| {
            Ok(RequestRecord {
                key: row.get(0)?,
                prompt_sha256: row.get(1)?,
                status: row.get(2)?,
                turn_id: row.get(3)?,
                inference_id: row.get(4)?,
                error: row.get(5)?,
                runtime: json(row, 6)?,
                at_ms: row.get(7)?,
            })
        })
        .optional()
}

pub(super) fn timeline(
    connection: &Connection,
    conv_id: &str,
    range: TimelineRange,
) -> rusqlite::Result<TimelinePage> {
    let _reading = Reading::begin(connection)?;
    let Some((row, newest, grows)) = known(connection, conv_id)? else {
        return Ok(TimelinePage::default());
    };
    let texts = if grows { texts(connection, row)? } else { HashMap::new() };
    let grown = texts.values().map(|grown| grown.version).max().unwrap_or(0);
    let newest = newest.max(grown);
    // A version from another life, for example from before an adoption, answers everything (decision 22).
    if range.since == 0 || range.since > newest {
        return full(connection, row, range, newest, &texts);
    }
    changed(connection, row, range, newest, &texts)
}

/// A conversation, its newest version, and whether a message of it grows.
fn known(connection: &Connection, conv_id: &str) -> rusqlite::Result<Option<(Row, u64, bool)>> {
    connection
        .prepare_cached(
            "SELECT id, (SELECT coalesce(max(version), 0) FROM entities WHERE conversation = c.id), \
             EXISTS (SELECT 1 FROM entity_texts WHERE conversation = c.id) FROM conversations c WHERE conv_id = ?1",
        )?
        .query_row([conv_id], |row| Ok((row.get(0)?, unsigned(row.get(1)?), row.get(2)?)))
        .optional()
}

/// What changed since a version, if that is little and nothing grows: rows and bytes are bounded.
pub(super) fn recent_timeline(
    connection: &Connection,
    conv_id: &str,
    range: TimelineRange,
) -> rusqlite::Result<Option<TimelinePage>> {
    let _reading = Reading::begin(connection)?;
    let Some((row, version, false)) = known(connection, conv_id)? else { return Ok(None) };
    if range.since == 0 || range.since > version {
        return Ok(None);
    }
    let mut statement = connection.prepare_cached(
        "SELECT place, body FROM entities WHERE conversation = ?1 AND version > ?2 ORDER BY version",
    )?;
    let mut rows = statement.query(params![row, signed(range.since)])?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let body: String = row.get(1)?;
        bytes += body.len();
        found.push((unsigned(row.get(0)?), body));
        if found.len() > FEW.min(range.limit) || bytes > FEW_BYTES {
            return Ok(None);
        }
    }
    found.sort_by_key(|entity| entity.0);
    let entities = found.into_iter().map(|entity| entity.1).collect();
    Ok(Some(TimelinePage { version, older: None, entities }))
}

/// The newest entities, in the order of their places.
fn full(
    connection: &Connection,
    row: Row,
    range: TimelineRange,
    version: u64,
    texts: &HashMap<String, Grown>,
) -> rusqlite::Result<TimelinePage> {
    let most = i64::try_from(range.limit.saturating_add(1)).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(
        "SELECT body, entity_id, place FROM entities WHERE conversation = ?1 AND place < ?2 \
         ORDER BY place DESC LIMIT ?3",
    )?;
    let before = range.before.map_or(i64::MAX, signed);
    let mut rows = statement.query(params![row, before, most])?;
    let mut entities = Vec::new();
    let (mut first, mut older) = (None, None);
    while let Some(row) = rows.next()? {
        if entities.len() == range.limit {
            older = first;
            break;
        }
        first = Some(unsigned(row.get(2)?));
        let body = row.get_ref(0)?.as_str()?;
        let grown = if texts.is_empty() { None } else { texts.get(row.get_ref(1)?.as_str()?) };
        entities.push(grown.map_or_else(|| body.to_owned(), |grown| grown.added_to(body)));
    }
    entities.reverse();
    Ok(TimelinePage { version, older, entities })
}

/// The oldest changes since a version, and the version of the last of them if there are more.
fn changed(
    connection: &Connection,
    row: Row,
    range: TimelineRange,
    newest: u64,
    texts: &HashMap<String, Grown>,
) -> rusqlite::Result<TimelinePage> {
    let TimelineRange { since, limit, .. } = range;
    let mut found: Vec<(u64, u64, String)> = Vec::new();
    let mut take = |row: &SqlRow<'_>| -> rusqlite::Result<()> {
        let (place, version) = (unsigned(row.get(0)?), unsigned(row.get(1)?));
        let body = row.get_ref(2)?.as_str()?;
        let grown = texts.get(row.get_ref(3)?.as_str()?);
        let version = grown.map_or(version, |grown| grown.version.max(version));
        let body = grown.map_or_else(|| body.to_owned(), |grown| grown.added_to(body));
        found.push((version, place, body));
        Ok(())
    };
    let most = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(
        "SELECT place, version, body, entity_id FROM entities WHERE conversation = ?1 AND version > ?2 \
         ORDER BY version LIMIT ?3",
    )?;
    let mut rows = statement.query(params![row, signed(since), most])?;
    while let Some(row) = rows.next()? {
        take(row)?;
    }
    let mut statement = connection.prepare_cached(
        "SELECT place, version, body, entity_id FROM entities WHERE conversation = ?1 AND entity_id = ?2 \
         AND version <= ?3",
    )?;
    for (id, _) in texts.iter().filter(|(_, grown)| grown.version > since) {
        let mut rows = statement.query(params![row, id, signed(since)])?;
        while let Some(row) = rows.next()? {
            take(row)?;
        }
    }
    found.sort_by_key(|entity| entity.0);
    let cut = found.len() > limit;
    found.truncate(limit);
    let version = if cut { found.last().map_or(since, |entity| entity.0) } else { newest };
    found.sort_by_key(|entity| entity.1);
    Ok(TimelinePage {
        version,
        older: None,
        entities: found.into_iter().map(|entity| entity.2).collect(),
    })
}

/// What was appended to a message that still grows.
#[derive(Default)]
struct Grown {
    text: String,
    version: u64,
    at_ms: i64,
}

fn texts(connection: &Connection, row: Row) -> rusqlite::Result<HashMap<String, Grown>> {
    let mut statement = connection.prepare_cached(
        "SELECT entity_id, text, version, at_ms FROM entity_texts WHERE conversation = ?1 ORDER BY entity_id, version",
    )?;
    let mut rows = statement.query([row])?;
    let mut texts: HashMap<String, Grown> = HashMap::new();
    while let Some(row) = rows.next()? {
        let grown = texts.entry(row.get(0)?).or_default();
        grown.text.push_str(row.get_ref(1)?.as_str()?);
        (grown.version, grown.at_ms) = (unsigned(row.get(2)?), row.get(3)?);
    }
    Ok(texts)
}

impl Grown {
    fn added_to(&self, body: &str) -> String {
        let Ok(mut entity) = serde_json::from_str::<Entity>(body) else { return body.to_owned() };
        entity.updated_at_ms = self.at_ms;
        let content = entity.props["content"].as_str().unwrap_or_default();
        entity.props["content"] = format!("{content}{}", self.text).into();
        serde_json::to_string(&entity).unwrap_or_else(|_| body.to_owned())
    }
}

/// Several statements as of one moment. Cheaper than a transaction of the library, which is parsed anew each time.
struct Reading<'a>(&'a Connection);

impl<'a> Reading<'a> {
    fn begin(connection: &'a Connection) -> rusqlite::Result<Self> {
        connection.prepare_cached("BEGIN")?.execute([])?;
        Ok(Self(connection))
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let end = self.0.prepare_cached("COMMIT").and_then(|mut end| end.execute([]));
        if let Err(error) = end {
            tracing::error!(%error, "failed to end a read");
        }
    }
}

pub(super) fn conversations(
    connection: &Connection,
    filter: &ConversationFilter,
) -> rusqlite::Result<Vec<ConversationRecord>> {
    let sql = format!(
        "SELECT {CONVERSATION} FROM conversations c \
         WHERE (?1 = '' OR c.last_activity_ms < ?2 OR (c.last_activity_ms = ?2 AND c.conv_id > ?1)) \
         ORDER BY c.last_activity_ms DESC, c.conv_id"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![filter.after.conv_id, filter.after.last_activity_ms])?;
    // Compared here, because SQLite knows the lower case of ASCII only.
    let wanted = filter.text.to_lowercase();
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (_, record) = conversation(row)?;
        let is_wanted = |text: &str| text.to_lowercase().contains(&wanted);
        if wanted.is_empty() || is_wanted(&record.title) || is_wanted(&record.conv_id) {
            found.push(record);
            if found.len() == filter.limit {
                break;
            }
        }
    }
    Ok(found)
}

pub(super) fn turns(
    connection: &Connection,
    filter: &TurnFilter,
) -> rusqlite::Result<Vec<TurnSnapshot>> {
    let reading = connection.unchecked_transaction()?;
    let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
    let mut conditions = vec!["s.at_ms >= ?".to_owned()];
    let mut params: Vec<&dyn ToSql> = vec![&filter.since_ms];
    for (column, value) in [
        ("c.conv_id", &filter.conv_id),
        ("t.session_id", &filter.session_id),
        ("t.turn_id", &filter.turn_id),
        ("s.phase", &filter.phase),
    ] {
        if !value.is_empty() {
            conditions.push(format!("{column} = ?"));
            params.push(value);
        }
    }
    params.push(&limit);
    let sql = format!(
        "SELECT c.conv_id, s.phase, s.at_ms, s.layout, s.id, c.id, s.metadata, {TURN} FROM snapshots s \
         JOIN conversations c ON c.id = s.conversation \
         JOIN turns t ON t.conversation = s.conversation AND t.ordinal = s.ordinal \
         WHERE {} ORDER BY s.id DESC LIMIT ?",
        conditions.join(" AND ")
    );
    let mut statement = reading.prepare_cached(&sql)?;
    let mut rows = statement.query(&params[..])?;
    let mut known: HashMap<(Row, u64), Block> = HashMap::new();
    let mut snapshots = Vec::new();
    while let Some(row) = rows.next()? {
        let (layout, id): (Layout, i64) = (json(row, 3)?, row.get(4)?);
        let conversation: Row = row.get(5)?;
        snapshots.push(TurnSnapshot {
            conv_id: row.get(0)?,
            phase: row.get(1)?,
            created_at_ms: row.get(2)?,
            blocks: known_blocks(&reading, conversation, &layout, &mut known)?,
            data: data_at(&reading, conversation, id)?,
            metadata: json(row, 6)?,
            turn: turn(row, 7)?,
        });
    }
    Ok(snapshots)
}

/// The blocks of a layout; those of the snapshots before are not read again.
fn known_blocks(
    connection: &Connection,
    row: Row,
    layout: &Layout,
    known: &mut HashMap<(Row, u64), Block>,
) -> rusqlite::Result<Vec<Block>> {
    if layout.places().any(|place| !known.contains_key(&(row, place))) {
        for block in blocks(connection, row, layout)? {
            let place = block.place.get().copied().unwrap_or(0);
            known.insert((row, place), Arc::unwrap_or_clone(block));
        }
    }
    Ok(layout.places().filter_map(|place| known.get(&(row, place)).cloned()).collect())
}

fn data_at(connection: &Connection, row: Row, id: i64) -> rusqlite::Result<Object> {
    let data = connection
        .prepare_cached(
            "SELECT data FROM snapshots WHERE conversation = ?1 AND id <= ?2 AND data IS NOT NULL \
             ORDER BY id DESC LIMIT 1",
        )?
        .query_row(params![row, id], |row| json(row, 0))
        .optional()?;
    Ok(data.unwrap_or_default())
}

pub(super) fn unfinished(connection: &Connection) -> rusqlite::Result<Vec<Unfinished>> {
    let reading = connection.unchecked_transaction()?;
    let sql = format!(
        "SELECT {CONVERSATION}, {TURN} FROM turns t JOIN conversations c ON c.id = t.conversation \
         WHERE t.state = 'running' ORDER BY t.conversation, t.ordinal"
    );
    let mut statement = reading.prepare(&sql)?;
    let found: Vec<(Row, ConversationRecord, TurnRecord)> = statement
        .query_map([], |row| {
            let (id, record) = conversation(row)?;
            Ok((id, record, turn(row, 10)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut unfinished = Vec::new();
    for (row, record, turn) in found {
        unfinished.push(Unfinished {
            row,
            blocks: blocks(&reading, row, &turn.layout)?,
            next_place: next_place(&reading, row)?,
            streaming: streaming(&reading, row, &turn.turn_id)?,
            record,
            turn,
        });
    }
    Ok(unfinished)
}

/// What of the turn still says that it grows.
fn streaming(
    connection: &Connection,
    row: Row,
    turn_id: &str,
) -> rusqlite::Result<Vec<(Entity, String)>> {
    let texts = texts(connection, row)?;
    let mut statement = connection.prepare_cached(
        "SELECT body, place, version FROM entities WHERE conversation = ?1 AND place >= coalesce( \
         (SELECT place FROM entities WHERE conversation = ?1 AND entity_id = 'user-' || ?2), 0) ORDER BY place",
    )?;
    let mut rows = statement.query(params![row, turn_id])?;
    let mut streaming = Vec::new();
    while let Some(row) = rows.next()? {
        let mut entity: Entity = json(row, 0)?;
        (entity.place, entity.version) = (unsigned(row.get(1)?), unsigned(row.get(2)?));
        if is_streaming(&entity.kind, &entity.props) {
            let appended = texts.get(&entity.id).map_or("", |grown| grown.text.as_str());
            let content = entity.props["content"].as_str().unwrap_or_default();
            let text = format!("{content}{appended}");
            streaming.push((entity, text));
        }
    }
    Ok(streaming)
}
