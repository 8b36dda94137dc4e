//! The splitter against a model of the standard that sees the whole stream at once, character by character.

use proptest::prelude::*;

use super::{MAX_EVENT, Message, Splitter, TooLarge};

/// The events of a whole stream, as the HTML standard words it (§9.2.6): decode, take off the mark, split into lines,
/// read fields, dispatch at empty lines; what is not dispatched is dropped. Unlike there, no `event` is an empty one.
fn model(bytes: &[u8]) -> Vec<Message> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).replace("\r\n", "\n");
    let text = text.replace('\r', "\n");
    let Some((whole, _unfinished)) = text.rsplit_once('\n') else { return Vec::new() };
    let (mut messages, mut event, mut data) = (Vec::new(), String::new(), String::new());
    for line in whole.split('\n') {
        if line.is_empty() {
            if let Some(joined) = data.strip_suffix('\n') {
                messages.push(Message { event: event.clone(), data: joined.into() });
            }
            event.clear();
            data.clear();
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => data.extend([value, "\n"]),
            "event" => event = value.into(),
            _ => {}
        }
    }
    messages
}

fn split<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Message> {
    let (mut splitter, mut out) = (Splitter::default(), Vec::new());
    chunks.into_iter().for_each(|chunk| splitter.feed(chunk, &mut out).unwrap());
    out
}

/// Pieces that mean something, in any order, and pieces that mean nothing.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let pieces: [&'static [u8]; 26] = [
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"\r\r",
        b"\r\n\r\n",
        b"data",
        b"data:",
        b"data: ",
        b"data:  ",
        b"event: ",
        b"event:",
        b"id: 5",
        b"retry: 1",
        b":",
        b": note",
        b" ",
        b"{\"a\":1}",
        b"[DONE]",
        b"\xef\xbb\xbf",
        b"\xff",
        b"\xf0\x9f",
        b"\x98\x80",
        b"caf\xc3",
        b"\xa9",
        b"\0",
    ];
    let piece = prop::sample::select(pieces.to_vec());
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn f21_any_bytes_in_any_chunks_are_what_the_standard_says(
        bytes in stream(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let expected = model(&bytes);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        prop_assert_eq!(&split(cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]])), &expected);
        prop_assert_eq!(&split(bytes.chunks(1)), &expected, "byte by byte");
    }

    #[test]
    fn f21_one_cut_at_every_byte_changes_nothing(bytes in stream()) {
        let expected = model(&bytes);
        for at in 0..=bytes.len() {
            prop_assert_eq!(&split([&bytes[..at], &bytes[at..]]), &expected, "cut at {}", at);
        }
    }
}

#[test]
fn f21_a_line_of_ten_megabytes_is_one_event_and_takes_linear_time() {
    let line = [b"data: ", &b"x".repeat(10_000_000)[..], b"\n\n"].concat();
    let out = split(line.chunks(1_400));
    assert_eq!((out.len(), out[0].data.len()), (1, 10_000_000));
}

#[test]
fn f21_what_is_too_large_is_told_whether_it_is_one_line_or_many() {
    let feed = |piece: &[u8], times: usize| {
        let (mut splitter, mut out) = (Splitter::default(), Vec::new());
        (0..times).try_for_each(|_| splitter.feed(piece, &mut out))
    };
    let line = b"x".repeat(1024 * 1024);
    let data = [b"data: ", &line[..], b"\n"].concat();
    let name = [b"event: ", &line[..], b"\n"].concat();
    let note = [b": ", &line[..], b"\n"].concat();
    let most = MAX_EVENT / line.len();
    assert_eq!(feed(&data, most + 1), Err(TooLarge), "in many lines");
    assert_eq!(feed(&line, most + 1), Err(TooLarge), "in one");
    assert_eq!(feed(&data, most - 1), Ok(()));
    assert_eq!(feed(&name, 4 * most), Ok(()), "only the last name is kept");
    assert_eq!(feed(&note, 4 * most), Ok(()), "notes are not kept");
}
