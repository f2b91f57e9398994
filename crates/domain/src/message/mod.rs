//! Messages: what one carries, in the form in which it is stored; one that is to be stored; one that is read back.

mod accept;
mod event;
mod read;
mod rendition;

use serde::{Deserialize, Serialize};

use crate::contact::{ContactCard, ContactMessage, GivenPhone};
use crate::phone::{InvalidPhone, PhoneNumber};

pub use accept::{Enqueued, Idempotency, NewMessage, Seq};
pub use event::{MessageEvent, StatusChange};
pub use read::{Cancelled, Message, MessageQuery, Page, SCANNED_AT_MOST};
pub use rendition::{CardAccount, ContactRendition, RenderedCard};

/// A message's content with the recipient as the caller wrote it. Stored as JSON, so that further kinds and fields need
/// no new columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The recipient as given.
    pub to: String,
    /// What is sent.
    #[serde(flatten)]
    pub content: Content,
}

/// The kinds of content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Content {
    /// A contact card.
    Contact {
        /// The card's fields as given.
        contact: GivenContact,
        /// The digits of the card's number, where they are not those that were given.
        #[serde(default, rename = "phoneDigits", skip_serializing_if = "Option::is_none")]
        phone_digits: Option<String>,
    },
}

/// A card's fields as the caller wrote them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields of the contact call")]
pub struct GivenContact {
    pub name: String,
    pub phone: String,
    pub email: Option<String>,
    pub organization: Option<String>,
    #[serde(rename = "firstName", default, skip_serializing_if = "Option::is_none")]
    pub first_name: Option<String>,
    #[serde(rename = "lastName", default, skip_serializing_if = "Option::is_none")]
    pub last_name: Option<String>,
}

impl Content {
    /// The number on the card. What it means was decided when it was stored: rules and settings may have changed since.
    pub fn card_phone(&self) -> Result<PhoneNumber, InvalidPhone> {
        let Self::Contact { contact, phone_digits } = self;
        PhoneNumber::of_stored(phone_digits.as_deref().unwrap_or(&contact.phone))
    }

    /// The card of these fields, which were valid when they were stored.
    pub fn card(&self) -> Result<ContactCard, InvalidPhone> {
        let number = self.card_phone()?;
        let Self::Contact { contact, .. } = self;
        let phone = GivenPhone { given: contact.phone.clone(), number };
        let GivenContact { name, email, organization, first_name, last_name, .. } = contact.clone();
        Ok(ContactCard { name, phone, email, organization, first_name, last_name })
    }
}

impl From<&ContactMessage> for Stored {
    fn from(message: &ContactMessage) -> Self {
        let card = &message.card;
        let contact = GivenContact {
            name: card.name.clone(),
            phone: card.phone.given.clone(),
            email: card.email.clone(),
            organization: card.organization.clone(),
            first_name: card.first_name.clone(),
            last_name: card.last_name.clone(),
        };
        let number = &card.phone.number;
        let as_given = PhoneNumber::of_stored(&card.phone.given).is_ok_and(|given| given == *number);
        let phone_digits = (!as_given).then(|| number.digits().to_owned());
        Self { to: message.to.given.clone(), content: Content::Contact { contact, phone_digits } }
    }
}
