//! Does again what a recorded client did, against a server of ours and the recorded provider.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::tokens::Tokens;
use super::trace::Trace;
use crate::provider::{Provider, Received};
use crate::server::{Answer, Server};
use crate::socket::Socket;

/// How long something that has to come may take.
const PATIENCE: Duration = Duration::from_secs(4);

/// A scenario while it is played.
pub(super) struct Play<'t> {
    pub(super) server: Server,
    pub(super) provider: Provider,
    pub(super) sockets: Vec<Socket>,
    pub(super) trace: Trace,
    /// What the sockets have to see, as our rules have it.
    pub(super) recorded: &'t Trace,
    /// The steps during which a run is held or paused.
    pub(super) busy: Range<usize>,
    pings: Vec<usize>,
}

impl<'t> Play<'t> {
    pub(super) fn new(
        server: Server,
        provider: Provider,
        recorded: &'t Trace,
        busy: Range<usize>,
    ) -> Self {
        let (sockets, trace, pings) = (Vec::new(), Trace::default(), Vec::new());
        Self { server, provider, sockets, trace, recorded, busy, pings }
    }

    /// Takes one step of the transcript.
    pub(super) async fn step(&mut self, number: usize, steps: &[Value]) {
        let step = &steps[number];
        if number == self.busy.end {
            self.provider.release.notify_one();
        }
        self.see(&seen_before(number, steps, self.recorded)).await;
        if !self.busy.contains(&number) {
            self.rest().await;
        }
        if let Some(path) = step["socket"].as_str() {
            self.connect(number, path, step).await;
        } else {
            let answer = self.exchange(&step["request"]).await;
            let recorded = self.recorded.answers.iter().find(|answer| answer["step"] == number);
            let played = played(number, &step["request"], recorded.unwrap(), &answer);
            self.trace.answers.push(played);
        }
    }

    async fn connect(&mut self, number: usize, path: &str, step: &Value) {
        let query = path.split_once('?').unwrap().1;
        if step["status"] == 101 {
            let cookie = step["headers"]["Cookie"].as_str().unwrap_or_default();
            self.sockets.push(Socket::open_with(&self.server, query, cookie).await);
            self.pings.push(0);
            return;
        }
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
        let answer = self.server.request("GET", path, upgrade, "").await;
        self.trace.answers.push(json!({"step": number, "request": path, "status": answer.status,
            "headers": {}, "body": answer.body}));
    }

    async fn exchange(&self, request: &Value) -> Answer {
        let tokens = self.tokens();
        let path = tokens.fill(request["path"].as_str().unwrap());
        let path = path.replace("<seq-13>", &self.first_version());
        let mut headers = String::new();
        for (name, value) in request["headers"].as_object().into_iter().flatten() {
            headers.extend([name, ": ", value.as_str().unwrap(), "\r\n"]);
        }
        let body = match (request.get("body"), request.get("raw")) {
            (Some(body), _) => tokens.fill(&body.to_string()),
            (None, raw) => raw.and_then(Value::as_str).unwrap_or_default().to_owned(),
        };
        if !body.is_empty() {
            headers += "Content-Type: application/json\r\n";
        }
        self.server.request(request["method"].as_str().unwrap(), &path, &headers, &body).await
    }

    /// The version of the first entity: the number that chat-one-turn asks from by hand.
    fn first_version(&self) -> String {
        let upserts = self.sockets.first().map(|socket| socket.of("timeline.upsert"));
        let first = upserts.and_then(|list| list.first().map(|e| e["data"]["version"].clone()));
        first.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// What the tokens stand for, as far as it can be known: answers are paired by their order, frames by their type and
    /// order, upserts by what they show.
    fn tokens(&self) -> Tokens {
        let (mut tokens, mut ignored) = (Tokens::default(), Vec::new());
        for (recorded, played) in self.recorded.answers.iter().zip(&self.trace.answers) {
            tokens.compare(&[], &recorded["body"], &played["body"], &mut ignored);
        }
        for (recorded, socket) in self.recorded.sockets.iter().zip(&self.sockets) {
            let mut taken: BTreeMap<String, usize> = BTreeMap::new();
            for event in recorded {
                let before = taken.entry(what(event)).or_default();
                let like = socket.seen.iter().filter(|seen| what(seen) == what(event));
                if let Some(seen) = like.clone().nth(*before) {
                    tokens.compare(&[], event, seen, &mut ignored);
                }
                *before += 1;
            }
        }
        tokens
    }

    /// Waits until every socket has seen what it has to.
    async fn see(&mut self, wanted: &[BTreeMap<String, usize>]) {
        for ((socket, wanted), pings) in self.sockets.iter_mut().zip(wanted).zip(&mut self.pings) {
            let pongs = wanted.get("ws.pong").copied().unwrap_or(0);
            let rest = wanted.iter().filter(|(kind, _)| *kind != "ws.pong");
            for (kind, count) in rest {
                see(socket, kind, *count).await;
            }
            while *pings < pongs {
                let forms =
                    ["ping", r#"{"type":"WS.Ping"}"#, r#"{"sem":true,"event":{"type":"ws.ping"}}"#];
                socket.send(forms[*pings % forms.len()]).await;
                *pings += 1;
                see(socket, "ws.pong", *pings).await;
            }
        }
    }

    /// Waits until nothing runs.
    async fn rest(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.server.get("/api/debug/conversations/c-1").await;
            if answer.status == 404 || answer.json()["active_request_key"] == "" {
                return;
            }
            assert!(Instant::now() < deadline, "a run does not end: {}", answer.body);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Everything that was seen; what was sent until now has been received.
    pub(super) async fn end(mut self) -> (Trace, Server) {
        let all: Vec<_> = self.recorded.sockets.iter().map(|s| counts(s, usize::MAX)).collect();
        self.see(&all).await;
        self.rest().await;
        for (socket, pings) in self.sockets.iter_mut().zip(&self.pings) {
            socket.send("ping").await;
            see(socket, "ws.pong", pings + 1).await;
            assert_eq!(socket.seen.pop().unwrap()["type"], "ws.pong");
            let numbers: Vec<u64> = socket.seen.iter().filter_map(|e| e["seq"].as_u64()).collect();
            assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
            self.trace.sockets.push(socket.seen.clone());
        }
        let received = self.provider.received.lock().unwrap().clone();
        for (i, request) in received.iter().enumerate() {
            let recorded = self.recorded.requests.get(i).or(self.recorded.requests.last());
            self.trace.requests.push(sent(request, recorded.unwrap()));
        }
        (self.trace, self.server)
    }
}

/// Reads until `count` events of a type were seen. What does not come shows in the comparison.
async fn see(socket: &mut Socket, kind: &str, count: usize) {
    let until = async { while socket.of(kind).len() < count && socket.next().await.is_some() {} };
    let _ = timeout(PATIENCE, until).await;
}

/// What makes two events the same: their type, and of an upsert what it shows.
fn what(event: &Value) -> String {
    let entity = &event["data"]["entity"];
    let props = &entity["props"];
    format!("{} {} {} {}", event["type"], entity["kind"], props["content"], props["streaming"])
}

/// How many events of each type come before a place of the recording. How many deltas there are is for the clock to say.
fn counts(events: &[Value], before: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let place = |event: &Value| usize::try_from(event["at"].as_u64().unwrap()).unwrap();
    for event in events.iter().filter(|event| place(event) < before) {
        let kind = event["type"].as_str().unwrap();
        if !["llm.delta", "llm.thinking.delta"].contains(&kind) {
            *counts.entry(kind.to_owned()).or_default() += 1;
        }
    }
    counts
}

/// What the sockets of the recording had seen when a step was taken.
fn seen_before(number: usize, steps: &[Value], recorded: &Trace) -> Vec<BTreeMap<String, usize>> {
    let step = &steps[number];
    let continues =
        step["request"]["path"] == "/api/debug/continue" && step["response"]["status"] == 200;
    let mut opened = 0;
    let mut of_socket = |i: usize, before: &Value| {
        let status = steps[..number]
            .iter()
            .filter(|s| s.get("socket").is_some())
            .nth(i)
            .map(|s| &s["status"]);
        (status == Some(&json!(101))).then(|| {
            opened += 1;
            let events = &recorded.sockets[opened - 1];
            let mut before = usize::try_from(before.as_u64().unwrap()).unwrap();
            if step["response"]["body"]["status"] == "started" {
                let id = format!("user-{}", step["response"]["body"]["turn_id"].as_str().unwrap());
                let own =
                    events.iter().find(|e| e["type"] == "chat.message" && e["id"] == id.as_str());
                before =
                    own.map_or(before, |e| usize::try_from(e["at"].as_u64().unwrap()).unwrap());
            }
            counts(events, before)
        })
    };
    let source = if continues { &steps[number - 1] } else { step };
    let frames = source["frames_before"].as_array().cloned().unwrap_or_default();
    frames.iter().enumerate().filter_map(|(i, before)| of_socket(i, before)).collect()
}

fn played(number: usize, request: &Value, recorded: &Value, answer: &Answer) -> Value {
    let mut headers = json!({});
    for name in recorded["headers"].as_object().unwrap().keys() {
        let line = answer.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        if let Some(value) = line {
            headers[name] = value.into();
        }
    }
    let body: Option<Value> = serde_json::from_str(&answer.body).ok();
    let body = body.unwrap_or_else(|| answer.body.clone().into());
    json!({"step": number, "request": format!("{} {}", request["method"].as_str().unwrap(), request["path"].as_str().unwrap()),
        "status": answer.status, "headers": headers, "body": body})
}

/// What the provider was sent, with the headers that were recorded.
fn sent(request: &Received, recorded: &Value) -> Value {
    let mut headers = json!({});
    for name in recorded["headers"].as_object().unwrap().keys() {
        let line = request.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        if let Some(value) = line {
            headers[name] = value.into();
        }
    }
    let path = request.head.split(' ').nth(1).unwrap();
    json!({"path": path, "headers": headers, "body": request.body})
}
