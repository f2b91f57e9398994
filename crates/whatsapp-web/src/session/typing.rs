//! Shows the recipient that we type.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use whatsapp_rust::Client;
use whatsapp_rust::wacore_binary::Jid;

use super::{Session, Shown, SubmitError};

/// The longest for each sign to leave.
const LIMIT: Duration = Duration::from_secs(5);

/// The phone gets no notification while this is there.
struct Online(Arc<Shown>);

impl Online {
    fn new(line: &Arc<Shown>) -> Self {
        line.typing.store(true, Ordering::Relaxed);
        Self(Arc::clone(line))
    }
}

impl Drop for Online {
    fn drop(&mut self) {
        self.0.typing.store(false, Ordering::Relaxed);
    }
}

impl Session {
    /// Shows `account` for this time that we type. Only who is online is seen typing, so this goes online, and offline
    /// again when it ends; the phone gets no notification meanwhile. It ends also where the caller goes away.
    pub async fn type_for(&self, account: &str, time: Duration) -> Result<(), SubmitError> {
        if !self.is_up() {
            return Err(SubmitError::Down);
        }
        let (client, to, online) = (Arc::clone(&self.client), Jid::pn(account), Online::new(&self.line));
        let shown = self.tasks.spawn(async move {
            if timeout(LIMIT, begin(&client, &to)).await.is_ok_and(|begun| begun.is_ok()) {
                sleep(time).await;
            }
            // Also where only the first of the two signs has left.
            drop(online);
            let _ = timeout(LIMIT, end(&client, &to)).await;
        });
        shown.await.map_err(other)
    }
}

async fn begin(client: &Client, to: &Jid) -> Result<(), SubmitError> {
    client.presence().set_available().await.map_err(other)?;
    client.chatstate().send_composing(to).await.map_err(other)
}

async fn end(client: &Client, to: &Jid) -> Result<(), SubmitError> {
    let paused = client.chatstate().send_paused(to).await.map_err(other);
    client.presence().set_unavailable().await.map_err(other)?;
    paused
}

#[expect(clippy::needless_pass_by_value, reason = "it stands where an error is mapped")]
pub fn other(error: impl ToString) -> SubmitError {
    SubmitError::Other(error.to_string())
}
