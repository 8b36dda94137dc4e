//! What a check is and what comes out of it: data, so that one runner and three printers serve all of them (decision 31).

use serde_json::{Value, json};

use crate::redact::Redactor;
use crate::target::Exchange;

/// What can be proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Check {
    /// Stable; also the anchor of its paragraph in `docs/operating.md`.
    pub(crate) code: &'static str,
    /// Of the operator's checklist; 0 for what the checklist does not have.
    pub(crate) line: u8,
    /// In a sentence.
    pub(crate) proves: &'static str,
    /// How it is found out.
    pub(crate) how: &'static str,
    /// What to do when it does not hold.
    pub(crate) hint: &'static str,
}

impl Check {
    /// The check held, and this shows it.
    pub(crate) fn pass(self, evidence: impl Into<String>) -> Finding {
        Finding::new(self, Verdict::Pass, evidence.into())
    }

    /// It did not hold.
    pub(crate) fn fail(self, evidence: impl Into<String>) -> Finding {
        Finding::new(self, Verdict::Fail, evidence.into())
    }

    /// It cannot be told.
    pub(crate) fn inconclusive(self, evidence: impl Into<String>) -> Finding {
        Finding::new(self, Verdict::Inconclusive, evidence.into())
    }

    /// Finding out failed.
    pub(crate) fn error(self, evidence: impl Into<String>) -> Finding {
        Finding::new(self, Verdict::Error, evidence.into())
    }
}

/// What came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Fail,
    Inconclusive,
    Error,
}

impl Verdict {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Inconclusive => "inconclusive",
            Self::Error => "error",
        }
    }
}

/// One check of one subject.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub(crate) check: Check,
    /// A target's address, a candidate, a file.
    pub(crate) subject: String,
    pub(crate) verdict: Verdict,
    pub(crate) evidence: String,
    /// Whether it needs what the contract does not have; then it does not count against a target without it.
    pub(crate) of_additions: bool,
    pub(crate) exchanges: Vec<Exchange>,
    pub(crate) took_ms: u64,
}

impl Finding {
    fn new(check: Check, verdict: Verdict, evidence: String) -> Self {
        Self {
            check,
            subject: String::new(),
            verdict,
            evidence,
            of_additions: false,
            exchanges: Vec::new(),
            took_ms: 0,
        }
    }

    /// About whom.
    pub(crate) fn of(mut self, subject: impl Into<String>) -> Self {
        self.subject = subject.into();
        self
    }

    /// The check needs additions that the target does not have.
    pub(crate) fn without_additions(mut self) -> Self {
        self.of_additions = true;
        self
    }

    /// Whether it stands in the way.
    pub(crate) fn is_no_go(&self) -> bool {
        match self.verdict {
            Verdict::Pass => false,
            Verdict::Inconclusive => !self.of_additions,
            Verdict::Fail | Verdict::Error => true,
        }
    }

    pub(crate) fn json(&self) -> Value {
        let Check { code, line, proves, how, hint } = self.check;
        json!({
            "code": code, "line": line, "proves": proves, "how": how, "subject": self.subject,
            "verdict": self.verdict.as_str(), "evidence": self.evidence, "counts": !self.of_additions,
            "hint": hint, "anchor": format!("docs/operating.md#{}", anchor(code)),
            "took_ms": self.took_ms, "exchanges": self.exchanges,
        })
    }
}

/// The heading `### db.writable` has this anchor.
pub(crate) fn anchor(code: &str) -> String {
    code.replace('.', "")
}

/// All findings of a command.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    pub(crate) findings: Vec<Finding>,
}

impl From<Finding> for Report {
    fn from(finding: Finding) -> Self {
        Self { findings: vec![finding] }
    }
}

impl Report {
    pub(crate) fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.findings.extend(other.findings);
    }

    /// Only all-pass is go (decision 31); nothing checked is none.
    pub(crate) fn is_go(&self) -> bool {
        !self.findings.is_empty() && !self.findings.iter().any(Finding::is_no_go)
    }

    /// What failed, by line and code. What could only not be told because of it is not named.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let failed = |f: &&Finding| matches!(f.verdict, Verdict::Fail | Verdict::Error);
        let mut reasons: Vec<&Finding> = self.findings.iter().filter(failed).collect();
        if reasons.is_empty() {
            reasons = self.findings.iter().filter(|f| f.is_no_go()).collect();
        }
        let mut named: Vec<String> = reasons.into_iter().map(Finding::name).collect();
        named.dedup();
        named
    }

    /// The same without secrets: commands of the operator's stand in it as they were typed, answers as they came.
    pub(crate) fn redacted(mut self, redactor: &Redactor) -> Self {
        for finding in &mut self.findings {
            for text in [&mut finding.subject, &mut finding.evidence] {
                *text = redactor.text(text).into_owned();
            }
            for exchange in &mut finding.exchanges {
                exchange.redact(redactor);
            }
        }
        self
    }

    pub(crate) fn json(&self) -> Value {
        let mut document = self.verdict();
        document["findings"] = self.findings.iter().map(Finding::json).collect();
        document
    }

    /// Go or no-go, and why.
    pub(crate) fn verdict(&self) -> Value {
        let mut lines: Vec<u8> = self
            .findings
            .iter()
            .filter(|f| matches!(f.verdict, Verdict::Fail | Verdict::Error) && f.check.line > 0)
            .map(|f| f.check.line)
            .collect();
        lines.sort_unstable();
        lines.dedup();
        json!({
            "verdict": if self.is_go() { "go" } else { "no-go" },
            "failed_lines": lines,
            "reasons": self.reasons(),
        })
    }
}

impl Finding {
    fn name(&self) -> String {
        match self.check.line {
            0 => self.check.code.to_owned(),
            line => format!("line {line} ({})", self.check.code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE_8: Check = Check { code: "profiles.list", line: 8, proves: "", how: "", hint: "" };
    const LINE_9: Check =
        Check { code: "schemas.middlewares", line: 9, proves: "", how: "", hint: "" };

    fn report(findings: Vec<Finding>) -> Report {
        Report { findings }
    }

    #[test]
    fn only_all_pass_is_go() {
        let additions = LINE_9.inconclusive("x").without_additions();
        for (findings, go) in [
            (vec![], false),
            (vec![LINE_8.pass("x")], true),
            (vec![LINE_8.pass("x"), additions.clone()], true),
            (vec![LINE_8.pass("x"), LINE_9.inconclusive("x")], false),
            (vec![LINE_8.pass("x"), LINE_9.fail("x")], false),
            (vec![LINE_8.pass("x"), LINE_9.error("x")], false),
        ] {
            assert_eq!(report(findings).is_go(), go);
        }
    }

    #[test]
    fn the_reason_is_what_failed_and_not_what_hung_on_it() {
        let both = report(vec![LINE_8.fail("gone"), LINE_9.inconclusive("needs line 8")]);
        assert_eq!(both.reasons(), ["line 8 (profiles.list)"]);
        assert_eq!(both.json()["failed_lines"], json!([8]));
        let open = report(vec![LINE_9.inconclusive("x")]);
        assert_eq!(open.reasons(), ["line 9 (schemas.middlewares)"]);
    }
}
