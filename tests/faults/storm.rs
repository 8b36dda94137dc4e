//! F13: many clients on few profiles. Each profile's history is linearizable, and one write wins each version.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Instant;

use serde_json::json;

use crate::http::{Answer, Client};
use crate::linear::{Answered, Asked, Operation, check};
use crate::log::{Acknowledged, Database, PROFILES, check_acknowledged, check_served};
use crate::seed::{Rng, Seed, size};
use crate::server::Launch;

const CLIENTS: usize = 32;
const SLUGS: u64 = 4;

/// What all clients together saw.
#[derive(Default)]
struct History {
    by_slug: BTreeMap<String, Vec<Operation>>,
    acknowledged: Vec<Acknowledged>,
}

/// A client that remembers which version of each profile it saw last.
struct Caller {
    client: Client,
    rng: Rng,
    seen: BTreeMap<String, u64>,
}

impl Caller {
    /// A version to expect: none, the one seen last, or one beside it.
    fn expected(&mut self, slug: &str) -> u64 {
        let seen = self.seen.get(slug).copied().unwrap_or(0);
        match self.rng.below(6) {
            0 => 0,
            1 => seen + 1,
            2 => seen.saturating_sub(1),
            _ => seen,
        }
    }

    fn act(&mut self) -> (&'static str, String, Asked, Answer) {
        let slug = format!("s{}", self.rng.below(SLUGS));
        let path = format!("{PROFILES}/{slug}");
        let text = format!("{}", self.rng.next());
        let (word, asked, method, path, body) = match self.rng.below(20) {
            0..=3 => {
                let body = json!({"slug": slug, "display_name": text});
                ("create", Asked::Create, "POST", PROFILES.to_owned(), Some(body))
            }
            4..=11 => {
                let expected = self.expected(&slug);
                let body = json!({"display_name": text, "expected_version": expected});
                ("update", Asked::Patch(expected), "PATCH", path, Some(body))
            }
            12 => {
                let expected = self.expected(&slug);
                let path = format!("{path}?expected_version={expected}");
                ("delete", Asked::Delete(expected), "DELETE", path, None)
            }
            13 => ("set_default", Asked::Get, "POST", format!("{path}/default"), None),
            _ => ("get", Asked::Get, "GET", path, None),
        };
        let answer = self.client.send(method, &path, body.as_ref()).unwrap();
        if let Some(version) = answer.etag_version() {
            self.seen.insert(slug.clone(), version);
        }
        (word, slug, asked, answer)
    }

    /// One request, as it goes into the history.
    fn record(&mut self, epoch: Instant, history: &Mutex<History>) {
        let now = || u64::try_from(epoch.elapsed().as_nanos()).unwrap();
        let invoked = now();
        let (word, slug, asked, answer) = self.act();
        let returned = now();
        let answered = match answer.status {
            200 | 201 => Answered::Done(answer.etag_version().unwrap()),
            204 => Answered::Done(0),
            404 => Answered::Missing,
            409 => Answered::Conflict(conflict_version(&answer)),
            other => panic!("{other}: {}", answer.text()),
        };
        if [200, 201].contains(&answer.status) {
            let version = &answer.json()["metadata"]["version"];
            assert_eq!(version.as_u64(), answer.etag_version(), "tag and document agree");
        }
        let mut history = history.lock().unwrap();
        if answer.is_success() && word != "get" {
            history.acknowledged.push(Acknowledged::new(word, &slug, &answer));
        }
        let operation = Operation { asked, answered, invoked, returned };
        history.by_slug.entry(slug).or_default().push(operation);
    }
}

/// The version that a 409 names: in its text and in its entity tag, and they agree.
fn conflict_version(answer: &Answer) -> u64 {
    let text = answer.text();
    let actual = text.trim().rsplit_once("actual=").and_then(|(_, n)| n.parse().ok());
    assert_eq!(answer.etag_version(), actual, "{text}");
    actual.unwrap()
}

#[test]
fn f13_a_storm_of_writes_is_linearizable_per_profile() {
    let mut seed = Seed::of("f13_a_storm");
    let started = Instant::now();
    let data = tempfile::tempdir().unwrap();
    let server = Launch::on(data.path()).start().unwrap();
    let history = Mutex::new(History::default());
    let barrier = Barrier::new(CLIENTS);
    let turns = size(40, 500);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let mut caller =
                Caller { client: server.client(), rng: seed.fork(), seen: BTreeMap::new() };
            let (history, barrier) = (&history, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for _ in 0..turns {
                    caller.record(started, history);
                }
            });
        }
    });
    let took = started.elapsed();
    let History { by_slug, acknowledged } = history.into_inner().unwrap();
    assert_eq!(by_slug.values().map(Vec::len).sum::<usize>(), CLIENTS * turns);
    for (slug, operations) in by_slug {
        one_success_for_each_version(&slug, &operations);
        check(operations).unwrap_or_else(|reason| panic!("{slug} is not linearizable: {reason}"));
    }
    let rows = Database::beside(&data.path().join("profiles.db")).checked_log();
    check_acknowledged(&rows, &acknowledged);
    let bootstrap = rows.iter().filter(|row| row.registry_version == 1).count();
    assert_eq!(rows.len() - bootstrap, acknowledged.len(), "nothing was written that was not said");
    check_served(&mut server.client(), &rows);
    eprintln!("f13: {} writes of {} requests in {took:?}", acknowledged.len(), CLIENTS * turns);
}

fn one_success_for_each_version(slug: &str, operations: &[Operation]) {
    let mut made = BTreeSet::new();
    for operation in operations {
        if let (Asked::Create | Asked::Patch(_), Answered::Done(version)) =
            (operation.asked, operation.answered)
        {
            assert!(made.insert(version), "two writes made version {version} of {slug}");
        }
    }
}

#[test]
fn f13_of_many_creates_one_wins_and_the_others_are_told_by_whom() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::on(data.path()).start().unwrap();
    for number in 0..size(5, 40) {
        let slug = format!("race-{number}");
        let barrier = Barrier::new(CLIENTS);
        let answers: Vec<Answer> = thread::scope(|scope| {
            let callers: Vec<_> = (0..CLIENTS)
                .map(|caller| {
                    let (barrier, slug, mut client) = (&barrier, &slug, server.client());
                    scope.spawn(move || {
                        let body = json!({"slug": slug, "display_name": format!("by {caller}")});
                        client.get("/healthz").unwrap();
                        barrier.wait();
                        client.send("POST", PROFILES, Some(&body)).unwrap()
                    })
                })
                .collect();
            callers.into_iter().map(|caller| caller.join().unwrap()).collect()
        });
        let (won, lost): (Vec<_>, Vec<_>) = answers.iter().partition(|a| a.status == 201);
        assert_eq!((won.len(), lost.len()), (1, CLIENTS - 1));
        let stored = server.client().get(&format!("{PROFILES}/{slug}")).unwrap();
        assert_eq!(stored.json(), won[0].json());
        for answer in lost {
            assert_eq!(answer.status, 409);
            assert_eq!(
                answer.text(),
                format!("profile \"{slug}\" version conflict: expected=0 actual=1\n")
            );
            assert_eq!(answer.header("etag"), stored.header("etag"));
        }
    }
}
