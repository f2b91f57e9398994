//! The simulated network in the database that nodes share: one phone for all of them.
//!
//! It survives the death of any node, and of the database's process; its last moments may be lost with the machine.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use recado_domain::clock::{Millis, millis};
use recado_domain::ids::InstitutionId;
use recado_store::StoreError;
use recado_store::person::{MESSAGES, Person};
use recado_store::sqlkit::postgres::db::{Db, Done, args, not_understood, plainly};
use recado_store::sqlkit::postgres::pool::{Database, Pool};
use tokio_postgres::Row;

use crate::sandbox::network::{Arrival, Due, Network, PhoneQuery, RECEIPTS_AT_ONCE, Shown, ShownOfPerson};

/// Connections of this node's network, beside those of the store.
const CONNECTIONS: usize = 4;
/// How long a node has receipts to itself that it is passing on. When it dies, they are anybody's.
const RESERVED: Duration = Duration::from_secs(5);
/// How often a node looks for what others left.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Rows that are deleted at a time.
const CLEAR_AT_ONCE: i64 = 5_000;

/// The commit waits for no disk: what is told of it here is no promise to anybody. But where there is a standby, the phone
/// outlasts the primary like the store does.
const FAST: &str = "fast as (select set_config('synchronous_commit',
    case current_setting('synchronous_standby_names') when '' then 'off'
         else current_setting('synchronous_commit') end, true))";

/// The tables.
pub(in crate::sandbox) struct Tables(Pool);

impl Tables {
    /// Connects nothing yet.
    pub(in crate::sandbox) fn new(database: &Arc<Database>) -> anyhow::Result<Self> {
        Ok(Self(database.pool(CONNECTIONS)?))
    }
}

#[async_trait]
impl Network for Tables {
    async fn arrive(&self, arrival: Arrival) -> Result<(), StoreError> {
        plainly!(self.0, db => arrive(db, &arrival))
    }

    async fn due(&self, now: Millis, delay: Millis) -> Result<(Vec<Due>, bool), StoreError> {
        plainly!(self.0, db => due(db, now, delay))
    }

    async fn taken(&self, due: Vec<Due>) -> Result<(), StoreError> {
        plainly!(self.0, db => taken(db, &due))
    }

    async fn last(&self, institution: InstitutionId) -> Result<Option<i64>, StoreError> {
        plainly!(self.0, db => last(db, institution))
    }

    async fn clear(&self, institution: InstitutionId, last: i64) -> Result<bool, StoreError> {
        plainly!(self.0, db => clear(db, institution, last))
    }

    async fn shown(&self, query: PhoneQuery) -> Result<Option<Vec<Shown>>, StoreError> {
        plainly!(self.0, db => shown(db, &query))
    }

    async fn person(&self, person: Person, after: i64) -> Result<ShownOfPerson, StoreError> {
        plainly!(self.0, db => of_person(db, &person, after))
    }

    async fn erase(&self, person: Person, after: i64) -> Result<(u64, Option<i64>), StoreError> {
        plainly!(self.0, db => erase(db, &person, after))
    }

    async fn forget_erased(&self) -> Result<bool, StoreError> {
        // The database's own clearing away comes in its time.
        Ok(false)
    }

    fn look_every(&self) -> Option<Duration> {
        Some(LOOK_EVERY)
    }

    async fn close(&self) {
        self.0.close();
    }
}

async fn arrive(db: Db<'_>, arrival: &Arrival) -> Done<()> {
    let Arrival { via, message, at, .. } = arrival;
    let sql = format!(
        "with {FAST}, arrived as (insert into sandbox_arrivals (network_id, arrived_at) values ($1, $9))
         insert into sandbox_phone (network_id, id, institution_id, channel_key, channel_id, recipient, contact, vcard,
                                    received_at, receipts)
         select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10 from fast
         -- Shown once. A phone that gets a message again sends its receipts again.
         -- An earlier sending that comes late, and whose receipts are lost, takes none away.
         on conflict (network_id) do update
             set receipts = least(excluded.receipts, sandbox_phone.receipts), reserved_until = 0"
    );
    db.run(
        &sql,
        args![
            message.network_id.as_str(),
            arrival.shown_id(),
            &via.institution.as_bytes()[..],
            via.key,
            via.id.as_str(),
            message.recipient.as_str(),
            message.payload.as_str(),
            message.card.as_str(),
            *at,
            i16::from(arrival.receipts_stand()),
        ],
    )
    .await?;
    Ok(())
}

async fn due(db: Db<'_>, now: Millis, delay: Millis) -> Done<(Vec<Due>, bool)> {
    let sql = format!(
        "with {FAST}, next as (
             select n from sandbox_phone
             -- DELIVERED one delay after the arrival, READ two.
             where receipts < 2 and reserved_until <= $1 and received_at + $2 * (1 + receipts) <= $1
             -- What another node is just reserving is not waited for.
             order by n limit $3 for no key update skip locked
         )
         update sandbox_phone p set reserved_until = $4 from next, fast where p.n = next.n
         returning p.n, p.receipts, p.channel_key, p.network_id"
    );
    let rows = db.rows(&sql, args![now, delay, RECEIPTS_AT_ONCE, now + millis(RESERVED)]).await?;
    if rows.is_empty() {
        let sql = "select from sandbox_phone where receipts < 2 and reserved_until <= $1 limit 1";
        return Ok((Vec::new(), db.row(sql, args![now]).await?.is_some()));
    }
    let of = |row: &Row| {
        let taken = u8::try_from(row.get::<_, i16>(1)).map_err(|_| not_understood("receipts of the sandbox"))?;
        Ok(Due::new((row.get(0), taken), row.get(2), row.get(3), now))
    };
    let mut due = rows.iter().map(of).collect::<Done<Vec<_>>>()?;
    due.sort_unstable_by_key(|due| due.row);
    Ok((due, true))
}

async fn taken(db: Db<'_>, due: &[Due]) -> Done<()> {
    let rows: Vec<i64> = due.iter().map(|due| due.row).collect();
    let taken: Vec<i16> = due.iter().map(|due| i16::from(due.taken)).collect();
    let next: Vec<i16> = due.iter().map(|due| i16::from(due.next())).collect();
    let sql = format!(
        "with {FAST}
         update sandbox_phone p set receipts = due.next, reserved_until = 0
         from unnest($1, $2, $3) as due (n, taken, next), fast
         where p.n = due.n and p.receipts = due.taken"
    );
    db.run(&sql, args![rows, taken, next]).await?;
    Ok(())
}

/// The last message on an institution's phone.
async fn last(db: Db<'_>, institution: InstitutionId) -> Done<Option<i64>> {
    let sql = "select max(n) from sandbox_phone where institution_id = $1";
    Ok(db.row(sql, args![&institution.as_bytes()[..]]).await?.and_then(|row| row.get(0)))
}

async fn clear(db: Db<'_>, institution: InstitutionId, last: i64) -> Done<bool> {
    let sql = format!(
        "with {FAST}, first as (
             select n from sandbox_phone
             -- In the order of its index, which the primary key does not have.
             where (institution_id, n) > ($1, 0) and (institution_id, n) <= ($1, $2) order by institution_id, n limit $3
         ), shown as (
             delete from sandbox_phone where n in (select n from first) returning network_id
         ), arrived as (
             delete from sandbox_arrivals where network_id in (select network_id from shown)
         )
         select network_id from shown, fast"
    );
    let cleared = db.rows(&sql, args![&institution.as_bytes()[..], last, CLEAR_AT_ONCE]).await?;
    Ok(!cleared.is_empty())
}

async fn shown(db: Db<'_>, query: &PhoneQuery) -> Done<Option<Vec<Shown>>> {
    let institution = &query.institution.as_bytes()[..];
    let before = match &query.before {
        None => i64::MAX,
        Some(id) => {
            let sql = "select n from sandbox_phone where network_id = $1 and institution_id = $2";
            let Some(row) = db.row(sql, args![id.as_str(), institution]).await? else { return Ok(None) };
            row.get(0)
        }
    };
    let sql = "select id, channel_id, network_id, recipient, contact, vcard, received_at,
                      (select count(*) from sandbox_arrivals a where a.network_id = p.network_id)
               from sandbox_phone p
               where (institution_id, n) >= ($1, 0) and (institution_id, n) < ($1, $2)
                 and ($3 is null or recipient = $3)
               order by institution_id desc, n desc limit $4";
    let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
    let rows = db.rows(sql, args![institution, before, query.recipient, limit]).await?;
    rows.iter().map(read_shown).collect::<Done<_>>().map(Some)
}

/// A person's rows in a range of the phone.
const THEIRS: &str = "n > $3 and n <= $4 and recipient = any($1) and ($2 is null or institution_id = $2)";

/// The last row of the range behind this one.
async fn end(db: Db<'_>, after: i64) -> Done<Option<i64>> {
    let sql = "select max(n) from (select n from sandbox_phone where n > $1 order by n limit $2) p";
    Ok(db.row(sql, args![after, recado_domain::message::SCANNED_AT_MOST]).await?.and_then(|row| row.get(0)))
}

fn institution(person: &Person) -> Option<Vec<u8>> {
    person.institution.map(|institution| institution.as_bytes().to_vec())
}

async fn of_person(db: Db<'_>, person: &Person, after: i64) -> Done<ShownOfPerson> {
    let Some(end) = end(db, after).await? else { return Ok(ShownOfPerson { shown: Vec::new(), next: None }) };
    let sql = format!(
        "select id, channel_id, network_id, recipient, contact, vcard, received_at,
                (select count(*) from sandbox_arrivals a where a.network_id = p.network_id), institution_id, n
         from sandbox_phone p where {THEIRS} order by n limit $5"
    );
    let most = i64::try_from(MESSAGES).unwrap_or(i64::MAX);
    let rows = db.rows(&sql, args![person.numbers, institution(person), after, end, most]).await?;
    let of = |row: &Row| {
        let institution = row.get::<_, &[u8]>(8).try_into().map_err(|_| not_understood("institution id"))?;
        Ok((InstitutionId::from_bytes(institution), read_shown(row)?))
    };
    let shown = rows.iter().map(of).collect::<Done<Vec<_>>>()?;
    let next = if shown.len() == MESSAGES { rows.last().map(|row| row.get(9)) } else { Some(end) };
    Ok(ShownOfPerson { shown, next })
}

async fn erase(db: Db<'_>, person: &Person, after: i64) -> Done<(u64, Option<i64>)> {
    let Some(end) = end(db, after).await? else { return Ok((0, None)) };
    let sql = format!(
        "with shown as (delete from sandbox_phone where {THEIRS} returning network_id),
              arrived as (delete from sandbox_arrivals where network_id in (select network_id from shown))
         select count(*) from shown"
    );
    let row = db.row(&sql, args![person.numbers, institution(person), after, end]).await?;
    let erased = row.map_or(0, |row| row.get::<_, i64>(0));
    Ok((u64::try_from(erased).unwrap_or(0), Some(end)))
}

fn read_shown(row: &Row) -> Done<Shown> {
    Ok(Shown {
        id: row.get(0),
        channel_id: row.get(1),
        network_id: row.get(2),
        recipient: row.get(3),
        contact: row.get(4),
        vcard: row.get(5),
        received_at: row.get(6),
        arrivals: u32::try_from(row.get::<_, i64>(7)).map_err(|_| not_understood("number of arrivals"))?,
    })
}
