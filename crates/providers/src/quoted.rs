//! The quoted message of another one, in its state when the other one is sent.

#[cfg(test)]
mod tests;

use recado_domain::channel::ChannelKey;
use recado_domain::kinds::Content;
use recado_domain::message::{ContactRendition, Stored, Target, is_scheduled};
use recado_domain::status::MessageStatus;
use recado_store::{Messages, StoreError};

use crate::SendOutcome;

/// A quoted message.
#[derive(Debug, Clone, PartialEq)]
pub struct Quoted {
    /// The network id when the other message was accepted: ours, or the network's own if it was known.
    pub network_id: String,
    /// The network's own id, if the network accepts none of ours and has named the message.
    pub remote_id: Option<String>,
    /// Whether the network has the message is unknown.
    pub is_unknown: bool,
    /// The content; `None` if the message was purged.
    pub content: Option<(Content, Option<ContactRendition>)>,
}

/// Why a message cannot quote another one.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QuoteError {
    /// The network never got the quoted message.
    #[error("the quoted message was not sent")]
    NotSent,
    /// The quoted message was not sent yet, or its id on the network is not known yet.
    #[error("the quoted message is not known to the network yet")]
    NotYet,
    /// The quoted message could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What was read of a quoted message. One that this version cannot read, such as one that a newer node wrote, counts as purged:
/// waiting for it would stop the channel for as long as the quoting message lives.
///
/// # Errors
///
/// The store does not answer.
pub fn readable<T>(read: Result<Option<T>, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Err(StoreError::Refused(reason)) => {
            tracing::warn!(error = reason, "quoted message not readable");
            Ok(None)
        }
        read => read,
    }
}

/// Reads the quoted message, which a call sent.
///
/// # Errors
///
/// The network certainly does not have it, or the store does not answer.
pub async fn read(
    messages: &(impl Messages + ?Sized),
    channel: ChannelKey,
    target: Target,
) -> Result<Quoted, QuoteError> {
    let Some(message) = readable(messages.message(channel, target.id).await)? else {
        return Ok(Quoted { network_id: target.network_id, remote_id: None, is_unknown: false, content: None });
    };
    match message.status {
        MessageStatus::Failed | MessageStatus::Expired | MessageStatus::Cancelled => return Err(QuoteError::NotSent),
        // It was scheduled for later than the quoting message.
        MessageStatus::Queued if is_scheduled(message.seq) => return Err(QuoteError::NotSent),
        // An earlier message of the same queue is sent first. If it is still queued, it was queued again.
        MessageStatus::Queued => return Err(QuoteError::NotYet),
        MessageStatus::Sending
        | MessageStatus::Sent
        | MessageStatus::Delivered
        | MessageStatus::Read
        | MessageStatus::Unknown => {}
    }
    let rendition = message.rendition.as_deref().and_then(ContactRendition::from_json);
    // A newer version stored the content in another form, so the quote shows nothing.
    let stored = serde_json::from_str::<Stored>(&message.payload).ok();
    Ok(Quoted {
        network_id: message.network_id,
        remote_id: message.remote_id,
        is_unknown: matches!(message.status, MessageStatus::Sending | MessageStatus::Unknown),
        content: stored.map(|stored| (stored.content, rendition)),
    })
}

impl QuoteError {
    /// The outcome for the quoting message, or the error of a store that does not answer.
    ///
    /// # Errors
    ///
    /// The store does not answer.
    pub fn outcome(self) -> Result<SendOutcome, StoreError> {
        let (code, message) = (crate::TARGET_NOT_SENT, "A mensagem citada nao foi enviada.".to_owned());
        match self {
            Self::NotSent => Ok(SendOutcome::PermanentFailure { code, message }),
            // It may be sent soon, or a receipt may soon name it.
            Self::NotYet => Ok(SendOutcome::TemporaryFailure { code, message }),
            Self::Store(error) => Err(error),
        }
    }
}
