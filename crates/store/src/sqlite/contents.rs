//! What a store's file contains, in numbers: for checks of a copy, and for the report of a restore.

use recado_domain::clock::Millis;
use recado_domain::ids::InstitutionId;
use recado_domain::status::MessageStatus;
use rusqlite::{Connection, OptionalExtension, params};

use crate::sql::{OPEN, QUEUED, SENDING};

/// What is counted, and its table.
const COUNTED: [(&str, &str); 8] = [
    ("institutions", "institutions"),
    ("apiKeys", "api_keys"),
    ("channels", "channels"),
    ("messages", "messages"),
    ("received", "incoming"),
    ("contacts", "contacts"),
    ("events", "events"),
    ("webhooks", "webhooks"),
];

/// The rows of the main tables; tables that are newer than the file are left out.
pub fn counts(connection: &Connection) -> rusqlite::Result<Vec<(&'static str, i64)>> {
    let mut counts = Vec::new();
    for (name, table) in COUNTED {
        if connection.table_exists(None, table)? {
            let rows = connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
            counts.push((name, rows));
        }
    }
    Ok(counts)
}

/// The identity of a store, which its copies share; `None` where its tables are older than that.
pub fn identity(connection: &Connection) -> rusqlite::Result<Option<Vec<u8>>> {
    if !connection.table_exists(None, "event_identity")? {
        return Ok(None);
    }
    connection.query_row("SELECT identity FROM event_identity LIMIT 1", [], |row| row.get(0)).optional()
}

/// The version of the tables in any file of ours.
pub fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Messages of a channel whose outcome is open. Those that have expired are not counted: they are not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub institution: InstitutionId,
    pub channel: String,
    pub environment: String,
    pub queued: i64,
    /// In flight; sent again unless the channel's network or policy forbids it.
    pub sending: i64,
    /// Queued for a later time.
    pub scheduled: i64,
    /// Of unknown outcome.
    pub unknown: i64,
}

/// The messages of each channel whose outcome is open at this time.
pub fn waiting(connection: &Connection, now: Millis) -> rusqlite::Result<Vec<Waiting>> {
    let sql = format!(
        "SELECT c.institution_id, c.id, c.environment,
                count(*) FILTER (WHERE {QUEUED} AND seq > 0), count(*) FILTER (WHERE {SENDING}),
                count(*) FILTER (WHERE {QUEUED} AND seq < 0), count(*) FILTER (WHERE status = ?2)
         FROM messages JOIN channels c ON c.key = channel_key
         WHERE c.deleted_at IS NULL AND (({OPEN} AND expires_at > ?1) OR status = ?2)
         GROUP BY c.key ORDER BY c.key"
    );
    let mut select = connection.prepare(&sql)?;
    let waiting = select.query_map(params![now, MessageStatus::Unknown.number()], |row| {
        Ok(Waiting {
            institution: InstitutionId::from_bytes(row.get(0)?),
            channel: row.get(1)?,
            environment: row.get(2)?,
            queued: row.get(3)?,
            sending: row.get(4)?,
            scheduled: row.get(5)?,
            unknown: row.get(6)?,
        })
    })?;
    waiting.collect()
}

/// Deliveries of webhooks that wait.
pub fn waiting_deliveries(connection: &Connection) -> rusqlite::Result<i64> {
    count_if_there(connection, "deliveries", "state = 0")
}

/// Received files whose bytes were stored beside the store.
pub fn stored_files(connection: &Connection) -> rusqlite::Result<i64> {
    count_if_there(connection, "incoming_media", "state = 'STORED'")
}

fn count_if_there(connection: &Connection, table: &str, condition: &str) -> rusqlite::Result<i64> {
    if !connection.table_exists(None, table)? {
        return Ok(0);
    }
    connection.query_row(&format!("SELECT count(*) FROM {table} WHERE {condition}"), [], |row| row.get(0))
}
