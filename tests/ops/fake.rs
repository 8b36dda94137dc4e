//! A binary that is broken in one line: this test program, started by a command line of its own, with a real server
//! behind it.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Stdio;

use crate::command::bare;
use crate::front::{self, Broken};

/// The command that starts our binary, as an operator writes it.
pub(crate) fn ours() -> String {
    let program = env!("CARGO_BIN_EXE_collodi");
    format!(
        "exec {program} serve --addr {{addr}} --data-dir {{dir}} --profile-registry-db {{profiles_db}}"
    )
}

/// The command that starts a binary which is broken in this line.
pub(crate) fn broken(line: u8) -> String {
    let this = std::env::current_exe().unwrap();
    format!(
        "FAKE_LINE={line} FAKE_ADDR={{addr}} FAKE_DB={{profiles_db}} FAKE_DIR={{dir}} exec {} \
         fake::as_a_process --exact --nocapture",
        this.display()
    )
}

/// Does nothing unless it was started by [`broken`].
#[test]
fn as_a_process() {
    let Ok(address) = std::env::var("FAKE_ADDR") else { return };
    let given = |name: &str| std::env::var(name).unwrap();
    let mut server = bare()
        .args(["serve", "--addr", "127.0.0.1:0", "--config-file", "/dev/null"])
        .args(["--data-dir", &given("FAKE_DIR"), "--profile-registry-db", &given("FAKE_DB")])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stderr.take().unwrap()).lines().map_while(Result::ok);
    let upstream = lines
        .find_map(|line| Some(line.split_once("serves http://")?.1.split('/').next()?.to_owned()))
        .expect("the banner names the address");
    std::thread::spawn(move || lines.for_each(drop));
    let line = given("FAKE_LINE").parse().unwrap();
    front::serve(&TcpListener::bind(address).unwrap(), &upstream, Broken::Line(line));
    server.wait().unwrap();
}
