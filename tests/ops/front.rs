//! A loopback server in front of a real one that breaks one line of the checklist: it changes single requests or
//! answers, and forwards the rest.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::{Value, json};

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Nothing.
    Nothing,
    /// A line of the checklist.
    Line(u8),
    /// Line 16: earlier turns lose their attribution.
    History,
    /// Nothing, but it has none of our additions, and no debug API.
    Additions,
    /// Nothing, but answers are never sent.
    Silent,
    /// Another release.
    Release,
}

#[derive(Debug, Clone)]
struct Request {
    method: String,
    path: String,
    headers: Vec<String>,
    body: String,
}

struct Answer {
    status: u16,
    headers: Vec<String>,
    body: String,
}

impl Answer {
    fn of(status: u16, body: &Value) -> Self {
        let headers = vec!["Content-Type: application/json\r\n".to_owned()];
        Self { status, headers, body: body.to_string() }
    }

    fn missing() -> Self {
        Self { status: 404, headers: Vec::new(), body: "404 page not found\n".into() }
    }
}

/// Serves until the process ends.
pub(crate) fn start(upstream: &str, broken: Broken) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let upstream = upstream.to_owned();
    std::thread::spawn(move || serve(&listener, &upstream, broken));
    address
}

/// Answers every request with this status, until the process ends.
pub(crate) fn refusing(status: u16) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let head =
                format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let mut lines = BufReader::new(&stream).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let _ = stream.write_all(head.as_bytes());
        }
    });
    address
}

/// Answers one connection after the other, each on a thread.
pub(crate) fn serve(listener: &TcpListener, upstream: &str, broken: Broken) {
    for stream in listener.incoming().map_while(Result::ok) {
        let upstream = upstream.to_owned();
        std::thread::spawn(move || {
            // A caller that goes away is no event.
            let _ = converse(&stream, &upstream, broken);
        });
    }
}

fn converse(mut stream: &TcpStream, upstream: &str, broken: Broken) -> std::io::Result<()> {
    let Some(mut request) = read(stream)? else { return Ok(()) };
    if broken == Broken::Silent && request.path.starts_with("/chat") {
        let _ = stream.read(&mut [0]);
        return Ok(());
    }
    let answer = match instead(&mut request, broken) {
        Some(answer) => answer,
        None => changed(&request, forward(upstream, &request)?, broken),
    };
    let Answer { status, headers, body } = answer;
    let headers = headers.concat();
    let length = body.len();
    let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {length}\r\n");
    stream.write_all(format!("{head}{headers}\r\n{body}").as_bytes())
}

fn read(stream: &TcpStream) -> std::io::Result<Option<Request>> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut words = first.split(' ');
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let (headers, length) = head(&mut reader)?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(Request { method: method.into(), path: path.into(), headers, body }))
}

/// Header lines, each with its end, but those of this connection, and the length of the body.
fn head(reader: &mut impl BufRead) -> std::io::Result<(Vec<String>, usize)> {
    let (mut headers, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end().to_owned();
        let lower = line.to_ascii_lowercase();
        if line.is_empty() {
            return Ok((headers, length));
        } else if let Some(text) = lower.strip_prefix("content-length:") {
            length = text.trim().parse().unwrap_or(0);
        } else if !lower.starts_with("connection:") && !lower.starts_with("host:") {
            headers.push(format!("{line}\r\n"));
        }
    }
}

fn forward(upstream: &str, request: &Request) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(upstream)?;
    let headers = request.headers.concat();
    let Request { method, path, body, .. } = request;
    let length = body.len();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: {upstream}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(text.as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let status = first.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(502);
    let (headers, length) = head(&mut reader)?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

/// An answer that the server never gives, or a request that it does not get as it was.
fn instead(request: &mut Request, broken: Broken) -> Option<Answer> {
    let Request { method, path, headers, body } = request;
    let writes = method == "POST" && path == "/api/chat/profiles";
    match broken {
        Broken::Line(6) if path == "/api/chat/profile" => Some(Answer::missing()),
        Broken::Line(7) if path.starts_with("/api/chat/schemas/") => Some(Answer::missing()),
        Broken::Line(8) if method == "GET" && path == "/api/chat/profiles" => {
            Some(Answer::of(200, &json!([])))
        }
        Broken::Line(9) if path.ends_with("/schemas/middlewares") => {
            Some(Answer::of(200, &json!([])))
        }
        Broken::Line(10) if path.ends_with("/schemas/extensions") => {
            Some(Answer::of(200, &json!([])))
        }
        Broken::Line(11) if writes && body.contains("no-such-middleware") => {
            Some(Answer::of(201, &json!({})))
        }
        Broken::Line(12) if writes && body.contains("\"config\"") => {
            Some(Answer::of(201, &json!({})))
        }
        Broken::Line(13) if method == "PATCH" => Some(Answer::of(200, &json!({}))),
        Broken::Line(14) if path == "/chat" => {
            headers.retain(|header| !header.to_ascii_lowercase().starts_with("cookie:"));
            None
        }
        Broken::Line(15) if body.contains("-first\"") => {
            *path = "/chat".into();
            None
        }
        Broken::Line(16) if path.starts_with("/chat/") => {
            // Names are drawn; only their ends say which is which.
            if let Some(drawn) = path.strip_suffix("-b") {
                *path = format!("{drawn}-a");
            }
            None
        }
        Broken::Additions => {
            let additions =
                ["/api/chat/release", "/api/chat/conversations", "/api/debug", "/readyz"];
            additions.iter().any(|part| path.starts_with(part)).then(Answer::missing)
        }
        _ => None,
    }
}

fn changed(request: &Request, mut answer: Answer, broken: Broken) -> Answer {
    let mut body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    match broken {
        Broken::History if request.body.contains("-first\"") && body["status"] == "completed" => {
            let key = body["runtime_key"].as_str().unwrap_or_default();
            let key = key.strip_suffix("-a").map_or(key.to_owned(), |drawn| format!("{drawn}-b"));
            // The first time it is what it should be, as nothing has been switched yet.
            if SWITCHED.load(std::sync::atomic::Ordering::SeqCst) {
                body["runtime_key"] = key.into();
            }
        }
        Broken::History if request.body.contains("-second\"") => {
            SWITCHED.store(true, std::sync::atomic::Ordering::SeqCst);
        }
        Broken::Additions if request.path.starts_with("/chat") => {
            for key in ["runtime_key", "runtime_fingerprint", "profile_metadata"] {
                body.as_object_mut().map(|body| body.remove(key));
            }
        }
        Broken::Release if request.path == "/api/chat/release" => body["release"] = "0.0.1".into(),
        _ => return answer,
    }
    if body.is_object() {
        answer.body = body.to_string();
    }
    answer
}

/// Whether the second profile has been used.
static SWITCHED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
