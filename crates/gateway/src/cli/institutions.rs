//! `recado institutions`.

use anyhow::Result;
use clap::Subcommand;

use super::{Common, Rate, operate, output, parse_rate_limit};
use crate::control::Command as Control;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add an institution with a key for each environment and a sandbox channel
    Create {
        /// Its name
        #[arg(long)]
        name: String,
        /// Calls a minute of its first keys: a number, or unlimited
        #[arg(long, default_value = "60", value_parser = parse_rate_limit, value_name = "N")]
        rate_limit: Rate,
        #[command(flatten)]
        common: Common,
    },
    /// List the institutions
    List {
        #[command(flatten)]
        common: Common,
    },
}

impl Command {
    pub async fn run(self) -> Result<()> {
        let (common, command) = match self {
            Self::Create { name, rate_limit: Rate(rate_limit), common } => {
                (common, Control::CreateInstitution { name, rate_limit })
            }
            Self::List { common } => (common, Control::ListInstitutions),
        };
        let value = operate(&common.data_dir.data_dir, command).await?;
        output::show(&common.output, &value)
    }
}
