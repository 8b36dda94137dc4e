//! Registry databases of the Go reference: read inside the migration's transaction, written as the first changes of our
//! log, and the old table dropped. The file as it was stands beside as a snapshot (decision 6).

use collodi_profiles::Catalog;
use collodi_profiles::profile::adopt::{Adopted, adopt};
use collodi_profiles::profile::history::{Change, Operation, Stamp};
use collodi_profiles::store::{StoreError, StoreErrorKind};
use rusqlite::Connection;
use std::sync::Arc;

use super::changes::{append_change, write_head};
use super::failed;

/// Longest note of a change, in bytes (decision 47).
const NOTE: usize = 500;

pub(super) fn adopt_reference(
    connection: &Connection,
    catalog: &Catalog,
    now_ms: i64,
) -> Result<(), StoreError> {
    let fail = |e: rusqlite::Error| failed("adopt the reference database", &e);
    let rows: Vec<(String, String)> = connection
        .prepare("SELECT slug, payload_json FROM profile_registries ORDER BY slug")
        .and_then(|mut rows| rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
        .map_err(fail)?;
    let mut next_id = 1;
    for (slug, payload) in rows {
        let refuse = |text: String| {
            let text = format!("adopt the reference database: {text}. It was left untouched");
            StoreError::new(StoreErrorKind::Corrupt, text)
        };
        let adopted = adopt(&slug, &payload, catalog).map_err(refuse)?;
        let changes = changes_of(adopted, next_id, now_ms);
        for change in &changes {
            append_change(connection, change).map_err(fail)?;
            tracing::info!(
                registry = %change.registry,
                profile = change.slug.as_ref().map_or("", |slug| slug.as_str()),
                repairs = %change.stamp.note,
                "adopted"
            );
        }
        if let Some(last) = changes.last() {
            write_head(connection, &last.registry, &last.head).map_err(fail)?;
        }
        next_id += changes.len() as u64;
    }
    connection.execute_batch("DROP TABLE profile_registries").map_err(fail)
}

fn changes_of(adopted: Adopted, first_id: u64, at_ms: i64) -> Vec<Change> {
    let Adopted { slug, head, profiles, repairs } = adopted;
    let stamp = |repairs: &[String]| {
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
    let registry = Change {
        id: first_id,
        registry: slug.clone(),
        operation: Operation::CreateRegistry,
        slug: None,
        version: 0,
        profile: None,
        content_hash: String::new(),
        head: head.clone(),
        stamp: stamp(&repairs),
    };
    let profiles =
        profiles.into_iter().zip(first_id + 1..).map(|((profile, repairs), id)| Change {
            id,
            registry: slug.clone(),
            operation: Operation::Adopt,
            slug: Some(profile.slug.clone()),
            version: profile.metadata.version,
            content_hash: profile.content().hash,
            profile: Some(Arc::new(profile)),
            head: head.clone(),
            stamp: stamp(&repairs),
        });
    std::iter::once(registry).chain(profiles).collect()
}
