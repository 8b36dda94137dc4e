//! F10: kills, failures, rivals and downgrades of migrations, on a schema of three steps.

use std::collections::BTreeSet;

use tempfile::TempDir;

use super::*;
use crate::step::{Fault, with_fault};

const STEPS: [Migration; 3] = [
    Migration {
        name: "0001_first",
        sql: "CREATE TABLE identity (id TEXT PRIMARY KEY NOT NULL); CREATE TABLE kept (n BIGINT NOT NULL)",
    },
    Migration {
        name: "0002_second",
        sql: "ALTER TABLE kept ADD COLUMN twice BIGINT NOT NULL DEFAULT 0; UPDATE kept SET twice = 2 * n",
    },
    Migration {
        name: "0003_third",
        sql: "CREATE TABLE more (n BIGINT NOT NULL); INSERT INTO more SELECT twice FROM kept",
    },
];

const fn schema(migrations: &'static [Migration]) -> Schema {
    Schema { application_id: 7, look: Look::Head, migrations }
}

const OLD: Schema = schema(&[STEPS[0]]);
const NEW: Schema = schema(&STEPS);

fn opened(path: &Path, schema: &Schema) -> Result<Connection, StoreError> {
    open(path, schema, |_| Ok(()), |_| Ok(()))
}

/// A database of the first step with three rows.
fn old() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.db");
    let connection = opened(&path, &OLD).unwrap();
    connection.execute_batch("INSERT INTO kept VALUES (1), (2), (3)").unwrap();
    (folder, path)
}

/// Which schema it has, everything of which is there.
fn state(path: &Path) -> i64 {
    let connection = Connection::open(path).unwrap();
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    assert_eq!(number("SELECT sum(n) FROM kept").unwrap(), 6);
    let version = number("PRAGMA user_version").unwrap();
    assert_eq!(number("SELECT count(*) FROM migrations").unwrap(), version);
    let (twice, more) = (number("SELECT sum(twice) FROM kept"), number("SELECT sum(n) FROM more"));
    match version {
        1 => assert!(twice.is_err() && more.is_err(), "nothing of the new schema is there"),
        _ => assert_eq!((twice.unwrap(), more.unwrap()), (12, 12)),
    }
    version
}

fn kept_aside(path: &Path) -> Vec<i64> {
    let aside = (1..).map(|n| with_suffix(path, &format!(".before-v1-{n}")));
    aside.take_while(|path| path.exists()).map(|path| state(&path)).collect()
}

#[test]
fn f10_a_kill_or_failure_at_any_step_of_a_migration_leaves_the_old_schema_or_the_new() {
    for fault in [Fault::Die, Fault::Fail] {
        let mut seen = BTreeSet::new();
        for n in 0.. {
            let (_folder, path) = old();
            let (outcome, met) = with_fault(n, fault, || opened(&path, &NEW));
            if !met {
                assert!(outcome.unwrap().is_ok());
                break;
            }
            assert!(outcome.is_none_or(|opened| opened.is_err()), "step {n}: {fault:?} is told");
            seen.insert(state(&path));
            drop(opened(&path, &NEW).unwrap());
            assert_eq!(state(&path), 3, "step {n}: the next start finishes it");
            assert!(!kept_aside(&path).is_empty() && kept_aside(&path).iter().all(|v| *v == 1));
        }
        assert_eq!(seen, BTreeSet::from([1, 3]), "{fault:?}: faults met both states");
    }
}

#[test]
fn f10_of_processes_that_migrate_at_once_one_does_and_the_others_find_it_done() {
    let (_folder, path) = old();
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(|| opened(&path, &NEW).map(drop))).collect();
        for one in all {
            one.join().unwrap().unwrap();
        }
    });
    assert_eq!(state(&path), 3);
}

#[test]
fn f10_an_older_program_is_refused_and_told_of_the_snapshot() {
    let (_folder, path) = old();
    drop(opened(&path, &NEW).unwrap());
    let before = std::fs::read(&path).unwrap();
    let refused = opened(&path, &OLD).unwrap_err().to_string();
    for part in ["schema version 3", "up to 1", "use a newer collodi", "some.db.before-*"] {
        assert!(refused.contains(part), "{refused}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(kept_aside(&path), [1], "the snapshot is of the old schema");
}
