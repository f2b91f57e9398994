//! Which text may stand on a card: what shows, and what would deceive or break it.

/// Whether the character puts something on a screen.
///
/// White space, control characters and Unicode's `Default_Ignorable_Code_Point` (`DerivedCoreProperties.txt`, 16.0)
/// do not; nor do U+2800 (an empty Braille cell) and the interlinear annotation marks. A character that this list does
/// not know yet counts as showing, so that next year's emoji are welcome.
pub fn shows(character: char) -> bool {
    !(character.is_whitespace()
        || character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'))
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

/// Checks a trimmed, non-empty text: at most `limit` code points, one that shows, none forbidden.
pub fn check_name(text: &str, limit: usize) -> Result<(), NameFault> {
    if text.chars().nth(limit).is_some() {
        Err(NameFault::TooLong)
    } else if text.chars().any(is_forbidden) || !text.chars().any(shows) {
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
        for character in ['\u{200b}', '\u{3164}', '\u{2800}', '\u{a0}', '\u{fe0f}', '\u{e0041}', '\u{feff}', '\u{ad}'] {
            assert!(!shows(character), "{character:?}");
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
