//! How fast the sessions of a process connect. All of them come from one address, and after an outage all of them want to
//! connect again: the network takes many logins at a time for an attack.
//!
//! Opened sessions and the library's own reconnects wait here: for a share of each second, with another share for devices that
//! are being linked, and for one login a second while the network cannot be reached. Institutions take turns; the sessions of
//! one institution wait in order, so that one of each stands in the queue of the process. The store keeps when a session last
//! logged in and until when it is banned, so that neither a restart nor another node shortens those waits.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// While the network cannot be reached, one session tries it at a time, this long after the one before it.
const PROBE: Duration = Duration::from_secs(1);
/// Connections that fail in a row before the network counts as out of reach.
const FAILURES: u32 = 3;
/// Connections a second of devices that are being linked. They have turns of their own, so that a person who waits for a
/// code does not wait for sessions that come back after an outage.
const PAIRINGS_PER_SECOND: u32 = 5;

/// Turns to connect, one after another: those of one group in the order in which they were asked for, and groups in turn.
/// So many sessions of one group keep none of another waiting.
#[derive(Clone, Debug)]
pub struct Logins {
    lanes: Arc<Lanes>,
    group: u128,
}

#[derive(Debug)]
struct Lanes {
    linked: Lane,
    pairing: Lane,
    reached: std::sync::Mutex<Reached>,
}

/// What came of the connections that were tried.
#[derive(Debug, Default)]
struct Reached {
    /// When one last came about.
    last: Option<Instant>,
    /// How many have failed since.
    failed: u32,
}

#[derive(Debug)]
struct Lane {
    every: Duration,
    /// When the next turn is. The lock is fair: who asked first goes first.
    next: Mutex<Instant>,
    /// Of each group that waits, who asks for a turn: one at a time, so that groups take turns.
    groups: std::sync::Mutex<HashMap<u128, Weak<Mutex<()>>>>,
}

impl Lane {
    fn new(per_second: u32) -> Self {
        let (every, next) = (Duration::from_secs(1) / per_second.max(1), Mutex::new(Instant::now()));
        Self { every, next, groups: std::sync::Mutex::default() }
    }

    /// Held by the one of a group that asks for a turn.
    fn asks(&self, group: u128) -> Arc<Mutex<()>> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asks) = groups.get(&group).and_then(Weak::upgrade) {
            return asks;
        }
        groups.retain(|_, asks| asks.strong_count() > 0);
        let asks = Arc::default();
        groups.insert(group, Arc::downgrade(&asks));
        asks
    }
}

impl Logins {
    /// So many logins a second for the process, and turns of their own for devices that are being linked.
    pub fn new(per_second: u32) -> Self {
        let lanes = Lanes {
            linked: Lane::new(per_second),
            pairing: Lane::new(PAIRINGS_PER_SECOND),
            reached: std::sync::Mutex::default(),
        };
        Self { lanes: Arc::new(lanes), group: 0 }
    }

    /// The same turns, for the sessions of this group.
    #[must_use]
    pub fn of_group(&self, group: u128) -> Self {
        Self { lanes: Arc::clone(&self.lanes), group }
    }

    /// Waits for a turn. A caller that goes away leaves its place to the next one.
    pub(crate) async fn turn(&self, pairing: bool) {
        let lane = if pairing { &self.lanes.pairing } else { &self.lanes.linked };
        let asks = lane.asks(self.group);
        let _asks = asks.lock().await;
        let mut next = lane.next.lock().await;
        sleep_until(*next).await;
        let every = if self.is_unreachable() { PROBE.max(lane.every) } else { lane.every };
        *next = Instant::now() + every;
    }

    /// Notes whether a connection that was tried from this time on came about. What the network then says of an account is
    /// not meant.
    pub(crate) fn note(&self, begun: Instant, came_about: bool) {
        let mut reached = self.reached();
        if came_about {
            *reached = Reached { last: Some(Instant::now()), failed: 0 };
        } else if reached.last.is_none_or(|last| last < begun) {
            reached.failed += 1;
        }
    }

    fn is_unreachable(&self) -> bool {
        self.reached().failed >= FAILURES
    }

    fn reached(&self) -> std::sync::MutexGuard<'_, Reached> {
        self.lanes.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::*;

    /// Many that wait for a turn.
    fn crowd(logins: &Logins) -> Vec<JoinHandle<()>> {
        let wait = |logins: Logins| tokio::spawn(async move { logins.turn(false).await });
        (0..1_000).map(|_| wait(logins.clone())).collect()
    }

    #[tokio::test]
    async fn turns_are_spread_over_time() {
        let (logins, asked) = (Logins::new(20), Instant::now());
        let turn = || logins.turn(false);
        tokio::join!(turn(), turn(), turn(), turn(), turn());
        assert!(asked.elapsed() >= Duration::from_millis(200), "{:?}", asked.elapsed());
    }

    #[tokio::test]
    async fn who_links_a_device_does_not_wait_behind_the_others() {
        let logins = Logins::new(1);
        let crowd = crowd(&logins);
        tokio::task::yield_now().await;
        timeout(Duration::from_mins(1), logins.turn(true)).await.expect("a turn of its own");
        crowd.iter().for_each(JoinHandle::abort);
    }

    #[tokio::test]
    async fn a_crowd_of_one_group_holds_no_other_group() {
        let logins = Logins::new(10);
        let crowd = crowd(&logins.of_group(1));
        tokio::task::yield_now().await;
        // Without groups: 100 seconds.
        for group in [2, 3, 2] {
            timeout(Duration::from_secs(20), logins.of_group(group).turn(false)).await.expect("a turn soon");
        }
        crowd.iter().for_each(JoinHandle::abort);
        for waiting in crowd {
            drop(waiting.await);
        }
        logins.turn(false).await;
        let kept = logins.lanes.linked.groups.lock().expect("no panic").len();
        assert_eq!(kept, 1, "groups that wait for nothing are forgotten");
    }

    #[tokio::test]
    async fn a_network_that_cannot_be_reached_is_tried_once_a_second() {
        let (logins, asked) = (Logins::new(1_000), Instant::now());
        (0..FAILURES).for_each(|_| logins.note(asked, false));
        tokio::join!(logins.turn(false), logins.turn(false));
        assert!(asked.elapsed() >= PROBE, "{:?}", asked.elapsed());
        logins.note(asked, true);
        (0..FAILURES).for_each(|_| logins.note(asked, false));
        assert!(!logins.is_unreachable(), "those were tried before");
    }

    #[tokio::test]
    async fn who_goes_away_takes_no_turn() {
        let logins = Logins::new(1);
        logins.turn(false).await;
        let crowd = crowd(&logins);
        tokio::task::yield_now().await;
        crowd.iter().for_each(JoinHandle::abort);
        timeout(Duration::from_mins(1), logins.turn(false)).await.expect("the next turn");
    }
}
