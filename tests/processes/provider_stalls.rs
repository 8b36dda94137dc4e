//! F20: providers that stop in the middle of anything. A deadline ends the wait, and who cancels does not wait for it.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use crate::provider_refusals::{Told, check_fails, check_failure, watched};
use crate::raw::{Act, DONE, Raw, STREAM, finish, refusal, says, send};
use crate::requests::replayed;
use crate::server::Server;

/// How long a cancelled run may go on, whatever its provider does (F20).
const PROMPT: Duration = Duration::from_secs(1);

fn head() -> Act {
    send(STREAM)
}

/// Name, answer, what is said about it, what stays.
fn stalls() -> Vec<(&'static str, Vec<Act>, &'static str, &'static str)> {
    let (late, silent) = ("the provider did not answer in time", "the provider went silent");
    vec![
        ("before the head", vec![Act::Hang], late, ""),
        ("in the head", vec![send("HTTP/1.1 200 OK\r\nContent-"), Act::Hang], late, ""),
        ("before the first byte", vec![head(), Act::Hang], silent, ""),
        ("in the first event", vec![head(), send("data: {\"choi"), Act::Hang], silent, ""),
        ("between words", vec![head(), send(says("Part")), Act::Hang], silent, "Part"),
        (
            "in a word",
            vec![head(), send(says("Part")), send("data: {\"choices\": [{"), Act::Hang],
            silent,
            "Part",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f20_a_stall_anywhere_ends_with_its_deadline_and_is_not_asked_again() {
    let script = stalls().into_iter().map(|(name, acts, ..)| (name, vec![acts]));
    let provider = Raw::start(script).await;
    let server = Server::start(&["--openai-base-url", &provider.url]);
    let profile = json!({"slug": "hasty", "set_default": true,
        "runtime": {"step_settings_patch": {"ai-client": {"timeout": 1}}}});
    let made = server.post("/api/chat/profiles", &profile).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let started = Instant::now();
    let cases = stalls();
    join_all(cases.iter().map(|(name, _, words, text)| {
        check_fails(&server, name, Told { code: "timeout", retryable: true, words, text })
    }))
    .await;
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    for (name, ..) in cases {
        assert_eq!(provider.requests(name).len(), 1, "{name}");
        assert_eq!(provider.left(name), 1, "{name}: the connection is closed");
    }
}

/// Silence is counted in bytes: slow is not silent, and who said the end has ended.
#[tokio::test]
async fn f20_heartbeats_and_slow_bytes_are_no_silence() {
    let pause = || Act::Rest(Duration::from_millis(400));
    let beats = (0..6).flat_map(|_| [pause(), send(": still here\n\n")]);
    let word = says("Hello");
    let bytes = word.as_bytes().chunks(word.len() / 6).flat_map(|part| [pause(), send(part)]);
    let end = || [send(finish("stop")), send(DONE)];
    let slow = |middle: Vec<Act>| [vec![head()], middle, end().to_vec()].concat();
    let beats = slow(beats.chain([send(says("Hello"))]).collect());
    let kept = vec![head(), send(says("Hello")), send(finish("stop")), Act::Hang];
    let provider = Raw::start([
        ("beats", vec![beats]),
        ("bytes", vec![slow(bytes.collect())]),
        ("kept", vec![kept]),
    ])
    .await;
    let server = Server::start(&["--openai-base-url", &provider.url, "--timeout", "1"]);
    join_all(["beats", "bytes", "kept"].map(async |prompt: &str| {
        let (mut socket, body) = watched(&server, prompt).await;
        server.post("/chat", &body).await;
        replayed(&server, &body, "completed").await;
        let entities = server.timeline_when(prompt, |e| e.len() == 2).await;
        assert_eq!(entities[1]["props"]["content"], "Hello", "{prompt}");
        socket.until("llm.final", 1).await;
        socket.check_stream(&entities);
        assert_eq!(provider.requests(prompt).len(), 1, "{prompt}");
    }))
    .await;
}

/// Cancels a run that was started; it ends at once, and says so.
async fn check_cancelled(server: &Server, prompt: &str, ready: impl AsyncFn(), text: &str) {
    let (mut socket, body) = watched(server, prompt).await;
    assert_eq!(server.post("/chat", &body).await.status, 200);
    socket.until(if text.is_empty() { "llm.start" } else { "llm.delta" }, 1).await;
    ready().await;
    let path = format!("/api/chat/conversations/{}/cancel", prompt.replace(' ', "%20"));
    let started = Instant::now();
    let answer = server.post(&path, &json!({})).await;
    assert_eq!(answer.status, 200, "{prompt}: {}", answer.body);
    socket.until("log", 1).await;
    assert!(started.elapsed() < PROMPT, "{prompt}: {:?}", started.elapsed());
    let told = Told { code: "cancelled", retryable: false, words: "cancelled", text };
    check_failure(server, &mut socket, prompt, told).await;
    assert_eq!(server.post(&path, &json!({})).await.status, 409, "{prompt}");
}

async fn within(patience: Duration, what: &str, mut ask: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !ask() {
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f20_a_cancel_in_any_stall_ends_the_run_and_its_connection_within_a_second() {
    let pausing = ("between two tries", refusal(503, "Retry-After: 15\r\n", "busy"), "", "");
    let mut cases = stalls();
    cases.push((
        "in a refusal",
        vec![send("HTTP/1.1 500 X\r\nContent-Length: 9\r\n\r\nw"), Act::Hang],
        "",
        "",
    ));
    cases.push(pausing);
    let script = cases.clone().into_iter().map(|(name, acts, ..)| (name, vec![acts]));
    let provider = Raw::start(script).await;
    let server = Server::start(&["--openai-base-url", &provider.url]);
    join_all(cases.iter().map(async |(name, acts, _, text)| {
        let asked = async || {
            within(Duration::from_secs(10), name, || provider.requests(name).len() == 1).await;
        };
        check_cancelled(&server, name, asked, text).await;
        if matches!(acts.last(), Some(Act::Hang)) {
            within(PROMPT, name, || provider.left(name) == 1).await;
        }
    }))
    .await;
    for (name, ..) in cases {
        assert_eq!(provider.requests(name).len(), 1, "{name}");
    }
}

/// A listener whose backlog is full: the kernel answers no further caller.
async fn full() -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) =
        timeout(Duration::from_millis(300), TcpStream::connect(address)).await
    {
        waiting.push(stream);
        assert!(waiting.len() < 64, "the backlog takes everybody");
    }
    (listener, waiting)
}

#[tokio::test]
async fn f20_a_stall_before_the_connection_ends_with_its_deadline_or_with_a_cancel() {
    let (listener, _waiting) = full().await;
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let hasty = Server::start(&["--openai-base-url", &url, "--timeout", "1"]);
    let (mut socket, body) = watched(&hasty, "p").await;
    hasty.post("/chat", &body).await;
    let words = "the provider did not answer in time";
    let told = Told { code: "timeout", retryable: true, words, text: "" };
    check_failure(&hasty, &mut socket, "p", told).await;
    let patient = Server::start(&["--openai-base-url", &url]);
    check_cancelled(&patient, "p", async || {}, "").await;
}
