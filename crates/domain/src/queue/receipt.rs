//! What a network says of a message later.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

use crate::channel::ChannelKey;
use crate::clock::Millis;
use crate::ids::{MessageId, NetworkId};
use crate::party::Party;
use crate::status::MessageStatus;

/// The network's word on a message that it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub channel: ChannelKey,
    pub of: Named,
    /// `Sent`, `Delivered`, `Read`, or `Failed`.
    pub status: MessageStatus,
    pub at: Millis,
    /// Whose word it is, where that is a person's: it counts only if the message was sent to them. `None`: the network's
    /// own.
    pub from: Option<Party>,
    /// The recipient as the network knows it.
    pub account: Option<String>,
    /// Code and text, where it failed.
    pub error: Option<(String, String)>,
    /// Why the channel is paused with it: the network takes nothing more until a person has done something. A receipt
    /// that moves no message pauses nothing.
    pub pauses: Option<String>,
}

/// How a network names a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// By the network id that we gave it.
    NetworkId(NetworkId),
    /// By an id of its own, and by our message id where it hands that back.
    RemoteId { remote_id: NetworkId, ours: Option<MessageId> },
}
