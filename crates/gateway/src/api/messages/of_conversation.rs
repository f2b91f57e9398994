//! A page of the messages of a conversation, as the API shows it.

use recado_domain::conversation::ConversationMessages;

use super::{AnyMessage, Reactions};
use crate::api::error::ApiError;
use crate::gateway::Gateway;

/// The messages that were asked for, and the cursor of the next page. `channel_id` is the id of the channel as it is shown.
pub async fn page(
    gateway: &Gateway,
    channel_id: &str,
    asked: ConversationMessages,
) -> Result<(Vec<AnyMessage>, Option<String>), ApiError> {
    let page = gateway.store.conversation_messages(asked).await?.ok_or(ApiError::ConversationNotFound)?;
    let reactions = Reactions::to_items(gateway, asked.channel, &page.items).await?;
    let base = gateway.behaviour.media_base();
    let view = |item| -> Result<_, ApiError> { Ok(reactions.add_to_any(AnyMessage::new(item, channel_id, base)?)) };
    let messages = page.items.into_iter().map(view).collect::<Result<_, ApiError>>()?;
    Ok((messages, page.next.map(|place| place.to_string())))
}
