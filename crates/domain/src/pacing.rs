//! The send interval of a channel, which keeps its number from looking automated, and the rate limit for one recipient.

use std::time::Duration;

/// A send interval with jitter: a new random value between the two for each send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pacing {
    /// The shortest interval.
    pub min: Duration,
    /// The longest interval.
    pub max: Duration,
}

impl Pacing {
    /// The interval for a random number that is uniform over all of `u64`.
    pub fn interval(&self, random: u64) -> Duration {
        let spread = self.max.saturating_sub(self.min).as_millis();
        // The high half of the product is uniform without a division.
        let part = (u128::from(random) * (spread + 1)) >> 64;
        self.min + Duration::from_millis(u64::try_from(part).unwrap_or(u64::MAX))
    }
}

/// The rate at which a network accepts messages for one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecipientPacing {
    /// The most messages at once.
    pub burst: u32,
    /// After the burst, one message in this time. Each such time without a message restores one message of the burst.
    pub every: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_span_the_range_and_stay_in_it() {
        let pacing = Pacing { min: Duration::from_secs(1), max: Duration::from_secs(3) };
        assert_eq!(pacing.interval(0), Duration::from_secs(1));
        assert_eq!(pacing.interval(u64::MAX), Duration::from_secs(3));
        assert_eq!(pacing.interval(u64::MAX / 2).as_secs(), 2);
        assert_eq!(Pacing::default().interval(u64::MAX), Duration::ZERO);
    }
}
