//! Tries to store what the store refused when it arrived.

use std::sync::Arc;
use std::time::Duration;

use recado_providers::refused::retry_due;
use recado_store::StoreError;

use crate::gateway::Gateway;
use crate::periodic::on_first_node;

/// The wait between two searches.
const SEARCH_EVERY: Duration = Duration::from_mins(1);

/// Tries until the server stops.
pub async fn retry(gateway: Arc<Gateway>) {
    let failed = |error| tracing::warn!(%error, "refused messages not tried again; the next search continues");
    on_first_node(gateway, SEARCH_EVERY, retry_now, failed).await;
}

async fn retry_now(gateway: Arc<Gateway>) -> Result<(), StoreError> {
    retry_due(&*gateway.store, &gateway.secrets, &*gateway.entropy, gateway.clock.now()).await
}
