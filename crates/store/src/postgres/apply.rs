//! The only statement that changes messages' states.

use std::collections::HashSet;

use recado_domain::channel::Ordering;
use recado_domain::message::Seq;
use recado_domain::queue::Transition;
use recado_domain::status::MessageStatus;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::lock::{Locked, number};
use super::recipients;
use crate::sql::reached_column;
use crate::sqlkit::postgres::db::{Arg, Db, Done, Typed};

/// Makes these transitions, one for each message, where their messages are in the expected states; which ones were. The
/// channel of all of them is locked.
pub(super) async fn apply(db: Db<'_>, locked: &Locked, transitions: &[Transition<'_>]) -> Done<HashSet<Seq>> {
    let rows = update(db, transitions, "m.seq, m.recipient").await?;
    if locked.queue.ordering == Ordering::Recipient && transitions.iter().any(Transition::changes_heads) {
        recipients::elect_heads(db, locked, rows.iter().map(|row| row.get(1))).await?;
    }
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Makes these transitions, and gives columns of the messages that made them.
///
/// One statement for all of them. It names only what one of them changes: with all columns a settlement would take twice as
/// long, most of it for the planner.
pub(super) async fn update(db: Db<'_>, transitions: &[Transition<'_>], returning: &str) -> Done<Vec<Row>> {
    if transitions.is_empty() {
        return Ok(Vec::new());
    }
    let mut changes = Changes { transitions, ..Changes::default() };
    changes.column("seq", Transition::seq);
    changes.column("channel_key", Transition::channel);
    changes.column("expected", |transition| number(transition.from()));
    changes.set("status", "s.status", |transition| Some(number(transition.to())));
    for status in MessageStatus::ALL {
        // The first time stands.
        changes.first(reached_column(status), |transition| transition.reached(status));
    }
    changes.first("account", |transition| transition.patch().account);
    changes.latest("remote_id", |transition| transition.patch().remote_id);
    changes.latest("card", |transition| transition.patch().card.map(|sent| sent.card.as_str()));
    changes.latest("card_account", |transition| transition.patch().card.map(|sent| sent.account.digits.as_str()));
    changes.latest("card_account_known", |transition| transition.patch().card.map(|sent| sent.account.known));
    changes.latest("run_at", |transition| transition.patch().run_at);
    changes.latest("connection", |transition| transition.patch().connection);
    changes.or_null("claimed_until", "s.claimed_until", |transition| transition.patch().claimed_until);
    changes.or_null("error_code", "s.error_code", |transition| transition.patch().error.map(|(code, _)| code));
    changes.or_null("error_message", "s.error_message", |transition| transition.patch().error.map(|(_, text)| text));
    let resend_at = "case when m.resent then null else s.resend_at end";
    changes.or_null("resend_at", resend_at, |transition| transition.patch().resend_at);
    changes.sum("attempts", |transition| transition.patch().attempts);
    changes.sum("failures", |transition| transition.patch().failed.into());
    changes.sum("recipient_holds", |transition| transition.patch().throttled.into());
    changes.flag("unanswered", |transition| transition.patch().unanswered);
    changes.flag("resent", |transition| transition.patch().resent);
    // One that comes back stands behind the others until it is given its place.
    let head = "case when s.head and m.head is not null then 0 else m.head end";
    changes.set("head", head, |transition| transition.comes_back().then_some(true));
    changes.run(db, returning).await
}

/// The columns of the statement that changes messages.
#[derive(Default)]
struct Changes<'a> {
    transitions: &'a [Transition<'a>],
    /// What is set in a message `m` by a row `s`.
    set: Vec<String>,
    names: Vec<&'static str>,
    values: Vec<(Box<dyn ToSql + Sync + Send + 'a>, Type)>,
}

impl<'a> Changes<'a> {
    /// Values that are not set.
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
    fn set<T>(&mut self, name: &'static str, to: &str, value: impl Fn(&'a Transition<'a>) -> Option<T>)
    where
        T: 'a,
        Vec<Option<T>>: Typed + Send,
    {
        if self.transitions.iter().any(|transition| value(transition).is_some()) {
            self.set.push(format!("{name} = {to}"));
            self.column(name, value);
        }
    }

    /// The first value stands.
    fn first<T>(&mut self, name: &'static str, value: impl Fn(&'a Transition<'a>) -> Option<T>)
    where
        T: 'a,
        Vec<Option<T>>: Typed + Send,
    {
        self.set(name, &format!("coalesce(m.{name}, s.{name})"), value);
    }

    /// The latest value stands.
    fn latest<T>(&mut self, name: &'static str, value: impl Fn(&'a Transition<'a>) -> Option<T>)
    where
        T: 'a,
        Vec<Option<T>>: Typed + Send,
    {
        self.set(name, &format!("coalesce(s.{name}, m.{name})"), value);
    }

    /// Sets a column in any case, to null where no transition has a value for it.
    fn or_null<T>(&mut self, name: &'static str, to: &str, value: impl Fn(&'a Transition<'a>) -> Option<T>)
    where
        T: 'a,
        Vec<Option<T>>: Typed + Send,
    {
        let columns = self.names.len();
        self.set(name, to, value);
        if self.names.len() == columns {
            self.set.push(format!("{name} = null"));
        }
    }

    fn sum(&mut self, name: &'static str, value: impl Fn(&'a Transition<'a>) -> i32) {
        let to = format!("m.{name} + coalesce(s.{name}, 0)");
        self.set(name, &to, |transition| Some(value(transition)).filter(|value| *value != 0));
    }

    fn flag(&mut self, name: &'static str, value: impl Fn(&'a Transition<'a>) -> bool) {
        self.set(name, &format!("m.{name} or coalesce(s.{name}, false)"), |transition| {
            value(transition).then_some(true)
        });
    }

    async fn run(self, db: Db<'_>, returning: &str) -> Done<Vec<Row>> {
        let numbers: Vec<_> = (1..=self.names.len()).map(|n| format!("${n}")).collect();
        let sql = format!(
            "update messages m set {}
             from unnest({}) as s({})
             -- `+ 0`: so few are SENDING that the planner would rather read the whole index of those in the network.
             where m.seq = s.seq and m.channel_key = s.channel_key and m.status + 0 = s.expected
             returning {returning}",
            self.set.join(", "),
            numbers.join(", "),
            self.names.join(", "),
        );
        let values: Vec<Arg<'_>> = self.values.iter().map(|(value, kind)| (&**value as _, kind.clone())).collect();
        db.rows(&sql, &values).await
    }
}
