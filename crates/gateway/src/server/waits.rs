//! What a connection waits for from its client, and for how long.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::{Instant, Sleep};

use super::Limits;

/// An idle connection that is younger is left alone while others wait for room: its client is at work with it.
const SETTLED: Duration = Duration::from_secs(1);
/// The time for the rest of a head while the server ends.
const LAST_HEAD: Duration = Duration::from_millis(500);

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// The client must send a head: its first one, or the rest of one that it began.
    Head,
    /// A call is at work. It has limits of its own.
    Call,
    /// The last call was answered, and nothing of another one has come.
    Next,
}

/// What a connection waits for, and since when. The parts of the connection tell it.
#[derive(Clone)]
pub struct Waits(Arc<Mutex<(Wait, Instant)>>);

impl Waits {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new((Wait::Head, Instant::now()))))
    }

    /// Bytes have come.
    pub fn received(&self) {
        if self.get().0 == Wait::Next {
            self.set(Wait::Head);
        }
    }

    /// A head was whole.
    pub fn called(&self) {
        self.set(Wait::Call);
    }

    /// The last byte of the answer is on its way.
    pub fn answered(&self) {
        self.set(Wait::Next);
    }

    fn set(&self, wait: Wait) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (wait, Instant::now());
    }

    fn get(&self) -> (Wait, Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What follows when a wait was in vain.
#[derive(Debug, PartialEq, Eq)]
pub enum Over {
    /// The connection takes no more calls. What is in hand is finished.
    Close,
    /// The connection ends.
    Cut,
}

/// Ends the waits of one connection.
pub struct Watch {
    waits: Waits,
    limits: Limits,
    sleep: Pin<Box<Sleep>>,
    /// Tells the connection that was idle the longest that another one waits for its place.
    crowd: Arc<Notify>,
    gives_way: Option<Pin<Box<OwnedNotified>>>,
    /// Since when no more calls are taken.
    closing: Option<Instant>,
}

impl Watch {
    pub fn new(waits: Waits, limits: Limits, crowd: Arc<Notify>) -> Self {
        let sleep = Box::pin(tokio::time::sleep_until(waits.get().1 + limits.head));
        Self { waits, limits, sleep, crowd, gives_way: None, closing: None }
    }

    /// No more calls are taken from now on.
    pub fn close(&mut self) {
        self.closing.get_or_insert_with(Instant::now);
    }

    pub fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Ends when the connection has waited for too long. It is to be polled after the connection, whose work changes what
    /// is waited for.
    pub async fn over(&mut self) -> Over {
        std::future::poll_fn(|cx| self.poll_over(cx)).await
    }

    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Over> {
        loop {
            let (wait, since) = self.waits.get();
            let deadline = match (wait, self.closing) {
                (Wait::Call, _) => {
                    self.gives_way = None;
                    return Poll::Pending;
                }
                (Wait::Head, None) => since + self.limits.head,
                (Wait::Head, Some(closing)) => (since + self.limits.head).min(closing + LAST_HEAD),
                (Wait::Next, None) if self.gives_way.is_none() => since + self.limits.idle.min(SETTLED),
                (Wait::Next, None) => since + self.limits.idle,
                // The client may be reading the last answer.
                (Wait::Next, Some(closing)) => since.max(closing) + self.limits.write,
            };
            let idle = wait == Wait::Next && self.closing.is_none();
            if !idle {
                self.gives_way = None;
            } else if self.gives_way.as_mut().is_some_and(|notice| notice.as_mut().poll(cx).is_ready()) {
                return Poll::Ready(Over::Close);
            }
            if self.sleep.deadline() != deadline {
                self.sleep.as_mut().reset(deadline);
            }
            ready!(self.sleep.as_mut().poll(cx));
            if !idle {
                return Poll::Ready(Over::Cut);
            }
            if self.gives_way.is_some() || self.limits.idle <= SETTLED {
                return Poll::Ready(Over::Close);
            }
            self.gives_way = Some(Box::pin(self.crowd.clone().notified_owned()));
        }
    }
}
