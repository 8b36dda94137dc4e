//! `collodi ops` as an operator runs it: against real servers, and against servers that are broken in one line each.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod check;
mod command;
mod deploy;
mod documents;
mod fake;
mod front;
mod manual;
mod packet;
mod page;
mod preflight;
mod profiles;
mod rollout;
#[path = "../processes/server.rs"]
#[expect(dead_code, reason = "other tests need the rest of it")]
mod server;
mod snapshots;
