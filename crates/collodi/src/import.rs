//! `collodi import`: conversations of the Go reference into a chat database that no server has open.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::ArgMatches;
use collodi_store::lock::Lock;
use collodi_store::sqlite::import::import;
use serde_json::json;

use crate::output;

/// Imports and says how much.
///
/// # Errors
/// Files that cannot be read, a server that has the database open, counts that do not match.
pub(crate) fn run(matches: &ArgMatches) -> Result<()> {
    let path = |name: &str| matches.get_one::<String>(name).map(PathBuf::from);
    let (timeline, turns) = (path("timeline-db"), path("turns-db"));
    if timeline.is_none() && turns.is_none() {
        bail!("nothing to import: set --timeline-db, --turns-db or both");
    }
    let data_dir = path("data-dir").unwrap_or_else(|| "./data".into());
    let target = path("chat-db").unwrap_or_else(|| data_dir.join("chat.db"));
    if let Some(folder) = target.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    let _lock = Lock::acquire(&target)?;
    let imported = import(&target, timeline.as_deref(), turns.as_deref())?;
    let row = vec![
        ("conversations", json!(imported.conversations)),
        ("skipped", json!(imported.skipped.len())),
        ("turns", json!(imported.turns)),
        ("snapshots", json!(imported.snapshots)),
        ("blocks", json!(imported.blocks)),
        ("entities", json!(imported.entities)),
        ("blank_left_out", json!(imported.blank)),
        ("closed", json!(imported.closed)),
    ];
    output::print(&output::render(matches, &[row])?)?;
    Ok(())
}
