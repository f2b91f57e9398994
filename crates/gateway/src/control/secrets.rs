//! The rotation of the secret key.

use serde_json::{Value, json};

use crate::api::error::ApiError;
use crate::gateway::Gateway;
use crate::operations::secrets;

pub(super) async fn rotate(gateway: &Gateway) -> Result<Value, ApiError> {
    let done = secrets::rotate(gateway).await?;
    Ok(rotation(gateway, &done))
}

fn rotation(gateway: &Gateway, done: &secrets::Rotation) -> Value {
    let failed = done.failed.iter().map(|(place, error)| match place {
        secrets::Place::Channel(channel) => {
            let entry = gateway.directory.channel(*channel);
            json!({
                "institutionId": entry.as_ref().map(|entry| entry.via.institution),
                "channelId": entry.as_ref().map(|entry| &entry.via.id),
                "error": error.to_string(),
            })
        }
        secrets::Place::Webhook(webhook) => json!({"webhookId": webhook, "error": error.to_string()}),
    });
    json!({
        "keyId": done.key.to_string(), "sealedAnew": done.reencrypted, "already": done.already,
        "failed": failed.collect::<Vec<_>>(),
    })
}
