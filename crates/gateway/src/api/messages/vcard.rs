//! `GET /v1/channels/{channelId}/messages/{messageId}/vcard`: the card, byte for byte as it is sent.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use super::get::find;
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::path::Ids;
use crate::gateway::Gateway;

/// Gives the card as a file.
pub async fn vcard(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::MessagesRead>,
    Ids([channel, id]): Ids<2>,
) -> Result<Response, ApiError> {
    let (_, message) = find(&gateway, &caller, &channel, &id).await?;
    // Named by the id: a person's name in a header would need escaping, and would stand in every proxy's log.
    let disposition = format!("attachment; filename=\"{}.vcf\"", message.id);
    let headers = [(CONTENT_TYPE, "text/vcard; charset=utf-8"), (CONTENT_DISPOSITION, &disposition)];
    Ok((headers, message.card).into_response())
}
