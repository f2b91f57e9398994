//! `recado send`.

mod one;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::Exit;
use super::api::{Request, messages_path};
use super::messages::Where;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send a contact card
    Contact(Box<Contact>),
}

#[derive(Debug, Args)]
pub struct Contact {
    /// The recipient's number, DDI+DDD+NUM
    #[arg(long, value_name = "NUMBER")]
    to: String,
    /// The name on the card
    #[arg(long)]
    name: String,
    /// The number on the card
    #[arg(long, value_name = "NUMBER")]
    phone: String,
    /// The email address on the card
    #[arg(long)]
    email: Option<String>,
    /// The organization on the card
    #[arg(long)]
    organization: Option<String>,
    /// A card that is sent again with the same key is the same message; made up and printed without it
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[arg(
        long,
        help = "A sandbox scenario: number_not_on_whatsapp, channel_disconnected, rate_limit, timeout or \
                        lost_answer"
    )]
    scenario: Option<String>,
    /// Wait until the card has arrived, or until it is known that it will not
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    place: Where,
}

impl Command {
    pub async fn run(self) -> Result<Exit> {
        match self {
            Self::Contact(contact) => one::send(&contact).await,
        }
    }
}

/// The fields of a card, as the contract names and orders them.
pub const FIELDS: [&str; 5] = ["to", "name", "phone", "email", "organization"];

/// The contact call.
fn request(channel: &str, fields: [Option<&str>; 5], key: &str, scenario: Option<&str>) -> Request {
    let given = FIELDS.into_iter().zip(fields).filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?))));
    let mut headers = vec![
        ("content-type".to_owned(), "application/json".to_owned()),
        ("idempotency-key".to_owned(), key.to_owned()),
    ];
    headers.extend(scenario.map(|scenario| ("x-ogmma-sandbox-scenario".to_owned(), scenario.to_owned())));
    let body = Value::from(given.collect::<Map<_, _>>()).to_string();
    Request { method: "POST", path: messages_path(channel, "/contact"), headers, body }
}
