//! A provider on the generator's core that speaks the Chat Completions format. The prompt says what it answers:
//! `bench deltas=20000 size=5 pace_us=500` (text), `bench tools=100` (calls of the calculator at once, then text), or
//! `bench rounds=4` (a call of the calculator, four times, then text).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Bytes of events that are written at once when nothing is paced.
const BATCH: usize = 32 * 1024;

/// Starts it on a thread of its own; it ends with the process.
pub(crate) fn start() -> Result<SocketAddr> {
    let (told, address) = std::sync::mpsc::channel();
    std::thread::Builder::new().name("bench-provider".into()).spawn(move || {
        let serve = async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            told.send(listener.local_addr()?).ok();
            loop {
                let (stream, _) = listener.accept().await?;
                tokio::spawn(async move {
                    // A caller that goes away ends its connection, nothing else.
                    let _ = converse(stream).await;
                });
            }
            #[expect(unreachable_code, reason = "gives the block its type")]
            Ok::<(), anyhow::Error>(())
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if let Err(error) = runtime.map_err(anyhow::Error::from).and_then(|r| r.block_on(serve)) {
            eprintln!("the provider failed: {error:#}");
        }
    })?;
    address.recv().context("the provider did not start")
}

/// What one answer is made of.
#[derive(Debug, Clone, Copy, Default)]
struct Script {
    deltas: usize,
    size: usize,
    pace: Duration,
    tools: usize,
    /// Results of tools that the request has.
    answered: usize,
}

impl Script {
    /// Reads the newest instruction in a request.
    fn of(body: &str) -> Self {
        let text = body.rfind("bench ").map_or("", |at| &body[at + 6..]);
        let text = text.split('"').next().unwrap_or_default();
        let number = |key: &str| {
            let value = text.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
            value.and_then(|value| value.parse::<usize>().ok())
        };
        let newest = body.rfind("bench ").map_or("", |at| &body[at..]);
        let answered = newest.matches("\"role\":\"tool\"").count();
        let round = number("rounds").filter(|rounds| answered < *rounds);
        let tools = number("tools").filter(|_| answered == 0);
        Self {
            deltas: number("deltas").unwrap_or(1),
            size: number("size").unwrap_or(5),
            pace: Duration::from_micros(number("pace_us").unwrap_or(0) as u64),
            tools: round.map_or(tools.unwrap_or(0), |_| 1),
            answered,
        }
    }
}

async fn converse(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    loop {
        let head = loop {
            if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let length = crate::load::header(&buffer[..head], "content-length");
        let length: usize = length.context("no content-length")?.parse()?;
        while buffer.len() < head + length {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let script = Script::of(&String::from_utf8_lossy(&buffer[head..head + length]));
        buffer.drain(..head + length);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await?;
        answer(&mut stream, script).await?;
    }
}

async fn answer(stream: &mut TcpStream, script: Script) -> Result<()> {
    let text = "x".repeat(script.size);
    let delta = chunk(&format!(
        "{{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}"
    ));
    let mut out = Vec::with_capacity(2 * BATCH);
    let begun = Instant::now();
    for n in 0..script.deltas {
        let due = script.pace * u32::try_from(n).unwrap_or(u32::MAX);
        if !script.pace.is_zero() && begun.elapsed() < due {
            stream.write_all(&out).await?;
            out.clear();
            tokio::time::sleep_until((begun + due).into()).await;
        }
        out.extend_from_slice(&delta);
        if out.len() >= BATCH {
            stream.write_all(&out).await?;
            out.clear();
        }
    }
    for n in 0..script.tools {
        let call = "{\\\"a\\\":1,\\\"b\\\":2}";
        out.extend_from_slice(&chunk(&format!(
            "{{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{{\"index\":{n},\"id\":\"call-{}\",\
             \"function\":{{\"name\":\"calc\",\"arguments\":\"{call}\"}}}}]}}}}]}}",
            script.answered + n
        )));
    }
    let reason = if script.tools > 0 { "tool_calls" } else { "stop" };
    out.extend_from_slice(&chunk(&format!(
        "{{\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"{reason}\"}}]}}"
    )));
    out.extend_from_slice(&chunk("[DONE]"));
    out.extend_from_slice(b"0\r\n\r\n");
    stream.write_all(&out).await?;
    Ok(())
}

fn chunk(data: &str) -> Vec<u8> {
    let event = format!("data: {data}\n\n");
    format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
}
