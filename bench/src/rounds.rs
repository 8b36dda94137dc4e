//! Rounds: every side twice in turn (A B A B), compared within the round, the median over rounds (rules of the suite).

use anyhow::Result;
use serde_json::{Value, json};

use crate::settings::Settings;

/// Two limit turns of a round that differ by more than this make the round worthless.
const UNSTEADY: f64 = 0.25;

/// What one turn of one side measured.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turn {
    /// Operations per second.
    pub(crate) rate: f64,
    /// Microseconds.
    pub(crate) p50: f64,
    /// Microseconds.
    pub(crate) p99: f64,
    /// Samples behind the quantiles.
    pub(crate) samples: u64,
    /// Answers that were wrong, or missing.
    pub(crate) failed: u64,
    /// Processor time of the server per operation, microseconds, kernel included.
    pub(crate) cpu: f64,
    /// Share of one processor that the server used.
    pub(crate) server_busy: f64,
    /// Share of one processor that the generator used.
    pub(crate) load_busy: f64,
}

impl Turn {
    pub(crate) fn json(&self) -> Value {
        json!({
            "rate": self.rate, "p50_us": self.p50, "p99_us": self.p99, "samples": self.samples,
            "failed": self.failed, "server_cpu_us": self.cpu, "server_busy": self.server_busy,
            "load_busy": self.load_busy,
        })
    }
}

/// One side of a comparison.
pub(crate) struct Side<'a> {
    name: String,
    run: Box<dyn FnMut() -> Result<Turn> + 'a>,
}

impl<'a> Side<'a> {
    pub(crate) fn new(name: impl Into<String>, run: impl FnMut() -> Result<Turn> + 'a) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn run(&mut self) -> Result<Turn> {
        (self.run)()
    }
}

/// All turns: by side, by round, two each.
pub(crate) struct Measured {
    names: Vec<String>,
    turns: Vec<Vec<[Turn; 2]>>,
}

/// A ratio over rounds.
#[derive(Debug, Clone)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) kept: usize,
    pub(crate) dropped: usize,
}

/// Runs the rounds.
pub(crate) fn measure(settings: &Settings, mut sides: Vec<Side<'_>>) -> Result<Measured> {
    let names = sides.iter().map(|side| side.name.clone()).collect();
    let mut turns: Vec<Vec<[Turn; 2]>> = sides.iter().map(|_| Vec::new()).collect();
    for _ in 0..settings.rounds {
        let mut halves = Vec::new();
        for _ in 0..2 {
            halves.push(sides.iter_mut().map(Side::run).collect::<Result<Vec<_>>>()?);
        }
        let second = halves.pop().unwrap_or_default();
        let first = halves.pop().unwrap_or_default();
        for (side, pair) in turns.iter_mut().zip(first.into_iter().zip(second)) {
            side.push([pair.0, pair.1]);
        }
    }
    Ok(Measured { names, turns })
}

impl Measured {
    /// `metric` of one side over that of another, in rounds in which the other's two turns agree.
    pub(crate) fn ratio(&self, side: usize, over: usize, metric: fn(&Turn) -> f64) -> Ratio {
        let mut ratios = Vec::new();
        let mut dropped = 0;
        for (own, other) in self.turns[side].iter().zip(&self.turns[over]) {
            let (a, b) = (other[0].rate, other[1].rate);
            if (a - b).abs() > UNSTEADY * a.max(b) {
                dropped += 1;
                continue;
            }
            let sum = |pair: &[Turn; 2]| metric(&pair[0]) + metric(&pair[1]);
            ratios.push(sum(own) / sum(other));
        }
        ratios.sort_by(f64::total_cmp);
        let at = |i: usize| ratios.get(i).copied().unwrap_or(f64::NAN);
        let last = ratios.len().saturating_sub(1);
        let median = f64::midpoint(at(last / 2), at(ratios.len() / 2));
        Ratio { median, min: at(0), max: at(last), kept: ratios.len(), dropped }
    }

    /// The median turn of a side by a metric.
    pub(crate) fn median(&self, side: usize, metric: fn(&Turn) -> f64) -> f64 {
        let mut all: Vec<f64> = self.turns[side].iter().flatten().map(metric).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn failed(&self, side: usize) -> u64 {
        self.turns[side].iter().flatten().map(|turn| turn.failed).sum()
    }

    /// Whether the generator was the slower part: it was busy, and the server was not.
    pub(crate) fn is_generator_bound(&self, side: usize) -> bool {
        self.median(side, |t| t.load_busy) > 0.95 && self.median(side, |t| t.server_busy) < 0.9
    }

    pub(crate) fn json(&self) -> Value {
        let sides = self.names.iter().zip(&self.turns).map(|(name, rounds)| {
            let turns: Vec<Value> = rounds.iter().flatten().map(Turn::json).collect();
            (name.clone(), Value::from(turns))
        });
        Value::Object(sides.collect())
    }
}
