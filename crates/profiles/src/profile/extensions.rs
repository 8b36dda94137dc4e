//! Typed extensions: canonical keys, schemas and codecs (chapter 10 §7).

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Extensions, Profile};
use crate::catalog::Catalog;
use crate::error::Problem;
use crate::ids::ExtensionKey;
use crate::json::{self, Object};
use crate::quote::quote;

/// Canonicalises the keys of `raw` and checks every payload that has a schema or a codec; unknown keys pass through.
/// What is broken is appended to `problems`, in the order of the raw keys, and left out of the result.
#[must_use]
pub fn normalise(raw: Object, catalog: &Catalog, problems: &mut Vec<Problem>) -> Extensions {
    let mut extensions = Extensions::new();
    for (raw_key, payload) in raw {
        let key = match ExtensionKey::parse(&raw_key) {
            Ok(key) => key,
            Err(error) => {
                let field = format!("profile.extensions[{}]", raw_key.trim());
                problems.push(Problem::new(field, error.to_string()).keyword("propertyNames"));
                continue;
            }
        };
        let field = || format!("profile.extensions[{key}]");
        if extensions.contains_key(&key) {
            let reason =
                format!("duplicate extension key after canonicalization: {}", quote(&raw_key));
            problems.push(Problem::new(field(), reason).keyword("duplicate"));
            continue;
        }
        let before = problems.len();
        let payload = check_payload(&key, payload, catalog, problems);
        if json::depth(&payload) > json::MAX_DEPTH {
            let reason = format!("must be at most {} levels deep", json::MAX_DEPTH);
            problems.push(Problem::new(field(), reason).keyword("limit"));
        }
        if problems.len() == before {
            extensions.insert(key, payload);
        }
    }
    extensions
}

fn check_payload(
    key: &ExtensionKey,
    payload: Value,
    catalog: &Catalog,
    problems: &mut Vec<Problem>,
) -> Value {
    let field = || format!("profile.extensions[{key}]");
    let payload = match catalog.codec(key).map(|codec| (codec.decode)(&payload)) {
        None => payload,
        Some(Ok(decoded)) => decoded,
        Some(Err(error)) => {
            let reason = format!("decode failed: {error}");
            problems.push(Problem::new(field(), reason).keyword("codec"));
            return payload;
        }
    };
    // Configurations of middlewares in use are coerced before they are checked (`middlewares::place_configs`), so that
    // "12" is fine there; here only their shape is.
    if catalog.middleware_of_key(key).is_some() {
        if let Err(reason) = super::middlewares::read_instances(&payload) {
            problems.push(Problem::new(field(), reason).keyword("type"));
        }
        return payload;
    }
    if let Some(schema) = catalog.extension_schema(key) {
        problems.extend(schema.violations(&payload).into_iter().map(|violation| {
            let reason = violation.to_string();
            Problem::new(field(), reason).keyword(violation.keyword).below(&violation.pointer)
        }));
    }
    payload
}

impl Profile {
    /// Reads an extension as a type. `Ok(None)` when the profile has no such extension.
    ///
    /// # Errors
    /// A payload that is null or of another shape, with the contract's prefix.
    pub fn extension<T: DeserializeOwned>(&self, key: &ExtensionKey) -> Result<Option<T>, String> {
        let Some(payload) = self.extensions.get(key) else { return Ok(None) };
        let prefix = format!("profile.extensions[{}]:", quote(key.as_str()));
        if payload.is_null() {
            return Err(format!("{prefix} cannot decode <nil>"));
        }
        let name = std::any::type_name::<T>();
        let name = name.rsplit("::").next().unwrap_or(name);
        T::deserialize(payload)
            .map(Some)
            .map_err(|e| format!("{prefix} json unmarshal into {name}: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::catalog;
    use serde_json::json;

    fn normalise_json(value: Value) -> (Extensions, Vec<String>) {
        let mut problems = Vec::new();
        let Value::Object(raw) = value else { panic!("an object") };
        let extensions = normalise(raw, &catalog(), &mut problems);
        (extensions, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn c10_d10_keys_are_canonicalised_before_any_check_and_variants_collide() {
        let (extensions, problems) = normalise_json(json!({"Vendor.X@V1": 1}));
        assert_eq!(
            extensions.keys().map(ExtensionKey::as_str).collect::<Vec<_>>(),
            ["vendor.x@v1"]
        );
        assert!(problems.is_empty());
        let (_, problems) = normalise_json(json!({"Vendor.X@V1": 1, "vendor.x@v1": 2}));
        assert_eq!(
            problems,
            [
                r#"validation error (profile.extensions[vendor.x@v1]): duplicate extension key after canonicalization: "vendor.x@v1""#
            ]
        );
    }

    #[test]
    fn c10_d9_payloads_with_a_schema_are_checked_and_unknown_ones_pass() {
        let (extensions, problems) = normalise_json(json!({
            "webchat.starter_suggestions@v1": {"items": [1]},
            "vendor.custom@v1": {"anything": {}},
        }));
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with(
            "validation error (profile.extensions[webchat.starter_suggestions@v1]): /items/0"
        ));
        assert_eq!(extensions.len(), 1);
    }

    #[test]
    fn c10_d12_empty_objects_stay_empty_objects() {
        let (extensions, _) =
            normalise_json(json!({"a.b@v1": {}, "a.c@v1": {"deep": {"empty": {}}}}));
        assert_eq!(
            serde_json::to_value(extensions).unwrap(),
            json!({"a.b@v1": {}, "a.c@v1": {"deep": {"empty": {}}}})
        );
    }

    #[test]
    fn c10_d24_the_first_of_two_bad_keys_is_always_the_same() {
        let (_, problems) = normalise_json(json!({"z z": 1, "b b": 2}));
        assert_eq!(
            problems[0],
            r#"validation error (profile.extensions[b b]): extension key "b b" is invalid (expected namespace.feature@vN)"#
        );
    }

    #[test]
    fn nesting_has_a_limit() {
        let mut deep = json!(1);
        for _ in 0..65 {
            deep = json!([deep]);
        }
        let (_, problems) = normalise_json(json!({"a.b@v1": deep}));
        assert_eq!(
            problems,
            ["validation error (profile.extensions[a.b@v1]): must be at most 64 levels deep"]
        );
    }

    #[test]
    fn codecs_normalise_and_refuse() {
        let (extensions, problems) = normalise_json(json!({"test.upper@v1": "abc"}));
        assert_eq!((extensions.values().next(), problems.len()), (Some(&json!("ABC")), 0));
        let (_, problems) = normalise_json(json!({"test.upper@v1": 5}));
        assert_eq!(
            problems,
            [
                "validation error (profile.extensions[test.upper@v1]): decode failed: must be a string"
            ]
        );
    }

    #[test]
    fn typed_reads_report_null_and_shape() {
        let mut profile = crate::profile::validate::tests::profile("a");
        let key = ExtensionKey::parse("a.b@v1").unwrap();
        assert_eq!(profile.extension::<u8>(&key), Ok(None));
        profile.extensions.insert(key.clone(), json!(5));
        assert_eq!(profile.extension::<u8>(&key), Ok(Some(5)));
        profile.extensions.insert(key.clone(), json!(null));
        assert_eq!(
            profile.extension::<u8>(&key).unwrap_err(),
            r#"profile.extensions["a.b@v1"]: cannot decode <nil>"#
        );
        profile.extensions.insert(key.clone(), json!("x"));
        assert!(
            profile
                .extension::<u8>(&key)
                .unwrap_err()
                .starts_with(r#"profile.extensions["a.b@v1"]: json unmarshal into u8: "#)
        );
    }
}
