//! What the status page starts: the program's own commands, through the server (`/api/ops`).

use serde_json::{Value, json};

use crate::command::collodi;
use crate::server::Server;

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn guarded(pace_ms: u64) -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens.txt");
    let line = |name: &str, role: &str, token: &str| {
        format!("{name}:{role}:{}\n", collodi_profiles::json::sha256_hex(token))
    };
    std::fs::write(
        &tokens,
        [line("o", "operator", "o-token"), line("e", "editor", "e-token")].concat(),
    )
    .unwrap();
    let server = Server::start(&[
        "--root",
        "/x",
        "--auth-tokens",
        tokens.to_str().unwrap(),
        "--demo-pace-ms",
        &pace_ms.to_string(),
    ]);
    (server, folder)
}

async fn asked(
    server: &Server,
    token: &str,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, String) {
    let url = format!("http://{}/x{path}", server.address);
    let request = client().request(method.parse().unwrap(), url).bearer_auth(token);
    let request = request.header("content-type", "application/json").body(body.to_owned());
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn the_checks_run_from_the_page_under_the_token_of_whoever_asks() {
    let (server, _folder) = guarded(1);
    let (status, text) = asked(&server, "o-token", "POST", "/api/ops/check", "").await;
    assert_eq!(status, 200, "{text}");
    let told = lines(&text);
    let (verdict, findings) = told.split_last().unwrap();
    assert_eq!(
        (&verdict["verdict"], &verdict["failed_lines"]),
        (&json!("go"), &json!([])),
        "{text}"
    );
    let seen: Vec<u64> =
        findings.iter().filter_map(|f| f["line"].as_u64()).filter(|n| *n > 0).collect();
    assert_eq!((seen.first(), seen.last()), (Some(&6), Some(&16)));
    assert!(findings.iter().all(|finding| finding["verdict"] == "pass"), "{text}");
    let lock = json!({"policy": {"read_only": true}}).to_string();
    let path = "/api/chat/profiles/agent";
    assert_eq!(asked(&server, "o-token", "PATCH", path, &lock).await.0, 200);
    let attempt =
        json!({"prompt": "hi", "profile": {"runtime": {"system_prompt": "x"}}}).to_string();
    let try_it = format!("{path}/try");
    let (status, text) = asked(&server, "e-token", "POST", &try_it, &attempt).await;
    assert_eq!((status, text.contains("read-only")), (403, true), "{text}");
    assert_eq!(asked(&server, "o-token", "POST", &try_it, &attempt).await.0, 200);
    for (token, status) in [("e-token", 403), ("nobody", 401)] {
        assert_eq!(asked(&server, token, "POST", "/api/ops/check", "").await.0, status);
    }
    assert_eq!(asked(&server, "o-token", "GET", "/api/ops/check", "").await.0, 405);
    // The same findings as of the command line, one object a line.
    let target = format!("http://{}/x", server.address);
    let typed =
        collodi(&["ops", "check", "--target", &target, "--token", "o-token", "--output", "jsonl"]);
    let codes = |lines: &[Value]| lines.iter().map(|line| line["code"].clone()).collect::<Vec<_>>();
    assert_eq!(codes(&lines(&typed.out)), codes(&told));
}

#[tokio::test]
async fn snapshots_and_packets_are_taken_from_the_page() {
    let (server, folder) = guarded(1);
    assert_eq!(asked(&server, "o-token", "GET", "/api/ops/snapshots", "").await.1.trim(), "[]");
    let (status, text) = asked(&server, "o-token", "POST", "/api/ops/snapshots", "").await;
    assert_eq!(status, 201, "{text}");
    let (_, listed) = asked(&server, "o-token", "GET", "/api/ops/snapshots", "").await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let name = listed[0]["name"].as_str().unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    let kept = server.folder.path().join("data/snapshots").join(name);
    let verified = collodi(&["ops", "verify", "--from", kept.to_str().unwrap()]);
    assert_eq!(verified.code, Some(0), "{verified:?}");

    let body = json!({"profile": "agent"}).to_string();
    let path = "/x/api/ops/packet";
    let client = client();
    let asked_for = |body: String| {
        let request = client.post(format!("http://{}{path}", server.address));
        request.bearer_auth("o-token").header("content-type", "application/json").body(body).send()
    };
    let answer = asked_for(body).await.unwrap();
    assert_eq!(answer.status(), 200);
    let name = answer.headers()["content-disposition"].to_str().unwrap().to_owned();
    assert_eq!(name, "attachment; filename=\"collodi-packet-agent.tar.gz\"");
    let archive = folder.path().join("packet.tar.gz");
    std::fs::write(&archive, answer.bytes().await.unwrap()).unwrap();
    let files = crate::packet::unpack(&archive);
    assert!(files["profile/document.json"].contains("\"agent\""));
    assert!(files["config.json"].contains("auth-tokens"));
    for (body, status) in [("{}", 400), ("{\"profile\": \"--to\"}", 400)] {
        assert_eq!(asked_for(body.into()).await.unwrap().status(), status, "{body}");
    }
}

#[tokio::test]
async fn one_command_runs_at_a_time_and_ends_also_when_nobody_listens() {
    let (server, _folder) = guarded(1);
    let client = client();
    let url = format!("http://{}/x/api/ops/check", server.address);
    let ask = || client.post(&url).bearer_auth("o-token").send();
    let first = ask().await.unwrap();
    assert_eq!(first.status(), 200);
    let second = ask().await.unwrap();
    assert_eq!(
        (second.status().as_u16(), second.text().await.unwrap().trim()),
        (409, "another command of an operator is running")
    );
    drop(first);
    let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
    loop {
        let again = ask().await.unwrap();
        if again.status() == 200 {
            assert!(again.text().await.unwrap().contains("\"verdict\":\"go\""));
            break;
        }
        assert!(std::time::Instant::now() < deadline, "the first one does not end");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let (_, list) = asked(&server, "o-token", "GET", "/api/chat/profiles", "").await;
    assert!(!list.contains("ops-check"), "what it made is gone: {list}");
}

#[tokio::test]
async fn a_server_that_stops_first_lets_its_checks_take_away_what_they_made() {
    // At that pace the prompts of the checks take seconds.
    let (mut server, folder) = guarded(200);
    let url = format!("http://{}/x/api/ops/check", server.address);
    let mut answer = client().post(&url).bearer_auth("o-token").send().await.unwrap();
    let mut told = String::new();
    while !told.contains("write.profile") {
        told += std::str::from_utf8(&answer.chunk().await.unwrap().unwrap()).unwrap();
    }
    let (_, list) = asked(&server, "o-token", "GET", "/api/chat/profiles", "").await;
    assert!(list.contains("ops-check-"), "{list}");
    server.terminate();
    while let Ok(Some(chunk)) = answer.chunk().await {
        told += std::str::from_utf8(&chunk).unwrap();
    }
    assert!(told.contains("interrupted"), "{told}");
    assert_eq!(server.wait().await, Some(0));
    let data = folder.path().join("data");
    std::fs::rename(server.folder.path().join("data"), &data).unwrap();
    let left = collodi(&["profiles", "list", "--data-dir", data.to_str().unwrap()]);
    assert!(left.out.contains("agent") && !left.out.contains("ops-check"), "{left:?}");
}

#[tokio::test]
async fn a_registry_elsewhere_is_a_second_part_of_the_same_snapshot() {
    let elsewhere = tempfile::tempdir().unwrap();
    let database = elsewhere.path().join("p.db");
    let server = Server::start(&["--profile-registry-db", database.to_str().unwrap()]);
    let answer = server.request("POST", "/api/ops/snapshots", "", "").await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let made = answer.json();
    let names: Vec<&str> =
        made["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let [chats, registry] = names[..] else { panic!("{names:?}") };
    assert_eq!(registry, format!("{chats}-registry"));
    std::fs::rename(&database, elsewhere.path().join("away.db")).unwrap();
    let answer = server.request("POST", "/api/ops/snapshots", "", "").await;
    assert_eq!(answer.status, 500, "{}", answer.body);
    let (reason, taken) = answer.body.rsplit_once("; ").unwrap();
    assert!(taken.contains("was taken") && !reason.is_empty(), "{}", answer.body);
}

/// One that gives up.
fn client() -> reqwest::Client {
    reqwest::Client::builder().timeout(std::time::Duration::from_mins(1)).build().unwrap()
}
