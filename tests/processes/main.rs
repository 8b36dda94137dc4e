//! Whole processes over real sockets: the server as a stranger starts it, a provider that speaks the OpenAI streaming
//! format on loopback, WebSocket clients.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod chat;
mod commands;
mod lifecycle;
mod provider;
mod readme;
mod server;
mod socket;
