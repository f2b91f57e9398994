//! Collects the invalid fields of a request for `errors[]`, so that one answer reports all of them.

use std::borrow::Cow;

use serde::Serialize;

/// An invalid field, as the wire shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The field's name as the caller wrote it, a header's name, or `body`.
    pub field: Cow<'static, str>,
    /// The error in the API's language.
    pub message: Cow<'static, str>,
}

/// Invalid fields in the order in which they are reported.
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
#[error("{} faulty field(s)", .0.len())]
pub struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    /// The error of a single field.
    pub fn one(field: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        let mut errors = Self::default();
        errors.push(field, message);
        errors
    }

    /// Adds an error after the others.
    pub fn push(&mut self, field: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) {
        self.0.push(FieldError { field: field.into(), message: message.into() });
    }

    /// Returns a parsed value, or adds its error.
    pub fn collect<T>(&mut self, field: &'static str, parsed: Result<T, Cow<'static, str>>) -> Option<T> {
        parsed.map_err(|message| self.push(field, message)).ok()
    }

    /// Appends the errors of another collector.
    pub fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Sorts the errors in the order of these fields. Errors of other fields, such as unknown ones, follow in their own
    /// order.
    #[must_use]
    pub fn in_order_of(mut self, fields: &[&str]) -> Self {
        self.0.sort_by_key(|error| fields.iter().position(|field| *field == error.field).unwrap_or(fields.len()));
        self
    }

    /// Whether there is no error.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The errors in order.
    pub fn as_slice(&self) -> &[FieldError] {
        &self.0
    }
}

/// The raw value of a field in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field<'a> {
    /// Missing, or `null`.
    Absent,
    /// A string.
    Text(Cow<'a, str>),
    /// A value of another type.
    WrongType,
    /// Given more than once, so that the intended value is not known.
    Repeated,
}

impl<'a> From<&'a str> for Field<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl Field<'_> {
    /// The text without surrounding white space; `None` if it is empty. A value that is not text is an error.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Cow<'static, str>> {
        match self {
            Self::Absent => Ok(None),
            Self::Text(text) => Ok(Some(text.trim()).filter(|text| !text.is_empty())),
            Self::WrongType => Err(format!("O campo {name} deve ser uma string.").into()),
            Self::Repeated => Err(REPEATED.into()),
        }
    }
}

/// The error of an unknown field.
pub const UNKNOWN: &str = "Campo desconhecido.";
/// The error of a repeated field.
pub const REPEATED: &str = "Campo repetido.";
/// The error of a body that is not a JSON object.
pub const INVALID_JSON: &str = "JSON invalido.";
