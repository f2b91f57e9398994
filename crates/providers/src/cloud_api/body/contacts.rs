//! Contact cards as Meta's `ContactObject`s.

use recado_domain::kinds::contact::{self, Card, CardPhone, Place};
use serde::Serialize;

#[derive(Serialize)]
pub struct Contact {
    name: Name,
    phones: Vec<Phone>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    emails: Vec<Email>,
    #[serde(skip_serializing_if = "Option::is_none")]
    org: Option<Organization>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    urls: Vec<Url>,
    #[serde(skip_serializing_if = "Option::is_none")]
    birthday: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<Address>,
}

/// Meta requires a part of the name beside the whole name (docs of d7networks, contacts-message). The parts of a name are
/// unknown unless the caller gave them, so the first name is the whole name, as on the card.
#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "they are Meta's")]
struct Name {
    formatted_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_name: Option<String>,
}

/// The account is included only if the network named it: with a guess the recipient would see "invite to WhatsApp", and
/// without an account only the number.
#[derive(Serialize)]
struct Phone {
    #[serde(rename = "phone")]
    number: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    wa_id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    place: Option<&'static str>,
}

#[derive(Serialize)]
struct Email {
    email: String,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    place: Option<&'static str>,
}

#[derive(Serialize)]
struct Organization {
    #[serde(skip_serializing_if = "Option::is_none")]
    company: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    department: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
}

#[derive(Serialize)]
struct Url {
    url: String,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    place: Option<&'static str>,
}

#[derive(Serialize)]
struct Address {
    #[serde(skip_serializing_if = "Option::is_none")]
    street: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    city: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    country: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    country_code: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    place: Option<&'static str>,
}

impl Contact {
    /// A card. `account` returns the account that the network named for the phone at a position.
    pub fn of<'a>(card: Card, account: impl Fn(usize) -> Option<&'a str>) -> Self {
        let name = Name::of(&card);
        let Card { organization: company, department, title, phones, emails, urls, birthday, addresses, .. } = card;
        let phone = |(index, phone): (usize, CardPhone)| Phone {
            number: format!("+{}", phone.number.digits()),
            wa_id: account(index).map(str::to_owned),
            place: meta_type(phone.place),
        };
        let email = |contact::Email { email, place }| Email { email, place: place.and_then(meta_type) };
        let org = Organization { company, department, title };
        Self {
            name,
            phones: phones.into_iter().enumerate().map(phone).collect(),
            emails: emails.into_iter().map(email).collect(),
            org: Some(org).filter(|org| org.company.is_some() || org.department.is_some() || org.title.is_some()),
            urls: urls.into_iter().map(|(url, place)| Url { url, place: meta_type(place) }).collect(),
            birthday,
            addresses: addresses.into_iter().map(Address::from).collect(),
        }
    }
}

impl Name {
    fn of(card: &Card) -> Self {
        let whole = card.first_name.is_none() && card.last_name.is_none();
        let first_name = if whole { Some(card.name.clone()) } else { card.first_name.clone() };
        Self { formatted_name: card.name.clone(), first_name, last_name: card.last_name.clone() }
    }
}

impl From<contact::Address> for Address {
    fn from(address: contact::Address) -> Self {
        let contact::Address { street, city, state, zip, country, country_code, place } = address;
        // As on the card.
        let place = meta_type(place.unwrap_or(Place::Work));
        Self { street, city, state, zip, country, country_code, place }
    }
}

/// The type for Meta, whose list has only HOME and WORK.
fn meta_type(place: Place) -> Option<&'static str> {
    match place {
        Place::Cell => None,
        Place::Work | Place::Home => Some(place.name()),
    }
}
