//! A regular expression for the numbers that are always accepted, for readers of the API's description.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::exceptions::{AREAS, forms};
use super::plan::{self, Plan};

/// The characters that may follow each digit here; `PhoneNumber::parse` accepts more. At most three, so that fifteen digits
/// stay within the length that it accepts.
const SIGNS: &str = "[ ()/-]{0,3}";
/// The same without an opening bracket: `(0)` after a country code is only for plans with a trunk zero.
const SIGNS_BEFORE_ZERO: &str = "[ )/-]{0,3}";

/// Every text that matches is a number with its country code. Not every number matches: invisible characters, other dashes
/// and the like are accepted too.
pub fn pattern() -> String {
    let space = "[\\t\\n\\r ]*";
    // Codes with the same number forms share a pattern.
    let mut codes_of: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for plan in plan::main() {
        codes_of.entry(national(plan)).or_default().push(code(plan));
    }
    let mut numbers = String::new();
    for (national, codes) in codes_of {
        let bar = if numbers.is_empty() { "" } else { "|" };
        write!(numbers, "{bar}({}){national}", codes.join("|")).expect("a text");
    }
    format!("^{space}\\+?{SIGNS}({numbers}){space}$")
}

/// The pattern of a country code, without other characters after its last digit.
fn code(plan: &Plan) -> String {
    let digits: Vec<String> = plan.code.to_string().chars().map(String::from).collect();
    digits.join(SIGNS)
}

/// The pattern of the digits after the country code.
fn national(plan: &Plan) -> String {
    if let Some(forms) = forms(plan.code) {
        let forms: Vec<String> = forms.iter().map(|form| of_form(form)).collect();
        return format!("{SIGNS}({})", forms.join("|"));
    }
    let behind_first: Vec<usize> = plan.lengths().map(|length| length - 1).collect();
    let counts = behind_first.chunk_by(|one, next| one + 1 == *next);
    let counts: Vec<String> =
        counts.filter_map(|run| Some(format!("([0-9]{SIGNS}){{{},{}}}", run.first()?, run.last()?))).collect();
    let first = if plan.has_trunk_zero() {
        format!("{SIGNS}[1-9]{SIGNS}")
    } else {
        format!("({SIGNS}[1-9]|{SIGNS_BEFORE_ZERO}0){SIGNS}")
    };
    format!("{first}({})", counts.join("|"))
}

fn digits(class: &str, count: usize) -> String {
    format!("({class}{SIGNS}){{{count}}}")
}

fn of_form(form: &str) -> String {
    let (area, mut rest) = form.strip_prefix("AA").map_or((String::new(), form), |rest| (areas(), rest));
    let mut text = area;
    while let Some(sign) = rest.chars().next() {
        let tail = rest.trim_start_matches(sign);
        let count = rest.len() - tail.len();
        match sign {
            '#' => text += &digits("[0-9]", count),
            'Z' => text += &digits("[1-9]", count),
            'N' => text += &digits("[2-9]", count),
            digit => text += &digits(&digit.to_string(), count),
        }
        rest = tail;
    }
    text
}

fn areas() -> String {
    let mut seconds_of: BTreeMap<&str, String> = BTreeMap::new();
    for area in AREAS {
        let (first, second) = area.split_at(1);
        seconds_of.entry(first).or_default().push_str(second);
    }
    let areas: Vec<String> =
        seconds_of.iter().map(|(first, seconds)| format!("{first}{SIGNS}[{seconds}]{SIGNS}")).collect();
    format!("({})", areas.join("|"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::string::string_regex;

    use super::*;
    use crate::phone::PhoneNumber;

    #[test]
    fn every_text_that_matches_the_pattern_is_a_number() {
        let pattern = pattern();
        assert!(pattern.len() < 16_000, "{} characters", pattern.len());
        let texts = string_regex(pattern.trim_start_matches('^').trim_end_matches('$')).expect("a pattern");
        proptest!(ProptestConfig::with_cases(4_000), |(text in texts)| {
            let read = PhoneNumber::parse(text.trim(), None);
            let digits: String = text.chars().filter(char::is_ascii_digit).collect();
            prop_assert_eq!(read.map(|phone| phone.digits().to_owned()), Ok(digits), "{:?}", text);
        });
    }

    #[test]
    fn usual_notations_match() {
        let pattern = regex_lite::Regex::new(&pattern()).expect("a pattern");
        for text in ["5511988887777", "+55 (11) 98888-7777", "+1 (202) 555-0123", "+39 02 6630 7129", "558007771234"] {
            assert!(pattern.is_match(text), "{text}");
        }
        for text in ["5523988887777", "235085806727321", "4004-1234", "33", "+34 (0)911234567"] {
            assert!(!pattern.is_match(text), "{text}");
        }
    }
}
