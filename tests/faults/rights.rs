//! F5: a place that cannot be written. The start fails with the named cause, and nothing else is used in its stead.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use crate::server::{Launch, is_root};

const NOBODY: u32 = 65_534;

/// A folder that an unprivileged server could write, and the program where it can be read.
struct Place {
    folder: tempfile::TempDir,
    program: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        set_mode(folder.path(), 0o755);
        let program = folder.path().join("collodi");
        let built = Path::new(env!("CARGO_BIN_EXE_collodi"));
        if fs::hard_link(built, &program).is_err() {
            fs::copy(built, &program).unwrap();
        }
        Self { folder, program }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A folder of the server's own.
    fn own_folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        give(&path);
        path
    }

    /// A data folder with a registry in it, written and closed by a server.
    fn filled(&self, name: &str) -> PathBuf {
        let data = self.own_folder(name);
        Launch::on(&data).by_nobody(&self.program).start().unwrap().stop();
        data
    }

    /// The start is refused, names `path` and `cause`, and leaves the folder as it was.
    fn assert_refused(&self, launch: Launch, path: &Path, cause: &str) {
        let before = tree(self.folder.path());
        let Err(refused) = launch.by_nobody(&self.program).start() else {
            panic!("served although {} is unusable ({cause})", path.display())
        };
        let text = &refused.stderr;
        assert!([Some(1), Some(2)].contains(&refused.status.code()), "{refused:?}");
        assert!(text.contains(path.to_str().unwrap()), "names {}: {text}", path.display());
        assert!(text.to_lowercase().contains(cause), "says {cause}: {text}");
        assert!(!text.contains("panicked"), "{text}");
        let mut after = tree(self.folder.path());
        // A lock file that could be written is no database.
        after.retain(|name| !name.ends_with("chat.db.lock"));
        assert_eq!(
            after,
            before.into_iter().filter(|n| !n.ends_with("chat.db.lock")).collect::<Vec<_>>()
        );
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn give(path: &Path) {
    if is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// All files and folders below.
fn tree(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names.extend(tree(&path));
        }
        names.push(path.display().to_string());
    }
    names.sort();
    names
}

#[test]
fn f5_a_data_folder_that_cannot_be_written_is_named() {
    let place = Place::new();
    let data = place.own_folder("data");
    set_mode(&data, 0o555);
    place.assert_refused(Launch::on(&data), &data, "permission denied");
    set_mode(&data, 0o000);
    place.assert_refused(Launch::on(&data), &data, "permission denied");
    set_mode(&data, 0o755);
}

#[test]
fn f5_a_data_folder_of_somebody_else_is_named() {
    if !is_root() {
        eprintln!("SKIPPED: only root can make files of another owner");
        return;
    }
    let place = Place::new();
    let data = place.path("data");
    fs::create_dir(&data).unwrap();
    set_mode(&data, 0o700);
    place.assert_refused(Launch::on(&data), &data, "permission denied");
}

#[test]
fn f5_a_database_that_is_read_only_is_named() {
    let place = Place::new();
    let data = place.filled("data");
    let path = data.join("profiles.db");
    set_mode(&path, 0o444);
    place.assert_refused(Launch::on(&data), &path, "read");
    set_mode(&path, 0o644);
    Launch::on(&data).by_nobody(&place.program).start().unwrap().stop();
}

#[test]
fn f5_a_database_of_somebody_else_is_named() {
    if !is_root() {
        eprintln!("SKIPPED: only root can make files of another owner");
        return;
    }
    let place = Place::new();
    let data = place.filled("data");
    let path = data.join("profiles.db");
    chown(&path, Some(0), Some(0)).unwrap();
    set_mode(&path, 0o600);
    place.assert_refused(Launch::on(&data), &path, "permission denied");
}

#[test]
fn f5_a_new_database_in_a_folder_that_cannot_be_written_is_named() {
    let place = Place::new();
    let (data, closed) = (place.own_folder("data"), place.own_folder("closed"));
    set_mode(&closed, 0o555);
    let path = closed.join("profiles.db");
    let launch = Launch::on(&data).arg("--profile-registry-db").arg(path.to_str().unwrap());
    place.assert_refused(launch, &path, "permission denied");
    set_mode(&closed, 0o755);
}

#[test]
fn f5_a_data_folder_that_is_a_file_is_named() {
    let place = Place::new();
    let data = place.path("data");
    fs::write(&data, "not a folder").unwrap();
    give(&data);
    place.assert_refused(Launch::on(&data), &data, "exists");
    assert_eq!(fs::read(&data).unwrap(), b"not a folder");
}

#[test]
fn f5_a_database_that_is_a_folder_is_named() {
    let place = Place::new();
    let data = place.own_folder("data");
    let path = place.own_folder("data/profiles.db");
    place.assert_refused(Launch::on(&data), &path, "is a folder");
}

#[test]
fn f5_a_parent_that_cannot_be_created_is_named() {
    let place = Place::new();
    let closed = place.own_folder("closed");
    set_mode(&closed, 0o555);
    let data = closed.join("deep/data");
    place.assert_refused(Launch::on(&data), &data, "permission denied");
    set_mode(&closed, 0o755);
    let file = place.path("file");
    fs::write(&file, "x").unwrap();
    place.assert_refused(Launch::on(&file.join("data")), &file.join("data"), "not a directory");
}

#[test]
fn f5_a_link_to_nowhere_is_named() {
    let place = Place::new();
    let data = place.own_folder("data");
    let path = data.join("profiles.db");
    symlink(place.path("gone/profiles.db"), &path).unwrap();
    place.assert_refused(Launch::on(&data), &path, "");
}
