//! `recado send`: a command for each kind, with the fields of the kind.

mod csv;
mod one;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, FromArgMatches, Subcommand};
use recado_domain::kinds::{FieldSpec, Form, KINDS, Kind};
use serde_json::{Map, Value};

use crate::Exit;
use crate::api::{Request, messages_path};
use crate::messages::Where;

/// A message, or a file of messages.
#[derive(Debug)]
pub struct Command {
    kind: &'static Kind,
    /// The given fields of the kind.
    fields: Vec<(&'static FieldSpec, String)>,
    /// The fields with a header that was named by hand.
    columns: Vec<(&'static FieldSpec, String)>,
    options: Box<Options>,
}

#[derive(Debug, Args)]
struct Options {
    /// A message that is sent again with the same key is the same message; generated and printed if omitted
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[arg(
        long,
        help = "A sandbox scenario: number_not_on_whatsapp, channel_disconnected, rate_limit, timeout or \
                        lost_answer"
    )]
    scenario: Option<String>,
    /// Wait until the message has arrived or failed
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    bulk: Bulk,
    #[command(flatten)]
    place: Where,
}

/// Many messages at once.
#[derive(Debug, Args)]
struct Bulk {
    /// Send every line of a CSV file, or of standard input (-); its columns have the names of the fields
    ///
    /// The same command continues after an interruption, and sends corrected lines.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["idempotency_key", "wait"])]
    csv: Option<PathBuf>,
    /// Read a field from the column with this header, as in phone="Phone 1 - Value"; other unknown columns are then ignored
    #[arg(long = "column", value_name = "FIELD=HEADER", requires = "csv")]
    columns: Vec<String>,
    /// File for the outcome of each line; derived from the CSV file's name if omitted
    #[arg(long, value_name = "FILE", requires = "csv")]
    results: Option<PathBuf>,
    /// Lines in flight at a time; 1 keeps their order
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u8).range(1..=128),
          requires = "csv")]
    parallel: u8,
    /// Name of the run: another name sends the same lines again; the CSV file's name if omitted
    #[arg(long, value_name = "NAME", requires = "csv")]
    batch: Option<String>,
    /// How long there may be no answer before the run ends
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = recado_gateway::config::time, requires = "csv")]
    patience: Duration,
}

impl Subcommand for Command {
    fn augment_subcommands(command: clap::Command) -> clap::Command {
        KINDS
            .iter()
            .fold(command, |command, kind| command.subcommand(command_of(kind)))
            .subcommand_required(true)
            .arg_required_else_help(true)
    }

    fn augment_subcommands_for_update(command: clap::Command) -> clap::Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        Kind::named(name).is_some()
    }
}

impl FromArgMatches for Command {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let no_kind = || clap::Error::new(ErrorKind::MissingSubcommand);
        let (name, matches) = matches.subcommand().ok_or_else(no_kind)?;
        let kind = Kind::named(name).ok_or_else(no_kind)?;
        let given = |field: &'static FieldSpec| Some((field, matches.get_one::<String>(id_of(field))?.clone()));
        let fields = options_of(kind).filter_map(given).collect();
        let options = Options::from_arg_matches(matches)?;
        let columns = options.bulk.columns.iter().map(|text| parse_column(kind, text)).collect::<Result<_, _>>();
        let columns = columns.map_err(|text| clap::Error::raw(ErrorKind::ValueValidation, text + "\n"))?;
        Ok(Self { kind, fields, columns, options: Box::new(options) })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The fields that are options of the command line.
fn options_of(kind: &'static Kind) -> impl Iterator<Item = &'static FieldSpec> {
    kind.all_fields().filter(|field| field.form != Form::Alias)
}

/// The name of a field for clap. No other option has such a name.
fn id_of(field: &'static FieldSpec) -> &'static str {
    field.flag
}

fn command_of(kind: &'static Kind) -> clap::Command {
    // If a list replaces other fields, those are not required.
    let lists = options_of(kind).filter(|field| field.form == Form::Json).map(id_of);
    let instead: Vec<_> = lists.chain(["csv"]).collect();
    let option = |field: &'static FieldSpec| {
        let arg = Arg::new(id_of(field)).long(field.flag).value_name(field.value_name).help(field.help);
        let arg = arg.conflicts_with("csv").allow_negative_numbers(field.form == Form::Number);
        match (field.required, field.name) {
            (true, "to") => arg.required_unless_present_any(["csv", "conversation"]),
            (true, _) => arg.required_unless_present_any(&instead),
            (false, _) => arg,
        }
    };
    let columns: Vec<_> = columns_of(kind).iter().map(|field| field.name).collect();
    let about = format!("The columns of a CSV file: {}", columns.join(", "));
    let command = clap::Command::new(kind.name).args(options_of(kind).map(option));
    // The options bring texts of their own.
    Options::augment_args(command).about(kind.title.0).after_help(about)
}

impl Command {
    pub async fn run(self) -> Result<Exit> {
        match &self.options.bulk.csv {
            Some(file) => csv::send(&self, file).await,
            None => one::send(&self).await,
        }
    }
}

/// The columns of a CSV file: the recipient, the kind's own fields, and the common ones.
fn columns_of(kind: &'static Kind) -> Vec<&'static FieldSpec> {
    let mut all = kind.all_fields().filter(|field| field.is_column());
    let recipient = all.next();
    let common: Vec<_> =
        all.by_ref().take_while(|field| !kind.fields.iter().any(|own| own.name == field.name)).collect();
    let own = kind.fields.iter().filter(|field| field.is_column());
    recipient.into_iter().chain(own).chain(common).collect()
}

/// A field, and the header of its column.
fn parse_column(kind: &'static Kind, text: &str) -> Result<(&'static FieldSpec, String), String> {
    let columns = columns_of(kind);
    let names: Vec<_> = columns.iter().map(|field| field.name).collect();
    let wrong = || format!("--column is FIELD=HEADER, where FIELD is one of {}", names.join(", "));
    let (field, header) = text.split_once('=').ok_or_else(wrong)?;
    let field = columns.iter().find(|known| known.name == field.trim()).ok_or_else(wrong)?;
    Ok((field, header.trim().to_owned()))
}

/// The header that requests a failure of the sandbox.
const SCENARIO: &str = "x-ogmma-sandbox-scenario";

/// A send call of this kind.
fn request<'a>(
    kind: &Kind,
    channel: &str,
    fields: impl IntoIterator<Item = (&'static FieldSpec, &'a str)>,
    key: &str,
    scenario: Option<&str>,
) -> Request {
    let given = fields.into_iter().map(|(field, text)| (field.name.to_owned(), value(field, text)));
    let mut headers = vec![
        ("content-type".to_owned(), "application/json".to_owned()),
        ("idempotency-key".to_owned(), key.to_owned()),
    ];
    headers.extend(scenario.map(|scenario| (SCENARIO.to_owned(), scenario.to_owned())));
    let body = Value::from(given.collect::<Map<_, _>>()).to_string();
    Request { method: "POST", path: messages_path(channel, &format!("/{}", kind.name)), headers, body }
}

/// A text as the value of the field. A text that is no such value is sent as it is: the server reports what it should be.
fn value(field: &FieldSpec, text: &str) -> Value {
    let parsed = || serde_json::from_str::<Value>(text.trim()).ok();
    let value = match field.form {
        Form::Text | Form::Lines | Form::Alias => None,
        // An empty cell.
        _ if text.trim().is_empty() => Some(Value::Null),
        Form::Number => parsed().filter(Value::is_number),
        Form::Flag => parsed().filter(Value::is_boolean),
        Form::Json => parsed(),
    };
    value.unwrap_or_else(|| text.into())
}
