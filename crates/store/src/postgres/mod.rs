//! The shared engine: one PostgreSQL database for any number of nodes.
//!
//! Nothing of the queue is kept in memory between two operations, because another node may have changed it. What would
//! collide is ordered by the channel's row: whoever changes which of its messages is next locks that row first.

mod accepting;
mod accounts;
mod apply;
mod channels;
mod chats;
mod claim;
pub mod condition;
mod enqueue;
mod events;
mod gate;
pub mod import;
mod links;
mod listener;
mod lock;
mod messages;
mod migrations;
mod nodes;
mod person;
mod purge;
mod queue;
mod receipts;
mod recipients;
mod sessions;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod two_nodes;

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
use recado_domain::queue::{Claim, ClaimRequest, Outcomes, PurgeRequest, Receipt};
use tokio::sync::watch;

use super::commits::{Change, Follow, Follower};
use super::person::{Erased, Erasure, PersonPage, PersonQuery};
use super::{Result, Store};
use crate::sqlkit::postgres::db::{plainly, transaction};
use crate::sqlkit::postgres::pool::{Database, Pool};
use crate::{Health, StoreError};
use accepting::Accepting;
#[cfg(feature = "fixtures")]
pub(crate) use migrations::MIGRATIONS_TEXT;
pub use migrations::{SCHEMA_VERSION, migrate, upgrade};

/// The store that nodes share.
pub struct PgStore {
    database: Arc<Database>,
    pool: Pool,
    /// For what callers wait for before their message is stored; claims, which are many, must not stand before that.
    calls: Pool,
    /// For what nodes have to agree on: channels that change hands, notices.
    coordination: Pool,
    /// For the lease alone: one that is renewed late is lost.
    lease: Pool,
    accepting: Accepting,
    follower: Follower,
    direct_url: String,
}

/// Connections for what callers wait for: one stores what is accepted, the others look for accounts and draw from limits.
const CALLS: usize = 3;
/// Connections for what nodes have to agree on.
const COORDINATION: usize = 2;
/// And that for the lease.
const LEASE: usize = 1;

impl PgStore {
    /// Connects; the tables must be there. The direct URL leads to the database itself, where the other one leads to a
    /// pooler; where both are the same there is none between.
    pub async fn open(url: &str, direct_url: &str, connections: usize) -> anyhow::Result<Self> {
        let database = Database::new(url, url == direct_url)?;
        let pool = database.pool(connections)?;
        migrations::check(&pool).await?;
        let (coordination, lease) = (database.pool(COORDINATION)?, database.pool(LEASE)?);
        let calls = database.pool(CALLS)?;
        let follower = Follower::default();
        let accepting = Accepting::start(calls.clone(), follower.clone());
        Ok(Self { database, pool, calls, coordination, lease, accepting, follower, direct_url: direct_url.to_owned() })
    }

    /// Tells of a channel that was changed, as it stands now. Where it cannot be read, the next look at the version of the
    /// directory finds the change.
    async fn tell_channel(&self, key: ChannelKey) {
        if let Ok(Some(channel)) = self.channel(key).await {
            self.follower.tell(vec![Change::Channel(Box::new(channel))]);
        }
    }

    /// The database, for connections of the sandbox's network.
    pub fn database(&self) -> &Arc<Database> {
        &self.database
    }
}

#[async_trait]
impl Store for PgStore {
    fn health(&self) -> watch::Receiver<Health> {
        self.database.health()
    }

    fn follow(&self, follow: Arc<dyn Follow>) {
        self.follower.set(follow);
    }

    async fn institutions(&self) -> Result<Vec<Institution>> {
        plainly!(self.pool, db => accounts::institutions(db))
    }

    async fn create_institution(&self, institution: Institution) -> Result<()> {
        let (id, country) = (institution.id, institution.default_country);
        let created: Result<()> = transaction!(self.pool, db => accounts::create_institution(db, &institution).await);
        created.inspect(|()| self.follower.tell(vec![Change::DefaultCountry(id, country)]))
    }

    async fn set_default_country(&self, id: InstitutionId, country: DefaultCountry) -> Result<bool> {
        let found: bool = transaction!(self.pool, db => accounts::set_default_country(db, id, country).await)?;
        if found {
            self.follower.tell(vec![Change::DefaultCountry(id, country)]);
        }
        Ok(found)
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>> {
        plainly!(self.pool, db => accounts::api_keys(db))
    }

    async fn create_api_key(&self, key: ApiKey) -> Result<()> {
        let created: Result<()> = transaction!(self.pool, db => accounts::create_api_key(db, &key).await);
        created.inspect(|()| self.follower.tell(vec![Change::Key(Box::new(key))]))
    }

    async fn revoke_api_key(&self, id: ApiKeyId, now: Millis) -> Result<()> {
        let revoked: Result<()> = transaction!(self.pool, db => accounts::revoke_api_key(db, id, now).await);
        revoked.inspect(|()| self.follower.tell(vec![Change::Revoked(id)]))
    }

    async fn touch_api_keys(&self, used: Vec<(ApiKeyId, Millis)>) -> Result<()> {
        plainly!(self.pool, db => accounts::touch_api_keys(db, &used))
    }

    async fn channels(&self) -> Result<Vec<Channel>> {
        plainly!(self.pool, db => channels::all(db))
    }

    async fn channels_of(
        &self,
        owner: (InstitutionId, Environment),
        after: ChannelKey,
        limit: usize,
    ) -> Result<Vec<Channel>> {
        plainly!(self.pool, db => channels::page(db, owner, after, limit))
    }

    async fn channel(&self, key: ChannelKey) -> Result<Option<Channel>> {
        plainly!(self.pool, db => channels::one(db, key))
    }

    async fn create_channel(&self, channel: NewChannel) -> Result<Option<Channel>> {
        let created: Result<Option<Channel>> = transaction!(self.pool, db => channels::create(db, &channel).await);
        created.inspect(|channel| {
            self.follower.tell(channel.iter().map(|channel| Change::Channel(Box::new(channel.clone()))).collect());
        })
    }

    async fn move_channel(&self, key: ChannelKey, to: ChannelMove) -> Result<bool> {
        let moved: Result<bool> = transaction!(self.pool, db => channels::move_to(db, key, &to).await);
        moved.inspect(|_| self.follower.tell(vec![Change::Work(key)]))
    }

    async fn move_held_channel(&self, held: Held, to: ChannelMove) -> Result<bool> {
        transaction!(self.pool, db => channels::move_held(db, held, &to).await)
    }

    async fn update_channel(&self, key: ChannelKey, name: String, settings: ChannelSettings) -> Result<bool> {
        let updated: bool = transaction!(self.pool, db => channels::update(db, key, &name, settings).await)?;
        self.tell_channel(key).await;
        Ok(updated)
    }

    async fn restrict_channel(&self, key: ChannelKey, until: Millis, reason: String, now: Millis) -> Result<bool> {
        transaction!(self.pool, db => match lock::lock(db, key).await? {
            Some(mut locked) => channels::restrict(db, &mut locked, until, &reason, now).await,
            None => Ok(false),
        })
    }

    async fn delete_channel(&self, key: ChannelKey, by: Actor, now: Millis) -> Result<()> {
        let () = transaction!(self.pool, db => channels::delete(db, key, by, now).await)?;
        self.tell_channel(key).await;
        Ok(())
    }

    async fn channel_events(&self, query: ChannelEventQuery) -> Result<ChannelEventPage> {
        plainly!(self.pool, db => events::of_channel(db, query))
    }

    async fn links(&self) -> Result<Vec<Link>> {
        plainly!(self.pool, db => links::all(db))
    }

    async fn link(&self, channel: ChannelKey) -> Result<Option<Link>> {
        plainly!(self.pool, db => links::one(db, channel))
    }

    async fn link_channel(&self, link: Link, expected: ChannelState, by: Actor, now: Millis) -> Result<bool> {
        let channel = link.channel;
        let linked: Result<bool> = transaction!(self.pool, db => links::link(db, &link, expected, by, now).await);
        linked.inspect(|_| self.follower.tell(vec![Change::Work(channel)]))
    }

    async fn link_held_channel(&self, link: Link, held: Held, expected: ChannelState, now: Millis) -> Result<bool> {
        let channel = link.channel;
        let linked: Result<bool> =
            transaction!(self.pool, db => links::link_held(db, &link, held, expected, now).await);
        linked.inspect(|_| self.follower.tell(vec![Change::Work(channel)]))
    }

    async fn reseal_link(&self, channel: ChannelKey, old: Vec<u8>, new: Vec<u8>) -> Result<bool> {
        transaction!(self.pool, db => links::reseal(db, channel, &old, &new).await)
    }

    async fn session_values(&self, of: SessionOf, kind: u8, keys: Vec<Vec<u8>>) -> Result<Vec<Option<Vec<u8>>>> {
        plainly!(self.pool, db => sessions::values(db, (of, kind), &keys))
    }

    async fn session_list(&self, of: SessionOf, kind: u8, prefix: Vec<u8>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        plainly!(self.pool, db => sessions::list(db, (of, kind), &prefix))
    }

    async fn write_session(&self, held: Held, changes: Vec<SessionChange>) -> Result<u64> {
        transaction!(self.pool, db => sessions::write(db, held, &changes).await)
    }

    async fn end_session(&self, held: Held) -> Result<()> {
        transaction!(self.pool, db => sessions::end_held(db, held).await)
    }

    async fn session_rows(&self, after: Option<SessionKey>, limit: usize) -> Result<Vec<SessionRow>> {
        plainly!(self.pool, db => sessions::page(db, after.as_ref(), limit))
    }

    async fn reseal_session_row(&self, old: SessionRow, new: Vec<u8>) -> Result<bool> {
        plainly!(self.pool, db => sessions::reseal(db, &old, &new))
    }

    async fn known_account(&self, channel: ChannelKey, phone: String) -> Result<Option<KnownAccount>> {
        plainly!(self.calls, db => chats::known_account(db, channel, &phone))
    }

    async fn note_account(
        &self,
        channel: ChannelKey,
        phone: String,
        account: Option<Party>,
        now: Millis,
    ) -> Result<()> {
        let known: bool =
            transaction!(self.pool, db => chats::note_account(db, (channel, &phone), account.as_ref(), now).await)?;
        if known {
            self.follower.tell(vec![Change::Work(channel)]);
        }
        Ok(())
    }

    async fn note_chat(&self, channel: ChannelKey, who: Party) -> Result<bool> {
        // Most who write have written before.
        let names = who.names();
        let noted: bool = plainly!(self.pool, db => chats::are_noted(db, channel, &names))?;
        if noted {
            return Ok(false);
        }
        let news: Result<bool> = transaction!(self.pool, db => chats::note(db, channel, &names).await);
        news.inspect(|news| {
            if *news {
                self.follower.tell(vec![Change::Work(channel)]);
            }
        })
    }

    async fn unasked_recipients(&self, channel: ChannelKey, lid: String, limit: u32) -> Result<Vec<String>> {
        plainly!(self.pool, db => chats::unasked(db, (channel, &lid), limit))
    }

    async fn cancel_former(&self, key: ChannelKey, limit: usize, now: Millis) -> Result<usize> {
        transaction!(self.pool, db => queue::cancel_former(db, key, limit, now).await)
    }

    async fn enqueue(&self, message: NewMessage) -> Result<Enqueued> {
        self.accepting.accept(message).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Claim> {
        transaction!(self.pool, db => claim::claim(db, &request).await)
    }

    async fn settle(&self, outcomes: Outcomes) -> Result<()> {
        transaction!(self.pool, db => queue::settle(db, &outcomes).await)
    }

    async fn settle_and_claim(&self, outcomes: Outcomes, request: ClaimRequest) -> (Result<()>, Result<Claim>) {
        let both = async { transaction!(self.pool, db => queue::settle_and_claim(db, &outcomes, &request).await) };
        match both.await {
            // One of the two cannot be done, and the other must not fail with it.
            Err(StoreError::Refused(_)) => (self.settle(outcomes).await, self.claim(request).await),
            Err(error) => (Err(error.clone()), Err(error)),
            Ok(claim) => (Ok(()), Ok(claim)),
        }
    }

    async fn ban_link(&self, channel: ChannelKey, until: Millis) -> Result<()> {
        plainly!(self.pool, db => links::ban(db, channel, until))
    }

    async fn note_login(&self, channel: ChannelKey, at: Millis) -> Result<()> {
        plainly!(self.pool, db => links::note_login(db, channel, at))
    }

    async fn link_rest(&self, channel: ChannelKey) -> Result<LinkRest> {
        plainly!(self.pool, db => links::rest(db, channel))
    }

    async fn hold_channel(&self, channel: ChannelKey, until: Millis) -> Result<()> {
        plainly!(self.pool, db => queue::hold(db, channel, until))
    }

    async fn apply_receipts(&self, receipts: Vec<Receipt>, now: Millis) -> Result<()> {
        let left: Vec<Receipt> = plainly!(self.pool, db => receipts::apply_plain(db, &receipts))?;
        if left.is_empty() {
            return Ok(());
        }
        transaction!(self.pool, db => receipts::apply_locked(db, &left, now).await)
    }

    async fn cancel(&self, channel: ChannelKey, id: MessageId, now: Millis) -> Result<Cancelled> {
        let cancelled: Result<Cancelled> = transaction!(self.pool, db => queue::cancel(db, channel, id, now).await);
        cancelled.inspect(|_| self.follower.tell(vec![Change::Work(channel)]))
    }

    async fn open_channels(&self) -> Result<Vec<ChannelKey>> {
        plainly!(self.pool, db => queue::open_channels(db))
    }

    async fn message(&self, channel: ChannelKey, id: MessageId) -> Result<Option<Message>> {
        plainly!(self.pool, db => messages::one(db, channel, id))
    }

    async fn messages(&self, query: MessageQuery) -> Result<Option<Page>> {
        plainly!(self.pool, db => messages::page(db, &query))
    }

    async fn account(&self, channel: ChannelKey, recipient: String) -> Result<Option<String>> {
        plainly!(self.calls, db => messages::account(db, channel, &recipient))
    }

    async fn purge(&self, request: PurgeRequest) -> Result<Option<Seq>> {
        plainly!(self.pool, db => purge::purge(db, &request))
    }

    async fn person(&self, query: PersonQuery) -> Result<PersonPage> {
        plainly!(self.pool, db => person::page(db, &query))
    }

    async fn erase_person(&self, erasure: Erasure, now: Millis) -> Result<Erased> {
        transaction!(self.pool, db => person::erase(db, &erasure, now).await)
    }

    async fn forget_erased(&self) -> Result<bool> {
        // The database's own clearing away comes in its time.
        Ok(false)
    }

    async fn close(&self) {
        self.accepting.close().await;
        self.database.close();
    }
}
