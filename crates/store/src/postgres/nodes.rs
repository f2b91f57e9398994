//! The nodes that share the store, and which of them holds which channel.
//!
//! A channel's row names the node that holds it, and how often that has changed (the epoch). Whether that node is still
//! there stands in one row of its own, which it renews; so renewing costs the same for one channel and for a hundred
//! thousand. Times are the database's: nodes need not agree on theirs.

use std::time::Duration;

use async_trait::async_trait;
use recado_domain::channel::{ChannelKey, ChannelState, ChannelType, Epoch};
use recado_domain::clock::Millis;
use recado_domain::ids::InstitutionId;
use recado_domain::phone::DefaultCountry;
use tokio::sync::mpsc;

use super::listener::listen;
use super::{PgStore, channels};
use crate::Result;
use crate::common::links::{LINK, link};
use crate::common::tenants::{API_KEY, api_key};
use crate::nodes::{Changes, ClusterStore, Heard, NewNode, Node, NodeId, Share, SharedQuota};
use crate::sql::{OPEN, QUEUED};
use crate::sqlkit::both::{Executor, Row, values};
use crate::sqlkit::postgres::db::{Db, Done, args, plainly, transaction};

/// Deleted channels that are taken at a time.
const DELETED: i64 = 100;

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[async_trait]
impl ClusterStore for PgStore {
    async fn join(&self, node: &NewNode, lease: Duration) -> Result<NodeId> {
        let types = node.types.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(" ");
        plainly!(self.lease, db => join(db, node, &types, milliseconds(lease)))
    }

    async fn renew(&self, node: NodeId, lease: Duration) -> Result<bool> {
        let lease = milliseconds(lease);
        plainly!(self.lease, db => async {
            let sql = "update nodes set lease_until = clock_timestamp() + $2 * interval '1 millisecond' where id = $1";
            Ok(db.run(sql, args![node, lease]).await? == 1)
        })
    }

    async fn leave(&self, node: NodeId) -> Result<()> {
        plainly!(self.lease, db => async {
            db.run("delete from nodes where id = $1", args![node]).await.map(drop)
        })
    }

    async fn nodes(&self, own: Option<NodeId>) -> Result<Vec<Node>> {
        plainly!(self.lease, db => async {
            let sql = "delete from nodes where lease_until < clock_timestamp() and id is distinct from $1";
            db.run(sql, args![own]).await?;
            let rows = db.rows("select id, name, address from nodes order by id", args![]).await?;
            Ok(rows.iter().map(|row| Node { id: row.get(0), name: row.get(1), address: row.get(2) }).collect())
        })
    }

    async fn shares(&self, node: NodeId) -> Result<Vec<Share>> {
        plainly!(self.coordination, db => shares(db, node))
    }

    async fn take(&self, node: NodeId, kind: ChannelType, limit: usize) -> Result<Vec<(ChannelKey, Epoch)>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        transaction!(self.coordination, db => take(db, node, kind, "deleted_at is null", limit).await)
    }

    async fn take_deleted(&self, node: NodeId, kind: ChannelType) -> Result<Vec<(ChannelKey, Epoch)>> {
        let which = format!(
            "deleted_at is not null and exists (select 1 from messages m where m.channel_key = key and m.{OPEN})"
        );
        transaction!(self.coordination, db => take(db, node, kind, &which, DELETED).await)
    }

    async fn held(&self, node: NodeId) -> Result<Vec<(ChannelKey, Epoch)>> {
        plainly!(self.coordination, db => async {
            let rows = db.rows("select key, lease_epoch from channels where lease_node = $1", args![node]).await?;
            Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
        })
    }

    async fn give_back(&self, node: NodeId, channels: &[(ChannelKey, Epoch)]) -> Result<()> {
        let (keys, epochs): (Vec<_>, Vec<_>) = channels.iter().copied().unzip();
        plainly!(self.coordination, db => async {
            // What it has taken again since is another epoch's.
            let sql = "update channels set lease_node = null, lease_epoch = lease_epoch + 1
                       where lease_node = $1 and (key, lease_epoch) in (select * from unnest($2, $3))";
            db.run(sql, args![node, keys, epochs]).await.map(drop)
        })
    }

    async fn retire(&self, node: NodeId) -> Result<()> {
        plainly!(self.lease, db => async {
            db.run("update nodes set types = '' where id = $1", args![node]).await.map(drop)
        })
    }

    async fn holder(&self, channel: ChannelKey) -> Result<Option<Node>> {
        plainly!(self.pool, db => async {
            let sql = "select n.id, n.name, n.address from channels c join nodes n on n.id = c.lease_node
                       where c.key = $1 and n.lease_until > clock_timestamp()";
            let row = db.row(sql, args![channel]).await?;
            Ok(row.map(|row| Node { id: row.get(0), name: row.get(1), address: row.get(2) }))
        })
    }

    async fn held_with_work(&self, node: NodeId, now: Millis) -> Result<Vec<(ChannelKey, bool)>> {
        plainly!(self.coordination, db => async {
            let sql = format!(
                "select key, state, next_send_at <= $2 from channels c where lease_node = $1
                 and exists (select 1 from messages m where m.channel_key = c.key and m.{OPEN})"
            );
            let rows = db.rows(&sql, args![node, now]).await?;
            let dispatches = |name| ChannelState::from_name(name).is_some_and(ChannelState::dispatches);
            Ok(rows.iter().map(|row| (row.get(0), row.get(2) && dispatches(row.get(1)))).collect())
        })
    }

    async fn fresh_since(&self, seq: i64) -> Result<(Vec<ChannelKey>, i64)> {
        plainly!(self.coordination, db => async {
            let sql = "select coalesce(max(seq), 0) from messages";
            let newest = db.row(sql, args![]).await?.map_or(0, |row| row.get(0));
            let sql = format!("select distinct channel_key from messages where seq > $1 and {QUEUED}");
            let rows = db.rows(&sql, args![seq]).await?;
            Ok((rows.iter().map(|row| row.get(0)).collect(), newest))
        })
    }

    async fn notify(&self, text: &str) -> Result<()> {
        plainly!(self.coordination, db => async {
            db.run("select pg_notify('recado', $1)", args![text]).await.map(drop)
        })
    }

    async fn secret(&self) -> Result<String> {
        plainly!(self.coordination, db => async {
            Ok(db.row("select secret from directory", args![]).await?.map_or_else(String::new, |row| row.get(0)))
        })
    }

    async fn directory_version(&self) -> Result<i64> {
        plainly!(self.coordination, db => async {
            Ok(db.row("select version from directory", args![]).await?.map_or(0, |row| row.get(0)))
        })
    }

    async fn changes_since(&self, version: i64) -> Result<Changes> {
        transaction!(self.coordination, db => changes_since(db, version).await)
    }

    async fn listen(&self, heard: mpsc::Sender<Heard>) {
        listen(self.direct_url.clone(), heard).await;
    }
}

#[async_trait]
impl SharedQuota for PgStore {
    async fn draw(&self, key: &[u8], kind: i16, limit: u32, want: u32) -> Result<(f64, f64)> {
        plainly!(self.calls, db => draw(db, (key, kind), f64::from(limit), f64::from(want)))
    }
}

async fn join(db: Db<'_>, node: &NewNode, types: &str, lease: i64) -> Done<NodeId> {
    let sql = "insert into nodes (name, address, types, lease_until)
               values ($1, $2, $3, clock_timestamp() + $4 * interval '1 millisecond') returning id";
    let row = db.row(sql, args![node.name, node.address, types, lease]).await?;
    Ok(row.map_or(0, |row| row.get(0)))
}

async fn shares(db: Db<'_>, node: NodeId) -> Done<Vec<Share>> {
    let sql = "select type, count(*) filter (where deleted_at is null),
                      count(*) filter (where lease_node = $1 and deleted_at is null),
                      count(*) filter (where lease_node = $1),
                      (select count(*) from nodes where channels.type = any (string_to_array(types, ' ')))
               from channels group by type";
    let count = |count: i64| usize::try_from(count).unwrap_or(0);
    let share = |row: &tokio_postgres::Row| {
        // A type of a newer version is a newer node's.
        let kind = ChannelType::from_name(row.get(0))?;
        let (all, mine, held, nodes) = (row.get(1), row.get(2), row.get(3), row.get(4));
        Some(Share { kind, all: count(all), mine: count(mine), held: count(held), nodes: count(nodes) })
    };
    Ok(db.rows(sql, args![node]).await?.iter().filter_map(share).collect())
}

async fn take(db: Db<'_>, node: NodeId, kind: ChannelType, which: &str, limit: i64) -> Done<Vec<(ChannelKey, Epoch)>> {
    // One at a time, and what follows sees all nodes that are there by then: to a statement that began earlier, what has
    // just been taken by a node that has just joined would look like a dead one's.
    db.rows("select pg_advisory_xact_lock(7201746393)", args![]).await?;
    let sql = format!(
        "update channels set lease_node = $1, lease_epoch = lease_epoch + 1
         where key in (
             select key from channels
             where type = $2 and {which} and (lease_node is null or lease_node not in (select id from nodes))
             order by key limit $3
             -- Who claims under a lease that has ended is to end first; the next look takes it.
             for no key update skip locked)
           -- Who is taken for dead takes nothing.
           and exists (select 1 from nodes where id = $1 and lease_until > clock_timestamp())
         returning key, lease_epoch"
    );
    let rows = db.rows(&sql, args![node, kind.name(), limit]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

async fn changes_since(db: Db<'_>, version: i64) -> Done<Changes> {
    // Read first: a change that comes in between is told again.
    let now = db.row("select version from directory", args![]).await?.map_or(0, |row| row.get(0));
    let sql = format!("{API_KEY} where version > ?1 order by created_at, id");
    let keys = Executor::rows(&db, &sql, values![version], api_key).await?;
    // Read behind the keys: a key is never known here without the default country of its institution.
    let default_countries = default_countries_since(db, version).await?;
    let channels = channels::since(db, version).await?;
    let links = Executor::rows(&db, &format!("{LINK} where version > ?1"), values![version], link).await?;
    Ok(Changes { version: now, default_countries, keys, channels, links })
}

/// The default countries that were set behind this version of the directory.
async fn default_countries_since(db: Db<'_>, version: i64) -> Done<Vec<(InstitutionId, DefaultCountry)>> {
    let country = |row: &Row<'_>| {
        let country: Option<String> = row.get("default_country")?;
        Ok((InstitutionId::from_bytes(row.bytes("id")?), DefaultCountry::of_stored(country.as_deref())))
    };
    let sql = "select id, default_country from institutions where version > ?1";
    Executor::rows(&db, sql, values![version], country).await
}

async fn draw(db: Db<'_>, (key, kind): (&[u8], i16), limit: f64, want: f64) -> Done<(f64, f64)> {
    // The commit waits for no disk: what a crash of the database forgets was drawn moments before.
    let sql = "with fast as (select set_config('synchronous_commit', 'off', true)),
               old as (select tokens, at from rate_buckets where key_id = $1 and kind = $2 for update),
               -- As many as the limit flow in within a minute, and no more than the limit stay.
               filled as (select least($3, coalesce(
                   (select tokens + greatest(0, extract(epoch from clock_timestamp() - at)::float8) * $3 / 60 from old),
                   $3)) as tokens),
               drawn as (select tokens, least($4, floor(tokens)) as taken from filled),
               kept as (insert into rate_buckets (key_id, kind, tokens, at)
                   select $1, $2, tokens - taken, clock_timestamp() from drawn
                   on conflict (key_id, kind) do update set tokens = excluded.tokens, at = excluded.at)
               select taken, tokens - taken from drawn, fast";
    let row = db.row(sql, args![key, kind, limit, want]).await?;
    Ok(row.map_or((0.0, 0.0), |row| (row.get(0), row.get(1))))
}
