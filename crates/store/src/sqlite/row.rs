//! Reading rows of the registry: what can be wrong with one, and the values that every table has.

use collodi_profiles::store::{StoreError, StoreErrorKind};
use collodi_profiles::{ProfileSlug, RegistrySlug};
use rusqlite::Row;

use super::failed;

/// What can go wrong with a row.
pub(super) enum ReadError {
    Sql(rusqlite::Error),
    Row(String),
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl ReadError {
    pub(super) fn row(
        table: &str,
        row: impl std::fmt::Display,
        detail: impl std::fmt::Display,
    ) -> Self {
        Self::Row(format!("table {table}, row {row}: {detail}"))
    }

    pub(super) fn at(self, doing: &str) -> StoreError {
        match self {
            Self::Sql(error) => failed(doing, &error),
            Self::Row(text) => StoreError::new(StoreErrorKind::Corrupt, format!("{doing}: {text}")),
        }
    }
}

pub(super) fn read_registry(row: &Row<'_>, column: usize) -> Result<RegistrySlug, ReadError> {
    let text = row.get_ref(column)?.as_str().unwrap_or_default();
    RegistrySlug::parse(text).map_err(|e| ReadError::Row(e.to_string()))
}

pub(super) fn read_slug(row: &Row<'_>, column: usize) -> Result<ProfileSlug, ReadError> {
    let text = row.get_ref(column)?.as_str().unwrap_or_default();
    ProfileSlug::parse(text).map_err(|e| ReadError::Row(e.to_string()))
}

/// Numbers of the log are far below 2^63; a forged one saturates instead of wrapping (D7).
pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}
