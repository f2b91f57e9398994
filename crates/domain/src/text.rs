//! Which text a message may contain: visible characters, without those that deceive or break the format.

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};

/// Whether the character is visible.
///
/// White space, control characters, Unicode's `Default_Ignorable_Code_Point`, and code points that are unassigned, of
/// private use or noncharacters are not visible. Neither are the interlinear annotation marks, nor the characters that are
/// blank by design.
pub fn shows(character: char) -> bool {
    // A fast path without a table: most characters are ASCII.
    if character.is_ascii() {
        return character.is_ascii_graphic();
    }
    let nothing = matches!(
        category(character),
        GeneralCategory::Control
            | GeneralCategory::Unassigned
            | GeneralCategory::PrivateUse
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
            | GeneralCategory::SpaceSeparator
    );
    let blank = matches!(character, '\u{2800}' | '\u{fff9}'..='\u{fffb}' | '\u{13441}' | '\u{16fe4}' | '\u{1d159}');
    !(nothing || blank || is_ignorable(character))
}

/// Whether the character is invisible by default.
pub fn is_ignorable(character: char) -> bool {
    CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character)
}

/// The Unicode category of the character.
pub fn category(character: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(character)
}

/// Whether the character is forbidden in a name: control characters would break the card's lines, some readers end a line at
/// U+2028 and U+2029, and the bidi overrides make a name look like another one.
pub fn is_forbidden(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202d}' | '\u{202e}')
}

/// Why a text is not a valid name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameFault {
    /// The text exceeds the limit of code points.
    TooLong,
    /// The text has forbidden characters, or no visible one.
    Characters,
}

/// The text of a file without the byte order mark that Windows editors add.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Checks a trimmed, non-empty text: at most `limit` code points, at least one visible one, no forbidden one.
pub fn check_name(text: &str, limit: usize) -> Result<(), NameFault> {
    check(text, limit, is_forbidden)
}

/// The same for a text of several lines, which may contain line feeds and tabs.
pub fn check_lines(text: &str, limit: usize) -> Result<(), NameFault> {
    check(text, limit, |character| is_forbidden(character) && !matches!(character, '\n' | '\t'))
}

fn check(text: &str, limit: usize, forbidden: impl Fn(char) -> bool) -> Result<(), NameFault> {
    if text.chars().nth(limit).is_some() {
        Err(NameFault::TooLong)
    } else if text.chars().any(forbidden) || !text.chars().any(shows) {
        Err(NameFault::Characters)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_signs_and_emoji_show() {
        for character in ['a', 'ç', '中', '🎉', '\u{301}', '-', '\u{1fae9}'] {
            assert!(shows(character), "{character:?}");
        }
    }

    #[test]
    fn invisible_characters_do_not_show() {
        for character in
            ['\u{200b}', '\u{3164}', '\u{2800}', '\u{a0}', '\u{fe0f}', '\u{e0041}', '\u{feff}', '\u{ad}', '\u{180e}']
        {
            assert!(!shows(character), "{character:?}");
        }
    }

    #[test]
    fn blanks_and_code_points_without_a_character_do_not_show() {
        let blank = ['\u{115f}', '\u{1160}', '\u{ffa0}', '\u{1d159}', '\u{16fe4}', '\u{13441}'];
        let none = ['\u{378}', '\u{e000}', '\u{f8ff}', '\u{ffff}', '\u{fdd0}', '\u{1ffff}', '\u{f0000}', '\u{10ffff}'];
        for character in blank.into_iter().chain(none) {
            assert!(!shows(character), "{character:?}");
            assert_eq!(check_name(&format!(" {character}"), 200), Err(NameFault::Characters));
            assert_eq!(check_name(&format!("Ana{character}"), 200), Ok(()), "beside what shows it does no harm");
        }
    }

    #[test]
    fn a_name_is_judged_as_a_whole() {
        assert_eq!(check_name("Família 👨\u{200d}👩\u{200d}👧", 200), Ok(()));
        assert_eq!(check_name("\u{200b}\u{3164}", 200), Err(NameFault::Characters));
        assert_eq!(check_name("Maria\u{202e}avliS", 200), Err(NameFault::Characters));
        assert_eq!(check_name("Maria\nSilva", 200), Err(NameFault::Characters));
        assert_eq!(check_name(&"é".repeat(200), 200), Ok(()));
        assert_eq!(check_name(&"é".repeat(201), 200), Err(NameFault::TooLong));
    }
}
