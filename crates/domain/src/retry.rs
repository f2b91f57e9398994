//! When a message, a recipient or a channel is tried again after a failure.

use std::time::Duration;

use crate::pacing::Pacing;

/// The waits between the attempts of one message. It keeps its position in the queue meanwhile.
const DELAYS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(15)];

/// The wait before the next attempt after `failures` attempts that failed because of the message itself; `None` when the
/// message fails and the queue continues.
pub fn delay_after(failures: u32) -> Option<Duration> {
    DELAYS.get(usize::try_from(failures.checked_sub(1)?).ok()?).copied()
}

/// The shortest and the longest wait of a channel whose network does not say how long a failure lasts.
const CHANNEL_DELAYS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(5));

/// The wait of a channel after this many failures in a row, at least one. It doubles with each failure, and a random number
/// that is uniform over all of `u64` adds up to a quarter, so that channels with the same failure do not return at once.
pub fn channel_delay(troubles: u32, random: u64) -> Duration {
    let (shortest, longest) = CHANNEL_DELAYS;
    let wait = shortest.saturating_mul(1 << troubles.saturating_sub(1).min(16)).min(longest);
    Pacing { min: wait, max: wait + wait / 4 }.interval(random)
}

/// The wait before the n-th further attempt for a throttled recipient: 4, 16, 64, then 256 seconds. Meta: 4^n seconds after
/// error 131056.
pub fn recipient_delay(times: u32) -> Duration {
    Duration::from_secs(4_u64.pow(times.clamp(1, 4)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channels_waits_double_up_to_five_minutes() {
        let waits: Vec<_> = (1..=11).map(|troubles| channel_delay(troubles, 0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(channel_delay(3, u64::MAX), Duration::from_secs(5), "a quarter more at most");
        assert_eq!(channel_delay(u32::MAX, 0).as_secs(), 300);
    }

    #[test]
    fn a_recipients_waits_are_powers_of_four() {
        let waits: Vec<_> = (0..=5).map(|times| recipient_delay(times).as_secs()).collect();
        assert_eq!(waits, [4, 4, 16, 64, 256, 256]);
    }

    #[test]
    fn three_waits_then_the_end() {
        let waits: Vec<_> = (1..=5).map(|failures| delay_after(failures).map(|delay| delay.as_secs())).collect();
        assert_eq!(waits, [Some(1), Some(5), Some(15), None, None]);
    }
}
