//! `recado channels`.

mod changes;
mod given;

use anyhow::{Context, Result, anyhow, ensure};
use clap::{Args, Subcommand};
use recado_domain::api_key::Environment;
use recado_domain::channel::{ChannelAction, ChannelType};
use recado_gateway::control::{Command as Control, WhichChannel};

use self::changes::Changes;
use self::given::Given;
use crate::{Common, operate, output, parse_environment};

#[derive(Debug, Args)]
pub struct Which {
    /// The channel's id
    id: String,
    /// Environment of the channel; needed if both environments have a channel with this id
    #[arg(long, value_parser = parse_environment)]
    environment: Option<Environment>,
    /// Institution of the channel; needed if there is more than one
    #[arg(long, value_name = "ID")]
    institution: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a channel
    Create {
        /// Its name, for people
        #[arg(long)]
        name: String,
        /// SANDBOX, WHATSAPP_WABA or WHATSAPP_BAILEYS
        #[arg(long = "type", value_name = "TYPE")]
        kind: String,
        /// Its id: letters, digits, _ and -; generated if omitted
        #[arg(long)]
        id: Option<String>,
        /// Institution of the channel; needed if there is more than one
        #[arg(long, value_name = "ID")]
        institution: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// List the channels
    List {
        /// Institution of the channels; if omitted, those of all are listed
        #[arg(long, value_name = "ID")]
        institution: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Show a channel
    Show(Which),
    /// Change a channel's name or settings; omitted settings do not change
    Update {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        changes: Changes,
    },
    /// Connect a channel. A channel of type WHATSAPP_WABA is linked by these flags the first time, and by its stored link
    /// afterwards. For a channel of type WHATSAPP_BAILEYS a QR code is drawn, to be scanned with the phone
    Connect {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        given: Given,
    },
    /// Disconnect a channel; waiting messages are held
    Disconnect(Which),
    /// Hold the waiting messages of a channel
    Pause(Which),
    /// End a pause
    Resume(Which),
    /// Delete a channel: queued messages are cancelled, the history stays readable
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
                let known = known.ok_or_else(|| anyhow!("a channel is of type {}", ChannelType::names("or")))?;
                let environment = known.descriptor().environment;
                (common, Control::CreateChannel { institution, environment, name, kind, id })
            }
            Self::List { institution, common } => (common, Control::ListChannels { institution }),
            Self::Show(which) => {
                let (common, which) = which.split();
                (common, Control::ShowChannel { which })
            }
            Self::Update { which, changes } => {
                let (common, which) = which.split();
                let change = changes.0;
                ensure!(!change.is_empty(), "nothing to change; `recado channels update --help` lists the settings");
                (common, Control::UpdateChannel { which, change })
            }
            Self::Connect { which, given } => {
                let (common, which) = which.split();
                let show = Control::ShowChannel { which: which.clone() };
                let channel = operate(&common.data_dir.data_dir, show).await?;
                let kind = channel["type"].as_str().and_then(ChannelType::from_name);
                let kind = kind.context("the server knows a type of channels that this command does not know")?;
                let given = given.credentials(kind)?;
                if kind.descriptor().holds_session {
                    return crate::pairing::connect(&common, which, given).await;
                }
                (common, Control::ConnectChannel { which, given })
            }
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
