//! Watches messages by polling. Each state that a message reached is printed with its time, including states between two
//! polls.

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

/// How many polls in a row may have no answer before the command gives up. It waits for a server that is restarting.
const MAX_TIMEOUTS: u32 = 60;
/// The most messages that are read one by one in one round, because they are too old for the first page.
const OLD_ONES: usize = 20;
/// The messages that are known when watching a channel begins: one page.
const NEWEST: usize = 100;

/// The exit code of an outcome: arrived, failed or unknown. `None` while the outcome is open.
fn outcome(status: MessageStatus) -> Option<Exit> {
    use MessageStatus::{Cancelled, Delivered, Expired, Failed, Read, Unknown};
    match status {
        Delivered | Read => Some(Exit::Done),
        Failed | Expired | Cancelled | Unknown => Some(Exit::Failed),
        _ => None,
    }
}

/// Whether no other state follows.
fn is_last(status: MessageStatus) -> bool {
    outcome(status).is_some() && !matches!(status, MessageStatus::Delivered | MessageStatus::Unknown)
}

/// Watches one message, and prints its states if `output` is given. The exit code is its outcome. `last` is the message as
/// it was last read, also after an error.
pub async fn watch_message(
    api: &Api,
    channel: &str,
    id: &str,
    output: Option<&Output>,
    last: &mut Value,
) -> Result<Exit> {
    let mut signals = Signals::listen()?;
    let path = messages_path(channel, &format!("/{}", encoded(id)));
    let mut printed = Printed::default();
    let mut receipts = None;
    loop {
        *last = tokio::select! {
            () = signals.next() => return Ok(Exit::Interrupted),
            answer = poll(api, &path) => answer?["data"].take(),
        };
        if let Some(output) = output {
            printed.print_new(last, output, false)?;
        }
        if let Some(exit) = status_of(last).and_then(outcome) {
            return Ok(exit);
        }
        check_served(api)?;
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

/// Whether the network of the channel reports nothing after a message was sent. A caller who may not read the channel gets
/// `false`, and waits.
async fn has_no_receipts(api: &Api, channel: &str) -> bool {
    let answer = api.ask(Request::get(format!("/v1/channels/{}", encoded(channel)))).await;
    answer.is_ok_and(|answer| answer["data"]["link"]["receipts"] == "OFF")
}

/// Watches a channel until Ctrl-C.
pub async fn watch_channel(api: &Api, channel: &str, output: &Output) -> Result<Exit> {
    let mut signals = Signals::listen()?;
    let mut watched = Watched { channel, known: None, open: HashMap::new(), next: 0 };
    loop {
        let round = async {
            watched.round(api, output).await?;
            check_served(api)?;
            tokio::time::sleep(api.pause()).await;
            anyhow::Ok(())
        };
        tokio::select! {
            () = signals.next() => return Ok(Exit::Interrupted),
            done = round => done?,
        }
    }
}

/// An error if no server sends the messages.
pub fn check_served(api: &Api) -> Result<()> {
    if api.is_served() {
        return Ok(());
    }
    Err(unavailable("no server runs on this data directory, so nothing is sent: start one with `recado serve`"))
}

/// A poll that survives a restart of the server.
async fn poll(api: &Api, path: &str) -> Result<Value, AskError> {
    let mut silences = 0;
    loop {
        match api.ask(Request::get(path.to_owned())).await {
            Err(error @ AskError::Refused(_)) => return Err(error),
            Err(_) if silences < MAX_TIMEOUTS => silences += 1,
            answer => return answer,
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

struct Watched<'a> {
    channel: &'a str,
    /// The newest known messages, newest first. A single one could be purged.
    known: Option<Vec<String>>,
    /// Messages whose state may still change.
    open: HashMap<String, Printed>,
    /// The position among them where the next round begins.
    next: usize,
}

impl Watched<'_> {
    async fn round(&mut self, api: &Api, output: &Output) -> Result<()> {
        let first = self.known.is_none();
        let mut seen = self.newer(api).await?;
        let ids = seen.iter().filter_map(|message| message["id"].as_str()).map(str::to_owned);
        self.known = Some(ids.chain(self.known.take().unwrap_or_default()).take(NEWEST).collect());
        let old: Vec<_> = self.open.keys().skip(self.next).take(OLD_ONES).cloned().collect();
        self.next = if old.len() < OLD_ONES { 0 } else { self.next + OLD_ONES };
        for id in old {
            if !seen.iter().any(|message| message["id"] == *id) {
                match poll(api, &messages_path(self.channel, &format!("/{id}"))).await {
                    Ok(mut answer) => seen.push(answer["data"].take()),
                    // The message was purged meanwhile.
                    Err(_) => drop(self.open.remove(&id)),
                }
            }
        }
        for message in seen.iter().rev() {
            let id = message["id"].as_str().unwrap_or_default().to_owned();
            let ends = status_of(message).is_some_and(is_last);
            let mut printed =
                self.open.remove(&id).unwrap_or_else(|| if first { Printed::all(message) } else { Printed::default() });
            printed.print_new(message, output, true)?;
            if !ends {
                self.open.insert(id, printed);
            }
        }
        Ok(())
    }

    /// The messages down to a known one, newest first.
    async fn newer(&self, api: &Api) -> Result<Vec<Value>, AskError> {
        let is_known = |message: &Value| {
            let id = message["id"].as_str().unwrap_or_default();
            self.known.iter().flatten().any(|known| known == id)
        };
        let path = messages_path(self.channel, "");
        let (mut rows, mut cursor) = (Vec::new(), String::new());
        loop {
            let mut page = poll(api, &format!("{path}?limit={NEWEST}{cursor}")).await?;
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

/// The printed states of a message, with their times.
#[derive(Default)]
struct Printed(HashMap<&'static str, String>);

impl Printed {
    fn all(message: &Value) -> Self {
        Self(reached(message).map(|(at, status)| (status, at)).collect())
    }

    /// Prints the states that were reached since the last call.
    fn print_new(&mut self, message: &Value, output: &Output, with_id: bool) -> Result<()> {
        let mut new: Vec<_> =
            reached(message).filter(|(at, status)| self.0.get(status).is_none_or(|printed| printed != at)).collect();
        // The sort is stable: states of the same millisecond keep their order.
        new.sort_by(|(at, _), (other, _)| at.cmp(other));
        let last = new.len().saturating_sub(1);
        for (number, (at, status)) in new.into_iter().enumerate() {
            let id = message["id"].as_str().unwrap_or_default();
            // The error belongs to the current state of the message.
            let error = &message["error"];
            let error = if number == last && message["status"] == status { error } else { &Value::Null };
            let change = json!({ "at": at, "id": id, "status": status, "to": message["to"], "error": error });
            output::print(output, &change, || {
                let prefix = if with_id { format!("{id}  ") } else { String::new() };
                let why = error["message"].as_str().map(|text| format!("  {text}")).unwrap_or_default();
                output::cell(&format!("{at}  {prefix}{status}{why}").into())
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
