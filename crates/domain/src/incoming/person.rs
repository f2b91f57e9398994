//! The names by which a network knows a person.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::is_account;
use crate::phone::forms;

use super::text::clean;

/// The names of a person, as a network gives them. A driver gives every name that it knows, because names that arrive
/// together belong to one contact.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SenderIds {
    /// Digits of the number; `None` if the network hides it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// The hidden id, digits only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lid: Option<String>,
    /// The id within one business (BSUID).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The user name, which is shown and never looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The name that the person or the network gives; not verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The most characters of a user id.
const USER_ID_LIMIT: usize = 160;
/// The most characters of a name.
const NAME_LIMIT: usize = 200;

/// The kind of an identity, in the order in which identities are looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IdentityKind {
    UserId,
    Lid,
    Phone,
}

impl IdentityKind {
    pub const ALL: [Self; 3] = [Self::UserId, Self::Lid, Self::Phone];

    /// The name in the API and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::UserId => "USER_ID",
            Self::Lid => "LID",
            Self::Phone => "PHONE",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// An identity in the form in which it is looked up. Both forms of a Brazilian number have the same form here.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdentityKey {
    pub kind: IdentityKind,
    pub value: String,
}

/// The log must not name a person.
impl fmt::Debug for IdentityKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "IdentityKey({})", self.kind.name())
    }
}

impl IdentityKey {
    pub fn phone(digits: &str) -> Self {
        // The form without the ninth digit, because both forms are the same person.
        let value = forms(digits).min_by_key(String::len).unwrap_or_else(|| digits.to_owned());
        Self { kind: IdentityKind::Phone, value }
    }

    pub fn lid(digits: &str) -> Self {
        Self { kind: IdentityKind::Lid, value: digits.to_owned() }
    }

    pub fn user_id(id: &str) -> Self {
        Self { kind: IdentityKind::UserId, value: id.to_owned() }
    }
}

impl SenderIds {
    pub fn of_phone(digits: &str) -> Self {
        Self { phone: Some(digits.to_owned()), ..Self::default() }
    }

    pub fn of_lid(digits: &str) -> Self {
        Self { lid: Some(digits.to_owned()), ..Self::default() }
    }

    pub fn of_user_id(id: &str) -> Self {
        Self { user_id: Some(id.to_owned()), ..Self::default() }
    }

    /// Removes names that no network can have given, and limits texts.
    #[must_use]
    pub fn cleaned(&self) -> Self {
        let user_id =
            |id: &String| (1..=USER_ID_LIMIT).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
        Self {
            phone: self.phone.clone().filter(|phone| is_account(phone)),
            lid: self.lid.clone().filter(|lid| is_account(lid)),
            user_id: self.user_id.clone().filter(user_id),
            username: self.username.as_deref().and_then(|name| clean(name, NAME_LIMIT)),
            name: self.name.as_deref().and_then(|name| clean(name, NAME_LIMIT)),
        }
    }

    /// Whether the person has no identity, so that the person cannot be found again.
    pub fn is_nobody(&self) -> bool {
        self.phone.is_none() && self.lid.is_none() && self.user_id.is_none()
    }

    /// The identities in the order in which they are looked up.
    pub fn keys(&self) -> Vec<IdentityKey> {
        let user_id = self.user_id.as_deref().map(IdentityKey::user_id);
        let lid = self.lid.as_deref().map(IdentityKey::lid);
        user_id.into_iter().chain(lid).chain(self.phone.as_deref().map(IdentityKey::phone)).collect()
    }

    /// The address by which a message reaches the person: the number, or else the hidden id or the user id. Empty for a
    /// person without identity.
    pub fn address(&self) -> String {
        match (&self.phone, &self.lid, &self.user_id) {
            (Some(phone), ..) => phone.clone(),
            (None, Some(lid), _) => format!("{lid}@lid"),
            (None, None, user_id) => user_id.clone().unwrap_or_default(),
        }
    }

    /// The name of a new contact, until a caller gives another one.
    pub fn display_name(&self) -> String {
        let known = [&self.name, &self.username, &self.phone, &self.lid, &self.user_id];
        known.into_iter().flatten().next().cloned().unwrap_or_default()
    }

    /// Adds the names that only `other` has.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        Self {
            phone: self.phone.or_else(|| other.phone.clone()),
            lid: self.lid.or_else(|| other.lid.clone()),
            user_id: self.user_id.or_else(|| other.user_id.clone()),
            username: self.username.or_else(|| other.username.clone()),
            name: self.name.or_else(|| other.name.clone()),
        }
    }
}

/// The log must not name a person.
impl fmt::Debug for SenderIds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SenderIds")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_brazilian_number_are_one_identity() {
        assert_eq!(IdentityKey::phone("5511988887777"), IdentityKey::phone("551188887777"));
        assert_ne!(IdentityKey::phone("5511933334444"), IdentityKey::phone("551133334444"), "a landline");
        assert_ne!(IdentityKey::phone("12025550123"), IdentityKey::lid("12025550123"));
    }

    #[test]
    fn a_person_is_looked_up_by_user_id_then_hidden_id_then_number() {
        let all = SenderIds {
            phone: Some("5511988887777".to_owned()),
            lid: Some("900".to_owned()),
            user_id: Some("BR.15".to_owned()),
            ..SenderIds::default()
        };
        let kinds: Vec<_> = all.keys().iter().map(|key| key.kind).collect();
        assert_eq!(kinds, IdentityKind::ALL);
        assert_eq!(all.address(), "5511988887777");
        assert_eq!(SenderIds::of_lid("900").address(), "900@lid");
        assert_eq!(SenderIds::of_user_id("BR.15").address(), "BR.15");
        assert!(SenderIds::default().is_nobody());
    }

    #[test]
    fn what_is_no_identity_is_left_out() {
        let odd = SenderIds {
            phone: Some("55\0".to_owned()),
            lid: Some("x@lid".to_owned()),
            user_id: Some("BR 1".to_owned()),
            username: Some("\u{200b}".to_owned()),
            name: Some(" Ana\n".to_owned()),
        };
        let cleaned = odd.cleaned();
        assert_eq!(cleaned, SenderIds { name: Some("Ana".to_owned()), ..SenderIds::default() });
        assert!(cleaned.is_nobody());
        assert_eq!(format!("{cleaned:?} {:?}", IdentityKey::phone("55")), "SenderIds IdentityKey(PHONE)");
    }
}
