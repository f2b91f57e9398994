//! `GET /v1/events`: the event stream, as pages or as server-sent events.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::event::{
    ChatKind, CursorText, EVENTS, Event, EventQuery, EventSeq, EventState, Filter, Owner, Patterns, TRANSIENT,
};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use super::position::{self, From};
use super::{
    BAD_CHATS, EventView, chats, check_scopes, example, patterns, stream, stream_pattern_form, stream_patterns,
};
use crate::api::auth::{Caller, Validity, scope};
use crate::api::error::ApiError;
use crate::api::json;
use crate::api::openapi::Operation;
use crate::api::query::{CURSOR, Query};
use crate::disconnected::Disconnected;
use crate::gateway::Gateway;

const PARAMETERS: [&str; 7] = ["cursor", "from", "events", "channelId", "chatKinds", "limit", "wait"];
/// Events on a page.
const LIMITS: (usize, usize) = (100, 500);
/// Seconds that a call may wait for the first event.
const MOST_WAIT: u64 = 30;
/// Bytes of events on a page; a page with one event may be longer.
const PAGE_BYTES: usize = 4 << 20;
/// The most pages of the store that one call reads, so that a filter with few matches has a bounded cost.
const MAX_PAGES: usize = 20;
/// Events of a page of the store: each may have 256 KiB.
const STORE_PAGE: usize = 200;
/// How often a call that waits checks whether its key is still valid.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A reader of the stream.
pub struct Reader {
    pub gateway: Arc<Gateway>,
    pub owner: Owner,
    pub filter: Filter,
    /// Which events are recorded for the stream. The store can record further events for webhooks, and these events are
    /// not part of the stream.
    pub log: Patterns,
    pub validity: Validity,
    pub state: EventState,
    /// The number of the event after which the reader continues.
    pub position: EventSeq,
    /// Whether no event follows the position yet.
    pub is_at_end: bool,
}

#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "EventPagination")]
struct Pagination {
    /// Most events on a page.
    #[schemars(range(min = 1, max = 500))]
    limit: usize,
    /// Where the next page begins. Never null: new events follow.
    next_cursor: String,
}

#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "EventPage")]
struct Page<'a> {
    data: Vec<EventView<'a>>,
    pagination: Pagination,
}

/// Gives the next events.
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::EventsRead>,
    validity: Validity,
    disconnected: Disconnected,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let streams = accepts_events(&headers);
    let request = Parameters::parse(&gateway, &caller, &headers, query.as_deref())?;
    check_scopes(&request.filter)?;
    let owner = (caller.institution, caller.environment);
    let permits = (gateway.subscribers.clone().try_acquire_owned(), gateway.events.permit_connection(owner.0));
    let (Ok(permit), Some(own_permit)) = permits else { return Err(ApiError::TooManyReaders) };
    let log = gateway.events.begin_log(owner).await?;
    let state = gateway.store.event_state().await?;
    let position = match request.cursor {
        Some(cursor) => position::resume(&gateway, &state, cursor).await?,
        None => position::begin(&gateway, &state, request.from).await?,
    };
    let filter = request.filter;
    let mut reader = Reader { gateway, owner, filter, log, validity, state, position, is_at_end: false };
    if streams {
        // The call refuses a cursor that is ahead of the store before the stream begins.
        return stream::answer(reader, (permit, own_permit)).await;
    }
    let events = reader.wait(request.limit, request.wait, &disconnected).await?;
    let next_cursor = position::cursor(&reader.gateway, &reader.state, reader.position).await?;
    let base = reader.gateway.behaviour.media_base();
    let data = events.iter().map(|event| EventView::new(event, base)).collect();
    Ok(json::answer(StatusCode::OK, &Page { data, pagination: Pagination { limit: request.limit, next_cursor } }))
}

fn accepts_events(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    accept.contains("text/event-stream")
}

struct Parameters {
    cursor: Option<CursorText>,
    from: From,
    filter: Filter,
    limit: usize,
    wait: Duration,
}

impl Parameters {
    fn parse(
        gateway: &Gateway,
        caller: &Caller<scope::EventsRead>,
        headers: &HeaderMap,
        query: Option<&str>,
    ) -> Result<Self, ApiError> {
        let mut query = Query::parse(query, &PARAMETERS);
        let cursor = query.get("cursor", CURSOR, |text| text.parse().ok());
        let from = query.get("from", "O campo from deve ser now, oldest ou uma data no formato ISO 8601.", From::parse);
        // A page has only what is stored.
        let streams = accepts_events(headers);
        let parse =
            |text: &str| if streams { stream_patterns(&words(text), false) } else { patterns(&words(text), false) };
        let events = query.get_with("events", parse);
        let chats = query.get("chatKinds", BAD_CHATS, |text| chats(&words(text)));
        let channel = query.get("channelId", "Canal nao encontrado.", |id| Some(id.to_owned()));
        let limit = query.whole("limit", "O limite deve ser um numero de 1 a 500.", 1..=LIMITS.1);
        let wait = query.whole("wait", "O campo wait deve ser um numero de 0 a 30.", 0..=MOST_WAIT);
        query.finish()?;
        let find = |id: String| caller.channel_or_its_history(gateway, &id).map(|entry| vec![entry.via.key]);
        let channels = channel.map(find);
        let resumed = headers.get("last-event-id").map(|id| {
            let id = id.to_str().ok().and_then(|text| text.parse().ok());
            id.ok_or_else(|| ApiError::field("Last-Event-ID", CURSOR))
        });
        Ok(Self {
            // A client that reconnects repeats the address that it began with.
            cursor: resumed.transpose()?.or(cursor),
            from: from.unwrap_or(From::Now),
            filter: Filter {
                events: events.unwrap_or_else(|| Patterns::from_stored("*")),
                channels: channels.transpose()?,
                chats: chats.unwrap_or_else(|| ChatKind::ALL.to_vec()),
                scopes: caller.grant.scopes,
            },
            limit: limit.unwrap_or(LIMITS.0),
            wait: Duration::from_secs(wait.unwrap_or(0)),
        })
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split(',').collect()
}

impl Reader {
    /// The next events, waiting for the first one at most so long, and not longer than the client does: the call of a client
    /// that has left must not keep its place among the institution's readers.
    async fn wait(
        &mut self,
        limit: usize,
        most: Duration,
        disconnected: &Disconnected,
    ) -> Result<Vec<Event>, ApiError> {
        let until = Instant::now() + most;
        let mut settled = self.gateway.events.follow();
        loop {
            settled.mark_unchanged();
            let events = self.next(limit, PAGE_BYTES).await?;
            if !events.is_empty() || Instant::now() >= until {
                return Ok(events);
            }
            while self.is_at_end {
                tokio::select! {
                    () = tokio::time::sleep_until(until) => break,
                    _ = settled.changed() => {}
                    () = tokio::time::sleep(CHECK_INTERVAL) => {}
                    () = self.gateway.stop.cancelled() => return Ok(events),
                    () = disconnected.wait() => return Ok(events),
                }
                if !self.is_permitted() {
                    return Err(ApiError::Unauthorized);
                }
                self.skip();
            }
        }
    }

    /// Whether the key may still read.
    pub fn is_permitted(&self) -> bool {
        self.validity.lasts(self.gateway.clock.now())
    }

    /// Moves the position over events of other owners, without a read of the store. Afterwards `is_at_end` is `false`
    /// if an event of this owner may follow.
    pub fn skip(&mut self) {
        let (position, may_follow) = self.gateway.events.skip(self.owner, self.position);
        (self.position, self.is_at_end) = (position, !may_follow);
    }

    /// The next events that the reader receives: at most `limit` events, with about `bytes` bytes. An empty result does
    /// not mean that no event follows: see `is_at_end`.
    pub async fn next(&mut self, limit: usize, bytes: usize) -> Result<Vec<Event>, ApiError> {
        self.skip();
        let began = self.position;
        let found = self.scan(limit, bytes).await?;
        // The purge may have deleted some of these events before they were read.
        if self.position != began && began < self.gateway.store.event_state().await?.deleted_until {
            return Err(position::expired(&self.gateway, &self.state).await);
        }
        Ok(found)
    }

    async fn scan(&mut self, limit: usize, most: usize) -> Result<Vec<Event>, ApiError> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        self.is_at_end = false;
        for _ in 0..MAX_PAGES {
            let query = EventQuery { owner: Some(self.owner), channel: None, after: self.position, limit: STORE_PAGE };
            let Some(page) = self.gateway.events.read(query).await? else {
                return Err(position::expired(&self.gateway, &self.state).await);
            };
            if page.cursor == self.position {
                self.is_at_end = true;
                break;
            }
            for event in page.events {
                if self.log.matches(&event.kind) && self.filter.accepts(&event) {
                    bytes += event.data.len();
                    if found.len() >= limit || (bytes > most && !found.is_empty()) {
                        return Ok(found);
                    }
                    self.position = event.seq;
                    found.push(event);
                } else {
                    self.position = event.seq;
                }
            }
            self.position = page.cursor;
            if found.len() >= limit {
                break;
            }
        }
        Ok(found)
    }
}

/// What the OpenAPI document says of it.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    let cursor = "7d1f0c3a5b2e4f60000000000000001f000001a2085f07eb";
    let page = json!({"data": [example()], "pagination": {"limit": 100, "nextCursor": cursor}});
    let item = stream_pattern_form();
    let events = json!({"type": "string", "pattern": format!("^{item}(,{item}){{0,{}}}$", Patterns::LIMIT - 1)});
    let from = json!({"anyOf": [{"enum": ["now", "oldest"]}, {"type": "string", "format": "date-time"}]});
    let chats = json!({"type": "string", "enum": ["DIRECT", "GROUP", "DIRECT,GROUP"]});
    let names = EVENTS.map(|(name, _)| name).join("`, `");
    let transient = TRANSIENT.map(|(name, _)| name).join("`, `");
    operation
        .named("Events", "listEvents", "Read the event stream")
        .about(&format!(
            "Events in the order in which they happened, from the cursor on; no event is skipped. With \
             `Accept: text/event-stream` they are sent as they come, with the cursor as `id`. The first call begins to \
             record events; `PUT /v1/events/settings` says which. A key receives the events that it may read. Events: `{names}`. \
             Only server-sent events have, without an `id`, what is not stored: `{transient}`."
        ))
        .needs(Scope::EventsRead)
        .query("cursor", "Continue after this cursor. The header `Last-Event-ID` is the same.", json!({"type": "string", "pattern": "^[0-9a-f]{48}$"}))
        .query("from", "Without a cursor: `now` (default), `oldest`, or a time.", from)
        .query("events", "Names or patterns such as `message.*`, with commas between them.", events)
        .query("channelId", "Events of this channel alone.", json!({"type": "string"}))
        .query("chatKinds", "For events of a chat: `DIRECT`, `GROUP`, or both with a comma (default). Other events come always.", chats)
        .query("limit", "Most events on a page.", json!({"type": "integer", "minimum": 1, "maximum": LIMITS.1, "default": LIMITS.0}))
        .query("wait", "Seconds to wait for the first event.", json!({"type": "integer", "minimum": 0, "maximum": MOST_WAIT, "default": 0}))
        .answers::<Page<'_>>(200, "The next events. `nextCursor` continues after them.", page)
        .refuses([
            ApiError::field("cursor", CURSOR),
            ApiError::ChannelNotFound,
            ApiError::CursorExpired(cursor.to_owned()),
            ApiError::TooManyReaders,
        ])
}
