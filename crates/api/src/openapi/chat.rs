//! Conversations and the debug API in the description.

use serde_json::{Value, json};

use super::{any_object, array, failure, operation, query, reference, required, segment};

/// Conversations (decisions 25 and 44).
pub(super) fn conversations() -> Value {
    let gone = (204, "Done", Value::Null);
    let unknown = (404, "Nobody knows it", failure());
    json!({
        "/api/chat/conversations": {"get": operation("listConversations", "Conversations, the latest activity first", &[
                query("q", "string", "In title or id"),
                query("limit", "integer", "Most items of a page; 100 when absent, at most 1000"),
                query("after", "string", "A place in the list, from the link to the next page"),
            ], None, &[(200, "The page; `Link` names the next one", array("Conversation")), (400, "", failure())])},
        "/api/chat/conversations/{conv_id}": {
            "parameters": [segment("conv_id")],
            "patch": operation("renameConversation", "Name a conversation", &[], Some("Title"), &[
                    (200, "Its name", reference("Title")), (400, "", failure()), unknown.clone(),
                ]),
            "delete": operation("deleteConversation", "Delete a conversation with everything in it", &[], None, &[
                    gone.clone(), unknown.clone(), (409, "A run is active", failure()),
                ]),
        },
        "/api/chat/conversations/{conv_id}/cancel": {
            "parameters": [segment("conv_id")],
            "post": operation("cancelRun", "Stop the run of a conversation, also before its first token", &[], None, &[
                    (200, "It stops", reference("Cancelled")), unknown.clone(), (409, "Nothing runs", failure()),
                ]),
        },
        "/api/chat/conversations/{conv_id}/queue": {
            "parameters": [segment("conv_id")],
            "get": operation("listQueue", "The prompt that runs, and those that wait", &[], None, &[(200, "What runs, and what waits in its order", reference("Queue")), unknown]),
        },
        "/api/chat/conversations/{conv_id}/queue/{idempotency_key}": {
            "parameters": [segment("conv_id"), segment("idempotency_key")],
            "delete": operation("dequeue", "Take a prompt out of the queue; its key is forgotten", &[], None, &[
                    gone, (404, "No such prompt waits", failure()),
                ]),
        },
    })
}

/// The debug API, which answers with `--debug-api` only.
pub(super) fn debug() -> Value {
    let get = |id: &str, summary: &str, parameters: &[Value]| {
        operation(
            id,
            summary,
            parameters,
            None,
            &[
                (200, "As the contract has it", any_object()),
                (400, "", failure()),
                (404, "", failure()),
            ],
        )
    };
    let step = |id: &str, summary: &str| {
        operation(
            id,
            summary,
            &[],
            Some("Step"),
            &[(200, "Done", any_object()), (400, "", failure()), (404, "", failure())],
        )
    };
    let of_timeline = [
        required(query("conv_id", "string", "The conversation")),
        query("since_version", "integer", "Only entities changed after this version"),
        query("limit", "integer", "Most entities; 5000 when absent"),
        query("before", "integer", "Of a link with rel=prev: the page before the newest"),
    ];
    let of_turns = [
        query("conv_id", "string", "Of this conversation"),
        query("session_id", "string", "Of this session"),
        query("phase", "string", "Of this phase"),
        query("since_ms", "integer", "Taken at or after"),
        query("limit", "integer", "Most snapshots; 200 when absent"),
    ];
    let of_events = [
        query("since_seq", "integer", "Frames after this number"),
        query("type", "string", "Of this type"),
        query("limit", "integer", "Most frames; 200 when absent"),
    ];
    json!({
        "/api/debug/conversations": {"get": get("debugConversations", "Conversations, live and stored", &[])},
        "/api/debug/conversations/{conv_id}": {
            "parameters": [segment("conv_id")], "get": get("debugConversation", "One conversation", &[])},
        "/api/debug/events/{conv_id}": {
            "parameters": [segment("conv_id")], "get": get("debugEvents", "Frames that are still held", &of_events)},
        "/api/debug/timeline": {"get": get("debugTimeline", "The same as `/api/timeline`", &of_timeline)},
        "/api/debug/turns": {"get": get("debugTurns", "Snapshots of turns, newest first", &of_turns)},
        "/api/debug/turn/{conv_id}/{session_id}/{turn_id}": {
            "parameters": [segment("conv_id"), segment("session_id"), segment("turn_id")],
            "get": get("debugTurn", "All snapshots of a turn", &[])},
        "/api/debug/runtime/{slug}/{version}": {
            "parameters": [segment("slug"), segment("version"), query("registry", "string", "The default one when absent")],
            "get": get("explainRuntime", "What a version of a profile runs under, and who gave every field its value", &[])},
        "/api/debug/step/enable": {"post": step("enableStepMode", "Pause around tools")},
        "/api/debug/step/disable": {"post": step("disableStepMode", "Pause no more, and go on from every pause")},
        "/api/debug/continue": {"post": step("goOn", "Go on from a pause")},
    })
}
