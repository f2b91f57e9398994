//! A channel's turns to send: taken before messages are claimed.

use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, pending};
use recado_providers::Slot;

/// What a channel has of its network's slots, or waits for.
#[derive(Default)]
pub(super) struct Turns {
    slots: Vec<Slot>,
    /// In a mutex for its type alone: the task that owns it hands out references to itself.
    asked: Mutex<Option<BoxFuture<'static, Vec<Slot>>>>,
}

impl Turns {
    /// The slots that are there now, up to that many. Where there is none, it is waited for by [`Self::come`].
    pub(super) fn take(&mut self, most: usize, ask: impl FnOnce() -> BoxFuture<'static, Vec<Slot>>) -> Vec<Slot> {
        if most == 0 {
            self.give_up();
            return Vec::new();
        }
        if self.slots.is_empty() {
            let place = self.asked.get_mut().unwrap_or_else(PoisonError::into_inner);
            let mut asked = place.take().unwrap_or_else(ask);
            match (&mut asked).now_or_never() {
                Some(slots) => self.slots = slots,
                None => *place = Some(asked),
            }
        }
        self.slots.truncate(most);
        std::mem::take(&mut self.slots)
    }

    /// Whether slots are waited for.
    pub(super) fn are_awaited(&self) -> bool {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Waits until there are slots to be taken; for ever where none are waited for.
    pub(super) async fn come(&mut self) {
        let place = self.asked.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(asked) = place.as_mut() else { return pending().await };
        self.slots = asked.await;
        *place = None;
    }

    /// Leaves them to others.
    pub(super) fn give_up(&mut self) {
        *self = Self::default();
    }
}
