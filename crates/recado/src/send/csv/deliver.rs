//! Delivers one line until it has an answer, despite rate limits, full queues, and a server that restarts.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use recado_gateway::api::error::ApiError;
use recado_gateway::control::{AskError, Reply, explain, faults};
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::api::{Api, Request};
use crate::exit::unavailable;
use crate::send::SCENARIO;
use crate::send::csv::results::LineOutcome;

/// The longest wait between two tries without an answer.
const LONGEST: Duration = Duration::from_secs(5);

/// The state that the lines in flight share.
pub struct Sender<'a> {
    api: &'a Api,
    /// How long there may be no answer before the run ends.
    patience: Duration,
    /// Cancelled when no further line must start.
    pub stop: CancellationToken,
    state: Mutex<State>,
}

struct State {
    /// Nothing is sent before this time. The server made one line wait, and the others wait too.
    not_before: Instant,
    /// The time of the last answer.
    answered: Instant,
    /// The reason of the current wait.
    waits_for: Option<String>,
}

/// What to do after an answer, or without one.
enum Next {
    Done(LineOutcome),
    /// The run ends, because every line would get the same answer.
    End(anyhow::Error),
    /// Try again after the time that the answer named.
    Wait(Duration, String),
    /// Try again until the time limit for answers is reached.
    NoAnswer(String),
}

impl<'a> Sender<'a> {
    pub fn new(api: &'a Api, patience: Duration, stop: CancellationToken) -> Self {
        let now = Instant::now();
        let state = State { not_before: now, answered: now, waits_for: None };
        Self { api, patience, stop, state: Mutex::new(state) }
    }

    /// The reason of the current wait.
    pub fn waits_for(&self) -> Option<String> {
        self.lock().waits_for.clone()
    }

    /// Sends until there is an answer. `None` if the run was stopped before.
    pub async fn deliver(&self, request: Request) -> Result<Option<LineOutcome>> {
        let mut pause = Duration::from_millis(100);
        loop {
            let not_before = self.lock().not_before;
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(None),
                () = sleep_until(not_before) => {}
            }
            match self.next(self.api.call(request.clone()).await) {
                Next::Done(outcome) => {
                    self.answered(None);
                    return Ok(Some(outcome));
                }
                Next::End(error) => return Err(error),
                Next::Wait(time, why) => {
                    self.answered(Some(why));
                    let mut state = self.lock();
                    state.not_before = state.not_before.max(Instant::now() + time);
                }
                Next::NoAnswer(why) => {
                    let waited = self.lock().answered.elapsed();
                    if waited > self.patience {
                        return Err(unavailable(format!("{why}; no answer for {} s", waited.as_secs())));
                    }
                    self.lock().waits_for = Some(why);
                    tokio::select! {
                        () = self.stop.cancelled() => return Ok(None),
                        () = sleep(pause) => pause = (pause * 2).min(LONGEST),
                    }
                }
            }
        }
    }

    fn answered(&self, waits_for: Option<String>) {
        let mut state = self.lock();
        state.answered = Instant::now();
        state.waits_for = waits_for;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, answer: Result<Reply, AskError>) -> Next {
        let reply = match answer {
            Ok(reply) => reply,
            Err(error @ AskError::Refused(_)) => return Next::End(error.into()),
            Err(error) => return Next::NoAnswer(error.to_string()),
        };
        if let (202, Some(id)) = (reply.status, reply.headers.get("x-message-id").and_then(|id| id.parse().ok())) {
            let replayed = reply.headers.contains_key("idempotent-replayed");
            return Next::Done(if replayed { LineOutcome::Replayed { id } } else { LineOutcome::Accepted { id } });
        }
        let error = reply.error();
        let text = explain(&error).replace('\n', "");
        let wait = reply.retry_after().unwrap_or(Duration::from_secs(1));
        let is = |known: ApiError| error["code"] == known.parts().1;
        let full = is(ApiError::QueueFull);
        match reply.status {
            503 if full && !self.api.is_served() => Next::End(unavailable(format!(
                "{text} No server runs on this data directory, so nothing leaves the queue: start `recado serve`"
            ))),
            503 if full => Next::Wait(wait, text),
            429 => Next::Wait(wait, text),
            400 if is_of_the_run(&error) => Next::End(AskError::refused(&error).into()),
            // The key is a hash of the whole call, so another program, or another version, has used the line's key.
            422 if is(ApiError::IdempotencyKeyReused) => Next::End(AskError::refused(&error).into()),
            400 | 413 | 422 => Next::Done(refused(&error)),
            500.. => Next::NoAnswer(text),
            _ => Next::End(AskError::refused(&error).into()),
        }
    }
}

/// Whether the error is about a header, which all lines share.
fn is_of_the_run(error: &Value) -> bool {
    let field = |one: &Value| one["field"].as_str().unwrap_or_default().to_lowercase();
    error["errors"].as_array().into_iter().flatten().any(|one| field(one) == SCENARIO)
}

fn refused(error: &Value) -> LineOutcome {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let faults: Vec<_> = faults(error).collect();
    let reason = if faults.is_empty() { text(&error["message"]) } else { faults.join(" ") };
    LineOutcome::Refused { code: text(&error["code"]), reason }
}
