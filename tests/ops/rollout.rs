//! `collodi ops rollout` (must-show line 2 of the operator's half): a good deploy, and a bad one that is taken back.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::command::{Said, bare, collodi, said};
use crate::fake;
use crate::preflight::{place, quiet};

/// A machine with one server on it, started and stopped by scripts as an operator has them.
pub(crate) struct Machine {
    folder: tempfile::TempDir,
    data: String,
    backup: String,
    pub(crate) address: String,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let (folder, data, backup) = place();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let machine = Self { folder, data, backup, address };
        let at = machine.folder.path().display();
        machine.script(
            "start",
            &format!("setsid sh -c \"$1\" >> {at}/server.log 2>&1 &\necho $! > {at}/server.pid\n"),
        );
        // Waits until all of it is gone, so that nothing uses the databases.
        machine.script(
            "stop",
            &format!(
                "p=$(cat {at}/server.pid)\nkill -s TERM -- -$p\nwhile kill -s 0 -- -$p 2>/dev/null; do sleep 0.05; done\n"
            ),
        );
        machine
    }

    pub(crate) fn script(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command that starts a binary on this machine's databases.
    pub(crate) fn start(&self, command: &str) -> String {
        let filled = command
            .replace("{addr}", &self.address)
            .replace("{profiles_db}", &format!("{}/profiles.db", self.data))
            .replace("{dir}", &self.data);
        format!("sh {} \"{filled}\"", self.path("start").display())
    }

    pub(crate) fn stop(&self) -> String {
        format!("sh {}", self.path("stop").display())
    }

    fn rollout(&self, deploy: &str, rollback: &str, more: &[&str]) -> Said {
        said(self.command(deploy, rollback).args(more))
    }

    fn command(&self, deploy: &str, rollback: &str) -> Command {
        let (target, report) = (format!("http://{}", self.address), self.path("report"));
        let arguments = [
            "ops",
            "rollout",
            "--data-dir",
            &self.data,
            "--backup-dir",
            &self.backup,
            "--target",
            &target,
            "--deploy",
            deploy,
            "--rollback",
            rollback,
            "--report",
            report.to_str().unwrap(),
            "--output",
            "json",
        ];
        let mut command = bare();
        command.args(arguments);
        command
    }

    fn check(&self) -> Said {
        let target = format!("http://{}", self.address);
        collodi(&["ops", "check", "--target", &target, "--output", "json"])
    }

    fn replaced(&self) -> usize {
        let entries = std::fs::read_dir(&self.data).unwrap().map(Result::unwrap);
        entries.filter(|e| e.file_name().to_string_lossy().starts_with("replaced-")).count()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = Command::new("sh").args(["-c", &self.stop()]).output();
    }
}

pub(crate) fn sh(command: &str) {
    assert!(Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
}

fn steps(report: &Value) -> Vec<(&str, &str)> {
    let steps = report["steps"].as_array().unwrap().iter();
    steps.map(|s| (s["step"].as_str().unwrap(), s["outcome"].as_str().unwrap())).collect()
}

#[test]
fn a_deploy_that_breaks_validation_is_found_rolled_back_restored_and_verified() {
    let _quiet = quiet();
    let machine = Machine::new();
    let ours = machine.start(&fake::ours());
    sh(&ours);
    let deploy = format!("{} && {}", machine.stop(), machine.start(&fake::broken(12)));
    let rollback = format!("{} && {{restore}} && {ours}", machine.stop());
    let said = machine.rollout(&deploy, &rollback, &["--deadline", "5s"]);
    let report = said.json();
    assert_eq!(said.code, Some(1), "{report:#}");
    assert_eq!(
        steps(&report),
        [
            ("preflight", "go"),
            ("snapshot", "go"),
            ("deploy", "go"),
            ("check", "no-go"),
            ("rollback", "go"),
            ("restore", "go"),
            ("check after rollback", "go"),
        ],
        "{report:#}"
    );
    assert_eq!(report["failed_lines"], json!([12]));
    assert!(report["outcome"].as_str().unwrap().starts_with("NO-GO: rolled back"));
    assert_eq!(machine.replaced(), 1, "what the restore replaced is kept");
    assert_eq!(machine.check().code, Some(0));
    let kept: Value =
        serde_json::from_slice(&std::fs::read(machine.path("report/report.json")).unwrap())
            .unwrap();
    assert_eq!(kept, report);
    let text = std::fs::read_to_string(machine.path("report/report.md")).unwrap();
    for part in
        ["NO-GO: rolled back", "## deploy: go", "## check: no-go", "| 12 | fail |", "| 18 | pass |"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// A deploy of this very program puts another file in its place, and may leave none.
#[test]
fn the_way_back_does_not_need_the_program_that_was_replaced() {
    let _quiet = quiet();
    let machine = Machine::new();
    let ours = machine.start(&fake::ours());
    sh(&ours);
    let program = machine.path("collodi");
    std::fs::copy(env!("CARGO_BIN_EXE_collodi"), &program).unwrap();
    let (data, target) = (machine.data.clone(), format!("http://{}", machine.address));
    let deploy = format!("rm {} && exit 3", program.display());
    let rollback = format!("{} && cd / && {{restore}} && {ours}", machine.stop());
    let output = Command::new(&program)
        .args(["ops", "rollout", "--data-dir", &data, "--backup-dir", &machine.backup])
        .args(["--target", &target, "--deploy", &deploy, "--rollback", &rollback])
        .args(["--deadline", "20s", "--output", "json"])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    assert!(report["outcome"].as_str().unwrap().starts_with("NO-GO: rolled back"), "{report:#}");
}

#[test]
fn a_good_deploy_is_a_go() {
    let _quiet = quiet();
    let machine = Machine::new();
    let ours = machine.start(&fake::ours());
    sh(&ours);
    let deploy = format!("{} && {ours}", machine.stop());
    let candidate = ["--candidate", &fake::ours(), "--previous", &fake::ours()];
    let said = machine.rollout(&deploy, "exit 7", &candidate);
    let report = said.json();
    assert_eq!(said.code, Some(0), "{report:#}");
    let expected = [
        ("preflight", "go"),
        ("snapshot", "go"),
        ("rehearse the way back", "go"),
        ("deploy", "go"),
        ("check", "go"),
    ];
    assert_eq!(steps(&report), expected);
    assert_eq!((machine.replaced(), &report["failed_lines"]), (0, &json!([])));
}

#[test]
fn a_preflight_that_says_no_changes_nothing() {
    let _quiet = quiet();
    let machine = Machine::new();
    std::fs::write(machine.path("app.env"), "PINOCCHIO_ENABLE_PROFILE_REGISTRY_MIDDLEWARE=1\n")
        .unwrap();
    let scan = machine.path("app.env");
    let deploy = format!("touch {}", machine.path("deployed").display());
    let said = machine.rollout(&deploy, "true", &["--scan", scan.to_str().unwrap()]);
    let report = said.json();
    assert_eq!((said.code, steps(&report)), (Some(1), vec![("preflight", "no-go")]), "{report:#}");
    assert_eq!(report["outcome"], "NO-GO: nothing was changed");
    assert!(!machine.path("deployed").exists());
}

#[test]
fn a_way_back_that_fails_is_said_loudly() {
    let _quiet = quiet();
    let machine = Machine::new();
    sh(&machine.start(&fake::ours()));
    let said = machine.rollout("exit 3", "exit 4", &["--deadline", "1s"]);
    let report = said.json();
    assert_eq!(said.code, Some(1));
    assert!(report["outcome"].as_str().unwrap().contains("could not be verified"), "{report:#}");
    // The old server still runs, so that nothing was restored under it.
    assert_eq!(report["failed_lines"], json!([5, 17, 18]));
    assert_eq!(machine.replaced(), 0);
}

#[test]
fn a_deploy_that_does_not_end_is_stopped_and_taken_back() {
    let _quiet = quiet();
    let machine = Machine::new();
    let ours = machine.start(&fake::ours());
    sh(&ours);
    let rollback = format!("{} && {{restore}} && {ours}", machine.stop());
    let deploy = "DEPLOY_API_KEY=canary-deploy-1; sleep 600";
    let said = machine.rollout(deploy, &rollback, &["--command-deadline", "20s"]);
    let report = said.json();
    assert_eq!((said.code, &report["failed_lines"]), (Some(1), &json!([5])), "{report:#}");
    assert!(report["outcome"].as_str().unwrap().starts_with("NO-GO: rolled back"), "{report:#}");
    assert!(report.to_string().contains("stopped, no end within 20 s"), "{report:#}");
    let text = std::fs::read_to_string(machine.path("report/report.md")).unwrap();
    assert!(!format!("{said:?}{text}").contains("canary-deploy-1"), "{text}");
    assert!(said.err.contains("deploying ("), "what takes long is told: {}", said.err);
}

#[test]
fn a_rollout_that_is_interrupted_goes_back() {
    let _quiet = quiet();
    let machine = Machine::new();
    let ours = machine.start(&fake::ours());
    sh(&ours);
    let begun = machine.path("begun");
    let rollback = format!("{} && {{restore}} && {ours}", machine.stop());
    let deploy = format!("touch {}; sleep 600", begun.display());
    let mut command = machine.command(&deploy, &rollback);
    let mut running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
    while !begun.exists() {
        let ended = running.try_wait().unwrap();
        assert!(
            ended.is_none() && std::time::Instant::now() < deadline,
            "the deploy did not begin"
        );
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    sh(&format!("kill -s TERM {}", running.id()));
    let output = running.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    assert!(report["outcome"].as_str().unwrap().starts_with("NO-GO: rolled back"), "{report:#}");
    assert!(report.to_string().contains("interrupted"), "{report:#}");
}

#[test]
fn wrong_command_lines_are_2() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().to_str().unwrap();
    let base =
        ["ops", "rollout", "--data-dir", at, "--target", "http://127.0.0.1:1", "--deploy", "x"];
    for more in [
        &["--rollback", "x"][..],
        &["--backup-dir", at],
        &["--backup-dir", "/nowhere", "--rollback", "x"],
        &["--backup-dir", at, "--rollback", "x", "--deadline", "soon"],
        &["--backup-dir", at, "--rollback", "x", "--deadline", "999999999999999999m"],
        &["--backup-dir", at, "--rollback", "x", "--candidate", "./new serve"],
        &["--backup-dir", at, "--rollback", "x", "--target", "http://u:canary@127.0.0.1:1"],
    ] {
        let said = collodi(&[&base, more].concat());
        assert_eq!(said.code, Some(2), "{more:?}: {said:?}");
        assert!(!said.err.contains("canary"), "{said:?}");
    }
    assert_eq!(std::fs::read_dir(at).unwrap().count(), 0, "nothing was made");
}
