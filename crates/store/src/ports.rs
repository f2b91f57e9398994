//! Every durable operation of the gateway, on one page: a port for each part of the gateway that needs some of them.
//!
//! An operation that returned `Ok` is on disk. One that returned [`Unavailable`](crate::StoreError::Unavailable) may have
//! been kept or not: whoever needs to know asks again when the store is back, by the message's id or its idempotency key.

use std::sync::Arc;

use async_trait::async_trait;
use recado_domain::account::KnownAccount;
use recado_domain::api_key::Environment;
use recado_domain::channel::{
    Actor, Channel, ChannelEventPage, ChannelEventQuery, ChannelKey, ChannelMove, ChannelSettings, ChannelState, Held,
    Link, LinkRest, NewChannel, SessionChange, SessionKey, SessionOf, SessionRow,
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

/// The engine under the gateway: all ports, for the one place that puts the gateway together.
#[async_trait]
pub trait Store:
    Tenants + Channels + Events + Links + Sessions + Accounts + Queue + Schedule + Receipts + Messages + Privacy
{
    /// Whether the store works; changes wake whoever watches.
    fn health(&self) -> watch::Receiver<Health>;
    /// Names who hears of each commit. What is accepted, and every change of institutions, keys and channels, is told
    /// after its commit and before its caller is answered.
    fn follow(&self, follow: Arc<dyn Follow>);
    /// Takes what was erased out of what the engine keeps beside its tables; `false` where somebody who reads stands in
    /// the way, or where it is not in the engine's hand.
    async fn forget_erased(&self) -> Result<bool>;
    /// Writes what is left and closes the files.
    async fn close(&self);
}

/// Institutions, and the keys of their programs.
#[async_trait]
pub trait Tenants: Send + Sync + 'static {
    /// All institutions, oldest first.
    async fn institutions(&self) -> Result<Vec<Institution>>;
    /// Adds an institution.
    async fn create_institution(&self, institution: Institution) -> Result<()>;
    /// Sets the default country of an institution; `false` when there is no such institution.
    async fn set_default_country(&self, id: InstitutionId, country: DefaultCountry) -> Result<bool>;
    /// All keys, revoked ones too, oldest first.
    async fn api_keys(&self) -> Result<Vec<ApiKey>>;
    /// Adds a key.
    async fn create_api_key(&self, key: ApiKey) -> Result<()>;
    /// Revokes a key; one that is revoked keeps its first time.
    async fn revoke_api_key(&self, id: ApiKeyId, now: Millis) -> Result<()>;
    /// Notes when keys were last used.
    async fn touch_api_keys(&self, used: Vec<(ApiKeyId, Millis)>) -> Result<()>;
}

/// Channels, their states, and what happened to them.
#[async_trait]
pub trait Channels: Send + Sync + 'static {
    /// All channels, deleted ones too, oldest first.
    async fn channels(&self) -> Result<Vec<Channel>>;
    /// Some of an institution's channels that are not deleted, oldest first, behind `after`.
    async fn channels_of(
        &self,
        owner: (InstitutionId, Environment),
        after: ChannelKey,
        limit: usize,
    ) -> Result<Vec<Channel>>;
    /// One channel.
    async fn channel(&self, key: ChannelKey) -> Result<Option<Channel>>;
    /// Adds a channel, or takes up a deleted one of the same id and type, which starts empty; `None` when the id is taken.
    async fn create_channel(&self, channel: NewChannel) -> Result<Option<Channel>>;
    /// Moves a channel from the expected state, and records that; `false` when it was in another, or is deleted. A restriction outlasts a
    /// pause and a lost line, and is forgotten in any other state than `Restricted`: whoever brings the line up asks for
    /// `Restricted` while the time that was stated is not over.
    async fn move_channel(&self, key: ChannelKey, to: ChannelMove) -> Result<bool>;
    /// The same for what a line says of its channel: refused where this node does not hold the channel under this epoch.
    /// `false` as well where the channel has another session.
    async fn move_held_channel(&self, held: Held, to: ChannelMove) -> Result<bool>;
    /// Changes a channel's name and settings; `false` when it is deleted.
    async fn update_channel(&self, key: ChannelKey, name: String, settings: ChannelSettings) -> Result<bool>;
    /// Restricts a channel: until then it opens no chats. A later time that was stated before stands. One that is up
    /// becomes `Restricted` for this reason; one that is paused or down keeps its state, and remembers the time. `false`
    /// where there is nothing to restrict.
    async fn restrict_channel(&self, key: ChannelKey, until: Millis, reason: String, now: Millis) -> Result<bool>;
    /// Sends nothing on the channel before this time; a later one that was set before stands.
    async fn hold_channel(&self, channel: ChannelKey, until: Millis) -> Result<()>;
    /// Marks a channel deleted: it neither accepts nor dispatches from then on, and what is queued is sent no more, even
    /// if the channel is made anew. Its link and its session go, and what is known of its recipients.
    async fn delete_channel(&self, key: ChannelKey, by: Actor, now: Millis) -> Result<()>;
    /// A page of what happened to a channel, newest first.
    async fn channel_events(&self, query: ChannelEventQuery) -> Result<ChannelEventPage>;
}

/// Events of channels and messages, for whoever reads all of them.
#[async_trait]
pub trait Events: Send + Sync + 'static {
    /// From now on, events of the messages of this institution's channels are recorded, or are not; `false` when there is no
    /// such institution. Nothing else pays for events: a message that is accepted at this moment may go without its first.
    async fn record_messages(&self, owner: (InstitutionId, Environment), on: bool) -> Result<bool>;
    /// Reads events. A reader keeps what it has found out: it is kept for as long as somebody reads.
    fn event_reader(&self) -> Box<dyn EventReader>;
}

/// Reads events in the order of their numbers. It never passes a number whose event is committed later, so that whoever
/// goes on behind the cursor of the page before sees each event once.
#[async_trait]
pub trait EventReader: Send {
    /// The next events behind a cursor; `None` where the cursor is ahead of the store: it is another store's, or one of
    /// before a restored backup. A call that is dropped before its end loses nothing.
    async fn read(&mut self, query: EventQuery) -> Result<Option<EventPage>>;
}

/// How channels are linked to their networks.
#[async_trait]
pub trait Links: Send + Sync + 'static {
    /// How channels are linked to their networks, oldest channel first; of those that are not deleted.
    async fn links(&self) -> Result<Vec<Link>>;
    /// How a channel is linked.
    async fn link(&self, channel: ChannelKey) -> Result<Option<Link>>;
    /// Writes a channel's link, or replaces it, and moves the channel from the expected state to `Connected`; `false`,
    /// and nothing written, when it was in another, or is deleted. Where the link leads to another number than before,
    /// what may have arrived from that one becomes `UNKNOWN`, and what is `UNKNOWN` is not sent again.
    async fn link_channel(&self, link: Link, expected: ChannelState, by: Actor, now: Millis) -> Result<bool>;
    /// The same for what a line says of its channel: refused where this node does not hold the channel under this epoch. A
    /// channel that is `Paused` stays so. `false` as well where the channel has another session.
    async fn link_held_channel(&self, link: Link, held: Held, expected: ChannelState, now: Millis) -> Result<bool>;
    /// Replaces a link's sealed bytes where they are still these; `false` when they are not, or there is no link.
    async fn reseal_link(&self, channel: ChannelKey, old: Vec<u8>, new: Vec<u8>) -> Result<bool>;
    /// The channel's session does not log in before this time; a later one that was set before stands. Another link knows
    /// nothing of it.
    async fn ban_link(&self, channel: ChannelKey, until: Millis) -> Result<()>;
    /// The channel's session has logged in.
    async fn note_login(&self, channel: ChannelKey, at: Millis) -> Result<()>;
    /// What keeps the channel's session from logging in.
    async fn link_rest(&self, channel: ChannelKey) -> Result<LinkRest>;
}

/// Sessions of linked devices, sealed row by row.
#[async_trait]
pub trait Sessions: Send + Sync + 'static {
    /// Values of a session, as sealed, in the order of the keys.
    async fn session_values(&self, of: SessionOf, kind: u8, keys: Vec<Vec<u8>>) -> Result<Vec<Option<Vec<u8>>>>;
    /// Keys and sealed values of a kind whose keys begin so, by key.
    async fn session_list(&self, of: SessionOf, kind: u8, prefix: Vec<u8>) -> Result<Vec<(Vec<u8>, Vec<u8>)>>;
    /// Makes all of these changes or none; how many rows were deleted. Refused on a deleted channel, for a session that is
    /// not the channel's any more, and under an epoch that has passed.
    async fn write_session(&self, held: Held, changes: Vec<SessionChange>) -> Result<u64>;
    /// Deletes all rows of a channel's session, and gives the channel the number of the next one. Does nothing where the
    /// session is not the channel's any more. Refused under an epoch that has passed.
    async fn end_session(&self, held: Held) -> Result<()>;
    /// A page of the rows of all sessions, behind this one.
    async fn session_rows(&self, after: Option<SessionKey>, limit: usize) -> Result<Vec<SessionRow>>;
    /// Replaces a row's sealed bytes where they are still these; `false` when they are not, or there is no such row.
    async fn reseal_session_row(&self, old: SessionRow, new: Vec<u8>) -> Result<bool>;
}

/// What the network said of recipients' numbers, and who may be written to freely.
#[async_trait]
pub trait Accounts: Send + Sync + 'static {
    /// What the network last said of a number.
    async fn known_account(&self, channel: ChannelKey, phone: String) -> Result<Option<KnownAccount>>;
    /// Notes what the network said of a number; `None`: it is not on WhatsApp. Where that names somebody who is no new
    /// recipient, messages that wait for them may go, and the commit wakes who sends them.
    async fn note_account(&self, channel: ChannelKey, phone: String, account: Option<Party>, now: Millis)
    -> Result<()>;
    /// Notes that somebody wrote to us, so that they are no new recipient, by whatever name of theirs a message names
    /// them; whether that is news. Then messages that wait may go, and the commit wakes who sends them.
    async fn note_chat(&self, channel: ChannelKey, who: Party) -> Result<bool>;
    /// Recipients of queued messages that are not known and were never asked for: each once, in the order of the line, at
    /// most `limit`, and none where the person with this hidden id is known. Of a long line the first part is looked at.
    async fn unasked_recipients(&self, channel: ChannelKey, lid: String, limit: u32) -> Result<Vec<String>>;
    /// The account behind a number, as the network named it when a message was last sent there.
    async fn account(&self, channel: ChannelKey, recipient: String) -> Result<Option<String>>;
}

/// What is accepted, sent and settled.
#[async_trait]
pub trait Queue: Send + Sync + 'static {
    /// Stores a message and puts it behind its channel's line, with its idempotency key, in one transaction.
    async fn enqueue(&self, message: NewMessage) -> Result<Enqueued>;
    /// Takes the next messages of a channel, and lets those expire whose time has run out. It cancels what was queued
    /// before the channel was deleted.
    async fn claim(&self, request: ClaimRequest) -> Result<Claim>;
    /// Records what became of claimed messages. One that a receipt moved on meanwhile stays where it is.
    async fn settle(&self, outcomes: Outcomes) -> Result<()>;
    /// Records and claims, in this order and with one commit where possible. Where only one of the two fails, the other is
    /// done.
    async fn settle_and_claim(&self, outcomes: Outcomes, request: ClaimRequest) -> (Result<()>, Result<Claim>);
    /// Calls back a message that is still queued.
    async fn cancel(&self, channel: ChannelKey, id: MessageId, now: Millis) -> Result<Cancelled>;
    /// Cancels what was queued on a channel before it was deleted, oldest first, at most `limit`; how many there were. What
    /// a channel has that was made anew since is left alone.
    async fn cancel_former(&self, key: ChannelKey, limit: usize, now: Millis) -> Result<usize>;
    /// The channels that have open messages.
    async fn open_channels(&self) -> Result<Vec<ChannelKey>>;
}

/// What is queued at a later time.
#[async_trait]
pub trait Schedule: Send + Sync + 'static {
    /// Queues messages whose time has come, some at a time; the commit wakes who sends them. What was scheduled before its
    /// channel was deleted is cancelled.
    async fn promote(&self, now: Millis) -> Result<Promoted>;
}

/// Receipts that are written together. What others have to write goes in between.
const RECEIPTS_AT_ONCE: usize = 250;

/// Where networks hand in what they report of messages later.
#[async_trait]
pub trait Receipts: Send + Sync + 'static {
    /// Moves messages forward by the network's word. Late, repeated and unknown receipts change nothing, nor do those of a
    /// person whom the message was not sent to. None is dated before its message was first handed over.
    /// One that a network names by an id of its own which no message has yet is kept for a while: the answer that tells
    /// whose it is may be still on its way.
    async fn apply_receipts(&self, receipts: Vec<Receipt>, now: Millis) -> Result<()>;

    /// Applies any number of receipts; none is dated later than now. They are on disk when this returns `Ok`; only then may
    /// the network forget them. The store drops a receipt that it refuses, and logs an error: it would refuse the receipt
    /// again, and the others, and the session or callback that brought it, must not wait for that.
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
    /// A message to this recipient by its network id, ours or the network's own, among the newest 200 of the chat.
    async fn message_of_network(
        &self,
        channel: ChannelKey,
        recipient: String,
        network_id: String,
    ) -> Result<Option<Message>>;
    /// What became of an earlier call with this idempotency key: it was accepted, or had other content. `None` where there
    /// was none.
    async fn earlier_use(&self, key: Idempotency) -> Result<Option<Enqueued>>;
    /// A page of a channel's messages; `None` when `before` names none of the channel's.
    async fn messages(&self, query: MessageQuery) -> Result<Option<Page>>;
}

/// What is deleted because it is old, and what is kept of one person.
#[async_trait]
pub trait Privacy: Send + Sync + 'static {
    /// A page of what is kept of a person.
    async fn person(&self, query: PersonQuery) -> Result<PersonPage>;
    /// Erases a batch of what is kept of a person. What is not there any more counts as nothing.
    async fn erase_person(&self, erasure: Erasure, now: Millis) -> Result<Erased>;
    /// Deletes a batch of what is old enough. Gives where the next batch begins; `None` when there is no more.
    async fn purge(&self, request: PurgeRequest) -> Result<Option<Seq>>;
}
