//! Turns as a client sees them: from the prompt to the first delta, and to the end.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use crate::histogram::Histogram;
use crate::load::{Connection, connect};
use crate::requests::request;
use crate::rounds::Turn;
use crate::server::{Running, own_time};
use crate::settings::Settings;
use crate::watch::Watch;

/// A conversation is left after so many turns: its history is part of every prompt.
const EACH: usize = 8;

/// What is asked.
#[derive(Clone, Copy)]
pub(super) struct Talk<'a> {
    /// Names the conversations of this side and turn.
    pub(super) name: &'a str,
    /// At once.
    pub(super) conversations: usize,
    pub(super) prompt: &'a str,
    /// Calls of the model that one prompt makes.
    pub(super) calls: usize,
}

/// Talks for the length of a turn; quantiles are those of the first delta, the rate is that of whole turns.
pub(super) fn drive(settings: &Settings, server: &Running, talk: Talk<'_>) -> Result<Turn> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (begun, cpu, load) = (Instant::now(), server.processor_time(), own_time());
    let histogram = Rc::new(RefCell::new(Histogram::default()));
    let address = server.address;
    runtime.block_on(LocalSet::new().run_until(async {
        let end = begun + settings.turn;
        let talks = (0..talk.conversations).map(|n| {
            let histogram = histogram.clone();
            async move {
                let mut http = Connection::new(connect(address).await?);
                for stretch in 0.. {
                    if Instant::now() >= end {
                        break;
                    }
                    let conv_id = format!("{}-{n}-{stretch}", talk.name);
                    converse(&mut http, address, &conv_id, talk, &histogram).await?;
                }
                Ok::<(), anyhow::Error>(())
            }
        });
        futures_util::future::try_join_all(talks).await
    }))?;
    let took = begun.elapsed().as_secs_f64();
    let histogram = histogram.borrow();
    let turns = histogram.total() as f64;
    let cpu = server.processor_time().saturating_sub(cpu).as_secs_f64();
    Ok(Turn {
        rate: turns / took,
        p50: histogram.quantile(0.5) / 1e3,
        p99: histogram.quantile(0.99) / 1e3,
        samples: histogram.total(),
        cpu: cpu * 1e6 / turns.max(1.0),
        server_busy: cpu / took,
        load_busy: own_time().saturating_sub(load).as_secs_f64() / took,
        ..Turn::default()
    })
}

async fn converse(
    http: &mut Connection,
    address: SocketAddr,
    conv_id: &str,
    talk: Talk<'_>,
    histogram: &RefCell<Histogram>,
) -> Result<()> {
    let target = format!("/ws?conv_id={conv_id}&deltas=incremental");
    let mut socket = Watch::open(address, &target).await?;
    let body = json!({"conv_id": conv_id, "prompt": talk.prompt}).to_string();
    let mut message = request("POST", "/chat", "", Some(body.len()));
    message.extend_from_slice(body.as_bytes());
    for _ in 0..EACH {
        let begun = Instant::now();
        let answer = http.exchange(&message).await?;
        // The end of the last turn is said before the next may start: then it waits a moment.
        ensure!(
            [200, 202].contains(&answer.status),
            "refused: {}",
            String::from_utf8_lossy(answer.body)
        );
        http.forget();
        socket.until("llm.delta", 1).await?;
        histogram.borrow_mut().record(begun.elapsed());
        socket.until("llm.final", talk.calls).await?;
    }
    Ok(())
}

/// The provider itself, asked without anything between.
pub(super) fn direct(settings: &Settings, provider: SocketAddr, prompt: &str) -> Result<Turn> {
    let body =
        json!({"messages": [{"content": prompt, "role": "user"}], "stream": true}).to_string();
    let mut message = request("POST", "/v1/chat/completions", "", Some(body.len()));
    message.extend_from_slice(body.as_bytes());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (begun, mut histogram) = (Instant::now(), Histogram::default());
        let mut stream = TcpStream::connect(provider).await.context("no provider")?;
        stream.set_nodelay(true)?;
        while begun.elapsed() < settings.turn {
            let asked = Instant::now();
            stream.write_all(&message).await?;
            let mut buffer = Vec::with_capacity(16 * 1024);
            let mut heard = false;
            while !buffer.ends_with(b"0\r\n\r\n") {
                ensure!(stream.read_buf(&mut buffer).await? > 0, "the provider went away");
                if !heard && buffer.windows(6).any(|part| part == b"data: ") {
                    histogram.record(asked.elapsed());
                    heard = true;
                }
            }
        }
        Ok(Turn {
            rate: histogram.total() as f64 / begun.elapsed().as_secs_f64(),
            p50: histogram.quantile(0.5) / 1e3,
            p99: histogram.quantile(0.99) / 1e3,
            samples: histogram.total(),
            ..Turn::default()
        })
    })
}
