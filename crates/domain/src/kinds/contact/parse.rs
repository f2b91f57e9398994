//! Parses the body of a contact call: it reports every invalid field, or returns cards that cannot be invalid.

use super::{Address, Contact, Entry, EntryValue, GivenCard, GivenContact, NAME_LIMIT, PART_LIMIT, Place};
use crate::email;
use crate::field_errors::FieldErrors;
use crate::kinds::reader::PhoneTexts;
use crate::kinds::{Feature, GivenPhone, Reader, Rule};
use crate::phone::PhoneNumber;
use crate::time;

type Read<T> = Result<Option<T>, FieldErrors>;

const PHONE: PhoneTexts = PhoneTexts {
    missing: "O telefone do contato e obrigatorio.",
    malformed: "O telefone do contato deve estar no formato DDI+DDD+NUM.",
};
const NAME: Rule = Rule::line(NAME_LIMIT).with_texts(
    "O nome do contato e obrigatorio.",
    "O nome do contato deve ter no maximo 200 caracteres.",
    "O nome do contato contem caracteres invalidos.",
);
const ORGANIZATION: Rule = Rule::line(NAME_LIMIT).with_texts(
    // Never used, because the organisation is optional.
    "",
    "A organizacao do contato deve ter no maximo 200 caracteres.",
    "A organizacao do contato contem caracteres invalidos.",
);
const FIRST: Rule = Rule::line(PART_LIMIT).with_texts(
    "",
    "O primeiro nome do contato deve ter no maximo 100 caracteres.",
    "O primeiro nome do contato contem caracteres invalidos.",
);
const LAST: Rule = Rule::line(PART_LIMIT).with_texts(
    "",
    "O sobrenome do contato deve ter no maximo 100 caracteres.",
    "O sobrenome do contato contem caracteres invalidos.",
);
/// The rule for a title and a department.
const WORK: Rule = Rule::line(NAME_LIMIT);
/// The rule for a part of a postal address.
const PART: Rule = Rule::line(100);
const EMAIL: &str = "O email do contato e invalido.";
/// The most characters of a web address.
pub(super) const URL_LIMIT: usize = 500;
/// The first day that can be a birthday: 1900-01-01.
const FIRST_DAY: i64 = -25_567;

/// The fields that only the short form has.
const SHORT: [&str; 11] = [
    "name",
    "phone",
    "email",
    "organization",
    "firstName",
    "lastName",
    "title",
    "department",
    "url",
    "birthday",
    "photoMediaId",
];

pub(super) fn contact(reader: &mut Reader<'_, '_>) -> Read<Contact> {
    if !reader.object().has("contacts") {
        return short(reader);
    }
    if SHORT.iter().any(|field| reader.object().has(field)) {
        reader.only_one_of("contacts", &["name", "contacts"]);
        return Ok(None);
    }
    let contacts = reader.list("contacts", 1..=10, long)?;
    if contacts.as_ref().is_some_and(|contacts| contacts.len() > 1) {
        reader.asks_for(Feature::SeveralContacts, "contacts");
    }
    Ok(contacts.map(|contacts| {
        let (contacts, phone_digits) = contacts.into_iter().unzip();
        Contact::Long { contacts, phone_digits }
    }))
}

fn short(reader: &mut Reader<'_, '_>) -> Read<Contact> {
    let name = reader.required("name", &NAME)?;
    let phone = reader.phone("phone", &PHONE)?;
    let email = reader.of_form("email", email::is_valid, |_| EMAIL.into())?;
    let organization = reader.optional("organization", &ORGANIZATION)?;
    let first = reader.optional("firstName", &FIRST)?;
    let last = reader.optional("lastName", &LAST)?;
    let title = reader.optional("title", &WORK)?;
    let department = reader.optional("department", &WORK)?;
    let url = url(reader)?;
    let birthday = birthday(reader)?;
    photo(reader)?;
    let (Some(name), Some(phone), Some(email), Some(organization), Some(first_name), Some(last_name)) =
        (name, phone, email, organization, first, last)
    else {
        return Ok(None);
    };
    let (Some(title), Some(department), Some(url), Some(birthday)) = (title, department, url, birthday) else {
        return Ok(None);
    };
    let GivenPhone { given: phone, number } = phone;
    let as_given = PhoneNumber::of_stored(&phone).is_ok_and(|given| given == number);
    let phone_digits = (!as_given).then(|| number.digits().to_owned());
    #[rustfmt::skip]
    let contact = GivenContact {
        name, phone, email, organization, first_name, last_name, title, department, url, birthday,
    };
    Ok(Some(Contact::Short { contact: Box::new(contact), phone_digits }))
}

/// An entry of `contacts`, and the digits of its numbers.
fn long(reader: &mut Reader<'_, '_>) -> Read<(GivenCard, Vec<String>)> {
    let name = reader.required("name", &NAME)?;
    let first = reader.optional("firstName", &FIRST)?;
    let last = reader.optional("lastName", &LAST)?;
    let organization = reader.optional("organization", &ORGANIZATION)?;
    let department = reader.optional("department", &WORK)?;
    let title = reader.optional("title", &WORK)?;
    let phones = phones(reader)?;
    let emails = reader.list("emails", 0..=5, email)?;
    let urls = reader.list("urls", 0..=3, |reader| {
        let given = url(reader);
        typed(reader, "url", given, EntryValue::Url)
    })?;
    let birthday = birthday(reader)?;
    let addresses = reader.list("addresses", 0..=2, address)?;
    photo(reader)?;
    reader.refuse_others(|name| ENTRY.contains(&name));
    let (Some(name), Some(first_name), Some(last_name), Some(organization), Some(department), Some(title)) =
        (name, first, last, organization, department, title)
    else {
        return Ok(None);
    };
    let (Some(phones), Some(emails), Some(urls), Some(birthday), Some(addresses)) =
        (phones, emails, urls, birthday, addresses)
    else {
        return Ok(None);
    };
    let (phones, digits) = phones.into_iter().unzip();
    #[rustfmt::skip]
    let card = GivenCard {
        name, first_name, last_name, organization, department, title, phones, emails, urls, birthday, addresses,
    };
    Ok(Some((card, digits)))
}

/// The fields of an entry of `contacts`, in the order in which their errors are reported.
pub(super) const ENTRY: [&str; 12] = [
    "name",
    "firstName",
    "lastName",
    "organization",
    "department",
    "title",
    "phones",
    "emails",
    "urls",
    "birthday",
    "addresses",
    "photoMediaId",
];

fn phones(reader: &mut Reader<'_, '_>) -> Read<Vec<(Entry, String)>> {
    if !reader.object().has("phones") {
        reader.missing("phones", None);
        return Ok(None);
    }
    reader.list("phones", 1..=5, |reader| {
        let phone = reader.phone("phone", &PHONE)?;
        let place = place(reader)?;
        reader.refuse_others(|name| ["phone", "type"].contains(&name));
        let (Some(phone), Some(place)) = (phone, place) else { return Ok(None) };
        let digits = phone.number.digits().to_owned();
        Ok(Some((Entry { value: EntryValue::Phone(phone.given), place }, digits)))
    })
}

fn email(reader: &mut Reader<'_, '_>) -> Read<Entry> {
    let given = reader.of_form("email", email::is_valid, |_| EMAIL.into());
    typed(reader, "email", given, EntryValue::Email)
}

/// The entry of a required value, with its type.
fn typed(
    reader: &mut Reader<'_, '_>,
    name: &str,
    given: Read<Option<String>>,
    value: fn(String) -> EntryValue,
) -> Read<Entry> {
    let given = given?;
    if given == Some(None) {
        reader.missing(name, None);
    }
    let place = place(reader)?;
    reader.refuse_others(|field| field == name || field == "type");
    Ok(given.flatten().zip(place).map(|(text, place)| Entry { value: value(text), place }))
}

fn place(reader: &mut Reader<'_, '_>) -> Read<Option<Place>> {
    let Some(given) = reader.given("type")? else { return Ok(None) };
    let Some(given) = given else { return Ok(Some(None)) };
    let place = Place::ALL.into_iter().find(|place| place.name() == given);
    let names = Place::ALL.map(Place::name).join(", ");
    let wrong = format!("O campo {} deve ser um destes: {names}.", reader.object().path("type"));
    Ok(reader.collect("type", place.map(Some).ok_or(wrong)))
}

fn address(reader: &mut Reader<'_, '_>) -> Read<Address> {
    const FIELDS: [&str; 7] = ["street", "city", "state", "zip", "country", "countryCode", "type"];
    let mut parts = Vec::with_capacity(6);
    for name in &FIELDS[..6] {
        parts.push(reader.optional(name, &PART)?);
    }
    let place = place(reader)?;
    reader.refuse_others(|name| FIELDS.contains(&name));
    let Some(mut parts) = parts.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
    // A card has no field for a country code alone.
    if parts[..5].iter().all(Option::is_none) {
        reader.missing("street", None);
        return Ok(None);
    }
    let mut next = || parts.remove(0);
    Ok(place.map(|place| Address {
        street: next(),
        city: next(),
        state: next(),
        zip: next(),
        country: next(),
        country_code: next(),
        place,
    }))
}

fn url(reader: &mut Reader<'_, '_>) -> Read<Option<String>> {
    reader.of_form("url", is_url, |path| format!("O campo {path} deve ser uma URL publica http ou https.").into())
}

/// Whether it is a web address that a card can contain unchanged: visible ASCII, in the form of a URI, with a host.
fn is_url(text: &str) -> bool {
    let scheme = |name: &str| text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    let Some(rest) = ["https://", "http://"].into_iter().find(|name| scheme(name)).map(|name| &text[name.len()..])
    else {
        return false;
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let is_of_uri = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte);
    text.len() <= URL_LIMIT && text.bytes().all(is_of_uri) && host.contains(|sign: char| sign.is_ascii_alphanumeric())
}

fn birthday(reader: &mut Reader<'_, '_>) -> Read<Option<String>> {
    let days = FIRST_DAY..=time::latest_day(reader.context().now);
    let is_birthday = |text: &str| time::parse_date(text).is_some_and(|day| days.contains(&day));
    let wrong = |path: &str| format!("O campo {path} deve ser uma data AAAA-MM-DD de 1900 ate hoje.").into();
    reader.of_form("birthday", is_birthday, wrong)
}

fn photo(reader: &mut Reader<'_, '_>) -> Result<(), FieldErrors> {
    if reader.given("photoMediaId")?.flatten().is_some() {
        reader.asks_for(Feature::Photo, "photoMediaId");
    }
    Ok(())
}
