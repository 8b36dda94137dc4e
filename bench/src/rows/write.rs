//! B3, profile-write: durable creates and `PATCH`es against a handler that hands the raw body to the same kind of writer.
//! Every turn starts fresh processes on a fresh copy of the database, so that no turn pays for the one before.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;

use crate::limits::rows::bare;
use crate::load::{Amount, drive};
use crate::report::{Compare, Goal, Report, Row};
use crate::requests::Writes;
use crate::rounds::{Measured, Side, Turn, measure};
use crate::sample::{Seeds, database_in};
use crate::server::{Place, Running, limit, ours};
use crate::settings::Settings;

const SMALL: usize = 10;
const LARGE: usize = 10_000;
/// A registry takes 20,000 profiles; creates stop before.
const CREATES: u64 = 9_000;

/// Runs the row.
pub(crate) fn run(settings: &Settings, seeds: &Seeds, report: &mut Report) -> Result<()> {
    for clients in [1, 8, 64] {
        if settings.wants("WRITE bare") {
            let folder = seeds.copy(SMALL)?;
            let rate = bare(&database_in(folder.path()), clients, settings.turn)?;
            let workload = format!("WRITE bare rusqlite thread, groups of {clients}, rows/s");
            report.add(Row::count("B3", workload, (rate, rate), Goal::Shown));
        }
    }
    for clients in [1, 8, 64] {
        for (kind, most) in [("PATCH", u64::MAX), ("CREATE", CREATES)] {
            let workload = format!("{kind} c={clients}");
            if !settings.wants(&workload) {
                continue;
            }
            let writes = |n| match kind {
                "PATCH" => Writes::patches(n),
                _ => Writes::creates(),
            };
            let amount = Amount { connections: clients, time: settings.turn, most };
            let (small, large) = (Rc::new(writes(SMALL)?), Rc::new(writes(LARGE)?));
            let sides = vec![
                side("limit N=10", amount, small.clone(), || of_limit(seeds, SMALL)),
                side("ours N=10", amount, small, || of_ours(settings, seeds, SMALL)),
                side("limit N=10,000", amount, large.clone(), || of_limit(seeds, LARGE)),
                side("ours N=10,000", amount, large, || of_ours(settings, seeds, LARGE)),
            ];
            let measured = measure(settings, sides)?;
            rows(report, &workload, clients, &measured);
            report.keep(format!("B3 {workload}"), &measured);
        }
    }
    if settings.wants("PATCH one profile") {
        let amount = Amount { connections: 64, time: settings.turn, most: u64::MAX };
        let one = Rc::new(Writes::patches(1)?);
        let sides = vec![
            side("limit", amount, one.clone(), || of_limit(seeds, SMALL)),
            side("ours", amount, one, || of_ours(settings, seeds, SMALL)),
        ];
        let measured = measure(settings, sides)?;
        let compare = Compare {
            measured: &measured,
            side: 1,
            over: 0,
            metric: |t| t.rate,
            goal: Goal::AtLeast(0.70),
        };
        report.add(Row::compare("B3", "PATCH one profile c=64 / raw writer, acked/s", &compare));
        report.keep("B3 PATCH one profile", &measured);
    }
    Ok(())
}

fn of_limit(seeds: &Seeds, n: usize) -> Result<Running> {
    limit(&["writer"], Some(seeds.copy(n)?), Place::Pinned)
}

fn of_ours(settings: &Settings, seeds: &Seeds, n: usize) -> Result<Running> {
    ours(settings, seeds.copy(n)?, Place::Pinned)
}

fn side<'a>(
    name: &str,
    amount: Amount,
    work: Rc<Writes>,
    start: impl Fn() -> Result<Running> + 'a,
) -> Side<'a> {
    Side::new(name, move || {
        let server = start()?;
        // Starting left work for the kernel.
        std::thread::sleep(Duration::from_millis(50));
        drive(&server, amount, work.clone())
    })
}

fn rows(report: &mut Report, workload: &str, clients: usize, measured: &Measured) {
    let mut add = |text: &str, side, over, metric: fn(&Turn) -> f64, goal| {
        let compare = Compare { measured, side, over, metric, goal };
        report.add(Row::compare("B3", format!("{workload} {text}"), &compare));
    };
    add("N=10 / raw writer, acked/s", 1, 0, |t| t.rate, Goal::AtLeast(0.70));
    add("N=10,000 / raw writer, acked/s", 3, 2, |t| t.rate, Goal::AtLeast(0.70));
    add("N=10,000 / N=10, us per write", 3, 1, |t| 1e6 / t.rate, Goal::AtMost(1.2));
    add("raw writer's own growth, us per write", 2, 0, |t| 1e6 / t.rate, Goal::Shown);
    add("N=10 / raw writer, cpu us/write", 1, 0, |t| t.cpu, Goal::Shown);
    if clients == 1 {
        add("N=10 / raw writer, p50 us", 1, 0, |t| t.p50, Goal::AtMost(1.3));
    }
}
