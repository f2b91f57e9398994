//! Reactions to messages that calls sent.

use std::collections::HashMap;

use recado_domain::channel::ChannelKey;
use recado_domain::conversation::InboxItem;
use recado_domain::message::Message;
use recado_store::{StoreError, views};
use serde_json::Value;

use super::received::AnyMessage;
use super::view::MessageView;
use crate::gateway::Gateway;

/// The reactions to some messages of a channel, by the network ids of the messages.
pub struct Reactions(HashMap<String, Vec<Value>>);

impl Reactions {
    /// The reactions to these messages.
    pub async fn to<'a>(
        gateway: &Gateway,
        channel: ChannelKey,
        messages: impl IntoIterator<Item = &'a Message>,
    ) -> Result<Self, StoreError> {
        let ids: Vec<_> = messages.into_iter().map(network_id).collect();
        if ids.is_empty() {
            return Ok(Self(HashMap::new()));
        }
        let mut found: HashMap<_, Vec<_>> = HashMap::new();
        for (id, reaction) in gateway.store.reactions(channel, ids).await? {
            if let Some(view) = views::reaction(&reaction) {
                found.entry(id).or_default().push(serde_json::to_value(view).unwrap_or_default());
            }
        }
        Ok(Self(found))
    }

    /// The reactions to those of these messages that calls sent. Received messages have theirs.
    pub async fn to_items(gateway: &Gateway, channel: ChannelKey, items: &[InboxItem]) -> Result<Self, StoreError> {
        let sent: Vec<_> = items
            .iter()
            .filter_map(|item| match item {
                InboxItem::Sent(message) => Some(&**message),
                InboxItem::Incoming(_) => None,
            })
            .collect();
        Self::to(gateway, channel, sent).await
    }

    /// The message with its reactions.
    pub fn add_to(&self, message: MessageView) -> MessageView {
        let own = self.0.get(message.network_id()).cloned();
        message.with_reactions(own.unwrap_or_default())
    }

    /// The same for a message in either direction.
    pub fn add_to_any(&self, message: AnyMessage) -> AnyMessage {
        match message {
            AnyMessage::Sent(message) => AnyMessage::Sent(Box::new(self.add_to(*message))),
            received @ AnyMessage::Received(_) => received,
        }
    }
}

/// The id under which the network knows the message.
fn network_id(message: &Message) -> String {
    message.remote_id.as_ref().unwrap_or(&message.network_id).clone()
}
