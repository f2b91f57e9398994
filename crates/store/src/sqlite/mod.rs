//! The embedded engine: one SQLite file, one writing thread, a few readers.

mod apply;
mod channels;
mod chats;
pub mod contents;
pub mod copy;
mod enqueue;
mod events;
mod joins;
mod messages;
mod new_chats;
mod queue;
mod receipts;
mod recipients;
mod sessions;
mod transaction;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use recado_domain::channel::{ChannelKey, Held};
use recado_domain::message::Seq;
use recado_domain::queue::ChannelQueue;
use rusqlite::Connection;
use rusqlite_migration::M;
use tokio::sync::watch;

use crate::commits::{Change, Follow, Reached};
use crate::common::webhooks::tidy;
use crate::shares::Shares;
use crate::sqlkit::both::at_once;
use crate::sqlkit::sqlite::readers::Readers;
use crate::sqlkit::sqlite::tail::{self, Tail};
pub use crate::sqlkit::sqlite::writer::WAITING;
use crate::sqlkit::sqlite::writer::{Owned, Writer};
use crate::sqlkit::sqlite::{connect, migrate};
use crate::{Health, Result, Store, StoreError, Turns};

const MIGRATIONS: &[M<'static>] = &[
    M::up(include_str!("../../../../migrations/sqlite/0001_first.sql")),
    M::up(include_str!("../../../../migrations/sqlite/0002_finished.sql")),
    M::up(include_str!("../../../../migrations/sqlite/0003_links.sql")),
    M::up(include_str!("../../../../migrations/sqlite/0004_recipients.sql")),
    M::up(include_str!("../../../../migrations/sqlite/0005_whatsapp_web.sql")),
    M::up(include_str!("../../../../migrations/sqlite/0006_lives.sql")),
    M::up(include_str!("../../../../migrations/sqlite/0007_parents.sql")),
    M::up(include_str!("../../../../migrations/sqlite/0008_default_country.sql")),
    M::up(include_str!("../../../../migrations/sqlite/0009_logins.sql")),
    M::up(include_str!("../../../../migrations/sqlite/0010_people.sql")),
    M::up(include_str!("../../../../migrations/sqlite/0011_sessions.sql")),
    M::up(include_str!("../../../../migrations/sqlite/0012_events.sql")),
    M::up(include_str!("../../../../migrations/sqlite/0013_hidden_ids.sql")),
    M::up(include_str!("../../../../migrations/sqlite/0014_message_events.sql")),
    M::up(include_str!("../../../../migrations/sqlite/0015_kinds.sql")),
    M::up(include_str!("../../../../migrations/sqlite/0016_schedule.sql")),
    M::up(include_str!("../../../../migrations/sqlite/0017_fair_schedule.sql")),
    M::up(include_str!("../../../../migrations/sqlite/0018_event_stream.sql")),
    M::up(include_str!("../../../../migrations/sqlite/0019_webhooks.sql")),
    M::up(include_str!("../../../../migrations/sqlite/0020_inbox.sql")),
    M::up(include_str!("../../../../migrations/sqlite/0021_sandbox_incoming.sql")),
    M::up(include_str!("../../../../migrations/sqlite/0022_read_signals.sql")),
    M::up(include_str!("../../../../migrations/sqlite/0023_outgoing.sql")),
    M::up(include_str!("../../../../migrations/sqlite/0024_latest_of_chat.sql")),
    M::up(include_str!("../../../../migrations/sqlite/0025_people.sql")),
    M::up(include_str!("../../../../migrations/sqlite/0026_contents.sql")),
    M::up(include_str!("../../../../migrations/sqlite/0027_contents_of_channel.sql")),
    M::up(include_str!("../../../../migrations/sqlite/0028_fewer_indexes.sql")),
    M::up(include_str!("../../../../migrations/sqlite/0029_refused_arrivals.sql")),
    M::up(include_str!("../../../../migrations/sqlite/0030_unfinished.sql")),
];

/// The version of the tables of this build, in SQLite's `user_version`.
pub const SCHEMA_VERSION: usize = MIGRATIONS.len();

/// The cached state of a channel, so that accepting a message reads no further table.
#[derive(Debug, Clone, Copy)]
struct CachedChannel {
    queue: ChannelQueue,
    /// The number of open messages, without those that were queued before the channel was deleted.
    open: usize,
}

/// The state of the writing thread.
pub(crate) struct Writing {
    pub(crate) connection: Connection,
    queues: HashMap<ChannelKey, CachedChannel>,
    /// The highest number that a message was given. No number is given twice while this process runs: a late outcome of
    /// an erased message must not find another message.
    last_seq: Seq,
    /// The changes to report after the commit.
    changes: Vec<Change>,
    /// The statuses that messages reached, and the states that channels reached, to report after the commit.
    reached: Vec<Reached>,
    /// How many of them the present call did not cause.
    reached_before: usize,
}

impl Owned for Writing {
    const NOTICES_LOST_LOG: bool = true;

    fn open(path: &Path) -> rusqlite::Result<Self> {
        let mut connection = connect(path, "full")?;
        migrate(&mut connection, MIGRATIONS)?;
        let queues = channels::queues(&connection)?;
        // Also past messages that a deletion cancelled: a new message must not count as one of them.
        let last = "SELECT max(ifnull((SELECT max(seq) FROM messages), 0), -ifnull((SELECT min(seq) FROM messages), 0),
                        ifnull(max(cancel_before), 0)) FROM channels";
        let last_seq = connection.query_row(last, [], |row| row.get(0))?;
        Ok(Self { connection, queues, last_seq, changes: Vec::new(), reached: Vec::new(), reached_before: 0 })
    }

    fn connection(&self) -> &Connection {
        &self.connection
    }

    fn call_begins(&mut self) {
        self.reached_before = self.reached.len();
    }

    fn rolled_back(&mut self) -> rusqlite::Result<()> {
        self.reached.truncate(self.reached_before);
        self.queues = channels::queues(&self.connection)?;
        Ok(())
    }

    fn drain_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    fn drain_reached(&mut self) -> Vec<Reached> {
        self.reached_before = 0;
        std::mem::take(&mut self.reached)
    }
}

impl Writing {
    /// A channel's queue. Every channel has one.
    fn queue(&mut self, key: ChannelKey) -> Option<&mut ChannelQueue> {
        self.queues.get_mut(&key).map(|known| &mut known.queue)
    }

    /// Reports a change to the follower after the commit. A change of a call that is rolled back may be reported too:
    /// the follower then reads the old state.
    fn notify(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// Whether this is the channel's session.
    fn has(&self, held: Held) -> bool {
        self.queues.get(&held.channel).is_some_and(|known| known.queue.session == held.session)
    }

    fn opens_chats(&self, key: ChannelKey) -> bool {
        self.queues.get(&key).is_some_and(|known| known.queue.opens_chats)
    }
}

/// A value in the file that this version does not understand.
fn not_understood(what: &str) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(format!("the store holds a {what} that this version does not know").into())
}

/// How many writes of the calls of one owner stand in the line of the writing thread. Accepted messages do not count.
const WRITES: usize = 8;

/// The embedded store.
pub struct SqliteStore {
    writer: Writer<Writing>,
    /// What calls may write.
    writes: Shares,
    pub(crate) readers: Arc<Readers>,
}

impl SqliteStore {
    /// Opens the file, or creates it. Deliveries that were in flight in a former process are sent again. Fails if the log of a
    /// former process was lost.
    pub fn open(path: &Path) -> Result<Self> {
        if path.exists() {
            tail::check(path).map_err(|lost| StoreError::Unavailable(lost.to_string()))?;
        }
        // From here on the log may be merged and removed.
        Tail::of(path).clear();
        release_deliveries(path).map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let writer = Writer::start(path.to_owned())
            .map_err(|error: rusqlite::Error| StoreError::Unavailable(error.to_string()))?;
        let readers = Readers::new(path.to_owned(), writer.health());
        Ok(Self { writer, writes: Shares::new(WAITING, WRITES), readers })
    }

    /// Runs a write. That of a call waits for the share of its owner first: some writes take long, such as that of a contact,
    /// and the thread runs all that wait in the order of their arrival.
    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Writing) -> rusqlite::Result<T> + Send + 'static,
    {
        let _share = self.writes.acquire().await?;
        self.writer.run(work).await
    }
}

/// Not in [`Writing::open`], which also opens the file again while this process has deliveries in flight.
fn release_deliveries(path: &Path) -> rusqlite::Result<()> {
    let mut connection = connect(path, "full")?;
    migrate(&mut connection, MIGRATIONS)?;
    at_once(tidy::release_all(&connection))
}

impl Turns for SqliteStore {}

#[async_trait]
impl Store for SqliteStore {
    fn health(&self) -> watch::Receiver<Health> {
        self.writer.health()
    }

    fn writes_waiting(&self) -> usize {
        self.writer.waiting()
    }

    fn follow(&self, follow: Arc<dyn Follow>) {
        self.writer.follower().set(follow);
    }

    async fn reach_writer(&self) -> Result<()> {
        self.writer.reach().await
    }

    async fn forget_erased(&self) -> Result<bool> {
        self.writer.empty_log().await
    }

    async fn close(&self) {
        self.readers.close();
        self.writer.close().await;
    }
}

#[cfg(test)]
mod tests;
