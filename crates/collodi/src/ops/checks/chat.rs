//! Lines 14, 15 and 16: prompts run under the profile that was chosen, also after a switch.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use reqwest::Method;
use reqwest::header::SET_COOKIE;
use serde_json::{Value, json};

use super::profiles::CURRENT;
use super::{CHAT_PROFILE, CHAT_SWITCH, SELECT_COOKIE};
use crate::ops::verdict::{Check, Finding};
use crate::target::{Answer, Target};

/// How long an answer may take, the model included.
const PATIENCE: Duration = Duration::from_mins(2);
const PROMPT: &str = "Say ok.";

/// One prompt of a check, asked for again until its answer has ended.
struct Turn<'a> {
    path: String,
    conv_id: &'a str,
    key: String,
    cookie: Option<String>,
}

/// How a turn ended.
struct Ended {
    /// `completed`, or how else.
    status: String,
    error: String,
    turn_id: String,
    /// Under which profile, as far as it can be told.
    runtime_key: Option<String>,
}

impl Turn<'_> {
    /// Sends the prompt; the same key asks for the same turn.
    async fn send(&self, target: &Target) -> Result<Answer> {
        target.made_conversation(self.conv_id);
        let body = json!({"conv_id": self.conv_id, "prompt": PROMPT, "idempotency_key": self.key});
        let cookie = self.cookie.as_deref().map(|cookie| ("cookie", cookie));
        target.send(Method::POST, &self.path, Some(&body), cookie.as_slice()).await
    }

    /// Sends the prompt and waits for the end of its answer.
    ///
    /// # Errors
    /// A refusal, an answer that is none, or one that does not end in time.
    async fn run(&self, target: &Target) -> Result<Ended> {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(20);
        loop {
            let answer = self.send(target).await?;
            if !matches!(answer.status, 200 | 202) {
                bail!("POST {}: {}", self.path, answer.shown());
            }
            let body = answer.json();
            let status = body["status"].as_str().unwrap_or_default().to_owned();
            if !matches!(status.as_str(), "started" | "queued" | "running") {
                return self.ended(target, status, &body).await;
            }
            if begun.elapsed() > PATIENCE {
                bail!("POST {}: no end of the answer within {} s", self.path, PATIENCE.as_secs());
            }
            // The contract has no other way to wait that every proxy lets through.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    async fn ended(&self, target: &Target, status: String, body: &Value) -> Result<Ended> {
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        let turn_id = text("turn_id");
        let runtime_key = match body["runtime_key"].as_str() {
            Some(key) => Some(key.to_owned()),
            None => stored_runtime(target, self.conv_id, &turn_id).await?,
        };
        Ok(Ended { status, error: text("error"), turn_id, runtime_key })
    }
}

/// What the debug API says about a turn, where it is on.
async fn stored_runtime(target: &Target, conv_id: &str, turn_id: &str) -> Result<Option<String>> {
    let answer = target.get(&format!("/api/debug/turns?conv_id={conv_id}")).await?.json();
    let turns = answer["items"].as_array().into_iter().flatten();
    let mut of_turn = turns.filter(|turn| turn["turn_id"] == turn_id);
    Ok(of_turn.find_map(|turn| turn["runtime_key"].as_str().map(str::to_owned)))
}

/// The turn ended well, under this profile.
fn under(check: Check, ended: &Ended, slug: &str, additions: bool) -> Finding {
    if ended.status != "completed" {
        let text = format!("turn {} ended as {}: {}", ended.turn_id, ended.status, ended.error);
        return check.fail(text);
    }
    match ended.runtime_key.as_deref() {
        Some(key) if key == slug => {
            check.pass(format!("turn {} ran under {slug} and ended", ended.turn_id))
        }
        Some(key) => check.fail(format!("turn {} ran under {key}, not {slug}", ended.turn_id)),
        None if additions => check.fail(format!("turn {} has no runtime key", ended.turn_id)),
        None => check
            .inconclusive("the turn ended; under which profile it ran is not told")
            .without_additions(),
    }
}

/// Line 14.
pub(crate) async fn select(
    target: &Target,
    slug: &str,
    conv_id: &str,
    additions: bool,
) -> Result<Finding> {
    let chosen = target.post(CURRENT, &json!({"slug": slug})).await?;
    if chosen.status != 200 || chosen.json()["slug"] != slug {
        return Ok(SELECT_COOKIE.fail(format!("POST {CURRENT}: {}", chosen.shown())));
    }
    let cookie = chosen.headers.get(SET_COOKIE).and_then(|value| value.to_str().ok());
    let Some(cookie) = cookie.and_then(|value| value.split(';').next()).map(str::to_owned) else {
        return Ok(SELECT_COOKIE.fail(format!("POST {CURRENT} sets no cookie")));
    };
    let current = target.send(Method::GET, CURRENT, None, &[("cookie", &cookie)]).await?;
    if current.json()["slug"] != slug {
        let text = format!("GET {CURRENT} with the cookie: {}", current.shown());
        return Ok(SELECT_COOKIE.fail(text));
    }
    let turn = Turn {
        path: "/chat".into(),
        conv_id,
        key: format!("{conv_id}-cookie"),
        cookie: Some(cookie),
    };
    match turn.run(target).await {
        Ok(ended) => Ok(under(SELECT_COOKIE, &ended, slug, additions)),
        Err(error) => Ok(SELECT_COOKIE.fail(format!("{error:#}"))),
    }
}

fn first<'a>(slug: &str, conv_id: &'a str) -> Turn<'a> {
    let path = format!("/chat/{slug}");
    Turn { path, conv_id, key: format!("{conv_id}-first"), cookie: None }
}

/// Line 15.
pub(crate) async fn explicit(
    target: &Target,
    slug: &str,
    conv_id: &str,
    additions: bool,
) -> Result<Finding> {
    match first(slug, conv_id).run(target).await {
        Ok(ended) => Ok(under(CHAT_PROFILE, &ended, slug, additions)),
        Err(error) => Ok(CHAT_PROFILE.fail(format!("{error:#}"))),
    }
}

/// Line 16, in the conversation of line 15.
pub(crate) async fn switched(
    target: &Target,
    [before, after]: [&str; 2],
    conv_id: &str,
    additions: bool,
) -> Result<Finding> {
    let path = format!("/chat/{after}");
    let second = Turn { path, conv_id, key: format!("{conv_id}-second"), cookie: None };
    let ended = match second.run(target).await {
        Ok(ended) => ended,
        Err(error) => return Ok(CHAT_SWITCH.fail(format!("{error:#}"))),
    };
    let now = under(CHAT_SWITCH, &ended, after, additions);
    if now.verdict != crate::ops::verdict::Verdict::Pass {
        return Ok(now);
    }
    let earlier = match first(before, conv_id).run(target).await {
        Ok(earlier) => earlier,
        Err(error) => return Ok(CHAT_SWITCH.fail(format!("the first turn: {error:#}"))),
    };
    let kept = under(CHAT_SWITCH, &earlier, before, additions);
    Ok(match kept.verdict {
        crate::ops::verdict::Verdict::Pass => {
            CHAT_SWITCH.pass(format!("{}; {}", now.evidence, kept.evidence))
        }
        _ => kept,
    })
}
