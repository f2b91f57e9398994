//! Creates the deliveries of new events. One process does this for all nodes.

use std::time::Duration;

use recado_domain::clock::{millis, random};
use recado_domain::event::{EventQuery, EventSeq};
use recado_store::StoreError;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{Webhooks, leave_to_callers};

/// Events that are read at a time.
const PAGE: usize = 256;
/// How long the lease of the fan-out is valid where nodes share it, and how often it is renewed.
const LEASE: Duration = Duration::from_secs(6);
const RENEW: Duration = Duration::from_secs(2);
/// How often a node asks whether the lease is free, and whether another node has created a webhook.
const CHECK: Duration = Duration::from_secs(1);
/// How many times longer the fan-out leaves the store to others, if other writes wait for it. The events are stored, so their
/// deliveries can be created later, and calls cannot wait.
const CROWDED: u32 = 16;
/// The wait after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// The lease and its renewal for a process that owns the store alone.
const OWN: (Duration, Duration) = (Duration::from_hours(1), Duration::from_mins(20));

/// The lease of the fan-out, as this process asks for it.
struct Leader<'a> {
    webhooks: &'a Webhooks,
    node: [u8; 16],
    lease: Duration,
    renew: Duration,
}

/// Creates deliveries until the server stops. Then another node can take over at once.
pub(super) async fn run(webhooks: &Webhooks, shares: bool, stop: &CancellationToken) {
    let leader = if shares {
        Leader { webhooks, node: random(&*webhooks.entropy), lease: LEASE, renew: RENEW }
    } else {
        // The previous process used the same node id, so this process takes over its lease.
        Leader { webhooks, node: [0; 16], lease: OWN.0, renew: OWN.1 }
    };
    stop.run_until_cancelled(leader.run(shares)).await;
    if shares && let Err(error) = webhooks.store.leave_fan_out(leader.node).await {
        tracing::debug!(%error, "fan-out not given up; another node takes over after the end of its lease");
    }
}

impl Leader<'_> {
    async fn run(&self, shares: bool) {
        let mut failed = false;
        loop {
            match self.lead().await {
                Ok(()) => {
                    failed = false;
                    let changed = self.webhooks.changed.notified();
                    if shares {
                        drop(timeout(CHECK, changed).await);
                    } else {
                        // Only this process changes webhooks, so it needs no poll.
                        changed.await;
                    }
                }
                Err(error) => {
                    // Log once for each outage.
                    if !failed {
                        tracing::warn!(%error, "events not given to webhooks; the next try continues");
                    }
                    failed = true;
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// Creates deliveries as long as this process has the lease, and a webhook is active.
    async fn lead(&self) -> Result<(), StoreError> {
        let Some(mut cursor) = self.renew().await? else { return Ok(()) };
        if self.webhooks.secrets.is_empty() {
            tracing::warn!("webhooks wait: no secret key");
        }
        let mut renew_at = Instant::now() + self.renew;
        // The task follows only from here on, because the store is polled as long as there is a follower.
        let mut news = self.webhooks.events.follow();
        loop {
            news.mark_unchanged();
            let Some(next) = self.step(cursor).await? else { return Ok(()) };
            if next == cursor {
                tokio::select! {
                    _ = news.changed() => {}
                    // The change may have ended the last active webhook, so the lease is checked at once.
                    () = self.webhooks.changed.notified() => renew_at = Instant::now(),
                    () = sleep_until(renew_at) => {}
                }
            }
            cursor = next;
            if Instant::now() >= renew_at {
                let Some(renewed) = self.renew().await? else { return Ok(()) };
                (cursor, renew_at) = (renewed, Instant::now() + self.renew);
            }
        }
    }

    async fn renew(&self) -> Result<Option<EventSeq>, StoreError> {
        let now = self.webhooks.now().await?;
        self.webhooks.store.lead_fan_out(self.node, now, now + millis(self.lease)).await
    }

    /// Creates the deliveries of one page of events, and returns the next cursor. `None`: the caller must ask for the
    /// lease and the cursor again.
    async fn step(&self, cursor: EventSeq) -> Result<Option<EventSeq>, StoreError> {
        let Webhooks { store, events, due, .. } = self.webhooks;
        let query = EventQuery { owner: None, channel: None, after: cursor, limit: PAGE };
        // A cursor is ahead of the store after an old backup was restored. A new lease returns a new cursor.
        let Some(page) = events.read(query).await? else { return Ok(None) };
        if page.cursor == cursor {
            return Ok(Some(cursor));
        }
        let now = self.webhooks.now().await?;
        let (began, is_crowded) = (Instant::now(), store.writes_waiting() > 0);
        let done = store.fan_out(cursor, page, now).await?;
        if done.deliveries > 0 {
            due.notify_one();
            leave_to_callers(began, if is_crowded { CROWDED } else { 1 }).await;
        }
        Ok(done.is_ours.then_some(done.cursor))
    }
}
