//! Chapter 20 §1 and §3.1: routes, paths, the mount prefix, request ids; H10.

use serde_json::json;

use crate::app::{Setup, TestApp};

#[tokio::test]
async fn paths_under_profiles_are_parsed_by_the_rules_of_section_3_1() {
    let app = TestApp::start().await;
    let slug = "invalid profile slug";
    let page = "404 page not found";
    let method = "method not allowed";
    for (verb, path, status, text) in [
        ("GET", "", 404, page),
        ("GET", "%20", 404, page),
        ("GET", "/", 404, page),
        ("GET", "/agent", 404, page),
        ("GET", "agent/default/more", 404, page),
        ("GET", "agent//", 404, page),
        ("GET", "agent/other", 404, page),
        ("POST", "agent/DEFAULT", 404, page),
        ("GET", "bad%20slug", 400, slug),
        ("PUT", "bad%20slug", 400, slug),
        ("POST", "bad%20slug/other", 400, slug),
        ("GET", "bad%20slug/default", 400, slug),
        ("GET", "-a", 400, slug),
        ("GET", "a.", 400, slug),
        ("GET", "%C3%A9", 400, slug),
        ("GET", "%E2%84%AA", 400, slug),
        ("GET", "a%00b", 400, slug),
        ("GET", "%zz", 400, slug),
        ("GET", "%ff", 400, slug),
        ("GET", "%2e%2e", 400, slug),
        ("GET", "agent%2Fdefault", 400, slug),
        ("POST", "agent%2Fdefault", 400, slug),
        ("POST", "agent%252Fdefault", 400, slug),
        ("GET", "agent/default", 405, method),
        ("POST", "agent", 405, method),
        ("POST", "agent/", 405, method),
        ("GET", "no.bo--dy", 404, "profile not found"),
    ] {
        let answer = app.call(verb, &format!("/api/chat/profiles/{path}")).send().await;
        assert_eq!(
            (answer.status, answer.text()),
            (status, format!("{text}\n")),
            "{verb} {path:?}"
        );
        answer.expect_text(status, text);
    }
}

#[tokio::test]
async fn slugs_in_paths_are_decoded_once_trimmed_and_lowered() {
    let app = TestApp::start().await;
    for path in ["agent", "AGENT", "%20agent%20", "agen%74", "agent/", "agent/%20"] {
        let answer = app.get(&format!("/api/chat/profiles/{path}")).await;
        assert_eq!(answer.expect_json(200)["slug"], "agent", "{path}");
    }
    let answer = app.call("POST", "/api/chat/profiles/Agent/%20default%20").send().await;
    assert_eq!(answer.expect_json(200)["is_default"], true);
    let longest = "a".repeat(128);
    app.create(json!({"slug": longest})).await;
    assert_eq!(app.document(&longest).await["slug"], json!(longest));
    let answer = app.get(&format!("/api/chat/profiles/{longest}a")).await;
    answer.expect_text(400, "invalid profile slug");
}

#[tokio::test]
async fn unknown_routes_are_404() {
    let app = TestApp::start().await;
    for (method, path) in [
        ("GET", "/api"),
        ("GET", "/api/chat"),
        ("GET", "/api/chat/registries"),
        ("GET", "/api/chat/profile/"),
        ("POST", "/api/chat/profile/x"),
        ("GET", "/api/chat/schemas/middlewares/"),
        ("GET", "/api/chat/schemas/extensions/"),
        ("GET", "/api/chat/schemas"),
        ("GET", "/API/chat/profiles"),
        ("GET", "/api/chat/Profiles"),
        ("GET", "/api/chat/profilesx"),
        ("POST", "/nothing"),
    ] {
        if path.starts_with("/API") {
            // Outside `/api` an unknown path is the page of the single-page client.
            assert_eq!(app.call("POST", path).send().await.status, 404, "{path}");
            continue;
        }
        app.call(method, path).send().await.expect_text(404, "404 page not found");
    }
}

#[tokio::test]
async fn under_a_root_prefix_everything_answers_there_and_nowhere_else() {
    let app = Setup::default().root("/x/y").start().await;
    app.get("/x/y/api/chat/profiles").await.expect_json(200);
    let created = app.post("/x/y/api/chat/profiles?note=n", json!({"slug": "p"})).await;
    created.expect_json(201);
    for path in ["/api/chat/profiles", "/x/yapi/chat/profiles", "/x/y2", "/x/api/chat/profile"] {
        app.get(path).await.expect_text(404, "404 page not found");
    }
    for path in ["/app-config.js", "/healthz", "/readyz", "/metrics", "/api/chat/release"] {
        for path in [path.to_owned(), format!("/x/y{path}")] {
            assert_eq!(app.get(&path).await.status, 200, "{path}");
        }
    }
    let page = app.get("/x/y").await;
    assert_eq!((page.status, page.header("location")), (301, Some("/x/y/")));
    let selected = app.post("/x/y/api/chat/profile", json!({"slug": "agent"})).await;
    selected.expect_json(200);
    let expected = "chat_profile=agent; Path=/x/y; HttpOnly; Secure; SameSite=Lax";
    assert_eq!(selected.header("set-cookie"), Some(expected));
    let list = app.get("/x/y/api/chat/profiles?limit=1").await;
    let next = "</x/y/api/chat/profiles?limit=1&after=agent>; rel=\"next\"";
    assert_eq!(list.header("link"), Some(next));
}

#[tokio::test]
async fn a_request_id_that_is_a_plain_word_is_kept_and_others_are_replaced() {
    let app = TestApp::start().await;
    let named = |id: &'static str| app.call("GET", "/api/chat/profile").header("X-Request-Id", id);
    let answer = named("abc-1.2_3").send().await;
    assert_eq!(answer.header("x-request-id"), Some("abc-1.2_3"));
    let mut seen = Vec::new();
    for id in ["", "two words", "a/b", "<script>"] {
        let answer = named(id).send().await;
        let new = answer.header("x-request-id").unwrap().to_owned();
        assert!(new != id && !new.is_empty() && !seen.contains(&new), "{id:?} became {new:?}");
        seen.push(new);
    }
}

#[tokio::test]
async fn the_registry_is_the_body_then_the_query_then_the_default() {
    let app = TestApp::start().await;
    let not_found = "registry not found";
    for (query, body, status, text) in [
        ("?registry=team", json!({"slug": "a1", "registry": "default"}), 201, ""),
        ("?registry=default", json!({"slug": "a2", "registry": "team"}), 404, not_found),
        ("?registry=team", json!({"slug": "a2", "registry": "  "}), 404, not_found),
        ("?registry=team", json!({"slug": "a2", "registry": null}), 404, not_found),
        ("?registry=%20", json!({"slug": "a3"}), 201, ""),
        ("?registry=default&registry=team", json!({"slug": "a4", "registry": ""}), 201, ""),
        ("?registry=bad%20one", json!({"slug": "a5"}), 400, "invalid registry"),
    ] {
        let answer = app.post(&format!("/api/chat/profiles{query}"), body).await;
        if status == 201 {
            assert_eq!(answer.expect_json(201)["registry"], "default", "{query}");
        } else {
            answer.expect_text(status, text);
        }
    }
    for (method, target) in
        [("PATCH", "/api/chat/profiles/agent"), ("POST", "/api/chat/profiles/agent/default")]
    {
        let team = app.call(method, &format!("{target}?registry=team")).json(&json!({}));
        team.send().await.expect_text(404, not_found);
        let body = json!({"registry": "Default"});
        let both = app.call(method, &format!("{target}?registry=team")).json(&body);
        both.send().await.expect_json(200);
    }
    // DELETE reads no body.
    let body = json!({"registry": "team"});
    let deleted = app.call("DELETE", "/api/chat/profiles/a1").json(&body).send().await;
    deleted.expect_empty(204);
}

#[tokio::test]
async fn what_a_query_says_is_decoded_or_refused_on_every_endpoint() {
    let app = TestApp::start().await;
    for (method, target) in [
        ("GET", "/api/chat/profiles"),
        ("GET", "/api/chat/profiles/agent"),
        ("DELETE", "/api/chat/profiles/agent"),
        ("POST", "/api/chat/profiles"),
        ("PATCH", "/api/chat/profiles/agent"),
        ("POST", "/api/chat/profiles/agent/default"),
        ("POST", "/chat"),
        ("GET", "/ws"),
    ] {
        for query in ["registry=%zz", "registry=default;x=1", "x=%ff", "%"] {
            let call = app.call(method, &format!("{target}?conv_id=c&{query}"));
            let body = json!({"slug": "p", "prompt": "x", "display_name": "x"});
            let call = if method == "GET" { call } else { call.json(&body) };
            let answer = call.send().await;
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (400, "bad request\n"),
                "{method} {target} {query}"
            );
        }
    }
    assert_eq!(app.registry_version().await, 1, "nothing was written");
}
