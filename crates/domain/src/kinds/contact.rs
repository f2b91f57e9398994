//! The kind `contact`: one card in the short form, or up to ten cards.
//!
//! The fields are parsed into [`Card`]s that cannot be invalid. The cards are rendered once into the [`ContactRendition`],
//! which every attempt sends. The given fields are stored beside it.

mod card;
mod parse;
mod rendition;
mod schemas;
mod vcard;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Feature, FieldSpec, MessageKind, Parts, Reader};
use crate::channel::ChannelType;
use crate::email;
use crate::field_errors::FieldErrors;
use crate::phone::{InvalidPhone, PhoneNumber};

pub use card::{Address, Card, CardPhone, Email, Place};
pub use rendition::{CardAccount, ContactRendition, RenderedCard};
pub use vcard::{file, render};

/// The most code points of a name or an organisation.
pub const NAME_LIMIT: usize = 200;
/// The most code points of a first or a last name.
pub const PART_LIMIT: usize = 100;

/// The cards of a message in their stored form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum Contact {
    /// One card with one number.
    Short {
        /// The card's fields as given.
        contact: Box<GivenContact>,
        /// The digits of the card's number, if they differ from the given ones.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        phone_digits: Option<String>,
    },
    /// One to ten cards.
    Long {
        /// The cards' fields as given.
        contacts: Vec<GivenCard>,
        /// The digits of each card's numbers.
        phone_digits: Vec<Vec<String>>,
    },
}

/// The fields of a card in the short form, as the caller wrote them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields of the contact call")]
pub struct GivenContact {
    pub name: String,
    pub phone: String,
    pub email: Option<String>,
    pub organization: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub department: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub birthday: Option<String>,
}

/// The fields of a card in the long form, as the caller wrote them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields of the contact call")]
pub struct GivenCard {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub department: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    pub phones: Vec<Entry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub emails: Vec<Entry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<Entry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub birthday: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
}

/// A number, an e-mail address or a web address, with its type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// As the caller wrote it. The name on the wire identifies the kind of value.
    #[serde(flatten)]
    pub value: EntryValue,
    /// The type, if it was given.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// The value of an [`Entry`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "named as what they hold")]
pub enum EntryValue {
    Phone(String),
    Email(String),
    Url(String),
}

impl EntryValue {
    /// The text.
    pub fn text(&self) -> &str {
        let (Self::Phone(text) | Self::Email(text) | Self::Url(text)) = self;
        text
    }
}

impl Contact {
    /// The cards, whose fields were valid when they were stored.
    ///
    /// # Errors
    ///
    /// A stored number is not a number any more.
    pub fn cards(&self) -> Result<Vec<Card>, InvalidPhone> {
        // The digits were decided when the card was stored: rules and settings may have changed since.
        match self {
            Self::Short { contact, phone_digits } => {
                let number = contact.number(phone_digits.as_deref())?;
                Ok(vec![Card::of_short(contact, number)])
            }
            Self::Long { contacts, phone_digits } => {
                let none = Vec::new();
                let digits = phone_digits.iter().chain(std::iter::repeat(&none));
                let card =
                    |(given, digits): (&GivenCard, &Vec<String>)| Ok(Card::of_long(given, given.numbers(digits)?));
                contacts.iter().zip(digits).map(card).collect()
            }
        }
    }
}

impl GivenContact {
    /// The card's number; `digits` if they differ from the given ones.
    fn number(&self, digits: Option<&str>) -> Result<PhoneNumber, InvalidPhone> {
        PhoneNumber::of_stored(digits.unwrap_or(&self.phone))
    }
}

impl GivenCard {
    /// The card's numbers, by the stored digits if there are any.
    fn numbers(&self, digits: &[String]) -> Result<Vec<PhoneNumber>, InvalidPhone> {
        let given = self.phones.iter().enumerate();
        given
            .map(|(index, entry)| PhoneNumber::of_stored(digits.get(index).map_or(entry.value.text(), String::as_str)))
            .collect()
    }
}

impl MessageKind for Contact {
    const NAME: &'static str = "contact";
    const TITLE: (&'static str, &'static str) = ("Send a contact card", "sendContact");
    const BODY: &'static str = "ContactCall";
    const ABOUT: &'static str = schemas::ABOUT;
    const FIELDS: &'static [FieldSpec] = schemas::FIELDS;

    fn parse(reader: &mut Reader<'_, '_>) -> Result<Option<Self>, FieldErrors> {
        parse::contact(reader)
    }

    fn supports(_: ChannelType, feature: Feature) -> bool {
        match feature {
            Feature::Kind | Feature::ReplyTo | Feature::Own | Feature::Schedule | Feature::SeveralContacts => true,
            // Not offered until the server stores media.
            Feature::Photo => false,
            Feature::LinkPreview => false,
        }
    }

    fn fingerprint<'a>(&'a self, parts: &mut Parts<'a>) {
        match self {
            Self::Short { contact, .. } => fingerprint_short(self, contact, parts),
            Self::Long { .. } => {
                let cards: Vec<_> = self.cards().unwrap_or_default().iter().map(normalised).collect();
                parts.push_content("contacts", [Some(json!(cards).to_string().into())]);
            }
        }
    }

    fn shown(&self) -> (&'static str, Value) {
        match self {
            Self::Short { contact, .. } => ("contact", json!(contact)),
            Self::Long { contacts, .. } => ("contacts", json!(contacts)),
        }
    }

    fn shown_schemas() -> Vec<(&'static str, Value)> {
        schemas::shown()
    }

    fn cards(&self) -> Vec<Card> {
        self.cards().unwrap_or_default()
    }

    fn shown_rendition(&self, rendition: &str) -> Option<(&'static str, Value)> {
        let rendition = ContactRendition::from_json(rendition)?;
        let source = |account: &CardAccount| if account.known { "NETWORK" } else { "TYPED" };
        let shown = |account: &CardAccount| json!({"waid": account.digits, "source": source(account)});
        match self {
            Self::Short { .. } => Some(("card", shown(rendition.first_account()?))),
            Self::Long { .. } => {
                let cards = rendition
                    .cards
                    .iter()
                    .map(|card| json!({"accounts": card.accounts.iter().map(shown).collect::<Vec<_>>()}));
                Some(("cards", cards.collect()))
            }
        }
    }

    fn needs() -> Value {
        schemas::needs()
    }

    fn examples() -> Vec<Value> {
        schemas::examples()
    }
}

/// A card by the meaning of its fields: digits of numbers, compared forms of e-mail addresses, and default types.
fn normalised(card: &Card) -> Value {
    let Card {
        name,
        first_name,
        last_name,
        organization,
        department,
        title,
        phones,
        emails,
        urls,
        birthday,
        addresses,
    } = card;
    let phones: Vec<_> = phones.iter().map(|phone| (phone.number.digits(), phone.place.name())).collect();
    let emails: Vec<_> = emails.iter().map(|Email { email, place }| (email::compared(email), place)).collect();
    let names = [Some(name), first_name.as_ref(), last_name.as_ref(), organization.as_ref(), department.as_ref()];
    json!([names, title, phones, emails, urls, birthday, addresses])
}

/// The form of every version: absent later fields do not change the fingerprint.
fn fingerprint_short<'a>(content: &'a Contact, contact: &'a GivenContact, parts: &mut Parts<'a>) {
    let Contact::Short { phone_digits, .. } = content else { return };
    let digits = contact.number(phone_digits.as_deref()).map(|number| number.digits().to_owned()).unwrap_or_default();
    let email = contact.email.as_deref();
    let email = email.map(|given| if parts.composed { email::compared(given) } else { given.into() });
    let text = |value: &'a Option<String>| value.as_deref().map(Into::into);
    parts.push([Some(contact.name.as_str().into()), Some(digits.into()), email, text(&contact.organization)]);
    if contact.first_name.is_some() || contact.last_name.is_some() {
        parts.push_behind([text(&contact.first_name), text(&contact.last_name)]);
    }
    for (name, value) in [
        ("title", &contact.title),
        ("department", &contact.department),
        ("url", &contact.url),
        ("birthday", &contact.birthday),
    ] {
        parts.push_named(name, text(value));
    }
}

#[cfg(test)]
mod tests;
