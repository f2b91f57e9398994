//! The content of a received message, by its type: the contract's table, one variant a row.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::text::{CONTENT_LIMIT, truncate};

/// The content. The object of each type is shown under the name of the type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "object", rename_all = "lowercase")]
pub enum Content {
    Text {
        truncated: bool,
    },
    Image(Captioned),
    Video(Captioned),
    Audio(Captioned),
    Document(Captioned),
    Sticker(Captioned),
    Location(Place),
    Contact {
        /// The cards in the form in which the API shows sent contacts.
        contacts: Vec<Value>,
        /// The vCards, which callers read by another route.
        #[serde(default)]
        vcards: Vec<String>,
    },
    Button {
        id: Option<String>,
        title: Option<String>,
        description: Option<String>,
        /// What a form or a flow returned.
        data: Option<Value>,
    },
    Poll {
        question: String,
        options: Vec<String>,
        #[serde(rename = "maxSelections")]
        max_selections: Option<u32>,
        /// The votes; empty before the first one.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        results: Vec<PollResult>,
    },
    Order(Order),
    Other {
        kind: String,
        text: Option<String>,
    },
    Unsupported {
        reason: UnsupportedReason,
    },
}

/// A file, with its caption and flags.
#[expect(clippy::struct_excessive_bools, reason = "each is a field of the API")]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Captioned {
    pub caption: Option<String>,
    pub file_name: Option<String>,
    /// A voice message.
    #[serde(skip_serializing_if = "is_false")]
    pub ptt: bool,
    /// A round video.
    #[serde(skip_serializing_if = "is_false")]
    pub video_note: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub animated: bool,
    /// The same for all pictures of an album.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub album_id: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    pub truncated: bool,
}

/// A place on the map. Of a live location only the first point.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Place {
    pub latitude: f64,
    pub longitude: f64,
    pub name: Option<String>,
    pub address: Option<String>,
    pub url: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    pub live: bool,
}

/// How many people have chosen an option of a poll.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollResult {
    pub option: String,
    pub votes: usize,
}

/// An order, or a request for a product.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Order {
    pub order_id: Option<String>,
    pub catalog_id: Option<String>,
    pub text: Option<String>,
    pub items: Vec<OrderItem>,
}

/// One line of an order. Amounts are texts, as the network gives them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OrderItem {
    pub product_id: Option<String>,
    pub name: Option<String>,
    pub quantity: Option<u32>,
    pub price: Option<String>,
    pub currency: Option<String>,
}

/// Why a message has no content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UnsupportedReason {
    /// The network does not deliver such messages.
    Network,
    ViewOnce,
    Undecryptable,
}

/// The types of messages whose text can be an opt-out word.
pub const ANSWER_KINDS: [&str; 2] = ["text", "button"];

/// The most levels of JSON in a received message, because JSON that is nested much deeper cannot be parsed again.
pub(super) const DEPTH: usize = 32;

/// Whether JSON is nested deeper than this.
pub(super) fn is_deep(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(values) => levels == 0 || values.iter().any(|value| is_deep(value, levels - 1)),
        Value::Object(fields) => levels == 0 || fields.values().any(|value| is_deep(value, levels - 1)),
        _ => false,
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Content {
    /// A plain text.
    pub fn text() -> Self {
        Self::Text { truncated: false }
    }

    /// The name of the type on the wire and in the store.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Text { .. } => "text",
            Self::Image(_) => "image",
            Self::Video(_) => "video",
            Self::Audio(_) => "audio",
            Self::Document(_) => "document",
            Self::Sticker(_) => "sticker",
            Self::Location(_) => "location",
            Self::Contact { .. } => "contact",
            Self::Button { .. } => "button",
            Self::Poll { .. } => "poll",
            Self::Order(_) => "order",
            Self::Other { .. } => "other",
            Self::Unsupported { .. } => "unsupported",
        }
    }

    /// The object that is shown under that name. The cards of contacts have a route of their own.
    pub fn object(&self) -> Value {
        let mut shown = serde_json::to_value(self).unwrap_or_default();
        let mut object = shown.get_mut("object").map(Value::take).unwrap_or_default();
        if let Some(fields) = object.as_object_mut() {
            fields.remove("vcards");
        }
        object
    }

    /// Whether this is a notice of the network about the person, not a message of the person.
    pub fn is_notice(&self) -> bool {
        matches!(self, Self::Other { kind, .. } if kind == "system")
    }

    /// Whether the body of the message could not be read.
    pub fn is_undecryptable(&self) -> bool {
        matches!(self, Self::Unsupported { reason: UnsupportedReason::Undecryptable })
    }

    /// Replaces JSON that is nested too deep: the answer of a form becomes a text, and a card is removed.
    pub(super) fn flatten(&mut self) {
        match self {
            Self::Button { data: Some(data), .. } if is_deep(data, DEPTH) => *data = data.to_string().into(),
            Self::Contact { contacts, .. } => contacts.retain(|contact| !is_deep(contact, DEPTH)),
            _ => {}
        }
    }

    /// Marks the content as cut.
    pub fn mark_truncated(&mut self) {
        match self {
            Self::Text { truncated } => *truncated = true,
            Self::Image(of) | Self::Video(of) | Self::Audio(of) | Self::Document(of) | Self::Sticker(of) => {
                of.truncated = true;
            }
            _ => {}
        }
    }

    /// Sets the votes, if this is a poll. Returns whether it is one.
    pub fn set_results(&mut self, counted: Vec<PollResult>) -> bool {
        let Self::Poll { results, .. } = self else { return false };
        *results = counted;
        true
    }

    /// Replaces the caption, where the type has one.
    pub fn set_caption(&mut self, caption: &str) {
        if let Self::Image(of) | Self::Video(of) | Self::Audio(of) | Self::Document(of) = self {
            of.caption = Some(truncate(caption, CONTENT_LIMIT).0).filter(|caption| !caption.is_empty());
        }
    }

    /// The same type without content, for a revoked message.
    #[must_use]
    pub fn emptied(&self) -> Self {
        match self {
            Self::Text { .. } => Self::text(),
            Self::Image(_) => Self::Image(Captioned::default()),
            Self::Video(_) => Self::Video(Captioned::default()),
            Self::Audio(_) => Self::Audio(Captioned::default()),
            Self::Document(_) => Self::Document(Captioned::default()),
            Self::Sticker(_) => Self::Sticker(Captioned::default()),
            Self::Location(_) => Self::Location(Place::default()),
            Self::Contact { .. } => Self::Contact { contacts: Vec::new(), vcards: Vec::new() },
            Self::Button { .. } => Self::Button { id: None, title: None, description: None, data: None },
            Self::Poll { .. } => {
                Self::Poll { question: String::new(), options: Vec::new(), max_selections: None, results: Vec::new() }
            }
            Self::Order(_) => Self::Order(Order::default()),
            Self::Other { kind, .. } => Self::Other { kind: kind.clone(), text: None },
            Self::Unsupported { reason } => Self::Unsupported { reason: *reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn all() -> Vec<Content> {
        let file = || Captioned { caption: Some("legenda".to_owned()), ..Captioned::default() };
        vec![
            Content::text(),
            Content::Image(file()),
            Content::Video(file()),
            Content::Audio(file()),
            Content::Document(file()),
            Content::Sticker(file()),
            Content::Location(Place { latitude: -23.5, longitude: -46.6, ..Place::default() }),
            Content::Contact { contacts: vec![json!({"name": "Ana"})], vcards: vec!["BEGIN:VCARD".to_owned()] },
            Content::Button { id: Some("1".to_owned()), title: None, description: None, data: Some(json!({"a": 1})) },
            Content::Poll {
                question: "?".to_owned(),
                options: vec!["Sim".to_owned()],
                max_selections: Some(1),
                results: vec![PollResult { option: "Sim".to_owned(), votes: 2 }],
            },
            Content::Order(Order::default()),
            Content::Other { kind: "payment".to_owned(), text: None },
            Content::Unsupported { reason: UnsupportedReason::ViewOnce },
        ]
    }

    #[test]
    fn every_type_is_read_back_and_shown_under_its_name() {
        for content in all() {
            let stored = serde_json::to_string(&content).expect("JSON");
            assert_eq!(serde_json::from_str::<Content>(&stored).expect("read"), content);
            assert_eq!(serde_json::to_value(&content).expect("JSON")["type"], content.name());
            assert!(content.object().is_object(), "{content:?}");
            assert!(!content.object().to_string().contains("VCARD"));
            let emptied = content.emptied();
            assert_eq!(emptied.name(), content.name());
            assert!(!serde_json::to_string(&emptied).expect("JSON").contains("legenda"));
        }
    }

    #[test]
    fn a_caption_is_replaced_where_there_is_one() {
        let mut image = Content::Image(Captioned::default());
        image.set_caption("nova");
        assert_eq!(image.object()["caption"], "nova");
        let mut text = Content::text();
        text.set_caption("nova");
        assert_eq!(text, Content::text());
    }
}
