//! Phone numbers as people write them, and their digits.
//!
//! A number is never changed into another one. A text that is not certainly a number is refused, and the error says what to
//! correct. Only the network knows whether a number has an account, and with which digits.

mod default_country;
pub mod exceptions;
mod pattern;
mod plan;
mod signs;
#[cfg(test)]
mod tests;

use std::fmt;

pub use default_country::{DefaultCountry, UnknownDefaultCountry};
pub use pattern::pattern;
pub use plan::{Country, UnknownCountry};

use plan::Plan;
use signs::Typed;

/// At most 15 ASCII digits (E.164 without its `+`): a country code that exists, and as many digits as its plan allows.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PhoneNumber(String);

/// Why a text is not a phone number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPhone {
    /// The text has other characters than a number, or no country has such a number.
    #[error("not a phone number in the form DDI+DDD+NUM")]
    Malformed,
    /// A spreadsheet changed the number: to a decimal number, or to powers of ten.
    #[error("the number seems to have been converted by a spreadsheet")]
    Spreadsheet,
    /// The text could be a number within a country.
    #[error("the number needs its country code (DDI+DDD+NUM)")]
    CountryMissing,
}

/// The error of an invalid phone number.
pub const BAD_PHONE: &str = "O telefone deve estar no formato DDI+DDD+NUM.";

impl InvalidPhone {
    /// The error text for the caller. `malformed` is the field's own text.
    pub fn text(self, malformed: &'static str) -> &'static str {
        match self {
            Self::Malformed => malformed,
            Self::Spreadsheet => "O telefone parece ter sido convertido pela planilha.",
            Self::CountryMissing => "Informe o numero com o codigo do pais (DDI+DDD+NUM).",
        }
    }
}

/// The most digits of a number (E.164).
const MOST_DIGITS: usize = 15;

impl PhoneNumber {
    /// Parses a number with its country code. Without a `+` it also parses a number as it is written within `country`.
    pub fn parse(text: &str, country: Option<Country>) -> Result<Self, InvalidPhone> {
        let typed = Typed::read(text)?;
        let national = country.filter(|_| !typed.international).and_then(|country| within(country, &typed));
        let digits = match national {
            Some(Within::Number(digits)) => Some(digits),
            Some(Within::Local) => None,
            Some(Within::Unclear) => return Err(InvalidPhone::CountryMissing),
            // With a default country, the zero could be that country's trunk zero.
            None => international(&typed, typed.international || country.is_none()),
        };
        match digits {
            Some(digits) => Ok(Self(digits)),
            _ if typed.international || !seems_national(&typed.digits) => Err(InvalidPhone::Malformed),
            _ => Err(InvalidPhone::CountryMissing),
        }
    }

    /// Parses a stored text. It was accepted by the rules of its time, which may have been others.
    pub fn of_stored(given: &str) -> Result<Self, InvalidPhone> {
        let mut digits = given.to_owned();
        digits.retain(|sign| sign.is_ascii_digit());
        if (4..=MOST_DIGITS).contains(&digits.len()) { Ok(Self(digits)) } else { Err(InvalidPhone::Malformed) }
    }

    /// The digits alone.
    pub fn digits(&self) -> &str {
        &self.0
    }

    /// The other form of a Brazilian mobile number, without its ninth digit or with it. Networks know a person by either.
    /// `None` if the eight digits begin with 2 to 5, because without the ninth they are another person's landline.
    pub fn twin(&self) -> Option<Self> {
        let (area, local) = self.0.strip_prefix("55")?.split_at_checked(2)?;
        let (eight, ninth) = match local.len() {
            9 => (local.strip_prefix('9')?, ""),
            8 => (local, "9"),
            // Digits that a network named, or that an earlier version accepted.
            _ => return None,
        };
        eight.starts_with(['6', '7', '8', '9']).then(|| Self(format!("55{area}{ninth}{eight}")))
    }

    /// The digits with the trunk zero that earlier versions kept after the country code (`4402079460958`). No other number
    /// has them. `None` if the plan has no such zero; Brazilian numbers were never accepted with it.
    pub fn with_trunk_zero(&self) -> Option<Self> {
        let (plan, national) = Plan::of_international(&self.0)?;
        let zero = plan.has_trunk_zero() && plan.code != 55 && self.0.len() < MOST_DIGITS && !national.starts_with('0');
        zero.then(|| Self(format!("{}0{national}", plan.code)))
    }
}

/// The address as given, and the digits of its [twin](PhoneNumber::twin), if it is a number that has one.
pub fn forms(address: &str) -> impl Iterator<Item = String> + use<> {
    // The digits of a hidden id, of a user id or of a group are no number.
    let number = Some(address).filter(|address| address.bytes().all(|byte| byte.is_ascii_digit()));
    let twin = number.and_then(|digits| PhoneNumber::of_stored(digits).ok()?.twin());
    [address.to_owned()].into_iter().chain(twin.map(|twin| twin.0))
}

/// The meaning of digits without a country code within a country.
enum Within {
    /// A number of its plan, with its country code.
    Number(String),
    /// A number that works only within its area.
    Local,
    /// With its country code, another country has the number too.
    Unclear,
}

/// Reads digits as a number within the country. `None` if they are no such number, or have their country code already.
fn within(country: Country, typed: &Typed) -> Option<Within> {
    let (plan, digits) = (country.0, &*typed.digits);
    let abroad = Plan::of_international(digits);
    // A country's own numbers are also written with their country code.
    if abroad.is_some_and(|(other, rest)| other.code == plan.code && other.is_known(rest)) {
        return None;
    }
    let national = match digits.strip_prefix(plan.prefix) {
        Some(rest) if !plan.prefix.is_empty() && (plan.is_known(rest) || !plan.is_known(digits)) => rest,
        _ => digits,
    };
    if !plan.accepts_within(national) || (plan.has_trunk_zero() && national.starts_with('0')) {
        return plan.is_local(national.len()).then_some(Within::Local);
    }
    // The forms of an exception are exact, and people write no country code after a prefix that is a group of its own.
    let is_plain = plan.has_forms() || typed.begins_with_group(plan.prefix);
    match (plan.is_known(national), abroad) {
        (true, _) if is_plain => {}
        (true, Some((other, rest))) if other.is_known(other.without_zero(rest)) => return Some(Within::Unclear),
        (false, Some((other, rest))) if other.is_known(other.without_zero(rest)) => return None,
        // No number has a second zero.
        (false, Some((other, rest))) if other.accepts(other.without_zero(rest)) && !rest.starts_with("00") => {
            return Some(Within::Unclear);
        }
        _ => {}
    }
    Some(Within::Number(format!("{}{national}", plan.code)))
}

/// Reads digits that begin with their country code.
fn international(typed: &Typed, drops_zero: bool) -> Option<String> {
    let (plan, behind) = Plan::of_international(&typed.digits)?;
    let code = &typed.digits[..typed.digits.len() - behind.len()];
    let national = if plan.has_trunk_zero() {
        // No number has a second zero.
        Some(behind.strip_prefix('0').filter(|_| drops_zero).unwrap_or(behind))
            .filter(|national| !national.starts_with('0'))?
    } else {
        behind
    };
    // `(0)` means that the zero is not dialled from abroad. If the plan has no such zero, it stays only if the number needs
    // it.
    if typed.bracketed_zero == Some(code.len()) && !plan.has_trunk_zero() && !plan.is_known(behind) {
        return None;
    }
    plan.accepts(national).then(|| [code, national].concat())
}

/// Whether the digits look like a number that only lacks its country code.
fn seems_national(digits: &str) -> bool {
    (8..=11).contains(&digits.len()) || (digits.len() > 8 && digits.starts_with('0'))
}

/// A log or a panic must not contain a person's number: only the last four digits are shown.
impl fmt::Debug for PhoneNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PhoneNumber(…{})", &self.0[self.0.len().saturating_sub(4)..])
    }
}
