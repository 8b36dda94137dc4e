//! The loop that calls a provider: connect, wait for the head, read events; each step has a deadline, and idle time is
//! measured on bytes, so that heartbeats count (INF-6).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use collodi_chat::model::{Call, Event, Model, ModelError};
use collodi_profiles::settings::Settings;
use collodi_profiles::settings::url::check_provider_address;
use futures_util::stream::{self, BoxStream, StreamExt};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::timeout;

use crate::openai::{self, Decoder};
use crate::sse::{Message, Splitter};

const CONNECT: Duration = Duration::from_secs(10);
/// Most that is read of a refusal.
const REFUSAL: usize = 64 * 1024;

/// The HTTP clients of a process. Redirects are refused: a provider has one address.
pub struct Clients {
    trusted: reqwest::Client,
    guarded: reqwest::Client,
}

impl Clients {
    /// One for the operator's addresses, one for profiles', which connects to public addresses only.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(allow_local: bool) -> Result<Self, String> {
        let builder = || {
            reqwest::Client::builder()
                .connect_timeout(CONNECT)
                .redirect(reqwest::redirect::Policy::none())
                .tcp_nodelay(true)
                .no_proxy()
        };
        let trusted = builder().build().map_err(|e| e.to_string())?;
        let guarded = if allow_local {
            trusted.clone()
        } else {
            builder()
                .https_only(true)
                .dns_resolver(PublicOnly)
                .build()
                .map_err(|e| e.to_string())?
        };
        Ok(Self { trusted, guarded })
    }

    pub(crate) fn for_url(&self, from_operator: bool) -> reqwest::Client {
        if from_operator { self.trusted.clone() } else { self.guarded.clone() }
    }
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

/// Chat Completions at one base URL.
pub struct OpenAi {
    client: reqwest::Client,
    url: String,
    key: Option<SecretString>,
    model: String,
    patience: Duration,
}

impl OpenAi {
    pub(crate) fn new(
        client: reqwest::Client,
        base_url: &str,
        key: Option<SecretString>,
        settings: &Settings,
    ) -> Self {
        let seconds =
            settings.get("timeout").and_then(|t| t.as_u64()).filter(|t| *t > 0).unwrap_or(60);
        Self {
            client,
            url: format!("{}/chat/completions", base_url.trim_end_matches('/')),
            key,
            model: settings.text("ai-engine").unwrap_or_default(),
            patience: Duration::from_secs(seconds),
        }
    }

    fn request(&self, call: &Call) -> reqwest::RequestBuilder {
        let settings = &call.runtime.settings;
        let mut request = self
            .client
            .post(&self.url)
            .header("Accept", "text/event-stream")
            .header("Content-Type", "application/json")
            .body(openai::encode(&call.blocks, settings).to_string());
        if let Some(key) = &self.key {
            request = request.bearer_auth(key.expose_secret());
        }
        for (header, setting) in
            [("User-Agent", "user-agent"), ("OpenAI-Organization", "organization")]
        {
            if let Some(value) = settings.text(setting).filter(|value| !value.is_empty()) {
                request = request.header(header, value);
            }
        }
        request
    }
}

impl Model for OpenAi {
    fn name(&self) -> String {
        self.model.clone()
    }

    fn call(&self, call: Call) -> BoxStream<'static, Result<Event, ModelError>> {
        let request = self.request(&call);
        let (key, patience) = (self.key.clone(), self.patience);
        let open = async move { open(request, key.as_ref(), patience).await };
        stream::once(open)
            .flat_map(move |opened| match opened {
                Ok(response) => read(response, patience).boxed(),
                Err(error) => stream::iter([Err(error)]).boxed(),
            })
            .boxed()
    }
}

/// Sends the request and reads the head of the answer.
async fn open(
    request: reqwest::RequestBuilder,
    key: Option<&SecretString>,
    patience: Duration,
) -> Result<reqwest::Response, ModelError> {
    let late = |_| ModelError::new("timeout", "the provider did not answer in time").retryable();
    let response = timeout(patience, request.send()).await.map_err(late)?.map_err(|error| {
        tracing::warn!(error = %error.without_url(), "provider not reached");
        ModelError::new("unreachable", "the provider could not be reached").retryable()
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
    let body = timeout(patience, read_refusal(response)).await.unwrap_or_default();
    Err(refusal(status.as_u16(), &body, key))
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
        Ok(value) => openai::error_text(value.get("error").unwrap_or(&value)),
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
    decoder: Option<Decoder>,
    patience: Duration,
}

fn read(
    response: reqwest::Response,
    patience: Duration,
) -> impl futures_util::Stream<Item = Result<Event, ModelError>> {
    let reading = Reading {
        chunks: Box::pin(response.bytes_stream()),
        splitter: Splitter::default(),
        messages: Vec::new().into_iter(),
        decoder: Some(Decoder::default()),
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
            let decoder = self.decoder.as_mut()?;
            for message in self.messages.by_ref() {
                match decoder.event(&message.data) {
                    Ok(None) => {}
                    Ok(Some(event)) => return Some(Ok(event)),
                    Err(error) => return Some(Err(error)),
                }
            }
            if decoder.is_done() {
                return self.decoder.take().map(Decoder::end);
            }
            match timeout(self.patience, self.chunks.next()).await {
                Err(_) => {
                    return Some(Err(
                        ModelError::new("timeout", "the provider went silent").retryable()
                    ));
                }
                // A broken body and a clean end are judged alike: by what was said before (decision 33).
                Ok(None | Some(Err(_))) => return self.decoder.take().map(Decoder::end),
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
