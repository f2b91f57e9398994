//! What people do on the simulated network. The network keeps it durably before the gateway gets it, and delivers it again
//! until the gateway has stored it. So a crash in between loses nothing, as with a real network.

use std::time::{Duration, Instant};

use recado_domain::channel::{ChannelKey, ChannelRef};
use recado_domain::clock::{Millis, millis};
use recado_domain::incoming::{Arrivals, Received, Rules};
use recado_domain::simulation::Simulated;
use recado_store::{Inbox, StoreError};
use tokio_util::sync::CancellationToken;

use super::Sandbox;
use crate::sandbox::network::KeptAct;

/// How long a call has to deliver what it brought. After that the background task delivers it.
const GRACE: Duration = Duration::from_secs(2);
/// How long a call delivers what was held before it. The background task delivers the rest, so that a call ends in time however
/// much was held.
const HELD_FOR: Duration = Duration::from_secs(1);
/// The wait after the gateway could not store what was delivered.
const RETRY: Duration = Duration::from_millis(500);

/// What a person does.
pub struct Told<'a> {
    pub via: &'a ChannelRef,
    /// Its id in the inbox.
    pub id: String,
    pub simulated: Simulated,
    /// How often the network delivers it.
    pub repeat: u32,
    /// Held until the next one was delivered.
    pub is_held: bool,
    /// Gives the channel a service window, or takes it.
    pub windowed: Option<bool>,
}

impl Sandbox {
    /// Takes what a person does, and delivers it at once, unless it is held. Returns what became of it.
    pub async fn tell(&self, told: Told<'_>, inbox: &dyn Inbox) -> Result<Option<Received>, StoreError> {
        if let Some(windowed) = told.windowed {
            self.network.set_windowed(told.via.key, windowed).await?;
        }
        let payload = serde_json::to_string(&told.simulated).map_err(|error| StoreError::Refused(error.to_string()))?;
        let mut kept = KeptAct {
            n: 0,
            via: told.via.clone(),
            person: told.simulated.person.address(),
            kind: told.simulated.kind().to_owned(),
            network_id: told.simulated.network_id,
            id: told.id,
            payload,
            repeat: told.repeat,
            at: self.clock.now(),
            is_held: told.is_held,
        };
        kept.n = self.network.keep(kept.clone()).await?;
        self.told.notify_one();
        if told.is_held {
            return Ok(None);
        }
        let received = self.deliver(&kept, inbox).await?;
        self.deliver_held(told.via.key, inbox).await?;
        Ok(received)
    }

    /// Delivers what was held on a channel: the next one has arrived.
    async fn deliver_held(&self, channel: ChannelKey, inbox: &dyn Inbox) -> Result<(), StoreError> {
        self.network.release(channel).await?;
        let began = Instant::now();
        for kept in self.network.undelivered(Some(channel), self.clock.now()).await? {
            if began.elapsed() >= HELD_FOR {
                self.told.notify_one();
                break;
            }
            self.deliver(&kept, inbox).await?;
        }
        Ok(())
    }

    /// Delivers it to the gateway as often as the caller wants. The gateway recognises a repetition.
    async fn deliver(&self, kept: &KeptAct, inbox: &dyn Inbox) -> Result<Option<Received>, StoreError> {
        let simulated: Option<Simulated> = serde_json::from_str(&kept.payload).ok();
        let mut first = None;
        if let Some(arrival) = simulated.and_then(|simulated| simulated.arrival()) {
            let arrivals = Arrivals {
                channel: kept.via.key,
                number: None,
                business: None,
                windowed: self.network.is_windowed(kept.via.key).await?,
                rules: Rules::default(),
                arrivals: vec![arrival],
            };
            for _ in 0..kept.repeat {
                match inbox.receive(arrivals.clone(), self.clock.now()).await {
                    Ok(received) => first = first.or_else(|| received.into_iter().next()),
                    // It can never be stored, and must not block what follows.
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
        self.network.delivered(kept.n).await?;
        Ok(first)
    }

    /// Delivers what a crash, or an outage of the store, has left, until it is stopped.
    pub async fn deliver_rest(&self, inbox: &dyn Inbox, stop: CancellationToken) {
        // What is older than this was brought before the process started.
        let mut grace = Duration::ZERO;
        loop {
            // The waiter is registered before the query, so that nothing is missed in between.
            let told = self.told.notified();
            let wait = match self.deliver_older(inbox, grace).await {
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
                        told.await;
                        tokio::time::sleep(GRACE + RETRY).await;
                    }
                    (None, Some(every)) => drop(tokio::time::timeout(every, told).await),
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = wait => grace = GRACE,
            }
        }
    }

    /// Delivers a part of what was brought so long ago. Returns how much.
    async fn deliver_older(&self, inbox: &dyn Inbox, grace: Duration) -> Result<usize, StoreError> {
        let before: Millis = self.clock.now() - millis(grace);
        let rest = self.network.undelivered(None, before).await?;
        for kept in &rest {
            self.deliver(kept, inbox).await?;
        }
        Ok(rest.len())
    }
}
