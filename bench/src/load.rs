//! The load generator: raw HTTP/1.1 over keep-alive connections on one thread, closed loop, every answer checked.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use crate::histogram::Histogram;
use crate::rounds::Turn;
use crate::server::{Running, own_time};

/// No answer takes this long; a run always ends.
const STUCK: Duration = Duration::from_mins(1);

/// What is asked, and which answers are right.
pub(crate) trait Workload {
    /// Appends request `n`.
    fn write(&self, n: u64, out: &mut Vec<u8>);
    /// Whether this answers it.
    fn accepts(&self, n: u64, answer: &Answer<'_>) -> bool;
}

/// One answer, borrowed from the connection's buffer.
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) head: &'a [u8],
    pub(crate) body: &'a [u8],
}

/// How much of it.
#[derive(Clone, Copy)]
pub(crate) struct Amount {
    pub(crate) connections: usize,
    pub(crate) time: Duration,
    /// At most so many requests.
    pub(crate) most: u64,
}

struct Shared {
    work: Rc<dyn Workload>,
    next: Cell<u64>,
    most: u64,
    end: Instant,
    right: Cell<u64>,
    wrong: Cell<u64>,
    histogram: RefCell<Histogram>,
}

/// Drives `server` and measures.
pub(crate) fn drive(server: &Running, amount: Amount, work: Rc<dyn Workload>) -> Result<Turn> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (address, connections) = (server.address, amount.connections);
    runtime.block_on(LocalSet::new().run_until(async move {
        let mut streams = Vec::new();
        for _ in 0..connections {
            streams.push(connect(address).await?);
        }
        let begun = Instant::now();
        let (cpu, load) = (server.processor_time(), own_time());
        let shared = Rc::new(Shared {
            work,
            next: Cell::new(0),
            most: amount.most,
            end: begun + amount.time,
            right: Cell::new(0),
            wrong: Cell::new(0),
            histogram: RefCell::default(),
        });
        let tasks: Vec<_> = streams
            .into_iter()
            .map(|stream| tokio::task::spawn_local(converse(stream, shared.clone())))
            .collect();
        for task in tasks {
            match tokio::time::timeout(amount.time + STUCK, task).await {
                Ok(joined) => joined.context("a connection of the generator panicked")?,
                Err(_) => shared.wrong.set(shared.wrong.get() + 1),
            }
        }
        let took = begun.elapsed().as_secs_f64();
        let cpu = server.processor_time().saturating_sub(cpu).as_secs_f64();
        let load = own_time().saturating_sub(load).as_secs_f64();
        let histogram = shared.histogram.borrow();
        let right = shared.right.get() as f64;
        Ok(Turn {
            rate: right / took,
            p50: histogram.quantile(0.5) / 1000.0,
            p99: histogram.quantile(0.99) / 1000.0,
            samples: histogram.total(),
            failed: shared.wrong.get(),
            cpu: cpu * 1e6 / right.max(1.0),
            server_busy: cpu / took,
            load_busy: load / took,
        })
    }))
}

pub(crate) async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).await.context("connect to a child")?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn converse(stream: TcpStream, shared: Rc<Shared>) {
    let mut connection = Connection::new(stream);
    let mut request = Vec::new();
    loop {
        let n = shared.next.get();
        let begun = Instant::now();
        if n >= shared.most || begun >= shared.end {
            return;
        }
        shared.next.set(n + 1);
        request.clear();
        shared.work.write(n, &mut request);
        let Ok(answer) = connection.exchange(&request).await else {
            shared.wrong.set(shared.wrong.get() + 1);
            return;
        };
        let right = shared.work.accepts(n, &answer);
        shared.histogram.borrow_mut().record(begun.elapsed());
        let count = if right { &shared.right } else { &shared.wrong };
        count.set(count.get() + 1);
        connection.forget();
    }
}

/// A keep-alive connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    used: usize,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::with_capacity(16 * 1024), used: 0 }
    }

    /// Asks once; [`Self::forget`] before the next.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<Answer<'_>> {
        self.stream.write_all(request).await?;
        let head = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        let (status, length) = framing(&self.buffer[..head])?;
        self.buffer.reserve((head + length).saturating_sub(self.buffer.len()));
        while self.buffer.len() < head + length {
            self.more().await?;
        }
        self.used = head + length;
        Ok(Answer { status, head: &self.buffer[..head], body: &self.buffer[head..head + length] })
    }

    async fn more(&mut self) -> Result<()> {
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            bail!("the connection was closed");
        }
        Ok(())
    }

    /// Drops the answer.
    pub(crate) fn forget(&mut self) {
        self.buffer.drain(..self.used);
    }
}

/// Status and length of the body: all answers here have a `content-length`, or none and no body.
fn framing(head: &[u8]) -> Result<(u16, usize)> {
    let status = head.get(9..12).and_then(|code| std::str::from_utf8(code).ok());
    let status: u16 = status.and_then(|code| code.parse().ok()).context("no status")?;
    if status == 304 || status == 204 {
        return Ok((status, 0));
    }
    let length = header(head, "content-length").context("no content-length")?;
    Ok((status, length.parse()?))
}

/// A header's value.
pub(crate) fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    head.split(|b| *b == b'\n').find_map(|line| {
        let (key, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        if !key.eq_ignore_ascii_case(name.as_bytes()) {
            return None;
        }
        std::str::from_utf8(value).ok().map(str::trim)
    })
}

/// Asks a few things once and returns head and body of each.
pub(crate) fn ask(address: SocketAddr, requests: &[Vec<u8>]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = Connection::new(connect(address).await?);
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            let answer = connection.exchange(request).await?;
            answers.push((answer.head.to_vec(), answer.body.to_vec()));
            connection.forget();
        }
        Ok(answers)
    })
}
