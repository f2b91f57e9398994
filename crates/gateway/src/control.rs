//! Commands of the operator, for a running server or for the process that holds the data directory's lock.
//!
//! The server has keys and channels in memory, so no other process may write the store meanwhile. A command therefore uses the
//! server's socket if one runs, and else acquires the data directory's lock itself. The mode of the socket (0600) protects it, as
//! that of the store's file does.

mod call;
mod client;
mod english;
mod institutions;
mod socket;
mod status;

use std::fmt;
use std::sync::Arc;

use recado_domain::api_key::{Environment, Grant, MAX_RATE_LIMIT, RateLimit, Scope, Scopes};
use recado_domain::channel::types::FieldText;
use recado_domain::channel::{Actor, ChannelAction, ChannelChange, ChannelType};
use recado_domain::field_errors::{Field, FieldErrors};
use recado_domain::ids::{ApiKeyId, InstitutionId};
use recado_domain::phone::{BAD_PHONE, DefaultCountry, PhoneNumber};
use recado_providers::Given;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use call::{Call, CallScope, Reply};
pub use client::{AskError, Client, Told};
pub use socket::{SOCKET_FILE, Socket};

use recado_store::person::{Erasure, Person, PersonQuery};

use crate::api::Api;
use crate::api::api_keys::{ApiKeyView, parse_time};
use crate::api::channels::ChannelView;
use crate::api::channels::connect::ConnectedView;
use crate::api::channels::pairing::PairingView;
use crate::api::error::ApiError;
use crate::directory::ChannelEntry;
use crate::gateway::Gateway;
use crate::operations::channels::CreateChannel;
use crate::operations::{api_keys, channels, person, secrets};

/// Rows of one page of a listing.
const PAGE: usize = 500;

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
            Command::RotateSecrets => {
                let done = secrets::rotate(&self.gateway).await?;
                Ok(rotation(&self.gateway, &done))
            }
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
        Command::CreateKey { institution, name, environment, scopes, rate_limit, expires_at } => {
            let institution = institutions::find_id(gateway, institution.as_deref()).await?;
            let new = new_key(gateway, &name, (environment, &scopes), rate_limit, expires_at.as_deref())?;
            let (key, secret) = api_keys::create(gateway, institution, new).await?;
            Ok(json!({ "id": key.id, "key": secret.reveal() }))
        }
        Command::ListKeys { institution } => {
            let mut lists = Lists::default();
            for one in institutions::listed(gateway, institution.as_deref()).await? {
                let keys = [Environment::Test, Environment::Live].map(|kind| gateway.directory.keys(one.id, kind));
                let valid = keys.iter().flatten().filter(|entry| !entry.is_revoked());
                lists.add(one.id, valid.map(|entry| ApiKeyView::new(&entry.key, entry.last_used_at())))?;
            }
            Ok(lists.joined())
        }
        Command::RevokeKey { institution, id } => {
            let institution = institutions::find_id(gateway, institution.as_deref()).await?;
            let id: ApiKeyId = id.parse().map_err(|_| ApiError::ApiKeyNotFound)?;
            let keys = [Environment::Test, Environment::Live].map(|kind| gateway.directory.keys(institution, kind));
            let entry = keys.iter().flatten().find(|entry| entry.key.id == id && !entry.is_revoked());
            api_keys::revoke(gateway, entry.ok_or(ApiError::ApiKeyNotFound)?).await?;
            Ok(json!({ "id": id, "revoked": true }))
        }
        command => manage_channels(gateway, command).await,
    }
}

/// Connects a channel with these fields.
async fn connect(gateway: &Gateway, entry: &ChannelEntry, given: &[(String, String)]) -> Result<Value, ApiError> {
    let known = entry.kind.descriptor().connect;
    let mut fields = Vec::new();
    for (name, value) in given {
        let Some(field) = known.iter().find(|field| field.name == name) else {
            return Err(unknown_field(gateway, entry, (name, value)));
        };
        fields.push((field.name, Field::from(value.as_str())));
    }
    let given = Given { fields, ..Given::default() };
    let (channel, pairing) = channels::connect(gateway, entry, given, Actor::Operator).await?;
    as_value(ConnectedView::new(channel, pairing))
}

/// The error of a field that connects channels of another type.
fn unknown_field(gateway: &Gateway, entry: &ChannelEntry, (name, value): (&str, &str)) -> ApiError {
    let mut all = ChannelType::ALL.into_iter().flat_map(|kind| kind.descriptor().connect);
    if !all.any(|field| field.name == name && field.text == FieldText::Phone) {
        return ApiError::field("type", "channels of this type need no credentials");
    }
    let phone = PhoneNumber::parse(value.trim(), gateway.country(entry.via.institution));
    let not_linked = |_| "channels of this type are not linked by a phone";
    ApiError::field("phone", phone.map_or_else(|fault| fault.text(BAD_PHONE), not_linked))
}

async fn manage_channels(gateway: &Gateway, command: Command) -> Result<Value, ApiError> {
    match command {
        Command::CreateChannel { institution, environment, name, kind, id } => {
            let institution = institutions::find_id(gateway, institution.as_deref()).await?;
            let settings = serde_json::Map::new();
            let request = CreateChannel { name: Some(name), kind: Some(kind), id, settings };
            let made =
                channels::create(gateway, institution, environment, request, Actor::Operator, FieldErrors::default())
                    .await?;
            as_value(ChannelView::from(made))
        }
        Command::ListChannels { institution } => {
            let mut lists = Lists::default();
            for one in institutions::listed(gateway, institution.as_deref()).await? {
                lists.add(one.id, all_channels(gateway, one.id).await?.into_iter())?;
            }
            Ok(lists.joined())
        }
        Command::ShowChannel { which } => {
            let entry = find_channel(gateway, &which).await?;
            as_value(ChannelView::from(channels::as_seen(gateway, channels::get(gateway, &entry).await?)))
        }
        Command::ConnectChannel { which, given: Credentials(given) } => {
            let entry = find_channel(gateway, &which).await?;
            connect(gateway, &entry, &given).await
        }
        Command::ShowPairing { which } => {
            let entry = find_channel(gateway, &which).await?;
            let pairing = gateway.drivers.get(entry.kind)?.follow(entry.via.key).borrow().clone();
            as_value(PairingView::from(pairing))
        }
        Command::ActOnChannel { which, action } => {
            let entry = find_channel(gateway, &which).await?;
            as_value(ChannelView::from(channels::act(gateway, &entry, action, Actor::Operator).await?))
        }
        Command::UpdateChannel { which, change } => {
            let entry = find_channel(gateway, &which).await?;
            as_value(ChannelView::from(channels::update(gateway, &entry, change, FieldErrors::default()).await?))
        }
        Command::DeleteChannel { which } => {
            let entry = find_channel(gateway, &which).await?;
            channels::delete(gateway, &entry, Actor::Operator).await?;
            Ok(json!({ "id": entry.via.id, "deleted": true }))
        }
        _ => Err(ApiError::Internal),
    }
}

fn rotation(gateway: &Gateway, done: &secrets::Rotation) -> Value {
    let failed = done.failed.iter().map(|(place, error)| match place {
        secrets::Place::Channel(channel) => {
            let entry = gateway.directory.channel(*channel);
            json!({
                "institutionId": entry.as_ref().map(|entry| entry.via.institution),
                "channelId": entry.as_ref().map(|entry| &entry.via.id),
                "error": error.to_string(),
            })
        }
        secrets::Place::Webhook(webhook) => json!({"webhookId": webhook, "error": error.to_string()}),
    });
    json!({
        "keyId": done.key.to_string(), "sealedAnew": done.reencrypted, "already": done.already,
        "failed": failed.collect::<Vec<_>>(),
    })
}

/// The rows of several institutions.
#[derive(Default)]
struct Lists(Vec<(InstitutionId, Vec<Value>)>);

impl Lists {
    fn add(&mut self, of: InstitutionId, views: impl Iterator<Item = impl Serialize>) -> Result<(), ApiError> {
        self.0.push((of, views.map(as_value).collect::<Result<_, _>>()?));
        Ok(())
    }

    /// One list. If it is of several institutions, each row names its own.
    fn joined(self) -> Value {
        let names = self.0.len() > 1;
        let rows = self.0.into_iter().flat_map(|(of, rows)| rows.into_iter().map(move |row| (of, row)));
        rows.map(|(of, mut row)| {
            if names {
                row["institutionId"] = json!(of);
            }
            row
        })
        .collect()
    }
}

fn as_value(view: impl Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(view).map_err(|_| ApiError::Internal)
}

fn new_key(
    gateway: &Gateway,
    name: &str,
    (environment, scopes): (Environment, &[String]),
    rate_limit: RateLimit,
    expires_at: Option<&str>,
) -> Result<api_keys::NewKey, ApiError> {
    let mut errors = FieldErrors::default();
    let name = errors.collect("name", api_keys::parse_name(name).ok_or(api_keys::BAD_NAME.into()));
    let mut known = Vec::new();
    for scope in scopes {
        match Scope::from_name(scope) {
            Some(scope) => known.push(scope),
            None => errors.push("scopes", format!("unknown scope: {scope}")),
        }
    }
    if scopes.is_empty() {
        errors.push("scopes", "at least one scope is needed");
    }
    if rate_limit.is_some_and(|limit| !(1..=MAX_RATE_LIMIT).contains(&limit)) {
        errors.push("rate-limit", "a number from 1 to 10000, or unlimited");
    }
    let now = gateway.clock.now();
    let end = expires_at.map(|text| parse_time(text).filter(|end| *end > now));
    if end == Some(None) {
        errors.push("expires-at", "a future time in ISO 8601");
    }
    let (Some(name), true) = (name, errors.is_empty()) else { return Err(errors.into()) };
    let scopes: Scopes = known.into_iter().collect();
    let grant = Grant { environment, scopes, rate_limit, expires_at: end.flatten() };
    Ok(api_keys::NewKey { name, grant, parent: None })
}

async fn all_channels(gateway: &Gateway, institution: InstitutionId) -> Result<Vec<ChannelView>, ApiError> {
    let mut views = Vec::new();
    for environment in [Environment::Test, Environment::Live] {
        let mut after = 0;
        loop {
            let page = gateway.store.channels_of((institution, environment), after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.key;
            views.extend(page.into_iter().map(|channel| ChannelView::from(channels::as_seen(gateway, channel))));
        }
    }
    Ok(views)
}

async fn find_channel(gateway: &Gateway, which: &WhichChannel) -> Result<Arc<ChannelEntry>, ApiError> {
    let institution = institutions::find_id(gateway, which.institution.as_deref()).await?;
    let environments = [Environment::Test, Environment::Live].into_iter();
    let wanted = environments.filter(|environment| which.environment.is_none_or(|wanted| wanted == *environment));
    let mut found = wanted.filter_map(|environment| {
        gateway.directory.find(institution, environment, &which.id).filter(|entry| !entry.is_deleted())
    });
    match (found.next(), found.next()) {
        (None, _) => Err(ApiError::ChannelNotFound),
        (Some(entry), None) => Ok(entry),
        (Some(_), Some(_)) => Err(in_both_environments()),
    }
}

fn in_both_environments() -> ApiError {
    ApiError::field("environment", "both environments have a channel with this id: name one with --environment")
}

/// An error of the API as text lines for a person, in English.
pub fn explain(error: &Value) -> String {
    let fields = faults(error).map(|fault| format!("\n  {fault}"));
    let known = error["code"].as_str().and_then(english::text);
    let text = known.or(error["message"].as_str()).unwrap_or_default();
    format!("{text}{}", fields.collect::<String>())
}

/// The invalid fields of an API error, each with its error in English.
pub fn faults(error: &Value) -> impl Iterator<Item = String> {
    let faults = error["errors"].as_array().into_iter().flatten();
    faults.map(|one| {
        let [name, message] = ["field", "message"].map(|part| one[part].as_str().unwrap_or_default());
        format!("{name}: {}", english::field(message))
    })
}

/// The same for programs.
pub fn faults_for_programs(error: &Value) -> Option<Value> {
    let mut faults = error.get("errors")?.clone();
    for one in faults.as_array_mut().into_iter().flatten() {
        one["message"] = one["message"].as_str().map(english::field).into();
    }
    Some(faults)
}
