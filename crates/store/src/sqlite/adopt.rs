//! Registry databases of the Go reference: read inside the migration's transaction, written as the first changes of our
//! log, and the old table dropped. The file as it was stands beside as a snapshot (decision 6).

use collodi_profiles::Catalog;
use collodi_profiles::profile::adopt::{Adopted, adopt as adopted};
use collodi_profiles::profile::history::{Change, Operation, Stamp};
use collodi_profiles::store::{StoreError, StoreErrorKind};
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;

use super::changes::append_change;
use super::failed;
use super::heads::{Newest, settle_from_log};
use super::registries::write_registry;

/// Longest note of a change, in bytes (decision 47).
const NOTE: usize = 500;

/// Reads what would be adopted and throws it away: a database that cannot be is refused before anything touches it.
pub(super) fn check(
    connection: &Connection,
    path: &Path,
    catalog: &Catalog,
) -> Result<(), StoreError> {
    read(connection, path, catalog).map(|_| ())
}

/// Writes the reference's registries as the first changes, inside the migration's transaction.
pub(super) fn adopt(
    connection: &Connection,
    path: &Path,
    catalog: &Catalog,
    now_ms: i64,
) -> Result<(), StoreError> {
    let fail = |e: rusqlite::Error| failed(&format!("adopt {}", path.display()), &e);
    let mut next_id = 1;
    for adopted in read(connection, path, catalog)? {
        let changes = changes_of(adopted, next_id, now_ms);
        for change in &changes {
            // Each is the first of its profile.
            append_change(connection, change, Newest::default()).map_err(fail)?;
        }
        if let Some(last) = changes.last() {
            write_registry(connection, &last.registry, &last.head).map_err(fail)?;
        }
        next_id += changes.len() as u64;
    }
    settle_from_log(connection).map_err(|error| error.at(&format!("adopt {}", path.display())))?;
    // What is dropped may hold provider keys; its pages are overwritten, not just let go.
    connection
        .execute_batch("PRAGMA secure_delete = ON; DROP TABLE profile_registries")
        .map_err(fail)
}

fn read(
    connection: &Connection,
    path: &Path,
    catalog: &Catalog,
) -> Result<Vec<Adopted>, StoreError> {
    let doing = format!("adopt {}", path.display());
    let rows: Vec<(String, String)> = connection
        .prepare("SELECT slug, payload_json FROM profile_registries ORDER BY slug")
        .and_then(|mut rows| rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
        .map_err(|e| failed(&doing, &e))?;
    let refuse = |text: String| {
        StoreError::new(StoreErrorKind::Corrupt, format!("{doing}: {text}. It was left untouched"))
    };
    rows.iter().map(|(slug, payload)| adopted(slug, payload, catalog).map_err(refuse)).collect()
}

fn changes_of(adopted: Adopted, first_id: u64, at_ms: i64) -> Vec<Change> {
    let Adopted { slug, head, profiles, repairs } = adopted;
    let stamp = |what: &str, repairs: &[String]| {
        // The note has room for the first of them; the log has all.
        for repair in repairs {
            tracing::info!(registry = %slug, profile = what, "adopted: {repair}");
        }
        let mut note = repairs.join("; ");
        if note.len() > NOTE {
            note.truncate(note.floor_char_boundary(NOTE - 3));
            note.push_str("...");
        }
        Stamp {
            actor: "collodi".into(),
            source: "adoption".into(),
            note,
            request_id: String::new(),
            at_ms,
        }
    };
    let head = Arc::new(head);
    let registry = Change {
        id: first_id,
        registry: slug.clone(),
        operation: Operation::CreateRegistry,
        slug: None,
        version: 0,
        profile: None,
        document: String::new(),
        head: head.clone(),
        stamp: stamp("", &repairs),
    };
    let profiles =
        profiles.into_iter().zip(first_id + 1..).map(|((profile, repairs), id)| Change {
            id,
            registry: slug.clone(),
            operation: Operation::Adopt,
            slug: Some(profile.slug.clone()),
            version: profile.metadata.version,
            document: profile.document(),
            stamp: stamp(profile.slug.as_str(), &repairs),
            profile: Some(Arc::new(profile)),
            head: head.clone(),
        });
    std::iter::once(registry).chain(profiles).collect()
}
