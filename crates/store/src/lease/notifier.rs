//! Notifications between nodes, collected and sent at most once in a short interval. PostgreSQL serialises all commits
//! with a notification, so one for each message would cost most of the throughput.
//!
//! A payload is text. `work 7,12` wakes the tasks of these channels at their owners. `accepted 7,12` does so too,
//! unless the channel waits for a message that blocks all messages after it. `free` makes every node check its quotas.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use recado_domain::channel::ChannelKey;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::nodes::ClusterStore;

/// The shortest interval between two notifications of a node.
const EVERY: Duration = Duration::from_millis(25);
/// The most channels in one notification: a payload has at most 8,000 bytes, and a number up to 20.
const CHANNELS: usize = 350;

/// Why a channel may have work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WakeReason {
    /// A message was accepted, behind all others of its channel.
    Accepted,
    /// Anything else: waiting messages may be sent now.
    Changed,
}

/// Wakes the task of a channel.
pub trait Waker: Send + Sync + 'static {
    /// Wakes the task of a channel, here or at the owner.
    fn wake(&self, channel: ChannelKey);
}

/// Notifications that are not sent yet.
#[derive(Debug, Default)]
struct Pending {
    accepted: BTreeSet<ChannelKey>,
    changed: BTreeSet<ChannelKey>,
    free: bool,
}

/// A notification of another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notification {
    /// These channels may have work.
    Work(WakeReason, Vec<ChannelKey>),
    /// Keys or channels were changed. The database sends this itself, with the commit of the change.
    Changed,
    /// Channels are free, or nodes joined or left.
    Free,
}

impl Notification {
    /// Parses a payload. Lines of a newer version are skipped.
    pub fn parse(payload: &str) -> Vec<Self> {
        let work = |reason, channels: &str| {
            Self::Work(reason, channels.split(',').filter_map(|key| key.parse().ok()).collect())
        };
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
    /// Removes and formats what fits into one payload; `None` if nothing is left.
    fn next_payload(&mut self) -> Option<String> {
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

/// Collects and sends the notifications of this node.
#[derive(Default)]
pub struct Notifier {
    pending: Mutex<Pending>,
    not_empty: Notify,
}

impl Notifier {
    /// Notifies the owner of a channel that the channel may have work.
    pub fn work(&self, channel: ChannelKey, reason: WakeReason) {
        self.add(|pending| {
            let channels = match reason {
                WakeReason::Accepted => &mut pending.accepted,
                WakeReason::Changed => &mut pending.changed,
            };
            channels.insert(channel);
        });
    }

    /// Notifies all nodes that channels are free, or that this node joins or leaves.
    pub fn free(&self) {
        self.add(|pending| pending.free = true);
    }

    fn add(&self, what: impl FnOnce(&mut Pending)) {
        what(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        self.not_empty.notify_one();
    }

    /// Sends what was collected, once. If that fails, the other nodes find the work at their next poll.
    pub async fn flush(&self, store: &dyn ClusterStore) {
        loop {
            let text = self.pending.lock().unwrap_or_else(PoisonError::into_inner).next_payload();
            let Some(text) = text else { return };
            if let Err(error) = store.notify(&text).await {
                tracing::debug!(%error, "notification of other nodes failed");
                return;
            }
        }
    }

    /// Sends until `stop` is cancelled.
    pub async fn send(self: Arc<Self>, store: Arc<dyn ClusterStore>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.not_empty.notified() => {}
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
    fn a_notification_is_parsed_as_it_was_formatted_and_fits() {
        let notifier = Notifier::default();
        notifier.free();
        let reason = |number| if number % 2 == 0 { WakeReason::Accepted } else { WakeReason::Changed };
        (0..400).for_each(|number| notifier.work(i64::MAX - number, reason(number)));
        let mut pending = notifier.pending.into_inner().expect("no panic");
        let (first, second) = (pending.next_payload().expect("some"), pending.next_payload().expect("the rest"));
        assert!(first.len() < 8_000, "{}", first.len());
        let mut parsed = Notification::parse(&first);
        assert_eq!(parsed[0], Notification::Free);
        parsed.extend(Notification::parse(&second));
        for reason in [WakeReason::Accepted, WakeReason::Changed] {
            let of =
                |notification: &Notification| matches!(notification, Notification::Work(what, _) if *what == reason);
            let work = parsed.iter().filter(|notification| of(notification));
            let keys =
                work.map(|notification| if let Notification::Work(_, keys) = notification { keys.len() } else { 0 });
            assert_eq!(keys.sum::<usize>(), 200, "{reason:?}");
        }
        assert_eq!(pending.next_payload(), None);
        let notifier = Notification::parse("something new\nwork x,7\nchanged\naccepted 8");
        let of_work = [(WakeReason::Changed, 7), (WakeReason::Accepted, 8)]
            .map(|(reason, key)| Notification::Work(reason, vec![key]));
        assert_eq!(notifier, [of_work[0].clone(), Notification::Changed, of_work[1].clone()]);
    }
}
