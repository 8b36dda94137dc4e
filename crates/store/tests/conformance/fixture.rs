//! Backends, and changes to write into them.

use std::any::Any;
use std::sync::Arc;

use collodi_profiles::profile::history::{Change, Operation, RegistryHead, Stamp};
use collodi_profiles::store::{ProfileStore, StoreError, WriteSession};
use collodi_profiles::{Catalog, Metadata, Profile, ProfileSlug, RegistrySlug};
use collodi_store::SqliteProfiles;
use serde_json::json;

/// One empty database; each call of `open` is another process, as far as the store can tell.
pub(crate) struct Fixture {
    open: Box<dyn Fn() -> Arc<dyn ProfileStore>>,
    _place: Box<dyn Any>,
}

impl Fixture {
    pub(crate) fn new(place: impl Any, open: impl Fn() -> Arc<dyn ProfileStore> + 'static) -> Self {
        Self { open: Box::new(open), _place: Box::new(place) }
    }

    pub(crate) fn open(&self) -> Arc<dyn ProfileStore> {
        (self.open)()
    }
}

pub(crate) fn sqlite() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profiles.db");
    Fixture::new(folder, move || {
        Arc::new(SqliteProfiles::open(&path, &Catalog::default(), 1).unwrap())
    })
}

pub(crate) fn registry(name: &str) -> RegistrySlug {
    RegistrySlug::parse(name).unwrap()
}

pub(crate) fn slug(name: &str) -> ProfileSlug {
    ProfileSlug::parse(name).unwrap()
}

pub(crate) fn profile(name: &str, version: u64) -> Profile {
    serde_json::from_value(json!({
        "slug": name,
        "runtime": {"system_prompt": format!("{name} at {version}")},
        "metadata": {"version": version, "created_at_ms": 1, "updated_at_ms": version},
    }))
    .unwrap()
}

/// Makes consistent changes, numbered from 1.
pub(crate) struct Author {
    pub(crate) registry: RegistrySlug,
    pub(crate) head: RegistryHead,
    pub(crate) next_id: u64,
}

impl Author {
    pub(crate) fn new() -> Self {
        Self::of("default", 1)
    }

    pub(crate) fn of(name: &str, next_id: u64) -> Self {
        let metadata =
            Metadata { created_at_ms: 7, created_by: "ann".into(), ..Metadata::default() };
        Self {
            registry: registry(name),
            head: RegistryHead { metadata, ..RegistryHead::default() },
            next_id,
        }
    }

    pub(crate) fn change(
        &mut self,
        operation: Operation,
        name: &str,
        version: u64,
        document: Option<Profile>,
    ) -> Change {
        let id = self.next_id;
        self.next_id += 1;
        let at_ms = 1_000 + i64::try_from(id).unwrap();
        let stamp = Stamp {
            actor: format!("actor {id}"),
            source: "http-api".into(),
            note: format!("note {id}"),
            request_id: format!("r-{id}"),
            at_ms,
        };
        self.head.metadata.version += 1;
        self.head.metadata.updated_at_ms = at_ms;
        self.head.metadata.updated_by.clone_from(&stamp.actor);
        self.head.metadata.source.clone_from(&stamp.source);
        Change {
            id,
            registry: self.registry.clone(),
            operation,
            slug: (!name.is_empty()).then(|| slug(name)),
            version,
            document: document.as_ref().map_or(String::new(), Profile::document),
            profile: document.map(Arc::new),
            head: Arc::new(self.head.clone()),
            stamp,
        }
    }

    /// The first profile of a registry becomes its default.
    pub(crate) fn create(&mut self, name: &str, version: u64) -> Change {
        self.head.default_profile.get_or_insert_with(|| slug(name));
        self.change(Operation::Create, name, version, Some(profile(name, version)))
    }

    pub(crate) fn update(&mut self, name: &str, version: u64) -> Change {
        self.change(Operation::Update, name, version, Some(profile(name, version)))
    }

    pub(crate) fn delete(&mut self, name: &str, version: u64, heir: Option<&str>) -> Change {
        self.head.default_profile = heir.map(slug);
        self.change(Operation::Delete, name, version, None)
    }

    pub(crate) fn make_default(&mut self, name: &str, version: u64) -> Change {
        self.head.default_profile = Some(slug(name));
        self.change(Operation::SetDefault, name, version, None)
    }
}

/// One transaction with one append.
pub(crate) fn write(
    session: &mut Box<dyn WriteSession>,
    changes: &[Change],
) -> Result<(), StoreError> {
    session.begin()?;
    session.append(changes)?;
    session.commit()
}

pub(crate) fn ids(changes: &[Change]) -> Vec<u64> {
    changes.iter().map(|change| change.id).collect()
}
