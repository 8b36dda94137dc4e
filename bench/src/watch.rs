//! A WebSocket client that counts: frames, bytes, deltas. It does as little as it can, so that the server is measured.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::server::TOKEN;

/// No frame takes this long.
const STUCK: Duration = Duration::from_mins(1);

/// What was seen.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    /// Frames, and those of them that are deltas.
    pub(crate) frames: u64,
    pub(crate) deltas: u64,
    /// Bytes on the wire.
    pub(crate) bytes: u64,
}

/// One socket.
pub(crate) struct Watch {
    stream: TcpStream,
    buffer: Vec<u8>,
    at: usize,
    pub(crate) seen: Seen,
}

impl Watch {
    /// Opens a socket.
    pub(crate) async fn open(address: SocketAddr, target: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(address).await.context("connect a socket")?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET {target} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {TOKEN}\r\nconnection: upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut buffer = Vec::with_capacity(4096);
        let head = loop {
            if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if timeout(STUCK, stream.read_buf(&mut buffer)).await?? == 0 {
                bail!("the socket was closed in its handshake");
            }
        };
        if !buffer.starts_with(b"HTTP/1.1 101") {
            bail!("no upgrade: {}", String::from_utf8_lossy(&buffer[..head.min(200)]));
        }
        buffer.drain(..head);
        Ok(Self { stream, buffer, at: 0, seen: Seen::default() })
    }

    /// Reads until a frame contains `mark`, so often.
    pub(crate) async fn until(&mut self, mark: &str, times: usize) -> Result<()> {
        let mut left = times;
        while left > 0 {
            let frame = self.next().await?;
            if contains(frame, mark.as_bytes()) {
                left -= 1;
            }
        }
        Ok(())
    }

    /// Reads so many frames.
    pub(crate) async fn frames(&mut self, count: u64) -> Result<()> {
        for _ in 0..count {
            self.next().await?;
        }
        Ok(())
    }

    /// The payload of the next text frame.
    async fn next(&mut self) -> Result<&[u8]> {
        loop {
            if let Some((code, start, end)) = framed(&self.buffer[self.at..]) {
                let (start, end) = (self.at + start, self.at + end);
                self.seen.bytes += (end - self.at) as u64;
                self.at = end;
                match code {
                    1 => {
                        self.seen.frames += 1;
                        let payload = &self.buffer[start..end];
                        if contains(&payload[payload.len().saturating_sub(48)..], b"llm.delta")
                            || contains(&payload[..payload.len().min(64)], b"llm.delta")
                        {
                            self.seen.deltas += 1;
                        }
                        return Ok(&self.buffer[start..end]);
                    }
                    8 => bail!("the server closed a socket"),
                    _ => continue,
                }
            }
            self.buffer.drain(..self.at);
            self.at = 0;
            if self.buffer.capacity() - self.buffer.len() < 16 * 1024 {
                self.buffer.reserve(64 * 1024);
            }
            if timeout(STUCK, self.stream.read_buf(&mut self.buffer)).await?? == 0 {
                bail!("a socket ended");
            }
        }
    }
}

/// Operation code, and where the payload begins and ends, of the first frame if it is there.
fn framed(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let code = bytes.first()? & 0x0f;
    let (start, length) = match *bytes.get(1)? & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => {
            let length = u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?);
            (10, usize::try_from(length).ok()?)
        }
        short => (2, usize::from(short)),
    };
    (bytes.len() >= start + length).then_some((code, start, start + length))
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|part| part == wanted)
}
