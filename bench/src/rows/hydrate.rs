//! B10, hydrate: the timeline of 1,000 entities of 530 bytes against a program that concatenates them.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use collodi_chat::store::{ChatStore, ConversationRecord, Write};
use collodi_chat::timeline::{Entity, message_props};
use collodi_profiles::json::Object;
use collodi_store::SqliteChats;

use super::get::side;
use crate::load::{Answer, Workload};
use crate::report::{Compare, Goal, Report, Row};
use crate::requests::{Reads, request};
use crate::rounds::{Turn, measure};
use crate::sample::{Seeds, database_in};
use crate::server::{Place, limit, ours};
use crate::settings::Settings;

const ENTITIES: u64 = 1_000;
const OTHERS: usize = 10_000;

/// Runs the row.
pub(crate) fn run(settings: &Settings, seeds: &Seeds, report: &mut Report) -> Result<()> {
    let few = seeds.copy(10)?;
    fill(&database_in(few.path()).with_file_name("chat.db"), 10)?;
    let many = seeds.copy(10)?;
    fill(&database_in(many.path()).with_file_name("chat.db"), OTHERS)?;
    let again = seeds.copy(10)?;
    std::fs::copy(few.path().join("chat.db"), again.path().join("chat.db"))?;
    let concatenate = limit(&["hydrate"], Some(again), Place::Pinned)?;
    let few = ours(settings, few, Place::Pinned)?;
    let many = ours(settings, many, Place::Pinned)?;
    let full = Rc::new(Timeline { since: 0, least: 400 * ENTITIES });
    let newest = Rc::new(Timeline { since: ENTITIES - 10, least: 1_000 });
    let healthy = Rc::new(Reads::of(few.address, &["/healthz".to_owned()], false)?);
    let sides = vec![
        side(settings, "concatenate", &concatenate, 1, full.clone()),
        side(settings, "ours", &few, 1, full.clone()),
        side(settings, "ours, 10,000 other conversations", &many, 1, full),
        side(settings, "ours, 10 changed", &few, 1, newest),
        side(settings, "ours, /healthz", &few, 1, healthy),
    ];
    let measured = measure(settings, sides)?;
    let cost: fn(&Turn) -> f64 = |t| 1e6 / t.rate;
    let mut add = |text: &str, side, over, goal| {
        let compare = Compare { measured: &measured, side, over, metric: cost, goal };
        report.add(Row::compare("B10", text, &compare));
    };
    add("1,000 entities / concatenate, us", 1, 0, Goal::AtMost(1.6));
    add("10,000 / 10 other conversations, us", 2, 1, Goal::AtMost(1.2));
    add("10 changed / full, us, with their HTTP", 3, 1, Goal::Shown);
    // What a round trip costs that asks for nothing is no part of either.
    let http = measured.median(4, cost);
    let above = |side| measured.median(side, cost) - http;
    let workload = "10 changed / full, us above /healthz";
    report.add(Row::count("B10", workload, (above(3), above(1)), Goal::AtMost(0.1)));
    report.keep("B10", &measured);
    Ok(())
}

/// One conversation of 1,000 entities, and others of one each.
fn fill(path: &Path, others: usize) -> Result<()> {
    let store = SqliteChats::open(path)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let text = "x".repeat(350);
    for n in 0..=others {
        let count = if n == 0 { ENTITIES } else { 1 };
        let record = ConversationRecord {
            conv_id: format!("c{n}"),
            session_id: format!("s{n}"),
            seq: 2 * ENTITIES,
            ..ConversationRecord::default()
        };
        let mut writes = vec![Write::Conversation(Box::new(record))];
        writes.extend((1..=count).map(|place| {
            let props = message_props("assistant", &text, false, &Object::new());
            Write::Entity(Arc::new(Entity {
                id: format!("entity-{place:08}"),
                kind: "message".into(),
                created_at_ms: 1_750_000_000_000,
                updated_at_ms: 1_750_000_000_000,
                props,
                version: place,
                place,
            }))
        }));
        let receipt = store.write(store.new_row(), writes);
        if n % 1_000 == 0 || n == others {
            let done = runtime.block_on(receipt).context("the store ended")?;
            done.map_err(|e| anyhow!("{e}"))?;
        }
    }
    Ok(())
}

struct Timeline {
    since: u64,
    /// Bytes that the answer has at least.
    least: u64,
}

impl Workload for Timeline {
    fn write(&self, _: u64, out: &mut Vec<u8>) {
        let path = format!("/api/timeline?conv_id=c0&since_version={}", self.since);
        out.extend_from_slice(&request("GET", &path, "", None));
    }

    fn accepts(&self, _: u64, answer: &Answer<'_>) -> bool {
        answer.status == 200 && answer.body.len() as u64 >= self.least
    }
}
