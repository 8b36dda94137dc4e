//! Every route on one screen. Paths are matched as they were sent: an encoded slash never makes a segment (H10).

use std::sync::Arc;

use axum::Router;
use axum::routing::any;

use crate::App;
use crate::routes::{chat, profiles, schemas, selection, system, timeline};
use crate::ws;

/// The routes of an application, without its mount prefix. Handlers check their own methods: the contract has its own
/// order of checks and its own text for 405.
pub(crate) fn routes(app: Arc<App>) -> Router {
    let routes = Router::new()
        // profiles (chapter 20)
        .route("/api/chat/profiles", any(profiles::collection))
        .route("/api/chat/profiles/{*target}", any(profiles::item))
        .route("/api/chat/schemas/middlewares", any(schemas::middlewares))
        .route("/api/chat/schemas/extensions", any(schemas::extensions))
        // chat (chapter 30)
        .route("/chat", any(chat::submit))
        .route("/chat/", any(chat::submit))
        .route("/chat/{*profile}", any(chat::submit))
        .route("/ws", any(ws::upgrade))
        .route("/api/timeline", any(timeline::snapshot))
        .route("/api/timeline/{*rest}", any(timeline::snapshot))
        // operation (decisions 30, 37)
        .route("/api/chat/release", any(system::release))
        .route("/openapi.json", any(system::openapi))
        .route("/healthz", any(system::healthz))
        .route("/readyz", any(system::readyz))
        .route("/metrics", any(system::metrics))
        // pages
        .route("/app-config.js", any(system::app_config))
        .route("/", any(system::page))
        .fallback(system::not_routed);
    let routes = if app.mount.cookie.is_some() {
        routes.route("/api/chat/profile", any(selection::current))
    } else {
        routes
    };
    routes.with_state(app)
}
