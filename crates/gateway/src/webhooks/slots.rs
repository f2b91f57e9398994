//! How many requests may be in flight: each lane has slots of its own, so that no lane delays another.

use std::sync::Arc;
use std::time::Duration;

use recado_domain::webhook::Lane;
use recado_providers::outbound::client::idle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Slots of first attempts, of later attempts, and of webhooks that fail.
const SLOTS: [usize; 3] = [1_024, 256, 256];
/// Slots of slow requests. A request without an answer after [`SLOW_AFTER`] moves to such a slot, so that receivers
/// that hang do not fill the slots of receivers that answer.
const SLOW: usize = 1_536;
const SLOW_AFTER: Duration = Duration::from_millis(500);
/// Most bytes of bodies in flight. One body has at most 256 KiB.
pub(super) const BYTES: usize = 64 << 20;

/// Most connections at a time, with those that wait for the next request.
pub const CONNECTIONS: u64 = (SLOTS[0] + SLOTS[1] + SLOTS[2] + SLOW + idle::ALL) as u64;

/// The slots of this process.
pub(super) struct Slots {
    lanes: [Arc<Semaphore>; 3],
    slow: Arc<Semaphore>,
}

/// A slot in use. Dropping it frees the slot.
pub(super) struct Slot {
    permit: OwnedSemaphorePermit,
    slow: Option<Arc<Semaphore>>,
}

impl Slots {
    pub fn new() -> Self {
        Self { lanes: SLOTS.map(|slots| Arc::new(Semaphore::new(slots))), slow: Arc::new(Semaphore::new(SLOW)) }
    }

    /// The free slots of a lane.
    pub fn free(&self, lane: Lane) -> usize {
        self.lanes[place(lane)].available_permits()
    }

    /// Takes a slot. `None`: no slot is free.
    pub fn take(&self, lane: Lane) -> Option<Slot> {
        let permit = self.lanes[place(lane)].clone().try_acquire_owned().ok()?;
        // Slow requests of failing webhooks stay in the slots of their lane, which exist for such requests.
        Some(Slot { permit, slow: (lane != Lane::Failing).then(|| self.slow.clone()) })
    }
}

fn place(lane: Lane) -> usize {
    match lane {
        Lane::First => 0,
        Lane::Retry => 1,
        Lane::Failing => 2,
    }
}

impl Slot {
    /// Runs a request to its end. A slow request moves to a slot of slow requests if one is free. Then its first slot
    /// is free again, and `moved` is called.
    pub async fn run<T>(mut self, request: impl Future<Output = T>, moved: impl FnOnce()) -> T {
        tokio::pin!(request);
        if let Ok(done) = tokio::time::timeout(SLOW_AFTER, &mut request).await {
            return done;
        }
        if let Some(permit) = self.slow.take().and_then(|slow| slow.try_acquire_owned().ok()) {
            self.permit = permit;
            moved();
        }
        request.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_request_leaves_its_slot_to_others() {
        let slots = Slots::new();
        let (first, failing) = (slots.take(Lane::First).expect("a slot"), slots.take(Lane::Failing).expect("a slot"));
        let before = [Lane::First, Lane::Failing].map(|lane| slots.free(lane));
        assert_eq!(before, [SLOTS[0] - 1, SLOTS[2] - 1]);
        let slow = tokio::time::sleep(SLOW_AFTER * 3);
        let first = tokio::spawn(first.run(slow, || {}));
        let failing = tokio::spawn(failing.run(tokio::time::sleep(SLOW_AFTER * 3), || {}));
        tokio::time::sleep(SLOW_AFTER * 2).await;
        let meanwhile = [Lane::First, Lane::Failing].map(|lane| slots.free(lane));
        assert_eq!((meanwhile, slots.slow.available_permits()), ([SLOTS[0], SLOTS[2] - 1], SLOW - 1));
        first.await.expect("an end");
        failing.await.expect("an end");
        assert_eq!((slots.free(Lane::Failing), slots.slow.available_permits()), (SLOTS[2], SLOW));
    }

    #[tokio::test]
    async fn a_lane_has_only_its_own_slots() {
        let slots = Slots::new();
        let taken: Vec<_> = (0..SLOTS[1]).map(|_| slots.take(Lane::Retry).expect("a slot")).collect();
        assert!(slots.take(Lane::Retry).is_none() && slots.take(Lane::First).is_some());
        drop(taken);
        assert_eq!(slots.free(Lane::Retry), SLOTS[1]);
    }
}
