//! B5, first-frame: from the prompt to the first delta on a socket, the stored prompt included, against the provider
//! asked directly and against the smallest program that forwards.

use anyhow::Result;

use super::chatting;
use super::turns::{Talk, direct, drive};
use crate::limits::rows::bare;
use crate::provider;
use crate::report::{Compare, Goal, Report, Row};
use crate::rounds::{Measured, Side, Turn, measure};
use crate::sample::{Seeds, database_in};
use crate::server::{Place, limit};
use crate::settings::Settings;

/// What one answer has.
const PROMPT: &str = "bench deltas=64 size=5";

/// Runs the row.
pub(crate) fn run(settings: &Settings, seeds: &Seeds, report: &mut Report) -> Result<()> {
    for conversations in [1, 64] {
        let workload = format!("c={conversations}");
        if !settings.wants(&workload) {
            continue;
        }
        let measured = measured(settings, seeds, conversations, PROMPT, 1)?;
        if conversations == 1 {
            let scratch = seeds.copy(10)?;
            let rows = bare(&database_in(scratch.path()), 1, settings.turn)?;
            let p50 = |side| measured.median(side, |t| t.p50);
            let (direct, floor, own) = (p50(0), p50(1), p50(2));
            let allowed = direct + 1e6 / rows;
            let text = "c=1 us added to the first delta / direct + one commit";
            report.add(Row::count("B5", text, (own - direct, allowed), Goal::AtMost(1.0)));
            let text = "c=1 us added to the first delta / forwarder's";
            report.add(Row::count("B5", text, (own - direct, floor - direct), Goal::AtMost(1.5)));
            let p99 = measured.median(2, |t| t.p99);
            let text = "c=1 p99 of the first delta, us / 38,000 (Nagle)";
            report.add(Row::count("B5", text, (p99, 38_000.0), Goal::AtMost(1.0)));
        } else {
            let metric: fn(&Turn) -> f64 = |t| t.rate;
            let goal = Goal::AtLeast(0.6);
            let compare = Compare { measured: &measured, side: 2, over: 1, metric, goal };
            report.add(Row::compare("B5", "c=64 turns/s of 64 deltas / forwarder's", &compare));
        }
        report.keep(format!("B5 {workload}"), &measured);
    }
    Ok(())
}

/// The sides `direct`, `forwarder` and `ours`, in this order.
pub(super) fn measured(
    settings: &Settings,
    seeds: &Seeds,
    conversations: usize,
    prompt: &str,
    calls: usize,
) -> Result<Measured> {
    let provider = provider::start()?;
    let address = provider.to_string();
    let forward = limit(&["forward", &address], Some(seeds.copy(10)?), Place::Pinned)?;
    let server = chatting(settings, seeds, provider)?;
    let (mut theirs, mut own) = (0, 0);
    let sides = vec![
        Side::new("direct", || direct(settings, provider, prompt)),
        Side::new("forwarder", || {
            theirs += 1;
            let name = format!("t{theirs}");
            drive(settings, &forward, Talk { name: &name, conversations, prompt, calls })
        }),
        Side::new("ours", || {
            own += 1;
            let name = format!("o{own}");
            drive(settings, &server, Talk { name: &name, conversations, prompt, calls })
        }),
    ];
    measure(settings, sides)
}
