//! When a message that met transient trouble is tried again.

use std::time::Duration;

/// The waits between the attempts of one message. It keeps its place in the line meanwhile.
const DELAYS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(15)];

/// The wait before the next attempt after `failures` attempts that failed by the message's own trouble; `None` when it
/// is time to give up and let the line move on.
pub fn delay_after(failures: u32) -> Option<Duration> {
    DELAYS.get(usize::try_from(failures.checked_sub(1)?).ok()?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_waits_then_the_end() {
        let waits: Vec<_> = (1..=5).map(|failures| delay_after(failures).map(|delay| delay.as_secs())).collect();
        assert_eq!(waits, [Some(1), Some(5), Some(15), None, None]);
    }
}
