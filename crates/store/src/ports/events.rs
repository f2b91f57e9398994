//! The ports of events and webhooks.

use async_trait::async_trait;
use recado_domain::clock::Millis;
use recado_domain::event::{
    Event, EventPage, EventQuery, EventSeq, EventState, EventSubject, NewEvent, OwnedRange, Owner, Patterns, Recording,
};
use recado_domain::ids::WebhookId;
use recado_domain::webhook::{
    Delivery, DeliveryClaim, DeliveryClaims, DeliveryId, DeliveryPage, DeliveryQuery, DeliveryRef, DeliveryResult,
    FanOut, NewWebhook, Replay, ReplayBatch, ReplayQuery, SealedWebhook, Webhook, WebhookBacklog, WebhookCreated,
    WebhookKey, WebhookUpdate, WebhookUpdated,
};

use crate::Result;

/// Events, for the event stream and for webhooks.
#[async_trait]
pub trait Events: Send + Sync + 'static {
    /// Sets which events of the messages of an institution are recorded. `false` if there is no such institution. The
    /// switch takes no lock against calls that accept messages. So a message that is accepted at the same moment may
    /// lack its first event.
    async fn record_messages(&self, owner: Owner, recording: Recording) -> Result<bool>;
    /// The event log of an institution; `None` where nothing has set one, or opened the stream.
    async fn event_log(&self, owner: Owner) -> Result<Option<Patterns>>;
    /// The event log. Where nothing has set one, this one is set, and the recording of events begins.
    async fn begin_event_log(&self, owner: Owner, log: Patterns) -> Result<Patterns>;
    /// Sets the event log, and begins or ends the recording of events; `false` when there is no such institution.
    async fn set_event_log(&self, owner: Owner, log: Patterns) -> Result<bool>;
    /// Records an event with complete data; `false` where nothing reads the events of its owner. What has to commit together
    /// with it is recorded inside the store.
    async fn record_event(&self, event: NewEvent) -> Result<bool>;
    /// Deletes the events about these subjects; how many there were.
    async fn forget_events(&self, subjects: Vec<EventSubject>) -> Result<u64>;
    /// What the store knows of its events as a whole.
    async fn event_state(&self) -> Result<EventState>;
    /// One event of this owner.
    async fn event(&self, owner: Owner, seq: EventSeq) -> Result<Option<Event>>;
    /// When the event with this number happened; `None` where there is none.
    async fn event_time(&self, seq: EventSeq) -> Result<Option<Millis>>;
    /// Numbers and times of the next events after this number, at most so many.
    async fn event_times(&self, after: EventSeq, limit: usize) -> Result<Vec<(EventSeq, Millis)>>;
    /// Creates a reader. A reader remembers which event numbers are not committed yet, so use one reader for all calls.
    fn event_reader(&self) -> Box<dyn EventReader>;
}

/// Reads events in the order of their numbers. A reader stops before a number whose event is not committed yet. So a
/// caller that continues after the last cursor sees each event once.
#[async_trait]
pub trait EventReader: Send {
    /// The next events after a cursor. `None` if the cursor is later than the newest event of the store. Such a cursor
    /// comes from another store, or it was read before a backup was restored. If the call is cancelled, no event is
    /// lost.
    async fn read(&mut self, query: EventQuery) -> Result<Option<EventPage>>;
    /// The number up to which every event is stored, or never will be. It can be lower than that of an event which is already
    /// committed, or 0, while another transaction runs.
    async fn settled(&mut self) -> Result<EventSeq>;
    /// The highest number that was given to an event, which may not be committed.
    async fn last(&mut self) -> Result<EventSeq>;
    /// Whose events have the numbers after the first one, up to the second one. Both are at most [`Self::settled`].
    async fn owners(&mut self, after: EventSeq, until: EventSeq) -> Result<Vec<OwnedRange>>;
}

/// The most results of attempts that one transaction stores.
const RESULTS_AT_ONCE: usize = 250;

/// Webhooks, and the deliveries of events to them.
///
/// All times named `now` are by the clock of [`Schedule::clock`](super::Schedule::clock) where the store has one: several nodes use the leases.
///
/// Deliveries are created by a fan-out, and not by the transactions that record events, so that these stay cheap. The
/// fan-out reads the events behind one cursor for all webhooks, and creates the deliveries in the transaction that moves the
/// cursor. So there is one delivery for each event that a webhook accepts.
#[async_trait]
pub trait Webhooks: Send + Sync + 'static {
    /// Creates a webhook, and begins to record the events that it wants.
    async fn create_webhook(&self, new: NewWebhook) -> Result<WebhookCreated>;
    /// Changes a webhook's settings, and what is recorded. If the change enables the webhook, its failures are forgotten. If
    /// the change disables it, the deliveries that wait become dead letters ([`Self::tidy_deliveries`]).
    async fn update_webhook(&self, update: WebhookUpdate) -> Result<WebhookUpdated>;
    /// Deletes a webhook with its deliveries ([`Self::tidy_deliveries`]). `false` if there is no such webhook.
    async fn delete_webhook(&self, owner: Owner, id: WebhookId) -> Result<bool>;
    /// One webhook of this owner.
    async fn webhook(&self, owner: Owner, id: WebhookId) -> Result<Option<Webhook>>;
    /// All webhooks of this owner, oldest first.
    async fn webhooks(&self, owner: Owner) -> Result<Vec<Webhook>>;

    /// Acquires or renews the lease of the fan-out for this node, and returns the cursor: deliveries exist for the events up to
    /// it. `None` if another node has the lease, or if no webhook is active. The lease only avoids work that would be done
    /// twice.
    async fn lead_fan_out(&self, node: [u8; 16], now: Millis, until: Millis) -> Result<Option<EventSeq>>;
    /// Gives up the lease of this node, so that another node can acquire it at once.
    async fn leave_fan_out(&self, node: [u8; 16]) -> Result<()>;
    /// Creates deliveries for the events of a page that begins behind the cursor, and moves the cursor behind them. If there are
    /// many deliveries, the step ends before the end of the page: read the next page from the cursor of the result.
    async fn fan_out(&self, after: EventSeq, page: EventPage, now: Millis) -> Result<FanOut>;

    /// Claims due deliveries of one lane, with their webhooks and events. Each counts as an attempt. No delivery is claimed
    /// while an earlier one of its queue waits or is in flight. Webhooks are served in turn. Deliveries whose event is gone
    /// become dead letters. `except` are webhooks to which this node cannot send.
    async fn claim_deliveries(&self, claim: DeliveryClaim, except: Vec<WebhookKey>) -> Result<DeliveryClaims>;
    /// Gives back claimed deliveries that this node cannot send, so that another node can claim them at once. They do not
    /// count as attempts.
    async fn release_deliveries(&self, deliveries: Vec<DeliveryRef>, now: Millis) -> Result<()>;
    /// Stores how attempts ended. The result of an attempt that lost its lease to another one changes nothing. Returns the
    /// webhooks that are to be disabled now; [`Self::record_attempts`] does that as well.
    async fn settle_deliveries(&self, results: Vec<DeliveryResult>, now: Millis) -> Result<Vec<WebhookKey>>;
    /// Disables a webhook that has failed for too long, or whose address is gone, and records `webhook.disabled`. `false` if it
    /// was disabled or changed in the meantime, or has succeeded.
    async fn disable_webhook(&self, webhook: WebhookKey, now: Millis) -> Result<bool>;
    /// Stores how attempts ended, and disables the webhooks for which that is time. Returns these. After an error a part of the
    /// results may be stored; storing them again changes nothing.
    async fn record_attempts(&self, results: Vec<DeliveryResult>, now: Millis) -> Result<Vec<WebhookKey>> {
        let mut disabled = Vec::new();
        for some in results.chunks(RESULTS_AT_ONCE) {
            for webhook in self.settle_deliveries(some.to_vec(), now).await? {
                if self.disable_webhook(webhook, now).await? {
                    disabled.push(webhook);
                }
            }
        }
        Ok(disabled)
    }

    /// A page of the log of a webhook, newest first; `None` if there is no such webhook.
    async fn deliveries(&self, query: DeliveryQuery) -> Result<Option<DeliveryPage>>;
    /// How many deliveries match the query, counted up to `most`, among the newest 100,000. The cursor and the limit of the query
    /// are ignored.
    async fn count_deliveries(&self, query: DeliveryQuery, most: usize) -> Result<usize>;
    /// The deliveries of each webhook that wait or are in flight. It counts all of them.
    async fn webhook_backlogs(&self) -> Result<Vec<WebhookBacklog>>;
    /// One delivery of a webhook of this owner.
    async fn delivery(&self, owner: Owner, webhook: WebhookId, id: DeliveryId) -> Result<Option<Delivery>>;
    /// Sends a delivery again, with a new round of attempts. One that waits for a retry is sent now.
    async fn replay_delivery(&self, owner: Owner, webhook: WebhookId, id: DeliveryId, now: Millis) -> Result<Replay>;
    /// Sends a batch of deliveries again, in the order of their events. Deliveries whose event is gone are left out.
    async fn replay_deliveries(&self, query: ReplayQuery) -> Result<ReplayBatch>;
    /// Does a part of the work that no caller waits for: ends the deliveries of disabled webhooks, and deletes those of deleted
    /// webhooks and old ones. `true` if there may be more.
    async fn tidy_deliveries(&self, now: Millis) -> Result<bool>;

    /// The sealed parts of the webhooks behind this one, in the order of their keys.
    async fn sealed_webhooks(&self, after: WebhookKey, limit: usize) -> Result<Vec<SealedWebhook>>;
    /// Replaces sealed parts. `false` if they differ from `old`, or if there is no such webhook.
    async fn reseal_webhook(&self, old: SealedWebhook, new: SealedWebhook) -> Result<bool>;
}
