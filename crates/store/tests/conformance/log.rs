//! The log of changes: history of one profile, audit of all.

use std::collections::{BTreeMap, BTreeSet};

use collodi_profiles::profile::history::{Change, Operation};

use crate::fixture::{Author, Fixture, ids, registry, slug, write};

fn versions(changes: &[Change]) -> Vec<u64> {
    changes.iter().map(|change| change.version).collect()
}

/// Five versions of `a` in `default`, mixed with another profile, and namesakes in another registry.
fn filled(fixture: &Fixture) -> Vec<Change> {
    let mut author = Author::new();
    let mut changes = vec![author.create("a", 1), author.create("b", 1)];
    for version in 2..=5 {
        changes.push(author.update("a", version));
        changes.push(author.update("b", version));
    }
    let mut other = Author::of("other", author.next_id);
    changes.push(other.create("a", 1));
    changes.push(other.update("a", 2));
    write(&mut fixture.open().writer().unwrap(), &changes).unwrap();
    changes
}

pub(crate) fn history_is_newest_first(fixture: &Fixture) {
    let changes = filled(fixture);
    let history = fixture.open().history(&registry("default"), &slug("a"), 0, 100).unwrap();
    let mut expected: Vec<_> = changes
        .into_iter()
        .filter(|c| c.registry == registry("default") && c.slug == Some(slug("a")))
        .collect();
    expected.reverse();
    assert_eq!(history, expected);
}

pub(crate) fn history_is_paged(fixture: &Fixture) {
    filled(fixture);
    let store = fixture.open();
    let read =
        |before, limit| store.history(&registry("default"), &slug("a"), before, limit).unwrap();
    let all = ids(&read(0, 100));
    let page = |before, limit| ids(&read(before, limit));
    assert_eq!(page(0, 2), all[..2]);
    assert_eq!(page(all[1], 2), all[2..4]);
    assert_eq!(page(all[3], 2), all[4..]);
    assert_eq!(page(all[all.len() - 1], 2), Vec::<u64>::new());
    assert_eq!(page(u64::MAX, 1), all[..1]);
    assert_eq!(page(0, 0), Vec::<u64>::new());
}

pub(crate) fn history_is_of_one_profile_of_one_registry(fixture: &Fixture) {
    filled(fixture);
    let store = fixture.open();
    let history = |name: &str, profile: &str| {
        versions(&store.history(&registry(name), &slug(profile), 0, 100).unwrap())
    };
    assert_eq!(history("other", "a"), [2, 1]);
    assert_eq!(history("default", "b"), [5, 4, 3, 2, 1]);
    assert_eq!(history("other", "b"), Vec::<u64>::new());
    assert_eq!(history("nowhere", "a"), Vec::<u64>::new());
}

pub(crate) fn history_goes_on_across_delete_and_create(fixture: &Fixture) {
    let store = fixture.open();
    let mut session = store.writer().unwrap();
    let mut author = Author::new();
    write(&mut session, &[author.create("a", 1)]).unwrap();
    write(&mut session, &[author.delete("a", 2, None)]).unwrap();
    write(&mut session, &[author.create("a", 3)]).unwrap();
    let history = store.history(&registry("default"), &slug("a"), 0, 9).unwrap();
    assert_eq!(versions(&history), [3, 2, 1]);
    let deleted = &history[1];
    assert_eq!(deleted.operation, Operation::Delete);
    assert_eq!((&deleted.profile, deleted.document.as_str()), (&None, ""));
}

/// Becoming the default does not raise the version: several changes share one, and none may fall between two pages.
pub(crate) fn pages_of_history_lose_no_change_of_the_same_version(fixture: &Fixture) {
    let store = fixture.open();
    let mut author = Author::new();
    let mut changes = vec![author.create("a", 1), author.create("b", 1)];
    for _ in 0..3 {
        changes.push(author.make_default("b", 1));
        changes.push(author.make_default("a", 1));
    }
    changes.push(author.update("a", 2));
    write(&mut store.writer().unwrap(), &changes).unwrap();
    let wanted: BTreeSet<u64> =
        changes.iter().filter(|c| c.slug == Some(slug("a"))).map(|c| c.id).collect();
    let mut seen = BTreeSet::new();
    let mut before = 0;
    loop {
        let page = store.history(&registry("default"), &slug("a"), before, 2).unwrap();
        let Some(last) = page.last() else { break };
        before = last.id;
        seen.extend(ids(&page));
    }
    assert_eq!(seen, wanted);
}

/// Long enough that a store may put parts of the log together, with two writers that take turns.
pub(crate) fn a_long_log_is_read_as_it_was_written(fixture: &Fixture) {
    let stores = [fixture.open(), fixture.open()];
    let mut sessions = stores.each_ref().map(|store| store.writer().unwrap());
    let mut author = Author::new();
    let mut newest = BTreeMap::<String, (u64, bool)>::new();
    let mut all = Vec::new();
    for group in 0..12_usize {
        let mut changes = Vec::new();
        for n in 0..500_usize {
            let name = format!("p{:02}", (group * 500 + n) * 31 % 37);
            let (version, there) = newest.get(&name).copied().unwrap_or_default();
            changes.push(match (there, n % 11) {
                (true, 0) => author.make_default(&name, version),
                (true, 1) => author.delete(&name, version + 1, Some("p00")),
                (true, _) => author.update(&name, version + 1),
                (false, _) => author.create(&name, version + 1),
            });
            let change = &changes[n];
            newest.insert(name, (change.version, change.operation != Operation::Delete));
        }
        let session = &mut sessions[group % 2];
        session.begin().unwrap();
        changes.chunks(7).for_each(|some| session.append(some).unwrap());
        session.commit().unwrap();
        all.append(&mut changes);

        let mut contents = fixture.open().load().unwrap();
        let stored = contents.registries.remove(&registry("default")).unwrap();
        let profiles = stored.profiles.iter().map(|it| (&it.slug, (it.metadata.version, true)));
        let deleted = stored.deleted.iter().map(|(slug, version)| (slug, (*version, false)));
        let loaded = profiles.chain(deleted).map(|(slug, state)| (slug.to_string(), state));
        assert_eq!(loaded.collect::<BTreeMap<_, _>>(), newest);
    }
    assert_eq!(stores[0].audit(0, usize::MAX).unwrap(), all);
    for name in newest.keys() {
        let of = (registry("default"), slug(name));
        let mut wanted: Vec<_> = all.iter().filter(|c| c.slug.as_ref() == Some(&of.1)).collect();
        for change in wanted.iter().filter(|change| change.profile.is_some()) {
            let found = stores[1].version(&of.0, &of.1, change.version).unwrap();
            assert_eq!(found.as_ref(), Some(*change));
        }
        wanted.reverse();
        let history = stores[1].history(&of.0, &of.1, 0, usize::MAX).unwrap();
        assert_eq!(history.iter().collect::<Vec<_>>(), wanted);
    }
}

pub(crate) fn audit_is_oldest_first_over_all_registries(fixture: &Fixture) {
    let changes = filled(fixture);
    assert_eq!(fixture.open().audit(0, 100).unwrap(), changes);
}

pub(crate) fn audit_is_paged_by_id(fixture: &Fixture) {
    filled(fixture);
    let store = fixture.open();
    assert_eq!(ids(&store.audit(0, 5).unwrap()), [1, 2, 3, 4, 5]);
    assert_eq!(ids(&store.audit(5, 5).unwrap()), [6, 7, 8, 9, 10]);
    assert_eq!(ids(&store.audit(10, 5).unwrap()), [11, 12]);
    assert!(store.audit(12, 5).unwrap().is_empty());
    assert!(store.audit(u64::MAX, 5).unwrap().is_empty());
}

pub(crate) fn a_change_comes_back_as_it_was_written(fixture: &Fixture) {
    let store = fixture.open();
    let mut session = store.writer().unwrap();
    let mut author = Author::new();
    let changes = [
        author.change(Operation::CreateRegistry, "", 0, None),
        author.create("a", 1),
        author.create("b", 7),
        author.make_default("b", 7),
        author.update("b", 8),
        author.delete("b", 9, Some("a")),
        author.change(Operation::Adopt, "c", 3, Some(crate::fixture::profile("c", 3))),
    ];
    for change in &changes {
        write(&mut session, std::slice::from_ref(change)).unwrap();
    }
    assert_eq!(store.audit(0, 100).unwrap(), changes);
    assert_eq!(session.changes_after(0).unwrap(), changes);
}
