//! The unit and the Dockerfile, as far as they can be checked without systemd and without an engine: what they start
//! starts, what they copy is there, and they agree with the program about what it takes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::command::{bare, collodi};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn file(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

/// Starts `serve` with these arguments, on a free port, until it says that it serves.
fn serves(arguments: &[String]) {
    use std::io::{BufRead as _, BufReader};
    let arguments: Vec<String> = arguments
        .iter()
        .map(|argument| {
            if argument.ends_with(":8080") {
                argument.replace("8080", "0")
            } else {
                argument.clone()
            }
        })
        .collect();
    let mut command = bare();
    command.args(&arguments).args(["--config-file", "/dev/null"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut said = String::new();
    let served = lines.by_ref().any(|line| {
        said.push_str(&line);
        line.contains("serves http://")
    });
    let _ = child.kill();
    let _ = child.wait();
    assert!(served, "{arguments:?}: {said}");
}

#[test]
fn the_unit_starts_a_server_that_may_stop_in_its_time() {
    let unit = file("deploy/collodi.service");
    let mut section = "";
    let mut settings: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for line in unit.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.strip_suffix(']').expect("a section");
        } else {
            let (key, value) = line.split_once('=').expect("a setting");
            assert!(key.chars().all(|c| c.is_ascii_alphanumeric()), "{line}");
            settings.insert((section, key), value);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().to_str().unwrap();
    let hash = collodi_profiles::json::sha256_hex("t");
    std::fs::write(folder.path().join("tokens"), format!("oona:operator:{hash}\n")).unwrap();
    let start = settings[&("Service", "ExecStart")];
    let start = start.replace("${STATE_DIRECTORY}", at).replace("${CREDENTIALS_DIRECTORY}", at);
    let words: Vec<String> = start.split(' ').map(str::to_owned).collect();
    assert_eq!(words[0], "/usr/local/bin/collodi");
    serves(&words[1..]);
    let stop: u64 = settings[&("Service", "TimeoutStopSec")].parse().unwrap();
    let defaults: toml::Table = file("config.default.toml").parse().unwrap();
    let patience = defaults["shutdown-seconds"].as_integer().unwrap();
    assert!(stop > u64::try_from(patience).unwrap() + 10, "{stop} s is less than it may take");
    assert_eq!(settings[&("Service", "LoadCredential")], "tokens:/etc/collodi/tokens.txt");
    assert_eq!(settings[&("Install", "WantedBy")], "multi-user.target");
}

#[test]
fn the_stages_of_the_dockerfile_build_on_each_other_and_on_what_is_there() {
    let text = file("deploy/Dockerfile").replace("\\\n", " ");
    let ignored = file(".dockerignore");
    let (mut stages, mut sources, mut entry, mut user) = (Vec::new(), Vec::new(), None, None);
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (instruction, rest) = line.split_once(' ').expect("an instruction");
        let words: Vec<&str> = rest.split_whitespace().collect();
        match instruction {
            "FROM" => {
                assert_eq!((words.len(), words[1]), (3, "AS"), "{line}");
                stages.push(words[2]);
                user = None;
            }
            "COPY" if words[0].starts_with("--from=") => {
                let from = words[0].trim_start_matches("--from=");
                assert!(stages[..stages.len() - 1].contains(&from), "{line}: no such stage before");
                assert_eq!(words[1], "/src/target/release/collodi");
            }
            "COPY" => {
                for source in &words[..words.len() - 1] {
                    assert!(root().join(source).exists(), "{line}: no {source}");
                    assert!(!ignored.lines().any(|name| name == *source), "{line}: ignored");
                    sources.push((*source).to_owned());
                }
            }
            "ENTRYPOINT" => entry = Some(serde_json::from_str::<Vec<String>>(rest).unwrap()),
            "USER" => user = Some(rest),
            "RUN" | "WORKDIR" | "VOLUME" | "EXPOSE" => {}
            _ => panic!("{line}"),
        }
    }
    assert_eq!(user, Some("collodi"), "it does not run as root");
    assert!(text.contains("cargo build --release --locked --package collodi"));
    let rust = format!(
        "FROM rust:{}",
        toml(&file("Cargo.toml"))["workspace"]["package"]["rust-version"].as_str().unwrap()
    );
    assert!(text.contains(&rust), "the compiler is the one that is declared: {rust}");

    // Every member of the workspace is copied, or cargo would refuse it; and so is every file that is compiled in.
    let manifest = toml(&file("Cargo.toml"));
    for member in manifest["workspace"]["members"].as_array().unwrap() {
        let top = member.as_str().unwrap().split('/').next().unwrap();
        assert!(sources.iter().any(|source| source == top), "{top} is not copied");
    }
    for included in ["config.default.toml", "openapi.json", "docs", "tests"] {
        assert!(sources.iter().any(|source| source == included), "{included} is not copied");
    }

    let entry = entry.expect("an entry point");
    assert_eq!(entry[0], "/usr/local/bin/collodi");
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let start: Vec<String> = entry[1..].iter().map(|word| word.replace("/data", data)).collect();
    let open: Vec<&str> =
        start.iter().map(String::as_str).chain(["--config-file", "/dev/null"]).collect();
    let refused = collodi(&open);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.err.contains("--auth-tokens FILE"), "{refused:?}");
    let tokens = folder.path().join("tokens.txt");
    let hash = collodi_profiles::json::sha256_hex("t");
    std::fs::write(&tokens, format!("oona:operator:{hash}\n")).unwrap();
    let more = ["--auth-tokens".to_owned(), tokens.to_str().unwrap().to_owned()];
    serves(&[&start[..], &more].concat());
}

fn toml(text: &str) -> toml::Table {
    text.parse().unwrap()
}
