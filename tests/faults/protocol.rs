//! F26: frames that break the protocol of sockets close their socket with the code that says why, and nothing else.
//!
//! Each case is the bytes of one client behind its handshake.

use std::net::Shutdown;
use std::time::Duration;

use crate::seed::size;
use crate::server::{Launch, Server, until};
use crate::wire::{
    BINARY, CLOSE, CONTINUE, FIN, PING, PONG, Seen, TEXT, Wire, closing, frame, header,
};

const PATIENCE: Duration = Duration::from_secs(15);
use Then::{Close, Echo, GoOn};

/// Memory that a server may take more after the bad behaviour of a client, in KiB.
const GROWTH: u64 = 16 * 1024;

/// What the server has to do.
#[derive(Debug, Clone, Copy)]
enum Then {
    /// Close with this code.
    Close(u16),
    /// Close, without a code of its own.
    Echo,
    /// Answer a ping, as if nothing had happened.
    GoOn,
}

/// A client's bytes and what they lead to.
type Case = (&'static str, Vec<u8>, Then);

fn unmasked(first: u8) -> Vec<u8> {
    [header(first, 0, 2), b"hi".to_vec()].concat()
}

fn wrong_frames() -> Vec<Case> {
    let whole = frame(FIN | TEXT, b"x");
    vec![
        ("a text without mask", unmasked(FIN | TEXT), Close(1002)),
        ("a ping without mask", unmasked(FIN | PING), Close(1002)),
        ("the first reserved bit", frame(FIN | 0x40 | TEXT, b"x"), Close(1002)),
        ("the second reserved bit", frame(FIN | 0x20 | TEXT, b"x"), Close(1002)),
        ("the third reserved bit", frame(FIN | 0x10 | TEXT, b"x"), Close(1002)),
        ("a reserved bit of a ping", frame(FIN | 0x40 | PING, b""), Close(1002)),
        ("a ping in two fragments", frame(PING, b"x"), Close(1002)),
        ("a close in two fragments", frame(CLOSE, b""), Close(1002)),
        ("a ping of 126 bytes", frame(FIN | PING, &[b'x'; 126]), Close(1002)),
        ("a close of 126 bytes", frame(FIN | CLOSE, &[3; 126]), Close(1002)),
        ("the end of a message without its beginning", frame(FIN | CONTINUE, b"x"), Close(1002)),
        ("the middle of a message without its beginning", frame(CONTINUE, b"x"), Close(1002)),
        ("a text inside of a text", [frame(TEXT, b"x"), whole].concat(), Close(1002)),
        (
            "a binary message inside of a text",
            [frame(TEXT, b"x"), frame(BINARY, b"x")].concat(),
            Close(1002),
        ),
        ("the unknown kind 3", frame(FIN | 3, b"x"), Close(1002)),
        ("the unknown kind 7", frame(FIN | 7, b"x"), Close(1002)),
        ("the unknown control kind 11", frame(FIN | 0xb, b"x"), Close(1002)),
        ("the unknown control kind 15", frame(FIN | 0xf, b"x"), Close(1002)),
    ]
}

fn wrong_texts() -> Vec<Case> {
    vec![
        ("a text that is not UTF-8", frame(FIN | TEXT, b"caf\xe9!"), Close(1007)),
        ("an overlong letter", frame(FIN | TEXT, b"\xc0\xaf"), Close(1007)),
        ("half a surrogate pair", frame(FIN | TEXT, b"\xed\xa0\x80"), Close(1007)),
        (
            "a text whose fragments are not UTF-8 together",
            [frame(TEXT, b"caf\xc3"), frame(FIN | CONTINUE, b"x")].concat(),
            Close(1007),
        ),
        (
            "a text whose last letter is not whole",
            [frame(TEXT, b"caf"), frame(FIN | CONTINUE, b"\xc3")].concat(),
            Close(1007),
        ),
        ("a reason that is not UTF-8", frame(FIN | CLOSE, &[0x03, 0xe8, 0xff, 0xfe]), Close(1007)),
    ]
}

fn too_large() -> Vec<Case> {
    let large = vec![b'x'; 16 * 1024 + 1];
    vec![
        ("a text beyond the limit", frame(FIN | TEXT, &large), Close(1009)),
        ("a binary message beyond the limit", frame(FIN | BINARY, &large), Close(1009)),
        (
            "fragments beyond the limit together",
            [frame(TEXT, &large[..10_000]), frame(FIN | CONTINUE, &large[..10_000])].concat(),
            Close(1009),
        ),
        (
            "a frame that promises an exabyte",
            [header(FIN | TEXT, 0x80, 1 << 60), vec![0; 4]].concat(),
            Close(1009),
        ),
        (
            "a length with its highest bit set",
            [header(FIN | TEXT, 0x80, u64::MAX), vec![0; 4]].concat(),
            Close(1009),
        ),
    ]
}

fn closes() -> Vec<Case> {
    let whole = frame(FIN | TEXT, b"x");
    vec![
        ("a close with one byte", frame(FIN | CLOSE, &[3]), Close(1002)),
        ("a close that says that none was said", closing(1005), Close(1002)),
        ("a close with a code below all", closing(999), Close(1002)),
        ("a close", closing(1000), Close(1000)),
        ("a close with a code of applications", closing(4000), Close(4000)),
        ("a close without a code", frame(FIN | CLOSE, b""), Echo),
        ("a message behind a close", [closing(1000), whole].concat(), Close(1000)),
    ]
}

fn harmless() -> Vec<Case> {
    let whole = frame(FIN | TEXT, b"x");
    vec![
        ("text", whole, GoOn),
        ("nothing in a text", frame(FIN | TEXT, b""), GoOn),
        ("a binary message", frame(FIN | BINARY, b"\xff\x00"), GoOn),
        ("a pong that nobody asked for", frame(FIN | PONG, b"x"), GoOn),
        (
            "a letter in two fragments with a ping between them",
            [frame(TEXT, b"\xc3"), frame(FIN | PING, b"inner"), frame(FIN | CONTINUE, b"\xa9")]
                .concat(),
            GoOn,
        ),
        (
            "a length in more bytes than it needs",
            vec![FIN | TEXT, 0x80 | 0x7e, 0, 1, 0, 0, 0, 0, b'x'],
            GoOn,
        ),
    ]
}

/// What became of a socket after these bytes, or what it did instead.
fn outcome(wire: &mut Wire, then: Then) -> Result<(), String> {
    wire.stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    match then {
        Then::Close(code) => match wire.closed()? {
            payload if payload.starts_with(&code.to_be_bytes()) => Ok(()),
            other => Err(format!("closed with {other:?} instead of {code}")),
        },
        Then::Echo => match wire.closed()? {
            payload if payload.is_empty() => Ok(()),
            other => Err(format!("closed with {other:?} instead of no code")),
        },
        Then::GoOn => {
            wire.send(&frame(FIN | PING, b"still there?"));
            loop {
                match wire.next_of(PONG) {
                    Some(payload) if payload == b"still there?" => return Ok(()),
                    Some(_) => {}
                    None => return Err("it was closed".into()),
                }
            }
        }
    }
}

fn start() -> (tempfile::TempDir, Server) {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::on(data.path()).arg("--debug-api").start().unwrap();
    (data, server)
}

/// The server is as it was: it answers, holds no socket, and has not grown.
fn check_unharmed(server: &Server, resident: u64) {
    until(PATIENCE, "no socket", || {
        let answer = server.client().get("/api/debug/conversations/c").unwrap();
        (answer.status == 404 || answer.json()["active_sockets"] == 0).then_some(())
    });
    let mut wire = Wire::open(server.address, "c").unwrap();
    wire.send(&frame(FIN | PING, b"hello"));
    assert_eq!(wire.next_of(PONG).as_deref(), Some(&b"hello"[..]));
    let now = server.resident();
    assert!(now < resident + GROWTH, "{resident} KiB before, {now} KiB after");
}

#[test]
fn f26_frames_that_break_the_protocol_close_their_socket_with_the_code_that_says_why() {
    let (_data, server) = start();
    let mut watcher = Wire::open(server.address, "c").unwrap();
    let resident = server.resident();
    let mut wrong = Vec::new();
    let cases = [wrong_frames(), wrong_texts(), too_large(), closes(), harmless()].concat();
    for (name, bytes, then) in cases {
        let mut wire = Wire::open(server.address, "c").unwrap();
        wire.send(&bytes);
        if let Err(what) = outcome(&mut wire, then) {
            wrong.push(format!("{name}: {what}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    outcome(&mut watcher, Then::GoOn).unwrap();
    drop(watcher);
    check_unharmed(&server, resident);
}

#[test]
fn f26_a_ping_gets_its_own_bytes_back_also_from_the_packet_of_the_handshake() {
    let (_data, server) = start();
    let early = [frame(FIN | PING, b"early"), frame(FIN | TEXT, b"ping")].concat();
    let mut wire = Wire::open_with(server.address, "c", &early).unwrap();
    assert_eq!(wire.next_of(PONG).as_deref(), Some(&b"early"[..]));
    let hello = |text: Option<Vec<u8>>| String::from_utf8(text.unwrap()).unwrap();
    while !hello(wire.next_of(TEXT)).contains("ws.pong") {}
    let payload: Vec<u8> = (0..125).collect();
    wire.send(&frame(FIN | PING, &payload));
    assert_eq!(wire.next_of(PONG), Some(payload));
    for byte in frame(FIN | PING, b"byte by byte") {
        wire.send(&[byte]);
    }
    assert_eq!(wire.next_of(PONG).as_deref(), Some(&b"byte by byte"[..]));
}

#[test]
fn f26_connections_that_end_inside_of_a_frame_leave_nothing_behind() {
    let (_data, server) = start();
    let resident = server.resident();
    let frames = [frame(FIN | TEXT, b"hello"), frame(FIN | TEXT, &[b'x'; 300])];
    for bytes in frames.iter().flat_map(|whole| (0..whole.len().min(12)).map(|n| &whole[..n])) {
        for how in [Some(Shutdown::Write), Some(Shutdown::Both), None] {
            let mut wire = Wire::open(server.address, "c").unwrap();
            wire.send(bytes);
            if let Some(how) = how {
                wire.stream.shutdown(how).unwrap();
            }
            if let Some(Shutdown::Write) = how {
                while wire.next() != Seen::End {}
            }
        }
    }
    check_unharmed(&server, resident);
}

#[test]
fn f26_a_flood_of_pings_is_answered_without_keeping_it() {
    let (_data, server) = start();
    let resident = server.resident();
    let many = size(20_000, 500_000);
    let mut wire = Wire::open(server.address, "c").unwrap();
    let mut reader = Wire { stream: wire.stream.try_clone().unwrap() };
    let reading = std::thread::spawn(move || {
        let mut last = None;
        while let Some(payload) = reader.next_of(PONG) {
            if payload == b"last" {
                last = Some(payload);
                break;
            }
        }
        last
    });
    let pings = frame(FIN | PING, &[b'x'; 100]).repeat(100);
    (0..many / 100).for_each(|_| wire.send(&pings));
    wire.send(&frame(FIN | PING, b"last"));
    assert!(reading.join().unwrap().is_some(), "the last ping is answered");
    drop(wire);
    check_unharmed(&server, resident);
}

#[test]
fn f26_a_flood_of_fragments_ends_at_the_limit_of_a_message_or_takes_no_memory() {
    let (_data, server) = start();
    let resident = server.resident();
    let many = size(100_000, 2_000_000);
    let mut wire = Wire::open(server.address, "c").unwrap();
    wire.send(&frame(TEXT, b""));
    let nothing = frame(CONTINUE, b"").repeat(100);
    (0..many / 100).for_each(|_| wire.send(&nothing));
    wire.send(&frame(FIN | CONTINUE, b"ping"));
    let pong = std::iter::from_fn(|| wire.next_of(TEXT))
        .any(|text| String::from_utf8(text).unwrap().contains("ws.pong"));
    assert!(pong, "empty fragments are no message");
    let now = server.resident();
    assert!(now < resident + GROWTH, "{resident} KiB before, {now} KiB after");

    wire.send(&frame(TEXT, b""));
    let bytes = frame(CONTINUE, b"x").repeat(16 * 1024 + 1);
    wire.send(&bytes);
    assert_eq!(wire.closed().unwrap()[..2], 1009_u16.to_be_bytes());
    check_unharmed(&server, resident);
}

/// The answers have nowhere to go: neither they nor their questions may be kept, and the socket may not be for ever.
#[test]
fn f26_a_client_that_asks_and_never_reads_is_let_go() {
    let (_data, server) = start();
    let (resident, before) = (server.resident(), server.sockets());
    let mut wire = Wire::open(server.address, "c").unwrap();
    wire.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let asked = frame(FIN | TEXT, b"ping").repeat(100);
    // Until the server takes no more, or has had enough.
    let mut sent = 0;
    while std::io::Write::write_all(&mut wire.stream, &asked).is_ok() {
        sent += asked.len();
        assert!(sent < 256 * 1024 * 1024, "it reads for ever");
    }
    assert!(server.resident() < resident + GROWTH);
    until(Duration::from_secs(25), "the socket to be let go", || {
        (server.sockets() <= before).then_some(())
    });
}
