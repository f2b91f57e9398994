//! Sends a contact card.

use std::sync::Arc;
use std::time::Duration;

use whatsapp_rust::buffa::MessageField;
use whatsapp_rust::client::ClientError;
use whatsapp_rust::futures::FutureExt;
use whatsapp_rust::wacore_binary::{Jid, Node};
use whatsapp_rust::waproto::whatsapp::{self as wa, message::ContactMessage};
use whatsapp_rust::{Client, NodeFilter, SendError, SendOptions};

use super::bounded::within;
use super::{Session, own_addresses};

/// Longer than a recipient's devices and keys take to fetch, shorter than anybody waits.
const LIMIT: Duration = Duration::from_secs(15);

/// A contact card to one account.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The message's id on the network: the same id again is the same message again.
    pub id: String,
    /// Digits, as [`Session::look_up`] gave them.
    pub account: String,
    pub display_name: String,
    pub vcard: String,
}

/// Why a message, or a sign, did not leave.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// It may have left all the same: the line broke on the way. The same id may be submitted again.
    #[error("the line is down")]
    Down,
    /// Nothing of it left: its devices or their keys could not be asked for, or the line was down before it was ready.
    #[error("nothing was sent: {0}")]
    NotSent(String),
    /// The network knows no device of the recipient: the message went to the sender's own phone alone.
    #[error("the recipient has no device that could receive the message")]
    NoDevice,
    #[error("{0}")]
    Other(String),
}

impl Session {
    /// Hands the message to the network. Whether the network takes it comes as
    /// [`Acked`](crate::Event::Acked) or [`Nacked`](crate::Event::Nacked): no answer is no answer, and the same id may
    /// be submitted again.
    pub async fn submit(&self, message: &Outgoing) -> Result<(), SubmitError> {
        if !self.is_up() {
            return Err(SubmitError::Down);
        }
        let filter = NodeFilter::tag("message").attr("id", &message.id);
        let stanza = self.client.wait_for_sent_node(filter);
        let to = Jid::pn(&message.account);
        let options = SendOptions::default().with_message_id(&message.id);
        let (client, card) = (Arc::clone(&self.client), contact(message));
        let sent = within(LIMIT, async move { client.send_message_with_options(to, card, options).await }).await;
        // The library tells of a stanza before it hands the bytes on. Of one that it did not tell of, none has left.
        let stanza = stanza.now_or_never().and_then(Result::ok);
        match (sent, stanza) {
            // The library says `Ok` too when nobody but the sender's own phone is in the stanza.
            (Ok(Ok(_)), Some(stanza)) if reaches(&self.client, &stanza, &message.account) => Ok(()),
            (Ok(Ok(_)), Some(_)) => Err(SubmitError::NoDevice),
            (Ok(Ok(_)), None) => Err(SubmitError::Down),
            (Ok(Err(error)), Some(_)) => Err(send_error(error)),
            (Err(error), Some(_)) => Err(SubmitError::Other(error.to_string())),
            (Ok(Err(error)), None) => Err(SubmitError::NotSent(error.to_string())),
            (Err(error), None) => Err(SubmitError::NotSent(error.to_string())),
        }
    }
}

fn contact(message: &Outgoing) -> wa::Message {
    let contact = ContactMessage {
        display_name: Some(message.display_name.clone()),
        vcard: Some(message.vcard.clone()),
        ..ContactMessage::default()
    };
    wa::Message { contact_message: MessageField::some(contact), ..wa::Message::default() }
}

/// Whether a device that is not ours gets a copy; our own, when we write to ourselves.
fn reaches(client: &Client, stanza: &Node, account: &str) -> bool {
    let own = own_addresses(client);
    let is_ours = |user: &str| own.iter().any(|jid| jid.user == *user);
    let Some(participants) = stanza.get_optional_child("participants") else { return false };
    participants.get_children_by_tag("to").filter_map(|to| to.attrs.get("jid")).any(|jid| {
        let jid = jid.to_string();
        let user = jid.split(['@', ':', '.']).next().unwrap_or_default();
        !is_ours(user) || is_ours(account)
    })
}

fn send_error(error: SendError) -> SubmitError {
    match error {
        SendError::NotLoggedIn
        | SendError::Client(ClientError::NotConnected | ClientError::NotLoggedIn | ClientError::Socket(_)) => {
            SubmitError::Down
        }
        error => SubmitError::Other(error.to_string()),
    }
}
