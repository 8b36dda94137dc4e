//! Profiles as code: what a file makes of the registries that it names, as one command (docs/decisions/0021). The same
//! decision tells what would change and changes it.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::decide::{self, Decision};
use super::snapshot::{RegistryState, Snapshot};
use super::writer::Command;
use super::{Author, Registry, aside};
use crate::catalog::Catalog;
use crate::diff::{Difference, diff};
use crate::error::{Error, Problem};
use crate::ids::{ProfileSlug, RegistrySlug};
use crate::profile::draft::{self, Checked};
use crate::profile::history::{Change, Operation, RegistryHead, Stamp, heir};
use crate::profile::middlewares::Writer;
use crate::profile::validate::{MAX_PROFILES, too_much};
use crate::profile::yaml::{self, RegistryDraft};
use crate::profile::{Metadata, Profile, authored};

/// Changes of others that a conflict names.
const TOLD_CHANGES: usize = 20;

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
    /// On whose behalf: clients may change no locked profile, and write nothing that only operators may.
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
    before: Side,
    after: Side,
}

/// What a step is about, before or after it.
#[derive(Debug, Clone)]
enum Side {
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

impl Side {
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

impl Registry {
    /// Makes registries what a file says, in one transaction; with `dry_run` says what that would change.
    ///
    /// # Errors
    /// Another revision than the expected one; read-only profiles; broken rules of what would be written, all of them;
    /// the store's failures.
    pub async fn apply_bundle(
        &self,
        request: ApplyBundle,
        author: Author,
        dry_run: bool,
    ) -> Result<Applied, Error> {
        let (tell, told) = oneshot::channel();
        let tell = move |applied| {
            let _ = tell.send(applied); // whoever asked may be gone
        };
        // Thousands of profiles take a while to check and to compare.
        let catalog = self.catalog.clone();
        let rehearsal = dry_run.then(|| (self.snapshot(), author.clone().stamp((self.clock)())));
        let decided = aside(move || {
            let decision = decision(&request, &catalog, tell)?;
            match rehearsal {
                None => Ok(Some(decision)),
                Some((snapshot, stamp)) => {
                    Command::new(decision, stamp).rehearse(&snapshot).map(|_| None)
                }
            }
        });
        let outcome = match decided.await {
            Ok(Some(decision)) => self.execute(decision, author, false).await.map(drop),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => told.await.map_err(|e| Error::Internal(e.to_string())),
            Err(Error::RevisionConflict { expected, actual, .. }) => {
                let since = self.done_since(expected).await?;
                Err(Error::RevisionConflict { expected, actual, since })
            }
            Err(error) => Err(error),
        }
    }

    /// Runs every rule over a file that stands for itself; says how many profiles it has.
    ///
    /// # Errors
    /// What cannot be read, and every broken rule.
    pub fn check_bundle(
        text: String,
        registry: RegistrySlug,
        catalog: &Catalog,
    ) -> Result<usize, Error> {
        let (tell, mut told) = oneshot::channel();
        let tell = move |applied: Applied| {
            let _ = tell.send(applied);
        };
        let (writer, only_add, prune) = (Writer::Operator, false, false);
        let request =
            ApplyBundle { text, registry, only_add, prune, expected_revision: None, writer };
        let decision = decision(&request, catalog, tell)?;
        Command::new(decision, Stamp::default()).rehearse(&Snapshot::default())?;
        let applied = told.try_recv().map_err(|e| Error::Internal(e.to_string()))?;
        Ok(applied.steps.iter().filter(|step| step.operation == Operation::Create).count())
    }

    /// The first changes after a revision, in words.
    async fn done_since(&self, revision: u64) -> Result<Vec<String>, Error> {
        let changes = self.read(move |store| store.audit(revision, TOLD_CHANGES)).await?;
        Ok(changes.iter().map(ToString::to_string).collect())
    }
}

/// Reads and checks the file off the writer thread, and decides there. `tell` hears what it comes to.
fn decision(
    request: &ApplyBundle,
    catalog: &Catalog,
    tell: impl FnOnce(Applied) + Send + 'static,
) -> Result<Decision, Error> {
    let &ApplyBundle { only_add, prune, expected_revision, writer, .. } = request;
    if only_add && prune {
        return Err(Error::invalid("prune", "a file that only adds prunes nothing"));
    }
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
            let slugs = profiles.iter().map(|checked| checked.profile.slug.clone()).collect();
            let mut work = Work::new(snapshot, &draft, &stamp, writer);
            let leaving = if prune { work.made_by_files(&slugs) } else { BTreeSet::new() };
            work.settle_head(only_add, &slugs, &leaving)?;
            work.name();
            work.write(profiles, only_add, &mut problems)?;
            work.delete(&leaving)?;
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
    writer: Writer,
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
        writer: Writer,
    ) -> Self {
        let state = snapshot.registry(&draft.slug).map(Arc::as_ref);
        let before = state.map(|state| state.head().clone()).unwrap_or_default();
        let head = Arc::new(decide::touch_head(&before, stamp));
        Self { draft, stamp, state, writer, before, head, changes: Vec::new(), steps: Vec::new() }
    }

    /// The stored profiles that a file made and that are none of `slugs`.
    fn made_by_files(&self, slugs: &BTreeSet<ProfileSlug>) -> BTreeSet<ProfileSlug> {
        let stored = self.state.into_iter().flat_map(RegistryState::profiles);
        let profiles = stored.map(|stored| stored.profile());
        profiles
            .filter(|profile| profile.metadata.source == SOURCE && !slugs.contains(&profile.slug))
            .map(|profile| profile.slug.clone())
            .collect()
    }

    /// Names and default as they will be, so that a registry with profiles has a default among them (D1).
    fn settle_head(
        &mut self,
        only_add: bool,
        slugs: &BTreeSet<ProfileSlug>,
        leaving: &BTreeSet<ProfileSlug>,
    ) -> Result<(), Error> {
        if only_add && self.state.is_some_and(|state| !state.is_empty()) {
            return Ok(());
        }
        let stored = self.state.into_iter().flat_map(RegistryState::profiles);
        let staying = stored.map(|stored| stored.slug());
        let staying = staying.filter(|slug| !leaving.contains(*slug)).chain(slugs);
        let staying: BTreeSet<&ProfileSlug> = staying.collect();
        let wanted = self.draft.default_profile.as_ref();
        if !staying.is_empty() && wanted.is_some_and(|slug| !staying.contains(slug)) {
            let field = format!("registries[{}].default_profile_slug", self.draft.slug);
            return Err(Error::invalid(field, "default profile does not exist in registry"));
        }
        let default = wanted.or(self.before.default_profile.as_ref());
        let default = default.filter(|slug| staying.contains(slug)).cloned();
        let heir = || heir(staying.iter().copied());
        // What a file does not say, it leaves.
        let said = |new: &str, old: &str| {
            let said = if new.trim().is_empty() { old } else { new.trim() };
            said.to_owned()
        };
        self.head = Arc::new(RegistryHead {
            default_profile: default.or_else(heir),
            display_name: said(&self.draft.display_name, &self.head.display_name),
            description: said(&self.draft.description, &self.head.description),
            metadata: self.head.metadata.clone(),
        });
        Ok(())
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
        self.add(change, Side::Registry(before), Side::Registry(after));
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
        let version = written
            .map_or_else(|| stored().map_or(0, |stored| stored.version()), |change| change.version);
        let (from, to) = (json!({"default_profile": before}), json!({"default_profile": now}));
        let change = self.of_registry(Operation::SetDefault, Some(slug), version);
        self.add(change, Side::Registry(from), Side::Registry(to));
    }

    /// Creates what is missing and changes what differs.
    fn write(
        &mut self,
        profiles: Vec<Checked>,
        only_add: bool,
        problems: &mut Vec<Problem>,
    ) -> Result<(), Error> {
        for checked in profiles {
            let slug = checked.profile.slug.clone();
            let stored = self.state.and_then(|state| state.get(&slug));
            let before = stored.map(|stored| stored.profile());
            let before = before.as_ref();
            // What is as it should be is not judged: an adopted profile may break rules that are newer than it.
            if before.is_some_and(|before| only_add || same_content(before, &checked.profile)) {
                continue;
            }
            before.map_or(Ok(()), |before| self.may_change(before))?;
            let found = checked.problems().unwrap_or_default();
            problems.extend(found.into_iter().map(|problem| self.placed(&slug, problem)));
            let operation = if before.is_some() { Operation::Update } else { Operation::Create };
            let last = || self.state.map_or(0, |state| state.last_version(&slug));
            let metadata = before.map_or_else(
                || Metadata { version: last(), ..Metadata::default() },
                |before| before.metadata.clone(),
            );
            let before = before.map_or(Side::Nothing, Side::of);
            let (mut profile, content) = (checked.profile, checked.content);
            profile.metadata = Metadata { tags: profile.metadata.tags, ..metadata };
            let (registry, head) = (self.draft.slug.clone(), self.head.clone());
            let stamp = self.stamp.clone();
            let change = decide::change(registry, operation, profile, &content, head, stamp);
            let after = change.profile.clone().map_or(Side::Nothing, Side::Profile);
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

    fn delete(&mut self, leaving: &BTreeSet<ProfileSlug>) -> Result<(), Error> {
        let state = self.state;
        for stored in leaving.iter().filter_map(|slug| state?.get(slug)) {
            let profile = stored.profile();
            self.may_change(&profile)?;
            let version = profile.metadata.version.saturating_add(1);
            let change = self.of_registry(Operation::Delete, Some(profile.slug.clone()), version);
            self.add(change, Side::of(&profile), Side::Nothing);
        }
        Ok(())
    }

    fn may_change(&self, profile: &Profile) -> Result<(), Error> {
        if profile.policy.read_only && self.writer != Writer::Operator {
            return Err(decide::read_only(&profile.slug));
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

    fn add(&mut self, change: Change, before: Side, after: Side) {
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
