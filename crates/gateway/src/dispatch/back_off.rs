//! How long a channel, or one of its recipients, waits whose network does not say how long a trouble lasts.

use recado_domain::clock::{Millis, millis};
use recado_domain::phone::forms;
use recado_domain::queue::Settlement;
use recado_domain::retry;

/// Answers that may be lost in a row before the channel is held: one or two are bad luck, more are an outage, in which
/// every further message would become `UNKNOWN`.
const SILENT: u32 = 3;

/// Whether two numbers are one person's.
fn is_one(number: &str, other: &str) -> bool {
    forms(number).any(|form| form == other)
}

/// The troubles of a channel whose network does not say how long they last.
#[derive(Default)]
pub(super) struct BackOff {
    /// In a row.
    troubles: u32,
    until: Millis,
    /// Answers that were lost in a row.
    silences: u32,
    /// The first recipient to whom nothing could be sent since the network last answered, and until when they are held. From
    /// then on their next message would have been tried again, had they one.
    unsent: Option<(String, Millis)>,
}

impl BackOff {
    /// One more; gives until when the channel waits. Messages that were on their way together meet one trouble.
    pub(super) fn trouble(&mut self, now: Millis, random: u64) -> Millis {
        if now >= self.until {
            self.troubles += 1;
            self.until = now + millis(retry::channel_delay(self.troubles, random));
        }
        self.until
    }

    /// The network answers. To what was on its way when a trouble began, that says nothing of the trouble.
    pub(super) fn well(&mut self, now: Millis) {
        self.silences = 0;
        self.unsent = None;
        if now >= self.until {
            self.troubles = 0;
        }
    }

    /// Nothing could be sent to a recipient, who waits for that long. One alone is in trouble of their own; with a second
    /// one it may be the channel's, and each of the others is one more try: the channel waits, too.
    pub(super) fn unsent(
        &mut self,
        recipient: &str,
        wait: Millis,
        (now, rest): (Millis, Millis),
        random: u64,
    ) -> Settlement {
        let others = self.unsent.as_ref().is_some_and(|(first, until)| now < *until && !is_one(first, recipient));
        let hold = others.then(|| self.trouble(now, random));
        let until = self.behind_the_next_send(wait, now, rest);
        if !others {
            self.unsent = Some((recipient.to_owned(), until));
        }
        Settlement::HoldRecipient { until, hold }
    }

    /// The end of a recipient's wait. It begins when the channel sends again, so that the next turn is another recipient's,
    /// however long the channel rests.
    pub(super) fn behind_the_next_send(&self, wait: Millis, now: Millis, rest: Millis) -> Millis {
        self.until.max(now + rest) + wait
    }

    /// An answer was lost; gives until when the channel waits.
    pub(super) fn silence(&mut self, now: Millis, random: u64) -> Option<Millis> {
        self.silences += 1;
        (self.silences >= SILENT).then(|| self.trouble(now, random))
    }

    /// Whether one message at a time finds out if anybody answers.
    pub(super) fn probes(&self) -> bool {
        self.silences >= SILENT
    }
}
