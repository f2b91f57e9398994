//! Messages as they are read back.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

use crate::channel::ChannelKey;
use crate::clock::Millis;
use crate::ids::MessageId;
use crate::message::CardAccount;
use crate::message::Seq;
use crate::status::MessageStatus;

/// A message with all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub seq: Seq,
    pub id: MessageId,
    pub channel: ChannelKey,
    pub network_id: String,
    /// The network's own id, where it takes none of ours.
    pub remote_id: Option<String>,
    pub status: MessageStatus,
    pub recipient: String,
    pub account: Option<String>,
    pub payload: String,
    pub card: String,
    pub card_account: CardAccount,
    pub attempts: u32,
    pub error: Option<(String, String)>,
    pub expires_at: Millis,
    /// When each state was reached, by the state's number.
    pub reached: [Option<Millis>; MessageStatus::ALL.len()],
}

/// A page of a channel's messages, newest first.
#[derive(Debug, Clone)]
pub struct MessageQuery {
    pub channel: ChannelKey,
    pub status: Option<MessageStatus>,
    pub recipient: Option<String>,
    /// Only messages before this one.
    pub before: Option<MessageId>,
    pub limit: usize,
}

/// One page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub messages: Vec<Message>,
    /// Where the next page begins, if there is more.
    pub next: Option<MessageId>,
}

/// What became of a wish to cancel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancelled {
    Done,
    TooLate,
    NoMessage,
}
