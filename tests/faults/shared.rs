//! F12: two servers. One chat database has one server; one registry may have several, and nothing is lost.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::Client;
use crate::log::{Acknowledged, Database, PROFILES, check_acknowledged, check_served};
use crate::seed::{Seed, size};
use crate::server::{Launch, Server, until};

const PATIENCE: Duration = Duration::from_secs(10);
/// How long a commit may stay unseen elsewhere.
const SEEN_WITHIN: Duration = Duration::from_millis(500);

/// Two servers with data folders of their own on one registry.
fn pair(folder: &Path) -> [Server; 2] {
    let registry = folder.join("shared.db");
    ["one", "two"].map(|name| {
        let launch = Launch::on(&folder.join(name)).arg("--profile-registry-db");
        launch.arg(registry.to_str().unwrap()).start().unwrap()
    })
}

#[test]
fn f12_a_second_server_on_the_same_data_is_refused_and_told_who_has_it() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::on(data.path()).start().unwrap();
    let refused = Launch::on(data.path()).start().err().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let chat = data.path().join("chat.db");
    assert!(refused.stderr.contains(chat.to_str().unwrap()), "{}", refused.stderr);
    let holder = format!("process id {}:", server.pid());
    assert!(refused.stderr.contains(&holder), "{holder} {}", refused.stderr);
    let mut client = server.client();
    assert_eq!(client.send("POST", PROFILES, Some(&json!({"slug": "x"}))).unwrap().status, 201);
    server.kill();
    Launch::on(data.path()).start().unwrap().stop();
}

#[test]
fn f12_a_write_is_seen_by_the_other_server_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let servers = pair(folder.path());
    let mut clients = servers.each_ref().map(Server::client);
    let mut delays = Vec::new();
    for number in 0..size(10, 60) {
        let [one, two] = &mut clients;
        let (writer, reader) = if number % 2 == 0 { (one, two) } else { (two, one) };
        let path = format!("{PROFILES}/p{number}");
        let body = json!({"slug": format!("p{number}")});
        let written = writer.send("POST", PROFILES, Some(&body)).unwrap();
        assert_eq!(written.status, 201, "{}", written.text());
        let since = Instant::now();
        let seen = until(PATIENCE, "the other server's profile", || {
            let answer = reader.get(&path).unwrap();
            (answer.status == 200).then(|| answer.json())
        });
        delays.push(since.elapsed());
        assert_eq!(seen, written.json());
    }
    delays.sort();
    let worst = delays[delays.len() - 1];
    eprintln!("f12: seen after {:?} (median), {worst:?} (worst)", delays[delays.len() / 2]);
    assert!(worst <= SEEN_WITHIN, "{worst:?}");
}

/// Adds one to a number that is kept in a profile, whoever else does so.
fn count_up(client: &mut Client, acknowledged: &mut Vec<Acknowledged>) {
    let path = format!("{PROFILES}/counter");
    let mut at_least = 0;
    loop {
        let stored = until(PATIENCE, "the version that the conflict named", || {
            let answer = client.get(&path).unwrap();
            let fresh = answer.status == 200 && answer.etag_version().unwrap() >= at_least;
            fresh.then(|| answer.json())
        });
        let count: u64 = stored["display_name"].as_str().unwrap().parse().unwrap();
        let body = json!({
            "display_name": (count + 1).to_string(),
            "expected_version": stored["metadata"]["version"],
        });
        let answer = client.send("PATCH", &path, Some(&body)).unwrap();
        match answer.status {
            200 => return acknowledged.push(Acknowledged::new("update", "counter", &answer)),
            409 => at_least = answer.etag_version().unwrap(),
            other => panic!("{other}: {}", answer.text()),
        }
    }
}

/// Two processes on one file: nothing lost.
#[test]
fn f12_two_processes_on_one_file_nothing_lost() {
    let mut seed = Seed::of("f12_two_processes");
    let started = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let servers = pair(folder.path());
    let first = json!({"slug": "counter", "display_name": "0"});
    let created = servers[0].client().send("POST", PROFILES, Some(&first)).unwrap();
    let mut acknowledged = vec![Acknowledged::new("create", "counter", &created)];
    let (writers, turns) = (3, size(15, 150));
    let found: Vec<Vec<Acknowledged>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..2 * writers)
            .map(|writer| {
                let (mut client, mut rng) = (servers[writer % 2].client(), seed.fork());
                scope.spawn(move || {
                    let mut done = Vec::new();
                    for turn in 0..turns {
                        count_up(&mut client, &mut done);
                        let slug = format!("w{writer}-{turn}");
                        let body = json!({"slug": slug, "description": rng.next().to_string()});
                        let answer = client.send("POST", PROFILES, Some(&body)).unwrap();
                        assert_eq!(answer.status, 201, "{}", answer.text());
                        done.push(Acknowledged::new("create", &slug, &answer));
                    }
                    done
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    acknowledged.extend(found.into_iter().flatten());
    let rows = Database::beside(&folder.path().join("shared.db")).checked_log();
    check_acknowledged(&rows, &acknowledged);
    let total = 2 * writers * turns;
    let last = rows.iter().rfind(|row| row.slug == "counter").unwrap();
    let count = last.document.as_ref().map(|d| d["display_name"].clone());
    assert_eq!(count, Some(Value::from(total.to_string())));
    for server in &servers {
        let mut client = server.client();
        let newest = Some(rows.last().unwrap().registry_version);
        until(PATIENCE, "the newest state", || {
            (client.get(PROFILES).unwrap().registry_version() == newest).then_some(())
        });
        check_served(&mut client, &rows);
    }
    eprintln!("f12: {} writes from two servers in {:?}", acknowledged.len(), started.elapsed());
}

/// One adopts the reference's database, the other finds it done; the original stands beside, whoever was first.
#[test]
fn f12_two_servers_that_start_at_once_on_a_reference_database_adopt_it_once() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/tests/samples/profiles.db");
    for _ in 0..size(8, 30) {
        let folder = tempfile::tempdir().unwrap();
        let registry = folder.path().join("shared.db");
        std::fs::copy(&sample, &registry).unwrap();
        let servers = thread::scope(|scope| {
            let starts = ["one", "two"].map(|name| {
                let launch = Launch::on(&folder.path().join(name)).arg("--profile-registry-db");
                let launch = launch.arg(registry.to_str().unwrap());
                scope.spawn(move || launch.start())
            });
            starts.map(|start| start.join().unwrap())
        });
        let servers = servers.map(|server| server.unwrap_or_else(|refused| panic!("{refused:?}")));
        for server in &servers {
            assert_eq!(crate::log::documents(&mut server.client()).len(), 8);
        }
        let kept = folder.path().join("shared.db.before-adoption-1");
        let kept = rusqlite::Connection::open(kept).unwrap();
        let original: i64 = kept
            .query_row("SELECT count(*) FROM profile_registries", [], |row| row.get(0))
            .unwrap_or_else(|e| panic!("the first snapshot is not the original: {e}"));
        assert_eq!(original, 1);
    }
}

/// Whoever comes first makes the registry, and the others find it.
#[test]
fn f12_servers_that_start_at_once_on_a_new_registry_make_it_once() {
    for _ in 0..size(8, 30) {
        let folder = tempfile::tempdir().unwrap();
        let registry = folder.path().join("shared.db");
        let servers = thread::scope(|scope| {
            let starts = ["one", "two", "three"].map(|name| {
                let launch = Launch::on(&folder.path().join(name)).arg("--profile-registry-db");
                let launch = launch.arg(registry.to_str().unwrap());
                scope.spawn(move || launch.start())
            });
            starts.map(|start| start.join().unwrap())
        });
        let servers = servers.map(|server| server.unwrap_or_else(|refused| panic!("{refused:?}")));
        let rows = Database::beside(&registry).checked_log();
        assert_eq!(rows.len(), 3, "the registry and its two first profiles: {rows:?}");
        for server in &servers {
            check_served(&mut server.client(), &rows);
        }
    }
}

#[test]
fn f12_reads_go_on_and_a_write_waits_while_another_process_holds_the_lock() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::on(data.path()).start().unwrap();
    let holder = rusqlite::Connection::open(data.path().join("profiles.db")).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    thread::scope(|scope| {
        let mut client = server.client();
        let body = json!({"slug": "late"});
        let write = scope.spawn(move || client.send("POST", PROFILES, Some(&body)).unwrap());
        let mut reader = server.client();
        for _ in 0..200 {
            let started = Instant::now();
            assert_eq!(reader.get(PROFILES).unwrap().status, 200);
            assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
            assert_eq!(reader.get(&format!("{PROFILES}/late")).unwrap().status, 404);
        }
        holder.execute_batch("ROLLBACK").unwrap();
        let written = write.join().unwrap();
        assert_eq!(written.status, 201, "{}", written.text());
    });
    let rows = Database::beside(&data.path().join("profiles.db")).checked_log();
    check_served(&mut server.client(), &rows);
}
