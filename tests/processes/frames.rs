//! The run that `docs/frames.md` shows is what the program does: a prompt, a tool, an answer, over real sockets. What
//! differs between two runs (ids, times, durations, fingerprints) is named in order of appearance.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::provider::{delta, end, saying};
use crate::requests::start;
use crate::socket::Socket;

/// Members whose values are of this run alone.
const OF_THIS_RUN: [&str; 13] = [
    "id",
    "idempotency_key",
    "session_id",
    "turn_id",
    "inference_id",
    "turnId",
    "runtimeFingerprint",
    "runtime_fingerprint",
    "serverTime",
    "serverTimeMs",
    "createdAtMs",
    "updatedAtMs",
    "durationMs",
];

/// The length of an id of ours.
const UUID: usize = 36;

/// Gives each such value a name.
#[derive(Default)]
struct Names(BTreeMap<String, String>);

impl Names {
    fn of(&mut self, member: &str, value: &str) -> String {
        if let Some((_, turn)) = value.split_once("user-") {
            return format!("user-{}", self.of("turn_id", turn));
        }
        if member == "id" && !value.contains("ws.") && value.len() != UUID {
            return value.to_owned(); // the provider's, for a call of a tool
        }
        let what = match member {
            "id" if value.contains("ws.") => "hello",
            "id" => "message",
            "turn_id" | "turnId" => "turn",
            "session_id" => "session",
            "inference_id" => "inference",
            "idempotency_key" => "key",
            "runtimeFingerprint" | "runtime_fingerprint" => "fingerprint",
            _ => "time",
        };
        if what == "time" {
            return "<time>".into();
        }
        let next = 1 + self.0.values().filter(|name| name.starts_with(&format!("<{what}"))).count();
        self.0.entry(value.to_owned()).or_insert_with(|| format!("<{what} {next}>")).clone()
    }

    fn replace(&mut self, value: &mut Value) {
        match value {
            Value::Object(members) => {
                for (member, value) in members {
                    match value {
                        Value::String(text) if OF_THIS_RUN.contains(&member.as_str()) => {
                            *text = self.of(member, text);
                        }
                        value => self.replace(value),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.replace(item)),
            _ => {}
        }
    }
}

fn document() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/frames.md")
}

#[tokio::test]
async fn the_run_in_the_frames_document_is_what_the_program_does() {
    let call = json!([{"index": 0, "id": "call_1", "type": "function",
        "function": {"name": "calc", "arguments": r#"{"a": 2, "b": 3, "op": "add"}"#}}]);
    let asking = [
        delta("content", "Let me add."),
        json!({"data": {"choices": [{"index": 0, "delta": {"tool_calls": call}}]}}),
    ];
    let script = vec![asking.into_iter().chain(end("tool_calls")).collect(), saying(&["It is 5."])];
    let (server, _provider) = start(script, &[]).await;
    let profile =
        json!({"slug": "adder", "set_default": true, "runtime": {"tools": ["calculator"]}});
    assert_eq!(server.post("/api/chat/profiles", &profile).await.status, 201);

    let mut socket = Socket::open(&server, "conv_id=sums&deltas=incremental").await;
    let accepted =
        server.post("/chat", &json!({"conv_id": "sums", "prompt": "What is 2 + 3?"})).await;
    socket.until("llm.final", 2).await;
    socket.next().await; // the stored form of the last message
    let timeline = server.get("/api/timeline?conv_id=sums").await;

    let mut names = Names::default();
    let mut run = String::from("POST /chat\n");
    for (title, values) in [
        ("", vec![accepted.json()]),
        ("\nGET /ws?conv_id=sums&deltas=incremental\n", socket.seen.clone()),
        ("\nGET /api/timeline?conv_id=sums\n", {
            let mut snapshot = timeline.json();
            let entities = snapshot["entities"].take();
            snapshot.as_object_mut().unwrap().remove("entities");
            std::iter::once(snapshot).chain(entities.as_array().unwrap().clone()).collect()
        }),
    ] {
        run.push_str(title);
        for mut value in values {
            names.replace(&mut value);
            writeln!(run, "{value}").unwrap();
        }
    }

    let text = std::fs::read_to_string(document()).unwrap();
    let (before, rest) = text.split_once("```run\n").unwrap();
    let (printed, after) = rest.split_once("```").unwrap();
    if std::env::var_os("COLLODI_BLESS").is_some() {
        std::fs::write(document(), format!("{before}```run\n{run}```{after}")).unwrap();
    } else {
        assert_eq!(printed, run, "run with COLLODI_BLESS=1 to write it");
    }
}
