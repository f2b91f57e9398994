//! A card with valid fields.

use serde::{Deserialize, Serialize};

use super::{EntryValue, GivenCard, GivenContact};
use crate::phone::PhoneNumber;

/// The content of a card. Every text is trimmed, not empty, and free of control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Full name.
    pub name: String,
    /// The part of the name that is not used for sorting.
    pub first_name: Option<String>,
    /// The part of the name that an address book sorts by.
    pub last_name: Option<String>,
    /// Organisation.
    pub organization: Option<String>,
    /// A department of the organisation.
    pub department: Option<String>,
    /// The person's position in the organisation.
    pub title: Option<String>,
    /// One to five numbers.
    pub phones: Vec<CardPhone>,
    /// E-mail addresses.
    pub emails: Vec<Email>,
    /// Web addresses, with their places.
    pub urls: Vec<(String, Place)>,
    /// `YYYY-MM-DD`.
    pub birthday: Option<String>,
    /// Postal addresses.
    pub addresses: Vec<Address>,
}

/// A number on a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardPhone {
    /// The number.
    pub number: PhoneNumber,
    /// The type of the number.
    pub place: Place,
}

/// An e-mail address on a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email {
    /// The address.
    pub email: String,
    /// The type of the address. The short form has none.
    pub place: Option<Place>,
}

/// The type of a number or an address: mobile, work or home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "named as what they are")]
pub enum Place {
    Cell,
    Work,
    Home,
}

impl Place {
    /// Every type.
    pub const ALL: [Self; 3] = [Self::Cell, Self::Work, Self::Home];

    /// The name of the type on the wire and on a card.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cell => "CELL",
            Self::Work => "WORK",
            Self::Home => "HOME",
        }
    }
}

/// A postal address with at least one part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields of the contact call")]
pub struct Address {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub street: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub city: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zip: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country_code: Option<String>,
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

impl Card {
    pub(super) fn of_short(given: &GivenContact, number: PhoneNumber) -> Self {
        let given = given.clone();
        Self {
            name: given.name,
            first_name: given.first_name,
            last_name: given.last_name,
            organization: given.organization,
            department: given.department,
            title: given.title,
            phones: vec![CardPhone { number, place: Place::Cell }],
            emails: given.email.into_iter().map(|email| Email { email, place: None }).collect(),
            urls: given.url.into_iter().map(|url| (url, Place::Work)).collect(),
            birthday: given.birthday,
            addresses: Vec::new(),
        }
    }

    pub(super) fn of_long(given: &GivenCard, numbers: Vec<PhoneNumber>) -> Self {
        let given = given.clone();
        let places = given.phones.into_iter().map(|entry| entry.place.unwrap_or(Place::Cell));
        let phones = numbers.into_iter().zip(places).map(|(number, place)| CardPhone { number, place }).collect();
        let place = |place: Option<Place>| place.unwrap_or(Place::Work);
        let text = |value: EntryValue| value.text().to_owned();
        let emails = given.emails.into_iter();
        let urls = given.urls.into_iter();
        Self {
            name: given.name,
            first_name: given.first_name,
            last_name: given.last_name,
            organization: given.organization,
            department: given.department,
            title: given.title,
            phones,
            emails: emails.map(|entry| Email { email: text(entry.value), place: Some(place(entry.place)) }).collect(),
            urls: urls.map(|entry| (text(entry.value), place(entry.place))).collect(),
            birthday: given.birthday,
            addresses: given.addresses,
        }
    }
}
