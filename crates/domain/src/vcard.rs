//! The card as text: vCard 3.0 (RFC 2426) in the shape that WhatsApp's own clients write.
//!
//! Own lines rather than a library: the ones that write 3.0 add `CHARSET` to every accented name and fold long lines,
//! and WhatsApp's reader is known only for the plain shape (`waid` on `TEL`, LF, no folding, no last newline). Tests
//! parse every card back with an independent parser.

use crate::contact::ContactCard;

/// Writes the card. `account` is the digits of the WhatsApp account behind the card's phone: a wrong one shows "invite
/// to WhatsApp" to the recipient, a missing one takes the "message" button away.
pub fn render(card: &ContactCard, account: &str) -> String {
    let name = escape(&card.name);
    let phone = card.phone.number.digits();
    // Where a name divides nobody can tell: all of it is the first name, unless the caller told its parts.
    let (last, first) = match (&card.last_name, &card.first_name) {
        (None, None) => (String::new(), name.clone()),
        (last, first) => [last, first].map(|part| escape(part.as_deref().unwrap_or_default())).into(),
    };
    let mut text = format!("BEGIN:VCARD\nVERSION:3.0\nN:{last};{first};;;\nFN:{name}\n");
    if let Some(organization) = &card.organization {
        text += &format!("ORG:{}\n", escape(organization));
    }
    if let Some(email) = &card.email {
        text += &format!("EMAIL;type=INTERNET:{}\n", escape(email));
    }
    text + &format!("TEL;type=CELL;type=VOICE;waid={account}:+{phone}\nEND:VCARD")
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
