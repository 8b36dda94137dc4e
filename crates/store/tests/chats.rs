//! The port of conversations on a real file: what is handed in is there in order, as a whole, or not at all.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use collodi_chat::run::Phase;
use collodi_chat::store::{
    ChatStore, ConversationRecord, RequestRecord, Row, TimelinePage, TimelineRange, TurnRecord,
    TurnState, Write,
};
use collodi_chat::timeline::{Entity, message_props, tool_call_props};
use collodi_chat::turn::{Block, Kind, Layout};
use collodi_profiles::json::Object;
use collodi_profiles::store::StoreError;
use collodi_store::SqliteChats;
use rusqlite::Connection;
use serde_json::{Value, json};

#[path = "chats/bounds.rs"]
mod bounds;

struct Database {
    folder: tempfile::TempDir,
    store: Option<SqliteChats>,
}

impl Database {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Some(SqliteChats::open(&folder.path().join("chat.db")).unwrap());
        Self { folder, store }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("chat.db")
    }

    fn store(&self) -> &SqliteChats {
        self.store.as_ref().unwrap()
    }

    /// What is there if the process dies now.
    fn if_it_died(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
        let store = Some(SqliteChats::open(&folder.path().join("chat.db")).unwrap());
        Self { folder, store }
    }

    fn reopen(&mut self) {
        self.store = None;
        self.store = Some(SqliteChats::open(&self.path()).unwrap());
    }

    fn write(&self, row: Row, batch: Vec<Write>) -> Result<(), StoreError> {
        self.store().write(row, batch).blocking_recv().unwrap()
    }

    fn page(&self, conv_id: &str, since: u64, limit: usize) -> (u64, Vec<String>) {
        let range = TimelineRange { since, before: None, limit };
        let page = self.store().timeline(conv_id, range).unwrap();
        if let Some(recent) = self.store().recent_timeline(conv_id, range) {
            assert_eq!(recent, page);
        }
        let TimelinePage { version, entities, .. } = page;
        let ids = entities.iter().map(|text| parsed(text)["id"].as_str().unwrap().to_owned());
        (version, ids.collect())
    }

    fn content(&self, conv_id: &str, id: &str) -> Option<String> {
        let page = self.store().timeline(conv_id, TimelineRange::newest(1_000)).unwrap();
        let found = page.entities.iter().map(|text| parsed(text)).find(|e| e["id"] == id)?;
        Some(found["props"]["content"].as_str().unwrap().to_owned())
    }
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn conversation(conv_id: &str) -> Write {
    conversation_at(conv_id, 1)
}

fn conversation_at(conv_id: &str, last_activity_ms: i64) -> Write {
    Write::Conversation(Box::new(ConversationRecord {
        conv_id: conv_id.into(),
        session_id: format!("session of {conv_id}"),
        last_activity_ms,
        ..ConversationRecord::default()
    }))
}

fn message(id: &str, version: u64, place: u64, text: &str, streaming: bool) -> Write {
    let props = message_props("assistant", text, streaming, &Object::new());
    entity("message", id, version, place, props)
}

fn entity(kind: &str, id: &str, version: u64, place: u64, props: Value) -> Write {
    Write::Entity(Arc::new(Entity {
        id: id.into(),
        kind: kind.into(),
        created_at_ms: 1,
        updated_at_ms: 1,
        props,
        version,
        place,
    }))
}

fn more(id: &str, version: u64, text: &str) -> Write {
    Write::EntityText { id: id.into(), version, updated_at_ms: 5, text: text.into() }
}

fn block(place: u64, text: &str) -> Write {
    let block = Block::text(format!("b{place}"), Kind::User, text);
    block.place.set(place).unwrap();
    Write::Block(Arc::new(block))
}

fn turn(ordinal: u64, turn_id: &str, state: TurnState, layout: Layout) -> TurnRecord {
    TurnRecord {
        ordinal,
        turn_id: turn_id.into(),
        inference_id: format!("i-{turn_id}"),
        session_id: "s".into(),
        state,
        attribution: collodi_chat::store::Attribution::default(),
        superseded: false,
        base: Layout::default(),
        layout,
        data: Object::new(),
        metadata: Object::new(),
        started_at_ms: 1,
        ended_at_ms: 0,
    }
}

fn snapshot(ordinal: u64, phase: Phase, layout: Layout, data: &Value) -> Write {
    let data = data.as_object().unwrap().clone();
    Write::Snapshot { ordinal, phase, at_ms: 1, layout, data, metadata: Object::new() }
}

fn request(key: &str, at_ms: i64) -> Write {
    Write::Request(Box::new(RequestRecord {
        key: key.into(),
        prompt_sha256: "x".into(),
        status: "started".into(),
        turn_id: "t".into(),
        inference_id: String::new(),
        error: String::new(),
        runtime: Object::new(),
        at_ms,
    }))
}

#[test]
fn a_server_that_dies_while_it_stops_opens_again() {
    let database = Database::new();
    let row = database.store().new_row();
    database.write(row, vec![conversation("a")]).unwrap();
    database.store().close();
    assert!(database.if_it_died().store().load("a").unwrap().is_some());
}

#[test]
fn a_batch_is_applied_as_a_whole_and_batches_in_order() {
    let db = Database::new();
    let row = db.store().new_row();
    db.write(row, vec![conversation("c"), message("m", 1, 1, "0", false)]).unwrap();
    let receipts: Vec<_> = (2..500)
        .map(|n| {
            db.store().write(row, vec![message("m", n, 1, &n.to_string(), false), block(n, "x")])
        })
        .collect();
    for receipt in receipts {
        receipt.blocking_recv().unwrap().unwrap();
    }
    assert_eq!(db.content("c", "m").unwrap(), "499");
    db.store().settled().blocking_recv().unwrap().unwrap();
    assert_eq!(db.store().backlog(), 0);
    // The last write of the batch breaks: place 1 belongs to another entity.
    let broken = vec![block(900, "y"), message("n", 600, 1, "x", false)];
    assert!(db.write(row, broken).is_err());
    assert_eq!(db.page("c", 0, 10), (499, vec!["m".to_owned()]));
    assert_eq!(db.store().load("c").unwrap().unwrap().next_place, 500);
}

#[test]
fn a_batch_that_failed_comes_before_the_next_one_and_stops_no_other_conversation() {
    let db = Database::new();
    let (one, two) = (db.store().new_row(), db.store().new_row());
    // Without its conversation a message has nothing to stand on.
    assert!(db.write(one, vec![message("m", 1, 1, "first", true)]).is_err());
    db.write(two, vec![conversation("two"), message("m", 1, 1, "2", false)]).unwrap();
    assert!(db.write(one, vec![more("m", 2, " second")]).is_err());
    let other = Connection::open(db.path()).unwrap();
    let sql = "INSERT INTO conversations VALUES (?1, 'one', 's', '', '', '', '', 1, 1, 1)";
    other.execute(sql, [one]).unwrap();
    db.write(one, vec![more("m", 3, " third")]).unwrap();
    assert_eq!(db.content("one", "m").unwrap(), "first second third");
}

#[test]
fn c30_d22_a_full_page_keeps_the_newest_and_a_page_since_a_version_the_oldest() {
    let db = Database::new();
    let row = db.store().new_row();
    let mut batch = vec![conversation("c")];
    batch.extend((1..=10).map(|n| message(&format!("m{n}"), n, n, "x", false)));
    batch.push(message("m2", 11, 2, "changed", false));
    db.write(row, batch).unwrap();
    let ids = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(db.page("c", 0, 3), (11, ids(&["m8", "m9", "m10"])));
    assert_eq!(db.page("c", 7, 2), (9, ids(&["m8", "m9"])));
    assert_eq!(db.page("c", 9, 2), (11, ids(&["m2", "m10"])), "in their order, whatever changed");
    assert_eq!(db.page("c", 11, 2), (11, vec![]));
    assert_eq!(db.page("c", 12, 2), (11, ids(&["m9", "m10"])), "from another life");
    assert_eq!(db.page("nobody", 0, 2), (0, vec![]));
    // Every older page is found, and the first says that nothing is before it.
    let (mut older, mut seen) = (None, Vec::new());
    loop {
        let range = TimelineRange { before: older, ..TimelineRange::newest(3) };
        let page = db.store().timeline("c", range).unwrap();
        let ids = page.entities.iter().map(|text| parsed(text)["id"].as_str().unwrap().to_owned());
        seen.splice(0..0, ids);
        older = page.older;
        if older.is_none() {
            break;
        }
    }
    assert_eq!(seen, (1..=10).map(|n| format!("m{n}")).collect::<Vec<_>>());
}

#[test]
fn a_little_that_changed_is_read_at_once_and_anything_else_the_long_way() {
    let db = Database::new();
    let row = db.store().new_row();
    let mut batch = vec![conversation("c")];
    batch.extend((1..=200).map(|n| message(&format!("m{n}"), n, n, "x", false)));
    db.write(row, batch).unwrap();
    let recent = |since, limit| {
        let range = TimelineRange { since, before: None, limit };
        db.store().recent_timeline("c", range).map(|page| (page.version, page.entities.len()))
    };
    assert_eq!(recent(190, 100), None, "there is no connection yet");
    assert_eq!(db.page("c", 190, 100).1.len(), 10);
    assert_eq!(recent(190, 100), Some((200, 10)));
    assert_eq!(recent(200, 100), Some((200, 0)));
    for (since, limit, why) in [
        (190, 5, "a page of more"),
        (100, 1_000, "many"),
        (0, 10, "all"),
        (201, 10, "another life"),
    ] {
        assert_eq!(recent(since, limit), None, "{why}");
    }
    let large = "x".repeat(70_000);
    db.write(row, vec![message("large", 201, 201, &large, false)]).unwrap();
    assert_eq!(recent(200, 100), None, "many bytes");
    assert_eq!(recent(201, 100), Some((201, 0)));
    db.write(row, vec![message("grows", 202, 202, "a", true), more("grows", 203, "b")]).unwrap();
    assert_eq!(recent(201, 100), None, "it grows");
    assert_eq!(db.page("c", 201, 100), (203, vec!["grows".to_owned()]));
}

#[test]
fn c30_d21_a_number_of_the_conversation_never_goes_back() {
    let mut db = Database::new();
    let row = db.store().new_row();
    let with = |seq| {
        let record =
            ConversationRecord { conv_id: "c".into(), seq, ..ConversationRecord::default() };
        vec![Write::Conversation(Box::new(record))]
    };
    db.write(row, with(50)).unwrap();
    db.write(row, with(20)).unwrap();
    db.reopen();
    assert_eq!(db.store().load("c").unwrap().unwrap().record.seq, 50);
}

#[test]
fn c30_d23_entities_stand_in_the_order_in_which_they_were_first_seen() {
    let db = Database::new();
    let row = db.store().new_row();
    let batch = vec![
        conversation("c"),
        message("z-user", 2, 2, "question", false),
        message("a-answer", 4, 4, "an", true),
        entity("log", "b-log", 6, 6, json!({"level": "info"})),
        message("a-answer", 8, 4, "answer", false),
    ];
    db.write(row, batch).unwrap();
    assert_eq!(
        db.page("c", 0, 10),
        (8, ["z-user", "a-answer", "b-log"].map(String::from).to_vec())
    );
}

#[test]
fn text_that_grows_is_appended_and_the_whole_replaces_it() {
    let mut db = Database::new();
    let row = db.store().new_row();
    db.write(row, vec![conversation("c"), message("m", 2, 2, "Hel", true)]).unwrap();
    db.write(row, vec![more("m", 5, "lo")]).unwrap();
    db.write(row, vec![more("m", 10, " there"), more("m", 11, "!")]).unwrap();
    assert_eq!(db.content("c", "m").unwrap(), "Hello there!");
    assert_eq!(db.page("c", 10, 5), (11, vec!["m".to_owned()]));
    db.reopen();
    assert_eq!(db.content("c", "m").unwrap(), "Hello there!");
    db.write(row, vec![message("m", 12, 2, "Hello there, all", false)]).unwrap();
    assert_eq!(db.content("c", "m").unwrap(), "Hello there, all");
    let left: u32 = Connection::open(db.path())
        .unwrap()
        .query_row("SELECT count(*) FROM entity_texts", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 0);
}

#[test]
fn what_runs_is_found_with_its_blocks_and_what_still_grows_in_it() {
    let mut db = Database::new();
    let (row, calm) = (db.store().new_row(), db.store().new_row());
    let done = turn(1, "t1", TurnState::Completed, Layout(vec![(1, 1)]));
    let mut batch =
        vec![conversation("c"), block(1, "before"), Write::Turn(Box::new(done.clone()))];
    // Something of an earlier turn that was left open is none of this turn's business.
    batch.push(message("old", 1, 1, "old", true));
    batch.push(message("user-t2", 2, 2, "prompt", false));
    batch.extend([block(2, "prompt"), message("m", 3, 3, "Hel", true), more("m", 4, "lo")]);
    batch.push(entity("tool_call", "call", 5, 5, tool_call_props("calc", &json!({}), None)));
    batch.push(entity(
        "tool_call",
        "ended",
        6,
        6,
        tool_call_props("calc", &json!({}), Some(Ok(()))),
    ));
    let running = turn(2, "t2", TurnState::Running, Layout(vec![(1, 2)]));
    batch.push(Write::Turn(Box::new(running.clone())));
    db.write(row, batch).unwrap();
    db.write(calm, vec![conversation("calm"), Write::Turn(Box::new(done))]).unwrap();
    db.reopen();
    let found = db.store().unfinished().blocking_recv().unwrap().unwrap();
    assert_eq!(found.len(), 1);
    let found = &found[0];
    assert_eq!((found.row, &found.turn, found.next_place), (row, &running, 3));
    let texts: Vec<&str> = found.blocks.iter().map(|block| block.as_text()).collect();
    assert_eq!(texts, ["before", "prompt"]);
    let open: Vec<(&str, &str)> =
        found.streaming.iter().map(|(entity, text)| (entity.id.as_str(), text.as_str())).collect();
    assert_eq!(open, [("m", "Hello"), ("call", "")]);
    let closed = turn(2, "t2", TurnState::Interrupted, Layout(vec![(1, 2)]));
    db.write(row, vec![Write::Turn(Box::new(closed))]).unwrap();
    assert!(db.store().unfinished().blocking_recv().unwrap().unwrap().is_empty());
}
