//! A key as the API shows it, without its secret.

use recado_domain::api_key::Environment;
use recado_domain::clock::Millis;
use recado_domain::institution::ApiKey;
use recado_store::clock::rfc3339;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::openapi::schemas::{Environments, ScopeNames, Time, Uuid};

/// A key's properties.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ApiKey")]
pub struct ApiKeyView {
    #[schemars(with = "Uuid")]
    id: String,
    name: String,
    /// The part of the key that may be shown.
    prefix: String,
    #[schemars(with = "Environments")]
    environment: Environment,
    #[schemars(with = "Vec<ScopeNames>")]
    permissions: Vec<&'static str>,
    /// Calls a minute; `null` is unlimited.
    rate_limit: Option<u32>,
    #[schemars(with = "Option<Time>")]
    expires_at: Option<String>,
    #[schemars(with = "Time")]
    created_at: String,
    #[schemars(with = "Option<Time>")]
    last_used_at: Option<String>,
}

impl ApiKeyView {
    /// The view of a key that was last used at this time.
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

/// An example of a key for the OpenAPI document.
pub fn example() -> Value {
    json!({
        "id": "01a2085f-bdc7-7d74-9b4c-13124b5db9c5",
        "name": "crm",
        "prefix": "oapi_sk_test_Wcsz",
        "environment": "test",
        "permissions": ["messages.send"],
        "rateLimit": 60,
        "expiresAt": null,
        "createdAt": "2026-11-23T12:27:01.959Z",
        "lastUsedAt": null,
    })
}
