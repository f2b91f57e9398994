//! Work that one of the nodes does again and again.

use std::sync::Arc;
use std::time::Duration;

use recado_store::StoreError;

use crate::gateway::Gateway;

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
