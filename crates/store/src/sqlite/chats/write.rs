//! The statements that write conversations.

use collodi_chat::store::{ConversationRecord, RequestRecord, Row, TurnRecord, Write};
use collodi_chat::timeline::Entity;
use collodi_chat::turn::Layout;
use collodi_profiles::json::Object;
use rusqlite::{Connection, OptionalExtension, ToSql, params};

use crate::sqlite::row::signed;

/// Most keys of one conversation (decision 43).
const MAX_REQUESTS: i64 = 1_000;
/// How long they are kept, in milliseconds.
const KEPT_MS: i64 = 24 * 60 * 60 * 1000;

pub(in crate::sqlite) fn apply(
    connection: &Connection,
    row: Row,
    write: &Write,
) -> rusqlite::Result<()> {
    match write {
        Write::Conversation(record) => conversation(connection, row, record),
        Write::Title(title) => run(
            connection,
            "UPDATE conversations SET title = ?2 WHERE id = ?1",
            params![row, title],
        ),
        Write::Block(block) => run(
            connection,
            "INSERT OR REPLACE INTO blocks VALUES (?1, ?2, ?3)",
            params![
                row,
                signed(block.place.get().copied().unwrap_or(0)),
                block.to_json().to_string()
            ],
        ),
        Write::Turn(record) => turn(connection, row, record),
        Write::Snapshot { ordinal, phase, at_ms, layout, data, metadata } => {
            let taken = (*ordinal, phase.as_str(), *at_ms);
            snapshot(connection, row, taken, layout, (data, metadata))
        }
        Write::Entity(changed) => entity(connection, row, changed),
        // The entity itself stays as it is: its version is the highest of those of its texts.
        Write::EntityText { id, version, updated_at_ms, text } => run(
            connection,
            "INSERT OR REPLACE INTO entity_texts VALUES (?1, ?2, ?3, ?4, ?5)",
            params![row, id, signed(*version), updated_at_ms, text],
        ),
        Write::Request(record) => request(connection, row, record),
        Write::ForgetRequest(key) => run(
            connection,
            "DELETE FROM requests WHERE conversation = ?1 AND key = ?2",
            params![row, key],
        ),
        Write::Delete => run(connection, "DELETE FROM conversations WHERE id = ?1", [row]),
    }
}

fn run(connection: &Connection, sql: &str, params: impl rusqlite::Params) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute(params).map(|_| ())
}

fn conversation(
    connection: &Connection,
    row: Row,
    record: &ConversationRecord,
) -> rusqlite::Result<()> {
    run(
        connection,
        "INSERT INTO conversations VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (id) DO UPDATE SET \
         status = excluded.status, last_error = excluded.last_error, runtime_key = excluded.runtime_key, \
         last_activity_ms = excluded.last_activity_ms, seq = max(seq, excluded.seq)",
        params![
            row,
            record.conv_id,
            record.session_id,
            record.title,
            record.status,
            record.last_error,
            record.runtime_key,
            record.created_at_ms,
            record.last_activity_ms,
            signed(record.seq),
        ],
    )
}

fn turn(connection: &Connection, row: Row, turn: &TurnRecord) -> rusqlite::Result<()> {
    let made_under = &turn.attribution;
    let values: [&dyn ToSql; 18] = [
        &row,
        &signed(turn.ordinal),
        &turn.turn_id,
        &turn.inference_id,
        &turn.session_id,
        &turn.state.as_str(),
        &made_under.registry,
        &made_under.profile,
        &signed(made_under.version),
        &made_under.runtime_key,
        &made_under.fingerprint,
        &turn.superseded,
        &layout(&turn.base),
        &layout(&turn.layout),
        &text(&turn.data),
        &text(&turn.metadata),
        &turn.started_at_ms,
        &turn.ended_at_ms,
    ];
    run(
        connection,
        "INSERT INTO turns VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18) \
         ON CONFLICT (conversation, ordinal) DO UPDATE SET state = excluded.state, superseded = excluded.superseded, \
         layout = excluded.layout, data = excluded.data, metadata = excluded.metadata, ended_at_ms = excluded.ended_at_ms",
        &values[..],
    )
}

fn snapshot(
    connection: &Connection,
    row: Row,
    (ordinal, phase, at_ms): (u64, &str, i64),
    blocks: &Layout,
    (data, metadata): (&Object, &Object),
) -> rusqlite::Result<()> {
    let data = text(data);
    // The same as in the snapshot before: most turns carry nothing but how tools are run.
    let before: Option<Option<String>> = connection
        .prepare_cached(
            "SELECT data FROM snapshots WHERE conversation = ?1 AND data IS NOT NULL ORDER BY id DESC LIMIT 1",
        )?
        .query_row([row], |row| row.get(0))
        .optional()?;
    let data = (before.flatten().as_ref() != Some(&data)).then_some(data);
    run(
        connection,
        "INSERT INTO snapshots (conversation, ordinal, phase, at_ms, layout, metadata, data) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![row, signed(ordinal), phase, at_ms, layout(blocks), text(metadata), data],
    )
}

fn entity(connection: &Connection, row: Row, entity: &Entity) -> rusqlite::Result<()> {
    let body = serde_json::to_string(entity)
        .map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
    run(
        connection,
        "INSERT INTO entities VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (conversation, entity_id) DO UPDATE \
         SET kind = excluded.kind, updated_at_ms = excluded.updated_at_ms, version = excluded.version, \
         body = excluded.body",
        params![
            row,
            signed(entity.place),
            entity.id,
            entity.kind,
            entity.created_at_ms,
            entity.updated_at_ms,
            signed(entity.version),
            body,
        ],
    )?;
    if entity.kind == "message" {
        run(
            connection,
            "DELETE FROM entity_texts WHERE conversation = ?1 AND entity_id = ?2",
            params![row, entity.id],
        )?;
    }
    Ok(())
}

fn request(connection: &Connection, row: Row, record: &RequestRecord) -> rusqlite::Result<()> {
    run(
        connection,
        "INSERT OR REPLACE INTO requests VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            row,
            record.key,
            record.prompt_sha256,
            record.status,
            record.turn_id,
            record.inference_id,
            record.error,
            text(&record.runtime),
            record.at_ms,
        ],
    )?;
    run(
        connection,
        "DELETE FROM requests WHERE conversation = ?1 AND at_ms < ?2",
        params![row, record.at_ms - KEPT_MS],
    )?;
    run(
        connection,
        "DELETE FROM requests WHERE conversation = ?1 AND (SELECT count(*) FROM requests WHERE conversation = ?1) > ?2 \
         AND key IN (SELECT key FROM requests WHERE conversation = ?1 ORDER BY at_ms LIMIT 1)",
        params![row, MAX_REQUESTS],
    )
}

fn layout(layout: &Layout) -> String {
    serde_json::to_string(layout).unwrap_or_default()
}

fn text(object: &Object) -> String {
    serde_json::to_string(object).unwrap_or_default()
}
