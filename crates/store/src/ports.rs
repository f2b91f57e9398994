//! This file declares every durable operation of the gateway. Each port is a trait with the operations that one part of
//! the gateway needs. Both engines implement all ports.
//!
//! When an operation returns `Ok`, its result is on disk. When it returns
//! [`Unavailable`](crate::StoreError::Unavailable), the change may or may not be stored. When the store works again,
//! the caller finds out by the message's id or by the idempotency key.

use std::sync::Arc;

use async_trait::async_trait;
use recado_domain::account::KnownAccount;
use recado_domain::api_key::Environment;
use recado_domain::channel::{
    Actor, Channel, ChannelEvent, ChannelEventPage, ChannelEventQuery, ChannelKey, ChannelMove, ChannelSettings,
    ChannelState, DeletedRows, Held, Link, LoginLimits, NewChannel, SessionChange, SessionKey, SessionOf, SessionRow,
};
use recado_domain::clock::Millis;
use recado_domain::contact_book::{
    Contact, ContactChange, ContactChanged, ContactPage, ContactPut, ContactQuery, NewContact,
};
use recado_domain::conversation::{
    Change, Changed, Conversation, ConversationMessages, ConversationPage, ConversationQuery, InboxPage, MarkedRead,
    ReadClaim, ReadClaims, ReadSignal,
};
use recado_domain::event::{
    Event, EventPage, EventQuery, EventSeq, EventState, EventSubject, NewEvent, OwnedRange, Owner, Patterns, Recording,
};
use recado_domain::ids::{ApiKeyId, ContactId, ConversationId, InstitutionId, MediaId, MessageId, WebhookId};
use recado_domain::incoming::{
    Arrivals, Incoming, IncomingPage, IncomingQuery, Media, MediaState, Received, SealedIncoming, StoredFile,
};
use recado_domain::institution::{ApiKey, Institution};
use recado_domain::message::{
    Backlog, Cancelled, Enqueued, Idempotency, Message, MessageQuery, NewMessage, Page, Promoted, Seq,
};
use recado_domain::party::Party;
use recado_domain::phone::DefaultCountry;
use recado_domain::queue::{Claim, ClaimRequest, Outcomes, PurgeRequest, Receipt, Submitted};
use recado_domain::webhook::{
    Delivery, DeliveryClaim, DeliveryClaims, DeliveryId, DeliveryPage, DeliveryQuery, DeliveryRef, DeliveryResult,
    FanOut, NewWebhook, Replay, ReplayBatch, ReplayQuery, SealedWebhook, Webhook, WebhookBacklog, WebhookCreated,
    WebhookKey, WebhookUpdate, WebhookUpdated,
};
use tokio::sync::{OwnedMutexGuard, watch};

use crate::commits::Follow;
use crate::person::{Erased, Erasure, PersonPage, PersonQuery};
use crate::{Health, Result, StoreError};

/// All ports together. Each engine implements this trait, and the gateway is built with it.
#[async_trait]
pub trait Store:
    Tenants
    + Channels
    + Events
    + Webhooks
    + Links
    + Sessions
    + Accounts
    + Queue
    + Schedule
    + Receipts
    + Messages
    + Inbox
    + Conversations
    + Contacts
    + Privacy
{
    /// Whether the store works. The returned receiver is notified when this changes.
    fn health(&self) -> watch::Receiver<Health>;
    /// How many calls wait for the writing thread; 0 if the engine has none.
    fn writes_waiting(&self) -> usize {
        0
    }
    /// Sets the follower. The store notifies the follower of every accepted message, and of every change of an
    /// institution, a key or a channel. It does so after the commit and before the caller gets the answer.
    fn follow(&self, follow: Arc<dyn Follow>);
    /// Waits until the writing thread has taken an empty call, behind all calls that wait now. Returns at once if the
    /// engine has no such thread.
    async fn reach_writer(&self) -> Result<()> {
        Ok(())
    }
    /// Removes erased data from the files that an engine keeps beside the tables, such as the write-ahead log of
    /// SQLite. `false` if a reader still needs such a file, or if the engine cannot remove the data.
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
    /// Revokes a key. If the key is already revoked, the time of its first revocation stays.
    async fn revoke_api_key(&self, id: ApiKeyId, now: Millis) -> Result<()>;
    /// Records when keys were last used.
    async fn touch_api_keys(&self, used: Vec<(ApiKeyId, Millis)>) -> Result<()>;
}

/// Channels, their states, and their history.
#[async_trait]
pub trait Channels: Send + Sync + 'static {
    /// All channels, oldest first, including deleted channels.
    async fn channels(&self) -> Result<Vec<Channel>>;
    /// A page of the channels of an institution, oldest first, without deleted channels. The page begins behind the
    /// channel `after`.
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
    /// Moves a channel from the state `from` of `to` to another state, and records the move in the history. `false` if
    /// the channel was not in the state `from`, or is deleted.
    ///
    /// A restriction has an end time. This time is kept while the channel is `Restricted` or `Paused`, and while its
    /// connection is lost. Every other state clears it. So until that time a driver that reconnects must move the
    /// channel to `Restricted`.
    async fn move_channel(&self, key: ChannelKey, to: ChannelMove) -> Result<bool>;
    /// Does the same as [`Self::move_channel`] for a state that a driver reports. Refused if the channel has another
    /// epoch than `held`. Also `false` if the channel has another session than `held`.
    async fn move_held_channel(&self, held: Held, to: ChannelMove) -> Result<bool>;
    /// Changes a channel's name and settings. `false` if the channel is deleted.
    async fn update_channel(&self, key: ChannelKey, name: String, settings: ChannelSettings) -> Result<bool>;
    /// Restricts a channel. The channel opens no chats until this time. If a later end time is already stored, that
    /// time stays. A connected channel becomes `Restricted` with this reason. A paused or disconnected channel keeps
    /// its state. `false` if the channel is in a state that cannot be restricted, or is deleted.
    async fn restrict_channel(&self, key: ChannelKey, until: Millis, reason: String, now: Millis) -> Result<bool>;
    /// Sets the time before which the channel sends nothing. If a later time is already stored, that time stays.
    async fn defer_channel(&self, channel: ChannelKey, until: Millis) -> Result<()>;
    /// Marks a channel as deleted. From then on the channel accepts and dispatches nothing. Queued messages are never
    /// sent, even if the channel is created again. The link, the session and the known accounts of the channel are
    /// deleted.
    async fn delete_channel(&self, key: ChannelKey, by: Actor, now: Millis) -> Result<()>;
    /// For each channel that is not deleted, the event with which its present state began.
    async fn state_events(&self) -> Result<Vec<(ChannelKey, ChannelEvent)>>;
    /// A page of the history of a channel, newest first.
    async fn channel_events(&self, query: ChannelEventQuery) -> Result<ChannelEventPage>;
}

/// Events, for the event stream and for webhooks.
#[async_trait]
pub trait Events: Send + Sync + 'static {
    /// Sets which events of the messages of an institution are recorded. `false` if there is no such institution. The
    /// switch takes no lock against calls that accept messages. So a message that is accepted at the same moment may
    /// lack its first event.
    async fn record_messages(&self, owner: Owner, recording: Recording) -> Result<bool>;
    /// The event log of an institution; `None` where nothing has set one, or opened the stream.
    async fn event_log(&self, owner: Owner) -> Result<Option<Patterns>>;
    /// The event log. Where nothing has set one, this one is set, and the recording of events begins.
    async fn begin_event_log(&self, owner: Owner, log: Patterns) -> Result<Patterns>;
    /// Sets the event log, and begins or ends the recording of events; `false` when there is no such institution.
    async fn set_event_log(&self, owner: Owner, log: Patterns) -> Result<bool>;
    /// Records an event with complete data; `false` where nothing reads the events of its owner. What has to commit together
    /// with it is recorded inside the store.
    async fn record_event(&self, event: NewEvent) -> Result<bool>;
    /// Deletes the events about these subjects; how many there were.
    async fn forget_events(&self, subjects: Vec<EventSubject>) -> Result<u64>;
    /// What the store knows of its events as a whole.
    async fn event_state(&self) -> Result<EventState>;
    /// One event of this owner.
    async fn event(&self, owner: Owner, seq: EventSeq) -> Result<Option<Event>>;
    /// When the event with this number happened; `None` where there is none.
    async fn event_time(&self, seq: EventSeq) -> Result<Option<Millis>>;
    /// Numbers and times of the next events after this number, at most so many.
    async fn event_times(&self, after: EventSeq, limit: usize) -> Result<Vec<(EventSeq, Millis)>>;
    /// Creates a reader. A reader remembers which event numbers are not committed yet, so use one reader for all calls.
    fn event_reader(&self) -> Box<dyn EventReader>;
}

/// Reads events in the order of their numbers. A reader stops before a number whose event is not committed yet. So a
/// caller that continues after the last cursor sees each event once.
#[async_trait]
pub trait EventReader: Send {
    /// The next events after a cursor. `None` if the cursor is later than the newest event of the store. Such a cursor
    /// comes from another store, or it was read before a backup was restored. If the call is cancelled, no event is
    /// lost.
    async fn read(&mut self, query: EventQuery) -> Result<Option<EventPage>>;
    /// The number up to which every event is stored, or never will be. It can be lower than that of an event which is already
    /// committed, or 0, while another transaction runs.
    async fn settled(&mut self) -> Result<EventSeq>;
    /// The highest number that was given to an event, which may not be committed.
    async fn last(&mut self) -> Result<EventSeq>;
    /// Whose events have the numbers after the first one, up to the second one. Both are at most [`Self::settled`].
    async fn owners(&mut self, after: EventSeq, until: EventSeq) -> Result<Vec<OwnedRange>>;
}

/// The most results of attempts that one transaction stores.
const RESULTS_AT_ONCE: usize = 250;

/// Webhooks, and the deliveries of events to them.
///
/// All times named `now` are by the clock of [`Schedule::clock`] where the store has one: several nodes use the leases.
///
/// Deliveries are created by a fan-out, and not by the transactions that record events, so that these stay cheap. The
/// fan-out reads the events behind one cursor for all webhooks, and creates the deliveries in the transaction that moves the
/// cursor. So there is one delivery for each event that a webhook accepts.
#[async_trait]
pub trait Webhooks: Send + Sync + 'static {
    /// Creates a webhook, and begins to record the events that it wants.
    async fn create_webhook(&self, new: NewWebhook) -> Result<WebhookCreated>;
    /// Changes a webhook's settings, and what is recorded. If the change enables the webhook, its failures are forgotten. If
    /// the change disables it, the deliveries that wait become dead letters ([`Self::tidy_deliveries`]).
    async fn update_webhook(&self, update: WebhookUpdate) -> Result<WebhookUpdated>;
    /// Deletes a webhook with its deliveries ([`Self::tidy_deliveries`]). `false` if there is no such webhook.
    async fn delete_webhook(&self, owner: Owner, id: WebhookId) -> Result<bool>;
    /// One webhook of this owner.
    async fn webhook(&self, owner: Owner, id: WebhookId) -> Result<Option<Webhook>>;
    /// All webhooks of this owner, oldest first.
    async fn webhooks(&self, owner: Owner) -> Result<Vec<Webhook>>;

    /// Acquires or renews the lease of the fan-out for this node, and returns the cursor: deliveries exist for the events up to
    /// it. `None` if another node has the lease, or if no webhook is active. The lease only avoids work that would be done
    /// twice.
    async fn lead_fan_out(&self, node: [u8; 16], now: Millis, until: Millis) -> Result<Option<EventSeq>>;
    /// Gives up the lease of this node, so that another node can acquire it at once.
    async fn leave_fan_out(&self, node: [u8; 16]) -> Result<()>;
    /// Creates deliveries for the events of a page that begins behind the cursor, and moves the cursor behind them. If there are
    /// many deliveries, the step ends before the end of the page: read the next page from the cursor of the result.
    async fn fan_out(&self, after: EventSeq, page: EventPage, now: Millis) -> Result<FanOut>;

    /// Claims due deliveries of one lane, with their webhooks and events. Each counts as an attempt. No delivery is claimed
    /// while an earlier one of its queue waits or is in flight. Webhooks are served in turn. Deliveries whose event is gone
    /// become dead letters. `except` are webhooks to which this node cannot send.
    async fn claim_deliveries(&self, claim: DeliveryClaim, except: Vec<WebhookKey>) -> Result<DeliveryClaims>;
    /// Gives back claimed deliveries that this node cannot send, so that another node can claim them at once. They do not
    /// count as attempts.
    async fn release_deliveries(&self, deliveries: Vec<DeliveryRef>, now: Millis) -> Result<()>;
    /// Stores how attempts ended. The result of an attempt that lost its lease to another one changes nothing. Returns the
    /// webhooks that are to be disabled now; [`Self::record_attempts`] does that as well.
    async fn settle_deliveries(&self, results: Vec<DeliveryResult>, now: Millis) -> Result<Vec<WebhookKey>>;
    /// Disables a webhook that has failed for too long, or whose address is gone, and records `webhook.disabled`. `false` if it
    /// was disabled or changed in the meantime, or has succeeded.
    async fn disable_webhook(&self, webhook: WebhookKey, now: Millis) -> Result<bool>;
    /// Stores how attempts ended, and disables the webhooks for which that is time. Returns these. After an error a part of the
    /// results may be stored; storing them again changes nothing.
    async fn record_attempts(&self, results: Vec<DeliveryResult>, now: Millis) -> Result<Vec<WebhookKey>> {
        let mut disabled = Vec::new();
        for some in results.chunks(RESULTS_AT_ONCE) {
            for webhook in self.settle_deliveries(some.to_vec(), now).await? {
                if self.disable_webhook(webhook, now).await? {
                    disabled.push(webhook);
                }
            }
        }
        Ok(disabled)
    }

    /// A page of the log of a webhook, newest first; `None` if there is no such webhook.
    async fn deliveries(&self, query: DeliveryQuery) -> Result<Option<DeliveryPage>>;
    /// How many deliveries match the query, counted up to `most`, among the newest 100,000. The cursor and the limit of the query
    /// are ignored.
    async fn count_deliveries(&self, query: DeliveryQuery, most: usize) -> Result<usize>;
    /// The deliveries of each webhook that wait or are in flight. It counts all of them.
    async fn webhook_backlogs(&self) -> Result<Vec<WebhookBacklog>>;
    /// One delivery of a webhook of this owner.
    async fn delivery(&self, owner: Owner, webhook: WebhookId, id: DeliveryId) -> Result<Option<Delivery>>;
    /// Sends a delivery again, with a new round of attempts. One that waits for a retry is sent now.
    async fn replay_delivery(&self, owner: Owner, webhook: WebhookId, id: DeliveryId, now: Millis) -> Result<Replay>;
    /// Sends a batch of deliveries again, in the order of their events. Deliveries whose event is gone are left out.
    async fn replay_deliveries(&self, query: ReplayQuery) -> Result<ReplayBatch>;
    /// Does a part of the work that no caller waits for: ends the deliveries of disabled webhooks, and deletes those of deleted
    /// webhooks and old ones. `true` if there may be more.
    async fn tidy_deliveries(&self, now: Millis) -> Result<bool>;

    /// The sealed parts of the webhooks behind this one, in the order of their keys.
    async fn sealed_webhooks(&self, after: WebhookKey, limit: usize) -> Result<Vec<SealedWebhook>>;
    /// Replaces sealed parts. `false` if they differ from `old`, or if there is no such webhook.
    async fn reseal_webhook(&self, old: SealedWebhook, new: SealedWebhook) -> Result<bool>;
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
    /// The link can lead to another phone number than before. Then messages that may have arrived from the former
    /// number become `UNKNOWN`, and no `UNKNOWN` message is sent again.
    async fn link_channel(&self, link: Link, expected: ChannelState, by: Actor, now: Millis) -> Result<bool>;
    /// Does the same as [`Self::link_channel`] for a link that a driver reports. Refused if the channel has another
    /// epoch than `held`. A `Paused` channel stays paused. Also `false` if the channel has another session than `held`.
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

/// The stored sessions of linked devices. Each row is sealed separately.
#[async_trait]
pub trait Sessions: Send + Sync + 'static {
    /// The sealed values of a session for these keys of one kind, in the order of `keys`. `None` for a key without a
    /// row.
    async fn session_values(&self, of: SessionOf, kind: u8, keys: Vec<Vec<u8>>) -> Result<Vec<Option<Vec<u8>>>>;
    /// Keys and sealed values of a kind whose keys begin with `prefix`, in the order of the keys.
    async fn session_list(&self, of: SessionOf, kind: u8, prefix: Vec<u8>) -> Result<Vec<(Vec<u8>, Vec<u8>)>>;
    /// Makes all of these changes or none, and returns how many rows of each kind were deleted. Refused if the channel is deleted,
    /// if it has another session now, or if the epoch is old.
    async fn write_session(&self, held: Held, changes: Vec<SessionChange>) -> Result<DeletedRows>;
    /// Deletes all rows of a channel's session, and increments the session number of the channel. Does nothing if the
    /// channel has another session now. Refused if the epoch is old.
    async fn end_session(&self, held: Held) -> Result<()>;
    /// A page of the rows of all sessions. The page begins behind the row `after`.
    async fn session_rows(&self, after: Option<SessionKey>, limit: usize) -> Result<Vec<SessionRow>>;
    /// Replaces the sealed bytes of a row. `false` if the stored row differs from `old`, or if there is no row.
    async fn reseal_session_row(&self, old: SessionRow, new: Vec<u8>) -> Result<bool>;
}

/// What the network reported about phone numbers, and which recipients of a channel are known. A person becomes a known
/// recipient by a first message in either direction.
#[async_trait]
pub trait Accounts: Send + Sync + 'static {
    /// What the network last reported about a phone number.
    async fn known_account(&self, channel: ChannelKey, phone: String) -> Result<Option<KnownAccount>>;
    /// Stores what the network reported about a phone number. `account` is `None` if the number is not on WhatsApp. If
    /// the account belongs to a known recipient, messages to the number no longer wait for the new-chat limiter. The
    /// commit then wakes the dispatcher.
    async fn note_account(&self, channel: ChannelKey, phone: String, account: Option<Party>, now: Millis)
    -> Result<()>;
    /// Stores that a person wrote to the channel, under every name by which a message can address the person. From then
    /// on the person is a known recipient. Returns whether the person was new. If so, messages to the person no longer
    /// wait for the new-chat limiter, and the commit wakes the dispatcher.
    async fn note_chat(&self, channel: ChannelKey, who: Party) -> Result<bool>;
    /// The recipients of queued messages about whom the network was never asked. Each recipient is listed once, in
    /// queue order, and at most `limit` are listed. The list is empty if the network has already named the account with
    /// this LID. Only the first 1,000 messages of the queue are scanned.
    async fn unasked_recipients(&self, channel: ChannelKey, lid: String, limit: u32) -> Result<Vec<String>>;
    /// The account of a recipient, as the network named it for the last message to this recipient.
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
    /// Stores the outcomes of claimed messages. If a receipt has changed the status of a message in the meantime, the
    /// message keeps that status.
    async fn settle(&self, outcomes: Outcomes) -> Result<()>;
    /// Does [`Self::settle`], then [`Self::claim`], with one commit if possible. If one of the two fails, the other is
    /// still done.
    async fn settle_and_claim(&self, outcomes: Outcomes, request: ClaimRequest) -> (Result<()>, Result<Claim>);
    /// Adds messages that were just claimed to the conversations of their chats. A chat without a conversation gets one.
    /// The messages may be of several channels of the owner. A message that has a conversation keeps it.
    async fn join_conversations(&self, owner: Owner, submitted: Vec<Submitted>, now: Millis) -> Result<()>;
    /// Messages of a channel that are in flight and belong to no conversation, because a process ended between the claim
    /// and [`Self::join_conversations`].
    async fn left_to_join(&self, channel: ChannelKey) -> Result<Vec<Submitted>>;
    /// Cancels a message that is still queued.
    async fn cancel(&self, channel: ChannelKey, id: MessageId, now: Millis) -> Result<Cancelled>;
    /// Cancels messages that were queued before the channel was deleted, oldest first, at most `limit`. Returns the
    /// number of these messages. Messages that were queued after the channel was created again stay.
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
    /// The time of the store's own clock; `None` if the store has none. Several nodes use this clock to decide which
    /// messages are due.
    async fn clock(&self) -> Result<Option<Millis>>;
}

/// The most receipts that one write applies. Other writes can run between two such batches.
const RECEIPTS_AT_ONCE: usize = 250;

/// Reports of the network about messages that were sent.
#[async_trait]
pub trait Receipts: Send + Sync + 'static {
    /// Applies receipts to their messages. A late or repeated receipt changes nothing. A receipt from a person who is
    /// not the recipient changes nothing either. A receipt with a time before the first attempt of its message gets the
    /// time of that attempt.
    ///
    /// A receipt can name its message by the network's own id. If no message has this id yet, the receipt is kept for
    /// some time, because the network's answer with this id may not be stored yet. Any other receipt without a message
    /// changes nothing.
    async fn apply_receipts(&self, receipts: Vec<Receipt>, now: Millis) -> Result<()>;

    /// Applies any number of receipts. A receipt with a later time than `now` gets the time `now`. A driver confirms
    /// the receipts to the network only after this returns `Ok`. A receipt that the store refuses is dropped with an
    /// error in the log. The store would refuse it each time, and the other receipts must not wait for it.
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
    /// The message to this recipient with this network id. The id is either the one that Recado gave or the network's
    /// own. Only the newest 200 messages to the recipient are searched.
    async fn message_of_network(
        &self,
        channel: ChannelKey,
        recipient: String,
        network_id: String,
    ) -> Result<Option<Message>>;
    /// The result of an earlier call with this idempotency key: `Replayed` if it had the same content, `KeyReused` if
    /// it had other content. `None` if there was no earlier call.
    async fn earlier_use(&self, key: Idempotency) -> Result<Option<Enqueued>>;
    /// A page of a channel's messages. `None` if `before` of the query is no message of the channel.
    async fn messages(&self, query: MessageQuery) -> Result<Option<Page>>;
    /// The queues of all channels that have open messages. It reads all of them.
    async fn backlogs(&self) -> Result<Vec<Backlog>>;
}

/// Deleting old data, and the data that is stored about one person.
#[async_trait]
pub trait Privacy: Send + Sync + 'static {
    /// A page of the data that is stored about a person.
    async fn person(&self, query: PersonQuery) -> Result<PersonPage>;
    /// Erases a batch of the data of a person. Data that is already gone is no error.
    async fn erase_person(&self, erasure: Erasure, now: Millis) -> Result<Erased>;
    /// Deletes a batch of old data. Returns the `seq` at which the next batch begins; `None` if no old data is left.
    async fn purge(&self, request: PurgeRequest) -> Result<Option<Seq>>;
}

/// The right to store deliveries to a channel. It ends when it is dropped.
pub type Turn = OwnedMutexGuard<()>;

/// The order of deliveries to one channel.
#[async_trait]
pub trait Turns: Send + Sync + 'static {
    /// Waits until no other delivery to the channel is being stored. `None`: the store orders them itself.
    async fn turn(&self, _channel: ChannelKey) -> Result<Option<Turn>> {
        Ok(None)
    }
}

/// Messages that networks deliver, and their files.
#[async_trait]
pub trait Inbox: Turns {
    /// Stores what a network delivered to a channel, in one transaction, with everything that follows from it: contacts,
    /// conversations, changes of messages, events. A driver acknowledges the arrivals to its network only after this
    /// returns `Ok`. Returns one result per arrival, in their order.
    ///
    /// An arrival that the store has already changes nothing. A change whose message is not here yet is held until the
    /// message arrives. At most [`ARRIVALS_AT_ONCE`](recado_domain::incoming::ARRIVALS_AT_ONCE) arrivals; more are
    /// refused.
    async fn receive(&self, arrivals: Arrivals, now: Millis) -> Result<Vec<Received>> {
        let _turn = self.turn(arrivals.channel).await?;
        self.store_arrivals(arrivals, now).await
    }
    /// Does [`Self::receive`] without a turn.
    async fn store_arrivals(&self, arrivals: Arrivals, now: Millis) -> Result<Vec<Received>>;
    /// Does [`Self::receive`] for a node that holds the session of a linked channel. `None`, and nothing is stored, if the
    /// channel was deleted or has another session by now. Refused if another node holds the lease.
    async fn receive_held(&self, held: Held, arrivals: Arrivals, now: Millis) -> Result<Option<Vec<Received>>> {
        let _turn = self.turn(arrivals.channel).await?;
        self.store_held_arrivals(held, arrivals, now).await
    }
    /// Does [`Self::receive_held`] without a turn.
    async fn store_held_arrivals(&self, held: Held, arrivals: Arrivals, now: Millis) -> Result<Option<Vec<Received>>>;
    /// A message of this channel that a network delivered.
    async fn incoming(&self, channel: ChannelKey, id: MessageId) -> Result<Option<Incoming>>;
    /// The messages with this network id that a network delivered to the channel, newest first: people may choose the
    /// same id.
    async fn incoming_of_network(&self, channel: ChannelKey, network_id: String) -> Result<Vec<Incoming>>;
    /// The network's own bytes of a message, as the driver passed them.
    async fn incoming_raw(&self, channel: ChannelKey, id: MessageId) -> Result<Option<Vec<u8>>>;
    /// A page of the delivered messages of a channel, newest first.
    async fn incoming_page(&self, query: IncomingQuery) -> Result<IncomingPage>;
    /// A file of a delivered message, if it belongs to this owner. It contains what the driver needs to download it.
    async fn media(&self, owner: Owner, id: MediaId) -> Result<Option<Media>>;
    /// Records that the bytes of a file are stored, with their size and their SHA-256, and that they were read now. `false`
    /// if there is no such file any more.
    async fn media_stored(&self, id: MediaId, size: u64, sha256: String, now: Millis) -> Result<bool>;
    /// Records that the network has lost the bytes of a file that was in this state. `false` if there is no such file any
    /// more, or if its state has changed: another node may have stored it.
    async fn media_gone(&self, id: MediaId, was: MediaState) -> Result<bool>;
    /// Records that stored bytes were read now. `false` if the file is not stored any more.
    async fn media_read(&self, id: MediaId, now: Millis) -> Result<bool>;
    /// Makes a batch of stored files remote that were last read before this time. Returns how many. Their bytes can be
    /// deleted.
    async fn release_media(&self, before: Millis) -> Result<u64>;
    /// Makes these files remote, as far as they are stored. Returns how many. Their bytes can be deleted.
    async fn release_files(&self, ids: Vec<MediaId>) -> Result<u64>;
    /// Those of these files that are stored. Others that have bytes here are left over.
    async fn stored_files(&self, ids: Vec<MediaId>) -> Result<Vec<StoredFile>>;
    /// A page of what drivers sealed of delivered messages, behind this place.
    async fn sealed_incoming(&self, after: Seq, limit: usize) -> Result<Vec<SealedIncoming>>;
    /// Replaces sealed parts of a message. `false` if one of them differs from `old`, or if there is no such message.
    async fn reseal_incoming(&self, old: SealedIncoming, new: SealedIncoming) -> Result<bool>;
    /// Looks at a batch of messages whose content their channels do not keep, and deletes the content of those whose events no
    /// webhook waits for. Returns how many it looked at; the others are due again later.
    async fn delete_contents(&self, now: Millis) -> Result<usize>;
    /// Deletes a batch of all delivered messages, conversations and contacts of an owner. Returns their files, whose bytes
    /// can be deleted; `None` when nothing is left.
    async fn clear_inbox(&self, owner: Owner) -> Result<Option<Vec<MediaId>>>;
}

/// Conversations.
#[async_trait]
pub trait Conversations: Send + Sync + 'static {
    /// A page of conversations, the most recently active first.
    async fn conversations(&self, query: ConversationQuery) -> Result<ConversationPage>;
    /// One conversation of this owner.
    async fn conversation(&self, owner: Owner, id: ConversationId) -> Result<Option<Conversation>>;
    /// A page of the messages of a conversation. `None` if the owner's channel has no such conversation.
    async fn conversation_messages(&self, query: ConversationMessages) -> Result<Option<InboxPage>>;
    /// Assigns, transfers, closes or reopens a conversation, and records the event. A repeated identical change records
    /// none.
    async fn change_conversation(
        &self,
        owner: Owner,
        id: ConversationId,
        change: Change,
        now: Millis,
    ) -> Result<Changed>;
    /// Marks the received messages of a conversation as read. Returns the conversation, and the messages of its read signal.
    /// `None` if there is no such conversation.
    async fn read_conversation(&self, owner: Owner, id: ConversationId, now: Millis) -> Result<Option<MarkedRead>>;
    /// Takes due read signals, at most one of each channel. Each has to be [ended](Self::end_read); otherwise it is due again
    /// when its attempt counts as lost.
    async fn due_reads(&self, claim: ReadClaim) -> Result<ReadClaims>;
    /// Ends an attempt to send a read signal: it is sent again at `retry_at`, or it is done.
    async fn end_read(&self, signal: ReadSignal, retry_at: Option<Millis>, now: Millis) -> Result<()>;
    /// The latest conversation of a channel with this recipient, in any form of a number.
    async fn latest_conversation(
        &self,
        owner: Owner,
        channel: ChannelKey,
        recipient: String,
    ) -> Result<Option<Conversation>>;
    /// Sets the name of the group with this address in its conversations on a channel.
    async fn name_group(&self, channel: ChannelKey, address: String, name: String) -> Result<()>;
    /// Closes a batch of a channel's conversations without a message since this time. Returns how many.
    async fn close_idle(&self, channel: ChannelKey, before: Millis, now: Millis) -> Result<usize>;
}

/// Contacts.
#[async_trait]
pub trait Contacts: Send + Sync + 'static {
    /// A page of contacts, by name.
    async fn contacts(&self, query: ContactQuery) -> Result<ContactPage>;
    /// One contact of this owner.
    async fn contact(&self, owner: Owner, id: ContactId) -> Result<Option<Contact>>;
    /// The contact with this number, in either form.
    async fn contact_of_phone(&self, owner: Owner, phone: String) -> Result<Option<Contact>>;
    /// Adds a contact, and records the event. `Exists` if a contact has the number.
    async fn create_contact(&self, contact: NewContact, now: Millis) -> Result<ContactChanged>;
    /// Changes a contact, and records the event if something is different. `Exists` if another contact has the number.
    async fn change_contact(
        &self,
        owner: Owner,
        id: ContactId,
        change: ContactChange,
        now: Millis,
    ) -> Result<ContactChanged>;
    /// Changes the contact with this number, in either form, or adds one, and records the event.
    async fn put_contact(&self, owner: Owner, phone: String, change: ContactChange, now: Millis) -> Result<ContactPut>;
    /// Removes a contact with its identities. Its conversations and messages stay, without it. `false` if there is none.
    async fn delete_contact(&self, owner: Owner, id: ContactId) -> Result<bool>;
}
