//! The names of groups. A message names its group by the address alone, so the network is asked for the name: once in a day for
//! each group that is used, one group at a time and slowly. Nothing waits for the answer. Messages that arrive meanwhile have
//! no name, or the former one, and the conversation gets the name as soon as it is known.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use recado_domain::address::GROUP;
use recado_whatsapp_web::Session;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::whatsapp_web::connection::Connection;

/// How long a name is used until the network is asked again.
const KEPT: Duration = Duration::from_hours(24);
/// How long the network is not asked again about a group after a question without an answer.
const FAILED: Duration = Duration::from_mins(10);
/// The wait between two questions.
const BETWEEN: Duration = Duration::from_secs(2);
/// The most groups whose names are remembered. Beyond it another group is forgotten.
const KNOWN: usize = 1_000;
/// The most groups that wait for their question. Further ones are asked for at their next message.
const WANTED: usize = 100;

/// The names of the groups of a channel.
#[derive(Default)]
pub(super) struct GroupNames {
    state: Mutex<State>,
    /// Notified when a name is wanted.
    wanted: Notify,
}

#[derive(Default)]
struct State {
    /// By the address.
    known: HashMap<String, Known>,
    wanted: VecDeque<String>,
}

struct Known {
    name: Option<String>,
    /// When the network is asked again.
    until: Instant,
}

impl GroupNames {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of a group, if it is known. If it is not, or not any more, the network will be asked.
    pub fn look(&self, address: &str, now: Instant) -> Option<String> {
        let mut state = self.state();
        let known = state.known.get(address);
        let (name, is_old) = (known.and_then(|known| known.name.clone()), known.is_none_or(|known| known.until <= now));
        if is_old && state.wanted.len() < WANTED && !state.wanted.iter().any(|wanted| wanted == address) {
            state.wanted.push_back(address.to_owned());
            self.wanted.notify_one();
        }
        name
    }

    /// The group for which the network is asked next.
    async fn next(&self) -> String {
        loop {
            let next = self.state().wanted.front().cloned();
            match next {
                Some(next) => return next,
                None => self.wanted.notified().await,
            }
        }
    }

    /// Stores the answer of the network, or a name that it reports; `None`: there was none.
    pub fn put(&self, address: &str, name: Option<String>, now: Instant) {
        let mut state = self.state();
        state.wanted.retain(|wanted| wanted != address);
        if state.known.len() >= KNOWN && !state.known.contains_key(address) {
            let out = state.known.iter().min_by_key(|(_, known)| known.until).map(|(address, _)| address.clone());
            out.and_then(|out| state.known.remove(&out));
        }
        let kept = if name.is_some() { KEPT } else { FAILED };
        let former = state.known.get(address).and_then(|known| known.name.clone());
        state.known.insert(address.to_owned(), Known { name: name.or(former), until: now + kept });
    }
}

impl Connection {
    /// Asks for the names of groups as long as the session is open.
    pub(super) async fn name_groups(&self, session: &Session) -> Infallible {
        loop {
            let address = self.groups.next().await;
            self.until_reconnected().await;
            let answer = session.group_name(address.trim_end_matches(GROUP)).await;
            // The library's text is omitted, because it may contain a number.
            let name = answer.ok().filter(|name| !name.is_empty());
            self.groups.put(&address, name, Instant::now());
            // The conversation of a first message is stored by then. Otherwise the next message has the name.
            tokio::time::sleep(BETWEEN).await;
            // The network may have reported another name meanwhile.
            if let Some(name) = self.groups.look(&address, Instant::now()) {
                if let Err(error) = self.shared.store.name_group(self.via.key, address, name).await {
                    tracing::debug!(channel.id = %self.via.id, %error, "name of a group not stored");
                }
            } else {
                tracing::debug!(channel.id = %self.via.id, "name of a group not known");
            }
        }
    }

    async fn until_reconnected(&self) {
        // This struct holds the sender, so the wait cannot fail.
        drop(self.up.subscribe().wait_for(|up| *up).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_group_is_asked_for_once_and_again_when_its_name_is_old() {
        let (groups, now) = (GroupNames::default(), Instant::now());
        assert_eq!(groups.look("1@g.us", now), None);
        assert_eq!(groups.look("1@g.us", now), None);
        assert_eq!(groups.look("2@g.us", now), None);
        assert_eq!(groups.next().await, "1@g.us");
        groups.put("1@g.us", Some("Vendas".to_owned()), now);
        assert_eq!(groups.next().await, "2@g.us", "once");
        groups.put("2@g.us", None, now);
        assert_eq!((groups.look("1@g.us", now).as_deref(), groups.look("2@g.us", now)), (Some("Vendas"), None));
        assert!(groups.state().wanted.is_empty());
        let later = now + FAILED;
        assert_eq!((groups.look("1@g.us", later).as_deref(), groups.look("2@g.us", later)), (Some("Vendas"), None));
        assert_eq!(groups.state().wanted, ["2@g.us"], "without an answer sooner");
        groups.put("2@g.us", None, later);
        let later = now + KEPT;
        assert_eq!(groups.look("1@g.us", later).as_deref(), Some("Vendas"), "the former name until there is another");
        assert_eq!(groups.next().await, "1@g.us");
        groups.put("1@g.us", None, later);
        assert_eq!(groups.look("1@g.us", later).as_deref(), Some("Vendas"), "no answer takes no name away");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (groups, now) = (GroupNames::default(), Instant::now());
        for n in 0..KNOWN + 50 {
            groups.look(&format!("{n}@g.us"), now);
            assert!(groups.state().wanted.len() <= WANTED);
        }
        for n in 0..KNOWN + 50 {
            let at = now + Duration::from_millis(u64::try_from(n).expect("small"));
            groups.put(&format!("{n}@g.us"), Some("x".to_owned()), at);
        }
        assert_eq!(groups.state().known.len(), KNOWN);
        assert_eq!(groups.look("49@g.us", now), None, "the oldest are forgotten");
        assert_eq!(groups.look("50@g.us", now).as_deref(), Some("x"));
    }
}
