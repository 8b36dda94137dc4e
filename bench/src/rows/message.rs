//! B7, long-message: 20,000 deltas of 5 bytes, as increments and as the contract has them.

use anyhow::{Context, Result};
use tokio::runtime::Builder;

use super::recovery::median;
use super::{chatting, prompt};
use crate::provider;
use crate::report::{Goal, Report, Row};
use crate::sample::{Seeds, database_in};
use crate::server::Running;
use crate::settings::Settings;
use crate::watch::{Seen, Watch};

const DELTAS: u64 = 20_000;
const SIZE: u64 = 5;
/// A raw frame for every delta.
const RAW_FRAME: u64 = 198;

/// Runs the row.
pub(crate) fn run(settings: &Settings, seeds: &Seeds, report: &mut Report) -> Result<()> {
    let provider = provider::start()?;
    let server = chatting(settings, seeds, provider)?;
    // Connections, code and caches.
    stream(&server, "warm", "incremental", 1, "bench deltas=2000 size=5")?;
    for watchers in [1, 10] {
        let text = format!("bench deltas={DELTAS} size={SIZE} pace_us=500");
        let name = format!("w{watchers}");
        let (seen, _, disk) = stream(&server, &name, "incremental", watchers, &text)?;
        let raw = (DELTAS * RAW_FRAME) as f64;
        let workload = format!("{watchers} watchers, incremental, bytes a socket / raw frames");
        report.add(Row::count("B7", workload, (seen.bytes as f64, raw), Goal::AtMost(1.15)));
        let allowed = (4 * DELTAS * SIZE + 64 * 1024) as f64;
        let workload = format!("{watchers} watchers, bytes of the log / 4 x text + 64 KB");
        report.add(Row::count("B7", workload, (disk as f64, allowed), Goal::AtMost(1.0)));
    }
    let cost = |n: u64, round: usize| -> Result<f64> {
        let text = format!("bench deltas={n} size={SIZE} pace_us=500");
        let (_, cpu, _) = stream(&server, &format!("cpu{n}-{round}"), "incremental", 1, &text)?;
        Ok(cpu)
    };
    let (mut small, mut large) = (Vec::new(), Vec::new());
    for round in 0..settings.rounds {
        small.push(cost(2_000, round)?);
        large.push(cost(20_000, round)?);
    }
    let (small, large) = (median(small), median(large));
    report.add(Row::count(
        "B7",
        "cpu of 20,000 / 2,000 deltas",
        (large, small),
        Goal::AtMost(11.0),
    ));

    let text = format!("bench deltas={DELTAS} size={SIZE} pace_us=500");
    let (seen, _, _) = stream(&server, "contract", "cumulative", 1, &text)?;
    let workload = "contract dialect, delta frames in 10 s / 400";
    report.add(Row::count("B7", workload, (seen.deltas as f64, 400.0), Goal::AtMost(1.0)));
    Ok(())
}

/// One message to so many sockets: what one saw, processor seconds of the server, bytes that its log grew by.
fn stream(
    server: &Running,
    conv_id: &str,
    dialect: &str,
    watchers: usize,
    text: &str,
) -> Result<(Seen, f64, u64)> {
    let folder = server.folder().context("a server has a folder")?;
    let log = database_in(folder).with_file_name("chat.db-wal");
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let target = format!("/ws?conv_id={conv_id}&deltas={dialect}");
    let mut sockets = Vec::new();
    for _ in 0..watchers {
        sockets.push(runtime.block_on(Watch::open(server.address, &target))?);
    }
    let (cpu, before) = (server.processor_time(), size(&log));
    prompt(server.address, conv_id, text)?;
    let ends = sockets.iter_mut().map(|socket| socket.until("llm.final", 1));
    runtime.block_on(async { futures_util::future::try_join_all(ends).await })?;
    let cpu = server.processor_time().saturating_sub(cpu).as_secs_f64();
    Ok((sockets[0].seen, cpu, size(&log).saturating_sub(before)))
}

fn size(path: &std::path::Path) -> u64 {
    std::fs::metadata(path).map_or(0, |meta| meta.len())
}
