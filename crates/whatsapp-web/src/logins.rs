//! The login rate of the sessions of a process. All of them connect from one address, and after an outage all of them
//! reconnect. The network treats many logins at once as an attack.
//!
//! New sessions and the library's reconnects wait here for a login slot. Linked devices and devices that are being linked
//! have separate rates. While the network cannot be reached, the rate is one login a second. Slots alternate between
//! institutions; the sessions of one institution wait in order. The store records the last login of a session and the end of
//! its ban, so a restart or another node does not shorten these waits.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// The interval between two attempts of the process while the network cannot be reached.
const PROBE: Duration = Duration::from_secs(1);
/// The number of failed connections in a row after which the network counts as unreachable.
const FAILURES: u32 = 3;
/// Connections a second of devices that are being linked. They have their own rate, so that a person who waits for a code
/// does not wait for the reconnects after an outage.
const PAIRINGS_PER_SECOND: u32 = 5;

/// A queue of login slots. Sessions of one group get slots in order, and slots alternate between groups, so that a large
/// group does not delay another.
#[derive(Clone, Debug)]
pub struct Logins {
    queues: Arc<Queues>,
    group: u128,
}

#[derive(Debug)]
struct Queues {
    linked: SlotQueue,
    pairing: SlotQueue,
    reached: std::sync::Mutex<Reached>,
}

/// The results of recent connection attempts.
#[derive(Debug, Default)]
struct Reached {
    /// The time of the last successful connection.
    last: Option<Instant>,
    /// The number of failed attempts since then.
    failed: u32,
}

#[derive(Debug)]
struct SlotQueue {
    interval: Duration,
    /// The time of the next slot. The lock is fair: it serves waiters in order.
    next: Mutex<Instant>,
    /// For each waiting group, the lock of the member that waits for a slot. Only one member of a group waits at a time, so
    /// slots alternate between groups.
    groups: std::sync::Mutex<HashMap<u128, Weak<Mutex<()>>>>,
}

impl SlotQueue {
    fn new(per_second: u32) -> Self {
        let (interval, next) = (Duration::from_secs(1) / per_second.max(1), Mutex::new(Instant::now()));
        Self { interval, next, groups: std::sync::Mutex::default() }
    }

    /// The lock that one member of a group holds while it waits for a slot.
    fn group_lock(&self, group: u128) -> Arc<Mutex<()>> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = groups.get(&group).and_then(Weak::upgrade) {
            return lock;
        }
        groups.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::default();
        groups.insert(group, Arc::downgrade(&lock));
        lock
    }
}

impl Logins {
    /// A queue with this login rate for linked devices, and a separate rate for devices that are being linked.
    pub fn new(per_second: u32) -> Self {
        let queues = Queues {
            linked: SlotQueue::new(per_second),
            pairing: SlotQueue::new(PAIRINGS_PER_SECOND),
            reached: std::sync::Mutex::default(),
        };
        Self { queues: Arc::new(queues), group: 0 }
    }

    /// The same queue, for the sessions of this group.
    #[must_use]
    pub fn of_group(&self, group: u128) -> Self {
        Self { queues: Arc::clone(&self.queues), group }
    }

    /// Waits for a login slot. If the caller is dropped, the next one gets the slot.
    pub(crate) async fn acquire(&self, pairing: bool) {
        let queue = if pairing { &self.queues.pairing } else { &self.queues.linked };
        let group = queue.group_lock(self.group);
        let _group = group.lock().await;
        let mut next = queue.next.lock().await;
        sleep_until(*next).await;
        let interval = if self.is_unreachable() { PROBE.max(queue.interval) } else { queue.interval };
        *next = Instant::now() + interval;
    }

    /// Records whether a connection attempt that began at this time succeeded. A later refusal of the account does not count
    /// as a failure.
    pub(crate) fn note(&self, begun: Instant, succeeded: bool) {
        let mut reached = self.reached();
        if succeeded {
            *reached = Reached { last: Some(Instant::now()), failed: 0 };
        } else if reached.last.is_none_or(|last| last < begun) {
            reached.failed += 1;
        }
    }

    fn is_unreachable(&self) -> bool {
        self.reached().failed >= FAILURES
    }

    fn reached(&self) -> std::sync::MutexGuard<'_, Reached> {
        self.queues.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::*;

    /// Sessions that wait for slots.
    fn crowd(logins: &Logins) -> Vec<JoinHandle<()>> {
        let wait = |logins: Logins| tokio::spawn(async move { logins.acquire(false).await });
        (0..1_000).map(|_| wait(logins.clone())).collect()
    }

    #[tokio::test]
    async fn slots_are_spread_over_time() {
        let (logins, asked) = (Logins::new(20), Instant::now());
        let slot = || logins.acquire(false);
        tokio::join!(slot(), slot(), slot(), slot(), slot());
        assert!(asked.elapsed() >= Duration::from_millis(200), "{:?}", asked.elapsed());
    }

    #[tokio::test]
    async fn a_device_that_is_being_linked_does_not_wait_for_linked_devices() {
        let logins = Logins::new(1);
        let crowd = crowd(&logins);
        tokio::task::yield_now().await;
        timeout(Duration::from_mins(1), logins.acquire(true)).await.expect("a slot of its own");
        crowd.iter().for_each(JoinHandle::abort);
    }

    #[tokio::test]
    async fn a_large_group_does_not_delay_another_group() {
        let logins = Logins::new(10);
        let crowd = crowd(&logins.of_group(1));
        tokio::task::yield_now().await;
        // Without groups this takes 100 seconds.
        for group in [2, 3, 2] {
            timeout(Duration::from_secs(20), logins.of_group(group).acquire(false)).await.expect("a slot soon");
        }
        crowd.iter().for_each(JoinHandle::abort);
        for waiting in crowd {
            drop(waiting.await);
        }
        logins.acquire(false).await;
        let kept = logins.queues.linked.groups.lock().expect("no panic").len();
        assert_eq!(kept, 1, "groups that wait for nothing are forgotten");
    }

    #[tokio::test]
    async fn a_network_that_cannot_be_reached_is_tried_once_a_second() {
        let (logins, asked) = (Logins::new(1_000), Instant::now());
        (0..FAILURES).for_each(|_| logins.note(asked, false));
        tokio::join!(logins.acquire(false), logins.acquire(false));
        assert!(asked.elapsed() >= PROBE, "{:?}", asked.elapsed());
        logins.note(asked, true);
        (0..FAILURES).for_each(|_| logins.note(asked, false));
        assert!(!logins.is_unreachable(), "those were tried before");
    }

    #[tokio::test]
    async fn a_dropped_waiter_uses_no_slot() {
        let logins = Logins::new(1);
        logins.acquire(false).await;
        let crowd = crowd(&logins);
        tokio::task::yield_now().await;
        crowd.iter().for_each(JoinHandle::abort);
        timeout(Duration::from_mins(1), logins.acquire(false)).await.expect("the next slot");
    }
}
