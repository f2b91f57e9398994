//! What is kept of one person: read in pages, and erased in batches.

use std::collections::HashMap;

use async_trait::async_trait;
use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::ids::MessageId;
use recado_domain::message::{Message, SCANNED_AT_MOST, Seq};
use recado_domain::queue::{Finish, PurgeRequest, Queued};
use recado_domain::status::MessageStatus;
use tokio_postgres::Row;

use super::apply::apply;
use super::events;
use super::lock::{lock_all, status};
use super::messages::{columns, message};
use super::{PgStore, purge};
use crate::person::{
    CHANNELS, EarlyReceipt, Erased, Erasure, MESSAGES, PLACES, Person, PersonPage, PersonPart, PersonQuery, PersonRow,
    Place,
};
use crate::sqlkit::postgres::db::{Db, Done, Failure, args, not_understood, plainly, transaction};
use crate::{Privacy, Result};

#[async_trait]
impl Privacy for PgStore {
    async fn person(&self, query: PersonQuery) -> Result<PersonPage> {
        plainly!(self.pool, db => page(db, &query))
    }

    async fn erase_person(&self, erasure: Erasure, now: Millis) -> Result<Erased> {
        transaction!(self.pool, db => erase(db, &erasure, now).await)
    }

    async fn forget_erased(&self) -> Result<bool> {
        // The database's own clearing away comes in its time.
        Ok(false)
    }

    async fn purge(&self, request: PurgeRequest) -> Result<Option<Seq>> {
        plainly!(self.pool, db => purge::purge(db, &request))
    }
}

/// Whether a message is the person's, by the number as it was typed or by the account as the network named it; `$1` are
/// their numbers, `$2` is whose channels are looked at.
const THEIRS: &str = "(m.recipient = any($1) or m.account = any($1))
     and ($2 is null or m.channel_key in (select key from channels where institution_id = $2))";

/// A question, as the statements take it.
struct Asked<'a> {
    db: Db<'a>,
    numbers: Vec<String>,
    institution: Option<Vec<u8>>,
    after: i64,
}

pub(super) async fn page(db: Db<'_>, query: &PersonQuery) -> Done<PersonPage> {
    let asked = Asked::new(db, &query.person, query.after);
    match query.part {
        PersonPart::Names => asked.names().await,
        PersonPart::Messages => asked.messages().await,
        PersonPart::Places => asked.places().await,
        PersonPart::Keys => asked.keys().await,
        PersonPart::Contacts => asked.contacts().await,
    }
}

/// A full page ends at its last row, the others where the look ended.
fn next(full: bool, last: Option<i64>, end: i64) -> Option<i64> {
    if full { last } else { Some(end) }
}

const NO_MORE: PersonPage = PersonPage { rows: Vec::new(), next: None };

impl<'a> Asked<'a> {
    fn new(db: Db<'a>, person: &Person, after: i64) -> Self {
        let institution = person.institution.map(|institution| institution.as_bytes().to_vec());
        Self { db, numbers: person.numbers.clone(), institution, after }
    }

    /// The last row that this page looks at, in a table's order; `None` when there is none.
    async fn end(&self, table: &str, order: &str, most: i64) -> Done<Option<i64>> {
        let sql = format!(
            "select max({order}) from (select {order} from {table} where {order} > $1 order by {order} limit $2) t"
        );
        Ok(self.db.row(&sql, args![self.after, most]).await?.and_then(|row| row.get(0)))
    }

    /// What stands of the person's in a range of messages.
    async fn in_messages(&self, columns: &str, end: i64, limit: usize) -> Done<Vec<Row>> {
        let sql = format!(
            "select {columns} from messages m
             where m.seq > $3 and m.seq <= $4 and {THEIRS} order by m.seq limit $5"
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.db.rows(&sql, args![self.numbers, self.institution, self.after, end, limit]).await
    }

    async fn names(&self) -> Done<PersonPage> {
        let names = |rows: Vec<Row>| {
            let all = rows.into_iter().flat_map(|row| (0..row.len()).filter_map(|n| row.get(n)).collect::<Vec<_>>());
            all.map(PersonRow::Name).collect()
        };
        let Some(end) = self.end("messages", "seq", SCANNED_AT_MOST).await? else {
            // What the network said of their numbers, and the numbers of which it said them.
            let sql = "select a.phone, a.account, a.lid || '@lid' from accounts a
                       where (a.phone = any($1) or a.account = any($1))
                         and ($2 is null or a.channel_key in (select key from channels where institution_id = $2))";
            let rows = self.db.rows(sql, args![self.numbers, self.institution]).await?;
            return Ok(PersonPage { rows: names(rows), next: None });
        };
        let sql = format!(
            "select distinct m.recipient, m.account from messages m where m.seq > $3 and m.seq <= $4 and {THEIRS}"
        );
        let rows = self.db.rows(&sql, args![self.numbers, self.institution, self.after, end]).await?;
        Ok(PersonPage { rows: names(rows), next: Some(end) })
    }

    async fn messages(&self) -> Done<PersonPage> {
        let Some(end) = self.end("messages", "seq", SCANNED_AT_MOST).await? else { return Ok(NO_MORE) };
        let found = self.in_messages(&format!("{}, scenario as its_scenario", columns()), end, MESSAGES).await?;
        let found = found.iter().map(|row| Ok((message(row)?, row.get("its_scenario")))).collect::<Done<Vec<_>>>()?;
        let next = next(found.len() == MESSAGES, found.last().map(|(message, _)| message.seq), end);
        let mut early = self.early(&found).await?;
        let rows = found.into_iter().map(|(message, scenario)| {
            let early = early.remove(&message.seq).unwrap_or_default();
            PersonRow::Message { message: Box::new(message), scenario, early }
        });
        Ok(PersonPage { rows: rows.collect(), next })
    }

    /// Receipts that are kept under the networks' own ids of these messages.
    async fn early(&self, messages: &[(Message, Option<String>)]) -> Done<HashMap<i64, Vec<EarlyReceipt>>> {
        let named = messages.iter().filter_map(|(message, _)| Some((message, message.remote_id.as_deref()?)));
        let (seqs, (channels, ids)): (Vec<i64>, (Vec<ChannelKey>, Vec<&str>)) =
            named.map(|(message, id)| (message.seq, (message.channel, id))).unzip();
        let mut early: HashMap<i64, Vec<EarlyReceipt>> = HashMap::new();
        if seqs.is_empty() {
            return Ok(early);
        }
        let sql = "select t.seq, e.status, e.at, e.error_code, e.error_message
                   from unnest($1, $2, $3) t (seq, channel_key, remote_id)
                   join early_receipts e on e.channel_key = t.channel_key and e.remote_id = t.remote_id
                   order by e.n";
        for row in self.db.rows(sql, args![seqs, channels, ids]).await? {
            let code: Option<String> = row.get(3);
            let status = u8::try_from(row.get::<_, i16>(1)).map_err(|_| not_understood("message status"))?;
            let receipt = EarlyReceipt { status, at: row.get(2), error: code.zip(row.get(4)) };
            early.entry(row.get(0)).or_default().push(receipt);
        }
        Ok(early)
    }

    async fn places(&self) -> Done<PersonPage> {
        let Some(end) = self.end("messages", "seq", SCANNED_AT_MOST).await? else { return Ok(NO_MORE) };
        let found = self.in_messages("m.channel_key, m.seq, m.id", end, PLACES).await?;
        let place = |row: &Row| Ok(Place { channel: row.get(0), seq: row.get(1), id: id(row, 2)?, key: None });
        let places = found.iter().map(place).collect::<Done<Vec<_>>>()?;
        let next = next(places.len() == PLACES, places.last().map(|place| place.seq), end);
        Ok(PersonPage { rows: places.into_iter().map(PersonRow::Place).collect(), next })
    }

    async fn keys(&self) -> Done<PersonPage> {
        let Some(end) = self.end("idempotency_keys", "n", SCANNED_AT_MOST).await? else { return Ok(NO_MORE) };
        let sql = format!(
            "select k.n, k.message_id, k.route, k.key, k.created_at
             from idempotency_keys k join messages m on m.id = k.message_id
             where k.n > $3 and k.n <= $4 and {THEIRS} order by k.n limit $5"
        );
        let most = i64::try_from(PLACES).unwrap_or(i64::MAX);
        let found = self.db.rows(&sql, args![self.numbers, self.institution, self.after, end, most]).await?;
        let key = |row: &Row| {
            let (n, message) = (row.get(0), id(row, 1)?);
            Ok(PersonRow::Key { n, message, route: row.get(2), key: row.get(3), used_at: row.get(4) })
        };
        let rows = found.iter().map(key).collect::<Done<Vec<_>>>()?;
        Ok(PersonPage { rows, next: next(found.len() == PLACES, found.last().map(|row| row.get(0)), end) })
    }

    async fn contacts(&self) -> Done<PersonPage> {
        let Some(end) = self.end("channels", "key", CHANNELS).await? else { return Ok(NO_MORE) };
        let known = args![self.numbers, self.institution, self.after, end];
        let select = async |columns: &str, table: &str, theirs: &str| {
            let sql = format!("select c.channel_key, {columns} from {table} c where {OF_CHANNELS} and {theirs}");
            self.db.rows(&sql, known).await
        };
        let mut rows = Vec::new();
        rows.extend(select("c.phone, c.account, c.lid, c.checked_at", "accounts", ACCOUNTS).await?.iter().map(|row| {
            let (channel, phone) = (row.get(0), row.get(1));
            PersonRow::Account { channel, phone, account: row.get(2), lid: row.get(3), checked_at: row.get(4) }
        }));
        rows.extend(select("c.account, c.opened_at", "chats", CHATS).await?.iter().map(|row| PersonRow::Chat {
            channel: row.get(0),
            account: row.get(1),
            opened_at: row.get(2),
        }));
        rows.extend(
            select("c.recipient, c.used_until", "recipient_pace", PACES).await?.iter().map(|row| PersonRow::Pace {
                channel: row.get(0),
                recipient: row.get(1),
                used_until: row.get(2),
            }),
        );
        Ok(PersonPage { rows, next: Some(end) })
    }
}

const OF_CHANNELS: &str = "c.channel_key in (select key from channels where key > $3 and key <= $4
                                             and ($2 is null or institution_id = $2))";
const ACCOUNTS: &str = "(c.phone = any($1) or c.account = any($1))";
const CHATS: &str = "c.account = any($1)";
const PACES: &str = "c.recipient = any($1)";

fn id(row: &Row, column: usize) -> Done<MessageId> {
    let bytes: &[u8] = row.get(column);
    Ok(MessageId::from_bytes(bytes.try_into().map_err(|_| not_understood("message id"))?))
}

pub(super) async fn erase(db: Db<'_>, erasure: &Erasure, now: Millis) -> Done<Erased> {
    match erasure {
        Erasure::Messages(places) => erase_messages(db, places, now).await,
        Erasure::Contacts { person, after } => erase_contacts(db, person, *after).await,
    }
}

async fn erase_messages(db: Db<'_>, places: &[Place], now: Millis) -> Done<Erased> {
    let channels: Vec<ChannelKey> = places.iter().map(|place| place.channel).collect();
    let channels = lock_all(db, &channels).await?;
    let seqs: Vec<Seq> = places.iter().map(|place| place.seq).collect();
    let ids: Vec<&[u8]> = places.iter().map(|place| &place.id.as_bytes()[..]).collect();
    // Receipts move what is SENT without the channel's lock.
    let sql = "select m.channel_key, m.seq, m.status, m.expires_at, m.unanswered from unnest($1, $2) t (seq, id)
               join messages m on m.seq = t.seq and m.id = t.id order by m.seq for update of m";
    let (mut erased, mut finished, mut queued) = (Erased::default(), Vec::new(), HashMap::new());
    for row in db.rows(sql, args![seqs, ids]).await? {
        let (channel, seq): (ChannelKey, Seq) = (row.get(0), row.get(1));
        match status(row.get(2))? {
            MessageStatus::Sending => {
                erased.sending += 1;
                continue;
            }
            MessageStatus::Queued => {
                let message = Queued { channel, seq, expires_at: row.get(3), unanswered: row.get(4) };
                let ends = queued.entry(channel).or_insert_with(Vec::new);
                ends.extend(message.finish(Finish::Cancelled, now));
                erased.cancelled += 1;
            }
            _ => {}
        }
        finished.push(seq);
    }
    for (channel, ends) in queued {
        let locked = channels.get(&channel).ok_or(Failure::Refused("a message of no channel"))?;
        apply(db, locked, &ends).await?;
    }
    let sql = "delete from early_receipts e using messages m
               where m.seq = any($1) and e.channel_key = m.channel_key and e.remote_id = m.remote_id";
    erased.early_receipts = db.run(sql, args![finished]).await?;
    let keys: Vec<i64> = places.iter().filter_map(|place| place.key).collect();
    // Those of messages that stay are still needed: a repeated call must not send a second card.
    let sql = "delete from idempotency_keys k using messages m
               where k.n = any($1) and m.id = k.message_id and m.seq = any($2)";
    erased.idempotency_keys = db.run(sql, args![keys, finished]).await?;
    erased.messages = db.run("delete from messages where seq = any($1)", args![finished]).await?;
    events::forget(db, &finished).await?;
    Ok(erased)
}

async fn erase_contacts(db: Db<'_>, person: &Person, after: ChannelKey) -> Done<Erased> {
    let asked = Asked::new(db, person, after);
    let Some(end) = asked.end("channels", "key", CHANNELS).await? else { return Ok(Erased::default()) };
    let delete = async |table: &str, theirs: &str| {
        let sql = format!("delete from {table} c where {OF_CHANNELS} and {theirs}");
        db.run(&sql, args![asked.numbers, asked.institution, after, end]).await
    };
    Ok(Erased {
        accounts: delete("accounts", ACCOUNTS).await?,
        chats: delete("chats", CHATS).await?,
        recipient_paces: delete("recipient_pace", PACES).await?,
        next: Some(end),
        ..Erased::default()
    })
}
