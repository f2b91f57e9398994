//! The queue: outcomes and cancellations. The rules decide, and [`apply`] writes.

use std::collections::HashSet;

use async_trait::async_trait;
use futures_util::future::try_join;
use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::event::Owner;
use recado_domain::ids::MessageId;
use recado_domain::message::{Cancelled, Enqueued, NewMessage, Seq};
use recado_domain::queue::{
    ChannelEffect, Claim, ClaimRequest, Finish, Outcomes, Position, Queued, ScanCursor, Settled, Submitted, Transition,
    mark_unknown, settle,
};
use recado_domain::status::MessageStatus;

use super::apply::{apply, apply_all};
use super::chats::OpenedChat;
use super::dispatching::Call;
use super::lock::{Locked, Queues, lock, status};
use super::{PgStore, channels, chats, receipts, recipients};
use crate::commits::Change;
use crate::common::inbox::outgoing;
use crate::common::schedule;
use crate::sql::{OPEN, QUEUED, SENDING};
use crate::sqlkit::postgres::db::{Db, Done, args, column, with_connection, with_transaction};
use crate::{Queue, Result};

#[async_trait]
impl Queue for PgStore {
    async fn enqueue(&self, message: NewMessage) -> Result<Enqueued> {
        self.accepting.accept(message).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Claim> {
        self.dispatching.run(Call { outcomes: None, request: Some(request) }).await.1
    }

    async fn settle(&self, outcomes: Outcomes) -> Result<()> {
        self.dispatching.run(Call { outcomes: Some(outcomes), request: None }).await.0
    }

    async fn settle_and_claim(&self, outcomes: Outcomes, request: ClaimRequest) -> (Result<()>, Result<Claim>) {
        self.dispatching.run(Call { outcomes: Some(outcomes), request: Some(request) }).await
    }

    async fn join_conversations(&self, owner: Owner, submitted: Vec<Submitted>, now: Millis) -> Result<()> {
        // A transaction that waits for a busy inbox holds a connection. `acquire` fails only on a closed semaphore.
        let _turn = self.waiting.acquire().await;
        let marked: Result<bool> =
            with_transaction!(self.pool, db => outgoing::join(&db, owner, &submitted, now).await);
        if marked? {
            self.follower.notify(vec![Change::Read]);
        }
        Ok(())
    }

    async fn left_to_join(&self, channel: ChannelKey) -> Result<Vec<Submitted>> {
        with_connection!(self.pool, db => outgoing::left(&db, channel))
    }

    async fn cancel(&self, channel: ChannelKey, id: MessageId, now: Millis) -> Result<Cancelled> {
        let cancelled: Result<Cancelled> = with_transaction!(self.pool, db => cancel(db, channel, id, now).await);
        cancelled.inspect(|_| self.follower.notify(vec![Change::Work(channel)]))
    }

    async fn cancel_former(&self, key: ChannelKey, limit: usize, now: Millis) -> Result<usize> {
        with_transaction!(self.pool, db => cancel_former(db, key, limit, now).await)
    }

    async fn open_channels(&self) -> Result<Vec<ChannelKey>> {
        with_connection!(self.pool, db => open_channels(db))
    }
}

/// A locked channel, and the outcomes to store for its messages.
pub(super) struct Settling<'a> {
    pub locked: Locked,
    pub settled: Settled<'a>,
    pub now: Millis,
}

impl<'a> Settling<'a> {
    pub fn of(locked: Locked, outcomes: Option<&'a Outcomes>) -> Self {
        let settled = outcomes.map(|outcomes| settle(outcomes, &locked.queue)).unwrap_or_default();
        Self { locked, settled, now: outcomes.map_or(0, |outcomes| outcomes.now) }
    }

    /// Whether the outcomes change only their messages, the chats that these open, and the next send time. Such
    /// outcomes can share statements with those of other channels.
    pub fn is_plain(&self) -> bool {
        self.settled.effects.iter().all(|(_, effect)| matches!(effect, ChannelEffect::OpenChat { .. }))
    }
}

/// Stores outcomes of some channels. Changes of the channels' rows are still to be saved.
pub(super) async fn record(db: Db<'_>, channels: &mut [Settling<'_>]) -> Done<()> {
    let queues = Queues::of(channels.iter().map(|one| &one.locked));
    let transitions: Vec<_> = channels.iter().flat_map(|one| one.settled.transitions.iter().cloned()).collect();
    let named = channels.iter().flat_map(|one| {
        let channel = one.locked.key;
        one.settled.named.iter().map(move |(seq, remote_id)| (channel, *seq, *remote_id))
    });
    let named: Vec<_> = named.collect();
    let (moved, unmatched) = try_join(apply_all(db, &queues, &transitions), receipts::unmatched(db, &named)).await?;
    let mut overtaken: Vec<_> = transitions.iter().filter(|transition| !moved.contains(&transition.seq())).collect();
    // In the order in which receipts lock messages.
    overtaken.sort_unstable_by_key(|transition| transition.seq());
    note(db, &overtaken).await?;
    let new_chats = chats::open_all(db, &opened(channels)).await?;
    for one in channels {
        if new_chats.contains(&one.locked.key) {
            // Messages for recipients that are known from now on can be sent, so the scan starts from the head again.
            one.locked.place(ScanCursor::default());
        }
        effects(db, one, &moved).await?;
        receipts::apply_unmatched(db, &mut one.locked, &unmatched).await?;
        one.settled.defer_until.into_iter().for_each(|until| one.locked.defer(until));
    }
    Ok(())
}

/// The messages that the network accepted for their recipients, on channels that count chats.
fn opened<'a>(channels: &[Settling<'a>]) -> Vec<OpenedChat<'a>> {
    let all = channels.iter().flat_map(|one| one.settled.effects.iter().map(move |(seq, effect)| (one, *seq, *effect)));
    let opened = all.filter_map(|(one, seq, effect)| match effect {
        // Chats of a deleted channel do not belong to the channel that replaced it.
        ChannelEffect::OpenChat { account } if !one.locked.queue.cancels(seq) => {
            Some(OpenedChat { channel: one.locked.key, seq, account, at: one.now })
        }
        _ => None,
    });
    opened.collect()
}

/// Applies the effects of outcomes on their channel.
async fn effects(db: Db<'_>, Settling { locked, settled, now }: &mut Settling<'_>, moved: &HashSet<Seq>) -> Done<()> {
    for (seq, effect) in &settled.effects {
        match *effect {
            ChannelEffect::Pause { reason } => channels::pause(db, locked, reason, *seq, *now).await?,
            ChannelEffect::BlockNewChats { until, reason } => {
                chats::forget(db, locked.key, *seq).await?;
                channels::restrict(db, locked, until, reason, *now).await?;
            }
            ChannelEffect::DeferRecipient { until } if moved.contains(seq) => {
                recipients::defer(db, *seq, until).await?;
            }
            // Chats of all channels are opened before, in one statement.
            ChannelEffect::DeferRecipient { .. } | ChannelEffect::OpenChat { .. } => {}
        }
    }
    Ok(())
}

/// Stores what acknowledgements add to messages that a receipt has already moved.
async fn note(db: Db<'_>, overtaken: &[&Transition<'_>]) -> Done<()> {
    let changed = |transition: &&&Transition<'_>| {
        let patch = transition.patch();
        patch.account.is_some() || patch.remote_id.is_some() || patch.rendition.is_some()
    };
    let changed: Vec<_> = overtaken.iter().filter(changed).map(|transition| (transition, transition.patch())).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let sql = include_str!("queue/note.sql");
    db.run(
        sql,
        args![
            column(&changed, |(transition, _)| transition.seq()),
            column(&changed, |(transition, _)| transition.channel()),
            column(&changed, |(_, patch)| patch.account),
            column(&changed, |(_, patch)| patch.remote_id),
            column(&changed, |(_, patch)| patch.rendition),
        ],
    )
    .await?;
    Ok(())
}

/// Ends messages as `UNKNOWN` that may have arrived from the former number of the channel. On a network of sessions
/// this includes `SENDING` messages, because their session has ended.
pub(super) async fn end_maybe_delivered(db: Db<'_>, channel: ChannelKey, now: Millis) -> Done<()> {
    let Some(locked) = lock(db, channel).await? else { return Ok(()) };
    let sql = format!(
        "SELECT seq, status FROM messages
         WHERE channel_key = $1 AND {OPEN} AND ({QUEUED} AND unanswered OR {SENDING} AND $2) ORDER BY seq"
    );
    let rows = db.rows(&sql, args![channel, locked.queue.opens_chats]).await?;
    let left = rows.iter().map(|row| {
        let position = Position { channel, seq: row.get(0), status: status(row.get(1))?, attempted: true };
        Ok(mark_unknown(position, now))
    });
    let left: Vec<_> = left.collect::<Done<Vec<_>>>()?.into_iter().flatten().collect();
    apply(db, &locked, &left).await.map(drop)
}

/// Nothing is sent on the channel before this time.
pub(super) async fn defer(db: Db<'_>, channel: ChannelKey, until: Millis) -> Done<()> {
    let sql = "UPDATE channels SET next_send_at = $2 WHERE key = $1 AND next_send_at < $2";
    db.run(sql, args![channel, until]).await.map(drop)
}

pub(super) async fn cancel(db: Db<'_>, channel: ChannelKey, id: MessageId, now: Millis) -> Done<Cancelled> {
    let Some(locked) = lock(db, channel).await? else { return Ok(Cancelled::NoMessage) };
    let sql = "SELECT seq, expires_at, unanswered, status FROM messages WHERE id = $2 AND channel_key = $1";
    let Some(row) = db.row(sql, args![channel, id.as_bytes().as_slice()]).await? else {
        return Ok(Cancelled::NoMessage);
    };
    let message = Queued { channel, seq: row.get(0), expires_at: row.get(1), unanswered: row.get(2) };
    let is_queued = status(row.get(3))? == MessageStatus::Queued;
    if is_queued {
        schedule::end(&db, [message.seq].into_iter()).await?;
    }
    let message = Queued { seq: message.seq.abs(), ..message };
    let Some(transition) = message.cancel(now).filter(|_| is_queued) else { return Ok(Cancelled::TooLate) };
    apply(db, &locked, &[transition]).await?;
    Ok(Cancelled::Done)
}

/// Cancels messages that were queued before the channel was deleted.
pub(super) async fn cancel_former(db: Db<'_>, channel: ChannelKey, limit: usize, now: Millis) -> Done<usize> {
    let Some(locked) = lock(db, channel).await? else { return Ok(0) };
    let sql = format!(
        "SELECT seq, expires_at, unanswered FROM messages
         WHERE channel_key = $1 AND {OPEN} AND {QUEUED} AND seq > 0 AND seq <= $3 ORDER BY seq LIMIT $2"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = db.rows(&sql, args![channel, limit, locked.queue.cancel_before]).await?;
    let queued =
        rows.iter().map(|row| Queued { channel, seq: row.get(0), expires_at: row.get(1), unanswered: row.get(2) });
    let ends: Vec<_> = queued.filter_map(|message| message.finish(Finish::Cancelled, now)).collect();
    apply(db, &locked, &ends).await?;
    Ok(rows.len())
}

pub(super) async fn open_channels(db: Db<'_>) -> Done<Vec<ChannelKey>> {
    // The limit makes the planner use the index for each channel, instead of reading all open messages.
    let sql = format!(
        "SELECT key FROM channels,
             LATERAL (SELECT 1 FROM messages WHERE channel_key = key AND seq > 0 AND {OPEN} LIMIT 1) AS open"
    );
    Ok(db.rows(&sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}
