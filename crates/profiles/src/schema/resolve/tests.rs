//! The resolver's examples.

use super::*;

fn source(name: &str, layer: Layer, payload: Value) -> Source {
    Source { name: name.to_owned().into(), layer, payload: Some(payload) }
}

fn run(schema: Value, sources: Vec<Source>) -> Result<Resolved, String> {
    let schema = Schema::compile(schema).unwrap();
    let used = MiddlewareUse { name: "m".into(), id: "x".into(), ..MiddlewareUse::default() };
    resolve("m", &schema, &used, sources).map_err(|e| e.to_string())
}

#[test]
fn layers_merge_by_precedence_and_the_trace_is_the_contract_s_example() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer", "default": 1}}});
    let sources = vec![
        source("q", Layer::Request, json!({"a": 4})),
        source("p", Layer::Profile, json!({"a": "3"})),
    ];
    let resolved = run(schema, sources).unwrap();
    let step = |source: &str, layer: &str, raw: Value, value: i32| {
        json!({"source": source, "layer": layer, "path": "/a", "raw": raw, "value": value,
            "metadata": {"schema_type": "integer"}})
    };
    let expected = json!({
        "config": {"a": 4},
        "sources": [
            {"name": "schema-defaults", "layer": "schema-defaults"},
            {"name": "p", "layer": "profile"}, {"name": "q", "layer": "request"}],
        "paths": [{"path": "/a", "value": 4, "steps": [
            step("schema-defaults", "schema-defaults", json!(1), 1),
            step("p", "profile", json!("3"), 3), step("q", "request", json!(4), 4)]}],
    });
    assert_eq!(serde_json::to_value(&resolved).unwrap(), expected);
    assert_eq!(
        serde_json::to_string(&resolved).unwrap(),
        serde_json::to_string(&resolved).unwrap()
    );
}

#[test]
fn errors_name_stage_label_source_and_path() {
    let schema = json!({"type": "object", "properties": {
        "n": {"type": "integer", "minimum": 1}, "o": {"type": "object", "properties": {"p": {"type": "boolean"}}}},
        "required": ["n"], "additionalProperties": false});
    for (payload, text) in [
        (
            json!({"z": 1}),
            "project middleware m#x payload for source s[profile]: path /z is not allowed by schema",
        ),
        (
            json!({"n": "x"}),
            "coerce middleware m#x payload at /n from source s[profile]: must be an integer",
        ),
        (
            json!({"o": {"p": 3}}),
            "coerce middleware m#x payload at /o/p from source s[profile]: must be a boolean",
        ),
        (
            json!({"o": {"p": true}}),
            "final middleware m#x config validation failed: missing required field \"n\"",
        ),
        (json!([1]), "resolve middleware m#x source s[profile]: must be an object"),
    ] {
        assert_eq!(
            run(schema.clone(), vec![source("s", Layer::Profile, payload)]).unwrap_err(),
            text
        );
    }
}

#[test]
fn c10_d8_inf_3_every_published_keyword_is_enforced() {
    let schema = json!({"type": "object", "properties": {
        "n": {"type": "integer", "minimum": 1, "maximum": 9},
        "s": {"type": "string", "minLength": 2, "pattern": "^a"},
        "l": {"type": "array", "maxItems": 1},
        "c": {"const": 5}}});
    for payload in [
        json!({"n": 0}),
        json!({"n": "10"}),
        json!({"s": "a"}),
        json!({"s": "bb"}),
        json!({"l": [1, 2]}),
        json!({"c": 6}),
    ] {
        let error = run(schema.clone(), vec![source("s", Layer::Profile, payload.clone())]);
        let error = error.expect_err(&payload.to_string());
        assert!(error.starts_with("final middleware m#x config validation failed: /"), "{error}");
    }
    assert!(
        run(
            schema,
            vec![source("s", Layer::Profile, json!({"n": "3", "s": "ab", "l": [1], "c": 5}))]
        )
        .is_ok()
    );
}

#[test]
fn c10_d16_a_replaced_object_leaves_no_children_in_the_trace() {
    let schema = json!({"type": "object", "properties": {
        "o": {"type": "object", "properties": {"p": {"type": "integer"}}}, "": {"type": "integer"}}});
    let resolved = run(
        schema,
        vec![
            source("a", Layer::Profile, json!({"o": {"p": 1}, "": 2})),
            source("b", Layer::Request, json!({"o": {}})),
        ],
    )
    .unwrap();
    assert_eq!(Value::Object(resolved.config.clone()), json!({"o": {}, "": 2}));
    assert_eq!(resolved.paths.keys().collect::<Vec<_>>(), ["/", "/o"]);
}

#[test]
fn arrays_and_free_values_replace_and_objects_merge() {
    let schema = json!({"type": "object", "properties": {
        "o": {"type": "object", "additionalProperties": true}, "l": {"type": "array"}}});
    let resolved = run(
        schema,
        vec![
            source("a", Layer::Profile, json!({"o": {"x": 1}, "l": [1]})),
            source("b", Layer::Request, json!({"o": {"y": 2}, "l": [2]})),
        ],
    )
    .unwrap();
    assert_eq!(Value::Object(resolved.config), json!({"o": {"x": 1, "y": 2}, "l": [2]}));
}

/// The short way, without a history, ends where the long one does, also for what does not fit.
#[test]
fn without_a_history_the_configuration_is_the_same() {
    let inner =
        json!({"type": "object", "properties": {"p": {"type": "boolean"}, "q": {"default": 2}}});
    let schemas = [
        json!({}),
        json!({"type": "object", "additionalProperties": true}),
        json!({"type": "object", "additionalProperties": {"type": "integer"}}),
        json!({"type": "object", "additionalProperties": 5}),
        json!({"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}, "o": inner}}),
        json!({"type": "object", "properties": {"a": {"type": "string"}, "o": inner}, "required": ["a"]}),
        json!({"type": "object", "properties": {"a": {"enum": [1, 2]}, "o": {"default": {"q": 1}, "type": "object"}}}),
        json!({"type": "object", "default": {"a": 7}, "properties": {"a": {"type": "integer"}, "o": {}}}),
    ];
    let payloads = [
        json!(null),
        json!({}),
        json!([]),
        json!({"a": 1}),
        json!({"a": "1"}),
        json!({"a": 0, "o": {}}),
        json!({"a": 3, "o": {"p": "true"}}),
        json!({"o": {"p": true, "q": null}}),
        json!({"o": {"z": 1}}),
        json!({"o": 1}),
        json!({"b": {"c": [1]}}),
    ];
    let used = MiddlewareUse { name: "m".into(), ..MiddlewareUse::default() };
    let mut fit = 0;
    for schema in schemas {
        let Ok(schema) = Schema::compile(schema) else { continue };
        for payload in payloads.iter().map(|it| Some(it.clone())).chain([None]) {
            let source = || {
                vec![Source { name: "s".into(), layer: Layer::Profile, payload: payload.clone() }]
            };
            let long = resolve("m", &schema, &used, source()).map(|resolved| resolved.config);
            let short = resolve_config("m", &schema, &used, source());
            assert_eq!(short, long, "{payload:?}");
            fit += usize::from(short.is_ok());
        }
    }
    assert!(fit > 20, "{fit}");
}
