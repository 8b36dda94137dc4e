//! Takes conversations over from timeline and turn databases of the Go reference (chapter 30 §7): renumbered, without
//! what never was text, and verified by counts before anything is committed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use collodi_chat::recover::is_streaming;
use collodi_chat::run::Phase;
use collodi_chat::store::{Attribution, ConversationRecord, TurnRecord, TurnState, Write, object};
use collodi_chat::timeline::Entity;
use collodi_chat::turn::{Block, Layout, keys};
use collodi_profiles::json::Object;
use collodi_profiles::store::{StoreError, StoreErrorKind};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use serde_json::{Value, json};

use super::chats::{open_for_import, write};
use super::{failed, open_untouched};

/// What was taken over.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Conversations.
    pub conversations: usize,
    /// Conversations that were there already and stay as they are.
    pub skipped: Vec<String>,
    /// Entities of timelines.
    pub entities: usize,
    /// Messages that never had text and are left out (D24).
    pub blank: usize,
    /// Entities that said they were still growing, closed as interrupted (D12).
    pub closed: usize,
    /// Turns.
    pub turns: usize,
    /// Snapshots of turns.
    pub snapshots: usize,
    /// Blocks, each once.
    pub blocks: usize,
}

/// Reads both databases, neither of which is changed, and writes everything in one transaction.
///
/// # Errors
/// Files that cannot be read or are none of the reference, and counts that do not match; nothing is imported then.
pub fn import(
    target: &Path,
    timeline: Option<&Path>,
    turns: Option<&Path>,
) -> Result<Imported, StoreError> {
    let timeline = timeline.map(|path| source(path, "timeline_entities")).transpose()?;
    let turns = turns.map(|path| source(path, "turn_block_membership")).transpose()?;
    let (mut chat, companion) = open_for_import(target)?;
    let imported = fill(&mut chat, target, timeline.as_ref(), turns.as_ref());
    companion.close(|| drop(chat));
    imported
}

fn fill(
    chat: &mut Connection,
    target: &Path,
    timeline: Option<&Connection>,
    turns: Option<&Connection>,
) -> Result<Imported, StoreError> {
    let fail = |e: rusqlite::Error| failed(&format!("import into {}", target.display()), &e);
    let transaction =
        chat.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
    let mut imported = Imported::default();
    let mut next: i64 = transaction
        .query_row("SELECT coalesce(max(id), 0) + 1 FROM conversations", [], |row| row.get(0))
        .map_err(fail)?;
    for conv_id in conversations(timeline, turns).map_err(fail)? {
        let known: Option<i64> = transaction
            .query_row("SELECT id FROM conversations WHERE conv_id = ?1", [&conv_id], |row| {
                row.get(0)
            })
            .optional()
            .map_err(fail)?;
        if known.is_some() {
            imported.skipped.push(conv_id);
            continue;
        }
        let writes = conversation(&conv_id, timeline, turns, &mut imported)?;
        for write in &writes {
            write::apply(&transaction, next, write).map_err(fail)?;
        }
        verify(&transaction, next, &conv_id, &writes).map_err(fail)??;
        next += 1;
        imported.conversations += 1;
    }
    transaction.commit().map_err(fail)?;
    Ok(imported)
}

/// Opens a database of the reference without changing it.
fn source(path: &Path, table: &str) -> Result<Connection, StoreError> {
    let fail = |e: rusqlite::Error| failed(&format!("read {}", path.display()), &e);
    if !path.is_file() {
        let text = format!("{}: no such file", path.display());
        return Err(StoreError::new(StoreErrorKind::Other, text));
    }
    let connection = open_untouched(path).map_err(fail)?;
    let found: bool = connection
        .query_row(
            "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1",
            [table],
            |row| row.get(0),
        )
        .map_err(fail)?;
    if found {
        Ok(connection)
    } else {
        let text = format!("{} has no table {table}: not what this option takes", path.display());
        Err(StoreError::new(StoreErrorKind::Corrupt, text))
    }
}

fn conversations(
    timeline: Option<&Connection>,
    turns: Option<&Connection>,
) -> rusqlite::Result<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    let lists = [
        (
            timeline,
            "SELECT conv_id FROM timeline_entities UNION SELECT conv_id FROM timeline_conversations",
        ),
        (turns, "SELECT conv_id FROM turns"),
    ];
    for (source, sql) in lists {
        let Some(source) = source else { continue };
        let mut statement = source.prepare(sql)?;
        for id in statement.query_map([], |row| row.get::<_, String>(0))? {
            ids.insert(id?);
        }
    }
    Ok(ids)
}

/// Everything of one conversation, in the order in which it is written.
fn conversation(
    conv_id: &str,
    timeline: Option<&Connection>,
    turns: Option<&Connection>,
    imported: &mut Imported,
) -> Result<Vec<Write>, StoreError> {
    let fail = |e: rusqlite::Error| failed(&format!("read conversation {conv_id}"), &e);
    let mut record = ConversationRecord {
        conv_id: conv_id.to_owned(),
        status: "active".into(),
        ..ConversationRecord::default()
    };
    let mut entities = Vec::new();
    if let Some(timeline) = timeline {
        index(timeline, &mut record).map_err(fail)?;
        entities = read_entities(timeline, conv_id, imported).map_err(fail)?;
    }
    let mut writes = Vec::new();
    if let Some(turns) = turns {
        let mut blocks = Blocks::default();
        let stored = read_turns(turns, conv_id, &mut blocks, imported).map_err(fail)?;
        if let Some(newest) = stored.last() {
            record.runtime_key.clone_from(&newest.0.attribution.runtime_key);
            if record.session_id.is_empty() {
                record.session_id.clone_from(&newest.0.session_id);
            }
            record.last_activity_ms = record.last_activity_ms.max(newest.0.ended_at_ms);
        }
        imported.blocks += blocks.log.len();
        writes.extend(blocks.log.into_iter().map(Write::Block));
        for (turn, snapshots) in stored {
            writes.push(Write::Turn(Box::new(turn)));
            writes.extend(snapshots);
        }
    }
    if record.session_id.is_empty() {
        record.session_id = format!("imported-{conv_id}");
    }
    record.seq = entities.iter().map(|entity| entity.version.max(entity.place)).max().unwrap_or(0);
    imported.entities += entities.len();
    writes.extend(entities.into_iter().map(|entity| Write::Entity(Arc::new(entity))));
    writes.insert(0, Write::Conversation(Box::new(record)));
    Ok(writes)
}

fn index(timeline: &Connection, record: &mut ConversationRecord) -> rusqlite::Result<()> {
    let found = timeline
        .query_row(
            "SELECT session_id, runtime_key, created_at_ms, last_activity_ms, last_error FROM timeline_conversations \
             WHERE conv_id = ?1",
            [&record.conv_id],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)),
        )
        .optional()?;
    if let Some((session_id, runtime_key, created, activity, error)) = found {
        (record.session_id, record.runtime_key, record.last_error) =
            (session_id, runtime_key, error);
        (record.created_at_ms, record.last_activity_ms) = (created, activity);
    }
    Ok(())
}

/// Entities in the order in which they were first seen, numbered from 1; versions keep their order (decision 22).
fn read_entities(
    timeline: &Connection,
    conv_id: &str,
    imported: &mut Imported,
) -> rusqlite::Result<Vec<Entity>> {
    let mut statement = timeline.prepare(
        "SELECT entity_id, kind, created_at_ms, updated_at_ms, version, entity_json FROM timeline_entities \
         WHERE conv_id = ?1 ORDER BY created_at_ms, version, entity_id",
    )?;
    let rows = statement.query_map([conv_id], |row| {
        let body: Value = serde_json::from_str(&row.get::<_, String>(5)?).unwrap_or_default();
        Ok(Entity {
            id: row.get(0)?,
            kind: row.get(1)?,
            created_at_ms: row.get(2)?,
            updated_at_ms: row.get(3)?,
            props: body.get("props").cloned().unwrap_or_else(|| json!({})),
            version: u64::try_from(row.get::<_, i64>(4)?).unwrap_or(0),
            place: 0,
        })
    })?;
    let mut entities = Vec::new();
    for entity in rows {
        let mut entity = entity?;
        let is_blank = entity.kind == "message" && entity.props["content"] == "";
        if is_blank {
            imported.blank += 1;
            continue;
        }
        if is_streaming(&entity.kind, &entity.props) {
            imported.closed += 1;
            if entity.kind == "message" {
                entity.props["streaming"] = false.into();
            } else {
                entity.props["done"] = true.into();
                entity.props["status"] = "error".into();
            }
        }
        entities.push(entity);
    }
    for (place, entity) in (1..).zip(&mut entities) {
        entity.place = place;
    }
    let mut by_version: Vec<usize> = (0..entities.len()).collect();
    by_version.sort_by_key(|&at| (entities[at].version, entities[at].place));
    for (version, at) in (1..).zip(by_version) {
        entities[at].version = version;
    }
    Ok(entities)
}

/// The blocks of a conversation, each once, numbered in the order in which they were first used.
#[derive(Default)]
struct Blocks {
    places: HashMap<(String, String), u64>,
    log: Vec<Arc<Block>>,
}

impl Blocks {
    fn place(&mut self, turns: &Connection, id: &str, hash: &str) -> rusqlite::Result<u64> {
        let key = (id.to_owned(), hash.to_owned());
        if let Some(place) = self.places.get(&key) {
            return Ok(*place);
        }
        let place = self.log.len() as u64 + 1;
        let stored = turns.query_row(
            "SELECT kind, payload_json, block_metadata_json FROM blocks WHERE block_id = ?1 AND content_hash = ?2",
            [id, hash],
            |row| {
                let parse = |text: String| serde_json::from_str::<Value>(&text).unwrap_or_default();
                Ok(json!({"id": id, "kind": row.get::<_, String>(0)?,
                    "payload": parse(row.get(1)?), "metadata": parse(row.get(2)?)}))
            },
        )?;
        let block = Block::from_json(&stored);
        let _ = block.place.set(place);
        self.places.insert(key, place);
        self.log.push(Arc::new(block));
        Ok(place)
    }
}

type StoredTurn = (TurnRecord, Vec<Write>);

fn read_turns(
    turns: &Connection,
    conv_id: &str,
    blocks: &mut Blocks,
    imported: &mut Imported,
) -> rusqlite::Result<Vec<StoredTurn>> {
    let mut statement = turns.prepare(
        "SELECT session_id, turn_id, turn_created_at_ms, turn_metadata_json, turn_data_json, runtime_key, inference_id, \
         updated_at_ms FROM turns WHERE conv_id = ?1 ORDER BY turn_created_at_ms, updated_at_ms",
    )?;
    let mut rows = statement.query([conv_id])?;
    let mut stored: Vec<StoredTurn> = Vec::new();
    while let Some(row) = rows.next()? {
        let map = |column: usize| -> rusqlite::Result<Object> {
            let text: String = row.get(column)?;
            Ok(object(serde_json::from_str(&text).unwrap_or_default()))
        };
        let (mut metadata, data) = (map(3)?, map(4)?);
        for key in [keys::SESSION, keys::INFERENCE] {
            metadata.remove(key);
        }
        let mut turn = TurnRecord {
            ordinal: stored.len() as u64 + 1,
            turn_id: row.get(1)?,
            inference_id: row.get(6)?,
            session_id: row.get(0)?,
            // A turn without its last snapshot did not get there.
            state: TurnState::Failed,
            // Unknown history stays empty; nothing is made up from the conversation (chapter 30 §4.4).
            attribution: Attribution { runtime_key: row.get(5)?, ..Attribution::default() },
            superseded: false,
            base: stored.last().map(|(before, _)| before.layout.clone()).unwrap_or_default(),
            layout: Layout::default(),
            data,
            metadata,
            started_at_ms: row.get(2)?,
            ended_at_ms: row.get(7)?,
        };
        let snapshots = read_snapshots(turns, conv_id, &mut turn, blocks)?;
        imported.turns += 1;
        imported.snapshots += snapshots.len();
        stored.push((turn, snapshots));
    }
    Ok(stored)
}

/// The snapshots of a turn in the order in which they were taken; the newest says what the next turn goes on from.
fn read_snapshots(
    turns: &Connection,
    conv_id: &str,
    turn: &mut TurnRecord,
    blocks: &mut Blocks,
) -> rusqlite::Result<Vec<Write>> {
    let phases = [Phase::PreInference, Phase::PostInference, Phase::PostTools, Phase::Final];
    let mut statement = turns.prepare_cached(
        "SELECT phase, snapshot_created_at_ms, block_id, content_hash FROM turn_block_membership \
         WHERE conv_id = ?1 AND session_id = ?2 AND turn_id = ?3 ORDER BY snapshot_created_at_ms, phase, ordinal",
    )?;
    let mut rows = statement.query([conv_id, &turn.session_id, &turn.turn_id])?;
    let mut taken: BTreeMap<(i64, usize), Vec<u64>> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let word: String = row.get(0)?;
        let rank = phases.iter().position(|phase| phase.as_str() == word).unwrap_or(0);
        let (id, hash): (String, String) = (row.get(2)?, row.get(3)?);
        let place = blocks.place(turns, &id, &hash)?;
        taken.entry((row.get(1)?, rank)).or_default().push(place);
    }
    let mut snapshots = Vec::new();
    for ((at_ms, rank), places) in taken {
        let layout = runs(&places);
        turn.layout = layout.clone();
        if phases[rank] == Phase::Final {
            turn.state = TurnState::Completed;
        }
        let (ordinal, phase, data) = (turn.ordinal, phases[rank], turn.data.clone());
        let metadata = turn.metadata.clone();
        snapshots.push(Write::Snapshot { ordinal, phase, at_ms, layout, data, metadata });
    }
    Ok(snapshots)
}

fn runs(places: &[u64]) -> Layout {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for place in places {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *place => *last = *place,
            _ => runs.push((*place, *place)),
        }
    }
    Layout(runs)
}

/// What was written is there, row by row.
fn verify(
    chat: &Connection,
    row: i64,
    conv_id: &str,
    writes: &[Write],
) -> rusqlite::Result<Result<(), StoreError>> {
    let written = |is: fn(&Write) -> bool| writes.iter().filter(|write| is(write)).count();
    for (table, expected) in [
        ("blocks", written(|w| matches!(w, Write::Block(_)))),
        ("turns", written(|w| matches!(w, Write::Turn(_)))),
        ("snapshots", written(|w| matches!(w, Write::Snapshot { .. }))),
        ("entities", written(|w| matches!(w, Write::Entity(_)))),
    ] {
        let sql = format!("SELECT count(*) FROM {table} WHERE conversation = ?1");
        let found: i64 = chat.query_row(&sql, [row], |row| row.get(0))?;
        if usize::try_from(found) != Ok(expected) {
            let text = format!(
                "conversation {conv_id}: {found} {table} were stored, {expected} were read"
            );
            return Ok(Err(StoreError::new(StoreErrorKind::Corrupt, text)));
        }
    }
    Ok(Ok(()))
}
