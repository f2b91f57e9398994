//! Which account is behind a number: as it was found not long ago, else as the network says. Many questions are a sign of
//! abuse to WhatsApp, so that each number is asked for once in a while only, and not too many in a minute.

use std::sync::Arc;
use std::time::Duration;

use recado_domain::account::KnownAccount;
use recado_domain::clock::{Millis, millis};
use recado_domain::party::Party;
use recado_whatsapp_web::{LookUpError, Person};
use tokio::sync::{Mutex, Semaphore};

use crate::pairing::LineError;
use crate::whatsapp_web::line::Line;

/// How long it is believed that a number has an account.
const FOUND: Duration = Duration::from_hours(30 * 24);
/// How long it is believed that a number has none: people join.
const NOT_FOUND: Duration = Duration::from_hours(24);
/// Questions a minute on one channel.
pub const QUESTIONS: u32 = 30;
/// Numbers that are asked for at most to find out whose a hidden id is.
const SEARCHED: u32 = 120;
/// People who are searched for on one channel at a time, those included who wait for that.
const SOUGHT: usize = 16;

/// Searches for people, one after another.
pub(super) struct Searches {
    places: Semaphore,
    turn: Mutex<()>,
}

impl Default for Searches {
    fn default() -> Self {
        Self { places: Semaphore::new(SOUGHT), turn: Mutex::default() }
    }
}

/// Whether what was found needs not be asked again.
pub fn is_fresh(known: &KnownAccount, now: Millis) -> bool {
    let kept = if known.account.is_some() { FOUND } else { NOT_FOUND };
    let confirmed_by = known.unconfirmed_at.map(|sent_at| sent_at + millis(KnownAccount::CONFIRMED_WITHIN));
    // A clock that was set back makes nothing older.
    now - known.checked_at < millis(kept) && confirmed_by.is_none_or(|end| now < end)
}

/// Somebody as the driver names them; `None` where it names nobody in digits.
pub(super) fn party(person: Person) -> Option<Party> {
    Party::new(person.number, person.lid)
}

impl Line {
    /// Asks for the account behind a number, whatever is known of it: there is reason to doubt that.
    pub(super) async fn ask_again(&self, digits: &str, doubted: Option<Party>) -> Result<KnownAccount, LineError> {
        // Kept as one that was never checked, so that whoever comes next asks where this one cannot.
        self.shared.store.note_account(self.via.key, digits.to_owned(), doubted, 0).await?;
        self.look_up(digits).await
    }

    /// The account behind a number.
    pub async fn look_up(&self, digits: &str) -> Result<KnownAccount, LineError> {
        let (store, key) = (&self.shared.store, self.via.key);
        let known = store.known_account(key, digits.to_owned()).await?;
        if let Some(known) = known.filter(|known| is_fresh(known, self.shared.clock.now())) {
            return Ok(known);
        }
        let session = self.session().ok_or(LineError::Down)?;
        if let Some(quota) = self.questions.take(self.shared.clock.now()).filter(|quota| !quota.allowed) {
            return Err(LineError::TooMany(quota.retry_after));
        }
        let found = session.look_up(digits).await.map_err(|error| match error {
            LookUpError::Down => LineError::Down,
            LookUpError::Other(_) => LineError::NoAnswer,
        })?;
        let named = found.map(|found| party(found).filter(|party| party.number().is_some()).ok_or(LineError::NoAnswer));
        let party = named.transpose()?;
        let said = |of: fn(&Party) -> Option<&str>| party.as_ref().and_then(of).map(str::to_owned);
        let (account, lid, checked_at) = (said(Party::number), said(Party::lid), self.shared.clock.now());
        let known = KnownAccount { account, lid, checked_at, unconfirmed_at: None };
        store.note_account(key, digits.to_owned(), party, known.checked_at).await?;
        Ok(known)
    }
}

impl Line {
    /// Somebody wrote of whom the hidden id alone is known. They may be one of those for whom messages wait, so that the
    /// numbers of these are asked for until one is theirs: what waits for them goes then. Each number is asked for once, as
    /// it would be before its message is sent, and as slowly.
    pub(super) fn search_for(self: &Arc<Self>, lid: String) {
        let line = self.clone();
        tokio::spawn(async move {
            // Those who come too many at a time are searched for when they write again.
            let Ok(_place) = line.searches.places.try_acquire() else { return };
            tokio::select! {
                () = line.until_down() => {}
                searched = line.search(&lid) => if let Err(error) = searched {
                    tracing::warn!(channel.id = %line.via.id, %error, "it is not known who wrote");
                },
            }
        });
    }

    async fn search(&self, lid: &str) -> Result<(), LineError> {
        let _turn = self.searches.turn.lock().await;
        let waiting = self.shared.store.unasked_recipients(self.via.key, lid.to_owned(), SEARCHED).await?;
        for digits in waiting {
            let found = loop {
                match self.look_up(&digits).await {
                    Err(LineError::TooMany(seconds)) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                    found => break found,
                }
            };
            match found {
                Ok(known) if known.lid.as_deref() == Some(lid) => break,
                // What is wrong with one number says nothing of the next.
                Ok(_) | Err(LineError::NoAnswer) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::whatsapp_web::accounts::*;

    #[test]
    fn what_was_not_found_is_asked_for_sooner() {
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
