//! Accepting messages: the queries that decide about them, and the statement that stores them.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use futures_util::future::try_join3;
use recado_domain::address::AddressKind;
use recado_domain::channel::{ChannelKey, ChannelState, ChannelType, Ordering};
use recado_domain::clock::Millis;
use recado_domain::ids::MessageId;
use recado_domain::message::{Enqueued, Idempotency, NewMessage, StatusChange};
use recado_domain::queue::ChannelQueue;
use recado_domain::status::MessageStatus;

use super::lock::number;
use crate::common::cards;
use crate::sql::OPEN;
use crate::sqlkit::postgres::db::{Db, Done, args, column, not_understood};

/// What the database knows about a batch.
pub(super) struct Lookup {
    pub queues: HashMap<ChannelKey, ChannelQueue>,
    /// Uses of idempotency keys before, by the place in the batch.
    pub earlier: HashMap<usize, Enqueued>,
}

/// Reads what decides about messages, and counts the open messages of these channels, in one round trip.
pub(super) async fn look_up(
    db: Db<'_>,
    messages: &[&NewMessage],
    counting: &[(ChannelKey, usize)],
) -> Done<(Lookup, Vec<usize>)> {
    let (queues, earlier, counted) =
        try_join3(queues(db, messages), earlier_uses(db, messages), count(db, counting)).await?;
    Ok((Lookup { queues, earlier }, counted))
}

async fn queues(db: Db<'_>, messages: &[&NewMessage]) -> Done<HashMap<ChannelKey, ChannelQueue>> {
    let channels: HashSet<ChannelKey> = messages.iter().map(|message| message.channel).collect();
    let sql = "SELECT key, type, state, connected_at IS NOT NULL, deleted_at IS NOT NULL, records_queued
               FROM channels WHERE key = any($1)";
    let rows = db.rows(sql, args![Vec::from_iter(channels)]).await?;
    let queues = rows.iter().map(|row| {
        let kind = ChannelType::from_name(row.get(1)).ok_or_else(|| not_understood("channel type"))?;
        let state = ChannelState::from_name(row.get(2)).ok_or_else(|| not_understood("channel state"))?;
        let (was_connected, deleted, records_queued) = (row.get(3), row.get(4), row.get(5));
        let queue = ChannelQueue { was_connected, deleted, records_queued, ..ChannelQueue::of(kind, state) };
        Ok((row.get(0), queue))
    });
    queues.collect()
}

async fn earlier_uses(db: Db<'_>, messages: &[&NewMessage]) -> Done<HashMap<usize, Enqueued>> {
    let keyed = messages.iter().enumerate();
    let keyed: Vec<_> = keyed.filter_map(|(n, message)| message.idempotency.as_ref().map(|key| (n, key))).collect();
    if keyed.is_empty() {
        return Ok(HashMap::new());
    }
    let column = |value: fn(&Idempotency) -> &str| keyed.iter().map(|(_, key)| value(key)).collect::<Vec<_>>();
    let sql = include_str!("enqueue/find_keys.sql");
    let rows = db
        .rows(
            sql,
            args![
                keyed.iter().map(|(_, key)| key.institution.as_bytes().as_slice()).collect::<Vec<_>>(),
                column(|key| key.environment.name()),
                column(|key| key.route),
                column(|key| &key.key),
                keyed.iter().map(|(_, key)| key.forget_before).collect::<Vec<Millis>>(),
            ],
        )
        .await?;
    let mut earlier = HashMap::new();
    for row in rows {
        // Numbered from 1.
        let place = usize::try_from(row.get::<_, i64>(0) - 1).ok().and_then(|n| keyed.get(n));
        let Some((place, key)) = place else { continue };
        let same = key.is_of(row.get(1));
        let answer = if same { Enqueued::Replayed(id(row.get(2))?) } else { Enqueued::KeyReused };
        earlier.insert(*place, answer);
    }
    Ok(earlier)
}

fn id(bytes: &[u8]) -> Done<MessageId> {
    Ok(MessageId::from_bytes(bytes.try_into().map_err(|_| not_understood("message id"))?))
}

/// Counts open messages, for each channel up to the given limit.
async fn count(db: Db<'_>, counting: &[(ChannelKey, usize)]) -> Done<Vec<usize>> {
    if counting.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(include_str!("enqueue/count.sql"), OPEN = OPEN);
    let caps: Vec<_> = counting.iter().map(|(_, cap)| i64::try_from(*cap).unwrap_or(i64::MAX)).collect();
    let rows = db.rows(&sql, args![counting.iter().map(|(key, _)| *key).collect::<Vec<_>>(), caps]).await?;
    Ok(rows.iter().map(|row| usize::try_from(row.get::<_, i64>(0)).unwrap_or(0)).collect())
}

/// Messages that have no keys.
const NEW: &str = include_str!("enqueue/new.sql");

/// Messages that have keys, and the keys. A message whose key is in use is left out.
const NEW_WITH_KEYS: &str = include_str!("enqueue/new_with_keys.sql");

/// Stores new messages; `{queued}` is their state.
const INSERT: &str = include_str!("enqueue/insert.sql");

/// The columns of scheduled messages and their values, if a batch has some. The `seq` of a scheduled message is
/// negative.
const SCHEDULED: (&str, &str) =
    (", send_at, seq", ", send_at, nextval('messages_seq_seq') * CASE WHEN send_at IS NULL THEN 1 ELSE -1 END");

/// Inserts scheduled messages into the schedule.
const SCHEDULE: &str = ", scheduled AS (
        INSERT INTO schedule (seq, due_at, channel_key) SELECT seq, send_at, channel_key FROM stored WHERE send_at IS NOT NULL
    )";

/// Stores new messages, and records their events on channels whose messages' events are recorded.
const INSERT_AND_RECORD: &str = include_str!("enqueue/insert_and_record.sql");

/// In which form messages are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Kinds,
    /// As the version before kinds stores them, and reads them.
    Cards,
}

impl Form {
    /// Whether a message can be stored in this form without losing a field. The version before kinds sends to numbers
    /// alone.
    pub fn can_hold(self, message: &NewMessage) -> bool {
        let is_to_number = AddressKind::of(&message.recipient) == AddressKind::Phone;
        self == Self::Kinds || (is_to_number && cards::as_before(message).is_some())
    }

    /// The columns of the content, and the expression for the last one.
    fn columns(self) -> (&'static str, &'static str) {
        match self {
            Self::Kinds => ("kind, rendition, reference", "reference"),
            Self::Cards => ("card_account, card, card_account_known", "reference::boolean"),
        }
    }

    /// The values of these columns.
    fn content(self, message: &NewMessage) -> [Option<Cow<'_, str>>; 3] {
        let card = if self == Self::Cards { cards::as_before(message) } else { None };
        match card.and_then(|mut card| Some((card.accounts.pop()?, card.vcard))) {
            Some((account, vcard)) => {
                let known = if account.known { "true" } else { "false" };
                [Some(account.digits.into()), Some(vcard.into()), Some(known.into())]
            }
            None => [
                Some(message.kind.into()),
                message.rendition.as_deref().map(Into::into),
                message.reference.as_deref().map(Into::into),
            ],
        }
    }
}

/// The number of columns of [`NEW`], before those of the keys.
const COLUMNS: usize = 13;

/// What the statement for a batch has to do.
#[derive(Clone, Copy)]
struct Asks {
    form: Form,
    /// Whether events of some of its messages are recorded.
    records: bool,
    /// Some of its messages are scheduled.
    schedules: bool,
}

fn insert_sql(Asks { form, records, schedules }: Asks) -> String {
    let (content, reference) = form.columns();
    let (scheduled, numbers) = if schedules { SCHEDULED } else { ("", "") };
    let insert = INSERT.replace("{queued}", &number(MessageStatus::Queued).to_string());
    let insert = insert.replace("{content}", content).replace("{reference}", reference);
    let insert = insert.replace("{scheduled}", scheduled).replace("{numbers}", numbers);
    if !records && !schedules {
        return format!("{insert} RETURNING id");
    }
    let accepted = StatusChange::ACCEPTED;
    let sql = INSERT_AND_RECORD.replace("{kind}", accepted.kind()).replace("{data}", &accepted.to_json());
    sql.replace("{insert}", &insert).replace("{schedule}", if schedules { SCHEDULE } else { "" })
}

/// Stores messages, and returns the ids of the stored ones. Either all messages have keys, or none has one. A message
/// whose key another node has used meanwhile is not stored. One statement is one transaction.
pub(super) async fn insert(
    db: Db<'_>,
    new: &[&NewMessage],
    queues: &HashMap<ChannelKey, ChannelQueue>,
    form: Form,
) -> Done<HashSet<MessageId>> {
    let content = column(new, |message| form.content(message));
    // Where each recipient has a queue, the next claim finds the places.
    let head = |message: &NewMessage| {
        let queue = queues.get(&message.channel).filter(|queue| queue.ordering == Ordering::Recipient);
        queue.filter(|_| message.send_at.is_none()).map(|_| 2_i16)
    };
    let keys = column(new, |message| message.idempotency.as_ref());
    // Messages without keys skip the statement for keys, which would cost a third more.
    let keyed = keys.iter().any(Option::is_some);
    let (with, columns) = if keyed { (NEW_WITH_KEYS, COLUMNS + 6) } else { (NEW, COLUMNS) };
    let recorded = |message: &&NewMessage| queues.get(&message.channel).is_some_and(|queue| queue.records_queued);
    let schedules = new.iter().any(|message| message.send_at.is_some());
    let sql = format!("{with} {}", insert_sql(Asks { form, records: new.iter().any(recorded), schedules }));
    let rows = db
        .rows(
            &sql,
            &args![
                column(new, |message| message.id.as_bytes().as_slice()),
                column(new, |message| message.channel),
                column(new, |message| message.network_id.as_str()),
                column(new, |message| message.recipient.as_str()),
                column(new, |message| message.payload.as_str()),
                column(&content, |content| content[0].as_deref()),
                column(&content, |content| content[1].as_deref()),
                column(&content, |content| content[2].as_deref()),
                column(new, |message| message.scenario.as_deref()),
                column(new, |message| message.expires_at),
                column(new, |message| message.accepted_at),
                column(new, |message| head(message)),
                column(new, |message| message.send_at),
                column(&keys, |key| key.map(|key| key.institution.as_bytes().as_slice())),
                column(&keys, |key| key.map(|key| key.environment.name())),
                column(&keys, |key| key.map(|key| key.route)),
                column(&keys, |key| key.map(|key| key.key.as_str())),
                column(&keys, |key| key.map(|key| key.fingerprint.as_slice())),
                column(&keys, |key| key.map(|key| key.forget_before)),
            ][..columns],
        )
        .await?;
    rows.iter().map(|row| id(row.get(0))).collect()
}

/// Which of these messages are stored durably. The query writes to the log, so its commit waits until everything it has
/// seen has reached the standby, including commits whose wait was cancelled.
pub(super) async fn find(db: Db<'_>, messages: &[&NewMessage]) -> Done<HashSet<MessageId>> {
    let ids = column(messages, |message| message.id.as_bytes().as_slice());
    let sql = "SELECT id FROM messages
               WHERE id = any($1) AND (SELECT pg_logical_emit_message(true, 'recado', '')) IS NOT NULL";
    let rows = db.rows(sql, args![ids]).await?;
    rows.iter().map(|row| id(row.get(0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_reader_accepting_records_nothing() {
        let plain = Asks { form: Form::Kinds, records: false, schedules: false };
        assert!(!insert_sql(plain).contains("events"));
        assert!(
            insert_sql(Asks { records: true, ..plain })
                .contains("'message.queued', queued_at, '{\"from\":null,\"to\":\"QUEUED\"}'")
        );
    }
}
