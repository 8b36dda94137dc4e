//! Findings for people (a table with hints), programs (JSON) and build servers (`JUnit`).

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use clap::ArgMatches;

use super::session::Session;
use super::verdict::{Finding, Report, Verdict, anchor};
use crate::output::print;
use crate::redact::Redactor;

/// Prints a report.
pub(crate) fn report(matches: &ArgMatches, report: &Report) {
    let report = &report.clone().redacted(&Redactor::of_environment(None));
    super::session::clear();
    let format = matches.get_one::<String>("output").map_or("table", String::as_str);
    said(&match format {
        "json" => format!("{:#}\n", report.json()),
        // The findings were told as they came.
        "jsonl" => format!("{}\n", report.verdict()),
        "junit" => junit(report),
        _ => table(report, std::io::stdout().is_terminal()),
    });
}

/// Tells a finding as it comes, to whoever asked for that.
pub(crate) fn found(session: &Session, finding: &Finding) {
    if session.tells_findings {
        let report = Report::from(finding.clone()).redacted(&Redactor::of_environment(None));
        for finding in &report.findings {
            said(&format!("{}\n", finding.json()));
        }
    }
}

/// Prints; the verdict counts also where its text cannot be written.
#[expect(clippy::print_stderr, reason = "there is nowhere else to say it")]
pub(crate) fn said(text: &str) {
    if let Err(error) = print(text) {
        eprintln!("collodi: {error:#}");
    }
}

fn table(report: &Report, colour: bool) -> String {
    let paint = |verdict: Verdict, text: &str| {
        let code = match verdict {
            Verdict::Pass => "32",
            Verdict::Fail => "31;1",
            Verdict::Inconclusive => "33",
            Verdict::Error => "35",
        };
        if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    };
    let mut out = String::new();
    let mut subject = None;
    // Writing to a String does not fail.
    for finding in &report.findings {
        if subject != Some(&finding.subject) {
            let _ = writeln!(out, "{}", finding.subject);
            subject = Some(&finding.subject);
        }
        let line = match finding.check.line {
            0 => String::new(),
            line => line.to_string(),
        };
        let verdict = paint(finding.verdict, &format!("{:<12}", finding.verdict.as_str()));
        let _ = writeln!(
            out,
            "  {line:>2}  {verdict}  {:<26} {}",
            finding.check.code,
            one_line(&finding.evidence)
        );
        if matches!(finding.verdict, Verdict::Fail | Verdict::Error) {
            let _ = writeln!(out, "{:20}what to do: {}", "", finding.check.hint);
            let place = anchor(finding.check.code);
            let _ = writeln!(out, "{:20}more: docs/operating.md#{place}", "");
        } else if finding.verdict == Verdict::Inconclusive && !finding.is_no_go() {
            let _ = writeln!(out, "{:20}does not count: the target lacks what it needs", "");
        }
    }
    if report.is_go() {
        let _ = writeln!(out, "{}", paint(Verdict::Pass, "GO"));
    } else {
        let reasons = report.reasons().join(", ");
        let _ = writeln!(out, "{}: {reasons}", paint(Verdict::Fail, "NO-GO"));
    }
    out
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn junit(report: &Report) -> String {
    let mut suites: Vec<(&str, Vec<&Finding>)> = Vec::new();
    for finding in &report.findings {
        match suites.last_mut() {
            Some((subject, cases)) if *subject == finding.subject => cases.push(finding),
            _ => suites.push((&finding.subject, vec![finding])),
        }
    }
    let count = |cases: &[&Finding], is: fn(&Finding) -> bool| {
        cases.iter().filter(|finding| is(finding)).count()
    };
    let is_failure = |f: &Finding| f.is_no_go() && f.verdict != Verdict::Error;
    let is_error = |f: &Finding| f.verdict == Verdict::Error;
    let is_skipped = |f: &Finding| f.verdict == Verdict::Inconclusive && !f.is_no_go();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for (subject, cases) in &suites {
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\">",
            xml(subject),
            cases.len(),
            count(cases, is_failure),
            count(cases, is_error),
            count(cases, is_skipped)
        );
        for finding in cases {
            let seconds = std::time::Duration::from_millis(finding.took_ms).as_secs_f64();
            let name = format!("line {} {}", finding.check.line, finding.check.proves);
            let _ = write!(
                out,
                "    <testcase classname=\"{}\" name=\"{}\" time=\"{seconds:.3}\">",
                xml(finding.check.code),
                xml(&name)
            );
            let evidence = xml(&finding.evidence);
            let hint = xml(finding.check.hint);
            let _ = match finding.verdict {
                Verdict::Pass => write!(out, "<system-out>{evidence}</system-out>"),
                Verdict::Error => write!(out, "<error message=\"{evidence}\">{hint}</error>"),
                _ if is_skipped(finding) => write!(out, "<skipped message=\"{evidence}\"/>"),
                _ => write!(out, "<failure message=\"{evidence}\">{hint}</failure>"),
            };
            out.push_str("</testcase>\n");
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

/// Text inside an attribute or an element. Characters that XML cannot hold are left out.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\r' | '\t' => out.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::verdict::Check;

    const CHECK: Check = Check {
        code: "profiles.list",
        line: 8,
        proves: "The list is \"expected\"",
        how: "",
        hint: "Look <here>",
    };

    fn mixed() -> Report {
        let findings = vec![
            CHECK.pass("2 profiles").of("http://a"),
            CHECK.fail("a & b\u{0}\nmissing").of("http://a"),
            CHECK.inconclusive("no release").of("http://b").without_additions(),
        ];
        Report { findings }
    }

    #[test]
    fn junit_counts_and_escapes() {
        let text = junit(&mixed());
        for part in [
            "<testsuite name=\"http://a\" tests=\"2\" failures=\"1\" errors=\"0\" skipped=\"0\">",
            "<testsuite name=\"http://b\" tests=\"1\" failures=\"0\" errors=\"0\" skipped=\"1\">",
            "name=\"line 8 The list is &quot;expected&quot;\"",
            "<failure message=\"a &amp; b missing\">Look &lt;here&gt;</failure>",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn the_table_ends_with_the_verdict_and_its_reason() {
        let text = table(&mixed(), false);
        assert!(text.ends_with("NO-GO: line 8 (profiles.list)\n"), "{text}");
        assert!(text.contains("what to do: Look <here>"));
        assert!(text.contains("does not count"));
        assert!(!text.contains('\u{1b}'));
    }
}
