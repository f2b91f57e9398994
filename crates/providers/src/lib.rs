//! The driver of each network, and the registry of drivers.

pub mod arrivals;
pub mod cloud_api;
pub mod counted;
mod driver;
pub mod media;
pub mod outbound;
pub mod pairing;
pub mod quoted;
pub mod refused;
pub mod sandbox;
pub mod transients;
#[cfg(feature = "whatsapp-web")]
pub mod whatsapp_web;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use recado_domain::channel::{Channel, ChannelRef, ChannelType, Link};
use recado_domain::clock::Millis;
use recado_domain::error::AppError;
use recado_domain::ids::{ChannelId, NetworkId};

pub use driver::{ChannelDriver, Connect, Connected, Context, Given};

/// The outcome of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendOutcome {
    /// The network acknowledged the message. `account` is the recipient as the network knows it. `remote_id` is the network's
    /// id of the message, if the network accepts no id of ours. `rendition` is the sent rendition, if it differs from the
    /// stored one.
    Accepted { account: Option<String>, remote_id: Option<NetworkId>, rendition: Option<String> },
    /// The network refused the message for good.
    PermanentFailure { code: &'static str, message: String },
    /// The network refused the message for now. The cause concerns this message alone.
    TemporaryFailure { code: &'static str, message: String },
    /// The network accepts nothing more for this recipient for now. Other recipients are not affected.
    RecipientThrottled,
    /// Nothing was sent, because the keys or devices of this recipient could not be fetched. If other recipients fail in the
    /// same way, the cause is the channel, otherwise the recipient.
    NotSent,
    /// Nothing can be sent on this channel for this time. No message is the cause.
    ChannelUnavailable { wait: Duration },
    /// The network throttles the channel, and does not say for how long.
    ChannelThrottled,
    /// The network accepts nothing from this channel until a person acts. `reason` says what the person has to do.
    ChannelDisabled { reason: String },
    /// The network lets this channel open no chats until this time. `reason` is a text for people.
    NewChatBlocked { until: Millis, reason: String },
    /// The connection broke before the answer. The message is sent again as soon as the connection is back.
    ConnectionLost,
    /// The message was submitted, and no answer came.
    UnknownOutcome,
}

impl SendOutcome {
    /// Whether the outcome proves that the network answers. A refusal that was decided without the network proves nothing.
    pub fn is_an_answer(&self) -> bool {
        match self {
            Self::Accepted { .. }
            | Self::RecipientThrottled
            | Self::ChannelDisabled { .. }
            | Self::NewChatBlocked { .. } => true,
            Self::PermanentFailure { code, .. } | Self::TemporaryFailure { code, .. } => {
                !matches!(*code, NOT_ON_WHATSAPP | UNREADABLE | TARGET_NOT_SENT)
            }
            Self::NotSent
            | Self::ChannelUnavailable { .. }
            | Self::ChannelThrottled
            | Self::ConnectionLost
            | Self::UnknownOutcome => false,
        }
    }
}

/// What became of a read signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOutcome {
    /// The network accepted the signal.
    Sent,
    /// The network could not be reached now.
    Later,
    /// The network does not accept it.
    Refused,
}

/// The code of a message whose recipient has no account. The network reported that now, or in an earlier look-up.
pub const NOT_ON_WHATSAPP: &str = "NUMBER_NOT_ON_WHATSAPP";
/// The code of a message that a newer version stored in another form.
pub const UNREADABLE: &str = "UNREADABLE_MESSAGE";
/// The code of a message that quotes a message that the network never got.
pub const TARGET_NOT_SENT: &str = "TARGET_NOT_SENT";

/// The right to one send; released when dropped. Most networks need none.
pub type Slot = Option<cloud_api::Slot>;

/// The driver of each channel type.
pub struct Drivers {
    sandbox: Arc<sandbox::Sandbox>,
    cloud_api: Option<Arc<cloud_api::CloudApi>>,
    of_types: HashMap<ChannelType, Arc<dyn ChannelDriver>>,
}

impl Drivers {
    /// Only the simulated network.
    pub fn new(sandbox: Arc<sandbox::Sandbox>) -> Self {
        let of_types = HashMap::default();
        Self { sandbox: sandbox.clone(), cloud_api: None, of_types }.with(ChannelType::Sandbox, sandbox)
    }

    /// Adds Meta's Cloud API.
    #[must_use]
    pub fn with_cloud_api(self, cloud_api: Arc<cloud_api::CloudApi>) -> Self {
        Self { cloud_api: Some(cloud_api.clone()), ..self }.with(ChannelType::CloudApi, cloud_api)
    }

    /// Adds WhatsApp Web.
    #[cfg(feature = "whatsapp-web")]
    #[must_use]
    pub fn with_whatsapp_web(self, whatsapp_web: Arc<whatsapp_web::WhatsAppWeb>) -> Self {
        self.with(ChannelType::WhatsAppWeb, whatsapp_web)
    }

    /// Adds this driver for channels of this type.
    #[must_use]
    pub fn with(mut self, kind: ChannelType, driver: Arc<dyn ChannelDriver>) -> Self {
        self.of_types.insert(kind, driver);
        self
    }

    /// The driver of a type; `None` if this build has none.
    pub fn of(&self, kind: ChannelType) -> Option<Arc<dyn ChannelDriver>> {
        self.of_types.get(&kind).cloned()
    }

    /// The same, or the error for channels of the type.
    pub fn get(&self, kind: ChannelType) -> Result<Arc<dyn ChannelDriver>, AppError> {
        self.of(kind).ok_or_else(kind.descriptor().missing)
    }

    /// All drivers of this build.
    pub fn all(&self) -> impl Iterator<Item = (ChannelType, &Arc<dyn ChannelDriver>)> {
        ChannelType::ALL.into_iter().filter_map(|kind| Some((kind, self.of_types.get(&kind)?)))
    }

    /// Replaces the credentials of these channels by the stored ones.
    pub fn reload(&self, channels: &[Channel], rows: &[Link]) {
        for (kind, driver) in self.all() {
            let own: Vec<_> = channels.iter().filter(|one| one.kind == kind).map(ChannelRef::from).collect();
            driver.reload(&own, rows);
        }
    }

    /// Meta's Cloud API, for its callbacks. Only tests run without it.
    pub fn cloud_api(&self) -> Option<&Arc<cloud_api::CloudApi>> {
        self.cloud_api.as_ref()
    }

    /// The simulated network, for its inbox.
    pub fn sandbox(&self) -> &Arc<sandbox::Sandbox> {
        &self.sandbox
    }
}

/// Logs that this node has another secret key than the one that encrypted a channel's secrets.
pub fn log_foreign_key(channel: &ChannelId, error: &dyn std::error::Error) {
    tracing::error!(channel.id = %channel, %error, "channel credentials not readable; every node needs the same secret key");
}
