//! Operations on institutions, the tenants.

use recado_domain::api_key::{Environment, Grant, RateLimit, Scopes};
use recado_domain::channel::{Actor, NewChannel};
use recado_domain::ids::{ChannelId, InstitutionId};
use recado_domain::institution::Institution;
use recado_domain::phone::DefaultCountry;
use recado_domain::text;

use super::api_keys::NewKey;
use crate::gateway::Gateway;
use recado_domain::error::AppError;

/// A new institution. Its keys are shown only once.
pub struct CreatedInstitution {
    pub id: InstitutionId,
    pub test_key: String,
    pub live_key: String,
    pub sandbox_channel: ChannelId,
}

/// Creates an institution with a key for each environment and its sandbox channel.
pub async fn create(
    gateway: &Gateway,
    name: &str,
    rate_limit: RateLimit,
    default_country: DefaultCountry,
) -> Result<CreatedInstitution, AppError> {
    let name = name.trim();
    if name.is_empty() || text::check_name(name, 100).is_err() {
        return Err(AppError::field("name", "O nome da instituicao deve ter de 1 a 100 caracteres."));
    }
    let id = gateway.new_ids().institution();
    let now = gateway.clock.now();
    let institution = Institution { id, name: name.to_owned(), default_country, created_at: now };
    // The calls below acquire this lock too.
    {
        let _one_at_a_time = gateway.changes.lock().await;
        gateway.store.create_institution(institution).await?;
    }
    let key = async |environment: Environment| {
        let grant = Grant { environment, scopes: Scopes::all(), rate_limit, expires_at: None };
        let new = NewKey { name: format!("{} key", environment.name()), grant, parent: None };
        super::api_keys::create(gateway, id, new).await.map(|(_, secret)| secret.reveal().to_owned())
    };
    let (test_key, live_key) = (key(Environment::Test).await?, key(Environment::Live).await?);
    let channel = NewChannel::sandbox(id, Actor::Operator, now);
    let sandbox_channel = channel.id.clone();
    super::channels::add(gateway, channel).await?;
    Ok(CreatedInstitution { id, test_key, live_key, sandbox_channel })
}

/// Sets the default country of an institution. It applies from the next call on.
pub async fn set_default_country(
    gateway: &Gateway,
    id: InstitutionId,
    country: DefaultCountry,
) -> Result<(), AppError> {
    let _one_at_a_time = gateway.changes.lock().await;
    let found = gateway.store.set_default_country(id, country).await?;
    if found { Ok(()) } else { Err(AppError::InstitutionNotFound) }
}
