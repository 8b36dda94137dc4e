//! What each command makes of the committed state: pure functions that the writer runs inside its transaction, so that
//! reading, checking and writing are one step (D4, H1).

use std::sync::Arc;

use super::snapshot::{RegistryState, Snapshot, Stored};
use crate::catalog::Catalog;
use crate::error::{Error, Resource};
use crate::ids::{ProfileSlug, RegistrySlug};
use crate::profile::history::{Change, Operation, RegistryHead, Stamp};
use crate::profile::middlewares::Writer;
use crate::profile::validate::{MAX_PROFILES, too_much};
use crate::profile::{Content, Draft, Metadata, Profile, ProfilePatch, draft, patch};

/// `If-Match`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMatch {
    /// `*`: any stored version.
    Any,
    /// One of these versions.
    Versions(Vec<u64>),
}

/// What the caller believes the stored version to be.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// 0 is no check (contract).
    pub expected_version: u64,
    /// Absent is no check.
    pub if_match: Option<IfMatch>,
}

/// A profile to create. Slugs are raw: their checks have a place in the order of chapter 20 §5.2.
#[derive(Debug, Clone, Default)]
pub struct CreateProfile {
    /// Blank is the default registry.
    pub registry: String,
    /// Required.
    pub slug: String,
    /// What it says.
    pub draft: Draft,
    /// Whether it becomes the default in the same step.
    pub set_default: bool,
    /// Any version but 0 conflicts.
    pub guard: Guard,
}

/// A change to a profile.
#[derive(Debug, Clone)]
pub struct UpdateProfile {
    /// The registry.
    pub registry: RegistrySlug,
    /// The profile.
    pub slug: ProfileSlug,
    /// What changes.
    pub patch: ProfilePatch,
    /// Whether it becomes the default in the same step.
    pub set_default: bool,
    /// Against the profile's version.
    pub guard: Guard,
    /// Whether the author may unlock a read-only profile (decision 13).
    pub may_unlock: bool,
}

/// An earlier version to go back to.
#[derive(Debug, Clone)]
pub struct RestoreProfile {
    /// The registry.
    pub registry: RegistrySlug,
    /// The profile, which may be deleted.
    pub slug: ProfileSlug,
    /// The version that it had.
    pub version: u64,
    /// Against the profile's version, or the last one of a deleted profile; required.
    pub guard: Guard,
    /// On whose behalf: clients may not bring back what only operators may write.
    pub writer: Writer,
}

/// A new default.
#[derive(Debug, Clone)]
pub struct MakeDefault {
    /// The registry.
    pub registry: RegistrySlug,
    /// The profile.
    pub slug: ProfileSlug,
    /// `expected_version` against the registry's version, `if_match` against the profile's.
    pub guard: Guard,
}

/// Decides on a command: the changes to append, none if nothing changes. Ids are given by the writer.
pub(super) type Decide = Box<dyn FnOnce(&Snapshot, Stamp) -> Result<Vec<Change>, Error> + Send>;

/// A command before it runs.
pub(super) struct Decision {
    pub(super) registry: RegistrySlug,
    /// The profile that the answer shows.
    pub(super) slug: Option<ProfileSlug>,
    pub(super) decide: Decide,
}

pub(super) fn create_profile(
    request: CreateProfile,
    catalog: &Catalog,
    default_registry: &RegistrySlug,
) -> Result<Decision, Error> {
    // The draft's own rules need no registry, so they run here, off the writer thread; a slug that does not parse is
    // reported at its place, after the configurations.
    let slug = ProfileSlug::parse(&request.slug);
    let placeholder = || ProfileSlug::parse("draft").map_err(|e| Error::Internal(e.to_string()));
    let checked = draft::check(
        slug.clone().or_else(|_| placeholder())?,
        request.draft,
        catalog,
        Writer::Client,
    );
    if let Some(problems) = checked.config_problems() {
        return Err(Error::Validation(problems));
    }
    let registry = RegistrySlug::parse_optional(&request.registry)
        .map_err(|_| Error::InvalidRegistry(request.registry.clone()))?
        .unwrap_or_else(|| default_registry.clone());
    let slug = slug.map_err(|_| Error::InvalidSlug(request.slug.clone()))?;
    let problems = checked.problems();
    let (guard, set_default) = (request.guard, request.set_default);
    let (mut profile, content) = (checked.profile, checked.content);
    let decide = {
        let (registry, slug) = (registry.clone(), slug.clone());
        move |snapshot: &Snapshot, stamp: Stamp| {
            let state = find_registry(snapshot, &registry)?;
            if let Some(problems) = problems {
                return Err(Error::Validation(problems));
            }
            check_free(state, &slug, &guard)?;
            let mut head = touch_head(state.head(), &stamp);
            if set_default || state.is_empty() {
                head.default_profile = Some(slug.clone());
            }
            profile.metadata.version = state.last_version(&slug);
            let registry = state.slug().clone();
            Ok(vec![change(registry, Operation::Create, profile, &content, head.into(), stamp)])
        }
    };
    Ok(Decision { registry, slug: Some(slug), decide: Box::new(decide) })
}

pub(super) fn update_profile(request: UpdateProfile, catalog: Arc<Catalog>) -> Decision {
    let (registry, slug) = (request.registry.clone(), request.slug.clone());
    let decide = move |snapshot: &Snapshot, stamp: Stamp| {
        let state = find_registry(snapshot, &request.registry)?;
        let stored = state.get(&request.slug).ok_or(Error::ProfileNotFound)?;
        let profile = stored.before(&request.patch);
        let changes_nothing = request.patch.is_empty();
        let unlocks = request.patch.unlocks() && !request.set_default;
        let checked = patch::apply(&profile, request.patch, &catalog);
        if let Some(problems) = checked.config_problems() {
            return Err(Error::Validation(problems));
        }
        if profile.policy.read_only && !unlocks {
            return Err(read_only(&request.slug));
        }
        if profile.policy.read_only && !request.may_unlock {
            return Err(Error::UnlockForbidden);
        }
        if let Some(problems) = checked.problems() {
            return Err(Error::Validation(problems));
        }
        check_profile_version(state, &request.slug, profile.metadata.version, &request.guard)?;
        if changes_nothing && !request.set_default {
            return Ok(Vec::new());
        }
        let mut head = touch_head(state.head(), &stamp);
        if request.set_default {
            head.default_profile = Some(request.slug.clone());
        }
        if changes_nothing {
            return Ok(vec![default_change(state, stored, head.into(), stamp)]);
        }
        let registry = state.slug().clone();
        let (profile, content) = (checked.profile, checked.content);
        Ok(vec![change(registry, Operation::Update, profile, &content, head.into(), stamp)])
    };
    Decision { registry, slug: Some(slug), decide: Box::new(decide) }
}

pub(super) fn restore_profile(
    request: RestoreProfile,
    earlier: &Profile,
    catalog: &Catalog,
) -> Result<Decision, Error> {
    if request.guard.expected_version == 0 && request.guard.if_match.is_none() {
        return Err(Error::invalid("expected_version", "is required"));
    }
    let draft = Draft::of(earlier);
    let checked = draft::check(request.slug.clone(), draft, catalog, request.writer);
    // What was valid once may name what is gone.
    if let Some(problems) = checked.problems() {
        return Err(Error::Validation(problems));
    }
    let (registry, slug) = (request.registry.clone(), request.slug.clone());
    let (mut profile, content) = (checked.profile, checked.content);
    let decide = move |snapshot: &Snapshot, stamp: Stamp| {
        let state = find_registry(snapshot, &request.registry)?;
        let mut head = touch_head(state.head(), &stamp);
        let before = match state.get(&request.slug) {
            Some(stored) => {
                if stored.is_read_only() {
                    return Err(read_only(&request.slug));
                }
                stored.profile().metadata
            }
            None => Metadata { version: state.last_version(&request.slug), ..Metadata::default() },
        };
        check_profile_version(state, &request.slug, before.version, &request.guard)?;
        if state.is_empty() {
            head.default_profile = Some(request.slug.clone());
        }
        profile.metadata = Metadata { tags: profile.metadata.tags, ..before };
        let registry = state.slug().clone();
        Ok(vec![change(registry, Operation::Restore, profile, &content, head.into(), stamp)])
    };
    Ok(Decision { registry, slug: Some(slug), decide: Box::new(decide) })
}

pub(super) fn delete_profile(registry: RegistrySlug, slug: ProfileSlug, guard: Guard) -> Decision {
    let decide = {
        let (registry, slug) = (registry.clone(), slug);
        move |snapshot: &Snapshot, stamp: Stamp| {
            let state = find_registry(snapshot, &registry)?;
            let stored = state.get(&slug).ok_or(Error::ProfileNotFound)?;
            if stored.is_read_only() {
                return Err(read_only(&slug));
            }
            let version = stored.version();
            check_profile_version(state, &slug, version, &guard)?;
            let mut head = touch_head(state.head(), &stamp);
            if state.is_default(&slug) {
                head.default_profile = state.heir(&slug);
            }
            let version = version.saturating_add(1);
            let (operation, slug) = (Operation::Delete, Some(slug));
            let deleted = without_document(registry, operation, slug, version, head.into(), stamp);
            Ok(vec![deleted])
        }
    };
    Decision { registry, slug: None, decide: Box::new(decide) }
}

pub(super) fn set_default(request: MakeDefault) -> Decision {
    let (registry, slug) = (request.registry.clone(), request.slug.clone());
    let decide = move |snapshot: &Snapshot, stamp: Stamp| {
        let state = find_registry(snapshot, &request.registry)?;
        let stored = state.get(&request.slug).ok_or(Error::ProfileNotFound)?;
        let expected = request.guard.expected_version;
        if expected != 0 && expected != state.version() {
            return Err(Error::VersionConflict {
                resource: Resource::Registry(request.registry),
                expected,
                actual: state.version(),
                etag: Some(state.etag(stored)),
            });
        }
        let guard = Guard { expected_version: 0, if_match: request.guard.if_match };
        check_profile_version(state, &request.slug, stored.version(), &guard)?;
        let mut head = touch_head(state.head(), &stamp);
        head.default_profile = Some(request.slug);
        Ok(vec![default_change(state, stored, head.into(), stamp)])
    };
    Decision { registry, slug: Some(slug), decide: Box::new(decide) }
}

pub(super) fn bootstrap(
    registry: RegistrySlug,
    profiles: Vec<Profile>,
    default_profile: ProfileSlug,
) -> Decision {
    let decide = {
        let registry = registry.clone();
        move |snapshot: &Snapshot, stamp: Stamp| {
            let existing = snapshot.registry(&registry);
            if existing.is_some_and(|state| !state.is_empty()) {
                return Ok(Vec::new());
            }
            let none = RegistryHead::default();
            let mut head = touch_head(existing.map_or(&none, |state| state.head()), &stamp);
            let wanted = profiles.iter().find(|p| p.slug == default_profile);
            let lowest = || profiles.iter().min_by(|a, b| a.slug.cmp(&b.slug));
            head.default_profile = wanted.or_else(lowest).map(|p| p.slug.clone());
            let head = Arc::new(head);
            let (of, shared, stamped) = (registry.clone(), head.clone(), stamp.clone());
            let created = without_document(of, Operation::CreateRegistry, None, 0, shared, stamped);
            let mut changes = if existing.is_none() { vec![created] } else { Vec::new() };
            for mut profile in profiles {
                let last = existing.map_or(0, |state| state.last_version(&profile.slug));
                profile.metadata.version = last;
                let content = profile.content();
                let (registry, head, stamp) = (registry.clone(), head.clone(), stamp.clone());
                changes.push(change(registry, Operation::Create, profile, &content, head, stamp));
            }
            Ok(changes)
        }
    };
    Decision { registry, slug: None, decide: Box::new(decide) }
}

/// Whether a profile of that name may be created: the contract's 409, `If-Match`, and the limit.
fn check_free(state: &RegistryState, slug: &ProfileSlug, guard: &Guard) -> Result<(), Error> {
    let taken = state.get(slug);
    if taken.is_some() || guard.expected_version != 0 {
        let actual = taken.map_or(0, |stored| stored.version());
        return Err(Error::VersionConflict {
            resource: Resource::Profile(slug.clone()),
            expected: if taken.is_some() { 0 } else { guard.expected_version },
            actual,
            etag: taken.map(|stored| state.etag(stored)),
        });
    }
    if guard.if_match.is_some() {
        return Err(Error::PreconditionFailed { etag: String::new() });
    }
    if state.len() >= MAX_PROFILES {
        return Err(Error::Validation(vec![too_much("registry.profiles", MAX_PROFILES, "items")]));
    }
    Ok(())
}

fn find_registry<'a>(
    snapshot: &'a Snapshot,
    slug: &RegistrySlug,
) -> Result<&'a Arc<RegistryState>, Error> {
    snapshot.registry(slug).ok_or(Error::RegistryNotFound)
}

pub(super) fn read_only(slug: &ProfileSlug) -> Error {
    Error::Policy { profile: slug.clone(), reason: "profile is read-only".into() }
}

/// The contract's 409 and, at the same place, `If-Match` (decision 12).
fn check_profile_version(
    state: &RegistryState,
    slug: &ProfileSlug,
    actual: u64,
    guard: &Guard,
) -> Result<(), Error> {
    let etag = || crate::profile::document::etag(actual, state.is_default(slug));
    let expected = guard.expected_version;
    if expected != 0 && expected != actual {
        let resource = Resource::Profile(slug.clone());
        return Err(Error::VersionConflict { resource, expected, actual, etag: Some(etag()) });
    }
    match &guard.if_match {
        Some(IfMatch::Versions(versions)) if !versions.contains(&actual) => {
            Err(Error::PreconditionFailed { etag: etag() })
        }
        _ => Ok(()),
    }
}

pub(super) fn touch_head(head: &RegistryHead, stamp: &Stamp) -> RegistryHead {
    let mut head = head.clone();
    head.metadata.touch(stamp.at_ms, &stamp.actor, &stamp.source);
    head
}

/// The change that writes `profile`, whose metadata is that of the version before but for its tags.
pub(super) fn change(
    registry: RegistrySlug,
    operation: Operation,
    mut profile: Profile,
    content: &Content,
    head: Arc<RegistryHead>,
    stamp: Stamp,
) -> Change {
    profile.metadata.touch(stamp.at_ms, &stamp.actor, &stamp.source);
    Change {
        id: 0,
        registry,
        operation,
        slug: Some(profile.slug.clone()),
        version: profile.metadata.version,
        document: content.document(&profile.metadata),
        profile: Some(Arc::new(profile)),
        head,
        stamp,
    }
}

fn default_change(
    state: &RegistryState,
    stored: &Stored,
    head: Arc<RegistryHead>,
    stamp: Stamp,
) -> Change {
    let (registry, slug) = (state.slug().clone(), Some(stored.slug().clone()));
    without_document(registry, Operation::SetDefault, slug, stored.version(), head, stamp)
}

/// A change after which no document is new.
pub(super) fn without_document(
    registry: RegistrySlug,
    operation: Operation,
    slug: Option<ProfileSlug>,
    version: u64,
    head: Arc<RegistryHead>,
    stamp: Stamp,
) -> Change {
    Change {
        id: 0,
        registry,
        operation,
        slug,
        version,
        profile: None,
        document: String::new(),
        head,
        stamp,
    }
}
