//! What stands behind a channel: the networks, and what the dispatcher needs to know of each.

pub mod cloud_api;
pub mod outbound;
pub mod pairing;
pub mod sandbox;
#[cfg(feature = "whatsapp-web")]
pub mod whatsapp_web;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use recado_domain::channel::{ChannelSettings, ChannelType, Via};
use recado_domain::clock::Millis;
use recado_domain::ids::NetworkId;
use recado_domain::pacing::{Pacing, RecipientPacing};
use recado_domain::phone::PhoneNumber;
use recado_domain::queue::{Claimed, Unanswered};

/// What became of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendOutcome {
    /// The network acknowledged it. The account is the recipient as the network knows it, the remote id the message as
    /// the network calls it, where it takes no id of ours.
    /// The rendition is what was sent, where it is not the one that the message has.
    Accepted { account: Option<String>, remote_id: Option<NetworkId>, rendition: Option<String> },
    /// The network refused it for good.
    Rejected { code: &'static str, message: String },
    /// The network refused it for now; the trouble is this message's own.
    TryAgain { code: &'static str, message: String },
    /// The network takes nothing more for this recipient for now; others are as good as ever.
    RecipientBusy,
    /// Nothing was sent: what it takes to write to this recipient could not be had. It is the recipient's own trouble, unless
    /// it is the same with others.
    NotSent,
    /// Nothing can be sent on this channel for that long; this message is as good as any.
    ChannelTrouble { wait: Duration },
    /// The same, and nobody says for how long.
    ChannelBusy,
    /// The network takes nothing from this channel until a person has done something: what, in words for them.
    ChannelRefused { reason: String },
    /// The network lets this channel open no chats, with this recipient or others, until then: why, in words for people.
    ChatRefused { until: Millis, reason: String },
    /// The line broke before the answer: it is sent again as soon as it can.
    Interrupted,
    /// It was handed over, and no answer came.
    NoAnswer,
}

impl SendOutcome {
    /// Whether it shows that the network answers. What was refused by what is known here already does not.
    pub fn is_an_answer(&self) -> bool {
        match self {
            Self::Accepted { .. }
            | Self::TryAgain { .. }
            | Self::RecipientBusy
            | Self::ChannelRefused { .. }
            | Self::ChatRefused { .. } => true,
            Self::Rejected { code, .. } => !matches!(*code, NOT_ON_WHATSAPP | UNREADABLE),
            Self::NotSent | Self::ChannelTrouble { .. } | Self::ChannelBusy | Self::Interrupted | Self::NoAnswer => {
                false
            }
        }
    }
}

/// The code of a message whose recipient has no account, as the network said, perhaps long ago.
pub const NOT_ON_WHATSAPP: &str = "NUMBER_NOT_ON_WHATSAPP";
/// The code of a message that a newer version stored in another form.
pub const UNREADABLE: &str = "UNREADABLE_MESSAGE";

/// The right to one send, given back when dropped; most networks have no need of one.
pub type Slot = Option<cloud_api::Slot>;

/// A network.
#[async_trait]
pub trait Provider: Send + Sync {
    /// How many messages of one channel may be on their way at once.
    fn max_in_flight(&self, settings: &ChannelSettings) -> usize;

    /// The rest of a channel between two sends.
    fn pacing(&self, settings: &ChannelSettings) -> Pacing;

    /// How often one recipient of a channel is written to.
    fn recipient_pacing(&self) -> Option<RecipientPacing> {
        None
    }

    /// Rights to sends, up to that many, as soon as there is one. They are taken before messages are claimed: to wait for
    /// our own turn is no attempt, and no trouble of the network.
    async fn slots(&self, _: &Via, most: usize) -> Vec<Slot> {
        std::iter::repeat_with(|| None).take(most).collect()
    }

    /// What becomes of a message whose answer was lost.
    fn unanswered(&self, settings: &ChannelSettings) -> Unanswered;

    /// Whether a message that had no answer at its last try has failed. On a real network nobody can know: it is
    /// `UNKNOWN`.
    fn silence_is_failure(&self) -> bool {
        false
    }

    /// The account behind a number, when it is known without asking the network.
    async fn known_account(&self, via: &Via, phone: &PhoneNumber) -> Option<String>;

    /// Hands a message over. Ends by itself in bounded time.
    async fn send(&self, via: &Via, message: &Claimed) -> SendOutcome;
}

/// The provider of each channel type.
pub struct Providers {
    sandbox: Arc<sandbox::Sandbox>,
    cloud_api: Option<Arc<cloud_api::CloudApi>>,
    whatsapp_web: Option<Arc<dyn pairing::Pairs>>,
    by_type: HashMap<ChannelType, Arc<dyn Provider>>,
}

impl Providers {
    /// The simulated network alone.
    pub fn new(sandbox: Arc<sandbox::Sandbox>) -> Self {
        let by_type = HashMap::default();
        Self { sandbox: sandbox.clone(), cloud_api: None, whatsapp_web: None, by_type }
            .with(ChannelType::Sandbox, sandbox)
    }

    /// And Meta's Cloud API.
    #[must_use]
    pub fn with_cloud_api(self, cloud_api: Arc<cloud_api::CloudApi>) -> Self {
        Self { cloud_api: Some(cloud_api.clone()), ..self }.with(ChannelType::CloudApi, cloud_api)
    }

    /// And WhatsApp Web.
    #[must_use]
    pub fn with_whatsapp_web<P: pairing::Pairs + 'static>(self, whatsapp_web: Arc<P>) -> Self {
        Self { whatsapp_web: Some(whatsapp_web.clone()), ..self }.with(ChannelType::WhatsAppWeb, whatsapp_web)
    }

    /// And this one for channels of that type.
    #[must_use]
    pub fn with(mut self, kind: ChannelType, provider: Arc<dyn Provider>) -> Self {
        self.by_type.insert(kind, provider);
        self
    }

    /// The provider of a type; `None` where this build has none.
    pub fn of(&self, kind: ChannelType) -> Option<Arc<dyn Provider>> {
        self.by_type.get(&kind).cloned()
    }

    /// Meta's Cloud API; only tests go without.
    pub fn cloud_api(&self) -> Option<&Arc<cloud_api::CloudApi>> {
        self.cloud_api.as_ref()
    }

    /// WhatsApp Web, where this build has it.
    pub fn whatsapp_web(&self) -> Option<&Arc<dyn pairing::Pairs>> {
        self.whatsapp_web.as_ref()
    }

    /// The simulated network.
    pub fn sandbox(&self) -> &Arc<sandbox::Sandbox> {
        &self.sandbox
    }
}
