//! Replacing a file as a whole (chapter 10 D20).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::step::step;

/// Writes `content` to `path`: a reader sees the old or the new file, also after a crash. Parent folders are created.
/// An existing file keeps its mode, a new one is its owner's alone, and a symbolic link keeps pointing at the file that is replaced. Writers of the
/// same path wait for each other.
///
/// # Errors
/// Whatever the file system says; the old file is then untouched and no temporary file is left.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = folder_of(&target);
    fs::create_dir_all(folder)?;
    let name = target.file_name().ok_or_else(|| io::Error::other("path names no file"))?;
    let name = name.to_string_lossy().into_owned();

    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join(format!(".{name}.lock")))?;
    lock.lock()?;
    swap(&target, content)
}

/// Puts a new file in the place of `target`, which is no link, at once. The last of several writers counts.
pub(crate) fn swap(target: &Path, content: &[u8]) -> io::Result<()> {
    let folder = folder_of(target);
    let name = target.file_name().ok_or_else(|| io::Error::other("path names no file"))?;
    // Processes in containers share their ids, so the name is drawn.
    let drawn = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), name);
    let temporary = folder.join(format!(".{}.{drawn:016x}.tmp", name.to_string_lossy()));
    let mode = fs::metadata(target).ok().map(|meta| meta.permissions());
    let written = write_durably(&temporary, content, mode)
        .and_then(|()| step())
        .and_then(|()| fs::rename(&temporary, target))
        .and_then(|()| step())
        .and_then(|()| File::open(folder)?.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// The folder that a path lies in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn write_durably(path: &Path, content: &[u8], mode: Option<fs::Permissions>) -> io::Result<()> {
    // Profiles and snapshots are nobody else's to read.
    let mut options = OpenOptions::new();
    let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(path)?;
    if let Some(mode) = mode {
        file.set_permissions(mode)?;
    }
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn c10_d20_replacing_keeps_mode_and_links_and_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/profiles.yaml");
        replace(&path, b"one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let link = folder.path().join("link.yaml");
        symlink(&path, &link).unwrap();
        replace(&link, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let left: Vec<_> = fs::read_dir(path.parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains(".tmp"))
            .collect();
        assert_eq!(left, Vec::<String>::new());
    }

    #[test]
    fn c10_d20_writers_of_one_path_do_not_mix() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::thread::scope(|scope| {
            for writer in 0..8_u8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..20 {
                        replace(path, &vec![writer; 100_000]).unwrap();
                    }
                });
            }
        });
        let content = fs::read(&path).unwrap();
        assert_eq!(content.len(), 100_000);
        assert!(content.iter().all(|b| *b == content[0]));
    }
}
