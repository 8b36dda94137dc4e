//! `collodi ops preflight` (must-show line 2 of the operator's half, its first sentence; lines 1 to 4).

use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use serde_json::{Value, json};

use crate::command::{Said, bare, collodi, said};
use crate::fake;
use crate::server::Server;

/// One test sets the switch in the environment of a process, which the others would find.
static PROCESSES: RwLock<()> = RwLock::new(());

/// Nobody sets the switch meanwhile.
pub(crate) fn quiet() -> RwLockReadGuard<'static, ()> {
    PROCESSES.read().unwrap_or_else(PoisonError::into_inner)
}

/// A data folder with a registry, stopped, and a folder for snapshots.
pub(crate) fn place() -> (tempfile::TempDir, String, String) {
    let mut server = Server::start(&[]);
    server.terminate();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(server.wait());
    let folder = tempfile::tempdir().unwrap();
    let (data, backup) = (folder.path().join("data"), folder.path().join("backup"));
    std::fs::create_dir(&backup).unwrap();
    std::fs::rename(server.folder.path().join("data"), &data).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    (folder, text(&data), text(&backup))
}

fn preflight(data: &str, more: &[&str]) -> Said {
    collodi(&[&["ops", "preflight", "--data-dir", data, "--output", "json"], more].concat())
}

fn lines(said: &Said) -> Value {
    said.json()["failed_lines"].clone()
}

fn evidence(said: &Said, code: &str) -> String {
    let report = said.json();
    let findings = report["findings"].as_array().unwrap().iter();
    let of = findings.filter(|finding| finding["code"] == code);
    of.map(|finding| finding["evidence"].as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

/// Every database with its bytes.
fn bytes(data: &str) -> Vec<Vec<u8>> {
    ["profiles.db", "chat.db"].map(|name| std::fs::read(Path::new(data).join(name)).unwrap()).into()
}

#[test]
fn our_binary_is_a_go_and_the_databases_stay_as_they_are() {
    let _quiet = quiet();
    let (_folder, data, backup) = place();
    let before = bytes(&data);
    let snapshot = format!("{backup}/one");
    let taken = collodi(&["ops", "snapshot", "--data-dir", &data, "--to", &snapshot]);
    assert_eq!(taken.code, Some(0), "{taken:?}");
    let ours = fake::ours();
    let said = preflight(
        &data,
        &["--backup-dir", &backup, "--candidate", &ours, "--candidate", &ours, "--previous", &ours],
    );
    assert_eq!((said.code, lines(&said)), (Some(0), json!([])), "{}", said.out);
    let report = said.json();
    let codes: Vec<&str> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["code"].as_str().unwrap())
        .collect();
    for code in [
        "legacy.switch",
        "db.readable",
        "db.writable",
        "backup.writable",
        "snapshot.present",
        "binary.candidate",
        "binary.previous",
        "chat.switch",
        "release.match",
    ] {
        assert!(codes.contains(&code), "{code}: {codes:?}");
    }
    assert!(bytes(&data) == before, "the databases were touched");
}

#[test]
fn a_binary_without_schemas_or_validation_is_a_no_go_that_names_the_line() {
    let _quiet = quiet();
    let (_folder, data, _) = place();
    let before = bytes(&data);
    for line in [7, 11, 12] {
        let said = preflight(&data, &["--candidate", &fake::broken(line)]);
        assert_eq!((said.code, lines(&said)), (Some(1), json!([2, line])), "{}", said.out);
    }
    assert!(bytes(&data) == before, "the databases were touched");
}

#[test]
fn an_older_binary_that_cannot_read_the_snapshot_is_no_way_back() {
    let _quiet = quiet();
    let (_folder, data, _) = place();
    // What programs do that find a schema of tomorrow.
    let older = ": {addr} {profiles_db}; echo 'profiles.db has schema version 1, this program knows up to 0' >&2; exit 1";
    let said = preflight(&data, &["--candidate", &fake::ours(), "--previous", older]);
    assert_eq!((said.code, lines(&said)), (Some(1), json!([17])), "{}", said.out);
    assert!(evidence(&said, "binary.previous").contains("knows up to 0"), "{}", said.out);
}

#[test]
fn the_legacy_switch_is_found_in_the_environment_in_files_and_in_processes() {
    let _alone = PROCESSES.write().unwrap_or_else(PoisonError::into_inner);
    const SWITCH: &str = "PINOCCHIO_ENABLE_PROFILE_REGISTRY_MIDDLEWARE";
    let (folder, data, _) = place();
    let arguments = ["ops", "preflight", "--data-dir", &data, "--output", "json"];
    let set = said(bare().args(arguments).env(SWITCH, "1"));
    assert_eq!((set.code, lines(&set)), (Some(1), json!([1])));
    let unit = folder.path().join("chat.service");
    let scan = ["--scan", unit.to_str().unwrap()];
    std::fs::write(&unit, format!("[Service]\nEnvironment={SWITCH}=1\n")).unwrap();
    let set = preflight(&data, &scan);
    assert_eq!((set.code, lines(&set)), (Some(1), json!([1])));
    assert!(evidence(&set, "legacy.switch").contains("chat.service:2"));
    std::fs::write(&unit, format!("[Service]\n# Environment={SWITCH}=1\n")).unwrap();
    assert_eq!(preflight(&data, &scan).code, Some(0));
}

#[test]
fn a_snapshot_that_lacks_changes_is_not_enough() {
    let _quiet = quiet();
    let (folder, data, backup) = place();
    let with_backup = ["--backup-dir", backup.as_str()];
    let none = preflight(&data, &with_backup);
    assert_eq!((none.code, lines(&none)), (Some(1), json!([3])));
    let snapshot = format!("{backup}/one");
    collodi(&["ops", "snapshot", "--data-dir", &data, "--to", &snapshot]);
    assert_eq!(preflight(&data, &with_backup).code, Some(0));
    let sql = "INSERT INTO changes SELECT id + 1, id, nth + 1, registry, operation, slug, version + 1, \
        registry_version + 1, default_profile, document, document_hash, actor, source, note, request_id, \
        at_ms FROM changes ORDER BY id DESC LIMIT 1";
    let connection = rusqlite::Connection::open(Path::new(&data).join("profiles.db")).unwrap();
    connection.execute_batch(sql).unwrap();
    // Not while this has it open for the first time since it was closed: that would be a log without a server.
    drop(connection);
    let late = preflight(&data, &with_backup);
    assert_eq!((late.code, lines(&late)), (Some(1), json!([3])), "{}", late.out);
    assert!(evidence(&late, "snapshot.present").contains("1 changes are missing"), "{}", late.out);
    let (_other, elsewhere, _) = place();
    let foreign = preflight(&elsewhere, &with_backup);
    assert_eq!((foreign.code, lines(&foreign)), (Some(1), json!([3])));
    assert!(evidence(&foreign, "snapshot.present").contains("another database"), "{}", foreign.out);
    let nowhere = folder.path().join("none");
    let missing = preflight(&data, &["--backup-dir", nowhere.to_str().unwrap()]);
    assert_eq!((missing.code, lines(&missing)), (Some(1), json!([3, 4])));
}

#[test]
fn a_damaged_registry_is_a_no_go_before_any_binary_is_started() {
    let _quiet = quiet();
    let (_folder, data, _) = place();
    let path = Path::new(&data).join("profiles.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let page = 4096;
    bytes[page..2 * page].fill(0xAA);
    std::fs::write(&path, &bytes).unwrap();
    let said = preflight(&data, &["--candidate", &fake::ours()]);
    assert_eq!((said.code, lines(&said)), (Some(1), json!([4])), "{}", said.out);
    assert_eq!(evidence(&said, "binary.candidate"), "");
    assert!(std::fs::read(&path).unwrap() == bytes);
}

#[test]
fn a_registry_of_the_go_reference_is_proven_with_our_binary() {
    let _quiet = quiet();
    let folder = tempfile::tempdir().unwrap();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/tests/samples/profiles.db");
    let file = folder.path().join("registry.db");
    std::fs::copy(&sample, &file).unwrap();
    let before = std::fs::read(&file).unwrap();
    let said = collodi(&[
        "ops",
        "preflight",
        "--profile-registry-db",
        file.to_str().unwrap(),
        "--candidate",
        &fake::ours(),
        "--output",
        "json",
    ]);
    assert_eq!((said.code, lines(&said)), (Some(0), json!([])), "{}", said.out);
    assert!(std::fs::read(&file).unwrap() == before);
    let (file, backup) = (file.to_str().unwrap(), folder.path().join("backup"));
    let (to, backup) = (backup.join("one"), backup.to_str().unwrap());
    let taken = ["ops", "snapshot", "--profile-registry-db", file, "--to", to.to_str().unwrap()];
    assert_eq!(collodi(&taken).code, Some(0));
    let with_backup = [
        "ops",
        "preflight",
        "--profile-registry-db",
        file,
        "--backup-dir",
        backup,
        "--output",
        "json",
    ];
    assert_eq!(collodi(&with_backup).code, Some(0));
    let sql = "UPDATE profile_registries SET payload_json = replace(payload_json, 'a', 'b')";
    rusqlite::Connection::open(file).unwrap().execute_batch(sql).unwrap();
    let late = collodi(&with_backup);
    assert_eq!((late.code, lines(&late)), (Some(1), json!([3])), "{}", late.out);
}
