//! Contact messages as the versions before kinds stored them: without a kind, and with the vCard in columns of its own.
//! Such rows stay as they are until the purge deletes them.

use recado_domain::message::{CardAccount, ContactRendition, NewMessage, RenderedCard};
use serde::Deserialize;

/// The kind of messages that have none.
const CONTACT: &str = "contact";

/// The kind of a row and its rendition. `card`: the columns of the versions before, which are read where there is no kind.
pub(crate) fn read<E>(
    kind: Option<String>,
    rendition: Option<String>,
    card: impl FnOnce() -> Result<(String, CardAccount), E>,
) -> Result<(String, Option<String>), E> {
    match (kind, rendition) {
        (Some(kind), rendition) => Ok((kind, rendition)),
        // It was sent with another card than that of its acceptance.
        (None, Some(rendition)) => Ok((CONTACT.to_owned(), Some(rendition))),
        (None, None) => {
            let (vcard, account) = card()?;
            Ok((CONTACT.to_owned(), Some(ContactRendition::of_one(vcard, account).to_json())))
        }
    }
}

/// A message as the version before kinds knows it; `None` where that could not send it, or would leave something of it out.
pub(crate) fn as_before(message: &NewMessage) -> Option<RenderedCard> {
    let plain = message.kind == CONTACT && message.reference.is_none() && message.send_at.is_none();
    if !plain || serde_json::from_str::<PayloadBefore>(&message.payload).is_err() {
        return None;
    }
    let mut cards = ContactRendition::from_json(message.rendition.as_deref()?)?.cards;
    let card = cards.pop().filter(|card| cards.is_empty() && card.accounts.len() == 1)?;
    Some(card)
}

/// The payload of a message as the version before kinds has it, and nothing else.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(dead_code, reason = "only whether it can be read is asked")]
struct PayloadBefore {
    to: String,
    r#type: KindBefore,
    contact: ContactBefore,
    phone_digits: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum KindBefore {
    Contact,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(dead_code, reason = "only whether it can be read is asked")]
struct ContactBefore {
    name: String,
    phone: String,
    email: Option<String>,
    organization: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
}
