//! Shows the recipient that we are typing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use whatsapp_rust::Client;
use whatsapp_rust::wacore_binary::Jid;

use super::{Addressee, ConnectionState, Session, SubmitError};

/// The time limit for sending each presence.
const LIMIT: Duration = Duration::from_secs(5);

/// While this exists, the account is online and the phone gets no notifications.
struct Online(Arc<ConnectionState>);

impl Online {
    fn new(state: &Arc<ConnectionState>) -> Self {
        state.typing.store(true, Ordering::Relaxed);
        Self(Arc::clone(state))
    }
}

impl Drop for Online {
    fn drop(&mut self) {
        self.0.typing.store(false, Ordering::Relaxed);
    }
}

impl Session {
    /// Shows a person for this time that we are typing. Only an online account is seen typing, so the session goes online,
    /// and offline again at the end. The phone gets no notifications meanwhile. If the caller is dropped, the session goes
    /// offline too.
    pub async fn type_for(&self, to: &Addressee, time: Duration) -> Result<(), SubmitError> {
        if !self.is_up() {
            return Err(SubmitError::Down);
        }
        let (client, to, online) = (Arc::clone(&self.client), to.jid(), Online::new(&self.state));
        let shown = self.tasks.spawn(async move {
            if timeout(LIMIT, begin(&client, &to)).await.is_ok_and(|begun| begun.is_ok()) {
                sleep(time).await;
            }
            // Also if only the first of the two presences has left.
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

#[expect(clippy::needless_pass_by_value, reason = "the signature that `map_err` needs")]
pub fn other(error: impl ToString) -> SubmitError {
    SubmitError::Other(error.to_string())
}
