//! The changes of a contact by callers.

use serde_json::{Map, Value};

use super::{Contact, search_key};
use crate::event::Owner;
use crate::ids::ContactId;

/// A tag as it is compared.
pub fn tag_key(tag: &str) -> String {
    search_key(tag.trim())
}

/// A contact that a caller creates. The texts are checked.
#[derive(Clone)]
pub struct NewContact {
    pub owner: Owner,
    pub name: String,
    /// Digits.
    pub phone: String,
    pub email: Option<String>,
    pub tags: Vec<String>,
    pub metadata: Map<String, Value>,
    pub opt_out: bool,
}

/// A change of a contact by a caller. `None` leaves a field as it is. The texts are checked.
#[derive(Clone, Default)]
pub struct ContactChange {
    pub name: Option<String>,
    /// Digits.
    pub phone: Option<String>,
    /// `Some(None)` removes it.
    pub email: Option<Option<String>>,
    /// Replaces the list.
    pub tags: Option<Vec<String>>,
    /// Merged; a key with `null` is removed.
    pub metadata: Option<Map<String, Value>>,
    pub opt_out: Option<bool>,
}

/// The answer to a change, or to a new contact.
#[derive(Debug, Clone, PartialEq)]
pub enum ContactChanged {
    /// The contact after it.
    Done(Box<Contact>),
    NotFound,
    /// The contact with this id has the number already.
    Exists(ContactId),
}

/// What became of a change of the contact with a number.
#[derive(Debug, Clone, PartialEq)]
pub enum ContactPut {
    /// There was none, and now there is this one.
    Created(Box<Contact>),
    Changed(ContactChanged),
    /// There is none, and a new one needs a name.
    Unnamed,
}

impl ContactChange {
    /// A new contact with this number and these fields; `None` without a name.
    pub fn into_new(self, owner: Owner, phone: String) -> Option<NewContact> {
        let mut metadata = self.metadata.unwrap_or_default();
        metadata.retain(|_, value| !value.is_null());
        Some(NewContact {
            owner,
            name: self.name?,
            phone,
            email: self.email.flatten(),
            tags: self.tags.unwrap_or_default(),
            metadata,
            opt_out: self.opt_out.unwrap_or(false),
        })
    }

    /// Changes a contact, and returns the names of the changed fields in the order of the contract. The store changes
    /// the identity of a new phone.
    pub fn apply(&self, contact: &mut Contact) -> Vec<&'static str> {
        let mut changes = Vec::new();
        let mut note = |name: &'static str, differs: bool| differs.then(|| changes.push(name)).is_some();
        if let Some(name) = &self.name
            && note("name", contact.name != *name)
        {
            contact.name.clone_from(name);
            contact.is_named = true;
        }
        if let Some(phone) = &self.phone
            && note("phone", contact.phone.as_ref() != Some(phone))
        {
            contact.phone = Some(phone.clone());
        }
        if let Some(email) = &self.email
            && note("email", contact.email != *email)
        {
            contact.email.clone_from(email);
        }
        if let Some(tags) = &self.tags {
            let tags = as_first_written(tags, &contact.tags);
            if note("tags", contact.tags != tags) {
                contact.tags = tags;
            }
        }
        if let Some(metadata) = &self.metadata {
            let mut merged = contact.metadata.clone();
            for (key, value) in metadata {
                match value {
                    Value::Null => drop(merged.remove(key)),
                    value => drop(merged.insert(key.clone(), value.clone())),
                }
            }
            if note("metadata", contact.metadata != merged) {
                contact.metadata = merged;
            }
        }
        changes
    }
}

/// Removes repeated tags. A tag that the contact had before keeps its spelling.
pub fn as_first_written(tags: &[String], before: &[String]) -> Vec<String> {
    let mut written: Vec<String> = Vec::new();
    for tag in tags {
        let key = tag_key(tag);
        if written.iter().all(|tag| tag_key(tag) != key) {
            written.push(before.iter().find(|tag| tag_key(tag) == key).unwrap_or(tag).clone());
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api_key::Environment;
    use crate::contact_book::Source;
    use crate::ids::InstitutionId;

    fn contact() -> Contact {
        Contact {
            id: ContactId::new(1, [1; 10]),
            owner: (InstitutionId::new(1, [0; 10]), Environment::Live),
            name: "Ana".to_owned(),
            is_named: true,
            phone: Some("5511988887777".to_owned()),
            email: None,
            tags: vec!["VIP".to_owned()],
            metadata: Map::from_iter([("crm".to_owned(), Value::from("1"))]),
            account: None,
            opt_out_at: None,
            opt_out_source: None,
            source: Source::Api,
            identities: Vec::new(),
            last_inbound_at: None,
            last_outbound_at: None,
            created_at: 1,
            updated_at: 1,
        }
    }

    #[test]
    fn a_new_contact_has_a_name_and_what_was_given() {
        let change = ContactChange {
            metadata: Some(Map::from_iter([("crm".to_owned(), Value::from("1")), ("gone".to_owned(), Value::Null)])),
            email: Some(None),
            ..ContactChange::default()
        };
        let owner = contact().owner;
        assert!(change.clone().into_new(owner, "551".to_owned()).is_none());
        let named = ContactChange { name: Some("Ana".to_owned()), ..change };
        let new = named.into_new(owner, "551".to_owned()).expect("it has a name");
        assert_eq!((&*new.name, &*new.phone, new.email, new.opt_out), ("Ana", "551", None, false));
        assert_eq!(Value::Object(new.metadata), serde_json::json!({"crm": "1"}));
    }

    #[test]
    fn only_what_differs_is_a_change() {
        let mut ana = contact();
        let same = ContactChange {
            name: Some("Ana".to_owned()),
            email: Some(None),
            tags: Some(vec!["vip".to_owned(), "Víp".to_owned()]),
            metadata: Some(Map::from_iter([("x".to_owned(), Value::Null)])),
            ..ContactChange::default()
        };
        assert_eq!(same.apply(&mut ana), Vec::<&str>::new());
        assert_eq!(ana, contact());
        let other = ContactChange {
            name: Some("Ana Maria".to_owned()),
            phone: Some("551188887777".to_owned()),
            email: Some(Some("ana@exemplo.com.br".to_owned())),
            tags: Some(vec!["novo".to_owned(), "vip".to_owned()]),
            metadata: Some(Map::from_iter([("crm".to_owned(), Value::Null), ("n".to_owned(), Value::from(2))])),
            opt_out: None,
        };
        assert_eq!(other.apply(&mut ana), ["name", "phone", "email", "tags", "metadata"]);
        assert_eq!(ana.tags, ["novo", "VIP"], "in the spelling that was first");
        assert_eq!(Value::Object(ana.metadata), serde_json::json!({"n": 2}));
    }
}
