//! Events of channels and messages.

use recado_domain::channel::{ChannelKey, MAX_CHANNEL_EVENTS, Recorded};
use recado_domain::clock::Millis;
use recado_domain::message::{MessageEvent, Seq};

use super::{PgStore, event_reader};
use crate::EventReader;
use crate::sqlkit::postgres::db::{Arg, Db, Done, arg, args};

impl PgStore {
    pub(crate) fn new_event_reader(&self) -> Box<dyn EventReader> {
        Box::new(event_reader::Reader::new(self.direct_url.clone()))
    }
}

/// Records an event of a channel in the transaction of the change, which has locked the channel's row. Deletes the
/// oldest of too many events.
pub(super) async fn record(db: Db<'_>, key: ChannelKey, what: &Recorded, at: Millis) -> Done<()> {
    if what.from == what.to && newest(db, key).await?.is_some_and(|newest| what.repeats(&newest)) {
        return Ok(());
    }
    let sql = "INSERT INTO events (channel_key, kind, at, data, node)
               SELECT $1, $2, $3, $4, (SELECT name FROM nodes WHERE id = lease_node) FROM channels WHERE key = $1";
    db.run(sql, args![key, what.kind(), at, what.to_json()]).await?;
    let sql = "DELETE FROM events WHERE channel_key = $1 AND message_seq IS NULL AND NOT complete
               AND seq <= (SELECT seq FROM events WHERE channel_key = $1 AND message_seq IS NULL AND NOT complete
                           ORDER BY seq DESC LIMIT 1 OFFSET $2)";
    db.run(sql, args![key, MAX_CHANNEL_EVENTS]).await?;
    Ok(())
}

async fn newest(db: Db<'_>, key: ChannelKey) -> Done<Option<Recorded>> {
    let sql = "SELECT data FROM events WHERE channel_key = $1 AND message_seq IS NULL AND NOT complete ORDER BY seq DESC LIMIT 1";
    Ok(db.row(sql, args![key]).await?.and_then(|row| Recorded::from_json(row.get(0))))
}

/// Events of messages, column by column.
#[derive(Default)]
pub(super) struct MessageEvents {
    channels: Vec<ChannelKey>,
    messages: Vec<Seq>,
    kinds: Vec<&'static str>,
    times: Vec<Millis>,
    data: Vec<String>,
}

impl Extend<MessageEvent> for MessageEvents {
    fn extend<T: IntoIterator<Item = MessageEvent>>(&mut self, events: T) {
        for event in events {
            self.channels.push(event.channel);
            self.messages.push(event.message);
            self.kinds.push(event.what.kind());
            self.times.push(event.at);
            self.data.push(event.what.to_json());
        }
    }
}

impl MessageEvents {
    /// What a change of messages `m` returns besides, so that it can be recorded.
    pub fn returning(&self) -> &'static str {
        if self.messages.is_empty() {
            return "";
        }
        ", m.account AS event_account, m.remote_id AS event_remote_id, m.conversation_id AS event_conversation_id"
    }

    /// A statement that makes a change, and records the events of the messages whose `seq`, `event_account`,
    /// `event_remote_id` and `event_conversation_id` it returns; the same where there are no events. `values` are those of the change, and the events'
    /// come behind them.
    ///
    /// The events are part of the statement that locks the rows of the messages, so the events of a message have the
    /// order of its changes.
    pub fn record_with<'a>(&'a self, change: String, values: &mut Vec<Arg<'a>>) -> String {
        if self.messages.is_empty() {
            return change;
        }
        let first = values.len() + 1;
        values.extend([arg(&self.channels), arg(&self.messages), arg(&self.kinds), arg(&self.times), arg(&self.data)]);
        let numbers: Vec<_> = (first..=values.len()).map(|n| format!("${n}")).collect();
        format!(include_str!("events/record.sql"), change = change, values = numbers.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use recado_domain::message::StatusChange;

    #[test]
    fn without_a_reader_a_statement_stays_as_it_is() {
        let change = "UPDATE messages SET attempts = $1 RETURNING seq";
        let attempts = 1_i64;
        let mut values = vec![arg(&attempts)];
        let mut events = MessageEvents::default();
        assert_eq!(events.record_with(change.to_owned(), &mut values), change);
        assert_eq!(values.len(), 1);
        drop(values);
        events.extend([MessageEvent { channel: 1, message: 2, at: 3, what: StatusChange::ACCEPTED }]);
        let mut values = vec![arg(&attempts)];
        let recorded = events.record_with(change.to_owned(), &mut values);
        assert!(recorded.contains(change) && recorded.contains("unnest($2, $3, $4, $5, $6)"), "{recorded}");
        assert_eq!(values.len(), 6);
    }
}
