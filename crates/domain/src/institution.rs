//! A tenant, and its stored keys.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

use crate::api_key::Grant;
use crate::clock::Millis;
use crate::ids::{ApiKeyId, InstitutionId};
use crate::phone::DefaultCountry;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Institution {
    pub id: InstitutionId,
    pub name: String,
    pub default_country: DefaultCountry,
    pub created_at: Millis,
}

/// A stored key, without the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    pub id: ApiKeyId,
    pub institution: InstitutionId,
    pub name: String,
    pub hash: [u8; 32],
    /// The part that may be shown.
    pub prefix: String,
    pub grant: Grant,
    /// The key that created this one; `None` for the operator.
    pub parent: Option<ApiKeyId>,
    pub created_at: Millis,
    pub last_used_at: Option<Millis>,
    pub revoked_at: Option<Millis>,
}
