//! The card as text: vCard 3.0 (RFC 2426) in the form of WhatsApp's own clients.
//!
//! The lines are written here and not by a library: libraries for 3.0 add `CHARSET` to every accented name and fold long
//! lines. WhatsApp is known to read only the plain form (`waid` on `TEL`, LF, no folding, no last newline). Tests parse
//! every card with an independent parser.

use std::borrow::Cow;

use super::{Address, Card, CardAccount, Email, Place};

/// Writes the card. The accounts are the digits of the WhatsApp accounts of the card's numbers. A wrong account shows
/// "invite to WhatsApp" to the recipient; a missing one removes the "message" button.
pub fn render(card: &Card, accounts: &[CardAccount]) -> String {
    let mut text = String::with_capacity(CAPACITY);
    text.push_str("BEGIN:VCARD\nVERSION:3.0\n");
    names(&mut text, card);
    if card.organization.is_some() || card.department.is_some() {
        text.extend(["ORG:", &part(card.organization.as_deref())]);
        card.department.iter().for_each(|department| text.extend([";", &escape(department)]));
        text.push('\n');
    }
    card.title.iter().for_each(|title| text.extend(["TITLE:", &escape(title), "\n"]));
    for Email { email, place } in &card.emails {
        text.push_str("EMAIL;type=INTERNET");
        place.iter().for_each(|place| text.extend([",type=", place.name()]));
        text.extend([":", &escape(email), "\n"]);
    }
    // The value is a URI, which is not escaped, and the property has no type.
    card.urls.iter().for_each(|(url, _)| text.extend(["URL:", url, "\n"]));
    card.birthday.iter().for_each(|birthday| text.extend(["BDAY:", birthday, "\n"]));
    card.addresses.iter().for_each(|address| line_of(&mut text, address));
    for (index, phone) in card.phones.iter().enumerate() {
        let digits = phone.number.digits();
        let account = accounts.get(index).map_or(digits, |account| &account.digits);
        let kind = if index == 0 { "CELL;type=VOICE" } else { phone.place.name() };
        text.extend(["TEL;type=", kind, ";waid=", account, ":+", digits, "\n"]);
    }
    text + "END:VCARD"
}

/// The bytes of a typical card.
const CAPACITY: usize = 256;

fn names(text: &mut String, card: &Card) {
    let name = escape(&card.name);
    // The boundary between the parts of a name is unknown: all of it is the first name, unless the caller gave its parts.
    let (last, first) = match (&card.last_name, &card.first_name) {
        (None, None) => ("".into(), name.clone()),
        (last, first) => (part(last.as_deref()), part(first.as_deref())),
    };
    text.extend(["N:", &last, ";", &first, ";;;\nFN:", &name, "\n"]);
}

fn line_of(text: &mut String, address: &Address) {
    let Address { street, city, state, zip, country, place, .. } = address;
    text.extend(["ADR;type=", place.unwrap_or(Place::Work).name(), ":;"]);
    for value in [street, city, state, zip, country] {
        text.extend([";", &part(value.as_deref())]);
    }
    text.push('\n');
}

fn part(text: Option<&str>) -> Cow<'_, str> {
    text.map(escape).unwrap_or_default()
}

/// The card as a file (RFC 2426, 2.6): each line ends with CR and LF. A message has LF alone, as in WhatsApp's own clients.
pub fn file(card: &str) -> String {
    card.lines().flat_map(|line| [line, "\r\n"]).collect()
}

/// Escapes a value (RFC 2426, section 4). The rules refuse control characters; a newline is escaped all the same, because a
/// raw one would let a name add lines to the card.
fn escape(value: &str) -> Cow<'_, str> {
    if !value.contains(['\\', ';', ',', '\n']) {
        return value.into();
    }
    let mut escaped = String::with_capacity(2 * value.len());
    for character in value.chars() {
        match character {
            '\\' | ';' | ',' => escaped.extend(['\\', character]),
            '\n' => escaped.push_str("\\n"),
            _ => escaped.push(character),
        }
    }
    escaped.into()
}
