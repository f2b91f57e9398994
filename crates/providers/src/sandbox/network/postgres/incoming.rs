//! What people did on the simulated network.

use recado_domain::channel::{ChannelKey, ChannelRef};
use recado_domain::clock::Millis;
use recado_domain::ids::InstitutionId;
use recado_store::sqlkit::postgres::db::{Db, Done, args, not_understood};
use tokio_postgres::Row;

use super::FAST;
use crate::sandbox::network::{DELIVERED, HELD, KeptAct, OPEN, UNDELIVERED_AT_ONCE};

pub(super) async fn keep(db: Db<'_>, kept: &KeptAct) -> Done<i64> {
    let sql =
        "INSERT INTO sandbox_incoming (network_id, id, institution_id, channel_key, channel_id, person, kind, payload,
                                             repeat, received_at, state)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING n";
    let row = db
        .row(
            sql,
            args![
                kept.network_id,
                kept.id,
                &kept.via.institution.as_bytes()[..],
                kept.via.key,
                kept.via.id.as_str(),
                kept.person,
                kept.kind,
                kept.payload,
                number(kept.repeat),
                kept.at,
                i16::from(if kept.is_held { HELD } else { OPEN }),
            ],
        )
        .await?;
    row.map(|row| row.get(0)).ok_or_else(|| not_understood("number of an act"))
}

pub(super) async fn undelivered(db: Db<'_>, channel: Option<ChannelKey>, before: Millis) -> Done<Vec<KeptAct>> {
    let sql =
        "SELECT n, network_id, id, institution_id, channel_key, channel_id, person, kind, payload, repeat, received_at
               FROM sandbox_incoming
               WHERE state < 2 AND state = $1 AND ($2 IS NULL OR channel_key = $2) AND received_at <= $3
               ORDER BY n LIMIT $4";
    let rows = db.rows(sql, args![i16::from(OPEN), channel, before, UNDELIVERED_AT_ONCE]).await?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Done<KeptAct> {
    let institution = row.get::<_, &[u8]>(3).try_into().map_err(|_| not_understood("institution id"))?;
    let id = row.get::<_, &str>(5).parse().map_err(|_| not_understood("channel id"))?;
    Ok(KeptAct {
        n: row.get(0),
        network_id: row.get(1),
        id: row.get(2),
        via: ChannelRef { institution: InstitutionId::from_bytes(institution), key: row.get(4), id },
        person: row.get(6),
        kind: row.get(7),
        payload: row.get(8),
        repeat: u32::try_from(row.get::<_, i32>(9)).map_err(|_| not_understood("number of deliveries"))?,
        at: row.get(10),
        is_held: false,
    })
}

pub(super) async fn delivered(db: Db<'_>, n: i64, times: u32) -> Done<()> {
    let sql = format!("WITH {FAST} UPDATE sandbox_incoming SET state = $2, repeat = $3 FROM fast WHERE n = $1");
    db.run(&sql, args![n, i16::from(DELIVERED), number(times)]).await.map(drop)
}

/// A number of deliveries in the column `repeat`.
fn number(times: u32) -> i32 {
    i32::try_from(times).unwrap_or(i32::MAX)
}

pub(super) async fn note_read(db: Db<'_>, channel: ChannelKey, network_ids: &[String], at: Millis) -> Done<()> {
    let sql = "UPDATE sandbox_incoming SET read_at = $3
               WHERE network_id = any($2) AND channel_key = $1 AND read_at IS NULL";
    db.run(sql, args![channel, network_ids.to_vec(), at]).await.map(drop)
}

pub(super) async fn release(db: Db<'_>, channel: ChannelKey) -> Done<()> {
    let sql = "UPDATE sandbox_incoming SET state = $2 WHERE state < 2 AND channel_key = $1 AND state = $3";
    db.run(sql, args![channel, i16::from(OPEN), i16::from(HELD)]).await.map(drop)
}

pub(super) async fn set_windowed(db: Db<'_>, channel: ChannelKey, is_windowed: bool) -> Done<()> {
    let sql = if is_windowed {
        "INSERT INTO sandbox_windowed (channel_key) VALUES ($1) ON CONFLICT DO NOTHING"
    } else {
        "DELETE FROM sandbox_windowed WHERE channel_key = $1"
    };
    db.run(sql, args![channel]).await.map(drop)
}

pub(super) async fn is_windowed(db: Db<'_>, channel: ChannelKey) -> Done<bool> {
    let sql = "SELECT 1 FROM sandbox_windowed WHERE channel_key = $1";
    Ok(db.row(sql, args![channel]).await?.is_some())
}
