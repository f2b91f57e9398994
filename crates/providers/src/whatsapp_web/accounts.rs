//! Looks up the account of a number: in the store if the entry is recent, else on the network. WhatsApp treats many lookups
//! as abuse, so a number is looked up rarely, and the lookups of a channel have a rate limit.

use std::time::Duration;

use recado_domain::account::KnownAccount;
use recado_domain::clock::{Millis, millis};
use recado_domain::party::Party;
use recado_whatsapp_web::{LookUpError, Person};

use crate::counted::{Counted, LookUpEnd};
use crate::pairing::ConnectionError;
use crate::whatsapp_web::connection::Connection;

/// How long a found account is trusted.
const FOUND: Duration = Duration::from_hours(30 * 24);
/// How long a number without an account is trusted. It is shorter, because people join.
const NOT_FOUND: Duration = Duration::from_hours(24);
/// The most lookups a minute on one channel.
pub const QUESTIONS: u32 = 30;
/// Whether the stored account may be used without another lookup.
pub fn is_fresh(known: &KnownAccount, now: Millis) -> bool {
    let kept = if known.account.is_some() { FOUND } else { NOT_FOUND };
    let confirmed_by = known.unconfirmed_at.map(|sent_at| sent_at + millis(KnownAccount::CONFIRMED_WITHIN));
    // A clock that was set back makes no entry older.
    now - known.checked_at < millis(kept) && confirmed_by.is_none_or(|end| now < end)
}

/// The person as a party. `None` if the driver names no digits.
pub(super) fn party(person: Person) -> Option<Party> {
    Party::new(person.number, person.lid)
}

impl Connection {
    /// Looks up the account behind a number on the network, because the stored one is in doubt.
    pub(super) async fn ask_again(
        &self,
        digits: &str,
        doubted: Option<Party>,
    ) -> Result<KnownAccount, ConnectionError> {
        // The account is stored as never checked. If this lookup fails, the next one asks the network again.
        self.shared.store.note_account(self.via.key, digits.to_owned(), doubted, 0).await?;
        self.look_up(digits).await
    }

    /// The account behind a number.
    pub async fn look_up(&self, digits: &str) -> Result<KnownAccount, ConnectionError> {
        self.look_up_leaving(0, digits).await
    }

    /// The same, but fails if fewer than `left` lookups would remain for other callers.
    pub(super) async fn look_up_leaving(&self, left: u32, digits: &str) -> Result<KnownAccount, ConnectionError> {
        let (store, key) = (&self.shared.store, self.via.key);
        let known = store.known_account(key, digits.to_owned()).await?;
        if let Some(known) = known.filter(|known| is_fresh(known, self.shared.clock.now())) {
            return Ok(known);
        }
        let session = self.session().ok_or(ConnectionError::Down)?;
        if let Some(quota) =
            self.questions.acquire_leaving(left, self.shared.clock.now()).filter(|quota| !quota.allowed)
        {
            (self.shared.count)(Counted::LookUp(LookUpEnd::Limited));
            return Err(ConnectionError::TooMany(quota.retry_after));
        }
        let found = session.look_up(digits).await;
        (self.shared.count)(Counted::LookUp(match &found {
            Ok(Some(_)) => LookUpEnd::Found,
            Ok(None) => LookUpEnd::NotFound,
            Err(_) => LookUpEnd::Failed,
        }));
        let found = found.map_err(|error| match error {
            LookUpError::Down => ConnectionError::Down,
            LookUpError::Other(_) => ConnectionError::NoAnswer,
        })?;
        let named =
            found.map(|found| party(found).filter(|party| party.number().is_some()).ok_or(ConnectionError::NoAnswer));
        let party = named.transpose()?;
        let owned = |of: fn(&Party) -> Option<&str>| party.as_ref().and_then(of).map(str::to_owned);
        let (account, lid, checked_at) = (owned(Party::number), owned(Party::lid), self.shared.clock.now());
        let known = KnownAccount { account, lid, checked_at, unconfirmed_at: None };
        store.note_account(key, digits.to_owned(), party, known.checked_at).await?;
        Ok(known)
    }
}

#[cfg(test)]
mod tests {
    use crate::whatsapp_web::accounts::*;

    #[test]
    fn a_number_that_was_not_found_is_looked_up_sooner() {
        let known = |account: Option<&str>| KnownAccount {
            account: account.map(str::to_owned),
            lid: None,
            checked_at: 1_000,
            unconfirmed_at: None,
        };
        let day = 24 * 60 * 60 * 1_000;
        for (account, days) in [(Some("551199998888"), 30), (None, 1)] {
            assert!(is_fresh(&known(account), 1_000 + days * day - 1), "{account:?}");
            assert!(!is_fresh(&known(account), 1_000 + days * day), "{account:?}");
            assert!(is_fresh(&known(account), 0), "{account:?}, and the clock was set back");
        }
    }

    #[test]
    fn an_account_that_confirms_nothing_is_doubted_after_a_day() {
        let day = 24 * 60 * 60 * 1_000;
        let known = KnownAccount {
            account: Some("551199998888".to_owned()),
            lid: None,
            checked_at: 1_000,
            unconfirmed_at: Some(2_000),
        };
        assert!(is_fresh(&known, 2_000 + day - 1));
        assert!(!is_fresh(&known, 2_000 + day));
    }
}
