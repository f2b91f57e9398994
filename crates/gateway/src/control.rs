//! Commands to a running server: one JSON line each way over a Unix socket in the data directory.
//!
//! The server keeps keys and channels in memory, so nobody may write the store behind its back. A command therefore
//! goes through this socket when a server runs, and takes the data directory's lock itself when none does. Whoever can
//! open the socket (its owner: 0600) may do everything, as with the store's file.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use recado_domain::api_key::{Environment, Grant, MAX_RATE_LIMIT, RateLimit, Scope, Scopes};
use recado_domain::channel::ChannelAction;
use recado_domain::field_errors::FieldErrors;
use recado_domain::ids::{ApiKeyId, InstitutionId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::api::api_keys::{ApiKeyView, parse_time};
use crate::api::channels::ChannelView;
use crate::api::error::ApiError;
use crate::clock::rfc3339;
use crate::directory::ChannelEntry;
use crate::gateway::Gateway;
use crate::operations::channels::ChannelWish;
use crate::operations::{api_keys, channels, institutions};

const SOCKET_FILE: &str = "recado.sock";
/// Most bytes of a command.
const COMMAND_LIMIT: u64 = 64 * 1024;
/// The time a command has to arrive.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// Rows that a listing fetches at once.
const PAGE: usize = 500;

/// What the command line asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    CreateInstitution {
        name: String,
        rate_limit: RateLimit,
    },
    ListInstitutions,
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
    ActOnChannel {
        which: WhichChannel,
        action: ChannelAction,
    },
    DeleteChannel {
        which: WhichChannel,
    },
}

/// A channel on the command line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WhichChannel {
    pub institution: Option<String>,
    pub environment: Option<Environment>,
    pub id: String,
}

/// Carries a command out.
pub async fn execute(gateway: &Gateway, command: Command) -> Result<Value, ApiError> {
    match command {
        Command::CreateInstitution { name, rate_limit } => {
            let made = institutions::found(gateway, &name, rate_limit).await?;
            Ok(json!({
                "id": made.id, "testKey": made.test_key, "liveKey": made.live_key,
                "sandboxChannel": made.sandbox_channel,
            }))
        }
        Command::ListInstitutions => {
            let all = gateway.store.institutions().await?;
            let view = |one: &crate::store::rows::Institution| json!({ "id": one.id, "name": one.name, "createdAt": rfc3339(one.created_at) });
            Ok(all.iter().map(view).collect())
        }
        Command::CreateKey { institution, name, environment, scopes, rate_limit, expires_at } => {
            let institution = find_institution(gateway, institution.as_deref()).await?;
            let new = new_key(gateway, &name, (environment, &scopes), rate_limit, expires_at.as_deref())?;
            let (key, secret) = api_keys::create(gateway, institution, new).await?;
            Ok(json!({ "id": key.id, "key": secret.reveal() }))
        }
        Command::ListKeys { institution } => {
            let institution = find_institution(gateway, institution.as_deref()).await?;
            let keys = [Environment::Test, Environment::Live].map(|kind| gateway.directory.keys(institution, kind));
            let valid = keys.iter().flatten().filter(|entry| !entry.is_revoked());
            as_list(valid.map(|entry| ApiKeyView::new(&entry.key, entry.last_used_at())))
        }
        Command::RevokeKey { institution, id } => {
            let institution = find_institution(gateway, institution.as_deref()).await?;
            let id: ApiKeyId = id.parse().map_err(|_| ApiError::ApiKeyNotFound)?;
            let keys = [Environment::Test, Environment::Live].map(|kind| gateway.directory.keys(institution, kind));
            let entry = keys.iter().flatten().find(|entry| entry.key.id == id && !entry.is_revoked());
            api_keys::revoke(gateway, entry.ok_or(ApiError::ApiKeyNotFound)?).await?;
            Ok(json!({ "id": id, "revoked": true }))
        }
        Command::CreateChannel { institution, environment, name, kind, id } => {
            let institution = find_institution(gateway, institution.as_deref()).await?;
            let wish = ChannelWish { name: Some(name), kind: Some(kind), id };
            let made = channels::create(gateway, institution, environment, wish, FieldErrors::default()).await?;
            as_value(ChannelView::from(made))
        }
        Command::ListChannels { institution } => {
            let institution = find_institution(gateway, institution.as_deref()).await?;
            as_list(all_channels(gateway, institution).await?.into_iter())
        }
        Command::ShowChannel { which } => {
            let entry = find_channel(gateway, &which).await?;
            as_value(ChannelView::from(channels::get(gateway, &entry).await?))
        }
        Command::ActOnChannel { which, action } => {
            let entry = find_channel(gateway, &which).await?;
            as_value(ChannelView::from(channels::act(gateway, &entry, action).await?))
        }
        Command::DeleteChannel { which } => {
            let entry = find_channel(gateway, &which).await?;
            channels::delete(gateway, &entry).await?;
            Ok(json!({ "id": entry.via.id, "deleted": true }))
        }
    }
}

fn as_value(view: impl Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(view).map_err(|_| ApiError::Internal)
}

fn as_list<T: Serialize>(views: impl Iterator<Item = T>) -> Result<Value, ApiError> {
    views.map(as_value).collect::<Result<Vec<_>, _>>().map(Value::from)
}

fn new_key(
    gateway: &Gateway,
    name: &str,
    (environment, scopes): (Environment, &[String]),
    rate_limit: RateLimit,
    expires_at: Option<&str>,
) -> Result<api_keys::NewKey, ApiError> {
    let mut errors = FieldErrors::default();
    let name = errors.take("name", api_keys::parse_name(name).ok_or(api_keys::BAD_NAME.into()));
    let mut known = Vec::new();
    for scope in scopes {
        match Scope::from_name(scope) {
            Some(scope) => known.push(scope),
            None => errors.push("scopes", format!("Escopo desconhecido: {scope}")),
        }
    }
    if scopes.is_empty() {
        errors.push("scopes", "Informe ao menos um escopo.");
    }
    if rate_limit.is_some_and(|limit| !(1..=MAX_RATE_LIMIT).contains(&limit)) {
        errors.push("rate-limit", "O limite deve ser um numero de 1 a 10000, ou unlimited.");
    }
    let now = gateway.clock.now();
    let end = expires_at.map(|text| parse_time(text).filter(|end| *end > now));
    if end == Some(None) {
        errors.push("expires-at", "A expiracao deve ser uma data futura no formato ISO 8601.");
    }
    let (Some(name), true) = (name, errors.is_empty()) else { return Err(errors.into()) };
    let scopes: Scopes = known.into_iter().collect();
    let grant = Grant { environment, scopes, rate_limit, expires_at: end.flatten() };
    Ok(api_keys::NewKey { name, grant })
}

/// The institution that was named, or the only one there is.
async fn find_institution(gateway: &Gateway, named: Option<&str>) -> Result<InstitutionId, ApiError> {
    let all = gateway.store.institutions().await?;
    match (named, &all[..]) {
        (Some(id), _) => {
            let found = all.iter().find(|institution| institution.id.to_string() == id);
            found.map(|institution| institution.id).ok_or(ApiError::InstitutionNotFound)
        }
        (None, [only]) => Ok(only.id),
        (None, []) => Err(ApiError::InstitutionNotFound),
        (None, _) => Err(ApiError::field("institution", "Ha mais de uma instituicao: informe --institution.")),
    }
}

async fn all_channels(gateway: &Gateway, institution: InstitutionId) -> Result<Vec<ChannelView>, ApiError> {
    let mut views = Vec::new();
    for environment in [Environment::Test, Environment::Live] {
        let mut after = 0;
        loop {
            let page = gateway.store.channels_of((institution, environment), after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.key;
            views.extend(page.into_iter().map(ChannelView::from));
        }
    }
    Ok(views)
}

async fn find_channel(gateway: &Gateway, which: &WhichChannel) -> Result<Arc<ChannelEntry>, ApiError> {
    let institution = find_institution(gateway, which.institution.as_deref()).await?;
    let environments = [Environment::Test, Environment::Live].into_iter();
    let wanted = environments.filter(|environment| which.environment.is_none_or(|wanted| wanted == *environment));
    let mut found = wanted.filter_map(|environment| {
        gateway.directory.find(institution, environment, &which.id).filter(|entry| !entry.is_deleted())
    });
    match (found.next(), found.next()) {
        (None, _) => Err(ApiError::ChannelNotFound),
        (Some(entry), None) => Ok(entry),
        (Some(_), Some(_)) => {
            Err(ApiError::field("environment", "Ha um canal com este id em cada ambiente: informe --environment."))
        }
    }
}

/// The answer on the socket.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Done(Value),
    Refused(Value),
}

/// The socket of a data directory; it goes with the server.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Opens the socket. The caller holds the directory's lock, so one that is there is left over from a crash.
    pub fn open(data_dir: &Path) -> Result<Self> {
        let path = data_dir.join(SOCKET_FILE);
        if path.exists() {
            std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        let listener = UnixListener::bind(&path)
            .with_context(|| format!("cannot open {} (a path of over 100 characters is too long)", path.display()))?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Answers commands until the server stops.
    pub async fn serve(self, gateway: Arc<Gateway>) {
        loop {
            let accepted = tokio::select! {
                () = gateway.stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            if let Ok((stream, _)) = accepted {
                let gateway = gateway.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &gateway).await {
                        tracing::warn!(%error, "a command broke off");
                    }
                });
            }
        }
        // A leftover is removed at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn converse(mut stream: UnixStream, gateway: &Gateway) -> Result<()> {
    let (reading, mut writing) = stream.split();
    let mut line = String::new();
    let mut reader = BufReader::new(reading.take(COMMAND_LIMIT));
    tokio::time::timeout(COMMAND_TIMEOUT, reader.read_line(&mut line)).await??;
    let answer = match serde_json::from_str(&line) {
        Ok(command) => match execute(gateway, command).await {
            Ok(value) => Answer::Done(value),
            Err(error) => Answer::Refused(serde_json::to_value(error.body())?),
        },
        Err(error) => Answer::Refused(json!({ "message": format!("not a command of this version: {error}") })),
    };
    writing.write_all(format!("{}\n", serde_json::to_string(&answer)?).as_bytes()).await?;
    Ok(())
}

/// Why a server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens on the socket.
    #[error("no server answers on {0}")]
    NobodyThere(String),
    /// It said no, and why.
    #[error("{0}")]
    Refused(String),
    /// The conversation broke off; what was asked may have been done.
    #[error("the server gave no answer ({0}); is it of another version?")]
    NoAnswer(String),
}

/// Has a running server carry a command out.
pub async fn ask(data_dir: &Path, command: &Command) -> Result<Value, AskError> {
    let path = data_dir.join(SOCKET_FILE);
    let stream = UnixStream::connect(&path).await;
    let mut stream = stream.map_err(|error| AskError::NobodyThere(format!("{}: {error}", path.display())))?;
    match exchange(&mut stream, command).await.map_err(|error| AskError::NoAnswer(error.to_string()))? {
        Answer::Done(value) => Ok(value),
        Answer::Refused(error) => Err(AskError::Refused(explain(&error))),
    }
}

async fn exchange(stream: &mut UnixStream, command: &Command) -> Result<Answer> {
    stream.write_all(format!("{}\n", serde_json::to_string(command)?).as_bytes()).await?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await?;
    Ok(serde_json::from_str(&line)?)
}

/// An error of the API in lines for a person.
pub fn explain(error: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let fields = error["errors"].as_array().into_iter().flatten();
    let fields = fields.map(|one| format!("\n  {}: {}", text(&one["field"]), text(&one["message"])));
    format!("{}{}", text(&error["message"]), fields.collect::<String>())
}
