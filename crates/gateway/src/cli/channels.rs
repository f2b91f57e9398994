//! `recado channels`.

use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};
use recado_domain::api_key::Environment;
use recado_domain::channel::{ChannelAction, ChannelType, UnknownPolicy};

use super::{Common, operate, output, parse_environment};
use crate::control::{Command as Control, WhichChannel};
use crate::operations::channels::ChannelChange;

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
    /// Change a channel's name or settings; what is not named stays as it is
    Update {
        #[command(flatten)]
        which: Which,
        /// Its name, for people
        #[arg(long)]
        name: Option<String>,
        /// Messages that may be on their way at once (WHATSAPP_WABA)
        #[arg(long, value_name = "N")]
        pipeline: Option<u32>,
        /// What becomes of a message whose answer was lost: leave it UNKNOWN, or resend it, perhaps twice (WHATSAPP_WABA)
        #[arg(long, value_name = "WHAT", value_parser = parse_policy)]
        unknown_policy: Option<UnknownPolicy>,
        /// How long the network's word is waited for before a message is sent again (WHATSAPP_WABA)
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        unknown_wait: Option<Duration>,
    },
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
            Self::Update { which, name, pipeline, unknown_policy, unknown_wait } => {
                let (common, which) = which.split();
                let seconds = unknown_wait.map(|wait| u32::try_from(wait.as_secs()).unwrap_or(u32::MAX));
                let change = ChannelChange { name, pipeline, unknown_policy, unknown_wait_seconds: seconds };
                (common, Control::UpdateChannel { which, change })
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

fn parse_policy(name: &str) -> Result<UnknownPolicy, &'static str> {
    UnknownPolicy::from_name(name).ok_or("leave or resend")
}

impl Which {
    fn split(self) -> (Common, WhichChannel) {
        let which = WhichChannel { institution: self.institution, environment: self.environment, id: self.id };
        (self.common, which)
    }
}
