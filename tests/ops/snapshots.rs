//! Snapshots of a server under load, and restores (must-show line 3 of the operator's half; F7).

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::command::{bare, collodi, said};
use crate::server::Server;

/// Snapshots: the long form of the fault tests takes fifty.
fn count() -> usize {
    if std::env::var("COLLODI_FAULTS").is_ok_and(|form| form == "full") { 50 } else { 5 }
}

fn ops(arguments: &[&str]) -> Value {
    let said = collodi(&[&["ops"], arguments, &["--output", "json"]].concat());
    assert_eq!(said.code, Some(0), "{arguments:?}: {said:?}");
    said.json()
}

/// The log of changes, in order.
fn changes(folder: &Path) -> Vec<String> {
    let connection = Connection::open(folder.join("profiles.db")).unwrap();
    let sql = "SELECT id || ' ' || slug || ' ' || version || ' ' || hex(document_hash) FROM changes ORDER BY id";
    let mut statement = connection.prepare(sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// Conversations whose turn has ended.
fn ended(folder: &Path) -> Vec<String> {
    let connection = Connection::open(folder.join("chat.db")).unwrap();
    let sql = "SELECT c.conv_id FROM conversations c JOIN turns t ON t.conversation = c.id WHERE t.state = 'completed'";
    let mut statement = connection.prepare(sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn f7_snapshots_under_load_are_each_a_prefix_of_what_was_acknowledged() {
    let server = Server::start(&[]);
    let data = server.folder.path().join("data");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for n in 0..4 {
        let body = json!({"slug": format!("p{n}")});
        assert_eq!(runtime.block_on(server.post("/api/chat/profiles", &body)).status, 201);
    }
    let made = changes(&data).len();
    let (over, patches, chats) =
        (AtomicBool::new(false), Mutex::new(0_usize), Mutex::new(Vec::new()));
    let mut taken = Vec::new();
    std::thread::scope(|scope| {
        for n in 0..4 {
            let (server, runtime, over, patches) = (&server, &runtime, &over, &patches);
            scope.spawn(move || {
                for at in 0.. {
                    let body = json!({"display_name": format!("{n} {at}")}).to_string();
                    let path = format!("/api/chat/profiles/p{n}");
                    let head = "Content-Type: application/json\r\n";
                    let answer = runtime.block_on(server.request("PATCH", &path, head, &body));
                    assert_eq!(answer.status, 200, "{}", answer.body);
                    *patches.lock().unwrap() += 1;
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        let (server, runtime, over, chats) = (&server, &runtime, &over, &chats);
        scope.spawn(move || {
            for at in 0.. {
                let conv_id = format!("c{at}");
                let body =
                    json!({"conv_id": conv_id, "prompt": "hello", "idempotency_key": conv_id});
                while runtime.block_on(server.post("/chat", &body)).json()["status"] != "completed"
                {
                }
                chats.lock().unwrap().push(conv_id);
                if over.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        for n in 0..count() {
            let folder = server.folder.path().join(format!("snapshot-{n}"));
            let before = (*patches.lock().unwrap(), chats.lock().unwrap().clone());
            let data = data.to_str().unwrap();
            ops(&["snapshot", "--data-dir", data, "--to", folder.to_str().unwrap()]);
            taken.push((folder, before));
        }
        over.store(true, Ordering::Relaxed);
    });
    let all = changes(&data);
    for (folder, (patches, chats)) in taken {
        is_prefix(&folder, &all, made + patches, &chats);
    }
}

/// A snapshot, restored elsewhere, holds the beginning of the history, and in it all that was acknowledged before.
fn is_prefix(folder: &Path, all: &[String], acknowledged: usize, chats: &[String]) {
    let folder = folder.to_str().unwrap();
    ops(&["verify", "--from", folder]);
    let elsewhere = tempfile::tempdir().unwrap();
    ops(&["restore", "--data-dir", elsewhere.path().to_str().unwrap(), "--from", folder]);
    let restored = changes(elsewhere.path());
    assert_eq!(restored, all[..restored.len()], "a prefix");
    assert!(restored.len() >= acknowledged, "{} of {acknowledged}", restored.len());
    let ended = ended(elsewhere.path());
    assert!(chats.iter().all(|conv_id| ended.contains(conv_id)), "{chats:?} in {ended:?}");
}

#[test]
fn a_running_server_is_not_restored_and_a_stopped_one_serves_the_snapshot() {
    let mut server = Server::start(&[]);
    let data = server.folder.path().join("data");
    let folder = server.folder.path().join("snapshot");
    let (data, from) = (data.to_str().unwrap(), folder.to_str().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    ops(&["snapshot", "--data-dir", data, "--to", from]);
    let body = json!({"slug": "later"});
    assert_eq!(runtime.block_on(server.post("/api/chat/profiles", &body)).status, 201);
    let restore = ["ops", "restore", "--data-dir", data, "--from", from, "--output", "json"];
    let refused = collodi(&restore);
    assert_eq!(refused.code, Some(1));
    let finding = refused.json()["findings"][0].clone();
    assert_eq!((&finding["code"], &finding["line"]), (&json!("restore.stopped"), &json!(18)));
    assert!(finding["evidence"].as_str().unwrap().contains(&server.id().to_string()), "{finding}");
    server.terminate();
    runtime.block_on(server.wait());
    assert_eq!(collodi(&restore).code, Some(0));
    let slugs = |data: &str| {
        let listed = collodi(&["profiles", "export", "--data-dir", data]).out;
        ["later", "default"].map(|slug| listed.contains(&format!("slug: {slug}")))
    };
    assert_eq!(slugs(data), [false, true]);
    assert_eq!(collodi(&["ops", "undo-restore", "--data-dir", data]).code, Some(0));
    assert_eq!(slugs(data), [true, true]);
}

#[test]
fn a_registry_of_the_go_reference_is_taken_verified_and_restored_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/tests/samples/profiles.db");
    let file = folder.path().join("registry.db");
    std::fs::copy(&sample, &file).unwrap();
    let (file, to) = (file.to_str().unwrap(), folder.path().join("s"));
    let to = to.to_str().unwrap();
    let taken = ops(&["snapshot", "--profile-registry-db", file, "--to", to]);
    assert_eq!(taken["findings"][0]["line"], 3);
    ops(&["verify", "--from", to]);
    let payload = || -> String {
        let connection = Connection::open(file).unwrap();
        let sql = "SELECT group_concat(payload_json) FROM profile_registries";
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    let before = payload();
    Connection::open(file).unwrap().execute_batch("DELETE FROM profile_registries").unwrap();
    let restore = ["restore", "--profile-registry-db", file, "--from", to];
    ops(&restore);
    assert_eq!(payload(), before);
    // The way back from our server, which has adopted the file by then.
    let mut server = Server::start(&["--profile-registry-db", file]);
    server.terminate();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(server.wait());
    assert!(Connection::open(file).unwrap().prepare("SELECT * FROM changes").is_ok(), "adopted");
    ops(&restore);
    assert_eq!(payload(), before);
}

#[test]
fn wrong_command_lines_are_2() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none");
    let missing = missing.to_str().unwrap();
    for arguments in [
        &["snapshot", "--to", "x"][..],
        &["snapshot", "--data-dir", missing, "--to", "x"],
        &["verify"],
        &["restore", "--data-dir", missing, "--from", "x"],
    ] {
        let said = collodi(&[&["ops"], arguments].concat());
        assert_eq!(said.code, Some(2), "{arguments:?}: {said:?}");
    }
}

#[test]
fn chats_without_their_registry_are_a_snapshot_of_their_own() {
    let elsewhere = tempfile::tempdir().unwrap();
    let registry = elsewhere.path().join("registry.db");
    let server = Server::start(&["--profile-registry-db", registry.to_str().unwrap()]);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let prompt = json!({"conv_id": "c", "prompt": "hi"});
    assert_eq!(runtime.block_on(server.post("/chat", &prompt)).status, 200);
    let data = server.folder.path().join("data");
    let data = data.to_str().unwrap();
    for (flag, of, kept) in [
        ("--data-dir", data, "chats"),
        ("--profile-registry-db", registry.to_str().unwrap(), "profiles"),
    ] {
        let to = elsewhere.path().join(kept);
        let to = to.to_str().unwrap();
        ops(&["snapshot", flag, of, "--to", to]);
        ops(&["verify", "--from", to]);
        // And back, into a place of its own.
        let place = elsewhere.path().join(format!("{kept}-restored"));
        std::fs::create_dir(&place).unwrap();
        let file = place.join("registry.db");
        let back = if flag == "--data-dir" { &place } else { &file };
        ops(&["restore", flag, back.to_str().unwrap(), "--from", to]);
    }
    assert_eq!(
        Connection::open(elsewhere.path().join("chats-restored/chat.db"))
            .unwrap()
            .query_row("SELECT count(*) FROM conversations", [], |row| row.get::<_, i64>(0))
            .unwrap(),
        1
    );
}

#[test]
fn an_environment_that_is_no_text_stops_no_command() {
    use std::os::unix::ffi::OsStrExt as _;
    let mut command = bare();
    command.args(["ops", "verify", "--from", "/nowhere"]);
    let said = said(command.env("LATIN", std::ffi::OsStr::from_bytes(b"\xe9")));
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.contains("snapshot.verified"), "{said:?}");
}
