//! The feed of one conversation: numbers frames, encodes each once per dialect, keeps the newest for replay, and hands
//! them to the sockets that watch (chapter 30 §2.5, decisions 22 and 24).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::frame::Event;

/// Most frames and bytes held for replay.
const RING_FRAMES: usize = 1_000;
const RING_BYTES: usize = 4 * 1024 * 1024;
/// Most bytes that wait for one socket; one that falls further behind is closed, and hydrates when it comes back (D28).
/// What a socket missed is replayed in any case, and one frame may be of any size.
const OUTBOX_BYTES: usize = 4 * 1024 * 1024;

/// How deltas are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// With the whole text so far, as contract clients need it.
    Cumulative,
    /// Increments only.
    Incremental,
}

/// What one event is to each dialect.
#[derive(Debug)]
pub enum Frame {
    /// The same.
    Same(Event),
    /// Another form under the same number.
    Both {
        /// With the whole text so far.
        cumulative: Event,
        /// With the new text alone.
        incremental: Event,
    },
    /// Nothing to incremental sockets: they have it by their deltas (decision 24).
    Contract(Event),
}

/// A frame as both dialects send it; the bytes are shared by all sockets.
#[derive(Debug, Clone)]
struct Encoded {
    seq: u64,
    kind: &'static str,
    cumulative: Bytes,
    incremental: Option<Bytes>,
}

impl Encoded {
    fn is_event(&self) -> bool {
        self.kind != "timeline.upsert"
    }

    fn of(&self, dialect: Dialect) -> Option<&Bytes> {
        match dialect {
            Dialect::Cumulative => Some(&self.cumulative),
            Dialect::Incremental => self.incremental.as_ref(),
        }
    }
}

/// A frame that is still held, for the debug API.
#[derive(Debug, Clone)]
pub struct Held {
    /// Its number.
    pub seq: u64,
    /// Its type.
    pub kind: &'static str,
    /// As contract clients got it.
    pub text: Bytes,
}

struct Watcher {
    dialect: Dialect,
    outbox: mpsc::UnboundedSender<Bytes>,
    waiting: Arc<AtomicUsize>,
}

impl Watcher {
    /// Hands a frame on; says whether the socket keeps up.
    fn send(&self, bytes: &Bytes) -> bool {
        let waiting = self.waiting.fetch_add(bytes.len(), Ordering::Relaxed);
        let keeps_up = waiting == 0 || waiting + bytes.len() <= OUTBOX_BYTES;
        keeps_up && self.outbox.send(bytes.clone()).is_ok()
    }
}

/// The frames of one socket, in order. It ends when the socket has fallen too far behind, after what was in it.
#[derive(Debug)]
pub struct Inbox {
    frames: mpsc::UnboundedReceiver<Bytes>,
    waiting: Arc<AtomicUsize>,
}

impl Inbox {
    /// The next frame; `None` at the end.
    pub async fn recv(&mut self) -> Option<Bytes> {
        let frame = self.frames.recv().await?;
        self.waiting.fetch_sub(frame.len(), Ordering::Relaxed);
        Some(frame)
    }

    /// The next frame if it is there.
    pub fn try_recv(&mut self) -> Option<Bytes> {
        let frame = self.frames.try_recv().ok()?;
        self.waiting.fetch_sub(frame.len(), Ordering::Relaxed);
        Some(frame)
    }
}

/// Numbers, keeps and delivers the frames of one conversation.
#[derive(Default)]
pub struct Feed {
    seq: u64,
    ring: VecDeque<Encoded>,
    ring_bytes: usize,
    ring_events: usize,
    watchers: Vec<Watcher>,
}

impl Feed {
    /// Goes on behind `seq`.
    #[must_use]
    pub fn after(seq: u64) -> Self {
        Self { seq, ..Self::default() }
    }

    /// The number of the newest frame.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Publishes a frame: one encoding for each dialect, shared by all sockets.
    pub fn publish(&mut self, frame: &Frame) {
        self.seq += 1;
        let seq = Some(self.seq);
        let (kind, cumulative, incremental) = match frame {
            Frame::Same(event) => {
                let bytes = Bytes::from(event.encode(seq));
                (event.kind, bytes.clone(), Some(bytes))
            }
            Frame::Both { cumulative, incremental } => {
                let bytes = Bytes::from(cumulative.encode(seq));
                (cumulative.kind, bytes, Some(incremental.encode(seq).into()))
            }
            Frame::Contract(event) => (event.kind, event.encode(seq).into(), None),
        };
        let encoded = Encoded { seq: self.seq, kind, cumulative, incremental };
        self.watchers.retain(|watcher| match encoded.of(watcher.dialect) {
            Some(bytes) => watcher.send(bytes),
            None => !watcher.outbox.is_closed(),
        });
        self.ring_bytes += encoded.cumulative.len();
        self.ring_events += usize::from(encoded.is_event());
        self.ring.push_back(encoded);
        while self.ring.len() > RING_FRAMES || self.ring_bytes > RING_BYTES {
            let Some(oldest) = self.ring.pop_front() else { break };
            self.ring_bytes -= oldest.cumulative.len();
            self.ring_events -= usize::from(oldest.is_event());
        }
    }

    /// How many frames are held that are no `timeline.upsert`; counted as they come and go (D53).
    #[must_use]
    pub fn held_events(&self) -> usize {
        self.ring_events
    }

    /// Frames that are still held, oldest first.
    pub fn held(&self) -> impl Iterator<Item = Held> {
        self.ring.iter().map(|frame| Held {
            seq: frame.seq,
            kind: frame.kind,
            text: frame.cumulative.clone(),
        })
    }

    /// Adds a socket: `hello` first, then what it missed since `since_seq` if that is still held, else `resync`.
    pub fn attach(
        &mut self,
        dialect: Dialect,
        hello: &Event,
        since_seq: Option<u64>,
        resync: &Event,
    ) -> Inbox {
        let (outbox, frames) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let hand_on = |bytes: Bytes| {
            waiting.fetch_add(bytes.len(), Ordering::Relaxed);
            let _ = outbox.send(bytes);
        };
        hand_on(hello.encode(None).into());
        if let Some(since) = since_seq {
            let oldest = self.ring.front().map_or(self.seq + 1, |frame| frame.seq);
            if since > self.seq || since + 1 < oldest {
                hand_on(resync.encode(None).into());
            } else {
                for frame in self.ring.iter().filter(|frame| frame.seq > since) {
                    if let Some(bytes) = frame.of(dialect) {
                        hand_on(bytes.clone());
                    }
                }
            }
        }
        self.watchers.push(Watcher { dialect, outbox, waiting: waiting.clone() });
        Inbox { frames, waiting }
    }

    /// How many sockets watch. Those that went away are forgotten.
    pub fn watchers(&mut self) -> usize {
        self.watchers.retain(|watcher| !watcher.outbox.is_closed());
        self.watchers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn event(n: usize) -> Frame {
        Frame::Same(Event::log(&format!("l{n}"), "info", "x", &Value::Null))
    }

    fn kinds_and_seqs(inbox: &mut Inbox) -> Vec<(String, u64)> {
        let mut seen = Vec::new();
        while let Some(bytes) = inbox.try_recv() {
            let frame: Value = serde_json::from_slice(&bytes).unwrap();
            let event = &frame["event"];
            seen.push((
                event["type"].as_str().unwrap().to_owned(),
                event["seq"].as_u64().unwrap_or(0),
            ));
        }
        seen
    }

    fn attach(feed: &mut Feed, since: Option<u64>) -> Vec<(String, u64)> {
        let (hello, resync) = (Event::hello("c", "k", 1), Event::resync("c", 1, 1));
        kinds_and_seqs(&mut feed.attach(Dialect::Cumulative, &hello, since, &resync))
    }

    #[test]
    fn c30_d29_a_socket_sees_hello_then_what_it_missed_then_what_comes() {
        let mut feed = Feed::default();
        (0..3).for_each(|n| feed.publish(&event(n)));
        let hello = ("ws.hello".to_owned(), 0);
        assert_eq!(attach(&mut feed, None), std::slice::from_ref(&hello));
        assert_eq!(
            attach(&mut feed, Some(1)),
            [hello.clone(), ("log".into(), 2), ("log".into(), 3)]
        );
        assert_eq!(attach(&mut feed, Some(3)), std::slice::from_ref(&hello));
        assert_eq!(attach(&mut feed, Some(9)), [hello.clone(), ("ws.resync".into(), 0)]);
        (0..RING_FRAMES).for_each(|n| feed.publish(&event(n)));
        assert_eq!(attach(&mut feed, Some(1)), [hello, ("ws.resync".into(), 0)]);
    }

    #[test]
    fn c30_d28_what_waits_for_a_socket_is_bounded_by_bytes_and_others_are_not_held_up() {
        let mut feed = Feed::default();
        let (hello, resync) = (Event::hello("c", "k", 1), Event::resync("c", 1, 1));
        let mut stuck = feed.attach(Dialect::Cumulative, &hello, None, &resync);
        let mut quick = feed.attach(Dialect::Incremental, &hello, None, &resync);
        let text = "x".repeat(OUTBOX_BYTES / 8);
        for n in 0..10 {
            feed.publish(&Frame::Same(Event::log(&format!("l{n}"), "info", &text, &Value::Null)));
            assert!(kinds_and_seqs(&mut quick).len() <= 2);
        }
        assert_eq!(feed.watchers(), 1);
        let waited = kinds_and_seqs(&mut stuck);
        assert_eq!(waited.last(), Some(&("log".to_owned(), 7)), "what waited is still sent");
    }

    #[test]
    fn a_frame_is_encoded_once_for_all_sockets_of_a_dialect() {
        let mut feed = Feed::default();
        let (hello, resync) = (Event::hello("c", "k", 1), Event::resync("c", 1, 1));
        let mut sockets: Vec<Inbox> =
            (0..3).map(|_| feed.attach(Dialect::Incremental, &hello, None, &resync)).collect();
        feed.publish(&event(1));
        let places: Vec<*const u8> = sockets
            .iter_mut()
            .filter_map(|socket| {
                socket.try_recv();
                socket.try_recv().map(|bytes| bytes.as_ptr())
            })
            .collect();
        assert_eq!(places, [places[0]; 3], "the same bytes, not equal ones");
    }
}
