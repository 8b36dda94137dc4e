//! The registry over a store, against a model of a few lines: any sequence of commands, with restarts in between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use collodi_profiles::profile::history::Operation;
use collodi_profiles::profile::{Draft, ProfilePatch};
use collodi_profiles::registry::{
    CreateProfile, Guard, MakeDefault, Options, Seed, UpdateProfile, Written,
};
use collodi_profiles::settings::Settings;
use collodi_profiles::store::ProfileStore;
use collodi_profiles::{Author, Catalog, Error, Registry, Runtime};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::fixture::{Fixture, registry, slug};

const SLUGS: [&str; 4] = ["a", "b", "default", "z"];
const ACTOR: &str = "ann";

/// What a caller claims to know.
#[derive(Debug, Clone, Copy)]
enum Expected {
    Nothing,
    Current,
    Stale,
}

#[derive(Debug, Clone)]
enum Command {
    Create { slug: usize, prompt: u8, set_default: bool, expects: bool, dry_run: bool },
    Patch { slug: usize, prompt: Option<u8>, set_default: bool, expected: Expected, dry_run: bool },
    Delete { slug: usize, expected: Expected },
    SetDefault { slug: usize, expected: Expected },
    UnknownTool { slug: usize, create: bool },
    Reopen,
}

fn expected() -> impl Strategy<Value = Expected> {
    prop_oneof![
        3 => Just(Expected::Nothing), 2 => Just(Expected::Current), 1 => Just(Expected::Stale),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let place = || 0..SLUGS.len();
    let rarely = || prop::bool::weighted(0.1);
    prop_oneof![
        6 => (place(), any::<u8>(), any::<bool>(), rarely(), rarely()).prop_map(
            |(slug, prompt, set_default, expects, dry_run)| Command::Create {
                slug, prompt, set_default, expects, dry_run,
            }),
        5 => (place(), prop::option::weighted(0.8, any::<u8>()), any::<bool>(), expected(), rarely())
            .prop_map(|(slug, prompt, set_default, expected, dry_run)| Command::Patch {
                slug, prompt, set_default, expected, dry_run,
            }),
        4 => (place(), expected()).prop_map(|(slug, expected)| Command::Delete { slug, expected }),
        2 => (place(), expected()).prop_map(|(slug, expected)| Command::SetDefault { slug, expected }),
        1 => (place(), any::<bool>()).prop_map(|(slug, create)| Command::UnknownTool { slug, create }),
        1 => Just(Command::Reopen),
    ]
}

/// The registry in its simplest form.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    version: u64,
    default: Option<&'static str>,
    profiles: BTreeMap<&'static str, (u64, String)>,
    last: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    Missing,
    Conflict,
    Invalid,
}

impl Model {
    fn claim(expected: Expected, current: u64) -> u64 {
        match expected {
            Expected::Nothing => 0,
            Expected::Current => current,
            Expected::Stale => current + 1,
        }
    }

    fn store(&mut self, slug: &'static str, prompt: String) {
        let version = self.last.get(slug).copied().unwrap_or(0) + 1;
        self.last.insert(slug, version);
        self.profiles.insert(slug, (version, prompt));
    }

    fn run(&mut self, command: &Command) -> Outcome {
        match *command {
            Command::Create { slug, prompt, set_default, expects, .. } => {
                let slug = SLUGS[slug];
                if self.profiles.contains_key(slug) || expects {
                    return Outcome::Conflict;
                }
                if set_default || self.profiles.is_empty() {
                    self.default = Some(slug);
                }
                self.store(slug, prompt.to_string());
            }
            Command::Patch { slug, prompt, set_default, expected, .. } => {
                let slug = SLUGS[slug];
                if !self.profiles.contains_key(slug) {
                    return Outcome::Missing;
                }
                if matches!(expected, Expected::Stale) {
                    return Outcome::Conflict;
                }
                if prompt.is_none() && !set_default {
                    return Outcome::Done;
                }
                if set_default {
                    self.default = Some(slug);
                }
                if let Some(prompt) = prompt {
                    self.store(slug, prompt.to_string());
                }
            }
            Command::Delete { slug, expected } => {
                let slug = SLUGS[slug];
                if !self.profiles.contains_key(slug) {
                    return Outcome::Missing;
                }
                if matches!(expected, Expected::Stale) {
                    return Outcome::Conflict;
                }
                self.profiles.remove(slug);
                *self.last.entry(slug).or_default() += 1;
                if self.default == Some(slug) {
                    let named = self.profiles.keys().find(|slug| **slug == "default");
                    self.default = named.or_else(|| self.profiles.keys().next()).copied();
                }
            }
            Command::SetDefault { slug, expected } => {
                let slug = SLUGS[slug];
                if !self.profiles.contains_key(slug) {
                    return Outcome::Missing;
                }
                if matches!(expected, Expected::Stale) {
                    return Outcome::Conflict;
                }
                self.default = Some(slug);
            }
            Command::UnknownTool { slug, create } => {
                let exists = self.profiles.contains_key(SLUGS[slug]);
                return if create || exists { Outcome::Invalid } else { Outcome::Missing };
            }
            Command::Reopen => return Outcome::Done,
        }
        self.version += 1;
        Outcome::Done
    }
}

fn author() -> Author {
    Author { actor: ACTOR.into(), source: "http-api".into(), ..Author::default() }
}

fn open(store: Arc<dyn ProfileStore>, time: &Arc<AtomicI64>) -> Registry {
    let time = time.clone();
    let options = Options {
        catalog: Arc::new(Catalog::default()),
        settings: Settings::default(),
        default_registry: registry("default"),
        // A clock that goes forth and back: times must not decide anything.
        clock: Arc::new(move || {
            let tick = time.fetch_add(1, Ordering::Relaxed);
            1_000 + if tick % 3 == 0 { -tick } else { tick }
        }),
    };
    Registry::open(store, options).unwrap()
}

fn runtime_with(prompt: &str) -> Runtime {
    Runtime { system_prompt: prompt.into(), ..Runtime::default() }
}

async fn run(target: &Registry, model: &Model, command: &Command) -> Result<Written, Error> {
    let version_of = |slug: &str| model.profiles.get(slug).map_or(0, |(version, _)| *version);
    let guard = |expected, current| Guard {
        expected_version: Model::claim(expected, current),
        if_match: None,
    };
    let tools = |tool: &str| Runtime { tools: Some(vec![tool.into()]), ..Runtime::default() };
    match *command {
        Command::Create { slug, prompt, set_default, expects, dry_run } => {
            let request = CreateProfile {
                slug: SLUGS[slug].into(),
                draft: Draft { runtime: runtime_with(&prompt.to_string()), ..Draft::default() },
                set_default,
                guard: Guard { expected_version: if expects { 9 } else { 0 }, if_match: None },
                ..CreateProfile::default()
            };
            target.create_profile(request, author(), dry_run).await
        }
        Command::Patch { slug: name, prompt, set_default, expected, dry_run } => {
            let request = UpdateProfile {
                registry: registry("default"),
                slug: slug(SLUGS[name]),
                patch: ProfilePatch {
                    runtime: prompt.map(|prompt| runtime_with(&prompt.to_string())),
                    ..ProfilePatch::default()
                },
                set_default,
                guard: guard(expected, version_of(SLUGS[name])),
                may_unlock: true,
            };
            target.update_profile(request, author(), dry_run).await
        }
        Command::Delete { slug: name, expected } => {
            let guard = guard(expected, version_of(SLUGS[name]));
            target
                .delete_profile(registry("default"), slug(SLUGS[name]), guard, author(), false)
                .await
        }
        Command::SetDefault { slug: name, expected } => {
            let request = MakeDefault {
                registry: registry("default"),
                slug: slug(SLUGS[name]),
                guard: guard(expected, model.version),
            };
            target.set_default(request, author(), false).await
        }
        Command::UnknownTool { slug: name, create: true } => {
            let request = CreateProfile {
                slug: SLUGS[name].into(),
                draft: Draft { runtime: tools("no_such_tool"), ..Draft::default() },
                ..CreateProfile::default()
            };
            target.create_profile(request, author(), false).await
        }
        Command::UnknownTool { slug: name, create: false } => {
            let patch =
                ProfilePatch { runtime: Some(tools("no_such_tool")), ..ProfilePatch::default() };
            let request = UpdateProfile {
                registry: registry("default"),
                slug: slug(SLUGS[name]),
                patch,
                set_default: false,
                guard: Guard::default(),
                may_unlock: true,
            };
            target.update_profile(request, author(), false).await
        }
        Command::Reopen => unreachable!("handled by the caller"),
    }
}

fn outcome_of(result: &Result<Written, Error>) -> Outcome {
    match result {
        Ok(_) => Outcome::Done,
        Err(Error::ProfileNotFound) => Outcome::Missing,
        Err(Error::VersionConflict { .. }) => Outcome::Conflict,
        Err(Error::Validation(_)) => Outcome::Invalid,
        Err(other) => panic!("unexpected: {other:?}"),
    }
}

/// The registry, seen as the model sees it, and the invariant of D1.
fn seen(target: &Registry, last: &BTreeMap<&'static str, u64>) -> Model {
    let snapshot = target.snapshot();
    let state = snapshot.registry(&registry("default")).unwrap();
    let name = |text: &str| *SLUGS.iter().find(|slug| **slug == text).unwrap();
    assert_eq!(state.default_profile().is_some(), !state.is_empty(), "c10_d1");
    Model {
        version: state.version(),
        default: state.head().default_profile.as_ref().map(|slug| name(slug.as_str())),
        profiles: state
            .profiles()
            .map(|stored| {
                let profile = stored.profile();
                let prompt = profile.runtime.system_prompt.clone();
                (name(profile.slug.as_str()), (profile.metadata.version, prompt))
            })
            .collect(),
        last: last.clone(),
    }
}

/// The log tells the same story: numbered without gaps, versions of a slug only rise, the registry's with every write.
fn check_log(store: &dyn ProfileStore, model: &Model) {
    let log = store.audit(0, 10_000).unwrap();
    let mut versions: BTreeMap<String, u64> = BTreeMap::new();
    let mut registry_version = 0;
    for (change, id) in log.iter().zip(1..) {
        assert_eq!(change.id, id);
        assert_eq!(change.head.metadata.version, registry_version + 1, "one write, one step");
        registry_version += 1;
        let Some(slug) = &change.slug else { continue };
        let version = versions.entry(slug.to_string()).or_default();
        let step = u64::from(change.operation != Operation::SetDefault);
        assert_eq!(change.version, *version + step, "{slug}");
        *version = change.version;
    }
    assert_eq!(registry_version, model.version);
    let last = model.last.iter().map(|(slug, version)| ((*slug).to_owned(), *version)).collect();
    assert_eq!(versions, last);
}

fn is_dry(command: &Command) -> bool {
    matches!(command, Command::Create { dry_run: true, .. } | Command::Patch { dry_run: true, .. })
}

async fn replay(fixture: &Fixture, commands: &[Command]) {
    let time = Arc::new(AtomicI64::new(1));
    let seed = Seed {
        registry: registry("default"),
        profiles: Vec::new(),
        default_profile: slug("default"),
    };
    let mut target = open(fixture.open(), &time);
    assert!(target.bootstrap(seed, author()).await.unwrap());
    let mut model = Model { version: 1, ..Model::default() };
    for command in commands {
        if matches!(command, Command::Reopen) {
            target.close();
            target = open(fixture.open(), &time);
            assert_eq!(seen(&target, &model.last), model, "after reopening");
            continue;
        }
        let before = model.clone();
        let wanted = model.run(command);
        let result = run(&target, &before, command).await;
        assert_eq!(outcome_of(&result), wanted, "{command:?}: {result:?}");
        if let Ok(written) = &result {
            assert_eq!(written.registry_version, model.version, "{command:?}");
            if let Some(stored) = &written.stored {
                let name = stored.slug().as_str();
                assert_eq!(stored.version(), model.profiles[name].0);
                assert_eq!(written.is_default, model.default == Some(name));
            }
        }
        if is_dry(command) {
            model = before;
        }
        assert_eq!(seen(&target, &model.last), model, "{command:?}");
    }
    target.close();
    let store = fixture.open();
    check_log(store.as_ref(), &model);
    assert_eq!(seen(&open(store, &time), &model.last), model, "at the end");
}

pub(crate) fn agrees_with_the_model(fixture: &dyn Fn() -> Fixture) {
    let config =
        Config { cases: 60, failure_persistence: None, max_shrink_iters: 400, ..Config::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    TestRunner::new(config)
        .run(&prop::collection::vec(command(), 1..40), |commands| {
            runtime.block_on(replay(&fixture(), &commands));
            Ok(())
        })
        .unwrap();
}
