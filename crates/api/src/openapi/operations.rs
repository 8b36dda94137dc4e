//! What only operators see, in the description.

use serde_json::{Value, json};

use super::{array, failure, operation, query};

pub(super) fn paths() -> Value {
    let registry = || query("registry", "string", "Of this registry");
    json!({
        "/api/ops/config": {"get": operation("getConfig", "Every setting with its origin, keys masked", &[], None, &[
            (200, "The settings", array("Setting")),
        ])},
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
        "Setting": object(json!({
            "name": text, "section": text, "value": {}, "origin": {"enum": ["default", "file", "environment", "flag"]},
        }), json!(["name", "value", "origin"])),
        "LogLine": object(json!({
            "at_ms": number, "level": text, "target": text, "message": text, "request_id": text, "conv_id": text,
            "registry": text, "slug": text, "version": number, "fingerprint": text, "outcome": text,
        }), json!(["at_ms", "level", "target", "message"])),
    })
}
