//! What was acknowledged, and whether a database holds it: the log of changes read past the server.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::http::{Answer, Client};

pub(crate) const PROFILES: &str = "/api/chat/profiles";

/// A write that was answered with 2xx.
#[derive(Debug, Clone)]
pub(crate) struct Acknowledged {
    pub(crate) operation: &'static str,
    pub(crate) slug: String,
    /// Each write has one of its own.
    pub(crate) registry_version: u64,
    /// Absent after a delete.
    pub(crate) document: Option<Value>,
    /// Whether the write said that this is the default since.
    pub(crate) is_default: bool,
}

impl Acknowledged {
    pub(crate) fn new(operation: &'static str, slug: &str, answer: &Answer) -> Self {
        let document = (answer.status != 204).then(|| answer.json());
        let is_default = document.as_ref().is_some_and(|d| d["is_default"] == true);
        let document = document.map(|mut document| {
            let members = document.as_object_mut().unwrap();
            members.remove("is_default");
            members.remove("registry");
            document
        });
        let registry_version = answer.registry_version().unwrap();
        Self { operation, slug: slug.into(), registry_version, document, is_default }
    }
}

/// A row of the log.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) operation: String,
    pub(crate) slug: String,
    pub(crate) version: u64,
    pub(crate) registry_version: u64,
    pub(crate) default_profile: String,
    pub(crate) document: Option<Value>,
}

/// A database as a second process sees it, beside the server that has it open.
pub(crate) struct Database {
    connection: Connection,
}

impl Database {
    pub(crate) fn beside(path: &Path) -> Self {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).unwrap();
        connection.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        connection.pragma_update(None, "query_only", true).unwrap();
        Self { connection }
    }

    /// The whole log; checks that it has no gaps anywhere and that heads and registries agree with it.
    pub(crate) fn checked_log(&self) -> Vec<Row> {
        let verdict: String =
            self.connection.pragma_query_value(None, "integrity_check", |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok");
        let rows = self.rows();
        check_numbers(&rows);
        self.check_chains();
        self.check_heads(&rows);
        let newest = newest(&rows);
        let (default, metadata): (String, String) = self
            .connection
            .query_row("SELECT default_profile, metadata FROM registries", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .unwrap();
        let last = rows.last().unwrap();
        let metadata: Value = serde_json::from_str(&metadata).unwrap();
        assert_eq!(default, last.default_profile);
        assert_eq!(metadata["version"], last.registry_version);
        let there = |slug: &str| newest.get(slug).is_some_and(|row| row.document.is_some());
        let any = newest.values().any(|row| row.document.is_some());
        assert!(if any { there(&default) } else { default.is_empty() }, "default {default:?}");
        rows
    }

    fn rows(&self) -> Vec<Row> {
        let sql = "SELECT operation, slug, version, registry_version, default_profile, document FROM changes ORDER BY id";
        let mut statement = self.connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| {
            let document: Option<String> = row.get(5)?;
            Ok(Row {
                operation: row.get(0)?,
                slug: row.get(1)?,
                version: row.get::<_, i64>(2)?.cast_unsigned(),
                registry_version: row.get::<_, i64>(3)?.cast_unsigned(),
                default_profile: row.get(4)?,
                document: document.map(|text| serde_json::from_str(&text).unwrap()),
            })
        });
        let (count, newest): (i64, i64) = self
            .connection
            .query_row("SELECT count(*), coalesce(max(id), 0) FROM changes", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .unwrap();
        assert_eq!(count, newest, "ids without gaps");
        rows.unwrap().map(Result::unwrap).collect()
    }

    /// Each change names the one before it of its profile.
    fn check_chains(&self) {
        let sql = "SELECT id, slug, previous, nth FROM changes WHERE slug <> '' ORDER BY id";
        let mut statement = self.connection.prepare(sql).unwrap();
        let mut ends: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let (id, slug): (i64, String) = (row.get(0).unwrap(), row.get(1).unwrap());
            let end = ends.entry(slug).or_default();
            assert_eq!((row.get(2), row.get(3)), (Ok(end.0), Ok(end.1 + 1)), "change {id}");
            *end = (id, end.1 + 1);
        }
    }

    /// Heads are as the log was when they were written.
    fn check_heads(&self, rows: &[Row]) {
        let sql = "SELECT change_id FROM heads_until";
        let until: i64 = self.connection.query_row(sql, [], |row| row.get(0)).unwrap();
        let until = usize::try_from(until).unwrap();
        let newest = newest(&rows[..until]);
        let heads = self.heads();
        assert_eq!(heads.len(), newest.len());
        for (slug, version, deleted) in heads {
            let row = newest[slug.as_str()];
            assert_eq!((row.version, row.document.is_none()), (version, deleted), "head of {slug}");
        }
    }

    fn heads(&self) -> Vec<(String, u64, bool)> {
        let sql = "SELECT slug, version, deleted FROM heads";
        let mut statement = self.connection.prepare(sql).unwrap();
        let heads = statement.query_map([], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned(), row.get(2)?))
        });
        heads.unwrap().map(Result::unwrap).collect()
    }
}

/// What each profile is after these changes.
fn newest(rows: &[Row]) -> BTreeMap<&str, &Row> {
    let of_profiles =
        rows.iter().filter(|row| !row.slug.is_empty() && row.operation != "set_default");
    of_profiles.map(|row| (row.slug.as_str(), row)).collect()
}

/// Versions of a slug rise by one, also across delete and create; the registry's with every write.
fn check_numbers(rows: &[Row]) {
    let mut versions: BTreeMap<&str, u64> = BTreeMap::new();
    let mut registry_version = 0;
    for row in rows {
        let bootstrap = registry_version <= 1 && row.registry_version == 1;
        assert!(
            bootstrap || row.registry_version == registry_version + 1,
            "after registry version {registry_version}: {row:?}"
        );
        registry_version = row.registry_version;
        if row.slug.is_empty() {
            continue;
        }
        let version = versions.entry(&row.slug).or_default();
        let step = u64::from(row.operation != "set_default");
        assert_eq!(row.version, *version + step, "{row:?}");
        *version = row.version;
    }
}

/// Every acknowledged write is in the log as it was answered.
pub(crate) fn check_acknowledged(rows: &[Row], acknowledged: &[Acknowledged]) {
    let by_version: BTreeMap<u64, &Row> =
        rows.iter().map(|row| (row.registry_version, row)).collect();
    for write in acknowledged {
        let Some(row) = by_version.get(&write.registry_version) else {
            panic!("acknowledged and lost: {write:?}");
        };
        assert_eq!((row.operation.as_str(), &row.slug), (write.operation, &write.slug));
        if write.operation != "set_default" {
            assert_eq!(row.document, write.document, "{write:?}");
        }
        if write.document.is_some() {
            assert_eq!(row.default_profile == write.slug, write.is_default, "{write:?}");
        }
    }
}

/// What the server serves is what the log ends with: documents, default, and nothing else.
pub(crate) fn check_served(client: &mut Client, rows: &[Row]) {
    let served = documents(client);
    let mut stored: BTreeMap<String, Value> = BTreeMap::new();
    for row in rows.iter().filter(|row| !row.slug.is_empty()) {
        match (&row.document, row.operation.as_str()) {
            (Some(document), _) => drop(stored.insert(row.slug.clone(), document.clone())),
            (None, "delete") => drop(stored.remove(&row.slug)),
            (None, _) => {}
        }
    }
    let default = &rows.last().unwrap().default_profile;
    for (slug, document) in &mut stored {
        document["registry"] = "default".into();
        document["is_default"] = (slug == default).into();
    }
    assert_eq!(served, stored);
}

/// Every document that the server serves, by slug.
pub(crate) fn documents(client: &mut Client) -> BTreeMap<String, Value> {
    let list = client.get(PROFILES).unwrap();
    assert_eq!(list.status, 200, "{}", list.text());
    let items = list.json();
    let slugs = items.as_array().unwrap().iter().map(|item| item["slug"].as_str().unwrap());
    slugs
        .map(|slug| {
            let answer = client.get(&format!("{PROFILES}/{slug}")).unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
            (slug.to_owned(), answer.json())
        })
        .collect()
}
