//! The ports of messages that are sent.

use async_trait::async_trait;
use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::event::Owner;
use recado_domain::ids::MessageId;
use recado_domain::message::{
    Backlog, Cancelled, Enqueued, Idempotency, Message, MessageQuery, NewMessage, Page, Promoted,
};
use recado_domain::queue::{Claim, ClaimRequest, Outcomes, PurgeRequest, Purged, Receipt, Submitted};

use crate::person::{Erased, Erasure, PersonPage, PersonQuery};
use crate::{Result, StoreError};

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
    /// Deletes a batch of old data.
    async fn purge(&self, request: PurgeRequest) -> Result<Purged>;
}
