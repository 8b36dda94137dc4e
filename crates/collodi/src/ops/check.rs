//! `collodi ops check`: lines 5 to 16 against running servers, go or no-go.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ArgMatches;
use serde_json::Value;

use super::checks::profiles::{self, Listed};
use super::checks::{self, chat, needs, schemas};
use super::session::Session;
use super::verdict::{Check, Finding, Report, Verdict};
use crate::target::Target;

/// Between two rounds of `--watch`.
const EVERY: Duration = Duration::from_secs(10);

/// What is compared and when to stop.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) expected: Option<Listed>,
    pub(crate) session: Session,
}

/// Runs the command; says whether it is a go.
///
/// # Errors
/// A wrong command line.
pub(crate) async fn run(matches: &ArgMatches, session: Session) -> Result<bool> {
    let targets = targets(matches)?;
    let expected = matches.get_one::<String>("baseline");
    let expected = expected.map(|path| profiles::baseline(Path::new(path))).transpose()?;
    let tells_findings = matches.get_one::<String>("output").is_some_and(|form| form == "jsonl");
    let options = Options { expected, session: session.telling(tells_findings) };
    loop {
        let report = check(&targets, &options).await;
        super::print::report(matches, &report);
        if !matches.get_flag("watch") {
            return Ok(report.is_go());
        }
        options.session.at("waiting for the next round");
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = options.session.cancel.cancelled() => return Ok(report.is_go()),
        }
    }
}

/// The servers of `--target`, with the token of `--token`.
///
/// # Errors
/// None, the same one twice, or an address that is none.
pub(crate) fn targets(matches: &ArgMatches) -> Result<Vec<Target>> {
    let token = matches.get_one::<String>("token").cloned().filter(|token| !token.is_empty());
    let mut targets: Vec<Target> = Vec::new();
    for url in matches.get_many::<String>("target").into_iter().flatten() {
        let target = Target::new(url, token.clone())?;
        if targets.iter().any(|other| other.url() == target.url()) {
            bail!("--target {url} is given twice");
        }
        targets.push(target);
    }
    Ok(targets)
}

/// Checks every target, then whether they belong together.
pub(crate) async fn check(targets: &[Target], options: &Options) -> Report {
    let mut report = Report::default();
    let mut releases = Vec::new();
    for target in targets {
        let (found, release) = one(target, options).await;
        report.extend(found);
        releases.push((target.url(), release));
    }
    if targets.len() > 1 {
        let matching = matching(&releases);
        super::print::found(&options.session, &matching);
        report.findings.insert(0, matching);
    }
    report
}

/// Whether releases belong together (decision 30).
pub(crate) fn matching(releases: &[(&str, Option<Value>)]) -> Finding {
    let check = checks::RELEASE_MATCH;
    let of = |release: &Value| {
        ["release", "contract", "schema_version"]
            .map(|key| {
                release[key].as_str().map_or_else(|| release[key].to_string(), str::to_owned)
            })
            .join(" ")
    };
    let shown: Vec<String> = releases
        .iter()
        .map(|(who, release)| {
            format!("{who}: {}", release.as_ref().map_or_else(|| "not told".into(), of))
        })
        .collect();
    let text = shown.join("; ");
    let mut known: Vec<String> = releases.iter().filter_map(|(_, r)| r.as_ref().map(of)).collect();
    let told = known.len();
    known.dedup();
    let finding = if known.len() > 1 {
        check.fail(text)
    } else if told < releases.len() {
        check.inconclusive(text).without_additions()
    } else {
        check.pass(text)
    };
    finding.of("all targets")
}

/// Checks one target and takes away what that made, also when it is interrupted.
async fn one(target: &Target, options: &Options) -> (Report, Option<Value>) {
    let mut report = Report::default();
    let mut release = None;
    let interrupted = tokio::select! {
        () = every_line(target, options, &mut report, &mut release) => false,
        () = options.session.cancel.cancelled() => true,
    };
    let begun = Instant::now();
    let mut finding = match target.clean_up(release.is_some()).await {
        Ok(evidence) if interrupted => checks::CLEANED_UP.error(format!("interrupted; {evidence}")),
        Ok(evidence) => checks::CLEANED_UP.pass(evidence),
        Err(error) => checks::CLEANED_UP.fail(format!("{error:#}")),
    };
    finish(target, &mut finding, begun);
    tell(&mut report, finding, &options.session);
    (report, release)
}

fn finish(target: &Target, finding: &mut Finding, begun: Instant) {
    target.url().clone_into(&mut finding.subject);
    finding.exchanges = target.exchanges();
    finding.took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
}

/// Adds a finding to the report, and tells it to whoever listens.
fn tell(report: &mut Report, finding: Finding, session: &Session) {
    super::print::found(session, &finding);
    report.add(finding);
}

/// One line after the other, with their evidence.
struct Lines<'a> {
    target: &'a Target,
    report: &'a mut Report,
    session: &'a Session,
}

impl Lines<'_> {
    /// Adds what was found out; what could not be asked is an error. Says whether the next may build on it.
    async fn add(&mut self, check: Check, asked: impl Future<Output = Result<Finding>>) -> bool {
        let begun = Instant::now();
        self.session.at(format!("checking {}: {}", self.target.url(), check.code));
        let found = asked.await;
        let mut finding = found.unwrap_or_else(|error| check.error(format!("{error:#}")));
        finish(self.target, &mut finding, begun);
        let holds = matches!(finding.verdict, Verdict::Pass | Verdict::Inconclusive);
        tell(self.report, finding, self.session);
        holds
    }

    /// These cannot be told, because another did not pass.
    fn without(&mut self, checks: &[Check], other: Check) {
        for check in checks {
            let finding = needs(*check, other).of(self.target.url());
            tell(self.report, finding, self.session);
        }
    }
}

/// The names of what the checks make.
struct Names {
    unknown: String,
    config: String,
    profiles: [String; 2],
    cookie: String,
    chat: String,
}

impl Names {
    fn draw() -> Self {
        let drawn: String = crate::assemble::new_id().chars().filter(|c| *c != '-').collect();
        let name = |what: &str| format!("ops-check-{}-{what}", &drawn[..12]);
        Self {
            unknown: name("unknown"),
            config: name("config"),
            profiles: [name("a"), name("b")],
            cookie: name("cookie"),
            chat: name("chat"),
        }
    }
}

async fn every_line(
    target: &Target,
    options: &Options,
    report: &mut Report,
    release: &mut Option<Value>,
) {
    let names = Names::draw();
    let mut lines = Lines { target, report, session: &options.session };
    let asked = target.get("/api/chat/release").await;
    *release = asked.ok().map(|answer| answer.json()).filter(|json| json["release"].is_string());
    target.exchanges();
    let mounted = lines.add(checks::API_PROFILES, profiles::mounted(target)).await;
    let described = lines.add(checks::API_SCHEMAS, schemas::mounted(target)).await;
    let list_holds = if mounted {
        let listed = profiles::listed(target, options.expected.as_ref());
        lines.add(checks::PROFILES_LIST, listed).await
    } else {
        lines.without(&[checks::PROFILES_LIST], checks::API_PROFILES);
        false
    };
    let served = described_lines(&mut lines, described).await;
    if !mounted {
        lines.without(
            &[checks::REFUSE_UNKNOWN, checks::REFUSE_CONFIG, checks::WRITE_PROFILE],
            checks::API_PROFILES,
        );
        lines.without(CHATS, checks::API_PROFILES);
        return;
    }
    let refuses = profiles::refuses_unknown(target, &names.unknown);
    lines.add(checks::REFUSE_UNKNOWN, refuses).await;
    if served.is_empty() {
        lines.without(&[checks::REFUSE_CONFIG], checks::SCHEMAS_MIDDLEWARES);
    } else {
        let refuses = profiles::refuses_config(target, &names.config, &served);
        lines.add(checks::REFUSE_CONFIG, refuses).await;
    }
    chat_lines(&mut lines, &names, list_holds, release.is_some()).await;
}

/// What is checked with prompts.
const CHATS: &[Check] = &[checks::SELECT_COOKIE, checks::CHAT_PROFILE, checks::CHAT_SWITCH];

/// Lines 9 and 10; the schemas by middleware.
async fn described_lines(lines: &mut Lines<'_>, described: bool) -> Vec<(String, Value)> {
    let target = lines.target;
    let mut served = Vec::new();
    if described {
        let middlewares = async {
            let (finding, found) = schemas::middlewares(target).await?;
            served = found;
            Ok(finding)
        };
        lines.add(checks::SCHEMAS_MIDDLEWARES, middlewares).await;
        lines.add(checks::SCHEMAS_EXTENSIONS, schemas::extensions(target)).await;
    } else {
        let checks = &[checks::SCHEMAS_MIDDLEWARES, checks::SCHEMAS_EXTENSIONS];
        lines.without(checks, checks::API_SCHEMAS);
    }
    served
}

/// Lines 13 to 16.
async fn chat_lines(lines: &mut Lines<'_>, names: &Names, list_holds: bool, additions: bool) {
    let target = lines.target;
    let [a, b] = [names.profiles[0].as_str(), names.profiles[1].as_str()];
    let writes = profiles::writes(target, [a, b], list_holds);
    if !lines.add(checks::WRITE_PROFILE, writes).await {
        lines.without(CHATS, checks::WRITE_PROFILE);
        return;
    }
    let select = chat::select(target, a, &names.cookie, additions);
    lines.add(checks::SELECT_COOKIE, select).await;
    let explicit = chat::explicit(target, a, &names.chat, additions);
    if lines.add(checks::CHAT_PROFILE, explicit).await {
        let switched = chat::switched(target, [a, b], &names.chat, additions);
        lines.add(checks::CHAT_SWITCH, switched).await;
    } else {
        lines.without(&[checks::CHAT_SWITCH], checks::CHAT_PROFILE);
    }
}
