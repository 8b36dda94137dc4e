//! The recorded scenarios of the reference, replayed against a whole server with the same provider answers: frames,
//! answers, timeline, turns and provider requests are equal, or the difference has a name in `replay/rules.rs`.

use std::ops::Range;

use serde_json::Value;

use crate::provider::{Provider, transcript};
use crate::server::Server;
use play::Play;
use rules::{Make, Rule};
use trace::Trace;

mod play;
mod rules;
mod scenarios;
mod switch;
mod tokens;
mod trace;
mod yaml;

/// How a scenario is replayed, and how we may differ from what was recorded. Every named difference has to occur.
struct Scenario<'a> {
    name: &'a str,
    args: &'a [&'a str],
    /// The steps during which a run is held or paused.
    busy: Range<usize>,
    /// How often the first answer of the provider is asked for.
    tries: usize,
    rules: &'a [&'a [Rule]],
}

impl<'a> Scenario<'a> {
    fn new(name: &'a str, rules: &'a [&'a [Rule]]) -> Self {
        Self { name, args: &[], busy: usize::MAX..usize::MAX, tries: 1, rules }
    }

    /// Starts what the scenario needs; the provider is named as the wire format wants it.
    async fn start(&self, transcript: &Value) -> (Server, Provider) {
        let requests = transcript["provider_requests"].as_array().unwrap();
        let mut script: Vec<Value> = requests.iter().map(|r| r["answered"].clone()).collect();
        for _ in 1..self.tries {
            script.insert(0, script[0].clone());
        }
        let provider = Provider::start(script).await;
        let root = provider.url.trim_end_matches("/v1").to_owned();
        let (format, flags) = match requests[0]["path"].as_str().unwrap() {
            "/v1/messages" => ("claude", ["--claude-base-url", &root, "--claude-api-key", "sk-c"]),
            "/v1/responses" => {
                let url = &provider.url;
                ("openai-responses", ["--openai-base-url", url, "--openai-api-key", "sk-x"])
            }
            _ => ("openai", ["--openai-base-url", &provider.url, "--openai-api-key", "sk-x"]),
        };
        let common = ["--debug-api", "--ai-engine", "test-model", "--ai-api-type", format];
        let args: Vec<&str> = [&common[..], &flags, self.args].concat();
        (Server::start(&args), provider)
    }

    /// Replays and compares; gives what was played for further questions.
    async fn replay(self) -> Trace {
        let transcript = transcript(self.name);
        let steps = transcript["steps"].as_array().unwrap();
        let mut recorded = Trace::recorded(&transcript);
        let rules: Vec<&Rule> = self.rules.iter().copied().flatten().collect();
        let mut unused: Vec<&str> = Vec::new();
        for rule in &rules {
            if let Make::Recorded(change) = rule.make
                && !change(&mut recorded)
            {
                unused.push(rule.reason);
            }
        }
        let (server, provider) = self.start(&transcript).await;
        let mut play = Play::new(server, provider, &recorded, self.busy);
        for number in 0..steps.len() {
            play.step(number, steps).await;
        }
        let (mut played, server) = play.end().await;
        recorded.events().for_each(|event| {
            event.as_object_mut().unwrap().remove("at");
        });
        played.read_payloads();
        for rule in &rules {
            if let Make::Both(change) = rule.make
                && !change(&mut recorded, &mut played)
            {
                unused.push(rule.reason);
            }
        }
        let (unnamed, idle) = check(&rules, &recorded, &played);
        unused.extend(idle);
        assert!(
            unnamed.is_empty() && unused.is_empty(),
            "differences without a name:\n{}\nnamed differences that do not occur: {unused:#?}",
            unnamed.join("\n")
        );
        drop(server);
        played
    }
}

/// The differences without a name, and the names without a difference.
fn check<'r>(rules: &[&'r Rule], recorded: &Trace, played: &Trace) -> (Vec<String>, Vec<&'r str>) {
    let covers = |rule: &Rule, place: &[String]| match rule.make {
        Make::At(pattern) => rules::covers(pattern, place),
        _ => false,
    };
    let differences = recorded.differences(played);
    let unnamed: Vec<String> = differences
        .iter()
        .filter(|(place, _)| !rules.iter().any(|rule| covers(rule, place)))
        .map(|(place, what)| format!("{}: {what}", place.join(" ")))
        .collect();
    let idle = rules
        .iter()
        .filter(|rule| matches!(rule.make, Make::At(_)))
        .filter(|rule| !differences.iter().any(|(place, _)| covers(rule, place)))
        .map(|rule| rule.reason)
        .collect();
    (unnamed, idle)
}
