//! A provider on loopback that speaks the OpenAI streaming format, scripted by what the Go reference's provider answered.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// What one request got.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) head: String,
    pub(crate) body: Value,
}

/// Answers requests one after the other from a script of `answered` values of the transcripts.
pub(crate) struct Provider {
    pub(crate) url: String,
    pub(crate) received: Arc<Mutex<Vec<Received>>>,
    /// Lets an answer that reached `wait` go on.
    pub(crate) release: Arc<Notify>,
}

/// What the reference did in a scenario.
pub(crate) fn transcript(name: &str) -> Value {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../tests/transcripts/{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// The `answered` values of a transcript.
pub(crate) fn answers_of(name: &str) -> Vec<Value> {
    let transcript = transcript(name);
    let requests = transcript["provider_requests"].as_array().unwrap();
    requests.iter().map(|request| request["answered"].clone()).collect()
}

/// An event with more text, or with more of what the model thinks.
pub(crate) fn delta(field: &str, text: &str) -> Value {
    json!({"data": {"choices": [{"index": 0, "delta": {field: text}}]}})
}

/// An answer that says `texts`, and then the end marks.
pub(crate) fn saying(texts: &[&str]) -> Value {
    texts.iter().map(|text| delta("content", text)).chain(end("stop")).collect()
}

/// The last events of an answer.
pub(crate) fn end(reason: &str) -> [Value; 2] {
    let last = json!({"data": {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}});
    [last, json!({"data": "[DONE]"})]
}

impl Provider {
    pub(crate) async fn start(script: Vec<Value>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new(Vec::new()));
        let release = Arc::new(Notify::new());
        let (log, gate) = (received.clone(), release.clone());
        tokio::spawn(async move {
            for answered in script {
                let Ok((stream, _)) = listener.accept().await else { return };
                answer(stream, |_| answered, &log, &gate).await;
            }
        });
        Self { url, received, release }
    }

    /// Chooses every answer by what was asked, whoever comes first.
    pub(crate) async fn choosing(choose: fn(&Value) -> Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new(Vec::new()));
        let release = Arc::new(Notify::new());
        let (log, gate) = (received.clone(), release.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, gate) = (log.clone(), gate.clone());
                tokio::spawn(async move { answer(stream, choose, &log, &gate).await });
            }
        });
        Self { url, received, release }
    }
}

async fn answer(
    mut stream: TcpStream,
    choose: impl FnOnce(&Value) -> Value,
    log: &Mutex<Vec<Received>>,
    gate: &Notify,
) {
    let received = read_request(&mut stream).await;
    let answered = choose(&received.body);
    log.lock().unwrap().push(received);
    let refusal = answered.get(0).filter(|first| first.get("status").is_some());
    if let Some(answered) = refusal {
        let status = &answered["status"];
        let body = match &answered["body"] {
            Value::String(text) => text.clone(),
            body => body.to_string(),
        };
        let retry = answered["headers"]["Retry-After"]
            .as_str()
            .map_or(String::new(), |s| format!("Retry-After: {s}\r\n"));
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nConnection: close\r\n{retry}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let _ = stream.write_all(head.as_bytes()).await;
        return;
    }
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    for event in answered.as_array().unwrap_or_else(|| panic!("{answered}")) {
        if event.get("wait").is_some() {
            gate.notified().await;
            continue;
        }
        if let Some(ms) = event["sleep"].as_u64() {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            continue;
        }
        if event.get("cut").is_some() {
            return; // without the closing chunk
        }
        let data = match &event["data"] {
            Value::String(text) => text.clone(),
            data => data.to_string(),
        };
        let kind = event["event"].as_str().map_or(String::new(), |kind| format!("event: {kind}\n"));
        let text = format!("{kind}data: {data}\n\n");
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        if stream.write_all(chunk.as_bytes()).await.is_err() {
            return; // the caller went away
        }
    }
    let _ = stream.write_all(b"0\r\n\r\n").await;
}

async fn read_request(stream: &mut TcpStream) -> Received {
    let mut bytes = Vec::new();
    let mut more = async |bytes: &mut Vec<u8>| {
        let mut buffer = vec![0; 65_536];
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "the request broke off");
        bytes.extend_from_slice(&buffer[..read]);
    };
    let end_of_head = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        more(&mut bytes).await;
    };
    let head = String::from_utf8_lossy(&bytes[..end_of_head]).to_ascii_lowercase();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let end = end_of_head + 4 + length.unwrap_or(0);
    while bytes.len() < end {
        more(&mut bytes).await;
    }
    Received { head, body: serde_json::from_slice(&bytes[end_of_head + 4..]).unwrap() }
}
