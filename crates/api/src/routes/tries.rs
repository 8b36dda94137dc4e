//! `POST /api/chat/profiles/{slug}/try`: a prompt that runs under a profile as it is being written. Nothing of it is stored
//! but the conversation, which says version 0.

use axum::body::Body;
use axum::response::Response;
use collodi_profiles::{Error, ProfileSlug};
use serde::Deserialize;

use super::chat::{Handed, hand_in};
use super::profiles::PatchBody;
use crate::App;
use crate::access::Role;
use crate::context::Incoming;
use crate::extract::{self, Query};
use crate::problem::Failure;

/// Largest body: a document and a prompt.
const MAX_TRY_BODY: usize = 2 * 1024 * 1024;

#[derive(Deserialize)]
struct TryBody {
    /// What `PATCH` would be sent; a profile that is not stored begins empty.
    profile: Option<PatchBody>,
    prompt: Option<String>,
    conv_id: Option<String>,
    idempotency_key: Option<String>,
    retry_turn_id: Option<String>,
}

pub(super) async fn submit(
    app: &App,
    incoming: &Incoming,
    body: Body,
    slug: ProfileSlug,
) -> Result<Response, Failure> {
    let bytes = extract::read_body(&incoming.parts.headers, body, MAX_TRY_BODY).await?;
    let body: TryBody = extract::parse(&bytes)?;
    let query = Query::of(&incoming.parts)?;
    let profile = body.profile.ok_or_else(|| Error::invalid("profile", "is required"))?;
    let registry = query.registry(profile.registry(), app.registry.default_registry())?;
    let may_unlock = incoming.principal.role == Role::Operator;
    let service = app.registry.clone();
    let resolve = move || service.resolve_draft(&registry, slug, profile.into(), may_unlock);
    let runtime = tokio::task::spawn_blocking(resolve).await.map_err(|_| Failure::internal())??;
    let handed = Handed {
        text: body.prompt.unwrap_or_default(),
        conv_id: body.conv_id,
        idempotency_key: body.idempotency_key,
        retry_turn_id: body.retry_turn_id,
        step_mode: None,
        runtime,
    };
    hand_in(app, incoming, handed).await
}
