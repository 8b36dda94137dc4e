//! Replays the recorded walk of the reference over the profile, schema and cookie endpoints. Wherever we answer
//! otherwise, the decision that says so is named here; a difference without a decision fails, and so does a decision
//! that no longer makes a difference.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::app::TestApp;
use crate::client::Answer;

const BUILT_IN: &str = "decision 11: built-ins have version 1, times and authors";
const NO_INLINE: &str = "decision 9, chapter 10 D13: inline config is an extension from the start";
const KEPT: &str = "decision 9: config that the new map does not mention is kept";
const STORED: &str = "decision 11: the conflict names the stored version";
const NULL: &str = "decision 8: a body of null is a bad request";

/// Exchange (counted from 0), where in the answer it differs, and why.
const DIFFERENCES: &[(usize, &str, &str)] = &[
    (0, "/body/0/version", BUILT_IN),
    (0, "/body/0/extensions", NO_INLINE),
    (0, "/body/1/version", BUILT_IN),
    (1, "/body/metadata/created_at_ms", BUILT_IN),
    (1, "/body/metadata/created_by", BUILT_IN),
    (1, "/body/metadata/source", BUILT_IN),
    (1, "/body/metadata/updated_at_ms", BUILT_IN),
    (1, "/body/metadata/updated_by", BUILT_IN),
    (1, "/body/metadata/version", BUILT_IN),
    (2, "/body/metadata/created_at_ms", BUILT_IN),
    (2, "/body/metadata/created_by", BUILT_IN),
    (2, "/body/metadata/source", BUILT_IN),
    (2, "/body/metadata/updated_at_ms", BUILT_IN),
    (2, "/body/metadata/updated_by", BUILT_IN),
    (2, "/body/metadata/version", BUILT_IN),
    (2, "/body/extensions", NO_INLINE),
    (2, "/body/runtime/middlewares/0/config", NO_INLINE),
    (10, "/body/0/version", BUILT_IN),
    (10, "/body/0/extensions", NO_INLINE),
    (10, "/body/2/version", BUILT_IN),
    (14, "/body/extensions/middleware.agentmode_config@v1/instances/id:primary/default_mode", KEPT),
    (14, "/body/extensions/middleware.sqlite_config@v1", KEPT),
    (15, "/body/extensions/middleware.agentmode_config@v1/instances/id:primary/default_mode", KEPT),
    (15, "/body/extensions/middleware.sqlite_config@v1", KEPT),
    (19, "/body", STORED),
    (32, "/body", NULL),
    (36, "/body/metadata/created_at_ms", BUILT_IN),
    (36, "/body/metadata/created_by", BUILT_IN),
    (36, "/body/metadata/source", BUILT_IN),
    (36, "/body/metadata/updated_at_ms", BUILT_IN),
    (36, "/body/metadata/updated_by", BUILT_IN),
    (36, "/body/metadata/version", BUILT_IN),
];

#[tokio::test]
async fn the_recorded_walk_is_answered_as_recorded_or_as_decided() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/transcripts/profile-api.json");
    let text = std::fs::read_to_string(&path).expect("the transcript is part of the repository");
    let transcript: Value = serde_json::from_str(&text).expect("the transcript is JSON");
    let steps = transcript["steps"].as_array().expect("the transcript has steps");
    assert_eq!(steps.len(), 57, "the whole transcript is there");

    let app = TestApp::start().await;
    let mut undecided = Vec::new();
    let mut decided = BTreeSet::new();
    for (number, step) in steps.iter().enumerate() {
        let answer = replay(&app, &step["request"]).await;
        for (place, what) in differences(&step["response"], &answer) {
            if DIFFERENCES.iter().any(|(n, p, _)| (*n, *p) == (number, place.as_str())) {
                decided.insert((number, place));
            } else {
                let request = &step["request"];
                let shown = format!("{} {}", request["method"], request["path"]);
                undecided.push(format!("{number} {shown} {place}: {what}"));
            }
        }
    }
    assert!(undecided.is_empty(), "differences that nobody decided:\n{}", undecided.join("\n"));
    let unused: Vec<_> =
        DIFFERENCES.iter().filter(|(n, p, _)| !decided.contains(&(*n, (*p).to_owned()))).collect();
    assert!(unused.is_empty(), "decided differences that do not occur: {unused:#?}");
}

async fn replay(app: &TestApp, request: &Value) -> Answer {
    let text = |key: &str| request[key].as_str().expect("text");
    let mut call = app.call(text("method"), text("path"));
    for (name, value) in request["headers"].as_object().into_iter().flatten() {
        call = call.header(name, value.as_str().expect("text"));
    }
    if let Some(body) = request.get("body") {
        call = call.json(body);
    } else if let Some(raw) = request.get("raw") {
        call = call.header("Content-Type", "application/json").raw(raw.as_str().expect("text"));
    }
    call.send().await
}

/// Where the answer is not the recorded one, and how.
fn differences(recorded: &Value, answer: &Answer) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if recorded["status"] != answer.status {
        found.push(("/status".into(), format!("{} became {}", recorded["status"], answer.status)));
    }
    for name in ["content-type", "set-cookie"] {
        let (was, is) = (recorded["headers"][name].as_str(), answer.header(name));
        if was != is {
            found.push((format!("/headers/{name}"), format!("{was:?} became {is:?}")));
        }
    }
    let body = if recorded["body"].is_string() {
        Value::String(answer.text())
    } else {
        serde_json::from_slice(&answer.body).unwrap_or_else(|_| Value::String(answer.text()))
    };
    compare("/body", &recorded["body"], &body, &mut found);
    found
}

fn compare(place: &str, was: &Value, is: &Value, found: &mut Vec<(String, String)>) {
    match (was, is) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let place = format!("{place}/{key}");
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => compare(&place, a, b, found),
                    (Some(_), None) => found.push((place, "is gone".into())),
                    (None, b) => found.push((place, format!("is new: {b:?}"))),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{place}/{i}"), a, b, found);
            }
        }
        (Value::String(token), is) if is_placeholder(token) => {
            let fits = match token.as_str() {
                "<wording free>" => is.as_str().is_some_and(|text| !text.trim().is_empty()),
                token if token.ends_with(":number>") => is.as_u64().is_some_and(|n| n > 0),
                _ => is.is_string(),
            };
            if !fits {
                found.push((place.into(), format!("{token} became {is}")));
            }
        }
        _ if was == is => {}
        _ => found.push((place.into(), format!("{was} became {is}"))),
    }
}

fn is_placeholder(text: &str) -> bool {
    text.starts_with('<') && text.ends_with('>')
}
