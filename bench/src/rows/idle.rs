//! B8, idle-memory: what a socket and a conversation cost that nothing happens to.

use std::time::Duration;

use anyhow::Result;
use tokio::runtime::Builder;

use super::{chatting, prompt};
use crate::provider;
use crate::report::{Goal, Report, Row};
use crate::sample::Seeds;
use crate::server::{Place, Running, limit};
use crate::settings::Settings;
use crate::watch::Watch;

/// Memory is looked at after so long, when what connecting needed has been given back.
const SETTLE: Duration = Duration::from_secs(15);

/// Runs the row.
pub(crate) fn run(settings: &Settings, seeds: &Seeds, report: &mut Report) -> Result<()> {
    let provider = provider::start()?;
    let mut per_socket = Vec::new();
    for sockets in [1_000, 8_000] {
        let workload = format!("{sockets} idle sockets");
        if !settings.wants(&workload) {
            continue;
        }
        let bare = limit(&["sockets"], None, Place::Pinned)?;
        let theirs = cost(&bare, sockets, |_| "/ws".to_owned())?;
        drop(bare);
        let server = chatting(settings, seeds, provider)?;
        // As people use it: each watches a conversation of their own.
        let own = cost(&server, sockets, |n| format!("/ws?conv_id=c{n}"))?;
        let workload = format!("{workload}, bytes each / bare axum socket");
        report.add(Row::count("B8", workload, (own, theirs), Goal::AtMost(2.0)));
        per_socket.push(own);
    }
    if let [small, large] = per_socket[..] {
        let workload = "bytes a socket, 8,000 / 1,000";
        report.add(Row::count("B8", workload, (large, small), Goal::AtMost(1.05)));
    }
    if settings.wants("idle conversations") {
        conversations(settings, seeds, provider, report)?;
    }
    Ok(())
}

fn cost(server: &Running, count: usize, target: impl Fn(usize) -> String) -> Result<f64> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    // The first ones pay for what all of them share.
    let mut open = Vec::with_capacity(count);
    for n in 0..100 {
        open.push(runtime.block_on(Watch::open(server.address, &target(n)))?);
    }
    std::thread::sleep(SETTLE);
    let before = server.memory()?;
    for n in 100..count {
        open.push(runtime.block_on(Watch::open(server.address, &target(n)))?);
    }
    std::thread::sleep(SETTLE);
    let grown = server.memory()?.saturating_sub(before);
    Ok(grown as f64 / (count - 100) as f64)
}

/// Conversations of one turn whose sockets have gone.
fn conversations(
    settings: &Settings,
    seeds: &Seeds,
    provider: std::net::SocketAddr,
    report: &mut Report,
) -> Result<()> {
    const COUNT: usize = 10_000;
    const WARM: usize = 2_000;
    let server = chatting(settings, seeds, provider)?;
    let talk = |from: usize, to: usize| -> Result<()> {
        for n in from..to {
            prompt(server.address, &format!("c{n}"), "bench deltas=1")?;
        }
        Ok(())
    };
    talk(0, WARM)?;
    std::thread::sleep(SETTLE);
    let before = server.memory()?;
    talk(WARM, COUNT)?;
    std::thread::sleep(SETTLE);
    let each = server.memory()?.saturating_sub(before) as f64 / (COUNT - WARM) as f64;
    let workload = "idle conversations, bytes each / 2 KiB";
    report.add(Row::count("B8", workload, (each, 2048.0), Goal::AtMost(1.0)));
    Ok(())
}
