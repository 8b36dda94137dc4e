//! Defects of chapter 30 about tools, steps and stored turns.

use serde_json::{Value, json};

use crate::provider::{Provider, delta, end, saying};
use crate::requests::{prompt, replayed, start};
use crate::server::Server;
use crate::socket::Socket;

pub(crate) fn call(id: &str, name: &str, arguments: &str) -> Value {
    let call = json!([{"index": 0, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}]);
    let call = json!({"data": {"choices": [{"index": 0, "delta": {"tool_calls": call}}]}});
    std::iter::once(call).chain(end("tool_calls")).collect()
}

/// A server whose profile `tools` lists `tools`.
pub(crate) async fn with_tools(script: Vec<Value>, tools: &Value) -> (Server, Provider) {
    let (server, provider) = start(script, &[]).await;
    let profile = json!({"slug": "tools", "set_default": true, "runtime": {"tools": tools}});
    let answer = server.post("/api/chat/profiles", &profile).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    (server, provider)
}

#[tokio::test]
async fn c30_d24_c30_d27_a_message_without_text_is_not_kept_and_numbers_keep_their_form() {
    let arguments = r#"{"a": 9007199254740993, "b": 2.0, "op": "add"}"#;
    let script = vec![call("call_1", "calc", arguments), saying(&["done"])];
    let (server, _provider) = with_tools(script, &json!(["calculator"])).await;
    let mut socket = Socket::open(&server, "conv_id=c").await;
    server.post("/chat", &prompt("p", "k")).await;
    socket.until("llm.final", 2).await;
    replayed(&server, &prompt("p", "k"), "completed").await;
    let entities = server.timeline_when("c", |_| true).await;
    let kinds: Vec<&str> = entities.iter().map(|e| e["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["message", "tool_call", "tool_result", "message"]);
    let input = &socket.of("tool.start")[0]["data"]["input"];
    assert_eq!(input.to_string(), r#"{"a":9007199254740993,"b":2.0,"op":"add"}"#);
    assert_eq!(entities[1]["props"]["input"], *input);
}

#[tokio::test]
async fn c30_d33_a_tool_that_is_not_there_has_a_start_a_result_and_an_end() {
    let script = vec![
        call("call_1", "no_such_tool", "{}"),
        call("call_2", "calc", "[1]"),
        saying(&["done"]),
    ];
    let (server, provider) = with_tools(script, &json!(["calculator"])).await;
    let mut socket = Socket::open(&server, "conv_id=c").await;
    server.post("/chat", &prompt("p", "k")).await;
    socket.until("llm.final", 3).await;
    for kind in ["tool.start", "tool.result", "tool.done"] {
        let ids: Vec<&Value> = socket.of(kind).iter().map(|event| &event["id"]).collect();
        assert_eq!(ids, ["call_1", "call_2"], "{kind}");
    }
    let entities = server.timeline_when("c", |_| true).await;
    for card in entities.iter().filter(|e| e["kind"] == "tool_call") {
        assert_eq!(
            (&card["props"]["status"], &card["props"]["done"]),
            (&json!("error"), &json!(true))
        );
        assert_ne!(card["props"]["error"], "");
    }
    assert_eq!(provider.received.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn c30_d34_inf_23_both_names_of_a_tool_work_and_an_empty_list_is_no_tool() {
    let absent = Value::Null;
    for (listed, overrides, offered) in [
        (absent.clone(), json!({}), 1),
        (json!(["calculator"]), json!({}), 1),
        (json!(["calc"]), json!({}), 1),
        (json!([]), json!({}), 0),
        (absent, json!({"tools": []}), 0),
        (json!([]), json!({"tools": ["calc"]}), 1),
    ] {
        let (server, provider) = start(vec![saying(&["x"])], &[]).await;
        let policy = json!({"allow_overrides": true});
        let profile = json!({"slug": "tools", "policy": policy, "set_default": true, "runtime": {"tools": listed}});
        let answer = server.post("/api/chat/profiles", &profile).await;
        assert_eq!(answer.status, 201, "{listed}: {}", answer.body);
        let mut body = prompt("p", "k");
        body["overrides"] = overrides;
        server.post("/chat", &body).await;
        replayed(&server, &body, "completed").await;
        let sent = provider.received.lock().unwrap()[0].body.clone();
        assert_eq!(sent["tools"].as_array().map_or(0, Vec::len), offered, "{listed} {body}");
    }
    let server = Server::start(&[]);
    let profile = json!({"slug": "odd", "runtime": {"tools": ["calc", "no_such_tool"]}});
    let refused = server.post("/api/chat/profiles", &profile).await;
    assert_eq!(refused.status, 400);
    assert!(refused.body.contains("unknown tool \"no_such_tool\""), "{}", refused.body);
}

#[tokio::test]
async fn inf_10_the_limit_of_calls_ends_a_run_with_an_error_that_is_seen_and_stored_and_go_on_works()
 {
    let mut script: Vec<Value> =
        (0..5).map(|n| call(&format!("call_{n}"), "calc", r#"{"a": 1, "b": 2}"#)).collect();
    script.push(saying(&["3"]));
    let (server, provider) = with_tools(script, &json!(["calculator"])).await;
    let mut socket = Socket::open(&server, "conv_id=c").await;
    server.post("/chat", &prompt("p", "k")).await;
    let replay = replayed(&server, &prompt("p", "k"), "error").await;
    assert_eq!(replay["error"], "max iterations (5) reached");
    socket.until("log", 1).await;
    let log = &socket.of("log")[0]["data"];
    assert_eq!((&log["level"], &log["message"]), (&json!("error"), &replay["error"]));
    let file = server.folder.path().join("data/chat.db");
    let stored = rusqlite::Connection::open(file).unwrap();
    let state = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
    let state = stored.query_row("SELECT state FROM turns", [], state).unwrap();
    assert_eq!(state, "failed");
    let ends = server.get("/api/debug/turns?conv_id=c&phase=final").await.json();
    assert_eq!(ends["items"].as_array().unwrap().len(), 1, "with all that was said");
    server.post("/chat", &prompt("go on", "k2")).await;
    replayed(&server, &prompt("go on", "k2"), "completed").await;
    let body = provider.received.lock().unwrap()[5].body.clone();
    let results =
        body["messages"].as_array().unwrap().iter().filter(|m| m["role"] == "tool").count();
    assert_eq!(results, 5);
}

#[tokio::test]
async fn c30_d38_stored_turns_are_written_with_snake_case_and_whole_numbers() {
    let server = Server::start(&["--debug-api"]);
    server.post("/chat", &prompt("p", "k")).await;
    let replay = replayed(&server, &prompt("p", "k"), "completed").await;
    let of = |key: &str| replay[key].as_str().unwrap().to_owned();
    let path = format!("/api/debug/turn/c/{}/{}", of("session_id"), of("turn_id"));
    let detail = server.get(&path).await.json();
    let phases: Vec<&Value> =
        detail["items"].as_array().unwrap().iter().map(|i| &i["phase"]).collect();
    assert_eq!(phases, ["final", "post_inference", "pre_inference"]);
    let item = &detail["items"][0];
    let config = &item["parsed"]["data"]["geppetto.tool_config@v1"];
    assert_eq!((&config["tool_choice"], &config["max_iterations"]), (&json!("auto"), &json!(5)));
    assert!(item["payload"].as_str().unwrap().contains("        max_iterations: 5\n"), "{item}");
}

#[tokio::test]
async fn c30_d40_c30_d41_c30_d25_step_mode_pauses_says_so_and_can_be_turned_off() {
    let off = Server::start(&[]);
    let refused =
        off.post("/chat", &json!({"prompt": "x", "overrides": {"step_mode": true}})).await;
    assert_eq!(
        (refused.status, refused.body.trim()),
        (400, "step mode is not available: the debug API is off")
    );

    let calc = |id: &str| call(id, "calc", r#"{"a": 1, "b": 2}"#);
    let script = [1, 2, 3].map(|n| [calc(&format!("call_{n}")), saying(&["3"])]).concat();
    let (server, _provider) = with_tools(script, &json!(["calculator"])).await;
    let mut socket = Socket::open(&server, "conv_id=c").await;
    let mut body = prompt("p", "k");
    body["overrides"] = json!({"step_mode": true});
    server.post("/chat", &body).await;
    for n in 1..=2 {
        socket.until("debugger.pause", n).await;
        let pause = socket.of("debugger.pause")[n - 1].clone();
        let shown = server.timeline_when("c", |e| e.iter().any(|e| e["id"] == pause["id"])).await;
        let entity = shown.iter().find(|e| e["id"] == pause["id"]).unwrap();
        assert_eq!(entity["kind"], "debugger_pause");
        assert_eq!(entity["props"]["pauseId"], pause["data"]["pauseId"]);
        let foreign = json!({"pause_id": pause["data"]["pauseId"], "conv_id": "other"});
        assert_eq!(server.post("/api/debug/continue", &foreign).await.status, 403);
        let go_on = server
            .post("/api/debug/continue", &json!({"pause_id": pause["data"]["pauseId"]}))
            .await;
        assert!(go_on.head.contains("content-type: application/json"), "{}", go_on.head);
        assert!(go_on.json()["pause"]["deadline_ms"].is_number(), "{}", go_on.body);
    }
    replayed(&server, &body, "completed").await;
    let mut body = prompt("p2", "k2");
    body["overrides"] = json!({"step_mode": false});
    server.post("/chat", &body).await;
    replayed(&server, &body, "completed").await;
    socket.until("llm.final", 4).await;
    assert_eq!(socket.of("debugger.pause").len(), 2);
}

/// Decision 28: what a prompt says of steps holds for that prompt.
#[tokio::test]
async fn c30_d41_step_mode_of_one_prompt_does_not_reach_the_next_one() {
    let calc = |id: &str| call(id, "calc", r#"{"a": 1, "b": 2}"#);
    let script = vec![calc("call_1"), saying(&["3"]), calc("call_2"), saying(&["3"])];
    let (server, _provider) = with_tools(script, &json!(["calculator"])).await;
    let mut socket = Socket::open(&server, "conv_id=c").await;
    let mut body = prompt("p", "k");
    body["overrides"] = json!({"step_mode": true});
    server.post("/chat", &body).await;
    for n in 1..=2 {
        socket.until("debugger.pause", n).await;
        let pause = json!({"pause_id": socket.of("debugger.pause")[n - 1]["data"]["pauseId"]});
        assert_eq!(server.post("/api/debug/continue", &pause).await.status, 200);
    }
    socket.until("llm.final", 2).await;
    server.post("/chat", &prompt("p2", "k2")).await;
    // A pause would come before the tool runs.
    socket.until("tool.done", 2).await;
    assert_eq!(socket.of("debugger.pause").len(), 2, "the second prompt said nothing of steps");
}

#[tokio::test]
async fn c30_d61_what_is_thought_stays_a_thought_also_when_it_is_cut() {
    let thinking = |text: &str| delta("reasoning_content", text);
    let script = json!([thinking("hm "), thinking("so"), delta("content", "Hal"), {"cut": true}]);
    let (server, provider) = start(vec![script, saying(&["ok"])], &[]).await;
    let mut socket = Socket::open(&server, "conv_id=c").await;
    server.post("/chat", &prompt("p", "k")).await;
    replayed(&server, &prompt("p", "k"), "error").await;
    let entities = server.timeline_when("c", |_| true).await;
    let said: Vec<(&Value, &Value)> = entities
        .iter()
        .filter(|e| e["kind"] == "message")
        .map(|e| (&e["props"]["role"], &e["props"]["content"]))
        .collect();
    assert_eq!(
        said[1..],
        [(&json!("thinking"), &json!("hm so")), (&json!("assistant"), &json!("Hal"))]
    );
    socket.until("log", 1).await;
    socket.check_stream(
        &entities.iter().filter(|e| e["kind"] == "message").cloned().collect::<Vec<_>>(),
    );
    server.post("/chat", &prompt("p2", "k2")).await;
    replayed(&server, &prompt("p2", "k2"), "completed").await;
    let told = crate::requests::told(&provider, 1);
    assert_eq!(told, crate::requests::said(&[("user", "p"), ("assistant", "Hal"), ("user", "p2")]));
}
