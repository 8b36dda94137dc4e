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

/// What a Dockerfile says, its stages checked against each other and against what is there.
struct Image {
    text: String,
    sources: Vec<String>,
    /// From a stage to a stage, and what.
    copied: Vec<String>,
    entry: Vec<String>,
    user: String,
}

fn image() -> Image {
    let text = file("deploy/Dockerfile").replace("\\\n", " ");
    let ignored = file(".dockerignore");
    let (mut stages, mut sources, mut copied) = (Vec::new(), Vec::new(), Vec::new());
    let (mut entry, mut user) = (Vec::new(), String::new());
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (instruction, rest) = line.split_once(' ').expect("an instruction");
        let words: Vec<&str> = rest.split_whitespace().collect();
        match instruction {
            "FROM" => {
                assert_eq!((words.len(), words[1]), (3, "AS"), "{line}");
                stages.push(words[2]);
                user.clear();
            }
            "COPY" if words[0].starts_with("--from=") => {
                let from = words[0].trim_start_matches("--from=");
                assert!(stages[..stages.len() - 1].contains(&from), "{line}: no such stage before");
                let made = ["/src/target/release/collodi", "/src/ui/dist"];
                assert!(made.contains(&words[1]), "{line}");
                let to = stages.last().unwrap();
                copied.push(format!("{from} -> {to}: {}", words[1]));
            }
            "COPY" => {
                for source in &words[..words.len() - 1] {
                    assert!(root().join(source).exists(), "{line}: no {source}");
                    assert!(!ignored.lines().any(|name| name == *source), "{line}: ignored");
                    sources.push((*source).to_owned());
                }
            }
            "ENTRYPOINT" => entry = serde_json::from_str::<Vec<String>>(rest).unwrap(),
            "USER" => rest.clone_into(&mut user),
            "RUN" | "WORKDIR" | "VOLUME" | "EXPOSE" => {}
            _ => panic!("{line}"),
        }
    }
    Image { text, sources, copied, entry, user }
}

#[test]
fn the_stages_of_the_dockerfile_build_on_each_other_and_on_what_is_there() {
    let Image { text, sources, copied, user, .. } = image();
    let ui = "ui -> build: /src/ui/dist".to_owned();
    assert!(
        copied.contains(&ui),
        "without it the program would have a page that says so: {copied:?}"
    );
    assert_eq!(user, "collodi", "it does not run as root");
    assert!(text.contains("cargo build --release --locked --package collodi"));
    let manifest = toml(&file("Cargo.toml"));
    let version = manifest["workspace"]["package"]["rust-version"].as_str().unwrap();
    assert!(text.contains(&format!("FROM rust:{version}")), "the compiler that is declared");
    // Every member of the workspace is copied, or cargo would refuse it; and so is every file that is compiled in.
    for member in manifest["workspace"]["members"].as_array().unwrap() {
        let top = member.as_str().unwrap().split('/').next().unwrap();
        assert!(sources.iter().any(|source| source == top), "{top} is not copied");
    }
    for included in ["config.default.toml", "openapi.json", "docs", "tests", "ui"] {
        assert!(sources.iter().any(|source| source == included), "{included} is not copied");
    }
}

#[test]
fn the_image_serves_when_it_is_given_tokens_and_not_without() {
    let Image { entry, .. } = image();
    assert_eq!(entry[0], "/usr/local/bin/collodi");
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let start: Vec<String> = entry[1..].iter().map(|word| word.replace("/data", data)).collect();
    let words = start.iter().map(String::as_str);
    let open: Vec<&str> = words.chain(["--config-file", "/dev/null"]).collect();
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
