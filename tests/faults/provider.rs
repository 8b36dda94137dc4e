//! A provider on loopback that speaks the OpenAI streaming format, one scripted answer for each request.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// A part of an answer.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    /// More text.
    Say(String),
    /// Calls of tools: id, name, arguments.
    Call(Vec<(String, String, Value)>),
    /// A pause.
    Rest(Duration),
    /// Nothing more comes until the caller goes away.
    Hang,
}

pub(crate) fn say(text: &str) -> Part {
    Part::Say(text.into())
}

/// Runs until the test process ends: its thread waits for connections and for nothing else.
pub(crate) struct Provider {
    pub(crate) url: String,
    script: Arc<Mutex<VecDeque<Vec<Part>>>>,
    received: Arc<Mutex<Vec<Value>>>,
}

impl Provider {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let script: Arc<Mutex<VecDeque<Vec<Part>>>> = Arc::default();
        let received: Arc<Mutex<Vec<Value>>> = Arc::default();
        let (next, log) = (script.clone(), received.clone());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (next, log) = (next.clone(), log.clone());
                thread::spawn(move || {
                    let mut stream = stream;
                    let Some(body) = read_body(&mut stream) else { return };
                    log.lock().unwrap().push(body);
                    let parts = next.lock().unwrap().pop_front();
                    // A caller that went away is no failure of the provider.
                    let _ = answer(&mut stream, &parts.unwrap_or_else(|| vec![say("done")]));
                });
            }
        });
        Self { url, script, received }
    }

    /// The answer to the next request that has none yet; unscripted ones get `done`.
    pub(crate) fn will(&self, parts: Vec<Part>) {
        self.script.lock().unwrap().push_back(parts);
    }

    pub(crate) fn received(&self) -> Vec<Value> {
        self.received.lock().unwrap().clone()
    }

    /// The messages of the newest request, without the system prompt.
    pub(crate) fn told(&self) -> Vec<Value> {
        let received = self.received();
        let messages = received.last().unwrap()["messages"].as_array().unwrap().clone();
        messages.into_iter().filter(|message| message["role"] != "system").collect()
    }
}

fn read_body(stream: &mut TcpStream) -> Option<Value> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..at]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length?.trim().parse().ok()?;
            if bytes.len() >= at + 4 + length {
                return serde_json::from_slice(&bytes[at + 4..]).ok();
            }
        }
        match stream.read(&mut buffer) {
            Ok(read) if read > 0 => bytes.extend_from_slice(&buffer[..read]),
            _ => return None,
        }
    }
}

fn answer(stream: &mut TcpStream, parts: &[Part]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n",
    )?;
    let mut finish = "stop";
    for part in parts {
        let delta = match part {
            Part::Say(text) => json!({"content": text}),
            Part::Call(calls) => {
                finish = "tool_calls";
                let calls: Vec<Value> = calls
                    .iter()
                    .enumerate()
                    .map(|(index, (id, name, arguments))| {
                        json!({"index": index, "id": id, "type": "function",
                            "function": {"name": name, "arguments": arguments.to_string()}})
                    })
                    .collect();
                json!({ "tool_calls": calls })
            }
            Part::Rest(pause) => {
                thread::sleep(*pause);
                continue;
            }
            Part::Hang => {
                let _ = stream.read(&mut [0; 16]);
                return Ok(());
            }
        };
        send(stream, &json!({"choices": [{"index": 0, "delta": delta}]}).to_string())?;
    }
    let end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]});
    send(stream, &end.to_string())?;
    send(stream, "[DONE]")
}

fn send(stream: &mut TcpStream, data: &str) -> std::io::Result<()> {
    stream.write_all(format!("data: {data}\n\n").as_bytes())
}
