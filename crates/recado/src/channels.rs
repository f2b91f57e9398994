//! `recado channels`.

mod changes;

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, ensure};
use clap::{Args, Subcommand};
use recado_domain::api_key::Environment;
use recado_domain::channel::{ChannelAction, ChannelType};
use recado_domain::text::without_mark;
use recado_gateway::control::{Command as Control, Credentials, WhichChannel};

use self::changes::Changes;
use crate::{Common, operate, output, parse_environment};

#[derive(Debug, Args)]
pub struct Which {
    /// The channel's id
    id: String,
    /// Where it is; needed when both environments have a channel of this id
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
        /// Institution of the channel; needed if there is more than one
        #[arg(long, value_name = "ID")]
        institution: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// List the channels
    List {
        /// Institution of the channels; needed if there is more than one
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
        #[command(flatten)]
        changes: Changes,
    },
    /// Bring a channel's line up. A channel of type WHATSAPP_WABA is linked by these flags the first time, and by its link
    /// afterwards. For one of type WHATSAPP_BAILEYS a QR code is drawn, to be scanned with the phone
    Connect {
        #[command(flatten)]
        which: Which,
        /// Meta's id of the number
        #[arg(long, value_name = "ID")]
        phone_number_id: Option<String>,
        /// Meta's id of the WhatsApp business account
        #[arg(long, value_name = "ID")]
        business_account_id: Option<String>,
        /// File with a permanent token of the Graph API; the variable `RECADO_ACCESS_TOKEN` holds the token itself
        #[arg(long, value_name = "FILE")]
        access_token_file: Option<PathBuf>,
        /// File with the token that Meta sends to verify the callback address; or `RECADO_VERIFY_TOKEN`
        #[arg(long, value_name = "FILE")]
        verify_token_file: Option<PathBuf>,
        /// File with the secret of Meta's app, without which there are no receipts; or `RECADO_APP_SECRET`
        #[arg(long, value_name = "FILE")]
        app_secret_file: Option<PathBuf>,
        /// Link by a code to type on the phone of this number, in place of a QR code (WHATSAPP_BAILEYS)
        #[arg(long, value_name = "NUMBER")]
        phone: Option<String>,
    },
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
                ensure!(!change.is_empty(), "say what to change; `recado channels update --help` tells what there is");
                (common, Control::UpdateChannel { which, change })
            }
            Self::Connect {
                which,
                phone_number_id,
                business_account_id,
                access_token_file,
                verify_token_file,
                app_secret_file,
                phone,
            } => {
                let (common, which) = which.split();
                let fields = [
                    phone_number_id,
                    business_account_id,
                    secret(access_token_file, "RECADO_ACCESS_TOKEN")?,
                    secret(verify_token_file, "RECADO_VERIFY_TOKEN")?,
                    secret(app_secret_file, "RECADO_APP_SECRET")?,
                ];
                let credentials = fields.iter().any(Option::is_some).then_some(Credentials(fields));
                let show = Control::ShowChannel { which: which.clone() };
                let channel = operate(&common.data_dir.data_dir, show).await?;
                if channel["type"] == ChannelType::WhatsAppWeb.name() && credentials.is_none() {
                    return crate::pairing::connect(&common, which, phone).await;
                }
                (common, Control::ConnectChannel { which, credentials, phone })
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

/// A secret from its file, or from the variable. There are no flags for secrets: every user of a machine can read a command
/// line.
fn secret(file: Option<PathBuf>, variable: &str) -> Result<Option<String>> {
    match file {
        Some(path) => {
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let text = without_mark(&text);
            // Taken for none, it would link the channel without it, and say nothing.
            ensure!(!text.trim().is_empty(), "{} is empty", path.display());
            Ok(Some(text.trim().to_owned()))
        }
        None => Ok(std::env::var(variable).ok()),
    }
}

impl Which {
    fn split(self) -> (Common, WhichChannel) {
        let which = WhichChannel { institution: self.institution, environment: self.environment, id: self.id };
        (self.common, which)
    }
}
