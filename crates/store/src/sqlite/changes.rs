//! The log of changes: the statements that write and read it.

use std::collections::BTreeMap;
use std::sync::Arc;

use collodi_profiles::json::sha256;
use collodi_profiles::profile::Profile;
use collodi_profiles::profile::history::{Change, Operation, RegistryHead, Stamp};
use collodi_profiles::{ProfileSlug, RegistrySlug};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::heads::{Newest, newest_of};
use super::registries::read_registries;
use super::row::{ReadError, read_registry, signed, unsigned};

const COLUMNS: &str = "id, previous, registry, operation, slug, version, registry_version, default_profile, document, \
    actor, source, note, request_id, at_ms";

/// Appends a change after `before`, the newest of its profile so far.
pub(super) fn append_change(
    connection: &Connection,
    change: &Change,
    before: Newest,
) -> rusqlite::Result<()> {
    let document = change.profile.is_some().then_some(change.document.as_str());
    let document_hash = document.map(sha256);
    let document_hash = document_hash.as_ref().map_or(&[][..], |hash| hash);
    let stamp = &change.stamp;
    connection
        .prepare_cached(
            "INSERT INTO changes VALUES \
             (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        )?
        .execute(params![
            signed(change.id),
            before.id,
            if change.slug.is_some() { before.nth + 1 } else { 0 },
            change.registry.as_str(),
            change.operation.as_str(),
            change.slug.as_ref().map_or("", ProfileSlug::as_str),
            signed(change.version),
            signed(change.head.metadata.version),
            change.head.default_profile.as_ref().map_or("", ProfileSlug::as_str),
            document,
            document_hash,
            stamp.actor,
            stamp.source,
            stamp.note,
            stamp.request_id,
            stamp.at_ms,
        ])
        .map(drop)
}

/// Changes with ids above `id`, oldest first, at most `limit`.
pub(super) fn changes_after(
    connection: &Connection,
    id: u64,
    limit: usize,
) -> Result<Vec<Change>, ReadError> {
    reading(connection, |registries| {
        let sql = format!("SELECT {COLUMNS} FROM changes WHERE id > ?1 ORDER BY id LIMIT ?2");
        let mut statement = connection.prepare_cached(&sql)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = statement.query(params![signed(id), limit])?;
        let mut changes = Vec::new();
        while let Some(row) = rows.next()? {
            changes.push(read_change(row, registries)?);
        }
        Ok(changes)
    })
}

/// Changes of a profile, newest first, at most `limit`, with ids below `before` (0: from the newest).
pub(super) fn history(
    connection: &Connection,
    (registry, slug): (&RegistrySlug, &ProfileSlug),
    before: u64,
    limit: usize,
) -> Result<Vec<Change>, ReadError> {
    reading(connection, |registries| {
        let mut next = below(connection, registry, slug, before)?;
        let mut changes = Vec::new();
        while next != 0 && changes.len() < limit {
            let (previous, change) = at(connection, next, (registry, slug), registries)?;
            changes.push(change);
            next = previous;
        }
        Ok(changes)
    })
}

/// The newest change of a profile with an id below `before` (0: of all), 0 for none.
fn below(
    connection: &Connection,
    registry: &RegistrySlug,
    slug: &ProfileSlug,
    before: u64,
) -> rusqlite::Result<i64> {
    let of = (registry.as_str(), slug.as_str());
    let before = if before == 0 { i64::MAX } else { signed(before) };
    // Who turns a page names the last change of the one before.
    let named = connection
        .prepare_cached(
            "SELECT previous FROM changes WHERE id = ?1 AND registry = ?2 AND slug = ?3",
        )?
        .query_row(params![before, of.0, of.1], |row| row.get(0))
        .optional()?;
    if let Some(previous) = named {
        return Ok(previous);
    }
    let mut id = newest_of(connection, registry, slug)?.id;
    let mut previous = connection.prepare_cached("SELECT previous FROM changes WHERE id = ?1")?;
    while id >= before {
        id = previous.query_row([id], |row| row.get(0))?;
    }
    Ok(id)
}

/// The change that gave a profile this version, with the document.
pub(super) fn version(
    connection: &Connection,
    (registry, slug): (&RegistrySlug, &ProfileSlug),
    version: u64,
) -> Result<Option<Change>, ReadError> {
    reading(connection, |registries| {
        let wanted = signed(version);
        let landmark = connection
            .prepare_cached(
                "SELECT id FROM changes WHERE registry = ?1 AND slug = ?2 AND version >= ?3 \
                 AND nth > 0 AND nth % 64 = 0 ORDER BY version, id LIMIT 1",
            )?
            .query_row(params![registry.as_str(), slug.as_str(), wanted], |row| row.get(0))
            .optional()?;
        let mut id = match landmark {
            Some(id) => id,
            None => newest_of(connection, registry, slug)?.id,
        };
        let mut step = connection.prepare_cached(
            "SELECT previous, version, document IS NOT NULL FROM changes WHERE id = ?1",
        )?;
        while id != 0 {
            let (previous, here, documented): (i64, i64, bool) =
                step.query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            if here == wanted && documented {
                return Ok(Some(at(connection, id, (registry, slug), registries)?.1));
            }
            id = if here < wanted { 0 } else { previous };
        }
        Ok(None)
    })
}

/// A change in the chain of a profile, and the one before it.
fn at(
    connection: &Connection,
    id: i64,
    (registry, slug): (&RegistrySlug, &ProfileSlug),
    registries: &BTreeMap<RegistrySlug, RegistryHead>,
) -> Result<(i64, Change), ReadError> {
    let sql = format!("SELECT {COLUMNS} FROM changes WHERE id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([id])?;
    let Some(row) = rows.next()? else {
        return Err(ReadError::row("changes", id, "the log has a gap"));
    };
    let change = read_change(row, registries)?;
    if change.slug.as_ref() != Some(slug) || change.registry != *registry {
        return Err(ReadError::row("changes", id, format!("it is in the chain of {slug}")));
    }
    Ok((row.get(1)?, change))
}

/// Reads registries and changes as of one moment; inside the writer's transaction they are that anyway.
fn reading<T>(
    connection: &Connection,
    read: impl FnOnce(&BTreeMap<RegistrySlug, RegistryHead>) -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    let transaction =
        connection.is_autocommit().then(|| connection.unchecked_transaction()).transpose()?;
    let read = read(&read_registries(connection)?);
    drop(transaction);
    read
}

fn read_change(
    row: &Row<'_>,
    registries: &BTreeMap<RegistrySlug, RegistryHead>,
) -> Result<Change, ReadError> {
    let id: i64 = row.get(0)?;
    let broken = |detail: String| ReadError::row("changes", id, detail);
    let registry = read_registry(row, 2)?;
    let word: String = row.get(3)?;
    let operation =
        Operation::parse(&word).ok_or_else(|| broken(format!("unknown operation {word}")))?;
    let stamp = Stamp {
        actor: row.get(9)?,
        source: row.get(10)?,
        note: row.get(11)?,
        request_id: row.get(12)?,
        at_ms: row.get(13)?,
    };
    // The log keeps what a change did to the registry; names and creation come from the registry's row.
    let mut head = registries.get(&registry).cloned().unwrap_or_default();
    head.default_profile = ProfileSlug::parse_optional(&row.get::<_, String>(7)?)
        .map_err(|e| broken(e.to_string()))?;
    let version = unsigned(row.get(6)?);
    if head.metadata.version != version {
        head.metadata.version = version;
        head.metadata.updated_at_ms = stamp.at_ms;
        head.metadata.updated_by.clone_from(&stamp.actor);
        head.metadata.source.clone_from(&stamp.source);
    }
    let document: Option<String> = row.get(8)?;
    let profile = document.as_deref().map(parse_document).transpose().map_err(broken)?;
    Ok(Change {
        id: unsigned(id),
        registry,
        operation,
        slug: ProfileSlug::parse_optional(&row.get::<_, String>(4)?)
            .map_err(|e| broken(e.to_string()))?,
        version: unsigned(row.get(5)?),
        profile: profile.map(Arc::new),
        document: document.unwrap_or_default(),
        head: Arc::new(head),
        stamp,
    })
}

/// Reads a document that a head points to, and checks it.
pub(super) fn read_document(
    connection: &Connection,
    id: i64,
    slug: &ProfileSlug,
    version: i64,
) -> Result<Profile, ReadError> {
    let broken = |detail: String| ReadError::row("changes", id, detail);
    let mut statement =
        connection.prepare_cached("SELECT document, document_hash FROM changes WHERE id = ?1")?;
    let mut rows = statement.query([id])?;
    let Some(row) = rows.next()? else { return Err(broken("a head points to nothing".into())) };
    let document = row.get_ref(0)?.as_str().unwrap_or_default();
    if sha256(document)[..] != *row.get_ref(1)?.as_blob().unwrap_or_default() {
        return Err(broken("the document does not match its hash".into()));
    }
    let profile = parse_document(document).map_err(broken)?;
    if profile.slug != *slug || signed(profile.metadata.version) != version {
        return Err(broken(format!("the document is not version {version} of {slug}")));
    }
    Ok(profile)
}

fn parse_document(text: &str) -> Result<Profile, String> {
    serde_json::from_str(text).map_err(|e| format!("document: {e}"))
}
