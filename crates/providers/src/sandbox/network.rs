//! The simulated network: what arrived, and what the phone shows of it.
//!
//! Apart from the store's own rows on purpose: after a crash the store may not know of an arrival, as with a real network,
//! and the difference between the two is what tests look at.

pub(super) mod postgres;
pub(super) mod sqlite;
#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use recado_domain::channel::{ChannelKey, ChannelRef};
use recado_domain::clock::Millis;
use recado_domain::ids::{InstitutionId, NetworkId};
use recado_domain::message::{ContactRendition, RenderedCard};
use recado_domain::queue::{Claimed, MessageRef, Receipt};
use recado_domain::status::MessageStatus;
use recado_store::StoreError;
use recado_store::person::Person;

/// Messages whose receipts are passed on together.
const RECEIPTS_AT_ONCE: i64 = 256;

/// Where the receipts of a message stand.
const NONE_TAKEN: u8 = 0;
const READ_TAKEN: u8 = 2;
const NONE_SENT: u8 = 3;

/// A message as the network takes it.
pub(super) struct Arrival {
    pub(super) via: ChannelRef,
    pub(super) message: Claimed,
    pub(super) at: Millis,
    /// Whether receipts will be sent for it.
    pub(super) receipts: bool,
}

impl Arrival {
    /// What the phone calls it.
    fn shown_id(&self) -> String {
        format!("msg_sandbox_{}", self.message.id)
    }

    /// Where its receipts stand at first.
    fn receipts_stand(&self) -> u8 {
        if self.receipts { NONE_TAKEN } else { NONE_SENT }
    }
}

/// A message that the phone shows.
#[derive(Debug, Clone)]
pub struct Shown {
    pub id: String,
    pub channel_id: String,
    pub network_id: String,
    pub recipient: String,
    pub kind: String,
    /// The message as the caller gave it, in JSON.
    pub payload: String,
    pub rendition: Option<String>,
    pub received_at: Millis,
    /// How often it arrived.
    pub arrivals: u32,
}

/// The kind of a row and its rendition. Where there is no kind, a version before there were kinds wrote the row, and its
/// `vcard`.
fn kind_and_rendition(kind: Option<String>, rendition: Option<String>, vcard: String) -> (String, Option<String>) {
    if let Some(kind) = kind {
        return (kind, rendition);
    }
    let card = RenderedCard { vcard, accounts: Vec::new() };
    ("contact".to_owned(), Some(ContactRendition { cards: vec![card] }.to_json()))
}

/// A page of what an institution's phone shows, newest first.
#[derive(Debug, Clone)]
pub struct PhoneQuery {
    pub institution: InstitutionId,
    pub recipient: Option<String>,
    /// Only messages before the one with this id.
    pub before: Option<NetworkId>,
    pub limit: usize,
}

/// Messages that the phone shows of one person, each with its institution, in the order of their arrival.
#[derive(Debug)]
pub struct ShownOfPerson {
    pub shown: Vec<(InstitutionId, Shown)>,
    /// Where the next page begins; a page looks through a bounded part, and may be empty.
    pub next: Option<i64>,
}

/// The receipts of a row that are due.
struct Due {
    row: i64,
    taken: u8,
    receipts: Vec<Receipt>,
}

impl Due {
    /// Those of a row of which so many were taken: DELIVERED is due one delay after the arrival, READ two.
    fn new(
        (row, taken, received_at): (i64, u8, Millis),
        channel: ChannelKey,
        network_id: String,
        (now, delay): (Millis, Millis),
    ) -> Self {
        let of = MessageRef::NetworkId(NetworkId::from_stored(network_id));
        let words = [(MessageStatus::Delivered, 1), (MessageStatus::Read, 2)];
        let due = words.into_iter().skip(taken.into()).filter(|(_, delays)| received_at + delay * delays <= now);
        let receipt = |(status, _)| {
            let of = of.clone();
            Receipt { channel, of, status, at: now, from: None, account: None, error: None, pauses: None }
        };
        Self { row, taken, receipts: due.map(receipt).collect() }
    }

    /// Where the row's receipts stand when these are taken.
    fn next(&self) -> u8 {
        self.receipts.iter().fold(self.taken, |taken, _| (taken + 1).min(READ_TAKEN))
    }
}

/// Who takes receipts.
#[async_trait]
pub(super) trait Taker: Send + Sync {
    /// Takes receipts, in their order; they need not be sent again when this returns `Ok`.
    async fn take(&self, receipts: Vec<Receipt>) -> Result<(), StoreError>;
}

/// What was passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passed {
    /// Receipts that were due. More may be.
    Some,
    /// None is due yet.
    NotYet,
    /// There are none, and will be none until something arrives.
    None,
}

/// Where the network keeps what it knows.
#[async_trait]
pub(super) trait Network: Send + Sync {
    /// Takes a message; one that it has, it recognises.
    async fn arrive(&self, arrival: Arrival) -> Result<(), StoreError>;
    /// Passes on some of the receipts that are due. They are sent again where they were not taken. No other node passes them
    /// on meanwhile.
    async fn pass_on(&self, now: Millis, delay: Millis, to: &dyn Taker) -> Result<Passed, StoreError>;
    /// The last message on an institution's phone.
    async fn last(&self, institution: InstitutionId) -> Result<Option<i64>, StoreError>;
    /// Takes some messages up to this one off an institution's phone; whether there were any. A part at a time, because
    /// others wait meanwhile.
    async fn clear(&self, institution: InstitutionId, last: i64) -> Result<bool, StoreError>;
    /// A page of what the phone shows; `None` when `before` names nothing of it.
    async fn shown(&self, query: PhoneQuery) -> Result<Option<Vec<Shown>>, StoreError>;
    /// A page of what the phone shows of a person.
    async fn person(&self, person: Person, after: i64) -> Result<ShownOfPerson, StoreError>;
    /// Erases such a page; how many messages, and where the next page begins.
    async fn erase(&self, person: Person, after: i64) -> Result<(u64, Option<i64>), StoreError>;
    /// Takes what was erased out of what is kept beside the rows; see `Store::forget_erased`.
    async fn forget_erased(&self) -> Result<bool, StoreError>;
    /// How often to look for receipts of which this process has not heard; `None`: there is no other that could leave any.
    fn look_every(&self) -> Option<Duration>;
    /// Writes what is left and closes the file.
    async fn close(&self);
}
