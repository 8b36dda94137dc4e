//! `collodi import` and `collodi timeline` as an operator types them.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

fn collodi(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_collodi")).args(arguments).output().unwrap()
}

fn rows(arguments: &[&str]) -> Value {
    let output = collodi(&[arguments, &["--output", "json"]].concat());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {error}"))
}

#[test]
fn c30_d51_imported_conversations_can_be_looked_into() {
    let folder = tempfile::tempdir().unwrap();
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/tests/samples");
    for name in ["timeline.db", "turns.db"] {
        std::fs::copy(samples.join(name), folder.path().join(name)).unwrap();
    }
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (timeline, turns, data) = (path("timeline.db"), path("turns.db"), path("data"));
    let import = ["import", "--timeline-db", &timeline, "--turns-db", &turns, "--data-dir", &data];
    let imported = rows(&import);
    assert_eq!((&imported[0]["turns"], &imported[0]["skipped"]), (&json!(16), &json!(0)));
    assert_eq!(rows(&import)[0]["skipped"], 2);

    let ask = |command: &[&str]| rows(&[&["timeline"], command, &["--data-dir", &data]].concat());
    let listed = ask(&["list", "--conv-id-prefix", "c-"]);
    assert_eq!((&listed[0]["conv_id"], &listed[1]["entity_count"]), (&json!("c-1"), &json!(24)));
    assert_eq!(ask(&["list", "--conv-id-prefix", "%"]), json!([]), "D51: % means itself");
    assert_eq!(ask(&["stats"])[0]["version"], 11, "D51");
    assert_eq!(ask(&["verify", "--check-json"]), json!([{"issues": 0, "status": "ok"}]));
    let tools = ask(&["entities", "--conv-id", "c-1", "--kind", "tool_call"]);
    assert_eq!(tools[0]["summary"], "tool_call calc (completed)");
    let newest = ask(&["entities", "--conv-id", "c-1", "--order=-version", "--limit", "1"]);
    assert_eq!(newest[0]["summary"], "assistant: after the failure");
    let whole = ask(&["snapshot", "--conv-id", "c-2", "--include-entities"]);
    assert_eq!(whole[0]["entities"].as_array().unwrap().len(), 24);
}

#[test]
fn c30_d51_a_damaged_timeline_is_said_and_the_exit_code_is_1() {
    let folder = tempfile::tempdir().unwrap();
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/tests/samples");
    let timeline = folder.path().join("timeline.db");
    std::fs::copy(samples.join("timeline.db"), &timeline).unwrap();
    let (timeline, data) = (timeline.display().to_string(), folder.path().join("data"));
    let data = data.display().to_string();
    rows(&["import", "--timeline-db", &timeline, "--data-dir", &data]);
    let chat = rusqlite::Connection::open(Path::new(&data).join("chat.db")).unwrap();
    chat.execute_batch(
        "UPDATE entities SET updated_at_ms = 1 WHERE entity_id = 'call_1';
         UPDATE conversations SET seq = 1 WHERE conv_id = 'c-2';",
    )
    .unwrap();
    drop(chat);
    let output = collodi(&["timeline", "verify", "--data-dir", &data, "--output", "csv"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("updated_before_created") && text.contains("version_mismatch"), "{text}");
    let missing = collodi(&["timeline", "list"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("timeline store not configured"));
}
