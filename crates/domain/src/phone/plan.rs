//! The number plans of the countries: the lengths, prefixes and patterns of libphonenumber's metadata, as a table that a
//! test compares with the crate `phonenumber` (ADR 13).

use std::fmt;
use std::str::FromStr;
use std::sync::{LazyLock, OnceLock};

use regex_lite::Regex;

use super::exceptions;

/// The form of a country's numbers.
pub(super) struct Plan {
    pub code: u16,
    region: &'static str,
    /// A bit for each length that a number without its country code may have.
    lengths: u32,
    /// The same for numbers that work only within their area.
    local: u32,
    /// The prefix that is dialled before a number within the country.
    pub prefix: &'static str,
    pattern: &'static str,
    compiled: OnceLock<Option<Regex>>,
}

static PLANS: LazyLock<Vec<Plan>> =
    LazyLock::new(|| include_str!("plans.tsv").lines().filter_map(Plan::read).collect());

impl Plan {
    fn read(line: &'static str) -> Option<Self> {
        let mut cells = line.split('\t');
        let code = cells.next()?.parse().ok()?;
        let (region, lengths, local) = (cells.next()?, bits(cells.next()?), bits(cells.next()?));
        let (prefix, pattern) = (cells.next()?, cells.next()?);
        Some(Self { code, region, lengths, local, prefix, pattern, compiled: OnceLock::new() })
    }

    /// The plan for the country code at the beginning of the digits, and the remaining digits. No code is a prefix of
    /// another one.
    pub fn of_international(digits: &str) -> Option<(&'static Self, &str)> {
        (1..=3).find_map(|length| {
            let (code, national) = digits.split_at_checked(length)?;
            let code = code.parse::<u16>().ok().filter(|_| !code.starts_with('0'))?;
            // The first plan of a code is that of the main country.
            let place = PLANS.partition_point(|plan| plan.code < code);
            PLANS.get(place).filter(|plan| plan.code == code).map(|plan| (plan, national))
        })
    }

    /// Whether a number can have this form, without country code and prefix.
    pub fn accepts(&self, national: &str) -> bool {
        if self.code_length() + national.len() > super::MOST_DIGITS {
            return false;
        }
        match exceptions::forms(self.code) {
            Some(forms) => forms.iter().any(|form| exceptions::has_form(national, form)),
            None => has(self.lengths, national.len()),
        }
    }

    /// Whether people write a number in this form within the country, without prefix. Forms that only WhatsApp uses are
    /// always written with the country code.
    pub fn accepts_within(&self, national: &str) -> bool {
        has(self.lengths, national.len()) && self.accepts(national)
    }

    /// Whether numbers of this length work only within their area or their country.
    pub fn is_local(&self, length: usize) -> bool {
        let abroad = |forms: &[&str]| forms.iter().any(|form| form.len() == length);
        let within = exceptions::forms(self.code).is_some_and(|forms| has(self.lengths, length) && !abroad(forms));
        has(self.local, length) || within
    }

    /// Whether the metadata contains the number. Plans change faster than the metadata, so this only decides between two
    /// meanings, and never whether a number is accepted.
    pub fn is_known(&self, national: &str) -> bool {
        if exceptions::forms(self.code).is_some() {
            return self.accepts(national);
        }
        let compiled = self.compiled.get_or_init(|| Regex::new(&format!("^(?:{})$", self.pattern)).ok());
        has(self.lengths, national.len()) && compiled.as_ref().is_some_and(|pattern| pattern.is_match(national))
    }

    /// The possible lengths of a number without its country code.
    pub fn lengths(&self) -> impl Iterator<Item = usize> {
        let most = super::MOST_DIGITS - self.code_length();
        (1..=most).filter(|length| has(self.lengths, *length))
    }

    /// Whether an exception defines the forms of the numbers.
    pub fn has_forms(&self) -> bool {
        exceptions::forms(self.code).is_some()
    }

    /// Whether a leading zero is dialled without being part of the number.
    pub fn has_trunk_zero(&self) -> bool {
        self.prefix == "0"
    }

    /// A number without its trunk zero.
    pub fn without_zero<'a>(&self, national: &'a str) -> &'a str {
        if self.has_trunk_zero() { national.strip_prefix('0').unwrap_or(national) } else { national }
    }

    fn code_length(&self) -> usize {
        self.code.ilog10() as usize + 1
    }
}

/// The plan of each code's main country. Its lengths apply to all countries of the code.
pub(super) fn main() -> impl Iterator<Item = &'static Plan> {
    PLANS.chunk_by(|one, next| one.code == next.code).filter_map(|of_code| of_code.first())
}

fn bits(lengths: &str) -> u32 {
    lengths
        .split(',')
        .filter_map(|length| length.parse::<u32>().ok())
        .fold(0, |bits, length| bits | 1 << length.min(31))
}

fn has(bits: u32, length: usize) -> bool {
    length < 31 && bits >> length & 1 == 1
}

/// A country whose numbers may be written without their country code.
#[derive(Clone, Copy)]
pub struct Country(pub(super) &'static Plan);

/// No country has this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the two letters of a country, such as BR")]
pub struct UnknownCountry;

impl Country {
    /// The two letters of the country (ISO 3166-1).
    pub fn letters(self) -> &'static str {
        self.0.region
    }
}

impl FromStr for Country {
    type Err = UnknownCountry;

    fn from_str(letters: &str) -> Result<Self, UnknownCountry> {
        // Numbers that belong to no country (satellites, free calls) have the name `001` in the table.
        let is_letters = letters.len() == 2 && letters.bytes().all(|letter| letter.is_ascii_alphabetic());
        let plan = PLANS.iter().find(|plan| plan.region.eq_ignore_ascii_case(letters)).filter(|_| is_letters);
        plan.map(Self).ok_or(UnknownCountry)
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.letters())
    }
}

impl PartialEq for Country {
    fn eq(&self, other: &Self) -> bool {
        self.letters() == other.letters()
    }
}

impl Eq for Country {}

#[cfg(test)]
impl Plan {
    /// The country at this position of the table.
    pub fn some(place: usize) -> Option<Country> {
        PLANS.get(place).filter(|plan| plan.region != "001").map(Country)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plan_can_be_used() {
        for plan in PLANS.iter() {
            assert!(plan.lengths != 0 && plan.lengths & 1 == 0, "{} {}", plan.code, plan.region);
            assert!(Regex::new(plan.pattern).is_ok(), "{} {}", plan.code, plan.region);
            assert!(plan.prefix.bytes().all(|digit| digit.is_ascii_digit()), "{}", plan.region);
        }
        assert!(PLANS.is_sorted_by_key(|plan| plan.code));
        assert!(exceptions::EXCEPTIONS.iter().all(|exception| PLANS.iter().any(|plan| plan.code == exception.code)));
    }

    #[test]
    fn countries_are_two_letters() {
        assert_eq!("br".parse::<Country>().map(Country::letters), Ok("BR"));
        for bad in ["", "B", "BRA", "XX", "001", "55", "ÇA"] {
            assert_eq!(bad.parse::<Country>(), Err(UnknownCountry), "{bad}");
        }
    }
}
