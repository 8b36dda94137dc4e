//! Randomness that can be repeated.

/// A small generator (splitmix64) that says at a failure how to repeat it.
pub(crate) struct Seed {
    test: &'static str,
    start: u64,
    state: u64,
}

impl Seed {
    /// The seed of the environment, or the fixed one.
    pub(crate) fn of(test: &'static str) -> Self {
        let given = std::env::var("COLLODI_FAULT_SEED").ok();
        let start = given.map_or(20_260_201, |text| text.parse().unwrap());
        Self { test, start, state: start }
    }

    /// An independent stream, for a thread.
    pub(crate) fn fork(&mut self) -> Rng {
        Rng(self.next())
    }

    fn next(&mut self) -> u64 {
        let mut rng = Rng(self.state);
        let value = rng.next();
        self.state = rng.0;
        value
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let full = if full() { "COLLODI_FAULTS=full " } else { "" };
            eprintln!(
                "repeat with: {full}COLLODI_FAULT_SEED={} cargo test -p collodi --test faults {}",
                self.start, self.test
            );
        }
    }
}

/// A stream of numbers.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).unwrap()
    }
}

/// Whether the long form runs.
pub(crate) fn full() -> bool {
    std::env::var("COLLODI_FAULTS").is_ok_and(|size| size == "full")
}

/// A size: small for every change, the other for the long form.
pub(crate) fn size(small: usize, long: usize) -> usize {
    if full() { long } else { small }
}
