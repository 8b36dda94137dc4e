//! `/metrics`: what Prometheus reads.

use serde_json::json;

use crate::app::TestApp;

#[tokio::test]
async fn the_text_counts_requests_turns_and_profiles() {
    let app = TestApp::start().await;
    app.get("/api/chat/profiles").await.expect_json(200);
    app.get("/api/chat/profiles/nobody").await.expect_text(404, "profile not found");
    app.create(json!({"slug": "p"})).await;
    app.post("/chat", json!({"prompt": "hello", "conv_id": "c"})).await.expect_json(200);
    let answer = app.get("/metrics").await;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)));
    let text = answer.text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    for line in [
        "collodi_http_requests_total{method=\"GET\",status=\"2xx\"} 1",
        "collodi_http_requests_total{method=\"GET\",status=\"4xx\"} 1",
        "collodi_http_requests_total{method=\"POST\",status=\"2xx\"} 2",
        "collodi_http_request_seconds_count{method=\"POST\"} 2",
        "collodi_profiles 3",
        "collodi_registry_revision 4",
        "collodi_conversations 1",
    ] {
        assert!(text.lines().any(|seen| seen == line), "{line} is not in\n{text}");
    }
    let turns = text.lines().filter(|line| line.starts_with("collodi_turns"));
    assert!(turns.count() > 0, "{text}");
    // A second look counts the first.
    let again = app.get("/metrics").await.text();
    assert!(
        again.contains("collodi_http_requests_total{method=\"GET\",status=\"2xx\"} 2"),
        "{again}"
    );
}
