//! What stands behind a channel: the networks, and what the dispatcher needs to know of each.

pub mod sandbox;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use recado_domain::channel::ChannelType;
use recado_domain::ids::{ChannelId, InstitutionId};
use recado_domain::pacing::Pacing;
use recado_domain::phone::PhoneNumber;

use crate::store::rows::{ChannelKey, Claimed, Ordering};

/// The channel that a message leaves by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Via {
    pub key: ChannelKey,
    pub institution: InstitutionId,
    pub id: ChannelId,
}

/// What became of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendOutcome {
    /// The network acknowledged it. The account is the recipient as the network knows it.
    Accepted { account: Option<String> },
    /// The network refused it for good.
    Rejected { code: &'static str, message: String },
    /// The network refused it for now; the trouble is this message's own.
    TryAgain { code: &'static str, message: String },
    /// Nothing can be sent on this channel for that long; this message is as good as any.
    ChannelTrouble { wait: Duration },
    /// It was handed over, and no answer came.
    NoAnswer,
}

/// A network.
#[async_trait]
pub trait Provider: Send + Sync {
    /// What may be sent side by side.
    fn ordering(&self) -> Ordering;

    /// How many messages of one channel may be on their way at once.
    fn max_in_flight(&self) -> usize;

    /// The rest of a channel between two sends.
    fn pacing(&self) -> Pacing;

    /// Whether the network takes our network id, so that it recognises a re-send and shows it once.
    fn recognises_resends(&self) -> bool;

    /// The account behind a number, when it is known without asking the network.
    fn known_account(&self, phone: &PhoneNumber) -> Option<String>;

    /// Hands a message over. Ends by itself in bounded time.
    async fn send(&self, via: &Via, message: &Claimed) -> SendOutcome;
}

/// The provider of each channel type.
pub struct Providers {
    sandbox: Arc<sandbox::Sandbox>,
    by_type: HashMap<ChannelType, Arc<dyn Provider>>,
}

impl Providers {
    /// The simulated network alone.
    pub fn new(sandbox: Arc<sandbox::Sandbox>) -> Self {
        let by_type = HashMap::default();
        Self { sandbox: sandbox.clone(), by_type }.with(ChannelType::Sandbox, sandbox)
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

    /// The simulated network.
    pub fn sandbox(&self) -> &Arc<sandbox::Sandbox> {
        &self.sandbox
    }
}
