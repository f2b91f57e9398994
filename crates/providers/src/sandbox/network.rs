//! The simulated network: its arrivals, and its inbox.
//!
//! It is separate from the store's rows on purpose: after a crash the store may not know of an arrival, as with a real
//! network, and tests check the difference.

pub(super) mod postgres;
pub(super) mod sqlite;
#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use recado_domain::channel::{ChannelKey, ChannelRef};
use recado_domain::clock::Millis;
use recado_domain::ids::{InstitutionId, NetworkId};
use recado_domain::incoming::Direction;
use recado_domain::message::{ContactRendition, RenderedCard};
use recado_domain::queue::{Claimed, MessageRef, Receipt};
use recado_domain::status::MessageStatus;
use recado_store::StoreError;
use recado_store::person::Person;
pub use sqlite::SCHEMA_VERSION;

/// The most messages whose receipts are sent together.
const RECEIPTS_AT_ONCE: i64 = 256;

/// The progress of a message's receipts.
const NONE_ACCEPTED: u8 = 0;
const READ_ACCEPTED: u8 = 2;
const NONE_SENT: u8 = 3;

/// A message that the network accepts.
pub(super) struct Arrival {
    pub(super) via: ChannelRef,
    pub(super) message: Claimed,
    pub(super) at: Millis,
    /// Whether receipts will be sent for it.
    pub(super) receipts: bool,
}

impl Arrival {
    /// The id of the message in the inbox.
    fn shown_id(&self) -> String {
        format!("msg_sandbox_{}", self.message.id)
    }

    /// The initial progress of its receipts.
    fn initial_receipts(&self) -> u8 {
        if self.receipts { NONE_ACCEPTED } else { NONE_SENT }
    }
}

/// The progress of an act of a person.
const OPEN: u8 = 0;
const HELD: u8 = 1;
const DELIVERED: u8 = 2;

/// The most acts that are delivered in one turn.
const UNDELIVERED_AT_ONCE: i64 = 100;

/// An act of a person, which the network stores until the gateway has it.
#[derive(Debug, Clone)]
pub(super) struct KeptAct {
    /// The number; set by the network.
    pub(super) n: i64,
    pub(super) via: ChannelRef,
    pub(super) network_id: String,
    /// Its id in the inbox.
    pub(super) id: String,
    /// The address of the person.
    pub(super) person: String,
    pub(super) kind: String,
    /// A [`Simulated`](recado_domain::simulation::Simulated) in JSON.
    pub(super) payload: String,
    /// How often it is delivered.
    pub(super) repeat: u32,
    pub(super) at: Millis,
    /// Whether it waits until the next act of the channel was delivered.
    pub(super) is_held: bool,
}

/// A message in the inbox.
#[derive(Debug, Clone)]
pub struct Shown {
    pub id: String,
    pub direction: Direction,
    pub channel_id: String,
    pub network_id: String,
    /// The other person.
    pub recipient: String,
    pub kind: String,
    /// The message as the caller gave it, in JSON.
    pub payload: String,
    pub rendition: Option<String>,
    pub received_at: Millis,
    /// How often it arrived; 0: the gateway does not have it yet.
    pub arrivals: u32,
    /// When the person saw that it was read.
    pub read_at: Option<Millis>,
}

/// The kind and the rendition of a row. A row without a kind was written by a version without kinds, with a `vcard`.
fn kind_and_rendition(kind: Option<String>, rendition: Option<String>, vcard: String) -> (String, Option<String>) {
    if let Some(kind) = kind {
        return (kind, rendition);
    }
    let card = RenderedCard { vcard, accounts: Vec::new() };
    ("contact".to_owned(), Some(ContactRendition { cards: vec![card] }.to_json()))
}

/// A query for a page of an institution's inbox, newest first.
#[derive(Debug, Clone)]
pub struct PhoneQuery {
    pub institution: InstitutionId,
    /// Messages of both directions, or of one.
    pub direction: Option<Direction>,
    /// Only messages to this number.
    pub recipient: Option<String>,
    /// Only messages before the one with this id.
    pub before: Option<NetworkId>,
    pub limit: usize,
}

/// Messages of one person in the inbox, each with its institution, in order of arrival.
#[derive(Debug)]
pub struct ShownOfPerson {
    pub shown: Vec<(InstitutionId, Shown)>,
    /// Where the next page begins. A page reads a bounded part of the inbox, and may be empty.
    pub next: Option<i64>,
}

/// The receipts of a row that are due.
struct Due {
    row: i64,
    accepted: u8,
    receipts: Vec<Receipt>,
}

impl Due {
    /// The due receipts of a row with this progress: `DELIVERED` is due one delay after the arrival, `READ` two.
    fn new(
        (row, accepted, received_at): (i64, u8, Millis),
        channel: ChannelKey,
        network_id: String,
        (now, delay): (Millis, Millis),
    ) -> Self {
        let of = MessageRef::NetworkId(NetworkId::from_stored(network_id));
        let receipts = [(MessageStatus::Delivered, 1), (MessageStatus::Read, 2)];
        let due = receipts.into_iter().skip(accepted.into()).filter(|(_, delays)| received_at + delay * delays <= now);
        let receipt = |(status, _)| {
            let of = of.clone();
            Receipt {
                channel,
                of,
                status,
                at: now,
                from: None,
                account: None,
                error: None,
                pauses: None,
                pricing: None,
            }
        };
        Self { row, accepted, receipts: due.map(receipt).collect() }
    }

    /// The progress of the row after these receipts were accepted.
    fn next(&self) -> u8 {
        self.receipts.iter().fold(self.accepted, |accepted, _| (accepted + 1).min(READ_ACCEPTED))
    }
}

/// A receiver of receipts.
#[async_trait]
pub(super) trait ReceiptSink: Send + Sync {
    /// Records receipts in their order. After `Ok` they need not be sent again.
    async fn accept(&self, receipts: Vec<Receipt>) -> Result<(), StoreError>;
}

/// The result of sending receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passed {
    /// Due receipts were sent. More may be due.
    Some,
    /// None is due yet.
    NotYet,
    /// There are none, and there will be none until a message arrives.
    None,
}

/// The storage of the network.
#[async_trait]
pub(super) trait Network: Send + Sync {
    /// Accepts a message, and recognises one that it has already.
    async fn arrive(&self, arrival: Arrival) -> Result<(), StoreError>;
    /// Sends some of the due receipts. They are sent again if they were not accepted. No other node sends them meanwhile.
    async fn pass_on(&self, now: Millis, delay: Millis, to: &dyn ReceiptSink) -> Result<Passed, StoreError>;
    /// Stores an act of a person; returns its number.
    async fn keep(&self, kept: KeptAct) -> Result<i64, StoreError>;
    /// The next acts to deliver, in their order: of one channel or of all, from before this time.
    async fn undelivered(&self, channel: Option<ChannelKey>, before: Millis) -> Result<Vec<KeptAct>, StoreError>;
    /// The gateway has an act, after so many deliveries. From then on the row shows their number.
    async fn delivered(&self, n: i64, times: u32) -> Result<(), StoreError>;
    /// The person sees that these messages were read, from this time on.
    async fn note_read(&self, channel: ChannelKey, network_ids: Vec<String>, at: Millis) -> Result<(), StoreError>;
    /// Releases the acts that were held on a channel.
    async fn release(&self, channel: ChannelKey) -> Result<(), StoreError>;
    /// Turns the service window of a channel on or off.
    async fn set_windowed(&self, channel: ChannelKey, is_windowed: bool) -> Result<(), StoreError>;
    /// Whether a channel has a service window.
    async fn is_windowed(&self, channel: ChannelKey) -> Result<bool, StoreError>;
    /// The last message on an institution's phone.
    async fn last(&self, institution: InstitutionId) -> Result<Option<i64>, StoreError>;
    /// Removes some messages up to this one from an institution's inbox. Returns whether there were any. It removes a part
    /// at a time, because other operations wait meanwhile.
    async fn clear(&self, institution: InstitutionId, last: i64) -> Result<bool, StoreError>;
    /// Deletes some of what arrived before this time, behind this place in the inboxes of all institutions: messages that have no
    /// receipt left to send, and acts that the gateway has. Returns the number of rows, and the next place; `None`: what
    /// follows is younger. It removes a part at a time, as [`clear`](Self::clear) does.
    async fn purge(&self, after: i64, before: Millis) -> Result<(u64, Option<i64>), StoreError>;
    /// A page of the inbox; `None` if `before` names no message of it.
    async fn shown(&self, query: PhoneQuery) -> Result<Option<Vec<Shown>>, StoreError>;
    /// A page of a person's messages in the inbox.
    async fn person(&self, person: Person, after: i64) -> Result<ShownOfPerson, StoreError>;
    /// Erases such a page. Returns the number of messages, and where the next page begins.
    async fn erase(&self, person: Person, after: i64) -> Result<(u64, Option<i64>), StoreError>;
    /// Removes erased data from the logs; see `Store::forget_erased`.
    async fn forget_erased(&self) -> Result<bool, StoreError>;
    /// The interval of polls for receipts of other processes; `None` if there is no other process.
    fn poll_interval(&self) -> Option<Duration>;
    /// Writes unsaved data and closes the file.
    async fn close(&self);
}
