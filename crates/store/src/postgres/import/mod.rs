//! Copies a SQLite store into the tables of this engine. Each batch is stored with its progress in one transaction, so
//! an interrupted import continues. At the end the rows are compared.

mod cell;
mod source;
mod target;

use std::path::Path;

use anyhow::{Result, bail};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use cell::{Cell, Hash};
use source::Source;
use target::Target;

/// Batches that are read ahead.
const AHEAD: usize = 2;

/// A table, as both engines have it.
struct Table {
    name: &'static str,
    /// The columns that identify a row, and that give the order.
    key: &'static [&'static str],
    /// The column that the database numbers.
    numbered: Option<&'static str>,
    /// Whether the table has a column `version`, which SQLite's table does not have.
    versioned: bool,
}

const IDENTITY: [&str; 5] = ["institution_id", "environment", "kind", "scope", "value"];
const GRAM: [&str; 4] = ["institution_id", "environment", "gram", "contact_id"];

/// All tables with data, each after the tables that it refers to. SQLite's `probe` is empty, nodes and leases exist in
/// this engine only, and `event_identity` distinguishes a cursor of this store from one of another store.
const TABLES: [Table; 33] = [
    Table { name: "institutions", key: &["id"], numbered: None, versioned: true },
    Table { name: "api_keys", key: &["id"], numbered: None, versioned: true },
    Table { name: "event_consumers", key: &["institution_id", "environment"], numbered: None, versioned: false },
    Table { name: "event_logs", key: &["institution_id", "environment"], numbered: None, versioned: false },
    Table { name: "event_state", key: &["n"], numbered: None, versioned: false },
    Table { name: "channels", key: &["key"], numbered: Some("key"), versioned: true },
    Table { name: "links", key: &["channel_key"], numbered: None, versioned: false },
    Table { name: "session_rows", key: &["channel_key", "kind", "key"], numbered: None, versioned: false },
    Table { name: "messages", key: &["seq"], numbered: Some("seq"), versioned: false },
    Table { name: "schedule", key: &["seq"], numbered: None, versioned: false },
    Table { name: "idempotency_keys", key: &["n"], numbered: Some("n"), versioned: false },
    Table { name: "recipient_pace", key: &["channel_key", "recipient"], numbered: None, versioned: false },
    Table { name: "early_receipts", key: &["n"], numbered: Some("n"), versioned: false },
    Table { name: "accounts", key: &["channel_key", "phone"], numbered: None, versioned: false },
    Table { name: "chats", key: &["channel_key", "account"], numbered: None, versioned: false },
    Table { name: "contacts", key: &["id"], numbered: None, versioned: false },
    Table { name: "identities", key: &IDENTITY, numbered: None, versioned: false },
    Table { name: "contact_grams", key: &GRAM, numbered: None, versioned: false },
    Table { name: "conversations", key: &["id"], numbered: None, versioned: false },
    Table { name: "read_signals", key: &["conversation_id"], numbered: None, versioned: false },
    Table { name: "unfinished_reads", key: &["conversation_id"], numbered: None, versioned: false },
    Table { name: "unfinished_moves", key: &["from_id"], numbered: None, versioned: false },
    Table { name: "incoming", key: &["seq"], numbered: Some("seq"), versioned: false },
    Table { name: "incoming_media", key: &["id"], numbered: None, versioned: false },
    Table { name: "incoming_changes", key: &["n"], numbered: Some("n"), versioned: false },
    Table { name: "content_to_delete", key: &["message_id"], numbered: None, versioned: false },
    Table { name: "refused_arrivals", key: &["channel_key", "id"], numbered: None, versioned: false },
    Table { name: "poll_votes", key: &["channel_key", "poll", "voter"], numbered: None, versioned: false },
    Table { name: "events", key: &["seq"], numbered: Some("seq"), versioned: false },
    Table { name: "webhooks", key: &["key"], numbered: Some("key"), versioned: false },
    Table { name: "webhook_queues", key: &["webhook_key"], numbered: None, versioned: false },
    Table { name: "fan_out", key: &["n"], numbered: None, versioned: false },
    Table { name: "deliveries", key: &["event_seq", "webhook_key"], numbered: None, versioned: false },
];

/// A row, in the order of its table's columns.
type Cells = Vec<Cell>;

/// How far it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Rows in the store.
    pub rows: u64,
    /// Of these, in the database.
    pub copied: u64,
    /// Of these, compared.
    pub compared: u64,
}

/// A table, and how many rows it has.
pub type Count = (&'static str, u64);

/// Copies the store in this file into the database with this URL, and compares the two. No process may have the file
/// open. The database must be empty, or contain an unfinished import of this store.
///
/// `before_last` gets the database's name before the step after which nodes can use the database.
pub async fn import(
    from: &Path,
    url: &str,
    mut progress: impl FnMut(Progress),
    before_last: impl FnOnce(&str) -> Result<()>,
) -> Result<Vec<Count>> {
    let source = Source::open(from)?;
    let mut target = Target::open(url).await?;
    let mut so_far = Progress { rows: source.rows()?, ..Progress::default() };
    for table in &TABLES {
        let columns = source.columns(table)?;
        let mut place = target.place(table, &columns).await?;
        so_far.copied += place.rows;
        progress(so_far);
        let (mut batches, reading) = read(from, table, columns, place.after.take());
        while let Some(batch) = batches.recv().await {
            target.insert(&mut place, &batch).await?;
            so_far.copied += batch.len() as u64;
            progress(so_far);
        }
        reading.await??;
    }
    let mut counts = Vec::new();
    for table in &TABLES {
        let count = compare(from, &source, &mut target, table, |rows| {
            so_far.compared += rows;
            progress(so_far);
        });
        counts.push((table.name, count.await?));
    }
    before_last(&target.name().await?)?;
    target.finish(source.last_event()?).await?;
    Ok(counts)
}

/// Reads a table's rows after a key, on a thread that may block.
fn read(
    from: &Path,
    table: &'static Table,
    columns: Vec<String>,
    after: Option<Cells>,
) -> (mpsc::Receiver<Vec<Cells>>, JoinHandle<Result<()>>) {
    let (sender, batches) = mpsc::channel(AHEAD);
    let from = from.to_owned();
    let reading = tokio::task::spawn_blocking(move || {
        // The receiver has already returned the error.
        Source::open(&from)?.read(table, &columns, after.as_deref(), |batch| sender.blocking_send(batch).is_ok())
    });
    (batches, reading)
}

/// Compares a table's rows in both places.
async fn compare(
    from: &Path,
    source: &Source,
    target: &mut Target,
    table: &'static Table,
    mut progress: impl FnMut(u64),
) -> Result<u64> {
    let columns = source.columns(table)?;
    let here = async {
        let (mut batches, reading) = read(from, table, columns.clone(), None);
        let mut hash = Hash::default();
        while let Some(batch) = batches.recv().await {
            batch.iter().for_each(|row| hash.add(row));
            progress(batch.len() as u64);
        }
        reading.await??;
        anyhow::Ok(hash.end())
    };
    let (here, there) = tokio::try_join!(here, target.hash(table, &columns))?;
    if here != there {
        bail!(
            "{} in the database are not those in the store ({} rows here, {} there): was the store used, or the database \
             changed, since this was begun? Create an empty database and run it again",
            table.name,
            here.0,
            there.0
        );
    }
    Ok(here.0)
}

#[cfg(test)]
mod tests;
