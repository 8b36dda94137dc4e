//! Lines 6, 8, 11, 12 and 13: the profile API is there, lists what is expected, refuses what it must, and keeps the rest.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{
    API_PROFILES, PROFILES_LIST, REFUSE_CONFIG, REFUSE_UNKNOWN, WRITE_PROFILE, schemas::breaking,
};
use crate::ops::verdict::{Check, Finding};
use crate::target::{Answer, Target};

pub(crate) const PROFILES: &str = "/api/chat/profiles";
pub(crate) const CURRENT: &str = "/api/chat/profile";
/// A middleware that no server has.
const NOBODY_S: &str = "ops-check-no-such-middleware";
/// Slugs that evidence names.
const NAMED: usize = 12;

/// Line 6.
pub(crate) async fn mounted(target: &Target) -> Result<Finding> {
    for path in [PROFILES, CURRENT] {
        let answer = target.get(path).await?;
        if matches!(answer.status, 401 | 403) {
            let text = format!("GET {path}: {}; give a token with --token", answer.shown());
            return Ok(API_PROFILES.error(text));
        }
        if answer.status != 200 {
            return Ok(API_PROFILES.fail(format!("GET {path}: {}", answer.shown())));
        }
    }
    Ok(API_PROFILES.pass("both answer 200"))
}

/// The list as `GET /api/chat/profiles` gives it, by slug.
pub(crate) type Listed = BTreeMap<String, Value>;

/// Reads an expected list: what `GET /api/chat/profiles` once answered, or the slugs alone.
///
/// # Errors
/// A file that is missing or holds something else.
pub(crate) fn baseline(path: &std::path::Path) -> Result<Listed> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("--baseline {}", path.display()))?;
    let items: Value =
        serde_json::from_str(&text).with_context(|| format!("--baseline {}", path.display()))?;
    match by_slug(&items) {
        Some(listed) if !listed.is_empty() => Ok(listed),
        _ => bail!(
            "--baseline {}: expected what GET /api/chat/profiles answers, or a list of slugs",
            path.display()
        ),
    }
}

/// None if it is no list of profiles.
fn by_slug(items: &Value) -> Option<Listed> {
    items
        .as_array()?
        .iter()
        .map(|item| match item {
            Value::String(slug) => Some((slug.clone(), Value::Null)),
            item => {
                let slug = item["slug"].as_str().filter(|slug| !slug.is_empty())?;
                Some((slug.to_owned(), item.clone()))
            }
        })
        .collect()
}

/// What a server lists now; none if it does not answer.
pub(crate) async fn current(target: &Target) -> Option<Listed> {
    let answer = target.get(PROFILES).await;
    target.exchanges();
    by_slug(&answer.ok().filter(|answer| answer.status == 200)?.json())
}

/// Line 8.
pub(crate) async fn listed(target: &Target, expected: Option<&Listed>) -> Result<Finding> {
    let answer = target.get(PROFILES).await?;
    let Some(found) = by_slug(&answer.json()).filter(|_| answer.status == 200) else {
        return Ok(PROFILES_LIST.fail(format!("no list of profiles: {}", answer.shown())));
    };
    if found.is_empty() {
        return Ok(PROFILES_LIST.fail("the list is empty"));
    }
    let Some(expected) = expected else {
        return Ok(PROFILES_LIST.pass(format!("{} (no --baseline to compare with)", names(&found))));
    };
    let differences = differences(expected, &found);
    Ok(if differences.is_empty() {
        PROFILES_LIST.pass(format!("as expected: {}", names(&found)))
    } else {
        PROFILES_LIST.fail(differences.join("; "))
    })
}

/// What is missing, unexpected or changed. Of a baseline of slugs the rest is not compared.
pub(crate) fn differences(expected: &Listed, found: &Listed) -> Vec<String> {
    let mut differences = Vec::new();
    for (slug, item) in expected {
        match found.get(slug) {
            None => differences.push(format!("{slug} is missing")),
            Some(now) if !item.is_null() && item != now => {
                differences.push(format!("{slug} is {now}, expected {item}"));
            }
            Some(_) => {}
        }
    }
    let unexpected = found.keys().filter(|slug| !expected.contains_key(*slug));
    differences.extend(unexpected.map(|slug| format!("{slug} is not expected")));
    differences
}

fn names(listed: &Listed) -> String {
    let mut names: Vec<&str> = listed.keys().map(String::as_str).take(NAMED).collect();
    if listed.len() > NAMED {
        names.push("...");
    }
    format!("{} profiles: {}", listed.len(), names.join(", "))
}

/// Line 11.
pub(crate) async fn refuses_unknown(target: &Target, slug: &str) -> Result<Finding> {
    let middlewares = json!([{"name": NOBODY_S}]);
    refused(target, REFUSE_UNKNOWN, slug, middlewares, NOBODY_S).await
}

/// Line 12.
pub(crate) async fn refuses_config(
    target: &Target,
    slug: &str,
    schemas: &[(String, Value)],
) -> Result<Finding> {
    let Some((name, config)) = breaking(schemas) else {
        return Ok(REFUSE_CONFIG.inconclusive("no served schema refuses anything"));
    };
    let about = format!("{name} with {config}");
    refused(target, REFUSE_CONFIG, slug, json!([{"name": name, "config": config}]), &about).await
}

/// A profile with these middlewares is refused with 400 and is not there afterwards.
async fn refused(
    target: &Target,
    check: Check,
    slug: &str,
    middlewares: Value,
    about: &str,
) -> Result<Finding> {
    target.made_profile(slug);
    let body = json!({"slug": slug, "runtime": {"middlewares": middlewares}});
    let answer = target.post(PROFILES, &body).await?;
    if answer.status != 400 {
        return Ok(check.fail(format!("{about}: answered {}, expected 400", answer.shown())));
    }
    let after = target.get(&item(slug)).await?;
    Ok(if after.status == 404 {
        check.pass(format!("{about}: {}", answer.shown()))
    } else {
        check.fail(format!("{about}: refused, but GET answers {}", after.shown()))
    })
}

/// Line 13: makes the two profiles that the chat checks use, and changes the first. A list that was found to be wrong
/// already (line 8) is not looked at again.
pub(crate) async fn writes(target: &Target, slugs: [&str; 2], list_holds: bool) -> Result<Finding> {
    let fail = |doing: &str, answer: &Answer| {
        Ok(WRITE_PROFILE.fail(format!("{doing}: {}", answer.shown())))
    };
    for slug in slugs {
        target.made_profile(slug);
        let prompt = format!("This is a check of the server ({slug}). Answer with one word.");
        let body =
            json!({"slug": slug, "display_name": "Check", "runtime": {"system_prompt": prompt}});
        let answer = target.post(PROFILES, &body).await?;
        if answer.status != 201 {
            return fail(&format!("create {slug}"), &answer);
        }
    }
    let [slug, _] = slugs;
    let patch = json!({"display_name": "Checked", "expected_version": 1});
    let patched = target.patch(&item(slug), &patch).await?;
    if patched.status != 200 {
        return fail(&format!("patch {slug}"), &patched);
    }
    let got = target.get(&item(slug)).await?;
    if got.json()["display_name"] != "Checked" {
        return fail(&format!("GET {slug} does not show the patch"), &got);
    }
    if !list_holds {
        return Ok(WRITE_PROFILE.pass("create and patch are seen by GET; for the list see line 8"));
    }
    let list = target.get(PROFILES).await?;
    let shown = by_slug(&list.json()).unwrap_or_default();
    for (slug, name) in slugs.into_iter().zip(["Checked", "Check"]) {
        if shown.get(slug).is_none_or(|item| item["display_name"] != name) {
            return fail(&format!("the list does not show {slug} as {name}"), &list);
        }
    }
    Ok(WRITE_PROFILE.pass("create and patch are seen by GET and in the list"))
}

pub(crate) fn item(slug: &str) -> String {
    format!("{PROFILES}/{slug}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_baseline_tells_what_is_missing_new_or_changed() {
        let listed = |items| by_slug(&items).unwrap();
        let expected =
            listed(json!([{"slug": "a"}, {"slug": "b", "is_default": true}, {"slug": "c"}]));
        let found = listed(json!([{"slug": "a"}, {"slug": "b"}, {"slug": "d"}]));
        assert_eq!(
            differences(&expected, &found),
            [
                r#"b is {"slug":"b"}, expected {"is_default":true,"slug":"b"}"#,
                "c is missing",
                "d is not expected"
            ]
        );
        assert!(differences(&listed(json!(["a", "b", "d"])), &found).is_empty(), "slugs alone");
        assert!(by_slug(&json!({"items": []})).is_none() && by_slug(&json!([{}])).is_none());
    }
}
