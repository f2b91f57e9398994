//! Deliveries as they are claimed, settled, listed and sent again.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::delivery::{Attempt, DeliveryError, DeliveryStatus};
use super::lane::Lane;
use super::{Webhook, WebhookKey};
use crate::clock::Millis;
use crate::event::{Event, EventId, EventSeq, Owner, Patterns};
use crate::ids::{InvalidId, WebhookId};
use crate::numbered_id::NumberedId;

/// The public id of a delivery: `dlv_` and 32 hexadecimal digits, made of its time, the number of its event, and a hash of both
/// with the webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryId(NumberedId);

const PREFIX: &str = "dlv_";

impl DeliveryId {
    pub fn new(webhook: WebhookId, event: EventSeq, created_at: Millis) -> Self {
        Self(NumberedId::new(b"recado delivery\0", event, created_at, &[webhook.as_bytes()]))
    }

    /// The number of the event that the id names. The store compares the whole id with the id of the delivery that it
    /// finds.
    pub fn event_seq(&self) -> EventSeq {
        self.0.number()
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(PREFIX, f)
    }
}

impl FromStr for DeliveryId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        NumberedId::parse(PREFIX, text).map(Self)
    }
}

/// A delivery, as the log shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub id: DeliveryId,
    pub webhook: WebhookId,
    /// The name of the event.
    pub event: String,
    pub event_seq: EventSeq,
    pub event_id: EventId,
    pub status: DeliveryStatus,
    /// Attempts that were begun.
    pub attempt: u32,
    /// Whether it was sent again on request.
    pub replay: bool,
    /// `None`: no further attempt is planned.
    pub next_attempt_at: Option<Millis>,
    pub created_at: Millis,
    pub delivered_at: Option<Millis>,
    pub failed_at: Option<Millis>,
    /// The last attempts that ended, oldest first. The status code, the response time and the error of the delivery are
    /// those of the last attempt.
    pub attempts: Vec<AttemptLog>,
}

impl Delivery {
    /// The last attempt that ended.
    pub fn last(&self) -> Option<&AttemptLog> {
        self.attempts.last()
    }
}

/// An attempt in the log of its delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptLog {
    /// The number of the attempt: the header `webhook-attempt`.
    #[serde(rename = "n")]
    pub attempt: u32,
    pub at: Millis,
    #[serde(rename = "code", default, skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
    #[serde(rename = "ms")]
    pub response_time: Millis,
    /// The name of the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replay: bool,
}

/// Most attempts in the log of a delivery: two rounds of the longest schedule.
const LOGGED: usize = 22;

/// The log with a further attempt.
pub fn logged(mut log: Vec<AttemptLog>, number: u32, attempt: &Attempt, replay: bool) -> Vec<AttemptLog> {
    let Attempt { at, status_code, response_time, error, .. } = *attempt;
    let error = error.map(|error: DeliveryError| error.name().to_owned());
    log.push(AttemptLog { attempt: number, at, status_code, response_time, error, replay });
    let older = log.len().saturating_sub(LOGGED);
    log.drain(..older);
    log
}

/// Reads a stored log. A log that cannot be read counts as empty, because no decision depends on a log.
pub fn read_log(json: &str) -> Vec<AttemptLog> {
    serde_json::from_str(json).unwrap_or_default()
}

/// A request for deliveries to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryClaim {
    pub lane: Lane,
    /// Most deliveries.
    pub limit: usize,
    /// The current time, by the store's own clock if the store has one.
    pub now: Millis,
    /// When the deliveries may be claimed again, if they are not settled before.
    pub lease_until: Millis,
}

/// Claimed deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryClaims {
    pub deliveries: Vec<ClaimedDelivery>,
    /// When the next delivery of the lane is due. This time may be in the past if the limit was reached, or if another
    /// node works on the same webhook.
    pub next_at: Option<Millis>,
}

/// A delivery to send now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedDelivery {
    pub of: DeliveryRef,
    pub id: DeliveryId,
    pub webhook: Arc<Webhook>,
    pub event: Event,
    pub replay: bool,
}

/// Names an attempt of a delivery. If the lease is lost, the next attempt has another number, so the store can ignore a
/// late result of the earlier attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeliveryRef {
    pub webhook: WebhookKey,
    pub event: EventSeq,
    /// 1 for the first attempt: the header `webhook-attempt`.
    pub attempt: u32,
}

/// An attempt and how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryResult {
    pub of: DeliveryRef,
    pub ended: Attempt,
}

/// A step of the fan-out, which creates deliveries for events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FanOut {
    /// The cursor of the next step: all events up to the cursor have their deliveries.
    pub cursor: EventSeq,
    /// How many deliveries the step created.
    pub deliveries: usize,
    /// `false`: another node moved the cursor first, so this step did nothing.
    pub is_ours: bool,
}

/// A query for the log of a webhook, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryQuery {
    pub owner: Owner,
    pub webhook: WebhookId,
    pub status: Option<DeliveryStatus>,
    /// Only of events with this name.
    pub event: Option<String>,
    /// Created at this time or later.
    pub from: Option<Millis>,
    /// Created before this time.
    pub to: Option<Millis>,
    /// The cursor: only deliveries of earlier events. `None` for the first page.
    pub before: Option<EventSeq>,
    /// How many deliveries to leave out, for pages by number.
    pub offset: usize,
    pub limit: usize,
}

/// A page of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryPage {
    pub deliveries: Vec<Delivery>,
    /// The cursor of the next page; `None` where there is none. Each page scans a bounded part of the log, so it may have
    /// fewer deliveries than asked for, or none, although more follow.
    pub next: Option<EventSeq>,
}

/// The result of a request to send a delivery again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    Scheduled,
    /// There is no such delivery.
    NotFound,
    /// The event is not kept any more.
    EventGone,
    /// The webhook is not active, or its older deliveries are still being ended.
    Inactive,
}

/// Most deliveries that one call sends again.
pub const REPLAYS: usize = 100_000;

/// Which deliveries are sent again: dead letters, or all that have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayStatus {
    Failed,
    All,
}

/// A request to send deliveries again, in batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayQuery {
    pub owner: Owner,
    pub webhook: WebhookId,
    pub from: Option<Millis>,
    pub to: Option<Millis>,
    /// `None`: all events.
    pub events: Option<Patterns>,
    pub status: ReplayStatus,
    /// Only deliveries of events after this one: 0 for the first batch, then `next` of the previous batch.
    pub after: EventSeq,
    /// Only deliveries of events up to this one. So a call does not send a delivery a second time.
    pub until: EventSeq,
    /// Most deliveries of this batch.
    pub limit: usize,
    pub now: Millis,
}

/// The result of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayBatch {
    /// How many deliveries were scheduled, and the event after which the next batch begins. `None`: this batch was the
    /// last.
    Scheduled {
        count: usize,
        next: Option<EventSeq>,
    },
    NotFound,
    Inactive,
}

#[cfg(test)]
mod tests {
    use super::super::delivery::tests::attempt;
    use super::*;

    #[test]
    fn an_id_names_its_delivery() {
        let webhook = WebhookId::new(1, [1; 10]);
        let id = DeliveryId::new(webhook, 70_000, 1_763_900_000_000);
        let text = id.to_string();
        assert_eq!((text.len(), text.parse(), id.event_seq()), (36, Ok(id), 70_000));
        assert_ne!(DeliveryId::new(WebhookId::new(1, [2; 10]), 70_000, 1_763_900_000_000), id);
        for bad in ["", "dlv_", &text[..35], &text.to_uppercase(), &text.replace('0', "+"), &text[4..]] {
            assert_eq!(bad.parse::<DeliveryId>(), Err(InvalidId), "{bad}");
        }
    }

    #[test]
    fn a_log_keeps_the_last_attempts() {
        let log = (1..=30).fold(Vec::new(), |log, number| logged(log, number, &attempt(500), number > 20));
        assert_eq!((log.len(), log[0].attempt, log[21].attempt), (LOGGED, 9, 30));
        let json = serde_json::to_string(&log).expect("it writes");
        assert_eq!(read_log(&json), log);
        assert!(json.ends_with(r#"{"n":30,"at":1,"code":500,"ms":3,"error":"HTTP_STATUS","replay":true}]"#), "{json}");
        assert_eq!(read_log("?"), []);
    }
}
