//! The description of the API (OpenAPI 3.1). `openapi.json` at the top of the repository is this document; a test
//! compares the two, and `COLLODI_BLESS=1` writes it anew.

use serde_json::{Map, Value, json};

mod chat;
mod operations;
mod versions;

/// The document.
#[must_use]
pub fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "collodi",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A chat backend with a profile registry at its heart. Failures are plain text by default; \
                send `Accept: application/problem+json` for a document with all problems.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": all_paths(),
        "components": {
            "schemas": all_schemas(),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "password": {"type": "http", "scheme": "basic", "description": "The token is the password."},
            },
        },
        "security": [{}, {"token": []}, {"password": []}],
    })
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn paths() -> Value {
    json!({
        "/api/chat/profiles": {
            "get": operation("listProfiles", "List profiles, sorted by slug", &[
                    query("registry", "string", "Registry; the default one when absent"),
                    query("limit", "integer", "Most items of a page"),
                    query("after", "string", "Slugs above this one"),
                    query("q", "string", "Prefix of slug or display name"),
                    query("tag", "string", "Only profiles with this tag"),
                    query("details", "string", "1 adds tags and read_only to the items"),
                    header("If-None-Match", "Answer 304 while the registry is still at this version"),
                ], None, &[
                    (200, "The list; `Link` names the next page", array("ProfileListItem")),
                    (304, "Not changed", Value::Null), (400, "", failure()), (404, "", failure()),
                ]),
            "post": operation("createProfile", "Create a profile", &[query("dry_run", "string", "1 checks and answers without writing")],
                Some("CreateProfile"), &[
                    (201, "The profile as committed", reference("Profile")), (400, "", failure()), (403, "", failure()),
                    (404, "", failure()), (409, "The slug is taken", failure()), (413, "", failure()), (415, "", failure()),
                    (500, "", failure()),
                ]),
        },
        "/api/chat/profiles/{slug}": {
            "parameters": [slug(), query("registry", "string", "Registry; the default one when absent")],
            "get": operation("getProfile", "Read a profile", &[header("If-None-Match", "Answer 304 while it is still this version")],
                None, &[
                    (200, "The profile; `ETag` is its version", reference("Profile")), (304, "Not changed", Value::Null),
                    (400, "", failure()), (404, "", failure()),
                ]),
            "patch": operation("updateProfile", "Change a profile: members that are given are replaced whole", &[
                    header("If-Match", "Change only this version"),
                    query("dry_run", "string", "1 checks and answers without writing"),
                ], Some("UpdateProfile"), &[
                    (200, "The profile as committed", reference("Profile")), (400, "", failure()), (403, "Read-only", failure()),
                    (404, "", failure()), (409, "Not the expected version; `ETag` is the current one", failure()),
                    (412, "Not the version of If-Match", failure()), (413, "", failure()), (415, "", failure()), (500, "", failure()),
                ]),
            "delete": operation("deleteProfile", "Delete a profile; if it was the default, another takes its place", &[
                    query("expected_version", "integer", "Delete only this version"),
                    query("note", "string", "Why, for the history"),
                    header("If-Match", "Delete only this version"),
                ], None, &[
                    (204, "Deleted", Value::Null), (400, "", failure()), (403, "Read-only", failure()), (404, "", failure()),
                    (409, "", failure()), (412, "", failure()), (500, "", failure()),
                ]),
        },
        "/api/chat/profiles/{slug}/default": {
            "parameters": [slug(), query("registry", "string", "Registry; the default one when absent")],
            "post": operation("setDefaultProfile", "Make a profile the default of its registry", &[
                    query("expected_version", "integer", "Only at this version of the registry (X-Registry-Version)"),
                ], Some("SetDefault"), &[
                    (200, "The profile", reference("Profile")), (400, "", failure()), (404, "", failure()), (409, "", failure()),
                    (412, "", failure()), (500, "", failure()),
                ]),
        },
        "/api/chat/profile": {
            "get": operation("getSelection", "Which profile the cookie selects", &[], None, &[
                (200, "The selection", reference("Selection")), (404, "No profiles", failure()),
            ]),
            "post": operation("select", "Select a profile; sets the cookie", &[], Some("Selection"), &[
                (200, "The selection", reference("Selection")), (400, "", failure()), (404, "", failure()),
            ]),
        },
        "/api/chat/schemas/middlewares": {"get": operation("listMiddlewareSchemas", "Schemas of middleware configurations", &[], None, &[
            (200, "By name", array("MiddlewareSchema")),
        ])},
        "/api/chat/schemas/extensions": {"get": operation("listExtensionSchemas", "Schemas of extensions", &[], None, &[
            (200, "By key", array("ExtensionSchema")),
        ])},
        "/chat": {"post": submit("submit", &[])},
        "/chat/{slug}": {"post": submit("submitToProfile", &[slug()])},
        "/ws": {"get": operation("watch", "Watch a conversation over a WebSocket", &[
                required(query("conv_id", "string", "The conversation")),
                query("runtime_key", "string", "Profile; else the cookie's, else the default"),
                query("registry", "string", "Registry; the default one when absent"),
                query("deltas", "string", "`incremental` for deltas without the cumulative text"),
                query("since_seq", "integer", "Replay frames after this number"),
            ], None, &[(101, "Frames follow", Value::Null), (400, "", failure()), (404, "", failure())])},
        "/api/timeline": {"get": operation("getTimeline", "The entities of a conversation", &[
                required(query("conv_id", "string", "The conversation")),
                query("since_version", "integer", "Only entities changed after this version"),
                query("limit", "integer", "Most entities; 5000 when absent"),
                query("before", "integer", "Of a link with rel=prev: the page before the newest"),
            ], None, &[(200, "The snapshot", reference("Timeline")), (400, "", failure())])},
        "/api/chat/release": {"get": operation("getRelease", "What this server is", &[], None, &[(200, "The release", reference("Release"))])},
        "/healthz": {"get": operation("getHealth", "Whether the process answers", &[], None, &[(200, "It does", reference("Health"))])},
        "/readyz": {"get": operation("getReadiness", "Whether requests can be served", &[], None, &[
            (200, "They can", reference("Health")), (503, "They cannot", reference("Health")),
        ])},
        "/metrics": {"get": operation("getMetrics", "Metrics in OpenMetrics text, which Prometheus reads", &[], None, &[
            (200, "The text", json!({"application/openmetrics-text": {"schema": {"type": "string"}}})),
        ])},
    })
}

fn all_paths() -> Value {
    let mut all = paths();
    for more in [chat::conversations(), chat::debug(), versions::paths(), operations::paths()] {
        if let (Some(all), Value::Object(more)) = (all.as_object_mut(), more) {
            all.extend(more);
        }
    }
    all
}

fn all_schemas() -> Value {
    let mut all = schemas();
    for more in [versions::schemas(), operations::schemas()] {
        if let (Some(all), Value::Object(more)) = (all.as_object_mut(), more) {
            all.extend(more);
        }
    }
    all
}

fn segment(name: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})
}

fn any_object() -> Value {
    json!({"application/json": {"schema": {"type": "object"}}})
}

fn submit(id: &str, parameters: &[Value]) -> Value {
    let more = [
        query("runtime_key", "string", "Profile, when the body names none"),
        query("registry", "string", "Registry, when the body names none"),
        header("Idempotency-Key", "Used when the body has none"),
    ];
    let parameters: Vec<Value> = parameters.iter().chain(&more).cloned().collect();
    operation(
        id,
        "Hand in a prompt",
        &parameters,
        Some("Prompt"),
        &[
            (200, "Started, or the replay of a known key", reference("Submitted")),
            (202, "Waiting behind others", reference("Submitted")),
            (400, "", failure()),
            (404, "", failure()),
            (409, "`retry_turn_id` is not the newest turn", failure()),
            (413, "", failure()),
            (415, "", failure()),
            (422, "The key belongs to another prompt", failure()),
            (429, "64 prompts wait already", failure()),
            (500, "", failure()),
            (503, "Stopping", failure()),
        ],
    )
}

fn operation(
    id: &str,
    summary: &str,
    parameters: &[Value],
    body: Option<&str>,
    answers: &[(u16, &str, Value)],
) -> Value {
    let mut responses = Map::new();
    for (status, description, content) in answers {
        let words = if description.is_empty() { default_description(*status) } else { description };
        let mut response = json!({"description": words});
        if !content.is_null() {
            response["content"] = content.clone();
        }
        responses.insert(status.to_string(), response);
    }
    for status in [401_u16, 403] {
        let denied = || json!({"description": default_description(status), "content": failure()});
        responses.entry(status.to_string()).or_insert_with(denied);
    }
    let mut operation = json!({"operationId": id, "summary": summary, "responses": responses});
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(body) = body {
        operation["requestBody"] =
            json!({"content": reference(body), "required": body != "SetDefault"});
    }
    operation
}

fn default_description(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("")
}

fn query(name: &str, kind: &str, description: &str) -> Value {
    json!({"name": name, "in": "query", "description": description, "schema": {"type": kind}})
}

fn header(name: &str, description: &str) -> Value {
    json!({"name": name, "in": "header", "description": description, "schema": {"type": "string"}})
}

fn slug() -> Value {
    json!({"name": "slug", "in": "path", "required": true, "schema": {"$ref": "#/components/schemas/Slug"}})
}

fn required(mut parameter: Value) -> Value {
    parameter["required"] = true.into();
    parameter
}

fn reference(name: &str) -> Value {
    json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{name}")}}})
}

fn array(name: &str) -> Value {
    json!({"application/json": {"schema": {"type": "array", "items": {"$ref": format!("#/components/schemas/{name}")}}}})
}

fn failure() -> Value {
    json!({
        "text/plain": {"schema": {"type": "string"}},
        "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}},
    })
}

fn component(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

#[expect(clippy::needless_pass_by_value, reason = "the table reads better without references")]
fn object(required: &[&str], properties: Value) -> Value {
    let mut schema = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn schemas() -> Value {
    let (text, boolean, integer) =
        (json!({"type": "string"}), json!({"type": "boolean"}), json!({"type": "integer"}));
    let texts = json!({"type": "array", "items": text});
    let anything = json!({"type": "object", "additionalProperties": true});
    let editable = json!({
        "registry": text, "display_name": {"type": "string", "maxLength": 256}, "description": text,
        "runtime": component("Runtime"), "policy": component("Policy"), "metadata": component("Metadata"),
        "extensions": anything, "set_default": boolean, "expected_version": integer,
        "note": {"type": "string", "maxLength": 500, "description": "Why, for the history"},
    });
    let mut creatable = editable.clone();
    creatable["slug"] = component("Slug");
    json!({
        "Slug": {"type": "string", "pattern": "^[a-z0-9](?:[a-z0-9._-]{0,126}[a-z0-9])?$"},
        "Runtime": object(&[], json!({
            "system_prompt": text,
            "middlewares": {"type": "array", "maxItems": 64, "items": component("MiddlewareUse")},
            "tools": {"type": "array", "maxItems": 128, "items": text, "description": "Absent is all, empty is none"},
            "step_settings_patch": {"type": "object", "additionalProperties": anything},
        })),
        "MiddlewareUse": object(&["name"], json!({"name": text, "id": text, "enabled": boolean, "config": true})),
        "Policy": object(&[], json!({
            "allow_overrides": boolean, "allowed_override_keys": texts, "denied_override_keys": texts, "read_only": boolean,
        })),
        "Metadata": object(&[], json!({
            "source": text, "version": integer, "created_at_ms": integer, "updated_at_ms": integer, "created_by": text,
            "updated_by": text, "tags": {"type": "array", "maxItems": 64, "items": text},
        })),
        "Profile": object(&["registry", "slug", "runtime", "policy", "metadata", "is_default"], json!({
            "registry": text, "slug": component("Slug"), "display_name": text, "description": text,
            "runtime": component("Runtime"), "policy": component("Policy"), "metadata": component("Metadata"),
            "extensions": anything, "is_default": boolean,
        })),
        "ProfileListItem": object(&["slug"], json!({
            "slug": component("Slug"), "display_name": text, "description": text, "default_prompt": text,
            "extensions": anything, "is_default": {"const": true}, "version": integer,
            "tags": {"type": "array", "items": text}, "read_only": {"const": true},
        })),
        "CreateProfile": object(&["slug"], creatable),
        "UpdateProfile": object(&[], editable),
        "SetDefault": object(&[], json!({"registry": text, "expected_version": integer, "note": text})),
        "Selection": object(&["slug"], json!({"slug": component("Slug")})),
        "MiddlewareSchema": object(&["name", "version", "schema"], json!({
            "name": text, "version": integer, "display_name": text, "description": text, "schema": anything,
        })),
        "ExtensionSchema": object(&["key", "schema"], json!({"key": text, "schema": anything})),
        "Prompt": object(&[], json!({
            "prompt": text, "text": text, "conv_id": text, "runtime_key": text, "profile": text, "registry_slug": text,
            "registry": text, "idempotency_key": text,
            "retry_turn_id": {"type": "string", "description": "The newest turn, whose place this prompt takes"},
            "request_overrides": component("Overrides"), "overrides": component("Overrides"),
        })),
        "Overrides": object(&[], json!({
            "system_prompt": text, "middlewares": {"type": "array", "items": component("MiddlewareUse")}, "tools": texts,
            "step_mode": boolean,
        })),
        "Submitted": object(
            &["conv_id", "idempotency_key", "session_id", "status", "runtime_key", "runtime_fingerprint", "profile_metadata"],
            json!({
                "conv_id": text, "idempotency_key": text, "session_id": text,
                "status": {"enum": ["started", "queued", "running", "completed", "error"]},
                "turn_id": text, "inference_id": text, "queue_position": integer, "queue_depth": integer, "error": text,
                "runtime_key": component("Slug"), "runtime_fingerprint": text, "profile_metadata": anything,
            }),
        ),
        "Conversation": object(&["conv_id", "title", "runtime_key", "status"], json!({
            "conv_id": text, "title": text, "runtime_key": text, "last_error": text,
            "status": {"enum": ["active", "failed", "cancelled", "interrupted"]},
            "created_at_ms": integer, "last_activity_ms": integer,
        })),
        "Title": object(&["title"], json!({"title": {"type": "string", "maxLength": 256}, "conv_id": text})),
        "Cancelled": object(&["conv_id", "turn_id", "status"], json!({
            "conv_id": text, "turn_id": text, "status": {"enum": ["cancelled"]},
        })),
        "Queue": object(&["conv_id", "items"], json!({"conv_id": text, "active": {"type": ["object", "null"],
            "properties": {"idempotency_key": text, "turn_id": text, "runtime_key": text},
            "required": ["idempotency_key", "turn_id", "runtime_key"]}, "items": {"type": "array", "items": object(
            &["idempotency_key", "prompt", "runtime_key", "queue_position"],
            json!({"idempotency_key": text, "prompt": text, "runtime_key": text, "queue_position": integer}),
        )}})),
        "Step": object(&[], json!({"session_id": text, "conv_id": text, "pause_id": text, "owner": text})),
        "Timeline": object(&["convId", "serverTimeMs"], json!({
            "convId": text, "version": text, "serverTimeMs": text,
            "entities": {"type": "array", "items": component("Entity")},
        })),
        "Entity": object(&["id", "kind", "createdAtMs", "updatedAtMs", "props"], json!({
            "id": text, "kind": text, "createdAtMs": text, "updatedAtMs": text, "props": anything,
        })),
        "Release": object(&["product", "release", "revision", "contract", "schema_version", "apps"], json!({
            "product": text, "release": text, "revision": text, "contract": text, "schema_version": integer, "apps": texts,
        })),
        "Health": object(&["status"], json!({"status": text, "registry": text})),
        "Problem": object(&["type", "title", "status", "detail", "code", "request_id", "problems"], json!({
            "type": text, "title": text, "status": integer, "detail": text, "code": text, "request_id": text,
            "problems": {"type": "array", "items": object(&["pointer", "field", "keyword", "message"], json!({
                "pointer": text, "field": text, "keyword": text, "message": text,
            }))},
        })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_description_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../openapi.json");
        let text = format!("{}\n", serde_json::to_string_pretty(&document()).unwrap());
        if std::env::var_os("COLLODI_BLESS").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(path).unwrap(),
            text,
            "run with COLLODI_BLESS=1 to write it"
        );
    }

    #[test]
    fn every_reference_has_a_target_and_every_operation_a_name() {
        let document = document();
        let text = document.to_string();
        for part in text.split("\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
        }
        let mut names: Vec<&str> =
            text.split("\"operationId\":\"").skip(1).filter_map(|p| p.split('"').next()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
