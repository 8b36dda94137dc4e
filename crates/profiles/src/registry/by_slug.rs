//! A persistent map for point look-ups: a trie over the hash of the slug. The cost of a look-up does not depend on the
//! number of entries, and a changed copy shares everything but one short path with the original.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::Stored;
use crate::ids::ProfileSlug;

/// Children of a node; three levels of them make 4096 leaves, a handful of entries each in the largest registry.
const FAN_OUT: usize = 16;
const BITS: u32 = FAN_OUT.ilog2();

#[derive(Clone)]
struct Entry {
    hash: u64,
    stored: Arc<Stored>,
}

type Leaf = Arc<[Entry]>;
type Node<T> = Arc<[T; FAN_OUT]>;

/// Profiles by slug.
#[derive(Clone)]
pub(super) struct BySlug {
    root: Node<Node<Node<Leaf>>>,
    /// Keyed, so that nobody can choose slugs that share a leaf.
    hasher: RandomState,
}

impl Default for BySlug {
    fn default() -> Self {
        let (leaf, hasher) = (Leaf::from([]), RandomState::new());
        let leaves: Node<Leaf> = Arc::new(std::array::from_fn(|_| leaf.clone()));
        let middle: Node<Node<Leaf>> = Arc::new(std::array::from_fn(|_| leaves.clone()));
        Self { root: Arc::new(std::array::from_fn(|_| middle.clone())), hasher }
    }
}

impl BySlug {
    pub(super) fn get(&self, slug: &ProfileSlug) -> Option<&Arc<Stored>> {
        let hash = self.hasher.hash_one(slug);
        let leaf = &self.root[digit(hash, 0)][digit(hash, 1)][digit(hash, 2)];
        leaf.iter().find(|entry| entry.is(hash, slug)).map(|entry| &entry.stored)
    }

    /// Puts a profile under its slug; says whether it took another's place.
    pub(super) fn insert(&mut self, stored: Arc<Stored>) -> bool {
        let slug = stored.slug();
        let hash = self.hasher.hash_one(slug);
        let leaf = self.leaf_mut(hash);
        if let Some(at) = leaf.iter().position(|entry| entry.is(hash, slug)) {
            Arc::make_mut(leaf)[at].stored = stored;
            return true;
        }
        *leaf = leaf.iter().cloned().chain([Entry { hash, stored }]).collect();
        false
    }

    pub(super) fn remove(&mut self, slug: &ProfileSlug) {
        let hash = self.hasher.hash_one(slug);
        let leaf = self.leaf_mut(hash);
        *leaf = leaf.iter().filter(|entry| !entry.is(hash, slug)).cloned().collect();
    }

    fn leaf_mut(&mut self, hash: u64) -> &mut Leaf {
        let middle = &mut Arc::make_mut(&mut self.root)[digit(hash, 0)];
        let leaves = &mut Arc::make_mut(middle)[digit(hash, 1)];
        &mut Arc::make_mut(leaves)[digit(hash, 2)]
    }
}

impl Entry {
    fn is(&self, hash: u64, slug: &ProfileSlug) -> bool {
        self.hash == hash && self.stored.slug() == slug
    }
}

fn digit(hash: u64, level: u32) -> usize {
    let digit = (hash >> (level * BITS)) % FAN_OUT as u64;
    usize::try_from(digit).unwrap_or(0)
}
