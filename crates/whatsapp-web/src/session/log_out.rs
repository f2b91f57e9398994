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
    /// Removes this device from the phone's list, and stops the session. On an error the session continues. If the
    /// connection broke before the answer and the network unlinked the device all the same,
    /// [`LoggedOut`](crate::Event::LoggedOut) follows. The caller deletes the rows.
    pub async fn log_out(&self) -> Result<(), SubmitError> {
        let account = self.client.persistence_manager().get_device_snapshot().pn.clone();
        let Some(account) = account.filter(|_| self.is_up()) else { return Err(SubmitError::Down) };
        let client = Arc::clone(&self.client);
        // The library's own `logout` does not report whether it succeeded.
        let answer = within(LIMIT, async move { client.execute(RemoveCompanionDeviceSpec::new(&account)).await }).await;
        answer.map_err(other)?.map_err(|error| match error {
            IqError::NotConnected | IqError::InternalChannelClosed => SubmitError::Down,
            error => other(error),
        })?;
        self.stop().await;
        Ok(())
    }
}
