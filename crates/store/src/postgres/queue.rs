//! The queue: outcomes and cancellations. The rules decide, [`apply`] writes what changes together by one statement.

use async_trait::async_trait;
use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::ids::MessageId;
use recado_domain::message::{Cancelled, Enqueued, NewMessage};
use recado_domain::queue::{
    ChannelEffect, Claim, ClaimRequest, Finish, Outcomes, Position, Queued, Receipt, Transition, leave,
    settle as settle_outcomes,
};
use recado_domain::status::MessageStatus;

use super::apply::apply;
use super::lock::{Locked, lock, status};
use super::{PgStore, channels, chats, claim, receipts, recipients};
use crate::commits::Change;
use crate::sql::{OPEN, QUEUED, SENDING};
use crate::sqlkit::postgres::db::{Db, Done, args, plainly, transaction};
use crate::{Queue, Result, StoreError};

#[async_trait]
impl Queue for PgStore {
    async fn enqueue(&self, message: NewMessage) -> Result<Enqueued> {
        self.accepting.accept(message).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Claim> {
        transaction!(self.pool, db => claim::claim(db, &request).await)
    }

    async fn settle(&self, outcomes: Outcomes) -> Result<()> {
        transaction!(self.pool, db => settle(db, &outcomes).await)
    }

    async fn settle_and_claim(&self, outcomes: Outcomes, request: ClaimRequest) -> (Result<()>, Result<Claim>) {
        let both = async { transaction!(self.pool, db => settle_and_claim(db, &outcomes, &request).await) };
        match both.await {
            // One of the two cannot be done, and the other must not fail with it.
            Err(StoreError::Refused(_)) => (self.settle(outcomes).await, self.claim(request).await),
            Err(error) => (Err(error.clone()), Err(error)),
            Ok(claim) => (Ok(()), Ok(claim)),
        }
    }

    async fn apply_receipts(&self, receipts: Vec<Receipt>, now: Millis) -> Result<()> {
        let left: Vec<Receipt> = plainly!(self.pool, db => receipts::apply_plain(db, &receipts))?;
        if left.is_empty() {
            return Ok(());
        }
        transaction!(self.pool, db => receipts::apply_locked(db, &left, now).await)
    }

    async fn cancel(&self, channel: ChannelKey, id: MessageId, now: Millis) -> Result<Cancelled> {
        let cancelled: Result<Cancelled> = transaction!(self.pool, db => cancel(db, channel, id, now).await);
        cancelled.inspect(|_| self.follower.tell(vec![Change::Work(channel)]))
    }

    async fn cancel_former(&self, key: ChannelKey, limit: usize, now: Millis) -> Result<usize> {
        transaction!(self.pool, db => cancel_former(db, key, limit, now).await)
    }

    async fn open_channels(&self) -> Result<Vec<ChannelKey>> {
        plainly!(self.pool, db => open_channels(db))
    }
}

/// A column of a statement's rows.
fn column<'a, R, T>(rows: &'a [R], value: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

pub(super) async fn settle(db: Db<'_>, outcomes: &Outcomes) -> Done<()> {
    let Some(mut locked) = lock(db, outcomes.channel).await? else { return Ok(()) };
    locked.fence(outcomes.epoch)?;
    record(db, &mut locked, outcomes).await
}

/// Both by one look at the channel's row: who asks for both has one channel under one epoch.
pub(super) async fn settle_and_claim(db: Db<'_>, outcomes: &Outcomes, request: &ClaimRequest) -> Done<Claim> {
    let Some(mut locked) = lock(db, outcomes.channel).await? else { return Ok(Claim::default()) };
    locked.fence(outcomes.epoch)?;
    record(db, &mut locked, outcomes).await?;
    claim::on(db, &mut locked, request).await
}

async fn record(db: Db<'_>, locked: &mut Locked, outcomes: &Outcomes) -> Done<()> {
    let now = outcomes.now;
    let settled = settle_outcomes(outcomes, &locked.queue);
    let moved = apply(db, locked, &settled.transitions).await?;
    let overtaken = settled.transitions.iter().filter(|transition| !moved.contains(&transition.seq()));
    note(db, &overtaken.collect::<Vec<_>>()).await?;
    for (seq, effect) in settled.effects {
        match effect {
            ChannelEffect::Pause { reason } => channels::pause(db, locked, reason, seq, now).await?,
            ChannelEffect::BlockNewChats { until, reason } => {
                chats::forget(db, locked.key, seq).await?;
                channels::restrict(db, locked, until, reason, now).await?;
            }
            ChannelEffect::DeferRecipient { until } if moved.contains(&seq) => recipients::hold(db, seq, until).await?,
            ChannelEffect::DeferRecipient { .. } => {}
            ChannelEffect::OpenChat { account } => chats::open(db, locked, seq, account, now).await?,
        }
    }
    receipts::apply_early(db, locked, &settled.named).await?;
    match settled.defer_until {
        Some(until) => locked.hold(db, until).await,
        None => Ok(()),
    }
}

/// Keeps what acknowledgements add to messages that a receipt has moved on before them.
async fn note(db: Db<'_>, overtaken: &[&Transition<'_>]) -> Done<()> {
    let news = |transition: &&&Transition<'_>| {
        let patch = transition.patch();
        patch.account.is_some() || patch.remote_id.is_some() || patch.card.is_some()
    };
    let news: Vec<_> = overtaken.iter().filter(news).map(|transition| (transition, transition.patch())).collect();
    if news.is_empty() {
        return Ok(());
    }
    let sql = "update messages m
               set account = coalesce(m.account, s.account), remote_id = coalesce(s.remote_id, m.remote_id),
                   card = coalesce(s.card, m.card), card_account = coalesce(s.card_account, m.card_account),
                   card_account_known = coalesce(s.card_account_known, m.card_account_known)
               from unnest($1, $2, $3, $4, $5, $6, $7)
                    as s(seq, channel_key, account, remote_id, card, card_account, card_account_known)
               where m.seq = s.seq and m.channel_key = s.channel_key";
    db.run(
        sql,
        args![
            column(&news, |(transition, _)| transition.seq()),
            column(&news, |(transition, _)| transition.channel()),
            column(&news, |(_, patch)| patch.account),
            column(&news, |(_, patch)| patch.remote_id),
            column(&news, |(_, patch)| patch.card.map(|sent| sent.card.as_str())),
            column(&news, |(_, patch)| patch.card.map(|sent| sent.account.digits.as_str())),
            column(&news, |(_, patch)| patch.card.map(|sent| sent.account.known)),
        ],
    )
    .await?;
    Ok(())
}

/// Ends as `UNKNOWN` what may have arrived from the number that the channel had before. On a network of sessions that goes
/// for what is `SENDING`, too: the session that sent it is over.
pub(super) async fn leave_unanswered(db: Db<'_>, channel: ChannelKey, now: Millis) -> Done<()> {
    let Some(locked) = lock(db, channel).await? else { return Ok(()) };
    let sql = format!(
        "select seq, status from messages
         where channel_key = $1 and {OPEN} and ({QUEUED} and unanswered or {SENDING} and $2) order by seq"
    );
    let rows = db.rows(&sql, args![channel, locked.queue.opens_chats]).await?;
    let left = rows.iter().map(|row| {
        let position = Position { channel, seq: row.get(0), status: status(row.get(1))?, attempted: true };
        Ok(leave(position, now))
    });
    let left: Vec<_> = left.collect::<Done<Vec<_>>>()?.into_iter().flatten().collect();
    apply(db, &locked, &left).await.map(drop)
}

/// Nothing is sent on the channel before this time.
pub(super) async fn hold(db: Db<'_>, channel: ChannelKey, until: Millis) -> Done<()> {
    let sql = "update channels set next_send_at = $2 where key = $1 and next_send_at < $2";
    db.run(sql, args![channel, until]).await.map(drop)
}

pub(super) async fn cancel(db: Db<'_>, channel: ChannelKey, id: MessageId, now: Millis) -> Done<Cancelled> {
    let Some(locked) = lock(db, channel).await? else { return Ok(Cancelled::NoMessage) };
    let sql = "select seq, expires_at, unanswered, status from messages where id = $2 and channel_key = $1";
    let Some(row) = db.row(sql, args![channel, id.as_bytes().as_slice()]).await? else {
        return Ok(Cancelled::NoMessage);
    };
    let message = Queued { channel, seq: row.get(0), expires_at: row.get(1), unanswered: row.get(2) };
    let is_queued = status(row.get(3))? == MessageStatus::Queued;
    let Some(transition) = message.call_back(now).filter(|_| is_queued) else { return Ok(Cancelled::TooLate) };
    apply(db, &locked, &[transition]).await?;
    Ok(Cancelled::Done)
}

/// Cancels what was queued before the channel was deleted.
pub(super) async fn cancel_former(db: Db<'_>, channel: ChannelKey, limit: usize, now: Millis) -> Done<usize> {
    let Some(locked) = lock(db, channel).await? else { return Ok(0) };
    let sql = format!(
        "select seq, expires_at, unanswered from messages
         where channel_key = $1 and {OPEN} and {QUEUED} and seq <= $3 order by seq limit $2"
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
    // With its limit it is asked for each channel by the index, instead of for all messages that wait.
    let sql = format!(
        "select key from channels,
             lateral (select 1 from messages where channel_key = key and {OPEN} limit 1) as open"
    );
    Ok(db.rows(&sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}
