//! The description of a field of a call, for people and programs.

use serde_json::Value;

/// A field of a call.
#[derive(Debug)]
pub struct FieldSpec {
    /// The name in the body, and of the CSV column.
    pub name: &'static str,
    /// Whether a call must have it, unless [`needs`](super::MessageKind::needs) is more specific.
    pub required: bool,
    /// Its option on the command line.
    pub flag: &'static str,
    /// The help text of the command line.
    pub help: &'static str,
    /// The placeholder of its value in the help.
    pub value_name: &'static str,
    /// The form of its value.
    pub form: Form,
    /// Its JSON schema.
    pub schema: fn() -> Value,
}

/// The form of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A text of one line.
    Text,
    /// A text that may have several lines.
    Lines,
    /// Another name of a text field. It is neither an option of the command line nor a CSV column.
    Alias,
    /// A number.
    Number,
    /// `true` or `false`.
    Flag,
    /// A list or an object. It is no CSV column.
    Json,
}

impl FieldSpec {
    /// An optional text field.
    pub const fn text(name: &'static str, value_name: &'static str, help: &'static str, schema: fn() -> Value) -> Self {
        Self { name, required: false, flag: name, help, value_name, form: Form::Text, schema }
    }

    /// The same field, as a required one.
    #[must_use]
    pub const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    /// The same field with another form.
    #[must_use]
    pub const fn of(self, form: Form) -> Self {
        Self { form, ..self }
    }

    /// The same field with another option on the command line.
    #[must_use]
    pub const fn flag(self, flag: &'static str) -> Self {
        Self { flag, ..self }
    }

    /// Whether the field can be a CSV column.
    pub fn is_column(&self) -> bool {
        !matches!(self.form, Form::Json | Form::Alias)
    }
}
