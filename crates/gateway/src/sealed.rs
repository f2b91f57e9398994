//! Checks every hour, and after a rotation, whether the secret key opens what the store has sealed.
//!
//! A check reads a bounded number of rows of each kind, and the next check continues behind them. So rows of an old key are
//! found within hours, and a store with millions of rows has no more work than others. What one key has sealed is opened by
//! that key, so one secret of each key in a page is tried.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use recado_domain::channel::SessionKey;
use recado_domain::incoming::{RefusedArrival, RefusedKey, SealedIncoming};
use recado_domain::message::Seq;
use recado_domain::webhook::{SealedWebhook, WebhookKey};
use recado_store::StoreError;
use recado_store::sealed::{KeyId, KeyRing, Place, ReceivedPart, SealError};
use tokio::time::{Instant, sleep};

use crate::gateway::Gateway;
use crate::metrics::{METRICS, SEALED, SealedRows};

/// The wait between two checks.
const EVERY: Duration = Duration::from_hours(1);
/// Small rows that are read at a time, and the most such pages of one kind in a check.
const SMALL: (usize, usize) = (500, 20);
/// The same for rows with the network's form of a message, which may have 256 KiB.
const LARGE: (usize, usize) = (20, 50);
/// The pause between two pages is this many times the duration of a page, so that a check uses little of the store's time.
const SHARE: u32 = 9;

/// What is sealed, in the order of [`SEALED`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// How channels are linked.
    Links,
    /// The sessions of linked phones.
    Sessions,
    /// The secrets and headers of webhooks.
    Webhooks,
    /// The networks' own form of received messages, and the addresses of their files.
    Received,
    /// Received messages that the store has refused.
    Refused,
}

impl Kind {
    /// Every kind.
    const ALL: [Self; SEALED.len()] = [Self::Links, Self::Sessions, Self::Webhooks, Self::Received, Self::Refused];

    /// The value of the label and of the log's field.
    fn name(self) -> &'static str {
        SEALED[self as usize]
    }

    /// How many rows are read at a time, and how many times in a check.
    fn pages(self) -> (usize, usize) {
        match self {
            Self::Links | Self::Sessions | Self::Webhooks => SMALL,
            Self::Received | Self::Refused => LARGE,
        }
    }

    /// Whether something waits until the key is there. Received messages can be read without their sealed parts.
    fn waits(self) -> bool {
        self != Self::Received
    }
}

/// What was found of one kind of rows.
#[derive(Debug, Clone, Default)]
struct Found {
    /// The first error of the present round through all rows.
    now: Option<SealError>,
    /// That of the round before, which counts until this one is complete.
    before: Option<SealError>,
}

impl Found {
    /// A page was checked; `complete`: it was the last one.
    fn note(&mut self, error: Option<SealError>, complete: bool) {
        self.now = self.now.or(error);
        if complete {
            self.before = self.now.take();
        }
    }

    fn error(&self) -> Option<SealError> {
        self.now.or(self.before)
    }
}

/// How far the checks have come.
#[derive(Debug, Default)]
struct Round {
    sessions: Option<SessionKey>,
    webhooks: WebhookKey,
    received: Option<Seq>,
    refused: Option<RefusedKey>,
    found: [Found; Kind::ALL.len()],
}

/// Checks until the server stops.
pub async fn watch(gateway: Arc<Gateway>) {
    let stop = gateway.stop.clone();
    stop.run_until_cancelled(check_hourly(&gateway)).await;
}

async fn check_hourly(gateway: &Gateway) {
    let mut round = Round::default();
    loop {
        match round.check(gateway).await {
            Ok(()) => round.report(gateway),
            Err(error) => tracing::debug!(%error, "sealed secrets not read; the next check continues"),
        }
        tokio::select! {
            () = sleep(EVERY) => {}
            () = gateway.check_secrets.notified() => round = Round::default(),
        }
    }
}

impl Round {
    async fn check(&mut self, gateway: &Gateway) -> Result<(), StoreError> {
        for kind in Kind::ALL {
            for _ in 0..kind.pages().1 {
                let began = Instant::now();
                let (error, complete) = self.page(gateway, kind).await?;
                self.found[kind as usize].note(error, complete);
                if complete {
                    break;
                }
                sleep(began.elapsed() * SHARE).await;
            }
        }
        Ok(())
    }

    /// Checks a page of rows. Returns the first error, and whether the page was the last one. The place changes when the page
    /// was read.
    async fn page(&mut self, gateway: &Gateway, kind: Kind) -> Result<(Option<SealError>, bool), StoreError> {
        let (mut tried, store, (page, _)) = (Tried::new(&gateway.secrets), &gateway.store, kind.pages());
        let rows = match kind {
            Kind::Links => {
                store.links().await?.iter().for_each(|link| tried.open(Place::Link(link.channel), &link.sealed));
                0
            }
            Kind::Sessions => {
                let rows = store.session_rows(self.sessions.clone(), page).await?;
                rows.iter().for_each(|row| tried.open((&row.of).into(), &row.sealed));
                self.sessions = last_of_full(&rows, page).map(|row| row.of.clone());
                rows.len()
            }
            Kind::Webhooks => {
                let rows = store.sealed_webhooks(self.webhooks, page).await?;
                rows.iter().for_each(|webhook| of_webhook(webhook, |place, sealed| tried.open(place, sealed)));
                self.webhooks = last_of_full(&rows, page).map_or(0, |webhook| webhook.key);
                rows.len()
            }
            Kind::Received => {
                let rows = store.sealed_incoming(self.received.unwrap_or(Seq::MIN), page).await?;
                rows.iter().for_each(|message| of_message(message, |place, sealed| tried.open(place, sealed)));
                self.received = last_of_full(&rows, page).map(|message| message.seq);
                rows.len()
            }
            Kind::Refused => {
                let rows = store.sealed_refused(self.refused.clone(), page).await?;
                rows.iter().for_each(|refused| of_refused(refused, |place, sealed| tried.open(place, sealed)));
                self.refused = last_of_full(&rows, page).map(|refused| refused.key.clone());
                rows.len()
            }
        };
        Ok((tried.error, rows < page))
    }

    fn report(&self, gateway: &Gateway) {
        let mut opens = true;
        for (kind, found) in Kind::ALL.into_iter().zip(&self.found) {
            let error = found.error();
            opens &= error.is_none() || !kind.waits();
            let rows = METRICS.sealed_rows_ok.get_or_create(&SealedRows { kind: kind.name() });
            let was_ok = rows.set(error.is_none().into()) == 1;
            if let Some(error) = error.filter(|_| was_ok) {
                let kind = kind.name();
                tracing::error!(kind, %error, "stored secrets not readable; the secret key that sealed them is missing");
            }
        }
        METRICS.secret_key_ok.set(opens.into());
        gateway.opens_secrets.store(opens, Ordering::Relaxed);
    }
}

/// The last row of a full page: more may follow.
fn last_of_full<T>(rows: &[T], page: usize) -> Option<&T> {
    rows.last().filter(|_| rows.len() >= page)
}

/// The keys of a page, of which one secret each was tried.
struct Tried<'a> {
    keys: &'a KeyRing,
    seen: Vec<Option<KeyId>>,
    error: Option<SealError>,
}

impl<'a> Tried<'a> {
    fn new(keys: &'a KeyRing) -> Self {
        Self { keys, seen: Vec::new(), error: None }
    }

    fn open(&mut self, place: Place<'_>, sealed: &[u8]) {
        let key = KeyId::of(sealed);
        if self.seen.contains(&key) {
            return;
        }
        self.seen.push(key);
        if let Err(error) = self.keys.open(place, sealed) {
            self.error.get_or_insert(error);
        }
    }
}

/// Shows each sealed part of a received message, and its place.
pub fn of_message(message: &SealedIncoming, mut see: impl FnMut(Place<'_>, &[u8])) {
    let SealedIncoming { channel, network_id, raw, file, .. } = message;
    let place = |part| Place::Received { channel: *channel, network_id, part };
    raw.iter().for_each(|raw| see(place(ReceivedPart::Message), raw));
    file.iter().for_each(|(_, file)| see(place(ReceivedPart::File), file));
}

/// Shows a refused arrival, and its place.
pub fn of_refused(refused: &RefusedArrival, mut see: impl FnMut(Place<'_>, &[u8])) {
    see(Place::Refused { channel: refused.key.channel, id: &refused.key.id }, &refused.sealed);
}

/// Shows each sealed part of a webhook, and its place.
pub fn of_webhook(webhook: &SealedWebhook, mut see: impl FnMut(Place<'_>, &[u8])) {
    let SealedWebhook { id, secret, previous_secret, headers, .. } = webhook;
    for secret in [Some(secret), previous_secret.as_ref()].into_iter().flatten() {
        see(Place::WebhookSecret(*id), secret);
    }
    headers.iter().for_each(|headers| see(Place::WebhookHeaders(*id), headers));
}

#[cfg(test)]
mod tests {
    use recado_store::clock::SystemEntropy;

    use super::*;

    #[test]
    fn a_key_is_tried_once_in_a_page_and_a_missing_one_is_found_behind_others() {
        let ring = |digit: &str| KeyRing::parse(&digit.repeat(64)).expect("a key");
        let (ours, other) = (ring("1"), ring("2"));
        let seal = |keys: &KeyRing, n| keys.seal(Place::Link(n), b"secret", &SystemEntropy).expect("sealed");
        let mut tried = Tried::new(&ours);
        for n in 1..50 {
            tried.open(Place::Link(n), &seal(&ours, n));
        }
        assert_eq!((tried.seen.len(), tried.error), (1, None));
        tried.open(Place::Link(50), &seal(&other, 50));
        assert_eq!(tried.error, Some(SealError::KeyMissing(other.first().expect("a key"))));
    }

    #[test]
    fn an_error_counts_until_a_whole_round_has_none() {
        let mut found = Found::default();
        found.note(Some(SealError::NoKey), false);
        found.note(None, true);
        assert_eq!(found.error(), Some(SealError::NoKey), "found on the first page of the round");
        found.note(None, false);
        assert_eq!(found.error(), Some(SealError::NoKey), "the row may be on the next page");
        found.note(None, true);
        assert_eq!(found.error(), None);
    }
}
