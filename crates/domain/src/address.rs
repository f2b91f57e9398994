//! The address of a chat, which a call gives as `to`: a phone number, or an address that a received message named.

use std::fmt;

use crate::ids::is_account;
use crate::phone::{Country, InvalidPhone, PhoneNumber};

/// The end of the address of a group.
pub const GROUP: &str = "@g.us";
/// The end of a hidden id (LID) as an address.
pub const LID: &str = "@lid";
/// A user id of a business (BSUID): the country, perhaps `ENT.`, and letters and digits.
pub const USER_ID: &str = "^[A-Z]{2}[.](ENT[.])?[A-Za-z0-9]{1,128}$";
/// The addresses that are no phone numbers, as a regular expression.
const OTHERS: &str = "[A-Z]{2}[.](ENT[.])?[A-Za-z0-9]{1,128}|[0-9]{1,32}@lid|[0-9]{1,32}(-[0-9]{1,32})?@g[.]us";

/// The kind of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressKind {
    /// A phone number.
    Phone,
    /// The id of a person within one business.
    UserId,
    /// A person whose number the network hides.
    Lid,
    /// A group.
    Group,
}

impl AddressKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Phone, Self::UserId, Self::Lid, Self::Group];

    /// The kind of an address. A text that has no other form is a phone number, or no address at all.
    pub fn of(text: &str) -> Self {
        if text.strip_suffix(LID).is_some_and(is_account) {
            Self::Lid
        } else if text.strip_suffix(GROUP).is_some_and(is_group) {
            Self::Group
        } else if is_user_id(text) {
            Self::UserId
        } else {
            Self::Phone
        }
    }
}

/// Groups of WhatsApp's first years are named by the number of their founder and the time: `5511…-1400000000@g.us`.
fn is_group(text: &str) -> bool {
    match text.split_once('-') {
        Some((founder, time)) => is_account(founder) && is_account(time),
        None => is_account(text),
    }
}

/// Whether the text is a user id of a business, by [`USER_ID`].
pub fn is_user_id(text: &str) -> bool {
    let Some((country, id)) = text.split_once('.') else { return false };
    let id = id.strip_prefix("ENT.").unwrap_or(id);
    country.len() == 2
        && country.bytes().all(|byte| byte.is_ascii_uppercase())
        && (1..=128).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The address of a chat, in the form in which it is stored and compared.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address {
    kind: AddressKind,
    text: String,
}

impl Address {
    /// Parses the address that a call gives. The rules of [`PhoneNumber::parse`] hold for a number; any other address is
    /// taken as it is.
    ///
    /// # Errors
    ///
    /// The text is neither a phone number nor another address.
    pub fn parse(text: &str, country: Option<Country>) -> Result<Self, InvalidPhone> {
        let kind = AddressKind::of(text);
        let text = match kind {
            AddressKind::Phone => PhoneNumber::parse(text, country)?.digits().to_owned(),
            AddressKind::UserId | AddressKind::Lid | AddressKind::Group => text.to_owned(),
        };
        Ok(Self { kind, text })
    }

    /// Its kind.
    pub fn kind(&self) -> AddressKind {
        self.kind
    }

    /// The digits of a number, or the address as it is.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// A log must not name a person.
impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Address({:?})", self.kind)
    }
}

/// A regular expression for addresses. Not every number matches, see [`crate::phone::pattern`].
pub fn pattern() -> String {
    let number = crate::phone::pattern();
    // One pair of anchors around all: generators of texts are slow with several.
    let number = number.trim_start_matches('^').trim_end_matches('$');
    format!("^({number}|{OTHERS})$")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_a_received_message_is_one() {
        for (text, kind) in [
            ("103899771998284@lid", AddressKind::Lid),
            ("BR.1502576394655843", AddressKind::UserId),
            ("US.ENT.a1", AddressKind::UserId),
            ("120363041234567890@g.us", AddressKind::Group),
            ("5511988887777-1400000000@g.us", AddressKind::Group),
        ] {
            let address = Address::parse(text, None).expect(text);
            assert_eq!((address.kind(), address.as_str()), (kind, text));
            assert!(matches(text), "{text}");
        }
        let number = Address::parse("+55 (11) 98888-7777", None).expect("a number");
        assert_eq!((number.kind(), number.as_str()), (AddressKind::Phone, "5511988887777"));
        assert_eq!(format!("{number:?}"), "Address(Phone)");
    }

    #[test]
    fn what_names_no_chat_is_refused() {
        for text in [
            "status@broadcast",
            "123@broadcast",
            "120363041234567890@newsletter",
            "5511988887777@s.whatsapp.net",
            "@lid",
            "x@lid",
            "1@lid@lid",
            "103899771998284:2@lid",
            "-1@g.us",
            "1-2-3@g.us",
            "BR.",
            "br.15",
            "BRA.15",
            "BR.1.5",
            "BR.ENT.",
            "BR.1 5",
            "",
        ] {
            assert_eq!(Address::parse(text, None), Err(InvalidPhone::Malformed), "{text}");
            assert!(!matches(text), "{text}");
        }
        assert_eq!(Address::parse(&format!("BR.{}", "1".repeat(129)), None), Err(InvalidPhone::Malformed));
        assert!(Address::parse(&format!("{}@lid", "1".repeat(33)), None).is_err());
    }

    fn matches(text: &str) -> bool {
        regex_lite::Regex::new(&format!("^({OTHERS})$")).expect("a pattern").is_match(text)
    }
}
