//! Messages: the stored content, a message to store, and a message that is read.

mod accept;
mod event;
mod read;

use serde::{Deserialize, Serialize};

use crate::ids::MessageId;
use crate::kinds::{Call, Content};

pub use crate::kinds::contact::{CardAccount, ContactRendition, RenderedCard};
pub use accept::{Enqueued, Idempotency, NewMessage, Promoted, Seq, is_scheduled};
pub use event::{MessageEvent, Pricing, StatusChange};
pub use read::{Backlog, Cancelled, Message, MessageQuery, Page, Place, SCANNED_AT_MOST};

/// A message's content with the recipient as the caller wrote it. It is stored as JSON, so that further kinds and fields need
/// no new columns. A message that is accepted lends its parts; a message that is read has its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored<T = String, C = Content> {
    /// The recipient as given.
    pub to: T,
    /// The message that this message quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<Target>,
    /// The content.
    #[serde(flatten)]
    pub content: C,
}

/// A message that another message quotes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Its id.
    pub id: MessageId,
    /// The network id that the quoted message had when the other one was accepted.
    pub network_id: String,
    /// Whether the network delivered it. Otherwise a call sent it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub received: bool,
}

impl<'a> Stored<&'a str, &'a Content> {
    /// The stored form of a call.
    pub fn new(call: &'a Call, reply_to: Option<Target>) -> Self {
        let to = call.common.to.as_ref().map_or("", |to| &*to.given);
        Self { to, reply_to, content: &call.content }
    }
}

impl Stored {
    /// The message that a stored message quotes. The content is not read.
    pub fn target(payload: &str) -> Option<Target> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Quote {
            reply_to: Option<Target>,
        }
        serde_json::from_str::<Quote>(payload).ok()?.reply_to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_of_every_version_is_read() {
        // The field names are those of versions before the registry of kinds.
        for payload in [
            r#"{"to":"5511999998888","type":"contact","contact":{"name":"Maria","phone":"+55 11 98888-7777","email":null,"organization":null}}"#,
            r#"{"to":"1","type":"contact","contact":{"name":"M","phone":"11988887777","email":"m@x.co","organization":"A","firstName":"M","lastName":"S"},"phoneDigits":"5511988887777"}"#,
        ] {
            let stored: Stored = serde_json::from_str(payload).unwrap();
            assert_eq!(serde_json::to_string(&stored).unwrap(), payload);
            let Content::Contact(contact) = &stored.content else { panic!("{stored:?}") };
            assert_eq!(contact.cards().unwrap()[0].phones[0].number.digits(), "5511988887777");
        }
    }

    #[test]
    fn a_target_is_stored_beside_the_content() {
        let id = MessageId::new(1, [7; 10]);
        let payload = format!(
            r#"{{"to":"1","replyTo":{{"id":"{id}","networkId":"3EB0"}},"type":"text","text":{{"content":"x"}}}}"#
        );
        let stored: Stored = serde_json::from_str(&payload).unwrap();
        assert_eq!(stored.reply_to, Some(Target { id, network_id: "3EB0".to_owned(), received: false }));
        assert_eq!(Stored::target(&payload), stored.reply_to);
        assert_eq!(Stored::target(r#"{"to":"1","type":"text","text":{"content":"x"}}"#), None);
        assert_eq!(serde_json::to_string(&stored).unwrap(), payload);
        let of_received = payload.replace(r#""3EB0"}"#, r#""3EB0","received":true}"#);
        assert!(Stored::target(&of_received).is_some_and(|target| target.received), "{of_received}");
    }
}
