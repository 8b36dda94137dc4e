//! Fault F27 by chance: whatever is sent, the answer is a success that reads back as it was said, or a 4xx.

use proptest::prelude::*;
use serde_json::{Map, Number, Value, json};
use tokio::runtime::Runtime;

use crate::app::TestApp;

fn any_json() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|x| Number::from_f64(x).map_or(Value::Null, Value::Number)),
        Just(json!(0)),
        Just(json!(1)),
    ];
    let word = prop_oneof!["[a-z]{0,8}", "\\PC{0,12}", Just("12".to_owned()), Just(" ".to_owned())];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        number,
        word.prop_map(Value::String)
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        let key = prop_oneof!["[a-z_]{1,8}", "[a-zA-Z]{1,4}\\.[a-z]{1,4}@[vV][0-9]", "\\PC{0,6}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::btree_map(key, inner, 0..5)
                .prop_map(|m| Value::Object(m.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Mostly a use that fits, sometimes one that does not.
fn middleware_use() -> impl Strategy<Value = Value> {
    let limit = prop_oneof![
        (1..i64::MAX).prop_map(Value::from),
        (1..1000_i64).prop_map(|n| json!(n.to_string())),
        (1..1000_i32).prop_map(|n| json!(f64::from(n))),
    ];
    let key = prop_oneof![Just("max_rows"), Just("max_output_lines"), Just("execution_timeout_ms")];
    let fits = prop_oneof![
        prop::collection::btree_map(key, limit, 0..3)
            .prop_map(|config| json!({"name": "sqlite", "config": config})),
        "\\PC{0,12}"
            .prop_map(|mode| json!({"name": "agentmode", "config": {"default_mode": mode}})),
        any::<bool>().prop_map(|enabled| json!({"name": " sqlite ", "enabled": enabled})),
    ];
    let member = prop_oneof![Just("name"), Just("id"), Just("enabled"), Just("config"), Just("zz")];
    (fits, prop::option::weighted(0.1, (member, any_json()))).prop_map(|(mut used, odd)| {
        if let Some((member, value)) = odd {
            used[member] = value;
        }
        used
    })
}

fn body() -> impl Strategy<Value = Value> {
    let uses = prop::collection::vec((middleware_use(), any::<bool>()), 0..4);
    let slot = prop_oneof![Just("index:0"), Just("id:i1"), Just("default"), Just("junk")];
    let config = prop_oneof![3 => Just(json!({"max_rows": 5})), 1 => any_json()];
    let slots = prop::collection::btree_map(slot, config, 0..3);
    let member = prop_oneof![
        Just("display_name"),
        Just("description"),
        Just("policy"),
        Just("metadata"),
        Just("set_default"),
        Just("expected_version"),
        Just("note"),
        Just("registry"),
        Just("runtime"),
        Just("extensions"),
        Just("zz"),
    ];
    let odd = prop::option::weighted(0.3, (member, any_json()));
    (uses, slots, odd, any_json()).prop_map(|(uses, slots, odd, free)| {
        let named = uses.into_iter().enumerate().map(|(i, (mut used, with_id))| {
            if with_id && used.get("id").is_none() {
                used["id"] = json!(format!("i{i}"));
            }
            used
        });
        let mut body = json!({
            "slug": "fuzz",
            "runtime": {"middlewares": named.collect::<Vec<_>>()},
            "extensions": {"middleware.sqlite_config@v1": {"instances": slots}, "a.b@v1": free},
        });
        if let Some((member, value)) = odd {
            body[member] = value;
        }
        body
    })
}

fn run<F: Future>(future: F) -> F::Output {
    Runtime::new().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn f27_profiles_made_by_chance_are_stored_as_said_or_refused(bodies in prop::collection::vec(body(), 12)) {
        run(async {
            let app = TestApp::start().await;
            for body in bodies {
                let rehearsed = app.post("/api/chat/profiles?dry_run=1", body.clone()).await;
                let created = app.post("/api/chat/profiles", body.clone()).await;
                assert!(created.status < 500, "{body}: {}", created.text());
                assert_eq!((rehearsed.status, &rehearsed.body), (created.status, &created.body), "{body}");
                let stored = app.get("/api/chat/profiles/fuzz").await;
                // After the look at what was stored: this may make the other profile the default.
                let patched = app.patch("/api/chat/profiles/agent", body.clone()).await;
                assert!(patched.status < 500, "{body}: {}", patched.text());
                if created.status == 201 {
                    let document = created.expect_json(201);
                    assert_eq!(stored.expect_json(200), document);
                    assert_eq!(document["extensions"]["a.b@v1"], *body["extensions"].get("a.b@v1").unwrap_or(&Value::Null));
                    // What was accepted once is accepted again, and says the same.
                    let again = json!({"runtime": document["runtime"], "extensions": document.get("extensions").unwrap_or(&json!({}))});
                    let again = app.patch("/api/chat/profiles/fuzz", again).await.expect_json(200);
                    for part in ["runtime", "extensions", "policy", "display_name"] {
                        assert_eq!(again.get(part), document.get(part), "{part} of {body}");
                    }
                    let chat = app.post("/chat", json!({"prompt": "x", "profile": "fuzz"})).await;
                    assert_eq!(chat.status, 200, "what was accepted can be run: {body}: {}", chat.text());
                    app.delete("/api/chat/profiles/fuzz").await;
                }
            }
        });
    }

    #[test]
    fn f27_overrides_made_by_chance_run_or_are_refused(
        overrides in prop::collection::vec((any_json(), prop::collection::vec(middleware_use(), 0..3)), 12),
    ) {
        run(async {
            let app = TestApp::start().await;
            for (odd, uses) in overrides {
                for overrides in [odd.clone(), json!({"middlewares": uses}), json!({"tools": odd}), json!({"system_prompt": odd})] {
                    let body = json!({"prompt": "x", "profile": "agent", "overrides": overrides});
                    let answer = app.post("/chat", body).await;
                    assert!(matches!(answer.status, 200 | 400), "{overrides}: {} {}", answer.status, answer.text());
                }
            }
        });
    }

    #[test]
    fn f27_bytes_made_by_chance_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), paths in "[a-z%0-9/.;?&=]{0,40}") {
        run(async {
            let app = TestApp::start().await;
            for (method, target) in [("POST", "/api/chat/profiles"), ("PATCH", "/api/chat/profiles/agent"), ("POST", "/chat")] {
                let answer = app.call(method, target).raw(&bytes).send().await;
                assert!((400..500).contains(&answer.status), "{method} {target}: {}", answer.status);
            }
            for method in ["GET", "POST", "PATCH", "DELETE"] {
                let target = format!("/api/chat/profiles/{paths}");
                let answer = app.call(method, &target).send().await;
                assert!(answer.status < 500, "{method} {target}: {}", answer.status);
            }
        });
    }
}
