//! One message of a person, of each documented kind.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Map, Value, json};

use super::{Person, put};
use crate::clock::unix_seconds;

/// The SHA-256 of the media, in the form of Meta's callbacks.
const SHA256: &str = "SfInY0gGKTsJlUWbwxC1k+FAD0FZHvzwfpvO0zX0GUI=";

static MESSAGES: AtomicU64 = AtomicU64::new(0);

/// A message of a person: its id, its time and its content.
#[derive(Debug, Clone)]
pub struct Said {
    id: String,
    at: Option<u64>,
    fields: Map<String, Value>,
}

impl Said {
    /// A message of any kind.
    pub fn of(kind: &str, content: Value) -> Self {
        let id = format!("wamid.IN{:x}.{:x}.{:x}", unix_seconds(), std::process::id(), MESSAGES.fetch_add(1, Relaxed));
        let fields = [("type".to_owned(), kind.into()), (kind.to_owned(), content)].into_iter().collect();
        Self { id, at: None, fields }
    }

    pub fn text(body: &str) -> Self {
        Self::of("text", json!({ "body": body }))
    }

    pub fn image(media: &str, caption: Option<&str>) -> Self {
        Self::media("image", media, "image/jpeg", &[("caption", caption)])
    }

    pub fn video(media: &str, caption: Option<&str>) -> Self {
        Self::media("video", media, "video/mp4", &[("caption", caption)])
    }

    /// A recording of the app if `voice`, else a file.
    pub fn audio(media: &str, voice: bool) -> Self {
        let mut said = Self::media("audio", media, "audio/ogg; codecs=opus", &[]);
        said.fields["audio"]["voice"] = voice.into();
        said
    }

    pub fn document(media: &str, file_name: &str, caption: Option<&str>) -> Self {
        let texts = [("filename", Some(file_name)), ("caption", caption)];
        Self::media("document", media, "application/pdf", &texts)
    }

    pub fn sticker(media: &str, animated: bool) -> Self {
        let mut said = Self::media("sticker", media, "image/webp", &[]);
        said.fields["sticker"]["animated"] = animated.into();
        said
    }

    fn media(kind: &str, media: &str, mime_type: &str, texts: &[(&str, Option<&str>)]) -> Self {
        let mut content = Map::new();
        for (key, text) in texts {
            put(&mut content, key, *text);
        }
        for (key, text) in [("mime_type", mime_type), ("sha256", SHA256), ("id", media)] {
            put(&mut content, key, Some(text));
        }
        Self::of(kind, content.into())
    }

    /// The same with this hash of its file, in hexadecimal digits.
    #[must_use]
    pub fn with_sha256(mut self, sha256: &str) -> Self {
        let kind = self.fields["type"].as_str().unwrap_or_default().to_owned();
        self.fields[&kind]["sha256"] = sha256.into();
        self
    }

    pub fn location(latitude: f64, longitude: f64, name: &str, address: &str, url: &str) -> Self {
        let place = json!({
            "latitude": latitude, "longitude": longitude, "name": name, "address": address, "url": url,
        });
        Self::of("location", place)
    }

    /// Contacts in Meta's form.
    pub fn contacts(contacts: Value) -> Self {
        Self::of("contacts", contacts)
    }

    /// A tap on a button of a template.
    pub fn button(target: &str, payload: &str, text: &str) -> Self {
        Self::of("button", json!({ "payload": payload, "text": text })).replying_to(target)
    }

    /// A tap on a button.
    pub fn button_reply(target: &str, id: &str, title: &str) -> Self {
        Self::interactive(target, "button_reply", &json!({ "id": id, "title": title }))
    }

    /// A choice from a list.
    pub fn list_reply(target: &str, id: &str, title: &str, description: &str) -> Self {
        Self::interactive(target, "list_reply", &json!({ "id": id, "title": title, "description": description }))
    }

    /// A completed form (a "flow"). Meta sends the answers as JSON in a string.
    pub fn form_reply(target: &str, name: &str, body: &str, answers: &Value) -> Self {
        let reply = json!({ "name": name, "body": body, "response_json": answers.to_string() });
        Self::interactive(target, "nfm_reply", &reply)
    }

    /// An answer to a message with choices.
    pub fn interactive(target: &str, kind: &str, reply: &Value) -> Self {
        let content = json!({ "type": kind, kind: reply });
        Self::of("interactive", content).replying_to(target)
    }

    /// An order from a catalog: the products, their quantities and their prices.
    pub fn order(catalog: &str, items: &[(&str, u32, f64)]) -> Self {
        let item = |(product, quantity, price): &(&str, u32, f64)| json!({ "product_retailer_id": product, "quantity": quantity, "item_price": price, "currency": "BRL" });
        let items: Vec<_> = items.iter().map(item).collect();
        Self::of("order", json!({ "catalog_id": catalog, "text": "", "product_items": items }))
    }

    /// A reaction; `None` removes it.
    pub fn reaction(target: &str, emoji: Option<&str>) -> Self {
        let mut reaction = Map::new();
        put(&mut reaction, "message_id", Some(target));
        put(&mut reaction, "emoji", emoji);
        Self::of("reaction", reaction.into())
    }

    /// A new version of a message.
    pub fn edit(target: &str, new: &Self) -> Self {
        let mut message = new.fields.clone();
        message.insert("context".to_owned(), json!({ "id": "M0" }));
        Self::of("edit", json!({ "original_message_id": target, "message": message }))
    }

    /// A message that was deleted for everyone.
    pub fn revoke(target: &str) -> Self {
        Self::of("revoke", json!({ "original_message_id": target }))
    }

    /// The person has another number now.
    pub fn changed_number(name: &str, from: &str, to: &str) -> Self {
        let body = format!("User {name} changed from {from} to {to}");
        Self::of("system", json!({ "body": body, "wa_id": to, "type": "user_changed_number" }))
    }

    /// The person has another user id now.
    pub fn changed_user_id(name: &str, from: &str, to: &str) -> Self {
        let body = format!("User {name} changed from {from} to {to}");
        Self::of("system", json!({ "body": body, "user_id": to, "type": "user_changed_user_id" }))
    }

    /// A message that the network does not pass on. `kind` is `unsupported`, or `unknown` in earlier versions.
    pub fn unsupported(kind: &str) -> Self {
        let error = json!({
            "code": 131_051,
            "title": "Message type unknown",
            "message": "Message type unknown",
            "error_data": { "details": "Message type is currently not supported." },
        });
        let mut said = Self::of(kind, Value::Null).with("errors", json!([error]));
        said.fields.remove(kind);
        said
    }

    /// Answers a message.
    #[must_use]
    pub fn replying_to(self, target: &str) -> Self {
        self.with("context", json!({ "from": "551140000000", "id": target }))
    }

    /// Forwarded, perhaps many times.
    #[must_use]
    pub fn forwarded(self, often: bool) -> Self {
        let key = if often { "frequently_forwarded" } else { "forwarded" };
        self.with("context", json!({ key: true }))
    }

    /// Begun from an ad.
    #[must_use]
    pub fn from_ad(self, referral: Value) -> Self {
        self.with("referral", referral)
    }

    /// Written in a group.
    #[must_use]
    pub fn in_group(self, group: &str) -> Self {
        self.with("group_id", group.into())
    }

    /// Sent at this time.
    #[must_use]
    pub fn at(mut self, seconds: u64) -> Self {
        self.at = Some(seconds);
        self
    }

    /// With this id.
    #[must_use]
    pub fn with_id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.id);
        self
    }

    /// With this field. It replaces another one of the same name.
    #[must_use]
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.fields.insert(key.to_owned(), value);
        self
    }

    /// The id.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn is_system(&self) -> bool {
        self.fields.get("type").is_some_and(|kind| kind == "system")
    }

    /// The message of a person.
    pub(super) fn message(&self, by: &Person) -> Value {
        let names = [("from", &by.phone), ("from_user_id", &by.user_id), ("from_parent_user_id", &by.parent_user_id)];
        self.between(&names)
    }

    /// The message that the business sent to a person. The caller adds its own number.
    pub(super) fn echo(&self, to: &Person) -> Value {
        self.between(&[("to", &to.phone), ("to_user_id", &to.user_id), ("to_parent_user_id", &to.parent_user_id)])
    }

    fn between(&self, names: &[(&str, &Option<String>)]) -> Value {
        let mut message = Map::new();
        for (key, name) in names {
            put(&mut message, key, name.as_deref());
        }
        put(&mut message, "id", Some(&self.id));
        put(&mut message, "timestamp", Some(&self.at.unwrap_or_else(unix_seconds).to_string()));
        // Fields of the test replace those of the message.
        message.extend(self.fields.clone());
        message.into()
    }
}
