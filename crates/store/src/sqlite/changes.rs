//! The statements that write the log, the heads and the registries.

use collodi_profiles::json::sha256_hex;
use collodi_profiles::profile::history::{Change, Operation, RegistryHead};
use collodi_profiles::{ProfileSlug, RegistrySlug};
use rusqlite::{Connection, params};

pub(super) fn append_change(connection: &Connection, change: &Change) -> rusqlite::Result<()> {
    let document = change.profile.is_some().then_some(change.document.as_str());
    let document_hash = document.map(sha256_hex).unwrap_or_default();
    let slug = change.slug.as_ref().map_or("", ProfileSlug::as_str);
    let stamp = &change.stamp;
    connection
        .prepare_cached("INSERT INTO changes VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)")?
        .execute(params![
            signed(change.id),
            change.registry.as_str(),
            change.operation.as_str(),
            slug,
            signed(change.version),
            signed(change.head.metadata.version),
            change.head.default_profile.as_ref().map_or("", ProfileSlug::as_str),
            document,
            document_hash,
            change.content_hash,
            stamp.actor,
            stamp.source,
            stamp.note,
            stamp.request_id,
            stamp.at_ms,
        ])?;
    let deleted = change.operation == Operation::Delete;
    if change.profile.is_some() || deleted {
        connection
            .prepare_cached(
                "INSERT INTO heads VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (registry, slug) DO UPDATE \
                 SET version = excluded.version, change_id = excluded.change_id, deleted = excluded.deleted",
            )?
            .execute(params![
                change.registry.as_str(),
                slug,
                signed(change.version),
                signed(change.id),
                deleted
            ])?;
    }
    Ok(())
}

pub(super) fn write_head(
    connection: &Connection,
    slug: &RegistrySlug,
    head: &RegistryHead,
) -> rusqlite::Result<()> {
    let metadata = serde_json::to_string(&head.metadata)
        .map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
    connection
        .prepare_cached(
            "INSERT INTO registries VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (slug) DO UPDATE SET \
             display_name = excluded.display_name, description = excluded.description, \
             default_profile = excluded.default_profile, metadata = excluded.metadata",
        )?
        .execute(params![
            slug.as_str(),
            head.display_name,
            head.description,
            head.default_profile.as_ref().map_or("", ProfileSlug::as_str),
            metadata,
        ])
        .map(|_| ())
}

/// Numbers of the log are far below 2^63; a forged one saturates instead of wrapping (D7).
pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}
