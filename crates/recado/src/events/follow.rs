//! A reader of the event stream that keeps its position over lost connections. It reads pages by long polling, because
//! this works over the control socket and over HTTP, and each page has the cursor of the next page.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use recado_gateway::control::{AskError, Reply};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep};

use crate::api::{Api, Request, encoded};
use crate::events::{Filter, Start};
use crate::exit::{Exit, Failure, is_gone};
use crate::output::note;

/// How long a call waits for the first event, in seconds. It is shorter than the time limits of calls and of usual proxies.
const WAIT: u32 = 20;
/// The least time between two calls if the first call returns an empty page. A server waits longer before it returns an
/// empty page, but a proxy may return a cached page at once.
const LEAST: Duration = Duration::from_secs(1);
/// The waits after calls without an answer: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// The beginning of the error of an expired cursor.
const EXPIRED: &str = "the cursor has expired";

/// A reader of the stream.
pub struct Follower<'a> {
    api: &'a Api,
    filters: String,
    limit: usize,
    from: String,
    /// The cursor after which the reader continues. `None`: the reader begins at `from`.
    cursor: Option<String>,
    file: Option<PathBuf>,
    patience: Duration,
    /// When the server answered last.
    answered: Option<Instant>,
    /// The wait after the last call, if that call had no answer.
    lost: Option<Duration>,
}

/// The next events.
pub struct Page {
    pub events: Vec<Event>,
    cursor: String,
    pace: Duration,
}

/// An event.
pub struct Event {
    /// The JSON as the server wrote it, byte for byte.
    pub text: String,
    pub value: Value,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    data: Vec<&'a RawValue>,
    pagination: Pagination,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pagination {
    next_cursor: String,
}

impl<'a> Follower<'a> {
    /// A reader of pages with at most `limit` events.
    pub fn new(api: &'a Api, filter: &Filter, start: &Start, limit: usize) -> Result<Self> {
        let file = start.cursor_file.clone();
        let kept = file.as_deref().map(read).transpose()?.flatten();
        Ok(Self {
            api,
            filters: filter.query(),
            limit,
            from: start.from.clone(),
            cursor: start.cursor.clone().or(kept),
            file,
            patience: start.patience,
            answered: None,
            lost: None,
        })
    }

    /// Returns the next events, or an empty page after some seconds. If the server stops answering, waits and tries
    /// again.
    pub async fn next(&mut self) -> Result<Page> {
        loop {
            let (path, asked, waits) = (self.path(), Instant::now(), self.answered.is_some());
            let answer = self.api.call(Request::get(path)).await;
            if let Ok(reply) = &answer
                && let (429, Some(wait)) = (reply.status, reply.retry_after())
            {
                self.answered = Some(Instant::now());
                sleep(wait).await;
                continue;
            }
            match answer.map_err(anyhow::Error::from).and_then(|reply| Page::read(&reply)) {
                Ok(mut page) => {
                    if waits && page.events.is_empty() && asked.elapsed() < LEAST {
                        page.pace = LEAST;
                    }
                    if self.lost.take().is_some() {
                        note("recado: the server answers again");
                    }
                    self.answered = Some(Instant::now());
                    return Ok(page);
                }
                Err(error) => self.wait(error).await?,
            }
        }
    }

    fn path(&self) -> String {
        let place = match &self.cursor {
            Some(cursor) => format!("cursor={}", encoded(cursor)),
            None => format!("from={}", encoded(&self.from)),
        };
        // The first call does not wait, so that the position is known before an event can be lost.
        let wait = if self.answered.is_some() { WAIT } else { 0 };
        format!("/v1/events?limit={}&wait={wait}&{place}{}", self.limit, self.filters)
    }

    /// Waits after a call without an answer. Any other error ends the reader, and so does an error of the first call.
    async fn wait(&mut self, error: anyhow::Error) -> Result<()> {
        let has_no_answer = matches!(error.downcast_ref(), Some(error) if !matches!(error, AskError::Refused(_)));
        if !has_no_answer || self.answered.is_none_or(|at| at.elapsed() > self.patience) {
            return Err(error);
        }
        if self.lost.is_none() {
            note(&format!("recado: {error:#}; trying again"));
        }
        let pause = self.lost.map_or(PAUSES.0, |last| (last * 2).min(PAUSES.1));
        self.lost = Some(pause);
        sleep(pause).await;
        Ok(())
    }

    /// Moves the cursor to the end of a page. Call this after the events of the page were handled. A reader that ends
    /// earlier gets these events again.
    pub async fn advance(&mut self, page: Page) -> Result<()> {
        if self.cursor.as_deref() != Some(&page.cursor) {
            if let Some(file) = &self.file {
                write(file, &page.cursor)?;
            }
            self.cursor = Some(page.cursor);
        }
        sleep(page.pace).await;
        Ok(())
    }

    /// Prints the cursor at which the next command continues. Prints nothing if the output is closed, or if nothing continues
    /// at this cursor.
    pub fn end(&self, ended: Result<Exit>) -> Result<Exit> {
        let is_expired = |error: &anyhow::Error| {
            error.downcast_ref().is_some_and(|failure: &Failure| failure.text.starts_with(EXPIRED))
        };
        let silent = ended.as_ref().is_err_and(|error| is_gone(error) || is_expired(error));
        if let (Some(cursor), None, false) = (&self.cursor, &self.file, silent) {
            note(&format!("recado: to continue here: --cursor {cursor}"));
        }
        ended
    }
}

impl Page {
    fn read(reply: &Reply) -> Result<Self> {
        if reply.status == 410 && reply.error()["code"] == "CURSOR_EXPIRED" {
            return Err(expired(&reply.error()));
        }
        reply.success()?;
        let body: Body<'_> = serde_json::from_str(&reply.body).context("the answer is no page of events")?;
        let event = |raw: &RawValue| {
            let value = serde_json::from_str(raw.get())?;
            anyhow::Ok(Event { text: raw.get().to_owned(), value })
        };
        let events: Vec<Event> = body.data.into_iter().map(event).collect::<Result<_>>()?;
        let pace = if events.is_empty() { Duration::ZERO } else { pace(reply) };
        Ok(Self { events, cursor: body.pagination.next_cursor, pace })
    }
}

/// The wait before the next call. The wait leaves calls to other users of the key, and is zero while at least half of
/// the calls of the key are left.
fn pace(reply: &Reply) -> Duration {
    let number = |name: &str| reply.headers.get(name)?.parse::<u32>().ok();
    match (number("ratelimit-limit"), number("ratelimit-remaining")) {
        (Some(limit), Some(left)) if left < limit / 2 => Duration::from_mins(2) / limit.max(1),
        _ => Duration::ZERO,
    }
}

/// The error of an expired cursor. The reader ends with it, because it would skip deleted events.
fn expired(error: &Value) -> anyhow::Error {
    let oldest = error["data"]["oldest"].as_str().unwrap_or_default();
    let text = format!(
        "{EXPIRED}: events behind it may be deleted, or it belongs to another store. To continue with the oldest \
         events: --cursor {oldest}"
    );
    Failure { exit: Exit::Failed, text }.into()
}

fn read(file: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// Replaces the file atomically, so that a crash leaves the former cursor or the new one.
fn write(file: &Path, cursor: &str) -> Result<()> {
    let mut new = file.as_os_str().to_owned();
    new.push(".new");
    let written = std::fs::write(&new, format!("{cursor}\n")).and_then(|()| std::fs::rename(&new, file));
    written.with_context(|| format!("cannot write {}", file.display()))
}
