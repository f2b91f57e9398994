//! When a failed delivery is tried again.

use std::time::Duration;

use crate::clock::{Millis, millis};
use crate::pacing::Pacing;

/// A retry policy that a caller gave: this number of retries at this interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    pub max_retries: u32,
    pub delay: Millis,
}

impl RetryPolicy {
    /// The most retries that a caller may ask for.
    pub const MAX_RETRIES: u32 = 10;
    pub const DELAYS: (Millis, Millis) = (5_000, 300_000);
    /// The values of the fields that a caller leaves out of a policy.
    pub const DEFAULT: Self = Self { max_retries: 5, delay: 30_000 };
}

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

/// The planned delays without a policy, each with 20 % jitter.
const SCHEDULE: [Duration; 9] = [
    Duration::from_secs(5),
    minutes(5),
    minutes(30),
    minutes(2 * 60),
    minutes(5 * 60),
    minutes(10 * 60),
    minutes(14 * 60),
    minutes(20 * 60),
    minutes(24 * 60),
];

/// The backoff after this number of failed attempts, at least one. `None`: the delivery becomes a dead letter. The
/// receiver's `Retry-After` can extend the backoff to at most twice the planned delay. `random` is uniform over all of
/// `u64`.
pub fn delay_after(
    failures: u32,
    policy: Option<RetryPolicy>,
    retry_after: Option<Millis>,
    random: u64,
) -> Option<Millis> {
    let planned = if let Some(policy) = policy {
        (failures <= policy.max_retries).then_some(policy.delay)?
    } else {
        let planned = *SCHEDULE.get(usize::try_from(failures.checked_sub(1)?).ok()?)?;
        millis(Pacing { min: planned * 4 / 5, max: planned * 6 / 5 }.interval(random))
    };
    Some(retry_after.map_or(planned, |asked| asked.clamp(planned, 2 * planned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Millis = 60_000;
    const MIDDLE: u64 = u64::MAX / 2;

    #[test]
    fn without_a_policy_there_are_ten_attempts_over_three_days() {
        let waits: Vec<_> = (1..=10).map(|failures| delay_after(failures, None, None, MIDDLE)).collect();
        let hours = [2, 5, 10, 14, 20, 24].map(|hours| Some(60 * MINUTE * hours));
        assert_eq!(waits[..3], [Some(5_000), Some(5 * MINUTE), Some(30 * MINUTE)]);
        assert_eq!(waits[3..9], hours);
        assert_eq!(waits[9], None);
        assert_eq!(delay_after(2, None, None, 0), Some(4 * MINUTE), "20 % less at least");
        assert_eq!(delay_after(2, None, None, u64::MAX), Some(6 * MINUTE), "20 % more at most");
    }

    #[test]
    fn a_policy_gives_the_number_and_the_interval() {
        let policy = Some(RetryPolicy { max_retries: 2, delay: 7_000 });
        let waits: Vec<_> = (1..=3).map(|failures| delay_after(failures, policy, None, 0)).collect();
        assert_eq!(waits, [Some(7_000), Some(7_000), None]);
        assert_eq!(delay_after(1, Some(RetryPolicy { max_retries: 0, delay: 7_000 }), None, 0), None);
    }

    #[test]
    fn a_receiver_may_double_the_wait() {
        let asked = |asked| delay_after(1, None, Some(asked), MIDDLE);
        assert_eq!([asked(0), asked(7_000), asked(86_400_000)], [Some(5_000), Some(7_000), Some(10_000)]);
        let policy = Some(RetryPolicy { max_retries: 1, delay: 7_000 });
        assert_eq!(delay_after(1, policy, Some(60_000), 0), Some(14_000));
    }
}
