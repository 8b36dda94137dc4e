//! `collodi ops packet` (line 20), the log that it reads, and that no secret gets into either (F30).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::command::{Said, bare, said};
use crate::front;
use crate::server::Server;

// Secrets of every kind that pass through a server. None of them may be written down anywhere.
const PROVIDER: &str = "canary-provider-key-0001";
const TOKEN: &str = "canary-operator-token-0002";
const COOKIE: &str = "canary-cookie-0003";
const IN_PROFILE: &str = "canary-key-in-profile-0004";
const REFUSED: &str = "canary-refused-token-0005";
const PASSWORD: &str = "canary-address-password-0006";
const ENVIRONMENT: &str = "canary-key-of-environment-0007";
const CANARIES: [&str; 7] = [PROVIDER, TOKEN, COOKIE, IN_PROFILE, REFUSED, PASSWORD, ENVIRONMENT];

/// Files of an archive, by their names without its folder.
pub(crate) fn unpack(archive: &Path) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(folder.path()).status();
    assert!(status.unwrap().success());
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.path().to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder.path()).unwrap().components().skip(1);
            let name = name.collect::<PathBuf>().to_str().unwrap().to_owned();
            files.insert(name, std::fs::read_to_string(&path).unwrap());
        }
    }
    files
}

fn parsed(files: &BTreeMap<String, String>, name: &str) -> Value {
    serde_json::from_str(&files[name]).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn packet(target: &str, to: &Path, more: &[&str]) -> Said {
    let mut command = bare();
    command.args(["ops", "packet", "--target", target, "--profile", "p", "--output", "json"]);
    command.arg("--to").arg(to).args(more);
    command.env("COLLODI_TOKEN", TOKEN).env("OPENAI_API_KEY", ENVIRONMENT);
    said(&mut command)
}

/// A server with tokens, and a provider at an address where nobody answers.
fn guarded(folder: &Path) -> Server {
    let hash = collodi_profiles::json::sha256_hex(TOKEN);
    let tokens = folder.join("tokens.txt");
    std::fs::write(&tokens, format!("oona:operator:{hash}\n")).unwrap();
    let log = folder.join("server.log");
    Server::start(&[
        "--auth-tokens",
        tokens.to_str().unwrap(),
        "--log-file",
        log.to_str().unwrap(),
        "--log-format",
        "json",
        "--log-level",
        "trace",
        "--openai-api-key",
        PROVIDER,
        "--openai-base-url",
        "http://127.0.0.1:9/v1",
        "--ai-engine",
        "m",
    ])
}

/// An exchange with headers of our own; everything that was answered is kept.
struct Client<'a> {
    server: &'a Server,
    heard: String,
}

impl Client<'_> {
    async fn ask(
        &mut self,
        method: &str,
        path: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> (u16, String) {
        let mut head: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect::<Vec<_>>()
            .concat();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        head.push_str("content-type: application/json\r\n");
        let answer = self.server.request(method, path, &head, &body).await;
        self.heard.push_str(&answer.head);
        self.heard.push_str(&answer.body);
        (answer.status, answer.body)
    }
}

/// Sends every canary through the server, and a prompt whose provider does not answer; how its run ended.
async fn provoke(client: &mut Client<'_>, bearer: &str, cookie: &str) -> Value {
    let as_operator = [("authorization", bearer)];
    let settings = |field: &str, value: &str| {
        let section = json!({"openai-chat": {field: value}});
        json!({"slug": "k", "runtime": {"step_settings_patch": section}})
    };
    let address = format!("https://u:{PASSWORD}@h/v1");
    for (status, body) in [
        (201, json!({"slug": "p", "runtime": {"system_prompt": "Be brief."}})),
        (400, settings("openai-api-key", IN_PROFILE)),
        (400, settings("openai-base-url", &address)),
    ] {
        let (seen, text) = client.ask("POST", "/api/chat/profiles", &body, &as_operator).await;
        assert_eq!(seen, status, "{text}");
    }
    let refused = format!("Bearer {REFUSED}");
    let headers = [("authorization", refused.as_str())];
    assert_eq!(client.ask("GET", "/api/chat/profiles", &Value::Null, &headers).await.0, 401);
    let headers = [as_operator[0], ("cookie", cookie), ("x-request-id", "failing-1")];
    let prompt = json!({"prompt": "hello", "conv_id": "c"});
    assert_eq!(client.ask("POST", "/chat/p", &prompt, &headers).await.0, 200);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let logs = "/api/ops/logs?request_id=failing-1";
    let ended = loop {
        let (_, text) = client.ask("GET", logs, &Value::Null, &as_operator).await;
        let found: Vec<Value> = serde_json::from_str(&text).unwrap();
        if let Some(ended) = found.iter().find(|line| line["message"] == "run ended") {
            break ended.clone();
        }
        assert!(std::time::Instant::now() < deadline, "the run does not end: {text}");
        // Each look is lines of the log, too.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    for path in [
        "/api/timeline?conv_id=c",
        "/api/chat/audit",
        "/api/chat/bundle",
        "/metrics",
        "/api/ops/config",
        "/api/ops/logs?limit=10000",
    ] {
        assert_eq!(client.ask("GET", path, &Value::Null, &as_operator).await.0, 200, "{path}");
    }
    ended
}

/// The parts that line 20 names, and what each says.
fn holds_line_20(files: &BTreeMap<String, String>) {
    let expected = [
        "README.md",
        "check.json",
        "config.json",
        "exchange.json",
        "logs-of-profile.jsonl",
        "logs.jsonl",
        "metrics.txt",
        "profile/document.json",
        "profile/history.json",
        "profile/version-1.json",
        "ready.json",
        "release.json",
        "schemas/extensions.json",
        "schemas/middlewares.json",
    ];
    assert_eq!(files.keys().collect::<Vec<_>>(), expected);
    assert_eq!(parsed(files, "profile/document.json")["runtime"]["system_prompt"], "Be brief.");
    let exchange = parsed(files, "exchange.json");
    assert_eq!(exchange["response"]["status"], 400);
    let answer = exchange["response"]["answer"].as_str().unwrap();
    assert!(answer.contains("openai-api-key"), "{exchange}");
    assert_eq!(exchange["request"]["headers"], json!({"Authorization": "***", "Cookie": "***"}));
    let check = parsed(files, "check.json");
    assert_eq!(check["failed_lines"], json!([14, 15]), "the provider is away");
    let logged = lines(&files["logs.jsonl"]);
    let is = |line: &&Value| line["request_id"] == "failing-1" && line["message"] == "composed";
    let composed = logged.iter().find(is).unwrap();
    assert_eq!(
        (&composed["conv_id"], &composed["outcome"], &composed["status"]),
        (&json!("c"), &json!("started"), &json!(200))
    );
    assert!(lines(&files["logs-of-profile.jsonl"]).iter().all(|line| line["slug"] == "p"));
    let config = parsed(files, "config.json");
    let is = |item: &&Value| item["name"] == "openai-api-key";
    let key = config.as_array().unwrap().iter().find(is).unwrap();
    assert_eq!((&key["value"], &key["origin"]), (&json!("***"), &json!("flag")));
}

#[tokio::test]
async fn f30_no_secret_is_written_down_anywhere_and_the_packet_has_the_rest() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let server = guarded(folder.path());
    let (bearer, cookie) = (format!("Bearer {TOKEN}"), format!("chat_profile={COOKIE}"));
    let mut client = Client { server: &server, heard: String::new() };
    let ended = provoke(&mut client, &bearer, &cookie).await;
    assert_eq!(
        (&ended["slug"], &ended["version"], &ended["outcome"]),
        (&json!("p"), &json!(1), &json!("failed"))
    );
    assert!(ended["fingerprint"].as_str().unwrap().starts_with("sha256:"));

    let request = folder.path().join("failing.json");
    let failing = json!({
        "method": "POST", "path": "/api/chat/profiles",
        "headers": {"Authorization": bearer, "Cookie": cookie},
        "body": {"slug": "k", "note": format!("tried with {ENVIRONMENT}"), "runtime": {"step_settings_patch": {"openai-chat": {"openai-api-key": IN_PROFILE}}}},
    });
    std::fs::write(&request, failing.to_string()).unwrap();
    let to = folder.path().join("packets");
    std::fs::create_dir(&to).unwrap();
    let target = format!("http://{}", server.address);
    let said = packet(&target, &to, &["--request", request.to_str().unwrap()]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let archive = std::fs::read_dir(&to).unwrap().next().unwrap().unwrap().path();
    assert_eq!(std::fs::metadata(&archive).unwrap().permissions().mode() & 0o777, 0o600);
    let files = unpack(&archive);
    holds_line_20(&files);

    let mut written: Vec<(String, String)> = files.into_iter().collect();
    written.push(("answers".into(), client.heard));
    written.push(("report".into(), format!("{said:?}")));
    let log = std::fs::read_to_string(folder.path().join("server.log")).unwrap();
    written.push(("log".into(), log));
    for name in ["profiles.db", "profiles.db-wal", "chat.db", "chat.db-wal"] {
        let bytes = std::fs::read(server.folder.path().join("data").join(name)).unwrap();
        written.push((name.into(), String::from_utf8_lossy(&bytes).into_owned()));
    }
    for (name, text) in written {
        for canary in CANARIES {
            assert!(!text.contains(canary), "{canary} is in {name}");
        }
    }
}

#[tokio::test]
async fn a_packet_of_a_server_that_is_down_has_what_its_files_say() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("server.log");
    let server = Server::start(&["--log-file", log.to_str().unwrap()]);
    let profile = json!({"slug": "p", "runtime": {"system_prompt": "Be brief."}});
    let mut client = Client { server: &server, heard: String::new() };
    assert_eq!(client.ask("POST", "/api/chat/profiles", &profile, &[]).await.0, 201);
    let target = format!("http://{}", server.address);
    let mut server = server;
    server.terminate();
    assert_eq!(server.wait().await, Some(0));
    let data = server.folder.path().join("data");
    let archive = folder.path().join("down.tar.gz");
    let recorded = folder.path().join("failing.txt");
    std::fs::write(
        &recorded,
        format!("POST /chat\nAuthorization: Bearer {COOKIE}\n\n< 502 Bad Gateway\n"),
    )
    .unwrap();

    let blind = packet(&target, &archive, &["--request", recorded.to_str().unwrap()]);
    assert_eq!(blind.code, Some(1), "{blind:?}");
    assert_eq!(blind.json()["failed_lines"], json!([20]));
    let evidence = blind.json()["findings"][0]["evidence"].as_str().unwrap().to_owned();
    assert!(
        evidence.contains("give --data-dir DIR") && evidence.contains("give --log-file FILE"),
        "{evidence}"
    );
    let files = unpack(&archive);
    assert!(
        files["README.md"].contains("`logs.jsonl`: the server does not answer"),
        "{}",
        files["README.md"]
    );

    let again = packet(&target, &archive, &[]);
    assert_eq!((again.code, again.err.contains("is there already")), (Some(2), true));

    let archive = folder.path().join("files.tar.gz");
    let data = data.to_str().unwrap();
    let (request, log) = (recorded.to_str().unwrap(), log.to_str().unwrap());
    let complete =
        packet(&target, &archive, &["--request", request, "--data-dir", data, "--log-file", log]);
    assert_eq!(complete.code, Some(0), "{complete:?}");
    let files = unpack(&archive);
    assert_eq!(parsed(&files, "profile/document.json")["runtime"]["system_prompt"], "Be brief.");
    assert_eq!(parsed(&files, "profile/history.json")[0]["operation"], "create");
    let names: Vec<Value> = parsed(&files, "schemas/middlewares.json")
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["name"].clone())
        .collect();
    assert!(names.contains(&json!("agentmode")), "{names:?}");
    let log = &files["logs.jsonl"];
    assert!(log.contains("slug=p") && log.contains("outcome=\"committed\""), "{log}");
    for name in ["check.json", "config.json", "metrics.txt", "release.json"] {
        let reason = format!("- `{name}`: the server does not answer\n");
        assert!(files["README.md"].contains(&reason), "{}", files["README.md"]);
    }
    let exchange = &files["exchange.json"];
    assert!(exchange.contains("502 Bad Gateway") && !exchange.contains("canary"), "{exchange}");
}

#[tokio::test]
async fn a_failing_request_is_sent_again_with_its_guards_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&[]);
    let mut client = Client { server: &server, heard: String::new() };
    assert_eq!(client.ask("POST", "/api/chat/profiles", &json!({"slug": "p"}), &[]).await.0, 201);
    let target = format!("http://{}", server.address);
    let request = folder.path().join("failing.json");
    let guarded = json!({"method": "delete", "path": "/api/chat/profiles/p", "headers": {"If-Match": "\"9\""}});
    std::fs::write(&request, guarded.to_string()).unwrap();
    let archive = folder.path().join("guarded.tar.gz");
    let more = ["--no-check", "--request", request.to_str().unwrap()];
    assert_eq!(packet(&target, &archive, &more).code, Some(0));
    assert_eq!(parsed(&unpack(&archive), "exchange.json")["response"]["status"], 412);
    assert_eq!(client.ask("GET", "/api/chat/profiles/p", &Value::Null, &[]).await.0, 200);

    let elsewhere = json!({"path": "@127.0.0.1:9/x"});
    std::fs::write(&request, elsewhere.to_string()).unwrap();
    let refused = packet(&target, &folder.path().join("elsewhere.tar.gz"), &more);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.err.contains("does not begin with a slash"), "{refused:?}");

    // Nothing was asked and nothing was checked: then it does not say what failed.
    let archive = folder.path().join("nothing.tar.gz");
    let said = packet(&target, &archive, &["--no-check"]);
    assert_eq!((said.code, &said.json()["failed_lines"]), (Some(1), &json!([20])));
    let nowhere = packet(&target, Path::new("/nowhere/x.tar.gz"), &["--no-check"]);
    assert_eq!((nowhere.code, nowhere.err.contains("there is no folder")), (Some(2), true));
}

#[tokio::test]
async fn a_front_before_a_dead_server_is_no_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&[]);
    let mut client = Client { server: &server, heard: String::new() };
    assert_eq!(client.ask("POST", "/api/chat/profiles", &json!({"slug": "p"}), &[]).await.0, 201);
    let data = server.folder.path().join("data");
    let log = folder.path().join("server.log");
    std::fs::write(&log, "a line\n").unwrap();
    let front = front::refusing(502);
    let archive = folder.path().join("packet.tar.gz");
    let more = ["--data-dir", data.to_str().unwrap(), "--log-file", log.to_str().unwrap()];
    let said = packet(&format!("http://{front}"), &archive, &more);
    assert_eq!(said.code, Some(0), "{said:?}");
    let files = unpack(&archive);
    assert_eq!(parsed(&files, "profile/document.json")["slug"], "p");
    let exchange = parsed(&files, "exchange.json");
    assert_eq!(exchange[0]["status"], 502, "what failed is that nobody answers: {exchange}");
}
