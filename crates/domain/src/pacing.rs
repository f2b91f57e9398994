//! How long a channel rests between two sends, so that its number does not look like a machine, and how often one
//! recipient is written to.

use std::time::Duration;

/// A rest with jitter: anything between the two, drawn anew for each send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pacing {
    /// The shortest rest.
    pub min: Duration,
    /// The longest rest.
    pub max: Duration,
}

impl Pacing {
    /// The rest for a random number drawn evenly from all of `u64`.
    pub fn rest(&self, random: u64) -> Duration {
        let spread = self.max.saturating_sub(self.min).as_millis();
        // The high half of the product spreads evenly without a division.
        let part = (u128::from(random) * (spread + 1)) >> 64;
        self.min + Duration::from_millis(u64::try_from(part).unwrap_or(u64::MAX))
    }
}

/// How often a network takes a message for one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecipientPacing {
    /// So many at once.
    pub burst: u32,
    /// Then one in that time; as long without a message gives one of the burst back.
    pub every: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_span_the_range_and_stay_in_it() {
        let pacing = Pacing { min: Duration::from_secs(1), max: Duration::from_secs(3) };
        assert_eq!(pacing.rest(0), Duration::from_secs(1));
        assert_eq!(pacing.rest(u64::MAX), Duration::from_secs(3));
        assert_eq!(pacing.rest(u64::MAX / 2).as_secs(), 2);
        assert_eq!(Pacing::default().rest(u64::MAX), Duration::ZERO);
    }
}
