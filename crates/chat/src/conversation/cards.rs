//! Calls of tools as they are shown: begun, running, ended (chapter 30 §2.4, D33).

use std::sync::Arc;

use serde_json::Value;

use super::Conversation;
use super::live::To;
use crate::feed::Frame;
use crate::frame::Event;
use crate::store::Write;
use crate::timeline::{tool_call_props, tool_result_props};
use crate::turn::{Block, Layout};

/// A call of a tool as it is shown.
#[derive(Debug, Clone)]
pub(super) struct Card {
    name: String,
    input: Value,
}

impl Conversation {
    pub(super) fn tool_called(&mut self, call: Arc<Block>) {
        self.end_thinking();
        self.flush();
        let Some(running) = &mut self.running else { return };
        let entity_id = call.get("id").to_owned();
        let args = call.payload.get("args").and_then(Value::as_object);
        let input = args.filter(|args| !args.is_empty()).cloned().map(Value::Object);
        let card = Card { name: call.get("name").to_owned(), input: input.unwrap_or(Value::Null) };
        let (name, input) = (card.name.clone(), card.input.clone());
        running.cards.insert(entity_id.clone(), card);
        running.announced.push(call);
        self.emit(Frame::Same(Event::tool_start(&entity_id, &name, &input)));
        let props = tool_call_props(&name, &input, None);
        self.project(&entity_id, "tool_call", props, To::All);
    }

    pub(super) fn tool_started(&mut self, call: &Block) {
        let card = self.running.as_ref().and_then(|running| running.cards.get(call.get("id")));
        if let Some(card) = card.cloned() {
            self.emit(Frame::Same(Event::tool_delta(call.get("id"), &card.input)));
        }
    }

    pub(super) fn tool_ended(&mut self, call: &Block, result: &Arc<Block>) {
        let Some(running) = &mut self.running else { return };
        // Stored at once: what the user sees of it now must be there after a crash, too.
        running.results.push(result.clone());
        let results = running.results.clone();
        self.append(&results);
        if let Some(running) = &mut self.running {
            running.turn.layout = Layout::of(&[&running.blocks[..], &results].concat());
            self.batch.push(Write::Turn(Box::new(running.turn.clone())));
        }
        self.close_card(call.get("id"), result);
    }

    /// Shows the end of a call, well or not (D33).
    pub(super) fn close_card(&mut self, call_id: &str, result: &Block) {
        let Some(card) = self.running.as_mut().and_then(|r| r.cards.remove(call_id)) else {
            return;
        };
        let Card { name, input } = card;
        let entity_id = call_id;
        let error = result.get("error");
        let text = match (result.get("result"), error) {
            (result, "") => result.to_owned(),
            ("", error) => format!("Error: {error}"),
            (result, error) => format!("{result} | Error: {error}"),
        };
        let (kind, suffix) = match name.as_str() {
            "calc" => ("calc_result", "custom"),
            _ => ("", "result"),
        };
        self.emit(Frame::Same(Event::tool_result(entity_id, &text, kind)));
        let result_id = format!("{entity_id}:{suffix}");
        let props = tool_result_props(entity_id, &text, error, kind);
        self.project(&result_id, "tool_result", props, To::All);
        self.emit(Frame::Same(Event::tool_done(entity_id)));
        let outcome = if error.is_empty() { Ok(()) } else { Err(error) };
        let props = tool_call_props(&name, &input, Some(outcome));
        self.project(entity_id, "tool_call", props, To::All);
    }
}
