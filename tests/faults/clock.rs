//! F11: the wall clock goes back, far ahead, stands still or jumps while the server works (libfaketime). Numbers and order
//! never go back, nothing lasts less than nothing, and a key that was answered stays answered.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::http::Client;
use crate::server::{Launch, Server};
use crate::turns::{ask, check_closed, numbers, turns, until_idle, version};

const PROFILE: &str = "/api/chat/profiles/clocked";

/// A clock that the test turns.
struct Clock {
    file: PathBuf,
}

impl Clock {
    fn new(folder: &Path) -> Self {
        let clock = Self { file: folder.join("clock") };
        clock.set("+0");
        clock
    }

    /// An offset (`-1h`, `+10y`), or a moment at which time stands still.
    fn set(&self, to: &str) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{to}\n")).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }

    /// A server under it; the monotonic clock is the machine's, as it is when somebody sets the time.
    fn start(&self, data: &Path) -> Server {
        Launch::on(data)
            .arg("--debug-api")
            .env("LD_PRELOAD", library().to_str().unwrap())
            .env("FAKETIME_TIMESTAMP_FILE", self.file.to_str().unwrap())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .start()
            .unwrap()
    }
}

fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let found =
        folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|p| p.exists());
    found.expect("libfaketime: apt-get install faketime")
}

/// Writes and chats, and holds what came against what was before.
struct Story {
    rounds: u64,
    profile_version: u64,
    updated_at: i64,
    registry_version: u64,
    timeline_version: u64,
    replay: Option<(String, Value)>,
}

impl Story {
    fn round(&mut self, client: &mut Client, at: &str) {
        self.rounds += 1;
        let patch = json!({"display_name": format!("{at} {}", self.rounds)});
        let answer = client.send("PATCH", PROFILE, Some(&patch)).unwrap();
        let metadata = answer.json()["metadata"].clone();
        assert_eq!(metadata["version"], self.profile_version + 1, "{at}");
        self.profile_version += 1;
        let updated_at = metadata["updated_at_ms"].as_i64().unwrap();
        assert!(updated_at >= self.updated_at, "{at}: the time of a profile never goes back");
        self.updated_at = updated_at;
        let registry_version = answer.registry_version().unwrap();
        assert!(registry_version > self.registry_version, "{at}");
        self.registry_version = registry_version;

        let prompt = format!("round {}", self.rounds);
        ask(client, "c", &prompt);
        until_idle(client, "c");
        check_closed(client, "c");
        let seen = numbers(client, "c");
        assert!(seen.is_sorted_by(|a, b| a < b), "{at}: frames go up: {seen:?}");
        let now = version(client, "c");
        assert!(now > self.timeline_version, "{at}: {now} after {}", self.timeline_version);
        self.timeline_version = now;
        let found: BTreeSet<String> =
            turns(client, "c").iter().map(|turn| turn["turn_id"].to_string()).collect();
        assert_eq!(found.len() as u64, self.rounds, "{at}: every turn is there");
        // A key that was answered before the clock changed is not asked again.
        if let Some((prompt, first)) = &self.replay {
            let again = ask(client, "c", prompt);
            assert_eq!(again["turn_id"], first["turn_id"], "{at}");
        }
        self.replay = Some((prompt.clone(), ask(client, "c", &prompt)));
    }
}

fn document(client: &mut Client) -> Value {
    client.get(PROFILE).unwrap().json()
}

#[test]
fn f11_whatever_the_clock_does_numbers_and_order_go_on() {
    let data = tempfile::tempdir().unwrap();
    let clock = Clock::new(data.path());
    let mut server = clock.start(data.path());
    let mut client = server.client();
    let created = json!({"slug": "clocked"});
    assert_eq!(client.send("POST", "/api/chat/profiles", Some(&created)).unwrap().status, 201);
    let mut story = Story {
        rounds: 0,
        profile_version: 1,
        updated_at: 0,
        registry_version: 0,
        timeline_version: 0,
        replay: None,
    };
    let year = 365 * 24 * 3600 * 1000_i64;
    let begun = document(&mut client)["metadata"]["updated_at_ms"].as_i64().unwrap();
    for at in ["+0", "-1h", "+10y", "2026-11-22 12:00:00", "-1d", "+0"] {
        clock.set(at);
        story.round(&mut client, at);
        story.round(&mut client, at);
        if at == "+10y" {
            assert!(story.updated_at > begun + 9 * year, "the clock is the test's");
        }
    }
    // Steps in the middle of turns.
    for n in 0..10 {
        clock.set(if n % 2 == 0 { "+3h" } else { "-3h" });
        story.round(&mut client, "steps");
    }
    // A restart in the past finds everything, and goes on.
    clock.set("-2d");
    let said = server.said();
    server.stop();
    let mut server = clock.start(data.path());
    let mut client = server.client();
    story.round(&mut client, "-2d after a restart");
    let said = said + &server.said();
    assert!(!said.contains("panicked"), "{said}");
    let negative: Vec<&str> = said.lines().filter(|line| line.contains("took_ms=-")).collect();
    assert!(negative.is_empty(), "{negative:?}");
    server.stop();
    let stored = Connection::open(data.path().join("chat.db")).unwrap();
    let of = |sql: &str| stored.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(of("SELECT count(*) FROM turns WHERE ended_at_ms < started_at_ms"), 0);
    assert_eq!(of("SELECT count(*) FROM turns"), i64::try_from(story.rounds).unwrap());
}
