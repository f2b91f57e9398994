//! Phone numbers as people write them, and the digits that they mean.
//!
//! A number is never changed into another one: what cannot be read with certainty is refused with what to correct. Whether
//! a number has an account, and under which digits, only the network can say.

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

/// At most 15 ASCII digits (E.164 without its `+`): a country code that exists, and as many digits as its plan has.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PhoneNumber(String);

/// Why a text is no phone number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPhone {
    /// It has other signs than a number, or no country has such a number.
    #[error("not a phone number in the form DDI+DDD+NUM")]
    Malformed,
    /// A spreadsheet made another number of it: with a decimal point, or in powers of ten.
    #[error("the number seems to have been converted by a spreadsheet")]
    Spreadsheet,
    /// It could be a number within some country.
    #[error("the number needs its country code (DDI+DDD+NUM)")]
    CountryMissing,
}

/// What is said of a phone that is none.
pub const BAD_PHONE: &str = "O telefone deve estar no formato DDI+DDD+NUM.";

impl InvalidPhone {
    /// What a caller is told; `malformed` is the field's own text.
    pub fn text(self, malformed: &'static str) -> &'static str {
        match self {
            Self::Malformed => malformed,
            Self::Spreadsheet => "O telefone parece ter sido convertido pela planilha.",
            Self::CountryMissing => "Informe o numero com o codigo do pais (DDI+DDD+NUM).",
        }
    }
}

/// Most digits of a number (E.164).
const MOST_DIGITS: usize = 15;

impl PhoneNumber {
    /// Reads a number with its country code; without a `+` also one as it is written within `country`.
    pub fn parse(text: &str, country: Option<Country>) -> Result<Self, InvalidPhone> {
        let typed = Typed::read(text)?;
        let national = country.filter(|_| !typed.international).and_then(|country| within(country, &typed));
        let digits = match national {
            Some(Within::Number(digits)) => Some(digits),
            Some(Within::Local) => None,
            Some(Within::Unclear) => return Err(InvalidPhone::CountryMissing),
            // Under a default country a zero could be that country's, too.
            None => international(&typed, typed.international || country.is_none()),
        };
        match digits {
            Some(digits) => Ok(Self(digits)),
            _ if typed.international || !seems_national(&typed.digits) => Err(InvalidPhone::Malformed),
            _ => Err(InvalidPhone::CountryMissing),
        }
    }

    /// The number that a text meant when it was stored: the rules of that time may have been others.
    pub fn of_stored(given: &str) -> Result<Self, InvalidPhone> {
        let mut digits = given.to_owned();
        digits.retain(|sign| sign.is_ascii_digit());
        if (4..=MOST_DIGITS).contains(&digits.len()) { Ok(Self(digits)) } else { Err(InvalidPhone::Malformed) }
    }

    /// The digits alone.
    pub fn digits(&self) -> &str {
        &self.0
    }

    /// A Brazilian mobile's other form, without its ninth digit or with it: networks know one person by either. `None`
    /// where eight digits begin with 2 to 5, because without the ninth they are somebody's landline.
    pub fn twin(&self) -> Option<Self> {
        let (area, local) = self.0.strip_prefix("55")?.split_at_checked(2)?;
        let (eight, ninth) = match local.len() {
            9 => (local.strip_prefix('9')?, ""),
            8 => (local, "9"),
            // Digits that a network named, or that a former version took.
            _ => return None,
        };
        eight.starts_with(['6', '7', '8', '9']).then(|| Self(format!("55{area}{ninth}{eight}")))
    }

    /// The digits with the trunk zero that former versions kept behind the country code (`4402079460958`): no other
    /// number has them. `None` where there is no such zero; Brazilian numbers were never taken with it.
    pub fn with_trunk_zero(&self) -> Option<Self> {
        let (plan, national) = Plan::of_international(&self.0)?;
        let zero = plan.has_trunk_zero() && plan.code != 55 && self.0.len() < MOST_DIGITS && !national.starts_with('0');
        zero.then(|| Self(format!("{}0{national}", plan.code)))
    }
}

/// A number's digits as they were given, and those of its [twin](PhoneNumber::twin), where it has one.
pub fn forms(digits: &str) -> impl Iterator<Item = String> + use<> {
    let twin = PhoneNumber::of_stored(digits).ok().and_then(|number| number.twin());
    [digits.to_owned()].into_iter().chain(twin.map(|twin| twin.0))
}

/// What digits without a country code mean within a country.
enum Within {
    /// A number of its plan, with its country code in front.
    Number(String),
    /// A number that works within its area alone.
    Local,
    /// Another country has that number as well, with its country code in front.
    Unclear,
}

/// Reads digits as a number within the country; `None` when they are none, or have their country code already.
fn within(country: Country, typed: &Typed) -> Option<Within> {
    let (plan, digits) = (country.0, &*typed.digits);
    let abroad = Plan::of_international(digits);
    // Also the country's own numbers are written with their country code.
    if abroad.is_some_and(|(whose, rest)| whose.code == plan.code && whose.is_known(rest)) {
        return None;
    }
    let national = match digits.strip_prefix(plan.prefix) {
        Some(rest) if !plan.prefix.is_empty() && (plan.is_known(rest) || !plan.is_known(digits)) => rest,
        _ => digits,
    };
    if !plan.accepts_within(national) || (plan.has_trunk_zero() && national.starts_with('0')) {
        return plan.is_local(national.len()).then_some(Within::Local);
    }
    // The forms of an exception are exact, and nobody writes a country code behind a prefix that stands alone.
    let is_plain = plan.has_forms() || typed.begins_with_group(plan.prefix);
    match (plan.is_known(national), abroad) {
        (true, _) if is_plain => {}
        (true, Some((whose, rest))) if whose.is_known(whose.without_zero(rest)) => return Some(Within::Unclear),
        (false, Some((whose, rest))) if whose.is_known(whose.without_zero(rest)) => return None,
        // A second zero would be part of no number.
        (false, Some((whose, rest))) if whose.accepts(whose.without_zero(rest)) && !rest.starts_with("00") => {
            return Some(Within::Unclear);
        }
        _ => {}
    }
    Some(Within::Number(format!("{}{national}", plan.code)))
}

/// Reads digits with their country code in front.
fn international(typed: &Typed, drops_zero: bool) -> Option<String> {
    let (plan, behind) = Plan::of_international(&typed.digits)?;
    let code = &typed.digits[..typed.digits.len() - behind.len()];
    let national = if plan.has_trunk_zero() {
        // A second zero would be part of no number.
        Some(behind.strip_prefix('0').filter(|_| drops_zero).unwrap_or(behind))
            .filter(|national| !national.starts_with('0'))?
    } else {
        behind
    };
    // `(0)` says that a zero is not dialled from abroad. Where the plan has no such zero, it stays only if it must.
    if typed.bracketed_zero == Some(code.len()) && !plan.has_trunk_zero() && !plan.is_known(behind) {
        return None;
    }
    plan.accepts(national).then(|| [code, national].concat())
}

/// Whether digits look like a number that only lacks its country code.
fn seems_national(digits: &str) -> bool {
    (8..=11).contains(&digits.len()) || (digits.len() > 8 && digits.starts_with('0'))
}

/// A log or a panic must not carry a person's number: only its last four digits show.
impl fmt::Debug for PhoneNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PhoneNumber(…{})", &self.0[self.0.len().saturating_sub(4)..])
    }
}
