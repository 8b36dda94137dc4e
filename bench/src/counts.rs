//! Counts: instructions (callgrind) and bytes of the log. They do not depend on the machine or its load, so that a test
//! run may gate on them.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use collodi_profiles::profile::ProfilePatch;
use collodi_profiles::registry::{Guard, UpdateProfile};
use collodi_profiles::{Author, Error, Registry};

use crate::callgrind::{self, Counted};
use crate::load::ask;
use crate::report::{Goal, Report, Row};
use crate::requests::{Writes, path, request};
use crate::sample::{self, Seeds, database_in, parse, slug};
use crate::server::{Place, Running, limit_under, ours_under};
use crate::settings::Settings;

const SMALL: usize = 10;
const LARGE: usize = 10_000;
/// Writes of a count of bytes; few enough that the log is not folded in meanwhile.
const WRITES: u64 = 50;
const PAGE: f64 = 4096.0 + 24.0;

/// An operation that is counted at two sizes of the registry.
struct Growth {
    row: &'static str,
    what: &'static str,
    times: usize,
    from: usize,
    most: f64,
}

const GROWTHS: [Growth; 5] = [
    Growth { row: "B1", what: "get", times: 400, from: SMALL, most: 1.05 },
    Growth { row: "B4", what: "resolve", times: 400, from: SMALL, most: 1.05 },
    Growth { row: "B4", what: "overrides", times: 100, from: SMALL, most: 1.05 },
    Growth { row: "B3", what: "patch", times: 50, from: SMALL, most: 1.2 },
    // A page of 100 needs a list that has one.
    Growth { row: "B2", what: "list-page", times: 40, from: 1000, most: 1.2 },
];

/// The cheap subset: no server, no network, no timing.
pub(crate) fn check(settings: &Settings, seeds: &Seeds, report: &mut Report) -> Result<()> {
    for Growth { row, what, times, from, most } in GROWTHS {
        let small = in_process(settings, what, from, times)?;
        let large = in_process(settings, what, LARGE, times)?;
        let own = |counted: &Counted| (counted.total - counted.allocator) / times as f64;
        let workload = format!("instructions, {what}, N={LARGE} / N={from}");
        report.add(Row::count(row, workload, (own(&large), own(&small)), Goal::AtMost(most)));
        if what == "get" {
            let axum = in_process(settings, "axum", 0, times)?;
            let workload = "instructions with allocator, get / axum bytes, no HTTP";
            let counts = (small.total / times as f64, axum.total / times as f64);
            report.add(Row::count(row, workload, counts, Goal::Shown));
        }
        if what == "patch" {
            compiles(report, &small)?;
        }
    }
    log_bytes(seeds, report)
}

/// Many operations without HTTP.
fn in_process(settings: &Settings, what: &str, n: usize, times: usize) -> Result<Counted> {
    let out = settings.out.join(format!("callgrind.{what}.{n}"));
    let this = std::env::current_exe()?;
    let child = Command::new("valgrind")
        .args(callgrind::arguments(&out))
        .args(["--collect-atstart=no", "--toggle-collect=*subject*measured*"])
        .arg(this)
        .args(["count", what, &n.to_string(), &times.to_string()])
        .stderr(Stdio::piped())
        .output()
        .context("run valgrind (apt-get install valgrind)")?;
    ensure!(
        child.status.success(),
        "counting {what} failed:\n{}",
        String::from_utf8_lossy(&child.stderr)
    );
    callgrind::read(&out)
}

/// Bytes of the log per PATCH, and none for one that loses a race.
fn log_bytes(seeds: &Seeds, report: &mut Report) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut pages = Vec::new();
    for n in [SMALL, LARGE] {
        let folder = seeds.copy(n)?;
        let database = database_in(folder.path());
        let registry = sample::open(&database)?;
        let log = database.with_extension("db-wal");
        let size = || std::fs::metadata(&log).map_or(0, |log| log.len());
        // The first write makes the log and takes its head.
        runtime.block_on(patch(&registry, 0, 0, 0))?;
        let before = size();
        for serial in 1..=WRITES {
            let place = usize::try_from(serial)?.wrapping_mul(7919) % n;
            runtime.block_on(patch(&registry, place, serial, 0))?;
        }
        let after = size();
        pages.push((after - before) as f64 / WRITES as f64 / PAGE);
        match runtime.block_on(patch(&registry, 1, 99, 999)) {
            Err(Error::VersionConflict { .. }) => {}
            other => bail!("a stale version was not refused: {other:?}"),
        }
        ensure!(size() == after, "a write that lost its race wrote to disk");
    }
    let difference = (pages[1] - pages[0]).abs();
    let row = Row::count(
        "B3",
        "log pages per PATCH, N=10,000 / N=10",
        (pages[1], pages[0]),
        Goal::AtMost(1.0),
    );
    report.add(row.decided(difference <= 1.0));
    Ok(())
}

async fn patch(registry: &Registry, i: usize, serial: u64, expected: u64) -> Result<(), Error> {
    let patch = ProfilePatch {
        description: Some(format!("serial {serial:010}")),
        ..ProfilePatch::default()
    };
    let internal = |e: anyhow::Error| Error::Internal(e.to_string());
    let request = UpdateProfile {
        registry: registry.default_registry().clone(),
        slug: parse(&slug(i)).map_err(internal)?,
        patch,
        set_default: false,
        guard: Guard { expected_version: expected, if_match: None },
        may_unlock: false,
    };
    registry.update_profile(request, Author::default(), false).await.map(|_| ())
}

/// No schema is compiled by a write: nothing of the compiler was called in the count of PATCH.
fn compiles(report: &mut Report, patch: &Counted) -> Result<()> {
    let of_schemas = || patch.functions.iter().filter(|name| name.contains("jsonschema"));
    ensure!(of_schemas().next().is_some(), "PATCH validated nothing: are symbols kept?");
    let compiled = of_schemas().filter(|name| name.contains("compiler")).count();
    let row = Row::count("B3", "schema compiles in PATCH", (compiled as f64, 0.0), Goal::Shown);
    report.add(row.decided(compiled == 0));
    Ok(())
}

/// Whole processes over HTTP, user space only.
pub(crate) fn whole(settings: &Settings, seeds: &Seeds, report: &mut Report) -> Result<()> {
    let patches = |n| {
        let writes = Writes::patches(n)?;
        anyhow::Ok((0..600).map(|i| writes.bytes(i)).collect::<Vec<_>>())
    };
    let gets = |n: usize| -> Vec<_> {
        (0..600).map(|i: usize| request("GET", &path(i % 10 * n / 10), "", None)).collect()
    };
    let ours = |n: usize| {
        move |wrapper: &[String]| ours_under(wrapper, settings, seeds.copy(n)?, Place::Pinned)
    };
    let get_small = per_request(settings, "ours.get.10", &gets(SMALL), ours(SMALL))?;
    let get_large = per_request(settings, "ours.get.10000", &gets(LARGE), ours(LARGE))?;
    let canned = settings.out.join("answer.http");
    {
        let server = ours(SMALL)(&[])?;
        let (head, body) = ask(server.address, &[request("GET", &path(0), "", None)])?.remove(0);
        std::fs::write(&canned, [head, body].concat())?;
    }
    let canned = canned.to_string_lossy().into_owned();
    let bytes = |kind: &'static str| {
        let canned = canned.clone();
        move |wrapper: &[String]| limit_under(wrapper, &[kind, &canned], None, Place::Pinned)
    };
    let raw = per_request(settings, "limit.raw", &gets(SMALL), bytes("raw"))?;
    let axum = per_request(settings, "limit.axum", &gets(SMALL), bytes("axum"))?;
    let patch_small = per_request(settings, "ours.patch.10", &patches(SMALL)?, ours(SMALL))?;
    let patch_large = per_request(settings, "ours.patch.10000", &patches(LARGE)?, ours(LARGE))?;
    let writer =
        per_request(settings, "limit.writer", &patches(SMALL)?, |wrapper: &[String]| {
            limit_under(wrapper, &["writer"], Some(seeds.copy(SMALL)?), Place::Pinned)
        })?;
    for (row, workload, counts, goal) in [
        (
            "B1",
            "instructions, whole GET, N=10,000 / N=10",
            (get_large, get_small),
            Goal::AtMost(1.05),
        ),
        ("B1", "instructions, whole GET N=10 / raw hyper", (get_small, raw), Goal::Shown),
        ("B1", "instructions, whole GET N=10 / axum bytes", (get_small, axum), Goal::Shown),
        (
            "B3",
            "instructions, whole PATCH, N=10,000 / N=10",
            (patch_large, patch_small),
            Goal::AtMost(1.2),
        ),
        ("B3", "instructions, whole PATCH N=10 / raw writer", (patch_small, writer), Goal::Shown),
    ] {
        report.add(Row::count(row, workload, counts, goal));
    }
    Ok(())
}

/// Starts a program, warms it up, and counts what so many requests take. The start is not counted: it is long, and its
/// hash maps are seeded anew each time.
fn per_request(
    settings: &Settings,
    name: &str,
    requests: &[Vec<u8>],
    start: impl Fn(&[String]) -> Result<Running>,
) -> Result<f64> {
    let out = settings.out.join(format!("callgrind.{name}"));
    let mut wrapper = vec!["valgrind".to_owned()];
    wrapper.extend(callgrind::arguments(&out));
    let server = start(&wrapper)?;
    let drive = |requests: &[Vec<u8>]| {
        for (head, _) in ask(server.address, requests)? {
            ensure!(head.starts_with(b"HTTP/1.1 20"), "{}", String::from_utf8_lossy(&head));
        }
        anyhow::Ok(())
    };
    let (warm, counted) = requests.split_at(requests.len() / 6);
    drive(warm)?;
    callgrind::control("--zero", &server)?;
    drive(counted)?;
    callgrind::control("--dump", &server)?;
    drop(server.stop()?);
    let mut first = out.into_os_string();
    first.push(".1");
    Ok(callgrind::read(first.as_ref())?.total / counted.len() as f64)
}
