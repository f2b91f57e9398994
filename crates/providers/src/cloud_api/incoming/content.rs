//! Reads the content of a received message by Meta's `type`. The contract has the table of types.

use recado_domain::incoming::{CONTENT_LIMIT, Content, NewIncoming, Place, UnsupportedReason, clean, truncate};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::cloud_api::incoming::{answers, cards, files};
use crate::cloud_api::lenient::{Object, read as parse};

/// The result of reading the content of a message.
pub(super) enum Read {
    Known(Box<NewIncoming>),
    /// A type that Meta added later, with its text, if it has one.
    UnknownType {
        text: Option<String>,
    },
    /// A known type without a required field.
    Unreadable,
}

/// The content of a message of this type.
pub(super) fn read(kind: Option<&str>, message: &Object<'_>) -> Read {
    let Some(kind) = kind else {
        // A message can consist of errors only.
        let errors = message.raw("errors");
        return errors.map_or(Read::Unreadable, |_| Read::Known(Box::new(unsupported())));
    };
    let known = match kind {
        "text" => text(message),
        "image" | "video" | "audio" | "document" | "sticker" => files::read(kind, message),
        "location" => location(message),
        "contacts" => cards::read(message),
        "button" => answers::button(message),
        "interactive" => match answers::interactive(message) {
            Some(new) => Some(new),
            None if answers::is_unknown(message) => return Read::UnknownType { text: None },
            None => None,
        },
        "order" => answers::order(message),
        "unsupported" | "unknown" | "errors" => Some(unsupported()),
        // Meta describes other changes of a person only in a text.
        "system" => {
            let text = message.object(kind).and_then(|system| system.text("body"));
            return Read::UnknownType { text: text.map(|text| truncate(&text, CONTENT_LIMIT).0) };
        }
        _ if message.raw("errors").is_some() && message.raw(kind).is_none() => Some(unsupported()),
        kind => {
            let object = message.object(kind);
            let text = object.and_then(|object| object.text("body").or_else(|| object.text("text")));
            return Read::UnknownType { text: text.map(|text| truncate(&text, CONTENT_LIMIT).0) };
        }
    };
    known.map_or(Read::Unreadable, |new| Read::Known(Box::new(new)))
}

fn text(message: &Object<'_>) -> Option<NewIncoming> {
    let body = message.object("text")?.text("body")?;
    Some(NewIncoming::new(Content::text(), body))
}

fn location(message: &Object<'_>) -> Option<NewIncoming> {
    let place = message.object("location")?;
    let degrees = |key: &str, most: f64| {
        let raw = place.raw(key)?.get().trim_matches('"');
        raw.parse().ok().filter(|degrees: &f64| degrees.abs() <= most)
    };
    let (latitude, longitude) = (degrees("latitude", 90.0)?, degrees("longitude", 180.0)?);
    let line = |key: &str, limit| place.text(key).and_then(|text| clean(&text, limit));
    let (name, address, url) = (line("name", 1_000), line("address", 1_000), line("url", 2_048));
    let content = Content::Location(Place { latitude, longitude, name, address, url, live: false });
    Some(NewIncoming::new(content, ""))
}

fn unsupported() -> NewIncoming {
    NewIncoming::new(Content::Unsupported { reason: UnsupportedReason::Network }, "")
}

/// The most nested levels of JSON that are kept of the network. The parser of a stored message accepts 128 in all.
const DEPTH: usize = 32;

/// The network's JSON without the characters that a database cannot store. `None` if it is nested too deeply.
pub(super) fn plain(raw: &RawValue) -> Option<Value> {
    if depth(raw.get()) > DEPTH { None } else { parse::<Value>(raw).map(without_nul) }
}

/// How deeply valid JSON is nested.
fn depth(json: &str) -> usize {
    let (mut depth, mut most, mut in_text, mut is_escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = in_text,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                most = most.max(depth);
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    most
}

/// The depth is bounded, because the value was parsed.
fn without_nul(value: Value) -> Value {
    let text = |text: String| if text.contains('\0') { text.replace('\0', "") } else { text };
    match value {
        Value::String(string) => Value::String(text(string)),
        Value::Array(list) => list.into_iter().map(without_nul).collect(),
        Value::Object(object) => {
            Value::Object(object.into_iter().map(|(key, value)| (text(key), without_nul(value))).collect::<Map<_, _>>())
        }
        other => other,
    }
}
