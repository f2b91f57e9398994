//! Which deliveries of a webhook may be claimed, and when.
//!
//! There are three lanes. Each lane has its own slots in the gateway, so that no lane delays another lane. After
//! several failures in a row, all deliveries of a webhook are in [`Lane::Failing`] until an attempt succeeds.

use crate::clock::Millis;

/// Most deliveries of a webhook in flight.
pub const IN_FLIGHT: usize = 8;
/// Most retries of a webhook in flight.
const RETRIES_IN_FLIGHT: usize = 4;
/// Slots that first attempts leave free while a retry is due.
const FOR_RETRIES: usize = 2;
/// Most deliveries in flight of a webhook that fails: enough to see that it works again.
const FAILING_IN_FLIGHT: usize = 2;
/// After this many failures in a row a webhook counts as failing. A webhook that has never accepted an event counts as
/// failing after its first failure.
const FAILING_FROM: u32 = 5;
/// Most deliveries in flight of a webhook whose last attempt failed, or that has not accepted an event yet. The limit
/// prevents new webhooks with hanging receivers from using all slots before they count as failing.
const UNPROVEN_IN_FLIGHT: usize = 2;

/// Deliveries that share slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// First attempts.
    First,
    /// Later attempts and replays.
    Retry,
    /// All deliveries of webhooks that fail.
    Failing,
}

impl Lane {
    pub const ALL: [Self; 3] = [Self::First, Self::Retry, Self::Failing];
}

/// What decides when a webhook's deliveries may be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueState {
    /// Whether the webhook is active, and none of its older deliveries are being ended.
    pub is_open: bool,
    /// Failed attempts in a row.
    pub failures: u32,
    /// Whether it has ever accepted an event.
    pub has_delivered: bool,
    /// The earliest time of a first attempt that waits.
    pub first_at: Option<Millis>,
    /// The earliest time of a later attempt that waits. The end of a lease counts as such a time.
    pub retry_at: Option<Millis>,
    /// First attempts in flight.
    pub firsts: usize,
    /// Later attempts in flight.
    pub retries: usize,
    /// The earliest end of a lease.
    pub lease_ends: Option<Millis>,
}

/// When the next delivery of the webhook can be claimed in each lane. `None`: no delivery can be claimed before the
/// state of the webhook changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Due {
    pub first: Option<Millis>,
    pub retry: Option<Millis>,
    pub failing: Option<Millis>,
}

impl Due {
    pub fn of(&self, lane: Lane) -> Option<Millis> {
        match lane {
            Lane::First => self.first,
            Lane::Retry => self.retry,
            Lane::Failing => self.failing,
        }
    }
}

impl QueueState {
    /// Whether all its deliveries are in [`Lane::Failing`].
    pub fn is_failing(&self) -> bool {
        self.failures >= if self.has_delivered { FAILING_FROM } else { 1 }
    }

    /// How many deliveries of the lane may be claimed now.
    pub fn slots(&self, lane: Lane, now: Millis) -> usize {
        let in_flight = self.firsts + self.retries;
        if !self.is_open || self.is_failing() != (lane == Lane::Failing) {
            return 0;
        }
        let free = IN_FLIGHT.saturating_sub(in_flight);
        match lane {
            Lane::First if self.failures > 0 || !self.has_delivered => UNPROVEN_IN_FLIGHT.saturating_sub(in_flight),
            Lane::First => {
                let kept = if self.retry_at.is_some_and(|at| at <= now) { FOR_RETRIES } else { 0 };
                free.saturating_sub(kept.saturating_sub(self.retries))
            }
            Lane::Retry => free.min(RETRIES_IN_FLIGHT.saturating_sub(self.retries)),
            Lane::Failing => FAILING_IN_FLIGHT.saturating_sub(in_flight),
        }
    }

    /// When the lanes are due. Webhooks are served in the order of these times. A webhook that was due and was not
    /// served keeps its time. A webhook that was served gets a new time, so that all other due webhooks are served
    /// before it.
    pub fn due(&self, now: Millis, before: Due, served: Option<Lane>) -> Due {
        let at = |lane, wanted: Option<Millis>| {
            let wanted = if self.slots(lane, now) > 0 {
                wanted?.max(now)
            } else {
                // The end of a lease frees a slot, if no settlement does so before.
                wanted?.max(self.lease_ends?).max(now)
            };
            let kept = before.of(lane).filter(|before| *before <= now && wanted == now && served != Some(lane));
            Some(kept.unwrap_or(wanted))
        };
        let either = [self.first_at, self.retry_at].into_iter().flatten().min();
        match (self.is_open, self.is_failing()) {
            (false, _) => Due::default(),
            (true, true) => Due { failing: at(Lane::Failing, either), ..Due::default() },
            (true, false) => {
                Due { first: at(Lane::First, self.first_at), retry: at(Lane::Retry, self.retry_at), failing: None }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: QueueState = QueueState {
        is_open: true,
        failures: 0,
        has_delivered: true,
        first_at: None,
        retry_at: None,
        firsts: 0,
        retries: 0,
        lease_ends: None,
    };

    #[test]
    fn a_webhook_has_eight_slots_and_retries_have_some_of_them() {
        let table = [
            // First attempts and retries in flight, whether a retry is due, and the free slots of first attempts and of
            // retries.
            (0, 0, false, 8, 4),
            (8, 0, false, 0, 0),
            (0, 0, true, 6, 4),
            (6, 0, true, 0, 2),
            (6, 1, true, 0, 1),
            (4, 4, true, 0, 0),
            (0, 4, true, 4, 0),
        ];
        for (firsts, retries, due, first, retry) in table {
            let state = QueueState { firsts, retries, retry_at: due.then_some(5), ..IDLE };
            let slots = (state.slots(Lane::First, 5), state.slots(Lane::Retry, 5));
            assert_eq!(slots, (first, retry), "{firsts}, {retries}, {due}");
            assert_eq!(state.slots(Lane::Failing, 5), 0);
        }
        assert_eq!(QueueState { is_open: false, ..IDLE }.slots(Lane::First, 5), 0);
    }

    #[test]
    fn a_failing_webhook_has_a_lane_of_its_own_and_two_slots() {
        let failing = QueueState { failures: FAILING_FROM, first_at: Some(3), retry_at: Some(9), ..IDLE };
        assert_eq!(Lane::ALL.map(|lane| failing.slots(lane, 5)), [0, 0, 2]);
        assert_eq!(failing.due(5, Due::default(), None), Due { failing: Some(5), ..Due::default() });
        let full = QueueState { firsts: 1, retries: 1, lease_ends: Some(30), ..failing };
        assert_eq!(full.due(5, Due::default(), None), Due { failing: Some(30), ..Due::default() });
        assert_eq!(QueueState { failures: FAILING_FROM - 1, ..failing }.slots(Lane::Failing, 5), 0);
    }

    #[test]
    fn a_webhook_gets_all_slots_when_it_has_accepted_an_event() {
        let new = QueueState { has_delivered: false, ..IDLE };
        assert_eq!(Lane::ALL.map(|lane| new.slots(lane, 5)), [2, 4, 0]);
        assert_eq!(QueueState { firsts: 2, ..new }.slots(Lane::First, 5), 0);
        assert_eq!(Lane::ALL.map(|lane| QueueState { failures: 1, ..new }.slots(lane, 5)), [0, 0, 2]);
        assert_eq!(Lane::ALL.map(|lane| QueueState { failures: 1, ..IDLE }.slots(lane, 5)), [2, 4, 0]);
    }

    #[test]
    fn who_is_served_goes_behind_the_others() {
        let state = QueueState { first_at: Some(1), retry_at: Some(50), ..IDLE };
        let due = |first| Due { first: Some(first), retry: Some(50), failing: None };
        assert_eq!(state.due(10, due(4), None), due(4), "it keeps its place");
        assert_eq!(state.due(10, due(4), Some(Lane::First)), due(10));
        assert_eq!(state.due(10, due(4), Some(Lane::Retry)), due(4));
        assert_eq!(state.due(10, Due::default(), None), due(10));
        assert_eq!(QueueState { first_at: Some(20), ..state }.due(10, due(4), None), due(20), "nothing waits now");
        let full = QueueState { firsts: 8, lease_ends: Some(40), ..state };
        assert_eq!(full.due(10, due(4), Some(Lane::First)), due(40));
        assert_eq!(QueueState { is_open: false, ..state }.due(10, due(4), None), Due::default());
    }
}
