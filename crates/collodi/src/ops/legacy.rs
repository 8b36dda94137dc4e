//! Line 1: the legacy switch is gone from environments, files and running processes.

use std::path::{Path, PathBuf};

use super::process;
use super::verdict::{Check, Finding};

/// The switch of the time before the registry.
pub(crate) const SWITCH: &str = "PINOCCHIO_ENABLE_PROFILE_REGISTRY_MIDDLEWARE";
/// Larger files are no configuration.
const MOST: u64 = 4 * 1024 * 1024;

pub(crate) const GONE: Check = Check {
    code: "legacy.switch",
    line: 1,
    proves: "The legacy switch is set nowhere",
    how: "This environment, the files and folders of --scan, the environments of processes that can be read",
    hint: "Remove PINOCCHIO_ENABLE_PROFILE_REGISTRY_MIDDLEWARE from the named places and restart what was started with it.",
};

/// Looks everywhere.
pub(crate) fn check(scan: &[PathBuf]) -> Finding {
    let mut found = Vec::new();
    let mut unread = Vec::new();
    if std::env::var_os(SWITCH).is_some() {
        found.push("this environment".to_owned());
    }
    let mut files = 0;
    for path in scan {
        look(path, &mut |path, text| {
            files += 1;
            match text {
                Ok(text) => found.extend(
                    lines(text).into_iter().map(|line| format!("{}:{line}", path.display())),
                ),
                Err(error) => unread.push(format!("{}: {error}", path.display())),
            }
        });
    }
    let (mut processes, mut hidden) = (0, 0);
    for (id, folder) in process::all() {
        match std::fs::read(folder.join("environ")) {
            Ok(environment) => {
                processes += 1;
                if is_set(&environment) {
                    found.push(format!("{} (process {id})", process::name(&folder)));
                }
            }
            Err(_) => hidden += 1,
        }
    }
    if !found.is_empty() {
        return GONE.fail(found.join("; "));
    }
    if !unread.is_empty() {
        return GONE.error(format!("could not be read: {}", unread.join("; ")));
    }
    GONE.pass(format!(
        "not in this environment, {files} files, {processes} processes ({hidden} cannot be read)"
    ))
}

/// Shows every file below a path, or why it cannot be read. Links to folders are not followed.
fn look(path: &Path, see: &mut impl FnMut(&Path, Result<&str, std::io::Error>)) {
    let entries = std::fs::symlink_metadata(path)
        .and_then(|meta| if meta.is_dir() { std::fs::read_dir(path).map(Some) } else { Ok(None) });
    match entries {
        Ok(Some(entries)) => {
            let mut paths: Vec<PathBuf> =
                entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
            paths.sort();
            for below in paths {
                // What is linked from inside is looked at where it lies, if that was named too.
                if !below.is_dir() || !below.is_symlink() {
                    look(&below, see);
                }
            }
        }
        Ok(None) => {
            if std::fs::metadata(path).is_ok_and(|meta| !meta.is_file() || meta.len() > MOST) {
                return;
            }
            match std::fs::read(path) {
                // Programs and databases are no configuration.
                Ok(bytes) if bytes.contains(&0) => {}
                Ok(bytes) => see(path, Ok(&String::from_utf8_lossy(&bytes))),
                Err(error) => see(path, Err(error)),
            }
        }
        Err(error) => see(path, Err(error)),
    }
}

/// The lines that set the switch, from 1. What is commented out or unset does not count.
fn lines(text: &str) -> Vec<usize> {
    let sets = |line: &str| {
        let code = code(line);
        let code = code.trim();
        code.contains(SWITCH) && !code.starts_with("unset ")
    };
    text.lines().enumerate().filter(|(_, line)| sets(line)).map(|(at, _)| at + 1).collect()
}

/// The line without its comment: `#` after space, `;` or `//` at the beginning, `{{/* */}}`.
fn code(line: &str) -> String {
    let mut line = line.to_owned();
    while let Some(begin) = line.find("{{/*").or_else(|| line.find("{{- /*")) {
        let end = line[begin..].find("}}").map_or(line.len(), |at| begin + at + 2);
        line.replace_range(begin..end, "");
    }
    let trimmed = line.trim_start();
    if trimmed.starts_with([';', '#']) || trimmed.starts_with("//") {
        return String::new();
    }
    let comment = line.match_indices('#').find(|(at, _)| line[..*at].ends_with([' ', '\t']));
    match comment {
        Some((at, _)) => line[..at].to_owned(),
        None => line,
    }
}

fn is_set(environment: &[u8]) -> bool {
    let name = SWITCH.as_bytes();
    environment
        .split(|b| *b == 0)
        .any(|entry| entry.strip_prefix(name).is_some_and(|rest| rest.first() == Some(&b'=')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_do_not_count_and_everything_else_does() {
        for (line, counts) in [
            (format!("{SWITCH}=1"), true),
            (format!("export {SWITCH}=true"), true),
            (format!("      {SWITCH}: \"1\" # on"), true),
            (format!("Environment=\"{SWITCH}=0\""), true),
            (format!("- name: {SWITCH}"), true),
            (format!("A=1 {SWITCH}="), true),
            (format!("# {SWITCH}=1"), false),
            (format!("   #{SWITCH}=1"), false),
            (format!(";{SWITCH}=1"), false),
            (format!("A=1 # {SWITCH}=1"), false),
            (format!("A=b#c {SWITCH}=1"), true),
            (format!("{{{{/* {SWITCH} */}}}}"), false),
            (format!("// {SWITCH}"), false),
            (format!("unset {SWITCH}"), false),
            ("OTHER=1".into(), false),
        ] {
            assert_eq!(!lines(&line).is_empty(), counts, "{line}");
        }
        assert_eq!(lines(&format!("a\n\n{SWITCH}=1\n")), [3]);
    }

    #[test]
    fn an_environment_has_whole_names() {
        let of = |entry: &str| is_set(format!("A=1\0{entry}\0B=2\0").as_bytes());
        assert!(of(&format!("{SWITCH}=1")) && of(&format!("{SWITCH}=")));
        assert!(!of(&format!("X_{SWITCH}=1")) && !of(&format!("{SWITCH}_OLD=1")));
    }

    #[test]
    fn folders_are_looked_through_and_what_cannot_be_read_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("app.env"), format!("X=1\n{SWITCH}=1\n")).unwrap();
        std::fs::write(deep.join("program"), format!("\0{SWITCH}=1\n")).unwrap();
        std::os::unix::fs::symlink(folder.path(), deep.join("loop")).unwrap();
        let finding = check(&[folder.path().to_owned()]);
        assert!(finding.is_no_go());
        assert!(finding.evidence.contains("app.env:2") && !finding.evidence.contains("program"));
        let missing = check(&[folder.path().join("none")]);
        assert!(missing.is_no_go() && missing.evidence.contains("could not be read"));
    }
}
