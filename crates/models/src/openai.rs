//! The wire format of OpenAI Chat Completions (chapter 40 §14.2): a request out, events in. No socket in here.

use collodi_chat::model::{Event, ModelError, Usage};
use collodi_chat::turn::Block;
use collodi_profiles::settings::Settings;
use serde_json::{Map, Value, json};

/// The body of the request.
#[must_use]
pub fn encode(blocks: &[Block], settings: &Settings) -> Value {
    let model = settings.text("ai-engine").unwrap_or_default();
    let mut body = json!({"model": model, "messages": messages(blocks), "stream": true});
    if !model.contains("mistral") {
        body["stream_options"] = json!({"include_usage": true});
    }
    let reasoning = is_reasoning_model(&model);
    let either = |first: &str, second: &str| {
        settings
            .is_set(first)
            .then(|| settings.get(first))
            .flatten()
            .or_else(|| settings.get(second))
    };
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            body[key] = value;
        }
    };
    let max_tokens = either("inference-max-response-tokens", "ai-max-response-tokens");
    put(if reasoning { "max_completion_tokens" } else { "max_tokens" }, max_tokens);
    put("stop", either("inference-stop", "ai-stop").filter(|stop| stop != &json!([])));
    put("seed", settings.get("inference-seed"));
    put("logit_bias", settings.get("openai-logit-bias"));
    put("response_format", response_format(settings));
    if reasoning {
        put("reasoning_effort", settings.get("inference-reasoning-effort"));
    } else {
        put("temperature", either("inference-temperature", "ai-temperature"));
        put("top_p", either("inference-top-p", "ai-top-p"));
        put("n", settings.get("openai-n"));
        // Sent when somebody set them, zero included: unset and 0 are not the same (INF-14).
        for (key, name) in [
            ("presence_penalty", "openai-presence-penalty"),
            ("frequency_penalty", "openai-frequency-penalty"),
        ] {
            put(key, settings.is_set(name).then(|| settings.get(name)).flatten());
        }
    }
    body
}

fn messages(blocks: &[Block]) -> Vec<Value> {
    let message = |role: &str, text: &str| json!({"role": role, "content": text.trim()});
    blocks
        .iter()
        .map(|block| match block {
            Block::System(text) => message("system", text),
            Block::User(text) => message("user", text),
            Block::Assistant(text) => message("assistant", text),
        })
        .filter(|message| message["content"] != "")
        .collect()
}

/// Whether the provider takes this model for one that reasons (chapter 40 §2.1).
fn is_reasoning_model(model: &str) -> bool {
    let model = model.to_ascii_lowercase();
    ["o1", "o3", "o4", "gpt-5"].iter().any(|prefix| model.starts_with(prefix))
}

fn response_format(settings: &Settings) -> Option<Value> {
    let text = |name: &str| settings.text(name).unwrap_or_default();
    if text("ai-structured-output-mode") != "json_schema" {
        return None;
    }
    let schema: Value = serde_json::from_str(&text("ai-structured-output-schema")).ok()?;
    let mut format = Map::new();
    format.insert("name".into(), text("ai-structured-output-name").into());
    let description = text("ai-structured-output-description");
    if !description.is_empty() {
        format.insert("description".into(), description.into());
    }
    format.insert("schema".into(), schema);
    format.insert(
        "strict".into(),
        settings.get("ai-structured-output-strict").unwrap_or(Value::Bool(true)),
    );
    Some(json!({"type": "json_schema", "json_schema": format}))
}

/// Reads the events of one answer.
#[derive(Debug, Default)]
pub struct Decoder {
    stop_reason: Option<String>,
    usage: Option<Usage>,
    done: bool,
}

impl Decoder {
    /// Takes the data of one event. Unknown fields are ignored; an event that does not parse breaks the run.
    ///
    /// # Errors
    /// The provider's own error, or data that is not of this format.
    pub fn event(&mut self, data: &str) -> Result<Option<Event>, ModelError> {
        if data.trim() == "[DONE]" {
            self.done = true;
            return Ok(None);
        }
        let chunk: Value = serde_json::from_str(data).map_err(|error| {
            tracing::warn!(%error, data = %data.chars().take(500).collect::<String>(), "provider sent no JSON");
            ModelError::new("protocol", "the provider sent an event that cannot be read").retryable()
        })?;
        if let Some(error) = chunk.get("error").filter(|error| !error.is_null()) {
            return Err(ModelError::new(
                "provider",
                format!("the provider reported: {}", error_text(error)),
            ));
        }
        if let Some(usage) = chunk.get("usage").filter(|usage| usage.is_object()) {
            self.usage = Some(read_usage(usage));
        }
        let choices = chunk.get("choices").and_then(Value::as_array);
        let first = choices
            .into_iter()
            .flatten()
            .find(|c| c.get("index").and_then(Value::as_u64).unwrap_or(0) == 0);
        let Some(choice) = first else { return Ok(None) };
        if let Some(reason) =
            choice.get("finish_reason").and_then(Value::as_str).filter(|r| !r.is_empty())
        {
            self.stop_reason = Some(reason.to_owned());
        }
        let text =
            choice.get("delta").and_then(|delta| delta.get("content")).and_then(Value::as_str);
        Ok(text.filter(|text| !text.is_empty()).map(|text| Event::Text(text.to_owned())))
    }

    /// Whether the end mark was seen and nothing more is to come.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// The body ended: complete with a finish reason or `[DONE]`, else cut (decision 33).
    ///
    /// # Errors
    /// A stream that just ends.
    pub fn end(self) -> Result<Event, ModelError> {
        if self.done || self.stop_reason.is_some() {
            Ok(Event::Done { stop_reason: self.stop_reason, usage: self.usage })
        } else {
            Err(ModelError::new("cut", "the provider's answer was cut off").retryable())
        }
    }
}

fn read_usage(usage: &Value) -> Usage {
    let number = |value: Option<&Value>| {
        value.and_then(Value::as_u64).map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX))
    };
    Usage {
        input_tokens: number(usage.get("prompt_tokens")),
        output_tokens: number(usage.get("completion_tokens")),
        cached_tokens: number(
            usage.get("prompt_tokens_details").and_then(|d| d.get("cached_tokens")),
        ),
    }
}

/// The provider's own words, from an error object or text.
#[must_use]
pub fn error_text(error: &Value) -> String {
    let message = error.get("message").and_then(Value::as_str).or_else(|| error.as_str());
    message.map_or_else(|| error.to_string(), str::to_owned).chars().take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(fields: &[(&str, Value)]) -> Settings {
        let mut settings = Settings::default();
        for (name, value) in fields {
            settings.set(name, value).unwrap();
        }
        settings
    }

    fn decode(events: &[Value]) -> (String, Result<Event, ModelError>) {
        let (mut decoder, mut text) = (Decoder::default(), String::new());
        for event in events {
            let data = event.as_str().map_or_else(|| event.to_string(), str::to_owned);
            match decoder.event(&data) {
                Ok(Some(Event::Text(more))) => text.push_str(&more),
                Ok(_) => {}
                Err(error) => return (text, Err(error)),
            }
        }
        (text, decoder.end())
    }

    fn delta(text: &str) -> Value {
        json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]})
    }

    fn finish(reason: &str) -> Value {
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    }

    #[test]
    fn requests_carry_settings_and_context() {
        let blocks =
            [Block::System(" s ".into()), Block::Assistant("  ".into()), Block::User("u".into())];
        let body = encode(&blocks, &settings(&[("ai-engine", json!("test-model"))]));
        assert_eq!(
            body,
            json!({"model": "test-model", "stream": true, "stream_options": {"include_usage": true},
                "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
                "temperature": 0.7, "top_p": 1.0, "n": 1})
        );
    }

    #[test]
    fn inf_14_zero_is_sent_and_unset_is_not() {
        let body = encode(
            &[],
            &settings(&[("ai-temperature", json!(0)), ("openai-presence-penalty", json!(0))]),
        );
        assert_eq!((&body["temperature"], &body["presence_penalty"]), (&json!(0), &json!(0)));
        assert_eq!(body.get("frequency_penalty"), None);
    }

    #[test]
    fn reasoning_models_take_other_parameters() {
        let fields = [("ai-engine", json!("o3-mini")), ("ai-max-response-tokens", json!(9))];
        let body = encode(&[], &settings(&fields));
        assert_eq!(body["max_completion_tokens"], json!(9));
        assert!(
            ["max_tokens", "temperature", "top_p", "n"].iter().all(|key| body.get(*key).is_none())
        );
    }

    #[test]
    fn an_answer_is_text_reason_and_usage() {
        let usage = json!({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}});
        let (text, end) =
            decode(&[delta("Hel"), delta("lo"), finish("stop"), usage, json!("[DONE]")]);
        assert_eq!(text, "Hello");
        let usage = Usage { input_tokens: 7, output_tokens: 3, cached_tokens: 0 };
        assert_eq!(end, Ok(Event::Done { stop_reason: Some("stop".into()), usage: Some(usage) }));
    }

    #[test]
    fn inf_8_only_the_provider_s_own_end_mark_completes_an_answer() {
        assert!(decode(&[delta("Hel"), finish("length")]).1.is_ok());
        assert!(decode(&[delta("Hel"), json!("[DONE]")]).1.is_ok());
        let (text, end) = decode(&[delta("Hel")]);
        assert_eq!((text.as_str(), end.unwrap_err().code), ("Hel", "cut"));
        let (_, end) = decode(&[delta("Hel"), json!({"error": {"message": "overloaded"}})]);
        assert_eq!(end.unwrap_err().message, "the provider reported: overloaded");
        assert_eq!(decode(&[json!("{\"choices\":[{")]).1.unwrap_err().code, "protocol");
    }
}
