//! What a scenario shows from outside: the frames of its sockets, its answers, and what the provider was sent.

use serde_json::{Value, json};

use super::tokens::{Difference, Tokens};
use super::yaml;

/// Recorded, or played, in one form.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// The events of each socket; a recorded one has its place in the recording as `at`.
    pub(super) sockets: Vec<Vec<Value>>,
    /// Of each step that is no open socket: `step`, `request`, `status`, `headers`, `body`.
    pub(super) answers: Vec<Value>,
    /// How many frames the first socket had seen when an answer came; of a recording only.
    pub(super) before: Vec<u64>,
    /// `path`, `headers`, `body`.
    pub(super) requests: Vec<Value>,
}

impl Trace {
    /// What the reference did.
    pub(super) fn recorded(transcript: &Value) -> Self {
        let mut trace = Self::default();
        for (number, step) in transcript["steps"].as_array().unwrap().iter().enumerate() {
            if step["status"] == 101 {
                let frames = step["frames"].as_array().unwrap().iter().enumerate();
                let event = |(at, frame): (usize, &Value)| {
                    let mut event = frame["event"].clone();
                    event["at"] = at.into();
                    event
                };
                trace.sockets.push(frames.map(event).collect());
            } else {
                trace.answers.push(answer(number, step));
                trace.before.push(step["frames_before"][0].as_u64().unwrap_or(0));
            }
        }
        for request in transcript["provider_requests"].as_array().unwrap() {
            let (path, headers) = (&request["path"], &request["headers"]);
            let sent = json!({"path": path, "headers": lowered(headers), "body": request["body"]});
            trace.requests.push(sent);
        }
        trace.read_payloads();
        trace
    }

    /// All events of all sockets.
    pub(super) fn events(&mut self) -> impl Iterator<Item = &mut Value> {
        self.sockets.iter_mut().flatten()
    }

    /// The entities that answers show.
    pub(super) fn shown(&mut self) -> impl Iterator<Item = &mut Vec<Value>> {
        self.answers
            .iter_mut()
            .filter_map(|answer| answer["body"].get_mut("entities")?.as_array_mut())
    }

    /// The entities of upserts and answers.
    pub(super) fn entities(&mut self) -> impl Iterator<Item = &mut Value> {
        let sent =
            self.sockets.iter_mut().flatten().filter_map(|event| event["data"].get_mut("entity"));
        let shown = self
            .answers
            .iter_mut()
            .filter_map(|answer| answer["body"].get_mut("entities")?.as_array_mut());
        sent.chain(shown.flatten())
    }

    /// The lists of stored turns that answers show.
    pub(super) fn turn_lists(&mut self) -> impl Iterator<Item = &mut Vec<Value>> {
        let lists =
            self.answers.iter_mut().filter_map(|a| a["body"].get_mut("items")?.as_array_mut());
        lists.filter(|list| list.iter().any(|item| item.get("payload").is_some()))
    }

    /// The stored turns that answers show.
    pub(super) fn turns(&mut self) -> impl Iterator<Item = &mut Value> {
        self.turn_lists().flatten()
    }

    /// The lists of held frames that answers show.
    pub(super) fn held_lists(&mut self) -> impl Iterator<Item = &mut Vec<Value>> {
        let lists =
            self.answers.iter_mut().filter_map(|a| a["body"].get_mut("items")?.as_array_mut());
        lists.filter(|list| list.iter().any(|item| item.get("frame").is_some()))
    }

    /// Payloads as data instead of text.
    pub(super) fn read_payloads(&mut self) {
        for turn in self.turns() {
            turn["payload"] = yaml::read(turn["payload"].as_str().unwrap());
        }
    }

    /// Where the played trace is not the recorded one.
    pub(super) fn differences(&self, played: &Self) -> Vec<Difference> {
        let (mut tokens, mut found) = (Tokens::default(), Vec::new());
        let place = |parts: &[&str]| parts.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
        for (recorded, played) in self.answers.iter().zip(&played.answers) {
            let place = place(&["answers", &recorded["step"].to_string()]);
            tokens.compare(&place, recorded, played, &mut found);
        }
        for (n, (recorded, played)) in self.sockets.iter().zip(&played.sockets).enumerate() {
            let place = place(&["frames", &n.to_string()]);
            tokens.compare(
                &place,
                &Value::from(recorded.clone()),
                &Value::from(played.clone()),
                &mut found,
            );
        }
        let (recorded, played) = (self.requests.clone(), played.requests.clone());
        tokens.compare(&place(&["requests"]), &recorded.into(), &played.into(), &mut found);
        found
    }
}

/// In lower case, as the client of the tests gives them.
fn lowered(headers: &Value) -> Value {
    let lowered = headers.as_object().into_iter().flatten().map(|(name, value)| {
        (name.to_ascii_lowercase(), Value::from(value.as_str().unwrap().to_ascii_lowercase()))
    });
    Value::Object(lowered.collect())
}

fn answer(number: usize, step: &Value) -> Value {
    if let Some(path) = step.get("socket") {
        return json!({"step": number, "request": path, "status": step["status"], "headers": {}, "body": step["body"]});
    }
    let (request, response) = (&step["request"], &step["response"]);
    json!({"step": number, "request": format!("{} {}", request["method"].as_str().unwrap(), request["path"].as_str().unwrap()),
        "status": response["status"], "headers": lowered(&response["headers"]), "body": response["body"]})
}
