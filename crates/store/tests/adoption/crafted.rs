//! What the reference could have written by its own defects, and the samples do not hold.

use super::*;

/// A reference database with these profiles; the log is folded in unless a connection keeps it open.
fn crafted(profiles: &Value) -> Sample {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profiles.db");
    let connection = Connection::open(&path).unwrap();
    let payload = json!({
        "slug": "default", "default_profile_slug": "a", "profiles": profiles,
        "metadata": {"version": 4},
    });
    write(&connection, "default", &payload.to_string());
    Sample { folder, path }
}

pub(super) fn write(connection: &Connection, slug: &str, payload: &str) {
    let table = "CREATE TABLE IF NOT EXISTS profile_registries (slug TEXT PRIMARY KEY, payload_json TEXT NOT NULL, \
                 updated_at_ms INTEGER NOT NULL DEFAULT 0)";
    connection.execute_batch(table).unwrap();
    connection
        .execute("INSERT INTO profile_registries VALUES (?1, ?2, 5)", [slug, payload])
        .unwrap();
}

#[test]
fn what_the_reference_still_had_in_its_log_is_adopted() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.db");
    let writer = Connection::open(&source).unwrap();
    let _: String =
        writer.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0)).unwrap();
    let registry = |slug: &str| json!({"slug": slug, "profiles": {"p": {"slug": "p"}}}).to_string();
    write(&writer, "default", &registry("default"));
    write(&writer, "second", &registry("second"));
    let path = folder.path().join("profiles.db");
    fs::copy(&source, &path).unwrap();
    fs::copy(folder.path().join("source.db-wal"), folder.path().join("profiles.db-wal")).unwrap();
    let store = SqliteProfiles::open(&path, &catalog(), 1).unwrap();
    let contents = store.load().unwrap();
    let names: Vec<_> = contents.registries.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["default", "second"]);
    assert!(contents.registries.values().all(|r| r.head.default_profile == Some(slug("p"))));
    assert_eq!(rows(&folder.path().join("profiles.db.before-adoption-1")).len(), 2);
}

#[test]
fn c10_d1_a_default_that_names_nothing_becomes_default_or_the_lowest_slug() {
    let sample =
        crafted(&json!({"z": {"slug": "z"}, "default": {"slug": "default"}, "b": {"slug": "b"}}));
    let store = sample.open().unwrap();
    assert_eq!(loaded(&store).head.default_profile, Some(slug("default")));
    assert_eq!(note(&store, ""), "default profile was a, now default");
    let sample = crafted(&json!({"z": {"slug": "z"}, "b": {"slug": "b"}}));
    assert_eq!(loaded(&sample.open().unwrap()).head.default_profile, Some(slug("b")));
    let sample = crafted(&json!({}));
    assert_eq!(loaded(&sample.open().unwrap()).head.default_profile, None);
}

#[test]
fn c10_d12_values_of_extensions_come_over_exactly() {
    let text = r#"{"big":18446744073709551615,"low":-9223372036854775808,"f":1.0,"e":1e300,"o":{},"n":null,"":[[]]}"#;
    let value: Value = serde_json::from_str(text).unwrap();
    let sample = crafted(&json!({"a": {"slug": "a", "extensions": {"vendor.x@v1": value}}}));
    let adopted = loaded(&sample.open().unwrap());
    let kept = adopted.profiles[0].extensions.values().next().unwrap();
    assert_eq!(kept.to_string(), value.to_string());
}

#[test]
fn c10_d10_keys_that_are_no_keys_are_kept_under_one_that_is() {
    let sample = crafted(&json!({"a": {"slug": "a", "extensions": {
        "not a key": 1, "Vendor.X@v1": 2, "VENDOR.X@v1": 3, "vendor.x@v1": 4,
    }}}));
    let store = sample.open().unwrap();
    let adopted = loaded(&store);
    let mut values: Vec<_> =
        adopted.profiles[0].extensions.values().map(|v| v.as_i64().unwrap()).collect();
    values.sort_unstable();
    assert_eq!(values, [1, 2, 3, 4], "{:?}", adopted.profiles[0].extensions);
    let canonical = adopted.profiles[0].extensions.iter().find(|(_, v)| **v == json!(4)).unwrap();
    assert_eq!(canonical.0.as_str(), "vendor.x@v1");
    assert!(note(&store, "a").contains("\"not a key\" is kept as"));
}

/// The reference stores anything under a middleware's key (D9); it is kept and said, not thrown away.
#[test]
fn c10_d9_junk_under_a_middleware_key_is_not_lost() {
    let sample = crafted(&json!({"a": {
        "slug": "a",
        "runtime": {"middlewares": [{"name": "sqlite"}]},
        "extensions": {"middleware.sqlite_config@v1": 5},
    }}));
    let store = sample.open().unwrap();
    let said = note(&store, "a");
    assert!(
        said.contains("middleware.sqlite_config@v1") || said.contains("middlewares[0]"),
        "{said}"
    );
    let adopted = serde_json::to_string(&loaded(&store).profiles[0]).unwrap();
    assert!(adopted.contains('5'), "said: {said}; kept: {adopted}");
}

#[test]
fn c10_d9_a_bad_config_is_kept_and_said() {
    let sample = crafted(&json!({"a": {
        "slug": "a",
        "runtime": {"middlewares": [{"name": "sqlite", "config": {"max_rows": "many", "x": 1}}]},
    }}));
    let store = sample.open().unwrap();
    let adopted = serde_json::to_value(&loaded(&store).profiles[0]).unwrap();
    let slots = &adopted["extensions"]["middleware.sqlite_config@v1"]["instances"];
    assert_eq!(slots["index:0"], json!({"max_rows": "many", "x": 1}));
    assert!(note(&store, "a").starts_with("kept although: "), "{}", note(&store, "a"));
}

/// Orphan slots are dropped (decision 9); a repair that is not said is a loss.
#[test]
fn c10_d13_a_dropped_slot_is_said() {
    let sample = crafted(&json!({"a": {
        "slug": "a",
        "runtime": {"middlewares": []},
        "extensions": {"middleware.sqlite_config@v1": {"instances": {"index:3": {"max_rows": 7}}}},
    }}));
    let store = sample.open().unwrap();
    let adopted = serde_json::to_string(&loaded(&store).profiles[0]).unwrap();
    assert!(adopted.contains("index:3") || note(&store, "a").contains("index:3"), "{adopted}");
}

#[test]
fn unknown_middlewares_keep_their_config() {
    let sample = crafted(&json!({"a": {
        "slug": "a",
        "runtime": {"middlewares": [{"name": "nobody", "config": {"k": [1]}}]},
        "extensions": {"middleware.nobody_config@v1": {"instances": {"index:0": {"old": true}}}},
    }}));
    let store = sample.open().unwrap();
    let adopted = serde_json::to_value(&loaded(&store).profiles[0]).unwrap();
    assert_eq!(adopted["runtime"]["middlewares"][0]["config"], json!({"k": [1]}));
    let key = "middleware.nobody_config@v1";
    assert_eq!(adopted["extensions"][key], json!({"instances": {"index:0": {"old": true}}}));
    assert!(note(&store, "a").contains("unknown middleware"), "{}", note(&store, "a"));
}

/// The reference checked no shape (D14): a key may lie outside any section.
#[test]
fn c10_d14_a_key_outside_its_section_is_redacted_too() {
    let sample = crafted(&json!({"a": {"slug": "a", "runtime": {"step_settings_patch": {
        "openai-api-key": "sk-dummy-0000",
        "nested": {"deeper": {"claude-api-key": "sk-dummy-0000"}},
    }}}}));
    let store = sample.open().unwrap();
    assert!(!holds(&bytes_of(&sample.path), KEY), "{:?}", loaded(&store).profiles[0].runtime);
}

/// Clients of the reference could forge versions (D7).
#[test]
fn c10_d7_a_forged_version_never_stops_the_next_start() {
    let sample = crafted(&json!({"a": {"slug": "a", "metadata": {"version": u64::MAX}}}));
    let target = sample.registry();
    let rename =
        |name: &str| ProfilePatch { display_name: Some(name.into()), ..ProfilePatch::default() };
    let (version, _) = patched(&target, "a", rename("once"));
    target.close();
    let contents = sample.open().unwrap().load();
    let contents = contents.unwrap_or_else(|e| panic!("after a write of version {version}: {e}"));
    let profile = &contents.registries[&default_registry()].profiles[0];
    assert_eq!((profile.display_name.as_str(), profile.metadata.version), ("once", version));
}

/// However much was repaired, the operator can read all of it somewhere; the note names its own end.
#[test]
fn a_long_list_of_repairs_fits_the_note() {
    let many: serde_json::Map<String, Value> =
        (0..40).map(|n| (format!("No Key {n}"), json!(n))).collect();
    let sample = crafted(&json!({"a": {"slug": "a", "extensions": many}}));
    let store = sample.open().unwrap();
    assert_eq!(loaded(&store).profiles[0].extensions.len(), 40);
    let said = note(&store, "a");
    assert!(said.len() <= 500 && said.ends_with("..."), "{said}");
}
