//! B11, tool-loop: what one more call of an instant tool costs, against the same calls of the model without tools.

use anyhow::Result;

use super::first_frame::measured;
use crate::report::{Goal, Report, Row};
use crate::sample::Seeds;
use crate::settings::Settings;

/// The most calls that a run makes, and the fewest that have an iteration behind them.
const ITERATIONS: [usize; 4] = [1, 2, 3, 4];

/// Runs the row.
pub(crate) fn run(settings: &Settings, seeds: &Seeds, report: &mut Report) -> Result<()> {
    // Whole turns per second of one conversation: by iterations, of the forwarder and of ours.
    let mut turn_us = Vec::new();
    let mut cpu = Vec::new();
    let mut added_first = f64::NAN;
    for iterations in ITERATIONS {
        let prompt = format!("bench deltas=1 rounds={iterations}");
        let measured = measured(settings, seeds, 1, &prompt, iterations + 1)?;
        let took = |side| 1e6 / measured.median(side, |t| t.rate);
        turn_us.push((took(1), took(2)));
        cpu.push(measured.median(2, |t| t.cpu));
        if iterations == 1 {
            added_first = measured.median(2, |t| t.p50) - measured.median(0, |t| t.p50);
        }
        report.keep(format!("B11 {iterations} iterations"), &measured);
    }
    let steps = (ITERATIONS.len() - 1) as f64;
    let (first, last) = (turn_us[0], turn_us[ITERATIONS.len() - 1]);
    let floor = (last.0 - first.0) / steps;
    let own = (last.1 - first.1) / steps;
    let text = "us added by an iteration / by the first frame (B5)";
    report.add(Row::count("B11", text, (own - floor, added_first), Goal::AtMost(1.5)));
    let text = "cpu us of the 4th iteration / of the 2nd";
    report.add(Row::count("B11", text, (cpu[3] - cpu[2], cpu[1] - cpu[0]), Goal::AtMost(1.2)));
    Ok(())
}
