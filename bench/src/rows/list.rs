//! B2, profile-list: the whole list and pages of it, against the same bytes from one buffer.

use std::rc::Rc;

use anyhow::Result;

use super::get::side;
use crate::report::{Compare, Goal, Report, Row};
use crate::requests::{Reads, path};
use crate::rounds::{Side, measure};
use crate::sample::{Seeds, slug};
use crate::server::{Place, Running, limit, ours};
use crate::settings::Settings;

/// Runs the row.
pub(crate) fn run(settings: &Settings, seeds: &Seeds, report: &mut Report) -> Result<()> {
    let servers = [10, 1000, 10_000]
        .into_iter()
        .map(|n| Ok((n, ours(settings, seeds.copy(n)?, Place::Pinned)?)))
        .collect::<Result<Vec<_>>>()?;
    for (n, server) in &servers {
        let workload = format!("LIST all N={n}");
        // Long lists go to few connections: sixty-four times 8 MB would measure the memory.
        let connections = if *n > 1000 { 4 } else { 16 };
        if settings.wants(&workload) {
            let list = Rc::new(Reads::of(server.address, &["/api/chat/profiles".into()], false)?);
            against_buffer(
                settings,
                report,
                &workload,
                server,
                connections,
                &list,
                Goal::AtLeast(0.6),
            )?;
        }
    }
    let (_, middle) = &servers[1];
    let (_, large) = &servers[2];
    if settings.wants("LIST page") {
        pages(settings, report, middle, large)?;
    }
    for (name, query) in [("tag", "tag=finance&limit=100"), ("prefix", "q=profile-09&limit=100")] {
        let workload = format!("LIST {name} filter, 100 of N=10,000");
        if settings.wants(&workload) {
            let paths = [format!("/api/chat/profiles?{query}")];
            let list = Rc::new(Reads::of(large.address, &paths, false)?);
            against_buffer(settings, report, &workload, large, 16, &list, Goal::Shown)?;
        }
    }
    Ok(())
}

fn against_buffer(
    settings: &Settings,
    report: &mut Report,
    workload: &str,
    server: &Running,
    connections: usize,
    list: &Rc<Reads>,
    goal: Goal,
) -> Result<()> {
    let buffer = buffer(settings, list)?;
    let sides = vec![
        side(settings, "one buffer", &buffer, connections, list.clone()),
        side(settings, "ours", server, connections, list.clone()),
    ];
    let measured = measure(settings, sides)?;
    let compare = Compare { measured: &measured, side: 1, over: 0, metric: |t| t.rate, goal };
    let kilobytes = list.body().len() / 1024;
    let text = format!("{workload} ({kilobytes} KB) / one buffer, lists/s");
    report.add(Row::compare("B2", text, &compare));
    report.keep(format!("B2 {workload}"), &measured);
    Ok(())
}

fn buffer(settings: &Settings, list: &Reads) -> Result<Running> {
    let canned = settings.out.join("answer.http");
    std::fs::write(&canned, [&list.head[..], list.body()].concat())?;
    limit(&["raw", &canned.to_string_lossy()], None, Place::Pinned)
}

/// Pages of 100 from 1,000 and 10,000 profiles, starting all over the list, beside one profile for the cost per KB.
fn pages(
    settings: &Settings,
    report: &mut Report,
    middle: &Running,
    large: &Running,
) -> Result<()> {
    let starts = |n: usize| {
        let start =
            move |i: usize| format!("/api/chat/profiles?limit=100&after={}", slug(i * n / 10));
        (0..9).map(start).collect::<Vec<_>>()
    };
    let one = Rc::new(Reads::of(large.address, &[path(17)], false)?);
    let at_middle = Rc::new(Reads::of(middle.address, &starts(1000), false)?);
    let at_large = Rc::new(Reads::of(large.address, &starts(10_000), false)?);
    let same = Rc::new(at_large.first());
    let buffer = buffer(settings, &same)?;
    let weight = at_large.body().len() as f64 / one.body().len() as f64;
    let sides = vec![
        side(settings, "one profile", large, 16, one),
        side(settings, "page of 1,000", middle, 16, at_middle),
        per_kilobyte(side(settings, "page of 10,000", large, 16, at_large), weight),
        per_kilobyte(side(settings, "one buffer", &buffer, 16, same), weight),
    ];
    let measured = measure(settings, sides)?;
    let mut add = |text: &str, side, over, metric, goal| {
        let compare = Compare { measured: &measured, side, over, metric, goal };
        report.add(Row::compare("B2", format!("LIST page of 100 {text}"), &compare));
    };
    add("/ B1, req/s per KB", 2, 0, |t| t.rate, Goal::AtLeast(0.7));
    add("/ one buffer, req/s", 2, 3, |t| t.rate, Goal::Shown);
    add("10,000 / 1,000, cpu us", 2, 1, |t| t.cpu, Goal::AtMost(1.2));
    report.keep("B2 LIST page", &measured);
    Ok(())
}

/// Counts a page as so many single profiles.
fn per_kilobyte(mut page: Side<'_>, weight: f64) -> Side<'_> {
    Side::new(page.name().to_owned(), move || {
        let turn = page.run()?;
        Ok(crate::rounds::Turn { rate: turn.rate * weight, ..turn })
    })
}
