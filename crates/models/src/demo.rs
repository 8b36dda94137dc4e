//! The offline demo model: deterministic, says that it is one, and shows which profile and prompt it runs under, so that
//! a switch of profile can be seen without any provider.

use std::time::Duration;

use collodi_chat::model::{Call, Event, Model, ModelError, Usage};
use collodi_chat::turn::{Block, Kind};
use futures_util::stream::{self, BoxStream, StreamExt};

/// The demo model.
#[derive(Debug, Clone, Copy)]
pub struct Demo {
    /// The time between two words.
    pub pace: Duration,
}

impl Model for Demo {
    fn name(&self) -> String {
        "collodi-demo".into()
    }

    fn provider(&self) -> &'static str {
        crate::DEMO
    }

    fn call(&self, call: Call) -> BoxStream<'static, Result<Event, ModelError>> {
        let pace = self.pace;
        let answer = answer(&call);
        let words: Vec<String> = answer.split_inclusive(' ').map(str::to_owned).collect();
        let usage = Usage {
            input_tokens: call.blocks.iter().map(|block| words_of(block)).sum(),
            output_tokens: u32::try_from(words.len()).unwrap_or(u32::MAX),
            ..Usage::default()
        };
        let end = [
            Ok(Event::Block(Block::text("", Kind::LlmText, &answer))),
            Ok(Event::Usage(usage)),
            Ok(Event::Done { stop_reason: Some("stop".into()) }),
        ];
        let words = stream::iter(words).then(move |word| async move {
            if !pace.is_zero() {
                tokio::time::sleep(pace).await;
            }
            Ok(Event::Text(word))
        });
        words.chain(stream::iter(end)).boxed()
    }
}

fn words_of(block: &Block) -> u32 {
    u32::try_from(block.as_text().split_whitespace().count()).unwrap_or(u32::MAX)
}

fn answer(call: &Call) -> String {
    let runtime = &call.runtime;
    let prompts = || call.blocks.iter().filter(|b| b.kind == Kind::User && b.metadata.is_empty());
    let said = prompts().next_back().map(|block| block.as_text());
    let turns = prompts().count();
    format!(
        "This is the offline demo model; no provider is configured. It runs under the profile \"{}\" (version {}) \
         with the prompt \"{}\". Turn {turns}: you said \"{}\".",
        runtime.slug,
        runtime.version,
        runtime.system_prompt.trim(),
        said.unwrap_or_default().trim(),
    )
}
