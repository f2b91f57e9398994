//! Operations on API keys: create and revoke.

use std::borrow::Cow;
use std::sync::Arc;

use recado_domain::api_key::{Grant, SecretKey};
use recado_domain::clock::secret;
use recado_domain::ids::{ApiKeyId, InstitutionId};
use recado_domain::institution::ApiKey;
use recado_domain::text::{self, NameFault};
use recado_store::shares::of_server;

use crate::directory::KeyEntry;
use crate::gateway::Gateway;
use recado_domain::error::AppError;

/// A key to create.
pub struct NewKey {
    pub name: String,
    pub grant: Grant,
    /// The key that creates it; `None` for the operator.
    pub parent: Option<ApiKeyId>,
}

/// The fewest code points of a name.
const NAME_LEAST: usize = 3;
/// The most code points of a name.
pub const NAME_LIMIT: usize = 100;
/// The most keys of an institution in an environment that are neither revoked nor expired.
pub const KEYS_LIMIT: usize = 500;
/// The error of an invalid name.
const BAD_NAME: &str = "O nome da chave deve ter de 3 a 100 caracteres.";

/// The error of a name with characters that break a line, or with none that is visible.
const BAD_CHARACTERS: &str = "O nome da chave contem caracteres invalidos.";

/// Parses a key's name: 3 to 100 characters, at least one visible, and none that breaks a line.
///
/// # Errors
///
/// What is wrong with the name.
pub fn parse_name(name: &str) -> Result<String, Cow<'static, str>> {
    let name = name.trim();
    match text::check_name(name, NAME_LIMIT) {
        Ok(()) if name.chars().count() >= NAME_LEAST => Ok(name.to_owned()),
        Err(NameFault::Characters) if name.chars().count() >= NAME_LEAST => Err(BAD_CHARACTERS.into()),
        Ok(()) | Err(_) => Err(BAD_NAME.into()),
    }
}

/// Creates a key. The secret is not stored: a caller who loses it creates another key.
pub async fn create(
    gateway: &Gateway,
    institution: InstitutionId,
    new: NewKey,
) -> Result<(ApiKey, SecretKey), AppError> {
    let secret = loop {
        // 64 bytes almost always contain enough usable ones; otherwise others are drawn.
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
    // Another node may have created keys.
    gateway.nodes.refresh().await?;
    let _one_at_a_time = gateway.changes.lock().await;
    let valid = gateway.directory.keys(institution, key.grant.environment);
    if valid.iter().filter(|entry| entry.is_valid(key.created_at)).count() >= KEYS_LIMIT {
        return Err(AppError::TooManyKeys);
    }
    // Calls of all owners wait for this lock.
    of_server(gateway.store.create_api_key(key.clone())).await?;
    Ok((key, secret))
}

/// Revokes a key and its descendants: their next call is refused.
pub async fn revoke(gateway: &Gateway, entry: &Arc<KeyEntry>) -> Result<(), AppError> {
    let _one_at_a_time = gateway.changes.lock().await;
    Ok(of_server(gateway.store.revoke_api_key(entry.key.id, gateway.clock.now())).await?)
}
