//! What people did on the simulated network.

use recado_domain::channel::{ChannelKey, ChannelRef};
use recado_domain::clock::Millis;
use recado_domain::ids::{ChannelId, InstitutionId};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::sandbox::network::{DELIVERED, HELD, KeptAct, OPEN, UNDELIVERED_AT_ONCE};

/// The next number of both tables.
pub(super) const NEXT: &str =
    "(SELECT 1 + max(coalesce((SELECT max(n) FROM phone), 0), coalesce((SELECT max(n) FROM incoming), 0)))";

pub(super) fn keep(connection: &Connection, kept: &KeptAct) -> rusqlite::Result<i64> {
    let sql = format!(
        "INSERT INTO incoming (n, network_id, id, institution_id, channel_key, channel_id, person, kind, payload, repeat,
                               received_at, state)
         VALUES ({NEXT}, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) RETURNING n"
    );
    connection.prepare_cached(&sql)?.query_row(
        params![
            kept.network_id,
            kept.id,
            kept.via.institution.as_bytes(),
            kept.via.key,
            kept.via.id.as_str(),
            kept.person,
            kept.kind,
            kept.payload,
            kept.repeat,
            kept.at,
            if kept.is_held { HELD } else { OPEN },
        ],
        |row| row.get(0),
    )
}

pub(super) fn undelivered(
    connection: &Connection,
    channel: Option<ChannelKey>,
    before: Millis,
) -> rusqlite::Result<Vec<KeptAct>> {
    let mut statement = connection.prepare_cached(
        "SELECT n, network_id, id, institution_id, channel_key, channel_id, person, kind, payload, repeat, received_at
         FROM incoming INDEXED BY incoming_open
         WHERE state < 2 AND state = ?1 AND (?2 IS NULL OR channel_key = ?2) AND received_at <= ?3
         ORDER BY n LIMIT ?4",
    )?;
    statement.query_map(params![OPEN, channel, before, UNDELIVERED_AT_ONCE], read)?.collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<KeptAct> {
    let id: String = row.get(5)?;
    let id: ChannelId =
        id.parse().map_err(|error| rusqlite::Error::FromSqlConversionFailure(5, Type::Text, Box::new(error)))?;
    Ok(KeptAct {
        n: row.get(0)?,
        network_id: row.get(1)?,
        id: row.get(2)?,
        via: ChannelRef { institution: InstitutionId::from_bytes(row.get(3)?), key: row.get(4)?, id },
        person: row.get(6)?,
        kind: row.get(7)?,
        payload: row.get(8)?,
        repeat: row.get(9)?,
        at: row.get(10)?,
        is_held: false,
    })
}

pub(super) fn delivered(connection: &Connection, n: i64, times: u32) -> rusqlite::Result<()> {
    let sql = "UPDATE incoming SET state = ?2, repeat = ?3 WHERE n = ?1";
    connection.prepare_cached(sql)?.execute(params![n, DELIVERED, times]).map(drop)
}

pub(super) fn note_read(
    connection: &Connection,
    channel: ChannelKey,
    network_ids: &[String],
    at: Millis,
) -> rusqlite::Result<()> {
    let sql = "UPDATE incoming SET read_at = ?3 WHERE network_id = ?2 AND channel_key = ?1 AND read_at IS NULL";
    let mut statement = connection.prepare_cached(sql)?;
    network_ids.iter().try_for_each(|id| statement.execute(params![channel, id, at]).map(drop))
}

pub(super) fn release(connection: &Connection, channel: ChannelKey) -> rusqlite::Result<()> {
    let sql = "UPDATE incoming SET state = ?2 WHERE state < 2 AND channel_key = ?1 AND state = ?3";
    connection.prepare_cached(sql)?.execute(params![channel, OPEN, HELD]).map(drop)
}

pub(super) fn set_windowed(connection: &Connection, channel: ChannelKey, is_windowed: bool) -> rusqlite::Result<()> {
    let sql = if is_windowed {
        "INSERT INTO windowed (channel_key) VALUES (?1) ON CONFLICT DO NOTHING"
    } else {
        "DELETE FROM windowed WHERE channel_key = ?1"
    };
    connection.prepare_cached(sql)?.execute([channel]).map(drop)
}

pub(super) fn is_windowed(connection: &Connection, channel: ChannelKey) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM windowed WHERE channel_key = ?1";
    Ok(connection.prepare_cached(sql)?.query_row([channel], |_| Ok(())).optional()?.is_some())
}
