//! Profiles as code: what a file makes of the registries that it names, as one command (docs/decisions/0021). The same
//! decision tells what would change and changes it.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::decide::{self, Decision};
use super::snapshot::{RegistryState, Snapshot};
use crate::catalog::Catalog;
use crate::diff::{Difference, diff};
use crate::error::{Error, Problem};
use crate::ids::{ProfileSlug, RegistrySlug};
use crate::profile::draft::{self, Checked};
use crate::profile::history::{Change, Operation, RegistryHead, Stamp};
use crate::profile::middlewares::Writer;
use crate::profile::validate::{MAX_PROFILES, too_much};
use crate::profile::yaml::{self, RegistryDraft};
use crate::profile::{Metadata, Profile, authored};

/// Where profiles come from that a file made; only these are pruned.
pub const SOURCE: &str = "file";

/// A file to be made true.
#[derive(Debug, Clone)]
pub struct ApplyBundle {
    /// What it says, in one of the three formats of chapter 10 §9.
    pub text: String,
    /// The registry of a legacy map.
    pub registry: RegistrySlug,
    /// Leaves profiles, names and defaults that are there as they are: the file only adds.
    pub only_add: bool,
    /// Deletes the profiles of these registries that a file made and this file does not have.
    pub prune: bool,
    /// The revision of the database that the author looked at; absent is no check.
    pub expected_revision: Option<u64>,
    /// Whether locked profiles may be changed.
    pub may_unlock: bool,
    /// On whose behalf: clients may not write what only operators may.
    pub writer: Writer,
}

/// What a file came to, or would.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The revision that it was compared with.
    pub from: u64,
    /// The revision since.
    pub to: u64,
    /// What changed; nothing if the file was true already.
    pub steps: Vec<Step>,
}

/// One change by a file.
#[derive(Debug, Clone)]
pub struct Step {
    /// The registry.
    pub registry: RegistrySlug,
    /// The profile; absent for what is of the registry itself.
    pub slug: Option<ProfileSlug>,
    /// What is done.
    pub operation: Operation,
    /// The version that the profile has since.
    pub version: u64,
    before: Content,
    after: Content,
}

/// What a step is about, before and after.
#[derive(Debug, Clone)]
enum Content {
    Nothing,
    Profile(Arc<Profile>),
    /// Names, or the default.
    Registry(Value),
}

impl Step {
    /// What of it changes, by field.
    #[must_use]
    pub fn differences(&self) -> Vec<Difference> {
        diff(&self.before.document(), &self.after.document())
    }
}

impl Content {
    fn of(profile: &Profile) -> Self {
        Self::Profile(Arc::new(profile.clone()))
    }

    fn document(&self) -> Value {
        match self {
            Self::Nothing => json!({}),
            Self::Profile(profile) => authored(json!(profile)),
            Self::Registry(text) => text.clone(),
        }
    }
}

/// How a step is told.
#[derive(Serialize)]
struct Told<'a> {
    registry: &'a RegistrySlug,
    slug: Option<&'a ProfileSlug>,
    operation: Operation,
    version: u64,
    changes: Vec<Difference>,
}

impl Serialize for Step {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let told = Told {
            registry: &self.registry,
            slug: self.slug.as_ref(),
            operation: self.operation,
            version: self.version,
            changes: self.differences(),
        };
        told.serialize(serializer)
    }
}

/// A registry of the file after its rules have run; what they found counts only for what would be written.
struct Wanted {
    draft: RegistryDraft,
    profiles: Vec<Checked>,
}

/// Reads and checks the file off the writer thread, and decides there. `tell` hears what it comes to.
pub(super) fn apply(
    request: &ApplyBundle,
    catalog: &Catalog,
    tell: impl FnOnce(Applied) + Send + 'static,
) -> Result<Decision, Error> {
    let &ApplyBundle { only_add, prune, expected_revision, may_unlock, writer, .. } = request;
    let registries = yaml::decode(&request.text, &request.registry)?;
    let first = registries.first().map(|registry| registry.slug.clone());
    let first = first.ok_or_else(|| Error::invalid("registries", "the file names no registry"))?;
    let wanted: Vec<Wanted> = registries
        .into_iter()
        .map(|mut draft| {
            let drafts = std::mem::take(&mut draft.profiles).into_iter();
            let check = |(slug, draft)| draft::check(slug, draft, catalog, writer);
            Wanted { profiles: drafts.map(check).collect(), draft }
        })
        .collect();
    let decide = move |snapshot: &Snapshot, stamp: Stamp| {
        let actual = snapshot.revision();
        if let Some(expected) = expected_revision.filter(|expected| *expected != actual) {
            return Err(Error::RevisionConflict { expected, actual, since: Vec::new() });
        }
        let (mut changes, mut steps, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        for Wanted { draft, profiles } in wanted {
            let named = profiles.iter().map(|checked| checked.profile.slug.clone()).collect();
            let mut work = Work::new(snapshot, &draft, &stamp, only_add);
            work.name();
            work.write(profiles, may_unlock, &mut problems)?;
            if prune {
                work.prune(&named, may_unlock)?;
            }
            work.choose_default();
            work.check_size(&mut problems);
            changes.append(&mut work.changes);
            steps.append(&mut work.steps);
        }
        if !problems.is_empty() {
            return Err(Error::Validation(problems));
        }
        let written = u64::try_from(changes.len()).unwrap_or(u64::MAX);
        tell(Applied { from: actual, to: actual.saturating_add(written), steps });
        Ok(changes)
    };
    Ok(Decision { registry: first, slug: None, decide: Box::new(decide) })
}

/// One registry on its way from what it is to what the file says.
struct Work<'a> {
    draft: &'a RegistryDraft,
    stamp: &'a Stamp,
    state: Option<&'a RegistryState>,
    only_add: bool,
    before: RegistryHead,
    /// As it will be; every change of this registry carries it.
    head: Arc<RegistryHead>,
    changes: Vec<Change>,
    steps: Vec<Step>,
}

impl<'a> Work<'a> {
    fn new(
        snapshot: &'a Snapshot,
        draft: &'a RegistryDraft,
        stamp: &'a Stamp,
        only_add: bool,
    ) -> Self {
        let state = snapshot.registry(&draft.slug).map(Arc::as_ref);
        let before = state.map(|state| state.head().clone()).unwrap_or_default();
        let mut head = decide::touch_head(&before, stamp);
        let is_kept = only_add && state.is_some_and(|state| !state.is_empty());
        if !is_kept {
            // What a file does not say, it leaves.
            let said = |new: &str, old: &mut String| {
                if !new.trim().is_empty() {
                    new.trim().clone_into(old);
                }
            };
            head.default_profile = draft.default_profile.clone().or(head.default_profile);
            said(&draft.display_name, &mut head.display_name);
            said(&draft.description, &mut head.description);
        }
        let (head, changes, steps) = (Arc::new(head), Vec::new(), Vec::new());
        Self { draft, stamp, state, only_add, before, head, changes, steps }
    }

    /// Creates the registry, or changes its names.
    fn name(&mut self) {
        let named = |head: &RegistryHead| (head.display_name.clone(), head.description.clone());
        let operation = match self.state {
            None => Operation::CreateRegistry,
            Some(_) if named(&self.before) != named(&self.head) => Operation::UpdateRegistry,
            Some(_) => return,
        };
        let text = |head: &RegistryHead| {
            let mut text = json!({});
            for (key, value) in
                [("display_name", &head.display_name), ("description", &head.description)]
            {
                if !value.is_empty() {
                    text[key] = value.as_str().into();
                }
            }
            text
        };
        let (before, after) = (text(&self.before), text(&self.head));
        let change = self.of_registry(operation, None, 0);
        self.add(change, Content::Registry(before), Content::Registry(after));
    }

    /// Makes another profile the default, once it is there.
    fn choose_default(&mut self) {
        let (before, now) = (&self.before.default_profile, &self.head.default_profile);
        if before == now || before.is_none() {
            return; // the first default comes with the profile
        }
        let Some(slug) = now.clone() else { return };
        let written = self.changes.iter().find(|change| change.slug.as_ref() == Some(&slug));
        let stored = || self.state.and_then(|state| state.get(&slug));
        let version = written.map_or_else(
            || stored().map_or(0, |stored| stored.profile().metadata.version),
            |change| change.version,
        );
        let (from, to) = (json!({"default_profile": before}), json!({"default_profile": now}));
        let change = self.of_registry(Operation::SetDefault, Some(slug), version);
        self.add(change, Content::Registry(from), Content::Registry(to));
    }

    /// Creates what is missing and changes what differs.
    fn write(
        &mut self,
        profiles: Vec<Checked>,
        may_unlock: bool,
        problems: &mut Vec<Problem>,
    ) -> Result<(), Error> {
        for checked in profiles {
            let slug = checked.profile.slug.clone();
            let stored = self.state.and_then(|state| state.get(&slug));
            let before = stored.map(|stored| stored.profile());
            // What is as it should be is not judged: an adopted profile may break rules that are newer than it.
            if before.is_some_and(|before| self.only_add || same_content(before, &checked.profile))
            {
                continue;
            }
            if before.is_some_and(|before| before.policy.read_only) && !may_unlock {
                return Err(decide::read_only(&slug));
            }
            let found = checked.problems().unwrap_or_default();
            problems.extend(found.into_iter().map(|problem| self.placed(&slug, problem)));
            let operation = if before.is_some() { Operation::Update } else { Operation::Create };
            let last = || self.state.map_or(0, |state| state.last_version(&slug));
            let metadata = before.map_or_else(
                || Metadata { version: last(), ..Metadata::default() },
                |before| before.metadata.clone(),
            );
            let metadata = Metadata { tags: checked.profile.metadata.tags.clone(), ..metadata };
            let before = before.map_or(Content::Nothing, Content::of);
            let (profile, content) = (checked.profile, checked.content);
            let (registry, head) = (self.draft.slug.clone(), self.head.clone());
            let stamp = self.stamp.clone();
            let change =
                decide::change(registry, operation, profile, content, &metadata, head, stamp);
            let after = change.profile.clone().map_or(Content::Nothing, Content::Profile);
            self.add(change, before, after);
        }
        Ok(())
    }

    /// A problem with its place in the file.
    fn placed(&self, slug: &ProfileSlug, problem: Problem) -> Problem {
        let registry = &self.draft.slug;
        let field = problem.field.strip_prefix("profile.").unwrap_or(&problem.field);
        let dot = if field.is_empty() { "" } else { "." };
        Problem {
            field: format!("registries[{registry}].profiles[{slug}]{dot}{field}"),
            pointer: format!("/registries/{registry}/profiles/{slug}{}", problem.pointer),
            ..problem
        }
    }

    /// Deletes what a file made and this one does not have.
    fn prune(&mut self, named: &BTreeSet<ProfileSlug>, may_unlock: bool) -> Result<(), Error> {
        let Some(state) = self.state else { return Ok(()) };
        for profile in state.profiles().map(|stored| stored.profile()) {
            if named.contains(&profile.slug) || profile.metadata.source != SOURCE {
                continue;
            }
            if profile.policy.read_only && !may_unlock {
                return Err(decide::read_only(&profile.slug));
            }
            let version = profile.metadata.version.saturating_add(1);
            let change = self.of_registry(Operation::Delete, Some(profile.slug.clone()), version);
            self.add(change, Content::of(profile), Content::Nothing);
        }
        Ok(())
    }

    fn check_size(&self, problems: &mut Vec<Problem>) {
        let count = |operation| self.changes.iter().filter(|c| c.operation == operation).count();
        let now = self.state.map_or(0, RegistryState::len) + count(Operation::Create);
        if now - count(Operation::Delete) > MAX_PROFILES {
            let field = format!("registries[{}].profiles", self.draft.slug);
            problems.push(too_much(&field, MAX_PROFILES, "items"));
        }
    }

    /// A change that leaves no new document.
    fn of_registry(&self, operation: Operation, slug: Option<ProfileSlug>, version: u64) -> Change {
        let (registry, head) = (self.draft.slug.clone(), self.head.clone());
        decide::without_document(registry, operation, slug, version, head, self.stamp.clone())
    }

    fn add(&mut self, change: Change, before: Content, after: Content) {
        self.steps.push(Step {
            registry: change.registry.clone(),
            slug: change.slug.clone(),
            operation: change.operation,
            version: change.version,
            before,
            after,
        });
        self.changes.push(change);
    }
}

/// Whether two profiles say the same, whoever wrote them when.
fn same_content(one: &Profile, other: &Profile) -> bool {
    one.display_name == other.display_name
        && one.description == other.description
        && one.runtime == other.runtime
        && one.policy == other.policy
        && one.metadata.tags == other.metadata.tags
        && one.extensions == other.extensions
}
