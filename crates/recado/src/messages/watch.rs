//! Follows messages by looking again and again. Each state that a message reached is printed with the time at which it
//! did, also those that came and went between two looks.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use recado_domain::status::MessageStatus;
use recado_gateway::control::AskError;
use recado_gateway::shutdown::Signals;
use serde_json::{Value, json};

use crate::Exit;
use crate::api::Api;
use crate::exit::unavailable;
use crate::messages::{Output, Request, encoded, messages_path, output};

/// How often in a row nobody may answer before we give up: a server that is started anew is waited for.
const SILENCES: u32 = 60;
/// Messages that are looked at one by one in one round, when they are too old for the first page.
const OLD_ONES: usize = 20;
/// Messages that are known when a channel begins to be watched: one page.
const NEWEST: usize = 100;

/// What a sender wants to know: it has arrived, it will not, or nobody can tell.
fn fate(status: MessageStatus) -> Option<Exit> {
    use MessageStatus::{Cancelled, Delivered, Expired, Failed, Read, Unknown};
    match status {
        Delivered | Read => Some(Exit::Done),
        Failed | Expired | Cancelled | Unknown => Some(Exit::Failed),
        _ => None,
    }
}

/// Whether no other state follows.
fn is_last(status: MessageStatus) -> bool {
    fate(status).is_some() && !matches!(status, MessageStatus::Delivered | MessageStatus::Unknown)
}

/// Follows one message, and prints its states where there is an output for them. The exit code tells its fate; `last` is
/// the message as it was seen last, also after an error.
pub async fn watch_message(
    api: &Api,
    channel: &str,
    id: &str,
    output: Option<&Output>,
    last: &mut Value,
) -> Result<Exit> {
    let mut signals = Signals::listen()?;
    let path = messages_path(channel, &format!("/{}", encoded(id)));
    let mut told = Told::default();
    let mut receipts = None;
    loop {
        *last = tokio::select! {
            () = signals.next() => return Ok(Exit::Interrupted),
            answer = look(api, &path) => answer?["data"].take(),
        };
        if let Some(output) = output {
            told.tell(last, output, false)?;
        }
        if let Some(exit) = status_of(last).and_then(fate) {
            return Ok(exit);
        }
        nobody_sends(api)?;
        if status_of(last) == Some(MessageStatus::Sent) && receipts.is_none() {
            receipts = Some(!has_no_receipts(api, channel).await);
        }
        if receipts == Some(false) {
            output::note("the channel has no receipts: that it was sent is all that will be known");
            return Ok(Exit::Done);
        }
        tokio::select! {
            () = signals.next() => return Ok(Exit::Interrupted),
            () = tokio::time::sleep(api.pause()) => {}
        }
    }
}

/// Whether nothing is told of the channel's messages once they were sent. Who may not look is not told so, and waits.
async fn has_no_receipts(api: &Api, channel: &str) -> bool {
    let answer = api.ask(Request::get(format!("/v1/channels/{}", encoded(channel)))).await;
    answer.is_ok_and(|answer| answer["data"]["link"]["receipts"] == "OFF")
}

/// Follows a channel until Ctrl-C.
pub async fn watch_channel(api: &Api, channel: &str, output: &Output) -> Result<Exit> {
    let mut signals = Signals::listen()?;
    let mut watched = Watched { channel, known: None, open: HashMap::new(), turn: 0 };
    loop {
        let round = async {
            watched.round(api, output).await?;
            nobody_sends(api)?;
            tokio::time::sleep(api.pause()).await;
            anyhow::Ok(())
        };
        tokio::select! {
            () = signals.next() => return Ok(Exit::Interrupted),
            done = round => done?,
        }
    }
}

/// An error where nothing moves.
pub fn nobody_sends(api: &Api) -> Result<()> {
    if api.is_served() {
        return Ok(());
    }
    Err(unavailable("no server runs on this data directory, so nothing moves: start one with `recado serve`"))
}

/// A look that outlives a restart of the server.
async fn look(api: &Api, path: &str) -> Result<Value, AskError> {
    let mut silences = 0;
    loop {
        match api.ask(Request::get(path.to_owned())).await {
            Err(error @ AskError::Refused(_)) => return Err(error),
            Err(_) if silences < SILENCES => silences += 1,
            answer => return answer,
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

struct Watched<'a> {
    channel: &'a str,
    /// The newest messages that were seen, newest first. One alone may be purged.
    known: Option<Vec<String>>,
    /// What may still change.
    open: HashMap<String, Told>,
    /// Where among those the next round begins to look.
    turn: usize,
}

impl Watched<'_> {
    async fn round(&mut self, api: &Api, output: &Output) -> Result<()> {
        let first = self.known.is_none();
        let mut seen = self.newer(api).await?;
        let ids = seen.iter().filter_map(|message| message["id"].as_str()).map(str::to_owned);
        self.known = Some(ids.chain(self.known.take().unwrap_or_default()).take(NEWEST).collect());
        let old: Vec<_> = self.open.keys().skip(self.turn).take(OLD_ONES).cloned().collect();
        self.turn = if old.len() < OLD_ONES { 0 } else { self.turn + OLD_ONES };
        for id in old {
            if !seen.iter().any(|message| message["id"] == *id) {
                match look(api, &messages_path(self.channel, &format!("/{id}"))).await {
                    Ok(mut answer) => seen.push(answer["data"].take()),
                    // Purged meanwhile.
                    Err(_) => drop(self.open.remove(&id)),
                }
            }
        }
        for message in seen.iter().rev() {
            let id = message["id"].as_str().unwrap_or_default().to_owned();
            let ends = status_of(message).is_some_and(is_last);
            let mut told =
                self.open.remove(&id).unwrap_or_else(|| if first { Told::all(message) } else { Told::default() });
            told.tell(message, output, true)?;
            if !ends {
                self.open.insert(id, told);
            }
        }
        Ok(())
    }

    /// The messages down to one that is known, newest first.
    async fn newer(&self, api: &Api) -> Result<Vec<Value>, AskError> {
        let is_known = |message: &Value| {
            let id = message["id"].as_str().unwrap_or_default();
            self.known.iter().flatten().any(|known| known == id)
        };
        let path = messages_path(self.channel, "");
        let (mut rows, mut cursor) = (Vec::new(), String::new());
        loop {
            let mut page = look(api, &format!("{path}?limit={NEWEST}{cursor}")).await?;
            let Value::Array(more) = page["data"].take() else { return Ok(rows) };
            let end = more.iter().position(is_known);
            rows.extend(more.into_iter().take(end.unwrap_or(usize::MAX)));
            match page["pagination"]["nextCursor"].as_str() {
                Some(next) if end.is_none() && self.known.is_some() => cursor = format!("&cursor={}", encoded(next)),
                _ => return Ok(rows),
            }
        }
    }
}

/// What was printed of a message: the time of each state.
#[derive(Default)]
struct Told(HashMap<&'static str, String>);

impl Told {
    fn all(message: &Value) -> Self {
        Self(reached(message).map(|(at, status)| (status, at)).collect())
    }

    /// Prints the states that were reached since.
    fn tell(&mut self, message: &Value, output: &Output, with_id: bool) -> Result<()> {
        let mut news: Vec<_> =
            reached(message).filter(|(at, status)| self.0.get(status).is_none_or(|told| told != at)).collect();
        // Stable: within one millisecond the order of the states stands.
        news.sort_by(|(at, _), (other, _)| at.cmp(other));
        let last = news.len().saturating_sub(1);
        for (number, (at, status)) in news.into_iter().enumerate() {
            let id = message["id"].as_str().unwrap_or_default();
            // The reason belongs to the state in which the message is now.
            let error = &message["error"];
            let error = if number == last && message["status"] == status { error } else { &Value::Null };
            let change = json!({ "at": at, "id": id, "status": status, "to": message["to"], "error": error });
            output::print(output, &change, || {
                let who = if with_id { format!("{id}  ") } else { String::new() };
                let why = error["message"].as_str().map(|text| format!("  {text}")).unwrap_or_default();
                output::cell(&format!("{at}  {who}{status}{why}").into())
            })?;
            self.0.insert(status, at);
        }
        Ok(())
    }
}

/// The states that a message has reached, with their times.
fn reached(message: &Value) -> impl Iterator<Item = (String, &'static str)> {
    MessageStatus::ALL.into_iter().filter_map(|status| {
        let at = message[format!("{}At", status.name().to_lowercase())].as_str()?;
        Some((at.to_owned(), status.name()))
    })
}

fn status_of(message: &Value) -> Option<MessageStatus> {
    MessageStatus::from_name(message["status"].as_str()?)
}
