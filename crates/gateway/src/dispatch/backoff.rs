//! The backoff of a channel, or of one of its recipients, when the network does not say how long a failure lasts.

use recado_domain::clock::{Millis, millis};
use recado_domain::phone::forms;
use recado_domain::queue::Settlement;
use recado_domain::retry;

/// The number of lost answers in a row after which the channel is held. One or two are chance. More are an outage, in which
/// every further message would become `UNKNOWN`.
const MAX_CONSECUTIVE_TIMEOUTS: u32 = 3;

/// Whether two numbers belong to one person.
fn is_same_number(number: &str, other: &str) -> bool {
    forms(number).any(|form| form == other)
}

/// The failures of a channel whose network does not say how long they last.
#[derive(Default)]
pub(super) struct Backoff {
    /// Failures in a row.
    failures: u32,
    until: Millis,
    /// Lost answers in a row.
    timeouts: u32,
    /// The first recipient to whom nothing could be sent since the network last answered, and the end of that recipient's
    /// wait. After that wait the recipient's next message is tried.
    first_unsent: Option<(String, Millis)>,
}

impl Backoff {
    /// Records a failure of the channel, and returns the end of its wait. Messages that were in flight together count as one
    /// failure.
    pub(super) fn record_failure(&mut self, now: Millis, random: u64) -> Millis {
        if now >= self.until {
            self.failures += 1;
            self.until = now + millis(retry::channel_delay(self.failures, random));
        }
        self.until
    }

    /// Records that the network answered. A message that was in flight when a failure began proves nothing about that
    /// failure.
    pub(super) fn record_success(&mut self, now: Millis) {
        self.timeouts = 0;
        self.first_unsent = None;
        if now >= self.until {
            self.failures = 0;
        }
    }

    /// Records that nothing could be sent to a recipient, who waits for `wait`. A failure of one recipient concerns that
    /// recipient. A second recipient suggests a failure of the channel, and each further one is another try, so the channel
    /// waits too.
    pub(super) fn record_not_sent(
        &mut self,
        recipient: &str,
        wait: Millis,
        (now, send_interval): (Millis, Millis),
        random: u64,
    ) -> Settlement {
        let others =
            self.first_unsent.as_ref().is_some_and(|(first, until)| now < *until && !is_same_number(first, recipient));
        let hold = others.then(|| self.record_failure(now, random));
        let until = self.after_next_send(wait, now, send_interval);
        if !others {
            self.first_unsent = Some((recipient.to_owned(), until));
        }
        Settlement::HoldRecipient { until, hold }
    }

    /// The end of a recipient's wait. The wait starts when the channel may send again, so that another recipient is tried
    /// first, however long the channel's send interval is.
    pub(super) fn after_next_send(&self, wait: Millis, now: Millis, send_interval: Millis) -> Millis {
        self.until.max(now + send_interval) + wait
    }

    /// Records a lost answer. Returns the end of the channel's wait, if it has to wait.
    pub(super) fn record_timeout(&mut self, now: Millis, random: u64) -> Option<Millis> {
        self.timeouts += 1;
        (self.timeouts >= MAX_CONSECUTIVE_TIMEOUTS).then(|| self.record_failure(now, random))
    }

    /// Whether only one message at a time is sent, to find out whether the network answers again.
    pub(super) fn half_open(&self) -> bool {
        self.timeouts >= MAX_CONSECUTIVE_TIMEOUTS
    }
}
