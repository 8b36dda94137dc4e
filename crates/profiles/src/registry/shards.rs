//! A persistent map for point look-ups: the cost of a look-up does not depend on the number of entries, and a changed
//! copy shares everything but one shard with the original.

use std::collections::HashMap;
use std::sync::Arc;

use super::Stored;
use crate::ids::ProfileSlug;

const SHARDS: usize = 128;

type Shard = Arc<HashMap<ProfileSlug, Arc<Stored>>>;

/// Profiles by slug.
#[derive(Clone)]
pub(super) struct Shards(Arc<[Shard]>);

impl Default for Shards {
    fn default() -> Self {
        let empty = Shard::default();
        Self(std::iter::repeat_n(empty, SHARDS).collect())
    }
}

impl Shards {
    pub(super) fn get(&self, slug: &ProfileSlug) -> Option<&Arc<Stored>> {
        self.0[place(slug)].get(slug)
    }

    pub(super) fn insert(&mut self, slug: ProfileSlug, stored: Arc<Stored>) {
        let place = place(&slug);
        Arc::make_mut(&mut Arc::make_mut(&mut self.0)[place]).insert(slug, stored);
    }

    pub(super) fn remove(&mut self, slug: &ProfileSlug) {
        Arc::make_mut(&mut Arc::make_mut(&mut self.0)[place(slug)]).remove(slug);
    }
}

/// FNV-1a; the maps inside have their own keyed hash, so that crafted slugs can at worst share a shard.
fn place(slug: &ProfileSlug) -> usize {
    let hash = slug.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, b| {
        (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    });
    usize::try_from((hash ^ (hash >> 32)) % SHARDS as u64).unwrap_or(0)
}
