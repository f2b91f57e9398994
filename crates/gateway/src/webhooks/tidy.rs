//! Background work: ends the deliveries of disabled webhooks, and deletes old deliveries and those of deleted webhooks.

use std::time::Duration;

use recado_store::StoreError;
use tokio::time::{Instant, sleep, timeout};

use super::Webhooks;

/// How often old deliveries are looked for.
const EVERY: Duration = Duration::from_hours(1);
/// When to tidy again after a webhook was disabled or deleted. Its requests in flight end in the meantime, and then
/// their deliveries can be tidied.
const AGAIN: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(20), Duration::from_mins(1)];
/// The pause after a batch is this many times the duration of the batch, within these limits. So calls and deliveries
/// can use the store.
const PAUSE: u32 = 4;
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));
/// The wait after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// Tidies until the future is dropped.
pub(super) async fn run(webhooks: &Webhooks) {
    let mut again = 0;
    loop {
        match tidy(webhooks).await {
            Ok(()) => {
                let wait = AGAIN.get(again).copied().unwrap_or(EVERY);
                again += 1;
                if timeout(wait, webhooks.untidy.notified()).await.is_ok() {
                    again = 0;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "deliveries not tidied; the next try continues");
                sleep(RETRY).await;
            }
        }
    }
}

async fn tidy(webhooks: &Webhooks) -> Result<(), StoreError> {
    loop {
        let began = Instant::now();
        let more = webhooks.store.tidy_deliveries(webhooks.now().await?).await?;
        // A webhook that was enabled in the meantime may have deliveries to claim now.
        webhooks.due.notify_one();
        if !more {
            return Ok(());
        }
        sleep((began.elapsed() * PAUSE).clamp(PAUSES.0, PAUSES.1)).await;
    }
}
