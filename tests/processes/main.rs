//! Whole processes over real sockets: the server as a stranger starts it, a provider that speaks the OpenAI streaming
//! format on loopback, WebSocket clients.

mod chat;
mod lifecycle;
mod provider;
mod readme;
mod server;
mod socket;
