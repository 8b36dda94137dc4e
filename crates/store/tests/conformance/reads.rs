//! What `load` and `ping` say.

use std::sync::Arc;

use collodi_profiles::Profile;
use collodi_profiles::profile::history::Operation;
use serde_json::json;

use crate::fixture::{Author, Fixture, profile, registry, slug, write};

pub(crate) fn an_empty_store_holds_nothing(fixture: &Fixture) {
    let store = fixture.open();
    let contents = store.load().unwrap();
    assert_eq!((contents.revision, contents.registries.len()), (0, 0));
    assert!(store.audit(0, 9).unwrap().is_empty());
    assert!(store.history(&registry("default"), &slug("a"), 0, 9).unwrap().is_empty());
}

pub(crate) fn a_registry_without_profiles_is_loaded(fixture: &Fixture) {
    let store = fixture.open();
    let mut author = Author::new();
    let created = author.change(Operation::CreateRegistry, "", 0, None);
    write(&mut store.writer().unwrap(), &[created]).unwrap();
    let contents = fixture.open().load().unwrap();
    let stored = &contents.registries[&registry("default")];
    assert!(stored.profiles.is_empty() && stored.deleted.is_empty());
    assert_eq!(stored.head, author.head);
    assert_eq!(stored.head.default_profile, None);
}

/// Numbers to their limits, empty containers, `[]` against absent tools, and text of every kind (D12, decision 45).
pub(crate) fn documents_come_back_as_they_were(fixture: &Fixture) {
    let text = "line\nquote \" back \\ tab \t nul \u{0} 漢字 🎭 <b>&amp;</b> \u{7f}\u{2028}";
    let document: Profile = serde_json::from_value(json!({
        "slug": "odd",
        "display_name": text,
        "description": text,
        "runtime": {
            "system_prompt": text,
            "tools": [],
            "middlewares": [{"name": "m", "id": "x", "enabled": false}],
            "step_settings_patch": {"ai-chat": {"ai-temperature": 0.1}},
        },
        "policy": {"allow_overrides": true, "allowed_override_keys": ["k"], "read_only": true},
        "metadata": {"version": 1, "tags": ["b", "a"], "created_at_ms": -5, "source": "s"},
        "extensions": {"vendor.x@v1": {
            "numbers": [u64::MAX, i64::MIN, 9_007_199_254_740_993_u64, 1e-300, 0.1, 1.0, -0.0, 1e300],
            "empty": {}, "none": null, "list": [[], {}], "": "empty key", "z": 1, "a": 2,
        }},
    }))
    .unwrap();
    let mut author = Author::new();
    author.head.default_profile = Some(slug("odd"));
    let change = author.change(Operation::Create, "odd", 1, Some(document.clone()));
    let store = fixture.open();
    write(&mut store.writer().unwrap(), std::slice::from_ref(&change)).unwrap();
    let stored = fixture.open().load().unwrap().registries.remove(&registry("default")).unwrap();
    assert_eq!(stored.profiles, std::slice::from_ref(&document));
    let (before, after) =
        (serde_json::to_string(&document).unwrap(), serde_json::to_string(&stored.profiles[0]));
    assert_eq!(after.unwrap(), before, "also in the kinds of its numbers");
    assert_eq!(store.audit(0, 1).unwrap()[0].profile, change.profile);
    let history = store.history(&registry("default"), &slug("odd"), 0, 1).unwrap();
    assert_eq!(history[0].profile, Some(Arc::new(document)));
}

pub(crate) fn names_of_a_registry_come_back_as_they_were(fixture: &Fixture) {
    let store = fixture.open();
    let mut author = Author::new();
    author.head.display_name = "Ünïcode \"team\"".into();
    author.head.description = "two\nlines".into();
    author.head.metadata.tags = vec!["t".into()];
    let change = author.create("a", 1);
    write(&mut store.writer().unwrap(), &[change]).unwrap();
    let contents = fixture.open().load().unwrap();
    assert_eq!(contents.registries[&registry("default")].head, author.head);
}

pub(crate) fn deleted_profiles_keep_their_last_version(fixture: &Fixture) {
    let store = fixture.open();
    let mut session = store.writer().unwrap();
    let mut author = Author::new();
    let changes = [author.create("a", 1), author.update("a", 2), author.create("b", 1)];
    write(&mut session, &changes).unwrap();
    write(&mut session, &[author.delete("a", 3, Some("b"))]).unwrap();
    let contents = fixture.open().load().unwrap();
    let stored = &contents.registries[&registry("default")];
    assert_eq!(stored.profiles, [profile("b", 1)]);
    assert_eq!(stored.deleted.iter().collect::<Vec<_>>(), [(&slug("a"), &3)]);
    assert_eq!(stored.head.default_profile, Some(slug("b")));

    write(&mut session, &[author.create("a", 4)]).unwrap();
    let contents = fixture.open().load().unwrap();
    let stored = &contents.registries[&registry("default")];
    assert_eq!(stored.profiles, [profile("a", 4), profile("b", 1)]);
    assert!(stored.deleted.is_empty());
}

pub(crate) fn a_new_default_changes_the_registry_and_not_the_profile(fixture: &Fixture) {
    let store = fixture.open();
    let mut session = store.writer().unwrap();
    let mut author = Author::new();
    write(&mut session, &[author.create("a", 1), author.create("b", 1)]).unwrap();
    let change = author.make_default("b", 1);
    write(&mut session, std::slice::from_ref(&change)).unwrap();
    let contents = fixture.open().load().unwrap();
    let stored = &contents.registries[&registry("default")];
    assert_eq!(stored.head, author.head);
    assert_eq!(stored.head.default_profile, Some(slug("b")));
    assert_eq!(stored.profiles, [profile("a", 1), profile("b", 1)]);
    let history = store.history(&registry("default"), &slug("b"), 0, 9).unwrap();
    assert_eq!(history[0], change);
    assert_eq!(history[0].profile, None, "the document is stored once");
}

pub(crate) fn a_store_reads_what_another_one_committed(fixture: &Fixture) {
    let (one, two) = (fixture.open(), fixture.open());
    assert_eq!(two.load().unwrap().revision, 0);
    let mut author = Author::new();
    let mut session = one.writer().unwrap();
    for n in 1..=3 {
        write(&mut session, &[author.create(&format!("p{n}"), 1)]).unwrap();
        assert_eq!(two.load().unwrap().revision, n);
        assert_eq!(two.audit(n - 1, 9).unwrap().len(), 1);
    }
}

pub(crate) fn a_store_that_works_answers_a_ping(fixture: &Fixture) {
    let mut session = fixture.open().writer().unwrap();
    session.ping().unwrap();
    session.begin().unwrap();
    session.ping().unwrap();
}
