//! Every durable operation of the gateway, on one page. Each port is a trait with the operations that one part of the
//! gateway needs. Both engines implement all ports.
//!
//! When an operation returns `Ok`, its result is on disk. When it returns
//! [`Unavailable`](crate::StoreError::Unavailable), the change may be stored or not. The caller then asks again when
//! the store is back, by the message's id or by the idempotency key.

use std::sync::Arc;

use async_trait::async_trait;
use recado_domain::account::KnownAccount;
use recado_domain::api_key::Environment;
use recado_domain::channel::{
    Actor, Channel, ChannelEventPage, ChannelEventQuery, ChannelKey, ChannelMove, ChannelSettings, ChannelState, Held,
    Link, LoginLimits, NewChannel, SessionChange, SessionKey, SessionOf, SessionRow,
};
use recado_domain::clock::Millis;
use recado_domain::event::{EventPage, EventQuery};
use recado_domain::ids::{ApiKeyId, InstitutionId, MessageId};
use recado_domain::institution::{ApiKey, Institution};
use recado_domain::message::{
    Cancelled, Enqueued, Idempotency, Message, MessageQuery, NewMessage, Page, Promoted, Seq,
};
use recado_domain::party::Party;
use recado_domain::phone::DefaultCountry;
use recado_domain::queue::{Claim, ClaimRequest, Outcomes, PurgeRequest, Receipt};
use tokio::sync::watch;

use crate::commits::Follow;
use crate::person::{Erased, Erasure, PersonPage, PersonQuery};
use crate::{Health, Result, StoreError};

/// The engine: all ports together, for the one place that builds the gateway.
#[async_trait]
pub trait Store:
    Tenants + Channels + Events + Links + Sessions + Accounts + Queue + Schedule + Receipts + Messages + Privacy
{
    /// Whether the store works. The receiver is notified of changes.
    fn health(&self) -> watch::Receiver<Health>;
    /// Sets the follower of commits. The store notifies it after the commit and before the caller gets the answer: of
    /// every accepted message, and of every change of an institution, a key or a channel.
    fn follow(&self, follow: Arc<dyn Follow>);
    /// Removes erased data from the files beside the tables. `false` if a reader still needs them, or if the engine
    /// cannot do it.
    async fn forget_erased(&self) -> Result<bool>;
    /// Writes everything that is still in memory, and closes the files.
    async fn close(&self);
}

/// Institutions and their API keys.
#[async_trait]
pub trait Tenants: Send + Sync + 'static {
    /// All institutions, oldest first.
    async fn institutions(&self) -> Result<Vec<Institution>>;
    /// Adds an institution.
    async fn create_institution(&self, institution: Institution) -> Result<()>;
    /// Sets the default country of an institution. `false` if there is no such institution.
    async fn set_default_country(&self, id: InstitutionId, country: DefaultCountry) -> Result<bool>;
    /// All keys, oldest first, including revoked keys.
    async fn api_keys(&self) -> Result<Vec<ApiKey>>;
    /// Adds a key.
    async fn create_api_key(&self, key: ApiKey) -> Result<()>;
    /// Revokes a key. A revoked key keeps the time of its first revocation.
    async fn revoke_api_key(&self, id: ApiKeyId, now: Millis) -> Result<()>;
    /// Records when keys were last used.
    async fn touch_api_keys(&self, used: Vec<(ApiKeyId, Millis)>) -> Result<()>;
}

/// Channels, their states, and their history.
#[async_trait]
pub trait Channels: Send + Sync + 'static {
    /// All channels, oldest first, including deleted channels.
    async fn channels(&self) -> Result<Vec<Channel>>;
    /// A page of the channels of an institution after `after`, oldest first, without deleted channels.
    async fn channels_of(
        &self,
        owner: (InstitutionId, Environment),
        after: ChannelKey,
        limit: usize,
    ) -> Result<Vec<Channel>>;
    /// One channel.
    async fn channel(&self, key: ChannelKey) -> Result<Option<Channel>>;
    /// Creates a channel, or restores a deleted channel of the same id and type with an empty queue. `None` if the id
    /// is in use.
    async fn create_channel(&self, channel: NewChannel) -> Result<Option<Channel>>;
    /// Moves a channel from the expected state, and records the move. `false` if the channel was in another state, or
    /// is deleted.
    ///
    /// The end time of a restriction survives `Paused` and a lost connection, and every other state but `Restricted`
    /// clears it. So a driver that reconnects must ask for `Restricted` until that time.
    async fn move_channel(&self, key: ChannelKey, to: ChannelMove) -> Result<bool>;
    /// The same for a state that a driver reports. Refused if this node does not hold the lease of this epoch. `false`
    /// also if the channel has another session now.
    async fn move_held_channel(&self, held: Held, to: ChannelMove) -> Result<bool>;
    /// Changes a channel's name and settings. `false` if the channel is deleted.
    async fn update_channel(&self, key: ChannelKey, name: String, settings: ChannelSettings) -> Result<bool>;
    /// Restricts a channel: it opens no chats until this time. A later end that is already stored stays. A connected
    /// channel becomes `Restricted` with this reason; a paused or disconnected channel keeps its state. `false` if
    /// there is nothing to restrict.
    async fn restrict_channel(&self, key: ChannelKey, until: Millis, reason: String, now: Millis) -> Result<bool>;
    /// Sends nothing on the channel before this time. A later time that is already stored stays.
    async fn defer_channel(&self, channel: ChannelKey, until: Millis) -> Result<()>;
    /// Marks a channel as deleted: it accepts and dispatches nothing more. Queued messages are never sent, even if the
    /// channel is created again. The link, the session and the known accounts of the channel are deleted.
    async fn delete_channel(&self, key: ChannelKey, by: Actor, now: Millis) -> Result<()>;
    /// A page of the history of a channel, newest first.
    async fn channel_events(&self, query: ChannelEventQuery) -> Result<ChannelEventPage>;
}

/// Events of channels and messages, for readers of all events.
#[async_trait]
pub trait Events: Send + Sync + 'static {
    /// Starts or stops recording events of the messages of an institution. `false` if there is no such institution.
    /// Accepting a message takes no lock for this, so a message that is accepted at the same moment may lack its first
    /// event.
    async fn record_messages(&self, owner: (InstitutionId, Environment), on: bool) -> Result<bool>;
    /// Creates a reader. A reader remembers which numbers are still uncommitted, so keep it between calls.
    fn event_reader(&self) -> Box<dyn EventReader>;
}

/// Reads events in the order of their numbers. A reader never passes a number whose event commits later, so a caller
/// that continues after the last cursor sees each event once.
#[async_trait]
pub trait EventReader: Send {
    /// The next events after a cursor. `None` if the cursor is ahead of the store: it comes from another store, or from
    /// before a backup was restored. Cancelling the call loses nothing.
    async fn read(&mut self, query: EventQuery) -> Result<Option<EventPage>>;
}

/// How channels are linked to their networks.
#[async_trait]
pub trait Links: Send + Sync + 'static {
    /// The links of all channels that are not deleted, oldest channel first.
    async fn links(&self) -> Result<Vec<Link>>;
    /// The link of a channel.
    async fn link(&self, channel: ChannelKey) -> Result<Option<Link>>;
    /// Writes or replaces a channel's link, and moves the channel from the expected state to `Connected`. `false` if
    /// the channel was in another state, or is deleted; then nothing is written.
    ///
    /// If the link leads to another phone number, messages that may have arrived from the former number become
    /// `UNKNOWN`, and `UNKNOWN` messages are not sent again.
    async fn link_channel(&self, link: Link, expected: ChannelState, by: Actor, now: Millis) -> Result<bool>;
    /// The same for a link that a driver reports. Refused if this node does not hold the lease of this epoch. A
    /// `Paused` channel stays paused. `false` also if the channel has another session now.
    async fn link_held_channel(&self, link: Link, held: Held, expected: ChannelState, now: Millis) -> Result<bool>;
    /// Replaces the sealed bytes of a link. `false` if the stored bytes differ from `old`, or if there is no link.
    async fn reseal_link(&self, channel: ChannelKey, old: Vec<u8>, new: Vec<u8>) -> Result<bool>;
    /// Forbids the channel's session to log in before this time. A later time that is already stored stays. A new link
    /// removes the ban.
    async fn ban_link(&self, channel: ChannelKey, until: Millis) -> Result<()>;
    /// Records that the channel's session has logged in.
    async fn note_login(&self, channel: ChannelKey, at: Millis) -> Result<()>;
    /// When the channel's session may log in again.
    async fn login_limits(&self, channel: ChannelKey) -> Result<LoginLimits>;
}

/// Sessions of linked devices, sealed row by row.
#[async_trait]
pub trait Sessions: Send + Sync + 'static {
    /// Sealed values of a session, in the order of `keys`.
    async fn session_values(&self, of: SessionOf, kind: u8, keys: Vec<Vec<u8>>) -> Result<Vec<Option<Vec<u8>>>>;
    /// Keys and sealed values of a kind whose keys begin with `prefix`, in the order of the keys.
    async fn session_list(&self, of: SessionOf, kind: u8, prefix: Vec<u8>) -> Result<Vec<(Vec<u8>, Vec<u8>)>>;
    /// Makes all of these changes or none, and returns how many rows were deleted. Refused if the channel is deleted,
    /// if it has another session now, or if the epoch is old.
    async fn write_session(&self, held: Held, changes: Vec<SessionChange>) -> Result<u64>;
    /// Deletes all rows of a channel's session, and increments the session number of the channel. Does nothing if the
    /// channel has another session now. Refused if the epoch is old.
    async fn end_session(&self, held: Held) -> Result<()>;
    /// A page of the rows of all sessions, after `after`.
    async fn session_rows(&self, after: Option<SessionKey>, limit: usize) -> Result<Vec<SessionRow>>;
    /// Replaces the sealed bytes of a row. `false` if the stored row differs from `old`, or if there is no row.
    async fn reseal_session_row(&self, old: SessionRow, new: Vec<u8>) -> Result<bool>;
}

/// What the network reported about phone numbers, and which recipients are known.
#[async_trait]
pub trait Accounts: Send + Sync + 'static {
    /// What the network last reported about a phone number.
    async fn known_account(&self, channel: ChannelKey, phone: String) -> Result<Option<KnownAccount>>;
    /// Stores what the network reported about a phone number; `None`: the number is not on WhatsApp. If the account
    /// belongs to a known recipient, messages that waited for the new-chat limit can be sent, and the commit wakes the
    /// dispatcher.
    async fn note_account(&self, channel: ChannelKey, phone: String, account: Option<Party>, now: Millis)
    -> Result<()>;
    /// Stores that a person wrote to the channel, under every name that a message can give this person: the person is a
    /// known recipient from now on. Returns whether the person was new. Then messages that waited for the new-chat
    /// limit can be sent, and the commit wakes the dispatcher.
    async fn note_chat(&self, channel: ChannelKey, who: Party) -> Result<bool>;
    /// Recipients of queued messages about whom the network was never asked: each once, in queue order, at most
    /// `limit`. Empty if the person with this hidden id is known. Only the first part of a long queue is scanned.
    async fn unasked_recipients(&self, channel: ChannelKey, lid: String, limit: u32) -> Result<Vec<String>>;
    /// The account of a phone number, as the network named it for the last message that was sent there.
    async fn account(&self, channel: ChannelKey, recipient: String) -> Result<Option<String>>;
}

/// Accepting, claiming and settling messages.
#[async_trait]
pub trait Queue: Send + Sync + 'static {
    /// Stores a message at the end of its channel's queue, with its idempotency key, in one transaction.
    async fn enqueue(&self, message: NewMessage) -> Result<Enqueued>;
    /// Claims the next messages of a channel, and ends messages that have expired or that were queued before the
    /// channel was deleted.
    async fn claim(&self, request: ClaimRequest) -> Result<Claim>;
    /// Stores the outcomes of claimed messages. If a receipt has moved a message in the meantime, the message keeps
    /// that state.
    async fn settle(&self, outcomes: Outcomes) -> Result<()>;
    /// Settles, then claims, with one commit if possible. If one of the two fails, the other is still done.
    async fn settle_and_claim(&self, outcomes: Outcomes, request: ClaimRequest) -> (Result<()>, Result<Claim>);
    /// Cancels a message that is still queued.
    async fn cancel(&self, channel: ChannelKey, id: MessageId, now: Millis) -> Result<Cancelled>;
    /// Cancels messages that were queued before the channel was deleted, oldest first, at most `limit`. Returns how
    /// many there were. Messages that were queued since the channel was created again stay.
    async fn cancel_former(&self, key: ChannelKey, limit: usize, now: Millis) -> Result<usize>;
    /// The channels that have open messages.
    async fn open_channels(&self) -> Result<Vec<ChannelKey>>;
}

/// Messages that enter the queue at a later time.
#[async_trait]
pub trait Schedule: Send + Sync + 'static {
    /// Puts a batch of due messages into their queues; the commit wakes the dispatcher. Cancels messages that were
    /// scheduled before their channel was deleted.
    async fn promote(&self, now: Millis) -> Result<Promoted>;
    /// The time by the store's own clock, if it has one: messages of several nodes are due by the same clock.
    async fn clock(&self) -> Result<Option<Millis>>;
}

/// Receipts of one write. Other writes can run between two batches.
const RECEIPTS_AT_ONCE: usize = 250;

/// Reports of the network about messages that were sent.
#[async_trait]
pub trait Receipts: Send + Sync + 'static {
    /// Applies receipts to their messages. A late, repeated or unknown receipt changes nothing; nor does a receipt from
    /// a person who is not the recipient. A receipt is never dated before the first attempt of its message.
    ///
    /// A receipt with a network id that no message has yet is kept for a while: the answer that brings this id may
    /// still be on its way.
    async fn apply_receipts(&self, receipts: Vec<Receipt>, now: Millis) -> Result<()>;

    /// Applies any number of receipts, none dated later than now. The network may forget them only when this returns
    /// `Ok`. A receipt that the store refuses is dropped with an error in the log: it would be refused each time, and
    /// the other receipts of the callback or session must not wait for it.
    async fn record_receipts(&self, receipts: &[Receipt], now: Millis) -> Result<()> {
        for some in receipts.chunks(RECEIPTS_AT_ONCE) {
            let dated = some.iter().map(|receipt| Receipt { at: receipt.at.min(now), ..receipt.clone() });
            let some: Vec<_> = dated.collect();
            match self.apply_receipts(some.clone(), now).await {
                Err(StoreError::Refused(_)) => {}
                recorded => {
                    recorded?;
                    continue;
                }
            }
            for receipt in some {
                let channel = receipt.channel;
                match self.apply_receipts(vec![receipt], now).await {
                    Err(StoreError::Refused(reason)) => {
                        tracing::error!(channel.key = channel, error = reason, "receipt dropped: store refused it");
                    }
                    recorded => recorded?,
                }
            }
        }
        Ok(())
    }
}

/// Reading messages.
#[async_trait]
pub trait Messages: Send + Sync + 'static {
    /// One message of a channel.
    async fn message(&self, channel: ChannelKey, id: MessageId) -> Result<Option<Message>>;
    /// A message to this recipient by its network id, Recado's or the network's own, among the newest 200 of the chat.
    async fn message_of_network(
        &self,
        channel: ChannelKey,
        recipient: String,
        network_id: String,
    ) -> Result<Option<Message>>;
    /// The result of an earlier call with this idempotency key: it was accepted, or it had other content. `None` if
    /// there was no earlier call.
    async fn earlier_use(&self, key: Idempotency) -> Result<Option<Enqueued>>;
    /// A page of a channel's messages. `None` if `before` is no message of the channel.
    async fn messages(&self, query: MessageQuery) -> Result<Option<Page>>;
}

/// Deleting old data, and the data that is stored about one person.
#[async_trait]
pub trait Privacy: Send + Sync + 'static {
    /// A page of the data that is stored about a person.
    async fn person(&self, query: PersonQuery) -> Result<PersonPage>;
    /// Erases a batch of the data of a person. Data that is already gone is no error.
    async fn erase_person(&self, erasure: Erasure, now: Millis) -> Result<Erased>;
    /// Deletes a batch of old data. Returns where the next batch begins; `None` if nothing is left.
    async fn purge(&self, request: PurgeRequest) -> Result<Option<Seq>>;
}
