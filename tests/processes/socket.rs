//! A WebSocket client, and the checker that every stream has to pass.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
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
        let url = format!("ws://{}/ws?{query}", server.address);
        let (stream, _) = connect_async(url).await.unwrap();
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

    /// Numbers strictly rise; each message ends once; the text rebuilt from deltas is the final text and the stored one.
    pub(crate) fn check_stream(&self, entities: &[Value]) {
        let numbers: Vec<u64> =
            self.seen.iter().filter_map(|event| event["seq"].as_u64()).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
        let mut rebuilt: BTreeMap<&str, String> = BTreeMap::new();
        for delta in self.of("llm.delta") {
            let text = rebuilt.entry(delta["id"].as_str().unwrap()).or_default();
            text.push_str(delta["data"]["delta"].as_str().unwrap());
            if let Some(cumulative) = delta["data"].get("cumulative") {
                assert_eq!(cumulative, text.as_str());
            }
        }
        let finals = self.of("llm.final");
        assert_eq!(finals.len(), self.of("llm.start").len(), "one end for each start");
        for end in finals {
            let id = end["id"].as_str().unwrap();
            let text = rebuilt.get(id).map_or("", String::as_str);
            assert_eq!(end["data"]["text"].as_str().unwrap_or_default(), text);
            let stored = entities.iter().find(|entity| entity["id"] == id);
            let stored = stored.map_or("", |entity| {
                assert_eq!(entity["props"]["streaming"], false);
                entity["props"]["content"].as_str().unwrap()
            });
            assert_eq!(stored, text);
        }
    }
}
