//! The card as text: vCard 3.0 (RFC 2426) in the shape that WhatsApp's own clients write.
//!
//! The lines are written here and not by a library: the ones that write 3.0 add `CHARSET` to every accented name and fold
//! long lines. WhatsApp's reader is known only for the plain shape (`waid` on `TEL`, LF, no folding, no last newline).
//! Tests parse every card back with an independent parser.

use super::{Address, Card, CardAccount, Place};

/// Writes the card. The accounts are the digits of the WhatsApp accounts behind the card's numbers: a wrong one shows
/// "invite to WhatsApp" to the recipient, a missing one takes the "message" button away.
pub fn render(card: &Card, accounts: &[CardAccount]) -> String {
    let mut text = String::from("BEGIN:VCARD\nVERSION:3.0\n");
    text += &names(card);
    if card.organization.is_some() || card.department.is_some() {
        let department = card.department.as_deref().map(|text| format!(";{}", escape(text)));
        text += &format!("ORG:{}{}\n", part(card.organization.as_deref()), department.unwrap_or_default());
    }
    if let Some(title) = &card.title {
        text += &format!("TITLE:{}\n", escape(title));
    }
    for email in &card.emails {
        let place = email.place.map(|place| format!(",type={}", place.name())).unwrap_or_default();
        text += &format!("EMAIL;type=INTERNET{place}:{}\n", escape(&email.email));
    }
    // The value is a URI, which is not escaped, and the property has no type.
    card.urls.iter().for_each(|(url, _)| text += &format!("URL:{url}\n"));
    if let Some(birthday) = &card.birthday {
        text += &format!("BDAY:{birthday}\n");
    }
    card.addresses.iter().for_each(|address| text += &line_of(address));
    for (index, phone) in card.phones.iter().enumerate() {
        let digits = phone.number.digits();
        let account = accounts.get(index).map_or(digits, |account| &account.digits);
        let kind = if index == 0 { "CELL;type=VOICE" } else { phone.place.name() };
        text += &format!("TEL;type={kind};waid={account}:+{digits}\n");
    }
    text + "END:VCARD"
}

fn names(card: &Card) -> String {
    let name = escape(&card.name);
    // Where a name divides nobody can tell: all of it is the first name, unless the caller gave its parts.
    let (last, first) = match (&card.last_name, &card.first_name) {
        (None, None) => (String::new(), name.clone()),
        (last, first) => (part(last.as_deref()), part(first.as_deref())),
    };
    format!("N:{last};{first};;;\nFN:{name}\n")
}

fn line_of(address: &Address) -> String {
    let Address { street, city, state, zip, country, place, .. } = address;
    let parts = [street, city, state, zip, country].map(|text| part(text.as_deref()));
    format!("ADR;type={}:;;{}\n", place.unwrap_or(Place::Work).name(), parts.join(";"))
}

fn part(text: Option<&str>) -> String {
    text.map(escape).unwrap_or_default()
}

/// The card as a file (RFC 2426, 2.6): each line with its end, CR and LF. What is sent has LF alone, as WhatsApp's own
/// clients write it.
pub fn file(card: &str) -> String {
    card.lines().flat_map(|line| [line, "\r\n"]).collect()
}

/// Escapes a value (RFC 2426, section 4). No control character gets here; a newline would be escaped all the same,
/// because a raw one would let a name write lines of its own.
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for character in value.chars() {
        match character {
            '\\' | ';' | ',' => escaped.extend(['\\', character]),
            '\n' => escaped.push_str("\\n"),
            _ => escaped.push(character),
        }
    }
    escaped
}
