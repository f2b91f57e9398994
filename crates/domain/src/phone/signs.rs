//! The characters that people and programs write between the digits of a number.

use super::{InvalidPhone, MOST_DIGITS};

/// The digits of a typed number, and the hints of the other characters.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Typed {
    pub digits: String,
    /// The text begins with `+`.
    pub international: bool,
    /// The number of digits before a zero that is alone in brackets.
    pub bracketed_zero: Option<usize>,
    /// The number of digits before the first separator; `None` without one.
    first_group: usize,
}

/// The most characters that are read: more than any notation of fifteen digits has. This also bounds the size of the stored
/// text.
const LONGEST: usize = 64;

impl Typed {
    /// Extracts the digits of a text.
    pub fn read(text: &str) -> Result<Self, InvalidPhone> {
        let plain = text.strip_prefix('+').unwrap_or(text);
        if !plain.is_empty() && plain.len() <= MOST_DIGITS && plain.bytes().all(|sign| sign.is_ascii_digit()) {
            let international = plain.len() < text.len();
            return Ok(Self { digits: plain.to_owned(), international, bracketed_zero: None, first_group: 0 });
        }
        if text.chars().nth(LONGEST).is_some() {
            return Err(InvalidPhone::Malformed);
        }
        if is_a_spreadsheets(text) {
            return Err(InvalidPhone::Spreadsheet);
        }
        let digits = String::with_capacity(MOST_DIGITS);
        let mut typed = Self { digits, international: false, bracketed_zero: None, first_group: 0 };
        // A point must be between digits, and no visible character may precede a `+`.
        let (mut after_digit, mut open_point) = (false, false);
        for character in text.chars() {
            match character {
                '0'..='9' => {
                    typed.digits.push(character);
                    (after_digit, open_point) = (true, false);
                }
                '+' | '\u{ff0b}' if typed.digits.is_empty() && !typed.international && !open_point => {
                    typed.international = true;
                }
                '.' if after_digit => (after_digit, open_point) = (false, true),
                _ if is_dropped(character) => {}
                _ => return Err(InvalidPhone::Malformed),
            }
        }
        if open_point {
            return Err(InvalidPhone::Malformed);
        }
        typed.bracketed_zero = text.find("(0)").map(|at| text[..at].bytes().filter(u8::is_ascii_digit).count());
        let from_digit = text.trim_start_matches(|sign: char| !sign.is_ascii_digit());
        typed.first_group = from_digit
            .find(|sign: char| !sign.is_ascii_digit() && !is_format(sign))
            .map_or(0, |end| from_digit[..end].bytes().filter(u8::is_ascii_digit).count());
        Ok(typed)
    }

    /// Whether the digits begin with these digits, and a separator follows them.
    pub fn begins_with_group(&self, digits: &str) -> bool {
        self.first_group > 0 && self.digits.get(..self.first_group) == Some(digits)
    }
}

/// White space (Zs, tab), dashes (Pd, and the minus sign), brackets, the slash, and invisible characters (Cf).
fn is_dropped(character: char) -> bool {
    matches!(character,
        ' ' | '\t' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}'
        | '(' | ')' | '/'
        | '-' | '\u{58a}' | '\u{5be}' | '\u{1400}' | '\u{1806}' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{2e17}'
        | '\u{2e1a}' | '\u{2e3a}' | '\u{2e3b}' | '\u{2e40}' | '\u{2e5d}' | '\u{301c}' | '\u{3030}' | '\u{30a0}'
        | '\u{fe31}' | '\u{fe32}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}' | '\u{10d6e}' | '\u{10ead}'
    ) || is_format(character)
}

/// Invisible characters that only control the layout of text (Cf).
fn is_format(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}'
        | '\u{2066}'..='\u{206f}' | '\u{feff}'
    )
}

/// Whether a spreadsheet created this from a number: `551198887777.0`, `5,51199E+12`. Separators around the number or beside
/// its point do not matter.
fn is_a_spreadsheets(text: &str) -> bool {
    let is_sign = |sign: char| is_dropped(sign) || matches!(sign, '+' | '\u{ff0b}');
    let shown: String = text.chars().filter(|sign| !is_format(*sign) && !sign.is_whitespace()).collect();
    let number = shown.trim_matches(is_sign);
    if let Some((mantissa, exponent)) = number.split_once(['E', 'e']) {
        let counts = |text: &str| {
            text.bytes().any(|sign| sign.is_ascii_digit())
                && text.chars().all(|sign| matches!(sign, '0'..='9' | '.' | ',' | '+' | '-' | '\u{2212}'))
        };
        return counts(mantissa) && counts(exponent);
    }
    let Some((whole, part)) = number.split_once(['.', ',']) else { return false };
    let (whole, part) = (whole.trim_end_matches(is_sign), part.replace(is_sign, ""));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|sign| sign.is_ascii_digit());
    is_number(whole) && is_number(&part) && part.len() <= 3
}
