//! Webhooks: addresses to which events are sent, and the rules of sending.
//!
//! A delivery is one event for one webhook. An attempt is one request. The store creates a delivery for each event that a
//! webhook accepts, and claims it for each attempt. The rules decide which deliveries may be claimed ([`QueueState`]) and
//! what an attempt changes ([`Verdict`], [`Streak`]).

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

mod delivery;
mod lane;
mod log;
mod order;
mod retry;

use crate::api_key::Scopes;
use crate::channel::ChannelKey;
use crate::clock::Millis;
use crate::event::{ChatKind, EventSeq, Filter, Owner, Patterns};
use crate::ids::{InstitutionId, WebhookId};

pub use delivery::{Attempt, DeliveryError, DeliveryStatus, Streak, Verdict};
pub use lane::{Due, IN_FLIGHT, Lane, QueueState};
pub use log::{
    AttemptLog, ClaimedDelivery, Delivery, DeliveryClaim, DeliveryClaims, DeliveryId, DeliveryPage, DeliveryQuery,
    DeliveryRef, DeliveryResult, FanOut, REPLAYS, Replay, ReplayBatch, ReplayQuery, ReplayStatus, logged, read_log,
};
pub use order::{DeliveryOrder, Queue, QueueKey, replay_queue};
pub use retry::{RetryPolicy, delay_after};

/// The number of a webhook in its store.
pub type WebhookKey = i64;

/// The deliveries of a webhook that wait or are in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookBacklog {
    pub institution: InstitutionId,
    pub id: WebhookId,
    /// The server disabled the webhook, because its receiver failed for too long.
    pub disabled: bool,
    pub waiting: u64,
    /// When the oldest of them was created.
    pub oldest: Option<Millis>,
}

/// Most webhooks of an institution in one environment.
pub const WEBHOOKS: usize = 50;

/// How long a replaced secret signs requests beside the new secret: 24 hours.
pub const PREVIOUS_SECRET_FOR: Millis = 24 * 60 * 60 * 1_000;

/// How long deliveries are kept: 30 days.
pub const DELIVERY_RETENTION: Millis = 30 * 24 * 60 * 60 * 1_000;

/// The version of events that a new webhook gets.
pub const EVENT_VERSION: u32 = 1;

/// A webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    pub key: WebhookKey,
    pub id: WebhookId,
    pub owner: Owner,
    pub settings: WebhookSettings,
    /// The version of events that it receives.
    pub version: u32,
    /// Grows with each change of the settings.
    pub revision: i64,
    /// The first failed attempt after the last successful one.
    pub failing_since: Option<Millis>,
    /// When the server disabled the webhook, because the receiver failed for too long or answered 410.
    pub disabled_at: Option<Millis>,
    pub last_delivered_at: Option<Millis>,
    pub created_at: Millis,
    pub updated_at: Millis,
}

/// The settings that a caller gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookSettings {
    pub name: String,
    pub url: String,
    pub events: Patterns,
    /// The scopes of the key that chose the events. The webhook receives only events that this key may read.
    pub scopes: Scopes,
    /// `None`: all channels.
    pub channels: Option<Vec<ChannelKey>>,
    pub chats: Vec<ChatKind>,
    /// Whether events contain texts, names and numbers.
    pub content: bool,
    pub order: DeliveryOrder,
    /// `None`: the long schedule.
    pub retry: Option<RetryPolicy>,
    pub active: bool,
    /// The sealed secret.
    pub secret: Vec<u8>,
    /// The sealed former secret, which also signs requests for a while.
    pub previous_secret: Option<PreviousSecret>,
    /// The names of the fixed headers.
    pub header_names: Vec<String>,
    /// The fixed headers with their values, sealed; `None` where there are none.
    pub headers: Option<Vec<u8>>,
}

impl WebhookSettings {
    /// The settings of a webhook whose creator gives only what has no default.
    pub fn new(name: String, url: String, (events, scopes): (Patterns, Scopes), secret: Vec<u8>) -> Self {
        Self {
            name,
            url,
            events,
            scopes,
            channels: None,
            chats: vec![ChatKind::Direct],
            content: true,
            order: DeliveryOrder::Message,
            retry: None,
            active: true,
            secret,
            previous_secret: None,
            header_names: Vec::new(),
            headers: None,
        }
    }
}

/// A replaced secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviousSecret {
    pub sealed: Vec<u8>,
    /// Until when the secret signs requests.
    pub until: Millis,
}

/// A webhook to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWebhook {
    pub id: WebhookId,
    pub owner: Owner,
    pub settings: WebhookSettings,
    /// The webhook receives the events after this one.
    pub after: EventSeq,
    pub now: Millis,
}

/// The result of creating a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookCreated {
    Created(Box<Webhook>),
    /// The owner has [`WEBHOOKS`] already.
    LimitReached,
    /// There is no such institution.
    NoInstitution,
}

/// A change of a webhook's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookUpdate {
    pub id: WebhookId,
    pub owner: Owner,
    pub settings: WebhookSettings,
    /// The revision that the caller has read.
    pub revision: i64,
    /// If the change enables the webhook, the webhook receives the events after this one.
    pub after: EventSeq,
    pub now: Millis,
}

/// The result of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookUpdated {
    Updated(Box<Webhook>),
    /// Another call changed the webhook in the meantime. The caller reads the webhook again.
    Changed,
    NotFound,
}

/// The sealed parts of a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedWebhook {
    pub key: WebhookKey,
    pub id: WebhookId,
    pub secret: Vec<u8>,
    pub previous_secret: Option<Vec<u8>>,
    pub headers: Option<Vec<u8>>,
}

impl Webhook {
    /// Which events it receives.
    pub fn filter(&self) -> Filter {
        let WebhookSettings { events, scopes, channels, chats, .. } = &self.settings;
        Filter { events: events.clone(), channels: channels.clone(), chats: chats.clone(), scopes: *scopes }
    }

    /// The sealed secrets that sign at this time, the current one first.
    pub fn signing(&self, now: Millis) -> impl Iterator<Item = &[u8]> {
        let previous = self.settings.previous_secret.as_ref().filter(|previous| now < previous.until);
        std::iter::once(&*self.settings.secret).chain(previous.map(|previous| &*previous.sealed))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::api_key::Environment;
    use crate::ids::InstitutionId;

    pub fn webhook() -> Webhook {
        Webhook {
            key: 1,
            id: WebhookId::new(1, [1; 10]),
            owner: (InstitutionId::new(1, [0; 10]), Environment::Live),
            settings: WebhookSettings::new(
                "loja.exemplo.com".to_owned(),
                "https://loja.exemplo.com/eventos".to_owned(),
                (Patterns::from_stored("*"), Scopes::all()),
                vec![1],
            ),
            version: EVENT_VERSION,
            revision: 1,
            failing_since: None,
            disabled_at: None,
            last_delivered_at: None,
            created_at: 1,
            updated_at: 1,
        }
    }

    #[test]
    fn a_replaced_secret_signs_until_its_time() {
        let mut webhook = webhook();
        webhook.settings.previous_secret = Some(PreviousSecret { sealed: vec![2], until: 10 });
        assert_eq!(webhook.signing(9).collect::<Vec<_>>(), [&[1][..], &[2]]);
        assert_eq!(webhook.signing(10).collect::<Vec<_>>(), [&[1][..]]);
    }
}
