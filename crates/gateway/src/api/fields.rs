//! Fields of bodies whose rules are exactly those of their schemas: what a schema refuses is refused here too.

use std::borrow::Cow;

use recado_domain::field_errors::{Field, FieldErrors};
use recado_domain::text::{self, NameFault};
use serde_json::{Value, json};

use super::error::ApiError;
use super::json::Object;
use super::openapi::schemas;

/// Reads the fields of a body, and collects every error.
pub struct Fields<'o, 'a> {
    object: &'o Object<'a>,
    errors: FieldErrors,
}

impl<'o, 'a> Fields<'o, 'a> {
    /// Reads this body.
    pub fn new(object: &'o Object<'a>) -> Self {
        Self { object, errors: FieldErrors::default() }
    }

    /// The body.
    pub fn object(&self) -> &'o Object<'a> {
        self.object
    }

    /// Returns a value, or adds the error of the field.
    pub fn collect<T>(&mut self, name: &'static str, value: Result<T, Cow<'static, str>>) -> Option<T> {
        self.errors.collect(name, value)
    }

    /// Adds an error.
    pub fn fault(&mut self, name: impl Into<Cow<'static, str>>, text: impl Into<Cow<'static, str>>) {
        self.errors.push(name, text);
    }

    /// Adds the error of a missing field.
    pub fn missing(&mut self, name: &'static str) {
        self.fault(name, format!("O campo {name} e obrigatorio."));
    }

    /// An optional text of one line, trimmed; a blank one is none.
    pub fn line(&mut self, name: &'static str, longest: usize) -> Result<Option<String>, FieldErrors> {
        let given = self.object.text(name)?;
        let line = text_of(name, &given, |text| line(name, text, longest));
        Ok(self.collect(name, line).flatten())
    }

    /// The same for a text of several lines.
    pub fn lines(&mut self, name: &'static str, longest: usize) -> Result<Option<String>, FieldErrors> {
        let given = self.object.text(name)?;
        let lines = text_of(name, &given, |text| lines(name, text, longest));
        Ok(self.collect(name, lines).flatten())
    }

    /// An optional id that the caller chose; an empty one is none.
    pub fn id(&mut self, name: &'static str) -> Result<Option<String>, FieldErrors> {
        let given = self.object.text(name)?;
        let id = text_of(name, &given, |text| match text {
            "" => Ok(None),
            id if is_id(id) => Ok(Some(id.to_owned())),
            _ => Err(bad_id(name)),
        });
        Ok(self.collect(name, id).flatten())
    }

    /// How many errors there are so far.
    pub fn count(&self) -> usize {
        self.errors.as_slice().len()
    }

    /// Refuses the call if a field is invalid, or is not one of these.
    pub fn finish(mut self, known: &[&str]) -> Result<(), ApiError> {
        self.errors.append(self.object.refuse_unknown(known));
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors.into()) }
    }
}

type Checked<T> = Result<T, Cow<'static, str>>;

fn text_of(name: &str, given: &Field<'_>, check: impl Fn(&str) -> Checked<Option<String>>) -> Checked<Option<String>> {
    // This reports the wrong types, and trims.
    given.text(name)?;
    match given {
        Field::Text(text) => check(text),
        _ => Ok(None),
    }
}

/// Checks a text of one line. Control characters around it are refused too, although white space is trimmed: the pattern of
/// a schema has no other way to say it.
pub fn line(name: &str, given: &str, longest: usize) -> Checked<Option<String>> {
    if given.chars().any(text::is_forbidden) {
        return Err(bad_characters(name));
    }
    let text = given.trim();
    checked(name, text, longest, text::check_name(text, longest))
}

/// The same for a text of several lines.
pub fn lines(name: &str, given: &str, longest: usize) -> Checked<Option<String>> {
    let given = given.replace("\r\n", "\n");
    if given.chars().any(|sign| text::is_forbidden(sign) && !matches!(sign, '\n' | '\t')) {
        return Err(bad_characters(name));
    }
    let text = given.trim();
    checked(name, text, longest, text::check_lines(text, longest))
}

fn checked(name: &str, text: &str, longest: usize, result: Result<(), NameFault>) -> Checked<Option<String>> {
    match result {
        _ if text.is_empty() => Ok(None),
        Ok(()) => Ok(Some(text.to_owned())),
        Err(NameFault::TooLong) => Err(format!("O campo {name} deve ter no maximo {longest} caracteres.").into()),
        Err(NameFault::Characters) => Err(bad_characters(name)),
    }
}

/// The error of a text with characters that it may not have.
pub fn bad_characters(name: &str) -> Cow<'static, str> {
    format!("O campo {name} contem caracteres invalidos.").into()
}

/// Most characters of an id that a caller chose: of an attendant, a department, a key of metadata.
pub const ID_LIMIT: usize = 64;

/// Whether the text is an id: 1 to 64 visible ASCII characters.
pub fn is_id(text: &str) -> bool {
    (1..=ID_LIMIT).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The error of a malformed id.
pub fn bad_id(name: &str) -> Cow<'static, str> {
    format!("O campo {name} deve ter de 1 a {ID_LIMIT} caracteres ASCII visiveis.").into()
}

/// The schema of an id.
pub fn id_schema() -> Value {
    json!({"type": "string", "pattern": format!("^[!-~]{{1,{ID_LIMIT}}}$")})
}

/// The schema of an id that may be left out.
pub fn optional_id(description: &str) -> Value {
    schemas::optional(&format!("^[!-~]{{1,{ID_LIMIT}}}$"), description)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors_of(body: &str, read: impl Fn(&mut Fields<'_, '_>) -> Result<(), FieldErrors>) -> Vec<String> {
        let object = Object::parse(body).expect("an object");
        let mut fields = Fields::new(&object);
        read(&mut fields).expect("Unicode");
        match fields.finish(&["a"]) {
            Err(ApiError::Validation(errors)) => {
                errors.as_slice().iter().map(|error| format!("{}: {}", error.field, error.message)).collect()
            }
            other => {
                other.expect("valid");
                Vec::new()
            }
        }
    }

    #[test]
    fn control_characters_are_refused_also_where_they_would_be_trimmed() {
        let bad = ["a: O campo a contem caracteres invalidos."];
        for text in ["\\u0085", "\\nx", "x\\u001f", "\\u2028", "\\u200b"] {
            let body = format!(r#"{{"a":"{text}"}}"#);
            assert_eq!(errors_of(&body, |fields| fields.line("a", 5).map(drop)), bad, "{text}");
        }
        for text in ["", " ", " x ", "\u{a0}", "ççççç"] {
            let body = format!(r#"{{"a":"{text}"}}"#);
            assert_eq!(errors_of(&body, |fields| fields.line("a", 5).map(drop)), [""; 0], "{text}");
        }
        assert_eq!(errors_of(r#"{"a":"\r"}"#, |fields| fields.lines("a", 5).map(drop)), bad);
        assert_eq!(errors_of(r#"{"a":"x\r\ny\n"}"#, |fields| fields.lines("a", 5).map(drop)), [""; 0]);
    }

    #[test]
    fn every_invalid_field_is_named_once() {
        let all = errors_of(r#"{"a":"123456","b":1,"b":2}"#, |fields| fields.line("a", 5).map(drop));
        assert_eq!(all, ["a: O campo a deve ter no maximo 5 caracteres.", "b: Campo desconhecido."]);
        assert_eq!(errors_of(r#"{"a":1}"#, |fields| fields.id("a").map(drop)), ["a: O campo a deve ser uma string."]);
    }

    #[test]
    fn ids_are_visible_ascii() {
        let longest = "x".repeat(64);
        for good in ["atendente-1", "~", "a@b.c", &longest] {
            assert!(is_id(good), "{good}");
        }
        for bad in ["", " a", "a b", "ç", "a\n", "\u{7f}", &"x".repeat(65)] {
            assert!(!is_id(bad), "{bad:?}");
        }
    }
}
