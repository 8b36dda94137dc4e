//! A raw HTTP/1.1 client: paths, headers and bodies leave exactly as the test wrote them.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Whatever takes longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer as it came.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let (_, value) = found.next()?;
        assert!(found.next().is_none(), "header {name} came twice: {:?}", self.headers);
        Some(value)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("bodies are UTF-8")
    }

    /// A refusal of the contract: plain text, one line end, no sniffing, a request id.
    #[track_caller]
    pub(crate) fn expect_text(&self, status: u16, text: &str) -> &Self {
        assert_eq!((self.status, self.text()), (status, format!("{text}\n")));
        assert_eq!(self.header("content-type"), Some("text/plain; charset=utf-8"), "{text}");
        self.expect_common()
    }

    /// A JSON answer of the contract: one value, one line end.
    #[track_caller]
    pub(crate) fn expect_json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/json"));
        self.expect_common();
        let text = self.text();
        assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "one line end: {text:?}");
        serde_json::from_str(&text).expect("one JSON value")
    }

    /// An answer without a body.
    #[track_caller]
    pub(crate) fn expect_empty(&self, status: u16) -> &Self {
        assert_eq!((self.status, self.text().as_str()), (status, ""));
        assert_eq!(self.header("content-type"), None);
        self.expect_common()
    }

    #[track_caller]
    fn expect_common(&self) -> &Self {
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"));
        let id = self.header("x-request-id").unwrap_or_default();
        assert!(!id.is_empty(), "every answer names its request");
        self
    }

    /// The entity tag and the registry version that came along (decision 12).
    #[track_caller]
    pub(crate) fn expect_versions(&self, etag: &str, registry_version: &str) -> &Self {
        let got = (self.header("etag"), self.header("x-registry-version"));
        assert_eq!(got, (Some(etag), Some(registry_version)));
        self
    }
}

/// A request before it is sent.
pub(crate) struct Call {
    address: SocketAddr,
    method: String,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Option<Vec<u8>>,
}

impl Call {
    pub(crate) fn new(address: SocketAddr, method: &str, target: &str) -> Self {
        Self {
            address,
            method: method.into(),
            target: target.into(),
            headers: Vec::new(),
            body: None,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), value.as_ref().to_vec()));
        self
    }

    /// A body without a content type.
    pub(crate) fn raw(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Some(body.as_ref().to_vec());
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.header("Content-Type", "application/json").raw(body.to_string())
    }

    /// The bytes that go over the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        let has = |name: &str| self.headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
        if !has("host") {
            bytes.extend(format!("Host: {}\r\n", self.address).bytes());
        }
        if !has("connection") {
            bytes.extend(b"Connection: close\r\n");
        }
        for (name, value) in &self.headers {
            bytes.extend(name.bytes().chain(*b": "));
            bytes.extend(value);
            bytes.extend(b"\r\n");
        }
        if let Some(body) = &self.body
            && !has("content-length")
            && !has("transfer-encoding")
        {
            bytes.extend(format!("Content-Length: {}\r\n", body.len()).bytes());
        }
        bytes.extend(b"\r\n");
        bytes.extend(self.body.as_deref().unwrap_or_default());
        bytes
    }

    pub(crate) async fn send(self) -> Answer {
        let bytes = self.bytes();
        exchange(self.address, &bytes, self.method == "HEAD").await
    }
}

/// Sends bytes and reads the answer to them. The server may answer before it has read everything.
pub(crate) async fn exchange(address: SocketAddr, bytes: &[u8], is_head: bool) -> Answer {
    let stream = TcpStream::connect(address).await.expect("connect");
    let (mut reader, mut writer) = stream.into_split();
    let write = async {
        // A server that has seen enough may close the connection under our hands.
        let _ = writer.write_all(bytes).await;
        std::future::pending::<()>().await;
    };
    let read = async {
        let mut received = Vec::new();
        let mut chunk = vec![0; 16 * 1024];
        while !is_complete(&received, is_head) {
            match reader.read(&mut chunk).await {
                Ok(n) if n > 0 => received.extend(&chunk[..n]),
                _ => break,
            }
        }
        received
    };
    let received = tokio::time::timeout(PATIENCE, async {
        tokio::select! {
            received = read => received,
            () = write => unreachable!("writing never ends"),
        }
    });
    parse(&received.await.expect("an answer in time"))
}

/// Sends bytes and reads everything that comes back until the server closes the connection.
pub(crate) async fn converse(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    stream.write_all(bytes).await.expect("send");
    let mut received = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut received)).await;
    // A connection that is reset has been closed too.
    let _ = read.expect("the server closes the connection in time");
    String::from_utf8_lossy(&received).into_owned()
}

/// Whether this is a whole answer with a content length; others end with the connection.
fn is_complete(received: &[u8], is_head: bool) -> bool {
    let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") else {
        return false;
    };
    let answer = parse(&received[..end + 4]);
    let no_body = is_head || matches!(answer.status, 101 | 204 | 304);
    let length = answer.header("content-length").and_then(|text| text.parse::<usize>().ok());
    no_body || length.is_some_and(|length| received.len() >= end + 4 + length)
}

fn parse(received: &[u8]) -> Answer {
    let shown = || String::from_utf8_lossy(&received[..received.len().min(200)]).into_owned();
    let end = received.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no whole answer: {:?}", shown()));
    let head = std::str::from_utf8(&received[..end]).expect("heads are ASCII");
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line.split(' ').nth(1).and_then(|text| text.parse().ok());
    let split = |line: &str| -> (String, String) {
        let (name, value) = line.split_once(':').expect("a header");
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    let headers: Vec<(String, String)> = lines.map(split).collect();
    let body = &received[end + 4..];
    let is_chunked = headers.iter().any(|(k, v)| k == "transfer-encoding" && v == "chunked");
    let body = if is_chunked { dechunk(body) } else { body.to_vec() };
    Answer { status: status.unwrap_or_else(|| panic!("no status: {:?}", shown())), headers, body }
}

fn dechunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&rest[..end]).expect("a chunk size");
        let size = usize::from_str_radix(size.trim(), 16).expect("a chunk size");
        if size == 0 {
            return body;
        }
        body.extend(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
    }
    panic!("the last chunk is missing");
}
