//! `GET /v1/channels/{channelId}/accounts/{phone}`: whether a number is on WhatsApp, and as which account.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::phone::{BAD_PHONE, PhoneNumber};
use recado_store::clock::rfc3339;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Data};
use crate::api::openapi::Operation;
use crate::api::openapi::schemas::{Digits, Time};
use crate::api::path::Ids;
use crate::gateway::Gateway;

/// The account of a number, as the network reports it.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Account")]
struct AccountView {
    /// The queried number.
    #[schemars(with = "Digits")]
    phone: String,
    on_whatsapp: bool,
    /// The account as the network names it: in Brazil often without the ninth digit.
    #[schemars(with = "Option<Digits>")]
    account: Option<String>,
    /// When the network was queried.
    #[schemars(with = "Time")]
    checked_at: String,
}

/// Looks a number up.
pub async fn get(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::MessagesSend>,
    Ids([channel, phone]): Ids<2>,
) -> Result<Response, ApiError> {
    let phone = PhoneNumber::parse(phone.trim(), gateway.country(caller.institution));
    let phone = phone.map_err(|fault| ApiError::field("phone", fault.text(BAD_PHONE)))?;
    let entry = caller.channel(&gateway, &channel)?;
    let found = gateway.drivers.get(entry.kind)?.look_up(&entry.via, &phone).await?;
    let data = AccountView {
        phone: phone.digits().to_owned(),
        on_whatsapp: found.account.is_some(),
        account: found.account,
        checked_at: rfc3339(found.checked_at),
    };
    Ok(json::answer(StatusCode::OK, &Data { data }))
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    let example = json!({
        "phone": "5511999998888", "onWhatsapp": true, "account": "5511999998888",
        "checkedAt": "2026-11-23T12:27:01.739Z",
    });
    operation
        .named("Channels", "getAccount", "Look a number up")
        .about(
            "For channels of type `WHATSAPP_BAILEYS` and `SANDBOX`. The answer is kept: for 30 days where there is an account, for \
             one where there is none. The network is asked again at once where an account turns out to have no device, or \
             WhatsApp answers 404 to a message, and after a day where a message stays `SENT`. WhatsApp takes many questions \
             for abuse, so that a channel asks 30 a minute at most; more are a 429.",
        )
        .needs(Scope::MessagesSend)
        .answers::<Data<AccountView>>(200, "What the network says.", json!({"data": example}))
        .refuses([
            ApiError::field("phone", BAD_PHONE),
            ApiError::ChannelNotFound,
            ApiError::ChannelNotConnected,
            ApiError::NotImplemented,
            ApiError::WhatsAppWebMissing,
            ApiError::Unavailable,
        ])
}
