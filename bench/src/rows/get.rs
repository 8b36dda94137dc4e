//! B1, profile-get: one profile of 1.2 KB, tokens and tags on, against the same bytes from bare hyper and from axum.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;

use crate::load::{Amount, Workload, drive};
use crate::report::{Compare, Goal, Report, Row};
use crate::requests::{Reads, path};
use crate::rounds::{Measured, Side, measure};
use crate::sample::Seeds;
use crate::server::{Place, Running, limit, ours};
use crate::settings::Settings;

const SMALL: usize = 10;
const LARGE: usize = 10_000;
/// Time for caches and the branch predictor, not counted.
const WARM: Duration = Duration::from_millis(200);

const RAW: usize = 0;
const AXUM: usize = 1;
const AT_SMALL: usize = 2;
const AT_LARGE: usize = 3;

/// Runs the row.
pub(crate) fn run(settings: &Settings, seeds: &Seeds, report: &mut Report) -> Result<()> {
    let small = ours(settings, seeds.copy(SMALL)?, Place::Pinned)?;
    let large = ours(settings, seeds.copy(LARGE)?, Place::Pinned)?;
    for conditional in [false, true] {
        let kind = if conditional { "GET 304" } else { "GET" };
        let at_small = Rc::new(Reads::of(small.address, &paths(SMALL), conditional)?);
        let at_large = Rc::new(Reads::of(large.address, &paths(LARGE), conditional)?);
        let same = Rc::new(at_small.first());
        let canned = settings.out.join("answer.http");
        std::fs::write(&canned, [&same.head[..], same.body()].concat())?;
        let canned = canned.to_string_lossy();
        let raw = limit(&["raw", &canned], None, Place::Pinned)?;
        let axum = limit(&["axum", &canned], None, Place::Pinned)?;
        for connections in [64, 1] {
            let workload = format!("{kind} c={connections}");
            if !settings.wants(&workload) {
                continue;
            }
            let sides = vec![
                side(settings, "raw hyper", &raw, connections, same.clone()),
                side(settings, "axum", &axum, connections, same.clone()),
                side(settings, "ours N=10", &small, connections, at_small.clone()),
                side(settings, "ours N=10,000", &large, connections, at_large.clone()),
            ];
            let measured = measure(settings, sides)?;
            rows(report, &workload, &measured);
            report.keep(format!("B1 {workload}"), &measured);
        }
    }
    if settings.wants("GET twin") {
        twin(settings, &large, seeds, report)?;
    }
    if settings.wants("GET unpinned") {
        unpinned(settings, seeds, report)?;
    }
    Ok(())
}

fn paths(n: usize) -> Vec<String> {
    (0..n).map(path).collect()
}

/// One side that is driven over HTTP.
pub(super) fn side<'a>(
    settings: &'a Settings,
    name: &str,
    server: &'a Running,
    connections: usize,
    work: Rc<dyn Workload>,
) -> Side<'a> {
    Side::new(name, move || {
        let amount = Amount { connections, time: WARM, most: u64::MAX };
        drive(server, amount, work.clone())?;
        drive(server, Amount { time: settings.turn, ..amount }, work.clone())
    })
}

fn rows(report: &mut Report, workload: &str, measured: &Measured) {
    let mut add = |text: &str, side, over, metric: fn(&crate::rounds::Turn) -> f64, goal| {
        let compare = Compare { measured, side, over, metric, goal };
        report.add(Row::compare("B1", format!("{workload} {text}"), &compare));
    };
    add("N=10 / raw hyper, req/s", AT_SMALL, RAW, |t| t.rate, Goal::AtLeast(0.60));
    add("N=10,000 / raw hyper, req/s", AT_LARGE, RAW, |t| t.rate, Goal::AtLeast(0.60));
    add("N=10 / axum bytes, req/s", AT_SMALL, AXUM, |t| t.rate, Goal::AtLeast(0.85));
    add("N=10,000 / axum bytes, req/s", AT_LARGE, AXUM, |t| t.rate, Goal::AtLeast(0.85));
    add("N=10 / raw hyper, p99 us", AT_SMALL, RAW, |t| t.p99, Goal::AtMost(1.5));
    add("N=10,000 / N=10, us per request", AT_LARGE, AT_SMALL, |t| 1e6 / t.rate, Goal::AtMost(1.2));
    add("N=10 / raw hyper, cpu us/req", AT_SMALL, RAW, |t| t.cpu, Goal::Shown);
    add("N=10 / axum bytes, cpu us/req", AT_SMALL, AXUM, |t| t.cpu, Goal::Shown);
    add("N=10 / raw hyper, p50 us", AT_SMALL, RAW, |t| t.p50, Goal::Shown);
}

/// The twin needs seconds for what takes microseconds here, so that one turn each is enough.
fn twin(settings: &Settings, ours: &Running, seeds: &Seeds, report: &mut Report) -> Result<()> {
    let count = LARGE.to_string();
    let twin = limit(&["twin", &count], Some(seeds.copy(SMALL)?), Place::Pinned)?;
    let work = Rc::new(Reads::of(twin.address, &[path(LARGE / 2)], false)?);
    let own = Rc::new(Reads::of(ours.address, &[path(LARGE / 2)], false)?);
    let time = settings.turn.max(Duration::from_secs(2));
    let amount = Amount { connections: 4, time, most: u64::MAX };
    let theirs = drive(&twin, amount, work)?;
    // Both have all that one core can take.
    let own = drive(ours, Amount { connections: 64, ..amount }, own)?;
    let workload = "GET N=10,000 / twin, req/s";
    report.add(Row::count("B1", workload, (own.rate, theirs.rate), Goal::AtLeast(5000.0)));
    Ok(())
}

fn unpinned(settings: &Settings, seeds: &Seeds, report: &mut Report) -> Result<()> {
    let server = ours(settings, seeds.copy(LARGE)?, Place::Free)?;
    let work = Rc::new(Reads::of(server.address, &paths(LARGE), false)?);
    let same = work.first();
    let canned = settings.out.join("answer.http");
    std::fs::write(&canned, [&same.head[..], same.body()].concat())?;
    let raw = limit(&["raw", &canned.to_string_lossy()], None, Place::Free)?;
    let sides = vec![
        side(settings, "raw hyper", &raw, 64, Rc::new(same)),
        side(settings, "ours N=10,000", &server, 64, work),
    ];
    let measured = measure(settings, sides)?;
    let compare =
        Compare { measured: &measured, side: 1, over: 0, metric: |t| t.rate, goal: Goal::Shown };
    let workload = "GET unpinned c=64 N=10,000 / raw hyper, req/s";
    report.add(Row::compare("B1", workload, &compare));
    report.keep("B1 GET unpinned", &measured);
    Ok(())
}
