//! Parses a JSON object of a request without losing a field, so that every error can be reported.
//!
//! Values are parsed when they are read. A value that is never read is skipped without recursion and without a copy, so
//! neither the depth nor the size of an unknown field costs anything. A list is read up to a limit.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::ops::RangeInclusive;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::field_errors::{Field, FieldErrors, INVALID_JSON, REPEATED, UNKNOWN};
use crate::text::without_mark;

/// The error with the position at which the text is not JSON. `start` is the byte at which the parser of the error began.
/// JSON that is not an object has no such position.
fn malformed(text: &str, start: usize, error: &serde_json::Error) -> FieldErrors {
    if error.is_data() {
        return FieldErrors::one("body", INVALID_JSON);
    }
    let mut lines = text[start..].split_inclusive('\n');
    let before: usize = lines.by_ref().take(error.line() - 1).map(str::len).sum();
    // The parser counts bytes, and people count characters.
    let read = &text.as_bytes()[..(start + before + error.column()).min(text.len())];
    let line = read.split(|byte| *byte == b'\n').count();
    let own = read.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let column = String::from_utf8_lossy(own).chars().count();
    let place = format!("JSON invalido (linha {}, coluna {}).", line, column.max(1));
    FieldErrors::one("body", place)
}

/// A JSON object: every field in the order of the text, including repeated ones.
#[derive(Debug)]
pub struct Object<'a> {
    /// The whole body.
    text: &'a str,
    /// The path of the object in the body, as errors name it: `contacts[0]`. Empty for the body itself.
    path: String,
    fields: Vec<(Cow<'a, str>, &'a RawValue)>,
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::with_capacity(8);
        while let Some(Name(name)) = map.next_key()? {
            fields.push((name, map.next_value()?));
        }
        Ok(fields)
    }
}

/// The first entries of a list, and the number of all entries.
struct Entries {
    most: usize,
}

impl<'de> Visitor<'de> for Entries {
    type Value = (Vec<&'de RawValue>, usize);

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while entries.len() < self.most
            && let Some(entry) = list.next_element()?
        {
            entries.push(entry);
        }
        let mut count = entries.len();
        while list.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok((entries, count))
    }
}

/// A field's name. It is borrowed from the body unless it contains escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Object<'a> {
    /// Parses a body. Only its syntax and its outer object are checked here.
    ///
    /// # Errors
    ///
    /// The position at which the text is not JSON.
    pub fn parse(body: &'a str) -> Result<Self, FieldErrors> {
        let text = without_mark(body);
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let fields = deserializer.deserialize_map(Fields);
        let fields = fields.and_then(|fields| deserializer.end().map(|()| fields));
        let fields = fields.map_err(|error| malformed(text, 0, &error))?;
        Ok(Self { text, path: String::new(), fields })
    }

    /// The path of a field, as errors name it: `contacts[0].phones`.
    pub fn path<'n>(&self, name: &'n str) -> Cow<'n, str> {
        if self.path.is_empty() { name.into() } else { format!("{}.{name}", self.path).into() }
    }

    /// The value of a field as text. A missing, repeated or non-text value is distinguished.
    ///
    /// # Errors
    ///
    /// The text is not valid Unicode, so the body is not JSON.
    pub fn text(&self, name: &str) -> Result<Field<'a>, FieldErrors> {
        Ok(match self.raw(name) {
            Raw::Absent => Field::Absent,
            Raw::Repeated => Field::Repeated,
            // A text without escapes is the same in JSON.
            Raw::Value(value) if value.get().starts_with('"') && !value.get().contains('\\') => {
                Field::Text(value.get().trim_matches('"').into())
            }
            Raw::Value(value) if value.get().starts_with('"') => {
                // Invalid Unicode (half of a surrogate pair) is detected only here.
                let read = serde_json::from_str(value.get());
                let Name(text) = read.map_err(|error| malformed(self.text, self.offset(value), &error))?;
                Field::Text(text)
            }
            Raw::Value(_) => Field::WrongType,
        })
    }

    /// The one value under a name, read as `T`. A value of another type gives the text of `wrong_type`.
    pub fn value<T: serde::de::DeserializeOwned>(
        &self,
        name: &str,
        wrong_type: impl FnOnce() -> Cow<'static, str>,
    ) -> Result<Option<T>, Cow<'static, str>> {
        match self.raw(name) {
            Raw::Absent => Ok(None),
            Raw::Repeated => Err(REPEATED.into()),
            Raw::Value(value) => serde_json::from_str(value.get()).map(Some).map_err(|_| wrong_type()),
        }
    }

    /// The one whole number under a name, in this range. JSON has one type of number: 60.0 is 60.
    pub fn whole(
        &self,
        name: &str,
        range: RangeInclusive<u32>,
        wrong: impl Fn() -> Cow<'static, str>,
    ) -> Result<Option<u32>, Cow<'static, str>> {
        let Some(given) = self.value::<f64>(name, &wrong)? else { return Ok(None) };
        if given.fract() != 0.0 || !(f64::from(*range.start())..=f64::from(*range.end())).contains(&given) {
            return Err(wrong());
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number in the range")]
        Ok(Some(given as u32))
    }

    /// The value of a field as a number.
    pub fn number(&self, name: &str) -> Result<Option<f64>, Cow<'static, str>> {
        self.value(name, || format!("O campo {} deve ser um numero.", self.path(name)).into())
    }

    /// The value of a field as a boolean.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, Cow<'static, str>> {
        self.value(name, || format!("O campo {} deve ser um booleano.", self.path(name)).into())
    }

    /// The value of a field as an object.
    pub fn child(&self, name: &str) -> Result<Option<Object<'a>>, Cow<'static, str>> {
        match self.raw(name) {
            Raw::Absent => Ok(None),
            Raw::Repeated => Err(REPEATED.into()),
            Raw::Value(value) => self.object_at(self.path(name).into_owned(), value).map(Some),
        }
    }

    /// The value of a field as a list of objects, with a number of entries in this range. An entry that is not an object is
    /// an error with its path.
    pub fn children(
        &self,
        name: &str,
        count: RangeInclusive<usize>,
    ) -> Result<Option<Vec<Entry<'a>>>, Cow<'static, str>> {
        let value = match self.raw(name) {
            Raw::Absent => return Ok(None),
            Raw::Repeated => return Err(REPEATED.into()),
            Raw::Value(value) => value,
        };
        let path = self.path(name);
        let read = serde_json::Deserializer::from_str(value.get()).deserialize_seq(Entries { most: *count.end() });
        let (entries, found) = read.map_err(|_| format!("O campo {path} deve ser uma lista."))?;
        if !count.contains(&found) {
            return Err(format!("O campo {path} deve ter de {} a {} itens.", count.start(), count.end()).into());
        }
        let places = entries.into_iter().enumerate().map(|(index, value)| (format!("{path}[{index}]"), value));
        let entry = |(place, value): (String, _)| self.object_at(place.clone(), value).map_err(|text| (place, text));
        Ok(Some(places.map(entry).collect()))
    }

    fn object_at(&self, path: String, value: &'a RawValue) -> Result<Object<'a>, Cow<'static, str>> {
        match serde_json::Deserializer::from_str(value.get()).deserialize_map(Fields) {
            Ok(fields) => Ok(Object { text: self.text, path, fields }),
            Err(_) => Err(format!("O campo {path} deve ser um objeto.").into()),
        }
    }

    /// Whether the field is given as `null`.
    pub fn is_null(&self, name: &str) -> bool {
        self.fields.iter().any(|(field, value)| field == name && value.get() == "null")
    }

    /// Whether the field is given with another value than `null`.
    pub fn has(&self, name: &str) -> bool {
        !matches!(self.raw(name), Raw::Absent)
    }

    fn raw(&self, name: &str) -> Raw<'a> {
        let mut values = self.fields.iter().filter(|(field, _)| field == name).map(|(_, value)| *value);
        match (values.next(), values.next()) {
            (None, _) => Raw::Absent,
            (Some(_), Some(_)) => Raw::Repeated,
            (Some(value), None) if value.get() == "null" => Raw::Absent,
            (Some(value), None) => Raw::Value(value),
        }
    }

    /// Whether the object has no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The names that are not in `known`, in their order, each once.
    pub fn unknown<'s>(&'s self, known: &'s [&'s str]) -> Vec<&'s str> {
        self.unknown_fields(|name| known.contains(&name)).map(|(_, name)| name).collect()
    }

    /// The same, each with the byte at which its value begins in the body.
    pub fn unknown_fields<'s>(
        &'s self,
        known: impl Fn(&str) -> bool + 's,
    ) -> impl Iterator<Item = (usize, &'s str)> + 's {
        let mut seen = HashSet::new();
        let fields = self.fields.iter().filter(move |(name, _)| !known(name));
        fields.map(|(name, value)| (self.offset(value), &**name)).filter(move |(_, name)| seen.insert(*name))
    }

    /// The errors for all unknown fields.
    pub fn refuse_unknown(&self, known: &[&str]) -> FieldErrors {
        let mut errors = FieldErrors::default();
        self.unknown(known).into_iter().for_each(|name| errors.push(name.to_owned(), UNKNOWN));
        errors
    }

    /// The byte at which a value begins in the body.
    fn offset(&self, value: &RawValue) -> usize {
        value.get().as_ptr().addr() - self.text.as_ptr().addr()
    }
}

/// An entry of a list. If it is not an object, its path and the error.
pub type Entry<'a> = Result<Object<'a>, (String, Cow<'static, str>)>;

enum Raw<'a> {
    Absent,
    Repeated,
    Value(&'a RawValue),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_distinguished() {
        let body = r#"{"a":"x","b":1,"c":null,"d":"1","d":"2","\u0065":"\u00e7","strange":{},"strange":[]}"#;
        let object = Object::parse(body).unwrap();
        assert_eq!(object.text("a").unwrap(), Field::from("x"));
        assert_eq!(object.text("b").unwrap(), Field::WrongType);
        assert_eq!(object.text("c").unwrap(), Field::Absent);
        assert_eq!(object.text("d").unwrap(), Field::Repeated);
        assert_eq!(object.text("e").unwrap(), Field::from("ç"));
        assert_eq!(object.text("f").unwrap(), Field::Absent);
        assert_eq!(object.unknown(&["a", "b", "c", "d", "e"]), ["strange"]);
    }

    #[test]
    fn a_body_that_is_not_a_json_object_is_refused_with_the_position() {
        let message = |body: &str| {
            let read = Object::parse(body).and_then(|object| object.text("a").map(drop));
            read.unwrap_err().as_slice()[0].message.to_string()
        };
        for (bad, place) in [
            ("", "linha 1, coluna 1"),
            ("{", "linha 1, coluna 1"),
            ("{\"a\":1,}", "linha 1, coluna 8"),
            ("{\"a\":1} x", "linha 1, coluna 9"),
            ("{'a':1}", "linha 1, coluna 2"),
            ("{\n \"ação\": \"x\",\n \"b\": tru}\n", "linha 3, coluna 10"),
            ("{\"ação\":x}", "linha 1, coluna 9"),
            ("{\"b\":\"çç\",\n\"a\":\"ç\\ud800\"}", "linha 2, coluna 13"),
            ("\u{feff}{\"a\":1,}", "linha 1, coluna 8"),
        ] {
            assert_eq!(message(bad), format!("JSON invalido ({place})."), "{bad}");
        }
        for other in ["[]", "\"x\"", "null", "1"] {
            assert_eq!(message(other), INVALID_JSON, "{other}");
        }
        assert!(Object::parse("\u{feff}{\"a\":\"x\"}").is_ok(), "a byte order mark is skipped");
    }

    /// Unknown values are skipped without recursion, so that their depth cannot exhaust the stack.
    #[test]
    fn depth_is_just_a_wrong_type() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(30_000), "]".repeat(30_000));
        let object = Object::parse(&deep).unwrap();
        assert_eq!(object.text("a").unwrap(), Field::WrongType);
        let entries = object.children("a", 1..=2).unwrap().unwrap();
        assert_eq!(entries[0].as_ref().unwrap_err().1, "O campo a[0] deve ser um objeto.");
    }

    #[test]
    fn errors_in_lists_name_the_index_of_the_entry() {
        let body = r#"{"a":[{"b":[{"c":"x","d":1},2]}],"e":{"f":"y"},"g":[],"h":[{},{},{}],"i":1,"j":[],"j":[]}"#;
        let object = Object::parse(body).unwrap();
        let outer = object.children("a", 1..=2).unwrap().unwrap().remove(0).unwrap();
        let inner = outer.children("b", 1..=2).unwrap().unwrap();
        let [first, second] = &inner[..] else { panic!("{inner:?}") };
        let first = first.as_ref().unwrap();
        assert_eq!((first.path("c"), first.text("c").unwrap()), ("a[0].b[0].c".into(), Field::from("x")));
        assert_eq!(first.number("d"), Ok(Some(1.0)));
        assert_eq!(first.flag("d"), Err("O campo a[0].b[0].d deve ser um booleano.".into()));
        let wrong = second.as_ref().unwrap_err();
        assert_eq!((&*wrong.0, &*wrong.1), ("a[0].b[1]", "O campo a[0].b[1] deve ser um objeto."));
        assert_eq!(object.child("e").unwrap().unwrap().path("f"), "e.f");
        for (name, text) in [
            ("g", "O campo g deve ter de 1 a 2 itens."),
            ("h", "O campo h deve ter de 1 a 2 itens."),
            ("i", "O campo i deve ser uma lista."),
            ("j", "Campo repetido."),
        ] {
            assert_eq!(object.children(name, 1..=2).map(drop), Err(text.into()), "{name}");
        }
        assert!(object.children("x", 1..=2).unwrap().is_none());
    }
}
