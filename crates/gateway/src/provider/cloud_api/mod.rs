//! WhatsApp by Meta's Cloud API: everything that knows Meta's protocol.
//!
//! | File | |
//! |---|---|
//! | `link` | what a channel needs: a number's ids, its tokens |
//! | `client` | the calls: check a number, send a message |
//! | `body` | a stored message as Graph takes it |
//! | `answer` | what Graph says |
//! | `errors` | what its error codes mean, in one table |
//! | `callback` | what Meta calls us with: statuses of messages |
//!
//! Sources: Meta's OpenAPI file (`business-messaging-api_v23.0.yaml`, MIT) for the forms, and for what it does not say the
//! pages that are named beside each fact. The API takes no id of ours, so a lost answer leaves a message `UNKNOWN` until a
//! callback names it (ADR 3): by Graph's own id where it is known, else by ours, which goes along as
//! `biz_opaque_callback_data`.

mod answer;
mod body;
pub mod callback;
mod client;
pub mod errors;
pub mod link;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use recado_domain::channel::ChannelSettings;
use recado_domain::pacing::{Pacing, RecipientPacing};
use recado_domain::phone::PhoneNumber;

pub use client::{CheckError, Graph};
pub use link::Link;

use crate::clock::millis;
use crate::provider::{Provider, SendOutcome, Via};
use crate::store::Store;
use crate::store::rows::{ChannelKey, Claimed, Unanswered};

/// What Meta takes for one recipient: 45 at once, and then one in six seconds (error 131056;
/// dualhook.com/docs/capacity-quality-limits).
const PAIR_LIMIT: RecipientPacing = RecipientPacing { burst: 45, every: Duration::from_secs(6) };

/// The Cloud API, with the links of all channels that are connected to it.
pub struct CloudApi {
    graph: Graph,
    store: Arc<dyn Store>,
    links: RwLock<HashMap<ChannelKey, Arc<Link>>>,
}

impl CloudApi {
    /// Without links yet.
    pub fn new(graph: Graph, store: Arc<dyn Store>) -> Self {
        Self { graph, store, links: RwLock::default() }
    }

    /// For checking a link before it is taken into use.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Takes a channel's link into use, in the place of an earlier one.
    pub fn set(&self, channel: ChannelKey, link: Arc<Link>) {
        self.links.write().unwrap_or_else(PoisonError::into_inner).insert(channel, link);
    }

    /// Forgets a channel's link.
    pub fn remove(&self, channel: ChannelKey) {
        self.links.write().unwrap_or_else(PoisonError::into_inner).remove(&channel);
    }

    /// A channel's link.
    pub fn get(&self, channel: ChannelKey) -> Option<Arc<Link>> {
        self.links.read().unwrap_or_else(PoisonError::into_inner).get(&channel).cloned()
    }

    /// All links.
    pub fn all(&self) -> Vec<(ChannelKey, Arc<Link>)> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        links.iter().map(|(key, link)| (*key, link.clone())).collect()
    }
}

#[async_trait]
impl Provider for CloudApi {
    fn max_in_flight(&self, settings: &ChannelSettings) -> usize {
        settings.pipeline.into()
    }

    fn pacing(&self) -> Pacing {
        Pacing::default()
    }

    fn recipient_pacing(&self) -> Option<RecipientPacing> {
        Some(PAIR_LIMIT)
    }

    fn unanswered(&self, settings: &ChannelSettings) -> Unanswered {
        Unanswered::Unknown(settings.resend_after().map(millis))
    }

    async fn known_account(&self, via: &Via, phone: &PhoneNumber) -> Option<String> {
        // Meta tells the account of a number only when a message is sent there. Where the store cannot say now, the card
        // goes without it.
        self.store.account(via.key, phone.digits().to_owned()).await.ok().flatten()
    }

    async fn send(&self, via: &Via, message: &Claimed) -> SendOutcome {
        let Some(link) = self.get(via.key) else {
            let reason = "O canal nao tem ligacao com a Meta. Conecte-o de novo.".to_owned();
            return SendOutcome::ChannelRefused { reason };
        };
        let outcome = self.graph.send(&link, message).await;
        let replaced = self.get(via.key).is_none_or(|current| !Arc::ptr_eq(&current, &link));
        match outcome {
            // It speaks of an access that is no longer used: the channel was connected anew meanwhile.
            SendOutcome::ChannelRefused { .. } if replaced => SendOutcome::ChannelTrouble { wait: Duration::ZERO },
            outcome => outcome,
        }
    }
}
