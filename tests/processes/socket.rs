//! A WebSocket client, and the checker that every stream has to pass.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::server::Server;

pub(crate) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The events of all frames so far.
    pub(crate) seen: Vec<Value>,
    /// The close code, once closed.
    pub(crate) closed: Option<u16>,
}

impl Socket {
    pub(crate) async fn open(server: &Server, query: &str) -> Self {
        Self::open_with(server, query, "").await
    }

    /// The same with a cookie, unless it is empty.
    pub(crate) async fn open_with(server: &Server, query: &str, cookie: &str) -> Self {
        let url = format!("ws://{}/ws?{query}", server.address);
        let mut request = url.into_client_request().unwrap();
        if !cookie.is_empty() {
            request.headers_mut().insert("cookie", cookie.parse().unwrap());
        }
        let (stream, _) = connect_async(request).await.unwrap();
        Self { stream, seen: Vec::new(), closed: None }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.send(Message::text(text)).await.unwrap();
    }

    /// The next event; `None` when the server closed.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            let message = tokio::time::timeout(Duration::from_secs(20), self.stream.next());
            match message.await.expect("a frame within 20 s") {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    assert_eq!(frame["sem"], true);
                    self.seen.push(frame["event"].clone());
                    return self.seen.last().cloned();
                }
                Some(Ok(Message::Close(close))) => self.closed = close.map(|c| c.code.into()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// Reads until `count` frames of that type were seen in all.
    pub(crate) async fn until(&mut self, kind: &str, count: usize) {
        while self.of(kind).len() < count {
            self.next().await.unwrap_or_else(|| panic!("closed before {kind}: {:?}", self.seen));
        }
    }

    pub(crate) fn of(&self, kind: &str) -> Vec<&Value> {
        self.seen.iter().filter(|event| event["type"] == kind).collect()
    }

    /// Numbers strictly rise; each message begins once and ends once; the text rebuilt from deltas is the final text and
    /// the stored one.
    pub(crate) fn check_stream(&self, entities: &[Value]) {
        let numbers = self.numbers();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
        for kind in ["llm.start", "llm.final"] {
            let ids: BTreeSet<&str> =
                self.of(kind).iter().map(|e| e["id"].as_str().unwrap()).collect();
            assert_eq!(ids.len(), self.of(kind).len(), "each message has one {kind}");
        }
        assert_eq!(
            self.of("llm.final").len(),
            self.of("llm.start").len(),
            "one end for each start"
        );
        self.check_hydrated(&Value::Null, entities);
    }

    /// The numbers of all frames that have one.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.seen.iter().filter_map(|event| event["seq"].as_u64()).collect()
    }

    /// Rebuilds every message as a client does that hydrated from `snapshot` and then heard the frames behind its version;
    /// at each step, and at the end, that is what the frames and the store say. The socket was open all the time.
    pub(crate) fn check_hydrated(&self, snapshot: &Value, stored: &[Value]) {
        let version: u64 = snapshot["version"].as_str().unwrap_or("0").parse().unwrap();
        let known = snapshot["entities"].as_array().cloned().unwrap_or_default();
        let message = |e: &Value| {
            Some((e["id"].as_str()?.to_owned(), e["props"]["content"].as_str()?.to_owned()))
        };
        let mut texts: BTreeMap<String, String> = known.iter().filter_map(message).collect();
        for event in self.seen.iter().filter(|event| event["seq"].as_u64() > Some(version)) {
            let (kind, data) = (event["type"].as_str().unwrap(), &event["data"]);
            let text = || texts.get(event["id"].as_str().unwrap()).cloned().unwrap_or_default();
            let now = match kind {
                "llm.delta" | "llm.thinking.delta" => {
                    let now = text() + data["delta"].as_str().unwrap();
                    if let Some(cumulative) = data.get("cumulative") {
                        assert_eq!(cumulative, &now, "hydrated at {version}, {event}");
                    }
                    now
                }
                "llm.final" => {
                    let whole = data["text"].as_str().unwrap_or_default();
                    assert_eq!(text(), whole, "hydrated at {version}, {event}");
                    continue;
                }
                "timeline.upsert" if data["entity"]["kind"] == "message" => {
                    let said = data["entity"]["props"]["content"].as_str().unwrap();
                    if data["entity"]["props"]["role"] != "user" {
                        assert_eq!(text(), said, "hydrated at {version}, {event}");
                    }
                    said.to_owned()
                }
                _ => continue,
            };
            texts.insert(event["id"].as_str().unwrap().to_owned(), now);
        }
        let stored: BTreeMap<String, String> = stored.iter().filter_map(message).collect();
        assert_eq!(texts, stored, "hydrated at {version}");
    }
}
