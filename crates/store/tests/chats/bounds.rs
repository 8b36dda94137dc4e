//! What is bounded, deleted, listed.

use std::path::Path;

use collodi_chat::run::Phase;
use collodi_chat::store::{
    ChatStore, ConversationFilter, ListPlace, Row, TurnFilter, TurnState, Write,
};
use collodi_chat::turn::Layout;
use collodi_store::SqliteChats;
use rusqlite::Connection;
use serde_json::json;

use super::{
    Database, block, conversation, conversation_at, message, more, request, snapshot, turn,
};

#[test]
fn keys_are_found_forgotten_and_bounded() {
    let mut db = Database::new();
    let row = db.store().new_row();
    db.write(row, vec![conversation("c"), request("k", 1), request("gone", 1)]).unwrap();
    db.write(row, vec![Write::ForgetRequest("gone".into())]).unwrap();
    db.reopen();
    assert_eq!(db.store().request(row, "k").unwrap().unwrap().status, "started");
    assert_eq!(db.store().request(row, "gone").unwrap(), None);
    assert_eq!(db.store().request(row + 1, "k").unwrap(), None);
    let many = (0..1_000).map(|n| request(&format!("k{n}"), 10 + n)).collect();
    db.write(row, many).unwrap();
    assert_eq!(db.store().request(row, "k").unwrap(), None, "the newest 1,000 are kept");
    assert!(db.store().request(row, "k0").unwrap().is_some());
    let day = 24 * 60 * 60 * 1_000;
    db.write(row, vec![request("late", day + 500)]).unwrap();
    assert_eq!(db.store().request(row, "k0").unwrap(), None, "for a day");
    assert!(db.store().request(row, "k999").unwrap().is_some());
}

#[test]
fn a_deletion_takes_everything_of_one_conversation_and_nothing_of_another() {
    let mut db = Database::new();
    let rows = ["one", "two"].map(|conv_id| {
        let row = db.store().new_row();
        let layout = Layout(vec![(1, 1)]);
        let record = turn(1, "t", TurnState::Completed, layout.clone());
        let batch = vec![
            conversation(conv_id),
            block(1, conv_id),
            Write::Turn(Box::new(record)),
            snapshot(1, Phase::Final, layout, &json!({"x": 1})),
            message("m", 1, 1, conv_id, true),
            more("m", 2, "!"),
            request("k", 1),
        ];
        db.write(row, batch).unwrap();
        row
    });
    db.write(rows[0], vec![Write::Delete]).unwrap();
    db.reopen();
    assert!(db.store().load("one").unwrap().is_none());
    let connection = Connection::open(db.path()).unwrap();
    for table in ["turns", "blocks", "snapshots", "entities", "entity_texts", "requests"] {
        let sql = format!("SELECT count(*), min(conversation) FROM {table}");
        let left: (u32, Row) =
            connection.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(left, (1, rows[1]), "{table}");
    }
    assert_eq!(db.content("two", "m").unwrap(), "two!");
    let filter = TurnFilter { limit: 10, ..TurnFilter::default() };
    let turns = db.store().turns(&filter).unwrap();
    assert_eq!(turns.len(), 1);
    assert_eq!((turns[0].conv_id.as_str(), turns[0].blocks[0].as_text()), ("two", "two"));
}

#[test]
fn c30_d36_each_snapshot_has_its_own_data_also_where_it_repeats() {
    let db = Database::new();
    let row = db.store().new_row();
    let layout = Layout(vec![(1, 1)]);
    let record = turn(1, "t", TurnState::Completed, layout.clone());
    let mut batch = vec![conversation("c"), block(1, "x"), Write::Turn(Box::new(record))];
    for (phase, data) in [
        (Phase::PreInference, 1),
        (Phase::PostInference, 1),
        (Phase::PostTools, 2),
        (Phase::Final, 1),
    ] {
        batch.push(snapshot(1, phase, layout.clone(), &json!({ "n": data })));
    }
    db.write(row, batch).unwrap();
    let of = |phase: &str| TurnFilter {
        conv_id: "c".into(),
        phase: phase.into(),
        limit: 10,
        ..TurnFilter::default()
    };
    let all: Vec<u64> =
        db.store().turns(&of("")).unwrap().iter().map(|s| s.data["n"].as_u64().unwrap()).collect();
    assert_eq!(all, [1, 2, 1, 1], "newest first, also within a millisecond");
    assert_eq!(db.store().turns(&of("post_inference")).unwrap()[0].data["n"], 1);
    assert_eq!(db.store().turns(&TurnFilter { limit: 1, ..of("") }).unwrap()[0].phase, "final");
}

#[test]
fn conversations_are_listed_by_activity_and_by_text() {
    let db = Database::new();
    for (conv_id, at_ms) in [("b", 5), ("a", 5), ("Late%", 9)] {
        db.write(db.store().new_row(), vec![conversation_at(conv_id, at_ms)]).unwrap();
    }
    let list = |text: &str, (conv_id, last_activity_ms): (&str, i64), limit| {
        let after = ListPlace { conv_id: conv_id.into(), last_activity_ms };
        let filter = ConversationFilter { text: text.into(), after, limit };
        let found = db.store().conversations(&filter).unwrap();
        found.into_iter().map(|record| record.conv_id).collect::<Vec<_>>()
    };
    assert_eq!(list("", ("", 0), 10), ["Late%", "a", "b"]);
    assert_eq!(list("", ("a", 5), 10), ["b"]);
    assert_eq!(list("", ("Late%", 9), 1), ["a"]);
    assert_eq!(list("", ("gone", 7), 10), ["a", "b"], "a place stays a place");
    assert_eq!(list("late", ("", 0), 10), ["Late%"]);
    assert_eq!(list("%", ("", 0), 10), ["Late%"], "no wildcard");
}

#[test]
fn c30_d50_a_path_is_a_path_whatever_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a b?mode=memory.db", ":memory:", "x%20y#.db", "\u{fc}.db"] {
        let path = folder.path().join(name);
        let write = |path: &Path| {
            let store = SqliteChats::open(path).unwrap();
            store.write(store.new_row(), vec![conversation("c")]).blocking_recv().unwrap()
        };
        write(&path).unwrap();
        assert!(path.is_file(), "{name}");
        assert!(SqliteChats::open(&path).unwrap().load("c").unwrap().is_some(), "{name}");
    }
}

#[test]
fn c30_d54_a_database_of_another_kind_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat.db");
    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE turns (id TEXT NOT NULL, phase TEXT NOT NULL)").unwrap();
    drop(other);
    let before = std::fs::read(&path).unwrap();
    assert!(SqliteChats::open(&path).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

/// The reference added columns to whatever was there, and every later write failed silently.
#[test]
fn c30_d54_a_schema_that_another_program_made_is_refused_and_left_as_it_is() {
    for change in [
        "PRAGMA user_version = 99",
        "UPDATE migrations SET sha256 = 'another'",
        "DELETE FROM migrations",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.db");
        drop(SqliteChats::open(&path).unwrap());
        let other = Connection::open(&path).unwrap();
        other.execute_batch(change).unwrap();
        drop(other);
        let before = std::fs::read(&path).unwrap();
        let Err(refused) = SqliteChats::open(&path) else { panic!("{change}: it opened") };
        let path_named = refused.to_string().contains(&*path.to_string_lossy());
        assert!(path_named, "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), before, "{change}");
    }
}

#[test]
fn f10_a_database_of_the_first_schema_is_kept_aside_and_brought_up_to_date() {
    let mut db = Database::new();
    let row = db.store().new_row();
    let turn = Write::Turn(Box::new(turn(1, "t", TurnState::Completed, Layout::default())));
    let snapshot = snapshot(1, Phase::Final, Layout::default(), &json!({}));
    db.write(row, vec![conversation("c"), turn, snapshot]).unwrap();
    db.store = None;
    let connection = Connection::open(db.path()).unwrap();
    let first = "ALTER TABLE snapshots DROP COLUMN metadata; DELETE FROM migrations WHERE version = 2; \
        UPDATE turns SET metadata = '{\"model\":\"m\"}'; PRAGMA user_version = 1";
    connection.execute_batch(first).unwrap();
    drop(connection);
    db.reopen();
    let filter = TurnFilter { conv_id: "c".into(), limit: 10, ..TurnFilter::default() };
    let turns = db.store().turns(&filter).unwrap();
    assert_eq!(json!(turns[0].metadata), json!({"model": "m"}));
    let kept = db.folder.path().join("chat.db.before-v1-1");
    let kept = Connection::open(kept).unwrap();
    let version = kept.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0));
    assert_eq!(version.unwrap(), 1);
}
