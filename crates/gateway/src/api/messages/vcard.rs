//! `GET /v1/channels/{channelId}/messages/{messageId}/vcard`: the card as a file.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use recado_domain::api_key::Scope;
use recado_domain::conversation::InboxItem;
use recado_domain::incoming::{Content, Incoming};
use recado_domain::kinds::contact;
use recado_domain::message::ContactRendition;
use serde_json::json;

use super::get::find;
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::openapi::Operation;
use crate::api::path::Ids;
use crate::gateway::Gateway;

const TYPE: &str = "text/vcard; charset=utf-8";

/// Returns the contact as a vCard file.
pub async fn vcard(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::MessagesRead>,
    Ids([channel, id]): Ids<2>,
) -> Result<Response, ApiError> {
    let (_, message) = find(&gateway, &caller, &channel, &id).await?;
    let (id, cards) = match &message {
        InboxItem::Sent(message) => {
            let rendition = message.rendition.as_deref().and_then(ContactRendition::from_json);
            (message.id, rendition.map(|rendition| rendition.text()))
        }
        InboxItem::Incoming(message) => (message.id, received(message)),
    };
    // The file is named by the message's id: a person's name in a header would need escaping, and proxies would log it.
    let disposition = format!("attachment; filename=\"{id}.vcf\"");
    let headers = [(CONTENT_TYPE, TYPE), (CONTENT_DISPOSITION, &disposition)];
    // A message that is no contact has no card.
    let cards = cards.ok_or(ApiError::CardNotFound)?;
    Ok((headers, contact::file(&cards)).into_response())
}

/// The cards of a received message, as the network delivered them.
fn received(message: &Incoming) -> Option<String> {
    match &message.body.content {
        Content::Contact { vcards, .. } if !vcards.is_empty() => Some(vcards.join("\n")),
        _ => None,
    }
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    let example = "BEGIN:VCARD\r\nVERSION:3.0\r\nN:;Maria Silva - Suporte;;;\r\nFN:Maria Silva - Suporte\r\n\
                   TEL;type=CELL;type=VOICE;waid=5511988887777:+5511988887777\r\nEND:VCARD\r\n";
    operation
        .named("Messages", "getMessageCard", "Get a message's card as a file")
        .about(
            "vCard 3.0 as it is sent, but as a file: each line ends with CR and LF. Of a received message the cards as \
             the network delivered them.",
        )
        .needs(Scope::MessagesRead)
        .answers_with(200, "The card.", json!({TYPE: {"schema": {"type": "string"}, "example": example}}))
        .required_header(200, "Content-Disposition", "Names a file after the message's id.", json!({"type": "string"}))
        .refuses([ApiError::ChannelNotFound, ApiError::MessageNotFound, ApiError::CardNotFound, ApiError::Unavailable])
}
