//! The committed state as one immutable value. A change makes a new snapshot that shares all but what changed.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
use imbl::{OrdMap, OrdSet};

use super::by_slug::BySlug;
use crate::error::Error;
use crate::ids::{ProfileSlug, RegistrySlug};
use crate::profile::history::{Change, Operation, RegistryHead, heir};
use crate::profile::resolve::{EffectiveProfile, Refusal};
use crate::profile::{Profile, ProfilePatch, Rendered, document, patch, yaml};
use crate::store::Contents;

/// All registries at one revision of the database.
#[derive(Clone, Default)]
pub struct Snapshot {
    revision: u64,
    registries: BTreeMap<RegistrySlug, Arc<RegistryState>>,
}

/// One registry.
#[derive(Clone)]
pub struct RegistryState {
    slug: RegistrySlug,
    head: Arc<RegistryHead>,
    by_slug: BySlug,
    /// The same slugs in order; a change of a profile leaves it alone.
    ordered: OrdSet<ProfileSlug>,
    deleted: OrdMap<ProfileSlug, u64>,
    list: OnceLock<Bytes>,
}

/// One version of a profile: its text, what look-ups and guards want to know of it, and what is derived from it once and for
/// all. The value itself is made of the text when somebody needs it, because thousands of them take five times the memory of
/// their texts, and a write that has to fetch and free one from all over it waits for memory most of the time.
pub struct Stored {
    slug: ProfileSlug,
    version: u64,
    read_only: bool,
    rendered: Rendered,
    /// Whether it was the default when it was rendered.
    is_default: bool,
    /// The other way, when it is first asked for.
    turned: OnceLock<Rendered>,
    /// Index 1 while the profile is the default.
    list_items: [OnceLock<Bytes>; 2],
    effective: OnceLock<Result<Arc<EffectiveProfile>, Refusal>>,
}

impl Stored {
    fn new(registry: &RegistrySlug, profile: &Profile, document: &str, is_default: bool) -> Self {
        Self {
            slug: profile.slug.clone(),
            version: profile.metadata.version,
            read_only: profile.policy.read_only,
            rendered: Rendered::new(registry, profile, document, is_default),
            is_default,
            turned: OnceLock::new(),
            list_items: Default::default(),
            effective: OnceLock::new(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn slug(&self) -> &ProfileSlug {
        &self.slug
    }

    /// Rises by one with each change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether update and delete are refused.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// All of it. Takes some microseconds.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.was_written(serde_json::from_str(self.rendered.text()))
    }

    /// What a patch looks at of it.
    pub(super) fn before(&self, patch: &ProfilePatch) -> Profile {
        self.was_written(patch::read_before(&self.slug, self.rendered.text(), patch))
    }

    #[expect(clippy::unreachable, reason = "the text is one that was read or written as a profile")]
    fn was_written(&self, read: Result<Profile, serde_json::Error>) -> Profile {
        read.unwrap_or_else(|e| unreachable!("a profile that is none: {}: {e}", self.slug))
    }

    /// As it is sent.
    #[must_use]
    pub fn rendered(&self, is_default: bool) -> &Rendered {
        if is_default == self.is_default {
            return &self.rendered;
        }
        self.turned.get_or_init(|| self.rendered.turned(self.version, is_default))
    }

    fn list_item(&self, is_default: bool) -> &Bytes {
        self.list_items[usize::from(is_default)]
            .get_or_init(|| document::list_item(&self.profile(), is_default))
    }

    pub(super) fn effective(
        &self,
        resolve: impl FnOnce(&Profile) -> Result<Arc<EffectiveProfile>, Refusal>,
    ) -> Result<Arc<EffectiveProfile>, Refusal> {
        self.effective.get_or_init(|| resolve(&self.profile())).clone()
    }
}

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Stored").field(&self.slug).field(&self.version).finish()
    }
}

/// Whether `text` begins with `prefix`, which is in lower case, letter by letter and without a copy.
fn starts_with(text: &str, prefix: &str) -> bool {
    let mut lower = text.chars().flat_map(char::to_lowercase);
    prefix.chars().all(|wanted| lower.next() == Some(wanted))
}

/// What of a list is wanted (decision 41).
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// At most so many; `None` is all.
    pub limit: Option<usize>,
    /// Slugs above this one.
    pub after: Option<ProfileSlug>,
    /// Prefix of slug or display name, compared in lower case.
    pub prefix: Option<String>,
    /// A tag, compared exactly.
    pub tag: Option<String>,
    /// With tags and lock, which the contract's items do not have.
    pub details: bool,
}

impl Filter {
    fn is_everything(&self) -> bool {
        self.limit.is_none()
            && self.after.is_none()
            && self.prefix.is_none()
            && self.tag.is_none()
            && !self.details
    }

    fn takes(&self, stored: &Stored) -> bool {
        let prefix = self.prefix.as_deref().is_none_or(|prefix| {
            stored.slug.as_str().starts_with(prefix)
                || starts_with(stored.rendered.display_name(), prefix)
        });
        prefix && self.tag.as_ref().is_none_or(|tag| stored.rendered.has_tag(tag))
    }
}

/// One page of a list.
#[derive(Debug, Clone)]
pub struct Page {
    /// A JSON array and a line end.
    pub body: Bytes,
    /// The last slug of this page, if another page follows.
    pub next: Option<ProfileSlug>,
}

impl Snapshot {
    pub(super) fn from_contents(contents: Contents) -> Self {
        let registries = contents.registries.into_iter().map(|(slug, stored)| {
            let mut state = RegistryState::empty(slug.clone());
            state.head = Arc::new(stored.head);
            state.deleted = stored.deleted.into_iter().collect();
            for profile in stored.profiles {
                let is_default = state.is_default(&profile.slug);
                state.put(Stored::new(&slug, &profile, &profile.document(), is_default));
            }
            (slug, Arc::new(state))
        });
        Self { revision: contents.revision, registries: registries.collect() }
    }

    /// The id of the newest change in it.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// A registry.
    #[must_use]
    pub fn registry(&self, slug: &RegistrySlug) -> Option<&Arc<RegistryState>> {
        self.registries.get(slug)
    }

    /// All registries by slug.
    pub fn registries(&self) -> impl Iterator<Item = &Arc<RegistryState>> {
        self.registries.values()
    }

    /// All registries, or one, as a YAML bundle (chapter 10 §9).
    ///
    /// # Errors
    /// No such registry.
    pub fn export(&self, only: Option<&RegistrySlug>) -> Result<String, Error> {
        if only.is_some_and(|slug| self.registry(slug).is_none()) {
            return Err(Error::RegistryNotFound);
        }
        let asked = self.registries().filter(|state| only.is_none_or(|only| only == state.slug()));
        yaml::encode(asked.map(|state| {
            let profiles = state.profiles().map(|stored| stored.profile()).collect();
            (state.slug(), state.head(), profiles)
        }))
    }

    /// Takes over a committed change.
    pub(super) fn apply(&mut self, change: &Change) {
        self.revision = change.id;
        let state = self
            .registries
            .entry(change.registry.clone())
            .or_insert_with(|| Arc::new(RegistryState::empty(change.registry.clone())));
        Arc::make_mut(state).apply(change);
    }
}

impl RegistryState {
    fn empty(slug: RegistrySlug) -> Self {
        Self {
            slug,
            head: Arc::default(),
            by_slug: BySlug::default(),
            ordered: OrdSet::new(),
            deleted: OrdMap::new(),
            list: OnceLock::new(),
        }
    }

    fn put(&mut self, stored: Stored) {
        let stored = Arc::new(stored);
        if !self.by_slug.insert(stored.clone()) {
            self.ordered.insert(stored.slug.clone());
        }
    }

    fn apply(&mut self, change: &Change) {
        self.list = OnceLock::new();
        self.head = change.head.clone();
        if let Some(profile) = &change.profile {
            let is_default = self.is_default(&profile.slug);
            self.put(Stored::new(&self.slug, profile, &change.document, is_default));
        } else if let (Operation::Delete, Some(slug)) = (change.operation, &change.slug) {
            self.by_slug.remove(slug);
            self.ordered.remove(slug);
            self.deleted.insert(slug.clone(), change.version);
        }
    }

    /// Its name.
    #[must_use]
    pub fn slug(&self) -> &RegistrySlug {
        &self.slug
    }

    /// What is true beside the profiles.
    #[must_use]
    pub fn head(&self) -> &RegistryHead {
        &self.head
    }

    /// The registry version of the contract.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.head.metadata.version
    }

    /// How many profiles it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ordered.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ordered.is_empty()
    }

    /// A profile, at a cost that does not depend on how many there are.
    #[must_use]
    pub fn get(&self, slug: &ProfileSlug) -> Option<&Arc<Stored>> {
        self.by_slug.get(slug)
    }

    /// The default profile; absent only while there are no profiles (D1).
    #[must_use]
    pub fn default_profile(&self) -> Option<&Arc<Stored>> {
        self.head.default_profile.as_ref().and_then(|slug| self.get(slug))
    }

    /// Whether a profile is the default.
    #[must_use]
    pub fn is_default(&self, slug: &ProfileSlug) -> bool {
        self.head.default_profile.as_ref() == Some(slug)
    }

    /// The entity tag of a stored profile as it is now.
    #[must_use]
    pub fn etag(&self, stored: &Stored) -> String {
        document::etag(stored.version, self.is_default(&stored.slug))
    }

    /// Profiles in order of slug.
    pub fn profiles(&self) -> impl Iterator<Item = &Arc<Stored>> {
        self.ordered.iter().filter_map(|slug| self.by_slug.get(slug))
    }

    /// The version above which a new profile of that name starts: 0, or the last one of a deleted namesake.
    pub(super) fn last_version(&self, slug: &ProfileSlug) -> u64 {
        self.deleted.get(slug).copied().unwrap_or(0)
    }

    /// The profile that takes over when the default goes.
    pub(super) fn heir(&self, leaving: &ProfileSlug) -> Option<ProfileSlug> {
        heir(self.ordered.iter().filter(|slug| *slug != leaving))
    }

    /// A page of the list (chapter 20 §5.1). The whole list is put together once per registry version.
    #[must_use]
    pub fn list(&self, filter: &Filter) -> Page {
        if !filter.is_everything() {
            return self.assemble(filter);
        }
        Page { body: self.list.get_or_init(|| self.assemble(filter).body).clone(), next: None }
    }

    fn assemble(&self, filter: &Filter) -> Page {
        let start = filter.after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let wanted = self
            .ordered
            .range::<_, ProfileSlug>((start, Bound::Unbounded))
            .filter_map(|slug| self.by_slug.get(slug).map(|stored| (slug, stored)))
            .filter(|(_, stored)| filter.takes(stored));
        let limit = filter.limit.unwrap_or(usize::MAX);
        let mut body =
            BytesMut::with_capacity(self.len().min(limit).saturating_mul(1024).min(1 << 20));
        body.put_u8(b'[');
        let mut last = None;
        let mut next = None;
        for (count, (slug, stored)) in wanted.enumerate() {
            if count == limit {
                next = last;
                break;
            }
            if count > 0 {
                body.put_u8(b',');
            }
            let is_default = self.is_default(slug);
            if filter.details {
                body.put_slice(&document::detailed_list_item(&stored.profile(), is_default));
            } else {
                body.put_slice(stored.list_item(is_default));
            }
            last = Some(slug.clone());
        }
        body.put_slice(b"]\n");
        Page { body: body.freeze(), next }
    }
}
