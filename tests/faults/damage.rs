//! F6: damaged, cut, foreign and incomplete files. A start is refused, the file is named and not touched; or the damage
//! was in nothing that is served. Never an empty new registry, never another content.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::http::Client;
use crate::log::{PROFILES, documents};
use crate::seed::{Rng, Seed, size};
use crate::server::Launch;

const PAGE: usize = 4096;

/// A data folder as a server left it, and what that server served.
struct Left {
    folder: tempfile::TempDir,
    served: BTreeMap<String, Value>,
}

/// Fills a registry with a story of its own.
fn fill(client: &mut Client, rng: &mut Rng, prefix: &str) {
    for number in 0..24 {
        let body = json!({
            "slug": format!("{prefix}{number}"),
            "display_name": format!("number {number}"),
            "description": format!("{} ", rng.next()).repeat(1 + rng.index(20)),
            "runtime": {"system_prompt": format!("You are {}.", rng.next())},
            "metadata": {"tags": ["one", "two"]},
            "extensions": {"vendor.x@v1": {"n": rng.next(), "deep": [{}, null]}},
        });
        assert_eq!(client.send("POST", PROFILES, Some(&body)).unwrap().status, 201);
    }
    for number in 0..12 {
        let path = format!("{PROFILES}/{prefix}{}", 2 * number);
        let body = json!({"display_name": format!("changed {}", rng.next())});
        assert_eq!(client.send("PATCH", &path, Some(&body)).unwrap().status, 200);
    }
    for number in [3, 9] {
        let path = format!("{PROFILES}/{prefix}{number}");
        assert_eq!(client.send("DELETE", &path, None).unwrap().status, 204);
    }
    let path = format!("{PROFILES}/{prefix}5/default");
    assert_eq!(client.send("POST", &path, None).unwrap().status, 200);
}

impl Left {
    /// `hot` is killed with its log beside the database, otherwise the log was folded in.
    fn by_a_server(rng: &mut Rng, prefix: &str, hot: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Launch::on(folder.path()).start().unwrap();
        fill(&mut server.client(), rng, prefix);
        let served = documents(&mut server.client());
        if hot {
            server.kill();
        } else {
            server.stop();
        }
        assert_eq!(folder.path().join("profiles.db-wal").exists(), hot);
        Self { folder, served }
    }

    fn copy(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        for name in ["profiles.db", "profiles.db-wal", "profiles.db.state"] {
            let source = self.folder.path().join(name);
            if source.exists() {
                fs::copy(source, copy.path().join(name)).unwrap();
            }
        }
        copy
    }

    /// What is wrong with the start on `folder`, if anything is.
    fn judge(&self, folder: &Path) -> Option<String> {
        let files = ["profiles.db", "profiles.db-wal"].map(|name| folder.join(name));
        // An empty log is none.
        let read = |path: &PathBuf| fs::read(path).ok().filter(|bytes| !bytes.is_empty());
        let before = files.each_ref().map(read);
        match Launch::on(folder).start() {
            Ok(server) => {
                let served = documents(&mut server.client());
                (served != self.served).then(|| difference(&self.served, &served))
            }
            Err(refused) => {
                let after = files.each_ref().map(read);
                let path = files[0].to_str().unwrap();
                if before != after {
                    Some(format!("refused, and changed the files: {}", refused.stderr))
                } else if !refused.stderr.contains(path) {
                    Some(format!("refused without naming {path}: {}", refused.stderr))
                } else if refused.stderr.contains("panicked") || refused.status.code() != Some(1) {
                    Some(format!("broke: {refused:?}"))
                } else {
                    None
                }
            }
        }
    }
}

fn difference(wanted: &BTreeMap<String, Value>, served: &BTreeMap<String, Value>) -> String {
    let lost: Vec<_> = wanted.keys().filter(|slug| !served.contains_key(*slug)).collect();
    let new: Vec<_> = served.keys().filter(|slug| !wanted.contains_key(*slug)).collect();
    let other = wanted.iter().find(|(slug, d)| served.get(*slug).is_some_and(|s| s != *d));
    let other = other.map(|(slug, document)| format!("{document} became {}", served[slug]));
    format!("served another content: {} lost, {} new {new:?}, {other:?}", lost.len(), new.len())
}

fn patch(folder: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let path: PathBuf = folder.join("profiles.db");
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// Damages a folded database; the words say how.
fn mutate(kind: usize, folder: &Path, rng: &mut Rng) -> String {
    let mut said = String::new();
    patch(folder, |bytes| match kind % 7 {
        0 | 1 => {
            let place = rng.index(bytes.len());
            bytes[place] ^= 1 << rng.below(8);
            said = format!("a bit flipped at {place}");
        }
        2 => {
            for _ in 0..16 {
                let place = rng.index(bytes.len());
                bytes[place] = u8::try_from(rng.below(256)).unwrap();
            }
            said = "sixteen bytes changed".into();
        }
        3 => {
            let page = rng.index(bytes.len() / PAGE);
            bytes[page * PAGE..(page + 1) * PAGE].fill(0);
            said = format!("page {} zeroed", page + 1);
        }
        4 => {
            let length = 1 + rng.index(bytes.len() - 1);
            bytes.truncate(length);
            said = format!("cut to {length} bytes");
        }
        5 => {
            let length = 16 + rng.index(200);
            for byte in &mut bytes[..length] {
                *byte = u8::try_from(rng.below(256)).unwrap();
            }
            said = "not a database any more".into();
        }
        _ => {
            let version = u32::try_from(2 + rng.below(1_000)).unwrap();
            bytes[60..64].copy_from_slice(&version.to_be_bytes());
            said = format!("schema version {version}");
        }
    });
    said
}

#[test]
fn f6_a_damaged_database_is_refused_or_serves_what_it_held() {
    let mut seed = Seed::of("f6_a_damaged_database");
    let mut rng = seed.fork();
    let left = Left::by_a_server(&mut rng, "p", false);
    assert_eq!(left.judge(left.copy().path()), None, "without damage");
    let mut wrong = Vec::new();
    let count = size(21, 210);
    for number in 0..count {
        let copy = left.copy();
        let said = mutate(number, copy.path(), &mut rng);
        wrong.extend(left.judge(copy.path()).map(|what| format!("{number}, {said}: {what}")));
    }
    assert!(wrong.is_empty(), "{} of {count} mutations:\n{}", wrong.len(), wrong.join("\n"));
}

/// Text that every profile holds, changed in one place where it is stored: the page stays sound, the content does not.
#[test]
fn f6_changed_content_in_a_sound_page_is_refused_or_not_served() {
    let mut seed = Seed::of("f6_changed_content");
    let mut rng = seed.fork();
    let left = Left::by_a_server(&mut rng, "p", false);
    let mut wrong = Vec::new();
    for text in
        ["You are ", "changed ", "number 1", "\"created_at_ms\":", "web-chat", "p5", "http-api"]
    {
        let copy = left.copy();
        patch(copy.path(), |bytes| {
            let found = bytes.windows(text.len()).enumerate();
            let places: Vec<_> =
                found.filter(|(_, w)| *w == text.as_bytes()).map(|(place, _)| place).collect();
            // Digits and letters stay what they are, so that only meaning changes.
            for place in places {
                bytes[place + text.len() - 1] ^= u8::from(!text.ends_with(':'));
                if text.ends_with(':') {
                    bytes[place + text.len()] ^= 2;
                }
            }
        });
        wrong.extend(left.judge(copy.path()).map(|what| format!("{text}: {what}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn f6_a_log_without_its_database_is_refused() {
    let mut seed = Seed::of("f6_a_log_without_its_database");
    let left = Left::by_a_server(&mut seed.fork(), "p", true);
    assert_eq!(left.judge(left.copy().path()), None, "a log that belongs there is used");
    let copy = left.copy();
    fs::remove_file(copy.path().join("profiles.db")).unwrap();
    assert_eq!(left.judge(copy.path()), None);
    assert!(!copy.path().join("profiles.db").exists(), "no new one was made");
}

/// The log of a new registry holds everything: without it the file is empty, but it is no new file.
#[test]
fn f6_a_deleted_log_never_makes_an_empty_new_registry() {
    let mut seed = Seed::of("f6_a_deleted_log_never");
    let left = Left::by_a_server(&mut seed.fork(), "p", true);
    let copy = left.copy();
    fs::remove_file(copy.path().join("profiles.db-wal")).unwrap();
    assert_eq!(left.judge(copy.path()), None);
}

/// The log held acknowledged writes on top of a database that was folded before.
#[test]
fn f6_a_deleted_log_on_a_folded_database_is_noticed() {
    let mut seed = Seed::of("f6_a_deleted_log_on");
    let mut rng = seed.fork();
    let mut left = Left::by_a_server(&mut rng, "p", false);
    let server = Launch::on(left.folder.path()).start().unwrap();
    fill(&mut server.client(), &mut rng, "later");
    left.served = documents(&mut server.client());
    server.kill();
    let copy = left.copy();
    fs::remove_file(copy.path().join("profiles.db-wal")).unwrap();
    assert_eq!(left.judge(copy.path()), None);
}

/// A log of another database is sound in itself: its pages would take the place of ours.
#[test]
fn f6_the_log_of_another_database_is_refused() {
    let mut seed = Seed::of("f6_the_log_of_another");
    let mut rng = seed.fork();
    let left = Left::by_a_server(&mut rng, "p", false);
    let other = Left::by_a_server(&mut rng, "other", true);
    let copy = left.copy();
    let log = "profiles.db-wal";
    fs::copy(other.folder.path().join(log), copy.path().join(log)).unwrap();
    assert_eq!(left.judge(copy.path()), None);
}
