//! The timeline: the UI-shaped view of a conversation, projected from its frames (chapter 30 §3). Pure.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

/// One entity, in the protobuf JSON shape that clients read (64-bit integers are strings).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entity {
    /// Unique in the conversation.
    pub id: String,
    /// `message`, `log`, ...
    pub kind: &'static str,
    /// Unix milliseconds of its first version.
    #[serde(serialize_with = "as_text")]
    pub created_at_ms: i64,
    /// Unix milliseconds of this version.
    #[serde(serialize_with = "as_text")]
    pub updated_at_ms: i64,
    /// What clients show.
    pub props: Value,
    /// The number of the frame that announced it.
    #[serde(skip)]
    pub version: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn as_text<S: serde::Serializer>(ms: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(ms)
}

/// The entities of one conversation.
#[derive(Debug, Default)]
pub struct Timeline {
    entities: BTreeMap<String, Entity>,
}

impl Timeline {
    /// Sets an entity and returns it as it is now; its creation time stays that of its first version.
    pub fn upsert(
        &mut self,
        id: &str,
        kind: &'static str,
        props: Value,
        version: u64,
        now_ms: i64,
    ) -> &Entity {
        let created_at_ms = self.entities.get(id).map_or(now_ms, |old| old.created_at_ms);
        let entity = Entity {
            id: id.to_owned(),
            kind,
            created_at_ms,
            updated_at_ms: now_ms.max(created_at_ms),
            props,
            version,
        };
        let slot = self.entities.entry(id.to_owned());
        slot.insert_entry(entity).into_mut()
    }

    /// Whether the entity exists.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.entities.contains_key(id)
    }

    /// The highest version, 0 while empty.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.entities.values().map(|entity| entity.version).max().unwrap_or(0)
    }

    /// The snapshot of `/api/timeline`: entities above `since`, oldest first, at most `limit`.
    ///
    /// A `since` above the conversation's version answers everything (decision 22). A cut snapshot reports the highest
    /// version that a client may continue from without missing what was cut.
    #[must_use]
    pub fn snapshot(&self, conv_id: &str, since: u64, limit: usize, now_ms: i64) -> Value {
        let version = self.version();
        let since = if since > version { 0 } else { since };
        let mut wanted: Vec<&Entity> =
            self.entities.values().filter(|e| e.version > since).collect();
        wanted.sort_by_key(|entity| entity.version);
        let cut = wanted.len() > limit;
        wanted.truncate(limit);
        let version =
            if cut { wanted.last().map_or(since, |entity| entity.version) } else { version };
        wanted.sort_by(|a, b| (a.created_at_ms, &a.id).cmp(&(b.created_at_ms, &b.id)));
        let mut snapshot = json!({"convId": conv_id, "serverTimeMs": now_ms.to_string()});
        if version > 0 {
            snapshot["version"] = version.to_string().into();
        }
        if !wanted.is_empty() {
            snapshot["entities"] = json!(wanted);
        }
        snapshot
    }
}

/// The props of a message.
#[must_use]
pub fn message_props(
    role: &str,
    content: &str,
    streaming: bool,
    metadata: &Map<String, Value>,
) -> Value {
    json!({"schemaVersion": 1, "role": role, "content": content, "streaming": streaming, "metadata": metadata})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> Timeline {
        let mut timeline = Timeline::default();
        timeline.upsert("b", "message", json!({}), 2, 100);
        timeline.upsert("a", "message", json!({}), 4, 100);
        timeline.upsert("b", "message", json!({"x": 1}), 6, 150);
        timeline
    }

    fn ids(snapshot: &Value) -> Vec<&str> {
        snapshot["entities"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|e| e["id"].as_str())
            .collect()
    }

    #[test]
    fn snapshots_are_protobuf_json() {
        let snapshot = filled().snapshot("c", 0, 10, 200);
        assert_eq!(ids(&snapshot), ["a", "b"]);
        assert_eq!(snapshot["version"], "6");
        assert_eq!(snapshot["serverTimeMs"], "200");
        assert_eq!(
            snapshot["entities"][1],
            json!({"id": "b", "kind": "message", "createdAtMs": "100", "updatedAtMs": "150", "props": {"x": 1}})
        );
        assert_eq!(
            Timeline::default().snapshot("c", 0, 10, 1),
            json!({"convId": "c", "serverTimeMs": "1"})
        );
    }

    #[test]
    fn since_is_exclusive_and_one_from_another_life_answers_everything() {
        assert_eq!(ids(&filled().snapshot("c", 4, 10, 0)), ["b"]);
        assert_eq!(ids(&filled().snapshot("c", 6, 10, 0)), Vec::<&str>::new());
        assert_eq!(ids(&filled().snapshot("c", 7, 10, 0)), ["a", "b"]);
    }

    #[test]
    fn a_cut_snapshot_says_where_to_go_on() {
        let cut = filled().snapshot("c", 0, 1, 0);
        assert_eq!((ids(&cut), &cut["version"]), (vec!["a"], &json!("4")));
        assert_eq!(ids(&filled().snapshot("c", 4, 1, 0)), ["b"]);
    }
}
