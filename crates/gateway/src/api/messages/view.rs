//! A message as the API shows it.

use recado_domain::message::{Content, GivenContact, Stored};
use recado_domain::status::MessageStatus;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::api::error::ApiError;
use crate::clock::rfc3339;
use crate::store::rows::Message;

/// A message with its fate.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageView {
    id: String,
    channel_id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    direction: &'static str,
    status: MessageStatus,
    /// As the caller wrote it.
    to: String,
    /// The account that it resolved to, once the network has named it.
    account: Option<String>,
    contact: GivenContact,
    card: CardView,
    network_id: String,
    attempts: u32,
    error: Option<ErrorView>,
    expires_at: String,
    #[serde(flatten, serialize_with = "timestamps")]
    reached: [Option<i64>; MessageStatus::ALL.len()],
}

/// Which account stands in the card's `waid`, and whether the network named it.
#[derive(Serialize)]
struct CardView {
    waid: String,
    source: &'static str,
}

#[derive(Serialize)]
struct ErrorView {
    code: String,
    message: String,
}

impl MessageView {
    /// Shows a message of the channel with this id.
    pub fn new(message: Message, channel_id: &str) -> Result<Self, ApiError> {
        let stored: Stored = serde_json::from_str(&message.payload).map_err(|error| {
            tracing::error!(message.id = %message.id, %error, "a stored message cannot be read");
            ApiError::Internal
        })?;
        let Content::Contact { contact } = stored.content;
        let source = if message.card_account.known { "NETWORK" } else { "TYPED" };
        Ok(Self {
            id: message.id.to_string(),
            channel_id: channel_id.to_owned(),
            kind: "contact",
            direction: "OUTBOUND",
            status: message.status,
            to: stored.to,
            account: message.account,
            contact,
            card: CardView { waid: message.card_account.digits, source },
            network_id: message.network_id,
            attempts: message.attempts,
            error: message.error.map(|(code, message)| ErrorView { code, message }),
            expires_at: rfc3339(message.expires_at),
            reached: message.reached,
        })
    }
}

/// One field a state, `queuedAt` to `cancelledAt`; `null` where the state was not reached.
fn timestamps<S: Serializer>(
    reached: &[Option<i64>; MessageStatus::ALL.len()],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(reached.len()))?;
    for (status, at) in MessageStatus::ALL.into_iter().zip(reached) {
        map.serialize_entry(&format!("{}At", status.name().to_lowercase()), &at.map(rfc3339))?;
    }
    map.end()
}
