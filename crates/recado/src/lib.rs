//! The command line, with one file for each command.

mod api;
mod backup;
mod channels;
mod check;
mod completions;
mod data;
mod doctor;
mod events;
mod exit;
mod init;
mod institutions;
mod keys;
mod listen;
mod local;
mod messages;
mod migrate_store;
mod openapi;
mod output;
mod pairing;
mod read_only;
mod restore;
mod sandbox;
mod sealed;
mod secrets;
mod send;
mod serve;
mod settings;
mod status;
mod variables;
mod webhooks;

use std::path::Path;

use anyhow::Result;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use recado_domain::api_key::{Environment, RateLimit};
use recado_gateway::WHATSAPP_WEB;
use serde_json::Value;

pub use crate::exit::Exit;
use crate::exit::{end, end_for_programs};

use recado_domain::clock::random;
use recado_gateway::config::{self, DataDir, name_variable};
use recado_gateway::control::Command as Control;
use recado_store::clock::SystemEntropy;

use crate::local::Local;

/// A self-hosted WhatsApp gateway: one HTTP call, and a contact card lands on a phone.
#[derive(Debug, Parser)]
#[command(name = "recado", version, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The settings of a server, if the command is about one.
    #[arg(skip)]
    settings: Vec<settings::Setting>,
    /// A failure is printed as JSON.
    #[arg(skip)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a data directory: a store, an institution, its keys and its sandbox channel
    Init(init::Init),
    /// Serve the API until SIGTERM
    Serve(Box<serve::Serve>),
    Config(Box<settings::Show>),
    /// Institutions: tenants that are isolated from each other
    Institutions {
        #[command(subcommand)]
        command: institutions::Command,
    },
    /// API keys
    Keys {
        #[command(subcommand)]
        command: keys::Command,
    },
    /// Channels
    Channels {
        #[command(subcommand)]
        command: channels::Command,
    },
    /// Messages and their status
    Messages {
        #[command(subcommand)]
        command: messages::Command,
    },
    /// Send messages
    Send {
        #[command(subcommand)]
        command: send::Command,
    },
    /// The sandbox inbox
    Sandbox {
        #[command(subcommand)]
        command: sandbox::Command,
    },
    /// The event stream: what happens to messages and channels
    Events {
        #[command(subcommand)]
        command: events::Command,
    },
    /// Webhooks and their deliveries
    Webhooks {
        #[command(subcommand)]
        command: webhooks::Command,
    },
    /// Forward events to a URL on this machine, signed as webhooks are, until Ctrl-C
    ///
    /// For the development of a receiver. Each event is posted until the receiver answers with 2xx, a bounded number of times.
    /// After a lost connection, or a restart with --cursor or --cursor-file, no event is skipped; some are posted again, with the
    /// same webhook-id.
    Listen(listen::Listen),
    /// The key that encrypts secrets in the store
    Secrets {
        #[command(subcommand)]
        command: secrets::Command,
    },
    /// A person's stored data: show or erase it
    Data {
        #[command(subcommand)]
        command: data::Command,
    },
    Status(status::Status),
    /// Copy the store and the sandbox, also while a server runs, or check such a copy
    Backup(backup::Backup),
    /// Make a data directory of a backup, with its channels paused
    Restore(restore::Restore),
    /// Copy a data directory's store into a PostgreSQL database, and compare the two
    MigrateStore(migrate_store::MigrateStore),
    /// Check this machine and the data directory, and say what to do
    Doctor(doctor::Doctor),
    /// Print a script that completes commands in a shell
    Completions(completions::Completions),
    /// Print the OpenAPI document of the API
    Openapi,
    /// Print the version
    Version {
        #[command(flatten)]
        output: Output,
    },
}

/// The data directory of a command, and the format of its output.
#[derive(Debug, Clone, Args)]
struct Common {
    #[command(flatten)]
    data_dir: DataDir,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Clone, Args)]
struct Output {
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

/// Reads the arguments and the variables; ends the process if they are invalid.
pub fn parse() -> Cli {
    let mut command = Cli::command();
    let json = std::env::args_os().any(|argument| argument == "--json");
    let parsed = command
        .try_get_matches_from_mut(std::env::args_os())
        .and_then(|matches| Ok(Cli { settings: settings::given(&matches), json, ..Cli::from_arg_matches(&matches)? }));
    parsed.unwrap_or_else(|error| config::exit(&name_variable(error, &command, std::env::args())))
}

/// Runs the command, prints the reason of a failure, and returns the exit code.
pub fn main(cli: Cli) -> Exit {
    let json = cli.json;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run(cli)));
    if json { end_for_programs(result) } else { end(result) }
}

/// Runs the command.
async fn run(cli: Cli) -> Result<Exit> {
    variables::check()?;
    match cli.command {
        Command::Init(init) => init.run().await.map(Exit::done),
        Command::Serve(server) => Ok(Box::pin(server.run(&cli.settings)).await),
        Command::Config(show) => show.run(&cli.settings).map(Exit::done),
        Command::Institutions { command } => command.run().await.map(Exit::done),
        Command::Keys { command } => command.run().await.map(Exit::done),
        Command::Channels { command } => command.run().await.map(Exit::done),
        Command::Messages { command } => command.run().await,
        Command::Send { command } => command.run().await,
        Command::Sandbox { command } => command.run().await.map(Exit::done),
        Command::Events { command } => command.run().await,
        Command::Webhooks { command } => command.run().await,
        Command::Listen(listen) => listen.run().await,
        Command::Secrets { command } => command.run().await,
        Command::Data { command } => command.run().await,
        Command::Status(status) => status.run().await.map(Exit::done),
        Command::Backup(backup) => backup.run().await,
        Command::Restore(restore) => restore.run().await,
        Command::MigrateStore(migration) => migration.run().await,
        Command::Doctor(doctor) => doctor.run().await,
        Command::Completions(completions) => completions.run().map(Exit::done),
        Command::Openapi => openapi::run().map(Exit::done),
        Command::Version { output } => {
            let (version, licence) = (env!("CARGO_PKG_VERSION"), licence());
            let value = serde_json::json!({ "version": version, "whatsappWeb": WHATSAPP_WEB, "license": licence });
            let about = if WHATSAPP_WEB { "with" } else { "without" };
            output::print(&output, &value, || format!("recado {version}, {about} WhatsApp Web\nlicence: {licence}"))?;
            Ok(Exit::Done)
        }
    }
}

/// The licence under which this binary may be distributed; see NOTICE and ADR 10.
fn licence() -> &'static str {
    if WHATSAPP_WEB {
        "AGPL-3.0-only, by the encryption library of WhatsApp Web; Recado's own code is MIT OR Apache-2.0 (see NOTICE)"
    } else {
        "MIT OR Apache-2.0"
    }
}

/// Executes a command: in the server if one runs on the directory, otherwise in this process.
async fn operate(data_dir: &Path, command: Control) -> Result<Value> {
    let local = Local::open(data_dir).await?;
    let done = local.execute(command).await;
    local.close().await;
    Ok(done?)
}

/// A unique name.
fn unique_name() -> String {
    format!("{:032x}", u128::from_be_bytes(random(&SystemEntropy)))
}

fn parse_environment(text: &str) -> Result<Environment, String> {
    Environment::from_name(text).ok_or_else(|| "test or live".to_owned())
}

/// A rate limit on the command line. Wrapped, because clap would treat an `Option` as an optional argument.
#[derive(Debug, Clone, Copy)]
struct Rate(RateLimit);

fn parse_rate_limit(text: &str) -> Result<Rate, String> {
    match text {
        "unlimited" => Ok(Rate(None)),
        number => number.parse().map(|limit| Rate(Some(limit))).map_err(|_| "a number, or unlimited".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use crate::*;

    /// By default clap prints the current value of a variable in `--help`, which may be a secret.
    #[test]
    fn help_never_prints_the_value_of_a_variable() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments().filter(|argument| argument.get_env().is_some()) {
                assert!(argument.is_hide_env_values_set(), "{} {}", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        Cli::command().debug_assert();
        check(&Cli::command());
    }
}
