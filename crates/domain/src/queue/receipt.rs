//! What a network says of a message later, and what that makes of the message.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

use crate::channel::ChannelKey;
use crate::clock::Millis;
use crate::ids::{MessageId, NetworkId};
use crate::party::Party;
use crate::status::MessageStatus;

use super::{Patch, Position, Transition};

/// The network's word on a message that it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub channel: ChannelKey,
    pub of: MessageRef,
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
pub enum MessageRef {
    /// By the network id that we gave it.
    NetworkId(NetworkId),
    /// By an id of its own, and by our message id where it hands that back.
    RemoteId { remote_id: NetworkId, ours: Option<MessageId> },
}

/// Receipts of a channel that wait for a message to be named, at most. More than that come of another program's sending, on
/// a number that it shares with us.
pub const MAX_UNMATCHED_RECEIPTS: i64 = 1_000;

/// A message that a receipt names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it stands.
    pub position: Position,
    /// Its own id on the network, where that is known.
    pub remote_id: Option<String>,
    /// It was queued again though the network may have it.
    pub resent: bool,
    /// When it was first handed to the network.
    pub sending_at: Option<Millis>,
}

impl Found {
    /// The transition that the receipt makes; `None` where it comes late, twice, or says nothing of this message.
    pub fn on_receipt<'a>(&self, receipt: &'a Receipt) -> Option<Transition<'a>> {
        // The network may have one that was sent again twice. That one sending failed says nothing of the other, and a
        // card that is there must not be told as failed: it stays where it is until more is known.
        let of_another_sending = self.resent || self.has_another_id_than(receipt);
        if receipt.status == MessageStatus::Failed && of_another_sending {
            return None;
        }
        // Nothing happened to it before it was first handed over, whatever the network's clock says.
        let at = receipt.at.max(self.sending_at.unwrap_or(receipt.at));
        let error = receipt.error.as_ref().map(|(code, message)| (code.as_str(), message.as_str()));
        let patch = Patch { account: receipt.account.as_deref(), error, ..Patch::default() };
        self.position.moves_to(receipt.status, at, patch)
    }

    /// Whether the receipt speaks of another sending of it than the one that was acknowledged.
    fn has_another_id_than(&self, receipt: &Receipt) -> bool {
        match &receipt.of {
            MessageRef::RemoteId { remote_id, ours: Some(_) } => {
                self.remote_id.as_deref().is_some_and(|known| known != remote_id.as_str())
            }
            MessageRef::RemoteId { ours: None, .. } | MessageRef::NetworkId(_) => false,
        }
    }

    /// The network's own id of the message, where this receipt is the first to tell it.
    pub fn named_by<'a>(&self, receipt: &'a Receipt) -> Option<&'a str> {
        match &receipt.of {
            MessageRef::RemoteId { remote_id, ours: Some(_) } if self.remote_id.is_none() => Some(remote_id.as_str()),
            MessageRef::RemoteId { .. } | MessageRef::NetworkId(_) => None,
        }
    }
}

impl Receipt {
    /// Whether it shows that the recipient has the message: then an attempt without an answer arrived all the same.
    pub fn shows_arrival(&self) -> bool {
        matches!(self.status, MessageStatus::Delivered | MessageStatus::Read)
    }

    /// Whether its message's recipient is no new one from then on, where it moves the message.
    pub fn opens_chat(&self) -> bool {
        matches!(self.of, MessageRef::NetworkId(_)) && self.status != MessageStatus::Failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use MessageStatus::{Cancelled, Delivered, Expired, Failed, Queued, Read, Sending, Sent, Unknown};

    fn found(status: MessageStatus, attempted: bool) -> Found {
        let position = Position { channel: 1, seq: 7, status, attempted };
        Found { position, remote_id: None, resent: false, sending_at: Some(100) }
    }

    fn receipt(of: MessageRef, status: MessageStatus) -> Receipt {
        Receipt { channel: 1, of, status, at: 200, from: None, account: None, error: None, pauses: None }
    }

    fn by_network_id(status: MessageStatus) -> Receipt {
        receipt(MessageRef::NetworkId("3EB0".parse().expect("an id")), status)
    }

    fn by_our_id(remote_id: &str, status: MessageStatus) -> Receipt {
        let ours = Some(crate::ids::MessageId::new(1, [0; 10]));
        receipt(MessageRef::RemoteId { remote_id: remote_id.parse().expect("an id"), ours }, status)
    }

    /// What each receipt makes of a message in each state that was handed over before.
    #[test]
    fn the_table_of_receipts() {
        let legal = [
            (Queued, vec![Sent, Delivered, Read, Failed]),
            (Sending, vec![Sent, Delivered, Read, Failed]),
            (Sent, vec![Delivered, Read, Failed]),
            (Delivered, vec![Read]),
            (Unknown, vec![Sent, Delivered, Read, Failed]),
            (Read, vec![]),
            (Failed, vec![]),
            (Expired, vec![]),
            (Cancelled, vec![]),
        ];
        for (from, legal) in legal {
            for to in [Sent, Delivered, Read, Failed] {
                let receipt = by_network_id(to);
                let moved = found(from, true).on_receipt(&receipt).map(|transition| transition.to());
                assert_eq!(moved, legal.contains(&to).then_some(to), "{from:?}, {to:?}");
            }
        }
    }

    #[test]
    fn a_message_that_nobody_sent_is_moved_by_no_receipt() {
        for to in [Sent, Delivered, Read, Failed] {
            assert_eq!(found(Queued, false).on_receipt(&by_network_id(to)), None, "{to:?}");
        }
    }

    #[test]
    fn that_one_of_two_sendings_failed_says_nothing_of_the_other() {
        let resent = Found { resent: true, ..found(Sent, true) };
        assert_eq!(resent.on_receipt(&by_network_id(Failed)), None);
        assert!(resent.on_receipt(&by_network_id(Read)).is_some());
        let acknowledged = Found { remote_id: Some("a".to_owned()), ..found(Sent, true) };
        assert_eq!(acknowledged.on_receipt(&by_our_id("b", Failed)), None);
        assert!(acknowledged.on_receipt(&by_our_id("a", Failed)).is_some());
        assert!(acknowledged.on_receipt(&by_our_id("b", Delivered)).is_some());
    }

    #[test]
    fn nothing_is_dated_before_the_message_was_handed_over() {
        let early = Receipt { at: 50, ..by_network_id(Delivered) };
        let late = by_network_id(Delivered);
        let dated = |receipt| found(Sent, true).on_receipt(receipt).and_then(|moved| moved.reached(Delivered));
        assert_eq!((dated(&early), dated(&late)), (Some(100), Some(200)));
    }

    #[test]
    fn a_receipt_brings_the_account_and_the_error() {
        let error = Some(("1".to_owned(), "x".to_owned()));
        let receipt = Receipt { account: Some("55".to_owned()), error, ..by_network_id(Failed) };
        let moved = found(Sent, true).on_receipt(&receipt).expect("legal");
        assert_eq!(moved.patch(), &Patch { account: Some("55"), error: Some(("1", "x")), ..Patch::default() });
    }

    #[test]
    fn the_first_receipt_with_our_id_names_the_message() {
        let named = Found { remote_id: Some("a".to_owned()), ..found(Sent, true) };
        assert_eq!(found(Sent, true).named_by(&by_our_id("b", Sent)), Some("b"));
        assert_eq!(named.named_by(&by_our_id("b", Sent)), None);
        assert_eq!(found(Sent, true).named_by(&by_network_id(Sent)), None);
    }

    #[test]
    fn what_a_receipt_shows() {
        let table = [(Sent, false, true), (Delivered, true, true), (Read, true, true), (Failed, false, false)];
        for (status, arrived, opens) in table {
            let receipt = by_network_id(status);
            assert_eq!((receipt.shows_arrival(), receipt.opens_chat()), (arrived, opens), "{status:?}");
        }
        assert!(!by_our_id("a", Read).opens_chat(), "a network that names messages counts no chats");
    }
}
