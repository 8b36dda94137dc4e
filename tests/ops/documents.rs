//! The commands of `docs/operating.md` about snapshots and the checklist, run as they are printed. Only what belongs to the
//! operator's machine is put in its place: the address, the folder that is scanned, the scripts that the text names.

use std::os::unix::fs::symlink;
use std::process::Command;

use crate::fake;
use crate::preflight::quiet;
use crate::rollout::{Machine, sh};

/// The shell blocks below a heading of the second level.
fn blocks(heading: &str) -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operating.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, below) = text.split_once(&format!("\n## {heading}\n")).expect("the heading");
    let below = below.split("\n## ").next().unwrap();
    let blocks = below.split("```sh\n").skip(1);
    blocks.map(|block| block.split("\n```").next().unwrap().to_owned()).collect()
}

#[test]
fn the_commands_of_the_operating_document_work_as_printed() {
    let _quiet = quiet();
    let machine = Machine::new();
    let program = env!("CARGO_BIN_EXE_collodi");
    for folder in ["bin", "new", "old", "etc"] {
        std::fs::create_dir(machine.path(folder)).unwrap();
        symlink(program, machine.path(folder).join("collodi")).unwrap();
    }
    std::fs::remove_file(machine.path("etc").join("collodi")).unwrap();
    let ours = machine.start(&fake::ours());
    for (name, text) in [
        ("deploy.sh", format!("{} && {ours}", machine.stop())),
        ("stop.sh", machine.stop()),
        ("install.sh", "test \"$1\" = old".to_owned()),
        ("start.sh", ours.clone()),
    ] {
        machine.script(name, &format!("#!/bin/sh\n{text}\n"));
        sh(&format!("chmod +x {}", machine.path(name).display()));
    }
    let run = |block: &str| {
        let block = block.replace("127.0.0.1:8080", &machine.address);
        let block = block.replace("/etc/collodi", machine.path("etc").to_str().unwrap());
        let path = format!("{}:{}", machine.path("bin").display(), std::env::var("PATH").unwrap());
        let output = Command::new("bash")
            .args(["-ec", &block])
            .current_dir(machine.path(""))
            .env("PATH", path)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{block}\n{out}\n{err}");
    };
    let code = blocks("Profiles as code");
    assert_eq!(code.len(), 1);
    run(&code[0]);
    let snapshots = blocks("Snapshots and restores");
    assert_eq!(snapshots.len(), 1);
    run(&snapshots[0]);
    let checklist = blocks("The operator's checklist");
    assert_eq!(checklist.len(), 3, "preflight, rollout, check");
    run(&checklist[0]);
    sh(&ours);
    until_it_answers(&machine);
    let escalation = blocks("Escalation");
    assert_eq!(escalation.len(), 1);
    run(&escalation[0]);
    run(&checklist[1]);
    std::fs::write(machine.path("expected.json"), r#"["agent", "default"]"#).unwrap();
    run(&checklist[2]);
}

fn until_it_answers(machine: &Machine) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while std::net::TcpStream::connect(&machine.address).is_err() {
        assert!(std::time::Instant::now() < deadline, "the server did not start");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
