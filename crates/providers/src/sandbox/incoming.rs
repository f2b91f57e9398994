//! The acts of people on the simulated network. The network stores an act before it delivers it to the gateway, and
//! repeats the delivery until the gateway has stored it. So a crash loses nothing, as with a real network.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use recado_domain::channel::{ChannelKey, ChannelRef};
use recado_domain::clock::{Millis, millis};
use recado_domain::incoming::{Arrivals, Received};
use recado_domain::simulation::Simulated;
use recado_store::{Inbox, StoreError};
use tokio_util::sync::CancellationToken;

use super::Sandbox;
use crate::sandbox::network::KeptAct;

/// How long a call may take to deliver its act. After that time the background task delivers it.
const GRACE: Duration = Duration::from_secs(2);
/// How long a call delivers acts that were held before it. The background task delivers the rest, so that a call ends
/// in time even if many acts were held.
const HELD_FOR: Duration = Duration::from_secs(1);
/// The wait after the gateway could not store an act.
const RETRY: Duration = Duration::from_millis(500);

/// An act of a person.
pub struct SimulatedAct<'a> {
    pub via: &'a ChannelRef,
    /// Its id in the inbox.
    pub id: String,
    pub simulated: Simulated,
    /// How often the network delivers it.
    pub repeat: u32,
    /// Whether it is held until the next act of the channel was delivered.
    pub is_held: bool,
    /// Turns the service window of the channel on or off. `None`: no change.
    pub windowed: Option<bool>,
}

impl Sandbox {
    /// Stores an act, and delivers it at once unless it is held. Returns the result of the delivery.
    pub async fn simulate(&self, act: SimulatedAct<'_>, inbox: &dyn Inbox) -> Result<Option<Received>, StoreError> {
        if let Some(windowed) = act.windowed {
            self.network.set_windowed(act.via.key, windowed).await?;
        }
        let payload = serde_json::to_string(&act.simulated).map_err(|error| StoreError::Refused(error.to_string()))?;
        let mut kept = KeptAct {
            n: 0,
            via: act.via.clone(),
            person: act.simulated.person.address(),
            kind: act.simulated.kind().to_owned(),
            network_id: act.simulated.network_id,
            id: act.id,
            payload,
            repeat: act.repeat,
            at: self.clock.now(),
            is_held: act.is_held,
        };
        kept.n = self.network.keep(kept.clone()).await?;
        self.acts.notify_one();
        if act.is_held {
            return Ok(None);
        }
        let received = self.deliver(&kept, inbox).await?;
        self.deliver_held(act.via.key, inbox).await?;
        Ok(received)
    }

    /// Delivers the acts that were held on a channel, after the next act was delivered.
    async fn deliver_held(&self, channel: ChannelKey, inbox: &dyn Inbox) -> Result<(), StoreError> {
        self.network.release(channel).await?;
        let began = Instant::now();
        for kept in self.network.undelivered(Some(channel), self.clock.now()).await? {
            if began.elapsed() >= HELD_FOR {
                self.acts.notify_one();
                break;
            }
            self.deliver(&kept, inbox).await?;
        }
        Ok(())
    }

    /// Delivers an act to the gateway as often as the caller asked for. The gateway recognises repetitions.
    async fn deliver(&self, kept: &KeptAct, inbox: &dyn Inbox) -> Result<Option<Received>, StoreError> {
        let simulated: Option<Simulated> = serde_json::from_str(&kept.payload).ok();
        let (mut first, mut times) = (None, 0);
        if let Some(arrival) = simulated.and_then(|simulated| simulated.arrival()) {
            let arrivals = Arrivals {
                channel: kept.via.key,
                number: None,
                business: None,
                windowed: self.network.is_windowed(kept.via.key).await?,
                arrivals: vec![arrival],
            };
            for _ in 0..kept.repeat {
                match inbox.receive(arrivals.clone(), self.clock.now()).await {
                    Ok(received) => {
                        times += 1;
                        first = first.or_else(|| received.into_iter().next());
                    }
                    // An act that can never be stored must not block the acts after it.
                    Err(StoreError::Refused(error)) => {
                        tracing::error!(channel.id = %kept.via.id, error, "simulated act refused by the store");
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
        } else {
            tracing::error!(channel.id = %kept.via.id, "simulated act not readable by this version");
        }
        self.network.delivered(kept.n, times).await?;
        Ok(first)
    }

    /// Delivers the acts that a crash or an outage of the store has left, until it is stopped.
    pub async fn deliver_rest(&self, inbox: &dyn Inbox, stop: CancellationToken) {
        // Acts that are older than this were stored before the process started.
        let mut grace = Duration::ZERO;
        loop {
            // The waiter is registered before the query, so that no act is missed between the two.
            let act = self.acts.notified();
            let wait = match self.deliver_older(inbox, grace, &stop).await {
                Ok(0) => None,
                Ok(_) => Some(Duration::ZERO),
                Err(error) => {
                    tracing::warn!(%error, "simulated acts not delivered; retrying");
                    Some(RETRY)
                }
            };
            let wait = async {
                match (wait, self.network.poll_interval()) {
                    (Some(wait), _) => tokio::time::sleep(wait).await,
                    (None, None) => {
                        act.await;
                        tokio::time::sleep(GRACE + RETRY).await;
                    }
                    (None, Some(every)) => drop(tokio::time::timeout(every, act).await),
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = wait => grace = GRACE,
            }
        }
    }

    /// Delivers a batch of acts that are older than this. Returns their number. An act that the gateway cannot store now keeps
    /// no act of another channel: the first error is returned after the others.
    async fn deliver_older(
        &self,
        inbox: &dyn Inbox,
        grace: Duration,
        stop: &CancellationToken,
    ) -> Result<usize, StoreError> {
        let before: Millis = self.clock.now() - millis(grace);
        let rest = self.network.undelivered(None, before).await?;
        let (mut failed, mut first) = (HashSet::new(), None);
        for kept in &rest {
            // The acts of a channel stay in their order.
            if failed.contains(&kept.via.key) {
                continue;
            }
            // Each act may wait until the store gives up.
            if stop.is_cancelled() {
                break;
            }
            if let Err(error) = self.deliver(kept, inbox).await {
                failed.insert(kept.via.key);
                first.get_or_insert(error);
            }
        }
        first.map_or(Ok(rest.len()), Err)
    }
}
