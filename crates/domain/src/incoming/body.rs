//! The part of a received message that is stored as one JSON document, because no query needs a single field of it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::content::DEPTH;
use super::text::{CONTENT_LIMIT, QUOTE_LIMIT, truncate};
use super::{Content, NewIncoming, SenderIds};
use crate::ids::{ContactId, MessageId, is_account};

/// The stored form of a received message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Body {
    pub content: Content,
    /// The text that a person reads.
    pub text: String,
    /// The sender's names when the message arrived. Empty if the channel sent it itself.
    #[serde(default)]
    pub sender: SenderIds,
    /// Digits of the channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<Quoted>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<String>,
    #[serde(default)]
    pub forwarded: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<Choice>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub referral: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<u32>,
}

/// The message that another one answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quoted {
    /// The id of our record; the store sets it.
    #[serde(default)]
    pub message_id: Option<MessageId>,
    pub network_id: String,
    /// Digits of its author.
    #[serde(default)]
    pub from: Option<String>,
    /// The contact of its author, by which an erasure finds the quote. The store sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<ContactId>,
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
    #[serde(default)]
    pub content: Option<String>,
}

impl Quoted {
    /// A quote of which only the id is known.
    pub fn of_id(network_id: impl Into<String>) -> Self {
        Self { message_id: None, network_id: network_id.into(), from: None, author: None, kind: None, content: None }
    }
}

/// The button or the entry of a list that a person chose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Choice {
    /// The message with the buttons, if it is ours; the store sets it.
    #[serde(default)]
    pub message_id: Option<MessageId>,
    /// The network id of that message.
    #[serde(default)]
    pub network_id: Option<String>,
    pub id: Option<String>,
    pub title: Option<String>,
    pub kind: ChoiceKind,
    pub matched_by: MatchedBy,
}

/// The kind of control that offered the choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ChoiceKind {
    Button,
    List,
    Template,
}

/// How the choice was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MatchedBy {
    Network,
    Number,
    Title,
}

/// The most people whom a message mentions.
const MENTIONS: usize = 256;

impl Body {
    /// The stored form of a message from this person.
    pub fn new(new: &NewIncoming, sender: SenderIds, number: Option<String>) -> Self {
        let (text, truncated) = truncate(&new.text, CONTENT_LIMIT);
        let mut content = new.content.clone();
        content.flatten();
        if truncated {
            content.mark_truncated();
        }
        let reply_to = new.reply_to.clone().map(|quoted| Quoted {
            content: quoted.content.map(|content| truncate(&content, QUOTE_LIMIT).0),
            ..quoted
        });
        Self {
            content,
            text,
            sender,
            number,
            reply_to,
            mentions: new.mentions.iter().filter(|digits| is_account(digits)).take(MENTIONS).cloned().collect(),
            forwarded: new.forwarded,
            choice: new.choice.clone(),
            referral: new.referral.clone().filter(|referral| !super::content::is_deep(referral, DEPTH)),
            expires_in_seconds: new.expires_in_seconds,
        }
    }

    /// With a new text or caption.
    pub fn edit(&mut self, content: &str) {
        let (text, truncated) = truncate(content, CONTENT_LIMIT);
        self.content.set_caption(&text);
        if truncated {
            self.content.mark_truncated();
        }
        self.text = text;
    }

    /// The stored form of a revoked message, without the content.
    pub fn empty(&mut self) {
        self.content = self.content.emptied();
        self.text = String::new();
        (self.reply_to, self.choice, self.referral) = (None, None, None);
        self.mentions.clear();
    }

    /// The stored form of a message whose content is not kept: ids stay.
    pub fn forget(&mut self) {
        (self.content, self.text, self.referral) = (self.content.emptied(), String::new(), None);
        if let Some(quoted) = &mut self.reply_to {
            quoted.content = None;
        }
        if let Some(choice) = &mut self.choice {
            choice.title = None;
        }
        self.mentions.clear();
    }
}
