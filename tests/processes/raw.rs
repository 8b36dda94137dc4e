//! A provider that answers with any bytes at any pace. Which answer a request gets is in its prompt, so that many faults
//! run against one server at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// A part of an answer.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Send(Vec<u8>),
    /// One byte in each packet.
    Drip(Vec<u8>),
    /// The same bytes again and again.
    Flood(Vec<u8>, usize),
    /// The pace is the fault.
    Rest(Duration),
    /// Until a test lets it go on.
    Wait,
    /// Until the caller goes away.
    Hang,
}

pub(crate) fn send(text: impl AsRef<[u8]>) -> Act {
    Act::Send(text.as_ref().to_vec())
}

/// The head of an answer that streams until its connection ends.
pub(crate) const STREAM: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";

/// The first byte of a client that speaks TLS.
const TLS: u8 = 22;

/// An event with more text.
pub(crate) fn says(text: &str) -> String {
    event(&json!({"choices": [{"index": 0, "delta": {"content": text}}]}))
}

/// An event with the reason of the end.
pub(crate) fn finish(reason: &str) -> String {
    event(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}))
}

/// An event with a call of a tool, as far as its arguments go.
pub(crate) fn calls(id: &str, name: &str, arguments: &str) -> String {
    let call = json!([{"index": 0, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}]);
    event(&json!({"choices": [{"index": 0, "delta": {"tool_calls": call}}]}))
}

pub(crate) fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

pub(crate) const DONE: &str = "data: [DONE]\n\n";

/// An answer without a stream.
pub(crate) fn refusal(status: u16, headers: &str, body: &str) -> Vec<Act> {
    let length = body.len();
    vec![send(format!(
        "HTTP/1.1 {status} X\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    ))]
}

/// A whole stream, sent at once.
pub(crate) fn stream(parts: &[&str]) -> Vec<Act> {
    vec![send(format!("{STREAM}{}", parts.concat()))]
}

/// What a prompt led to.
#[derive(Debug, Default)]
struct Asked {
    requests: Vec<Value>,
    heads: Vec<String>,
    /// Callers that went away while their answer hung.
    left: usize,
}

type Script = HashMap<String, Vec<Vec<Act>>>;

pub(crate) struct Raw {
    pub(crate) url: String,
    asked: Arc<Mutex<HashMap<String, Asked>>>,
    /// Lets answers that wait go on.
    pub(crate) release: Arc<Notify>,
}

impl Raw {
    /// The n-th request of a prompt gets its n-th answer, and the last one from then on. Prompts that are not in the
    /// script hear `ok`.
    pub(crate) async fn start(
        script: impl IntoIterator<Item = (&'static str, Vec<Vec<Act>>)>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let asked: Arc<Mutex<HashMap<String, Asked>>> = Arc::default();
        let release = Arc::new(Notify::new());
        let script: Script = script.into_iter().map(|(name, acts)| (name.into(), acts)).collect();
        let (script, log, gate) = (Arc::new(script), asked.clone(), release.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, script.clone(), log.clone(), gate.clone()));
            }
        });
        Self { url, asked, release }
    }

    fn of<T>(&self, prompt: &str, read: impl Fn(&Asked) -> T) -> T {
        read(self.asked.lock().unwrap().entry(prompt.into()).or_default())
    }

    /// The bodies of the requests that a prompt led to.
    pub(crate) fn requests(&self, prompt: &str) -> Vec<Value> {
        self.of(prompt, |asked| asked.requests.clone())
    }

    pub(crate) fn heads(&self, prompt: &str) -> Vec<String> {
        self.of(prompt, |asked| asked.heads.clone())
    }

    /// How many callers went away from hanging answers.
    pub(crate) fn left(&self, prompt: &str) -> usize {
        self.of(prompt, |asked| asked.left)
    }
}

async fn answer(
    mut stream: TcpStream,
    script: Arc<Script>,
    log: Arc<Mutex<HashMap<String, Asked>>>,
    gate: Arc<Notify>,
) {
    let Some((head, body)) = read_request(&mut stream).await else { return };
    stream.set_nodelay(true).unwrap();
    let messages = body["messages"].as_array().unwrap().iter().rev();
    let mut users = messages.filter(|message| message["role"] == "user");
    let prompt = users.next().and_then(|m| m["content"].as_str()).unwrap_or_default().to_owned();
    let at = {
        let mut log = log.lock().unwrap();
        let asked = log.entry(prompt.clone()).or_default();
        asked.requests.push(body);
        asked.heads.push(head);
        asked.requests.len() - 1
    };
    let ok = || self::stream(&[&says("ok"), &finish("stop"), DONE]);
    let acts = script.get(&prompt).and_then(|answers| answers.get(at).or(answers.last()));
    for act in acts.cloned().unwrap_or_else(ok) {
        let written = match act {
            Act::Send(bytes) => stream.write_all(&bytes).await,
            Act::Drip(bytes) => drip(&mut stream, &bytes).await,
            Act::Flood(bytes, times) => flood(&mut stream, &bytes, times).await,
            Act::Rest(pause) => {
                tokio::time::sleep(pause).await;
                Ok(())
            }
            Act::Wait => {
                gate.notified().await;
                Ok(())
            }
            Act::Hang => {
                while stream.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
                log.lock().unwrap().entry(prompt).or_default().left += 1;
                return;
            }
        };
        if written.is_err() {
            return; // the caller went away
        }
    }
}

async fn drip(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    for byte in bytes {
        stream.write_all(&[*byte]).await?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn flood(stream: &mut TcpStream, bytes: &[u8], times: usize) -> std::io::Result<()> {
    let hundred = bytes.repeat(100);
    for _ in 0..times / 100 {
        stream.write_all(&hundred).await?;
    }
    Ok(())
}

async fn read_request(stream: &mut TcpStream) -> Option<(String, Value)> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 65_536];
    loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..at]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length?.trim().parse().ok()?;
            if bytes.len() >= at + 4 + length {
                return Some((head, serde_json::from_slice(&bytes[at + 4..]).ok()?));
            }
        }
        match stream.read(&mut buffer).await {
            Ok(read) if read > 0 && buffer[0] == TLS && bytes.is_empty() => {
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
                return None;
            }
            Ok(read) if read > 0 => bytes.extend_from_slice(&buffer[..read]),
            _ => return None,
        }
    }
}
