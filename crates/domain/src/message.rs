//! What a message carries, in the form in which it is stored.

use serde::{Deserialize, Serialize};

use crate::contact::{ContactCard, ContactMessage, GivenPhone};
use crate::phone::{InvalidPhone, PhoneNumber};

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
}

impl GivenContact {
    /// The card of these fields, which were valid when they were stored.
    pub fn card(&self) -> Result<ContactCard, InvalidPhone> {
        let phone = GivenPhone { given: self.phone.clone(), number: PhoneNumber::parse(&self.phone)? };
        let (email, organization) = (self.email.clone(), self.organization.clone());
        Ok(ContactCard { name: self.name.clone(), phone, email, organization })
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
        };
        Self { to: message.to.given.clone(), content: Content::Contact { contact } }
    }
}
