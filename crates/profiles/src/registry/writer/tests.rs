//! The writer against a session that fails as it is told.

use std::sync::Mutex;
use std::sync::mpsc;

use tokio::sync::Semaphore;

use super::super::decide;
use serde_json::json;

use super::*;
use crate::profile::Draft;
use crate::profile::validate::tests::profile;

/// A session that fails as it is told; what it committed is what counts.
#[derive(Default)]
struct Script {
    fail_commit: Option<StoreErrorKind>,
    fail_append_of: Option<&'static str>,
    pending: usize,
    committed: usize,
}

struct Scripted(Arc<Mutex<Script>>);

impl WriteSession for Scripted {
    fn changed_elsewhere(&mut self) -> Result<bool, StoreError> {
        Ok(false)
    }
    fn begin(&mut self) -> Result<(), StoreError> {
        self.0.lock().unwrap().pending = 0;
        Ok(())
    }
    fn changes_after(&mut self, _: u64) -> Result<Vec<Change>, StoreError> {
        Ok(Vec::new())
    }
    fn append(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let mut script = self.0.lock().unwrap();
        let slug = changes[0].slug.as_ref().map(|slug| slug.as_str().to_owned());
        if script.fail_append_of.is_some_and(|failing| slug.as_deref() == Some(failing)) {
            return Err(StoreError::new(StoreErrorKind::Full, "no space"));
        }
        script.pending += changes.len();
        Ok(())
    }
    fn commit(&mut self) -> Result<(), StoreError> {
        let mut script = self.0.lock().unwrap();
        if let Some(kind) = script.fail_commit.take() {
            return Err(StoreError::new(kind, "commit failed"));
        }
        script.committed += script.pending;
        Ok(())
    }
    fn rollback(&mut self) {}
    fn ping(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

struct Fixture {
    worker: Worker,
    script: Arc<Mutex<Script>>,
    published: Arc<ArcSwap<Snapshot>>,
}

impl Fixture {
    fn new() -> Self {
        let script = Arc::new(Mutex::new(Script::default()));
        let published = Arc::new(ArcSwap::from_pointee(Snapshot::default()));
        let worker = Worker::new(Box::new(Scripted(script.clone())), published.clone());
        let mut fixture = Self { worker, script, published };
        let slug = profile("default").slug;
        let seed = decide::bootstrap(registry(), vec![profile("default")], slug);
        assert!(fixture.turn(vec![seed]).iter().all(Result::is_ok));
        fixture
    }

    fn turn(&mut self, decisions: Vec<Decision>) -> Vec<Result<Written, Error>> {
        let places = Arc::new(Semaphore::new(decisions.len()));
        let (group, answers): (Vec<_>, Vec<_>) = decisions
            .into_iter()
            .map(|decision| {
                let place = places.clone().try_acquire_owned().unwrap();
                let (waiting, answered) = Waiting::new(place);
                ((Command::new(decision, Stamp::default()), waiting), answered)
            })
            .unzip();
        self.worker.turn(group);
        answers.into_iter().map(|mut answered| answered.try_recv().unwrap()).collect()
    }

    fn profiles(&self) -> Vec<String> {
        let snapshot = self.published.load();
        let state = snapshot.registry(&registry()).unwrap();
        state.profiles().map(|stored| stored.profile().slug.to_string()).collect()
    }
}

fn registry() -> RegistrySlug {
    RegistrySlug::parse("default").unwrap()
}

fn create(slug: &str) -> Decision {
    let request = decide::CreateProfile { slug: slug.into(), ..decide::CreateProfile::default() };
    decide::create_profile(request, &crate::Catalog::default(), &registry()).unwrap()
}

#[test]
fn c10_d2_a_write_that_fails_leaves_no_trace_and_none_comes_back_later() {
    let mut fixture = Fixture::new();
    fixture.script.lock().unwrap().fail_commit = Some(StoreErrorKind::Full);
    let outcomes = fixture.turn(vec![create("a"), create("a")]);
    assert!(outcomes.iter().all(|o| matches!(o, Err(Error::Store(_)))), "{outcomes:?}");
    assert_eq!(fixture.profiles(), ["default"]);
    assert!(fixture.turn(vec![create("b")])[0].is_ok());
    assert_eq!(fixture.profiles(), ["b", "default"]);
    assert_eq!(fixture.script.lock().unwrap().committed, 3, "registry, default, b");
}

#[test]
fn a_failing_command_does_not_sink_its_group() {
    let mut fixture = Fixture::new();
    fixture.script.lock().unwrap().fail_append_of = Some("bad");
    let panics =
        Decision { registry: registry(), slug: None, decide: Box::new(|_, _| panic!("a rule")) };
    let outcomes = fixture.turn(vec![create("a"), create("bad"), panics, create("a"), create("c")]);
    assert!(outcomes[0].is_ok() && outcomes[4].is_ok());
    assert!(matches!(outcomes[1], Err(Error::Store(_))));
    assert!(matches!(outcomes[2], Err(Error::Internal(_))));
    assert!(matches!(outcomes[3], Err(Error::VersionConflict { actual: 1, .. })));
    assert_eq!(fixture.profiles(), ["a", "c", "default"]);
    let revision = fixture.published.load().revision();
    assert_eq!(revision, 4, "numbers have no gap where a command failed");
}

#[test]
fn after_a_failing_device_nothing_more_is_written() {
    let mut fixture = Fixture::new();
    fixture.script.lock().unwrap().fail_commit = Some(StoreErrorKind::Io);
    assert!(fixture.turn(vec![create("a")])[0].is_err());
    assert!(fixture.turn(vec![create("b")])[0].is_err());
    assert_eq!(fixture.script.lock().unwrap().committed, 2);
    assert_eq!(fixture.profiles(), ["default"], "reads go on");
}

#[test]
fn losers_of_a_race_cost_no_write() {
    let mut fixture = Fixture::new();
    let outcomes = fixture.turn(vec![create("default")]);
    assert!(matches!(outcomes[0], Err(Error::VersionConflict { .. })));
    assert_eq!(fixture.script.lock().unwrap().committed, 2);
}

#[test]
fn callers_that_come_after_the_end_are_told() {
    let fixture = Fixture::new();
    let (queue, messages) = mpsc::channel();
    let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let (waiting, mut answered) = Waiting::new(place);
    queue.send(Message::Close).unwrap();
    let command = Command::new(create("a"), Stamp::default());
    queue.send(Message::Execute(command, waiting)).unwrap();
    fixture.worker.run(&messages);
    assert!(
        matches!(answered.try_recv().unwrap(), Err(Error::Store(e)) if e.kind == StoreErrorKind::Closed)
    );
}

#[test]
fn c10_d1_the_default_has_an_heir_and_the_first_profile_becomes_it() {
    let mut fixture = Fixture::new();
    let delete = |slug: &str| {
        decide::delete_profile(
            registry(),
            ProfileSlug::parse(slug).unwrap(),
            decide::Guard::default(),
        )
    };
    let default = |fixture: &Fixture| {
        let snapshot = fixture.published.load();
        let state = snapshot.registry(&registry()).unwrap();
        state.default_profile().map(|stored| stored.profile().slug.to_string())
    };
    fixture.turn(vec![create("b"), create("a"), delete("default")]);
    assert_eq!(default(&fixture).as_deref(), Some("a"));
    fixture.turn(vec![delete("a"), delete("b")]);
    assert_eq!(default(&fixture), None);
    fixture.turn(vec![create("z")]);
    assert_eq!(default(&fixture).as_deref(), Some("z"));
}

#[test]
fn c10_d6_versions_go_on_above_a_deleted_namesake() {
    let mut fixture = Fixture::new();
    let slug = ProfileSlug::parse("a").unwrap();
    let delete = decide::delete_profile(registry(), slug, decide::Guard::default());
    let outcomes = fixture.turn(vec![create("a"), delete, create("a")]);
    let version = |outcome: &Result<Written, Error>| {
        outcome.as_ref().unwrap().stored.as_ref().map(|stored| stored.profile().metadata.version)
    };
    assert_eq!(outcomes.iter().map(version).collect::<Vec<_>>(), [Some(1), None, Some(3)]);
}

#[test]
fn callers_are_told_though_the_runtime_of_the_first_has_ended() {
    let mut fixture = Fixture::new();
    let places = Arc::new(Semaphore::new(2));
    let place = || places.clone().try_acquire_owned().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let (first, told_first) = runtime.block_on(async { Waiting::new(place()) });
    let (second, told_second) = Waiting::new(place());
    runtime.shutdown_background();
    let command = |slug| Command::new(create(slug), Stamp::default());
    fixture.worker.turn(vec![(command("a"), first), (command("b"), second)]);
    assert!(told_first.blocking_recv().unwrap().is_ok());
    assert!(told_second.blocking_recv().unwrap().is_ok());
}

#[test]
fn a_profile_is_read_from_its_text_as_it_was_written() {
    let fixture = Fixture::new();
    let extensions =
        json!({"vendor.x@v1": {"n": [1, 1.0, -0.5, u64::MAX], "t": "\u{0} 漢字 \"\\"}});
    let draft = Draft {
        display_name: "Ann's".into(),
        tags: vec!["one".into(), "two".into()],
        extensions: extensions.as_object().unwrap().clone(),
        ..Draft::default()
    };
    let request = decide::CreateProfile { slug: "kept".into(), draft, ..Default::default() };
    let decision = decide::create_profile(request, &crate::Catalog::default(), &registry());
    let mut changes = Vec::new();
    let decide = decision.unwrap().decide;
    changes.extend(decide(&fixture.published.load(), Stamp::default()).unwrap());
    let mut snapshot = Snapshot::clone(&fixture.published.load());
    snapshot.apply(&changes[0]);
    let stored = snapshot.registry(&registry()).unwrap().get(&profile("kept").slug).unwrap();
    let (written, read) = (changes[0].profile.as_deref().unwrap(), stored.profile());
    assert_eq!(*written, read);
    assert_eq!(changes[0].document, read.document(), "also in the kinds of its numbers");
    for is_default in [false, true] {
        let text = String::from_utf8(stored.rendered(is_default).document().to_vec()).unwrap();
        assert!(text.ends_with(&format!("\"is_default\":{is_default}}}\n")), "{text}");
    }
}
