//! What a rollout says of itself: JSON and Markdown for the record, a table for the terminal.

use std::fmt::Write as _;
use std::path::Path;

use clap::ArgMatches;
use serde_json::{Value, json};

use super::{Ending, Rollout};
use crate::ops::print::{report, said};
use crate::ops::verdict::{Report, anchor};
use crate::target::Target;

/// One step of the report.
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) began_ms: i64,
    pub(super) took_ms: u64,
    pub(super) is_go: bool,
    pub(super) report: Report,
    pub(super) said: String,
}

impl Step {
    fn json(&self) -> Value {
        json!({
            "step": self.name, "began_at_ms": self.began_ms, "took_ms": self.took_ms,
            "outcome": outcome(self.is_go), "said": self.said, "checks": self.report.json(),
        })
    }
}

pub(super) fn outcome(is_go: bool) -> &'static str {
    if is_go { "go" } else { "no-go" }
}

impl Rollout<'_> {
    pub(super) fn json(&self, ending: Ending) -> Value {
        let lines = self.steps.iter().map(|step| step.report.json()["failed_lines"].clone());
        let mut lines: Vec<u64> = lines
            .flat_map(|lines| lines.as_array().cloned().unwrap_or_default())
            .filter_map(|line| line.as_u64())
            .collect();
        lines.sort_unstable();
        lines.dedup();
        json!({
            "verdict": outcome(ending == Ending::Deployed), "outcome": ending.words(),
            "failed_lines": lines, "snapshot": self.folder.display().to_string(),
            "targets": self.targets.iter().map(Target::url).collect::<Vec<_>>(),
            "steps": self.steps.iter().map(Step::json).collect::<Vec<_>>(),
        })
    }

    pub(super) fn markdown(&self, ending: Ending) -> String {
        // Writing to a String does not fail.
        let mut out = format!("# Rollout\n\n**{}**\n\n", ending.words());
        let _ = writeln!(out, "Snapshot: `{}`", self.folder.display());
        for step in &self.steps {
            let _ = write!(
                out,
                "\n## {}: {}\n\nBegan at {} (Unix milliseconds), took {} ms.\n\n",
                step.name,
                outcome(step.is_go),
                step.began_ms,
                step.took_ms
            );
            out.push_str(
                "| line | verdict | check | subject | evidence |\n|---|---|---|---|---|\n",
            );
            for finding in &step.report.findings {
                let _ = writeln!(
                    out,
                    "| {} | {} | [{}](docs/operating.md#{}) | {} | {} |",
                    finding.check.line,
                    finding.verdict.as_str(),
                    finding.check.code,
                    anchor(finding.check.code),
                    cell(&finding.subject),
                    cell(&finding.evidence)
                );
            }
            if !step.said.is_empty() {
                let _ = write!(out, "\n```\n{}\n```\n", step.said.replace("```", "'''"));
            }
        }
        out
    }

    pub(super) fn print(
        &self,
        matches: &ArgMatches,
        ending: Ending,
        document: &Value,
        reports: &Path,
    ) {
        let format = matches.get_one::<String>("output").map_or("table", String::as_str);
        match format {
            "json" => said(&format!("{document:#}\n")),
            "junit" => {
                let mut all = Report::default();
                for step in &self.steps {
                    all.extend(step.report.clone());
                }
                report(matches, &all);
            }
            _ => {
                for step in &self.steps {
                    said(&format!("== {}\n", step.name));
                    report(matches, &step.report);
                }
                said(&format!("{}\n", ending.words()));
                said(&format!("report: {}\n", reports.display()));
            }
        }
    }
}

fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
