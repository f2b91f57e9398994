//! Contact messages as the versions before kinds stored them: without a kind, and with the card in columns of its own. Rows of
//! theirs stay as they are until the purge takes them.

use recado_domain::message::{CardAccount, ContactRendition};

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
