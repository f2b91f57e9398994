//! A queue of what a session heard, with a limit on the memory of what waits in it.
//!
//! Who puts in must not wait, and who takes out may wait for a database that is away. A busy number would fill the memory
//! in that time. What the limit turns away is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::mpsc::{self, error::TryRecvError};

/// Most bytes that wait in one queue: some 30,000 receipts, or 10 minutes of a number that sends all the time.
const LIMIT: usize = 4 << 20;

/// What may wait in a queue.
pub trait Weigh {
    /// Bytes that it takes while it waits, roughly. `None`: it is never turned away. Such things are few by their nature,
    /// and a channel's state would be wrong without them.
    fn weight(&self) -> Option<usize>;
}

#[derive(Debug, Default)]
struct Load {
    waiting: AtomicUsize,
    turned_away: AtomicU64,
}

/// The end that puts in.
#[derive(Debug)]
pub struct Sender<T> {
    queue: mpsc::UnboundedSender<T>,
    load: Arc<Load>,
}

/// The end that takes out.
#[derive(Debug)]
pub struct Receiver<T> {
    queue: mpsc::UnboundedReceiver<T>,
    load: Arc<Load>,
}

/// Makes a queue.
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
    /// Puts something in, or turns it away. Where nobody takes out any more, nothing happens.
    pub fn send(&self, it: T) {
        if let Some(weight) = it.weight() {
            // The sum is at most one thing per sender too high for a moment.
            if self.load.waiting.fetch_add(weight, Ordering::Relaxed) + weight > LIMIT {
                self.load.waiting.fetch_sub(weight, Ordering::Relaxed);
                self.load.turned_away.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        let _ = self.queue.send(it);
    }
}

impl<T: Weigh> Receiver<T> {
    /// The next thing; `None` when there is none left and no sender.
    pub async fn recv(&mut self) -> Option<T> {
        let it = self.queue.recv().await;
        it.map(|it| self.taken(it))
    }

    /// The next thing, if one waits.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        let it = self.queue.try_recv();
        it.map(|it| self.taken(it))
    }

    /// How many things were turned away since this was asked last.
    pub fn turned_away(&self) -> u64 {
        self.load.turned_away.swap(0, Ordering::Relaxed)
    }

    fn taken(&self, it: T) -> T {
        self.load.waiting.fetch_sub(it.weight().unwrap_or(0), Ordering::Relaxed);
        it
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Weigh for (Option<usize>, u32) {
        fn weight(&self) -> Option<usize> {
            self.0
        }
    }

    #[test]
    fn what_does_not_fit_is_turned_away_and_counted() {
        let (sender, mut receiver) = channel();
        let half = Some(LIMIT / 2);
        for n in 0..5 {
            sender.send((half, n));
        }
        sender.send((None, 5));
        assert_eq!(receiver.turned_away(), 3);
        assert_eq!(receiver.try_recv(), Ok((half, 0)));
        // There is room again.
        sender.clone().send((half, 6));
        sender.send((half, 7));
        let mut left = Vec::new();
        while let Ok((_, n)) = receiver.try_recv() {
            left.push(n);
        }
        assert_eq!((left, receiver.turned_away()), (vec![1, 5, 6], 1));
    }
}
