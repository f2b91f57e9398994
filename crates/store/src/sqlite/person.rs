//! What is kept of one person: read in pages, and erased in batches.

use async_trait::async_trait;
use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::ids::MessageId;
use recado_domain::message::{Message, SCANNED_AT_MOST, Seq};
use recado_domain::queue::{Finish, PurgeRequest, Queued};
use recado_domain::status::MessageStatus;
use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use super::apply::apply;
use super::events;
use super::messages::{columns, message};
use super::queue::status;
use super::{SqliteStore, Writing, purge};
use crate::person::{
    CHANNELS, EarlyReceipt, Erased, Erasure, MESSAGES, PLACES, Person, PersonPage, PersonPart, PersonQuery, PersonRow,
    Place,
};
use crate::{Privacy, Result};

#[async_trait]
impl Privacy for SqliteStore {
    async fn person(&self, query: PersonQuery) -> Result<PersonPage> {
        self.readers.read(move |connection| page(connection, &query)).await
    }

    async fn erase_person(&self, erasure: Erasure, now: Millis) -> Result<Erased> {
        self.write(move |writing| erase(writing, &erasure, now)).await
    }

    async fn forget_erased(&self) -> Result<bool> {
        self.writer.empty_log().await
    }

    async fn purge(&self, request: PurgeRequest) -> Result<Option<Seq>> {
        self.write(move |writing| purge::purge(writing, &request)).await
    }
}

/// Whether a message is the person's, by the number as it was typed or by the account as the network named it; `?1` are
/// their numbers, `?2` is whose channels are looked at.
const THEIRS: &str =
    "(m.recipient in (select value from json_each(?1)) or m.account in (select value from json_each(?1)))
     and (?2 is null or m.channel_key in (select key from channels where institution_id = ?2))";

/// A question, as the statements take it.
struct Asked<'a> {
    connection: &'a Connection,
    numbers: String,
    institution: Option<[u8; 16]>,
    after: i64,
}

pub(super) fn page(connection: &Connection, query: &PersonQuery) -> rusqlite::Result<PersonPage> {
    let Person { numbers, institution } = &query.person;
    let asked = Asked {
        connection,
        numbers: in_json(numbers)?,
        institution: institution.map(|institution| *institution.as_bytes()),
        after: query.after,
    };
    match query.part {
        PersonPart::Names => asked.names(),
        PersonPart::Messages => asked.messages(),
        PersonPart::Places => asked.places(),
        PersonPart::Keys => asked.keys(),
        PersonPart::Contacts => asked.contacts(),
    }
}

fn in_json(numbers: &[String]) -> rusqlite::Result<String> {
    serde_json::to_string(numbers).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

impl Asked<'_> {
    fn rows<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        self.connection.prepare_cached(sql)?.query_map(params, read)?.collect()
    }

    /// The last row that this page looks at, in a table's order; `None` when there is none.
    fn end(&self, table: &str, order: &str) -> rusqlite::Result<Option<i64>> {
        let sql = format!(
            "select max({order}) from (select {order} from {table} where {order} > ?1 order by {order} limit ?2)"
        );
        self.connection.prepare_cached(&sql)?.query_row([self.after, SCANNED_AT_MOST], |row| row.get(0))
    }

    /// A page of what stands in a range of messages. A full one ends at its last row, the others with the range.
    fn in_messages<T>(
        &self,
        columns: &str,
        limit: usize,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
        seq: impl Fn(&T) -> i64,
    ) -> rusqlite::Result<(Vec<T>, Option<i64>)> {
        let Some(end) = self.end("messages", "seq")? else { return Ok((Vec::new(), None)) };
        let sql = format!(
            "select {columns} from messages m
             where seq > ?3 and seq <= ?4 and {THEIRS} order by seq limit ?5"
        );
        let most = i64::try_from(limit).unwrap_or(i64::MAX);
        let found = self.rows(&sql, params![self.numbers, self.institution, self.after, end, most], read)?;
        let next = if found.len() == limit { found.last().map(seq) } else { Some(end) };
        Ok((found, next))
    }

    fn names(&self) -> rusqlite::Result<PersonPage> {
        let Some(end) = self.end("messages", "seq")? else {
            return Ok(PersonPage { rows: self.names_looked_up()?, next: None });
        };
        let sql =
            format!("select distinct m.recipient, m.account from messages m where seq > ?3 and seq <= ?4 and {THEIRS}");
        let read = |row: &Row<'_>| Ok([row.get::<_, Option<String>>(0)?, row.get(1)?]);
        let found = self.rows(&sql, params![self.numbers, self.institution, self.after, end], read)?;
        let found = found.into_iter().flatten().flatten().map(PersonRow::Name).collect();
        Ok(PersonPage { rows: found, next: Some(end) })
    }

    /// What the network said of their numbers, and the numbers of which it said them.
    fn names_looked_up(&self) -> rusqlite::Result<Vec<PersonRow>> {
        let found = self.rows(
            "select phone, account, lid || '@lid' from accounts a
             where (a.phone in (select value from json_each(?1)) or a.account in (select value from json_each(?1)))
               and (?2 is null or a.channel_key in (select key from channels where institution_id = ?2))",
            params![self.numbers, self.institution],
            |row| Ok([row.get::<_, Option<String>>(0)?, row.get(1)?, row.get(2)?]),
        )?;
        Ok(found.into_iter().flatten().flatten().map(PersonRow::Name).collect())
    }

    fn messages(&self) -> rusqlite::Result<PersonPage> {
        // The scenario is the first column behind those of a message.
        let scenario = 16 + MessageStatus::ALL.len();
        let read = |row: &Row<'_>| Ok((message(row)?, row.get(scenario)?));
        let seq = |(message, _): &(Message, Option<String>)| message.seq;
        let (found, next) = self.in_messages(&format!("{}, scenario", columns()), MESSAGES, read, seq)?;
        let mut rows = Vec::new();
        for (message, scenario) in found {
            let early = match &message.remote_id {
                Some(remote_id) => self.early(message.channel, remote_id)?,
                None => Vec::new(),
            };
            rows.push(PersonRow::Message { message: Box::new(message), scenario, early });
        }
        Ok(PersonPage { rows, next })
    }

    fn early(&self, channel: ChannelKey, remote_id: &str) -> rusqlite::Result<Vec<EarlyReceipt>> {
        self.rows(
            "select status, at, error_code, error_message from early_receipts
             where channel_key = ?1 and remote_id = ?2 order by n",
            params![channel, remote_id],
            |row| {
                let code: Option<String> = row.get(2)?;
                Ok(EarlyReceipt { status: row.get(0)?, at: row.get(1)?, error: code.zip(row.get(3)?) })
            },
        )
    }

    fn places(&self) -> rusqlite::Result<PersonPage> {
        let read = |row: &Row<'_>| {
            let id = MessageId::from_bytes(row.get(2)?);
            Ok(Place { channel: row.get(0)?, seq: row.get(1)?, id, key: None })
        };
        let (found, next) = self.in_messages("m.channel_key, m.seq, m.id", PLACES, read, |place| place.seq)?;
        Ok(PersonPage { rows: found.into_iter().map(PersonRow::Place).collect(), next })
    }

    fn keys(&self) -> rusqlite::Result<PersonPage> {
        let Some(end) = self.end("idempotency_keys", "n")? else {
            return Ok(PersonPage { rows: Vec::new(), next: None });
        };
        let sql = format!(
            // Cross: each key's message is looked up, and not each message's key, which no index knows.
            "select k.n, k.message_id, k.route, k.key, k.created_at
             from idempotency_keys k cross join messages m on m.id = k.message_id
             where k.n > ?3 and k.n <= ?4 and {THEIRS} order by k.n limit ?5"
        );
        let read = |row: &Row<'_>| {
            let (n, message) = (row.get(0)?, MessageId::from_bytes(row.get(1)?));
            Ok((n, PersonRow::Key { n, message, route: row.get(2)?, key: row.get(3)?, used_at: row.get(4)? }))
        };
        let most = i64::try_from(PLACES).unwrap_or(i64::MAX);
        let found = self.rows(&sql, params![self.numbers, self.institution, self.after, end, most], read)?;
        let next = if found.len() == PLACES { found.last().map(|(n, _)| *n) } else { Some(end) };
        Ok(PersonPage { rows: found.into_iter().map(|(_, row)| row).collect(), next })
    }

    /// The last channel of this page.
    fn last_channel(&self) -> rusqlite::Result<Option<ChannelKey>> {
        let sql = "select max(key) from (select key from channels where key > ?1 order by key limit ?2)";
        self.connection.prepare_cached(sql)?.query_row([self.after, CHANNELS], |row| row.get(0))
    }

    fn contacts(&self) -> rusqlite::Result<PersonPage> {
        let Some(end) = self.last_channel()? else { return Ok(PersonPage { rows: Vec::new(), next: None }) };
        let known = params![self.numbers, self.institution, self.after, end];
        let mut rows = self.rows(
            &format!("select c.channel_key, c.phone, c.account, c.lid, c.checked_at from accounts c where {ACCOUNTS}"),
            known,
            |row| {
                let (channel, phone) = (row.get(0)?, row.get(1)?);
                Ok(PersonRow::Account {
                    channel,
                    phone,
                    account: row.get(2)?,
                    lid: row.get(3)?,
                    checked_at: row.get(4)?,
                })
            },
        )?;
        rows.extend(self.rows(
            &format!("select c.channel_key, c.account, c.opened_at from chats c where {CHATS}"),
            known,
            |row| Ok(PersonRow::Chat { channel: row.get(0)?, account: row.get(1)?, opened_at: row.get(2)? }),
        )?);
        rows.extend(self.rows(
            &format!("select c.channel_key, c.recipient, c.used_until from recipient_pace c where {PACES}"),
            known,
            |row| Ok(PersonRow::Pace { channel: row.get(0)?, recipient: row.get(1)?, used_until: row.get(2)? }),
        )?);
        Ok(PersonPage { rows, next: Some(end) })
    }
}

macro_rules! of_channels {
    ($who:literal) => {
        concat!(
            "c.channel_key in (select key from channels where key > ?3 and key <= ?4
                               and (?2 is null or institution_id = ?2)) and ",
            $who
        )
    };
}

const ACCOUNTS: &str =
    of_channels!("(c.phone in (select value from json_each(?1)) or c.account in (select value from json_each(?1)))");
const CHATS: &str = of_channels!("c.account in (select value from json_each(?1))");
const PACES: &str = of_channels!("c.recipient in (select value from json_each(?1))");

pub(super) fn erase(writing: &mut Writing, erasure: &Erasure, now: Millis) -> rusqlite::Result<Erased> {
    match erasure {
        Erasure::Messages(places) => erase_messages(writing, places, now),
        Erasure::Contacts { person, after } => erase_contacts(&writing.connection, person, *after),
    }
}

fn erase_messages(writing: &mut Writing, places: &[Place], now: Millis) -> rusqlite::Result<Erased> {
    let mut erased = Erased::default();
    for place in places {
        let found = writing
            .connection
            .prepare_cached(
                "select status, remote_id, expires_at, unanswered from messages
                 where seq = ?1 and channel_key = ?2 and id = ?3",
            )?
            .query_row(params![place.seq, place.channel, place.id.as_bytes()], |row| {
                let (channel, seq) = (place.channel, place.seq);
                let message = Queued { channel, seq, expires_at: row.get(2)?, unanswered: row.get(3)? };
                Ok((status(row.get(0)?)?, row.get::<_, Option<String>>(1)?, message))
            })
            .optional()?;
        let Some((status, remote_id, message)) = found else { continue };
        match status {
            MessageStatus::Sending => {
                erased.sending += 1;
                continue;
            }
            MessageStatus::Queued => {
                message.finish(Finish::Cancelled, now).map(|end| apply(writing, &end)).transpose()?;
                erased.cancelled += 1;
            }
            _ => {}
        }
        let run = |sql: &str, params: &[&dyn rusqlite::ToSql]| -> rusqlite::Result<u64> {
            Ok(writing.connection.prepare_cached(sql)?.execute(params)? as u64)
        };
        erased.messages += run("delete from messages where seq = ?1", &[&place.seq])?;
        events::forget(&writing.connection, place.seq)?;
        erased.idempotency_keys +=
            run("delete from idempotency_keys where n = ?1 and message_id = ?2", &[&place.key, place.id.as_bytes()])?;
        erased.early_receipts +=
            run("delete from early_receipts where channel_key = ?1 and remote_id = ?2", &[&place.channel, &remote_id])?;
    }
    Ok(erased)
}

fn erase_contacts(connection: &Connection, person: &Person, after: ChannelKey) -> rusqlite::Result<Erased> {
    let institution = person.institution.map(|institution| *institution.as_bytes());
    let asked = Asked { connection, numbers: in_json(&person.numbers)?, institution, after };
    let Some(end) = asked.last_channel()? else { return Ok(Erased::default()) };
    let delete = |table: &str, theirs: &str| -> rusqlite::Result<u64> {
        let sql = format!("delete from {table} as c where {theirs}");
        Ok(connection.prepare_cached(&sql)?.execute(params![asked.numbers, institution, after, end])? as u64)
    };
    Ok(Erased {
        accounts: delete("accounts", ACCOUNTS)?,
        chats: delete("chats", CHATS)?,
        recipient_paces: delete("recipient_pace", PACES)?,
        next: Some(end),
        ..Erased::default()
    })
}
