//! The row of each registry: what is true beside its profiles.

use std::collections::BTreeMap;

use collodi_profiles::profile::history::RegistryHead;
use collodi_profiles::{ProfileSlug, RegistrySlug};
use rusqlite::{Connection, params};

use super::row::{ReadError, read_registry};

pub(super) fn write_registry(
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
        .map(drop)
}

pub(super) fn read_registries(
    connection: &Connection,
) -> Result<BTreeMap<RegistrySlug, RegistryHead>, ReadError> {
    let mut statement = connection.prepare_cached(
        "SELECT slug, display_name, description, default_profile, metadata FROM registries",
    )?;
    let mut rows = statement.query([])?;
    let mut heads = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let slug = read_registry(row, 0)?;
        let broken = |detail: String| ReadError::row("registries", &slug, detail);
        let head = RegistryHead {
            display_name: row.get(1)?,
            description: row.get(2)?,
            default_profile: ProfileSlug::parse_optional(&row.get::<_, String>(3)?)
                .map_err(|e| broken(e.to_string()))?,
            metadata: serde_json::from_str(&row.get::<_, String>(4)?)
                .map_err(|e| broken(e.to_string()))?,
        };
        heads.insert(slug, head);
    }
    Ok(heads)
}
