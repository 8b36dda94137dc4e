//! The rows of the suite (benchmarks, section 5).

pub(crate) mod fanout;
pub(crate) mod first_frame;
pub(crate) mod get;
pub(crate) mod hydrate;
pub(crate) mod idle;
pub(crate) mod list;
pub(crate) mod message;
pub(crate) mod recovery;
pub(crate) mod resolve;
pub(crate) mod snapshot;
pub(crate) mod start;
pub(crate) mod tool_loop;
mod turns;
pub(crate) mod write;

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use serde_json::json;
use tempfile::TempDir;

use crate::load::ask;
use crate::requests::request;
use crate::sample::Seeds;
use crate::server::{Place, Running, ours_with};
use crate::settings::Settings;

/// A server of ours whose model is the scripted provider.
fn chatting(settings: &Settings, seeds: &Seeds, provider: SocketAddr) -> Result<Running> {
    chatting_on(settings, seeds.copy(10)?, provider)
}

/// The same on databases that are there.
fn chatting_on(settings: &Settings, folder: TempDir, provider: SocketAddr) -> Result<Running> {
    let url = format!("http://{provider}/v1");
    let options = ["--openai-base-url", &url, "--ai-engine", "bench"];
    ours_with(&[], settings, folder, Place::Pinned, &options)
}

/// Hands in a prompt.
fn prompt(address: SocketAddr, conv_id: &str, text: &str) -> Result<()> {
    let body = json!({"conv_id": conv_id, "prompt": text}).to_string();
    let mut message = request("POST", "/chat", "", Some(body.len()));
    message.extend_from_slice(body.as_bytes());
    let answers = ask(address, &[message])?;
    let (head, body) = &answers[0];
    ensure!(
        head.starts_with(b"HTTP/1.1 200"),
        "the prompt was refused: {}",
        String::from_utf8_lossy(body)
    );
    Ok(())
}
