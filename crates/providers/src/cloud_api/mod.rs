//! WhatsApp by Meta's Cloud API. All knowledge of Meta's protocol is in this module.
//!
//! | File | |
//! |---|---|
//! | `link` | the link of a channel: a number's ids, its tokens |
//! | `client` | the calls: check a number, send a message |
//! | `links` | the stored links of all channels, and how they are loaded |
//! | `connect` | connects a channel to its number |
//! | `slots` | limits concurrent calls, and shares them between numbers |
//! | `body` | the body of a send for a stored message |
//! | `answer` | the answers of Graph |
//! | `errors` | the meaning of its error codes, in one table |
//! | `callback` | the calls of Meta: statuses of messages, and what people write |
//! | `incoming` | what people write, kind by kind |
//! | `media` | the bytes of files that people send |
//! | `lenient` | reads JSON whose form is not known |
//!
//! Sources: Meta's OpenAPI file (`business-messaging-api_v23.0.yaml`, MIT) for the forms, and the pages named beside each
//! fact for the rest. The API accepts no id of ours, so a lost answer leaves a message `UNKNOWN` until a callback names it
//! (ADR 3): by Graph's own id if it is known, else by ours, which is sent as `biz_opaque_callback_data`.
//!
//! A send has four outcomes. Graph returns an id (`wamid.…`): `SENT`. Graph returns an error object: the table in `errors`
//! decides whether the message fails, or waits, or the channel pauses. Nothing left this machine: the message is sent later.
//! Anything else: `UNKNOWN`.
//!
//! A callback's signature is verified over its raw bytes before they are parsed, with the apps of the channels that may own
//! it. Its 200 follows the sync of the receipts. A receipt with our id finds its message even while the message is
//! `SENDING`; the later answer then adds only the account. A receipt without our id is kept in `early_receipts` (at most
//! 1,000 for a channel) until an answer or another receipt names the message. It is applied in the same transaction.
//!
//! All links are decrypted at the start. A link that cannot be decrypted pauses only its own channel. One of several nodes
//! pauses nothing, because another node may have the right secret key: it dispatches for the sandbox alone.

mod answer;
mod body;
pub mod callback;
mod client;
mod connect;
pub mod errors;
pub mod incoming;
mod lenient;
pub mod link;
mod links;
mod media;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use recado_domain::channel::ChannelSettings;
use recado_domain::channel::types::cloud_api;
use recado_domain::conversation::ReadSignal;
use recado_domain::error::AppError;
use recado_domain::ids::InstitutionId;
use recado_domain::incoming::Media;
use recado_domain::pacing::RecipientPacing;
use recado_domain::phone::PhoneNumber;

use crate::cloud_api::callback::Ids;
pub use crate::cloud_api::client::{CheckError, Graph};
pub use crate::cloud_api::link::Link;
use crate::cloud_api::link::{Fingerprint, UNUSABLE};
pub use crate::cloud_api::slots::Slot;

use recado_domain::channel::{self, ChannelKey, ChannelRef};
use recado_domain::clock::millis;
use recado_domain::message::Target;
use recado_domain::queue::{Claimed, UnknownOutcomePolicy};
use recado_store::StoreError;
use tokio::task::JoinHandle;

use crate::cloud_api::body::Unreadable;
use crate::media::{Download, MediaError};
use crate::quoted::{self, QuoteError, Quoted};
use crate::{ChannelDriver, Connect, Connected, Context, ReadOutcome, SendOutcome};

/// The limit of Meta for one recipient: 45 messages at once, and then one in six seconds (error 131056;
/// dualhook.com/docs/capacity-quality-limits).
const PAIR_LIMIT: RecipientPacing = RecipientPacing { burst: 45, every: Duration::from_secs(6) };

/// The Cloud API, with the links of all its channels.
pub struct CloudApi {
    graph: Graph,
    context: Context,
    links: RwLock<Links>,
}

/// A channel with its link.
pub type Linked = (ChannelKey, Arc<Link>);

/// The most app secrets that are tried on a callback.
pub const APPS: usize = 64;
/// The most of them for one institution, so that it cannot displace those of another.
pub const APPS_OF_ONE: usize = 16;
/// The wait of a channel whose link this node cannot decrypt, as one of several nodes.
const NO_LINK: Duration = Duration::from_secs(5);

/// The wait of a channel whose quoted message cannot be read from the store.
const STORE_DOWN: Duration = Duration::from_secs(5);
/// The prefix of every message id of Meta.
const META_ID: &str = "wamid.";

#[derive(Default)]
struct Links {
    of_channel: BTreeMap<ChannelKey, Arc<Link>>,
    /// The indexes that callbacks need; rebuilt when a link changes.
    of_number: HashMap<String, Vec<Linked>>,
    /// A link of each app of a number, the oldest first.
    apps_of_number: HashMap<String, Vec<Linked>>,
    /// The same for a business account. Which account owns a channel's number is not verified.
    apps_of_account: HashMap<String, Vec<Linked>>,
    /// A link of each app, the oldest first.
    apps: Vec<Linked>,
    /// The hashes of verify tokens.
    verifiers: HashSet<Fingerprint>,
}

impl Links {
    fn change(&mut self, change: impl FnOnce(&mut BTreeMap<ChannelKey, Arc<Link>>)) {
        change(&mut self.of_channel);
        *self = Self { of_channel: std::mem::take(&mut self.of_channel), ..Self::default() };
        let (mut of_numbers, mut of_accounts, mut of_all) = (HashSet::new(), HashSet::new(), HashSet::new());
        for (key, link) in &self.of_channel {
            let Some(app) = link.app() else { continue };
            let (number, account) = (link.phone_number_id(), link.business_account_id());
            let add = |to: &mut HashMap<String, Vec<Linked>>, id: &str| {
                to.entry(id.to_owned()).or_default().push((*key, link.clone()));
            };
            add(&mut self.of_number, number);
            if of_numbers.insert((number, app)) {
                add(&mut self.apps_of_number, number);
            }
            if of_accounts.insert((account, app)) {
                add(&mut self.apps_of_account, account);
            }
            if of_all.insert(app) {
                self.apps.push((*key, link.clone()));
            }
            self.verifiers.insert(link.verifier());
        }
    }
}

/// The first link of each app: at most [`APPS`], and at most [`APPS_OF_ONE`] of one institution.
pub fn one_of_each_app(
    links: impl IntoIterator<Item = Linked>,
    institution: impl Fn(ChannelKey) -> Option<InstitutionId>,
) -> Vec<Arc<Link>> {
    let (mut seen, mut of_one, mut apps) = (HashSet::new(), HashMap::<_, usize>::new(), Vec::new());
    for (channel, link) in links {
        if !seen.insert(link.app()) {
            continue;
        }
        let own = of_one.entry(institution(channel)).or_default();
        if *own < APPS_OF_ONE {
            *own += 1;
            apps.push(link);
        }
        if apps.len() == APPS {
            break;
        }
    }
    apps
}

impl CloudApi {
    /// Without links.
    pub fn new(graph: Graph, context: Context) -> Self {
        Self { graph, context, links: RwLock::default() }
    }

    /// The client, to check a link before it is used.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Sets links, and replaces earlier ones.
    pub fn set_all(&self, links: Vec<Linked>) {
        self.links.write().unwrap_or_else(PoisonError::into_inner).change(|all| all.extend(links));
    }

    /// Sets a channel's link, and replaces an earlier one.
    pub fn set(&self, channel: ChannelKey, link: Arc<Link>) {
        self.set_all(vec![(channel, link)]);
    }

    /// Removes a channel's link.
    pub fn remove(&self, channel: ChannelKey) {
        self.links.write().unwrap_or_else(PoisonError::into_inner).change(|all| drop(all.remove(&channel)));
    }

    /// A channel's link.
    pub fn get(&self, channel: ChannelKey) -> Option<Arc<Link>> {
        self.links.read().unwrap_or_else(PoisonError::into_inner).of_channel.get(&channel).cloned()
    }

    /// The channels of a number whose callbacks can be authenticated. Several channels may share a number.
    pub fn of_number(&self, phone_number_id: &str) -> Vec<Linked> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        links.of_number.get(phone_number_id).cloned().unwrap_or_default()
    }

    /// A link of each app whose callbacks can be authenticated.
    pub fn apps(&self) -> Vec<Linked> {
        self.links.read().unwrap_or_else(PoisonError::into_inner).apps.clone()
    }

    /// A link of each app of these ids; some may occur twice. Those of numbers come first, because Meta has verified them.
    pub fn apps_of(&self, ids: &Ids<'_>) -> Vec<Linked> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        let of_numbers = ids.numbers.iter().filter_map(|id| links.apps_of_number.get(*id));
        let of_accounts = ids.accounts.iter().filter_map(|id| links.apps_of_account.get(*id));
        of_numbers.chain(of_accounts).flatten().cloned().collect()
    }

    /// Whether this is the hash of a verify token: one lookup, however many channels there are.
    pub fn verifies(&self, token: Fingerprint) -> bool {
        self.links.read().unwrap_or_else(PoisonError::into_inner).verifiers.contains(&token)
    }
}

impl CloudApi {
    /// The body of a message, or the outcome if it has none now.
    async fn body(&self, via: &ChannelRef, message: &Claimed) -> Result<Vec<u8>, SendOutcome> {
        let unreadable = |error: Unreadable| {
            tracing::error!(message.id = %message.id, %error, "stored message not readable");
            let message = "A mensagem guardada nao pode ser lida por esta versao.".to_owned();
            SendOutcome::PermanentFailure { code: crate::UNREADABLE, message }
        };
        let stored = body::read(message).map_err(unreadable)?;
        let quoted = match stored.reply_to {
            Some(target) => self.quoted(via, target).await?,
            None => None,
        };
        body::of(message, &stored.content, quoted.as_deref()).map_err(unreadable)
    }

    /// Meta's id of the quoted message.
    async fn quoted(&self, via: &ChannelRef, target: Target) -> Result<Option<String>, SendOutcome> {
        if target.received {
            // What Meta delivered without an id cannot be quoted.
            return Ok(Some(target.network_id).filter(|id| id.starts_with(META_ID)));
        }
        // Within the time of the send, so that a hanging store is not reported as a hanging network.
        let read = tokio::time::timeout(STORE_DOWN, quoted::read(&*self.context.store, via.key, target)).await;
        let Ok(quoted) = read else { return Err(SendOutcome::ChannelUnavailable { wait: STORE_DOWN }) };
        quoted.and_then(meta_id).map_err(|error| {
            error.outcome().unwrap_or_else(|error| {
                tracing::warn!(channel.id = %via.id, %error, "store unavailable; channel waits");
                SendOutcome::ChannelUnavailable { wait: STORE_DOWN }
            })
        })
    }
}

/// Meta's id of a message that Meta has. `None`: the message was purged before its id was known, so it cannot be quoted.
fn meta_id(quoted: Quoted) -> Result<Option<String>, QuoteError> {
    match quoted.remote_id {
        Some(id) => Ok(Some(id)),
        None if quoted.is_unknown => Err(QuoteError::NotYet),
        // The message was purged since. It had this id when it was quoted.
        None if quoted.network_id.starts_with(META_ID) => Ok(Some(quoted.network_id)),
        None if quoted.content.is_none() => Ok(None),
        None => Err(QuoteError::NotSent),
    }
}

#[async_trait]
impl ChannelDriver for CloudApi {
    fn max_in_flight(&self, settings: &ChannelSettings) -> usize {
        cloud_api::Settings::from(settings.clone()).pipeline.into()
    }

    async fn slots(&self, via: &ChannelRef, most: usize) -> Vec<crate::Slot> {
        match self.get(via.key) {
            Some(link) => self.graph.slots(&link, most).await.into_iter().map(Some).collect(),
            // Without a link no call is made.
            None => std::iter::repeat_with(|| None).take(most).collect(),
        }
    }

    fn recipient_pacing(&self) -> Option<RecipientPacing> {
        Some(PAIR_LIMIT)
    }

    fn unanswered(&self, settings: &ChannelSettings) -> UnknownOutcomePolicy {
        UnknownOutcomePolicy::MarkUnknown(settings.resend_after().map(millis))
    }

    async fn known_account(&self, via: &ChannelRef, phone: &PhoneNumber) -> Option<String> {
        // Meta names the account of a number only when a message is sent to it. If the store does not answer, the card has
        // no account.
        self.context.store.account(via.key, phone.digits().to_owned()).await.ok().flatten()
    }

    async fn send(&self, via: &ChannelRef, message: &Claimed) -> SendOutcome {
        let Some(link) = self.get(via.key) else {
            if !self.context.leases.is_standalone() {
                // Another node may have the right key, or the link is just being read.
                return SendOutcome::ChannelUnavailable { wait: NO_LINK };
            }
            // The channel was resumed although its link could not be decrypted at the start.
            let reason =
                format!("{UNUSABLE}confira RECADO_SECRET_KEY e reinicie o servidor, ou conecte o canal de novo.");
            return SendOutcome::ChannelDisabled { reason };
        };
        let outcome = match self.body(via, message).await {
            Ok(body) => self.graph.send(&link, message.id, body).await,
            Err(outcome) => outcome,
        };
        let replaced = self.get(via.key).is_none_or(|current| !Arc::ptr_eq(&current, &link));
        match outcome {
            // The refusal is about credentials that are no longer used: the channel was connected again meanwhile.
            SendOutcome::ChannelDisabled { .. } if replaced => SendOutcome::ChannelUnavailable { wait: Duration::ZERO },
            outcome => outcome,
        }
    }

    async fn fetch_media(&self, via: &ChannelRef, media: &Media) -> Result<Download, MediaError> {
        self.fetch(via, media).await
    }

    async fn mark_read(&self, via: &ChannelRef, signal: &ReadSignal) -> ReadOutcome {
        let (Some(link), Some(newest)) = (self.get(via.key), signal.messages.first()) else {
            return ReadOutcome::Later;
        };
        // Meta marks the earlier messages of the chat, too.
        self.graph.mark_read(&link, &newest.network_id).await
    }

    async fn load(&self, channels: &[ChannelRef]) -> Result<bool, StoreError> {
        self.load_links(channels).await
    }

    fn reload(&self, channels: &[ChannelRef], rows: &[channel::Link]) {
        self.reload_links(channels, rows);
    }

    async fn connect(&self, request: Connect<'_>) -> Result<Connected, AppError> {
        self.connect_channel(request).await.map(|()| Connected::Done)
    }

    fn forget(&self, channel: ChannelKey) -> Option<JoinHandle<()>> {
        self.remove(channel);
        None
    }
}
