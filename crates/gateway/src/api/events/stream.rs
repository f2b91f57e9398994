//! The event stream as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event as Sent, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use recado_domain::event::{CursorText, Event, EventSeq};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::list::Reader;
use crate::api::error::ApiError;
use crate::events::ConnectionPermit;
use crate::events::render::Body;

/// After how long without an event a comment is sent, so that no proxy closes the connection as idle.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a connection is open. The client resumes by the id of its last event.
const MAX_DURATION: Duration = Duration::from_hours(1);
/// A reader that is this many events behind for that long is too slow.
const BEHIND: EventSeq = 1_000;
const BEHIND_FOR: Duration = Duration::from_secs(30);
/// Events that are read at a time.
const PAGE: usize = 100;

/// A connection of a client.
struct Connection {
    reader: Reader,
    read: VecDeque<Event>,
    settled: watch::Receiver<EventSeq>,
    until: Instant,
    behind_since: Option<Instant>,
    begun: bool,
    _permits: (OwnedSemaphorePermit, ConnectionPermit),
}

/// Sends events as they come.
pub async fn answer(
    mut reader: Reader,
    permits: (OwnedSemaphorePermit, ConnectionPermit),
) -> Result<Response, ApiError> {
    let settled = reader.gateway.events.follow();
    let read = reader.next(PAGE).await?.into();
    let until = Instant::now() + MAX_DURATION;
    let connection = Connection { reader, read, settled, until, behind_since: None, begun: false, _permits: permits };
    Ok(Sse::new(events(connection)).into_response())
}

fn events(connection: Connection) -> impl Stream<Item = Result<Sent, Infallible>> {
    stream::unfold(connection, |mut connection| async move {
        let next = connection.next().await?;
        Some((Ok(next), connection))
    })
}

impl Connection {
    /// What is sent next; `None` ends the connection.
    async fn next(&mut self) -> Option<Sent> {
        if !std::mem::replace(&mut self.begun, true) {
            // The client learns that it is connected, and where it is, before the first event.
            return Some(comment());
        }
        let quiet = Instant::now() + KEEP_ALIVE;
        loop {
            if Instant::now() >= self.until || self.is_too_slow() {
                return None;
            }
            if let Some(event) = self.read.pop_front() {
                return Some(self.sent(&event));
            }
            self.settled.mark_unchanged();
            // A store that fails ends the connection: the client goes on when it is back.
            self.read = self.reader.next(PAGE).await.ok()?.into();
            if !self.read.is_empty() || !self.reader.is_at_end {
                continue;
            }
            tokio::select! {
                changed = self.settled.changed() => changed.ok()?,
                () = tokio::time::sleep_until(quiet) => return Some(comment()),
                // A server that ends does not wait for readers.
                () = self.reader.gateway.stop.cancelled() => return None,
            }
        }
    }

    fn is_too_slow(&mut self) -> bool {
        let behind = *self.settled.borrow() - self.reader.position >= BEHIND;
        self.behind_since = if behind { self.behind_since.or_else(|| Some(Instant::now())) } else { None };
        self.behind_since.is_some_and(|since| since.elapsed() >= BEHIND_FOR)
    }

    fn sent(&self, event: &Event) -> Sent {
        let cursor = CursorText::new(&self.reader.state.identity, event.seq, Some(event.at));
        Sent::default().id(cursor.to_string()).event(&event.kind).data(Body::new(event, true).text())
    }
}

fn comment() -> Sent {
    Sent::default().comment("")
}
