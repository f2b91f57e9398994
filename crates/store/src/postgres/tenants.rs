//! Institutions and API keys.

use std::collections::BTreeMap;

use async_trait::async_trait;
use recado_domain::api_key::{Environment, Grant, Scope};
use recado_domain::clock::Millis;
use recado_domain::ids::{ApiKeyId, InstitutionId};
use recado_domain::institution::{ApiKey, Institution};
use recado_domain::phone::DefaultCountry;
use tokio_postgres::Row;

use super::PgStore;
use crate::commits::Change;
use crate::sqlkit::postgres::db::{Db, Done, args, not_understood, plainly, transaction};
use crate::{Result, Tenants};

#[async_trait]
impl Tenants for PgStore {
    async fn institutions(&self) -> Result<Vec<Institution>> {
        plainly!(self.pool, db => institutions(db))
    }

    async fn create_institution(&self, institution: Institution) -> Result<()> {
        let (id, country) = (institution.id, institution.default_country);
        let created: Result<()> = transaction!(self.pool, db => create_institution(db, &institution).await);
        created.inspect(|()| self.follower.tell(vec![Change::DefaultCountry(id, country)]))
    }

    async fn set_default_country(&self, id: InstitutionId, country: DefaultCountry) -> Result<bool> {
        let found: bool = transaction!(self.pool, db => set_default_country(db, id, country).await)?;
        if found {
            self.follower.tell(vec![Change::DefaultCountry(id, country)]);
        }
        Ok(found)
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>> {
        plainly!(self.pool, db => api_keys(db))
    }

    async fn create_api_key(&self, key: ApiKey) -> Result<()> {
        let created: Result<()> = transaction!(self.pool, db => create_api_key(db, &key).await);
        created.inspect(|()| self.follower.tell(vec![Change::Key(Box::new(key))]))
    }

    async fn revoke_api_key(&self, id: ApiKeyId, now: Millis) -> Result<()> {
        let revoked: Result<()> = transaction!(self.pool, db => revoke_api_key(db, id, now).await);
        revoked.inspect(|()| self.follower.tell(vec![Change::Revoked(id)]))
    }

    async fn touch_api_keys(&self, used: Vec<(ApiKeyId, Millis)>) -> Result<()> {
        plainly!(self.pool, db => touch_api_keys(db, &used))
    }
}

pub(super) async fn institutions(db: Db<'_>) -> Done<Vec<Institution>> {
    let sql = "select id, name, created_at, default_country from institutions order by created_at, id";
    let institution = |row: &Row| {
        Ok(Institution {
            id: InstitutionId::from_bytes(bytes(row, 0)?),
            name: row.get(1),
            created_at: row.get(2),
            default_country: DefaultCountry::of_stored(row.get(3)),
        })
    };
    db.rows(sql, &[]).await?.iter().map(institution).collect()
}

/// The default countries that were set behind this version of the directory.
pub(super) async fn default_countries_since(db: Db<'_>, version: i64) -> Done<Vec<(InstitutionId, DefaultCountry)>> {
    let sql = "select id, default_country from institutions where version > $1";
    let country = |row: &Row| Ok((InstitutionId::from_bytes(bytes(row, 0)?), DefaultCountry::of_stored(row.get(1))));
    db.rows(sql, args![version]).await?.iter().map(country).collect()
}

pub(super) async fn create_institution(db: Db<'_>, institution: &Institution) -> Done<()> {
    let Institution { id, name, default_country, created_at } = institution;
    let sql = "with changed as (update directory set version = version + 1 returning version)
               insert into institutions (id, name, created_at, default_country, version)
               select $1, $2, $3, $4, version from changed";
    db.run(sql, args![&id.as_bytes()[..], name.as_str(), *created_at, default_country.stored()]).await?;
    Ok(())
}

pub(super) async fn set_default_country(db: Db<'_>, id: InstitutionId, country: DefaultCountry) -> Done<bool> {
    let sql = "with changed as (update directory set version = version + 1 returning version)
               update institutions set default_country = $2, version = changed.version from changed where id = $1";
    Ok(db.run(sql, args![&id.as_bytes()[..], country.stored()]).await? > 0)
}

pub(super) async fn api_keys(db: Db<'_>) -> Done<Vec<ApiKey>> {
    keys_since(db, -1).await
}

/// Those that were changed behind this version of the directory.
pub(super) async fn keys_since(db: Db<'_>, version: i64) -> Done<Vec<ApiKey>> {
    let sql = "select id, institution_id, environment, name, hash, prefix, scopes, rate_limit, expires_at, created_at,
                      last_used_at, revoked_at, parent
               from api_keys where version > $1 order by created_at, id";
    db.rows(sql, args![version]).await?.iter().map(api_key).collect()
}

fn api_key(row: &Row) -> Done<ApiKey> {
    let limit: Option<i64> = row.get(7);
    let grant = Grant {
        environment: environment(row.get(2))?,
        // A scope of a newer version grants nothing here.
        scopes: row.get::<_, &str>(6).split(' ').filter_map(Scope::from_name).collect(),
        rate_limit: limit.map(u32::try_from).transpose().map_err(|_| not_understood("rate limit"))?,
        expires_at: row.get(8),
    };
    Ok(ApiKey {
        id: ApiKeyId::from_bytes(bytes(row, 0)?),
        institution: InstitutionId::from_bytes(bytes(row, 1)?),
        name: row.get(3),
        hash: bytes(row, 4)?,
        prefix: row.get(5),
        grant,
        parent: row.get::<_, Option<&[u8]>>(12).map(|_| bytes(row, 12)).transpose()?.map(ApiKeyId::from_bytes),
        created_at: row.get(9),
        last_used_at: row.get(10),
        revoked_at: row.get(11),
    })
}

/// Reads an environment's name.
pub(super) fn environment(name: &str) -> Done<Environment> {
    Environment::from_name(name).ok_or_else(|| not_understood("environment"))
}

/// Reads bytes of which the number is known: an id, a hash.
pub(super) fn bytes<const N: usize>(row: &Row, column: usize) -> Done<[u8; N]> {
    row.get::<_, &[u8]>(column).try_into().map_err(|_| not_understood("length of bytes"))
}

pub(super) async fn create_api_key(db: Db<'_>, key: &ApiKey) -> Done<()> {
    let sql = "with changed as (update directory set version = version + 1 returning version)
               insert into api_keys (id, institution_id, environment, name, hash, prefix, scopes, rate_limit, expires_at,
                                     created_at, parent, version)
               select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, version from changed";
    let scopes = key.grant.scopes.names().join(" ");
    db.run(
        sql,
        args![
            &key.id.as_bytes()[..],
            &key.institution.as_bytes()[..],
            key.grant.environment.name(),
            key.name.as_str(),
            &key.hash[..],
            key.prefix.as_str(),
            scopes,
            key.grant.rate_limit.map(i64::from),
            key.grant.expires_at,
            key.created_at,
            key.parent.as_ref().map(|parent| &parent.as_bytes()[..]),
        ],
    )
    .await?;
    Ok(())
}

pub(super) async fn revoke_api_key(db: Db<'_>, id: ApiKeyId, now: Millis) -> Done<()> {
    // The key alone stays as it is where there is nothing to revoke: a number that is skipped harms nobody.
    let sql = "with recursive changed as (update directory set version = version + 1 returning version),
               ended (id) as (select $1::bytea union select k.id from api_keys k join ended on k.parent = ended.id)
               update api_keys set revoked_at = $2, version = changed.version from changed
               where id in (select id from ended) and revoked_at is null";
    db.run(sql, args![&id.as_bytes()[..], now]).await?;
    Ok(())
}

pub(super) async fn touch_api_keys(db: Db<'_>, used: &[(ApiKeyId, Millis)]) -> Done<()> {
    // Each key once, and in an order: another node may note uses of the same ones.
    let used: BTreeMap<&[u8], Millis> = used.iter().map(|(id, at)| (&id.as_bytes()[..], *at)).collect();
    let (ids, times): (Vec<&[u8]>, Vec<Millis>) = used.into_iter().unzip();
    let sql = "with used as (select k.id, u.at from unnest($1, $2) as u (id, at) join api_keys k on k.id = u.id
                             order by k.id for no key update of k)
               -- By another node it may have been used later.
               update api_keys k set last_used_at = greatest(last_used_at, used.at) from used where k.id = used.id";
    db.run(sql, args![ids, times]).await?;
    Ok(())
}
