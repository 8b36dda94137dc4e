//! Registries of earlier schemas: the first had an index by profile and heads that moved with every write, the second wrote
//! two hashes as digits.

use collodi_profiles::Metadata;
use collodi_profiles::json::sha256_hex;
use collodi_profiles::profile::Profile;
use collodi_profiles::profile::history::Stamp;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::sqlite::heads::TAIL;

fn registry() -> RegistrySlug {
    RegistrySlug::parse("default").unwrap()
}

fn slug(name: &str) -> ProfileSlug {
    ProfileSlug::parse(name).unwrap()
}

/// Writes rows as the first schema had them.
struct Old {
    connection: Connection,
    next: i64,
}

impl Old {
    fn add(&mut self, operation: &str, name: &str, version: u64) {
        let document = matches!(operation, "create" | "update").then(|| document(name, version));
        let hash = document.as_deref().map(sha256_hex).unwrap_or_default();
        let of = (self.next, operation, name, version.cast_signed(), document, hash);
        let sql = "INSERT INTO changes VALUES (?1, 'default', ?2, ?3, ?4, ?1, 'b', ?5, ?6, '', 'ann', 'test', '', '', ?1)";
        self.connection.execute(sql, of).unwrap();
        if operation != "set_default" && !name.is_empty() {
            let sql = "REPLACE INTO heads VALUES ('default', ?1, ?2, ?3, ?4)";
            let of = (name, version.cast_signed(), self.next, operation == "delete");
            self.connection.execute(sql, of).unwrap();
        }
        self.next += 1;
    }
}

fn document(name: &str, version: u64) -> String {
    let profile: Profile = serde_json::from_value(json!({
        "slug": name,
        "runtime": {"system_prompt": format!("{name} at {version}")},
        "metadata": {"version": version, "created_at_ms": 1, "updated_at_ms": version},
    }))
    .unwrap();
    profile.document()
}

/// 200 versions of `a`, which is gone and there again; `b`, which became the default four times; `gone`.
fn old() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profiles.db");
    let first = Schema { migrations: &SCHEMA.migrations[..1], ..SCHEMA };
    let connection = migrate::open(&path, &first, |_| Ok(()), |_| Ok(())).unwrap();
    let metadata = json!({"version": 1, "created_by": "ann", "source": "test"}).to_string();
    let sql = "INSERT INTO registries VALUES ('default', 'Team', '', 'b', ?1)";
    connection.execute(sql, [metadata]).unwrap();
    connection.execute_batch("BEGIN").unwrap();
    let mut old = Old { connection, next: 1 };
    old.add("create_registry", "", 0);
    for name in ["a", "b", "gone"] {
        old.add("create", name, 1);
    }
    for version in 2..=200 {
        let operation = if version == 150 { "delete" } else { "update" };
        old.add(if version == 151 { "create" } else { operation }, "a", version);
        if version % 50 == 0 {
            old.add("set_default", "b", 1);
        }
    }
    old.add("delete", "gone", 2);
    old.connection.execute_batch("COMMIT").unwrap();
    (folder, path)
}

#[test]
fn a_registry_of_the_first_schema_keeps_everything() {
    keeps_everything(1);
}

#[test]
fn a_registry_of_the_second_schema_keeps_everything() {
    keeps_everything(2);
}

fn keeps_everything(version: usize) {
    let (_folder, path) = old();
    let earlier = Schema { migrations: &SCHEMA.migrations[..version], ..SCHEMA };
    drop(migrate::open(&path, &earlier, |_| Ok(()), |_| Ok(())).unwrap());
    let store = SqliteProfiles::open(&path, &Catalog::default(), 1).unwrap();
    assert!(crate::sqlite::with_suffix(&path, &format!(".before-v{version}-1")).exists());
    let other = Connection::open(&path).unwrap();
    let sql = "SELECT slug || ' ' || version || ' ' || change_id || ' ' || newest_id || ' ' || nth FROM heads";
    let mut heads = other.prepare(sql).unwrap();
    let heads: Result<Vec<String>, _> = heads.query_map([], |row| row.get(0)).unwrap().collect();
    assert_eq!(heads.unwrap(), ["a 200 206 206 200", "b 1 3 207 5", "gone 2 208 208 2"]);
    let until = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
    assert_eq!(other.query_row("SELECT change_id FROM heads_until", [], until), Ok(208));

    let contents = store.load().unwrap();
    let stored = &contents.registries[&registry()];
    assert_eq!((contents.revision, stored.head.display_name.as_str()), (208, "Team"));
    let documents: Vec<_> = stored.profiles.iter().map(Profile::document).collect();
    assert_eq!(documents, [document("a", 200), document("b", 1)]);
    assert_eq!(stored.deleted, BTreeMap::from([(slug("gone"), 2)]));

    for version in 1..=202 {
        let found = store.version(&registry(), &slug("a"), version).unwrap();
        let there = version <= 200 && version != 150;
        assert_eq!(found.map(|it| it.document), there.then(|| document("a", version)));
    }
    let history = |name: &str| store.history(&registry(), &slug(name), 0, 1000).unwrap();
    let versions: Vec<_> = history("a").iter().map(|change| change.version).collect();
    assert_eq!(versions, (1..=200).rev().collect::<Vec<_>>());
    let operations: Vec<_> = history("b").iter().map(|change| change.operation.as_str()).collect();
    assert_eq!(operations, [&["set_default"; 4][..], &["create"]].concat());
    assert_eq!(history("gone").len(), 2);
    let audit = store.audit(0, 1000).unwrap();
    assert_eq!(audit.len(), 208);
    assert!(audit.windows(2).all(|pair| pair[0].id + 1 == pair[1].id));
}

/// The change that gives a profile this version.
fn written(id: i64, name: &str, version: u64) -> Change {
    let document = document(name, version);
    let profile: Profile = serde_json::from_str(&document).unwrap();
    let metadata = Metadata { version: 1, ..Metadata::default() };
    let default_profile = Some(slug("p1"));
    Change {
        id: unsigned(id),
        registry: registry(),
        operation: Operation::Update,
        slug: Some(profile.slug.clone()),
        version,
        document,
        head: Arc::new(RegistryHead { default_profile, metadata, ..RegistryHead::default() }),
        profile: Some(Arc::new(profile)),
        stamp: Stamp::default(),
    }
}

/// Pages that a hundred writes to different profiles leave in the log.
fn pages(profiles: i64) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profiles.db");
    let store = SqliteProfiles::open(&path, &Catalog::default(), 1).unwrap();
    let mut session = store.writer().unwrap();
    let mut write = |changes: Vec<Change>| {
        session.begin().unwrap();
        session.append(&changes).unwrap();
        session.commit().unwrap();
    };
    write((1..=profiles).map(|id| written(id, &format!("p{id}"), 1)).collect());
    let other = Connection::open(&path).unwrap();
    other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let place = |n: i64| format!("p{}", n * 7919 % profiles + 1);
    write((0..100).map(|n| written(profiles + 1 + n, &place(n), 2)).collect());
    std::fs::metadata(crate::sqlite::with_suffix(&path, "-wal")).unwrap().len() / 4096
}

/// What a write costs does not grow with the registry: it touches the end of the log of changes and nothing else.
#[test]
fn a_write_touches_as_many_pages_of_a_large_registry_as_of_a_small_one() {
    let (few, many) = (pages(100), pages(TAIL + 2000));
    assert!(many <= few + 2, "{many} against {few}");
}

/// What no hash covers has to fit together.
#[test]
fn a_change_or_a_head_that_does_not_fit_the_others_is_damage() {
    let (_folder, path) = old();
    let store = SqliteProfiles::open(&path, &Catalog::default(), 1).unwrap();
    let mut session = store.writer().unwrap();
    let later = |id: i64, operation: Operation, name: &str, version: u64| Change {
        operation,
        profile: None,
        document: String::new(),
        ..written(id, name, version)
    };
    session.begin().unwrap();
    session.append(&[later(209, Operation::SetDefault, "a", 200)]).unwrap();
    session.append(&[later(210, Operation::Delete, "a", 201)]).unwrap();
    session.commit().unwrap();
    drop((session, store));
    let damaged = |sql: &str| {
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("BEGIN").unwrap();
        connection.execute_batch(sql).unwrap();
        load(&connection).map_err(|error| error.at("load")).map(|contents| contents.revision)
    };
    assert_eq!(damaged("").ok(), Some(210));
    for sql in [
        "UPDATE changes SET slug = 'b' WHERE id = 210",
        "UPDATE changes SET slug = 'b' WHERE id = 209",
        "UPDATE changes SET operation = 'set_default' WHERE id = 210",
        "UPDATE changes SET operation = 'delete' WHERE id = 209",
        "UPDATE changes SET version = 200 WHERE id = 210",
        "UPDATE changes SET version = 201 WHERE id = 209",
        "UPDATE changes SET previous = 1 WHERE id = 210",
        "UPDATE changes SET nth = 7 WHERE id = 209",
        "UPDATE changes SET slug = 'b' WHERE id = 208",
        "UPDATE heads SET slug = 'other' WHERE slug = 'gone'",
        "UPDATE heads SET deleted = 0 WHERE slug = 'gone'",
        "UPDATE heads SET version = 3 WHERE slug = 'gone'",
        "UPDATE heads SET newest_id = 206 WHERE slug = 'b'",
        "UPDATE heads SET nth = 4 WHERE slug = 'b'",
        "UPDATE heads SET change_id = 4 WHERE slug = 'a'",
    ] {
        let refused = damaged(sql).expect_err(sql);
        assert_eq!(refused.kind, StoreErrorKind::Corrupt, "{sql}: {refused}");
    }
}

/// A full disk ends a transaction by itself. What it had added to the chains was never there.
#[test]
fn a_transaction_that_is_lost_leaves_no_trace_in_the_chains() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profiles.db");
    let store = SqliteProfiles::open(&path, &Catalog::default(), 1).unwrap();
    let connection = connect(&path, Access::Write).unwrap();
    let mut session = Session {
        connection: Lent { connection: Some(connection), to: Arc::default() },
        path: String::new(),
        seen: None,
        tail: Tail::default(),
        last: 0,
        touched: BTreeMap::new(),
        lost: None,
    };
    let write = |session: &mut Session, changes: &[Change]| {
        session.begin()?;
        let appended = changes.iter().try_for_each(|it| session.append(std::slice::from_ref(it)));
        session.commit().and(appended)
    };
    let pages = |session: &Session, most: &str| {
        session.connection.pragma_update(None, "max_page_count", most).unwrap();
    };
    write(&mut session, &[written(1, "a", 1), written(2, "b", 1)]).unwrap();
    let large = |id: i64, name: &str| {
        let mut change = written(id, name, 2);
        change.document = format!("{}{}", " ".repeat(100_000), change.document);
        change
    };
    // The whole transaction, and one with something before it.
    for lost in [vec![large(3, "a")], vec![written(3, "a", 2), large(4, "b")]] {
        pages(&session, "1");
        let full = write(&mut session, &lost).unwrap_err();
        assert_eq!(full.kind, StoreErrorKind::Full, "{full}");
        pages(&session, "1000000");
    }
    write(&mut session, &[written(3, "b", 2), written(4, "b", 3)]).unwrap();
    write(&mut session, &[written(5, "a", 2)]).unwrap();
    assert_eq!(store.load().unwrap().revision, 5);
    let history = |name: &str| {
        let changes = store.history(&registry(), &slug(name), 0, 9).unwrap();
        changes.iter().map(|change| change.id).collect::<Vec<_>>()
    };
    assert_eq!((history("a"), history("b")), (vec![5, 1], vec![4, 3, 2]));
}
