//! The HTTP contract, spoken over real sockets: chapter by chapter, defect by defect, and the recorded exchanges.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod access;
mod adopted;
mod allowed_tools;
mod app;
mod bundle;
mod chat_selection;
mod client;
mod defects_domain;
mod defects_http;
mod defects_rules;
mod fuzz;
mod history;
mod isolation;
mod json;
mod limits;
mod listing;
mod metrics;
mod middlewares;
mod paths;
mod profiles;
mod registries;
mod schemas;
mod selection;
mod silence;
mod transcript;
mod versions;
