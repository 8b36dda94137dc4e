//! Server-sent events, split at the level of bytes: any line ending, split anywhere, with or without a byte order mark.

/// Largest event, in bytes; providers send far less.
pub const MAX_EVENT: usize = 16 * 1024 * 1024;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// The `event` field; empty when there was none.
    pub event: String,
    /// The `data` lines, joined by line feeds.
    pub data: String,
}

/// An event larger than [`MAX_EVENT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is larger than {MAX_EVENT} bytes")]
pub struct TooLarge;

/// Takes bytes as they come and gives events as they complete.
#[derive(Debug, Default)]
pub struct Splitter {
    line: Vec<u8>,
    event: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    started: bool,
    after_cr: bool,
}

impl Splitter {
    /// Feeds a chunk; completed events are appended to `out`.
    ///
    /// # Errors
    /// An event that grows beyond the limit.
    pub fn feed(&mut self, chunk: &[u8], out: &mut Vec<Message>) -> Result<(), TooLarge> {
        let mut rest = chunk;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_cr) && rest[0] == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let end = rest.iter().position(|b| matches!(b, b'\n' | b'\r'));
            let Some(end) = end else {
                self.line.extend_from_slice(rest);
                return if self.line.len() + self.data.len() > MAX_EVENT {
                    Err(TooLarge)
                } else {
                    Ok(())
                };
            };
            self.line.extend_from_slice(&rest[..end]);
            self.after_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            self.end_line(out);
            if self.data.len() > MAX_EVENT {
                return Err(TooLarge);
            }
        }
        Ok(())
    }

    fn end_line(&mut self, out: &mut Vec<Message>) {
        let taken = std::mem::take(&mut self.line);
        let mut line = &taken[..];
        if !std::mem::replace(&mut self.started, true) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            self.dispatch(out);
        } else if line[0] != b':' {
            let colon = line.iter().position(|b| *b == b':');
            let (field, value) = match colon {
                Some(at) => (&line[..at], &line[at + 1..]),
                None => (line, &b""[..]),
            };
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match field {
                b"data" => {
                    if self.has_data {
                        self.data.push(b'\n');
                    }
                    self.has_data = true;
                    self.data.extend_from_slice(value);
                }
                b"event" => self.event = value.to_vec(),
                _ => {}
            }
        }
        // The line's memory is used again.
        self.line = taken;
        self.line.clear();
    }

    fn dispatch(&mut self, out: &mut Vec<Message>) {
        let event = std::mem::take(&mut self.event);
        if std::mem::take(&mut self.has_data) {
            let data = std::mem::take(&mut self.data);
            out.push(Message {
                event: String::from_utf8_lossy(&event).into_owned(),
                data: String::from_utf8_lossy(&data).into_owned(),
            });
        }
    }
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(chunks: &[&[u8]]) -> Vec<(String, String)> {
        let (mut splitter, mut out) = (Splitter::default(), Vec::new());
        for chunk in chunks {
            splitter.feed(chunk, &mut out).unwrap();
        }
        out.into_iter().map(|m| (m.event, m.data)).collect()
    }

    const STREAM: &str = "\u{feff}: hello\r\nevent: a\r\ndata: one\rdata:two\n\ndata\n\n: ping\n\nid: 5\ndata: caf\u{e9} \u{1f600}\r\n\r\nevent: lost\n\ndata: unfinished";

    #[test]
    fn f21_any_line_ending_comments_marks_and_joined_lines() {
        let expected = vec![
            ("a".to_owned(), "one\ntwo".to_owned()),
            (String::new(), String::new()),
            (String::new(), "caf\u{e9} \u{1f600}".to_owned()),
        ];
        assert_eq!(split(&[STREAM.as_bytes()]), expected);
        let bytes: Vec<&[u8]> = STREAM.as_bytes().chunks(1).collect();
        assert_eq!(split(&bytes), expected);
    }

    #[test]
    fn f21_an_event_without_end_is_refused_before_memory_is() {
        let mut splitter = Splitter::default();
        let chunk = vec![b'x'; 1024 * 1024];
        let fed = (0..20).try_for_each(|_| splitter.feed(&chunk, &mut Vec::new()));
        assert_eq!(fed, Err(TooLarge));
    }

    proptest! {
        #[test]
        fn f21_where_a_stream_is_cut_into_chunks_changes_nothing(cuts in proptest::collection::vec(0..STREAM.len(), 0..12)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in cuts {
                chunks.push(&STREAM.as_bytes()[from..cut]);
                from = cut;
            }
            chunks.push(&STREAM.as_bytes()[from..]);
            prop_assert_eq!(split(&chunks), split(&[STREAM.as_bytes()]));
        }
    }
}
