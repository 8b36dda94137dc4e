//! B9, cold-start: from the start of the process to its first answer, and what it holds in memory then.

use anyhow::Result;

use super::recovery::{copy, fill, median, ready};
use crate::report::{Goal, Report, Row};
use crate::sample::Seeds;
use crate::server::{Place, limit, ours};
use crate::settings::Settings;

/// Runs the row.
pub(crate) fn run(settings: &Settings, seeds: &Seeds, report: &mut Report) -> Result<()> {
    let mut by_size = Vec::new();
    for turns in [0, 100_000] {
        let workload = format!("{turns} turns");
        if !settings.wants(&workload) {
            continue;
        }
        let filled = seeds.copy(10)?;
        fill(&filled, turns)?;
        let (mut own, mut floor) = (Vec::new(), Vec::new());
        let (mut own_memory, mut floor_memory) = (Vec::new(), Vec::new());
        // A start takes milliseconds: many of them, so that one slow disk does not decide.
        for _ in 0..4 * settings.rounds {
            let folder = seeds.copy(10)?;
            copy(&filled, &folder, &["chat.db", "chat.db.state"])?;
            let bare = seeds.copy(10)?;
            copy(&filled, &bare, &["chat.db"])?;
            let (took, server) = ready(|| limit(&["floor"], Some(bare), Place::Pinned))?;
            floor.push(took);
            floor_memory.push(server.memory()? as f64);
            let (took, server) = ready(|| ours(settings, folder, Place::Pinned))?;
            own.push(took);
            own_memory.push(server.memory()? as f64);
        }
        let (own, floor) = (median(own), median(floor));
        let text = format!("{workload}: ms until ready / floor");
        report.add(Row::count("B9", text, (own, floor), Goal::AtMost(3.0)));
        let text = format!("{workload}: bytes resident when ready / floor");
        let memory = (median(own_memory), median(floor_memory));
        report.add(Row::count("B9", text, memory, Goal::AtMost(3.0)));
        by_size.push(own);
    }
    if let [empty, large] = by_size[..] {
        let workload = "ready, 100,000 turns / none";
        report.add(Row::count("B9", workload, (large, empty), Goal::AtMost(1.3)));
    }
    Ok(())
}
