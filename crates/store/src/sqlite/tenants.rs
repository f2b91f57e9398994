//! Institutions and API keys.

use async_trait::async_trait;
use recado_domain::api_key::{Environment, Grant, Scope};
use recado_domain::clock::Millis;
use recado_domain::ids::{ApiKeyId, InstitutionId};
use recado_domain::institution::{ApiKey, Institution};
use recado_domain::phone::DefaultCountry;
use rusqlite::{Connection, Row, params};

use super::{SqliteStore, Writing, not_understood};
use crate::commits::Change;
use crate::{Result, Tenants};

#[async_trait]
impl Tenants for SqliteStore {
    async fn institutions(&self) -> Result<Vec<Institution>> {
        self.readers.read(institutions).await
    }

    async fn create_institution(&self, institution: Institution) -> Result<()> {
        self.write(move |writing| create_institution(writing, &institution)).await
    }

    async fn set_default_country(&self, id: InstitutionId, country: DefaultCountry) -> Result<bool> {
        self.write(move |writing| set_default_country(writing, id, country)).await
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>> {
        self.readers.read(api_keys).await
    }

    async fn create_api_key(&self, key: ApiKey) -> Result<()> {
        self.write(move |writing| create_api_key(writing, &key)).await
    }

    async fn revoke_api_key(&self, id: ApiKeyId, now: Millis) -> Result<()> {
        self.write(move |writing| revoke_api_key(writing, id, now)).await
    }

    async fn touch_api_keys(&self, used: Vec<(ApiKeyId, Millis)>) -> Result<()> {
        self.write(move |writing| touch_api_keys(writing, &used)).await
    }
}

pub(super) fn institutions(connection: &Connection) -> rusqlite::Result<Vec<Institution>> {
    let sql = "select id, name, created_at, default_country from institutions order by created_at, id";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| {
        Ok(Institution {
            id: InstitutionId::from_bytes(row.get(0)?),
            name: row.get(1)?,
            created_at: row.get(2)?,
            default_country: DefaultCountry::of_stored(row.get::<_, Option<String>>(3)?.as_deref()),
        })
    })?;
    rows.collect()
}

pub(super) fn create_institution(writing: &mut Writing, institution: &Institution) -> rusqlite::Result<()> {
    writing.connection.execute(
        "insert into institutions (id, name, created_at, default_country) values (?1, ?2, ?3, ?4)",
        params![
            institution.id.as_bytes(),
            institution.name,
            institution.created_at,
            institution.default_country.stored(),
        ],
    )?;
    writing.tell(Change::DefaultCountry(institution.id, institution.default_country));
    Ok(())
}

pub(super) fn set_default_country(
    writing: &mut Writing,
    id: InstitutionId,
    country: DefaultCountry,
) -> rusqlite::Result<bool> {
    let sql = "update institutions set default_country = ?2 where id = ?1";
    let found = writing.connection.execute(sql, params![id.as_bytes(), country.stored()])? > 0;
    if found {
        writing.tell(Change::DefaultCountry(id, country));
    }
    Ok(found)
}

pub(super) fn api_keys(connection: &Connection) -> rusqlite::Result<Vec<ApiKey>> {
    let mut statement = connection.prepare_cached(
        "select id, institution_id, environment, name, hash, prefix, scopes, rate_limit, expires_at, created_at,
                last_used_at, revoked_at, parent
         from api_keys order by created_at, id",
    )?;
    statement.query_map([], api_key)?.collect()
}

fn api_key(row: &Row<'_>) -> rusqlite::Result<ApiKey> {
    let scopes: String = row.get(6)?;
    let grant = Grant {
        environment: environment(&row.get::<_, String>(2)?)?,
        // A scope of a newer version grants nothing here.
        scopes: scopes.split(' ').filter_map(Scope::from_name).collect(),
        rate_limit: row.get(7)?,
        expires_at: row.get(8)?,
    };
    Ok(ApiKey {
        id: ApiKeyId::from_bytes(row.get(0)?),
        institution: InstitutionId::from_bytes(row.get(1)?),
        name: row.get(3)?,
        hash: row.get(4)?,
        prefix: row.get(5)?,
        grant,
        parent: row.get::<_, Option<_>>(12)?.map(ApiKeyId::from_bytes),
        created_at: row.get(9)?,
        last_used_at: row.get(10)?,
        revoked_at: row.get(11)?,
    })
}

/// Reads an environment's name.
pub(super) fn environment(name: &str) -> rusqlite::Result<Environment> {
    Environment::from_name(name).ok_or_else(|| not_understood("environment"))
}

pub(super) fn create_api_key(writing: &mut Writing, key: &ApiKey) -> rusqlite::Result<()> {
    writing.connection.execute(
        "insert into api_keys (id, institution_id, environment, name, hash, prefix, scopes, rate_limit, expires_at,
                               created_at, parent)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            key.id.as_bytes(),
            key.institution.as_bytes(),
            key.grant.environment.name(),
            key.name,
            key.hash,
            key.prefix,
            key.grant.scopes.names().join(" "),
            key.grant.rate_limit,
            key.grant.expires_at,
            key.created_at,
            key.parent.as_ref().map(ApiKeyId::as_bytes),
        ],
    )?;
    writing.tell(Change::Key(Box::new(key.clone())));
    Ok(())
}

pub(super) fn revoke_api_key(writing: &mut Writing, id: ApiKeyId, now: Millis) -> rusqlite::Result<()> {
    writing.connection.execute(
        "with recursive ended (id) as (
             select ?1 union select k.id from api_keys k join ended on k.parent = ended.id
         )
         update api_keys set revoked_at = ?2 where id in (select id from ended) and revoked_at is null",
        params![id.as_bytes(), now],
    )?;
    writing.tell(Change::Revoked(id));
    Ok(())
}

pub(super) fn touch_api_keys(writing: &mut Writing, used: &[(ApiKeyId, Millis)]) -> rusqlite::Result<()> {
    let mut statement = writing.connection.prepare_cached("update api_keys set last_used_at = ?2 where id = ?1")?;
    for (id, at) in used {
        statement.execute(params![id.as_bytes(), at])?;
    }
    Ok(())
}
