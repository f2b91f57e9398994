//! Gets one line an answer, whatever stands in the way: limits, full queues, a server that is started anew.

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
use crate::send::csv::results::Fate;

/// The longest wait between two tries when nobody answers.
const LONGEST: Duration = Duration::from_secs(5);

/// What the lines in hand share.
pub struct Sender<'a> {
    api: &'a Api,
    /// How long nobody may answer before the run is given up.
    patience: Duration,
    /// Start nothing new.
    pub stop: CancellationToken,
    state: Mutex<State>,
}

struct State {
    /// Nothing is sent before this time: one line was told to wait, and so wait all.
    not_before: Instant,
    /// When somebody last answered.
    answered: Instant,
    /// What is waited for.
    waits_for: Option<String>,
}

/// What is to be done after an answer, or after none.
enum Next {
    Done(Fate),
    /// The whole run ends: every line would be told the same.
    End(anyhow::Error),
    /// Again, after the time that the answer named.
    Wait(Duration, String),
    /// Again, for as long as there is patience.
    Silence(String),
}

impl<'a> Sender<'a> {
    pub fn new(api: &'a Api, patience: Duration, stop: CancellationToken) -> Self {
        let now = Instant::now();
        let state = State { not_before: now, answered: now, waits_for: None };
        Self { api, patience, stop, state: Mutex::new(state) }
    }

    /// What is waited for at the moment.
    pub fn waits_for(&self) -> Option<String> {
        self.lock().waits_for.clone()
    }

    /// Sends until there is an answer. `None` when the run was stopped before.
    pub async fn deliver(&self, request: Request) -> Result<Option<Fate>> {
        let mut pause = Duration::from_millis(100);
        loop {
            let not_before = self.lock().not_before;
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(None),
                () = sleep_until(not_before) => {}
            }
            match self.judge(self.api.call(request.clone()).await) {
                Next::Done(fate) => {
                    self.answered(None);
                    return Ok(Some(fate));
                }
                Next::End(error) => return Err(error),
                Next::Wait(time, why) => {
                    self.answered(Some(why));
                    let mut state = self.lock();
                    state.not_before = state.not_before.max(Instant::now() + time);
                }
                Next::Silence(why) => {
                    let silent = self.lock().answered.elapsed();
                    if silent > self.patience {
                        return Err(unavailable(format!("{why}; nobody has answered for {} s", silent.as_secs())));
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

    fn judge(&self, answer: Result<Reply, AskError>) -> Next {
        let reply = match answer {
            Ok(reply) => reply,
            Err(error @ AskError::Refused(_)) => return Next::End(error.into()),
            Err(error) => return Next::Silence(error.to_string()),
        };
        if let (202, Some(id)) = (reply.status, reply.headers.get("x-message-id").and_then(|id| id.parse().ok())) {
            let replayed = reply.headers.contains_key("idempotent-replayed");
            return Next::Done(if replayed { Fate::Replayed { id } } else { Fate::Accepted { id } });
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
            // The key was made of all that the call says: another program wrote the line's, or another version.
            422 if is(ApiError::IdempotencyKeyReused) => Next::End(AskError::refused(&error).into()),
            400 | 413 | 422 => Next::Done(refused(&error)),
            500.. => Next::Silence(text),
            _ => Next::End(AskError::refused(&error).into()),
        }
    }
}

/// Whether what is wrong is a header, which all lines have in common.
fn is_of_the_run(error: &Value) -> bool {
    let field = |one: &Value| one["field"].as_str().unwrap_or_default().to_lowercase();
    error["errors"].as_array().into_iter().flatten().any(|one| field(one) == SCENARIO)
}

fn refused(error: &Value) -> Fate {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let faults: Vec<_> = faults(error).collect();
    let reason = if faults.is_empty() { text(&error["message"]) } else { faults.join(" ") };
    Fate::Refused { code: text(&error["code"]), reason }
}
