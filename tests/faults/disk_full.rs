//! F3: no space left. Writes are refused and leave nothing, reads go on, and when space returns so do writes.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use collodi_profiles::profile::history::{Change, Operation, RegistryHead, Stamp};
use collodi_profiles::store::{ProfileStore, StoreErrorKind};
use collodi_profiles::{Catalog, Metadata, Profile, ProfileSlug, RegistrySlug};
use collodi_store::SqliteProfiles;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use crate::http::{Answer, Client};
use crate::log::{
    Acknowledged, Database, PROFILES, Row, check_acknowledged, check_served, documents,
};
use crate::seed::{Seed, size};
use crate::server::{Launch, Server, until};

/// A file system of 4 MB that is gone with the test.
pub(crate) struct Small {
    pub(crate) folder: PathBuf,
    _parent: tempfile::TempDir,
}

impl Small {
    pub(crate) fn mount() -> Option<Self> {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("small");
        fs::create_dir(&folder).unwrap();
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
            .arg(&folder)
            .output();
        if !done.is_ok_and(|output| output.status.success()) {
            eprintln!("SKIPPED: a file system of 4 MB could not be mounted, F3 was NOT tested");
            return None;
        }
        Some(Self { folder, _parent: parent })
    }

    /// Takes all space but `left` bytes.
    pub(crate) fn fill(&self, left: usize) {
        let mut file = fs::File::create(self.filler()).unwrap();
        let block = [0xaa_u8; 4096];
        while file.write_all(&block).is_ok() {}
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(left as u64)).unwrap();
    }

    pub(crate) fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.folder).output();
    }
}

fn create(client: &mut Client, slug: &str, bytes: usize) -> Answer {
    let body = json!({"slug": slug, "runtime": {"system_prompt": "x".repeat(bytes)}});
    client.send("POST", PROFILES, Some(&body)).unwrap()
}

/// The contract's text, and a code for programs.
fn check_refusal(client: &mut Client, answer: &Answer) {
    assert_eq!((answer.status, answer.text().as_str()), (500, "profile registry unavailable\n"));
    client.accept = Some("application/problem+json");
    let again = create(client, "refused", 100_000);
    client.accept = None;
    assert_eq!(again.status, 500, "{}", again.text());
    let problem: Value = again.json();
    assert_eq!(problem["code"], "storage_full", "{problem}");
    assert_eq!(problem["detail"], "profile registry unavailable");
}

/// The log holds the acknowledged writes and nothing else: what was refused left no trace.
fn check_all(server: &Server, path: &Path, acknowledged: &[Acknowledged]) -> Vec<Row> {
    let rows = Database::beside(path).checked_log();
    check_acknowledged(&rows, acknowledged);
    let known: BTreeMap<u64, &str> =
        acknowledged.iter().map(|w| (w.registry_version, w.slug.as_str())).collect();
    for row in rows.iter().filter(|row| row.registry_version > 1) {
        assert!(
            known.contains_key(&row.registry_version),
            "refused, but written: {} {}",
            row.operation,
            row.slug
        );
    }
    check_served(&mut server.client(), &rows);
    rows
}

fn returned_space_is_used(client: &mut Client, slug: &str) -> Acknowledged {
    until(Duration::from_secs(10), "writes after space returned", || {
        let answer = create(client, slug, 100);
        (answer.status == 201).then(|| Acknowledged::new("create", slug, &answer))
    })
}

#[test]
fn f3_a_full_disk_refuses_writes_and_recovers_by_itself() {
    let Some(small) = Small::mount() else { return };
    let started = Instant::now();
    let server = Launch::on(&small.folder).start().unwrap();
    let path = small.folder.join("profiles.db");
    let mut client = server.client();
    let mut acknowledged = Vec::new();
    for round in 0..size(2, 6) {
        small.fill(200_000 + 50_000 * round);
        let refusal = (0..200).find_map(|number| {
            let slug = format!("r{round}-{number}");
            let answer = create(&mut client, &slug, 5_000);
            if answer.status != 201 {
                return Some(answer);
            }
            acknowledged.push(Acknowledged::new("create", &slug, &answer));
            None
        });
        check_refusal(&mut client, &refusal.unwrap());
        assert_eq!(client.get("/healthz").unwrap().status, 200);
        check_all(&server, &path, &acknowledged);
        small.free();
        acknowledged.push(returned_space_is_used(&mut client, &format!("r{round}-after")));
        check_all(&server, &path, &acknowledged);
    }
    server.kill();
    let server = Launch::on(&small.folder).start().unwrap();
    check_all(&server, &path, &acknowledged);
    eprintln!("f3: {} acknowledged writes, {:?}", acknowledged.len(), started.elapsed());
}

/// Many large writes at once: a group is larger than SQLite's cache, so space ends in the middle of a transaction. The
/// lock is held meanwhile, so that they meet in one group.
#[test]
fn f3_space_that_ends_inside_a_group_of_writes_refuses_or_keeps_each_of_them() {
    const WRITERS: usize = 16;
    let mut seed = Seed::of("f3_space_that_ends_inside");
    let mut rng = seed.fork();
    for round in 0..size(4, 24) {
        let Some(small) = Small::mount() else { return };
        let server = Launch::on(&small.folder).start().unwrap();
        let path = small.folder.join("profiles.db");
        small.fill(300_000 + rng.index(900_000));
        let holder = Connection::open(&path).unwrap();
        holder.execute_batch("BEGIN IMMEDIATE").unwrap();
        let (acknowledged, refused) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
        let ready = Barrier::new(WRITERS + 1);
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (mut client, acknowledged) = (server.client(), &acknowledged);
                let (refused, ready) = (&refused, &ready);
                scope.spawn(move || {
                    let slug = format!("w{writer}");
                    ready.wait();
                    let answer = create(&mut client, &slug, 250_000);
                    match answer.status {
                        201 => acknowledged
                            .lock()
                            .unwrap()
                            .push(Acknowledged::new("create", &slug, &answer)),
                        500 => drop(refused.fetch_add(1, Ordering::Relaxed)),
                        other => panic!("{other}: {}", answer.text()),
                    }
                });
            }
            ready.wait();
            // Only how many meet depends on this, not what is expected of them.
            thread::sleep(Duration::from_millis(700));
            holder.execute_batch("ROLLBACK").unwrap();
        });
        let (mut acknowledged, refused) =
            (acknowledged.into_inner().unwrap(), refused.into_inner());
        eprintln!("f3: round {round}: {} acknowledged, {refused} refused", acknowledged.len());
        assert!(refused > 0, "4 MB do not fit");
        check_all(&server, &path, &acknowledged);
        small.free();
        acknowledged.push(returned_space_is_used(&mut server.client(), "after"));
        check_all(&server, &path, &acknowledged);
        server.kill();
        let server = Launch::on(&small.folder).start().unwrap();
        check_all(&server, &path, &acknowledged);
    }
}

/// What the reference wrote, if it is still there.
fn payload(path: &Path) -> Option<String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = Connection::open_with_flags(path, flags).ok()?;
    let sql = "SELECT payload_json FROM profile_registries";
    connection.query_row(sql, [], |row| row.get(0)).ok()
}

/// Without space nothing starts; what a start left behind is no obstacle when space is back.
#[test]
fn f3_a_start_without_space_is_refused_and_works_later() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/tests/samples/profiles.db");
    let mut wrong = Vec::new();
    for (adopts, profiles) in [(false, 2), (true, 8)] {
        for left in [0, 8_192, 20_000, 40_000, 60_000, 80_000, 120_000] {
            let Some(small) = Small::mount() else { return };
            let path = small.folder.join("profiles.db");
            if adopts {
                fs::copy(&sample, &path).unwrap();
            }
            small.fill(left);
            let mut failed = false;
            let mut say = |what: &str, text: &str| {
                wrong.push(format!("adopts {adopts}, {left} bytes left: {what}: {text}"));
            };
            match Launch::on(&small.folder).start() {
                // Enough space after all.
                Ok(server) => assert_eq!(documents(&mut server.client()).len(), profiles),
                Err(refused) => {
                    failed = true;
                    let text = refused.stderr.to_lowercase();
                    if refused.status.code() != Some(1) || text.contains("panicked") {
                        say("broke", &refused.stderr);
                    }
                    if !text.contains(&small.folder.to_str().unwrap().to_lowercase()) {
                        say("does not name the file", &refused.stderr);
                    }
                    if !text.contains("full") && !text.contains("no space") {
                        say("does not say why", &refused.stderr);
                    }
                }
            }
            for entry in fs::read_dir(&small.folder).unwrap() {
                let name = entry.unwrap().file_name().to_string_lossy().into_owned();
                if name.contains(".tmp") {
                    say("left", &name);
                }
            }
            small.free();
            // Adopted as a whole or not at all: a start may also fail after the adoption was committed.
            let kept = payload(&path);
            if adopts && failed && kept.is_some() && kept != payload(&sample) {
                say("changed the original", "");
            }
            match Launch::on(&small.folder).start() {
                Ok(server) => assert_eq!(documents(&mut server.client()).len(), profiles),
                Err(refused) => say("refused also when space was back", &refused.stderr),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A change that creates a profile of about `bytes`.
fn change(id: u64, slug: &str, bytes: usize) -> Change {
    let profile: Profile = serde_json::from_value(json!({
        "slug": slug, "runtime": {"system_prompt": "x".repeat(bytes)}, "metadata": {"version": 1},
    }))
    .unwrap();
    let metadata = Metadata { version: id, ..Metadata::default() };
    Change {
        id,
        registry: RegistrySlug::parse("default").unwrap(),
        operation: Operation::Create,
        slug: Some(profile.slug.clone()),
        version: 1,
        document: profile.document(),
        head: Arc::new(RegistryHead {
            default_profile: Some(ProfileSlug::parse("w1").unwrap()),
            metadata,
            ..RegistryHead::default()
        }),
        profile: Some(Arc::new(profile)),
        stamp: Stamp::default(),
    }
}

/// The promise of the port: a failing append does not sink its transaction, and a failing commit leaves nothing of it.
/// A large transaction does not fit SQLite's cache, so that space ends at an append and not at the commit.
#[test]
fn f3_space_that_ends_at_an_append_keeps_the_promises_of_the_port() {
    for large in [2, 8, 10, 12, 14] {
        let Some(small) = Small::mount() else { return };
        let path = small.folder.join("profiles.db");
        let open = || SqliteProfiles::open(&path, &Catalog::default(), 1).unwrap();
        let store = open();
        let mut session = store.writer().unwrap();
        small.fill(500_000);
        session.begin().unwrap();
        let mut appended = Vec::new();
        let mut failed = 0;
        for number in 1..=large + 3 {
            // A failed one leaves its number to the next, as the registry does it; the last ones are small.
            let bytes = if number <= large { 250_000 } else { 10 };
            let change = change(appended.len() as u64 + 1, &format!("w{number}"), bytes);
            match session.append(std::slice::from_ref(&change)) {
                Ok(()) => appended.push(format!("w{number}")),
                Err(error) => {
                    assert_eq!(error.kind, StoreErrorKind::Full, "{error}");
                    failed += 1;
                }
            }
        }
        let committed = session.commit();
        eprintln!("f3: {large} large changes: {failed} appends failed, commit said {committed:?}");
        let expected = if committed.is_ok() { appended } else { Vec::new() };
        small.free();
        drop(session);
        let contents = open().load().unwrap();
        let mut stored: Vec<String> = contents
            .registries
            .values()
            .flat_map(|registry| registry.profiles.iter().map(|p| p.slug.to_string()))
            .collect();
        stored.sort_by_key(|slug| slug[1..].parse::<u64>().unwrap());
        assert_eq!(
            stored, expected,
            "{large} large changes, {failed} appends failed, commit said {committed:?}"
        );
        assert_eq!(contents.revision, expected.len() as u64);
    }
}
