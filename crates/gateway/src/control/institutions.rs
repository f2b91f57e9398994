//! Commands on institutions, and which institution a command is about.

use recado_domain::api_key::RateLimit;
use recado_domain::ids::InstitutionId;
use recado_domain::institution::Institution;
use recado_domain::phone::DefaultCountry;
use recado_store::clock::rfc3339;
use serde_json::{Value, json};

use crate::api::error::ApiError;
use crate::gateway::Gateway;
use crate::operations::institutions;

pub(super) async fn create(
    gateway: &Gateway,
    name: &str,
    rate_limit: RateLimit,
    default_country: DefaultCountry,
) -> Result<Value, ApiError> {
    let made = institutions::create(gateway, name, rate_limit, default_country).await?;
    Ok(json!({
        "id": made.id, "testKey": made.test_key, "liveKey": made.live_key, "sandboxChannel": made.sandbox_channel,
    }))
}

pub(super) async fn update(
    gateway: &Gateway,
    named: Option<&str>,
    default_country: DefaultCountry,
) -> Result<Value, ApiError> {
    let found = find(gateway, named).await?;
    institutions::set_default_country(gateway, found.id, default_country).await?;
    Ok(view(&Institution { default_country, ..found }))
}

pub(super) async fn list(gateway: &Gateway) -> Result<Value, ApiError> {
    Ok(gateway.store.institutions().await?.iter().map(view).collect())
}

fn view(one: &Institution) -> Value {
    json!({
        "id": one.id, "name": one.name, "defaultCountry": one.default_country, "createdAt": rfc3339(one.created_at),
    })
}

/// The named institution, or the only one.
pub(super) async fn find(gateway: &Gateway, named: Option<&str>) -> Result<Institution, ApiError> {
    let mut all = gateway.store.institutions().await?;
    match named {
        Some(id) => {
            all.into_iter().find(|institution| institution.id.to_string() == id).ok_or(ApiError::InstitutionNotFound)
        }
        None if all.len() > 1 => Err(ApiError::field(
            "institution",
            "there is more than one: name it with --institution (`recado institutions list` shows their ids)",
        )),
        None => all.pop().ok_or(ApiError::InstitutionNotFound),
    }
}

/// The id of the named institution, or of the only one.
pub(super) async fn find_id(gateway: &Gateway, named: Option<&str>) -> Result<InstitutionId, ApiError> {
    Ok(find(gateway, named).await?.id)
}

/// The named institution, or all.
pub(super) async fn listed(gateway: &Gateway, named: Option<&str>) -> Result<Vec<Institution>, ApiError> {
    match named {
        Some(_) => Ok(vec![find(gateway, named).await?]),
        None => Ok(gateway.store.institutions().await?),
    }
}
