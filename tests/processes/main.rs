//! Whole processes over real sockets: the server as a stranger starts it, a provider that speaks the OpenAI streaming
//! format on loopback, WebSocket clients.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod c30_access;
mod c30_defects;
mod c30_http;
mod c30_runs;
mod c30_sockets;
mod c30_tools;
mod chat;
mod commands;
mod conversations;
mod flood;
mod frames;
mod inf_runs;
mod lifecycle;
mod many;
mod provider;
mod provider_refusals;
mod provider_stalls;
mod provider_streams;
mod raw;
mod readme;
mod replay;
mod requests;
mod server;
mod slow_sockets;
mod socket;
mod tries;
mod watchers;
