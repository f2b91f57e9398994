//! Work that one of the nodes does again and again.

use std::sync::Arc;
use std::time::Duration;

use recado_store::StoreError;
use tokio::time::Instant;

use crate::gateway::Gateway;

/// The pause after a batch is this many times the duration of the batch, so that the work uses at most a tenth of the store's
/// time. It has a minimum, and a maximum so that the work ends.
const PAUSE: u32 = 9;
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Pauses after a batch that began then. Other writes run meanwhile.
pub async fn rest_after(began: Instant) {
    tokio::time::sleep((began.elapsed() * PAUSE).clamp(PAUSES.0, PAUSES.1)).await;
}

/// Works after each pause, if this node is the one that does such work, until the server stops. `failed` logs a failure; the next
/// round goes on.
pub async fn on_first_node<F>(
    gateway: Arc<Gateway>,
    pause: Duration,
    work: impl Fn(Arc<Gateway>) -> F,
    failed: impl Fn(StoreError),
) where
    F: Future<Output = Result<(), StoreError>>,
{
    let working = async {
        loop {
            tokio::time::sleep(pause).await;
            let done = match gateway.nodes.is_first().await {
                Ok(true) => work(gateway.clone()).await,
                Ok(false) => Ok(()),
                Err(error) => Err(error),
            };
            done.unwrap_or_else(&failed);
        }
    };
    gateway.stop.run_until_cancelled(working).await;
}
