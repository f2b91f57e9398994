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

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use recado_domain::channel::ChannelSettings;
use recado_domain::pacing::{Pacing, RecipientPacing};
use recado_domain::phone::PhoneNumber;

pub use client::{CheckError, Graph};
pub use link::Link;
use link::UNUSABLE;

use crate::clock::millis;
use crate::cluster::leases::Leases;
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
    leases: Arc<Leases>,
    links: RwLock<Links>,
}

/// A channel with its link.
pub type Linked = (ChannelKey, Arc<Link>);

/// Most app secrets that are tried on a callback to the address of the app. More apps than that have an address for each
/// channel.
pub const APPS: usize = 64;
/// The wait of a channel whose link this node cannot open, one among others.
const NO_LINK: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Links {
    of_channel: BTreeMap<ChannelKey, Arc<Link>>,
    /// What every callback asks for, made anew when a link changes.
    of_number: HashMap<String, Vec<Linked>>,
    /// A link of each app, the eldest first.
    apps: Arc<[Arc<Link>]>,
}

impl Links {
    fn change(&mut self, change: impl FnOnce(&mut BTreeMap<ChannelKey, Arc<Link>>)) {
        change(&mut self.of_channel);
        self.of_number.clear();
        let believed = || self.of_channel.iter().filter(|(_, link)| link.app_secret().is_some());
        for (key, link) in believed() {
            let numbers = self.of_number.entry(link.phone_number_id().to_owned()).or_default();
            numbers.push((*key, link.clone()));
        }
        self.apps = one_of_each_app(believed().map(|(_, link)| link)).into();
    }
}

/// The first link of each app, of [`APPS`] at most.
pub fn one_of_each_app<'a>(links: impl IntoIterator<Item = &'a Arc<Link>>) -> Vec<Arc<Link>> {
    let mut apps: Vec<Arc<Link>> = Vec::new();
    for link in links {
        if apps.len() < APPS && !apps.iter().any(|app| app.is_of_the_app_of(link)) {
            apps.push(link.clone());
        }
    }
    apps
}

impl CloudApi {
    /// Without links yet.
    pub fn new(graph: Graph, store: Arc<dyn Store>, leases: Arc<Leases>) -> Self {
        Self { graph, store, leases, links: RwLock::default() }
    }

    /// For checking a link before it is taken into use.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Takes links into use, in the place of earlier ones.
    pub fn set_all(&self, links: Vec<Linked>) {
        self.links.write().unwrap_or_else(PoisonError::into_inner).change(|all| all.extend(links));
    }

    /// Takes a channel's link into use, in the place of an earlier one.
    pub fn set(&self, channel: ChannelKey, link: Arc<Link>) {
        self.set_all(vec![(channel, link)]);
    }

    /// Forgets a channel's link.
    pub fn remove(&self, channel: ChannelKey) {
        self.links.write().unwrap_or_else(PoisonError::into_inner).change(|all| drop(all.remove(&channel)));
    }

    /// A channel's link.
    pub fn get(&self, channel: ChannelKey) -> Option<Arc<Link>> {
        self.links.read().unwrap_or_else(PoisonError::into_inner).of_channel.get(&channel).cloned()
    }

    /// The channels of a number whose callbacks can be believed: more than one where they share it.
    pub fn of_number(&self, phone_number_id: &str) -> Vec<Linked> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        links.of_number.get(phone_number_id).cloned().unwrap_or_default()
    }

    /// A link of each app whose callbacks can be believed, of [`APPS`] at most.
    pub fn apps(&self) -> Arc<[Arc<Link>]> {
        self.links.read().unwrap_or_else(PoisonError::into_inner).apps.clone()
    }

    /// The links by which an address of callbacks can be verified.
    pub fn with_callbacks(&self) -> Vec<Arc<Link>> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        links.of_channel.values().filter(|link| link.app_secret().is_some()).cloned().collect()
    }
}

#[async_trait]
impl Provider for CloudApi {
    fn max_in_flight(&self, settings: &ChannelSettings) -> usize {
        settings.pipeline.into()
    }

    fn pacing(&self, _: &ChannelSettings) -> Pacing {
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
            if !self.leases.is_alone() {
                // Another node may have the right key, or the link is just being read.
                return SendOutcome::ChannelTrouble { wait: NO_LINK };
            }
            // It was resumed although its link could not be opened at the start.
            let reason =
                format!("{UNUSABLE}confira RECADO_SECRET_KEY e reinicie o servidor, ou conecte o canal de novo.");
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
