//! The offline demo model: deterministic, says that it is one, and shows which profile and prompt it runs under, so that
//! a switch of profile can be seen without any provider.

use std::time::Duration;

use collodi_chat::model::{Call, Event, Model, ModelError, Usage};
use collodi_chat::turn::Block;
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

    fn call(&self, call: Call) -> BoxStream<'static, Result<Event, ModelError>> {
        let pace = self.pace;
        let answer = answer(&call);
        let words: Vec<String> = answer.split_inclusive(' ').map(str::to_owned).collect();
        let usage = Usage {
            input_tokens: call.blocks.iter().map(words_of).sum(),
            output_tokens: u32::try_from(words.len()).unwrap_or(u32::MAX),
            cached_tokens: 0,
        };
        let done = Event::Done { stop_reason: Some("stop".into()), usage: Some(usage) };
        let words = stream::iter(words).then(move |word| async move {
            if !pace.is_zero() {
                tokio::time::sleep(pace).await;
            }
            Ok(Event::Text(word))
        });
        words.chain(stream::iter([Ok(done)])).boxed()
    }
}

fn words_of(block: &Block) -> u32 {
    let (Block::System(text) | Block::User(text) | Block::Assistant(text)) = block;
    u32::try_from(text.split_whitespace().count()).unwrap_or(u32::MAX)
}

fn answer(call: &Call) -> String {
    let runtime = &call.runtime;
    let said = call.blocks.iter().rev().find_map(|block| match block {
        Block::User(text) => Some(text.as_str()),
        _ => None,
    });
    let turns = call.blocks.iter().filter(|block| matches!(block, Block::User(_))).count();
    format!(
        "This is the offline demo model; no provider is configured. It runs under the profile \"{}\" (version {}) \
         with the prompt \"{}\". Turn {turns}: you said \"{}\".",
        runtime.slug,
        runtime.version,
        runtime.system_prompt.trim(),
        said.unwrap_or_default().trim(),
    )
}
