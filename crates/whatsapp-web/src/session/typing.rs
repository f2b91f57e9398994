//! Shows the recipient that we type.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use whatsapp_rust::wacore_binary::Jid;

use super::bounded::within;
use super::{Session, SubmitError};

const LIMIT: Duration = Duration::from_secs(5);

impl Session {
    /// Shows `account` that we type, or that we stopped. Only who is online is seen typing, so this goes online, and
    /// offline again when it ends; end it soon, as the phone gets no notification meanwhile.
    pub async fn typing(&self, account: &str, on: bool) -> Result<(), SubmitError> {
        // Also where the line is down: the next one must not begin online.
        let up = self.is_up();
        self.typing.store(on && up, Ordering::Relaxed);
        if !up {
            return Err(SubmitError::Down);
        }
        let (client, to) = (Arc::clone(&self.client), Jid::pn(account));
        let signs = async move {
            if on {
                client.presence().set_available().await.map_err(other)?;
                client.chatstate().send_composing(&to).await.map_err(other)
            } else {
                client.chatstate().send_paused(&to).await.map_err(other)?;
                client.presence().set_unavailable().await.map_err(other)
            }
        };
        within(LIMIT, signs).await.map_err(other)?
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands where an error is mapped")]
pub fn other(error: impl ToString) -> SubmitError {
    SubmitError::Other(error.to_string())
}
