//! The embedded engine: one SQLite file, one writing thread, a few readers.

mod accounts;
mod apply;
mod channels;
mod chats;
mod claim;
pub mod copy;
mod enqueue;
mod events;
mod gate;
mod links;
mod messages;
mod person;
mod purge;
mod queue;
mod receipts;
mod recipients;
mod sessions;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use recado_domain::account::KnownAccount;
use recado_domain::api_key::Environment;
use recado_domain::channel::{
    Actor, Channel, ChannelEventPage, ChannelEventQuery, ChannelKey, ChannelMove, ChannelSettings, ChannelState, Held,
    Link, LinkRest, NewChannel, SessionChange, SessionKey, SessionOf, SessionRow,
};
use recado_domain::clock::Millis;
use recado_domain::ids::{ApiKeyId, InstitutionId, MessageId};
use recado_domain::institution::{ApiKey, Institution};
use recado_domain::message::{Cancelled, Enqueued, Message, MessageQuery, NewMessage, Page, Seq};
use recado_domain::party::Party;
use recado_domain::phone::DefaultCountry;
use recado_domain::queue::{ChannelQueue, Claim, ClaimRequest, Outcomes, PurgeRequest, Receipt};
use rusqlite::Connection;
use rusqlite_migration::M;
use tokio::sync::watch;

use super::commits::{Change, Follow};
use super::person::{Erased, Erasure, PersonPage, PersonQuery};
use super::{Result, Store};
use crate::sqlkit::sqlite::readers::Readers;
pub use crate::sqlkit::sqlite::writer::WAITING;
use crate::sqlkit::sqlite::writer::{Owned, Writer};
use crate::sqlkit::sqlite::{connect, migrate};
use crate::{Health, StoreError};

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
];

/// The version of the tables that this build makes, as SQLite's `user_version` counts it.
pub const SCHEMA_VERSION: usize = MIGRATIONS.len();

/// What the writing thread knows of a channel, so that accepting a message asks no further table.
#[derive(Debug, Clone, Copy)]
struct Known {
    queue: ChannelQueue,
    /// Open messages: the backlog. Not those that were queued before the channel was deleted.
    open: usize,
}

/// What the writing thread owns.
pub(super) struct Writing {
    connection: Connection,
    queues: HashMap<ChannelKey, Known>,
    /// The highest number that a message was given. None is given twice while this process lives: an outcome that is on
    /// its way for a message that was erased must not find another one.
    last_seq: Seq,
    /// What follows the commit.
    changes: Vec<Change>,
}

impl Owned for Writing {
    fn open(path: &Path) -> rusqlite::Result<Self> {
        let mut connection = connect(path, "full")?;
        migrate(&mut connection, MIGRATIONS)?;
        let queues = channels::queues(&connection)?;
        // Also behind those that a deletion has cancelled: a new message must not be taken for one of them.
        let last =
            "select max(ifnull((select max(seq) from messages), 0), ifnull(max(cancel_before), 0)) from channels";
        let last_seq = connection.query_row(last, [], |row| row.get(0))?;
        Ok(Self { connection, queues, last_seq, changes: Vec::new() })
    }

    fn connection(&self) -> &Connection {
        &self.connection
    }

    fn rolled_back(&mut self) -> rusqlite::Result<()> {
        self.queues = channels::queues(&self.connection)?;
        Ok(())
    }

    fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }
}

impl Writing {
    /// A channel's queue. Every channel has one: the foreign key holds messages to channels.
    fn queue(&mut self, key: ChannelKey) -> Option<&mut ChannelQueue> {
        self.queues.get_mut(&key).map(|known| &mut known.queue)
    }

    /// Whoever follows hears of it after the commit. A call that is undone may be told as well: what was not changed is
    /// read as it was before.
    fn tell(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// The same of a channel, as it stands now.
    fn tell_channel(&mut self, key: ChannelKey) -> rusqlite::Result<()> {
        let channel = channels::one(&self.connection, key)?;
        self.changes.extend(channel.map(|channel| Change::Channel(Box::new(channel))));
        Ok(())
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

/// The embedded store.
pub struct SqliteStore {
    writer: Writer<Writing>,
    readers: Arc<Readers>,
}

impl SqliteStore {
    /// Opens the file, making it when there is none.
    pub fn open(path: &Path) -> Result<Self> {
        let writer = Writer::start(path.to_owned())
            .map_err(|error: rusqlite::Error| StoreError::Unavailable(error.to_string()))?;
        let readers = Readers::new(path.to_owned(), writer.health());
        Ok(Self { writer, readers })
    }

    async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Writing) -> rusqlite::Result<T> + Send + 'static,
    {
        self.writer.run(work).await
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn health(&self) -> watch::Receiver<Health> {
        self.writer.health()
    }

    fn follow(&self, follow: Arc<dyn Follow>) {
        self.writer.follower().set(follow);
    }

    async fn institutions(&self) -> Result<Vec<Institution>> {
        self.readers.read(accounts::institutions).await
    }

    async fn create_institution(&self, institution: Institution) -> Result<()> {
        self.write(move |writing| accounts::create_institution(writing, &institution)).await
    }

    async fn set_default_country(&self, id: InstitutionId, country: DefaultCountry) -> Result<bool> {
        self.write(move |writing| accounts::set_default_country(writing, id, country)).await
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>> {
        self.readers.read(accounts::api_keys).await
    }

    async fn create_api_key(&self, key: ApiKey) -> Result<()> {
        self.write(move |writing| accounts::create_api_key(writing, &key)).await
    }

    async fn revoke_api_key(&self, id: ApiKeyId, now: Millis) -> Result<()> {
        self.write(move |writing| accounts::revoke_api_key(writing, id, now)).await
    }

    async fn touch_api_keys(&self, used: Vec<(ApiKeyId, Millis)>) -> Result<()> {
        self.write(move |writing| accounts::touch_api_keys(writing, &used)).await
    }

    async fn channels(&self) -> Result<Vec<Channel>> {
        self.readers.read(channels::all).await
    }

    async fn channels_of(
        &self,
        owner: (InstitutionId, Environment),
        after: ChannelKey,
        limit: usize,
    ) -> Result<Vec<Channel>> {
        self.readers.read(move |connection| channels::page(connection, owner, after, limit)).await
    }

    async fn channel(&self, key: ChannelKey) -> Result<Option<Channel>> {
        self.readers.read(move |connection| channels::one(connection, key)).await
    }

    async fn create_channel(&self, channel: NewChannel) -> Result<Option<Channel>> {
        self.write(move |writing| channels::create(writing, &channel)).await
    }

    async fn move_channel(&self, key: ChannelKey, to: ChannelMove) -> Result<bool> {
        self.write(move |writing| channels::move_to(writing, key, &to)).await
    }

    async fn move_held_channel(&self, held: Held, to: ChannelMove) -> Result<bool> {
        self.write(move |writing| Ok(writing.has(held) && channels::move_to(writing, held.channel, &to)?)).await
    }

    async fn update_channel(&self, key: ChannelKey, name: String, settings: ChannelSettings) -> Result<bool> {
        self.write(move |writing| channels::update(writing, key, &name, settings)).await
    }

    async fn restrict_channel(&self, key: ChannelKey, until: Millis, reason: String, now: Millis) -> Result<bool> {
        self.write(move |writing| channels::restrict(writing, key, until, &reason, now)).await
    }

    async fn delete_channel(&self, key: ChannelKey, by: Actor, now: Millis) -> Result<()> {
        self.write(move |writing| channels::delete(writing, key, by, now)).await
    }

    async fn channel_events(&self, query: ChannelEventQuery) -> Result<ChannelEventPage> {
        self.readers.read(move |connection| events::of_channel(connection, query)).await
    }

    async fn links(&self) -> Result<Vec<Link>> {
        self.readers.read(links::all).await
    }

    async fn link(&self, channel: ChannelKey) -> Result<Option<Link>> {
        self.readers.read(move |connection| links::one(connection, channel)).await
    }

    async fn link_channel(&self, link: Link, expected: ChannelState, by: Actor, now: Millis) -> Result<bool> {
        self.write(move |writing| links::link(writing, &link, (expected, Some(by)), now)).await
    }

    async fn link_held_channel(&self, link: Link, held: Held, expected: ChannelState, now: Millis) -> Result<bool> {
        let linked =
            move |writing: &mut Writing| Ok(writing.has(held) && links::link(writing, &link, (expected, None), now)?);
        self.write(linked).await
    }

    async fn reseal_link(&self, channel: ChannelKey, old: Vec<u8>, new: Vec<u8>) -> Result<bool> {
        self.write(move |writing| links::reseal(writing, channel, &old, &new)).await
    }

    async fn session_values(&self, of: SessionOf, kind: u8, keys: Vec<Vec<u8>>) -> Result<Vec<Option<Vec<u8>>>> {
        self.readers.read(move |connection| sessions::values(connection, (of, kind), &keys)).await
    }

    async fn session_list(&self, of: SessionOf, kind: u8, prefix: Vec<u8>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.readers.read(move |connection| sessions::list(connection, (of, kind), &prefix)).await
    }

    async fn write_session(&self, held: Held, changes: Vec<SessionChange>) -> Result<u64> {
        self.write(move |writing| sessions::write(writing, held, &changes)).await
    }

    async fn end_session(&self, held: Held) -> Result<()> {
        self.write(move |writing| sessions::end(writing, held)).await
    }

    async fn session_rows(&self, after: Option<SessionKey>, limit: usize) -> Result<Vec<SessionRow>> {
        self.readers.read(move |connection| sessions::page(connection, after.as_ref(), limit)).await
    }

    async fn reseal_session_row(&self, old: SessionRow, new: Vec<u8>) -> Result<bool> {
        self.write(move |writing| sessions::reseal(writing, &old, &new)).await
    }

    async fn known_account(&self, channel: ChannelKey, phone: String) -> Result<Option<KnownAccount>> {
        self.readers.read(move |connection| chats::known_account(connection, channel, &phone)).await
    }

    async fn note_account(
        &self,
        channel: ChannelKey,
        phone: String,
        account: Option<Party>,
        now: Millis,
    ) -> Result<()> {
        self.write(move |writing| chats::note_account(writing, (channel, &phone), account.as_ref(), now)).await
    }

    async fn note_chat(&self, channel: ChannelKey, who: Party) -> Result<bool> {
        self.write(move |writing| chats::note(writing, channel, &who)).await
    }

    async fn unasked_recipients(&self, channel: ChannelKey, lid: String, limit: u32) -> Result<Vec<String>> {
        self.readers.read(move |connection| chats::unasked(connection, (channel, &lid), limit)).await
    }

    async fn cancel_former(&self, key: ChannelKey, limit: usize, now: Millis) -> Result<usize> {
        self.write(move |writing| queue::cancel_former(writing, key, limit, now)).await
    }

    async fn enqueue(&self, message: NewMessage) -> Result<Enqueued> {
        self.write(move |writing| enqueue::enqueue(writing, &message)).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Claim> {
        self.write(move |writing| claim::claim(writing, &request)).await
    }

    async fn settle(&self, outcomes: Outcomes) -> Result<()> {
        self.write(move |writing| queue::record(writing, &outcomes)).await
    }

    async fn settle_and_claim(&self, outcomes: Outcomes, request: ClaimRequest) -> (Result<()>, Result<Claim>) {
        // Both are asked before either is answered, in this order, so they share a commit.
        tokio::join!(self.settle(outcomes), self.claim(request))
    }

    async fn ban_link(&self, channel: ChannelKey, until: Millis) -> Result<()> {
        self.write(move |writing| links::ban(writing, channel, until)).await
    }

    async fn note_login(&self, channel: ChannelKey, at: Millis) -> Result<()> {
        self.write(move |writing| links::note_login(writing, channel, at)).await
    }

    async fn link_rest(&self, channel: ChannelKey) -> Result<LinkRest> {
        self.readers.read(move |connection| links::rest(connection, channel)).await
    }

    async fn hold_channel(&self, channel: ChannelKey, until: Millis) -> Result<()> {
        self.write(move |writing| queue::hold(writing, channel, until)).await
    }

    async fn apply_receipts(&self, receipts: Vec<Receipt>, now: Millis) -> Result<()> {
        self.write(move |writing| receipts::apply_receipts(writing, &receipts, now)).await
    }

    async fn cancel(&self, channel: ChannelKey, id: MessageId, now: Millis) -> Result<Cancelled> {
        self.write(move |writing| queue::cancel(writing, channel, id, now)).await
    }

    async fn open_channels(&self) -> Result<Vec<ChannelKey>> {
        self.readers.read(queue::open_channels).await
    }

    async fn message(&self, channel: ChannelKey, id: MessageId) -> Result<Option<Message>> {
        self.readers.read(move |connection| messages::one(connection, channel, id)).await
    }

    async fn messages(&self, query: MessageQuery) -> Result<Option<Page>> {
        self.readers.read(move |connection| messages::page(connection, &query)).await
    }

    async fn account(&self, channel: ChannelKey, recipient: String) -> Result<Option<String>> {
        self.readers.read(move |connection| messages::account(connection, channel, &recipient)).await
    }

    async fn purge(&self, request: PurgeRequest) -> Result<Option<Seq>> {
        self.write(move |writing| purge::purge(writing, &request)).await
    }

    async fn person(&self, query: PersonQuery) -> Result<PersonPage> {
        self.readers.read(move |connection| person::page(connection, &query)).await
    }

    async fn erase_person(&self, erasure: Erasure, now: Millis) -> Result<Erased> {
        self.write(move |writing| person::erase(writing, &erasure, now)).await
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
