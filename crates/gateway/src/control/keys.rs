//! Commands on API keys.

use recado_domain::api_key::{Environment, Grant, MAX_RATE_LIMIT, RateLimit, Scope, Scopes};
use recado_domain::field_errors::FieldErrors;
use recado_domain::ids::ApiKeyId;
use serde_json::{Value, json};

use super::lists::Lists;
use super::{Command, institutions};
use crate::api::api_keys::{ApiKeyView, parse_time};
use crate::api::error::ApiError;
use crate::gateway::Gateway;
use crate::operations::api_keys;

/// The commands on keys. Others are an error.
pub(super) async fn manage(gateway: &Gateway, command: Command) -> Result<Value, ApiError> {
    match command {
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
        _ => Err(ApiError::Internal),
    }
}

fn new_key(
    gateway: &Gateway,
    name: &str,
    (environment, scopes): (Environment, &[String]),
    rate_limit: RateLimit,
    expires_at: Option<&str>,
) -> Result<api_keys::NewKey, ApiError> {
    let mut errors = FieldErrors::default();
    let name = errors.collect("name", api_keys::parse_name(name));
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
