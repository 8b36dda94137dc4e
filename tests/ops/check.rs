//! `collodi ops check` (must-show line 1 of the operator's half; lines 5 to 16 of the checklist).

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::command::{Said, bare, collodi};
use crate::front::{self, Broken};
use crate::server::Server;

fn check(target: &str, more: &[&str]) -> Said {
    let target = format!("http://{target}");
    collodi(&[&["ops", "check", "--target", &target, "--output", "json"], more].concat())
}

/// Verdicts by line; what has no line is left out.
fn verdicts(report: &Value) -> Vec<(u64, String)> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings
        .filter(|finding| finding["line"] != 0)
        .map(|f| (f["line"].as_u64().unwrap(), f["verdict"].as_str().unwrap().to_owned()))
        .collect()
}

fn slugs(server: &Server) -> Vec<String> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listed = runtime.block_on(server.get("/api/chat/profiles")).json();
    listed.as_array().unwrap().iter().map(|p| p["slug"].as_str().unwrap().to_owned()).collect()
}

fn conversations(server: &Server) -> Value {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(server.get("/api/chat/conversations")).json()
}

#[test]
fn every_line_passes_with_evidence_and_nothing_is_left() {
    let server = Server::start(&[]);
    let said = check(&server.address, &[]);
    let report = said.json();
    assert_eq!((said.code, &report["verdict"]), (Some(0), &json!("go")), "{report:#}");
    let expected: Vec<(u64, String)> = (6..=16).map(|line| (line, "pass".to_owned())).collect();
    assert_eq!(verdicts(&report), expected);
    for finding in report["findings"].as_array().unwrap() {
        assert_ne!(finding["evidence"], "", "{finding}");
        assert_ne!(finding["exchanges"], json!([]), "{finding}");
    }
    assert_eq!(slugs(&server), ["agent", "default"]);
    assert_eq!(conversations(&server), json!([]));
}

#[test]
fn a_server_that_is_broken_in_one_line_is_a_no_go_that_names_that_line() {
    let server = Server::start(&[]);
    for line in 6..=16 {
        let address = front::start(&server.address, Broken::Line(line)).to_string();
        let said = check(&address, &[]);
        let report = said.json();
        assert_eq!(said.code, Some(1), "line {line}: {report:#}");
        assert_eq!(report["failed_lines"], json!([line]), "line {line}: {report:#}");
        let lines: Vec<u64> = verdicts(&report).into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, (6..=16).collect::<Vec<u64>>(), "every line has a verdict");
    }
    let address = front::start(&server.address, Broken::History).to_string();
    assert_eq!(check(&address, &[]).json()["failed_lines"], json!([16]));
    assert_eq!(slugs(&server), ["agent", "default"]);
    assert_eq!(conversations(&server), json!([]));
}

#[test]
fn without_our_additions_what_needs_them_is_inconclusive_and_the_rest_decides() {
    let server = Server::start(&[]);
    let address = front::start(&server.address, Broken::Additions).to_string();
    let said = check(&address, &[]);
    let report = said.json();
    assert_eq!((said.code, &report["verdict"]), (Some(0), &json!("go")), "{report:#}");
    let open: Vec<u64> = verdicts(&report)
        .into_iter()
        .filter(|(_, verdict)| verdict == "inconclusive")
        .map(|(line, _)| line)
        .collect();
    assert_eq!(open, [14, 15, 16], "{report:#}");
}

#[test]
fn two_servers_of_one_release_match_and_another_release_does_not() {
    let server = Server::start(&[]);
    let target = |broken| format!("http://{}", front::start(&server.address, broken));
    let release = |targets: [&str; 2]| {
        let [a, b] = targets;
        let said = collodi(&["ops", "check", "--target", a, "--target", b, "--output", "json"]);
        (said.code, said.json()["findings"][0].clone())
    };
    let (same, other) = (target(Broken::Nothing), target(Broken::Release));
    let (code, finding) = release([&target(Broken::Nothing), &same]);
    assert_eq!(
        (code, &finding["code"], &finding["verdict"]),
        (Some(0), &json!("release.match"), &json!("pass"))
    );
    let (code, finding) = release([&same, &other]);
    assert_eq!((code, &finding["line"], &finding["verdict"]), (Some(1), &json!(5), &json!("fail")));
    assert!(finding["evidence"].as_str().unwrap().contains("0.0.1"), "{finding}");
    let (code, finding) = release([&same, &target(Broken::Additions)]);
    assert_eq!((code, &finding["verdict"]), (Some(0), &json!("inconclusive")), "{finding}");
}

#[test]
fn a_baseline_is_compared_and_files_that_are_none_are_refused() {
    let server = Server::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("expected.json");
    let with = |text: &str| {
        std::fs::write(&path, text).unwrap();
        check(&server.address, &["--baseline", path.to_str().unwrap()])
    };
    assert_eq!(with(r#"["agent", "default"]"#).code, Some(0));
    let said = with(r#"["agent", "default", "pirate"]"#);
    assert_eq!((said.code, said.json()["failed_lines"].clone()), (Some(1), json!([8])));
    assert!(said.out.contains("pirate is missing"));
    for text in ["", "{}", "[]", "[5]"] {
        let said = with(text);
        assert_eq!(said.code, Some(2), "{text}: {said:?}");
        assert!(said.err.contains("--baseline"), "{said:?}");
    }
}

#[test]
fn a_wrong_command_line_is_2_and_nobody_there_is_a_no_go() {
    for (arguments, part) in [
        (&["--target", "127.0.0.1:8080"][..], "begins with http"),
        (&["--target", "http://a", "--target", "http://a/"], "given twice"),
        (&[], "--target"),
    ] {
        let said = collodi(&[&["ops", "check"], arguments].concat());
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains(part), "{said:?}");
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let said = check(&nobody.to_string(), &[]);
    assert_eq!((said.code, said.json()["failed_lines"].clone()), (Some(1), json!([6, 7])));
}

#[test]
fn what_needs_a_token_is_told_and_the_token_is_shown_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens.txt");
    let sum = collodi_profiles::json::sha256_hex("canary-token-7");
    std::fs::write(&tokens, format!("check:editor:{sum}\n")).unwrap();
    let server = Server::start(&["--auth-tokens", tokens.to_str().unwrap()]);
    let said = check(&server.address, &[]);
    assert_eq!(said.code, Some(1));
    assert!(said.out.contains("give a token with --token"), "{}", said.out);
    let said = check(&server.address, &["--token", "canary-token-7"]);
    assert_eq!(said.code, Some(0), "{}", said.out);
    assert!(!said.out.contains("canary-token-7") && !said.err.contains("canary-token-7"));
}

#[test]
fn junit_is_well_formed_and_the_table_says_go() {
    let server = Server::start(&[]);
    let target = format!("http://{}", server.address);
    let junit = collodi(&["ops", "check", "--target", &target, "--output", "junit"]);
    let (cases, ends) =
        (junit.out.matches("<testcase ").count(), junit.out.matches("</testcase>").count());
    assert_eq!((junit.code, cases, ends), (Some(0), 12, 12), "{}", junit.out);
    assert!(junit.out.contains("failures=\"0\" errors=\"0\" skipped=\"0\""));
    let table = collodi(&["ops", "check", "--target", &target]);
    assert!(table.out.ends_with("GO\n"), "{}", table.out);
}

#[test]
fn a_check_that_is_interrupted_cleans_up_and_is_no_go() {
    let server = Server::start(&[]);
    let target = format!("http://{}", front::start(&server.address, Broken::Silent));
    let mut child = bare()
        .args(["ops", "check", "--target", &target, "--output", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while slugs(&server).len() < 4 {
        assert!(Instant::now() < deadline, "no profiles were made");
        std::thread::sleep(Duration::from_millis(10));
    }
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{out}");
    let report: Value = serde_json::from_str(&out).unwrap();
    let last = report["findings"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["code"], &last["verdict"]), (&json!("check.cleaned_up"), &json!("error")));
    assert_eq!(slugs(&server), ["agent", "default"]);
}
