//! `recado send`.

mod csv;
mod one;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use crate::Exit;
use crate::api::{Request, messages_path};
use crate::messages::Where;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send a contact card
    Contact(Box<Contact>),
}

#[derive(Debug, Args)]
pub struct Contact {
    /// The recipient's number, DDI+DDD+NUM
    #[arg(long, value_name = "NUMBER", required_unless_present = "csv")]
    to: Option<String>,
    /// The name on the card
    #[arg(long, required_unless_present = "csv")]
    name: Option<String>,
    /// The number on the card
    #[arg(long, value_name = "NUMBER", required_unless_present = "csv")]
    phone: Option<String>,
    /// The email address on the card
    #[arg(long)]
    email: Option<String>,
    /// The organization on the card
    #[arg(long)]
    organization: Option<String>,
    /// The first name on the card; without it and a last name, the whole name is the first one
    #[arg(long, value_name = "NAME")]
    first_name: Option<String>,
    /// The last name on the card
    #[arg(long, value_name = "NAME")]
    last_name: Option<String>,
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
    bulk: Bulk,
    #[command(flatten)]
    place: Where,
}

/// Many cards at once.
#[derive(Debug, Args)]
struct Bulk {
    /// Send every line of a CSV file, or of standard input (-), with the columns to, name, phone, and perhaps email,
    /// organization, firstName and lastName
    ///
    /// The same command again goes on where it was interrupted, and sends what was mended.
    #[arg(long, value_name = "FILE",
          conflicts_with_all = ["to", "name", "phone", "email", "organization", "first_name", "last_name", "idempotency_key", "wait"])]
    csv: Option<PathBuf>,
    /// Take a field from the column of this header, as in phone="Phone 1 - Value"; columns that are no fields of a card
    /// are then passed over
    #[arg(long = "column", value_name = "FIELD=HEADER", requires = "csv", value_parser = parse_column)]
    columns: Vec<(usize, String)>,
    /// Where to write what became of each line; made of the CSV file's name without it
    #[arg(long, value_name = "FILE", requires = "csv")]
    results: Option<PathBuf>,
    /// Lines on their way at a time; 1 keeps their order
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u8).range(1..=128),
          requires = "csv")]
    parallel: u8,
    /// Name of the run: with another one the same lines are sent once more; the CSV file's name without it
    #[arg(long, value_name = "NAME", requires = "csv")]
    batch: Option<String>,
    /// How long nobody may answer before the run is given up
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = humantime::parse_duration, requires = "csv")]
    patience: Duration,
}

impl Command {
    pub async fn run(self) -> Result<Exit> {
        match self {
            Self::Contact(contact) => match &contact.bulk.csv {
                Some(file) => csv::send(&contact, file).await,
                None => one::send(&contact).await,
            },
        }
    }
}

/// A field's place among [`FIELDS`], and the header of its column.
fn parse_column(text: &str) -> Result<(usize, String), String> {
    let fields = || format!("FIELD=HEADER, where FIELD is one of {}", FIELDS.join(", "));
    let (field, header) = text.split_once('=').ok_or_else(fields)?;
    let place = FIELDS.iter().position(|known| *known == field.trim()).ok_or_else(fields)?;
    Ok((place, header.trim().to_owned()))
}

/// The fields of a card, in the order of its columns.
const FIELDS: [&str; 7] = ["to", "name", "phone", "email", "organization", "firstName", "lastName"];

/// The header that orders trouble.
const SCENARIO: &str = "x-ogmma-sandbox-scenario";

/// The contact call.
fn request(channel: &str, fields: [Option<&str>; 7], key: &str, scenario: Option<&str>) -> Request {
    let given = FIELDS.into_iter().zip(fields).filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?))));
    let mut headers = vec![
        ("content-type".to_owned(), "application/json".to_owned()),
        ("idempotency-key".to_owned(), key.to_owned()),
    ];
    headers.extend(scenario.map(|scenario| (SCENARIO.to_owned(), scenario.to_owned())));
    let body = Value::from(given.collect::<Map<_, _>>()).to_string();
    Request { method: "POST", path: messages_path(channel, "/contact"), headers, body }
}
