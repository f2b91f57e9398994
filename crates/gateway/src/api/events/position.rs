//! The position in the stream at which a reader begins.

use recado_domain::clock::Millis;
use recado_domain::event::{CursorText, EventSeq, EventState};
use recado_domain::time::parse_rfc3339;

use crate::api::error::ApiError;
use crate::gateway::Gateway;

/// Where a reader without a cursor begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    Now,
    Oldest,
    At(Millis),
}

impl From {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "now" => Some(Self::Now),
            "oldest" => Some(Self::Oldest),
            time => parse_rfc3339(time).map(Self::At),
        }
    }
}

/// The cursor behind the event with this number.
pub async fn cursor(gateway: &Gateway, state: &EventState, seq: EventSeq) -> Result<String, ApiError> {
    let at = gateway.store.event_time(seq).await?;
    Ok(CursorText::new(&state.identity, seq, at).to_string())
}

/// The answer to a cursor behind which events may be missing: the place of the oldest event that there is.
pub async fn expired(gateway: &Gateway, state: &EventState) -> ApiError {
    match cursor(gateway, state, state.deleted_until).await {
        Ok(oldest) => ApiError::CursorExpired(oldest),
        Err(error) => error,
    }
}

/// Behind which event a cursor stands. It is refused where an event behind it may be gone, and where it is not of this store:
/// one of another store, or of the time before a backup was restored, whose numbers name other events now.
pub async fn resume(gateway: &Gateway, state: &EventState, cursor: CursorText) -> Result<EventSeq, ApiError> {
    let there = gateway.store.event_time(cursor.seq).await?;
    // An event that was erased with its person is not there any more.
    let is_other = there.is_some_and(|at| at != cursor.at);
    if !cursor.is_of(&state.identity) || cursor.seq < state.deleted_until || is_other {
        return Err(expired(gateway, state).await);
    }
    Ok(cursor.seq)
}

/// Behind which event a reader without a cursor begins.
pub async fn begin(gateway: &Gateway, state: &EventState, from: From) -> Result<EventSeq, ApiError> {
    match from {
        From::Now => Ok(gateway.events.settled().await?),
        From::Oldest => Ok(state.deleted_until),
        From::At(time) => first_at(gateway, state.deleted_until, time).await,
    }
}

/// Before the first event of this time or later, found by halving: events are in the order of their times, but for receipts
/// that networks report late.
async fn first_at(gateway: &Gateway, oldest: EventSeq, time: Millis) -> Result<EventSeq, ApiError> {
    let (mut low, mut high) = (oldest, gateway.events.settled().await?);
    while low < high {
        let middle = low + (high - low) / 2;
        match gateway.store.first_event_from(middle + 1).await? {
            Some((seq, at)) if at < time && seq <= high => low = seq,
            _ => high = middle,
        }
    }
    Ok(low)
}
