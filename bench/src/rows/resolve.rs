//! B4, resolve: the effective profile of a request, in process, against an `ArcSwap` load and a map look-up; idle, and
//! beside a writer at full speed.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use arc_swap::ArcSwap;
use collodi_profiles::profile::overrides::{Overrides, parse_overrides};
use collodi_profiles::profile::{Policy, ProfilePatch};
use collodi_profiles::registry::{Guard, UpdateProfile};
use collodi_profiles::{Author, Profile, ProfileSlug, Registry};
use serde_json::json;

use crate::histogram::Histogram;
use crate::report::{Compare, Goal, Report, Row};
use crate::rounds::{Side, Turn, measure};
use crate::sample::{self, Seeds, database_in};
use crate::server::{pin_this_thread, pin_thread_named};
use crate::settings::{LOAD_CORE, SERVER_CORE, Settings};

const SMALL: usize = 10;
const LARGE: usize = 10_000;

/// Runs the row.
pub(crate) fn run(settings: &Settings, seeds: &Seeds, report: &mut Report) -> Result<()> {
    pin_this_thread(LOAD_CORE)?;
    let (small, large) = (Subject::open(seeds, SMALL)?, Subject::open(seeds, LARGE)?);
    // One turn has nothing to wait for.
    let time = settings.turn / 4;
    let sides = vec![
        Side::new("map N=10", || Ok(timed(time, |i| small.look_up(i)))),
        Side::new("map N=10,000", || Ok(timed(time, |i| large.look_up(i)))),
        Side::new("resolve N=10", || Ok(timed(time, |i| small.resolve(i)))),
        Side::new("resolve N=10,000", || Ok(timed(time, |i| large.resolve(i)))),
        Side::new("overrides N=10", || Ok(timed(time, |i| small.resolve_overridden(i)))),
        Side::new("overrides N=10,000", || Ok(timed(time, |i| large.resolve_overridden(i)))),
        Side::new("writer, resolve N=10", || beside_writer(&small, time)),
        Side::new("writer, resolve N=10,000", || beside_writer(&large, time)),
    ];
    let measured = measure(settings, sides)?;
    let mut add = |text: &str, side, over, metric: fn(&Turn) -> f64, goal| {
        let compare = Compare { measured: &measured, side, over, metric, goal };
        report.add(Row::compare("B4", format!("RESOLVE {text}"), &compare));
    };
    let ns: fn(&Turn) -> f64 = |t| 1e9 / t.rate;
    let p99: fn(&Turn) -> f64 = |t| t.p99 * 1000.0;
    add("N=10 / ArcSwap + map, ns", 2, 0, ns, Goal::AtMost(5.0));
    add("N=10,000 / ArcSwap + map, ns", 3, 1, ns, Goal::AtMost(5.0));
    add("N=10,000 / N=10, ns", 3, 2, ns, Goal::Shown);
    add("with overrides N=10 / map, ns", 4, 0, ns, Goal::Shown);
    add("with overrides N=10,000 / N=10, ns", 5, 4, ns, Goal::AtMost(1.2));
    add("N=10 with a writer / idle, p99 ns", 6, 2, p99, Goal::AtMost(1.5));
    add("N=10,000 with a writer / idle, p99 ns", 7, 3, p99, Goal::AtMost(1.5));
    add("N=10 with a writer / idle, ns", 6, 2, ns, Goal::Shown);
    report.keep("B4 RESOLVE", &measured);
    Ok(())
}

/// A registry of ours and a map of the same profiles.
pub(crate) struct Subject {
    registry: Arc<Registry>,
    slugs: Vec<ProfileSlug>,
    names: Vec<String>,
    map: ArcSwap<HashMap<String, Arc<Profile>>>,
    overrides: Overrides,
    none: Overrides,
    _folder: Option<tempfile::TempDir>,
}

impl Subject {
    fn open(seeds: &Seeds, n: usize) -> Result<Self> {
        let folder = seeds.copy(n)?;
        let registry = sample::open(&database_in(folder.path()))?;
        pin_thread_named("registry-writer", SERVER_CORE)?;
        Self::of(registry, n, Some(folder))
    }

    pub(crate) fn of(
        registry: Registry,
        n: usize,
        folder: Option<tempfile::TempDir>,
    ) -> Result<Self> {
        let profiles = sample::profiles(n, registry.catalog())?;
        let slugs: Vec<_> = profiles.iter().map(|p| p.slug.clone()).collect();
        let names = slugs.iter().map(ToString::to_string).collect();
        let map: HashMap<_, _> =
            profiles.into_iter().map(|p| (p.slug.to_string(), Arc::new(p))).collect();
        let raw = json!({
            "system_prompt": "Answer in one sentence.",
            "middlewares": [{"name": "agentmode", "id": "main", "config": {"default_mode": "terse"}}],
        });
        let policy = Policy { allow_overrides: true, ..Policy::default() };
        let raw = raw.as_object().context("overrides are an object")?;
        let overrides = parse_overrides(raw, &policy, registry.catalog())?;
        let (registry, none) = (Arc::new(registry), Overrides::default());
        let map = ArcSwap::from_pointee(map);
        Ok(Self { registry, slugs, names, map, overrides, none, _folder: folder })
    }

    fn look_up(&self, i: usize) -> bool {
        let map = self.map.load();
        black_box(map.get(&self.names[i % self.names.len()])).is_some()
    }

    pub(crate) fn resolve(&self, i: usize) -> bool {
        self.resolve_with(i, &self.none)
    }

    pub(crate) fn resolve_overridden(&self, i: usize) -> bool {
        self.resolve_with(i, &self.overrides)
    }

    fn resolve_with(&self, i: usize, overrides: &Overrides) -> bool {
        let snapshot = self.registry.snapshot();
        let found = snapshot.registry(self.registry.default_registry());
        let Some(state) = found else { return false };
        let Some(stored) = state.get(&self.slugs[i % self.slugs.len()]) else { return false };
        black_box(self.registry.resolve(state, stored, overrides)).is_ok()
    }
}

/// Throughput without a clock in between, then single operations with one.
fn timed(time: Duration, operation: impl Fn(usize) -> bool) -> Turn {
    const BATCH: usize = 512;
    // A stride that is prime to the number of profiles visits them all without a pattern.
    let place = |i: usize| i.wrapping_mul(7919);
    (0..20_000).for_each(|i| _ = operation(place(i)));
    let (mut count, mut failed) = (0, 0);
    let begun = Instant::now();
    while begun.elapsed() < time {
        failed += (0..BATCH).filter(|i| !operation(place(count + i))).count();
        count += BATCH;
    }
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    let mut histogram = Histogram::default();
    let begun = Instant::now();
    while begun.elapsed() < time {
        for i in 0..BATCH {
            let one = Instant::now();
            failed += usize::from(!operation(place(count + i)));
            histogram.record(one.elapsed());
        }
        count += BATCH;
    }
    Turn {
        rate,
        p50: histogram.quantile(0.5) / 1000.0,
        p99: histogram.quantile(0.99) / 1000.0,
        samples: histogram.total(),
        failed: failed as u64,
        ..Turn::default()
    }
}

fn beside_writer(subject: &Subject, time: Duration) -> Result<Turn> {
    let stop = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicU64::new(0));
    let writer = write_until(subject, stop.clone(), written.clone())?;
    let turn = timed(time, |i| subject.resolve(i));
    stop.store(true, Ordering::Relaxed);
    writer.join().map_err(|_| anyhow!("the writer panicked"))??;
    anyhow::ensure!(written.load(Ordering::Relaxed) > 0, "the writer wrote nothing");
    Ok(turn)
}

/// Sixty-four clients that write on the other core.
fn write_until(
    subject: &Subject,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
) -> Result<JoinHandle<Result<()>>> {
    let (registry, slugs) = (subject.registry.clone(), subject.slugs.clone());
    let work = move || {
        pin_this_thread(SERVER_CORE)?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let client = async |n: usize| {
            while !stop.load(Ordering::Relaxed) {
                let serial = written.fetch_add(1, Ordering::Relaxed);
                let patch = ProfilePatch {
                    description: Some(format!("serial {serial}")),
                    ..ProfilePatch::default()
                };
                let request = UpdateProfile {
                    registry: registry.default_registry().clone(),
                    slug: slugs[n.wrapping_add(usize::try_from(serial)?) % slugs.len()].clone(),
                    patch,
                    set_default: false,
                    guard: Guard::default(),
                    may_unlock: false,
                };
                registry.update_profile(request, Author::default(), false).await?;
            }
            anyhow::Ok(())
        };
        let all = runtime.block_on(futures_util::future::join_all((0..64).map(client)));
        all.into_iter().collect()
    };
    Ok(std::thread::Builder::new().name("writer".into()).spawn(work)?)
}
