//! `recado messages`.

mod watch;

use anyhow::Result;
use clap::{Args, Subcommand};
use recado_domain::status::MessageStatus;
use serde_json::{Map, Value, json};

use crate::api::{Api, Request, Target, encoded, messages_path};
pub use crate::messages::watch::{check_served, watch_message};
use crate::{Exit, Output, output};

#[derive(Debug, Clone, Args)]
pub struct Where {
    /// The messages' channel
    #[arg(long, value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub channel: String,
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List a channel's messages, newest first
    List {
        /// Only messages in this state: QUEUED, SENDING, SENT, DELIVERED, UNKNOWN, READ, FAILED, EXPIRED or CANCELLED
        #[arg(long, value_parser = parse_status)]
        status: Option<MessageStatus>,
        /// Only messages to this number
        #[arg(long, value_name = "NUMBER")]
        to: Option<String>,
        /// Most messages
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: usize,
        #[command(flatten)]
        place: Where,
    },
    /// Show a message and when it reached each state
    Show {
        /// The message's id
        id: String,
        #[command(flatten)]
        place: Where,
    },
    /// Watch a message until its final state, or without an id all changes on a channel
    ///
    /// With an id: exits with 0 when the message was delivered or read, with 1 when it failed, expired, was cancelled
    /// or is unknown. Without one: prints each change of the newest messages and of new ones, until Ctrl-C.
    Watch {
        /// The message's id
        id: Option<String>,
        #[command(flatten)]
        place: Where,
    },
    /// Cancel a message that is still queued
    Cancel {
        /// The message's id
        id: String,
        #[command(flatten)]
        place: Where,
    },
}

impl Command {
    pub async fn run(self) -> Result<Exit> {
        let (Self::List { place, .. }
        | Self::Show { place, .. }
        | Self::Watch { place, .. }
        | Self::Cancel { place, .. }) = &self;
        let api = Api::open(&place.target, Some(&place.channel)).await?;
        let done = self.carry_out(&api).await;
        api.close().await;
        done
    }

    async fn carry_out(&self, api: &Api) -> Result<Exit> {
        match self {
            Self::List { status, to, limit, place } => {
                let filters = [("status", status.map(MessageStatus::name)), ("to", to.as_deref())];
                let rows = api.list(&messages_path(&place.channel, ""), &filters, *limit).await?;
                let rows = if place.output.json { rows } else { rows.iter().map(row).collect() };
                output::show(&place.output, &rows.into())?;
            }
            Self::Show { id, place } => {
                let asked = Request::get(messages_path(&place.channel, &format!("/{}", encoded(id))));
                show(&place.output, &api.ask(asked).await?["data"])?;
            }
            Self::Watch { id: Some(id), place } => {
                return watch_message(api, &place.channel, id, Some(&place.output), &mut Value::Null).await;
            }
            Self::Watch { id: None, place } => return watch::watch_channel(api, &place.channel, &place.output).await,
            Self::Cancel { id, place } => {
                let asked = Request::delete(messages_path(&place.channel, &format!("/{}", encoded(id))));
                show(&place.output, &api.ask(asked).await?["data"])?;
            }
        }
        Ok(Exit::Done)
    }
}

fn parse_status(text: &str) -> Result<MessageStatus, String> {
    let names = || MessageStatus::ALL.map(MessageStatus::name).join(", ");
    MessageStatus::from_name(&text.to_uppercase()).ok_or_else(|| format!("one of {}", names()))
}

/// Prints a message. For people: one line for each field.
pub fn show(output: &Output, message: &Value) -> Result<()> {
    let mut known = Map::new();
    for (name, value) in message.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::Object(parts) => {
                let parts = parts.iter().filter(|(_, value)| !value.is_null());
                known.extend(parts.map(|(part, value)| (format!("{name}.{part}"), value.clone())));
            }
            value => drop(known.insert(name.clone(), value.clone())),
        }
    }
    if output.json { output::show(output, message) } else { output::show(output, &known.into()) }
}

/// Most characters of a text in a table.
const SHOWN: usize = 40;

/// What a message shows in a table: the first card, the beginning of the text, or the place.
pub fn content(message: &Value) -> Value {
    let cards = message["contacts"].as_array();
    let card = cards.and_then(|cards| cards.first()).unwrap_or(&message["contact"]);
    let place = &message["location"];
    let shown = if let Some(name) = card["name"].as_str() {
        let phone = card["phone"].as_str().or_else(|| card["phones"][0]["phone"].as_str());
        format!("{name} {}", phone.unwrap_or_default())
    } else if place.is_object() {
        let name = place["name"].as_str().map(str::to_owned);
        name.unwrap_or_else(|| format!("{}, {}", place["latitude"], place["longitude"]))
    } else {
        let text = message["text"]["content"].as_str().or_else(|| message["content"].as_str());
        text.unwrap_or_default().to_owned()
    };
    match shown.trim().lines().next() {
        None => Value::Null,
        Some(line) if line.chars().count() <= SHOWN => line.trim().into(),
        Some(line) => line.chars().take(SHOWN - 1).chain(['…']).collect::<String>().into(),
    }
}

fn row(message: &Value) -> Value {
    json!({
        "id": message["id"], "status": message["status"], "to": message["to"], "type": message["type"],
        "content": content(message), "queuedAt": message["queuedAt"], "attempts": message["attempts"],
        "error": message["error"]["code"],
    })
}
