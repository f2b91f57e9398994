//! Links a device by a code that is typed on the phone.

use std::sync::Arc;
use std::time::Duration;

use whatsapp_rust::pair_code::PairCodeOptions;

use super::Session;
use super::bounded::within;

/// The time limit for the connection to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(25);

/// Why there is no code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    #[error("a phone is linked already")]
    Linked,
    #[error("the session is disconnected")]
    Down,
    #[error("{0}")]
    Other(String),
}

impl Session {
    /// Requests a code for the phone with this number (digits, with the country). The code comes as
    /// [`PairingCode`](crate::Event::PairingCode), beside the QR codes. An earlier code becomes invalid.
    pub async fn pair_by_phone(&self, digits: &str) -> Result<(), PairError> {
        if self.client.persistence_manager().get_device_snapshot().pn.is_some() {
            return Err(PairError::Linked);
        }
        if self.client.wait_for_socket(CONNECT_TIMEOUT).await.is_err() {
            return Err(PairError::Down);
        }
        let client = Arc::clone(&self.client);
        let options = PairCodeOptions { phone_number: digits.to_owned(), ..PairCodeOptions::default() };
        let asked = within(LIMIT, async move {
            // The library issues no second code while the first one is valid.
            client.cancel_pair_code().await;
            client.pair_with_code(options).await
        });
        let other = |error: &dyn ToString| PairError::Other(error.to_string());
        asked.await.map_err(|error| other(&error))?.map_err(|error| other(&error))?;
        Ok(())
    }
}
