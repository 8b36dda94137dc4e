//! F21: streams that are split anywhere, end anywhere, or are no streams. What is complete is shown whole, what is cut is
//! told as cut with the text so far, and a call that is not whole never runs.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::provider_refusals::{Told, check_fails, watched};
use crate::raw::{Act, DONE, Raw, STREAM, calls, event, finish, refusal, says, send, stream};
use crate::requests::replayed;
use crate::server::Server;

/// Name, answer, the text that is complete.
fn complete() -> Vec<(&'static str, Vec<Act>, String)> {
    let whole = format!("{}{}{DONE}", says("caf\u{e9} \u{1f600}"), finish("stop"));
    let text = || "caf\u{e9} \u{1f600}".to_owned();
    let with_ends = |end: &str| stream(&[&whole.replace('\n', end)]);
    let lines = "data: {\"choices\":\ndata: [{\"index\": 0,\ndata: \"delta\": {\"content\": \"in lines\"}}]}\n\n";
    let padded = json!({"padding": "x".repeat(10_000_000),
        "choices": [{"index": 0, "delta": {"content": "padded"}}]});
    // Latin-1, half a surrogate, and a letter that ends in the next packet.
    let odd = event(&json!({"choices": [{"index": 0, "delta": {"content": "<odd>"}}]}));
    let (before, after) = odd.split_once("<odd>").unwrap();
    let bad = |part: &[u8]| [before.as_bytes(), part, after.as_bytes()].concat();
    let (first, second) =
        ([before.as_bytes(), b"\xf0\x9f"].concat(), [b"\x98\x80", after.as_bytes()].concat());
    let end = || send(format!("{}{DONE}", finish("stop")));
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let chunked = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";
    vec![
        ("byte by byte", vec![Act::Drip(format!("{STREAM}{whole}").into_bytes())], text()),
        ("CR", with_ends("\r"), text()),
        ("CRLF", with_ends("\r\n"), text()),
        ("byte order mark", stream(&["\u{feff}", &whole]), text()),
        ("comments", stream(&[": hello\n", &whole.replace("data", ": x\n:\nid: 5\ndata")]), text()),
        ("lines", stream(&[lines, &finish("stop"), DONE]), "in lines".into()),
        ("no space", stream(&[&whole.replace("data: ", "data:")]), text()),
        ("chunks", vec![send(format!("{chunked}{}0\r\n\r\n", chunk(&whole)))], text()),
        (
            "a chunk for each byte",
            vec![
                send(chunked),
                send(
                    whole
                        .bytes()
                        .flat_map(|b| [&b"1\r\n"[..], &[b], b"\r\n"].concat())
                        .collect::<Vec<u8>>(),
                ),
                send("0\r\n\r\n"),
            ],
            text(),
        ),
        (
            "no UTF-8",
            vec![send(STREAM), send(bad(b"a\xe9b")), send(bad(b"\xed\xa0\x80")), end()],
            "a\u{fffd}b\u{fffd}\u{fffd}\u{fffd}".into(),
        ),
        (
            "a letter in two packets",
            vec![
                send(STREAM),
                send(first),
                Act::Rest(std::time::Duration::from_millis(50)),
                send(second),
                end(),
            ],
            "\u{1f600}".into(),
        ),
        ("a line of 10 MB", stream(&[&event(&padded), &finish("stop"), DONE]), "padded".into()),
        ("DONE without finish", stream(&[&says("x"), DONE]), "x".into()),
        ("finish without DONE", stream(&[&says("x"), &finish("stop")]), "x".into()),
        ("more behind DONE", stream(&[&whole, &says("more"), "data: {\n\n"]), text()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f21_however_a_complete_stream_is_split_its_text_is_shown_whole() {
    let script = complete().into_iter().map(|(name, acts, _)| (name, vec![acts]));
    let provider = Raw::start(script).await;
    let server = Server::start(&["--openai-base-url", &provider.url]);
    join_all(complete().into_iter().map(async |(name, _, text): (&str, Vec<Act>, String)| {
        let (mut socket, body) = watched(&server, name).await;
        server.post("/chat", &body).await;
        let replay = replayed(&server, &body, "completed").await;
        assert!(replay.get("error").is_none(), "{name}: {replay}");
        let path = name.replace(' ', "+");
        let entities = server.timeline_when(&path, |e| e.len() == 2).await;
        let shown = entities[1]["props"]["content"].as_str().unwrap();
        assert!(shown == text, "{name}: {} of {} bytes", shown.len(), text.len());
        socket.until("llm.final", 1).await;
        socket.check_stream(&entities);
        assert!(!provider.heads(name)[0].contains("accept-encoding"), "nothing is to be packed");
    }))
    .await;
}

/// Too much for the outbox of a socket that does not take it at once: such a one is told to come back, and hydrates.
#[tokio::test]
async fn f21_six_megabytes_of_text_in_one_event_are_stored_whole_and_a_socket_hears_them_or_comes_back()
 {
    let six = "six letter".repeat(600_000);
    let provider = Raw::start([("p", vec![stream(&[&says(&six), &finish("stop"), DONE])])]).await;
    let server = Server::start(&["--openai-base-url", &provider.url]);
    let (mut socket, body) = watched(&server, "p").await;
    server.post("/chat", &body).await;
    while socket.of("llm.final").is_empty() && socket.next().await.is_some() {}
    replayed(&server, &body, "completed").await;
    let entities = server.timeline_when("p", |e| e.len() == 2).await;
    assert!(entities[1]["props"]["content"] == six.as_str(), "the text is whole");
    if socket.of("llm.final").is_empty() {
        assert_eq!(socket.closed, Some(1013));
    } else {
        socket.check_stream(&entities);
    }
    let next = json!({"conv_id": "p", "prompt": "next", "idempotency_key": "next"});
    server.post("/chat", &next).await;
    replayed(&server, &next, "completed").await;
}

/// Name, answer, how it is told, with the text that stays.
type Broken = (&'static str, Vec<Act>, Told<'static>);

fn cut_off() -> Vec<Broken> {
    let cut = |text| Told { code: "cut", retryable: true, words: "cut off", text };
    vec![
        ("nothing", stream(&[]), cut("")),
        ("only comments", stream(&[": x\n\n: y\n\n"]), cut("")),
        ("the end in JSON", stream(&[&says("Part"), "data: {\"choices\": [{\"del"]), cut("Part")),
        (
            "the end in a whole line",
            stream(&[&says("Part"), finish("stop").trim_end()]),
            cut("Part"),
        ),
        (
            "the end in arguments",
            stream(&[&says("Part"), &calls("call_1", "calc", "{\"a\": 1, \"b\"")]),
            cut("Part"),
        ),
        (
            "the end behind arguments",
            stream(&[&says("Part"), &calls("call_1", "calc", "{\"a\": 1, \"b\": 2}")]),
            cut("Part"),
        ),
    ]
}

fn no_stream() -> Vec<Broken> {
    let cut = |text| Told { code: "cut", retryable: true, words: "cut off", text };
    let protocol = |words, text| Told { code: "protocol", retryable: true, words, text };
    let unreadable = "an event that cannot be read";
    let html = "<html><body>Sign in to the hotel network</body></html>";
    let packed =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n\r\n";
    let gzip =
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff\x4b\x49\x2c\x49\xb4\x52\x00\x00\x0a\x0d\x0a\x0d";
    let error =
        event(&json!({"error": {"message": "no such model", "type": "invalid_request_error"}}));
    let reported = |text| Told { code: "provider", retryable: false, words: "no such model", text };
    let page = |words| Told { code: "protocol", retryable: false, words, text: "" };
    vec![
        (
            "JSON that ends early",
            stream(&[&says("Part"), "data: {\"choices\": [{\"del\n\n"]),
            protocol(unreadable, "Part"),
        ),
        ("NUL bytes", stream(&[&says("Part"), "data: \0\0\0\n\n"]), protocol(unreadable, "Part")),
        (
            "17 MB in a line",
            vec![
                send(STREAM),
                send(says("Part")),
                send("data: "),
                Act::Flood(vec![b'x'; 1_000_000], 100),
            ],
            Told { code: "protocol", retryable: false, words: "larger than", text: "Part" },
        ),
        ("the error alone", stream(&[&error]), reported("")),
        (
            "the error late",
            stream(&[&says("Part"), &error, &finish("stop"), DONE]),
            reported("Part"),
        ),
        ("HTML", refusal(200, "Content-Type: text/html\r\n", html), page("answered 200: <html>")),
        (
            "JSON",
            refusal(200, "Content-Type: application/json\r\n", "{\"choices\": []}"),
            page("answered 200"),
        ),
        ("HTML as a stream", stream(&[html, "\n\n"]), cut("")),
        ("gzip", vec![send([packed.as_bytes(), gzip].concat())], cut("")),
    ]
}

fn broken() -> Vec<Broken> {
    [cut_off(), no_stream()].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f21_a_stream_that_is_cut_or_none_is_told_as_such_and_its_calls_never_run() {
    let script = broken().into_iter().map(|(name, acts, _)| (name, vec![acts]));
    let provider = Raw::start(script).await;
    let server = Server::start(&["--openai-base-url", &provider.url, "--timeout", "5"]);
    let profile =
        json!({"slug": "tools", "set_default": true, "runtime": {"tools": ["calculator"]}});
    assert_eq!(server.post("/api/chat/profiles", &profile).await.status, 201);
    let cases = broken();
    join_all(cases.iter().map(|(name, _, told)| check_fails(&server, name, *told))).await;
    for (name, ..) in cases {
        assert_eq!(provider.requests(name).len(), 1, "{name}");
        let after = &provider.requests(&format!("after {name}"))[0];
        let told = after["messages"].as_array().unwrap();
        assert!(told.iter().all(|message| message["role"] != "tool"), "{name}: {told:?}");
        assert!(told.iter().all(|m| m.get("tool_calls").is_none()), "{name}: {told:?}");
    }
}

/// The stream is whole, the call in it is not.
#[tokio::test]
async fn f21_a_call_whose_arguments_are_cut_is_told_to_the_model_and_never_runs() {
    let cut =
        ["{\"a\": 1, \"b\"", "{\"a\": 1, \"b\": 2", "", "null", "[1, 2]", "{\"a\": 1, \"b\": 2}}"];
    let names = ["c0", "c1", "c2", "c3", "c4", "c5"];
    let script = names.iter().zip(cut).map(|(name, arguments)| {
        let call = stream(&[&calls("call_1", "calc", arguments), &finish("length"), DONE]);
        (*name, vec![call, stream(&[&says("sorry"), &finish("stop"), DONE])])
    });
    let provider = Raw::start(script).await;
    let server = Server::start(&["--openai-base-url", &provider.url]);
    let profile =
        json!({"slug": "tools", "set_default": true, "runtime": {"tools": ["calculator"]}});
    assert_eq!(server.post("/api/chat/profiles", &profile).await.status, 201);
    for (name, arguments) in names.iter().zip(cut) {
        let (mut socket, body) = watched(&server, name).await;
        server.post("/chat", &body).await;
        replayed(&server, &body, "completed").await;
        let is_card = |e: &&Value| e["kind"] == "tool_call";
        let entities = server.timeline_when(name, |_| true).await;
        let cards: Vec<&Value> = entities.iter().filter(is_card).collect();
        assert_eq!(cards.len(), 1, "{arguments}: {entities:?}");
        assert_eq!(cards[0]["props"]["status"], "error", "{arguments}");
        let told = &provider.requests(name)[1]["messages"];
        let result = told.as_array().unwrap().iter().find(|m| m["role"] == "tool").unwrap();
        let text = result["content"].as_str().unwrap();
        assert!(text.contains("invalid arguments"), "{arguments}: {text}");
        socket.until("llm.final", 2).await;
        let is_message = |e: &&Value| e["kind"] == "message";
        socket.check_stream(&entities.iter().filter(is_message).cloned().collect::<Vec<_>>());
    }
}
