//! The queue: outcomes and cancellations. What is settled, ended or given back together is changed by one statement.

use std::collections::HashSet;

use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::ids::MessageId;
use recado_domain::message::{Cancelled, Seq};
use recado_domain::queue::{Claim, ClaimRequest, Orphans, Outcomes, SentCard, Settlement};
use recado_domain::status::MessageStatus;

use super::lock::{Locked, lock, number};
use super::{channels, chats, claim, receipts, recipients};
use crate::line::reached_column;
use crate::sqlkit::postgres::db::{Db, Done, args};

/// What a settlement makes of a message that is `SENDING`.
struct Change<'a> {
    seq: Seq,
    to: MessageStatus,
    /// The first one stands.
    account: Option<&'a str>,
    remote_id: Option<&'a str>,
    error: Option<(&'a str, &'a str)>,
    resend_at: Option<Millis>,
    run_at: Option<Millis>,
    failed: bool,
    held: bool,
    unanswered: bool,
}

impl<'a> Change<'a> {
    fn of(seq: Seq, settlement: &'a Settlement) -> Self {
        let to = |to| Change {
            seq,
            to,
            account: None,
            remote_id: None,
            error: None,
            resend_at: None,
            run_at: None,
            failed: false,
            held: false,
            unanswered: false,
        };
        let queued = |run_at| Change { run_at, ..to(MessageStatus::Queued) };
        match settlement {
            Settlement::Sent { account, remote_id, .. } => {
                Change { account: account.as_deref(), remote_id: remote_id.as_deref(), ..to(MessageStatus::Sent) }
            }
            Settlement::Failed { code, message } => {
                Change { error: Some((code, message)), ..to(MessageStatus::Failed) }
            }
            Settlement::Retry { run_at } => Change { failed: true, ..queued(Some(*run_at)) },
            Settlement::RetryUnanswered { run_at } => {
                Change { failed: true, unanswered: true, ..queued(Some(*run_at)) }
            }
            Settlement::Interrupted { run_at } => Change { unanswered: true, ..queued(Some(*run_at)) },
            Settlement::HoldRecipient { until, .. } => Change { held: true, ..queued(Some(*until)) },
            Settlement::ChatRefused { .. } | Settlement::HoldChannel { .. } | Settlement::PauseChannel { .. } => {
                queued(None)
            }
            Settlement::Unknown { resend_at, .. } => Change { resend_at: *resend_at, ..to(MessageStatus::Unknown) },
        }
    }
}

/// A column of a statement's rows.
fn column<'a, R, T>(rows: &'a [R], value: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

/// Sets when a state was reached, for those of these states that a row `s` moves to at `$2`. The first time stands.
pub(super) fn reached(states: &[MessageStatus], at: &str) -> String {
    let set = |state: &MessageStatus| {
        let (column, number) = (reached_column(*state), state.number());
        format!("{column} = case when s.status = {number} then coalesce(m.{column}, {at}) else m.{column} end")
    };
    states.iter().map(set).collect::<Vec<_>>().join(", ")
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
    let Outcomes { settled, rest_until, now, .. } = outcomes;
    // One message has one outcome at a time: of a second one nothing could be said but that it came too late.
    let mut seen = HashSet::new();
    let changes = settled.iter().filter(|(seq, _)| seen.insert(*seq));
    let changes: Vec<_> = changes.map(|(seq, settlement)| Change::of(*seq, settlement)).collect();
    let moved = settle_all(db, locked, &changes, *now).await?;
    note_sent(db, locked.key, settled, &moved).await?;
    let mut rest_until = *rest_until;
    for (seq, settlement) in settled {
        // The trouble is the channel's, whatever became of this message meanwhile.
        rest_until = rest_until.max(settlement.holds_channel().filter(|_| !locked.line.is_former(*seq)));
        match settlement {
            // The troubles of a channel that was deleted since are none of the one in its place.
            Settlement::HoldRecipient { .. } | Settlement::ChatRefused { .. } if locked.line.is_former(*seq) => {}
            Settlement::HoldRecipient { until, .. } if locked.line.opens_chats && moved.contains(seq) => {
                recipients::hold(db, *seq, *until).await?;
            }
            Settlement::PauseChannel { reason } => {
                channels::pause(db, locked.key, reason, *seq).await?;
                locked.read_again(db).await?;
            }
            Settlement::ChatRefused { until, reason } => {
                chats::forget(db, locked.key, *seq).await?;
                channels::restrict(db, locked.key, *until, reason, *now).await?;
                locked.read_again(db).await?;
            }
            Settlement::Sent { account, .. } if locked.line.opens_chats => {
                chats::open(db, locked, *seq, account.as_deref(), *now).await?;
            }
            _ => {}
        }
    }
    let named = settled.iter().filter_map(|(seq, settlement)| match settlement {
        Settlement::Sent { remote_id: Some(remote_id), .. } => Some((*seq, remote_id.as_str())),
        _ => None,
    });
    receipts::apply_early(db, locked, &named.collect::<Vec<_>>()).await?;
    match rest_until {
        Some(until) => locked.hold(db, until).await,
        None => Ok(()),
    }
}

/// Changes those that are `SENDING` still; which ones those were.
async fn settle_all(db: Db<'_>, locked: &Locked, changes: &[Change<'_>], now: Millis) -> Done<HashSet<Seq>> {
    if changes.is_empty() {
        return Ok(HashSet::new());
    }
    let reached = reached(&[MessageStatus::Sent, MessageStatus::Unknown, MessageStatus::Failed], "$2");
    let sql = format!(
        "update messages m
         set status = s.status, {reached}, claimed_until = null,
             account = coalesce(m.account, s.account), remote_id = coalesce(s.remote_id, m.remote_id),
             error_code = s.error_code, error_message = s.error_message,
             -- Each is sent again once: a second copy may be one too many, a third one is.
             resend_at = case when m.resent then null else s.resend_at end,
             run_at = coalesce(s.run_at, m.run_at), failures = m.failures + s.failed::integer,
             recipient_holds = m.recipient_holds + s.held::integer, unanswered = m.unanswered or s.unanswered
         from unnest($3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
              as s(seq, status, account, remote_id, error_code, error_message, resend_at, run_at, failed, held,
                   unanswered)
         -- `+ 0`: so few are SENDING that the planner would rather read the whole index of those in the network.
         where m.seq = s.seq and m.channel_key = $1 and m.status + 0 = 1
         returning m.seq, m.recipient"
    );
    let rows = db
        .rows(
            &sql,
            args![
                locked.key,
                now,
                column(changes, |change| change.seq),
                column(changes, |change| number(change.to)),
                column(changes, |change| change.account),
                column(changes, |change| change.remote_id),
                column(changes, |change| change.error.map(|(code, _)| code)),
                column(changes, |change| change.error.map(|(_, message)| message)),
                column(changes, |change| change.resend_at),
                column(changes, |change| change.run_at),
                column(changes, |change| change.failed),
                column(changes, |change| change.held),
                column(changes, |change| change.unanswered),
            ],
        )
        .await?;
    recipients::seat(db, locked, rows.iter().map(|row| row.get(1))).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Keeps the card that was sent, and what the acknowledgement adds where a receipt was faster.
async fn note_sent(db: Db<'_>, channel: ChannelKey, settled: &[(Seq, Settlement)], moved: &HashSet<Seq>) -> Done<()> {
    struct News<'a> {
        seq: Seq,
        account: Option<&'a str>,
        remote_id: Option<&'a str>,
        card: Option<&'a SentCard>,
    }
    let news = settled.iter().filter_map(|(seq, settlement)| {
        let Settlement::Sent { account, remote_id, card } = settlement else { return None };
        let overtaken = !moved.contains(seq) && (account.is_some() || remote_id.is_some());
        let news =
            || News { seq: *seq, account: account.as_deref(), remote_id: remote_id.as_deref(), card: card.as_ref() };
        (overtaken || card.is_some()).then(news)
    });
    let news: Vec<_> = news.collect();
    if news.is_empty() {
        return Ok(());
    }
    let sql = "update messages m
               set account = coalesce(m.account, s.account), remote_id = coalesce(s.remote_id, m.remote_id),
                   card = coalesce(s.card, m.card), card_account = coalesce(s.card_account, m.card_account),
                   card_account_known = coalesce(s.card_account_known, m.card_account_known)
               from unnest($2, $3, $4, $5, $6, $7)
                    as s(seq, account, remote_id, card, card_account, card_account_known)
               where m.seq = s.seq and m.channel_key = $1";
    db.run(
        sql,
        args![
            channel,
            column(&news, |news| news.seq),
            column(&news, |news| news.account),
            column(&news, |news| news.remote_id),
            column(&news, |news| news.card.map(|sent| sent.card.as_str())),
            column(&news, |news| news.card.map(|sent| sent.account.digits.as_str())),
            column(&news, |news| news.card.map(|sent| sent.account.known)),
        ],
    )
    .await?;
    Ok(())
}

/// Ends the sending of messages that nobody has in hand: they are queued again, or their fate is `UNKNOWN`.
pub(super) async fn settle_orphans(db: Db<'_>, locked: &Locked, seqs: &[Seq], request: &ClaimRequest) -> Done<()> {
    if seqs.is_empty() {
        return Ok(());
    }
    let again = request.gives_back_orphans();
    let never_sent = request.orphans == Orphans::NeverSent;
    let next = if again { MessageStatus::Queued } else { MessageStatus::Unknown };
    let resend_at = if again { None } else { request.unanswered.resend_at(request.now) };
    let sql = "update messages
               set status = $4, unknown_at = case when $4 = 4 then coalesce(unknown_at, $2) else unknown_at end,
                   claimed_until = null, error_code = null, error_message = null,
                   resend_at = case when resent then null else $5::bigint end,
                   -- What was never sent was no attempt.
                   attempts = attempts - $6::integer, unanswered = unanswered or not $6
               where seq = any($3) and channel_key = $1 and status = 1
               returning recipient";
    let rows = db.rows(sql, args![request.channel, request.now, seqs, number(next), resend_at, never_sent]).await?;
    recipients::seat(db, locked, rows.iter().map(|row| row.get(0))).await
}

/// Ends messages that are queued and will not be sent any more: those that are too old have expired where `expire`
/// says so, the others are cancelled. One whose card may have arrived is `UNKNOWN`: to say anything else would be a
/// guess.
pub(super) async fn end_queued(db: Db<'_>, locked: &Locked, seqs: &[Seq], expire: bool, now: Millis) -> Done<()> {
    if seqs.is_empty() {
        return Ok(());
    }
    let reached = reached(&[MessageStatus::Unknown, MessageStatus::Expired, MessageStatus::Cancelled], "$2");
    let sql = format!(
        "update messages m set status = s.status, {reached}
         from (select seq, case when unanswered then 4 when $4 and expires_at <= $2 then 7 else 8 end as status
               from messages where seq = any($3) and channel_key = $1 and status = 0) s
         where m.seq = s.seq
         returning m.recipient"
    );
    let rows = db.rows(&sql, args![locked.key, now, seqs, expire]).await?;
    recipients::seat(db, locked, rows.iter().map(|row| row.get(0))).await
}

/// Ends as `UNKNOWN` what may have arrived from the number that the channel had before: from another one the card would
/// come a second time. On a network of sessions that goes for what is `SENDING`, too: the session that sent it is over.
pub(super) async fn leave_unanswered(db: Db<'_>, channel: ChannelKey, now: Millis) -> Done<()> {
    let Some(locked) = lock(db, channel).await? else { return Ok(()) };
    let sql = "update messages
               set status = 4, unknown_at = coalesce(unknown_at, $2), sending_at = coalesce(sending_at, $2),
                   claimed_until = null, error_code = null, error_message = null, resend_at = null
               where channel_key = $1 and status <= 1 and (status = 0 and unanswered or status = 1 and $3)
               returning recipient";
    let rows = db.rows(sql, args![channel, now, locked.line.opens_chats]).await?;
    recipients::seat(db, &locked, rows.iter().map(|row| row.get(0))).await
}

/// Nothing is sent on the channel before this time.
pub(super) async fn hold(db: Db<'_>, channel: ChannelKey, until: Millis) -> Done<()> {
    let sql = "update channels set next_send_at = $2 where key = $1 and next_send_at < $2";
    db.run(sql, args![channel, until]).await.map(drop)
}

pub(super) async fn cancel(db: Db<'_>, channel: ChannelKey, id: MessageId, now: Millis) -> Done<Cancelled> {
    let Some(locked) = lock(db, channel).await? else { return Ok(Cancelled::NoMessage) };
    let id = id.as_bytes().as_slice();
    // A card that may have arrived cannot be called back.
    let sql = "update messages set status = 8, cancelled_at = coalesce(cancelled_at, $3)
               where id = $2 and channel_key = $1 and status = 0 and not unanswered
               returning recipient";
    if let Some(row) = db.row(sql, args![channel, id, now]).await? {
        recipients::seat(db, &locked, [row.get(0)].into_iter()).await?;
        return Ok(Cancelled::Done);
    }
    let sql = "select 1 from messages where id = $2 and channel_key = $1";
    let there = db.row(sql, args![channel, id]).await?.is_some();
    Ok(if there { Cancelled::TooLate } else { Cancelled::NoMessage })
}

/// Cancels what was queued before the channel was deleted.
pub(super) async fn cancel_former(db: Db<'_>, channel: ChannelKey, limit: usize, now: Millis) -> Done<usize> {
    let Some(locked) = lock(db, channel).await? else { return Ok(0) };
    let sql = "select seq from messages where channel_key = $1 and status <= 1 and status = 0 and seq <= $3
               order by seq limit $2";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = db.rows(sql, args![channel, limit, locked.line.cancel_before]).await?;
    let queued: Vec<Seq> = rows.iter().map(|row| row.get(0)).collect();
    end_queued(db, &locked, &queued, false, now).await?;
    Ok(queued.len())
}

pub(super) async fn open_channels(db: Db<'_>) -> Done<Vec<ChannelKey>> {
    // With its limit it is asked for each channel by the index, instead of for all messages that wait.
    let sql = "select key from channels,
                   lateral (select 1 from messages where channel_key = key and status <= 1 limit 1) as open";
    Ok(db.rows(sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}
