//! A person on the other side of a chat, under every name by which a network knows them.

use std::fmt;

use crate::ids::is_account;
use crate::phone::forms;

/// What tells a hidden id from a number where both stand in one column.
const HIDDEN: &str = "@lid";

/// A person: their number, the hidden id (LID) that the network gave them, or both. Both forms of a Brazilian number are
/// one number.
#[derive(Clone, PartialEq, Eq)]
pub struct Party {
    number: Option<String>,
    lid: Option<String>,
}

impl Party {
    /// A person by what a network says of them; `None` where that names nobody.
    pub fn new(number: Option<String>, lid: Option<String>) -> Option<Self> {
        let number = number.filter(|number| is_account(number));
        let lid = lid.filter(|lid| is_account(lid));
        (number.is_some() || lid.is_some()).then_some(Self { number, lid })
    }

    /// A person by their number alone.
    pub fn of_number(digits: &str) -> Self {
        Self { number: Some(digits.to_owned()), lid: None }
    }

    /// The digits of the number, where it is known.
    pub fn number(&self) -> Option<&str> {
        self.number.as_deref()
    }

    /// The hidden id, where it is known.
    pub fn lid(&self) -> Option<&str> {
        self.lid.as_deref()
    }

    /// Every name under which a chat with them may be on record; none of them is another person's.
    pub fn names(&self) -> Vec<String> {
        let numbers = self.number.iter().flat_map(|number| forms(number));
        numbers.chain(self.lid.iter().map(|lid| format!("{lid}{HIDDEN}"))).collect()
    }

    /// Whether they are whom a message was sent to: by any number of the recipient, or by the recipient's hidden id.
    ///
    /// Where they are known by their hidden id alone and the recipient's is not known, there is nothing to compare. They
    /// count then: the network gives a message's id to nobody but the two sides of its chat.
    pub fn is_recipient(&self, recipient: &Recipient) -> bool {
        let same_lid = self.lid.is_some() && self.lid == recipient.lid;
        same_lid
            || match &self.number {
                Some(number) => forms(number).any(|form| recipient.numbers.contains(&form)),
                None => recipient.lid.is_none(),
            }
    }
}

/// What is logged must not name a person.
impl fmt::Debug for Party {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Party")
    }
}

/// Whom a message was sent to.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The number as it was typed, and the accounts that the network named for it.
    pub numbers: Vec<String>,
    /// The hidden id, where the network told it.
    pub lid: Option<String>,
}

/// What is logged must not name a person.
impl fmt::Debug for Recipient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Recipient")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(number: &str, lid: &str) -> Party {
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Party::new(given(number), given(lid)).expect("somebody")
    }

    #[test]
    fn both_forms_of_a_number_and_the_hidden_id_are_names_of_one_person() {
        assert_eq!(party("551188887777", "").names(), ["551188887777", "5511988887777"]);
        assert_eq!(party("12025550123", "900").names(), ["12025550123", "900@lid"]);
        assert_eq!(party("", "900").names(), ["900@lid"]);
        assert_eq!(Party::new(Some("maria".to_owned()), Some(String::new())), None);
    }

    #[test]
    fn a_word_counts_if_it_is_the_recipients() {
        let recipient = |lid: Option<&str>| Recipient {
            numbers: vec!["5511988887777".to_owned(), "551188887777".to_owned()],
            lid: lid.map(str::to_owned),
        };
        for (number, lid, known, counts) in [
            ("551188887777", "", Some("900"), true),
            ("5511988887777", "", None, true),
            ("551188886666", "", None, false),
            ("551188886666", "900", Some("900"), true),
            ("551188886666", "901", Some("900"), false),
            ("", "900", Some("900"), true),
            ("", "901", Some("900"), false),
            ("", "901", None, true),
        ] {
            assert_eq!(party(number, lid).is_recipient(&recipient(known)), counts, "{number} {lid} {known:?}");
        }
        // The typed form is enough: an account that was never named has both.
        let typed = Recipient { numbers: vec!["5511988887777".to_owned()], lid: None };
        assert!(party("551188887777", "").is_recipient(&typed));
    }

    #[test]
    fn nobodys_name_is_logged() {
        assert_eq!(format!("{:?}", party("551188887777", "900")), "Party");
    }
}
