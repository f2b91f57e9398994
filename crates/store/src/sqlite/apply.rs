//! The only statement that changes messages' states.

use std::sync::LazyLock;

use recado_domain::channel::{ChannelKey, Ordering};
use recado_domain::ids::MessageId;
use recado_domain::message::{CardAccount, Seq};
use recado_domain::queue::{Claimed, Patch, Transition};
use recado_domain::status::MessageStatus;
use rusqlite::{Statement, params};

use super::{CachedChannel, Writing, events, recipients};
use crate::commits::Reached;
use crate::common::cards;
use crate::sql::reached_column;

/// The values of [`UPDATE`] before the times at which states were reached.
const VALUES: usize = 19;

static UPDATE: LazyLock<String> = LazyLock::new(|| {
    // The first time of each state stays.
    let reached = MessageStatus::ALL.map(|status| {
        let (column, value) = (reached_column(status), VALUES + 1 + usize::from(status.number()));
        format!("{column} = coalesce({column}, ?{value})")
    });
    format!(include_str!("apply/update.sql"), reached = reached.join(", "))
});

static SEND: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{} RETURNING id, network_id, recipient, payload, kind, rendition, scenario, attempts, failures,
                      recipient_holds, resent, unanswered, card, card_account, card_account_known,
                      conversation_id IS NOT NULL, queued_at",
        &*UPDATE
    )
});

fn bind(statement: &mut Statement<'_>, transition: &Transition<'_>) -> rusqlite::Result<()> {
    let patch = transition.patch();
    let (code, message) = patch.error.unzip();
    let values: [&dyn rusqlite::ToSql; VALUES] = [
        &transition.seq(),
        &transition.channel(),
        &transition.from().number(),
        &transition.to().number(),
        &patch.claimed_until,
        &patch.connection,
        &patch.account,
        &patch.remote_id,
        &patch.rendition,
        &code,
        &message,
        &patch.resend_at,
        &patch.run_at,
        &patch.attempts,
        &patch.failed,
        &patch.throttled,
        &patch.unanswered,
        &patch.resent,
        &transition.returns_to_queue(),
    ];
    for (place, value) in (1..).zip(values) {
        statement.raw_bind_parameter(place, value)?;
    }
    for (place, status) in (VALUES + 1..).zip(MessageStatus::ALL) {
        statement.raw_bind_parameter(place, transition.reached(status))?;
    }
    Ok(())
}

/// Applies a transition; `false` if the message is in another state.
pub(super) fn apply(writing: &mut Writing, transition: &Transition<'_>) -> rusqlite::Result<bool> {
    let mut statement = writing.connection.prepare_cached(&UPDATE)?;
    bind(&mut statement, transition)?;
    let changed = statement.raw_execute()? == 1;
    drop(statement);
    if changed {
        writing.reached.extend(Reached::by(transition));
        record(writing, transition)?;
        index(writing, transition)?;
    }
    Ok(changed)
}

/// Records a transition, if the events of the channel's messages are recorded.
fn record(writing: &Writing, transition: &Transition<'_>) -> rusqlite::Result<()> {
    let known = writing.queues.get(&transition.channel());
    if known.is_none_or(|known| !known.queue.records_messages) {
        return Ok(());
    }
    transition.events().try_for_each(|event| events::record_message(&writing.connection, &event))
}

/// Applies these transitions.
pub(super) fn apply_all<'a>(
    writing: &mut Writing,
    transitions: impl IntoIterator<Item = Transition<'a>>,
) -> rusqlite::Result<()> {
    transitions.into_iter().try_for_each(|transition| apply(writing, &transition).map(drop))
}

/// Applies the transition of a message to send.
pub(super) fn send(writing: &mut Writing, transition: &Transition<'_>) -> rusqlite::Result<Claimed> {
    let mut statement = writing.connection.prepare_cached(&SEND)?;
    bind(&mut statement, transition)?;
    let mut rows = statement.raw_query();
    let row = rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    let (kind, rendition) = cards::read(row.get(4)?, row.get(5)?, || {
        Ok::<_, rusqlite::Error>((row.get(12)?, CardAccount { digits: row.get(13)?, known: row.get(14)? }))
    })?;
    let claimed = Claimed {
        seq: transition.seq(),
        id: MessageId::from_bytes(row.get(0)?),
        network_id: row.get(1)?,
        recipient: row.get(2)?,
        payload: row.get(3)?,
        kind,
        rendition,
        scenario: row.get(6)?,
        attempts: row.get(7)?,
        failures: row.get(8)?,
        recipient_holds: row.get(9)?,
        resent: row.get(10)?,
        unanswered: row.get(11)?,
        joined: row.get(15)?,
        queued_at: row.get(16)?,
    };
    drop(rows);
    drop(statement);
    writing.reached.extend(Reached::by(transition));
    record(writing, transition)?;
    Ok(claimed)
}

/// Updates the data that is derived from messages' states.
fn index(writing: &mut Writing, transition: &Transition<'_>) -> rusqlite::Result<()> {
    let (channel, seq) = (transition.channel(), transition.seq());
    let Some(CachedChannel { queue, open }) = writing.queues.get_mut(&channel) else { return Ok(()) };
    if !queue.is_former(seq) {
        *open = open.saturating_add_signed(transition.backlog_change().into());
    }
    if queue.ordering == Ordering::Recipient && transition.changes_heads() {
        recipients::elect_head(writing, channel, seq)?;
    }
    Ok(())
}

/// Stores what an acknowledgement adds to a message that a receipt has already moved.
pub(super) fn note(writing: &Writing, transition: &Transition<'_>) -> rusqlite::Result<()> {
    let Patch { account, remote_id, rendition, .. } = transition.patch();
    if account.is_none() && remote_id.is_none() && rendition.is_none() {
        return Ok(());
    }
    let sql = "UPDATE messages
               SET account = coalesce(account, ?3), remote_id = coalesce(?4, remote_id),
                   rendition = coalesce(?5, rendition)
               WHERE seq = ?1 AND channel_key = ?2";
    let (seq, channel): (Seq, ChannelKey) = (transition.seq(), transition.channel());
    writing.connection.prepare_cached(sql)?.execute(params![seq, channel, account, remote_id, rendition])?;
    Ok(())
}
