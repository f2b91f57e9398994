//! Finds the number behind a hidden id. A person may write who is known only by a hidden id, and messages for this person
//! may wait for the new-chat limiter. The search looks up the recipients of waiting messages until one has this hidden id,
//! and its messages are released then. Each number is looked up once, as before its message is sent, but more slowly.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use recado_domain::channel::Channel;
use recado_domain::clock::{Millis, millis};

use crate::pairing::ConnectionError;
use crate::whatsapp_web::accounts::QUESTIONS;
use crate::whatsapp_web::connection::Connection;

/// The most numbers that are looked up in one pass.
const ASKED: u32 = 120;
/// The most hidden ids that are remembered on one channel, wanted or searched in vain.
const MAX_WANTED: usize = 64;
/// How long a hidden id is not searched for again, unless others displaced it.
const IN_VAIN: Duration = Duration::from_hours(1);
/// The lookups that searches leave for sends.
const LEFT: u32 = QUESTIONS / 2;
/// The number of lookups without an answer in a row that ends a pass.
const MAX_TIMEOUTS: u32 = 3;
/// The interval between two checks of a channel that does not send for now.
const RECHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The hidden ids that a connection searches for.
#[derive(Default)]
pub(super) struct Searches {
    sought: Mutex<Sought>,
    /// Held by the running search: there is one at a time.
    running: tokio::sync::Mutex<()>,
}

impl Searches {
    fn sought(&self) -> MutexGuard<'_, Sought> {
        self.sought.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hidden ids and their searches.
#[derive(Default)]
struct Sought {
    /// In order of arrival, each with the end of its unsuccessful search, if there was one.
    people: Vec<(String, Option<Millis>)>,
    /// Whether a warning about dropped ids was logged.
    warned: bool,
}

/// What to do about a hidden id.
#[derive(Debug, PartialEq, Eq)]
enum Seek {
    New,
    /// The id is wanted already, or was searched for recently.
    Again,
    /// There are too many. `is_first`: log this.
    Dropped {
        is_first: bool,
    },
}

impl Sought {
    fn seek(&mut self, lid: &str, now: Millis) -> Seek {
        if let Some((_, in_vain)) = self.people.iter_mut().find(|(sought, _)| sought == lid) {
            return if in_vain.take_if(|at| now - *at >= millis(IN_VAIN)).is_some() { Seek::New } else { Seek::Again };
        }
        if self.people.len() >= MAX_WANTED {
            // The id whose unsuccessful search is oldest makes room.
            let ended = self.people.iter().enumerate().filter_map(|(place, (_, at))| Some((at.as_ref()?, place)));
            let Some((_, place)) = ended.min() else {
                return Seek::Dropped { is_first: !std::mem::replace(&mut self.warned, true) };
            };
            self.people.remove(place);
        }
        self.warned = false;
        self.people.push((lid.to_owned(), None));
        Seek::New
    }

    /// The ids to search for.
    fn wanted(&self) -> Vec<String> {
        self.people.iter().filter(|(_, in_vain)| in_vain.is_none()).map(|(lid, _)| lid.clone()).collect()
    }

    /// Removes an id that needs no search.
    fn forget(&mut self, lid: &str) {
        self.people.retain(|(sought, _)| sought != lid);
    }

    /// Records that a search for these ids was unsuccessful.
    fn in_vain(&mut self, lids: &HashSet<String>, now: Millis) {
        let ended = self.people.iter_mut().filter(|(lid, _)| lids.contains(lid));
        ended.for_each(|(_, in_vain)| *in_vain = Some(now));
    }
}

/// Whether a channel's state permits a search.
#[derive(Debug, PartialEq, Eq)]
enum SearchState {
    Search,
    /// The channel sends nothing for now.
    Wait,
    /// New recipients do not wait, so no search is needed.
    End,
}

fn search_state(channel: Option<&Channel>, now: Millis) -> SearchState {
    let Some(channel) = channel.filter(|channel| channel.deleted_at.is_none()) else { return SearchState::End };
    let restricted = channel.restricted_until.is_some_and(|until| until > now);
    if !restricted && channel.settings.new_recipients_per_day().is_none() {
        return SearchState::End;
    }
    // A wait longer than the send interval means that the channel is held.
    let held = channel.next_send_at > now + millis(channel.settings.pacing().max);
    if channel.state.dispatches() && !held { SearchState::Search } else { SearchState::Wait }
}

impl Connection {
    /// A person wrote who is known only by this hidden id.
    pub(super) fn search_for(self: &Arc<Self>, lid: &str) {
        let seek = self.searches.sought().seek(lid, self.shared.clock.now());
        match seek {
            Seek::New => self.search(),
            Seek::Dropped { is_first: true } => {
                tracing::warn!(channel.id = %self.via.id, "sender lookup skipped: too many unknown senders");
            }
            Seek::Again | Seek::Dropped { is_first: false } => {}
        }
    }

    /// Searches while the connection is open. The remaining ids are searched for when it opens again.
    pub(super) fn search(self: &Arc<Self>) {
        if !self.is_up() || self.searches.sought().wanted().is_empty() {
            return;
        }
        let connection = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = connection.until_down() => {}
                () = connection.search_exclusively() => {}
            }
        });
    }

    async fn search_exclusively(&self) {
        let _running = self.searches.running.lock().await;
        while !self.searches.sought().wanted().is_empty() {
            if let Err(error) = self.pass().await {
                tracing::warn!(channel.id = %self.via.id, %error, "sender lookup failed; retrying");
                tokio::time::sleep(RECHECK_INTERVAL).await;
            }
        }
    }

    /// One pass through the numbers that were never looked up, for all wanted ids.
    async fn pass(&self) -> Result<(), ConnectionError> {
        let may_search = self.may_search().await?;
        let (mut lids, mut waiting) = (HashSet::new(), Vec::new());
        let wanted = self.searches.sought().wanted();
        for lid in wanted {
            if !may_search {
                self.searches.sought().forget(&lid);
                continue;
            }
            let unasked = self.shared.store.unasked_recipients(self.via.key, lid.clone(), ASKED).await?;
            if unasked.is_empty() {
                self.searches.sought().forget(&lid);
            } else {
                lids.insert(lid);
                waiting = unasked;
            }
        }
        let mut timeouts = 0;
        for digits in waiting {
            if lids.is_empty() || timeouts == MAX_TIMEOUTS {
                break;
            }
            if self.search_state().await? != SearchState::Search {
                // The remaining ids wait for the next pass.
                return Ok(());
            }
            match self.look_up_slowly(&digits).await {
                Ok(known) => {
                    timeouts = 0;
                    if let Some(lid) = known.filter(|lid| lids.remove(lid)) {
                        self.searches.sought().forget(&lid);
                    }
                }
                // A failure for one number says nothing about the next.
                Err(ConnectionError::NoAnswer) => timeouts += 1,
                Err(error) => return Err(error),
            }
        }
        self.searches.sought().in_vain(&lids, self.shared.clock.now());
        Ok(())
    }

    /// Waits until the channel sends. Returns whether a search is needed then.
    async fn may_search(&self) -> Result<bool, ConnectionError> {
        loop {
            match self.search_state().await? {
                SearchState::Search => return Ok(true),
                SearchState::End => return Ok(false),
                SearchState::Wait => tokio::time::sleep(RECHECK_INTERVAL).await,
            }
        }
    }

    async fn search_state(&self) -> Result<SearchState, ConnectionError> {
        let channel = self.shared.store.channel(self.via.key).await?;
        Ok(search_state(channel.as_ref().filter(|_| !self.is_forgotten()), self.shared.clock.now()))
    }

    /// The hidden id of the account behind a number.
    async fn look_up_slowly(&self, digits: &str) -> Result<Option<String>, ConnectionError> {
        loop {
            match self.look_up_leaving(LEFT, digits).await {
                Err(ConnectionError::TooMany(seconds)) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                asked => return asked.map(|known| known.lid),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_000_000_000;

    #[test]
    fn a_recent_search_is_not_repeated() {
        let mut sought = Sought::default();
        assert_eq!(sought.seek("900", NOW), Seek::New);
        for _ in 0..16 {
            assert_eq!(sought.seek("900", NOW), Seek::Again);
        }
        assert_eq!(sought.wanted(), ["900"]);
        sought.in_vain(&HashSet::from(["900".to_owned()]), NOW);
        assert!(sought.wanted().is_empty());
        assert_eq!(sought.seek("900", NOW + millis(IN_VAIN) - 1), Seek::Again);
        assert_eq!(sought.seek("900", NOW + millis(IN_VAIN)), Seek::New);
        assert_eq!(sought.wanted(), ["900"]);
        sought.forget("900");
        assert!(sought.wanted().is_empty());
    }

    #[test]
    fn unknown_senders_do_not_displace_a_running_search() {
        let mut sought = Sought::default();
        for sender in 0..MAX_WANTED {
            assert_eq!(sought.seek(&sender.to_string(), NOW), Seek::New);
        }
        assert_eq!(sought.seek("900", NOW), Seek::Dropped { is_first: true });
        assert_eq!(sought.seek("900", NOW), Seek::Dropped { is_first: false });
        sought.in_vain(&HashSet::from(["7".to_owned()]), NOW + 5);
        sought.in_vain(&HashSet::from(["9".to_owned()]), NOW + 1);
        assert_eq!(sought.seek("900", NOW), Seek::New);
        assert_eq!(sought.seek("7", NOW + 6), Seek::Again, "the longer ago left its place");
        assert_eq!(sought.wanted().len(), MAX_WANTED - 1);
    }
}
