//! Networks whose channels are linked by a person's phone: by a QR code, or by a code that is typed there.

use std::sync::Arc;

use async_trait::async_trait;
use recado_domain::account::KnownAccount;
use recado_domain::channel::{Actor, Channel, ChannelKey, Via};
use recado_domain::clock::Millis;
use recado_domain::error::AppError;
use recado_domain::phone::PhoneNumber;
use recado_store::StoreError;
use recado_store::lease::Waker;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Provider;

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

/// A network whose channels are linked by a person's phone.
#[async_trait]
pub trait Pairs: Provider {
    /// Names who is woken when a line comes up.
    fn start(&self, waker: Arc<dyn Waker>);

    /// Takes up a channel's line that was up when a server ended, or another node gave the channel away.
    async fn take_up(&self, via: &Via) -> Result<(), StoreError>;

    /// Puts all lines down when the server ends; the sessions stay.
    async fn stop(&self);

    /// Brings a channel's line up: with the session that it has, else by pairing. With a phone number, which is the
    /// account's own, the code is one to type on the phone. Does not wait for the phone.
    async fn connect(&self, channel: &Channel, phone: Option<&PhoneNumber>, by: Actor) -> Result<(), LineError>;

    /// How far the channel's linking has come.
    fn pairing(&self, channel: ChannelKey) -> watch::Receiver<Pairing>;

    /// Puts the line down, and keeps the session.
    async fn disconnect(&self, channel: ChannelKey);

    /// Whether a phone has linked the channel, so that its line comes up without a code.
    async fn is_linked(&self, via: &Via) -> bool;

    /// Parts a deleted channel from its line, at once: one that is made anew under the same key has another. Then ends the
    /// session, also on the phone if it can be told, in a task, which is returned.
    fn forget(&self, channel: ChannelKey) -> JoinHandle<()>;

    /// Why the channel's line is down; `None`: it is up.
    fn why_down(&self, channel: ChannelKey) -> Option<String>;

    /// The account behind a number: as it was found not long ago, else by asking the network.
    async fn look_up(&self, via: &Via, phone: &PhoneNumber) -> Result<KnownAccount, LineError>;
}
