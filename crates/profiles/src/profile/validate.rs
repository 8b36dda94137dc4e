//! The rules of a profile (chapter 10 §4, decisions 10, 14, 40), in their fixed order, all problems collected.

use std::collections::HashMap;

use super::{Policy, Profile, Runtime};
use crate::catalog::Catalog;
use crate::error::Problem;
use crate::json;
use crate::quote::quote;
use crate::settings;

/// Longest display name, in bytes.
pub const MAX_DISPLAY_NAME: usize = 256;
/// Longest description, in bytes.
pub const MAX_DESCRIPTION: usize = 16 * 1024;
/// Longest system prompt, in bytes.
pub const MAX_SYSTEM_PROMPT: usize = 256 * 1024;
/// Most uses of middlewares.
pub const MAX_MIDDLEWARES: usize = 64;
/// Most names of tools.
pub const MAX_TOOLS: usize = 128;
/// Most tags.
pub const MAX_TAGS: usize = 64;
/// Most extensions.
pub const MAX_EXTENSIONS: usize = 64;
/// Largest stored document, in bytes.
pub const MAX_DOCUMENT: usize = 512 * 1024;
/// Most profiles of one registry.
pub const MAX_PROFILES: usize = 20_000;
/// Longest note of a change, in bytes.
pub const MAX_NOTE: usize = 500;

const EMPTY: &str = "must not be empty";

/// The rules that every stored profile keeps (chapter 10 §4, rows 4 to 10; the others hold by type).
pub fn check(profile: &Profile, problems: &mut Vec<Problem>) {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (i, middleware) in profile.runtime.middlewares.iter().enumerate() {
        if middleware.name.trim().is_empty() {
            problems.push(blank(format!("runtime.middlewares[{i}].name")));
        }
        let id = middleware.id.trim();
        if id.is_empty() {
            if !middleware.id.is_empty() {
                problems.push(blank(format!("runtime.middlewares[{i}].id")));
            }
        } else if let Some(first) = seen.get(id) {
            let quoted = quote(id);
            let reason = format!(
                "duplicate middleware instance id {quoted} (first seen at runtime.middlewares[{first}].id)"
            );
            let field = format!("runtime.middlewares[{i}].id");
            problems.push(Problem::new(field, reason).keyword("duplicate"));
        } else {
            seen.insert(id, i);
        }
    }
    let blanks = |list: &[String], field: &str, problems: &mut Vec<Problem>| {
        for (i, _) in list.iter().enumerate().filter(|(_, text)| text.trim().is_empty()) {
            problems.push(blank(format!("{field}[{i}]")));
        }
    };
    blanks(profile.runtime.tools.as_deref().unwrap_or_default(), "runtime.tools", problems);
    blanks(&profile.policy.allowed_override_keys, "policy.allowed_override_keys", problems);
    blanks(&profile.policy.denied_override_keys, "policy.denied_override_keys", problems);
    check_override_keys(&profile.policy, problems);
}

fn check_override_keys(policy: &Policy, problems: &mut Vec<Problem>) {
    for denied in &policy.denied_override_keys {
        let denied = denied.trim();
        if !denied.is_empty() && policy.allowed_override_keys.iter().any(|k| k.trim() == denied) {
            let reason = format!("key {} appears in both allow and deny lists", quote(denied));
            problems.push(Problem::new("policy.override_keys", reason).keyword("conflict"));
        }
    }
}

/// The newer rules of a runtime that somebody writes now: known tools, known settings, no secrets (decisions 10 and 15).
pub fn check_runtime(runtime: &Runtime, catalog: &Catalog, problems: &mut Vec<Problem>) {
    for (i, tool) in runtime.tools.iter().flatten().enumerate() {
        let name = tool.trim();
        if !name.is_empty() && !catalog.knows_tool(name) {
            let reason = format!("unknown tool {}", quote(name));
            problems.push(Problem::new(format!("runtime.tools[{i}]"), reason).keyword("unknown"));
        }
    }
    settings::check_patch(&runtime.step_settings_patch, catalog.allows_local_providers(), problems);
}

/// The limits of decision 40; `size` is that of the profile's content.
pub fn check_limits(profile: &Profile, size: usize, problems: &mut Vec<Problem>) {
    let runtime = &profile.runtime;
    let tools = runtime.tools.as_ref().map_or(0, Vec::len);
    for (field, actual, most, unit) in [
        ("display_name", profile.display_name.len(), MAX_DISPLAY_NAME, "bytes"),
        ("description", profile.description.len(), MAX_DESCRIPTION, "bytes"),
        ("runtime.system_prompt", runtime.system_prompt.len(), MAX_SYSTEM_PROMPT, "bytes"),
        ("runtime.middlewares", runtime.middlewares.len(), MAX_MIDDLEWARES, "items"),
        ("runtime.tools", tools, MAX_TOOLS, "items"),
        ("metadata.tags", profile.metadata.tags.len(), MAX_TAGS, "items"),
        ("extensions", profile.extensions.len(), MAX_EXTENSIONS, "items"),
        ("profile", size, MAX_DOCUMENT, "bytes"),
    ] {
        if actual > most {
            problems.push(too_much(field, most, unit));
        }
    }
    let settings = runtime.step_settings_patch.values().map(json::depth).max().unwrap_or(0);
    if settings > json::MAX_DEPTH {
        let reason = format!("must be at most {} levels deep", json::MAX_DEPTH);
        problems.push(Problem::new("runtime.step_settings_patch", reason).keyword("limit"));
    }
}

/// A limit that is exceeded.
#[must_use]
pub fn too_much(field: &str, most: usize, unit: &str) -> Problem {
    Problem::new(field, format!("must be at most {most} {unit}")).keyword("limit")
}

fn blank(field: String) -> Problem {
    Problem::new(field, EMPTY).keyword("minLength")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::ids::ProfileSlug;
    use crate::profile::{Extensions, Metadata, MiddlewareUse};

    pub(crate) fn profile(slug: &str) -> Profile {
        Profile {
            slug: ProfileSlug::parse(slug).unwrap(),
            display_name: String::new(),
            description: String::new(),
            runtime: Runtime::default(),
            policy: Policy::default(),
            metadata: Metadata::default(),
            extensions: Extensions::new(),
        }
    }

    fn used(name: &str, id: &str) -> MiddlewareUse {
        MiddlewareUse { name: name.into(), id: id.into(), ..MiddlewareUse::default() }
    }

    fn texts(profile: &Profile) -> Vec<String> {
        let mut problems = Vec::new();
        check(profile, &mut problems);
        check_limits(profile, profile.content().size(), &mut problems);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules_report_in_their_fixed_order() {
        let mut p = profile("a");
        p.runtime.middlewares = vec![used(" ", "x"), used("m", " "), used("n", "x")];
        p.runtime.tools = Some(vec!["ok".into(), " ".into()]);
        p.policy.allowed_override_keys = vec!["k".into(), String::new()];
        p.policy.denied_override_keys = vec![" k ".into(), String::new()];
        assert_eq!(
            texts(&p),
            [
                "validation error (runtime.middlewares[0].name): must not be empty",
                "validation error (runtime.middlewares[1].id): must not be empty",
                "validation error (runtime.middlewares[2].id): duplicate middleware instance id \"x\" (first seen at runtime.middlewares[0].id)",
                "validation error (runtime.tools[1]): must not be empty",
                "validation error (policy.allowed_override_keys[1]): must not be empty",
                "validation error (policy.denied_override_keys[1]): must not be empty",
                "validation error (policy.override_keys): key \"k\" appears in both allow and deny lists",
            ]
        );
    }

    #[test]
    fn c10_d15_sizes_and_counts_have_limits() {
        let mut p = profile("a");
        p.display_name = "x".repeat(MAX_DISPLAY_NAME);
        p.runtime.tools = Some(vec!["t".into(); MAX_TOOLS]);
        assert!(texts(&p).is_empty());
        p.display_name.push('x');
        p.runtime.tools = Some(vec!["t".into(); MAX_TOOLS + 1]);
        p.metadata.tags = vec!["t".into(); MAX_TAGS + 1];
        p.runtime.system_prompt = "x".repeat(MAX_SYSTEM_PROMPT + 1);
        p.description = "x".repeat(MAX_DESCRIPTION + 1);
        p.runtime.middlewares =
            (0..=MAX_MIDDLEWARES).map(|i| used("m", &format!("i{i}"))).collect();
        assert_eq!(
            texts(&p),
            [
                "validation error (display_name): must be at most 256 bytes",
                "validation error (description): must be at most 16384 bytes",
                "validation error (runtime.system_prompt): must be at most 262144 bytes",
                "validation error (runtime.middlewares): must be at most 64 items",
                "validation error (runtime.tools): must be at most 128 items",
                "validation error (metadata.tags): must be at most 64 items",
            ]
        );
    }
}
