//! `recado keys`.

use anyhow::Result;
use clap::{Args, Subcommand};
use recado_domain::api_key::Environment;
use recado_gateway::control::Command as Control;

use crate::{Common, Rate, operate, output, parse_environment, parse_rate_limit};

#[derive(Debug, Args)]
pub struct Create {
    /// What the key is for, 3 to 100 characters
    #[arg(long)]
    name: String,
    /// test: messages stay in the sandbox; live: they go out
    #[arg(long, value_parser = parse_environment)]
    environment: Environment,
    /// What the key may do, separated by commas: messages.send, messages.read, channels.read, channels.write,
    /// keys.read, keys.write, webhooks.read, webhooks.write, events.read, conversations.read, conversations.write,
    /// contacts.read, contacts.write, sandbox.read, sandbox.write
    #[arg(long, value_delimiter = ',', required = true)]
    scopes: Vec<String>,
    /// Calls a minute: a number up to 10000, or unlimited
    #[arg(long, default_value = "60", value_parser = parse_rate_limit, value_name = "N")]
    rate_limit: Rate,
    /// When the key ends, in ISO 8601 (2027-01-31T00:00:00Z); never without it
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    /// Institution of the key; needed if there is more than one
    #[arg(long, value_name = "ID")]
    institution: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a key; it is shown only once
    Create(Create),
    /// List the keys that are not revoked
    List {
        /// Institution of the keys; if omitted, those of all are listed
        #[arg(long, value_name = "ID")]
        institution: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Revoke a key: its next call is refused
    Revoke {
        /// The key's id, as `keys list` shows it
        id: String,
        /// Institution of the key; needed if there is more than one
        #[arg(long, value_name = "ID")]
        institution: Option<String>,
        #[command(flatten)]
        common: Common,
    },
}

impl Command {
    pub async fn run(self) -> Result<()> {
        let (common, command) = match self {
            Self::Create(create) => create.into_control(),
            Self::List { institution, common } => (common, Control::ListKeys { institution }),
            Self::Revoke { id, institution, common } => (common, Control::RevokeKey { institution, id }),
        };
        let value = operate(&common.data_dir.data_dir, command).await?;
        output::show(&common.output, &value)
    }
}

impl Create {
    fn into_control(self) -> (Common, Control) {
        let Self { name, environment, scopes, rate_limit: Rate(rate_limit), expires_at, institution, common } = self;
        (common, Control::CreateKey { institution, name, environment, scopes, rate_limit, expires_at })
    }
}
