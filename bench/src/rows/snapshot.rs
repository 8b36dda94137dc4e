//! B12, snapshot and restore: of a database of 100,000 turns, while a server writes to it.

use std::cell::RefCell;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rusqlite::Connection;
use tempfile::TempDir;

use super::recovery::{copy, fill, median};
use super::{chatting_on, prompt};
use crate::load::{Amount, drive};
use crate::provider;
use crate::report::{Compare, Goal, Report, Row};
use crate::requests::Writes;
use crate::rounds::{Side, measure};
use crate::sample::Seeds;
use crate::server::{Place, ours, pin_this_thread};
use crate::settings::{LOAD_CORE, SERVER_CORE, Settings};

const TURNS: usize = 100_000;
const DATABASES: [&str; 2] = ["chat.db", "profiles.db"];
/// Clients that write, and answers that are streamed, meanwhile.
const CLIENTS: usize = 8;
/// A snapshot has to fit into a turn.
const SHORTEST: Duration = Duration::from_secs(6);

/// Runs the rows.
pub(crate) fn run(settings: &Settings, seeds: &Seeds, report: &mut Report) -> Result<()> {
    if !settings.wants("snapshot") {
        return Ok(());
    }
    let filled = seeds.copy(10)?;
    fill(&filled, TURNS)?;
    let (taken, idle) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    let provider = provider::start()?;
    let start = || {
        let folder = seeds.copy(10)?;
        copy(&filled, &folder, &["chat.db", "chat.db.state"])?;
        let server = chatting_on(settings, folder, provider)?;
        for n in 0..CLIENTS {
            prompt(server.address, &format!("flying-{n}"), "bench deltas=1000 pace_us=20000")?;
        }
        anyhow::Ok(server)
    };
    let work = Rc::new(Writes::patches(10)?);
    let time = settings.turn.max(SHORTEST);
    let amount = Amount { connections: CLIENTS, time, most: u64::MAX };
    let quiet = || drive(&start()?, amount, work.clone());
    let busy = || {
        let server = start()?;
        let folder = server.folder().context("a server has a folder")?;
        let (turn, took) = thread::scope(|scope| {
            let taking = scope.spawn(|| take_until(settings, folder, Instant::now() + time));
            let turn = drive(&server, amount, work.clone())?;
            let took = taking.join().map_err(|_| anyhow!("taking snapshots panicked"))?;
            anyhow::Ok((turn, took?))
        })?;
        taken.borrow_mut().extend(took);
        idle.borrow_mut().push(vacuum(&server.stop()?)?);
        Ok(turn)
    };
    let measured = measure(settings, vec![Side::new("quiet", quiet), Side::new("taking", busy)])?;
    let seen = (median(taken.take()), median(idle.take()));
    let text = "100,000 turns, snapshot under load / idle VACUUM INTO, ms per MB";
    report.add(Row::count("B12", text, seen, Goal::AtMost(2.5)));
    let p99 = Compare {
        measured: &measured,
        side: 1,
        over: 0,
        metric: |t| t.p99,
        goal: Goal::AtMost(3.0),
    };
    report.add(Row::compare("B12", "write p99 while snapshots are taken / quiet, us", &p99));
    report.keep("B12 snapshot", &measured);
    let (mut own, mut limit) = (Vec::new(), Vec::new());
    for _ in 0..settings.rounds {
        let (a, b) = restored(settings, seeds, &filled)?;
        own.push(a);
        limit.push(b);
    }
    let text = "100,000 turns, restore / copy and integrity_check, ms";
    report.add(Row::count("B12", text, (median(own), median(limit)), Goal::AtMost(3.0)));
    Ok(())
}

/// Milliseconds per MB of each snapshot that was taken before the time was over: the registry grows meanwhile.
fn take_until(settings: &Settings, folder: &Path, end: Instant) -> Result<Vec<f64>> {
    // What this thread starts may use both cores, like the command of an operator.
    pin_this_thread(&format!("{SERVER_CORE},{LOAD_CORE}"))?;
    let mut took = Vec::new();
    loop {
        let to = folder.join("snapshot");
        let begun = Instant::now();
        operate(settings, "snapshot", folder, &["--to", &to.to_string_lossy()])?;
        if Instant::now() > end {
            ensure!(!took.is_empty(), "no snapshot within a turn: give COLLODI_BENCH_SECONDS");
            return Ok(took);
        }
        took.push(begun.elapsed().as_secs_f64() * 1e3 / megabytes(&to)?);
        std::fs::remove_dir_all(&to)?;
    }
}

/// Runs a command of the program on the databases in a folder.
fn operate(settings: &Settings, command: &str, folder: &Path, options: &[&str]) -> Result<()> {
    let mut program = Command::new(settings.server()?);
    program.args(["ops", command, "--data-dir"]).arg(folder).args(options);
    program.env("XDG_CONFIG_HOME", folder).stdin(Stdio::null()).stdout(Stdio::null());
    ensure!(program.status()?.success(), "ops {command} failed");
    Ok(())
}

/// Milliseconds per MB of databases that nobody uses for `VACUUM INTO`.
fn vacuum(folder: &TempDir) -> Result<f64> {
    let begun = Instant::now();
    for name in DATABASES {
        let copy = folder.path().join(format!("{name}.copy"));
        let connection = Connection::open(folder.path().join(name))?;
        connection.execute("VACUUM INTO ?1", [copy.to_string_lossy().as_ref()])?;
    }
    // Of the databases: the copies leave out what is empty in them, a snapshot does not.
    Ok(begun.elapsed().as_secs_f64() * 1e3 / megabytes(folder.path())?)
}

/// What the databases in a folder take.
fn megabytes(folder: &Path) -> Result<f64> {
    let sizes = DATABASES.iter().map(|name| folder.join(name).metadata());
    let sizes: Vec<u64> = sizes.map(|m| m.map(|m| m.len())).collect::<std::io::Result<_>>()?;
    Ok(sizes.iter().sum::<u64>() as f64 / 1e6)
}

/// Milliseconds of a restore, and of copies that are made to last and looked through.
fn restored(settings: &Settings, seeds: &Seeds, filled: &TempDir) -> Result<(f64, f64)> {
    let folder = seeds.copy(10)?;
    copy(filled, &folder, &["chat.db", "chat.db.state"])?;
    // A registry gets the file that tells it from others when it is first served.
    let folder = ours(settings, folder, Place::Pinned)?.stop()?;
    let snapshot = folder.path().join("snapshot");
    let named = snapshot.to_string_lossy().into_owned();
    operate(settings, "snapshot", folder.path(), &["--to", &named])?;
    let bare = seeds.copy(10)?;
    let begun = Instant::now();
    for name in DATABASES {
        let copy = bare.path().join(name);
        std::fs::copy(snapshot.join(name), &copy)?;
        File::open(&copy)?.sync_all()?;
        let connection = Connection::open(&copy)?;
        let said = |row: &rusqlite::Row<'_>| row.get(0);
        let verdict: String = connection.query_row("PRAGMA integrity_check", [], said)?;
        ensure!(verdict == "ok", "{verdict}");
    }
    let limit = begun.elapsed().as_secs_f64() * 1e3;
    let begun = Instant::now();
    operate(settings, "restore", folder.path(), &["--from", &named])?;
    Ok((begun.elapsed().as_secs_f64() * 1e3, limit))
}
