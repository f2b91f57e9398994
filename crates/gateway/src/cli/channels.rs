//! `recado channels`.

use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};
use recado_domain::api_key::Environment;
use recado_domain::channel::{ChannelAction, ChannelType};

use super::{Common, operate, output, parse_environment};
use crate::control::{Command as Control, WhichChannel};

#[derive(Debug, Args)]
pub struct Which {
    /// The channel's id
    id: String,
    /// Where it is; needed when both environments have a channel of this id
    #[arg(long, value_parser = parse_environment)]
    environment: Option<Environment>,
    /// Whose channel it is; needed when there is more than one institution
    #[arg(long, value_name = "ID")]
    institution: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a channel
    Create {
        /// Its name, for people
        #[arg(long)]
        name: String,
        /// SANDBOX, WHATSAPP_WABA or WHATSAPP_BAILEYS
        #[arg(long = "type", value_name = "TYPE")]
        kind: String,
        /// Its id: letters, digits, _ and -; made up without it
        #[arg(long)]
        id: Option<String>,
        /// Whose channel it will be; needed when there is more than one institution
        #[arg(long, value_name = "ID")]
        institution: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// List the channels
    List {
        /// Whose channels; needed when there is more than one institution
        #[arg(long, value_name = "ID")]
        institution: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Show a channel
    Show(Which),
    /// Bring a channel's line up
    Connect(Which),
    /// Put a channel's line down; what waits is held
    Disconnect(Which),
    /// Hold what waits on a channel
    Pause(Which),
    /// End a pause
    Resume(Which),
    /// Delete a channel: what is queued is cancelled, the history stays readable
    Delete(Which),
}

impl Command {
    pub async fn run(self) -> Result<()> {
        let act = |which: Which, action| {
            let (common, which) = which.split();
            (common, Control::ActOnChannel { which, action })
        };
        let (common, command) = match self {
            Self::Create { name, kind, id, institution, common } => {
                let known = ChannelType::from_name(&kind);
                let known =
                    known.ok_or_else(|| anyhow!("a channel is of type SANDBOX, WHATSAPP_WABA or WHATSAPP_BAILEYS"))?;
                let environment = known.environment();
                (common, Control::CreateChannel { institution, environment, name, kind, id })
            }
            Self::List { institution, common } => (common, Control::ListChannels { institution }),
            Self::Show(which) => {
                let (common, which) = which.split();
                (common, Control::ShowChannel { which })
            }
            Self::Connect(which) => act(which, ChannelAction::Connect),
            Self::Disconnect(which) => act(which, ChannelAction::Disconnect),
            Self::Pause(which) => act(which, ChannelAction::Pause),
            Self::Resume(which) => act(which, ChannelAction::Resume),
            Self::Delete(which) => {
                let (common, which) = which.split();
                (common, Control::DeleteChannel { which })
            }
        };
        let value = operate(&common.data_dir.data_dir, command).await?;
        output::show(&common.output, &value)
    }
}

impl Which {
    fn split(self) -> (Common, WhichChannel) {
        let which = WhichChannel { institution: self.institution, environment: self.environment, id: self.id };
        (self.common, which)
    }
}
