//! What profiles were, in the description.

use serde_json::{Value, json};

use super::{array, failure, operation, query, reference, segment, slug};

pub(super) fn paths() -> Value {
    let registry = || query("registry", "string", "Registry; the default one when absent");
    let unknown = || (404, "No such profile or version", failure());
    let limit = || query("limit", "integer", "Most items of a page; 50 when absent, at most 1000");
    json!({
        "/api/chat/profiles/{slug}/versions": {
            "parameters": [slug(), registry()],
            "get": operation("listVersions", "Changes of a profile, the newest first; also of a deleted one", &[
                    limit(), query("before", "integer", "Changes before this one, from the link to the next page"),
                ], None, &[(200, "The page; `Link` names the next one", array("Change")), (400, "", failure()), unknown()]),
        },
        "/api/chat/profiles/{slug}/versions/{version}": {
            "parameters": [slug(), segment("version"), registry()],
            "get": operation("getVersion", "A profile as it was", &[], None, &[
                    (200, "The profile at that version", reference("Profile")), (400, "", failure()), unknown(),
                ]),
        },
        "/api/chat/profiles/{slug}/diff": {
            "parameters": [slug(), registry()],
            "get": operation("diffVersions", "What changed between two versions, field by field", &[
                    query("from", "integer", "The earlier version; the one before `to` when absent"),
                    query("to", "integer", "The later version; the newest when absent"),
                ], None, &[(200, "The differences", reference("Diff")), (400, "", failure()), unknown()]),
            "post": operation("previewProfile", "What a patch would change, field by field, without writing", &[],
                Some("UpdateProfile"), &[
                    (200, "The differences", reference("Diff")), (400, "", failure()), (403, "Read-only", failure()),
                    unknown(), (409, "", failure()), (413, "", failure()), (415, "", failure()),
                ]),
        },
        "/api/chat/profiles/{slug}/restore": {
            "parameters": [slug()],
            "post": operation("restoreVersion", "Make a profile again what it was: a new version, marked as restored", &[
                    query("dry_run", "string", "1 checks and answers without writing"),
                ], Some("Restore"), &[
                    (200, "The profile as committed", reference("Profile")), (400, "", failure()),
                    (403, "Read-only", failure()), unknown(), (409, "Not the expected version", failure()),
                    (412, "", failure()), (413, "", failure()), (415, "", failure()), (500, "", failure()),
                ]),
        },
        "/api/chat/profiles/{slug}/try": {
            "parameters": [slug(), registry()],
            "post": operation("tryProfile", "A prompt under a profile as it is being written; nothing of the profile is stored", &[],
                Some("Try"), &[
                    (200, "As of POST /chat; the version is 0", json!({"application/json": {"schema": {"type": "object"}}})),
                    (202, "It waits", json!({"application/json": {"schema": {"type": "object"}}})),
                    (400, "", failure()), (404, "No such registry", failure()), (409, "", failure()), (413, "", failure()),
                    (415, "", failure()), (422, "", failure()), (429, "", failure()),
                ]),
        },
        "/api/chat/schemas/tools": {"get": operation("listTools", "Tools that profiles may list", &[], None, &[
            (200, "By name", array("ToolSchema")),
        ])},
    })
}

pub(super) fn schemas() -> Value {
    let object = |properties: Value, required: Value| json!({"type": "object", "properties": properties, "required": required});
    let (text, number) = (json!({"type": "string"}), json!({"type": "integer"}));
    json!({
        "Change": object(json!({
            "change": number, "registry": text, "operation": text, "slug": {"type": ["string", "null"]}, "version": number,
            "registry_version": number, "content_hash": text, "actor": text, "source": text, "note": text,
            "request_id": text, "at_ms": number,
        }), json!(["change", "registry", "operation", "version", "at_ms"])),
        "ToolSchema": object(json!({"name": text, "description": text, "schema": {}}), json!(["name", "description", "schema"])),
        "Try": object(json!({
            "profile": {"$ref": "#/components/schemas/UpdateProfile"}, "prompt": text, "conv_id": text,
            "idempotency_key": text, "retry_turn_id": text,
        }), json!(["profile", "prompt"])),
        "Restore": object(json!({
            "registry": text, "version": number, "expected_version": number, "note": text,
        }), json!(["version", "expected_version"])),
        "Diff": object(json!({
            "slug": text, "from": number, "to": number,
            "changes": {"type": "array", "items": {"$ref": "#/components/schemas/Difference"}},
        }), json!(["slug", "from", "to", "changes"])),
        "ApplyBundle": object(json!({
            "bundle": text, "registry": text, "only_add": {"type": "boolean"}, "prune": {"type": "boolean"},
            "expected_revision": number, "note": text,
        }), json!(["bundle"])),
        "Applied": object(json!({
            "revision": number,
            "steps": {"type": "array", "items": object(json!({
                "registry": text, "slug": {"type": ["string", "null"]}, "operation": text, "version": number,
                "changes": {"type": "array", "items": {"$ref": "#/components/schemas/Difference"}},
            }), json!(["registry", "slug", "operation", "version", "changes"]))},
        }), json!(["revision", "steps"])),
        "Difference": object(json!({
            "path": text, "kind": {"enum": ["added", "removed", "changed", "moved"]}, "before": {}, "after": {},
            "lines": {"type": "array", "items": object(json!({
                "sign": {"enum": [" ", "-", "+", "@"]},
                "parts": {"type": "array", "items": object(json!({"text": text, "changed": {"type": "boolean"}}), json!(["text"]))},
            }), json!(["sign", "parts"]))},
        }), json!(["path", "kind"])),
    })
}
