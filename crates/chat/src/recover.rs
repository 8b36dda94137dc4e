//! Closes a turn that was running when the process died: what was shown stays, nothing streams for ever, nothing of it
//! is ever executed later (decisions 23 and 26). Pure.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::run::Phase;
use crate::store::{TurnRecord, TurnState, Unfinished, Write};
use crate::timeline::Entity;
use crate::turn::{Block, Blocks, Kind, Layout, keys, open_calls};

/// What the user is told.
pub const INTERRUPTED: &str = "the answer was interrupted: the server stopped";

/// The writes that close the turn, exactly once: afterwards it does not run any more.
#[must_use]
pub fn close_interrupted(
    unfinished: Unfinished,
    now_ms: i64,
    new_id: &dyn Fn() -> String,
) -> Vec<Write> {
    let Unfinished { mut record, mut turn, mut blocks, next_place, streaming, .. } = unfinished;
    let mut writes = Vec::new();
    let mut seq = record.seq;
    let mut version = || {
        seq += 1;
        seq
    };
    let partial: Vec<&str> = streaming
        .iter()
        .filter(|(entity, text)| entity.props["role"] == "assistant" && !text.is_empty())
        .map(|(_, text)| text.as_str())
        .collect();
    let mut new: Blocks = partial
        .into_iter()
        .map(|text| Arc::new(Block::text(new_id(), Kind::LlmText, text)))
        .collect();
    let mut entities: Vec<Entity> =
        streaming.into_iter().map(|(entity, text)| closed(entity, &text)).collect();
    new.extend(close_calls(&blocks, "unknown outcome: the server stopped while it ran", new_id));
    let log_id = format!("error-{}", turn.turn_id);
    let fields =
        json!({"code": "interrupted", "retryable": true, "inference_id": turn.inference_id});
    entities.push(Entity {
        id: log_id,
        kind: "log".into(),
        created_at_ms: now_ms,
        updated_at_ms: now_ms,
        props: json!({"level": "error", "message": INTERRUPTED, "fields": fields}),
        version: 0,
        place: 0,
    });
    for mut entity in entities {
        entity.version = version();
        entity.updated_at_ms = now_ms.max(entity.created_at_ms);
        if entity.place == 0 {
            entity.place = entity.version;
        }
        writes.push(Write::Entity(Arc::new(entity)));
    }
    for (place, block) in (next_place..).zip(&new) {
        let _ = block.place.set(place);
        writes.push(Write::Block(block.clone()));
    }
    blocks.extend(new);
    finish(&mut turn, &blocks, now_ms);
    writes.push(Write::Snapshot {
        ordinal: turn.ordinal,
        phase: Phase::Final,
        at_ms: now_ms,
        layout: turn.layout.clone(),
        data: turn.data.clone(),
        metadata: turn.metadata.clone(),
    });
    writes.push(Write::Turn(Box::new(turn)));
    record.seq = seq;
    record.status = TurnState::Interrupted.as_str().into();
    record.last_error = INTERRUPTED.into();
    writes.push(Write::Conversation(Box::new(record)));
    writes
}

/// What grew does not any more, and says why.
fn closed(mut entity: Entity, text: &str) -> Entity {
    if entity.kind == "message" {
        entity.props["content"] = text.into();
        entity.props["streaming"] = false.into();
        entity.props["metadata"]["stopReason"] = "interrupted".into();
    } else {
        entity.props["status"] = "error".into();
        entity.props["error"] = INTERRUPTED.into();
        entity.props["progress"] = 1.into();
        entity.props["done"] = true.into();
    }
    entity
}

fn finish(turn: &mut TurnRecord, blocks: &Blocks, now_ms: i64) {
    turn.state = TurnState::Interrupted;
    // The clock may have gone back.
    turn.ended_at_ms = now_ms.max(turn.started_at_ms);
    turn.layout = Layout::of(blocks);
    turn.metadata.insert(keys::STOP_REASON.into(), "interrupted".into());
}

/// A result with `reason` for every call that has none, so that no provider refuses the context and nothing of it is
/// executed later (INF-9).
#[must_use]
pub fn close_calls(blocks: &[Arc<Block>], reason: &str, new_id: &dyn Fn() -> String) -> Blocks {
    let close =
        |call: &Arc<Block>| Arc::new(Block::tool_use(new_id(), call.get("id"), Err(reason)));
    open_calls(blocks).iter().map(close).collect()
}

/// Whether an entity still says that it is being written.
#[must_use]
pub fn is_streaming(kind: &str, props: &Value) -> bool {
    match kind {
        "message" => props["streaming"] == true,
        "tool_call" => props["done"] == false,
        _ => false,
    }
}
