//! A person on the other side of a chat, with every name by which a network knows the person.

use std::fmt;

use crate::address::LID;
use crate::ids::is_account;
use crate::phone::forms;

/// A person: the number, the hidden id (LID) that the network assigned, or both. Both forms of a Brazilian number are the
/// same number.
#[derive(Clone, PartialEq, Eq)]
pub struct Party {
    number: Option<String>,
    lid: Option<String>,
}

impl Party {
    /// A person from the names that a network gives; `None` if there is no name.
    pub fn new(number: Option<String>, lid: Option<String>) -> Option<Self> {
        let number = number.filter(|number| is_account(number));
        let lid = lid.filter(|lid| is_account(lid));
        (number.is_some() || lid.is_some()).then_some(Self { number, lid })
    }

    /// A person known only by the number.
    pub fn of_number(digits: &str) -> Self {
        Self { number: Some(digits.to_owned()), lid: None }
    }

    /// The digits of the number, if it is known.
    pub fn number(&self) -> Option<&str> {
        self.number.as_deref()
    }

    /// The hidden id, if it is known.
    pub fn lid(&self) -> Option<&str> {
        self.lid.as_deref()
    }

    /// Every name under which a chat with the person may be stored. No name belongs to another person.
    pub fn names(&self) -> Vec<String> {
        let numbers = self.number.iter().flat_map(|number| forms(number));
        numbers.chain(self.lid.iter().map(|lid| format!("{lid}{LID}"))).collect()
    }

    /// Whether the person is the recipient: by any number of the recipient, or by the recipient's hidden id.
    ///
    /// A person who is known only by the hidden id, while the recipient's hidden id is unknown, cannot be compared and
    /// counts as the recipient: the network gives a message's id only to the two sides of its chat.
    pub fn is_recipient(&self, recipient: &Recipient) -> bool {
        let same_lid = self.lid.is_some() && self.lid == recipient.lid;
        same_lid
            || match &self.number {
                Some(number) => forms(number).any(|form| recipient.numbers.contains(&form)),
                None => recipient.lid.is_none(),
            }
    }
}

/// The log must not name a person.
impl fmt::Debug for Party {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Party")
    }
}

/// The recipient of a message.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The number as it was typed, and the accounts that the network named for it.
    pub numbers: Vec<String>,
    /// The hidden id, if the network reported it.
    pub lid: Option<String>,
}

impl Recipient {
    /// The recipient with these names: the address to which the message was sent, and the accounts that the network named
    /// for it. A message can be sent to a hidden id itself.
    pub fn new(names: Vec<String>, lid: Option<String>) -> Self {
        let addressed = names.iter().find_map(|name| name.strip_suffix(LID)).map(str::to_owned);
        Self { lid: addressed.or(lid), numbers: names }
    }
}

/// The log must not name a person.
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
        Party::new(given(number), given(lid)).expect("a name")
    }

    #[test]
    fn both_forms_of_a_number_and_the_hidden_id_are_names_of_one_person() {
        assert_eq!(party("551188887777", "").names(), ["551188887777", "5511988887777"]);
        assert_eq!(party("12025550123", "900").names(), ["12025550123", "900@lid"]);
        assert_eq!(party("", "900").names(), ["900@lid"]);
        assert_eq!(Party::new(Some("maria".to_owned()), Some(String::new())), None);
    }

    #[test]
    fn a_receipt_counts_only_if_the_recipient_sent_it() {
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
        // The typed form is enough, because an account that was never named has both.
        let typed = Recipient { numbers: vec!["5511988887777".to_owned()], lid: None };
        assert!(party("551188887777", "").is_recipient(&typed));
    }

    #[test]
    fn a_message_to_a_hidden_id_is_for_the_person_who_has_it() {
        let recipient = Recipient::new(vec!["900@lid".to_owned()], None);
        assert!(party("", "900").is_recipient(&recipient));
        assert!(party("551188886666", "900").is_recipient(&recipient));
        assert!(!party("", "901").is_recipient(&recipient));
        assert!(!party("551188886666", "").is_recipient(&recipient));
    }

    #[test]
    fn no_name_is_logged() {
        assert_eq!(format!("{:?}", party("551188887777", "900")), "Party");
    }
}
