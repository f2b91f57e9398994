//! Institutions and API keys.

use recado_domain::api_key::{Environment, Grant, Scope};
use recado_domain::clock::Millis;
use recado_domain::ids::{ApiKeyId, InstitutionId};
use recado_domain::institution::{ApiKey, Institution};
use recado_domain::phone::DefaultCountry;

use super::{Stamp, Transaction};
use crate::commits::Change;
use crate::sqlkit::both::{Executor, Read, Row, Unreadable, values};

pub(crate) async fn institutions<E: Executor>(db: &E) -> Result<Vec<Institution>, E::Error> {
    let sql = "SELECT id, name, created_at, default_country FROM institutions ORDER BY created_at, id";
    let institution = |row: &Row<'_>| {
        Ok(Institution {
            id: InstitutionId::from_bytes(row.bytes("id")?),
            name: row.get("name")?,
            created_at: row.get("created_at")?,
            default_country: DefaultCountry::of_stored(row.get::<Option<String>>("default_country")?.as_deref()),
        })
    };
    db.rows(sql, values![], institution).await
}

pub(crate) async fn create_institution<T: Transaction>(tx: &mut T, institution: &Institution) -> Result<(), T::Error> {
    let Stamp { with, column, value, .. } = T::STAMP;
    let sql = format!(
        "WITH {with} INSERT INTO institutions (id, name, created_at, default_country{column})
         VALUES (?1, ?2, ?3, ?4{value})"
    );
    let Institution { id, name, default_country, created_at } = institution;
    let (id, default_country) = (*id, *default_country);
    tx.db().run(&sql, values![&id.as_bytes()[..], name.as_str(), *created_at, default_country.stored()]).await?;
    tx.notify(Change::DefaultCountry(id, default_country));
    Ok(())
}

pub(crate) async fn set_default_country<T: Transaction>(
    tx: &mut T,
    id: InstitutionId,
    country: DefaultCountry,
) -> Result<bool, T::Error> {
    let Stamp { with, set, .. } = T::STAMP;
    let sql = format!("WITH {with} UPDATE institutions SET default_country = ?2{set} WHERE id = ?1");
    let found = tx.db().run(&sql, values![&id.as_bytes()[..], country.stored()]).await? > 0;
    if found {
        tx.notify(Change::DefaultCountry(id, country));
    }
    Ok(found)
}

/// The columns of a key.
pub(crate) const API_KEY: &str =
    "SELECT id, institution_id, environment, name, hash, prefix, scopes, rate_limit, expires_at, created_at, last_used_at,
            revoked_at, parent
     FROM api_keys";

pub(crate) async fn api_keys<E: Executor>(db: &E) -> Result<Vec<ApiKey>, E::Error> {
    db.rows(&format!("{API_KEY} ORDER BY created_at, id"), values![], api_key).await
}

pub(crate) fn api_key(row: &Row<'_>) -> Read<ApiKey> {
    let limit: Option<i64> = row.get("rate_limit")?;
    let parent: Option<Vec<u8>> = row.get("parent")?;
    let scopes: String = row.get("scopes")?;
    Ok(ApiKey {
        id: ApiKeyId::from_bytes(row.bytes("id")?),
        institution: InstitutionId::from_bytes(row.bytes("institution_id")?),
        name: row.get("name")?,
        hash: row.bytes("hash")?,
        prefix: row.get("prefix")?,
        grant: Grant {
            environment: row.named("environment", Environment::from_name)?,
            // A scope of a newer version grants nothing here.
            scopes: scopes.split(' ').filter_map(Scope::from_name).collect(),
            rate_limit: limit.map(u32::try_from).transpose().map_err(|_| Unreadable::Unknown("rate limit"))?,
            expires_at: row.get("expires_at")?,
        },
        parent: parent.map(|_| row.bytes("parent")).transpose()?.map(ApiKeyId::from_bytes),
        created_at: row.get("created_at")?,
        last_used_at: row.get("last_used_at")?,
        revoked_at: row.get("revoked_at")?,
    })
}

pub(crate) async fn create_api_key<T: Transaction>(tx: &mut T, key: &ApiKey) -> Result<(), T::Error> {
    let Stamp { with, column, value, .. } = T::STAMP;
    let sql = format!(
        "WITH {with}
         INSERT INTO api_keys (id, institution_id, environment, name, hash, prefix, scopes, rate_limit, expires_at,
                               created_at, parent{column})
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11{value})"
    );
    let (id, institution) = (&key.id.as_bytes()[..], &key.institution.as_bytes()[..]);
    let (environment, scopes) = (key.grant.environment.name(), key.grant.scopes.names().join(" "));
    let (hash, limit, expires_at) = (&key.hash[..], key.grant.rate_limit.map(i64::from), key.grant.expires_at);
    let parent = key.parent.as_ref().map(|parent| &parent.as_bytes()[..]);
    let (name, prefix, at) = (&*key.name, &*key.prefix, key.created_at);
    let new = values![id, institution, environment, name, hash, prefix, scopes, limit, expires_at, at, parent];
    tx.db().run(&sql, new).await?;
    tx.notify(Change::Key(Box::new(key.clone())));
    Ok(())
}

/// Revokes a key, and the keys that were made with it.
pub(crate) async fn revoke_api_key<T: Transaction>(tx: &mut T, id: ApiKeyId, now: Millis) -> Result<(), T::Error> {
    let Stamp { with, set, .. } = T::STAMP;
    // The version is incremented even if no key is revoked: a skipped number is harmless.
    let sql = format!(
        "WITH RECURSIVE {with}, ended (id) AS (
             SELECT ?1 UNION SELECT k.id FROM api_keys k JOIN ended ON k.parent = ended.id
         )
         UPDATE api_keys SET revoked_at = ?2{set} WHERE id IN (SELECT id FROM ended) AND revoked_at IS NULL"
    );
    tx.db().run(&sql, values![&id.as_bytes()[..], now]).await?;
    tx.notify(Change::Revoked(id));
    Ok(())
}
