//! Unlinks this device.

use std::sync::Arc;
use std::time::Duration;

use whatsapp_rust::IqError;
use whatsapp_rust::wacore::iq::devices::RemoveCompanionDeviceSpec;

use super::bounded::within;
use super::typing::other;
use super::{Session, SubmitError};

const LIMIT: Duration = Duration::from_secs(10);

impl Session {
    /// Takes this device off the phone's list, and stops. On an error the session goes on as it was; where the line broke
    /// before the answer, [`LoggedOut`](crate::Event::LoggedOut) comes when the network has unlinked it all the same. The
    /// rows are the caller's to delete.
    pub async fn log_out(&self) -> Result<(), SubmitError> {
        let account = self.client.persistence_manager().get_device_snapshot().pn.clone();
        let Some(account) = account.filter(|_| self.is_up()) else { return Err(SubmitError::Down) };
        let client = Arc::clone(&self.client);
        // Not the library's own `logout`: that tells nobody whether it succeeded.
        let answer = within(LIMIT, async move { client.execute(RemoveCompanionDeviceSpec::new(&account)).await }).await;
        answer.map_err(other)?.map_err(|error| match error {
            IqError::NotConnected | IqError::InternalChannelClosed => SubmitError::Down,
            error => other(error),
        })?;
        self.stop().await;
        Ok(())
    }
}
