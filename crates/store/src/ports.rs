//! The ports declare every durable operation of the gateway. Each port is a trait with the operations that one part of
//! the gateway needs. Both engines implement all ports.
//!
//! When an operation returns `Ok`, its result is on disk. When it returns
//! [`Unavailable`](crate::StoreError::Unavailable), the change may or may not be stored. When the store works again,
//! the caller finds out by the message's id or by the idempotency key.

mod events;
mod queue;
mod tenants;

pub use events::{EventReader, Events, Webhooks};
pub use queue::{Messages, Privacy, Queue, Receipts, Schedule};
pub use tenants::{Accounts, Channels, Links, Sessions, Tenants};

use std::sync::Arc;

use async_trait::async_trait;
use recado_domain::channel::{ChannelKey, Held};
use recado_domain::clock::Millis;
use recado_domain::contact_book::{
    Contact, ContactChange, ContactChanged, ContactPage, ContactPut, ContactQuery, NewContact,
};
use recado_domain::conversation::{
    Change, Changed, Conversation, ConversationMessages, ConversationPage, ConversationQuery, InboxPage, MarkedRead,
    ReadClaim, ReadClaims, ReadSignal,
};
use recado_domain::event::Owner;
use recado_domain::ids::{ContactId, ConversationId, MediaId, MessageId};
use recado_domain::incoming::{
    Arrivals, ContentsDeleted, Incoming, IncomingPage, IncomingQuery, Media, MediaState, NewRefused, Reaction,
    Received, RefusedArrival, RefusedKey, SealedIncoming, StoredFile,
};
use recado_domain::message::Seq;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, watch};

use crate::commits::Follow;
use crate::shares::of_server;
use crate::{Health, Result};

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
    + Refusals
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
    /// Waits until the writing thread has run an empty call, behind all calls that wait now. Returns at once if the
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

/// The right to store deliveries to a channel. It ends when it is dropped.
pub type Turn = (OwnedMutexGuard<()>, OwnedSemaphorePermit);

/// The order of deliveries to the channels of one owner.
#[async_trait]
pub trait Turns: Send + Sync + 'static {
    /// Waits until no other delivery to the channels of the owner is being stored. `None`: the store orders them itself.
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
        let turn = self.turn(arrivals.channel).await?;
        let stored = self.store_arrivals(arrivals, now);
        // There are few turns for all owners, so one that a call has does not wait for the other calls of its owner.
        if turn.is_some() { of_server(stored).await } else { stored.await }
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
    /// The reactions to messages that calls sent, each with the network id of its message, the oldest first.
    async fn reactions(&self, channel: ChannelKey, network_ids: Vec<String>) -> Result<Vec<(String, Reaction)>>;
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
    /// Those of these files that are stored. The bytes of the others are left over, and can be deleted.
    async fn stored_files(&self, ids: Vec<MediaId>) -> Result<Vec<StoredFile>>;
    /// A page of the sealed parts of delivered messages. The page begins behind the message `after`.
    async fn sealed_incoming(&self, after: Seq, limit: usize) -> Result<Vec<SealedIncoming>>;
    /// Replaces sealed parts of a message. `false` if one of them differs from `old`, or if there is no such message.
    async fn reseal_incoming(&self, old: SealedIncoming, new: SealedIncoming) -> Result<bool>;
    /// Looks at a batch of messages whose content their channels do not keep, and deletes the content of those whose events no
    /// webhook waits for. Texts of changes that wait for their message go as well.
    async fn delete_contents(&self, now: Millis) -> Result<ContentsDeleted>;
    /// Deletes a batch of all delivered messages, conversations and contacts of an owner. Returns their files, whose bytes
    /// can be deleted; `None` when nothing is left.
    async fn clear_inbox(&self, owner: Owner) -> Result<Option<Vec<MediaId>>>;
}

/// Arrivals that the store refused although it works: because of their content, or because of a fault of this version. They
/// are acknowledged to the network, which would otherwise deliver them again and again, and kept until the store takes them.
#[async_trait]
pub trait Refusals: Send + Sync + 'static {
    /// Keeps arrivals of a channel, and makes their next try due in some minutes. One that is kept already changes nothing.
    /// `false`, and nothing is kept, if the channel has too many.
    async fn keep_refused(&self, channel: ChannelKey, refused: Vec<NewRefused>, now: Millis) -> Result<bool>;
    /// Those whose next try is due, the longest due first.
    async fn due_refused(&self, now: Millis, limit: usize) -> Result<Vec<RefusedArrival>>;
    /// Does [`Inbox::receive`] for one that is kept, and deletes it in the same transaction. `None`, and nothing is stored, if
    /// it was erased in the meantime.
    async fn store_refused(&self, key: RefusedKey, arrivals: Arrivals, now: Millis) -> Result<Option<Vec<Received>>>;
    /// Notes that the store has refused one again. Its next try is due in some minutes.
    async fn defer_refused(&self, key: RefusedKey, now: Millis) -> Result<()>;
    /// Deletes one. `false` if it is gone.
    async fn forget_refused(&self, key: RefusedKey) -> Result<bool>;
    /// A page of all of them, behind this one.
    async fn sealed_refused(&self, after: Option<RefusedKey>, limit: usize) -> Result<Vec<RefusedArrival>>;
    /// Replaces the sealed bytes of one. `false` if the stored bytes differ from `old`, or if it is gone.
    async fn reseal_refused(&self, old: RefusedArrival, new: Vec<u8>) -> Result<bool>;
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
    /// `None` if there is no such conversation. Of many messages the older ones are only shown as read until they are marked
    /// ([`Self::finish_left`]).
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
    /// A deleted channel that has conversations which go on.
    async fn deleted_channel_with_conversations(&self) -> Result<Option<ChannelKey>>;
    /// Closes a batch of the conversations of a deleted channel. Returns how many: none if it is not deleted.
    async fn close_of_deleted(&self, channel: ChannelKey, now: Millis) -> Result<usize>;
    /// Does a short step of what transactions left because there were too many rows. `true` if there may be more.
    async fn finish_left(&self) -> Result<bool>;
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
