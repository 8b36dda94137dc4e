//! The session that writes.

use std::sync::mpsc;
use std::thread;

use collodi_profiles::store::StoreErrorKind;

use crate::fixture::{Author, Fixture, ids, profile, registry, slug, write};

pub(crate) fn what_is_committed_is_loaded_also_after_reopening(fixture: &Fixture) {
    let store = fixture.open();
    let mut author = Author::new();
    let changes = [author.create("a", 1), author.create("b", 1), author.update("a", 2)];
    write(&mut store.writer().unwrap(), &changes).unwrap();
    for store in [store, fixture.open()] {
        let mut contents = store.load().unwrap();
        assert_eq!(contents.revision, 3);
        assert_eq!(contents.registries.len(), 1);
        let stored = contents.registries.remove(&registry("default")).unwrap();
        assert_eq!(stored.profiles, [profile("a", 2), profile("b", 1)]);
        assert_eq!(stored.head, author.head);
        assert!(stored.deleted.is_empty());
    }
}

pub(crate) fn nothing_is_seen_before_the_commit(fixture: &Fixture) {
    let store = fixture.open();
    let mut session = store.writer().unwrap();
    session.begin().unwrap();
    session.append(&[Author::new().create("a", 1)]).unwrap();
    assert_eq!(store.load().unwrap().revision, 0);
    assert!(store.load().unwrap().registries.is_empty());
    assert!(store.audit(0, 9).unwrap().is_empty());
    session.commit().unwrap();
    assert_eq!(store.load().unwrap().revision, 1);
}

pub(crate) fn a_rollback_leaves_nothing(fixture: &Fixture) {
    let store = fixture.open();
    let mut session = store.writer().unwrap();
    session.begin().unwrap();
    session.append(&[Author::new().create("a", 1)]).unwrap();
    session.rollback();
    let contents = store.load().unwrap();
    assert_eq!((contents.revision, contents.registries.len()), (0, 0));
    assert!(store.audit(0, 9).unwrap().is_empty());
}

pub(crate) fn a_dropped_session_drops_its_transaction(fixture: &Fixture) {
    let store = fixture.open();
    let mut session = store.writer().unwrap();
    session.begin().unwrap();
    session.append(&[Author::new().create("a", 1)]).unwrap();
    drop(session);
    write(&mut store.writer().unwrap(), &[Author::new().create("b", 1)]).unwrap();
    let stored = store.load().unwrap().registries.remove(&registry("default")).unwrap();
    assert_eq!(stored.profiles, [profile("b", 1)]);
}

/// Two changes of which the second has an id that is taken: neither is there.
pub(crate) fn an_append_is_there_whole_or_not_at_all(fixture: &Fixture) {
    let store = fixture.open();
    let mut session = store.writer().unwrap();
    let mut author = Author::new();
    write(&mut session, &[author.create("a", 1)]).unwrap();
    let good = author.create("b", 1);
    let mut bad = author.create("c", 1);
    bad.id = 1;
    session.begin().unwrap();
    session.append(&[good, bad]).unwrap_err();
    session.commit().unwrap();
    let contents = store.load().unwrap();
    assert_eq!(contents.revision, 1);
    assert_eq!(contents.registries[&registry("default")].profiles, [profile("a", 1)]);
    assert_eq!(ids(&store.audit(0, 9).unwrap()), [1]);
}

pub(crate) fn a_failing_append_does_not_sink_its_transaction(fixture: &Fixture) {
    let store = fixture.open();
    let mut session = store.writer().unwrap();
    let mut author = Author::new();
    session.begin().unwrap();
    session.append(&[author.create("a", 1)]).unwrap();
    for _ in 0..3 {
        session.append(&[Author::of("other", 1).create("b", 1)]).unwrap_err();
    }
    session.append(&[author.create("c", 1)]).unwrap();
    session.commit().unwrap();
    let contents = fixture.open().load().unwrap();
    assert_eq!(contents.revision, 2);
    assert_eq!(contents.registries.len(), 1, "the failed registry is not there");
    let stored = &contents.registries[&registry("default")];
    assert_eq!(stored.profiles, [profile("a", 1), profile("c", 1)]);
    assert_eq!(stored.head, author.head);
}

pub(crate) fn a_failed_append_moves_no_registry(fixture: &Fixture) {
    let store = fixture.open();
    let mut session = store.writer().unwrap();
    let mut author = Author::new();
    write(&mut session, &[author.create("a", 1)]).unwrap();
    let before = author.head.clone();
    let mut taken = author.make_default("a", 1);
    taken.id = 1;
    session.begin().unwrap();
    session.append(&[taken]).unwrap_err();
    session.commit().unwrap();
    assert_eq!(store.load().unwrap().registries[&registry("default")].head, before);
}

pub(crate) fn a_session_goes_on_after_a_rollback(fixture: &Fixture) {
    let store = fixture.open();
    let mut session = store.writer().unwrap();
    session.begin().unwrap();
    session.append(&[Author::of("gone", 1).create("x", 1)]).unwrap();
    session.rollback();
    let mut author = Author::new();
    write(&mut session, &[author.create("a", 1)]).unwrap();
    write(&mut session, &[author.update("a", 2)]).unwrap();
    let contents = store.load().unwrap();
    assert_eq!(contents.revision, 2);
    assert_eq!(contents.registries.keys().collect::<Vec<_>>(), [&registry("default")]);
}

pub(crate) fn changes_after_gives_the_newer_ones_in_order(fixture: &Fixture) {
    let store = fixture.open();
    let mut session = store.writer().unwrap();
    let mut author = Author::new();
    let changes: Vec<_> = (1..=5).map(|n| author.create(&format!("p{n}"), 1)).collect();
    write(&mut session, &changes).unwrap();
    assert_eq!(session.changes_after(0).unwrap(), changes);
    assert_eq!(session.changes_after(3).unwrap(), changes[3..]);
    assert!(session.changes_after(5).unwrap().is_empty());
    session.begin().unwrap();
    assert_eq!(session.changes_after(4).unwrap(), changes[4..]);
    session.rollback();
}

pub(crate) fn changes_after_sees_what_was_committed_before_the_lock(fixture: &Fixture) {
    let (one, two) = (fixture.open(), fixture.open());
    let mut idle = one.writer().unwrap();
    assert!(idle.changes_after(0).unwrap().is_empty());
    let mut author = Author::new();
    let change = author.create("a", 1);
    write(&mut two.writer().unwrap(), std::slice::from_ref(&change)).unwrap();
    idle.begin().unwrap();
    assert_eq!(idle.changes_after(0).unwrap(), [change]);
    idle.append(&[author.create("b", 1)]).unwrap();
    idle.commit().unwrap();
    assert_eq!(two.load().unwrap().registries[&registry("default")].profiles.len(), 2);
}

pub(crate) fn a_commit_elsewhere_is_noticed(fixture: &Fixture) {
    let (one, two) = (fixture.open(), fixture.open());
    let (mut reading, mut writing) = (one.writer().unwrap(), two.writer().unwrap());
    let mut author = Author::new();
    for n in 1..=5 {
        let _ = reading.changed_elsewhere().unwrap();
        write(&mut writing, &[author.create(&format!("p{n}"), 1)]).unwrap();
        assert!(reading.changed_elsewhere().unwrap(), "commit {n}");
    }
}

/// What a transaction took over and then dropped was never published, so it has to be asked for again.
pub(crate) fn a_commit_elsewhere_is_noticed_again_after_a_rollback(fixture: &Fixture) {
    let (one, two) = (fixture.open(), fixture.open());
    let (mut reading, mut writing) = (one.writer().unwrap(), two.writer().unwrap());
    let _ = reading.changed_elsewhere().unwrap();
    write(&mut writing, &[Author::new().create("a", 1)]).unwrap();
    reading.begin().unwrap();
    assert!(reading.changed_elsewhere().unwrap());
    reading.rollback();
    assert!(reading.changed_elsewhere().unwrap());
}

/// Four sessions count up together: without the lock two of them would take the same number.
pub(crate) fn writers_take_turns_and_lose_nothing(fixture: &Fixture) {
    const WRITERS: u64 = 4;
    const TURNS: u64 = 25;
    let stores: Vec<_> = (0..WRITERS).map(|_| fixture.open()).collect();
    thread::scope(|scope| {
        for (number, store) in stores.iter().enumerate() {
            scope.spawn(move || {
                let mut session = store.writer().unwrap();
                for turn in 0..TURNS {
                    session.begin().unwrap();
                    let newest = session.changes_after(0).unwrap();
                    let mut author = Author::new();
                    if let Some(last) = newest.last() {
                        (author.head, author.next_id) = (last.head.as_ref().clone(), last.id + 1);
                    }
                    session.append(&[author.create(&format!("w{number}-{turn}"), 1)]).unwrap();
                    session.commit().unwrap();
                }
            });
        }
    });
    let all = stores[0].audit(0, 1_000).unwrap();
    assert_eq!(ids(&all), (1..=WRITERS * TURNS).collect::<Vec<_>>());
    let contents = stores[0].load().unwrap();
    let stored = &contents.registries[&registry("default")];
    assert_eq!(stored.profiles.len() as u64, WRITERS * TURNS);
    assert_eq!(stored.head.metadata.version, WRITERS * TURNS);
    assert!(stored.profiles.iter().any(|p| p.slug == slug("w3-24")));
}

pub(crate) fn a_writer_that_waits_too_long_is_told_that_the_database_is_busy(fixture: &Fixture) {
    let (one, two) = (fixture.open(), fixture.open());
    let mut holder = one.writer().unwrap();
    holder.begin().unwrap();
    let (told, outcome) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || told.send(two.writer().and_then(|mut s| s.begin())).unwrap());
        let waited = outcome.recv_timeout(std::time::Duration::from_secs(30)).unwrap();
        assert_eq!(waited.unwrap_err().kind, StoreErrorKind::Busy);
    });
    holder.append(&[Author::new().create("a", 1)]).unwrap();
    holder.commit().unwrap();
    assert_eq!(one.load().unwrap().revision, 1);
}
