//! Networks whose channels are linked by a person's phone: by a QR code, or by a code that is typed there.

use recado_domain::clock::Millis;
use recado_domain::error::AppError;
use recado_store::StoreError;

/// Why a channel is restricted that was paused, or down, meanwhile.
pub const RESTRICTED: &str = "O WhatsApp nao aceita conversas novas deste numero por enquanto.";

/// How far the linking of a channel has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Pairing {
    /// Nobody has asked for it.
    #[default]
    Idle,
    /// Asked for; the network has not given a code yet.
    Waiting,
    /// To be scanned with the phone.
    QrCode { code: String, expires_at: Millis },
    /// To be typed on the phone.
    PhoneCode { code: String, expires_at: Millis },
    /// The phone has linked the channel.
    Linked,
    /// It came to nothing, for this reason.
    Ended { reason: String },
}

impl Pairing {
    /// Whether nothing follows before somebody asks anew.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Idle | Self::Linked | Self::Ended { .. })
    }
}

/// Why a network of this kind did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LineError {
    /// The channel's line is not up.
    #[error("the line is down")]
    Down,
    /// The network did not answer in time, or with nonsense. Without its words, in which a number may stand.
    #[error("the network does not answer")]
    NoAnswer,
    /// Numbers were looked up too often; with the seconds to wait.
    #[error("too many numbers were looked up")]
    TooMany(u64),
    /// The channel was deleted meanwhile.
    #[error("the channel was deleted")]
    Gone,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<LineError> for AppError {
    fn from(error: LineError) -> Self {
        match error {
            LineError::Down => Self::ChannelNotConnected,
            LineError::NoAnswer => Self::Unavailable,
            LineError::Gone => Self::ChannelNotFound,
            LineError::TooMany(seconds) => Self::RateLimited(seconds),
            LineError::Store(error) => error.into(),
        }
    }
}
