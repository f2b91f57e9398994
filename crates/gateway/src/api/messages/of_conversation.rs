//! A page of the messages of a conversation, as the API shows it.

use recado_domain::conversation::ConversationMessages;

use super::{AnyMessage, Reactions};
use crate::api::error::ApiError;
use crate::api::pages::Page;
use crate::gateway::Gateway;

/// The messages that were asked for, and the cursor of the next page. `channel_id` is the id of the channel as it is shown.
pub async fn page(
    gateway: &Gateway,
    channel_id: &str,
    asked: ConversationMessages,
) -> Result<(Vec<AnyMessage>, Option<String>), ApiError> {
    let base = gateway.behaviour.media_base();
    let (mut page, mut next) = (Page::new(asked.limit), asked.after);
    while let Some(limit) = page.step() {
        let step = ConversationMessages { after: next, limit, ..asked };
        let read = gateway.store.conversation_messages(step).await?.ok_or(ApiError::ConversationNotFound)?;
        let reactions = Reactions::to_items(gateway, asked.channel, &read.items).await?;
        let is_empty = read.items.is_empty();
        for item in read.items {
            page.add(reactions.add_to_any(AnyMessage::new(item, channel_id, base)?));
        }
        next = read.next;
        if next.is_none() || is_empty {
            break;
        }
    }
    Ok((page.into_data(), next.map(|place| place.to_string())))
}
