//! Limits the texts of a network, and removes characters that a database cannot store.

/// The most code points of the text of a message.
pub const CONTENT_LIMIT: usize = 65_536;
/// The most code points of the text of a quoted message.
pub const QUOTE_LIMIT: usize = 256;
/// The most bytes of a message in the network's own form.
pub const RAW_LIMIT: usize = 64 << 10;
/// The same of a network whose messages are sealed, because later messages can be read only with their help.
pub const SEALED_LIMIT: usize = 256 << 10;

/// The text without NUL, and with at most this many code points; whether it was longer.
pub fn truncate(text: &str, limit: usize) -> (String, bool) {
    let mut signs = text.chars().filter(|sign| *sign != '\0');
    let kept = signs.by_ref().take(limit).collect();
    (kept, signs.next().is_some())
}

/// A name or another short text of one line; `None` if nothing of it is left.
pub fn clean(text: &str, limit: usize) -> Option<String> {
    let plain: String = text.chars().map(|sign| if crate::text::is_forbidden(sign) { ' ' } else { sign }).collect();
    let (kept, _) = truncate(plain.trim(), limit);
    let kept = kept.trim_end();
    kept.chars().any(crate::text::shows).then(|| kept.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_at_code_points() {
        assert_eq!(truncate("ação", 4), ("ação".to_owned(), false));
        assert_eq!(truncate("ação!", 4), ("ação".to_owned(), true));
        assert_eq!(truncate("a\0b\0", 2), ("ab".to_owned(), false), "NUL does not count");
    }

    #[test]
    fn a_name_has_one_line_and_something_to_see() {
        assert_eq!(clean(" Ana\nMaria\0 ", 200).as_deref(), Some("Ana Maria"));
        assert_eq!(clean("\u{200b}\n", 200), None);
        assert_eq!(clean("Ana  Maria", 4).as_deref(), Some("Ana"));
    }
}
