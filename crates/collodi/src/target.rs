//! A server under check, over its public API and nothing else: what was asked and answered is kept as evidence.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderValue};
use serde::Serialize;
use serde_json::Value;

use crate::redact::{MASK, Redactor};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// And where large files go there and back.
const LONG_PATIENCE: Duration = Duration::from_mins(2);
/// Most bytes of an answer that are read; a list of 20,000 profiles is smaller.
const MOST: usize = 64 * 1024 * 1024;
/// Most bytes of an answer that are kept as evidence.
const SHOWN: usize = 16 * 1024;
/// Headers that say something about a check.
const TELLING: [&str; 7] = [
    "content-type",
    "set-cookie",
    "etag",
    "x-registry-version",
    "x-request-id",
    "www-authenticate",
    "location",
];

/// A request and what was answered; the token is not in it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Exchange {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) body: Option<Value>,
    /// 0 when there was no answer.
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    /// Text, or JSON if it is.
    pub(crate) answer: Value,
    pub(crate) took_ms: u64,
}

impl Exchange {
    /// Takes out what an answer may have repeated.
    pub(crate) fn redact(&mut self, redactor: &Redactor) {
        self.url = redactor.text(&self.url).into_owned();
        redactor.json(&mut self.answer);
        if let Some(body) = &mut self.body {
            redactor.json(body);
        }
        for (_, value) in self.headers.iter_mut().filter(|(name, _)| name == "set-cookie") {
            MASK.clone_into(value);
        }
    }
}

/// One server.
pub(crate) struct Target {
    /// Without a slash at the end.
    url: String,
    client: reqwest::Client,
    token: Option<String>,
    /// Refusals are asked for as documents with all problems.
    documents: bool,
    kept: Mutex<Vec<Exchange>>,
    made: Mutex<Made>,
}

/// What checks may have made there, so that it can be taken away again whatever happens to them.
#[derive(Default)]
struct Made {
    profiles: Vec<String>,
    conversations: Vec<String>,
}

/// What was answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// The body as JSON; null if it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// Status and the first line of the text.
    pub(crate) fn shown(&self) -> String {
        let line = self.text.trim().lines().next().unwrap_or_default();
        let line: String = line.chars().take(200).collect();
        format!("{} {line}", self.status).trim().to_owned()
    }

    /// What a refusal says, with everything that is wrong.
    pub(crate) fn problem(&self) -> String {
        let document = self.json();
        let problems = document["problems"].as_array().cloned().unwrap_or_default();
        let text = |key: &str, of: &Value| of[key].as_str().unwrap_or_default().to_owned();
        if problems.len() > 1 {
            let lines =
                problems.iter().map(|p| format!("{}: {}", text("field", p), text("message", p)));
            return format!(
                "{} problems\n  {}",
                problems.len(),
                lines.collect::<Vec<_>>().join("\n  ")
            );
        }
        match text("detail", &document) {
            detail if detail.is_empty() => self.shown(),
            detail => detail,
        }
    }
}

impl Target {
    /// # Errors
    /// An address that is none.
    pub(crate) fn new(url: &str, token: Option<String>) -> Result<Self> {
        let parsed = reqwest::Url::parse(url).ok();
        if parsed.as_ref().is_some_and(|url| url.password().is_some() || !url.username().is_empty())
        {
            bail!(
                "--target: an address holds no password here; give it with --token or COLLODI_TOKEN"
            );
        }
        if parsed.is_none_or(|url| !["http", "https"].contains(&url.scheme()) || !url.has_host()) {
            bail!("--target {url}: an address begins with http:// or https://");
        }
        // A redirect could lead the token elsewhere, and is no answer of the contract.
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(PATIENCE)
            .no_proxy()
            .build()?;
        let url = url.trim_end_matches('/').to_owned();
        let (kept, made) = (Mutex::default(), Mutex::default());
        Ok(Self { url, client, token, documents: false, kept, made })
    }

    /// Asks for refusals with everything that is wrong, in place of the contract's texts.
    pub(crate) fn with_documents(mut self) -> Self {
        self.documents = true;
        self
    }

    /// Its address as it was given.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Answer> {
        self.send(Method::GET, path, None, &[]).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::POST, path, Some(body), &[]).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::PATCH, path, Some(body), &[]).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<Answer> {
        self.send(Method::DELETE, path, None, &[]).await
    }

    /// Asks once.
    ///
    /// # Errors
    /// No answer: refused, too slow, cut. What was asked may have been done all the same.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Answer> {
        let url = format!("{}{path}", self.url);
        let patience = if self.documents { LONG_PATIENCE } else { PATIENCE };
        let mut request = self.client.request(method.clone(), &url).timeout(patience);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        if self.documents {
            request = request.header("accept", "application/problem+json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
            value.set_sensitive(true);
            request = request.header("authorization", value);
        }
        let begun = Instant::now();
        let answer = read(request).await.with_context(|| format!("{method} {url}"));
        let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (status, headers, text) = match &answer {
            Ok(answer) => (answer.status, telling(&answer.headers), answer.text.as_str()),
            Err(_) => (0, Vec::new(), ""),
        };
        lock(&self.kept).push(Exchange {
            method: method.to_string(),
            url,
            body: body.cloned(),
            status,
            headers,
            answer: shown(text),
            took_ms,
        });
        answer
    }

    /// What was asked since the last call.
    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        std::mem::take(&mut lock(&self.kept))
    }

    /// This profile is about to be made.
    pub(crate) fn made_profile(&self, slug: &str) {
        remember(&mut lock(&self.made).profiles, slug);
    }

    /// This conversation is about to be made.
    pub(crate) fn made_conversation(&self, conv_id: &str) {
        remember(&mut lock(&self.made).conversations, conv_id);
    }

    /// Deletes everything that was made; conversations only where the server can do that.
    ///
    /// # Errors
    /// What could not be deleted, by name.
    pub(crate) async fn clean_up(&self, deletes_conversations: bool) -> Result<String> {
        let Made { profiles, conversations } = std::mem::take(&mut *lock(&self.made));
        let (mut left, mut deleted) = (Vec::new(), 0);
        for slug in &profiles {
            match self.delete(&format!("/api/chat/profiles/{slug}")).await {
                Ok(answer) if answer.status == 204 => deleted += 1,
                Ok(answer) if answer.status == 404 => {}
                _ => left.push(slug.as_str()),
            }
        }
        if deletes_conversations {
            for conv_id in &conversations {
                if !self.forget(conv_id).await {
                    left.push(conv_id);
                }
            }
        }
        if !left.is_empty() {
            bail!("not deleted: {}", left.join(", "));
        }
        let kept = match (deletes_conversations, &conversations[..]) {
            (true, _) | (_, []) => String::new(),
            _ => format!(
                "; the contract cannot delete the conversations {}",
                conversations.join(", ")
            ),
        };
        Ok(format!("{deleted} profiles deleted{kept}"))
    }

    /// Deletes a conversation, which must not run.
    async fn forget(&self, conv_id: &str) -> bool {
        let path = format!("/api/chat/conversations/{conv_id}");
        for _ in 0..20 {
            match self.delete(&path).await {
                Ok(answer) if matches!(answer.status, 204 | 404) => return true,
                Ok(answer) if answer.status == 409 => {}
                _ => return false,
            }
            // Interrupted in the middle of an answer.
            let _ = self.post(&format!("{path}/cancel"), &Value::Null).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        false
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn remember(names: &mut Vec<String>, name: &str) {
    if !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
    }
}

async fn read(request: reqwest::RequestBuilder) -> Result<Answer> {
    let mut response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if bytes.len() + chunk.len() > MOST {
            bail!("the answer is larger than {MOST} bytes");
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Answer { status, headers, text: String::from_utf8_lossy(&bytes).into_owned() })
}

fn telling(headers: &HeaderMap) -> Vec<(String, String)> {
    let kept = headers.iter().filter(|(name, _)| TELLING.contains(&name.as_str()));
    kept.map(|(name, value)| {
        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    })
    .collect()
}

fn shown(text: &str) -> Value {
    if text.len() > SHOWN {
        let cut = text.floor_char_boundary(SHOWN);
        return format!("{} ... ({} bytes in all)", &text[..cut], text.len()).into();
    }
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}
