//! The timeouts of a connection.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::{Instant, Sleep};

use super::Limits;

/// A connection that has been idle for a shorter time is not closed for a waiting one: its client is using it.
const SETTLED: Duration = Duration::from_secs(1);
/// The time for the rest of a head while the server drains.
const LAST_HEAD: Duration = Duration::from_millis(500);

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// A head: the first one, or the rest of one that has begun.
    Head,
    /// The end of a call, which has its own limits.
    Call,
    /// The next call.
    Next,
}

/// What a connection waits for, and since when. The parts of the connection report it.
#[derive(Clone)]
pub struct Waits(Arc<Mutex<(Wait, Instant)>>);

impl Waits {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new((Wait::Head, Instant::now()))))
    }

    /// Bytes were received.
    pub fn received(&self) {
        if self.get().0 == Wait::Next {
            self.set(Wait::Head);
        }
    }

    /// A head was complete.
    pub fn called(&self) {
        self.set(Wait::Call);
    }

    /// The last byte of the answer was passed to the connection.
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

/// The consequence of a timeout.
#[derive(Debug, PartialEq, Eq)]
pub enum Over {
    /// The connection accepts no more calls, and the call in flight finishes.
    Close,
    /// The connection is cut off.
    Cut,
}

/// Ends a connection that has waited for too long.
pub struct Watch {
    waits: Waits,
    limits: Limits,
    sleep: Pin<Box<Sleep>>,
    /// Notifies the longest idle connection that another one waits for its place.
    crowd: Arc<Notify>,
    gives_way: Option<Pin<Box<OwnedNotified>>>,
    /// When the connection stopped accepting calls.
    closing: Option<Instant>,
}

impl Watch {
    pub fn new(waits: Waits, limits: Limits, crowd: Arc<Notify>) -> Self {
        let sleep = Box::pin(tokio::time::sleep_until(waits.get().1 + limits.head));
        Self { waits, limits, sleep, crowd, gives_way: None, closing: None }
    }

    /// Stops accepting calls.
    pub fn close(&mut self) {
        self.closing.get_or_insert_with(Instant::now);
    }

    pub fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Completes when the connection has waited for too long. Poll it after the connection, whose work changes the wait.
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
