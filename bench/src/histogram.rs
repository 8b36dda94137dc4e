//! Latencies in buckets of at most 3 % width.

use std::time::Duration;

const SUB: u64 = 32;
const SUB_BITS: u32 = SUB.trailing_zeros();

/// Counts by duration.
#[derive(Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; 64 * 32], total: 0 }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.counts[place(ns)] += 1;
        self.total += 1;
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Nanoseconds that `share` of the samples stay below.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut left = (self.total as f64 * share).ceil();
        for (place, count) in self.counts.iter().enumerate() {
            left -= *count as f64;
            if left <= 0.0 && *count > 0 {
                return middle(place);
            }
        }
        0.0
    }
}

fn place(ns: u64) -> usize {
    let index = if ns < SUB {
        ns
    } else {
        let shift = ns.ilog2() - SUB_BITS;
        u64::from(shift + 1) * SUB + (ns >> shift) - SUB
    };
    usize::try_from(index).unwrap_or(usize::MAX).min(64 * 32 - 1)
}

fn middle(place: usize) -> f64 {
    let (row, column) = (place as u64 / SUB, place as u64 % SUB);
    if row == 0 {
        return column as f64;
    }
    let width = (1_u64 << (row - 1)) as f64;
    (SUB + column) as f64 * width + width / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_three_percent() {
        let mut histogram = Histogram::default();
        (1..=10_000).for_each(|us| histogram.record(Duration::from_micros(us)));
        for (share, expected) in [(0.5, 5_000_000.0), (0.99, 9_900_000.0)] {
            let got = histogram.quantile(share);
            assert!((got / expected - 1.0).abs() < 0.03, "{share}: {got}");
        }
    }
}
