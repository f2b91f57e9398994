//! The rights to send of a channel, which it acquires before it claims messages.

use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use recado_providers::Slot;

/// The slots that a channel has, or the request for slots that it waits for.
#[derive(Default)]
pub(super) struct SendSlots {
    slots: Vec<Slot>,
    /// The mutex only makes the type `Sync`: the owning task shares references to itself.
    request: Mutex<Option<BoxFuture<'static, Vec<Slot>>>>,
}

impl SendSlots {
    /// The free slots, at most `most`. Without a free one, [`Self::wait`] waits for it.
    pub(super) fn acquire(&mut self, most: usize, ask: impl FnOnce() -> BoxFuture<'static, Vec<Slot>>) -> Vec<Slot> {
        if most == 0 {
            self.release();
            return Vec::new();
        }
        if self.slots.is_empty() {
            let pending = self.request.get_mut().unwrap_or_else(PoisonError::into_inner);
            let mut request = pending.take().unwrap_or_else(ask);
            match (&mut request).now_or_never() {
                Some(slots) => self.slots = slots,
                None => *pending = Some(request),
            }
        }
        self.slots.truncate(most);
        std::mem::take(&mut self.slots)
    }

    /// Whether a request for slots is pending.
    pub(super) fn is_waiting(&self) -> bool {
        self.request.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Waits until slots are granted; forever if no request is pending.
    pub(super) async fn wait(&mut self) {
        let pending = self.request.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(request) = pending.as_mut() else { return std::future::pending().await };
        self.slots = request.await;
        *pending = None;
    }

    /// Releases the slots, and drops the request.
    pub(super) fn release(&mut self) {
        *self = Self::default();
    }
}
