//! Calls to Graph at a time, shared fairly between numbers: a slow number delays no other.
//!
//! A message gets its slot before it is claimed. What waits for a slot has not begun, and so is no attempt, no trouble of
//! the network, and takes nothing of what a recipient may get.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// The right to one call; given back when dropped.
pub struct Slot {
    slots: Arc<Slots>,
    number: Arc<str>,
}

/// The calls of all numbers.
pub struct Slots {
    /// Most calls of one number.
    of_one: usize,
    state: Mutex<State>,
}

struct State {
    free: usize,
    numbers: HashMap<Arc<str>, Number>,
    /// Numbers with somebody who waits, in the order of their turns.
    turns: VecDeque<Arc<str>>,
}

#[derive(Default)]
struct Number {
    calls: usize,
    waiting: VecDeque<oneshot::Sender<Slot>>,
}

impl Slots {
    /// So many calls, of one number at most that many.
    pub fn new(all: usize, of_one: usize) -> Arc<Self> {
        let state = State { free: all, numbers: HashMap::new(), turns: VecDeque::new() };
        Arc::new(Self { of_one, state: Mutex::new(state) })
    }

    /// A slot, when it is this number's turn.
    pub async fn take(self: &Arc<Self>, number: &str) -> Option<Slot> {
        let turn = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let number: Arc<str> =
                state.numbers.get_key_value(number).map_or_else(|| number.into(), |(own, _)| own.clone());
            let (sender, turn) = oneshot::channel();
            let own = state.numbers.entry(number.clone()).or_default();
            if own.waiting.is_empty() {
                state.turns.push_back(number.clone());
            }
            state.numbers.entry(number).or_default().waiting.push_back(sender);
            self.grant(state);
            turn
        };
        turn.await.ok()
    }

    /// A slot that is free now.
    pub fn try_take(self: &Arc<Self>, number: &str) -> Option<Slot> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever waits while some are free has as many as one may have.
        let (number, own) = state.numbers.get_key_value(number)?;
        let is_free = state.free > 0 && own.calls < self.of_one && own.waiting.is_empty();
        is_free.then(|| number.clone()).map(|number| self.slot(&mut state, number))
    }

    fn slot(self: &Arc<Self>, state: &mut State, number: Arc<str>) -> Slot {
        state.free -= 1;
        state.numbers.entry(number.clone()).or_default().calls += 1;
        Slot { slots: self.clone(), number }
    }

    /// Gives free slots to those who wait, one number after another.
    fn grant(self: &Arc<Self>, mut state: std::sync::MutexGuard<'_, State>) {
        let mut unwanted = Vec::new();
        let mut passed = 0;
        while state.free > 0 && passed < state.turns.len() {
            let Some(number) = state.turns.pop_front() else { break };
            let own = state.numbers.entry(number.clone()).or_default();
            // Some have gone away since.
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
                state.turns.push_back(number);
                passed += 1;
                continue;
            }
            let waiting = own.waiting.pop_front();
            let more = !own.waiting.is_empty();
            let slot = self.slot(&mut state, number.clone());
            // One who has gone in this moment leaves it to the next. It is dropped when the lock is open.
            if let Some(Err(slot)) = waiting.map(|waiting| waiting.send(slot)) {
                unwanted.push(slot);
            }
            if more {
                state.turns.push_back(number);
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
    async fn numbers_take_turns() {
        let slots = Slots::new(4, 3);
        let held: Vec<_> = [slots.take("slow").await, slots.try_take("slow"), slots.try_take("slow")].into();
        assert!(held.iter().all(Option::is_some) && slots.try_take("slow").is_none(), "one number has a limit");
        let mut slow: Vec<_> = (0..10).map(|_| Box::pin(slots.take("slow"))).collect();
        assert!(slow.iter_mut().all(|slot| slot.now_or_never().is_none()));
        let fast = slots.take("fast").now_or_never().flatten().expect("others do not wait for it");
        let mut other = Box::pin(slots.take("other"));
        assert!((&mut other).now_or_never().is_none(), "all are in use");
        drop(held.into_iter().next());
        // The slow one was there before, and has its turn; the next is another's.
        let again = slow.iter_mut().find_map(FutureExt::now_or_never).flatten().expect("its turn");
        drop(again);
        assert!(other.now_or_never().flatten().is_some(), "ten that wait are one turn");
        drop((fast, slow));
        assert!(slots.state.lock().unwrap().numbers.is_empty(), "nothing is kept of who is gone");
    }

    #[tokio::test]
    async fn who_goes_away_takes_nothing_along() {
        let slots = Slots::new(1, 1);
        let held = slots.take("a").await.expect("free");
        let mut gone = Box::pin(slots.take("b"));
        assert!((&mut gone).now_or_never().is_none());
        let mut granted = Box::pin(slots.take("c"));
        assert!((&mut granted).now_or_never().is_none());
        drop(gone);
        drop(held);
        // Granted, and dropped before it was looked at.
        drop(granted);
        assert!(slots.take("d").now_or_never().flatten().is_some());
    }
}
