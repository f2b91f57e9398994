//! What counts as an emoji.

/// Whether a text is one emoji: a sign, a keycap, a flag, or signs that joiners make one.
pub(super) fn is_emoji(text: &str) -> bool {
    let (mut signs, mut indicators, mut is_joined) = (0, 0, false);
    let is_keycap = text.ends_with('\u{20e3}');
    for sign in text.chars() {
        match sign {
            '\u{200d}' => is_joined = true,
            // Variants, skin colours, the frame of a keycap, the letters of a region's flag.
            '\u{fe0e}' | '\u{fe0f}' | '\u{20e3}' | '\u{1f3fb}'..='\u{1f3ff}' | '\u{e0020}'..='\u{e007f}' => {}
            '\u{1f1e6}'..='\u{1f1ff}' => indicators += 1,
            '#' | '*' | '0'..='9' if is_keycap => signs += 1,
            '©'
            | '®'
            | '\u{203c}'
            | '\u{2049}'
            | '\u{2122}'
            | '\u{2139}'
            | '\u{2190}'..='\u{2bff}'
            | '\u{3030}'
            | '\u{303d}'
            | '\u{3297}'
            | '\u{3299}'
            | '\u{1f000}'..='\u{1faff}' => {
                signs += i32::from(!is_joined);
                is_joined = false;
            }
            _ => return false,
        }
    }
    matches!((signs, indicators), (1, 0) | (0, 2))
}
