//! The cursor of the list of contacts. It shows no name, because cursors land in the logs of proxies.
//!
//! A cursor has the id of the contact before the place, a tag of the name by which that contact is sorted, and the beginning of
//! this name, encrypted. As long as the contact has the name, the place is exact. If the contact was renamed or deleted, the
//! list continues at the beginning of the former name: some contacts may come again, and none is left out.

use recado_domain::contact_book::{ContactPlace, search_key};
use recado_domain::event::Owner;
use recado_domain::hex::hex;
use recado_domain::ids::ContactId;
use recado_store::StoreError;
use sha2::{Digest, Sha256};

use crate::gateway::Gateway;

const ID: usize = 16;
const TAG: usize = 8;
/// The bytes of a name that a cursor has. Shorter names are filled with NUL, which no name contains.
const BEGINNING: usize = 40;
/// The characters of a cursor.
pub const LENGTH: usize = 2 * (ID + TAG + BEGINNING);

/// The secret by which the cursors of an institution are written. It is the same for all of its keys, and on every node.
#[derive(Clone, Copy)]
pub struct Secret([u8; 32]);

/// A cursor that a caller gave.
pub struct Cursor {
    id: ContactId,
    tag: [u8; TAG],
    beginning: String,
}

impl Secret {
    /// That of an institution and environment.
    pub fn of(gateway: &Gateway, (institution, environment): Owner) -> Self {
        // The hash of a key leaves the store nowhere else. Keys are never deleted, so the oldest one stays.
        let oldest = gateway.directory.keys(institution, environment).first().map(|entry| entry.key.hash);
        let hash = Sha256::new()
            .chain_update(b"recado cursor of contacts\0")
            .chain_update(institution.as_bytes())
            .chain_update(oldest.unwrap_or_default());
        Self(hash.finalize().into())
    }

    fn hash(self, what: &[u8], parts: [&[u8]; 2]) -> [u8; 32] {
        let hash = Sha256::new().chain_update(self.0).chain_update(what);
        hash.chain_update(parts[0]).chain_update(parts[1]).finalize().into()
    }

    fn tag(self, id: ContactId, name: &str) -> [u8; TAG] {
        let mut tag = [0; TAG];
        tag.copy_from_slice(&self.hash(b"tag", [id.as_bytes(), name.as_bytes()])[..TAG]);
        tag
    }

    /// Encrypts the beginning of a name, or decrypts it. The tag depends on the name, so no two names have the same key.
    fn apply(self, id: ContactId, tag: [u8; TAG], bytes: &mut [u8; BEGINNING]) {
        let stream = [b"one", b"two"].map(|what| self.hash(what, [id.as_bytes(), &tag]));
        for (byte, key) in bytes.iter_mut().zip(stream.into_iter().flatten()) {
            *byte ^= key;
        }
    }

    /// The cursor of a place.
    pub fn write(self, place: &ContactPlace) -> String {
        let tag = self.tag(place.id, &place.name);
        let mut end = place.name.len().min(BEGINNING);
        while !place.name.is_char_boundary(end) {
            end -= 1;
        }
        let mut beginning = [0; BEGINNING];
        beginning[..end].copy_from_slice(&place.name.as_bytes()[..end]);
        self.apply(place.id, tag, &mut beginning);
        hex(&[&place.id.as_bytes()[..], &tag, &beginning].concat())
    }

    /// The cursor in a text; `None` if the text is none.
    pub fn read(self, text: &str) -> Option<Cursor> {
        if text.len() != LENGTH || !text.bytes().all(|sign| matches!(sign, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).ok();
        let bytes: Vec<u8> = (0..LENGTH).step_by(2).map(byte).collect::<Option<_>>()?;
        let (id, rest) = bytes.split_first_chunk::<ID>()?;
        let (tag, rest) = rest.split_first_chunk::<TAG>()?;
        let mut beginning: [u8; BEGINNING] = rest.try_into().ok()?;
        let id = ContactId::from_bytes(*id);
        self.apply(id, *tag, &mut beginning);
        let beginning = String::from_utf8(beginning.to_vec()).ok()?;
        let beginning = beginning.trim_end_matches('\0').to_owned();
        // A database accepts no NUL in a query.
        (!beginning.contains('\0')).then_some(Cursor { id, tag: *tag, beginning })
    }
}

impl Cursor {
    /// The place of the cursor in the list as it is now.
    pub async fn place(&self, gateway: &Gateway, owner: Owner, secret: Secret) -> Result<ContactPlace, StoreError> {
        let contact = gateway.store.contact(owner, self.id).await?;
        Ok(self.place_of(contact.map(|contact| search_key(&contact.name)), secret))
    }

    /// The same for the present name of the contact; `None`: it was deleted.
    fn place_of(&self, name: Option<String>, secret: Secret) -> ContactPlace {
        match name.filter(|name| secret.tag(self.id, name) == self.tag) {
            Some(name) => ContactPlace { name, id: self.id },
            // Before every contact with such a name.
            None => ContactPlace { name: self.beginning.clone(), id: ContactId::from_bytes([0; ID]) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: Secret = Secret([7; 32]);

    fn place(name: &str) -> ContactPlace {
        ContactPlace { name: name.to_owned(), id: ContactId::new(1, [7; 10]) }
    }

    #[test]
    fn a_place_is_read_back_while_the_contact_has_its_name() {
        let long = "é".repeat(200);
        for name in ["", "joao da silva", "a.b", "\u{1f600}", &long] {
            let (place, text) = (place(name), SECRET.write(&place(name)));
            assert_eq!(text.len(), 128, "{name}");
            let cursor = SECRET.read(&text).expect("a cursor");
            assert_eq!(cursor.place_of(Some(name.to_owned()), SECRET), place);
            for other in [None, Some("outro".to_owned())] {
                let before = cursor.place_of(other, SECRET);
                assert!(name.starts_with(&before.name) && before.name.len() <= 40, "{before:?}");
                assert!((&before.name, before.id) < (&place.name, place.id), "none is left out: {name}");
            }
        }
    }

    #[test]
    fn a_cursor_shows_no_name_and_is_that_of_one_institution() {
        let text = SECRET.write(&place("maria"));
        let hex = "maria".bytes().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        assert!(!text.contains(&hex), "{text}");
        let of_another = Secret([8; 32]).read(&text);
        assert!(of_another.is_none_or(|cursor| cursor.beginning != "maria"));
        for bad in ["", "x", &text[2..], &text.to_uppercase(), &format!("{text}00"), &text.replacen('a', "g", 1)] {
            assert!(bad == text || SECRET.read(bad).is_none(), "{bad}");
        }
    }
}
