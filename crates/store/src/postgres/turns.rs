//! The order in which deliveries to one channel are stored.
//!
//! A transaction that stores deliveries waits for the inbox of its owner, and holds a connection meanwhile. Without turns a burst
//! of deliveries to one channel takes all connections, and the other channels of the node wait for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use recado_domain::channel::ChannelKey;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::timeout;

use super::PgStore;
use crate::{Result, StoreError, Turn, Turns};

/// How many channels are remembered before those without deliveries are forgotten.
const REMEMBERED: usize = 1_024;

/// How long a delivery waits for its turn. Then the network repeats it.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The turns of the channels to which something is delivered.
pub(super) type Channels = Mutex<HashMap<ChannelKey, Arc<AsyncMutex<()>>>>;

#[async_trait]
impl Turns for PgStore {
    async fn turn(&self, channel: ChannelKey) -> Result<Option<Turn>> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            if turns.len() >= REMEMBERED {
                // A delivery that is stored or waits holds a reference, too.
                turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            }
            turns.entry(channel).or_default().clone()
        };
        timeout(LONGEST_WAIT, turn.lock_owned()).await.map(Some).map_err(|_| StoreError::Overloaded)
    }
}
