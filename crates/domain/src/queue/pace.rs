//! Limits the rate of messages for one recipient, if the network limits it.

use crate::clock::{Millis, millis};
use crate::pacing::RecipientPacing;

/// Whether a message may be sent to a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Now. From then on the recipient's allowance is used up until this time.
    Now {
        /// The value to store.
        used_until: Millis,
    },
    /// Not before this time.
    At(Millis),
}

/// Uses a part of the recipient's allowance for a message.
///
/// The allowance is stored as the time until which it is used up. Each message adds `every`, and a burst of n may be ahead
/// by n times `every` (the "generic cell rate algorithm", with one number for each recent recipient).
pub fn pace(pacing: RecipientPacing, used_until: Option<Millis>, now: Millis) -> Pace {
    let every = millis(pacing.every);
    let used = used_until.map_or(now, |used| used.max(now));
    let free_at = used - every * Millis::from(pacing.burst.saturating_sub(1));
    if free_at > now { Pace::At(free_at) } else { Pace::Now { used_until: used + every } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_burst_is_sent_at_once_and_then_one_message_per_interval() {
        let pacing = RecipientPacing { burst: 2, every: Duration::from_millis(100) };
        let table = [
            // Used up until, now: the result.
            (None, 1_000, Pace::Now { used_until: 1_100 }),
            (Some(1_100), 1_000, Pace::Now { used_until: 1_200 }),
            (Some(1_200), 1_000, Pace::At(1_100)),
            (Some(1_200), 1_099, Pace::At(1_100)),
            (Some(1_200), 1_100, Pace::Now { used_until: 1_300 }),
            (Some(1_200), 9_000, Pace::Now { used_until: 9_100 }),
        ];
        for (used_until, now, answer) in table {
            assert_eq!(pace(pacing, used_until, now), answer, "{used_until:?}, {now}");
        }
        let one = RecipientPacing { burst: 1, ..pacing };
        assert_eq!(pace(one, Some(1_050), 1_000), Pace::At(1_050));
    }
}
