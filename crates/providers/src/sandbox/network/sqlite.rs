//! The simulated network in a file beside the store. It survives the end of the process, but not of the machine.

mod incoming;
mod purge;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::ids::InstitutionId;
use recado_domain::incoming::Direction;
use recado_store::StoreError;
use recado_store::person::{MESSAGES, Person};
use recado_store::sqlkit::sqlite::readers::Readers;
use recado_store::sqlkit::sqlite::writer::{Owned, Writer};
use recado_store::sqlkit::sqlite::{connect, migrate};
use rusqlite::{Connection, OptionalExtension, Row, params};
use rusqlite_migration::M;
use tokio::sync::Mutex;

use crate::sandbox::network::{
    Arrival, Due, KeptAct, Network, Passed, PhoneQuery, RECEIPTS_AT_ONCE, ReceiptSink, Shown, ShownOfPerson,
    kind_and_rendition,
};

/// The version of the tables of this build, in SQLite's `user_version`.
pub const SCHEMA_VERSION: usize = MIGRATIONS.len();

const MIGRATIONS: &[M<'static>] = &[
    M::up(include_str!("../../../../../migrations/sqlite/sandbox.sql")),
    M::up(include_str!("../../../../../migrations/sqlite/sandbox_0002_kinds.sql")),
    M::up(include_str!("../../../../../migrations/sqlite/sandbox_0003_incoming.sql")),
    M::up(include_str!("../../../../../migrations/sqlite/sandbox_0004_read.sql")),
];

/// The least time between two attempts to open a broken file.
const RETRY: Duration = Duration::from_secs(1);
/// Rows that one transaction deletes: it takes some milliseconds, for which other operations wait.
const CLEAR_AT_ONCE: i64 = 500;

/// The writer thread's connection. A power cut may lose the last arrivals but leaves the file intact. The end of the process
/// loses nothing.
struct Writing(Connection);

impl Owned for Writing {
    fn open(path: &Path) -> rusqlite::Result<Self> {
        let mut connection = connect(path, "normal")?;
        migrate(&mut connection, MIGRATIONS)?;
        Ok(Self(connection))
    }

    fn connection(&self) -> &Connection {
        &self.0
    }
}

/// The file. One that cannot be opened stops the sandbox and nothing else: each operation fails until it can be.
pub(in crate::sandbox) struct File {
    path: PathBuf,
    opened: OnceLock<Opened>,
    /// When it was tried last, and why that failed.
    failed: Mutex<Option<(Instant, StoreError)>>,
}

struct Opened {
    writer: Writer<Writing>,
    readers: Arc<Readers>,
}

impl Opened {
    fn open(path: &Path) -> Result<Self, StoreError> {
        let writer = Writer::start(path.to_owned()).map_err(|error: rusqlite::Error| {
            StoreError::Unavailable(format!("{} cannot be opened: {error}", path.display()))
        })?;
        let readers = Readers::new(path.to_owned(), writer.health());
        Ok(Self { writer, readers })
    }
}

impl File {
    pub(in crate::sandbox) fn open(path: &Path) -> Self {
        let (opened, mut failed) = (OnceLock::new(), None);
        match Opened::open(path) {
            Ok(file) => drop(opened.set(file)),
            Err(error) => {
                tracing::error!(%error, "sandbox not opened; its channels wait");
                failed = Some((Instant::now(), error));
            }
        }
        Self { path: path.to_owned(), opened, failed: Mutex::new(failed) }
    }

    /// The opened file. It is tried again once in a while: an operator may have moved a broken file away.
    async fn opened(&self) -> Result<&Opened, StoreError> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        // One caller tries it, and the others do not wait.
        let Ok(mut failed) = self.failed.try_lock() else {
            return Err(StoreError::Unavailable(format!("{} is being opened", self.path.display())));
        };
        // Another caller may have opened it meanwhile.
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        if let Some((_, error)) = failed.as_ref().filter(|(tried, _)| tried.elapsed() < RETRY) {
            return Err(error.clone());
        }
        let path = self.path.clone();
        let opening = tokio::task::spawn_blocking(move || Opened::open(&path)).await;
        match opening.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string()))) {
            Ok(opened) => {
                tracing::info!("sandbox opened");
                Ok(self.opened.get_or_init(|| opened))
            }
            Err(error) => {
                *failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }
}

#[async_trait]
impl Network for File {
    async fn arrive(&self, arrival: Arrival) -> Result<(), StoreError> {
        self.opened().await?.writer.run(move |writing| arrive(&writing.0, &arrival)).await
    }

    async fn pass_on(&self, now: Millis, delay: Millis, to: &dyn ReceiptSink) -> Result<Passed, StoreError> {
        let (due, pending) = self.opened().await?.writer.run(move |writing| due(&writing.0, now, delay)).await?;
        if due.is_empty() {
            return Ok(if pending { Passed::NotYet } else { Passed::None });
        }
        to.accept(due.iter().flat_map(|due| due.receipts.iter().cloned()).collect()).await?;
        self.opened().await?.writer.run(move |writing| mark_accepted(&writing.0, &due)).await?;
        Ok(Passed::Some)
    }

    async fn keep(&self, kept: KeptAct) -> Result<i64, StoreError> {
        self.opened().await?.writer.run(move |writing| incoming::keep(&writing.0, &kept)).await
    }

    async fn undelivered(&self, channel: Option<ChannelKey>, before: Millis) -> Result<Vec<KeptAct>, StoreError> {
        // By the writer, which has what was kept before.
        self.opened().await?.writer.run(move |writing| incoming::undelivered(&writing.0, channel, before)).await
    }

    async fn delivered(&self, n: i64, times: u32) -> Result<(), StoreError> {
        self.opened().await?.writer.run(move |writing| incoming::delivered(&writing.0, n, times)).await
    }

    async fn note_read(&self, channel: ChannelKey, network_ids: Vec<String>, at: Millis) -> Result<(), StoreError> {
        self.opened().await?.writer.run(move |writing| incoming::note_read(&writing.0, channel, &network_ids, at)).await
    }

    async fn release(&self, channel: ChannelKey) -> Result<(), StoreError> {
        self.opened().await?.writer.run(move |writing| incoming::release(&writing.0, channel)).await
    }

    async fn set_windowed(&self, channel: ChannelKey, is_windowed: bool) -> Result<(), StoreError> {
        self.opened().await?.writer.run(move |writing| incoming::set_windowed(&writing.0, channel, is_windowed)).await
    }

    async fn is_windowed(&self, channel: ChannelKey) -> Result<bool, StoreError> {
        self.opened().await?.writer.run(move |writing| incoming::is_windowed(&writing.0, channel)).await
    }

    async fn last(&self, institution: InstitutionId) -> Result<Option<i64>, StoreError> {
        self.opened().await?.writer.run(move |writing| last(&writing.0, institution)).await
    }

    async fn clear(&self, institution: InstitutionId, last: i64) -> Result<bool, StoreError> {
        self.opened().await?.writer.run(move |writing| clear(&writing.0, institution, last)).await
    }

    async fn purge(&self, after: i64, before: Millis) -> Result<(u64, Option<i64>), StoreError> {
        self.opened().await?.writer.run(move |writing| purge::purge(&writing.0, after, before)).await
    }

    async fn shown(&self, query: PhoneQuery) -> Result<Option<Vec<Shown>>, StoreError> {
        self.opened().await?.readers.read(move |connection| shown(connection, &query)).await
    }

    async fn person(&self, person: Person, after: i64) -> Result<ShownOfPerson, StoreError> {
        self.opened().await?.readers.read(move |connection| of_person(connection, &person, after)).await
    }

    async fn erase(&self, person: Person, after: i64) -> Result<(u64, Option<i64>), StoreError> {
        self.opened().await?.writer.run(move |writing| erase(&writing.0, &person, after)).await
    }

    async fn forget_erased(&self) -> Result<bool, StoreError> {
        self.opened().await?.writer.empty_log().await
    }

    fn poll_interval(&self) -> Option<Duration> {
        // This process notices every arrival.
        None
    }

    async fn close(&self) {
        if let Some(opened) = self.opened.get() {
            opened.readers.close();
            opened.writer.close().await;
        }
    }
}

fn arrive(connection: &Connection, arrival: &Arrival) -> rusqlite::Result<()> {
    let Arrival { via, message, at, .. } = arrival;
    connection
        .prepare_cached("INSERT INTO arrivals (network_id, arrived_at) VALUES (?1, ?2)")?
        .execute(params![message.network_id, at])?;
    let next = incoming::NEXT;
    connection
        .prepare_cached(&format!(
            "INSERT INTO phone (n, network_id, id, institution_id, channel_key, channel_id, recipient, kind, contact,
                                rendition, received_at, receipts, vcard)
             VALUES ({next}, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, '')
             -- Shown once. A phone that gets a message again sends its receipts again.
             -- A late earlier attempt, whose receipts are lost, removes no receipts.
             ON CONFLICT (network_id) DO UPDATE SET receipts = min(excluded.receipts, phone.receipts)"
        ))?
        .execute(params![
            message.network_id,
            arrival.shown_id(),
            via.institution.as_bytes(),
            via.key,
            via.id.as_str(),
            message.recipient,
            message.kind,
            message.payload,
            message.rendition,
            at,
            arrival.initial_receipts(),
        ])?;
    Ok(())
}

fn due(connection: &Connection, now: Millis, delay: Millis) -> rusqlite::Result<(Vec<Due>, bool)> {
    let mut statement = connection.prepare_cached(
        "SELECT n, receipts, received_at, channel_key, network_id FROM phone INDEXED BY phone_pending
         -- DELIVERED one delay after the arrival, READ two.
         WHERE receipts < 2 AND received_at + ?2 * (1 + receipts) <= ?1
         ORDER BY n LIMIT ?3",
    )?;
    let rows = statement.query_map(params![now, delay, RECEIPTS_AT_ONCE], |row| {
        Ok(Due::new((row.get(0)?, row.get(1)?, row.get(2)?), row.get(3)?, row.get(4)?, (now, delay)))
    })?;
    let due = rows.collect::<rusqlite::Result<_>>()?;
    let pending = "SELECT EXISTS (SELECT 1 FROM phone INDEXED BY phone_pending WHERE receipts < 2)";
    Ok((due, connection.prepare_cached(pending)?.query_row([], |row| row.get(0))?))
}

fn mark_accepted(connection: &Connection, due: &[Due]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("UPDATE phone SET receipts = ?3 WHERE n = ?1 AND receipts = ?2")?;
    for due in due {
        statement.execute(params![due.row, due.accepted, due.next()])?;
    }
    Ok(())
}

fn last(connection: &Connection, institution: InstitutionId) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT max(n) FROM (SELECT max(n) AS n FROM phone WHERE institution_id = ?1
                                   UNION ALL SELECT max(n) FROM incoming WHERE institution_id = ?1)";
    connection.prepare_cached(sql)?.query_row([institution.as_bytes()], |row| row.get(0))
}

fn clear(connection: &Connection, institution: InstitutionId, last: i64) -> rusqlite::Result<bool> {
    const FIRST: &str = "FROM phone WHERE institution_id = ?1 AND n <= ?2 ORDER BY n LIMIT ?3";
    const INCOMING: &str = "DELETE FROM incoming WHERE n IN (SELECT n FROM incoming
         WHERE institution_id = ?1 AND n <= ?2 ORDER BY n LIMIT ?3)";
    let first = params![institution.as_bytes(), last, CLEAR_AT_ONCE];
    let arrivals = format!("DELETE FROM arrivals WHERE network_id IN (SELECT network_id {FIRST})");
    connection.prepare_cached(&arrivals)?.execute(first)?;
    let phone = format!("DELETE FROM phone WHERE n IN (SELECT n {FIRST})");
    let phone = connection.prepare_cached(&phone)?.execute(first)?;
    Ok(phone + connection.prepare_cached(INCOMING)?.execute(first)? > 0)
}

fn shown(connection: &Connection, query: &PhoneQuery) -> rusqlite::Result<Option<Vec<Shown>>> {
    let institution = query.institution.as_bytes();
    let before = match &query.before {
        None => i64::MAX,
        Some(id) => {
            let found = connection
                .prepare_cached(
                    "SELECT n FROM phone WHERE network_id = ?1 AND institution_id = ?2
                     UNION ALL SELECT n FROM incoming WHERE network_id = ?1 AND institution_id = ?2",
                )?
                .query_row(params![id.as_str(), institution], |row| row.get(0))
                .optional()?;
            match found {
                Some(n) => n,
                None => return Ok(None),
            }
        }
    };
    let mut statement = connection.prepare_cached(
        "SELECT * FROM (
             SELECT * FROM (
                 SELECT id, channel_id, network_id, recipient, kind, contact, rendition, vcard, received_at,
                        (SELECT count(*) FROM arrivals WHERE arrivals.network_id = phone.network_id), 'OUTBOUND', n, NULL
                 FROM phone
                 WHERE institution_id = ?1 AND n < ?2 AND (?3 IS NULL OR recipient = ?3) AND ?5 IS NOT 'INBOUND'
                 ORDER BY n DESC LIMIT ?4)
             UNION ALL
             SELECT * FROM (
                 SELECT id, channel_id, network_id, person, kind, payload, NULL, '', received_at,
                        CASE WHEN state < 2 THEN 0 ELSE repeat END, 'INBOUND', n, read_at
                 FROM incoming
                 WHERE institution_id = ?1 AND n < ?2 AND ?3 IS NULL AND ?5 IS NOT 'OUTBOUND'
                 ORDER BY n DESC LIMIT ?4))
         ORDER BY n DESC LIMIT ?4",
    )?;
    let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
    let direction = query.direction.map(Direction::name);
    let rows = statement.query_map(params![institution, before, query.recipient, limit, direction], read_shown)?;
    rows.collect::<rusqlite::Result<_>>().map(Some)
}

/// The condition for a person's rows in a range of the inbox.
const OF_PERSON: &str = "n > ?3 AND n <= ?4 AND recipient IN (SELECT value FROM json_each(?1))
     AND (?2 IS NULL OR institution_id = ?2)";
/// The same for what the person did.
const BY_PERSON: &str = "n > ?3 AND n <= ?4 AND person IN (SELECT value FROM json_each(?1))
     AND (?2 IS NULL OR institution_id = ?2)";

/// A person's numbers and institution as statement parameters, and the last row of the range.
type PersonParameters = (String, Option<[u8; 16]>, Option<i64>);

fn theirs(connection: &Connection, person: &Person, after: i64) -> rusqlite::Result<PersonParameters> {
    let numbers = serde_json::to_string(&person.numbers);
    let numbers = numbers.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let sql = "SELECT max(n) FROM (
                   SELECT n FROM (SELECT n FROM phone WHERE n > ?1 ORDER BY n LIMIT ?2)
                   UNION ALL SELECT n FROM (SELECT n FROM incoming WHERE n > ?1 ORDER BY n LIMIT ?2)
                   ORDER BY n LIMIT ?2)";
    let end = connection
        .prepare_cached(sql)?
        .query_row([after, recado_domain::message::SCANNED_AT_MOST], |row| row.get(0))?;
    Ok((numbers, person.institution.map(|institution| *institution.as_bytes()), end))
}

fn of_person(connection: &Connection, person: &Person, after: i64) -> rusqlite::Result<ShownOfPerson> {
    let (numbers, institution, end) = theirs(connection, person, after)?;
    let Some(end) = end else { return Ok(ShownOfPerson { shown: Vec::new(), next: None }) };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT id, channel_id, network_id, recipient, kind, contact, rendition, vcard, received_at,
                (SELECT count(*) FROM arrivals WHERE arrivals.network_id = phone.network_id), 'OUTBOUND', n, NULL,
                institution_id
         FROM phone WHERE {OF_PERSON}
         UNION ALL
         SELECT id, channel_id, network_id, person, kind, payload, NULL, '', received_at,
                CASE WHEN state < 2 THEN 0 ELSE repeat END, 'INBOUND', n, read_at, institution_id
         FROM incoming WHERE {BY_PERSON}
         ORDER BY n LIMIT ?5"
    ))?;
    let most = i64::try_from(MESSAGES).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![numbers, institution, after, end, most], |row| {
        Ok((row.get::<_, i64>(11)?, (InstitutionId::from_bytes(row.get(13)?), read_shown(row)?)))
    })?;
    let (places, shown): (Vec<i64>, Vec<_>) = rows.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().unzip();
    let next = if shown.len() == MESSAGES { places.last().copied() } else { Some(end) };
    Ok(ShownOfPerson { shown, next })
}

fn erase(connection: &Connection, person: &Person, after: i64) -> rusqlite::Result<(u64, Option<i64>)> {
    let (numbers, institution, end) = theirs(connection, person, after)?;
    let Some(end) = end else { return Ok((0, None)) };
    connection
        .prepare_cached(&format!(
            "DELETE FROM arrivals WHERE network_id IN (SELECT network_id FROM phone WHERE {OF_PERSON})"
        ))?
        .execute(params![numbers, institution, after, end])?;
    let erased = connection.prepare_cached(&format!("DELETE FROM phone WHERE {OF_PERSON}"))?.execute(params![
        numbers,
        institution,
        after,
        end
    ])?;
    let incoming = connection.prepare_cached(&format!("DELETE FROM incoming WHERE {BY_PERSON}"))?.execute(params![
        numbers,
        institution,
        after,
        end
    ])?;
    Ok((erased as u64 + incoming as u64, Some(end)))
}

fn read_shown(row: &Row<'_>) -> rusqlite::Result<Shown> {
    let (kind, rendition) = kind_and_rendition(row.get(4)?, row.get(6)?, row.get(7)?);
    Ok(Shown {
        id: row.get(0)?,
        channel_id: row.get(1)?,
        network_id: row.get(2)?,
        recipient: row.get(3)?,
        payload: row.get(5)?,
        kind,
        rendition,
        received_at: row.get(8)?,
        arrivals: row.get(9)?,
        read_at: row.get(12)?,
        direction: if row.get_ref(10)?.as_str()? == "INBOUND" { Direction::Inbound } else { Direction::Outbound },
    })
}
