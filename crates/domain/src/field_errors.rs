//! The collector behind `errors[]`: every faulty field of a request, told in one answer.

use std::borrow::Cow;

use serde::Serialize;

/// One faulty field, as the wire shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The field's name as the caller wrote it, a header's name, or `body`.
    pub field: Cow<'static, str>,
    /// What is wrong, in the API's language.
    pub message: Cow<'static, str>,
}

/// Faulty fields in the order in which they are reported.
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
#[error("{} faulty field(s)", .0.len())]
pub struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    /// A single faulty field.
    pub fn one(field: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        let mut errors = Self::default();
        errors.push(field, message);
        errors
    }

    /// Notes a faulty field behind those already noted.
    pub fn push(&mut self, field: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) {
        self.0.push(FieldError { field: field.into(), message: message.into() });
    }

    /// Keeps a parsed value, or notes why there is none.
    pub fn take<T>(&mut self, field: &'static str, parsed: Result<T, Cow<'static, str>>) -> Option<T> {
        parsed.map_err(|message| self.push(field, message)).ok()
    }

    /// Puts the other's errors behind these.
    pub fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Puts the errors in the order of these fields; others, such as unknown ones, behind them in theirs.
    #[must_use]
    pub fn in_order_of(mut self, fields: &[&str]) -> Self {
        self.0.sort_by_key(|error| fields.iter().position(|field| *field == error.field).unwrap_or(fields.len()));
        self
    }

    /// Whether nothing is faulty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The errors in order.
    pub fn as_slice(&self) -> &[FieldError] {
        &self.0
    }
}

/// What a request held under one name, before its meaning is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field<'a> {
    /// Not there, or `null`.
    Absent,
    /// A string.
    Text(Cow<'a, str>),
    /// A value of another type.
    WrongType,
    /// Given more than once, so that nobody can tell which one was meant.
    Repeated,
}

impl<'a> From<&'a str> for Field<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl Field<'_> {
    /// The text without white space around it; `None` when there is none. An error for what is no text at all.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Cow<'static, str>> {
        match self {
            Self::Absent => Ok(None),
            Self::Text(text) => Ok(Some(text.trim()).filter(|text| !text.is_empty())),
            Self::WrongType => Err(format!("O campo {name} deve ser uma string.").into()),
            Self::Repeated => Err(REPEATED.into()),
        }
    }
}

/// For a field that the call does not know.
pub const UNKNOWN: &str = "Campo desconhecido.";
/// For a field given twice.
pub const REPEATED: &str = "Campo repetido.";
/// For a body that is no JSON object.
pub const INVALID_JSON: &str = "JSON invalido.";
