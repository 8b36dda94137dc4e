//! Every route on one screen. Paths are matched as they were sent, an encoded slash never makes a segment (H10), and
//! handlers check their methods themselves: the contract has its own order of checks and its own text for 405. A match
//! says all that; a router would decode, store and box first. Everything but a read is boxed here, so that the future of
//! a read stays small: it is moved for every request.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;

use crate::App;
use crate::context::Incoming;
use crate::problem::Failure;
use crate::routes::{
    bundle, chat, conversations, debug, operations, profiles, schemas, selection, system, timeline,
    versions,
};
use crate::{ui, ws};

/// Answers a request whose path is without the mount prefix.
pub(crate) async fn route(
    app: &Arc<App>,
    incoming: Incoming,
    body: Body,
) -> Result<Response, Failure> {
    let uri = incoming.parts.uri.clone();
    match uri.path() {
        // profiles (chapter 20)
        "/api/chat/profiles" => profiles::collection(app, &incoming, body).await,
        path if profiles::is_item(path) => profiles::item(app, &incoming, body).await,
        "/api/chat/profile" if app.mount.cookie.is_some() => {
            Box::pin(selection::current(app, &incoming.parts, body)).await
        }
        "/api/chat/bundle" => Box::pin(bundle::answer(app, &incoming, body)).await,
        "/api/chat/schemas/middlewares" => {
            let list = || schemas::middlewares(app.registry.catalog());
            schemas::answer(&app.schemas.middlewares, &incoming.parts.method, list)
        }
        "/api/chat/schemas/extensions" => {
            let list = || schemas::extensions(app.registry.catalog());
            schemas::answer(&app.schemas.extensions, &incoming.parts.method, list)
        }
        "/api/chat/schemas/tools" => {
            let list = || schemas::tools(&app.conversations.tools());
            schemas::answer(&app.schemas.tools, &incoming.parts.method, list)
        }
        // chat (chapter 30)
        path if chat::is_chat(path) => Box::pin(chat::submit(app, &incoming, body)).await,
        "/ws" => Box::pin(ws::upgrade(app.clone(), incoming.parts)).await,
        path if timeline::is_timeline(path) => {
            Box::pin(timeline::snapshot(app, &incoming.parts)).await
        }
        path if conversations::is_conversations(path) => {
            Box::pin(conversations::answer(app, &incoming.parts, body)).await
        }
        path if app.debug_api && debug::is_debug(path) => {
            Box::pin(debug::answer(app, &incoming.parts, body)).await
        }
        // operation (decisions 30, 37)
        "/api/chat/audit" => Box::pin(versions::audit(app, &incoming.parts)).await,
        "/api/ops/samples" => operations::samples(app, &incoming.parts),
        "/api/ops/check" => operations::check(app, &incoming.parts),
        "/api/ops/packet" => Box::pin(operations::packet(app, &incoming.parts, body)).await,
        "/api/ops/snapshots" => Box::pin(operations::snapshots(app, &incoming.parts)).await,
        "/api/ops/config" => operations::config(app, &incoming.parts),
        "/api/ops/logs" => operations::logs(app, &incoming.parts),
        "/api/chat/release" => system::release(app, &incoming.parts.method),
        "/openapi.json" => system::openapi(&incoming.parts.method),
        "/healthz" => Ok(system::healthz()),
        "/readyz" => Ok(Box::pin(system::readyz(app)).await),
        "/metrics" => Ok(system::metrics(app)),
        // pages
        "/app-config.js" => system::app_config(app, &incoming.parts.method),
        _ => ui::page(app, &incoming.parts),
    }
}
