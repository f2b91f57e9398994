//! The event stream as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::http::HeaderName;
use axum::response::sse::{Event as Sent, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt};
use recado_domain::event::{CursorText, Event, EventSeq};
use recado_store::shares::{self, Call};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::list::{CHECK_INTERVAL, Reader};
use super::position;
use super::transient::{self, Reports};
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
/// Most events of one read, and their bytes. The events of a slow client stay in memory until they are sent.
const PAGE: usize = 100;
const PAGE_BYTES: usize = 256 << 10;

struct Connection {
    reader: Reader,
    read: VecDeque<Event>,
    settled: watch::Receiver<EventSeq>,
    reports: Reports,
    until: Instant,
    /// When a comment is due, if no event with an id is sent before. Others give the client no position.
    quiet_until: Instant,
    behind_since: Option<Instant>,
    _permits: (OwnedSemaphorePermit, ConnectionPermit),
}

/// Sends events as they come.
pub async fn answer(
    mut reader: Reader,
    permits: (OwnedSemaphorePermit, ConnectionPermit),
) -> Result<Response, ApiError> {
    let (settled, reports) = (reader.gateway.events.follow(), Reports::of(&reader));
    // The client gets its position before the first event. Without this position, a client that reconnects would begin
    // at a later `now`.
    let begin = here(&reader).await?;
    let read = reader.next(PAGE, PAGE_BYTES).await?.into();
    let now = Instant::now();
    let connection = Connection {
        reader,
        read,
        settled,
        reports,
        until: now + MAX_DURATION,
        quiet_until: now + KEEP_ALIVE,
        behind_since: None,
        _permits: permits,
    };
    let first = stream::iter([Ok(begin)]);
    // nginx would collect events until its buffer is full.
    let header = [(HeaderName::from_static("x-accel-buffering"), "no")];
    Ok((header, Sse::new(first.chain(events(connection)))).into_response())
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
        loop {
            // `mark_unchanged` comes before `skip`, so that a change that `skip` does not know yet ends the wait below.
            self.settled.mark_unchanged();
            self.reader.skip();
            if Instant::now() >= self.until || self.is_too_slow() || !self.reader.is_permitted() {
                return None;
            }
            if let Some(event) = self.read.pop_front() {
                self.quiet_until = Instant::now() + KEEP_ALIVE;
                return Some(self.sent(&event));
            }
            if Instant::now() >= self.quiet_until {
                self.quiet_until = Instant::now() + KEEP_ALIVE;
                return here(&self.reader).await.ok();
            }
            if !self.reader.is_at_end {
                // A store that fails ends the connection: the client resumes when the store has recovered.
                self.read = self.reader.next(PAGE, PAGE_BYTES).await.ok()?.into();
                if !self.read.is_empty() || !self.reader.is_at_end {
                    continue;
                }
            }
            tokio::select! {
                changed = self.settled.changed() => changed.ok()?,
                report = self.reports.next() => {
                    // The body of an answer runs outside of its call, so its reads take the share of the institution here.
                    let call = Call::Looks(self.reader.owner, CancellationToken::new());
                    if let Some(sent) = shares::of_call(call, transient::sent(&self.reader, &report)).await {
                        return Some(sent);
                    }
                }
                () = tokio::time::sleep_until(self.quiet_until) => {}
                () = tokio::time::sleep(CHECK_INTERVAL) => {}
                // A stopping server does not wait for clients.
                () = self.reader.gateway.stop.cancelled() => return None,
            }
        }
    }

    fn is_too_slow(&mut self) -> bool {
        let behind = !self.reader.is_at_end && *self.settled.borrow() - self.reader.position >= BEHIND;
        self.behind_since = if behind { self.behind_since.or_else(|| Some(Instant::now())) } else { None };
        self.behind_since.is_some_and(|since| since.elapsed() >= BEHIND_FOR)
    }

    fn sent(&self, event: &Event) -> Sent {
        let cursor = CursorText::new(&self.reader.state.identity, event.seq, Some(event.at));
        let body = Body::new(event, true, self.reader.gateway.behaviour.media_base());
        Sent::default().id(cursor.to_string()).event(&event.kind).data(body.text())
    }
}

/// A comment with the position as `id`. The position also moves over events that the client does not receive. So a
/// client that receives no events for long does not resume at an old position, after which events may be deleted.
async fn here(reader: &Reader) -> Result<Sent, ApiError> {
    let cursor = position::cursor(&reader.gateway, &reader.state, reader.position).await?;
    Ok(Sent::default().comment("").id(cursor))
}
