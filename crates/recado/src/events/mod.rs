//! `recado events`: the event stream.

mod follow;
mod line;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use recado_gateway::shutdown::Signals;
use serde_json::Value;

use crate::api::{Api, Request, Target, encoded};
pub use crate::events::follow::{Event, Follower};
use crate::exit::Exit;
use crate::messages::check_served;
use crate::{Output, output};

/// Events that `follow` and `list` read at a time.
const PAGE: usize = 100;

/// Which events are read.
#[derive(Debug, Clone, Args)]
pub struct Filter {
    /// Only these events: names and patterns (message.*), separated by commas
    #[arg(long, value_name = "EVENTS", value_parser = NonEmptyStringValueParser::new())]
    events: Option<String>,
    /// Only events of this channel
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub channel: Option<String>,
    /// Only events of these chats: DIRECT, GROUP, or both separated by a comma [default: both; of `listen`: DIRECT]
    #[arg(long, value_name = "KINDS", value_parser = NonEmptyStringValueParser::new())]
    chat_kinds: Option<String>,
}

/// Where a reader begins, and how long it waits for a server.
#[derive(Debug, Clone, Args)]
pub struct Start {
    /// Where to begin: now, oldest, or a time in ISO 8601
    #[arg(long, value_name = "PLACE", default_value = "now")]
    from: String,
    /// Continue behind this cursor
    #[arg(long, value_name = "CURSOR", conflicts_with = "from")]
    cursor: Option<String>,
    /// File with the cursor: the command continues behind it, and writes it after each page
    #[arg(long, value_name = "FILE", conflicts_with = "cursor")]
    cursor_file: Option<PathBuf>,
    /// How long to wait for a server that does not answer any more (90s, 10m, 2h)
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = recado_gateway::config::time)]
    patience: Duration,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print events as they happen, until Ctrl-C
    ///
    /// After a lost connection the command continues behind the last event that it printed. When it ends, it prints the cursor
    /// with which it can be continued.
    Follow {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        start: Start,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        output: Output,
    },
    /// Print the recorded events, oldest first
    List {
        #[command(flatten)]
        filter: Filter,
        /// Where to begin: oldest, or a time in ISO 8601
        #[arg(long, value_name = "PLACE", default_value = "oldest")]
        from: String,
        /// Most events
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: usize,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        output: Output,
    },
    /// Show an event
    Show {
        /// The event's id
        id: String,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        output: Output,
    },
}

impl Command {
    pub async fn run(self) -> Result<Exit> {
        let (target, channel) = match &self {
            Self::Follow { filter, target, .. } | Self::List { filter, target, .. } => {
                (target, filter.channel.as_deref())
            }
            Self::Show { target, .. } => (target, None),
        };
        let api = Api::open(target, channel).await?;
        let done = self.carry_out(&api).await;
        api.close().await;
        done
    }

    async fn carry_out(&self, api: &Api) -> Result<Exit> {
        match self {
            Self::Follow { filter, start, output, .. } => follow(api, filter, start, output).await,
            Self::List { filter, from, limit, output, .. } => list(api, filter, from, *limit, output).await,
            Self::Show { id, output, .. } => {
                let event = api.ask(Request::get(format!("/v1/events/{}", encoded(id)))).await?["data"].take();
                output::show(output, &event).map(Exit::done)
            }
        }
    }
}

async fn follow(api: &Api, filter: &Filter, start: &Start, output: &Output) -> Result<Exit> {
    let mut signals = Signals::listen()?;
    check_served(api)?;
    let mut follower = Follower::new(api, filter, start, PAGE)?;
    let ended = loop {
        let round = async {
            let page = follower.next().await?;
            for event in &page.events {
                output::line(&if output.json { event.text.clone() } else { line::of(&event.value) })?;
            }
            follower.advance(page).await
        };
        tokio::select! {
            () = signals.next() => break Ok(Exit::Interrupted),
            done = round => if let Err(error) = done { break Err(error) },
        }
    };
    follower.end(ended)
}

async fn list(api: &Api, filter: &Filter, from: &str, limit: usize, output: &Output) -> Result<Exit> {
    let (mut events, mut place) = (Vec::new(), format!("from={}", encoded(from)));
    while events.len() < limit {
        let most = PAGE.min(limit - events.len());
        let query = format!("limit={most}&{place}{}", filter.query());
        let mut page = api.ask(Request::get(format!("/v1/events?{query}"))).await?;
        if let Value::Array(more) = page["data"].take() {
            events.extend(more);
        }
        let cursor = page["pagination"]["nextCursor"].as_str().unwrap_or_default();
        let next = format!("cursor={}", encoded(cursor));
        // A page may be empty before the end of the stream, if the filter matched no event. At the end the cursor does
        // not change.
        if next == std::mem::replace(&mut place, next.clone()) {
            break;
        }
    }
    if output.json {
        return output::show(output, &events.into()).map(Exit::done);
    }
    events.iter().try_for_each(|event| output::line(&line::of(event))).map(Exit::done)
}

impl Filter {
    /// The same with these kinds of chats if none are given.
    #[must_use]
    pub fn or_chats(self, kinds: &str) -> Self {
        Self { chat_kinds: self.chat_kinds.or_else(|| Some(kinds.to_owned())), ..self }
    }

    /// The parameters of the call.
    fn query(&self) -> String {
        let given = [("events", &self.events), ("channelId", &self.channel), ("chatKinds", &self.chat_kinds)];
        let given = given.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        given.fold(String::new(), |query, (name, value)| query + "&" + name + "=" + &encoded(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_chats_are_a_default_alone() {
        let filter = |kinds: Option<&str>| Filter { events: None, channel: None, chat_kinds: kinds.map(str::to_owned) };
        assert_eq!(filter(None).query(), "");
        assert_eq!(filter(None).or_chats("DIRECT").query(), "&chatKinds=DIRECT");
        assert_eq!(filter(Some("GROUP")).or_chats("DIRECT").query(), "&chatKinds=GROUP");
    }
}
