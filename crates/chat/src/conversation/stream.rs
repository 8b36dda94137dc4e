//! Messages that grow: deltas for sockets, announcements for contract clients, appended text for the store, each at a pace
//! of its own (decision 24, chapter 30 §3.3).

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::Conversation;
use super::live::To;
use crate::feed::Frame;
use crate::frame::{self, Event, Voice};
use crate::model::{Thinking, Usage};
use crate::store::Write;
use crate::timeline::message_props;

/// Deltas are sent at once, then at most this often (decision 24).
const COALESCE: Duration = Duration::from_millis(25);
/// A growing message is announced to contract clients at most this often (chapter 30 §3.3).
const ANNOUNCE: Duration = Duration::from_millis(250);
/// Text of a growing message is stored at most this often, unless so many bytes have gathered: what is lost when the
/// process dies, against what is written for it.
const STORE: Duration = Duration::from_secs(2);
const STORE_BYTES: usize = 64 * 1024;

/// A message that grows.
pub(super) struct Stream {
    pub(super) id: String,
    pub(super) text: String,
    /// Bytes at the end of `text` that no delta has carried yet.
    pub(super) held: usize,
    pub(super) next_delta: Instant,
    announced: Instant,
    /// Bytes of `text` that are stored, and when they were.
    stored: usize,
    stored_at: Instant,
    /// Thinking that ended stays, in case a summary follows.
    ended: bool,
}

impl Stream {
    pub(super) fn new(id: String) -> Self {
        let now = Instant::now();
        Self {
            id,
            text: String::new(),
            held: 0,
            next_delta: now,
            announced: now,
            stored: 0,
            stored_at: now,
            ended: false,
        }
    }
}

impl Conversation {
    pub(super) fn said(&mut self, voice: Voice, text: &str) {
        let Some(running) = &mut self.running else { return };
        let Some(stream) = running.stream(voice) else { return };
        stream.text.push_str(text);
        stream.held += text.len();
        if Instant::now() >= stream.next_delta {
            self.flush_stream(voice);
        }
    }

    pub(super) fn thought(&mut self, thinking: Thinking) {
        let Some(running) = &mut self.running else { return };
        let Some(id) = running.answer.as_ref().map(|answer| format!("{}:thinking", answer.id))
        else {
            return;
        };
        let mut metadata = Value::Object(running.metadata.clone());
        if let (Thinking::Summary(_), Some(usage)) = (&thinking, &running.usage) {
            metadata["usage"] = json!(usage);
        }
        match thinking {
            Thinking::Started => {
                if let Some(open) = &mut running.thinking {
                    open.ended = false;
                    return;
                }
                running.thinking = Some(Stream::new(id.clone()));
                self.emit(Frame::Same(Event::llm_start(&id, Voice::Thinking, metadata)));
            }
            Thinking::Text(text) => self.said(Voice::Thinking, &text),
            Thinking::Ended => self.end_thinking(),
            Thinking::Summary(text) => {
                self.end_thinking();
                self.emit(Frame::Same(Event::thinking_summary(&id, &text, metadata)));
                let props = self.props(Voice::Thinking, &text, false);
                self.project(&id, "message", props, To::All);
                if let Some(thinking) = self.running.as_mut().and_then(|r| r.thinking.as_mut()) {
                    thinking.text = text;
                }
            }
        }
    }

    /// Closes a thought that is open.
    pub(super) fn end_thinking(&mut self) {
        self.flush_stream(Voice::Thinking);
        let Some(running) = &mut self.running else { return };
        let Some(thinking) = running.thinking.as_mut().filter(|thinking| !thinking.ended) else {
            return;
        };
        thinking.ended = true;
        let (id, text) = (thinking.id.clone(), thinking.text.clone());
        self.emit(Frame::Same(Event::thinking_final(&id)));
        if !text.is_empty() {
            let props = self.props(Voice::Thinking, &text, false);
            self.project(&id, "message", props, To::All);
        }
    }

    /// Sends what is held back.
    pub(super) fn flush(&mut self) {
        self.flush_stream(Voice::Thinking);
        self.flush_stream(Voice::Assistant);
    }

    /// Sends the held-back text as one delta, and stores or announces the message if it is time.
    fn flush_stream(&mut self, voice: Voice) {
        let Some(running) = &mut self.running else { return };
        // Not by `stream`, which would hold on to the metadata too.
        let stream = match voice {
            Voice::Assistant => running.answer.as_mut(),
            Voice::Thinking => running.thinking.as_mut(),
        };
        let Some(stream) = stream.filter(|stream| stream.held > 0) else { return };
        let now = Instant::now();
        stream.next_delta = now + COALESCE;
        let delta = stream.text[stream.text.len() - stream.held..].to_owned();
        stream.held = 0;
        let metadata = Value::Object(running.metadata.clone());
        let id = stream.id.clone();
        let incremental = Event::llm_delta(&id, voice, &delta, None, metadata.clone());
        let cumulative = Event::llm_delta(&id, voice, &delta, Some(&stream.text), metadata);
        let first = stream.stored == 0;
        let announce = !first && now - stream.announced >= ANNOUNCE;
        let unsaved = stream.text.len() - stream.stored;
        let store = !first && (now - stream.stored_at >= STORE || unsaved >= STORE_BYTES);
        if first || announce {
            stream.announced = now;
        }
        let text = (first || announce).then(|| stream.text.clone());
        if first {
            (stream.stored, stream.stored_at) = (stream.text.len(), now);
        }
        let began_ms = (!std::mem::replace(&mut running.has_spoken, true))
            .then_some(running.turn.started_at_ms);
        if let Some(began_ms) = began_ms {
            let after = u64::try_from(self.now() - began_ms).unwrap_or(0);
            self.shared.counts.first_word(after);
        }
        self.emit(Frame::Both { cumulative, incremental });
        if let Some(text) = text {
            let props = self.props(voice, &text, true);
            self.project(&id, "message", props, if first { To::All } else { To::Contract });
        }
        if store {
            self.store_stream(voice);
        }
    }

    /// Appends to the stored message what has grown since, under the number of the newest frame: whoever hydrates at that
    /// number misses nothing before it and sees nothing after it twice.
    pub(super) fn store_stream(&mut self, voice: Voice) {
        let (version, updated_at_ms) = (self.feed.seq(), self.now());
        let Some(running) = &mut self.running else { return };
        let unsaved = |stream: &&mut Stream| !stream.ended && stream.stored < stream.text.len();
        let Some(stream) = running.stream(voice).filter(unsaved) else { return };
        let text = stream.text[stream.stored..].to_owned();
        (stream.stored, stream.stored_at) = (stream.text.len(), Instant::now());
        let id = stream.id.clone();
        self.batch.push(Write::EntityText { id, version, updated_at_ms, text });
    }

    /// Sends and stores all text that there is, for somebody who is about to read the timeline.
    pub(super) fn store_streams(&mut self) {
        if self.staged.is_some() {
            return; // the end is being stored
        }
        self.flush();
        self.store_stream(Voice::Thinking);
        self.store_stream(Voice::Assistant);
    }

    fn props(&self, voice: Voice, text: &str, streaming: bool) -> Value {
        let none = Map::new();
        let (metadata, turn_id) = match &self.running {
            Some(running) => (&running.metadata, running.ids.turn_id.as_str()),
            None => (&none, ""),
        };
        let mut metadata = metadata.clone();
        metadata.insert("turnId".into(), turn_id.into());
        message_props(voice.role(), text, streaming, &metadata)
    }

    pub(super) fn answered(&mut self, stop_reason: Option<&str>, usage: Option<&Usage>) {
        self.end_thinking();
        self.flush();
        let Some(running) = &mut self.running else { return };
        running.usage = usage.copied().or(running.usage);
        running.stop_reason = stop_reason.map(str::to_owned);
        if running.announced.is_empty() {
            // This may be the end: nobody hears of it before it is stored.
            self.staged.get_or_insert_default();
        }
        self.close_answer(stop_reason, usage);
    }

    /// The message of the model's call is complete, or will not be: `llm.final`, and the entity if it has text (D24).
    pub(super) fn close_answer(&mut self, stop_reason: Option<&str>, usage: Option<&Usage>) {
        let now = self.now();
        let Some(running) = &mut self.running else { return };
        let Some(answer) = running.answer.take() else { return };
        frame::add_outcome(&mut running.metadata, stop_reason, usage, now - running.called_ms);
        running.unplaced.clone_from(&answer.text);
        let metadata = Value::Object(running.metadata.clone());
        self.emit(Frame::Same(Event::llm_final(&answer.id, &answer.text, metadata)));
        if !answer.text.is_empty() {
            let props = self.props(Voice::Assistant, &answer.text, false);
            self.project(&answer.id, "message", props, To::All);
        }
    }
}
