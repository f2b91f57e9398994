//! What nodes tell each other: gathered, and sent at most once in a while. PostgreSQL commits whatever carries a notice
//! one after another, so a notice with each message would cost most of the throughput.
//!
//! A payload has lines. `work 7,12` wakes the tasks of these channels where they are held. `accepted 7,12` does so too, unless
//! a message waits there that holds all behind it. `free` has every node look at the quotas.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use recado_domain::channel::ChannelKey;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::nodes::ClusterStore;

/// The least time between two notices of a node.
const EVERY: Duration = Duration::from_millis(25);
/// Most channels in one notice: a payload takes 8,000 bytes, and a number up to 20.
const CHANNELS: usize = 350;

/// Why a channel may have something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WakeReason {
    /// A message was accepted. It stands behind all others.
    Accepted,
    /// Anything else: what waited may go out now.
    Changed,
}

/// Wakes what works on a channel.
pub trait Waker: Send + Sync + 'static {
    /// Says that a channel may have something to do, here or at the node that holds it.
    fn wake(&self, channel: ChannelKey);
}

/// What is to be told.
#[derive(Debug, Default)]
struct Pending {
    accepted: BTreeSet<ChannelKey>,
    changed: BTreeSet<ChannelKey>,
    free: bool,
}

/// What a notice says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// These channels may have something to do.
    Work(WakeReason, Vec<ChannelKey>),
    /// Keys or channels were changed. The database says so itself, when the change is committed.
    Changed,
    /// Channels are free, or nodes have come or gone.
    Free,
}

impl Notice {
    /// Reads a payload; what a newer version says is passed over.
    pub fn parse(payload: &str) -> Vec<Self> {
        let work =
            |news, channels: &str| Self::Work(news, channels.split(',').filter_map(|key| key.parse().ok()).collect());
        let one = |line: &str| match line.split_once(' ') {
            Some(("accepted", channels)) => Some(work(WakeReason::Accepted, channels)),
            Some(("work", channels)) => Some(work(WakeReason::Changed, channels)),
            None if line == "changed" => Some(Self::Changed),
            None if line == "free" => Some(Self::Free),
            _ => None,
        };
        payload.lines().filter_map(one).collect()
    }
}

impl Pending {
    /// Takes what fits into one payload; `None` when there is nothing to tell.
    fn take(&mut self) -> Option<String> {
        let mut lines = Vec::new();
        if std::mem::take(&mut self.free) {
            lines.push("free".to_owned());
        }
        let mut room = CHANNELS;
        for (word, channels) in [("work", &mut self.changed), ("accepted", &mut self.accepted)] {
            let keys: Vec<_> =
                std::iter::from_fn(|| channels.pop_first()).take(room).map(|key| key.to_string()).collect();
            room -= keys.len();
            if !keys.is_empty() {
                lines.push(format!("{word} {}", keys.join(",")));
            }
        }
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

/// Gathers what other nodes should hear.
#[derive(Default)]
pub struct Notices {
    pending: Mutex<Pending>,
    some: Notify,
}

impl Notices {
    /// A channel that is not held here may have something to do.
    pub fn work(&self, channel: ChannelKey, news: WakeReason) {
        self.add(|pending| {
            let channels = match news {
                WakeReason::Accepted => &mut pending.accepted,
                WakeReason::Changed => &mut pending.changed,
            };
            channels.insert(channel);
        });
    }

    /// Channels are free, or this node has come or goes.
    pub fn free(&self) {
        self.add(|pending| pending.free = true);
    }

    fn add(&self, what: impl FnOnce(&mut Pending)) {
        what(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        self.some.notify_one();
    }

    /// Sends what is gathered, once. What cannot be sent is found when the others next look by themselves.
    pub async fn flush(&self, store: &dyn ClusterStore) {
        loop {
            let text = self.pending.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(text) = text else { return };
            if let Err(error) = store.notify(&text).await {
                tracing::debug!(%error, "notification of other nodes failed");
                return;
            }
        }
    }

    /// Sends until it is stopped.
    pub async fn send(self: Arc<Self>, store: Arc<dyn ClusterStore>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.some.notified() => {}
            }
            self.flush(&*store).await;
            tokio::time::sleep(EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_read_as_it_was_written_and_fits() {
        let notices = Notices::default();
        notices.free();
        let news = |number| if number % 2 == 0 { WakeReason::Accepted } else { WakeReason::Changed };
        (0..400).for_each(|number| notices.work(i64::MAX - number, news(number)));
        let mut pending = notices.pending.into_inner().expect("no panic");
        let (first, second) = (pending.take().expect("some"), pending.take().expect("the rest"));
        assert!(first.len() < 8_000, "{}", first.len());
        let mut heard = Notice::parse(&first);
        assert_eq!(heard[0], Notice::Free);
        heard.extend(Notice::parse(&second));
        for news in [WakeReason::Accepted, WakeReason::Changed] {
            let of = |notice: &Notice| matches!(notice, Notice::Work(what, _) if *what == news);
            let work = heard.iter().filter(|notice| of(notice));
            let keys = work.map(|notice| if let Notice::Work(_, keys) = notice { keys.len() } else { 0 });
            assert_eq!(keys.sum::<usize>(), 200, "{news:?}");
        }
        assert_eq!(pending.take(), None);
        let notices = Notice::parse("something new\nwork x,7\nchanged\naccepted 8");
        let of_work =
            [(WakeReason::Changed, 7), (WakeReason::Accepted, 8)].map(|(news, key)| Notice::Work(news, vec![key]));
        assert_eq!(notices, [of_work[0].clone(), Notice::Changed, of_work[1].clone()]);
    }
}
