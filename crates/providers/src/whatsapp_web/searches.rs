//! Who is behind a hidden id. Somebody wrote of whom nothing else is known, and may be one of those for whom messages wait: the
//! numbers of these are asked for until one is theirs. What waits for them goes then. Each number is asked for once, as it
//! would be before its message is sent, and more slowly.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use recado_domain::channel::Channel;
use recado_domain::clock::{Millis, millis};

use crate::pairing::LineError;
use crate::whatsapp_web::accounts::QUESTIONS;
use crate::whatsapp_web::line::Line;

/// Numbers that are asked for at most in one pass.
const ASKED: u32 = 120;
/// People who are remembered on one channel: those who are sought, and those who were sought in vain.
const SOUGHT: usize = 64;
/// Nobody is sought again for so long, unless others took their place.
const IN_VAIN: Duration = Duration::from_hours(1);
/// Questions that searches leave to what is sent.
const LEFT: u32 = QUESTIONS / 2;
/// Questions without an answer in a row that end a pass.
const SILENT: u32 = 3;
/// The wait before a channel is looked at again that sends nothing for now.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The people who are sought on a line.
#[derive(Default)]
pub(super) struct Searches {
    sought: Mutex<Sought>,
    /// Held by the search: there is one at a time.
    turn: tokio::sync::Mutex<()>,
}

impl Searches {
    fn sought(&self) -> MutexGuard<'_, Sought> {
        self.sought.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// People by their hidden ids.
#[derive(Default)]
struct Sought {
    /// In their order; with the time of the search that was in vain, if there was one.
    people: Vec<(String, Option<Millis>)>,
    /// Whether it was said that some found no place.
    told: bool,
}

/// What becomes of somebody who is to be sought.
#[derive(Debug, PartialEq, Eq)]
enum Seek {
    New,
    /// They are sought already, or were a moment ago.
    Again,
    /// There are too many; whether that is news.
    Dropped {
        news: bool,
    },
}

impl Sought {
    fn seek(&mut self, lid: &str, now: Millis) -> Seek {
        if let Some((_, in_vain)) = self.people.iter_mut().find(|(sought, _)| sought == lid) {
            return if in_vain.take_if(|at| now - *at >= millis(IN_VAIN)).is_some() { Seek::New } else { Seek::Again };
        }
        if self.people.len() >= SOUGHT {
            // Who was sought in vain, and longest ago, leaves their place.
            let ended = self.people.iter().enumerate().filter_map(|(place, (_, at))| Some((at.as_ref()?, place)));
            let Some((_, place)) = ended.min() else {
                return Seek::Dropped { news: !std::mem::replace(&mut self.told, true) };
            };
            self.people.remove(place);
        }
        self.told = false;
        self.people.push((lid.to_owned(), None));
        Seek::New
    }

    /// Those who are to be sought.
    fn wanted(&self) -> Vec<String> {
        self.people.iter().filter(|(_, in_vain)| in_vain.is_none()).map(|(lid, _)| lid.clone()).collect()
    }

    /// Need not be sought.
    fn forget(&mut self, lid: &str) {
        self.people.retain(|(sought, _)| sought != lid);
    }

    /// A search for these has ended in vain.
    fn in_vain(&mut self, lids: &HashSet<String>, now: Millis) {
        let ended = self.people.iter_mut().filter(|(lid, _)| lids.contains(lid));
        ended.for_each(|(_, in_vain)| *in_vain = Some(now));
    }
}

/// What a channel says to a search.
#[derive(Debug, PartialEq, Eq)]
enum Says {
    Search,
    /// It sends nothing for now.
    Wait,
    /// New recipients need not wait: nobody is to be sought.
    End,
}

fn says(channel: Option<&Channel>, now: Millis) -> Says {
    let Some(channel) = channel.filter(|channel| channel.deleted_at.is_none()) else { return Says::End };
    let restricted = channel.restricted_until.is_some_and(|until| until > now);
    if !restricted && channel.settings.new_recipients_per_day().is_none() {
        return Says::End;
    }
    // What is longer than a rest between two sends is a hold.
    let held = channel.next_send_at > now + millis(channel.settings.pacing().max);
    if channel.state.dispatches() && !held { Says::Search } else { Says::Wait }
}

impl Line {
    /// Somebody wrote of whom the hidden id alone is known.
    pub(super) fn search_for(self: &Arc<Self>, lid: &str) {
        let seek = self.searches.sought().seek(lid, self.shared.clock.now());
        match seek {
            Seek::New => self.search(),
            Seek::Dropped { news: true } => {
                tracing::warn!(channel.id = %self.via.id, "sender lookup skipped: too many unknown senders");
            }
            Seek::Again | Seek::Dropped { news: false } => {}
        }
    }

    /// Searches for those who are sought, while the line is up. Who is left then is searched for when it comes up again.
    pub(super) fn search(self: &Arc<Self>) {
        if !self.is_up() || self.searches.sought().wanted().is_empty() {
            return;
        }
        let line = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = line.until_down() => {}
                () = line.search_in_turn() => {}
            }
        });
    }

    async fn search_in_turn(&self) {
        let _turn = self.searches.turn.lock().await;
        while !self.searches.sought().wanted().is_empty() {
            if let Err(error) = self.pass().await {
                tracing::warn!(channel.id = %self.via.id, %error, "sender lookup failed; retrying");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }

    /// One pass through the numbers that were never asked for, for all who are sought.
    async fn pass(&self) -> Result<(), LineError> {
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
        let mut silences = 0;
        for digits in waiting {
            if lids.is_empty() || silences == SILENT {
                break;
            }
            if self.says().await? != Says::Search {
                // Who is left waits for the next pass.
                return Ok(());
            }
            match self.ask_slowly(&digits).await {
                Ok(known) => {
                    silences = 0;
                    if let Some(lid) = known.filter(|lid| lids.remove(lid)) {
                        self.searches.sought().forget(&lid);
                    }
                }
                // What is wrong with one number says nothing of the next.
                Err(LineError::NoAnswer) => silences += 1,
                Err(error) => return Err(error),
            }
        }
        self.searches.sought().in_vain(&lids, self.shared.clock.now());
        Ok(())
    }

    /// Waits until the channel sends; whether anybody is to be sought then.
    async fn may_search(&self) -> Result<bool, LineError> {
        loop {
            match self.says().await? {
                Says::Search => return Ok(true),
                Says::End => return Ok(false),
                Says::Wait => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    async fn says(&self) -> Result<Says, LineError> {
        let channel = self.shared.store.channel(self.via.key).await?;
        Ok(says(channel.as_ref().filter(|_| !self.is_forgotten()), self.shared.clock.now()))
    }

    /// The hidden id of the account behind a number.
    async fn ask_slowly(&self, digits: &str) -> Result<Option<String>, LineError> {
        loop {
            match self.look_up_leaving(LEFT, digits).await {
                Err(LineError::TooMany(seconds)) => tokio::time::sleep(Duration::from_secs(seconds)).await,
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
    fn who_was_sought_is_not_sought_again_at_once() {
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
    fn strangers_take_no_place_of_who_is_still_sought() {
        let mut sought = Sought::default();
        for stranger in 0..SOUGHT {
            assert_eq!(sought.seek(&stranger.to_string(), NOW), Seek::New);
        }
        assert_eq!(sought.seek("900", NOW), Seek::Dropped { news: true });
        assert_eq!(sought.seek("900", NOW), Seek::Dropped { news: false });
        sought.in_vain(&HashSet::from(["7".to_owned()]), NOW + 5);
        sought.in_vain(&HashSet::from(["9".to_owned()]), NOW + 1);
        assert_eq!(sought.seek("900", NOW), Seek::New);
        assert_eq!(sought.seek("7", NOW + 6), Seek::Again, "the longer ago left its place");
        assert_eq!(sought.wanted().len(), SOUGHT - 1);
    }
}
