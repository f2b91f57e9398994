//! `recado institutions`.

use anyhow::Result;
use clap::Subcommand;
use recado_domain::phone::DefaultCountry;
use recado_gateway::control::Command as Control;

use crate::{Common, Rate, operate, output, parse_rate_limit};

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
        /// Country of numbers without a `+` and without a country code, by its two letters; none: such numbers are
        /// refused; server: as the setting of the server says
        #[arg(long, default_value = "server", value_name = "COUNTRY")]
        default_country: DefaultCountry,
        #[command(flatten)]
        common: Common,
    },
    /// Change the default country of an institution
    Update {
        /// Country of numbers without a `+` and without a country code, by its two letters; none: such numbers are
        /// refused; server: as the setting of the server says
        #[arg(long, value_name = "COUNTRY")]
        default_country: DefaultCountry,
        /// Institution to change; needed if there is more than one
        #[arg(long, value_name = "ID")]
        institution: Option<String>,
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
            Self::Create { name, rate_limit: Rate(rate_limit), default_country, common } => {
                (common, Control::CreateInstitution { name, rate_limit, default_country })
            }
            Self::Update { default_country, institution, common } => {
                (common, Control::UpdateInstitution { institution, default_country })
            }
            Self::List { common } => (common, Control::ListInstitutions),
        };
        let value = operate(&common.data_dir.data_dir, command).await?;
        output::show(&common.output, &value)
    }
}
