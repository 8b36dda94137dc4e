//! Databases of the Go reference are taken over: nothing is lost, what was broken is repaired, every repair is said
//! (decision 6). The samples were written by the running reference.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use collodi_profiles::profile::ProfilePatch;
use collodi_profiles::profile::history::{Change, Operation};
use collodi_profiles::registry::{Guard, Options, UpdateProfile};
use collodi_profiles::settings::Settings;
use collodi_profiles::store::{ProfileStore, StoreError, StoredRegistry};
use collodi_profiles::{Author, Catalog, ProfileSlug, Registry, RegistrySlug};
use collodi_store::SqliteProfiles;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

#[path = "adoption/crafted.rs"]
mod crafted;
#[path = "adoption/refused.rs"]
mod refused;

/// The dummy key that the samples hold.
const KEY: &str = "sk-dummy-0000";

/// A copy of a sample in a folder of its own.
struct Sample {
    folder: TempDir,
    path: PathBuf,
}

impl Sample {
    fn copy(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("profiles.db");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(name);
        fs::copy(source, &path).unwrap();
        Self { folder, path }
    }

    fn open(&self) -> Result<Arc<SqliteProfiles>, StoreError> {
        SqliteProfiles::open(&self.path, &catalog(), 5_000).map(Arc::new)
    }

    fn registry(&self) -> Registry {
        let options = Options {
            catalog: Arc::new(catalog()),
            settings: Settings::default(),
            default_registry: default_registry(),
            clock: Arc::new(|| 9_000),
        };
        Registry::open(self.open().unwrap(), options).unwrap()
    }

    /// The rows of the reference's table.
    fn rows(&self) -> Vec<(String, String, i64)> {
        rows(&self.path)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn catalog() -> Catalog {
    collodi_tools::catalog().unwrap()
}

fn default_registry() -> RegistrySlug {
    RegistrySlug::parse("default").unwrap()
}

fn slug(name: &str) -> ProfileSlug {
    ProfileSlug::parse(name).unwrap()
}

fn rows(path: &Path) -> Vec<(String, String, i64)> {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection
        .prepare("SELECT slug, payload_json, updated_at_ms FROM profile_registries ORDER BY slug")
        .unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

fn payload(sample: &Sample) -> Value {
    serde_json::from_str(&sample.rows()[0].1).unwrap()
}

fn loaded(store: &SqliteProfiles) -> StoredRegistry {
    store.load().unwrap().registries.remove(&default_registry()).unwrap()
}

/// Profiles by slug, as JSON.
fn profiles(store: &SqliteProfiles) -> BTreeMap<String, Value> {
    let profiles = loaded(store).profiles.into_iter();
    profiles.map(|p| (p.slug.to_string(), serde_json::to_value(&p).unwrap())).collect()
}

/// What was said about a profile, or about the registry for "".
fn note(store: &SqliteProfiles, name: &str) -> String {
    let log = store.audit(0, 1_000).unwrap();
    let about = |change: &&Change| change.slug.as_ref().map_or("", ProfileSlug::as_str) == name;
    log.iter().find(about).unwrap().stamp.note.clone()
}

/// What the original says, with every difference that the decisions ask for.
fn explained(payload: &Value) -> BTreeMap<String, Value> {
    let original = payload["profiles"].as_object().unwrap().clone();
    let mut expected: BTreeMap<String, Value> = original.into_iter().collect();
    // Built-ins were never touched by the reference: every stored profile has a version (D6, decision 11).
    for name in ["agent", "default"] {
        if let Some(profile) = expected.get_mut(name) {
            profile["metadata"] = json!({"version": 1});
        }
    }
    // Inline configuration moves to where the API writes it (D11, D13).
    if let Some(agent) = expected.get_mut("agent") {
        agent["runtime"]["middlewares"] = json!([{"name": "agentmode", "id": "default"}]);
        agent["extensions"] = json!({"middleware.agentmode_config@v1":
            {"instances": {"id:default": {"default_mode": "financial_analyst"}}}});
    }
    // Id-less uses of the same middleware get ids, and their configuration goes with them (decisions 6 and 9).
    if let Some(twice) = expected.get_mut("twice") {
        let uses = &mut twice["runtime"]["middlewares"];
        uses[0]["id"] = json!("agentmode-1");
        uses[1]["id"] = json!("agentmode-2");
        twice["extensions"]["middleware.agentmode_config@v1"] = json!({"instances": {
            "id:agentmode-1": {"default_mode": "default"}, "id:agentmode-2": {"default_mode": "default"},
        }});
    }
    // Keys are redacted (decision 15).
    if let Some(withkey) = expected.get_mut("withkey") {
        withkey["runtime"]["step_settings_patch"]["openai-chat"]["openai-api-key"] = json!("***");
    }
    // A second spelling of an extension key is kept beside the canonical one, never mixed with it (D10).
    if let Some(extensions) = expected.get_mut("analyst").map(|p| &mut p["extensions"])
        && let Some(variant) =
            extensions.as_object_mut().unwrap().remove("WebChat.Starter_Suggestions@V1")
    {
        extensions["webchat.starter_suggestions_variant2@v1"] = variant;
    }
    expected
}

/// Everything that a file holds, with its log.
fn bytes_of(path: &Path) -> Vec<u8> {
    let mut all = fs::read(path).unwrap();
    for suffix in ["-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        all.extend(fs::read(PathBuf::from(name)).unwrap_or_default());
    }
    all
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn every_profile_is_there_and_every_difference_is_explained() {
    for (name, count) in
        [("profiles.db", 8), ("profiles-default-deleted.db", 1), ("profiles-case-variants.db", 8)]
    {
        let sample = Sample::copy(name);
        let original = payload(&sample);
        let store = sample.open().unwrap();
        let adopted = profiles(&store);
        assert_eq!(adopted.len(), count, "{name}");
        for (slug, expected) in explained(&original) {
            assert_eq!(adopted[&slug], expected, "{name}: {slug}");
        }
    }
}

#[test]
fn the_registry_goes_on_where_it_was() {
    let sample = Sample::copy("profiles.db");
    let original = payload(&sample);
    let head = loaded(&sample.open().unwrap()).head;
    assert_eq!(head.default_profile, Some(slug("analyst")));
    assert_eq!(serde_json::to_value(&head.metadata).unwrap(), original["metadata"]);
}

#[test]
fn c10_d1_a_registry_whose_default_was_deleted_opens_again() {
    let sample = Sample::copy("profiles-default-deleted.db");
    let store = sample.open().unwrap();
    let head = loaded(&store).head;
    assert_eq!(head.default_profile, Some(slug("agent")));
    assert_eq!(head.metadata.version, 2);
    assert_eq!(note(&store, ""), "default profile was none, now agent");
}

#[test]
fn repairs_are_said_in_the_log_of_changes() {
    let sample = Sample::copy("profiles-case-variants.db");
    let store = sample.open().unwrap();
    assert_eq!(note(&store, ""), "");
    assert_eq!(
        note(&store, "twice"),
        "middleware 0 (agentmode) got the id agentmode-1; middleware 1 (agentmode) got the id agentmode-2"
    );
    assert!(note(&store, "withkey").starts_with("a provider key was redacted"));
    assert!(note(&store, "oddtools").contains("unknown tool \"no_such_tool\""));
    assert_eq!(
        note(&store, "analyst"),
        "extension \"WebChat.Starter_Suggestions@V1\" is kept as webchat.starter_suggestions_variant2@v1"
    );
    for untouched in ["locked", "unicode"] {
        assert_eq!(note(&store, untouched), "", "{untouched}");
    }
    let log = store.audit(0, 1_000).unwrap();
    assert_eq!(log.len(), 9);
    assert_eq!(log[0].operation, Operation::CreateRegistry);
    assert!(log[1..].iter().all(|change| change.operation == Operation::Adopt));
    for (change, id) in log.iter().zip(1..) {
        assert_eq!(change.id, id);
        assert_eq!((change.stamp.source.as_str(), change.stamp.at_ms), ("adoption", 5_000));
    }
}

#[test]
fn a_key_is_nowhere_in_the_adopted_file_nor_in_its_log() {
    let sample = Sample::copy("profiles.db");
    assert!(holds(&fs::read(&sample.path).unwrap(), KEY), "the sample has one");
    let store = sample.open().unwrap();
    assert!(!holds(&bytes_of(&sample.path), KEY), "while it is open");
    drop(store);
    assert!(!holds(&bytes_of(&sample.path), KEY), "after it was closed");
    drop(sample.open().unwrap());
    assert!(!holds(&bytes_of(&sample.path), KEY), "after the second start");
}

#[test]
fn the_original_stands_beside_with_every_row() {
    for name in ["profiles.db", "profiles-default-deleted.db", "profiles-case-variants.db"] {
        let sample = Sample::copy(name);
        let original = sample.rows();
        drop(sample.open().unwrap());
        let kept = sample.folder.path().join("profiles.db.before-adoption-1");
        assert_eq!(rows(&kept), original, "{name}");
        let check = Connection::open(&kept).unwrap();
        let verdict: String =
            check.pragma_query_value(None, "integrity_check", |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok");
        let version: i64 =
            check.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(version, 0, "the reference opens it again");
    }
}

#[test]
fn the_second_start_changes_nothing() {
    let sample = Sample::copy("profiles.db");
    let first = sample.open().unwrap();
    let (before, log) = (profiles(&first), first.audit(0, 1_000).unwrap());
    drop(first);
    let (bytes, names) = (fs::read(&sample.path).unwrap(), sample.names());
    let second = sample.open().unwrap();
    assert_eq!(profiles(&second), before);
    assert_eq!(second.audit(0, 1_000).unwrap(), log);
    drop(second);
    assert_eq!(sample.names(), names);
    assert!(fs::read(&sample.path).unwrap() == bytes, "not one byte");
}

/// As servers in containers do: they share the file, and each has the same process id.
#[test]
fn servers_that_start_at_once_adopt_once() {
    let sample = Sample::copy("profiles.db");
    let barrier = std::sync::Barrier::new(4);
    let stores: Vec<_> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    sample.open()
                })
            })
            .collect();
        starts.into_iter().map(|start| start.join().unwrap().unwrap()).collect()
    });
    for store in stores {
        assert_eq!(store.audit(0, 1_000).unwrap().len(), 9);
        assert_eq!(loaded(&store).profiles.len(), 8);
    }
}

fn patched(target: &Registry, name: &str, patch: ProfilePatch) -> (u64, u64) {
    let request = UpdateProfile {
        registry: default_registry(),
        slug: slug(name),
        patch,
        set_default: false,
        guard: Guard::default(),
        may_unlock: true,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let written =
        runtime.block_on(target.update_profile(request, Author::default(), false)).unwrap();
    (written.stored.unwrap().profile().metadata.version, written.registry_version)
}

/// A patch that names neither runtime nor extensions is not refused for what the profile had before (decision 6).
#[test]
fn an_adopted_profile_with_unknown_tools_can_be_edited_elsewhere_and_versions_go_on() {
    let sample = Sample::copy("profiles.db");
    let target = sample.registry();
    let rename =
        || ProfilePatch { display_name: Some("Odd tools".into()), ..ProfilePatch::default() };
    assert_eq!(patched(&target, "oddtools", rename()), (2, 14));
    assert_eq!(patched(&target, "analyst", rename()), (7, 15));
    assert_eq!(patched(&target, "default", rename()), (2, 16), "never edited before");
    target.close();
    let after = profiles(&sample.open().unwrap());
    assert_eq!(after["oddtools"]["runtime"]["tools"], json!(["calculator", "no_such_tool"]));
    assert_eq!(after["oddtools"]["metadata"]["created_at_ms"], json!(1_795_356_615_512_i64));
    assert_eq!(after["oddtools"]["display_name"], "Odd tools");
    assert_eq!(after["analyst"]["metadata"]["version"], 7);
}
