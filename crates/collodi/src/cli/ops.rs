//! `collodi ops` and what stands below it.

use clap::{Arg, ArgAction, Command};

pub(super) fn command() -> Command {
    Command::new("ops")
        .about("The operator's checklist: proves that a server is ready, or says what is not (0 go, 1 no-go, 2 usage)")
        .defer(parts)
}

fn parts(command: Command) -> Command {
    command
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([preflight(), snapshot(), verify(), restore(), undo_restore()])
        .subcommands([check(), rollout(), packet()])
}

fn check() -> Command {
    Command::new("check")
        .about("Checks running servers: profiles, schemas, refusals, writes, chats")
        .after_long_help(CHECK_EXAMPLES)
        .args(target())
        .arg(path(
            "baseline",
            "FILE",
            "What GET /api/chat/profiles should answer, or a JSON list of slugs",
        ))
        .arg(
            Arg::new("watch")
                .long("watch")
                .action(ArgAction::SetTrue)
                .help("Checks again every 10 seconds, until interrupted"),
        )
        .arg(output().value_parser(["table", "json", "jsonl", "junit"]))
}

const CHECK_EXAMPLES: &str = "Examples:
  collodi ops check --target http://127.0.0.1:8080
  curl -s http://127.0.0.1:8080/api/chat/profiles > expected.json
  collodi ops check --target http://127.0.0.1:8080 --baseline expected.json --output junit

Two profiles and two conversations named ops-check-... are made and deleted again; three short prompts are sent.";

fn preflight() -> Command {
    Command::new("preflight")
        .about("Before a deploy: legacy switch, databases, rights, snapshot, and both binaries on copies")
        .after_long_help(PREFLIGHT_EXAMPLES)
        .args(place())
        .arg(path("backup-dir", "DIR", "Folder of the snapshots"))
        .args(rehearsal())
        .arg(output())
}

const PREFLIGHT_EXAMPLES: &str = "Examples:
  collodi ops preflight --data-dir /var/lib/collodi --backup-dir /var/backups/collodi --scan /etc/collodi
  collodi ops preflight --data-dir data --candidate './new/collodi serve --addr {addr} --data-dir {dir} --profile-registry-db {profiles_db}'

{addr} is a free address, {profiles_db} a copy of the registry, {dir} an empty folder. The databases are not changed.";

fn rollout() -> Command {
    Command::new("rollout")
        .about("Deploys with a way back: preflight, snapshot, deploy, checks; on no-go rollback, restore, checks")
        .after_long_help(ROLLOUT_EXAMPLES)
        .args(place())
        .arg(path("backup-dir", "DIR", "Folder for the snapshot").required(true))
        .args(target())
        .arg(path("deploy", "CMD", "Puts the new release in place and starts it").required(true))
        .arg(path("rollback", "CMD", "Stops it, runs {restore}, starts the previous release").required(true))
        .arg(path("deadline", "TIME", "How long the checks may take to hold").default_value("120s"))
        .arg(path("command-deadline", "TIME", "How long the deploy and the rollback command may take each").default_value("10m"))
        .arg(path("report", "DIR", "Folder for report.md and report.json [default: beside the snapshot]"))
        .args(rehearsal())
        .arg(output())
}

const ROLLOUT_EXAMPLES: &str = "Example:
  collodi ops rollout --data-dir /var/lib/collodi --backup-dir /var/backups/collodi \\
    --target http://127.0.0.1:8080 \\
    --deploy 'ln -sfn /opt/collodi-new /opt/collodi && systemctl restart collodi' \\
    --rollback 'systemctl stop collodi && ln -sfn /opt/collodi-old /opt/collodi && {restore} && systemctl start collodi'

{restore} becomes the command that restores the snapshot of this rollout, {snapshot} its folder. A rollback command
without {restore} must leave the server stopped: the restore comes after it. Both run without a terminal: use sudo -n.";

fn packet() -> Command {
    Command::new("packet")
        .about("Gathers what an escalation needs into one archive, without secrets; also when the server is down")
        .after_long_help(PACKET_EXAMPLES)
        .args(target())
        .arg(path("profile", "SLUG", "The affected profile").required(true))
        .arg(path("registry", "SLUG", "Its registry [default: default]"))
        .arg(path("to", "PATH", "The archive (.tar.gz), or a folder for it").required(true))
        .arg(path("request", "FILE", "The failing request: {method, path, headers, body} is sent once more, anything else is taken as it is"))
        .arg(
            Arg::new("no-check")
                .long("no-check")
                .action(ArgAction::SetTrue)
                .help("Without the checks, which make and delete profiles and send short prompts"),
        )
        .args(place())
        .arg(path("log-file", "FILE", "The server's log, for when it does not answer"))
        .arg(output())
}

const PACKET_EXAMPLES: &str = "Example:
  collodi ops packet --target http://127.0.0.1:8080 --profile analyst --request failing.json --to .

With a database (--data-dir or --profile-registry-db) and --log-file it also works when the server is down.";

fn snapshot() -> Command {
    Command::new("snapshot")
        .about("Takes a snapshot of the databases, also while servers use them, and reads it back")
        .args(place())
        .arg(path("to", "DIR", "New folder for the snapshot").required(true))
        .arg(output())
}

fn verify() -> Command {
    Command::new("verify")
        .about("Compares a snapshot with its manifest, and its databases with what they should be")
        .arg(from())
        .arg(output())
}

fn restore() -> Command {
    Command::new("restore")
        .about("Puts a snapshot in the place of the databases; servers must be stopped; what is replaced is kept")
        .args(place())
        .arg(from())
        .arg(
            Arg::new("of-another-database")
                .long("of-another-database")
                .action(ArgAction::SetTrue)
                .help("Also if the snapshot was taken of another database"),
        )
        .arg(output())
}

fn undo_restore() -> Command {
    Command::new("undo-restore")
        .about("Puts back what the last restore replaced; servers must be stopped")
        .args(place())
        .arg(output())
}

/// `--data-dir`, or a registry file alone, which may be one of the Go reference.
fn place() -> [Arg; 2] {
    [
        path("data-dir", "DIR", "Folder of the databases").env("COLLODI_DATA_DIR"),
        path(
            "profile-registry-db",
            "FILE",
            "A registry database alone, ours or of the Go reference, in the place of --data-dir",
        ),
    ]
}

fn from() -> Arg {
    path("from", "DIR", "Folder of the snapshot").required(true)
}

/// Servers, and what lets one in.
fn target() -> [Arg; 2] {
    [
        path("target", "URL", "Address of a server, with its prefix; several make a release set")
            .action(ArgAction::Append)
            .required(true),
        path("token", "TOKEN", "Sent as a bearer token to every target")
            .env("COLLODI_TOKEN")
            .hide_env_values(true),
    ]
}

fn rehearsal() -> [Arg; 3] {
    let many = |name: &'static str, value: &'static str, help: &'static str| {
        path(name, value, help).action(ArgAction::Append)
    };
    [
        many("scan", "PATH", "File or folder in which the legacy switch is looked for; repeatable"),
        many("candidate", "CMD", "Starts a binary to be deployed; repeatable, one per application"),
        many("previous", "CMD", "Starts the binary that one would go back to; repeatable"),
    ]
}

fn path(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

/// `--output`, the same for every command here.
fn output() -> Arg {
    Arg::new("output")
        .long("output")
        .value_name("FORMAT")
        .default_value("table")
        .value_parser(["table", "json", "junit"])
        .help("Form of the answer")
}
