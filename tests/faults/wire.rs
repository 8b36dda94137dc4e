//! A client of sockets that sends any bytes, right or wrong, and reads frames one by one.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub(crate) const CONTINUE: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;
pub(crate) const FIN: u8 = 0x80;

/// A masked frame as clients send it; `first` is the whole first byte.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, 0x80, payload.len() as u64);
    bytes.extend_from_slice(&MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The first bytes of a frame, up to its mask.
pub(crate) fn header(first: u8, masked: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(masked | u8::try_from(length).unwrap()),
        126..=0xffff => {
            bytes.push(masked | 0x7e);
            bytes.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        }
        _ => {
            bytes.push(masked | 0x7f);
            bytes.extend_from_slice(&length.to_be_bytes());
        }
    }
    bytes
}

/// The payload of a close frame.
pub(crate) fn closing(code: u16) -> Vec<u8> {
    frame(FIN | CLOSE, &code.to_be_bytes())
}

/// What the server sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Frame {
        first: u8,
        payload: Vec<u8>,
    },
    /// The connection is over.
    End,
    /// Nothing comes, and no end.
    Silence,
}

pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
}

impl Wire {
    /// Opens a socket that watches a conversation.
    pub(crate) fn open(address: SocketAddr, conv_id: &str) -> io::Result<Self> {
        Self::open_with(address, conv_id, &[])
    }

    /// The same with `more` in the packet of the handshake.
    pub(crate) fn open_with(address: SocketAddr, conv_id: &str, more: &[u8]) -> io::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let head = format!(
            "GET /ws?conv_id={conv_id} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        stream.write_all(&[head.as_bytes(), more].concat())?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            answer.push(byte[0]);
        }
        if answer.starts_with(b"HTTP/1.1 101 ") {
            return Ok(Self { stream });
        }
        Err(io::Error::other(String::from_utf8_lossy(&answer).into_owned()))
    }

    /// A server that has closed meanwhile is for the reader to notice.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// The next frame or the end.
    pub(crate) fn next(&mut self) -> Seen {
        let mut head = [0; 2];
        match self.stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Seen::Silence,
            Err(_) => return Seen::End,
        }
        assert_eq!(head[1] & 0x80, 0, "servers do not mask");
        let rest = match head[1] {
            126 => self.take(2),
            127 => self.take(8),
            short => Some(vec![short]),
        };
        let length =
            rest.map(|bytes| bytes.iter().fold(0, |n, byte| (n << 8) | usize::from(*byte)));
        match length.and_then(|length| self.take(length)) {
            Some(payload) => Seen::Frame { first: head[0], payload },
            None => Seen::End,
        }
    }

    fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).ok().map(|()| bytes)
    }

    /// The next frame of that kind, whatever comes before it; `None` at the end.
    pub(crate) fn next_of(&mut self, opcode: u8) -> Option<Vec<u8>> {
        loop {
            match self.next() {
                Seen::Frame { first, payload } if first == FIN | opcode => return Some(payload),
                Seen::Frame { .. } => {}
                Seen::End => return None,
                Seen::Silence => panic!("neither a frame of kind {opcode} nor the end"),
            }
        }
    }

    /// Reads to the end: the payload of the close frame, or what came instead of it.
    pub(crate) fn closed(&mut self) -> Result<Vec<u8>, &'static str> {
        let mut said = Err("the connection ends without a close frame");
        loop {
            match self.next() {
                Seen::Frame { first, payload } if first == FIN | CLOSE && said.is_err() => {
                    said = Ok(payload);
                }
                Seen::Frame { .. } if said.is_ok() => return Err("a frame behind the close frame"),
                Seen::Frame { .. } => {}
                Seen::End => return said,
                Seen::Silence if said.is_ok() => return Err("no end behind the close frame"),
                Seen::Silence => return Err("it goes on as if nothing had happened"),
            }
        }
    }
}
