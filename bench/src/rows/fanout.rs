//! B6, fan-out: frames to many sockets of one conversation, as fast as they can be made, against one `write` a frame.
//! Frames come from a model that calls a tool a hundred times: those are not coalesced.

use std::time::Instant;

use anyhow::Result;
use tokio::runtime::Builder;

use super::{chatting, prompt};
use crate::load::ask;
use crate::provider;
use crate::report::{Compare, Goal, Report, Row};
use crate::requests::request;
use crate::rounds::{Side, Turn, measure};
use crate::sample::Seeds;
use crate::server::{Place, Running, limit};
use crate::settings::Settings;
use crate::watch::Watch;

const TOOLS: usize = 100;

/// Runs the row.
pub(crate) fn run(settings: &Settings, seeds: &Seeds, report: &mut Report) -> Result<()> {
    let provider = provider::start()?;
    for watchers in [1, 100, 1_000] {
        let workload = format!("{watchers} sockets");
        if !settings.wants(&workload) {
            continue;
        }
        let raw = limit(&["sockets"], None, Place::Pinned)?;
        let server = chatting(settings, seeds, provider)?;
        let mut turns = 0;
        let sides = vec![
            Side::new("raw write a frame", || raw_turn(&raw, watchers)),
            Side::new("ours", || {
                turns += 1;
                our_turn(&server, &format!("c{turns}"), watchers)
            }),
        ];
        let measured = measure(settings, sides)?;
        let mut add = |text: &str, metric: fn(&Turn) -> f64, goal| {
            let compare = Compare { measured: &measured, side: 1, over: 0, metric, goal };
            report.add(Row::compare("B6", format!("{workload} {text}"), &compare));
        };
        // One socket cannot keep up with what it is compared with: making the frames is most of it.
        let goal = if watchers == 1 { Goal::Shown } else { Goal::AtLeast(0.8) };
        add("/ raw, frames/s", |t| t.rate, goal);
        add("/ raw, cpu us a frame", |t| t.cpu, Goal::Shown);
        report.keep(format!("B6 {workload}"), &measured);
    }
    Ok(())
}

/// Frames that the limit sends in a turn, so that both sides take about as long.
fn frames_for(watchers: usize) -> u64 {
    if watchers >= 1_000 { 500 } else { 2_000 }
}

fn raw_turn(server: &Running, watchers: usize) -> Result<Turn> {
    let frames = frames_for(watchers);
    deliver(
        server,
        "/ws",
        watchers,
        |address| {
            let request = request("POST", &format!("/go?frames={frames}"), "", Some(0));
            // The answer comes when everything has been handed on.
            std::thread::spawn(move || ask(address, &[request]));
            Ok(())
        },
        Until::Frames(frames),
    )
}

fn our_turn(server: &Running, conv_id: &str, watchers: usize) -> Result<Turn> {
    let target = format!("/ws?conv_id={conv_id}&deltas=incremental");
    let conv_id = conv_id.to_owned();
    deliver(
        server,
        &target,
        watchers,
        |address| prompt(address, &conv_id, &format!("bench deltas=1 tools={TOOLS}")),
        // One message before the tools, one after.
        Until::Finals(2),
    )
}

#[derive(Clone, Copy)]
enum Until {
    Frames(u64),
    Finals(usize),
}

fn deliver(
    server: &Running,
    target: &str,
    watchers: usize,
    begin: impl FnOnce(std::net::SocketAddr) -> Result<()>,
    until: Until,
) -> Result<Turn> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut sockets = Vec::with_capacity(watchers);
    for _ in 0..watchers {
        sockets.push(runtime.block_on(Watch::open(server.address, target))?);
    }
    let (cpu, own) = (server.processor_time(), crate::server::own_time());
    let begun = Instant::now();
    begin(server.address)?;
    let reads = sockets.iter_mut().map(|socket| async move {
        match until {
            Until::Frames(count) => socket.frames(count).await,
            Until::Finals(count) => socket.until("llm.final", count).await,
        }
    });
    runtime.block_on(async { futures_util::future::try_join_all(reads).await })?;
    let took = begun.elapsed().as_secs_f64();
    let frames: u64 = sockets.iter().map(|socket| socket.seen.frames).sum();
    let cpu = server.processor_time().saturating_sub(cpu).as_secs_f64();
    let own = crate::server::own_time().saturating_sub(own).as_secs_f64();
    Ok(Turn {
        rate: frames as f64 / took,
        samples: frames,
        cpu: cpu * 1e6 / frames as f64,
        server_busy: cpu / took,
        load_busy: own / took,
        ..Turn::default()
    })
}
