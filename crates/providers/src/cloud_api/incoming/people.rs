//! The sender of a message, by the names in the message and in the list `contacts` of its change.
//!
//! Since 2026 a person may hide the number: then `from` and `wa_id` are missing, and the user id identifies the person
//! within one business (`business-scoped-user-ids`).

use std::collections::HashMap;

use recado_domain::incoming::{IdentityKey, SenderIds};

use crate::cloud_api::lenient::{Object, elements};

/// The people of a change.
#[derive(Default)]
pub(super) struct People {
    all: Vec<SenderIds>,
    /// Their places in `all`.
    of_ids: HashMap<IdentityKey, usize>,
}

/// The keys that name a person beside a message.
pub(super) struct Keys {
    pub(super) phone: &'static str,
    pub(super) user_id: &'static str,
    pub(super) parent_user_id: &'static str,
}

/// The author of a message.
pub(super) const FROM: Keys = Keys { phone: "from", user_id: "from_user_id", parent_user_id: "from_parent_user_id" };
/// The person to whom the business wrote.
pub(super) const TO: Keys = Keys { phone: "to", user_id: "to_user_id", parent_user_id: "to_parent_user_id" };
/// A person in a list of people.
pub(super) const CONTACT: Keys = Keys { phone: "wa_id", user_id: "user_id", parent_user_id: "parent_user_id" };

impl People {
    /// The list `contacts`. Elements of another form are skipped, because they have no names.
    pub(super) fn of(value: &Object<'_>) -> Self {
        let mut people = Self::default();
        if let Some(list) = value.raw("contacts") {
            elements(list, |element| {
                if let Some(contact) = Object::read(element) {
                    people.add(person(&contact));
                }
            });
        }
        people
    }

    fn add(&mut self, person: SenderIds) {
        for key in person.keys() {
            self.of_ids.insert(key, self.all.len());
        }
        self.all.push(person);
    }

    /// The person whom these keys of an object name, with the names from the list.
    pub(super) fn named(&self, object: &Object<'_>, keys: &Keys) -> SenderIds {
        let given = names(object, keys);
        let known = given.keys().iter().find_map(|key| self.of_ids.get(key)).map(|place| &self.all[*place]);
        // A single entry is the author, unless it contradicts the message: otherwise two people would become one
        // contact.
        let only = || match &*self.all {
            [person]
                if agree(person.phone.as_ref(), given.phone.as_ref(), IdentityKey::phone)
                    && agree(person.user_id.as_ref(), given.user_id.as_ref(), IdentityKey::user_id) =>
            {
                Some(person)
            }
            _ => None,
        };
        match known.or_else(only) {
            Some(known) => given.or(known),
            None => given,
        }
    }
}

fn agree(one: Option<&String>, other: Option<&String>, key: impl Fn(&str) -> IdentityKey) -> bool {
    one.zip(other).is_none_or(|(one, other)| key(one) == key(other))
}

/// An entry of `contacts`.
fn person(contact: &Object<'_>) -> SenderIds {
    let profile = contact.object("profile");
    let text = |key| profile.as_ref().and_then(|profile| profile.text(key));
    // Some versions have the username beside the profile.
    let username = text("username").or_else(|| contact.text("username"));
    SenderIds { name: text("name"), username, ..names(contact, &CONTACT) }.cleaned()
}

/// The number and the id under these keys.
pub(super) fn names(object: &Object<'_>, keys: &Keys) -> SenderIds {
    // Businesses that share user ids have a common id for a person, which may be the only one.
    let user_id = object.filled(keys.user_id).or_else(|| object.filled(keys.parent_user_id));
    let phone = object.text(keys.phone).map(|phone| phone.trim_start_matches('+').to_owned());
    SenderIds { phone, user_id, ..SenderIds::default() }.cleaned()
}
