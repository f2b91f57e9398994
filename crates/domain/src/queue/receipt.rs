//! Receipts of a network, and the transitions that they cause.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

use crate::channel::ChannelKey;
use crate::clock::Millis;
use crate::ids::{MessageId, NetworkId};
use crate::message::Pricing;
use crate::party::Party;
use crate::status::MessageStatus;

use super::{Patch, Position, Transition};

/// A network's report about a message that it accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub channel: ChannelKey,
    pub of: MessageRef,
    /// `Sent`, `Delivered`, `Read`, or `Failed`.
    pub status: MessageStatus,
    pub at: Millis,
    /// The person who reports it. The receipt counts only if the message was sent to this person. `None`: the network
    /// reports it.
    pub from: Option<Party>,
    /// The recipient as the network knows it.
    pub account: Option<String>,
    /// Code and text of a failure.
    pub error: Option<(String, String)>,
    /// The reason of a pause: the network accepts nothing more from the channel until a person acts. A receipt that moves no
    /// message causes no pause.
    pub pauses: Option<String>,
    /// What the network says of the price.
    pub pricing: Option<Pricing>,
}

/// How a receipt names a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageRef {
    /// By the network id that we assigned.
    NetworkId(NetworkId),
    /// By an id of the network, and by our message id if the network returns it.
    RemoteId { remote_id: NetworkId, ours: Option<MessageId> },
}

/// The most unmatched receipts of a channel. More of them come from another program that sends with the same number.
pub const MAX_UNMATCHED_RECEIPTS: i64 = 1_000;

/// A message that a receipt names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The channel, number and state of the message.
    pub position: Position,
    /// The network's own id, if it is known.
    pub remote_id: Option<String>,
    /// The message was queued again although it may have arrived.
    pub resent: bool,
    /// When the message was first sent to the network.
    pub sending_at: Option<Millis>,
}

impl Found {
    /// The transition that the receipt causes; `None` if it is late, repeated, or not about this message.
    pub fn on_receipt<'a>(&self, receipt: &'a Receipt) -> Option<Transition<'a>> {
        // A message that was sent again may be on the network twice. The failure of one attempt proves nothing about the
        // other, so the message keeps its state until more is known.
        let of_another_attempt = self.resent || self.is_of_another_attempt(receipt);
        if receipt.status == MessageStatus::Failed && of_another_attempt {
            return None;
        }
        // The network's clock may be behind: no receipt is from before the first attempt.
        let at = receipt.at.max(self.sending_at.unwrap_or(receipt.at));
        let error = receipt.error.as_ref().map(|(code, message)| (code.as_str(), message.as_str()));
        let (account, pricing) = (receipt.account.as_deref(), receipt.pricing.as_ref());
        let patch = Patch { account, error, pricing, ..Patch::default() };
        self.position.moves_to(receipt.status, at, patch)
    }

    /// Whether the receipt is about another attempt than the acknowledged one.
    fn is_of_another_attempt(&self, receipt: &Receipt) -> bool {
        match &receipt.of {
            MessageRef::RemoteId { remote_id, ours: Some(_) } => {
                self.remote_id.as_deref().is_some_and(|known| known != remote_id.as_str())
            }
            MessageRef::RemoteId { ours: None, .. } | MessageRef::NetworkId(_) => false,
        }
    }

    /// The network's own id of the message, if this receipt is the first to name it.
    pub fn named_by<'a>(&self, receipt: &'a Receipt) -> Option<&'a str> {
        match &receipt.of {
            MessageRef::RemoteId { remote_id, ours: Some(_) } if self.remote_id.is_none() => Some(remote_id.as_str()),
            MessageRef::RemoteId { .. } | MessageRef::NetworkId(_) => None,
        }
    }
}

impl Receipt {
    /// Whether the receipt proves that the message arrived, including an attempt without an answer.
    pub fn proves_arrival(&self) -> bool {
        matches!(self.status, MessageStatus::Delivered | MessageStatus::Read)
    }

    /// Whether the recipient no longer counts as new, if the receipt moves the message.
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
        Receipt { channel: 1, of, status, at: 200, from: None, account: None, error: None, pauses: None, pricing: None }
    }

    fn by_network_id(status: MessageStatus) -> Receipt {
        receipt(MessageRef::NetworkId("3EB0".parse().expect("an id")), status)
    }

    fn by_our_id(remote_id: &str, status: MessageStatus) -> Receipt {
        let ours = Some(crate::ids::MessageId::new(1, [0; 10]));
        receipt(MessageRef::RemoteId { remote_id: remote_id.parse().expect("an id"), ours }, status)
    }

    /// The effect of each receipt on a sent message in each state.
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
    fn no_receipt_moves_a_message_that_was_never_sent() {
        for to in [Sent, Delivered, Read, Failed] {
            assert_eq!(found(Queued, false).on_receipt(&by_network_id(to)), None, "{to:?}");
        }
    }

    #[test]
    fn the_failure_of_one_attempt_proves_nothing_about_another() {
        let resent = Found { resent: true, ..found(Sent, true) };
        assert_eq!(resent.on_receipt(&by_network_id(Failed)), None);
        assert!(resent.on_receipt(&by_network_id(Read)).is_some());
        let acknowledged = Found { remote_id: Some("a".to_owned()), ..found(Sent, true) };
        assert_eq!(acknowledged.on_receipt(&by_our_id("b", Failed)), None);
        assert!(acknowledged.on_receipt(&by_our_id("a", Failed)).is_some());
        assert!(acknowledged.on_receipt(&by_our_id("b", Delivered)).is_some());
    }

    #[test]
    fn no_receipt_is_dated_before_the_first_attempt() {
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
    fn only_delivery_and_read_receipts_prove_arrival() {
        let table = [(Sent, false, true), (Delivered, true, true), (Read, true, true), (Failed, false, false)];
        for (status, arrived, opens) in table {
            let receipt = by_network_id(status);
            assert_eq!((receipt.proves_arrival(), receipt.opens_chat()), (arrived, opens), "{status:?}");
        }
        assert!(!by_our_id("a", Read).opens_chat(), "a network that names messages counts no chats");
    }
}
