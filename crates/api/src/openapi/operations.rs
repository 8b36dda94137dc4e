//! Profiles as files, and what only operators see, in the description.

use serde_json::{Value, json};

use super::{any_object, array, failure, operation, query, reference};

pub(super) fn paths() -> Value {
    let registry = || query("registry", "string", "Of this registry");
    json!({
        "/api/ops/config": {"get": operation("getConfig", "Every setting with its origin, keys masked", &[], None, &[
            (200, "The settings", array("Setting")),
        ])},
        "/api/chat/bundle": {
            "get": operation("exportBundle", "All profiles as one YAML text; `X-Revision` is the revision of the database", &[
                    query("registry", "string", "Only this registry"),
                ], None, &[
                    (200, "The text", json!({"application/yaml": {"schema": {"type": "string"}}})), (400, "", failure()),
                    (404, "", failure()),
                ]),
            "post": operation("applyBundle", "Make registries what a YAML text says, in one transaction", &[
                    query("dry_run", "string", "1 says what would change, without writing"),
                ], Some("ApplyBundle"), &[
                    (200, "What changed", reference("Applied")), (400, "", failure()), (403, "Read-only", failure()),
                    (409, "Not the expected revision; says what changed since", failure()), (413, "", failure()),
                    (415, "", failure()), (500, "", failure()),
                ]),
        },
        "/api/ops/samples": {"get": operation("getSamples", "The last hour in quarters of a minute, the oldest first", &[], None, &[
            (200, "The samples", array("Sample")),
        ])},
        "/api/ops/check": {"post": operation("runChecks", "Lines 5 to 16 of the checklist against this server: a finding a line as they come, then the verdict", &[], None, &[
            (200, "The lines", json!({"application/x-ndjson": {"schema": {"type": "string"}}})), (409, "Another command runs", failure()),
        ])},
        "/api/ops/packet": {"post": operation("makePacket", "The escalation packet of a profile, a `.tar.gz`", &[], Some("Packet"), &[
            (200, "The archive", json!({"application/gzip": {"schema": {"type": "string", "format": "binary"}}})),
            (400, "", failure()), (409, "Another command runs", failure()),
        ])},
        "/api/ops/snapshots": {
            "get": operation("listSnapshots", "Snapshots of the server's folder, the newest first", &[], None, &[(200, "Their manifests", array("Snapshot"))]),
            "post": operation("takeSnapshot", "Take a snapshot of the databases and read it back", &[], None, &[
                (201, "What was taken", any_object()), (409, "Refused, with the reason; or another command runs", failure()),
            ]),
        },
        "/api/ops/logs": {"get": operation("getLogs", "The newest log lines, the oldest first", &[
                query("request_id", "string", "Of this request"), query("conv_id", "string", "Of this conversation"),
                registry(), query("slug", "string", "Of this profile"), query("level", "string", "error, warn, info, ..."),
                query("limit", "integer", "Most lines, the newest; 1000 when absent, at most 10000"),
                query("format", "string", "`jsonl` for one JSON object a line"),
            ], None, &[(200, "The lines", array("LogLine"))])},
        "/api/chat/audit": {"get": operation("audit", "The log of all changes, the oldest first", &[
                registry(), query("slug", "string", "Of this profile"), query("actor", "string", "By this actor"),
                query("operation", "string", "create, update, delete, set_default, create_registry, update_registry, adopt or restore"),
                query("limit", "integer", "Most items of a page; 50 when absent, at most 1000"), query("after", "integer", "Changes after this one, from the link to the next page"),
                query("format", "string", "`jsonl` for one JSON object a line"),
            ], None, &[(200, "The page; `Link` names the next one", array("Change")), (400, "", failure())])},
    })
}

pub(super) fn schemas() -> Value {
    let object = |properties: Value, required: Value| json!({"type": "object", "properties": properties, "required": required});
    let (text, number) = (json!({"type": "string"}), json!({"type": "integer"}));
    json!({
        "Sample": object(json!({
            "at_ms": number, "turns": number, "failed": number, "first_word_ms": {"type": ["integer", "null"]},
            "waiting": number, "errors": number,
        }), json!(["at_ms", "turns", "failed", "first_word_ms", "waiting", "errors"])),
        "Packet": object(json!({"profile": text, "registry": text}), json!(["profile"])),
        "Snapshot": object(json!({
            "name": text, "program": text, "taken_at_ms": number,
            "databases": {"type": "array", "items": object(json!({
                "file": text, "bytes": number, "sha256": text, "revision": number,
            }), json!(["file", "bytes"]))},
        }), json!(["name", "taken_at_ms", "databases"])),
        "Setting": object(json!({
            "name": text, "section": text, "value": {}, "origin": {"enum": ["default", "file", "environment", "flag"]},
        }), json!(["name", "value", "origin"])),
        "LogLine": object(json!({
            "at_ms": number, "level": text, "target": text, "message": text, "request_id": text, "conv_id": text,
            "registry": text, "slug": text, "version": number, "fingerprint": text, "outcome": text,
        }), json!(["at_ms", "level", "target", "message"])),
    })
}
