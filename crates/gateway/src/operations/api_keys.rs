//! API keys: made, shown once, revoked.

use std::sync::Arc;

use recado_domain::api_key::{Grant, SecretKey};
use recado_domain::clock::secret;
use recado_domain::ids::{ApiKeyId, InstitutionId};
use recado_domain::institution::ApiKey;
use recado_domain::text;

use crate::directory::KeyEntry;
use crate::gateway::Gateway;
use recado_domain::error::AppError;

/// A key to be made.
pub struct NewKey {
    pub name: String,
    pub grant: Grant,
    /// The key that asks for it; none where the operator does.
    pub parent: Option<ApiKeyId>,
}

/// Most code points in a name.
pub const NAME_LIMIT: usize = 100;
/// Most keys of an institution in an environment that are neither revoked nor expired.
pub const KEYS_LIMIT: usize = 500;
/// What is said of a name that is none.
pub const BAD_NAME: &str = "O nome da chave deve ter de 3 a 100 caracteres.";

/// A key's name: 3 to 100 characters, one that shows, none that breaks a line.
pub fn parse_name(name: &str) -> Option<String> {
    let name = name.trim();
    (name.chars().count() >= 3 && text::check_name(name, NAME_LIMIT).is_ok()).then(|| name.to_owned())
}

/// Makes a key. The secret is not kept: whoever loses it makes another.
pub async fn create(
    gateway: &Gateway,
    institution: InstitutionId,
    new: NewKey,
) -> Result<(ApiKey, SecretKey), AppError> {
    let secret = loop {
        // Too few usable bytes among 64 happens about never; then others are drawn.
        if let Some(secret) = SecretKey::new(new.grant.environment, &secret::<64>(&*gateway.entropy)) {
            break secret;
        }
    };
    let key = ApiKey {
        id: gateway.new_ids().api_key(),
        institution,
        name: new.name,
        hash: secret.hash(),
        prefix: secret.visible_prefix().to_owned(),
        grant: new.grant,
        parent: new.parent,
        created_at: gateway.clock.now(),
        last_used_at: None,
        revoked_at: None,
    };
    // Another node may have made some.
    gateway.nodes.refresh().await?;
    let _one_at_a_time = gateway.changes.lock().await;
    let valid = gateway.directory.keys(institution, key.grant.environment);
    if valid.iter().filter(|entry| entry.is_valid(key.created_at)).count() >= KEYS_LIMIT {
        return Err(AppError::TooManyKeys);
    }
    gateway.store.create_api_key(key.clone()).await?;
    Ok((key, secret))
}

/// Revokes a key and those that were made with it: their next call is refused.
pub async fn revoke(gateway: &Gateway, entry: &Arc<KeyEntry>) -> Result<(), AppError> {
    let _one_at_a_time = gateway.changes.lock().await;
    Ok(gateway.store.revoke_api_key(entry.key.id, gateway.clock.now()).await?)
}
