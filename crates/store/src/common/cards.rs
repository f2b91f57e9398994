//! Contact messages as the versions before kinds stored them: without a kind, and with the vCard in columns of its own.
//! Such rows stay as they are until the purge deletes them.

use recado_domain::message::{CardAccount, ContactRendition, NewMessage, RenderedCard};
use serde::Deserialize;

/// The kind of messages that have none.
const CONTACT: &str = "contact";

/// The kind and rendition of a row. `card` reads the old columns of a row without a kind.
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

/// A message in the form of the version before kinds; `None` if that version could not send all of it.
pub(crate) fn as_before(message: &NewMessage) -> Option<RenderedCard> {
    let plain = message.kind == CONTACT && message.reference.is_none() && message.send_at.is_none();
    if !plain || serde_json::from_str::<PayloadBefore>(&message.payload).is_err() {
        return None;
    }
    let mut cards = ContactRendition::from_json(message.rendition.as_deref()?)?.cards;
    let card = cards.pop().filter(|card| cards.is_empty() && card.accounts.len() == 1)?;
    Some(card)
}

/// The payload in the form of the version before kinds, without later fields.
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
