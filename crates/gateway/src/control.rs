//! Commands of the operator, for a running server or for the process that holds the data directory's lock.
//!
//! The server has keys and channels in memory, so no other process may write the store meanwhile. A command therefore uses the
//! server's socket if one runs, and else acquires the data directory's lock itself. The mode of the socket (0600) protects it, as
//! that of the store's file does.

mod call;
mod channels;
mod client;
mod english;
mod institutions;
mod keys;
mod lists;
mod secrets;
mod socket;
mod status;

use std::fmt;
use std::sync::Arc;

use recado_domain::api_key::{Environment, RateLimit};
use recado_domain::channel::{ChannelAction, ChannelChange};
use recado_domain::ids::InstitutionId;
use recado_domain::phone::DefaultCountry;
use recado_store::person::{Erasure, Person, PersonQuery};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use call::{Call, CallScope, Reply};
pub use client::{AskError, Client, Told};
pub use english::{explain, faults, faults_for_programs};
pub use socket::{SOCKET_FILE, Socket};

use crate::api::Api;
use crate::api::error::ApiError;
use crate::gateway::Gateway;
use crate::operations::person;

/// A command of the command line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    CreateInstitution {
        name: String,
        rate_limit: RateLimit,
        default_country: DefaultCountry,
    },
    ListInstitutions,
    UpdateInstitution {
        institution: Option<String>,
        default_country: DefaultCountry,
    },
    CreateKey {
        institution: Option<String>,
        name: String,
        environment: Environment,
        scopes: Vec<String>,
        rate_limit: RateLimit,
        expires_at: Option<String>,
    },
    ListKeys {
        institution: Option<String>,
    },
    RevokeKey {
        institution: Option<String>,
        id: String,
    },
    CreateChannel {
        institution: Option<String>,
        environment: Environment,
        name: String,
        kind: String,
        id: Option<String>,
    },
    ListChannels {
        institution: Option<String>,
    },
    ShowChannel {
        which: WhichChannel,
    },
    ConnectChannel {
        which: WhichChannel,
        /// The fields that connect the channel; empty: use the stored credentials.
        given: Credentials,
    },
    ShowPairing {
        which: WhichChannel,
    },
    ActOnChannel {
        which: WhichChannel,
        action: ChannelAction,
    },
    UpdateChannel {
        which: WhichChannel,
        change: ChannelChange,
    },
    DeleteChannel {
        which: WhichChannel,
    },
    RotateSecrets,
    Status,
    /// Parses a person's number by the rules of the institution.
    ReadNumber {
        institution: Option<InstitutionId>,
        text: String,
    },
    /// A page of the stored data of a person.
    ShowPerson {
        query: PersonQuery,
    },
    /// A page of a person's messages in the sandbox inbox.
    ShowPersonOnSandbox {
        person: Person,
        after: i64,
    },
    /// Erases a batch of the stored data of a person.
    ErasePerson {
        erasure: Erasure,
    },
    /// Erases a batch of a person's messages in the sandbox inbox.
    ErasePersonOnSandbox {
        person: Person,
        after: i64,
    },
    /// Removes erased data from the logs (WAL) of the store's files.
    ForgetErased,
    /// A call of the API.
    Call(Call),
    /// The scope of a call.
    Resolve {
        whose: CallScope,
    },
}

impl Command {
    /// Whether the command only reads the store.
    pub fn only_reads(&self) -> bool {
        match self {
            Self::ListInstitutions
            | Self::ListKeys { .. }
            | Self::ListChannels { .. }
            | Self::ShowChannel { .. }
            | Self::ReadNumber { .. }
            | Self::ShowPerson { .. }
            | Self::ShowPersonOnSandbox { .. }
            | Self::Resolve { .. } => true,
            Self::Call(call) => call.method == "GET",
            _ => false,
        }
    }
}

/// The fields that connect a channel, by their names on the wire.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Credentials(pub Vec<(String, String)>);

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credentials")
    }
}

/// A channel on the command line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WhichChannel {
    pub institution: Option<String>,
    pub environment: Option<Environment>,
    pub id: String,
}

/// Executes commands.
pub struct CommandHandler {
    gateway: Arc<Gateway>,
    api: Api,
}

impl CommandHandler {
    /// For this gateway.
    pub fn new(gateway: Arc<Gateway>) -> Self {
        Self { api: Api::new(gateway.clone()), gateway }
    }

    /// Executes a command.
    pub async fn execute(&self, command: Command) -> Result<Value, ApiError> {
        match command {
            Command::Call(call) => as_value(call::answer(self, call).await?),
            Command::Resolve { whose } => {
                let (institution, environment) = call::resolve(&self.gateway, &whose).await?;
                Ok(json!({ "institution": institution, "environment": environment.name() }))
            }
            Command::RotateSecrets => secrets::rotate(&self.gateway).await,
            Command::Status => status::show(&self.gateway).await,
            Command::ReadNumber { institution, text } => {
                Ok(person::number(&self.gateway, institution, &text)?.digits().into())
            }
            Command::ShowPerson { query } => Ok(person::page(&self.gateway, query).await?),
            Command::ShowPersonOnSandbox { person, after } => {
                Ok(person::on_sandbox(&self.gateway, person, after).await?)
            }
            Command::ErasePerson { erasure } => Ok(person::erase(&self.gateway, erasure).await?),
            Command::ErasePersonOnSandbox { person, after } => {
                Ok(person::erase_on_sandbox(&self.gateway, person, after).await?)
            }
            Command::ForgetErased => Ok(person::forget_erased(&self.gateway).await?),
            command => manage(&self.gateway, command).await,
        }
    }

    /// Closes the gateway's files.
    pub async fn close(self) {
        self.gateway.close().await;
    }
}

/// The commands that the API does not have, or not for every institution.
async fn manage(gateway: &Gateway, command: Command) -> Result<Value, ApiError> {
    match command {
        Command::CreateInstitution { name, rate_limit, default_country } => {
            institutions::create(gateway, &name, rate_limit, default_country).await
        }
        Command::ListInstitutions => institutions::list(gateway).await,
        Command::UpdateInstitution { institution, default_country } => {
            institutions::update(gateway, institution.as_deref(), default_country).await
        }
        command @ (Command::CreateKey { .. } | Command::ListKeys { .. } | Command::RevokeKey { .. }) => {
            keys::manage(gateway, command).await
        }
        command => channels::manage(gateway, command).await,
    }
}

fn as_value(view: impl Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(view).map_err(|_| ApiError::Internal)
}
