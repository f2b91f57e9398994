//! What people write to a number: the messages of callbacks, as Meta documents them.
//!
//! Meta's OpenAPI file (v23.0) describes most kinds. Its pages describe the rest: groups, edits and revocations
//! (`webhooks/reference/messages/{group,edit,revoke}`), what a business sends from its phone
//! (`webhooks/reference/smb_message_echoes`), and people without a number (`business-scoped-user-ids`).

mod said;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

pub use said::Said;

use crate::callbacks;
use crate::{Attempt, Number, Signed, Status};

/// A person who writes to a number.
#[derive(Debug, Clone, Default)]
pub struct Person {
    /// The digits of the number; `None` if the person hides it.
    pub phone: Option<String>,
    /// The id of the person for this business: `BR.1349…`.
    pub user_id: Option<String>,
    /// The id of the person for a group of businesses: `BR.ENT.1181…`.
    pub parent_user_id: Option<String>,
    pub username: Option<String>,
    pub name: Option<String>,
}

impl Person {
    /// A person as before usernames: a number and a profile name.
    pub fn with_phone(phone: &str, name: &str) -> Self {
        Self { phone: Some(phone.to_owned()), name: Some(name.to_owned()), ..Self::default() }
    }

    /// A person who hides the number behind a username.
    pub fn with_username(user_id: &str, username: &str, name: &str) -> Self {
        let given = |text: &str| Some(text.to_owned());
        Self { user_id: given(user_id), username: given(username), name: given(name), ..Self::default() }
    }

    /// The entry of `contacts`.
    fn contact(&self) -> Value {
        let mut profile = Map::new();
        put(&mut profile, "name", self.name.as_deref());
        put(&mut profile, "username", self.username.as_deref());
        let mut contact = Map::new();
        contact.insert("profile".to_owned(), profile.into());
        put(&mut contact, "wa_id", self.phone.as_deref());
        put(&mut contact, "user_id", self.user_id.as_deref());
        put(&mut contact, "parent_user_id", self.parent_user_id.as_deref());
        contact.into()
    }
}

fn put(object: &mut Map<String, Value>, key: &str, text: Option<&str>) {
    if let Some(text) = text {
        object.insert(key.to_owned(), text.into());
    }
}

/// The content of a callback: what people wrote, what the business wrote on its phone, and statuses.
#[derive(Debug, Clone)]
pub struct Delivery {
    contacts: Vec<Value>,
    messages: Vec<Value>,
    echoes: Vec<Value>,
    statuses: Vec<Value>,
    pub(crate) times: u32,
    pub(crate) signed: Signed,
}

impl Default for Delivery {
    fn default() -> Self {
        let (contacts, messages, echoes, statuses) = Default::default();
        Self { contacts, messages, echoes, statuses, times: 1, signed: Signed::Rightly }
    }
}

impl Delivery {
    /// Without content.
    pub fn new() -> Self {
        Self::default()
    }

    /// A message of a person.
    #[must_use]
    pub fn message(mut self, by: &Person, said: &Said) -> Self {
        let contact = by.contact();
        // Meta sends no contacts with system messages, and each person once.
        if !said.is_system() && !self.contacts.contains(&contact) {
            self.contacts.push(contact);
        }
        self.messages.push(said.message(by));
        self
    }

    /// A message that the business sent to a person with its phone.
    #[must_use]
    pub fn echo(mut self, to: &Person, said: &Said) -> Self {
        self.echoes.push(said.echo(to));
        self
    }

    /// A status of an accepted message.
    #[must_use]
    pub fn status(mut self, attempt: &Attempt, status: &Status) -> Self {
        self.statuses.push(callbacks::entry(attempt, status, true));
        self
    }

    /// An element of `messages` of any form.
    #[must_use]
    pub fn raw(mut self, element: Value) -> Self {
        self.messages.push(element);
        self
    }

    /// Posts the same bytes this many times.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// A callback with a wrong signature is posted until it is answered with any status, and is not repeated then.
    #[must_use]
    pub fn signed(mut self, signed: Signed) -> Self {
        self.signed = signed;
        self
    }

    /// The body of the callback, for tests that post it themselves.
    pub fn body(&self, number: &Number) -> Value {
        let mut changes = Vec::new();
        if !(self.messages.is_empty() && self.statuses.is_empty()) {
            let mut value = callbacks::value(number);
            for (key, list) in
                [("contacts", &self.contacts), ("messages", &self.messages), ("statuses", &self.statuses)]
            {
                if !list.is_empty() {
                    value[key] = list.as_slice().into();
                }
            }
            changes.push(json!({ "value": value, "field": "messages" }));
        }
        if !self.echoes.is_empty() {
            let mut value = callbacks::value(number);
            let from: String = number.display_phone_number.chars().filter(char::is_ascii_digit).collect();
            let mut echoes = self.echoes.clone();
            echoes.iter_mut().for_each(|echo| echo["from"] = from.as_str().into());
            value["message_echoes"] = echoes.into();
            changes.push(json!({ "value": value, "field": "smb_message_echoes" }));
        }
        callbacks::envelope(number, &changes)
    }
}
