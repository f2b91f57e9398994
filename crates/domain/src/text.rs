//! Which text may stand on a card: what shows, and what would deceive or break it.

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};

/// Whether the character puts something on a screen.
///
/// White space, control characters, Unicode's `Default_Ignorable_Code_Point`, and code points that are unassigned, of
/// private use or noncharacters do not. Nor do the interlinear annotation marks, and the characters that are blank by
/// design.
pub fn shows(character: char) -> bool {
    // Looked up nowhere: most characters are of these.
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

/// Whether a screen shows nothing for the character by default.
pub fn is_ignorable(character: char) -> bool {
    CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character)
}

/// What Unicode says that the character is.
pub fn category(character: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(character)
}

/// Whether the character may not stand in a name: control characters would break the card's lines, U+2028 and U+2029
/// end a line for some readers, and the bidi overrides make a name read as another.
pub fn is_forbidden(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202d}' | '\u{202e}')
}

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameFault {
    /// Over the limit of code points.
    TooLong,
    /// Forbidden characters, or none that shows.
    Characters,
}

/// A file's text without the byte order mark that editors on Windows put in front.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Checks a trimmed, non-empty text: at most `limit` code points, one that shows, none forbidden.
pub fn check_name(text: &str, limit: usize) -> Result<(), NameFault> {
    check(text, limit, is_forbidden)
}

/// The same for a text of several lines: line feeds and tabs are allowed.
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
