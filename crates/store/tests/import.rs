//! Import of the reference's timeline and turn databases, compared with what the reference's own API said of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use collodi_chat::store::{ChatStore, TimelineRange, TurnFilter};
use collodi_chat::turn::Kind;
use collodi_store::SqliteChats;
use collodi_store::sqlite::import::{Imported, import};
use serde_json::Value;
use tempfile::TempDir;

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(name)
}

fn imported() -> (TempDir, PathBuf, Imported) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["timeline.db", "turns.db"] {
        std::fs::copy(sample(name), folder.path().join(name)).unwrap();
    }
    let before = hashes(folder.path());
    let target = folder.path().join("chat.db");
    let (timeline, turns) = (folder.path().join("timeline.db"), folder.path().join("turns.db"));
    let report = import(&target, Some(&timeline), Some(&turns)).unwrap();
    assert_eq!(hashes(folder.path()), before, "the sources are not changed");
    let again = import(&target, Some(&timeline), Some(&turns)).unwrap();
    assert_eq!((again.conversations, again.skipped.len()), (0, 2), "once is enough");
    (folder, target, report)
}

fn hashes(folder: &Path) -> Vec<String> {
    let read = |name| {
        collodi_profiles::json::sha256_hex(&format!(
            "{:?}",
            std::fs::read(folder.join(name)).unwrap()
        ))
    };
    ["timeline.db", "turns.db"].into_iter().map(read).collect()
}

fn said() -> Value {
    serde_json::from_str(&std::fs::read_to_string(sample("chats.json")).unwrap()).unwrap()
}

#[test]
fn the_counts_match_and_every_timeline_is_what_the_reference_said() {
    let (_folder, target, report) = imported();
    assert_eq!((report.conversations, report.turns, report.closed), (2, 16, 1));
    let store = SqliteChats::open(&target).unwrap();
    for (conv_id, expected) in said()["timeline"].as_object().unwrap() {
        let page = store.timeline(conv_id, TimelineRange::newest(5000)).unwrap();
        let entities: Vec<Value> =
            page.entities.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        let expected: Vec<Value> = expected["entities"]
            .as_array()
            .unwrap()
            .iter()
            // Messages that never had text are not taken over (D24), and nothing streams for ever (D12).
            .filter(|entity| entity["kind"] != "message" || entity["props"]["content"] != "")
            .cloned()
            .map(|mut entity| {
                if entity["props"].get("streaming").is_some() {
                    entity["props"]["streaming"] = false.into();
                }
                entity
            })
            .collect();
        let by_id = |list: &[Value]| -> BTreeMap<String, Value> {
            list.iter().map(|e| (e["id"].as_str().unwrap().to_owned(), e.clone())).collect()
        };
        assert_eq!(by_id(&entities), by_id(&expected), "{conv_id}");
        assert!(page.version < 1_000, "renumbered: {}", page.version);
        let since = TimelineRange { since: page.version - 1, ..TimelineRange::newest(10) };
        let newest = store.timeline(conv_id, since).unwrap();
        assert_eq!(newest.entities.len(), 1, "{conv_id}");
    }
}

#[test]
fn turns_are_what_the_reference_said_block_by_block() {
    let (_folder, target, _) = imported();
    let store = SqliteChats::open(&target).unwrap();
    for (conv_id, expected) in said()["turns"].as_object().unwrap() {
        let filter = TurnFilter {
            conv_id: conv_id.clone(),
            phase: "final".into(),
            limit: 200,
            ..TurnFilter::default()
        };
        let found = store.turns(&filter).unwrap();
        let expected = expected.as_array().unwrap();
        assert_eq!(found.len(), expected.len(), "{conv_id}");
        for (snapshot, expected) in found.iter().zip(expected) {
            assert_eq!(snapshot.turn.turn_id, expected["turn_id"]);
            assert_eq!(snapshot.turn.session_id, expected["session_id"]);
            assert_eq!(snapshot.turn.attribution.runtime_key, expected["runtime_key"]);
            assert_eq!(snapshot.turn.attribution.profile, "", "unknown history stays empty");
            let payload = expected["payload"].as_str().unwrap();
            let payload: Value = serde_saphyr::from_str(payload).unwrap();
            let blocks: Vec<&str> = payload["blocks"]
                .as_array()
                .unwrap()
                .iter()
                .map(|b| b["id"].as_str().unwrap())
                .collect();
            let ours: Vec<&str> = snapshot.blocks.iter().map(|block| block.id.as_str()).collect();
            assert_eq!(ours, blocks, "{conv_id} {}", snapshot.turn.turn_id);
        }
    }
}

#[test]
fn the_next_prompt_has_the_history() {
    let (_folder, target, _) = imported();
    let store = SqliteChats::open(&target).unwrap();
    let loaded = store.load("c-1").unwrap().unwrap();
    let head = loaded.head.unwrap();
    let blocks = store.blocks(loaded.row, &head.layout).unwrap();
    let texts: Vec<&str> = blocks
        .iter()
        .filter(|block| block.kind == Kind::User)
        .map(|block| block.as_text())
        .collect();
    assert_eq!(texts, ["2+3?", "speak", "this one fails", "again"]);
    assert_eq!(loaded.record.session_id, head.session_id);
    assert!(store.unfinished().blocking_recv().unwrap().unwrap().is_empty());
}

#[test]
fn what_is_no_database_of_the_reference_is_refused_and_nothing_is_made_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (target, other) = (folder.path().join("chat.db"), folder.path().join("other"));
    std::fs::write(&other, "no database").unwrap();
    assert!(import(&target, Some(&other), None).is_err());
    assert!(import(&target, Some(&folder.path().join("missing")), None).is_err());
    std::fs::copy(sample("turns.db"), folder.path().join("turns.db")).unwrap();
    let swapped = import(&target, Some(&folder.path().join("turns.db")), None).unwrap_err();
    assert!(swapped.text.contains("not what this option takes"), "{}", swapped.text);
}
