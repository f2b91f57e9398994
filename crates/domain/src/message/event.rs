//! The events of a message: each records a change of its state, without personal data of the recipient.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

use serde::{Deserialize, Serialize};

use crate::channel::ChannelKey;
use crate::clock::Millis;
use crate::message::Seq;
use crate::status::MessageStatus;

/// A change of a message's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageEvent {
    pub channel: ChannelKey,
    pub message: Seq,
    pub at: Millis,
    pub what: StatusChange,
}

/// What the network said of the price of a message.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pricing {
    pub billable: Option<bool>,
    pub model: Option<String>,
    pub category: Option<String>,
}

/// The content of an event of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusChange {
    /// `None`: the message was accepted.
    pub from: Option<MessageStatus>,
    pub to: MessageStatus,
    /// The code of the error, if there was one. The text is stored only with the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The price, if the network reported it with this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pricing: Option<Pricing>,
}

impl StatusChange {
    /// The event of an accepted message.
    pub const ACCEPTED: Self = Self { from: None, to: MessageStatus::Queued, error: None, pricing: None };

    /// The kind of the event, named after the state that the message has after it.
    pub fn kind(&self) -> &'static str {
        match self.to {
            MessageStatus::Queued => "message.queued",
            MessageStatus::Sending => "message.sending",
            MessageStatus::Sent => "message.sent",
            MessageStatus::Delivered => "message.delivered",
            MessageStatus::Unknown => "message.unknown",
            MessageStatus::Read => "message.read",
            MessageStatus::Failed => "message.failed",
            MessageStatus::Expired => "message.expired",
            MessageStatus::Cancelled => "message.cancelled",
        }
    }

    /// The stored form, as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads the stored form; `None` if a newer version wrote another form.
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_event_is_parsed_back() {
        let error = Some("131026".to_owned());
        let failed =
            StatusChange { from: Some(MessageStatus::Sending), to: MessageStatus::Failed, error, pricing: None };
        let pricing = Pricing { billable: Some(true), model: Some("PMP".to_owned()), category: None };
        let read = StatusChange { to: MessageStatus::Read, pricing: Some(pricing), ..StatusChange::ACCEPTED };
        for what in [StatusChange::ACCEPTED, failed.clone(), read] {
            assert_eq!(StatusChange::from_json(&what.to_json()), Some(what));
        }
        assert_eq!(failed.to_json(), r#"{"from":"SENDING","to":"FAILED","error":"131026"}"#);
        assert_eq!(StatusChange::ACCEPTED.to_json(), r#"{"from":null,"to":"QUEUED"}"#);
        assert_eq!(StatusChange::from_json(r#"{"from":"NEW","to":"QUEUED"}"#), None);
    }

    #[test]
    fn an_event_is_named_by_the_state_that_follows() {
        for to in MessageStatus::ALL {
            let kind = StatusChange { from: None, to, error: None, pricing: None }.kind();
            assert_eq!(kind, format!("message.{}", to.name().to_lowercase()));
        }
    }
}
