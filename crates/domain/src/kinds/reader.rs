//! Reads the fields of one JSON object by their rules, and collects every error.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use super::{Context, Feature, GivenAddress, GivenPhone};
use crate::address::Address;
use crate::field_errors::{Field, FieldErrors};
use crate::json::Object;
use crate::phone::{Country, InvalidPhone, PhoneNumber};
use crate::text::{self, NameFault};

/// The rule for a text. A text of `None` is the common one, which names the field.
pub struct Rule {
    limit: usize,
    /// Whether it may have several lines.
    lines: bool,
    missing: Option<&'static str>,
    too_long: Option<&'static str>,
    characters: Option<&'static str>,
}

impl Rule {
    /// A text of one line.
    pub const fn line(limit: usize) -> Self {
        Self { limit, lines: false, missing: None, too_long: None, characters: None }
    }

    /// A text that may have several lines.
    pub const fn lines(limit: usize) -> Self {
        Self { lines: true, ..Self::line(limit) }
    }

    /// The same rule with its own error texts.
    #[must_use]
    pub const fn with_texts(self, missing: &'static str, too_long: &'static str, characters: &'static str) -> Self {
        Self { missing: Some(missing), too_long: Some(too_long), characters: Some(characters), ..self }
    }

    fn check(&self, path: &str, value: String) -> Result<String, Cow<'static, str>> {
        // Line ends of Windows.
        let value = if self.lines { value.replace("\r\n", "\n") } else { value };
        let checked =
            if self.lines { text::check_lines(&value, self.limit) } else { text::check_name(&value, self.limit) };
        match checked {
            Ok(()) => Ok(value),
            Err(NameFault::TooLong) => Err(self.too_long.map_or_else(
                || format!("O campo {path} deve ter no maximo {} caracteres.", self.limit).into(),
                Cow::Borrowed,
            )),
            Err(NameFault::Characters) => Err(self
                .characters
                .map_or_else(|| format!("O campo {path} contem caracteres invalidos.").into(), Cow::Borrowed)),
        }
    }
}

/// The error texts of a phone number.
pub struct PhoneTexts {
    pub(crate) missing: &'static str,
    pub(crate) malformed: &'static str,
}

/// The errors and other findings in a body.
#[derive(Default)]
struct Findings {
    errors: FieldErrors,
    /// Unknown fields, with their positions in the text.
    unknown: Vec<(usize, String)>,
    features: Vec<(Feature, String)>,
}

/// Reads the fields of an object. A method returns `None` if it added an error. For an optional field it returns
/// `Some(None)` if the field is omitted.
pub struct Reader<'o, 'a> {
    object: &'o Object<'a>,
    context: &'o Context,
    findings: Findings,
}

type Read<T> = Result<Option<T>, FieldErrors>;

impl<'o, 'a> Reader<'o, 'a> {
    /// Reads this object.
    pub fn new(object: &'o Object<'a>, context: &'o Context) -> Self {
        Self { object, context, findings: Findings::default() }
    }

    /// The context of the call.
    pub fn context(&self) -> &'o Context {
        self.context
    }

    /// The object.
    pub fn object(&self) -> &'o Object<'a> {
        self.object
    }

    /// Returns a value, or adds the error of the field.
    pub fn collect<T>(&mut self, name: &str, value: Result<T, impl Into<Cow<'static, str>>>) -> Option<T> {
        value.map_err(|message| self.fault(name, message)).ok()
    }

    /// Adds the error of a field.
    pub fn fault(&mut self, name: &str, message: impl Into<Cow<'static, str>>) {
        self.findings.errors.push(self.object.path(name).into_owned(), message);
    }

    /// Records that a field requests a feature.
    pub fn asks_for(&mut self, feature: Feature, name: &str) {
        self.findings.features.push((feature, self.object.path(name).into_owned()));
    }

    /// A text as it is, without white space around it.
    pub fn given(&mut self, name: &str) -> Read<Option<String>> {
        let value = self.object.text(name)?;
        // Most fields are absent.
        if value == Field::Absent {
            return Ok(Some(None));
        }
        let given = value.text(&self.object.path(name)).map(|text| text.map(str::to_owned));
        Ok(self.collect(name, given))
    }

    /// An optional text.
    pub fn optional(&mut self, name: &str, rule: &Rule) -> Read<Option<String>> {
        let Some(given) = self.given(name)? else { return Ok(None) };
        let checked = given.map(|text| rule.check(&self.object.path(name), text)).transpose();
        Ok(self.collect(name, checked))
    }

    /// A required text.
    pub fn required(&mut self, name: &str, rule: &Rule) -> Read<String> {
        match self.optional(name, rule)? {
            Some(None) => {
                self.missing(name, rule.missing);
                Ok(None)
            }
            given => Ok(given.flatten()),
        }
    }

    /// A text of this form that may be left out. `wrong` gives the error text, from the path of the field.
    pub fn of_form(
        &mut self,
        name: &str,
        holds: impl Fn(&str) -> bool,
        wrong: impl FnOnce(&str) -> Cow<'static, str>,
    ) -> Read<Option<String>> {
        let Some(given) = self.given(name)? else { return Ok(None) };
        let right = given.as_deref().is_none_or(holds);
        Ok(self.collect(name, if right { Ok(given) } else { Err(wrong(&self.object.path(name))) }))
    }

    /// A phone number that must be there.
    pub fn phone(&mut self, name: &str, texts: &PhoneTexts) -> Read<GivenPhone> {
        let read = self.parsed(name, texts, PhoneNumber::parse)?;
        Ok(read.map(|(given, number)| GivenPhone { given, number }))
    }

    /// The address of a chat, which must be there.
    pub fn address(&mut self, name: &str, texts: &PhoneTexts) -> Read<GivenAddress> {
        let read = self.parsed(name, texts, Address::parse)?;
        Ok(read.map(|(given, address)| GivenAddress { given, address }))
    }

    fn parsed<T>(
        &mut self,
        name: &str,
        texts: &PhoneTexts,
        parse: fn(&str, Option<Country>) -> Result<T, InvalidPhone>,
    ) -> Read<(String, T)> {
        let Some(given) = self.given(name)? else { return Ok(None) };
        let Some(given) = given else {
            self.fault(name, texts.missing);
            return Ok(None);
        };
        let value = parse(&given, self.context.country).map_err(|fault| fault.text(texts.malformed));
        Ok(self.collect(name, value).map(|value| (given, value)))
    }

    /// A required number in this range.
    pub fn number(&mut self, name: &str, range: RangeInclusive<i32>) -> Option<f64> {
        let number = self.object.number(name);
        let Some(number) = self.collect(name, number)? else {
            self.missing(name, None);
            return None;
        };
        let in_range = (f64::from(*range.start())..=f64::from(*range.end())).contains(&number);
        // There is one zero.
        let number = if in_range { Ok(number + 0.0) } else { Err(self.out_of(name, *range.start(), *range.end())) };
        self.collect(name, number)
    }

    /// A whole number of this range that may be left out.
    pub fn whole(&mut self, name: &str, range: RangeInclusive<u32>) -> Option<Option<u32>> {
        let number = self.object.number(name);
        let number = self.collect(name, number)?;
        let Some(number) = number else { return Some(None) };
        if number.fract() != 0.0 {
            let path = self.object.path(name).into_owned();
            self.fault(name, format!("O campo {path} deve ser um numero inteiro."));
            return None;
        }
        let number = self.object.whole(name, range.clone(), || self.out_of(name, range.start(), range.end()).into());
        self.collect(name, number)
    }

    fn out_of(&self, name: &str, first: impl std::fmt::Display, last: impl std::fmt::Display) -> String {
        format!("O campo {} deve estar entre {first} e {last}.", self.object.path(name))
    }

    /// Whether the field is `true`.
    pub fn flag(&mut self, name: &str) -> Option<bool> {
        let flag = self.object.flag(name);
        self.collect(name, flag).map(Option::unwrap_or_default)
    }

    /// A list of objects, each read by `read`; empty if it is omitted.
    pub fn list<T>(
        &mut self,
        name: &str,
        count: RangeInclusive<usize>,
        mut read: impl FnMut(&mut Reader<'_, 'a>) -> Read<T>,
    ) -> Read<Vec<T>> {
        let entries = self.object.children(name, count);
        let Some(entries) = self.collect(name, entries) else { return Ok(None) };
        let mut values = Some(Vec::new());
        for entry in entries.unwrap_or_default() {
            let value = match entry {
                Ok(object) => {
                    let mut reader =
                        Reader { object: &object, context: self.context, findings: std::mem::take(&mut self.findings) };
                    let value = read(&mut reader)?;
                    self.findings = reader.findings;
                    value
                }
                Err((path, message)) => {
                    self.findings.errors.push(path, message);
                    None
                }
            };
            values = values.zip(value).map(|(mut values, value)| {
                values.push(value);
                values
            });
        }
        Ok(values)
    }

    /// An object, read by `read`; `Some(None)` if it is omitted.
    pub fn child<T>(&mut self, name: &str, read: impl FnOnce(&mut Reader<'_, 'a>) -> Read<T>) -> Read<Option<T>> {
        let child = self.object.child(name);
        let Some(child) = self.collect(name, child) else { return Ok(None) };
        let Some(object) = child else { return Ok(Some(None)) };
        let mut reader =
            Reader { object: &object, context: self.context, findings: std::mem::take(&mut self.findings) };
        let value = read(&mut reader)?;
        self.findings = reader.findings;
        Ok(value.map(Some))
    }

    /// A list of texts, each of this rule; empty if it is omitted.
    pub fn texts(&mut self, name: &str, count: RangeInclusive<usize>, rule: &Rule) -> Option<Vec<String>> {
        let path = self.object.path(name).into_owned();
        let list =
            self.object.value::<Vec<String>>(name, || format!("O campo {path} deve ser uma lista de textos.").into());
        let list = self.collect(name, list)?.unwrap_or_default();
        if !count.contains(&list.len()) {
            self.fault(name, format!("O campo {path} deve ter de {} a {} itens.", count.start(), count.end()));
            return None;
        }
        let mut read = Some(Vec::new());
        for (index, text) in list.into_iter().enumerate() {
            let place = format!("{name}[{index}]");
            let checked = rule.check(&self.object.path(&place), text.trim().to_owned());
            let text = self.collect(&place, checked);
            read = read.zip(text).map(|(mut read, text)| {
                read.push(text);
                read
            });
        }
        read
    }

    /// Adds the error of a missing field.
    pub fn missing(&mut self, name: &str, text: Option<&'static str>) {
        match text {
            Some(text) => self.fault(name, text),
            None => self.fault(name, format!("O campo {} e obrigatorio.", self.object.path(name))),
        }
    }

    /// Adds the error of several fields that exclude each other.
    pub fn only_one_of(&mut self, name: &str, fields: &[&str]) {
        self.fault(name, format!("Informe apenas um destes campos: {}.", fields.join(", ")));
    }

    /// Adds the unknown fields.
    pub fn refuse_others(&mut self, known: impl Fn(&str) -> bool) {
        let fields =
            self.object.unknown_fields(known).map(|(place, name)| (place, self.object.path(name).into_owned()));
        let fields: Vec<_> = fields.collect();
        self.findings.unknown.extend(fields);
    }

    /// The errors, the unknown fields in the order of the body, and the requested features.
    pub(crate) fn finish(self) -> (FieldErrors, Vec<String>, Vec<(Feature, String)>) {
        let Findings { errors, mut unknown, features } = self.findings;
        unknown.sort_by_key(|(place, _)| *place);
        (errors, unknown.into_iter().map(|(_, name)| name).collect(), features)
    }
}
