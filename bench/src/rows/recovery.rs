//! B12, recovery: a server that was killed with ten answers in flight is ready again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use collodi_chat::run::Phase;
use collodi_chat::store::{
    Attribution, ChatStore, ConversationRecord, TurnRecord, TurnState, Write,
};
use collodi_chat::timeline::{Entity, message_props};
use collodi_chat::turn::{Block, Kind, Layout};
use collodi_profiles::json::Object;
use collodi_store::SqliteChats;
use tempfile::TempDir;

use super::{chatting_on, prompt};
use crate::load::ask;
use crate::provider;
use crate::report::{Goal, Report, Row};
use crate::requests::request;
use crate::sample::{Seeds, database_in};
use crate::server::{Place, Running, limit, ours};
use crate::settings::Settings;

const IN_FLIGHT: usize = 10;

/// Runs the row.
pub(crate) fn run(settings: &Settings, seeds: &Seeds, report: &mut Report) -> Result<()> {
    let provider = provider::start()?;
    let mut by_size = Vec::new();
    for turns in [1_000, 100_000] {
        let workload = format!("{turns} turns");
        if !settings.wants(&workload) {
            continue;
        }
        let filled = seeds.copy(10)?;
        fill(&filled, turns)?;
        let (mut own, mut floor) = (Vec::new(), Vec::new());
        for _ in 0..settings.rounds {
            let folder = seeds.copy(10)?;
            copy(&filled, &folder, &["chat.db", "chat.db.state"])?;
            let killed = interrupted(settings, provider, folder)?;
            let bare = seeds.copy(10)?;
            copy(&killed, &bare, &["chat.db", "chat.db-wal"])?;
            floor.push(ready(|| limit(&["floor"], Some(bare), Place::Pinned))?.0);
            let (took, server) = ready(|| ours(settings, killed, Place::Pinned))?;
            check(&server)?;
            own.push(took);
        }
        let (own, floor) = (median(own), median(floor));
        let workload = format!("{workload}, killed: ms until ready / floor");
        report.add(Row::count("B12", workload, (own, floor), Goal::AtMost(2.0)));
        by_size.push(own);
    }
    if let [small, large] = by_size[..] {
        let workload = "ready, 100,000 / 1,000 turns";
        report.add(Row::count("B12", workload, (large, small), Goal::AtMost(1.3)));
    }
    Ok(())
}

/// Copies that nobody has to wait for later.
pub(super) fn copy(from: &TempDir, to: &TempDir, names: &[&str]) -> Result<()> {
    for name in names {
        let target = to.path().join(name);
        std::fs::copy(from.path().join(name), &target)?;
        std::fs::File::open(&target)?.sync_all()?;
    }
    Ok(())
}

/// Kills a server with answers in flight.
fn interrupted(
    settings: &Settings,
    provider: std::net::SocketAddr,
    folder: TempDir,
) -> Result<TempDir> {
    let server = chatting_on(settings, folder, provider)?;
    for n in 0..IN_FLIGHT {
        prompt(server.address, &format!("flying-{n}"), "bench deltas=1000 pace_us=20000")?;
    }
    std::thread::sleep(Duration::from_millis(200));
    server.kill()
}

/// Milliseconds from the start of the process to its first answer.
pub(super) fn ready(start: impl FnOnce() -> Result<Running>) -> Result<(f64, Running)> {
    let begun = Instant::now();
    let server = start()?;
    let answers = ask(server.address, &[request("GET", "/readyz", "", None)])?;
    let took = begun.elapsed().as_secs_f64() * 1e3;
    ensure!(answers[0].0.starts_with(b"HTTP/1.1 200"), "not ready");
    Ok((took, server))
}

/// Every answer in flight has ended, and says so.
fn check(server: &Running) -> Result<()> {
    for n in 0..IN_FLIGHT {
        let path = format!("/api/timeline?conv_id=flying-{n}");
        let answers = ask(server.address, &[request("GET", &path, "", None)])?;
        let text = String::from_utf8_lossy(&answers[0].1).into_owned();
        ensure!(text.contains("interrupted") && !text.contains("\"streaming\":true"), "{text}");
    }
    Ok(())
}

pub(super) fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Conversations of ten turns each.
pub(super) fn fill(folder: &TempDir, turns: usize) -> Result<()> {
    let store = SqliteChats::open(&database_in(folder.path()).with_file_name("chat.db"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    for n in 0..turns / 10 {
        let receipt = store.write(store.new_row(), conversation(n));
        if n % 500 == 499 || n + 1 == turns / 10 {
            let done = runtime.block_on(receipt).context("the store ended")?;
            done.map_err(|e| anyhow!("{e}"))?;
        }
    }
    Ok(())
}

fn conversation(n: usize) -> Vec<Write> {
    let record = ConversationRecord {
        conv_id: format!("c{n}"),
        session_id: format!("s{n}"),
        runtime_key: "default".into(),
        seq: 1_000,
        ..ConversationRecord::default()
    };
    let mut writes = vec![Write::Conversation(Box::new(record))];
    for ordinal in 1..=10_u64 {
        for (at, (kind, role)) in
            [(Kind::User, "user"), (Kind::LlmText, "assistant")].iter().enumerate()
        {
            let place = 2 * ordinal - 1 + at as u64;
            let block =
                Block::text(format!("b{place}"), *kind, "What was said, in a sentence or two.");
            let _ = block.place.set(place);
            writes.push(Write::Block(Arc::new(block)));
            let props =
                message_props(role, "What was said, in a sentence or two.", false, &Object::new());
            writes.push(Write::Entity(Arc::new(Entity {
                id: format!("e{place}"),
                kind: "message".into(),
                created_at_ms: 1,
                updated_at_ms: 1,
                props,
                version: place,
                place,
            })));
        }
        let layout = Layout(vec![(1, 2 * ordinal)]);
        writes.push(Write::Snapshot {
            ordinal,
            phase: Phase::Final,
            at_ms: 1,
            layout: layout.clone(),
            data: Object::new(),
            metadata: Object::new(),
        });
        writes.push(Write::Turn(Box::new(TurnRecord {
            ordinal,
            turn_id: format!("t{n}-{ordinal}"),
            inference_id: format!("i{n}-{ordinal}"),
            session_id: format!("s{n}"),
            state: TurnState::Completed,
            attribution: Attribution { runtime_key: "default".into(), ..Attribution::default() },
            superseded: false,
            base: Layout::default(),
            layout,
            data: Object::new(),
            metadata: Object::new(),
            started_at_ms: 1,
            ended_at_ms: 1,
        })));
    }
    writes
}
