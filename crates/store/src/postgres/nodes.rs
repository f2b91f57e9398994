//! The nodes of a shared store, and the owners of the channels.
//!
//! A channel's row has its owner and the epoch. The owner's lease is in the node's own row: a renewal costs the same for one
//! channel and for a hundred thousand. All times are the database's, so clocks of nodes need not agree.

use std::time::Duration;

use async_trait::async_trait;
use recado_domain::channel::{ChannelKey, ChannelState, ChannelType, Epoch};
use recado_domain::clock::Millis;
use recado_domain::ids::InstitutionId;
use recado_domain::phone::DefaultCountry;
use tokio::sync::mpsc;

use super::listener::listen;
use super::{PgStore, channels, levels};
use crate::Result;
use crate::common::links::{LINK, link};
use crate::common::tenants::{API_KEY, api_key};
use crate::nodes::{Changes, ChannelQuota, ClusterStore, ListenEvent, Member, NewNode, Node, NodeId, SharedQuota};
use crate::sql::{OPEN, QUEUED};
use crate::sqlkit::both::{Executor, Row, values};
use crate::sqlkit::postgres::db::{Db, Done, args, with_connection, with_transaction};

/// Deleted channels that are acquired at a time.
const DELETED: i64 = 100;

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[async_trait]
impl ClusterStore for PgStore {
    async fn join(&self, node: &NewNode, lease: Duration) -> Result<NodeId> {
        let types = node.types.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(" ");
        with_connection!(self.lease, db => join(db, node, &types, milliseconds(lease)))
    }

    async fn renew(&self, node: NodeId, lease: Duration) -> Result<bool> {
        let lease = milliseconds(lease);
        with_connection!(self.lease, db => async {
            let sql = "UPDATE nodes SET lease_until = clock_timestamp() + $2 * interval '1 millisecond' WHERE id = $1";
            Ok(db.run(sql, args![node, lease]).await? == 1)
        })
    }

    async fn deregister(&self, node: NodeId) -> Result<()> {
        with_connection!(self.lease, db => async {
            db.run("DELETE FROM nodes WHERE id = $1", args![node]).await.map(drop)
        })
    }

    async fn nodes(&self, own: Option<NodeId>) -> Result<Vec<Node>> {
        let nodes = with_connection!(self.lease, db => async {
            let sql = "DELETE FROM nodes WHERE lease_until < clock_timestamp() AND id IS DISTINCT FROM $1";
            db.run(sql, args![own]).await?;
            let rows = db.rows("SELECT id, name, address FROM nodes ORDER BY id", args![]).await?;
            Ok(rows.iter().map(|row| Node { id: row.get(0), name: row.get(1), address: row.get(2) }).collect())
        })?;
        self.levels.refresh(&self.coordination).await;
        Ok(nodes)
    }

    async fn members(&self) -> Result<Vec<Member>> {
        with_connection!(self.coordination, db => members(db))
    }

    async fn quotas(&self, node: NodeId) -> Result<Vec<ChannelQuota>> {
        with_connection!(self.coordination, db => quotas(db, node))
    }

    async fn acquire(&self, node: NodeId, kind: ChannelType, limit: usize) -> Result<Vec<(ChannelKey, Epoch)>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        with_transaction!(self.coordination, db => acquire(db, node, kind, "deleted_at IS NULL", limit).await)
    }

    async fn acquire_deleted(&self, node: NodeId, kind: ChannelType) -> Result<Vec<(ChannelKey, Epoch)>> {
        let which = format!(
            "deleted_at IS NOT NULL
             AND EXISTS (SELECT 1 FROM messages m WHERE m.channel_key = key AND m.seq > 0 AND m.{OPEN})"
        );
        with_transaction!(self.coordination, db => acquire(db, node, kind, &which, DELETED).await)
    }

    async fn held(&self, node: NodeId) -> Result<Vec<(ChannelKey, Epoch)>> {
        with_connection!(self.coordination, db => async {
            let rows = db.rows("SELECT key, lease_epoch FROM channels WHERE lease_node = $1", args![node]).await?;
            Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
        })
    }

    async fn release(&self, node: NodeId, channels: &[(ChannelKey, Epoch)]) -> Result<()> {
        let (keys, epochs): (Vec<_>, Vec<_>) = channels.iter().copied().unzip();
        with_connection!(self.coordination, db => async {
            // A channel that the node has acquired again since has another epoch.
            let sql = "UPDATE channels SET lease_node = NULL, lease_epoch = lease_epoch + 1
                       WHERE lease_node = $1 AND (key, lease_epoch) IN (SELECT * FROM unnest($2, $3))";
            db.run(sql, args![node, keys, epochs]).await.map(drop)
        })
    }

    async fn stop_acquiring(&self, node: NodeId) -> Result<()> {
        with_connection!(self.lease, db => async {
            db.run("UPDATE nodes SET types = '' WHERE id = $1", args![node]).await.map(drop)
        })
    }

    async fn owner(&self, channel: ChannelKey) -> Result<Option<Node>> {
        with_connection!(self.pool, db => async {
            let sql = "SELECT n.id, n.name, n.address FROM channels c JOIN nodes n ON n.id = c.lease_node
                       WHERE c.key = $1 AND n.lease_until > clock_timestamp()";
            let row = db.row(sql, args![channel]).await?;
            Ok(row.map(|row| Node { id: row.get(0), name: row.get(1), address: row.get(2) }))
        })
    }

    async fn held_with_work(&self, node: NodeId, now: Millis) -> Result<Vec<(ChannelKey, bool)>> {
        with_connection!(self.coordination, db => async {
            let sql = format!(
                "SELECT key, state, next_send_at <= $2 FROM channels c WHERE lease_node = $1
                 AND EXISTS (SELECT 1 FROM messages m WHERE m.channel_key = c.key AND m.seq > 0 AND m.{OPEN})"
            );
            let rows = db.rows(&sql, args![node, now]).await?;
            let dispatches = |name| ChannelState::from_name(name).is_some_and(ChannelState::dispatches);
            Ok(rows.iter().map(|row| (row.get(0), row.get(2) && dispatches(row.get(1)))).collect())
        })
    }

    async fn new_work_since(&self, seq: i64) -> Result<(Vec<ChannelKey>, i64)> {
        with_connection!(self.coordination, db => async {
            let sql = "SELECT coalesce(max(seq), 0) FROM messages";
            let newest = db.row(sql, args![]).await?.map_or(0, |row| row.get(0));
            let sql = format!("SELECT DISTINCT channel_key FROM messages WHERE seq > $1 AND {QUEUED}");
            let rows = db.rows(&sql, args![seq]).await?;
            Ok((rows.iter().map(|row| row.get(0)).collect(), newest))
        })
    }

    async fn notify(&self, text: &str) -> Result<()> {
        with_connection!(self.coordination, db => async {
            db.run("SELECT pg_notify('recado', $1)", args![text]).await.map(drop)
        })
    }

    async fn secret(&self) -> Result<String> {
        with_connection!(self.coordination, db => async {
            Ok(db.row("SELECT secret FROM directory", args![]).await?.map_or_else(String::new, |row| row.get(0)))
        })
    }

    async fn directory_version(&self) -> Result<i64> {
        with_connection!(self.coordination, db => async {
            Ok(db.row("SELECT version FROM directory", args![]).await?.map_or(0, |row| row.get(0)))
        })
    }

    async fn changes_since(&self, version: i64) -> Result<Changes> {
        with_transaction!(self.coordination, db => changes_since(db, version).await)
    }

    async fn listen(&self, events: mpsc::Sender<ListenEvent>) {
        listen(self.direct_url.clone(), events).await;
    }
}

#[async_trait]
impl SharedQuota for PgStore {
    async fn draw(&self, key: &[u8], kind: i16, limit: u32, want: u32) -> Result<(f64, f64)> {
        with_connection!(self.calls, db => draw(db, (key, kind), f64::from(limit), f64::from(want)))
    }
}

async fn join(db: Db<'_>, node: &NewNode, types: &str, lease: i64) -> Done<NodeId> {
    let sql = "INSERT INTO nodes (name, address, types, lease_until, level)
               VALUES ($1, $2, $3, clock_timestamp() + $4 * interval '1 millisecond', $5) RETURNING id";
    let row = db.row(sql, args![node.name, node.address, types, lease, levels::LEVEL]).await?;
    Ok(row.map_or(0, |row| row.get(0)))
}

async fn members(db: Db<'_>) -> Done<Vec<Member>> {
    let sql = "SELECT id, name, address, types,
                      (SELECT count(*) FROM channels WHERE lease_node = n.id AND deleted_at IS NULL) AS channels,
                      (extract(epoch FROM lease_until - clock_timestamp()) * 1000)::bigint AS lease_left
               FROM nodes n ORDER BY id";
    let member = |row: &tokio_postgres::Row| Member {
        id: row.get("id"),
        name: row.get("name"),
        address: row.get("address"),
        types: row.get::<_, &str>("types").split_whitespace().map(str::to_owned).collect(),
        channels: u64::try_from(row.get::<_, i64>("channels")).unwrap_or(0),
        lease_left: row.get("lease_left"),
    };
    Ok(db.rows(sql, args![]).await?.iter().map(member).collect())
}

async fn quotas(db: Db<'_>, node: NodeId) -> Done<Vec<ChannelQuota>> {
    let count = |count: i64| usize::try_from(count).unwrap_or(0);
    let quota = |row: &tokio_postgres::Row| {
        // Nodes of a newer version send for types that this version does not know.
        let kind = ChannelType::from_name(row.get(0))?;
        let (all, held, held_with_deleted, nodes) = (row.get(1), row.get(2), row.get(3), row.get(4));
        let (held, held_with_deleted) = (count(held), count(held_with_deleted));
        Some(ChannelQuota { kind, held, held_with_deleted, all: count(all), nodes: count(nodes) })
    };
    Ok(db.rows(include_str!("nodes/quotas.sql"), args![node]).await?.iter().filter_map(quota).collect())
}

async fn acquire(
    db: Db<'_>,
    node: NodeId,
    kind: ChannelType,
    which: &str,
    limit: i64,
) -> Done<Vec<(ChannelKey, Epoch)>> {
    // Nodes acquire one after another. The statement begins when the lock is held, so it sees all nodes. An earlier
    // statement would not see a node that has just joined, and would acquire the channels of this node.
    db.rows("SELECT pg_advisory_xact_lock(7201746393)", args![]).await?;
    let sql = format!(include_str!("nodes/acquire.sql"), which = which);
    let rows = db.rows(&sql, args![node, kind.name(), limit]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

async fn changes_since(db: Db<'_>, version: i64) -> Done<Changes> {
    // Read first: a change that commits in between is read again by the next call.
    let now = db.row("SELECT version FROM directory", args![]).await?.map_or(0, |row| row.get(0));
    let sql = format!("{API_KEY} WHERE version > ?1 ORDER BY created_at, id");
    let keys = Executor::rows(&db, &sql, values![version], api_key).await?;
    // Read after the keys, so that a key is never known without the default country of its institution.
    let default_countries = default_countries_since(db, version).await?;
    let channels = channels::since(db, version).await?;
    let links = Executor::rows(&db, &format!("{LINK} WHERE version > ?1"), values![version], link).await?;
    Ok(Changes { version: now, default_countries, keys, channels, links })
}

/// The default countries that were set after this version of the directory.
async fn default_countries_since(db: Db<'_>, version: i64) -> Done<Vec<(InstitutionId, DefaultCountry)>> {
    let country = |row: &Row<'_>| {
        let country: Option<String> = row.get("default_country")?;
        Ok((InstitutionId::from_bytes(row.bytes("id")?), DefaultCountry::of_stored(country.as_deref())))
    };
    let sql = "SELECT id, default_country FROM institutions WHERE version > ?1";
    Executor::rows(&db, sql, values![version], country).await
}

async fn draw(db: Db<'_>, (key, kind): (&[u8], i16), limit: f64, want: f64) -> Done<(f64, f64)> {
    let row = db.row(include_str!("nodes/draw.sql"), args![key, kind, limit, want]).await?;
    Ok(row.map_or((0.0, 0.0), |row| (row.get(0), row.get(1))))
}
