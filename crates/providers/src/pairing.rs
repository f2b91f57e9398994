//! Networks whose channels a person's phone links, by a QR code or by a code that is typed on the phone.

use recado_domain::clock::Millis;
use recado_domain::error::AppError;
use recado_store::StoreError;

/// The reason of a restricted channel that was paused or disconnected meanwhile.
pub const RESTRICTED: &str = "O WhatsApp nao aceita conversas novas deste numero por enquanto.";

/// The progress of linking a channel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Pairing {
    /// No caller has requested it.
    #[default]
    Idle,
    /// Requested; the network has not sent a code yet.
    Waiting,
    /// A code to scan with the phone.
    QrCode { code: String, expires_at: Millis },
    /// A code to type on the phone.
    PhoneCode { code: String, expires_at: Millis },
    /// The phone has linked the channel.
    Linked,
    /// The linking failed, for this reason.
    Ended { reason: String },
}

impl Pairing {
    /// Whether the progress does not change before the next request.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Idle | Self::Linked | Self::Ended { .. })
    }
}

/// Why a network of this kind did not answer a request.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectionError {
    /// The channel's session is disconnected.
    #[error("the session is disconnected")]
    Down,
    /// The network did not answer in time, or sent nonsense. Its text is omitted, because it may contain a number.
    #[error("the network does not answer")]
    NoAnswer,
    /// Too many numbers were looked up. The value is the number of seconds to wait.
    #[error("too many numbers were looked up")]
    TooMany(u64),
    /// The channel was deleted meanwhile.
    #[error("the channel was deleted")]
    Gone,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ConnectionError> for AppError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::Down => Self::ChannelNotConnected,
            ConnectionError::NoAnswer => Self::Unavailable,
            ConnectionError::Gone => Self::ChannelNotFound,
            ConnectionError::TooMany(seconds) => Self::RateLimited(seconds),
            ConnectionError::Store(error) => error.into(),
        }
    }
}
