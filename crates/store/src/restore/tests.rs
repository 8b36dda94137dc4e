use std::collections::BTreeSet;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};

use collodi_profiles::Catalog;
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::snapshot::{kind_of, sources, take};
use crate::step::{Fault, with_fault};
use crate::{SqliteChats, SqliteProfiles};

const MEANT: Terms = Terms { alone: false, of_another: false };
const OF_ANOTHER: Terms = Terms { alone: false, of_another: true };
const BOTH: [&str; 2] = ["profiles.db", "chat.db"];

/// A data folder as a killed server leaves it: the newest changes, among them `mark`, are in the logs only.
fn data(mark: &str, before: Option<&Path>) -> TempDir {
    let live = tempfile::tempdir().unwrap();
    if let Some(before) = before {
        copy(before, live.path());
    }
    let profiles =
        SqliteProfiles::open(&live.path().join(BOTH[0]), &Catalog::default(), 1).unwrap();
    let chats = SqliteChats::open(&live.path().join(BOTH[1])).unwrap();
    for name in BOTH {
        let connection = Connection::open(live.path().join(name)).unwrap();
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS mark (x); DELETE FROM mark; INSERT INTO mark VALUES ('{mark}')"
        );
        connection.execute_batch(&sql).unwrap();
    }
    let left = tempfile::tempdir().unwrap();
    copy(live.path(), left.path());
    drop((profiles, chats));
    left
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.path().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// The marks of both databases, which must be sound.
fn marks(folder: &Path) -> (String, String) {
    for source in sources(folder) {
        kind_of(&source).unwrap();
    }
    let mark = |name: &str| {
        let connection = Connection::open(folder.join(name)).unwrap();
        connection.query_row("SELECT x FROM mark", [], |row| row.get(0)).unwrap()
    };
    (mark(BOTH[0]), mark(BOTH[1]))
}

fn both(mark: &str) -> (String, String) {
    (mark.to_owned(), mark.to_owned())
}

fn registry(folder: &TempDir) -> PathBuf {
    folder.path().join(BOTH[0])
}

/// An old state, its snapshot, and the state that came of it.
fn history() -> (TempDir, TempDir, PathBuf) {
    let old = data("old", None);
    let folder = tempfile::tempdir().unwrap();
    let snapshot = folder.path().join("snapshot");
    take(&sources(old.path()), &snapshot, "test 1", 5).unwrap();
    let new = data("new", Some(old.path()));
    (new, folder, snapshot)
}

#[test]
fn f9_a_restore_puts_both_databases_back_and_can_be_undone_and_redone() {
    let (live, _folder, snapshot) = history();
    let manifest = verify(&snapshot).unwrap();
    let kinds: Vec<Kind> = manifest.databases.iter().map(|d| d.kind).collect();
    assert_eq!(kinds, [Kind::Chats, Kind::Profiles], "profiles are taken after chats");
    let restored = restore(&snapshot, &registry(&live), 10, MEANT).unwrap();
    assert_eq!(marks(live.path()), both("old"));
    assert!(
        restored.kept.join("profiles.db-wal").exists(),
        "what was replaced is kept with its log"
    );
    undo(&registry(&live), 11, false).unwrap();
    assert_eq!(marks(live.path()), both("new"));
    undo(&registry(&live), 12, false).unwrap();
    assert_eq!(marks(live.path()), both("old"));
    // A server opens what was restored.
    SqliteProfiles::open(&registry(&live), &Catalog::default(), 1).unwrap();
}

#[test]
fn f9_a_kill_at_any_step_of_a_restore_leaves_the_old_or_the_new_state() {
    let (live, _folder, snapshot) = history();
    let mut seen = BTreeSet::new();
    for n in 0.. {
        let data = tempfile::tempdir().unwrap();
        copy(live.path(), data.path());
        let profiles = registry(&data);
        let (_, met) =
            with_fault(n, Fault::Die, || restore(&snapshot, &profiles, 10, MEANT).map(drop));
        if !met {
            break;
        }
        // What every start does.
        finish(&profiles).unwrap();
        let marks = marks(data.path());
        assert!([both("old"), both("new")].contains(&marks), "step {n}: {marks:?}");
        seen.insert(marks);
        restore(&snapshot, &profiles, 20, MEANT).unwrap();
        assert_eq!(self::marks(data.path()), both("old"), "step {n}: again");
    }
    assert_eq!(seen.len(), 2, "some steps are before the decision, some after it");
}

#[test]
fn f9_a_kill_in_finishing_and_in_undoing_changes_nothing_of_that() {
    let (live, _folder, snapshot) = history();
    restore(&snapshot, &registry(&live), 10, MEANT).unwrap();
    for n in 0.. {
        let data = tempfile::tempdir().unwrap();
        copy(live.path(), data.path());
        let kept = data.path().join("replaced-10");
        fs::create_dir(&kept).unwrap();
        copy(&live.path().join("replaced-10"), &kept);
        let profiles = registry(&data);
        let (_, met) = with_fault(n, Fault::Die, || undo(&profiles, 30, false).map(drop));
        if !met {
            break;
        }
        // The next one dies too, one step further.
        let _ = with_fault(1, Fault::Die, || finish(&profiles).map(drop));
        finish(&profiles).unwrap();
        let marks = marks(data.path());
        assert!([both("old"), both("new")].contains(&marks), "step {n}: {marks:?}");
    }
}

#[test]
fn f4_a_disk_that_fails_at_any_step_of_a_restore_is_told_and_leaves_one_state() {
    let (live, _folder, snapshot) = history();
    for n in 0.. {
        let data = tempfile::tempdir().unwrap();
        copy(live.path(), data.path());
        let profiles = registry(&data);
        let (outcome, met) =
            with_fault(n, Fault::Fail, || restore(&snapshot, &profiles, 10, MEANT).map(drop));
        if !met {
            break;
        }
        let error = outcome.unwrap().expect_err("a failure is told");
        assert!(error.text.contains("injected"), "step {n}: {error}");
        finish(&profiles).unwrap();
        let marks = marks(data.path());
        assert!([both("old"), both("new")].contains(&marks), "step {n}: {marks:?}");
    }
}

#[test]
fn f4_a_snapshot_that_fails_or_dies_at_any_step_is_none() {
    let live = data("a", None);
    for fault in [Fault::Fail, Fault::Die] {
        for n in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let to = folder.path().join("snapshot");
            let taking = || take(&sources(live.path()), &to, "test 1", 5).map(drop);
            let (outcome, met) = with_fault(n, fault, taking);
            if !met {
                outcome.unwrap().unwrap();
                break;
            }
            assert!(outcome.is_none_or(|outcome| outcome.is_err()), "step {n}");
            assert!(!to.exists() || verify(&to).is_ok(), "step {n}: half a snapshot");
            if !to.exists() {
                taking().unwrap();
            }
            verify(&to).unwrap();
        }
    }
    assert_eq!(marks(live.path()), both("a"));
}

#[test]
fn f9_what_is_no_sound_snapshot_is_refused_before_anything_is_touched() {
    let (live, folder, snapshot) = history();
    let damaged = |name: &str, damage: &dyn Fn(&Path)| {
        let target = folder.path().join(name);
        fs::create_dir(&target).unwrap();
        copy(&snapshot, &target);
        damage(&target);
        target
    };
    let truncate = |path: &Path| {
        let file = fs::OpenOptions::new().write(true).open(path.join(BOTH[0])).unwrap();
        file.set_len(4096).unwrap();
    };
    let flip = |path: &Path| {
        let path = path.join(BOTH[1]);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
    };
    let manifest = |from: &'static str, to: &'static str| {
        move |path: &Path| {
            let path = path.join(crate::snapshot::MANIFEST);
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains(from), "{text}");
            fs::write(&path, text.replace(from, to)).unwrap();
        }
    };
    let before = files(live.path());
    for (name, damage, part) in [
        ("truncated", &truncate as &dyn Fn(&Path), "is not the file that was taken"),
        ("flipped", &flip, "is not the file that was taken"),
        (
            "log",
            &|path: &Path| fs::write(path.join("chat.db-wal"), "x").unwrap(),
            "does not belong",
        ),
        ("missing", &|path: &Path| fs::remove_file(path.join(BOTH[0])).unwrap(), "No such file"),
        (
            "none",
            &|path: &Path| fs::remove_file(path.join(crate::snapshot::MANIFEST)).unwrap(),
            "is no snapshot",
        ),
        (
            "cut",
            &|path: &Path| fs::write(path.join(crate::snapshot::MANIFEST), "{").unwrap(),
            "manifest.json",
        ),
        ("form", &manifest("\"format\": 1", "\"format\": 9"), "form 9 is not known"),
        ("rows", &manifest("\"identity\": 1", "\"identity\": 2"), "not what the manifest says"),
        (
            "elsewhere",
            &manifest("\"file\": \"chat.db\"", "\"file\": \"../chat.db\""),
            "is no name of a file",
        ),
    ] {
        let error = restore(&damaged(name, damage), &registry(&live), 10, OF_ANOTHER).unwrap_err();
        assert!(error.text.contains(part), "{name}: {error}");
        assert_eq!(files(live.path()), before, "{name}");
    }
}

#[test]
fn f6_of_a_damaged_database_there_is_no_snapshot_and_it_is_named() {
    for (name, of) in [("chat.db", "turns"), ("profiles.db", "changes")] {
        let live = data("old", None);
        let path = live.path().join(name);
        let connection = Connection::open(&path).unwrap();
        let number = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
        let page: u32 = connection.query_row(number, [of], |row| row.get(0)).unwrap();
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[0x5a; 4096], u64::from(page - 1) * 4096).unwrap();
        let to = live.path().join("snapshot");
        let error = take(&sources(live.path()), &to, "test 1", 5).unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Corrupt, "{error}");
        let told = format!("{}: ", path.display());
        assert!(error.text.starts_with(&told), "{error}");
        assert!(!to.exists() && !with_suffix(&to, ".partial").exists());
    }
}

#[test]
fn f9_a_snapshot_of_another_database_is_refused_unless_that_is_meant() {
    let (_live, _folder, snapshot) = history();
    let another = data("other", None);
    let refused = restore(&snapshot, &registry(&another), 10, MEANT).unwrap_err();
    assert!(refused.text.contains("is not the database that this snapshot was taken of"));
    restore(&snapshot, &registry(&another), 10, OF_ANOTHER).unwrap();
    assert_eq!(marks(another.path()), both("old"));
}

#[test]
fn a_registry_alone_leaves_the_chats_as_they_are() {
    let (live, _folder, snapshot) = history();
    let undone = tempfile::tempdir().unwrap();
    copy(live.path(), undone.path());
    for folder in [&live, &undone] {
        let alone = Terms { alone: true, of_another: false };
        restore(&snapshot, &registry(folder), 10, alone).unwrap();
    }
    assert_eq!(marks(live.path()), ("old".to_owned(), "new".to_owned()));
    undo(&registry(&undone), 11, true).unwrap();
    assert_eq!(marks(undone.path()), both("new"));
    let (whole, _folder, snapshot) = history();
    restore(&snapshot, &registry(&whole), 10, MEANT).unwrap();
    let refused = undo(&registry(&whole), 11, true).unwrap_err();
    assert!(refused.text.contains("undo it with --data-dir"), "{refused}");
}

#[test]
fn f9_servers_that_start_at_once_on_an_unfinished_restore_finish_it_once() {
    let (live, _folder, snapshot) = history();
    for n in 0.. {
        let data = tempfile::tempdir().unwrap();
        copy(live.path(), data.path());
        let profiles = registry(&data);
        let (_, met) =
            with_fault(n, Fault::Die, || restore(&snapshot, &profiles, 10, MEANT).map(drop));
        if !met {
            break;
        }
        let decided = is_pending(&profiles);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| finish(&profiles).unwrap());
            }
        });
        if decided {
            assert_eq!(marks(data.path()), both("old"), "step {n}");
            assert_eq!(marks(&data.path().join("replaced-10")), both("new"), "step {n}");
        }
    }
}

#[test]
fn a_snapshot_is_verified_without_writing_beside_it() {
    let (_live, _folder, snapshot) = history();
    let before = files(&snapshot);
    let companions = |folder: &Path| fs::read_dir(folder).unwrap().count();
    let count = companions(&snapshot);
    verify(&snapshot).unwrap();
    assert_eq!((files(&snapshot), companions(&snapshot)), (before, count));
}

#[test]
fn f30_a_snapshot_is_nobody_elses_to_read() {
    let (live, folder, snapshot) = history();
    let inner = folder.path().join("made/for/it");
    take(&sources(live.path()), &inner, "test", 1).unwrap();
    for path in [snapshot.as_path(), &inner] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700, "{path:?}");
    }
}

#[test]
fn an_undo_brings_back_what_was_there_and_takes_away_what_was_not() {
    let (live, _folder, snapshot) = history();
    for part in PARTS {
        let _ = fs::remove_file(live.path().join(format!("chat.db{part}")));
    }
    restore(&snapshot, &registry(&live), 10, MEANT).unwrap();
    fs::write(live.path().join("replaced-10/note.txt"), "mine").unwrap();
    undo(&registry(&live), 11, false).unwrap();
    assert!(!live.path().join("chat.db").exists(), "there was none");
    assert!(!is_pending(&registry(&live)), "what somebody put there stops nothing");
    assert!(live.path().join("replaced-10/note.txt").exists());
    fs::remove_file(live.path().join("profiles.db")).unwrap();
    for part in ["-wal", "-shm", ".state"] {
        let _ = fs::remove_file(live.path().join(format!("profiles.db{part}")));
    }
    restore(&snapshot, &registry(&live), 12, MEANT).unwrap();
    undo(&registry(&live), 13, false).unwrap();
    assert!(!live.path().join("profiles.db").exists(), "not one of an older restore");
}

#[test]
fn a_link_is_not_cut_off_and_another_database_is_known_without_its_companion() {
    let (live, _folder, snapshot) = history();
    let elsewhere = tempfile::tempdir().unwrap();
    let link = elsewhere.path().join(BOTH[0]);
    std::os::unix::fs::symlink(registry(&live), &link).unwrap();
    let refused = restore(&snapshot, &link, 10, MEANT).unwrap_err();
    assert!(refused.text.contains("is a link"), "{refused}");
    let another = data("other", None);
    for name in BOTH {
        fs::remove_file(another.path().join(format!("{name}.state"))).unwrap();
    }
    let refused = restore(&snapshot, &registry(&another), 10, MEANT).unwrap_err();
    assert!(refused.text.contains("is not the database"), "{refused}");
}

#[test]
fn f8_a_copy_without_its_log_is_recognised() {
    let live = data("a", None);
    let copied = tempfile::tempdir().unwrap();
    copy(live.path(), copied.path());
    for name in BOTH {
        fs::remove_file(copied.path().join(format!("{name}-wal"))).unwrap();
    }
    let error = verify(copied.path()).unwrap_err();
    assert!(error.text.contains("is no snapshot") && error.text.contains("its log"), "{error}");
    let refused = take(&sources(copied.path()), &copied.path().join("s"), "test 1", 5).unwrap_err();
    assert!(refused.text.contains("committed changes are missing"), "{refused}");
}

#[test]
fn a_snapshot_never_replaces_another_and_of_nothing_there_is_none() {
    let live = data("a", None);
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("s");
    take(&sources(live.path()), &to, "test 1", 5).unwrap();
    let refused = take(&sources(live.path()), &to, "test 1", 5).unwrap_err();
    assert!(refused.text.contains("never replaces another"), "{refused}");
    assert!(take(&[], &folder.path().join("t"), "test 1", 5).is_err());
}

#[test]
fn where_nothing_was_a_restore_makes_it_and_an_undo_takes_it_away() {
    let (_live, folder, snapshot) = history();
    let empty = folder.path().join("fresh/profiles.db");
    fs::create_dir(empty.parent().unwrap()).unwrap();
    assert!(undo(&empty, 9, false).unwrap_err().text.contains("no restore has replaced anything"));
    restore(&snapshot, &empty, 10, MEANT).unwrap();
    assert_eq!(marks(empty.parent().unwrap()), both("old"));
    undo(&empty, 11, false).unwrap();
    assert!(sources(empty.parent().unwrap()).is_empty());
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(folder)
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.path().is_file() && !entry.path().to_string_lossy().ends_with("-shm"))
        .map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn f9_nobody_looks_at_databases_in_the_middle_of_a_restore() {
    let (live, _folder, snapshot) = history();
    let mut refused = 0;
    for n in 0.. {
        let data = tempfile::tempdir().unwrap();
        copy(live.path(), data.path());
        let profiles = registry(&data);
        let (_, met) =
            with_fault(n, Fault::Die, || restore(&snapshot, &profiles, 10, OF_ANOTHER).map(drop));
        if !met {
            break;
        }
        let looks = [
            SqliteProfiles::open_existing(&profiles).map(drop),
            SqliteChats::open_existing(&data.path().join("chat.db")).map(drop),
        ];
        let told = |look: &Result<(), StoreError>| {
            look.as_ref().is_err_and(|error| error.to_string().contains("was interrupted"))
        };
        if journal_path(&profiles).exists() {
            assert!(looks.iter().all(told), "step {n}: {looks:?}");
            refused += 1;
        }
        finish(&profiles).unwrap();
        SqliteProfiles::open_existing(&profiles).map(drop).unwrap();
    }
    assert!(refused > 3, "{refused}");
}
