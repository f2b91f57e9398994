//! A key as the API shows it: never the key itself.

use recado_domain::api_key::Environment;
use serde::Serialize;

use crate::clock::{Millis, rfc3339};
use crate::store::rows::ApiKey;

/// A key's properties.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyView {
    id: String,
    name: String,
    prefix: String,
    environment: Environment,
    permissions: Vec<&'static str>,
    /// Calls a minute; `null` is unlimited.
    rate_limit: Option<u32>,
    expires_at: Option<String>,
    created_at: String,
    last_used_at: Option<String>,
}

impl ApiKeyView {
    /// Shows a key that was last used at that time.
    pub fn new(key: &ApiKey, last_used_at: Option<Millis>) -> Self {
        Self {
            id: key.id.to_string(),
            name: key.name.clone(),
            prefix: key.prefix.clone(),
            environment: key.grant.environment,
            permissions: key.grant.scopes.names(),
            rate_limit: key.grant.rate_limit,
            expires_at: key.grant.expires_at.map(rfc3339),
            created_at: rfc3339(key.created_at),
            last_used_at: last_used_at.map(rfc3339),
        }
    }
}
