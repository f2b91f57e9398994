//! The command line: a file a command.

mod channels;
mod init;
mod institutions;
mod keys;
mod openapi;
mod output;
mod serve;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clap::{Args, Parser, Subcommand};
use recado_domain::api_key::{Environment, RateLimit};
use serde_json::Value;

use crate::config::{Behaviour, Config, DataDir};
use crate::control::{self, Command as Control};
use crate::gateway::{Gateway, STORE_FILE};
use crate::lock::DataDirLock;

/// A self-hosted WhatsApp gateway: one HTTP call, and a contact card lands on a phone.
#[derive(Debug, Parser)]
#[command(name = "recado", version, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a data directory: a store, an institution, its keys and its sandbox channel
    Init(init::Init),
    /// Serve the API until SIGTERM
    Serve(Box<Config>),
    /// Institutions: tenants that see nothing of each other
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
    /// Print the OpenAPI document of the API
    Openapi,
    /// Print the version
    Version {
        #[command(flatten)]
        output: Output,
    },
}

/// Where a command works, and for whom it prints.
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

/// Runs the command that was asked for.
pub async fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Init(init) => init.run().await,
        Command::Serve(config) => serve::run(*config).await,
        Command::Institutions { command } => command.run().await,
        Command::Keys { command } => command.run().await,
        Command::Channels { command } => command.run().await,
        Command::Openapi => openapi::run(),
        Command::Version { output } => {
            let version = env!("CARGO_PKG_VERSION");
            output::print(&output, &serde_json::json!({ "version": version }), || println!("recado {version}"));
            Ok(())
        }
    }
}

/// Carries a command out: by the server when one runs on the directory, by ourselves when none does.
async fn operate(data_dir: &Path, command: Control) -> Result<Value> {
    if !data_dir.join(STORE_FILE).exists() {
        bail!("there is no store in {}: make one with `recado init --data-dir {0}`", data_dir.display());
    }
    let mut tries = 0;
    let _lock = loop {
        if let Some(lock) = DataDirLock::try_take(data_dir)? {
            break lock;
        }
        match control::ask(data_dir, &command).await {
            // Another command holds the lock, or a server that has not opened its socket yet: both for a moment only.
            Err(control::AskError::NobodyThere(_)) if tries < 50 => tries += 1,
            answer => return answer.map_err(Into::into),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let gateway = Gateway::open(data_dir, Behaviour::from_environment()).await?;
    let done = control::execute(&gateway, command).await;
    gateway.close().await;
    done.map_err(|error| refused(&error))
}

fn refused(error: &crate::api::error::ApiError) -> anyhow::Error {
    let body = serde_json::to_value(error.body()).unwrap_or_default();
    anyhow!(control::explain(&body))
}

fn parse_environment(text: &str) -> Result<Environment, String> {
    Environment::from_name(text).ok_or_else(|| "test or live".to_owned())
}

/// A rate limit on the command line. Wrapped, because clap would take an `Option` for an optional argument.
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

    use super::*;

    /// clap prints the current value of a variable in `--help` unless told not to; a secret would stand there.
    #[test]
    fn help_never_prints_what_stands_in_a_variable() {
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
