//! F1: `kill -9` under mixed writes. What was acknowledged is there, nothing is half there.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::http::Client;
use crate::log::{Acknowledged, Database, PROFILES, check_acknowledged, check_served, documents};
use crate::seed::{Rng, Seed, size};
use crate::server::{Launch, Server, until};

const WRITERS: usize = 6;
const SLUGS: u64 = 10;

/// Writes at random until the server is gone.
fn write_until_gone(
    mut client: Client,
    mut rng: Rng,
    done: &Mutex<Vec<Acknowledged>>,
    count: &AtomicUsize,
) {
    loop {
        let slug = format!("p{}", rng.below(SLUGS));
        let path = format!("{PROFILES}/{slug}");
        let text = format!("text {}", rng.next());
        let set_default = rng.below(8) == 0;
        let (operation, answer) = match rng.below(10) {
            0..=2 => {
                let body = json!({
                    "slug": slug, "description": text.repeat(1 + rng.index(40)), "set_default": set_default,
                    "runtime": {"system_prompt": text, "middlewares": [
                        {"name": "sqlite", "config": {"max_rows": 1 + rng.below(99)}},
                    ]},
                });
                ("create", client.send("POST", PROFILES, Some(&body)))
            }
            3..=6 => {
                let body = json!({"display_name": text, "set_default": set_default});
                ("update", client.send("PATCH", &path, Some(&body)))
            }
            7 | 8 => ("delete", client.send("DELETE", &path, None)),
            _ => ("set_default", client.send("POST", &format!("{path}/default"), None)),
        };
        let Ok(answer) = answer else { return };
        if answer.is_success() {
            done.lock().unwrap().push(Acknowledged::new(operation, &slug, &answer));
            count.fetch_add(1, Ordering::Relaxed);
        } else {
            assert!([404, 409].contains(&answer.status), "{}: {}", answer.status, answer.text());
        }
    }
}

/// Kills the server in the middle of its work; returns what it had acknowledged.
fn round(server: Server, seed: &mut Seed, rng: &mut Rng) -> Vec<Acknowledged> {
    let done = Mutex::new(Vec::new());
    let count = AtomicUsize::new(0);
    let (target, spin) = (rng.index(200), Duration::from_micros(rng.below(3_000)));
    thread::scope(|scope| {
        for _ in 0..WRITERS {
            let (client, rng) = (server.client(), seed.fork());
            let (done, count) = (&done, &count);
            scope.spawn(move || write_until_gone(client, rng, done, count));
        }
        until(Duration::from_secs(30), "acknowledged writes", || {
            (count.load(Ordering::Relaxed) >= target).then_some(())
        });
        let reached = Instant::now();
        while reached.elapsed() < spin {
            std::hint::spin_loop();
        }
        server.kill();
    });
    done.into_inner().unwrap()
}

#[test]
fn f1_what_was_acknowledged_survives_a_kill_and_nothing_is_half_there() {
    let mut seed = Seed::of("f1_what_was_acknowledged_survives");
    let mut rng = seed.fork();
    let started = Instant::now();
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("profiles.db");
    let mut acknowledged = Vec::new();
    let rounds = size(3, 20);
    for number in 0..=rounds {
        if number % 4 == 2 {
            // Also in the middle of a start, which recovers what the last kill left.
            let starting = Launch::on(data.path()).spawn();
            thread::sleep(Duration::from_micros(rng.below(40_000)));
            drop(starting);
        }
        let server = Launch::on(data.path()).start().unwrap();
        let rows = Database::beside(&path).checked_log();
        check_acknowledged(&rows, &acknowledged);
        check_served(&mut server.client(), &rows);
        if number < rounds {
            acknowledged.extend(round(server, &mut seed, &mut rng));
        }
    }
    assert!(!acknowledged.is_empty());
    eprintln!(
        "f1: {rounds} kills, {} acknowledged writes, {:?}",
        acknowledged.len(),
        started.elapsed()
    );
}

/// The reference's database is there, or the adopted one is: never half of it, and never nothing.
#[test]
fn f1_a_kill_while_a_reference_database_is_adopted_loses_nothing() {
    let mut seed = Seed::of("f1_a_kill_while_a_reference");
    let mut rng = seed.fork();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/tests/samples/profiles.db");
    let adopted = |kills: &[u64]| {
        let data = tempfile::tempdir().unwrap();
        std::fs::copy(&sample, data.path().join("profiles.db")).unwrap();
        for micros in kills {
            let starting = Launch::on(data.path()).spawn();
            thread::sleep(Duration::from_micros(*micros));
            drop(starting);
        }
        let server = Launch::on(data.path()).start().unwrap();
        documents(&mut server.client())
    };
    let wanted = adopted(&[]);
    assert_eq!(wanted.len(), 8);
    for _ in 0..size(6, 60) {
        let kills: Vec<u64> = (0..=rng.below(3)).map(|_| rng.below(80_000)).collect();
        assert_eq!(adopted(&kills), wanted, "killed after {kills:?} microseconds");
    }
}

/// Whoever waits for the banner may stop the server at once: that is no kill.
#[test]
fn f1_a_stop_right_after_the_banner_is_graceful() {
    // On a busy machine there is more time between two lines of a program.
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..size(5, 20) {
                    let data = tempfile::tempdir().unwrap();
                    let server = Launch::on(data.path()).start().unwrap();
                    let (status, stderr) = server.terminate();
                    assert!(status.success(), "{status}: {stderr}");
                }
            });
        }
    });
}
