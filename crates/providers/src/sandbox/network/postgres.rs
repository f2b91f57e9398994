//! The simulated network in a shared database: all nodes have the same inbox.
//!
//! It survives the crash of any node, and of the database.

mod incoming;
mod purge;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use recado_domain::channel::ChannelKey;
use recado_domain::clock::{Millis, millis};
use recado_domain::ids::InstitutionId;
use recado_domain::incoming::Direction;
use recado_store::StoreError;
use recado_store::person::{MESSAGES, Person};
use recado_store::sqlkit::batches::{Batches, Bounds, Waiting};
use recado_store::sqlkit::postgres::db::{Db, Done, args, column, not_understood, with_connection, with_transaction};
use recado_store::sqlkit::postgres::pool::{Database, Pool};
use tokio_postgres::Row;

use crate::sandbox::network::{
    Arrival, Due, KeptAct, Network, Passed, PhoneQuery, RECEIPTS_AT_ONCE, ReceiptSink, Shown, ShownOfPerson,
    kind_and_rendition,
};

/// Connections for this node's network, beside those of the store.
const CONNECTIONS: usize = 4;
/// The time limit for the gateway to record receipts, below that of a transaction.
const PASSING: Duration = Duration::from_secs(4);
/// How long receipts that the gateway could not record are skipped.
const ASIDE: Duration = Duration::from_secs(5);
/// The interval of polls for receipts that other nodes left.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Rows that one statement deletes.
const CLEAR_AT_ONCE: i64 = 5_000;

/// The commit does not wait for the disk. It is for progress that is repeated if a crash of the database loses it. An arrival is not
/// repeated: the node that sent it does not crash with the database, and records the message as sent.
const FAST: &str = "fast AS (SELECT set_config('synchronous_commit', 'off', true))";

/// Concurrent arrivals share one statement.
const BOUNDS: Bounds = Bounds { most: 128, side_by_side: 2, waiting: 1_024 };

/// The tables.
pub(in crate::sandbox) struct Tables {
    pool: Pool,
    arrivals: Batches<Arrival, Result<(), StoreError>>,
}

impl Tables {
    /// Does not connect yet.
    pub(in crate::sandbox) fn new(database: &Arc<Database>) -> anyhow::Result<Self> {
        let pool = database.pool(CONNECTIONS)?;
        let of_batches = pool.clone();
        let arrivals = Batches::start(BOUNDS, move |batch| arrive_together(of_batches.clone(), batch));
        Ok(Self { pool, arrivals })
    }
}

/// Stores a batch of messages, and answers their callers.
async fn arrive_together(pool: Pool, batch: Vec<Waiting<Arrival, Result<(), StoreError>>>) {
    let mut left = batch;
    while !left.is_empty() {
        // Sorted by id, so that two batches with the same messages cannot deadlock; each id once.
        left.sort_by(|a, b| a.work.message.network_id.cmp(&b.work.message.network_id));
        let mut ids = HashSet::new();
        let (now, later): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|one| ids.insert(one.work.message.network_id.clone()));
        let arrivals: Vec<_> = now.iter().map(|one| &one.work).collect();
        let mut results: Vec<Result<(), StoreError>> = match arrive_all(&pool, &arrivals).await {
            // One of them is invalid, and must not make the others fail.
            Err(StoreError::Refused(_) | StoreError::Overloaded) if arrivals.len() > 1 => Vec::new(),
            done => vec![done; arrivals.len()],
        };
        if results.is_empty() {
            for arrival in &arrivals {
                results.push(arrive_all(&pool, &[arrival]).await);
            }
        }
        // A caller may have gone.
        now.into_iter().zip(results).for_each(|(one, result)| drop(one.answer.send(result)));
        left = later;
    }
}

async fn arrive_all(pool: &Pool, arrivals: &[&Arrival]) -> Result<(), StoreError> {
    with_connection!(pool, db => arrive(db, arrivals))
}

#[async_trait]
impl Network for Tables {
    async fn arrive(&self, arrival: Arrival) -> Result<(), StoreError> {
        self.arrivals.ask(arrival).await?
    }

    async fn pass_on(&self, now: Millis, delay: Millis, to: &dyn ReceiptSink) -> Result<Passed, StoreError> {
        // A failing receiver is no failure of this database.
        let passed: Result<_, StoreError> = with_transaction!(self.pool, db => pass_on(db, (now, delay), to).await);
        passed?
    }

    async fn keep(&self, kept: KeptAct) -> Result<i64, StoreError> {
        with_connection!(self.pool, db => incoming::keep(db, &kept))
    }

    async fn undelivered(&self, channel: Option<ChannelKey>, before: Millis) -> Result<Vec<KeptAct>, StoreError> {
        with_connection!(self.pool, db => incoming::undelivered(db, channel, before))
    }

    async fn delivered(&self, n: i64, times: u32) -> Result<(), StoreError> {
        with_connection!(self.pool, db => incoming::delivered(db, n, times))
    }

    async fn note_read(&self, channel: ChannelKey, network_ids: Vec<String>, at: Millis) -> Result<(), StoreError> {
        with_connection!(self.pool, db => incoming::note_read(db, channel, &network_ids, at))
    }

    async fn release(&self, channel: ChannelKey) -> Result<(), StoreError> {
        with_connection!(self.pool, db => incoming::release(db, channel))
    }

    async fn set_windowed(&self, channel: ChannelKey, is_windowed: bool) -> Result<(), StoreError> {
        with_connection!(self.pool, db => incoming::set_windowed(db, channel, is_windowed))
    }

    async fn is_windowed(&self, channel: ChannelKey) -> Result<bool, StoreError> {
        with_connection!(self.pool, db => incoming::is_windowed(db, channel))
    }

    async fn last(&self, institution: InstitutionId) -> Result<Option<i64>, StoreError> {
        with_connection!(self.pool, db => last(db, institution))
    }

    async fn clear(&self, institution: InstitutionId, last: i64) -> Result<bool, StoreError> {
        with_connection!(self.pool, db => clear(db, institution, last))
    }

    async fn purge(&self, after: i64, before: Millis) -> Result<(u64, Option<i64>), StoreError> {
        with_connection!(self.pool, db => purge::purge(db, after, before))
    }

    async fn shown(&self, query: PhoneQuery) -> Result<Option<Vec<Shown>>, StoreError> {
        with_connection!(self.pool, db => shown(db, &query))
    }

    async fn person(&self, person: Person, after: i64) -> Result<ShownOfPerson, StoreError> {
        with_connection!(self.pool, db => of_person(db, &person, after))
    }

    async fn erase(&self, person: Person, after: i64) -> Result<(u64, Option<i64>), StoreError> {
        with_connection!(self.pool, db => erase(db, &person, after))
    }

    async fn forget_erased(&self) -> Result<bool, StoreError> {
        // The database's own vacuum removes it later.
        Ok(false)
    }

    fn poll_interval(&self) -> Option<Duration> {
        Some(POLL_INTERVAL)
    }

    async fn close(&self) {
        self.pool.close();
    }
}

async fn arrive(db: Db<'_>, arrivals: &[&Arrival]) -> Done<()> {
    db.run(
        include_str!("postgres/arrive.sql"),
        args![
            column(arrivals, |arrival| arrival.message.network_id.as_str()),
            column(arrivals, |arrival| arrival.shown_id()),
            column(arrivals, |arrival| &arrival.via.institution.as_bytes()[..]),
            column(arrivals, |arrival| arrival.via.key),
            column(arrivals, |arrival| arrival.via.id.as_str()),
            column(arrivals, |arrival| arrival.message.recipient.as_str()),
            column(arrivals, |arrival| arrival.message.kind.as_str()),
            column(arrivals, |arrival| arrival.message.payload.as_str()),
            column(arrivals, |arrival| arrival.message.rendition.as_deref()),
            column(arrivals, |arrival| arrival.at),
            column(arrivals, |arrival| i16::from(arrival.initial_receipts())),
        ],
    )
    .await?;
    Ok(())
}

/// Sends receipts in a transaction that keeps their rows locked meanwhile. Other nodes skip these rows, and another node
/// sends them if this node crashes.
async fn pass_on(db: Db<'_>, (now, delay): (Millis, Millis), to: &dyn ReceiptSink) -> Done<Result<Passed, StoreError>> {
    let due = due(db, now, delay).await?;
    if due.is_empty() {
        let sql = "SELECT FROM sandbox_phone WHERE receipts < 2 LIMIT 1";
        let pending = db.row(sql, args![]).await?.is_some();
        return Ok(Ok(if pending { Passed::NotYet } else { Passed::None }));
    }
    let accepting = to.accept(due.iter().flat_map(|due| due.receipts.iter().cloned()).collect());
    let accepted = tokio::time::timeout(PASSING, accepting).await.unwrap_or(Err(StoreError::Overloaded));
    if let Err(error) = accepted {
        // Other receipts come first next time.
        let sql = "UPDATE sandbox_phone SET reserved_until = $2 WHERE n = any($1)";
        db.run(sql, args![column(&due, |due| due.row), now + millis(ASIDE)]).await?;
        return Ok(Err(error));
    }
    mark_accepted(db, &due).await?;
    Ok(Ok(Passed::Some))
}

async fn due(db: Db<'_>, now: Millis, delay: Millis) -> Done<Vec<Due>> {
    let sql = format!(
        "WITH {FAST},
              -- The transaction is idle while the gateway stores the receipts.
              patient AS (SELECT set_config('idle_in_transaction_session_timeout', '0', true))
         SELECT p.n, p.receipts, p.received_at, p.channel_key, p.network_id
         FROM fast, patient, sandbox_phone p
         WHERE p.receipts < 2 AND p.reserved_until <= $1 AND p.received_at + $2 * (1 + p.receipts) <= $1
         ORDER BY p.n LIMIT $3 FOR NO KEY UPDATE OF p SKIP LOCKED"
    );
    let rows = db.rows(&sql, args![now, delay, RECEIPTS_AT_ONCE]).await?;
    let of = |row: &Row| {
        let accepted = u8::try_from(row.get::<_, i16>("receipts"));
        let accepted = accepted.map_err(|_| not_understood("receipts of the sandbox"))?;
        let progress = (row.get("n"), accepted, row.get("received_at"));
        Ok(Due::new(progress, row.get("channel_key"), row.get("network_id"), (now, delay)))
    };
    rows.iter().map(of).collect()
}

async fn mark_accepted(db: Db<'_>, due: &[Due]) -> Done<()> {
    let sql = "UPDATE sandbox_phone p SET receipts = due.next
               FROM unnest($1, $2, $3) AS due (n, accepted, next)
               WHERE p.n = due.n AND p.receipts = due.accepted";
    db.run(
        sql,
        args![
            column(due, |due| due.row),
            column(due, |due| i16::from(due.accepted)),
            column(due, |due| i16::from(due.next())),
        ],
    )
    .await?;
    Ok(())
}

/// The last message of an institution's inbox.
async fn last(db: Db<'_>, institution: InstitutionId) -> Done<Option<i64>> {
    let sql = "SELECT max(n) FROM (SELECT max(n) AS n FROM sandbox_phone WHERE institution_id = $1
                                   UNION ALL SELECT max(n) FROM sandbox_incoming WHERE institution_id = $1) AS last";
    Ok(db.row(sql, args![&institution.as_bytes()[..]]).await?.and_then(|row| row.get(0)))
}

async fn clear(db: Db<'_>, institution: InstitutionId, last: i64) -> Done<bool> {
    let cleared =
        db.rows(include_str!("postgres/clear.sql"), args![&institution.as_bytes()[..], last, CLEAR_AT_ONCE]).await?;
    Ok(!cleared.is_empty())
}

async fn shown(db: Db<'_>, query: &PhoneQuery) -> Done<Option<Vec<Shown>>> {
    let institution = &query.institution.as_bytes()[..];
    let before = match &query.before {
        None => i64::MAX,
        Some(id) => {
            let sql = "SELECT n FROM sandbox_phone WHERE network_id = $1 AND institution_id = $2
                       UNION ALL SELECT n FROM sandbox_incoming WHERE network_id = $1 AND institution_id = $2";
            let Some(row) = db.row(sql, args![id.as_str(), institution]).await? else { return Ok(None) };
            row.get(0)
        }
    };
    let sql = "(SELECT id, channel_id, network_id, recipient, kind, contact, rendition, vcard, received_at,
                       (SELECT count(*) FROM sandbox_arrivals a WHERE a.network_id = p.network_id), 'OUTBOUND', n, NULL
                FROM sandbox_phone p
                WHERE (institution_id, n) >= ($1, 0) AND (institution_id, n) < ($1, $2)
                  AND ($3::text IS NULL OR recipient = $3) AND $5::text IS DISTINCT FROM 'INBOUND'
                ORDER BY institution_id DESC, n DESC LIMIT $4)
               UNION ALL
               (SELECT id, channel_id, network_id, person, kind, payload, NULL, '', received_at,
                       CASE WHEN state < 2 THEN 0 ELSE repeat END, 'INBOUND', n, read_at
                FROM sandbox_incoming
                WHERE (institution_id, n) >= ($1, 0) AND (institution_id, n) < ($1, $2)
                  AND $3::text IS NULL AND $5::text IS DISTINCT FROM 'OUTBOUND'
                ORDER BY institution_id DESC, n DESC LIMIT $4)
               ORDER BY n DESC LIMIT $4";
    let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
    let direction = query.direction.map(Direction::name);
    let rows = db.rows(sql, args![institution, before, query.recipient, limit, direction]).await?;
    rows.iter().map(read_shown).collect::<Done<_>>().map(Some)
}

/// The condition for a person's rows in a range of the inbox.
const OF_PERSON: &str = "n > $3 AND n <= $4 AND recipient = any($1) AND ($2 IS NULL OR institution_id = $2)";
/// The same for what the person did.
const BY_PERSON: &str = "n > $3 AND n <= $4 AND person = any($1) AND ($2 IS NULL OR institution_id = $2)";

/// The last row of the range after this one.
async fn end(db: Db<'_>, after: i64) -> Done<Option<i64>> {
    let sql = "SELECT max(n) FROM (
                   (SELECT n FROM sandbox_phone WHERE n > $1 ORDER BY n LIMIT $2)
                   UNION ALL (SELECT n FROM sandbox_incoming WHERE n > $1 ORDER BY n LIMIT $2)
                   ORDER BY n LIMIT $2) p";
    Ok(db.row(sql, args![after, recado_domain::message::SCANNED_AT_MOST]).await?.and_then(|row| row.get(0)))
}

fn institution(person: &Person) -> Option<Vec<u8>> {
    person.institution.map(|institution| institution.as_bytes().to_vec())
}

async fn of_person(db: Db<'_>, person: &Person, after: i64) -> Done<ShownOfPerson> {
    let Some(end) = end(db, after).await? else { return Ok(ShownOfPerson { shown: Vec::new(), next: None }) };
    let sql = format!(
        "SELECT id, channel_id, network_id, recipient, kind, contact, rendition, vcard, received_at,
                (SELECT count(*) FROM sandbox_arrivals a WHERE a.network_id = p.network_id), 'OUTBOUND', n, NULL,
                institution_id
         FROM sandbox_phone p WHERE {OF_PERSON}
         UNION ALL
         SELECT id, channel_id, network_id, person, kind, payload, NULL, '', received_at,
                CASE WHEN state < 2 THEN 0 ELSE repeat END, 'INBOUND', n, read_at, institution_id
         FROM sandbox_incoming WHERE {BY_PERSON}
         ORDER BY n LIMIT $5"
    );
    let most = i64::try_from(MESSAGES).unwrap_or(i64::MAX);
    let rows = db.rows(&sql, args![person.numbers, institution(person), after, end, most]).await?;
    let of = |row: &Row| {
        let institution = row.get::<_, &[u8]>(13).try_into().map_err(|_| not_understood("institution id"))?;
        Ok((InstitutionId::from_bytes(institution), read_shown(row)?))
    };
    let shown = rows.iter().map(of).collect::<Done<Vec<_>>>()?;
    let next = if shown.len() == MESSAGES { rows.last().map(|row| row.get(11)) } else { Some(end) };
    Ok(ShownOfPerson { shown, next })
}

async fn erase(db: Db<'_>, person: &Person, after: i64) -> Done<(u64, Option<i64>)> {
    let Some(end) = end(db, after).await? else { return Ok((0, None)) };
    let sql = format!(
        "WITH shown AS (DELETE FROM sandbox_phone WHERE {OF_PERSON} RETURNING network_id),
              arrived AS (DELETE FROM sandbox_arrivals WHERE network_id IN (SELECT network_id FROM shown)),
              incoming AS (DELETE FROM sandbox_incoming WHERE {BY_PERSON} RETURNING network_id)
         SELECT (SELECT count(*) FROM shown) + (SELECT count(*) FROM incoming)"
    );
    let row = db.row(&sql, args![person.numbers, institution(person), after, end]).await?;
    let erased = row.map_or(0, |row| row.get::<_, i64>(0));
    Ok((u64::try_from(erased).unwrap_or(0), Some(end)))
}

fn read_shown(row: &Row) -> Done<Shown> {
    let (kind, rendition) = kind_and_rendition(row.get(4), row.get(6), row.get(7));
    Ok(Shown {
        id: row.get(0),
        channel_id: row.get(1),
        network_id: row.get(2),
        recipient: row.get(3),
        payload: row.get(5),
        kind,
        rendition,
        received_at: row.get(8),
        arrivals: u32::try_from(row.get::<_, i64>(9)).map_err(|_| not_understood("number of arrivals"))?,
        read_at: row.get(12),
        direction: if row.get::<_, &str>(10) == "INBOUND" { Direction::Inbound } else { Direction::Outbound },
    })
}
