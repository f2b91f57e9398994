//! The only statement that changes messages' states.

use std::collections::HashSet;

use recado_domain::channel::{ChannelKey, Ordering};
use recado_domain::message::Seq;
use recado_domain::queue::Transition;
use recado_domain::status::MessageStatus;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::events::MessageEvents;
use super::lock::{Locked, Queues, number};
use super::recipients;
use crate::commits::Reached;
use crate::sql::reached_column;
use crate::sqlkit::postgres::db::{Arg, Db, Done, Typed};

/// Applies these transitions, one per message, to the messages that are in the expected states. Returns which ones
/// were. All belong to one locked channel.
pub(super) async fn apply(db: Db<'_>, locked: &Locked, transitions: &[Transition<'_>]) -> Done<HashSet<Seq>> {
    apply_all(db, &locked.alone(), transitions).await
}

/// The same for messages of several channels, each of which is locked.
pub(super) async fn apply_all(db: Db<'_>, queues: &Queues, transitions: &[Transition<'_>]) -> Done<HashSet<Seq>> {
    let rows = update(db, transitions, |channel| queues.records(channel), "m.seq, m.channel_key, m.recipient").await?;
    let changed = transitions.iter().filter(|transition| transition.changes_heads()).map(Transition::channel);
    let by_recipient: HashSet<_> = changed.filter(|channel| queues.ordering(*channel) == Ordering::Recipient).collect();
    let of = |row: &Row| (row.get("channel_key"), row.get("recipient"));
    recipients::elect_heads(db, rows.iter().map(of).filter(|(channel, _)| by_recipient.contains(channel))).await?;
    Ok(rows.iter().map(|row| row.get("seq")).collect())
}

/// Applies these transitions, and returns columns of the messages that were moved, among them `seq`. `records` says
/// whether the events of a channel's messages are recorded.
///
/// All transitions are one statement. It sets only columns that one of them changes: with all columns a settlement
/// would take twice as long, most of it in the planner.
pub(super) async fn update(
    db: Db<'_>,
    transitions: &[Transition<'_>],
    records: impl Fn(ChannelKey) -> bool,
    returning: &str,
) -> Done<Vec<Row>> {
    if transitions.is_empty() {
        return Ok(Vec::new());
    }
    let mut changes = Changes { transitions, ..Changes::default() };
    changes.column("seq", Transition::seq);
    changes.column("channel_key", Transition::channel);
    changes.column("expected", |transition| number(transition.from()));
    changes.set("status", NEW, |transition| Some(number(transition.to())));
    for status in MessageStatus::ALL {
        changes.set(reached_column(status), FIRST, |transition| transition.reached(status));
    }
    changes.set("account", FIRST, |transition| transition.patch().account);
    changes.set("remote_id", LATEST, |transition| transition.patch().remote_id);
    changes.set("rendition", LATEST, |transition| transition.patch().rendition);
    changes.set("run_at", LATEST, |transition| transition.patch().run_at);
    changes.set("connection", LATEST, |transition| transition.patch().connection);
    changes.set("claimed_until", NEW, |transition| transition.patch().claimed_until);
    changes.set("error_code", NEW, |transition| transition.patch().error.map(|(code, _)| code));
    changes.set("error_message", NEW, |transition| transition.patch().error.map(|(_, message)| message));
    changes.set("resend_at", ONCE, |transition| transition.patch().resend_at);
    changes.set("attempts", SUM, |transition| Some(transition.patch().attempts).filter(|more| *more != 0));
    changes.set("failures", SUM, |transition| transition.patch().failed.then_some(1));
    changes.set("recipient_holds", SUM, |transition| transition.patch().throttled.then_some(1));
    changes.set("unanswered", EVER, |transition| transition.patch().unanswered.then_some(true));
    changes.set("resent", EVER, |transition| transition.patch().resent.then_some(true));
    changes.set("head", BEHIND, |transition| transition.returns_to_queue().then_some(0_i16));
    let mut events = MessageEvents::default();
    events.extend(transitions.iter().filter(|transition| records(transition.channel())).flat_map(Transition::events));
    let rows = changes.run(db, &events, returning).await?;
    if let Some(reached) = db.reached {
        let moved: HashSet<Seq> = rows.iter().map(|row| row.get("seq")).collect();
        reached.extend(transitions.iter().filter(|one| moved.contains(&one.seq())).flat_map(Reached::by));
    }
    Ok(rows)
}

// How a column `#` of a message `m` is set from a row `s`.
const NEW: &str = "s.#";
/// The first value stays.
const FIRST: &str = "coalesce(m.#, s.#)";
/// The latest value stays.
const LATEST: &str = "coalesce(s.#, m.#)";
const SUM: &str = "m.# + coalesce(s.#, 0)";
const EVER: &str = "m.# OR coalesce(s.#, false)";
/// A message that was queued again once is not queued again twice.
const ONCE: &str = "CASE WHEN m.resent THEN NULL ELSE s.# END";
/// A message that is queued again is no head until a head is elected. In a channel queue there are no heads.
const BEHIND: &str = "CASE WHEN m.# IS NULL THEN NULL ELSE coalesce(s.#, m.#) END";

/// Columns that a transition clears where it has no value for them.
const CLEARED: [&str; 4] = ["claimed_until", "error_code", "error_message", "resend_at"];

/// The columns of the statement that changes messages.
#[derive(Default)]
struct Changes<'a> {
    transitions: &'a [Transition<'a>],
    /// What is set in a message `m` from a row `s`.
    set: Vec<String>,
    names: Vec<&'static str>,
    values: Vec<(Box<dyn ToSql + Sync + Send + 'a>, Type)>,
}

impl<'a> Changes<'a> {
    /// Values of the rows.
    fn column<T>(&mut self, name: &'static str, value: impl Fn(&'a Transition<'a>) -> T)
    where
        T: 'a,
        Vec<T>: Typed + Send,
    {
        let values: Vec<T> = self.transitions.iter().map(value).collect();
        self.names.push(name);
        self.values.push((Box::new(values), Vec::<T>::TYPE));
    }

    /// Sets a column, where a transition has a value for it.
    fn set<T>(&mut self, name: &'static str, how: &str, value: impl Fn(&'a Transition<'a>) -> Option<T>)
    where
        T: 'a,
        Vec<Option<T>>: Typed + Send,
    {
        if self.transitions.iter().any(|transition| value(transition).is_some()) {
            self.set.push(format!("{name} = {}", how.replace('#', name)));
            self.column(name, value);
        } else if CLEARED.contains(&name) {
            self.set.push(format!("{name} = NULL"));
        }
    }

    async fn run(self, db: Db<'_>, events: &MessageEvents, returning: &str) -> Done<Vec<Row>> {
        let numbers: Vec<_> = (1..=self.names.len()).map(|n| format!("${n}")).collect();
        let sql = format!(
            "UPDATE messages m SET {}
             FROM unnest({}) AS s({})
             -- `+ 0` keeps the planner off the index of messages in the network: it would read all of it.
             WHERE m.seq = any($1) AND m.seq = s.seq AND m.channel_key = s.channel_key AND m.status + 0 = s.expected
             RETURNING {returning}{}",
            self.set.join(", "),
            numbers.join(", "),
            self.names.join(", "),
            events.returning(),
        );
        let mut values: Vec<Arg<'_>> = self.values.iter().map(|(value, kind)| (&**value as _, kind.clone())).collect();
        let sql = events.record_with(sql, &mut values);
        db.rows(&sql, &values).await
    }
}
