//! Rows, their verdicts, the table and the JSON file.

use anyhow::Result;
use serde_json::{Value, json};

use crate::rounds::{Measured, Ratio, Turn};
use crate::settings::Settings;

/// What a ratio has to be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// Shown, not gated.
    Shown,
}

impl Goal {
    fn text(self) -> String {
        match self {
            Self::AtLeast(n) => format!(">= {n}"),
            Self::AtMost(n) => format!("<= {n}"),
            Self::Shown => "-".into(),
        }
    }

    fn is_met(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(n) => ratio >= n,
            Self::AtMost(n) => ratio <= n,
            Self::Shown => true,
        }
    }
}

/// One line of the table.
pub(crate) struct Row {
    benchmark: &'static str,
    workload: String,
    ours: f64,
    limit: f64,
    ratio: Ratio,
    goal: Goal,
    verdict: String,
}

/// A comparison of two sides.
pub(crate) struct Compare<'a> {
    pub(crate) measured: &'a Measured,
    pub(crate) side: usize,
    pub(crate) over: usize,
    pub(crate) metric: fn(&Turn) -> f64,
    pub(crate) goal: Goal,
}

impl Row {
    /// A row of measured turns.
    pub(crate) fn compare(row: &'static str, workload: impl Into<String>, c: &Compare<'_>) -> Self {
        let Compare { measured, side, over, metric, goal } = *c;
        let ratio = measured.ratio(side, over, metric);
        let failed = measured.failed(side) + measured.failed(over);
        let verdict = if failed > 0 {
            format!("failed: {failed} wrong answers")
        } else if ratio.kept == 0 || ratio.dropped > ratio.kept {
            "no result".into()
        } else {
            let bound = if measured.is_generator_bound(over) { " (generator-bound)" } else { "" };
            format!("{}{bound}", verdict(goal, ratio.median))
        };
        Self {
            benchmark: row,
            workload: workload.into(),
            ours: measured.median(side, metric),
            limit: measured.median(over, metric),
            ratio,
            goal,
            verdict,
        }
    }

    /// A row of two counts, which need no rounds.
    pub(crate) fn count(
        row: &'static str,
        workload: impl Into<String>,
        (ours, limit): (f64, f64),
        goal: Goal,
    ) -> Self {
        let median = if ours.to_bits() == limit.to_bits() { 1.0 } else { ours / limit };
        let ratio = Ratio { median, min: median, max: median, kept: 1, dropped: 0 };
        let verdict = verdict(goal, median);
        Self { benchmark: row, workload: workload.into(), ours, limit, ratio, goal, verdict }
    }

    /// A row that a rule of its own decides.
    pub(crate) fn decided(mut self, holds: bool) -> Self {
        self.verdict = if holds { "pass".into() } else { "MISS".into() };
        self
    }

    /// Whether a gate says no.
    pub(crate) fn is_missed(&self) -> bool {
        self.verdict.starts_with("MISS") || self.verdict.starts_with("failed")
    }

    fn json(&self) -> Value {
        json!({
            "row": self.benchmark, "workload": self.workload, "ours": self.ours, "limit": self.limit,
            "ratio": {"median": self.ratio.median, "min": self.ratio.min, "max": self.ratio.max},
            "rounds": {"kept": self.ratio.kept, "dropped": self.ratio.dropped},
            "goal": self.goal.text(), "verdict": self.verdict,
        })
    }
}

fn verdict(goal: Goal, ratio: f64) -> String {
    match goal {
        Goal::Shown => "shown".into(),
        goal if goal.is_met(ratio) => "pass".into(),
        _ => "MISS".into(),
    }
}

/// All rows of one command.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    raw: serde_json::Map<String, Value>,
}

impl Report {
    /// Adds a row and prints it at once.
    pub(crate) fn add(&mut self, row: Row) {
        if self.rows.is_empty() {
            println!(
                "{:<3} {:<52} {:>12} {:>12}  {:<24} {:<8} {:<6} verdict",
                "row", "workload", "ours", "limit", "ratio (min..max)", "goal", "rounds"
            );
        }
        let Ratio { median, min, max, kept, dropped } = row.ratio;
        println!(
            "{:<3} {:<52} {:>12} {:>12}  {:<24} {:<8} {:<6} {}",
            row.benchmark,
            row.workload,
            figure(row.ours),
            figure(row.limit),
            format!("{} ({}..{})", figure(median), figure(min), figure(max)),
            row.goal.text(),
            format!("{kept}/{}", kept + dropped),
            row.verdict
        );
        self.rows.push(row);
    }

    /// Keeps every turn of a measurement for the JSON file.
    pub(crate) fn keep(&mut self, name: impl Into<String>, measured: &Measured) {
        self.raw.insert(name.into(), measured.json());
    }

    /// Writes `<name>.json` and says how many gates missed.
    pub(crate) fn finish(&self, settings: &Settings, name: &str) -> Result<usize> {
        let missed = self.rows.iter().filter(|row| row.is_missed()).count();
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        let document = json!({
            "config": {
                "turn_seconds": settings.turn.as_secs_f64(), "rounds": settings.rounds,
                "version": env!("CARGO_PKG_VERSION"), "pinned": "server core 0, generator core 1, one worker",
                "durability": "SQLite WAL, synchronous=FULL, group commit, on both sides of every write row",
            },
            "rows": rows, "turns": self.raw,
        });
        let path = settings.out.join(format!("{name}.json"));
        std::fs::write(&path, format!("{document:#}\n"))?;
        println!("{} rows, {missed} missed; {}", self.rows.len(), path.display());
        Ok(missed)
    }
}

fn figure(n: f64) -> String {
    match n {
        n if n.is_nan() => "-".into(),
        n if n.abs() >= 1000.0 => format!("{n:.0}"),
        n if n.abs() >= 100.0 => format!("{n:.1}"),
        n => format!("{n:.2}"),
    }
}
