//! Other processes of this machine, as far as their owner lets them be seen: `/proc` on Linux, nothing elsewhere.

use std::path::{Path, PathBuf};

/// A process that has a file open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) id: u32,
    pub(crate) name: String,
}

impl std::fmt::Display for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (process {})", self.name, self.id)
    }
}

/// Processes but this one, by id.
pub(crate) fn all() -> Vec<(u32, PathBuf)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries
        .filter_map(|entry| {
            let id: u32 = entry.file_name().to_str()?.parse().ok()?;
            (id != std::process::id()).then(|| (id, entry.path()))
        })
        .collect()
}

/// Who has this file open.
pub(crate) fn users_of(path: &Path) -> Vec<User> {
    let Ok(path) = path.canonicalize() else { return Vec::new() };
    let uses = |folder: &Path| {
        let open = std::fs::read_dir(folder.join("fd")).into_iter().flatten();
        open.filter_map(Result::ok)
            .any(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == path))
    };
    all()
        .into_iter()
        .filter(|(_, folder)| uses(folder))
        .map(|(id, folder)| User { id, name: name(&folder) })
        .collect()
}

/// What a process calls itself.
pub(crate) fn name(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("comm")).unwrap_or_default().trim().to_owned()
}
