//! What the `timeline` commands show of a chat database (chapter 30 §8.5). Read-only, also beside a running server.

use std::collections::BTreeMap;
use std::path::PathBuf;

use collodi_chat::store::{TimelinePage, TimelineRange};
use collodi_profiles::store::StoreError;
use rusqlite::{Connection, ToSql, params};
use serde_json::Value;

use super::read;
use crate::sqlite::failed;

/// A chat database that is only read.
pub struct ChatReader {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
}

/// A conversation's timeline in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineRow {
    /// The conversation.
    pub conv_id: String,
    /// Its highest version.
    pub version: i64,
    /// Entities.
    pub entity_count: i64,
    /// Unix milliseconds.
    pub min_created_at_ms: i64,
    /// Unix milliseconds.
    pub max_updated_at_ms: i64,
    /// Entities by kind.
    pub kinds: BTreeMap<String, i64>,
}

/// One stored entity.
#[derive(Debug, Clone, PartialEq)]
pub struct EntityRow {
    /// Its id.
    pub entity_id: String,
    /// Its kind.
    pub kind: String,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// Unix milliseconds.
    pub updated_at_ms: i64,
    /// Its version.
    pub version: i64,
    /// As it is stored.
    pub body: String,
}

/// Which entities are wanted; zero and empty are no bound.
#[derive(Debug, Clone, Default)]
pub struct EntityFilter {
    /// Exactly this kind.
    pub kind: String,
    /// Exactly this id.
    pub entity_id: String,
    /// Inclusive bounds of version, creation and update, low and high.
    pub bounds: [(i64, i64); 3],
    /// `version`, `created` or `updated`.
    pub order: String,
    /// Highest first.
    pub descending: bool,
    /// At most so many.
    pub limit: i64,
}

/// Something that does not fit together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// The conversation.
    pub conv_id: String,
    /// The entity; empty for the conversation.
    pub entity_id: String,
    /// What.
    pub issue: &'static str,
    /// In numbers or words.
    pub details: String,
}

impl ChatReader {
    fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        read(&self.connection).map_err(|e| failed(&format!("read {}", self.path.display()), &e))
    }

    /// Timelines of conversations whose id begins with `prefix`, by id. `%` and `_` mean themselves (D51).
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn timelines(&self, prefix: &str, limit: i64) -> Result<Vec<TimelineRow>, StoreError> {
        let limit = if limit > 0 { limit } else { i64::MAX };
        self.read(|connection| {
            let mut statement = connection.prepare(
                "SELECT c.conv_id, max(e.version), count(*), min(e.created_at_ms), max(e.updated_at_ms), c.id \
                 FROM conversations c JOIN entities e ON e.conversation = c.id \
                 WHERE substr(c.conv_id, 1, length(?1)) = ?1 GROUP BY c.id ORDER BY c.conv_id LIMIT ?2",
            )?;
            let mut kinds = connection
                .prepare("SELECT kind, count(*) FROM entities WHERE conversation = ?1 GROUP BY kind")?;
            let mut rows = statement.query(params![prefix, limit])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let id: i64 = row.get(5)?;
                let by_kind = kinds.query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
                found.push(TimelineRow {
                    conv_id: row.get(0)?,
                    version: row.get(1)?,
                    entity_count: row.get(2)?,
                    min_created_at_ms: row.get(3)?,
                    max_updated_at_ms: row.get(4)?,
                    kinds: by_kind.collect::<rusqlite::Result<_>>()?,
                });
            }
            Ok(found)
        })
    }

    /// The page that the server would answer.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn page(&self, conv_id: &str, range: TimelineRange) -> Result<TimelinePage, StoreError> {
        self.read(|connection| read::timeline(connection, conv_id, range))
    }

    /// Entities of a conversation.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn entities(
        &self,
        conv_id: &str,
        filter: &EntityFilter,
    ) -> Result<Vec<EntityRow>, StoreError> {
        let mut conditions = vec!["c.conv_id = ?".to_owned()];
        let mut params: Vec<&dyn ToSql> = vec![&conv_id];
        for (column, value) in [("e.kind", &filter.kind), ("e.entity_id", &filter.entity_id)] {
            if !value.is_empty() {
                conditions.push(format!("{column} = ?"));
                params.push(value);
            }
        }
        let columns = ["e.version", "e.created_at_ms", "e.updated_at_ms"];
        for (column, (low, high)) in columns.iter().zip(&filter.bounds) {
            for (bound, sign) in [(low, ">="), (high, "<=")] {
                if *bound != 0 {
                    conditions.push(format!("{column} {sign} ?"));
                    params.push(bound);
                }
            }
        }
        let order = match filter.order.as_str() {
            "created" => columns[1],
            "updated" => columns[2],
            _ => columns[0],
        };
        let direction = if filter.descending { "DESC" } else { "ASC" };
        let limit = if filter.limit > 0 { filter.limit } else { i64::MAX };
        params.push(&limit);
        let sql = format!(
            "SELECT e.entity_id, e.kind, e.created_at_ms, e.updated_at_ms, e.version, e.body FROM entities e \
             JOIN conversations c ON c.id = e.conversation WHERE {} ORDER BY {order} {direction}, e.place LIMIT ?",
            conditions.join(" AND ")
        );
        self.read(|connection| {
            let mut statement = connection.prepare(&sql)?;
            let rows = statement.query_map(&params[..], |row| {
                Ok(EntityRow {
                    entity_id: row.get(0)?,
                    kind: row.get(1)?,
                    created_at_ms: row.get(2)?,
                    updated_at_ms: row.get(3)?,
                    version: row.get(4)?,
                    body: row.get(5)?,
                })
            })?;
            rows.collect()
        })
    }

    /// What does not fit together, in the order of the checks.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn verify(&self, prefix: &str, check_json: bool) -> Result<Vec<Issue>, StoreError> {
        let mut issues = Vec::new();
        for timeline in self.timelines(prefix, 0)? {
            let conv_id = timeline.conv_id.as_str();
            let mut report = |entity_id: &str, issue, details: String| {
                let (conv_id, entity_id) = (conv_id.to_owned(), entity_id.to_owned());
                issues.push(Issue { conv_id, entity_id, issue, details });
            };
            let given_out: i64 = self.read(|connection| {
                let sql = "SELECT seq FROM conversations WHERE conv_id = ?1";
                connection.query_row(sql, [conv_id], |row| row.get(0))
            })?;
            if given_out < timeline.version {
                let details =
                    format!("max_entity_version={} current_version={given_out}", timeline.version);
                report("", "version_mismatch", details);
            }
            for entity in self.entities(conv_id, &EntityFilter::default())? {
                let EntityRow { entity_id, created_at_ms, updated_at_ms, .. } = &entity;
                if updated_at_ms < created_at_ms {
                    let details =
                        format!("created_at_ms={created_at_ms} updated_at_ms={updated_at_ms}");
                    report(entity_id, "updated_before_created", details);
                }
                if entity.kind.is_empty() {
                    report(entity_id, "empty_kind", String::new());
                }
                if let (true, Err(error)) =
                    (check_json, serde_json::from_str::<Value>(&entity.body))
                {
                    report(entity_id, "json_parse_error", error.to_string());
                }
            }
        }
        Ok(issues)
    }
}
