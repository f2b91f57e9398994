//! The 202 answer: the message is stored.

use axum::http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use recado_domain::ids::MessageId;
use schemars::JsonSchema;
use serde::Serialize;

use super::Request;
use crate::api::error::ApiError;
use crate::api::json::JSON;
use crate::api::messages::view::MessageView;
use crate::directory::ChannelEntry;
use crate::gateway::Gateway;

/// The body of a 202: exactly these bytes.
const ACCEPTED: &str = r#"{"success":true,"message":"Mensagem enfileirada para envio"}"#;
/// The text in this body.
pub const ACCEPTED_TEXT: &str = "Mensagem enfileirada para envio";

/// The message is stored.
#[derive(Serialize, JsonSchema)]
pub struct Accepted {
    #[schemars(extend("const" = true))]
    success: bool,
    #[schemars(extend("const" = ACCEPTED_TEXT))]
    message: &'static str,
    /// Only with `Prefer: return=representation`.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<MessageView>,
}

pub async fn accepted(
    gateway: &Gateway,
    entry: &ChannelEntry,
    channel: &str,
    request: &Request,
    id: MessageId,
    replayed: bool,
) -> Result<Response, ApiError> {
    let mut body = ACCEPTED.to_owned();
    let mut headers = HeaderMap::with_capacity(8);
    // `Prefer` is best effort: the message is already stored, so a failed read must not fail the request.
    if request.options.message
        && let Ok(Some(message)) = gateway.store.message(entry.via.key, id).await
    {
        let data = Some(MessageView::new(message, entry.via.id.as_str())?);
        let full = Accepted { success: true, message: ACCEPTED_TEXT, data };
        body = serde_json::to_string(&full).map_err(|_| ApiError::Internal)?;
        headers.insert("preference-applied", HeaderValue::from_static("return=representation"));
    }
    let id = id.to_string();
    // Ids of channels and messages are ASCII.
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| ApiError::Internal);
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(LOCATION, value(&format!("/v1/channels/{channel}/messages/{id}"))?);
    headers.insert("x-message-id", value(&id)?);
    if replayed {
        headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    if !request.call.ignored.is_empty() {
        headers.insert("x-ignored-fields", value(&ignored_fields(&request.call.ignored))?);
    }
    Ok((StatusCode::ACCEPTED, headers, body).into_response())
}

/// Field names for a header: percent-encoded, and cut with `...` because a hostile body can have any number of them.
fn ignored_fields(names: &[String]) -> String {
    const LONGEST: usize = 1_024;
    let mut list = String::new();
    for name in names {
        let separator = if list.is_empty() { "" } else { ", " };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let encoded =
            name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") });
        let encoded = encoded.take(LONGEST).collect::<String>();
        if list.len() + encoded.len() > LONGEST {
            list += &format!("{separator}...");
            break;
        }
        list += &format!("{separator}{encoded}");
    }
    list
}
