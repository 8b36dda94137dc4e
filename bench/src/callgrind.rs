//! Running valgrind and reading what callgrind wrote.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::server::Running;

/// What a file of callgrind says.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// Instructions.
    pub(crate) total: f64,
    /// Of which the allocator's own, which depend on what the heap has seen before.
    pub(crate) allocator: f64,
    /// Names of all functions that ran.
    pub(crate) functions: Vec<String>,
}

/// The arguments of valgrind.
pub(crate) fn arguments(out: &Path) -> [String; 3] {
    ["--tool=callgrind".into(), "-q".into(), format!("--callgrind-out-file={}", out.display())]
}

/// Tells a running program under callgrind to forget or to write down what it counted.
pub(crate) fn control(order: &str, server: &Running) -> Result<()> {
    let id = server.id().to_string();
    let said = Command::new("callgrind_control").args([order, &id]).output();
    let said = said.context("run callgrind_control (part of valgrind)")?;
    let text = String::from_utf8_lossy(&said.stdout);
    ensure!(said.status.success() && text.contains("OK"), "callgrind_control {order}: {text}");
    Ok(())
}

/// Reads a file (the "profile data format" of callgrind: names are given once and numbered, the line after `calls=` is
/// the cost of the call, all other lines of numbers are a function's own cost).
pub(crate) fn read(out: &Path) -> Result<Counted> {
    let text = std::fs::read_to_string(out).with_context(|| format!("read {}", out.display()))?;
    let counted = parse(&text);
    ensure!(
        counted.total > 0.0,
        "callgrind collected nothing: is the measured function's name kept?"
    );
    Ok(counted)
}

fn parse(text: &str) -> Counted {
    let mut counted = Counted::default();
    let mut names: HashMap<&str, &str> = HashMap::new();
    let mut current = "";
    let mut is_call_cost = false;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("fn=") {
            current = name(rest, &mut names);
        } else if let Some(rest) = line.strip_prefix("cfn=") {
            name(rest, &mut names);
        } else if line.starts_with("calls=") {
            is_call_cost = true;
        } else if line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c)) {
            let cost: f64 = line.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0.0);
            if !std::mem::take(&mut is_call_cost) {
                counted.total += cost;
                counted.allocator += if is_allocator(current) { cost } else { 0.0 };
            }
        }
    }
    counted.functions = names.into_values().map(str::to_owned).collect();
    counted
}

/// `(7) malloc` names number 7, `(7)` means it.
fn name<'a>(text: &'a str, names: &mut HashMap<&'a str, &'a str>) -> &'a str {
    let (number, given) = text.split_once(' ').unwrap_or((text, ""));
    if !given.is_empty() {
        names.insert(number, given);
    }
    names.get(number).copied().unwrap_or_default()
}

fn is_allocator(function: &str) -> bool {
    const OWN: [&str; 12] = [
        "malloc",
        "free",
        "calloc",
        "realloc",
        "_int_malloc",
        "_int_free",
        "_int_realloc",
        "malloc_consolidate",
        "unlink_chunk",
        "sysmalloc",
        "systrim",
        "_int_free_merge_chunk",
    ];
    OWN.contains(&function.split('.').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #[test]
    fn own_cost_is_told_from_the_cost_of_calls() {
        let counted = super::parse(
            "events: Ir\nfl=(1) a.c\nfn=(1) work\n10 5\ncfn=(2) malloc\ncalls=3 0\n+1 90\n+1 7\n\nfn=(2)\n* 80\n\
             fn=(3) unlink_chunk.constprop.0\n0 10\ntotals: 102\n",
        );
        assert_eq!(format!("{} {}", counted.total, counted.allocator), "102 90");
    }
}
