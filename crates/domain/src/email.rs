//! E-mail addresses in every script: RFC 5322 as RFC 6531 and 6532 extend it, with a domain by UTS 46.

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::props::{GeneralCategory, GeneralCategoryGroup};
use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};

use crate::text;

/// Most characters in an address (RFC 5321, 4.5.3.1.3, less the angle brackets).
const LIMIT: usize = 254;
/// Most bytes before the `@` (RFC 5321, 4.5.3.1.1).
const LOCAL_LIMIT: usize = 64;
const ZERO_WIDTH_NON_JOINER: char = '\u{200c}';
const ZERO_WIDTH_JOINER: char = '\u{200d}';

/// Whether the text is an address that mail can be sent to, without a display name, a comment or an IP address.
pub fn is_valid(address: &str) -> bool {
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    address.chars().count() <= LIMIT && is_local(local) && is_domain(domain)
}

/// The form in which addresses are compared: composed (NFC).
pub fn compared(address: &str) -> std::borrow::Cow<'_, str> {
    ComposingNormalizerBorrowed::new_nfc().normalize(address)
}

fn is_local(local: &str) -> bool {
    let quoted = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let well_formed = match quoted {
        Some(inside) => is_quoted(inside),
        None => local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_of_atom)),
    };
    local.len() <= LOCAL_LIMIT && well_formed && is_legible(local)
}

/// Checks the inside of a quoted string. A backslash escapes the next character.
fn is_quoted(inside: &str) -> bool {
    let mut characters = inside.chars();
    while let Some(character) = characters.next() {
        let consumed = match character {
            '\\' => characters.next().is_some_and(|next| matches!(next, ' '..='~')),
            '"' => false,
            ' '..='~' => true,
            _ => !character.is_ascii(),
        };
        if !consumed {
            return false;
        }
    }
    true
}

fn is_of_atom(character: char) -> bool {
    !character.is_ascii() || character.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(character)
}

/// Whether every character is visible. An invisible one would make two addresses look alike. A joiner between letters or
/// marks shapes its neighbours, and some languages cannot be written without it.
fn is_legible(text: &str) -> bool {
    let shapes = |character: Option<char>| {
        let of_word = GeneralCategoryGroup::Letter.union(GeneralCategoryGroup::Mark);
        character.is_some_and(|character| of_word.contains(text::category(character)))
    };
    let mut before = None;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let legible = match character {
            // A fast path without a table: almost all addresses have only these characters.
            ' '..='~' => true,
            ZERO_WIDTH_NON_JOINER | ZERO_WIDTH_JOINER => shapes(before) && shapes(characters.peek().copied()),
            _ => text::shows(character) && text::category(character) != GeneralCategory::Format,
        };
        if !legible {
            return false;
        }
        before = Some(character);
    }
    true
}

/// Whether this is a host name of at least two labels. The last label must not be a number, because that would be an IP
/// address.
fn is_domain(domain: &str) -> bool {
    let names = Uts46::new();
    let ascii = names.to_ascii(domain.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Verify);
    let last_is_word = |ascii: &str| {
        let last = ascii.rsplit_once('.').map(|(_, last)| last);
        last.is_some_and(|last| last.contains(|character: char| character.is_ascii_alphabetic()) && !is_number(last))
    };
    is_legible(domain) && ascii.is_ok_and(|ascii| last_is_word(&ascii))
}

/// Whether the label is a hexadecimal number by the rule for host names (WHATWG URL, "ends in a number").
fn is_number(label: &str) -> bool {
    let digits = label.strip_prefix("0x");
    digits.is_some_and(|digits| digits.chars().all(|digit| digit.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_every_script() {
        for good in [
            "maria@exemplo.com.br",
            "josé@exemplo.com.br",
            "jose\u{301}@exemplo.com.br",
            "a+b@x.co",
            "\"a b\"@exemplo.com",
            "\"a@b\\\"\"@exemplo.com",
            "maria@münchen.de",
            "maria@mu\u{308}nchen.de",
            "a@r3---sn.exemplo.com",
            // Hindi and Sinhala with viramas, Kannada, Thai, Arabic with harakat.
            "अजिंक्य@test.com",
            "उत्तम@test.com",
            "संपर्क@डाटामेल.भारत",
            "example@उदाहरण.परीक्षा",
            "ශ්‍රී@උදාහරණ.ලංකා",
            "ಸಂಪರ್ಕ@ಉದಾಹರಣೆ.ಭಾರತ",
            "ผู้ใช้@ตัวอย่าง.ไทย",
            "مُحَمَّد@مثال.إختبار",
            // Persian with a ZWNJ in both parts, Bengali with a ZWJ before a mark.
            "می\u{200c}خواهم@نامه\u{200c}ای.ایران",
            "র\u{200d}্যাব@উদাহরণ.ভারত",
            "用户@例子.公司",
            "用户@例子。公司",
        ] {
            assert!(is_valid(good), "{good}");
        }
    }

    #[test]
    fn invalid_addresses_are_refused() {
        let long = format!("a@{}com", "exemplo.".repeat(40));
        let long_local = format!("{}@b.com", "a".repeat(65));
        for bad in [
            "maria",
            "a@localhost",
            ".a@b.com",
            "a.@b.com",
            "a..b@b.com",
            "a@[127.0.0.1]",
            "Maria <maria@exemplo.com>",
            "a b@exemplo.com",
            "\"a\"b\"@exemplo.com",
            "\"a\\\"@exemplo.com",
            "a@b..com",
            "a@b.com.",
            "a@b.com\r\nX:1",
            "a@-b.com",
            "a@b-.com",
            "@b.com",
            "a\u{200b}@b.com",
            "a@b\u{202e}.com",
            "a@b\u{ad}.com",
            "a@b.com, c@d.com",
            &long,
            &long_local,
            "a@b/c.co",
            "a@b.123",
            "a@b.0x7f",
            "a@1.2.3.4",
            "a@b_c.de",
            "a@b c.de",
            "a@xn--a.com",
            // Joiners that join nothing, and unassigned code points.
            "a\u{200d}@b.com",
            "\u{200c}a@b.com",
            "1\u{200d}2@b.com",
            "a\u{200d}\u{200d}b@b.com",
            "a@b\u{200d}c.com",
            "a\u{e000}@b.com",
            "a\u{ffff}@b.com",
            "a\u{fe0f}@b.com",
        ] {
            assert!(!is_valid(bad), "{bad:?}");
        }
    }

    #[test]
    fn composed_and_not_are_the_same() {
        assert_eq!(compared("jose\u{301}@exemplo.com"), compared("josé@exemplo.com"));
        assert_ne!(compared("jose@exemplo.com"), compared("josé@exemplo.com"));
    }
}
