//! A queue of session events with a memory limit.
//!
//! The sender must not block, while the receiver may wait for an unavailable database. A busy number would fill the memory
//! in that time. The queue drops what exceeds the limit, and counts it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::mpsc::{self, error::TryRecvError};

/// The most bytes that wait in one queue: about 30,000 receipts, or 10 minutes of a number that sends all the time.
const LIMIT: usize = 4 << 20;
/// The same when the next item is one without a guarantee: such items leave the room to the others.
const LIMIT_FOR_TRANSIENT: usize = 64 << 10;

/// An item of a queue.
pub trait Weigh {
    /// The approximate bytes of memory that the item needs while it waits. An item with `None` is never dropped: such items
    /// are few, and the channel's state would be wrong without them.
    fn weight(&self) -> Option<usize>;

    /// Whether nobody counts on the item: it is dropped first, without a word.
    fn is_transient(&self) -> bool {
        false
    }
}

#[derive(Debug, Default)]
struct Load {
    waiting: AtomicUsize,
    take_dropped_count: AtomicU64,
}

/// The sending half of a queue.
#[derive(Debug)]
pub struct Sender<T> {
    queue: mpsc::UnboundedSender<T>,
    load: Arc<Load>,
}

/// The receiving half of a queue.
#[derive(Debug)]
pub struct Receiver<T> {
    queue: mpsc::UnboundedReceiver<T>,
    load: Arc<Load>,
}

pub fn channel<T: Weigh>() -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let load = Arc::new(Load::default());
    (Sender { queue: sender, load: Arc::clone(&load) }, Receiver { queue: receiver, load })
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), load: Arc::clone(&self.load) }
    }
}

impl<T: Weigh> Sender<T> {
    /// Queues the item, or drops it if the queue is full. Without a receiver this does nothing.
    pub fn send(&self, it: T) {
        if let Some(weight) = it.weight() {
            // The sum can be too high for a moment, by one item per sender at most.
            let limit = if it.is_transient() { LIMIT_FOR_TRANSIENT } else { LIMIT };
            if self.load.waiting.fetch_add(weight, Ordering::Relaxed) + weight > limit {
                self.load.waiting.fetch_sub(weight, Ordering::Relaxed);
                self.load.take_dropped_count.fetch_add(u64::from(!it.is_transient()), Ordering::Relaxed);
                return;
            }
        }
        let _ = self.queue.send(it);
    }
}

impl<T: Weigh> Receiver<T> {
    /// The next item, or `None` when the queue is empty and has no sender.
    pub async fn recv(&mut self) -> Option<T> {
        let it = self.queue.recv().await;
        it.map(|it| self.release(it))
    }

    /// The next item, if one is waiting.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        let it = self.queue.try_recv();
        it.map(|it| self.release(it))
    }

    /// The number of items dropped since the last call.
    pub fn take_dropped_count(&self) -> u64 {
        self.load.take_dropped_count.swap(0, Ordering::Relaxed)
    }

    fn release(&self, it: T) -> T {
        self.load.waiting.fetch_sub(it.weight().unwrap_or(0), Ordering::Relaxed);
        it
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An item without a guarantee.
    struct Passing(usize);

    impl Weigh for Passing {
        fn weight(&self) -> Option<usize> {
            Some(self.0)
        }

        fn is_transient(&self) -> bool {
            true
        }
    }

    #[test]
    fn what_has_no_guarantee_leaves_room_and_is_not_missed() {
        let (sender, mut receiver) = channel();
        (0..200).for_each(|_| sender.send(Passing(1 << 10)));
        let mut count = 0;
        while receiver.try_recv().is_ok() {
            count += 1;
        }
        assert_eq!((count, receiver.take_dropped_count()), (64, 0));
    }

    impl Weigh for (Option<usize>, u32) {
        fn weight(&self) -> Option<usize> {
            self.0
        }
    }

    #[test]
    fn items_over_the_limit_are_dropped_and_counted() {
        let (sender, mut receiver) = channel();
        let half = Some(LIMIT / 2);
        for n in 0..5 {
            sender.send((half, n));
        }
        sender.send((None, 5));
        assert_eq!(receiver.take_dropped_count(), 3);
        assert_eq!(receiver.try_recv(), Ok((half, 0)));
        // There is room again.
        sender.clone().send((half, 6));
        sender.send((half, 7));
        let mut left = Vec::new();
        while let Ok((_, n)) = receiver.try_recv() {
            left.push(n);
        }
        assert_eq!((left, receiver.take_dropped_count()), (vec![1, 5, 6], 1));
    }
}
