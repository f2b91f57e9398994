//! Limits concurrent calls to Graph, and shares them fairly between numbers: a slow number does not delay another.
//!
//! A message gets its slot before it is claimed. So waiting for a slot counts neither as an attempt nor as a failure of
//! the network, and it does not count towards the rate limit of a recipient.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// The right to make one call; released when dropped.
pub struct Slot {
    slots: Arc<Slots>,
    number: Arc<str>,
}

/// The slots for the calls of all numbers.
pub struct Slots {
    /// The most slots of one number.
    of_one: usize,
    state: Mutex<State>,
}

struct State {
    free: usize,
    numbers: HashMap<Arc<str>, Number>,
    /// The numbers with waiting callers, in the order in which they are served.
    waiting_numbers: VecDeque<Arc<str>>,
}

#[derive(Default)]
struct Number {
    calls: usize,
    waiting: VecDeque<oneshot::Sender<Slot>>,
}

impl Slots {
    /// With this many slots, of which one number has at most `of_one`.
    pub fn new(all: usize, of_one: usize) -> Arc<Self> {
        let state = State { free: all, numbers: HashMap::new(), waiting_numbers: VecDeque::new() };
        Arc::new(Self { of_one, state: Mutex::new(state) })
    }

    /// Waits for a slot of this number.
    pub async fn acquire(self: &Arc<Self>, number: &str) -> Option<Slot> {
        let receiver = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let number: Arc<str> =
                state.numbers.get_key_value(number).map_or_else(|| number.into(), |(own, _)| own.clone());
            let (sender, receiver) = oneshot::channel();
            let own = state.numbers.entry(number.clone()).or_default();
            if own.waiting.is_empty() {
                state.waiting_numbers.push_back(number.clone());
            }
            state.numbers.entry(number).or_default().waiting.push_back(sender);
            self.grant(state);
            receiver
        };
        receiver.await.ok()
    }

    /// A slot that is free now.
    pub fn try_acquire(self: &Arc<Self>, number: &str) -> Option<Slot> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // A caller that waits while slots are free belongs to a number that has its limit.
        let (number, own) = state.numbers.get_key_value(number)?;
        let is_free = state.free > 0 && own.calls < self.of_one && own.waiting.is_empty();
        is_free.then(|| number.clone()).map(|number| self.slot(&mut state, number))
    }

    fn slot(self: &Arc<Self>, state: &mut State, number: Arc<str>) -> Slot {
        state.free -= 1;
        state.numbers.entry(number.clone()).or_default().calls += 1;
        Slot { slots: self.clone(), number }
    }

    /// Gives free slots to waiting callers, one number after another.
    fn grant(self: &Arc<Self>, mut state: std::sync::MutexGuard<'_, State>) {
        let mut unwanted = Vec::new();
        let mut passed = 0;
        while state.free > 0 && passed < state.waiting_numbers.len() {
            let Some(number) = state.waiting_numbers.pop_front() else { break };
            let own = state.numbers.entry(number.clone()).or_default();
            // Some callers no longer wait.
            while own.waiting.front().is_some_and(oneshot::Sender::is_closed) {
                own.waiting.pop_front();
            }
            if own.waiting.is_empty() {
                if own.calls == 0 {
                    state.numbers.remove(&number);
                }
                continue;
            }
            if own.calls >= self.of_one {
                state.waiting_numbers.push_back(number);
                passed += 1;
                continue;
            }
            let waiting = own.waiting.pop_front();
            let more = !own.waiting.is_empty();
            let slot = self.slot(&mut state, number.clone());
            // A caller that has just gone leaves the slot to the next one. The slot is dropped after the lock is released.
            if let Some(Err(slot)) = waiting.map(|waiting| waiting.send(slot)) {
                unwanted.push(slot);
            }
            if more {
                state.waiting_numbers.push_back(number);
            }
            passed = 0;
        }
        drop(state);
        drop(unwanted);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.slots.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.free += 1;
        if let Some(own) = state.numbers.get_mut(&self.number) {
            own.calls -= 1;
            if own.calls == 0 && own.waiting.is_empty() {
                state.numbers.remove(&self.number);
            }
        }
        self.slots.grant(state);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use crate::cloud_api::slots::*;

    #[tokio::test]
    async fn slots_alternate_between_numbers() {
        let slots = Slots::new(4, 3);
        let held: Vec<_> = [slots.acquire("slow").await, slots.try_acquire("slow"), slots.try_acquire("slow")].into();
        assert!(held.iter().all(Option::is_some) && slots.try_acquire("slow").is_none(), "one number has a limit");
        let mut slow: Vec<_> = (0..10).map(|_| Box::pin(slots.acquire("slow"))).collect();
        assert!(slow.iter_mut().all(|slot| slot.now_or_never().is_none()));
        let fast = slots.acquire("fast").now_or_never().flatten().expect("others do not wait for it");
        let mut other = Box::pin(slots.acquire("other"));
        assert!((&mut other).now_or_never().is_none(), "all are in use");
        drop(held.into_iter().next());
        // The slow number waited first and is served; the next slot is another number's.
        let again = slow.iter_mut().find_map(FutureExt::now_or_never).flatten().expect("it is served");
        drop(again);
        assert!(other.now_or_never().flatten().is_some(), "ten waiting calls are served as one number");
        drop((fast, slow));
        assert!(slots.state.lock().unwrap().numbers.is_empty(), "numbers without calls are forgotten");
    }

    #[tokio::test]
    async fn a_dropped_waiter_keeps_no_slot() {
        let slots = Slots::new(1, 1);
        let held = slots.acquire("a").await.expect("free");
        let mut gone = Box::pin(slots.acquire("b"));
        assert!((&mut gone).now_or_never().is_none());
        let mut granted = Box::pin(slots.acquire("c"));
        assert!((&mut granted).now_or_never().is_none());
        drop(gone);
        drop(held);
        // Granted, and dropped before it was received.
        drop(granted);
        assert!(slots.acquire("d").now_or_never().flatten().is_some());
    }
}
