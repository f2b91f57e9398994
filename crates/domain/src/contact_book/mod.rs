//! Contacts. Each person has one contact, which is found by every name that a network gives the person.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

mod change;
mod query;
mod resolve;

use serde_json::{Map, Value};

use crate::channel::ChannelKey;
use crate::clock::Millis;
use crate::event::Owner;
use crate::ids::ContactId;
use crate::incoming::IdentityKind;

pub use change::{ContactChange, ContactChanged, ContactPut, NewContact, as_first_written, tag_key};
pub use query::{ContactFrom, ContactPage, ContactPlace, ContactQuery, search_key, search_text};
pub use resolve::{Found, Resolution, is_another, resolve};

/// Who left a person out of bulk sending: a call, a message that is an opt-out word, or a preference that the network reports.
pub const OPT_OUT_SOURCES: [&str; 3] = ["API", "KEYWORD", "NETWORK"];

/// Where a contact comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    Api,
    Import,
    Inbound,
}

impl Source {
    pub const ALL: [Self; 3] = [Self::Api, Self::Import, Self::Inbound];

    /// The name in the API and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Api => "API",
            Self::Import => "IMPORT",
            Self::Inbound => "INBOUND",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.name() == name)
    }
}

/// A name by which a network knows the contact.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    pub kind: IdentityKind,
    pub value: String,
    /// Where it is valid: a channel, a business, or everywhere (a number).
    pub scope: Scope,
}

/// The log must not name a person.
impl std::fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Identity({})", self.kind.name())
    }
}

/// Where an identity is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    Owner,
    /// The channel, and its public id.
    Channel(ChannelKey, String),
    Business(String),
}

/// A contact.
#[derive(Clone, PartialEq)]
pub struct Contact {
    pub id: ContactId,
    pub owner: Owner,
    pub name: String,
    /// Whether a caller gave the name. Such a name is not replaced by a name that the network reports.
    pub is_named: bool,
    /// Digits of the number, as a caller typed it or as the network reported it.
    pub phone: Option<String>,
    pub email: Option<String>,
    /// Each tag in the spelling in which it was first written.
    pub tags: Vec<String>,
    pub metadata: Map<String, Value>,
    /// The account that the network last named for the number.
    pub account: Option<String>,
    pub opt_out_at: Option<Millis>,
    /// `API`, or the word or preference of an incoming message.
    pub opt_out_source: Option<String>,
    pub source: Source,
    pub identities: Vec<Identity>,
    pub last_inbound_at: Option<Millis>,
    pub last_outbound_at: Option<Millis>,
    pub created_at: Millis,
    pub updated_at: Millis,
}

impl Contact {
    /// The names of the fields that differ from an earlier state, in the order of the contract.
    pub fn changes_since(&self, before: &Self) -> Vec<&'static str> {
        let fields = [
            ("name", self.name != before.name),
            ("phone", self.phone != before.phone),
            ("email", self.email != before.email),
            ("tags", self.tags != before.tags),
            ("metadata", self.metadata != before.metadata),
            ("optOut", self.opt_out_at.is_some() != before.opt_out_at.is_some()),
        ];
        fields.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }
}

/// The log must not name a person.
impl std::fmt::Debug for Contact {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Contact({})", self.id)
    }
}

/// Whether a text is one of the words by which a person opts out: compared without case, accents and dots.
pub fn is_opt_out(text: &str, words: &[String]) -> bool {
    // A longer text is not a single word, so it is not folded.
    if text.len() > 256 {
        return false;
    }
    let bare = |text: &str| search_key(text).replace(['.', '!'], "").trim().to_owned();
    let said = bare(text);
    !said.is_empty() && words.iter().any(|word| bare(word) == said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_alone_opts_out() {
        let words = ["SAIR", "PARAR", "Não"].map(str::to_owned);
        for text in ["SAIR", "sair", " Sair. ", "s.a.i.r", "PARÁR", "nao"] {
            assert!(is_opt_out(text, &words), "{text}");
        }
        for text in ["", ".", "quero sair", "sairei", "stop"] {
            assert!(!is_opt_out(text, &words), "{text}");
        }
        assert!(!is_opt_out("sair", &[]));
    }
}
