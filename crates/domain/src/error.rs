//! The reasons for which an operation is refused. They are codes; the edge adds the status and the text for people.

use std::borrow::Cow;

use crate::field_errors::FieldErrors;

/// The reason for which an operation was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the codes of the API's contract")]
pub enum AppError {
    /// Fields of the call are invalid.
    #[error("invalid fields")]
    Validation(FieldErrors),
    #[error("no such channel")]
    ChannelNotFound,
    #[error("no such message")]
    MessageNotFound,
    #[error("no such API key")]
    ApiKeyNotFound,
    #[error("no such institution")]
    InstitutionNotFound,
    #[error("the channel is not connected")]
    ChannelNotConnected,
    #[error("the channel's id is in use")]
    ChannelExists,
    #[error("the sandbox cannot be deleted")]
    ChannelReserved,
    #[error("the institution has as many API keys as it may have")]
    TooManyKeys,
    #[error("the message cannot be cancelled any more")]
    MessageNotCancellable,
    #[error("the idempotency key was used with other content")]
    IdempotencyKeyReused,
    /// The number of seconds until another call may be made.
    #[error("too many calls; retry in {0} s")]
    RateLimited(u64),
    #[error("not implemented")]
    NotImplemented,
    #[error("this build has no WhatsApp Web")]
    WhatsAppWebMissing,
    #[error("the server has no secret key")]
    SecretKeyMissing,
    #[error("the channel's queue is full")]
    QueueFull,
    /// The store, the network or another node does not answer now.
    #[error("not available now")]
    Unavailable,
    /// A fault of Recado. The log has the details.
    #[error("internal error")]
    Internal,
}

impl AppError {
    /// An error of a single field.
    pub fn field(field: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::Validation(FieldErrors::one(field, message))
    }
}

impl From<FieldErrors> for AppError {
    fn from(errors: FieldErrors) -> Self {
        Self::Validation(errors)
    }
}
