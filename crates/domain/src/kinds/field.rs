//! A field of a call, as it is described to people and programs.

use serde_json::Value;

/// A field of a call.
#[derive(Debug)]
pub struct FieldSpec {
    /// Its name in the body, and the name of its CSV column.
    pub name: &'static str,
    /// Whether a call must have it, unless [`needs`](super::MessageKind::needs) says more.
    pub required: bool,
    /// Its option on the command line.
    pub flag: &'static str,
    /// What it is, for the help of the command line.
    pub help: &'static str,
    /// What stands for its value there.
    pub value_name: &'static str,
    /// What it holds.
    pub form: Form,
    /// Its JSON schema.
    pub schema: fn() -> Value,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A text of one line.
    Text,
    /// A text that may have several lines.
    Lines,
    /// Another name of a text. Neither the command line nor CSV files have it.
    Alias,
    /// A number.
    Number,
    /// `true` or `false`.
    Flag,
    /// A list or an object. It has no place in a CSV file.
    Json,
}

impl FieldSpec {
    /// A text that a call may have.
    pub const fn text(name: &'static str, value_name: &'static str, help: &'static str, schema: fn() -> Value) -> Self {
        Self { name, required: false, flag: name, help, value_name, form: Form::Text, schema }
    }

    /// The same field, which a call must have.
    #[must_use]
    pub const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    /// The same field with another content.
    #[must_use]
    pub const fn of(self, form: Form) -> Self {
        Self { form, ..self }
    }

    /// The same field with another option on the command line.
    #[must_use]
    pub const fn flag(self, flag: &'static str) -> Self {
        Self { flag, ..self }
    }

    /// Whether a CSV file can have it as a column.
    pub fn is_column(&self) -> bool {
        !matches!(self.form, Form::Json | Form::Alias)
    }
}
