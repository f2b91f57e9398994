//! The data that is stored about one person: read in pages, and erased in batches.

mod owned;

use std::collections::{BTreeSet, HashMap, HashSet};

use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::ids::MessageId;
use recado_domain::message::{Message, SCANNED_AT_MOST};
use recado_domain::queue::{Finish, Queued};
use recado_domain::status::MessageStatus;

use super::messages::{columns, message, status};
use super::{Transaction, events, inbox, schedule, webhooks};
use crate::person::{
    CHANNELS, Erased, Erasure, MESSAGES, PLACES, Person, PersonPage, PersonPart, PersonQuery, PersonRow, Place,
    UnmatchedReceipt,
};
use crate::sqlkit::both::{Executor, List, Read, Row, value, values};

/// A query in the form that the statements need.
struct Asked<'a, E> {
    db: &'a E,
    numbers: List<String>,
    /// The channels that are searched, unless all are.
    channels: List<ChannelKey>,
    is_of_all: bool,
    /// The one owner whose data is searched.
    owner: Option<(Vec<u8>, &'static str)>,
    after: i64,
}

pub(crate) async fn page<E: Executor>(db: &E, query: &PersonQuery) -> Result<PersonPage, E::Error> {
    let after = match query.part {
        // Scheduled messages have negative numbers.
        PersonPart::Names | PersonPart::Messages | PersonPart::Places | PersonPart::Received if query.after == 0 => {
            i64::MIN
        }
        _ => query.after,
    };
    let asked = Asked::new(db, &query.person, after).await?;
    match query.part {
        PersonPart::Channels => Ok(owned::channels(&asked.channels.0)),
        PersonPart::Names if asked.owner.is_some() => asked.names_of_owner(&query.person).await,
        PersonPart::Places if asked.owner.is_some() => asked.places_of_owner(&query.person).await,
        PersonPart::Names => asked.names(&query.person).await,
        PersonPart::Messages => asked.messages().await,
        PersonPart::Places => asked.places().await,
        PersonPart::Keys => asked.keys().await,
        PersonPart::Contacts => asked.contacts().await,
        PersonPart::Received => inbox::person::received(db, &query.person, after).await,
        PersonPart::Book => inbox::person::book(db, &query.person).await,
    }
}

/// Where the next page begins: behind the last row of a full page, otherwise where the scan ended.
fn next(full: bool, last: Option<i64>, end: i64) -> Option<i64> {
    if full { last } else { Some(end) }
}

const NO_MORE: PersonPage = PersonPage { rows: Vec::new(), next: None };

/// The `LIMIT` of a statement.
fn most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// The tables that have a channel's recipients, each with its columns that contain numbers.
const ACCOUNTS: (&str, &[&str]) = ("accounts", &["phone", "account"]);
const CHATS: (&str, &[&str]) = ("chats", &["account"]);
const PACES: (&str, &[&str]) = ("recipient_pace", &["recipient"]);

fn account(row: &Row<'_>) -> Read<PersonRow> {
    Ok(PersonRow::Account {
        channel: row.get("channel_key")?,
        phone: row.get("phone")?,
        account: row.get("account")?,
        lid: row.get("lid")?,
        checked_at: row.get("checked_at")?,
    })
}

fn chat(row: &Row<'_>) -> Read<PersonRow> {
    let (channel, account) = (row.get("channel_key")?, row.get("account")?);
    Ok(PersonRow::Chat { channel, account, opened_at: row.get("opened_at")? })
}

fn pace(row: &Row<'_>) -> Read<PersonRow> {
    let (channel, recipient) = (row.get("channel_key")?, row.get("recipient")?);
    Ok(PersonRow::Pace { channel, recipient, used_until: row.get("used_until")? })
}

impl<'a, E: Executor> Asked<'a, E> {
    async fn new(db: &'a E, person: &Person, after: i64) -> Result<Self, E::Error> {
        let (institution, environment) = person.owner();
        let is_of_all = institution.is_none();
        let sql = "SELECT key FROM channels WHERE institution_id = ?1 AND (?2 IS NULL OR environment = ?2)";
        let channels = db.rows(sql, values![institution, environment], |row| row.get("key")).await?;
        let (numbers, channels, owner) = (List(person.numbers.clone()), List(channels), institution.zip(environment));
        Ok(Self { db, numbers, channels, is_of_all, owner, after })
    }

    /// Whether a channel is searched. `?2` are the channels.
    fn is_searched(&self, channel: &str) -> String {
        if self.is_of_all { "?2 IS NOT NULL".to_owned() } else { E::any(channel, 2) }
    }

    /// Whether a message belongs to the person: by the typed number, or by the account that the network reported. `?1` are
    /// the person's numbers.
    fn theirs(&self) -> String {
        let (typed, reported) = (E::any("m.recipient", 1), E::any("m.account", 1));
        format!("({typed} OR {reported}) AND {}", self.is_searched("m.channel_key"))
    }

    /// Whether a row `c` of a table belongs to the channels of this page and, by one of these columns, to the person.
    fn of_channels(&self, columns: &[&str]) -> String {
        let theirs: Vec<_> = columns.iter().map(|column| E::any(&format!("c.{column}"), 1)).collect();
        let searched = self.is_searched("c.channel_key");
        format!("c.channel_key > ?3 AND c.channel_key <= ?4 AND {searched} AND ({})", theirs.join(" OR "))
    }

    /// The last row that this page scans, in the order of a table; `None` if there is none.
    async fn end(&self, table: &str, order: &str, most: i64) -> Result<Option<i64>, E::Error> {
        let sql = format!(
            "SELECT max({order}) AS last
             FROM (SELECT {order} FROM {table} WHERE {order} > ?1 ORDER BY {order} LIMIT ?2) AS looked_at"
        );
        let last = self.db.row(&sql, values![self.after, most], |row| row.get("last")).await?;
        Ok(last.flatten())
    }

    /// The person's data in a range of messages.
    async fn in_messages<T>(
        &self,
        columns: &str,
        (end, limit): (i64, usize),
        read: impl Fn(&Row<'_>) -> Read<T>,
    ) -> Result<Vec<T>, E::Error> {
        let sql = format!(
            "SELECT {columns} FROM messages m WHERE m.seq > ?3 AND m.seq <= ?4 AND {} ORDER BY m.seq LIMIT ?5",
            self.theirs()
        );
        self.db.rows(&sql, values![self.numbers, self.channels, self.after, end, most(limit)], read).await
    }

    async fn names(&self, person: &Person) -> Result<PersonPage, E::Error> {
        let Some(end) = self.end("messages", "seq", SCANNED_AT_MOST).await? else {
            return self.reported_names(person).await;
        };
        let sql = format!(
            "SELECT DISTINCT m.recipient, m.account FROM messages m WHERE m.seq > ?3 AND m.seq <= ?4 AND {}",
            self.theirs()
        );
        let read = |row: &Row<'_>| Ok([row.get::<Option<String>>("recipient")?, row.get("account")?]);
        let found = self.db.rows(&sql, values![self.numbers, self.channels, self.after, end], read).await?;
        let rows = found.into_iter().flatten().flatten().map(PersonRow::Name).collect();
        Ok(PersonPage { rows, next: Some(end) })
    }

    /// The accounts of the person's numbers, and the numbers of the person's accounts.
    async fn reported_names(&self, person: &Person) -> Result<PersonPage, E::Error> {
        let sql = format!(
            "SELECT a.phone, a.account, a.lid || '@lid' AS hidden FROM accounts a WHERE ({} OR {})
               AND {}",
            E::any("a.phone", 1),
            E::any("a.account", 1),
            self.is_searched("a.channel_key")
        );
        let read = |row: &Row<'_>| Ok([row.get::<Option<String>>("phone")?, row.get("account")?, row.get("hidden")?]);
        let found = self.db.rows(&sql, values![self.numbers, self.channels], read).await?;
        let known = inbox::person::names(self.db, person).await?;
        let names = found.into_iter().flatten().flatten().chain(known);
        Ok(PersonPage { rows: names.map(PersonRow::Name).collect(), next: None })
    }

    async fn messages(&self) -> Result<PersonPage, E::Error> {
        let Some(end) = self.end("messages", "seq", SCANNED_AT_MOST).await? else { return Ok(NO_MORE) };
        let read = |row: &Row<'_>| Ok((message(row)?, row.get::<Option<String>>("scenario")?));
        let found = self.in_messages(&format!("{}, scenario", columns()), (end, MESSAGES), read).await?;
        let next = next(found.len() == MESSAGES, found.last().map(|(message, _)| message.seq), end);
        let mut early = self.early(&found).await?;
        let rows = found.into_iter().map(|(message, scenario)| {
            let named = message.remote_id.clone().map(|remote_id| (message.channel, remote_id));
            let early = named.and_then(|named| early.remove(&named)).unwrap_or_default();
            PersonRow::Message { message: Box::new(message), scenario, early }
        });
        Ok(PersonPage { rows: rows.collect(), next })
    }

    /// Unmatched receipts under the networks' own ids of these messages.
    async fn early(
        &self,
        messages: &[(Message, Option<String>)],
    ) -> Result<HashMap<(ChannelKey, String), Vec<UnmatchedReceipt>>, E::Error> {
        let named = messages.iter().filter_map(|(message, _)| Some((message.channel, message.remote_id.clone()?)));
        let (channels, ids): (Vec<ChannelKey>, Vec<String>) = named.unzip();
        let sql = format!(
            "SELECT channel_key, remote_id, status, at, error_code, error_message FROM early_receipts
             WHERE {} AND {} ORDER BY n",
            E::any("channel_key", 1),
            E::any("remote_id", 2)
        );
        let read = |row: &Row<'_>| {
            let of = (row.get("channel_key")?, row.get("remote_id")?);
            let (status, at) = (row.number("status")?, row.get("at")?);
            let code: Option<String> = row.get("error_code")?;
            Ok((of, UnmatchedReceipt { status, at, error: code.zip(row.get("error_message")?) }))
        };
        let mut early: HashMap<_, Vec<_>> = HashMap::new();
        if !ids.is_empty() {
            for (of, receipt) in self.db.rows(&sql, values![List(channels), List(ids)], read).await? {
                early.entry(of).or_default().push(receipt);
            }
        }
        Ok(early)
    }

    async fn places(&self) -> Result<PersonPage, E::Error> {
        let Some(end) = self.end("messages", "seq", SCANNED_AT_MOST).await? else { return Ok(NO_MORE) };
        let read = |row: &Row<'_>| {
            let (channel, seq) = (row.get("channel_key")?, row.get("seq")?);
            Ok(Place { channel, seq, id: MessageId::from_bytes(row.bytes("id")?), key: None })
        };
        let places = self.in_messages("m.channel_key, m.seq, m.id", (end, PLACES), read).await?;
        let next = next(places.len() == PLACES, places.last().map(|place| place.seq), end);
        Ok(PersonPage { rows: places.into_iter().map(PersonRow::Place).collect(), next })
    }

    async fn keys(&self) -> Result<PersonPage, E::Error> {
        let Some(end) = self.end("idempotency_keys", "n", SCANNED_AT_MOST).await? else { return Ok(NO_MORE) };
        // The scan reads keys and looks up their messages, because no index leads from a message to its key.
        let sql = format!(
            "SELECT k.n, k.message_id, k.route, k.key, k.created_at
             FROM idempotency_keys k {} messages m ON m.id = k.message_id
             WHERE k.n > ?3 AND k.n <= ?4 AND {} ORDER BY k.n LIMIT ?5",
            E::JOIN_IN_ORDER,
            self.theirs()
        );
        let read = |row: &Row<'_>| {
            let (n, message) = (row.get("n")?, MessageId::from_bytes(row.bytes("message_id")?));
            let (route, key) = (row.get("route")?, row.get("key")?);
            Ok((n, PersonRow::Key { n, message, route, key, used_at: row.get("created_at")? }))
        };
        let limit = most(PLACES);
        let asked = values![self.numbers, self.channels, self.after, end, limit];
        let found = self.db.rows(&sql, asked, read).await?;
        let next = next(found.len() == PLACES, found.last().map(|(n, _)| *n), end);
        Ok(PersonPage { rows: found.into_iter().map(|(_, row)| row).collect(), next })
    }

    async fn contacts(&self) -> Result<PersonPage, E::Error> {
        let Some(end) = self.end("channels", "key", CHANNELS).await? else { return Ok(NO_MORE) };
        let mut rows = self.known(end, ACCOUNTS, account).await?;
        rows.extend(self.known(end, CHATS, chat).await?);
        rows.extend(self.known(end, PACES, pace).await?);
        Ok(PersonPage { rows, next: Some(end) })
    }

    /// The person's rows in the tables of the channels up to this one.
    async fn known(
        &self,
        end: ChannelKey,
        (table, columns): (&str, &[&str]),
        read: impl Fn(&Row<'_>) -> Read<PersonRow>,
    ) -> Result<Vec<PersonRow>, E::Error> {
        let sql = format!("SELECT c.* FROM {table} c WHERE {}", self.of_channels(columns));
        self.db.rows(&sql, values![self.numbers, self.channels, self.after, end], read).await
    }

    /// Deletes the person's rows in a table of the channels up to this one. Returns how many there were.
    async fn forget(&self, end: ChannelKey, (table, columns): (&str, &[&str])) -> Result<u64, E::Error> {
        let sql = format!("DELETE FROM {table} AS c WHERE {}", self.of_channels(columns));
        self.db.run(&sql, values![self.numbers, self.channels, self.after, end]).await
    }
}

pub(crate) async fn erase<T: Transaction>(tx: &mut T, erasure: &Erasure, now: Millis) -> Result<Erased, T::Error> {
    match erasure {
        Erasure::Messages(places) => erase_messages(tx, places, now).await,
        Erasure::Contacts { person, after } => erase_contacts(tx.db(), person, *after).await,
        Erasure::Inbox { person, keeps_contacts } => inbox::person::erase(tx.db(), person, *keeps_contacts).await,
        Erasure::Traces { person, channel, after } => {
            inbox::person::erase_traces(tx.db(), person, *channel, *after).await
        }
        Erasure::EventTraces { person, after } => inbox::person::erase_event_traces(tx.db(), person, *after).await,
    }
}

async fn erase_messages<T: Transaction>(tx: &mut T, places: &[Place], now: Millis) -> Result<Erased, T::Error> {
    // Locked before the messages: a transaction that changes which message is next locks the channel first.
    let channels: BTreeSet<_> = places.iter().map(|place| place.channel).collect();
    for channel in channels {
        tx.lock(channel).await?;
    }
    let asked: HashSet<_> = places.iter().map(|place| (place.channel, place.seq, place.id)).collect();
    let seqs = List(places.iter().map(|place| place.seq).collect());
    // Receipts move `SENT` messages without the channel's lock.
    let sql = format!(
        "SELECT channel_key, seq, id, status, expires_at, unanswered FROM messages WHERE {} ORDER BY seq{}",
        T::Db::any("seq", 1),
        T::Db::lock_for("update")
    );
    let read = |row: &Row<'_>| {
        let (channel, seq) = (row.get("channel_key")?, row.get("seq")?);
        let id = MessageId::from_bytes(row.bytes("id")?);
        let message = Queued { channel, seq, expires_at: row.get("expires_at")?, unanswered: row.get("unanswered")? };
        Ok((status(row)?, id, message))
    };
    let found = tx.db().rows(&sql, values![seqs], read).await?;
    let found = found.into_iter().filter(|(_, id, message)| asked.contains(&(message.channel, message.seq, *id)));
    let found: Vec<_> = found.collect();
    let queued = found.iter().filter(|(status, ..)| *status == MessageStatus::Queued);
    schedule::end(tx.db(), queued.map(|(.., message)| message.seq)).await?;
    let (mut erased, mut finished, mut ends) = (Erased::default(), Vec::new(), Vec::new());
    for (status, _, message) in found {
        let message = Queued { seq: message.seq.abs(), ..message };
        match status {
            MessageStatus::Sending => {
                erased.sending += 1;
                continue;
            }
            MessageStatus::Queued => {
                ends.extend(message.finish(Finish::Cancelled, now));
                erased.cancelled += 1;
            }
            _ => {}
        }
        finished.push(message.seq);
    }
    tx.apply(&ends).await?;
    let gone: HashSet<_> = finished.iter().copied().collect();
    let (finished, keys) = (List(finished), List(places.iter().filter_map(|place| place.key).collect::<Vec<_>>()));
    let (db, of_finished) = (tx.db(), T::Db::any("seq", 1));
    let sql = format!(
        "DELETE FROM early_receipts WHERE (channel_key, remote_id) IN
             (SELECT channel_key, remote_id FROM messages WHERE {of_finished})"
    );
    erased.early_receipts = db.run(&sql, values![finished]).await?;
    // Keys of messages that stay are needed: a repeated call must not send the message twice.
    let sql = format!(
        "DELETE FROM idempotency_keys WHERE message_id IN (SELECT id FROM messages WHERE {of_finished}) AND {}",
        T::Db::any("n", 2)
    );
    erased.idempotency_keys = db.run(&sql, values![finished, keys]).await?;
    webhooks::tidy::forget(db, &T::Db::any("message_seq", 1), value(&finished)).await?;
    erased.messages = db.run(&format!("DELETE FROM messages WHERE {of_finished}"), values![finished]).await?;
    events::forget(db, &finished).await?;
    // The events of reactions to these messages.
    let ids = places.iter().filter(|place| gone.contains(&place.seq.abs())).map(|place| *place.id.as_bytes());
    events::forget_subjects(db, &ids.collect::<Vec<_>>()).await?;
    Ok(erased)
}

async fn erase_contacts<E: Executor>(db: &E, person: &Person, after: ChannelKey) -> Result<Erased, E::Error> {
    let asked = Asked::new(db, person, after).await?;
    // The channels of one owner are searched in one page.
    let end = match (&asked.owner, after) {
        (Some(_), 0) => asked.channels.0.iter().max().copied(),
        (Some(_), _) => None,
        (None, _) => asked.end("channels", "key", CHANNELS).await?,
    };
    let Some(end) = end else { return Ok(Erased::default()) };
    Ok(Erased {
        accounts: asked.forget(end, ACCOUNTS).await?,
        chats: asked.forget(end, CHATS).await?,
        recipient_paces: asked.forget(end, PACES).await?,
        next: Some(end),
        ..Erased::default()
    })
}
