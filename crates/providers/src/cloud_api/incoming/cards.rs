//! Contacts that a person shares: Meta's objects in the form in which the API shows the cards that it sends.

use recado_domain::incoming::{CONTENT_LIMIT, Content, NewIncoming, clean, truncate};
use serde_json::{Map, Value};

use crate::cloud_api::lenient::Object;

/// The most contacts of a message, by Meta's documentation.
const CONTACTS: usize = 257;
/// The most entries of each list of a contact.
const ENTRIES: usize = 20;
/// The most characters of a part of a contact.
const LIMIT: usize = 500;

/// The contacts of a message.
pub(super) fn read(message: &Object<'_>) -> Option<NewIncoming> {
    message.raw("contacts")?;
    let given = message.objects("contacts", CONTACTS);
    let contacts: Vec<_> = given.iter().map(card).collect();
    let name = contacts.first()?.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let vcards = given.iter().filter_map(|contact| contact.filled("vcard"));
    let vcards = vcards.map(|card| truncate(&card, CONTENT_LIMIT).0).collect();
    Some(NewIncoming::new(Content::Contact { contacts, vcards }, name))
}

fn card(contact: &Object<'_>) -> Value {
    let mut card = Map::new();
    let name = contact.object("name");
    let part = |key: &str| name.as_ref().and_then(|name| line(name, key));
    let parts = ["first_name", "middle_name", "last_name"].map(part);
    let joined = || {
        let parts: Vec<_> = parts.iter().flatten().cloned().collect();
        Some(parts.join(" ")).filter(|name| !name.is_empty())
    };
    put(&mut card, "name", part("formatted_name").or_else(joined));
    put(&mut card, "firstName", parts[0].clone());
    put(&mut card, "lastName", parts[2].clone());
    let org = contact.object("org");
    let of_org = |key: &str| org.as_ref().and_then(|org| line(org, key));
    put(&mut card, "organization", of_org("company"));
    put(&mut card, "department", of_org("department"));
    put(&mut card, "title", of_org("title"));
    list(&mut card, "phones", contact.objects("phones", ENTRIES).iter().map(phone));
    list(&mut card, "emails", contact.objects("emails", ENTRIES).iter().map(|entry| typed(entry, "email")));
    list(&mut card, "urls", contact.objects("urls", ENTRIES).iter().map(|entry| typed(entry, "url")));
    put(&mut card, "birthday", line(contact, "birthday"));
    list(&mut card, "addresses", contact.objects("addresses", ENTRIES).iter().map(address));
    card.into()
}

/// The account is more useful than the number as it was typed.
fn phone(entry: &Object<'_>) -> Map<String, Value> {
    let mut shown = Map::new();
    let account = entry.text_if("wa_id", recado_domain::ids::is_account);
    put(&mut shown, "phone", line(entry, "phone").or_else(|| account.clone()));
    put(&mut shown, "account", account);
    put(&mut shown, "type", line(entry, "type"));
    shown
}

fn typed(entry: &Object<'_>, key: &str) -> Map<String, Value> {
    let mut shown = Map::new();
    put(&mut shown, key, line(entry, key));
    put(&mut shown, "type", line(entry, "type"));
    shown
}

fn address(entry: &Object<'_>) -> Map<String, Value> {
    let mut shown = Map::new();
    for (key, name) in [
        ("street", "street"),
        ("city", "city"),
        ("state", "state"),
        ("zip", "zip"),
        ("country", "country"),
        ("country_code", "countryCode"),
        ("type", "type"),
    ] {
        put(&mut shown, name, line(entry, key));
    }
    shown
}

fn line(object: &Object<'_>, key: &str) -> Option<String> {
    object.text(key).and_then(|text| clean(&text, LIMIT))
}

fn put(object: &mut Map<String, Value>, key: &str, text: Option<String>) {
    if let Some(text) = text {
        object.insert(key.to_owned(), text.into());
    }
}

fn list(card: &mut Map<String, Value>, key: &str, entries: impl Iterator<Item = Map<String, Value>>) {
    let entries: Vec<Value> = entries.filter(|entry| !entry.is_empty()).map(Value::Object).collect();
    if !entries.is_empty() {
        card.insert(key.to_owned(), entries.into());
    }
}
