//! Asks whether a number is on WhatsApp.

use std::sync::Arc;
use std::time::Duration;

use whatsapp_rust::wacore_binary::Jid;

use super::Session;
use super::bounded::within;
use crate::Person;

const LIMIT: Duration = Duration::from_secs(10);

/// Why a query to the network has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookUpError {
    #[error("the session is disconnected")]
    Down,
    #[error("{0}")]
    Other(String),
}

impl Session {
    /// The account of a number, as the network knows it, always with a number: in Brazil often without the ninth digit.
    /// `None`: the number is not on WhatsApp. The network notices clients that query many numbers, so keep the answer.
    pub async fn look_up(&self, digits: &str) -> Result<Option<Person>, LookUpError> {
        if !self.is_up() {
            return Err(LookUpError::Down);
        }
        let (client, asked) = (Arc::clone(&self.client), Jid::pn(digits));
        // One number per query: the answer does not name the number that was queried.
        let answer = within(LIMIT, async move { client.contacts().is_on_whatsapp(&[asked]).await }).await;
        let found = answer.map_err(other)?.map_err(other)?;
        // An empty answer does not mean that the number has no account.
        let Some(account) = found.into_iter().next() else {
            return Err(other("the network did not speak of the number"));
        };
        if let Some(error) = account.contact_error {
            return Err(LookUpError::Other(format!("the network did not look the number up: {error:?}")));
        }
        if !account.is_registered {
            return Ok(None);
        }
        let named = [Some(account.jid), account.pn_jid, account.lid];
        let user = |is: fn(&Jid) -> bool| named.iter().flatten().find(|jid| is(jid)).map(|jid| jid.user.to_string());
        // The account is known only by its hidden id, and the queried number leads to it.
        let number = user(Jid::is_pn).unwrap_or_else(|| digits.to_owned());
        Ok(Some(Person { number: Some(number), lid: user(Jid::is_lid) }))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature that `map_err` needs")]
pub fn other(error: impl ToString) -> LookUpError {
    LookUpError::Other(error.to_string())
}
