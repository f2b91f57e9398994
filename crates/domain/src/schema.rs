//! JSON schemas for texts with rules, as far as a pattern can express them.

use serde_json::{Value, json};

use crate::text;

/// A phone number with its country code, in the usual notations.
pub fn phone(description: &str) -> Value {
    let description = format!(
        "{description} The pattern has usual notations of numbers with DDI. Others are taken as well: a trunk zero in \
         brackets (`+44 (0)20 …`), invisible characters, and where there is a default country, its numbers without DDI."
    );
    json!({"type": "string", "pattern": crate::phone::pattern(), "description": description})
}

/// The address of a chat: a phone number, or an address that a received message named.
pub fn address(description: &str) -> Value {
    let mut schema = phone(description);
    schema["pattern"] = crate::address::pattern().into();
    schema
}

/// A text that `text::check_name` accepts; `required` excludes an empty text.
pub fn name(longest: usize, required: bool) -> Value {
    of_class(longest, required, text::is_forbidden, "")
}

/// The same for a text of several lines.
pub fn lines(longest: usize, required: bool) -> Value {
    // A line feed may be that of Windows.
    let forbidden = |character| text::is_forbidden(character) && !matches!(character, '\n' | '\t');
    of_class(longest, required, forbidden, "|\\r\\n")
}

/// The same for a text without commas, which stand between the texts of a list.
pub fn tag(longest: usize) -> Value {
    of_class(longest, true, |character| text::is_forbidden(character) || character == ',', "")
}

/// A text of characters that are not forbidden. `more` is a further alternative to them.
fn of_class(longest: usize, required: bool, forbidden: impl Fn(char) -> bool, more: &str) -> Value {
    let allowed = class(|character| !forbidden(character));
    let allowed = if more.is_empty() { allowed } else { format!("({allowed}{more})") };
    let shows = class(|character| text::shows(character) && !forbidden(character));
    let (pattern, kind) = if required {
        (format!("^{allowed}*{shows}{allowed}*$"), json!("string"))
    } else {
        // A blank text counts as absent. A text of other invisible characters is refused.
        let blank = format!("[{}]", listed(|character| character.is_whitespace() && !forbidden(character)));
        (format!("^({blank}{{0,{longest}}}|{allowed}*{shows}{allowed}*)$"), json!(["string", "null"]))
    };
    json!({"type": kind, "maxLength": longest, "pattern": pattern})
}

/// A text that matches this pattern, or an empty one.
pub fn optional(pattern: &str, description: &str) -> Value {
    json!({"anyOf": [{"type": "string", "pattern": pattern, "description": description}, {"const": ""}, {"type": "null"}]})
}

/// One of these words.
pub fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> Value {
    json!({"type": "string", "enum": words.into_iter().collect::<Vec<_>>()})
}

/// A character class for the characters for which `holds` is true. It lists the few other characters.
pub fn class(holds: impl Fn(char) -> bool) -> String {
    format!("[^{}]", listed(|character| !holds(character)))
}

/// The characters for which `holds` is true, as ranges of a character class. Only characters of the basic plane are listed,
/// because some implementations of patterns support no others.
fn listed(holds: impl Fn(char) -> bool) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for code in (0..=0xffff).filter(|code| char::from_u32(*code).is_some_and(&holds)) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == code => *last = code,
            _ => ranges.push((code, code)),
        }
    }
    let written = ranges.iter().map(|(first, last)| match last - first {
        0 => format!("\\u{first:04x}"),
        _ => format!("\\u{first:04x}-\\u{last:04x}"),
    });
    written.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_may_end_as_those_of_windows_do() {
        let schema = lines(10, true);
        let pattern = regex_lite::Regex::new(schema["pattern"].as_str().expect("a pattern")).expect("a pattern");
        for (text, matches) in [("a\r\nb", true), ("a\nb", true), ("\r\na\r\n", true), ("a\rb", false), ("\r\n", false)]
        {
            assert_eq!(pattern.is_match(text), matches, "{text:?}");
        }
    }
}
