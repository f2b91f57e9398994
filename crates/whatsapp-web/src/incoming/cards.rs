//! Contact cards that a person shares: vCards in the form in which the API shows the cards that it sends.

use recado_domain::ids::is_account;
use recado_domain::incoming::{CONTENT_LIMIT, Content, NewIncoming, clean, truncate};
use serde_json::{Map, Value};
use whatsapp_rust::waproto::whatsapp as wa;

/// The most cards of a message.
const CARDS: usize = 257;
/// The most entries of each list of a card.
const ENTRIES: usize = 20;
/// The most characters of a part of a card.
const LIMIT: usize = 500;
/// The most lines of a card that are read. The card is kept whole.
const LINES: usize = 500;

/// The cards of a message.
pub fn read(message: &wa::Message) -> Option<NewIncoming> {
    let single = message.contact_message.as_option();
    let several = message.contacts_array_message.as_option();
    if single.is_none() && several.is_none() {
        return None;
    }
    let of_array = several.into_iter().flat_map(|several| several.contacts.iter());
    let given: Vec<_> = single.into_iter().chain(of_array).take(CARDS).collect();
    let contacts: Vec<_> = given.iter().map(|given| card(given)).collect();
    let first = contacts.first().and_then(|card| card.get("name")?.as_str()).map(str::to_owned);
    let title = || several.and_then(|several| clean(several.display_name.as_deref()?, LIMIT));
    let name = first.or_else(title).unwrap_or_default();
    let vcards = given.iter().filter_map(|given| given.vcard.as_deref()).map(|card| truncate(card, CONTENT_LIMIT).0);
    Some(NewIncoming::new(Content::Contact { contacts, vcards: vcards.collect() }, name))
}

fn card(given: &wa::message::ContactMessage) -> Value {
    let lines = lines(given.vcard.as_deref().unwrap_or_default());
    let mut card = Map::new();
    let named = |name: &'static str| lines.iter().filter(move |line| line.name == name);
    let first = |name: &'static str| named(name).find_map(|line| clean(&unescape(&line.value), LIMIT));
    let parts: Vec<_> = named("N").next().map(|line| split(&line.value, ';')).unwrap_or_default();
    let part = |index: usize| parts.get(index).and_then(|part| clean(part, LIMIT));
    let shown = given.display_name.as_deref().and_then(|name| clean(name, LIMIT));
    put(&mut card, "name", first("FN").or(shown));
    put(&mut card, "firstName", part(1));
    put(&mut card, "lastName", part(0));
    let org: Vec<_> = named("ORG").next().map(|line| split(&line.value, ';')).unwrap_or_default();
    put(&mut card, "organization", org.first().and_then(|part| clean(part, LIMIT)));
    put(&mut card, "department", org.get(1).and_then(|part| clean(part, LIMIT)));
    put(&mut card, "title", first("TITLE"));
    list(&mut card, "phones", named("TEL").map(phone));
    list(&mut card, "emails", named("EMAIL").map(|line| typed(line, "email")));
    list(&mut card, "urls", named("URL").map(|line| typed(line, "url")));
    put(&mut card, "birthday", first("BDAY"));
    list(&mut card, "addresses", named("ADR").map(address));
    card.into()
}

/// A line of a vCard.
struct Line {
    /// In capitals, without its group.
    name: String,
    /// `TYPE` and others, with their values. A value without a name is a type, as in version 2.1.
    parameters: Vec<(String, String)>,
    value: String,
}

impl Line {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The kind of an entry, such as `HOME`.
    fn kind(&self) -> Option<String> {
        let types = self.parameters.iter().filter(|(name, _)| name == "TYPE");
        let mut types = types.flat_map(|(_, value)| value.split(',')).map(str::to_ascii_uppercase);
        let is_kind = |kind: &String| ["HOME", "WORK", "CELL", "MAIN", "IPHONE"].contains(&kind.as_str());
        types.find(is_kind)
    }
}

/// The lines of a card. A line that begins with a space continues the one before.
fn lines(card: &str) -> Vec<Line> {
    let mut unfolded: Vec<String> = Vec::new();
    for line in card.lines().take(LINES) {
        match (line.strip_prefix([' ', '\t']), unfolded.last_mut()) {
            (Some(rest), Some(last)) => last.push_str(rest),
            _ => unfolded.push(line.to_owned()),
        }
    }
    unfolded.iter().filter_map(|line| parse(line)).collect()
}

fn parse(line: &str) -> Option<Line> {
    let (head, value) = line.split_once(':')?;
    let mut parts = head.split(';');
    let name = parts.next()?;
    let name = name.rsplit_once('.').map_or(name, |(_, name)| name).to_ascii_uppercase();
    let parameter = |part: &str| match part.split_once('=') {
        Some((name, value)) => (name.to_ascii_uppercase(), value.trim_matches('"').to_owned()),
        None => ("TYPE".to_owned(), part.to_owned()),
    };
    Some(Line { name, parameters: parts.map(parameter).collect(), value: value.to_owned() })
}

/// The parts of a value, which are separated by this sign where it is not escaped.
fn split(value: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut is_escaped = false;
    for sign in value.chars() {
        if sign == separator && !is_escaped {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(sign);
        }
        is_escaped = sign == '\\' && !is_escaped;
    }
    parts.iter().map(|part| unescape(part)).collect()
}

fn unescape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut signs = value.chars();
    while let Some(sign) = signs.next() {
        match sign {
            '\\' => text.extend(signs.next().map(|sign| if matches!(sign, 'n' | 'N') { '\n' } else { sign })),
            sign => text.push(sign),
        }
    }
    text
}

/// The account is more useful than the number as it was typed.
fn phone(line: &Line) -> Map<String, Value> {
    let mut shown = Map::new();
    let account = line.parameter("WAID").filter(|digits| is_account(digits)).map(str::to_owned);
    let typed = unescape(line.value.strip_prefix("tel:").unwrap_or(&line.value));
    put(&mut shown, "phone", clean(&typed, LIMIT).or_else(|| account.clone()));
    put(&mut shown, "account", account);
    put(&mut shown, "type", line.kind());
    shown
}

fn typed(line: &Line, key: &str) -> Map<String, Value> {
    let mut shown = Map::new();
    put(&mut shown, key, clean(&unescape(&line.value), LIMIT));
    put(&mut shown, "type", line.kind());
    shown
}

fn address(line: &Line) -> Map<String, Value> {
    let mut shown = Map::new();
    let parts = split(&line.value, ';');
    for (index, name) in [(2, "street"), (3, "city"), (4, "state"), (5, "zip"), (6, "country")] {
        put(&mut shown, name, parts.get(index).and_then(|part| clean(part, LIMIT)));
    }
    if !shown.is_empty() {
        put(&mut shown, "type", line.kind());
    }
    shown
}

fn put(object: &mut Map<String, Value>, key: &str, text: Option<String>) {
    if let Some(text) = text {
        object.insert(key.to_owned(), text.into());
    }
}

fn list(card: &mut Map<String, Value>, key: &str, entries: impl Iterator<Item = Map<String, Value>>) {
    let entries = entries.filter(|entry| !entry.is_empty()).take(ENTRIES);
    let entries: Vec<Value> = entries.map(Value::Object).collect();
    if !entries.is_empty() {
        card.insert(key.to_owned(), entries.into());
    }
}
