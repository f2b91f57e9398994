//! One element of `messages`, or of `message_echoes`.

use std::fmt::Write;

use recado_domain::clock::Millis;
use recado_domain::ids::NetworkId;
use recado_domain::incoming::{
    Arrival, Content, Direction, Group, NewIncoming, Quoted, RAW_LIMIT, SenderIds, What, clean,
};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::cloud_api::incoming::people::{FROM, People, TO};
use crate::cloud_api::incoming::{changes, content};
use crate::cloud_api::lenient::{Object, seconds};

/// The most characters of the name of an unknown type.
const TYPE_LIMIT: usize = 64;
/// The most bytes of the data of an ad.
const REFERRAL_LIMIT: usize = 16 << 10;

/// The arrival of an element, and whether its form is known.
pub(super) fn read(raw: &RawValue, direction: Direction, people: &People, now: Millis) -> (Arrival, bool) {
    let from_me = direction == Direction::Outbound;
    let Some(message) = Object::read(raw) else {
        let what = as_it_is(raw, None);
        let person = SenderIds::default();
        return (Arrival { network_id: hash(raw), group: None, person, from_me, sent_at: now, what }, false);
    };
    let known = changes::read(&message).or_else(|| read_message(raw, &message));
    let is_readable = known.is_some();
    let kind = message.text("type");
    let arrival = Arrival {
        network_id: message.text("id").and_then(|id| id.parse().ok()).unwrap_or_else(|| hash(raw)),
        group: group(&message),
        person: changes::author(&message).unwrap_or_else(|| people.named(&message, if from_me { &TO } else { &FROM })),
        from_me,
        // Clocks differ, so the time of sending is at most the time of arrival.
        sent_at: seconds(message.raw("timestamp")).map_or(now, |at| at.min(now)),
        what: known.unwrap_or_else(|| as_it_is(raw, kind.as_deref())),
    };
    (arrival, is_readable)
}

/// A message; `None` if its form is unknown.
fn read_message(raw: &RawValue, message: &Object<'_>) -> Option<What> {
    let kind = message.text("type");
    let mut new = match content::read(kind.as_deref(), message) {
        content::Read::Known(new) => *new,
        content::Read::UnknownType { text } => {
            let kind = kind.as_deref().map_or_else(|| "unknown".to_owned(), type_name);
            let mut new = NewIncoming::new(Content::Other { kind, text: text.clone() }, text.unwrap_or_default());
            new.raw = Some(cut(raw));
            new
        }
        content::Read::Unreadable => return None,
    };
    if let Some(context) = message.object("context") {
        new.forwarded = context.is("forwarded") || context.is("frequently_forwarded");
        new.reply_to = quoted(&context);
    }
    new.referral = referral(message);
    Some(What::Message(Box::new(new)))
}

/// The message that a context names.
fn quoted(context: &Object<'_>) -> Option<Quoted> {
    let id: NetworkId = context.text("id")?.parse().ok()?;
    let from: Option<String> =
        context.text("from").map(|from| from.chars().filter(char::is_ascii_digit).take(32).collect());
    Some(Quoted { from: from.filter(|digits| !digits.is_empty()), ..Quoted::of_id(id.as_str()) })
}

/// The ad, or the product, that led to the message.
fn referral(message: &Object<'_>) -> Option<serde_json::Value> {
    let small = |raw: &&RawValue| raw.get().len() <= REFERRAL_LIMIT && raw.get().starts_with('{');
    if let Some(ad) = message.raw("referral").filter(small) {
        return content::plain(ad);
    }
    let product = message.object("context")?.raw("referred_product").filter(small).and_then(content::plain)?;
    Some(serde_json::json!({ "referred_product": product }))
}

/// The group, if the message belongs to one. A group whose id has an unknown form counts as a group, too: otherwise an
/// answer would go to the author alone.
fn group(message: &Object<'_>) -> Option<Group> {
    let raw = message.raw("group_id")?;
    let id = message.text("group_id").and_then(|id| id.parse().ok()).unwrap_or_else(|| hash(raw));
    Some(Group { address: id.as_str().to_owned(), name: None })
}

/// A message whose form is unknown, with its JSON.
fn as_it_is(raw: &RawValue, kind: Option<&str>) -> What {
    let kind = kind.map_or_else(|| "unknown".to_owned(), type_name);
    let mut new = NewIncoming::new(Content::Other { kind, text: None }, "");
    new.raw = Some(cut(raw));
    What::Message(Box::new(new))
}

fn type_name(kind: &str) -> String {
    clean(kind, TYPE_LIMIT).unwrap_or_else(|| "unknown".to_owned())
}

/// The JSON, within the limit of what is stored.
fn cut(raw: &RawValue) -> Vec<u8> {
    let text = raw.get();
    let end = text.floor_char_boundary(RAW_LIMIT);
    text.as_bytes()[..end].to_vec()
}

/// An id for a message whose own id cannot be stored. The same bytes give the same id, so that a repetition is
/// recognised.
pub(super) fn hash(raw: &RawValue) -> NetworkId {
    let mut id = String::from("sha256.");
    for byte in Sha256::digest(raw.get().as_bytes()) {
        write!(id, "{byte:02x}").expect("a String accepts any text");
    }
    NetworkId::from_stored(id)
}
