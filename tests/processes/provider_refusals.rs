//! F20: providers that refuse, cannot be reached, or speak something else. The user is told which, nothing is asked twice
//! that said something, and the conversation goes on.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::raw::{Act, DONE, Raw, STREAM, finish, refusal, says, send, stream};
use crate::requests::replayed;
use crate::server::Server;
use crate::socket::Socket;

/// How a failed run is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told<'a> {
    pub(crate) code: &'a str,
    pub(crate) retryable: bool,
    /// Is in the message.
    pub(crate) words: &'a str,
    /// What stays of the answer.
    pub(crate) text: &'a str,
}

pub(crate) fn body_of(prompt: &str) -> Value {
    json!({"conv_id": prompt, "prompt": prompt, "idempotency_key": "k"})
}

/// Runs the prompt in a conversation of the same name and checks that it fails as told, everywhere where it is told; the
/// conversation then goes on.
pub(crate) async fn check_fails(server: &Server, prompt: &str, told: Told<'_>) {
    let (mut socket, body) = watched(server, prompt).await;
    let started = server.post("/chat", &body).await;
    assert_eq!(started.status, 200, "{prompt}: {}", started.body);
    check_failure(server, &mut socket, prompt, told).await;
    let next =
        json!({"conv_id": prompt, "prompt": format!("after {prompt}"), "idempotency_key": "k2"});
    server.post("/chat", &next).await;
    let next = replayed(server, &next, "completed").await;
    assert_ne!(next["turn_id"], started.json()["turn_id"]);
}

pub(crate) async fn watched(server: &Server, prompt: &str) -> (Socket, Value) {
    let body = body_of(prompt);
    let mut socket = Socket::open(server, &format!("conv_id={}", prompt.replace(' ', "+"))).await;
    socket.until("ws.hello", 1).await;
    (socket, body)
}

/// Waits for the failure of a run that was started: frames, entities and replays say the same.
pub(crate) async fn check_failure(
    server: &Server,
    socket: &mut Socket,
    prompt: &str,
    told: Told<'_>,
) {
    socket.until("log", 1).await;
    let replay = replayed(server, &body_of(prompt), "error").await;
    let log = socket.of("log")[0].clone();
    let (data, seen) = (&log["data"], format!("{prompt}: {log}"));
    assert_eq!(log["id"], format!("error-{}", replay["turn_id"].as_str().unwrap()), "{seen}");
    assert_eq!(data["level"], "error", "{seen}");
    let message = data["message"].as_str().unwrap();
    assert!(message.contains(told.words), "{seen}");
    assert_eq!(
        (&data["fields"]["code"], &data["fields"]["retryable"]),
        (&json!(told.code), &json!(told.retryable)),
        "{seen}"
    );
    assert_eq!(data["fields"]["inference_id"], replay["inference_id"], "{seen}");
    assert_eq!(replay["error"], message, "{seen}");

    let path = prompt.replace(' ', "+");
    let entities = server.timeline_when(&path, |e| e.iter().any(|e| e["kind"] == "log")).await;
    let shown: Vec<(&str, &str)> = entities
        .iter()
        .map(|e| {
            let text = e["props"]["content"].as_str().or(e["props"]["message"].as_str());
            (e["kind"].as_str().unwrap(), text.unwrap())
        })
        .collect();
    let answer = (!told.text.is_empty()).then_some(("message", told.text));
    let expected: Vec<(&str, &str)> =
        std::iter::once(("message", prompt)).chain(answer).chain([("log", message)]).collect();
    assert_eq!(shown, expected, "{prompt}");
    for entity in &entities {
        assert_ne!(entity["props"]["streaming"], true, "{entity}");
    }
    let is_message = |e: &&Value| e["kind"] == "message";
    socket.check_stream(&entities.iter().filter(is_message).cloned().collect::<Vec<_>>());
}

fn told(code: &'static str, retryable: bool, words: &'static str) -> Told<'static> {
    Told { code, retryable, words, text: "" }
}

/// Name, answers, how it is told, how many requests the provider sees.
type Case = (&'static str, Vec<Vec<Act>>, Told<'static>, usize);

fn cases() -> Vec<Case> {
    let error = r#"{"error":{"message":"so it is"}}"#;
    let plain = |status| vec![refusal(status, "Content-Type: application/json\r\n", error)];
    let after = |status, seconds: &str| {
        vec![refusal(status, &format!("Retry-After: {seconds}\r\n"), error)]
    };
    let refused = |words| told("refused", false, words);
    let busy = |words| told("provider", true, words);
    let limited = told("rate_limited", true, "the provider answered 429: so it is");
    vec![
        ("400", plain(400), refused("the provider answered 400: so it is"), 1),
        ("401", plain(401), refused("the provider answered 401: so it is"), 1),
        ("403", plain(403), refused("the provider answered 403: so it is"), 1),
        ("404", plain(404), refused("the provider answered 404: so it is"), 1),
        ("408", plain(408), told("timeout", true, "the provider answered 408: so it is"), 1),
        ("429", plain(429), limited, 1),
        ("429 at once", after(429, "0"), limited, 3),
        ("429 in a while", after(429, "1"), limited, 3),
        ("429 too late", after(429, "21"), limited, 1),
        ("429 at a date", after(429, "Fri, 31 Dec 2100 23:59:59 GMT"), limited, 1),
        ("429 in words", after(429, "soon"), limited, 1),
        ("500", plain(500), busy("the provider answered 500: so it is"), 1),
        ("500 at once", after(500, "0"), busy("the provider answered 500"), 1),
        ("502", plain(502), busy("the provider answered 502: so it is"), 1),
        ("503", plain(503), busy("the provider answered 503: so it is"), 1),
        ("503 at once", after(503, "0"), busy("the provider answered 503: so it is"), 3),
        ("529", plain(529), busy("the provider answered 529: so it is"), 1),
        ("529 at once", after(529, "0"), busy("the provider answered 529: so it is"), 3),
        (
            "302",
            vec![refusal(302, "Location: /v1/elsewhere\r\n", "")],
            refused("the provider answered 302"),
            1,
        ),
        (
            "a refusal that does not end",
            vec![vec![send("HTTP/1.1 500 X\r\nContent-Length: 9\r\n\r\nwo"), Act::Hang]],
            busy("the provider answered 500"),
            1,
        ),
        (
            "a refusal without end",
            vec![vec![
                send("HTTP/1.1 500 X\r\nConnection: close\r\n\r\n"),
                Act::Flood(b"words ".to_vec(), 1_000_000),
            ]],
            busy("the provider answered 500: words words"),
            1,
        ),
        ("nothing but an end", vec![vec![]], told("unreachable", true, "not be reached"), 3),
        (
            "no HTTP",
            vec![vec![send("220 mail.test ESMTP\r\n")]],
            told("unreachable", true, "not be reached"),
            3,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f20_refusals_are_told_by_kind_and_asked_again_only_when_the_provider_says_when() {
    let provider = Raw::start(cases().into_iter().map(|(name, acts, ..)| (name, acts))).await;
    let server = Server::start(&["--openai-base-url", &provider.url, "--timeout", "2"]);
    let cases = cases();
    let runs = cases.iter().map(|(name, _, told, _)| check_fails(&server, name, *told));
    join_all(runs).await;
    for (name, _, _, requests) in &cases {
        let seen = provider.requests(name);
        assert_eq!(seen.len(), *requests, "{name}");
        let bodies: BTreeSet<String> = seen.iter().map(Value::to_string).collect();
        assert_eq!(bodies.len(), 1, "{name}: the same is asked again");
    }
}

#[tokio::test]
async fn f20_a_provider_that_is_busy_once_answers_and_nobody_hears_of_it() {
    let whole = || stream(&[&says("Hello"), &finish("stop"), DONE]);
    let busy = |status| refusal(status, "Retry-After: 0\r\n", "busy");
    let provider = Raw::start([
        ("busy once", vec![busy(429), whole()]),
        ("busy twice", vec![busy(503), busy(529), whole()]),
        ("gone once", vec![vec![], whole()]),
    ])
    .await;
    let server = Server::start(&["--openai-base-url", &provider.url]);
    for (prompt, requests) in [("busy once", 2), ("busy twice", 3), ("gone once", 2)] {
        let (mut socket, body) = watched(&server, prompt).await;
        server.post("/chat", &body).await;
        replayed(&server, &body, "completed").await;
        let entities = server.timeline_when(&prompt.replace(' ', "+"), |e| e.len() == 2).await;
        assert_eq!(entities[1]["props"]["content"], "Hello");
        socket.until("llm.final", 1).await;
        assert!(socket.of("log").is_empty(), "{prompt}: {:?}", socket.of("log"));
        socket.check_stream(&entities);
        assert_eq!(provider.requests(prompt).len(), requests, "{prompt}");
    }
}

/// After the first word nothing is asked again, whatever the fault.
#[tokio::test]
async fn f20_an_answer_that_broke_off_is_never_asked_for_again() {
    let partial = || format!("{STREAM}{}", says("Part"));
    let short =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9999\r\n\r\n";
    let busy = r#"data: {"error":{"message":"overloaded","type":"overloaded_error"}}"#;
    let chunked =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let cases = [
        ("end", vec![send(partial())], "cut", "cut off"),
        ("short", vec![send(format!("{short}{}", says("Part")))], "cut", "cut off"),
        (
            "chunks",
            vec![send(format!("{chunked}{}zz\r\n", chunk(&says("Part"))))],
            "cut",
            "cut off",
        ),
        ("error", vec![send(format!("{}{busy}\n\n", partial()))], "provider", "overloaded"),
        ("silence", vec![send(partial()), Act::Hang], "timeout", "went silent"),
    ];
    let script = cases.clone().map(|(name, acts, ..)| (name, vec![acts]));
    let provider = Raw::start(script).await;
    let server = Server::start(&["--openai-base-url", &provider.url, "--timeout", "1"]);
    let runs = cases.iter().map(|(name, _, code, words)| {
        check_fails(&server, name, Told { code, retryable: true, words, text: "Part" })
    });
    join_all(runs).await;
    for (name, ..) in &cases {
        assert_eq!(provider.requests(name).len(), 1, "{name}");
        let next = provider.requests(&format!("after {name}"))[0]["messages"].clone();
        let said = next.as_array().unwrap().iter().filter(|m| m["role"] == "assistant");
        assert_eq!(said.map(|m| &m["content"]).collect::<Vec<_>>(), ["Part"], "{name}");
    }
}

/// Where nobody listens, what has no address, and TLS where there is none. No network is needed: names below `.invalid`
/// have no address, and a resolver that does not say so in time is a timeout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f20_providers_that_cannot_be_reached_are_told_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let plain = Raw::start([]).await;
    let plain_tls = plain.url.replace("http:", "https:");
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_tls = format!("https://{}/v1", silent.local_addr().unwrap());
    let check = async |url: &str, codes: &[&str]| {
        let server = Server::start(&["--openai-base-url", url, "--timeout", "2"]);
        let (mut socket, body) = watched(&server, "p").await;
        server.post("/chat", &body).await;
        socket.until("log", 1).await;
        let code = socket.of("log")[0]["data"]["fields"]["code"].as_str().unwrap().to_owned();
        assert!(codes.contains(&code.as_str()), "{url}: {code}");
        let words = match code.as_str() {
            "timeout" => "the provider did not answer in time",
            _ => "the provider could not be reached",
        };
        let told = Told { code: &code, retryable: true, words, text: "" };
        check_failure(&server, &mut socket, "p", told).await;
        assert!(!socket.of("log")[0].to_string().contains("http"), "no address is told");
    };
    tokio::join!(
        check(&closed, &["unreachable"]),
        check("http://nobody.invalid/v1", &["unreachable", "timeout"]),
        check(&plain_tls, &["unreachable"]),
        check(&silent_tls, &["timeout"]),
    );
    assert_eq!(plain.requests("p").len(), 0, "nothing was asked without TLS");
}
