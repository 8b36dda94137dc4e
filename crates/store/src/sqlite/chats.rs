//! Conversations on SQLite: one writer thread with group commit, readers apart.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use collodi_chat::store::{
    ChatStore, ConversationFilter, ConversationRecord, Loaded, Receipt, RequestRecord, Row,
    TimelinePage, TimelineRange, TurnFilter, TurnSnapshot, Unfinished, Write,
};
use collodi_chat::turn::{Block, Layout};
use collodi_profiles::store::{StoreError, StoreErrorKind};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::companion::Companion;
use super::migrate::{self, Migration, Schema};
use super::{Access, Found, Look, check_library, connect, failed, inspect};
use crate::restore::refuse_unfinished;
use readers::Readers;

mod look;
mod read;
mod readers;
pub(super) mod write;

/// "colc": conversations of this program.
pub(crate) const APPLICATION_ID: i32 = 0x636f_6c63;

/// The schema version that this program writes.
pub(crate) fn newest_schema() -> i64 {
    i64::try_from(SCHEMA.migrations.len()).unwrap_or(i64::MAX)
}

const SCHEMA: Schema = Schema {
    application_id: APPLICATION_ID,
    look: Look::Head,
    migrations: &[
        Migration { name: "0001_chat", sql: include_str!("../../migrations/chat/0001_chat.sql") },
        Migration {
            name: "0002_snapshot_metadata",
            sql: include_str!("../../migrations/chat/0002_snapshot_metadata.sql"),
        },
    ],
};

/// Most batches of one transaction.
const GROUP: usize = 256;
/// Most writes that are kept while the database fails.
const MAX_STUCK: usize = 20_000;
/// How often failed batches are tried again when nothing else happens.
const RETRY: Duration = Duration::from_secs(2);

pub use look::{ChatReader, EntityFilter, EntityRow, Issue, TimelineRow};

type Answer = oneshot::Sender<Result<(), StoreError>>;

enum Message {
    Batch(Unit),
    /// For one transaction.
    Together(Vec<Unit>),
    Settle(Answer),
    Ping(Answer),
    /// Read with the writer's connection: when it is asked for, at a start, there is no other one yet.
    Unfinished(oneshot::Sender<Result<Vec<Unfinished>, StoreError>>),
    Close,
}

/// A chat database file.
pub struct SqliteChats {
    path: PathBuf,
    readers: Readers,
    next_row: AtomicI64,
    queue: Sender<Message>,
    backlog: Arc<AtomicUsize>,
    /// Ends with its connection: the last one that is closed folds the log in, which is the companion's to announce.
    thread: Mutex<Option<JoinHandle<Connection>>>,
    writer: Mutex<Option<Connection>>,
    companion: Companion,
}

/// Opens or creates a chat database for a program that fills it; no server may have it.
pub(super) fn open_for_import(path: &Path) -> Result<(Connection, Companion), StoreError> {
    check_library()?;
    let writer = migrate::open(path, &SCHEMA, foreign(path), foreign(path))?;
    let companion = Companion::open(path, &identity(&writer, path)?)?;
    Ok((writer, companion))
}

fn identity(connection: &Connection, path: &Path) -> Result<String, StoreError> {
    connection
        .query_row("SELECT id FROM identity", [], |row| row.get(0))
        .map_err(|e| failed(&format!("read {}", path.display()), &e))
}

/// Adoption is for registries.
fn foreign(path: &Path) -> impl Fn(&Connection) -> Result<(), StoreError> {
    move |_| {
        let text = format!("{} is a profile registry, not a chat database", path.display());
        Err(StoreError::new(StoreErrorKind::Corrupt, text))
    }
}

impl SqliteChats {
    /// Opens a chat database for reading, also while a server has it; nothing is created or migrated. Blocks.
    ///
    /// # Errors
    /// A file that is missing or not at this program's schema.
    pub fn open_existing(path: &Path) -> Result<ChatReader, StoreError> {
        check_library()?;
        refuse_unfinished(path)?;
        if inspect(path, APPLICATION_ID, SCHEMA.look)? != Found::Ours(newest_schema()) {
            let text = format!("{} is not a chat database of this version", path.display());
            return Err(StoreError::new(StoreErrorKind::Other, text));
        }
        Ok(ChatReader { connection: connect(path, Access::Read)?, path: path.to_owned() })
    }

    /// Opens or creates the file, migrates it, and starts its writer. Blocks. The caller holds its lock
    /// ([`crate::lock::Lock`]).
    ///
    /// # Errors
    /// The named cause: damaged, foreign, newer or orphaned files, which are left untouched; missing rights.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        check_library()?;
        let other = |text: String| StoreError::new(StoreErrorKind::Other, text);
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)
                .map_err(|e| other(format!("create {}: {e}", folder.display())))?;
        }
        let writer = migrate::open(path, &SCHEMA, foreign(path), foreign(path))?;
        let fail = |e: rusqlite::Error| failed(&format!("read {}", path.display()), &e);
        let identity = identity(&writer, path)?;
        let newest: i64 = writer
            .query_row("SELECT coalesce(max(id), 0) FROM conversations", [], |row| row.get(0))
            .map_err(fail)?;
        let (queue, messages) = channel();
        let backlog = Arc::new(AtomicUsize::new(0));
        let worker = Worker {
            connection: writer,
            path: path.display().to_string(),
            stuck: Vec::new(),
            backlog: backlog.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("chat-writer".into())
            .spawn(move || worker.run(&messages))
            .map_err(|e| other(format!("start the chat writer: {e}")))?;
        Ok(Self {
            path: path.to_owned(),
            readers: Readers::default(),
            next_row: AtomicI64::new(newest + 1),
            queue,
            backlog,
            thread: Mutex::new(Some(thread)),
            writer: Mutex::default(),
            companion: Companion::open(path, &identity)?,
        })
    }

    fn read<T>(
        &self,
        doing: &str,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let outcome = self.readers.with(&self.path, read)?;
        outcome.map_err(|e| failed(&format!("{doing} {}", self.path.display()), &e))
    }

    fn hand_in(&self, row: Row, writes: Vec<Write>, keep: bool) -> Receipt {
        self.backlog.fetch_add(1, Ordering::Relaxed);
        self.post(|answer| Message::Batch(Unit { row, writes, keep, answer: Some(answer) }))
    }

    fn post(&self, make: impl FnOnce(Answer) -> Message) -> Receipt {
        let (answer, receipt) = oneshot::channel();
        // A writer that has ended drops the answer, which the receipt shows.
        let _ = self.queue.send(make(answer));
        receipt
    }
}

impl ChatStore for SqliteChats {
    fn new_row(&self) -> Row {
        self.next_row.fetch_add(1, Ordering::Relaxed)
    }

    fn write(&self, row: Row, writes: Vec<Write>) -> Receipt {
        self.hand_in(row, writes, true)
    }

    fn write_or_drop(&self, row: Row, writes: Vec<Write>) -> Receipt {
        self.hand_in(row, writes, false)
    }

    fn write_together(&self, batches: Vec<(Row, Vec<Write>)>) -> Vec<Receipt> {
        let mut receipts = Vec::with_capacity(batches.len());
        let mut units = Vec::with_capacity(batches.len());
        for (row, writes) in batches {
            let (answer, receipt) = oneshot::channel();
            units.push(Unit { row, writes, keep: true, answer: Some(answer) });
            receipts.push(receipt);
        }
        self.backlog.fetch_add(units.len(), Ordering::Relaxed);
        let _ = self.queue.send(Message::Together(units));
        receipts
    }

    fn backlog(&self) -> usize {
        self.backlog.load(Ordering::Relaxed)
    }

    fn settled(&self) -> Receipt {
        self.post(Message::Settle)
    }

    fn load(&self, conv_id: &str) -> Result<Option<Loaded>, StoreError> {
        self.read("load a conversation from", |connection| read::load(connection, conv_id))
    }

    fn blocks(&self, row: Row, layout: &Layout) -> Result<Vec<Arc<Block>>, StoreError> {
        self.read("read the history from", |connection| read::blocks(connection, row, layout))
    }

    fn request(&self, row: Row, key: &str) -> Result<Option<RequestRecord>, StoreError> {
        self.read("look up a key in", |connection| read::request(connection, row, key))
    }

    fn timeline(&self, conv_id: &str, range: TimelineRange) -> Result<TimelinePage, StoreError> {
        self.read("read a timeline from", |connection| read::timeline(connection, conv_id, range))
    }

    fn recent_timeline(&self, conv_id: &str, range: TimelineRange) -> Option<TimelinePage> {
        // Whatever goes wrong is told by whoever reads all of it.
        self.readers.try_with(|c| read::recent_timeline(c, conv_id, range).ok().flatten()).flatten()
    }

    fn turns(&self, filter: &TurnFilter) -> Result<Vec<TurnSnapshot>, StoreError> {
        self.read("read turns from", |connection| read::turns(connection, filter))
    }

    fn conversations(
        &self,
        filter: &ConversationFilter,
    ) -> Result<Vec<ConversationRecord>, StoreError> {
        self.read("list the conversations of", |connection| read::conversations(connection, filter))
    }

    fn unfinished(&self) -> oneshot::Receiver<Result<Vec<Unfinished>, StoreError>> {
        let (answer, found) = oneshot::channel();
        let _ = self.queue.send(Message::Unfinished(answer));
        found
    }

    fn ping(&self) -> Receipt {
        self.post(Message::Ping)
    }

    fn close(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = self.queue.send(Message::Close);
            if let Ok(connection) = thread.join() {
                *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
            } else {
                tracing::error!("the chat writer ended in a panic");
            }
        }
    }
}

impl Drop for SqliteChats {
    fn drop(&mut self) {
        self.close();
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.companion.close(|| {
            self.readers.close();
            *writer = None;
        });
    }
}

/// A batch on its way.
struct Unit {
    row: Row,
    writes: Vec<Write>,
    /// Whether it is applied later when it fails now.
    keep: bool,
    /// Absent for one that failed before.
    answer: Option<Answer>,
}

struct Worker {
    connection: Connection,
    path: String,
    /// Batches that failed and are kept: they come before everything that follows them.
    stuck: Vec<Unit>,
    backlog: Arc<AtomicUsize>,
}

impl Worker {
    fn run(mut self, messages: &Receiver<Message>) -> Connection {
        let mut open = true;
        while open {
            let (mut units, mut settled) = (Vec::new(), Vec::new());
            let mut take = |message| match message {
                Message::Batch(unit) => units.push(unit),
                Message::Together(more) => units.extend(more),
                Message::Settle(answer) => settled.push(answer),
                Message::Ping(answer) => {
                    let _ = answer.send(self.ping());
                }
                Message::Unfinished(answer) => {
                    let doing = format!("look for unfinished turns in {}", self.path);
                    let found = read::unfinished(&self.connection);
                    let _ = answer.send(found.map_err(|e| failed(&doing, &e)));
                }
                Message::Close => open = false,
            };
            match messages.recv_timeout(RETRY) {
                Ok(message) => take(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => take(Message::Close),
            }
            for _ in 1..GROUP {
                match messages.try_recv() {
                    Ok(message) => take(message),
                    Err(_) => break,
                }
            }
            let count = units.len();
            if count > 0 || !self.stuck.is_empty() {
                self.turn(units);
            }
            self.backlog.fetch_sub(count, Ordering::Relaxed);
            for answer in settled {
                let _ = answer.send(Ok(()));
            }
        }
        self.connection
    }

    fn ping(&self) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("SELECT 1 FROM identity")
            .and_then(|mut statement| statement.query_row([], |_| Ok(())))
            .map_err(|e| failed(&format!("reach {}", self.path), &e))
    }

    /// Applies what waits in one transaction, then tells everybody how it went.
    fn turn(&mut self, units: Vec<Unit>) {
        let mut work = std::mem::take(&mut self.stuck);
        work.extend(units);
        let outcomes = self.transact(&work);
        for (mut unit, outcome) in work.into_iter().zip(outcomes) {
            let failed = outcome.is_err();
            if let Some(answer) = unit.answer.take() {
                if let Err(error) = &outcome {
                    tracing::error!(%error, kept = unit.keep, "failed to store a conversation");
                }
                let _ = answer.send(outcome);
            }
            if failed && unit.keep {
                self.stuck.push(unit);
            }
        }
        let waiting: usize = self.stuck.iter().map(|unit| unit.writes.len()).sum();
        if waiting > MAX_STUCK {
            tracing::error!(writes = waiting, "too much waits for the chat database: it is lost");
            self.stuck.clear();
        }
    }

    fn transact(&self, work: &[Unit]) -> Vec<Result<(), StoreError>> {
        let all = |error: StoreError| work.iter().map(|_| Err(error.clone())).collect();
        if let Err(error) = self.run_sql("BEGIN IMMEDIATE") {
            return all(self.failed(&error));
        }
        // Nothing is there without what it stands on: after a failure the rest of its conversation waits.
        let mut blocked: HashMap<Row, StoreError> = HashMap::new();
        let mut outcomes = Vec::with_capacity(work.len());
        for unit in work {
            let outcome = match blocked.get(&unit.row) {
                Some(error) => Err(error.clone()),
                None => self.apply(unit),
            };
            if let Err(error) = &outcome {
                blocked.entry(unit.row).or_insert_with(|| error.clone());
            }
            outcomes.push(outcome);
        }
        if self.connection.is_autocommit() {
            // SQLite gave the whole transaction up, as it does when a disk is full.
            let first = outcomes.into_iter().find_map(Result::err);
            return all(first.unwrap_or_else(given_up));
        }
        match self.run_sql("COMMIT") {
            Ok(()) => outcomes,
            Err(error) => {
                let error = self.failed(&error);
                if !self.connection.is_autocommit() {
                    let _ = self.run_sql("ROLLBACK");
                }
                all(error)
            }
        }
    }

    fn apply(&self, unit: &Unit) -> Result<(), StoreError> {
        if self.connection.is_autocommit() {
            return Err(given_up());
        }
        let applied = self.run_sql("SAVEPOINT batch").and_then(|()| {
            let mut writes = unit.writes.iter();
            writes.try_for_each(|write| write::apply(&self.connection, unit.row, write))?;
            self.run_sql("RELEASE batch")
        });
        applied.map_err(|error| {
            let error = self.failed(&error);
            if !self.connection.is_autocommit() {
                let _ = self.run_sql("ROLLBACK TO batch");
                let _ = self.run_sql("RELEASE batch");
            }
            error
        })
    }

    fn run_sql(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(|_| ())
    }

    fn failed(&self, error: &rusqlite::Error) -> StoreError {
        failed(&format!("write to {}", self.path), error)
    }
}

fn given_up() -> StoreError {
    StoreError::new(StoreErrorKind::Other, "the transaction was given up")
}
