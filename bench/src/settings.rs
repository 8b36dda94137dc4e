//! How long, how often, and with which binary: read from the environment, so that a trial run is one line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// The core that servers are pinned to.
pub(crate) const SERVER_CORE: &str = "0";
/// The core that this process, the generator, is pinned to.
pub(crate) const LOAD_CORE: &str = "1";

/// What a run is made of.
pub(crate) struct Settings {
    /// Length of one turn of one side (`COLLODI_BENCH_SECONDS`, 4).
    pub(crate) turn: Duration,
    /// Rounds; each has two turns of every side (`COLLODI_BENCH_ROUNDS`, 5).
    pub(crate) rounds: usize,
    /// The server (`COLLODI_BENCH_SERVER`, `collodi` beside this program).
    pub(crate) server: PathBuf,
    /// Results and databases (`COLLODI_BENCH_OUT`, `bench/out` in the workspace).
    pub(crate) out: PathBuf,
    /// Only rows whose workload contains this text (`COLLODI_BENCH_ONLY`).
    only: Option<String>,
}

impl Settings {
    /// Reads the environment.
    pub(crate) fn read() -> Result<Self> {
        let seconds: f64 = number("COLLODI_BENCH_SECONDS", 4.0)?;
        ensure!((0.05..=60.0).contains(&seconds), "COLLODI_BENCH_SECONDS must be 0.05 to 60");
        let rounds: usize = number("COLLODI_BENCH_ROUNDS", 5)?;
        ensure!((1..=50).contains(&rounds), "COLLODI_BENCH_ROUNDS must be 1 to 50");
        let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let beside =
            std::env::current_exe().context("find this program")?.with_file_name("collodi");
        let out = path("COLLODI_BENCH_OUT").unwrap_or_else(default_out);
        std::fs::create_dir_all(&out).with_context(|| format!("create {}", out.display()))?;
        Ok(Self {
            turn: Duration::from_secs_f64(seconds),
            rounds,
            server: path("COLLODI_BENCH_SERVER").unwrap_or(beside),
            out,
            only: std::env::var("COLLODI_BENCH_ONLY").ok().filter(|only| !only.is_empty()),
        })
    }

    /// Whether a workload was asked for.
    pub(crate) fn wants(&self, workload: &str) -> bool {
        self.only.as_deref().is_none_or(|only| workload.contains(only))
    }

    /// The server's binary, or what to do to get it.
    pub(crate) fn server(&self) -> Result<&Path> {
        ensure!(
            self.server.is_file(),
            "{} is missing: run `cargo build --release` first, or set COLLODI_BENCH_SERVER",
            self.server.display()
        );
        Ok(&self.server)
    }
}

fn default_out() -> PathBuf {
    let bench = Path::new("bench");
    if bench.is_dir() { bench.join("out") } else { PathBuf::from("out") }
}

fn number<T: std::str::FromStr>(name: &str, default: T) -> Result<T> {
    match std::env::var(name) {
        Ok(text) => text.parse().ok().with_context(|| format!("{name}={text} is no number")),
        Err(_) => Ok(default),
    }
}
