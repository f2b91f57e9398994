//! The statuses of a callback, as receipts of the channels' messages.

use recado_domain::channel::ChannelKey;
use recado_domain::queue::{MessageRef, Receipt};
use recado_domain::status::MessageStatus;
use recado_providers::cloud_api::Link;
use recado_providers::cloud_api::callback::{Stage, Status};
use recado_providers::cloud_api::errors::ErrorClass;

use super::Address;
use crate::api::error::ApiError;

/// The receipts of these statuses, for the channels whose app signed them; at most so many.
pub(super) fn of(address: &Address, app: &Link, statuses: &[Status], most: usize) -> Result<Vec<Receipt>, ApiError> {
    let mut receipts = Vec::new();
    for status in statuses {
        // Other data is from a message of another program.
        let Ok(ours) = status.opaque.as_deref().map(str::parse).transpose() else { continue };
        let of = MessageRef::RemoteId { remote_id: status.remote_id.clone(), ours };
        let channels = address.of_number(&status.phone_number_id).into_iter();
        let own = channels.filter(|(_, link)| link.is_of_the_app_of(app));
        receipts.extend(own.map(|(channel, _)| receipt(channel, of.clone(), status)));
        if receipts.len() > most {
            return Err(ApiError::PayloadTooLarge);
        }
    }
    Ok(receipts)
}

fn receipt(channel: ChannelKey, of: MessageRef, status: &Status) -> Receipt {
    let refusal = status.refusal.as_ref();
    let pauses = refusal.filter(|refusal| refusal.class == ErrorClass::PauseChannel);
    Receipt {
        channel,
        of,
        status: match status.stage {
            Stage::Sent => MessageStatus::Sent,
            Stage::Delivered => MessageStatus::Delivered,
            Stage::Read => MessageStatus::Read,
            Stage::Failed => MessageStatus::Failed,
        },
        at: status.at,
        // Meta signs its callbacks, so the network reports them.
        from: None,
        account: status.recipient_id.clone(),
        error: refusal.map(|refusal| (refusal.name.to_owned(), refusal.text.clone())),
        pauses: pauses.map(|refusal| refusal.text.clone()),
        pricing: status.pricing.clone(),
    }
}
