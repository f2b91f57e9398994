//! Lists of contacts.

use icu_normalizer::DecomposingNormalizerBorrowed;
use icu_properties::props::GeneralCategory;

use super::{Contact, Source};
use crate::clock::Millis;
use crate::event::Owner;
use crate::ids::ContactId;
use crate::incoming::IdentityKey;
use crate::text::category;

/// A text as it is searched and sorted: without case and accents.
pub fn search_key(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let bare = DecomposingNormalizerBorrowed::new_nfkd().normalize(text);
    let bare = bare.chars().filter(|sign| category(*sign) != GeneralCategory::NonspacingMark);
    bare.flat_map(char::to_lowercase).filter(|sign| *sign != '\0').collect()
}

/// The signs that people write between the digits of a number: among them are a space and two dashes that keep a line together.
const BETWEEN_DIGITS: &str = "+()-./ \u{a0}\u{2011}\u{2013}";
/// A text with fewer digits may be a part of a name, unless it begins as a number does.
const DIGITS_OF_NUMBER: usize = 7;

/// The text that a search looks for in names and numbers: without case and accents; of a number as people write it, the digits.
pub fn search_text(text: &str) -> String {
    let text = text.trim();
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let is_written = text.chars().all(|sign| sign.is_ascii_digit() || BETWEEN_DIGITS.contains(sign));
    let begins = text.starts_with(['+', '(']) && !digits.is_empty();
    if is_written && (begins || digits.len() >= DIGITS_OF_NUMBER) { digits } else { search_key(text) }
}

/// A query for contacts, by name and then by id.
#[derive(Debug, Clone)]
pub struct ContactQuery {
    pub owner: Owner,
    /// A part of the name or of the number.
    pub search: Option<String>,
    /// Contacts with any of these.
    pub tags: Vec<String>,
    /// Contacts with all of these.
    pub tags_all: Vec<String>,
    /// The contact with this number, in either form.
    pub phone: Option<IdentityKey>,
    pub opt_out: Option<bool>,
    pub source: Option<Source>,
    pub updated_since: Option<Millis>,
    pub from: ContactFrom,
    pub limit: usize,
}

impl ContactQuery {
    /// All contacts of an owner.
    pub fn of(owner: Owner, limit: usize) -> Self {
        Self {
            owner,
            search: None,
            tags: Vec::new(),
            tags_all: Vec::new(),
            phone: None,
            opt_out: None,
            source: None,
            updated_since: None,
            from: ContactFrom::Start,
            limit,
        }
    }
}

/// Where a page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContactFrom {
    Start,
    After(ContactPlace),
    /// Behind this many contacts, at most 10,000. The page says how many there are.
    Offset(usize),
}

/// The place of a contact in the list. The place stays valid if the contact is renamed or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactPlace {
    /// The name as it is sorted.
    pub name: String,
    pub id: ContactId,
}

/// A page. It may be short, or empty, although more follow, because each page reads a bounded part of the store.
#[derive(Debug, Clone, PartialEq)]
pub struct ContactPage {
    pub contacts: Vec<Contact>,
    /// Where the next page begins; `None` if this is the last one.
    pub next: Option<ContactPlace>,
    /// How many contacts there are, at most 10,000, and whether that is the least number; counted for
    /// [`ContactFrom::Offset`].
    pub total: Option<(usize, bool)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_searched_without_case_and_accents() {
        for (text, key) in [("Ação", "acao"), ("JOSÉ", "jose"), ("Ana", "ana"), ("ﬁ", "fi"), ("İ", "i"), ("中", "中")]
        {
            assert_eq!(search_key(text), key);
        }
    }

    #[test]
    fn a_written_number_is_searched_by_its_digits() {
        for (text, searched) in [
            ("(11) 97777-9999", "11977779999"),
            ("+55 11", "5511"),
            (" 7777-9999 ", "77779999"),
            ("7777\u{2011}9999", "77779999"),
            ("77779999", "77779999"),
            ("Bloco 7777-9999", "bloco 7777-9999"),
            ("12-34", "12-34"),
            ("+", "+"),
            ("(Á)", "(a)"),
            ("", ""),
        ] {
            assert_eq!(search_text(text), searched, "{text}");
        }
    }
}
