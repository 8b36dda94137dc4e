//! The loop that calls a provider: connect, wait for the head, read events; each step has a deadline, and idle time is
//! measured on bytes, so that heartbeats count (INF-6).

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;

use collodi_chat::model::{Call, Event, Model, ModelError};
use collodi_profiles::json::Object;
use collodi_profiles::settings::Settings;
use collodi_profiles::settings::url::check_provider_address;
use futures_util::stream::{self, BoxStream, StreamExt};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::timeout;

use crate::format::{Decoder, Format, error_text};
use crate::sse::{Message, Splitter};

const CONNECT: Duration = Duration::from_secs(10);
/// Most that is read of a refusal.
const REFUSAL: usize = 64 * 1024;
/// Further tries of a call that has not said anything yet, and the longest pause before one.
const RETRIES: u32 = 2;
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// The HTTP clients of a process, made when a provider is first called: reading the certificates of the system takes
/// longer than everything else at a start. Redirects are refused: a provider has one address.
#[derive(Default)]
pub struct Clients {
    /// Lets profiles name local providers.
    allow_local: bool,
    trusted: OnceLock<Option<reqwest::Client>>,
    guarded: OnceLock<Option<reqwest::Client>>,
}

impl Clients {
    /// One for the operator's addresses, one for profiles', which connects to public addresses only.
    #[must_use]
    pub fn new(allow_local: bool) -> Self {
        Self { allow_local, ..Self::default() }
    }

    pub(crate) fn for_url(&self, from_operator: bool) -> Result<reqwest::Client, ModelError> {
        let client = if from_operator || self.allow_local {
            self.trusted.get_or_init(|| made(builder()))
        } else {
            let guarded = || builder().https_only(true).dns_resolver(PublicOnly);
            self.guarded.get_or_init(|| made(guarded()))
        };
        let broken = || ModelError::new("tls", "the server cannot set up connections to providers");
        client.clone().ok_or_else(broken)
    }
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .redirect(reqwest::redirect::Policy::none())
        .tcp_nodelay(true)
        .no_proxy()
}

fn made(builder: reqwest::ClientBuilder) -> Option<reqwest::Client> {
    builder.build().inspect_err(|error| tracing::error!(%error, "no TLS client can be made")).ok()
}

/// Resolves names to public addresses; a name that has a local one is refused as a whole, and the connection goes to an
/// address that was checked (INF-7).
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            for address in found.iter().map(SocketAddr::ip).collect::<Vec<IpAddr>>() {
                check_provider_address(address)?;
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// A provider at one base URL.
pub struct Remote {
    client: reqwest::Client,
    format: Format,
    base_url: String,
    key: Option<SecretString>,
    model: String,
    patience: Duration,
}

impl Remote {
    pub(crate) fn new(
        client: reqwest::Client,
        format: Format,
        base_url: &str,
        key: Option<SecretString>,
        settings: &Settings,
    ) -> Self {
        let seconds =
            settings.get("timeout").and_then(|t| t.as_u64()).filter(|t| *t > 0).unwrap_or(60);
        Self {
            client,
            format,
            base_url: base_url.trim_end_matches('/').to_owned(),
            key,
            model: settings.text("ai-engine").unwrap_or_default(),
            patience: Duration::from_secs(seconds),
        }
    }

    fn request(&self, call: &Call) -> Result<reqwest::RequestBuilder, ModelError> {
        let settings = &call.runtime.settings;
        let url = self.format.url(&self.base_url, &self.model);
        let mut request = self
            .client
            .post(url)
            .header("Accept", "text/event-stream")
            .header("Content-Type", "application/json")
            .body(self.format.encode(call)?.to_string());
        for (name, value) in self.format.headers(self.key.as_ref().map(ExposeSecret::expose_secret))
        {
            request = request.header(name, value);
        }
        let openai = matches!(self.format, Format::OpenAi | Format::Responses);
        for (header, setting, goes) in
            [("User-Agent", "user-agent", true), ("OpenAI-Organization", "organization", openai)]
        {
            if !goes {
                continue;
            }
            if let Some(value) = settings.text(setting).filter(|value| !value.is_empty()) {
                request = request.header(header, value);
            }
        }
        Ok(request)
    }
}

impl Model for Remote {
    fn name(&self) -> String {
        self.model.clone()
    }

    fn provider(&self) -> &'static str {
        self.format.name()
    }

    fn sent(&self, settings: &Settings) -> Object {
        self.format.sent(settings)
    }

    fn call(&self, call: Call) -> BoxStream<'static, Result<Event, ModelError>> {
        let request = match self.request(&call) {
            Ok(request) => request,
            Err(error) => return stream::iter([Err(error)]).boxed(),
        };
        let (key, patience, format) = (self.key.clone(), self.patience, self.format);
        let open = async move { open_patiently(request, key.as_ref(), patience).await };
        stream::once(open)
            .flat_map(move |opened| match opened {
                Ok(response) => read(response, patience, format.decoder()).boxed(),
                Err(error) => stream::iter([Err(error)]).boxed(),
            })
            .boxed()
    }
}

/// Opens the stream; a provider that is busy or not reached is asked again, which costs nothing while nothing was said.
/// A refusal that names a time is waited for if that is short, else it is the answer.
async fn open_patiently(
    request: reqwest::RequestBuilder,
    key: Option<&SecretString>,
    patience: Duration,
) -> Result<reqwest::Response, ModelError> {
    let mut pause = Duration::from_millis(500);
    for _ in 0..RETRIES {
        let Some(again) = request.try_clone() else { break };
        match open(again, key, patience).await {
            Ok(response) => return Ok(response),
            Err(refused) if refused.again => {
                let wait = refused.after.unwrap_or(pause);
                if wait > LONGEST_PAUSE {
                    return Err(refused.error);
                }
                tracing::info!(error = %refused.error, wait_ms = wait.as_millis(), "asking the provider again");
                tokio::time::sleep(wait).await;
                pause *= 2;
            }
            Err(refused) => return Err(refused.error),
        }
    }
    open(request, key, patience).await.map_err(|refused| refused.error)
}

/// A call that did not begin to answer.
struct NotOpened {
    error: ModelError,
    /// Whether to ask again at once.
    again: bool,
    /// When, if the provider said so.
    after: Option<Duration>,
}

/// Sends the request and reads the head of the answer.
async fn open(
    request: reqwest::RequestBuilder,
    key: Option<&SecretString>,
    patience: Duration,
) -> Result<reqwest::Response, NotOpened> {
    let once = |error: ModelError| NotOpened { error, again: false, after: None };
    let sent = timeout(patience, request.send()).await.map_err(|_| {
        once(ModelError::new("timeout", "the provider did not answer in time").retryable())
    })?;
    let response = sent.map_err(|error| {
        tracing::warn!(error = %error.without_url(), "provider not reached");
        let error = ModelError::new("unreachable", "the provider could not be reached").retryable();
        NotOpened { error, again: true, after: None }
    })?;
    let status = response.status();
    let is_stream = response
        .headers()
        .get("content-type")
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.starts_with("text/event-stream"));
    if status.is_success() && is_stream {
        return Ok(response);
    }
    let after = retry_after(response.headers());
    let body = timeout(patience, read_refusal(response)).await.unwrap_or_default();
    let again = matches!(status.as_u16(), 429 | 503 | 529) && after.is_some();
    Err(NotOpened { error: refusal(status.as_u16(), &body, key), again, after })
}

/// `Retry-After` in seconds; dates are too rare and too long to wait for.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("retry-after")?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

async fn read_refusal(response: reqwest::Response) -> String {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(Ok(chunk)) = chunks.next().await {
        body.extend_from_slice(&chunk);
        if body.len() > REFUSAL {
            break;
        }
    }
    String::from_utf8_lossy(&body).into_owned()
}

/// What the user is told of a refusal: the provider's own words, without our key in them.
fn refusal(status: u16, body: &str, key: Option<&SecretString>) -> ModelError {
    let words = match serde_json::from_str::<Value>(body) {
        Ok(value) => error_text(value.get("error").unwrap_or(&value)),
        Err(_) => body.trim().chars().take(200).collect(),
    };
    let words = match key {
        Some(key) if !key.expose_secret().is_empty() => words.replace(key.expose_secret(), "***"),
        _ => words,
    };
    let (code, retryable) = match status {
        401 | 403 => ("refused", false),
        408 => ("timeout", true),
        429 => ("rate_limited", true),
        200..=299 => ("protocol", false),
        500.. => ("provider", true),
        _ => ("refused", false),
    };
    ModelError { code, message: format!("the provider answered {status}: {words}"), retryable }
}

struct Reading<S> {
    chunks: S,
    splitter: Splitter,
    messages: std::vec::IntoIter<Message>,
    events: std::vec::IntoIter<Event>,
    decoder: Option<Box<dyn Decoder>>,
    patience: Duration,
}

fn read(
    response: reqwest::Response,
    patience: Duration,
    decoder: Box<dyn Decoder>,
) -> impl futures_util::Stream<Item = Result<Event, ModelError>> {
    let reading = Reading {
        chunks: Box::pin(response.bytes_stream()),
        splitter: Splitter::default(),
        messages: Vec::new().into_iter(),
        events: Vec::new().into_iter(),
        decoder: Some(decoder),
        patience,
    };
    stream::unfold(reading, |mut reading| async move {
        let event = reading.next().await?;
        if event.is_err() {
            reading.decoder = None;
        }
        Some((event, reading))
    })
}

impl<S, E> Reading<S>
where
    S: futures_util::Stream<Item = Result<bytes::Bytes, E>> + Unpin,
{
    /// The next event; `None` after the end or an error.
    async fn next(&mut self) -> Option<Result<Event, ModelError>> {
        loop {
            if let Some(event) = self.events.next() {
                return Some(Ok(event));
            }
            let decoder = self.decoder.as_mut()?;
            if decoder.is_done() {
                if let Some(error) = self.end() {
                    return Some(Err(error));
                }
                continue;
            }
            if let Some(message) = self.messages.next() {
                match decoder.event(&message) {
                    Ok(events) => self.events = events.into_iter(),
                    Err(error) => return Some(Err(error)),
                }
                continue;
            }
            match timeout(self.patience, self.chunks.next()).await {
                Err(_) => {
                    // One that said how it ended and keeps the connection has ended all the same.
                    if self.end().is_some() {
                        let error = ModelError::new("timeout", "the provider went silent");
                        return Some(Err(error.retryable()));
                    }
                }
                // A broken body and a clean end are judged alike: by what was said before (decision 33).
                Ok(None | Some(Err(_))) => {
                    if let Some(error) = self.end() {
                        return Some(Err(error));
                    }
                }
                Ok(Some(Ok(chunk))) => {
                    let mut messages = Vec::new();
                    if let Err(error) = self.splitter.feed(&chunk, &mut messages) {
                        return Some(Err(ModelError::new("protocol", error.to_string())));
                    }
                    self.messages = messages.into_iter();
                }
            }
        }
    }

    /// Asks the decoder for what is left; an error means that the answer is not complete.
    fn end(&mut self) -> Option<ModelError> {
        match self.decoder.take()?.end() {
            Ok(events) => {
                self.events = events.into_iter();
                None
            }
            Err(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_without_the_key() {
        let key = SecretString::from("sk-canary-1");
        let body = r#"{"error":{"message":"Incorrect API key provided: sk-canary-1"}}"#;
        let error = refusal(401, body, Some(&key));
        assert_eq!(error.message, "the provider answered 401: Incorrect API key provided: ***");
        assert!(!error.retryable);
        assert!(refusal(429, "slow down", None).retryable);
        assert!(refusal(503, "", None).retryable);
        assert_eq!(refusal(200, "<html>", None).code, "protocol");
    }
}
