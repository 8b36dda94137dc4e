//! Where each profile stands. Heads are written for thousands of changes at once, so that a write touches no page but the
//! end of the log: `heads_until` says which change they count up to, and the log says what came after it (the tail).

use std::collections::{BTreeMap, HashMap};

use collodi_profiles::{ProfileSlug, RegistrySlug};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::row::{ReadError, read_registry, read_slug};

/// Changes after which heads are written: what a start and a look into a history may have to read over again.
pub(super) const TAIL: i64 = 4096;

pub(super) type Key = (RegistrySlug, ProfileSlug);

/// What a profile is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) version: i64,
    /// The change that wrote its document, or deleted it.
    pub(super) change: i64,
    pub(super) deleted: bool,
}

/// The end of a profile's chain of changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Newest {
    /// The change, 0 for none.
    pub(super) id: i64,
    /// The how manieth it is of its profile.
    pub(super) nth: i64,
}

impl Newest {
    fn next(self, id: i64) -> Self {
        Self { id, nth: self.nth + 1 }
    }
}

/// What the tail says of a profile.
#[derive(Clone, Copy)]
struct Moved {
    newest: Newest,
    /// Absent if it only became the default.
    head: Option<Head>,
}

impl Moved {
    fn go_on(&mut self, then: Self) {
        *self = Self { newest: then.newest, head: then.head.or(self.head) };
    }
}

/// Every profile that there is or was. What no hash covers is compared: a change of the tail must go on where its profile
/// stood, and a head must be what the log says, or the database is damaged.
pub(super) fn read_heads(connection: &Connection) -> Result<BTreeMap<Key, Head>, ReadError> {
    let mut profiles = BTreeMap::<Key, (Head, Newest)>::new();
    let mut statement = connection
        .prepare("SELECT registry, slug, version, change_id, deleted, newest_id, nth FROM heads")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let head = Head { version: row.get(2)?, change: row.get(3)?, deleted: row.get(4)? };
        let newest = Newest { id: row.get(5)?, nth: row.get(6)? };
        profiles.insert((read_registry(row, 0)?, read_slug(row, 1)?), (head, newest));
    }
    for ((registry, slug), (head, newest)) in &profiles {
        // The document of the others says whose it is, and has a hash.
        if (head.deleted || head.change != newest.id)
            && !is_in_log(connection, (registry, slug), *head, *newest)?
        {
            return Err(ReadError::row("heads", slug, "the log says something else"));
        }
    }
    let mut statement = connection.prepare_cached(TAIL_ROWS)?;
    let mut rows = statement.query([until(connection)?])?;
    while let Some(row) = rows.next()? {
        let Some((key, change)) = TailRow::read(row)? else { continue };
        let before = profiles.get(&key).copied();
        let after = change.after(before).ok_or_else(|| {
            let detail = format!("it does not go on where {} stood", key.1);
            ReadError::row("changes", change.newest.id, detail)
        })?;
        profiles.insert(key, (after, change.newest));
    }
    Ok(profiles.into_iter().map(|(key, (head, _))| (key, head)).collect())
}

/// Whether the changes that a head names are there and are what it says.
fn is_in_log(
    connection: &Connection,
    (registry, slug): (&RegistrySlug, &ProfileSlug),
    head: Head,
    newest: Newest,
) -> rusqlite::Result<bool> {
    let (registry, slug) = (registry.as_str(), slug.as_str());
    let mut changed = connection.prepare_cached(
        "SELECT 1 FROM changes WHERE id = ?1 AND registry = ?2 AND slug = ?3 AND version = ?4 \
         AND (operation = 'delete') = ?5",
    )?;
    let mut ended = connection.prepare_cached(
        "SELECT 1 FROM changes WHERE id = ?1 AND registry = ?2 AND slug = ?3 AND nth = ?4",
    )?;
    Ok(changed.exists(params![head.change, registry, slug, head.version, head.deleted])?
        && ended.exists(params![newest.id, registry, slug, newest.nth])?)
}

/// The changes of profiles after one.
const TAIL_ROWS: &str = "SELECT id, nth, registry, slug, version, document IS NULL, operation = 'delete', previous \
    FROM changes WHERE id > ?1 ORDER BY id";

/// A change of the tail.
struct TailRow {
    newest: Newest,
    previous: i64,
    version: i64,
    documented: bool,
    deleted: bool,
}

impl TailRow {
    /// Absent for changes of a registry alone.
    fn read(row: &Row<'_>) -> Result<Option<(Key, Self)>, ReadError> {
        let change = Self {
            newest: Newest { id: row.get(0)?, nth: row.get(1)? },
            previous: row.get(7)?,
            version: row.get(4)?,
            documented: !row.get::<_, bool>(5)?,
            deleted: row.get(6)?,
        };
        if change.newest.nth == 0 {
            return Ok(None);
        }
        Ok(Some(((read_registry(row, 2)?, read_slug(row, 3)?), change)))
    }

    /// What it makes of its profile; absent if it only became the default.
    fn head(&self) -> Option<Head> {
        let &Self { version, deleted, .. } = self;
        (self.documented || deleted).then_some(Head { version, change: self.newest.id, deleted })
    }

    /// Where the profile stands after it, if it goes on where the profile stood.
    fn after(&self, before: Option<(Head, Newest)>) -> Option<Head> {
        let newest = before.map_or_else(Newest::default, |(_, newest)| newest);
        let goes_on = self.previous == newest.id && self.newest.nth == newest.nth + 1;
        let alive = before.map(|(head, _)| head).filter(|head| !head.deleted);
        let fits = match alive {
            _ if self.documented => !self.deleted,
            // A version that could not rise any more stays (D7).
            Some(head) if self.deleted => self.version > head.version || head.version == i64::MAX,
            Some(head) => self.version == head.version,
            None => false,
        };
        (goes_on && fits).then(|| self.head().or(alive)).flatten()
    }
}

/// The end of the chain of one profile.
pub(super) fn newest_of(
    connection: &Connection,
    registry: &RegistrySlug,
    slug: &ProfileSlug,
) -> rusqlite::Result<Newest> {
    let in_tail = connection
        .prepare_cached(
            "SELECT id, nth FROM changes WHERE id > (SELECT change_id FROM heads_until) \
             AND registry = ?1 AND slug = ?2 ORDER BY id DESC LIMIT 1",
        )?
        .query_row(params![registry.as_str(), slug.as_str()], |row| {
            Ok(Newest { id: row.get(0)?, nth: row.get(1)? })
        })
        .optional()?;
    in_tail.map_or_else(|| in_heads(connection, registry, slug), Ok)
}

fn in_heads(
    connection: &Connection,
    registry: &RegistrySlug,
    slug: &ProfileSlug,
) -> rusqlite::Result<Newest> {
    connection
        .prepare_cached("SELECT newest_id, nth FROM heads WHERE registry = ?1 AND slug = ?2")?
        .query_row(params![registry.as_str(), slug.as_str()], |row| {
            Ok(Newest { id: row.get(0)?, nth: row.get(1)? })
        })
        .optional()
        .map(Option::unwrap_or_default)
}

fn until(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("SELECT change_id FROM heads_until")?.query_row([], |row| row.get(0))
}

/// What changed after `id`, by profile, and the last of these changes.
fn read_tail(connection: &Connection, id: i64) -> Result<(i64, BTreeMap<Key, Moved>), ReadError> {
    let mut tail = BTreeMap::<Key, Moved>::new();
    let mut last = id;
    let mut statement = connection.prepare_cached(TAIL_ROWS)?;
    let mut rows = statement.query([id])?;
    while let Some(row) = rows.next()? {
        last = row.get(0)?;
        let Some((key, change)) = TailRow::read(row)? else { continue };
        let moved = Moved { newest: change.newest, head: change.head() };
        tail.entry(key).and_modify(|before| before.go_on(moved)).or_insert(moved);
    }
    Ok((last, tail))
}

/// Writes the heads anew from what the log says; inside of the caller's transaction.
pub(super) fn settle_from_log(connection: &Connection) -> Result<(), ReadError> {
    let (last, tail) = read_tail(connection, until(connection)?)?;
    let moved = tail.iter().map(|((registry, slug), moved)| (registry, slug, moved));
    write_heads(connection, last, moved)?;
    Ok(())
}

/// Writes heads that moved; they come in order, so that each page is touched once.
fn write_heads<'a>(
    connection: &Connection,
    last: i64,
    moved: impl Iterator<Item = (&'a RegistrySlug, &'a ProfileSlug, &'a Moved)>,
) -> rusqlite::Result<()> {
    let mut put =
        connection.prepare_cached("REPLACE INTO heads VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    let mut lengthen = connection.prepare_cached(
        "UPDATE heads SET newest_id = ?3, nth = ?4 WHERE registry = ?1 AND slug = ?2",
    )?;
    for (registry, slug, Moved { newest, head }) in moved {
        let (registry, slug) = (registry.as_str(), slug.as_str());
        match head {
            Some(Head { version, change, deleted }) => put.execute(params![
                registry, slug, version, change, deleted, newest.id, newest.nth
            ])?,
            None => lengthen.execute(params![registry, slug, newest.id, newest.nth])?,
        };
    }
    connection.execute("UPDATE heads_until SET change_id = ?1", [last]).map(drop)
}

/// What a session that writes knows of the tail, so that it never has to read it twice.
#[derive(Default)]
pub(super) struct Tail {
    /// Whether all of it is committed: what a transaction added that did not come to its end was never there.
    committed: bool,
    /// The last change that is in it.
    last: i64,
    /// What `heads_until` said when it was read.
    until: i64,
    /// Those that moved since, and those that had moved before.
    profiles: BTreeMap<RegistrySlug, HashMap<ProfileSlug, Moved>>,
}

impl Tail {
    /// Takes over what others committed. Comes first in a transaction.
    pub(super) fn catch_up(&mut self, connection: &Connection) -> Result<(), ReadError> {
        if self.committed {
            self.read_on(connection)?;
        } else {
            self.read_again(connection)?;
        }
        self.committed = true;
        Ok(())
    }

    /// Everything that is in the log, also of the transaction under way: after an append that was taken back.
    pub(super) fn read_again(&mut self, connection: &Connection) -> Result<(), ReadError> {
        self.committed = false;
        self.profiles.clear();
        self.until = until(connection)?;
        self.last = self.until;
        self.read_on(connection)
    }

    fn read_on(&mut self, connection: &Connection) -> Result<(), ReadError> {
        let (last, tail) = read_tail(connection, self.last)?;
        for ((registry, slug), moved) in tail {
            let place = self.profiles.entry(registry).or_default().entry(slug);
            place.and_modify(|before| before.go_on(moved)).or_insert(moved);
        }
        self.last = last;
        Ok(())
    }

    /// What the transaction added is there.
    pub(super) fn keep(&mut self) {
        self.committed = true;
    }

    /// Adds a change of a profile; says which one was its newest before.
    pub(super) fn add(
        &mut self,
        connection: &Connection,
        (registry, slug): (&RegistrySlug, &ProfileSlug),
        id: i64,
        head: Option<Head>,
    ) -> rusqlite::Result<Newest> {
        self.committed = false;
        self.last = id;
        let known = self.profiles.get_mut(registry).and_then(|of| of.get_mut(slug));
        let Some(known) = known else {
            let before = in_heads(connection, registry, slug)?;
            let moved = Moved { newest: before.next(id), head };
            self.profiles.entry(registry.clone()).or_default().insert(slug.clone(), moved);
            return Ok(before);
        };
        let before = known.newest;
        known.go_on(Moved { newest: before.next(id), head });
        Ok(before)
    }

    /// Writes the heads if the tail has become long. Comes last in a transaction, whose newest change is `last`.
    pub(super) fn settle(&mut self, connection: &Connection, last: i64) -> rusqlite::Result<()> {
        self.committed = false;
        self.last = last;
        if last - self.until < TAIL {
            return Ok(());
        }
        // Somebody else may have done it meanwhile.
        self.until = until(connection)?;
        if last - self.until < TAIL {
            return Ok(());
        }
        let all = self.profiles.iter();
        let all =
            all.flat_map(|(registry, of)| of.iter().map(move |(slug, it)| (registry, slug, it)));
        let mut moved: Vec<_> = all.filter(|(.., moved)| moved.newest.id > self.until).collect();
        moved.sort_unstable_by_key(|(registry, slug, _)| (*registry, *slug));
        write_heads(connection, last, moved.into_iter())?;
        self.until = last;
        Ok(())
    }
}
