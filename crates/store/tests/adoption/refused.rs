//! Files that are refused are named, and not one byte of them changes (decision 6).

use collodi_profiles::store::StoreErrorKind;

use super::crafted::write;
use super::*;

/// Opening fails, says why, names the file, and leaves it and its folder as they were.
fn assert_refused(sample: &Sample, reason: &str) {
    let (before, names) = (fs::read(&sample.path).unwrap(), sample.names());
    let mut wrong = Vec::new();
    for start in 1..=2 {
        let Err(error) = sample.open() else { panic!("start {start} was not refused ({reason})") };
        let named = error.text.contains(sample.path.to_str().unwrap());
        let unchanged = fs::read(&sample.path).unwrap() == before;
        for (right, what) in [
            (error.kind == StoreErrorKind::Corrupt, "is not of the kind Corrupt"),
            (error.text.contains(reason), "does not say why"),
            (named, "does not name the file"),
            (unchanged, "has changed the file"),
        ] {
            if !right {
                wrong.push(format!("start {start} {what}: {error:?}"));
            }
        }
    }
    let temporary = ["profiles.db-wal", "profiles.db-shm"];
    let mut left = sample.names();
    left.retain(|name| !temporary.contains(&name.as_str()) && !names.contains(name));
    if !left.is_empty() {
        wrong.push(format!("two refused starts left {left:?}"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every place where `text` stands, also in pages that are not in use any more.
fn places(bytes: &[u8], text: &str) -> Vec<usize> {
    let found = bytes.windows(text.len()).enumerate().filter(|(_, w)| *w == text.as_bytes());
    let places: Vec<usize> = found.map(|(place, _)| place).collect();
    assert!(!places.is_empty());
    places
}

fn file_with(content: &[u8]) -> Sample {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profiles.db");
    fs::write(&path, content).unwrap();
    Sample { folder, path }
}

fn ours() -> Sample {
    let sample = Sample::copy("profiles.db");
    drop(sample.open().unwrap());
    sample
}

fn change(sample: &Sample, sql: &str) {
    Connection::open(&sample.path).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn a_newer_schema_is_refused() {
    let sample = ours();
    change(&sample, "PRAGMA user_version = 99");
    assert_refused(&sample, "has schema version 99, this program knows up to");
}

#[test]
fn an_altered_migration_is_refused() {
    let sample = ours();
    change(&sample, "UPDATE migrations SET sha256 = 'another' WHERE version = 1");
    assert_refused(&sample, "migration 1 is not the one this program knows");
}

#[test]
fn a_migration_that_was_never_recorded_is_refused() {
    let sample = ours();
    change(&sample, "DELETE FROM migrations");
    assert_refused(&sample, "migra");
}

#[test]
fn the_database_of_another_program_is_refused() {
    let sample = file_with(b"");
    change(&sample, "CREATE TABLE customers (id); INSERT INTO customers VALUES (1)");
    assert_refused(&sample, "another program's database (tables: customers)");
    let sample = file_with(b"");
    change(&sample, "PRAGMA application_id = 77; CREATE TABLE profile_registries (slug)");
    assert_refused(&sample, "another program's database");
    let sample = file_with(b"");
    change(&sample, "PRAGMA user_version = 3");
    assert_refused(&sample, "");
}

#[test]
fn a_reference_database_with_tables_of_its_own_is_refused() {
    let sample = Sample::copy("profiles.db");
    change(&sample, "CREATE TABLE notes (id)");
    assert_refused(&sample, "another program's database (tables: notes, profile_registries)");
}

#[test]
fn what_is_no_database_is_refused() {
    assert_refused(&file_with(b"hello, this is a text file\n"), "not a database");
    assert_refused(&file_with(&vec![0x5a; 20_000]), "not a database");
}

#[test]
fn a_cut_database_is_refused() {
    for sample in [Sample::copy("profiles.db"), ours()] {
        let bytes = fs::read(&sample.path).unwrap();
        fs::write(&sample.path, &bytes[..bytes.len() / 2]).unwrap();
        assert_refused(&sample, "damaged");
    }
}

#[test]
fn a_zeroed_page_is_refused() {
    let sample = ours();
    let mut bytes = fs::read(&sample.path).unwrap();
    // The page that holds the documents, wherever it lies.
    for place in places(&bytes, "You are an ana") {
        let page = place / 4096 * 4096;
        bytes[page..page + 4096].fill(0);
    }
    fs::write(&sample.path, bytes).unwrap();
    assert_refused(&sample, "damaged");
}

/// A page can be sound and its content another: documents are checked against their hashes when they are loaded.
#[test]
fn an_altered_document_is_refused_when_it_is_loaded() {
    let sample = ours();
    let mut bytes = fs::read(&sample.path).unwrap();
    for place in places(&bytes, "You are an ana") {
        bytes[place] = b'I';
    }
    fs::write(&sample.path, &bytes).unwrap();
    let error = match sample.open() {
        Err(error) => error,
        Ok(store) => store.load().unwrap_err(),
    };
    assert_eq!(error.kind, StoreErrorKind::Corrupt);
    assert!(error.text.contains("does not match its hash"), "{error}");
    assert!(fs::read(&sample.path).unwrap() == bytes);
}

/// The hash leaves out what belongs to the server; that is served too, so it must be checked as well.
#[test]
fn altered_metadata_of_a_profile_is_refused_when_it_is_loaded() {
    let sample = ours();
    let mut bytes = fs::read(&sample.path).unwrap();
    let text = "\"created_at_ms\":17";
    for place in places(&bytes, text) {
        bytes[place + text.len() - 1] = b'3';
    }
    fs::write(&sample.path, &bytes).unwrap();
    let loaded = sample.open().and_then(|store| store.load());
    assert_eq!(loaded.err().map(|e| e.kind), Some(StoreErrorKind::Corrupt));
}

/// The rule of D1 holds for whatever is loaded.
#[test]
fn c10_d1_a_registry_row_that_names_no_profile_is_refused_or_repaired() {
    for default in ["", "nobody"] {
        let sample = ours();
        change(&sample, &format!("UPDATE registries SET default_profile = '{default}'"));
        let Ok(contents) = sample.open().and_then(|store| store.load()) else { continue };
        let stored = &contents.registries[&default_registry()];
        let named = stored.head.default_profile.as_ref();
        assert!(
            stored.profiles.iter().any(|profile| Some(&profile.slug) == named),
            "loaded with default {named:?}"
        );
    }
}

#[test]
fn a_reference_payload_that_is_no_registry_is_refused() {
    for payload in
        ["{not json", "[]", "{\"profiles\": [1]}", "{\"profiles\": {\"a\": {\"runtime\": 5}}}"]
    {
        for mode in ["delete", "wal"] {
            let sample = file_with(b"");
            let connection = Connection::open(&sample.path).unwrap();
            let set: String = connection
                .pragma_update_and_check(None, "journal_mode", mode, |row| row.get(0))
                .unwrap();
            assert_eq!(set, mode);
            write(&connection, "default", payload);
            drop(connection);
            assert_refused(&sample, "adopt ");
        }
    }
}

#[test]
fn a_log_without_its_database_is_refused() {
    let sample = ours();
    let log = sample.folder.path().join("profiles.db-wal");
    fs::rename(&sample.path, &log).unwrap();
    let Err(error) = sample.open() else { panic!("a new registry was made") };
    assert!(error.text.contains("-wal holds data"), "{error}");
    let left = ["profiles.db-wal", "profiles.db.before-adoption-1", "profiles.db.state"];
    assert_eq!(sample.names(), left);
}

#[test]
fn a_registry_whose_writer_has_ended_is_not_taken_for_closed() {
    let sample = ours();
    let store = sample.open().unwrap();
    drop(store.writer().unwrap());
    assert!(sample.names().contains(&"profiles.db-wal".into()), "{:?}", sample.names());
    drop(store);
    assert!(!sample.names().contains(&"profiles.db-wal".into()), "{:?}", sample.names());
    sample.open().unwrap();
}

#[test]
fn a_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = SqliteProfiles::open(folder.path(), &catalog(), 1).err().unwrap();
    assert!(error.text.contains("is a folder, not a database file"), "{error}");
}
