//! Channels on which each recipient is a line of its own: the first open message of each is marked, so that a claim
//! looks at first ones only.

use std::collections::{BTreeSet, HashMap};

use futures_util::future::try_join;
use recado_domain::channel::{ChannelKey, Ordering};
use recado_domain::clock::{Millis, millis};
use recado_domain::message::Seq;
use recado_domain::pacing::RecipientPacing;
use recado_domain::queue::{ClaimRequest, Claimed, Orphans, Unanswered};
use recado_domain::status::MessageStatus;

use super::claim::{Asks, Walk, take};
use super::lock::Locked;
use super::queue::{end_queued, settle_orphans};
use crate::line::{END_AT_ONCE, Look};
use crate::sqlkit::postgres::db::{Db, Done, args};

/// Gives new messages their seats, some at a time: whether there may be more. Who accepts a message cannot say whether
/// it is the first of its recipient's, because another node may accept one at the same moment.
async fn seat_new(db: Db<'_>, locked: &Locked) -> Done<bool> {
    let sql = "with new as (
                   select seq, recipient, row_number() over (partition by recipient order by seq) = 1 as is_first
                   from (select seq, recipient from messages
                         where channel_key = $1 and head = 2 and status <= 1
                         order by seq limit $2) of_channel
               ), seats as (
                   select new.seq, case when is_first and first.seq is null then 1 else 0 end as head,
                          -- It was accepted before the one that has the seat, and came to light after it.
                          coalesce(first.seq > new.seq, false) as comes_before
                   from new left join lateral (
                       select seq from messages m
                       where m.channel_key = $1 and m.recipient = new.recipient and m.head = 1 and m.status <= 1
                       order by seq limit 1) first on true
               )
               update messages m set head = seats.head from seats where m.seq = seats.seq
               returning m.recipient, seats.comes_before";
    let most = i64::try_from(END_AT_ONCE).unwrap_or(i64::MAX);
    let seated = db.rows(sql, args![locked.key, most]).await?;
    seat(db, locked, seated.iter().filter(|row| row.get(1)).map(|row| row.get(0))).await?;
    Ok(seated.len() == END_AT_ONCE)
}

/// Marks the first open message of each of these lines anew, after messages of them have changed. One that is on its way
/// stays first until it is back. Those without a seat yet get theirs from the next claim.
pub(super) async fn seat(db: Db<'_>, locked: &Locked, recipients: impl Iterator<Item = String>) -> Done<()> {
    let recipients: Vec<_> = match locked.line.ordering {
        Ordering::Channel => return Ok(()),
        Ordering::Recipient => recipients.collect::<BTreeSet<_>>().into_iter().collect(),
    };
    if recipients.is_empty() {
        return Ok(());
    }
    let sql = "with line as (
                   select first.seq as first, behind.seq as behind
                   from unnest($2) as who(recipient)
                   cross join lateral (
                       select seq from messages m
                       where m.channel_key = $1 and m.recipient = who.recipient and m.head = 0 and m.status <= 1
                       order by seq limit 1) behind
                   left join lateral (
                       select seq, status from messages m
                       where m.channel_key = $1 and m.recipient = who.recipient and m.head = 1 and m.status <= 1
                       order by seq limit 1) first on true
                   -- Nobody is first, or an older one was queued again.
                   where first.seq is null or (first.status = 0 and behind.seq < first.seq)
               ), seats as (
                   select behind as seq, 1 as head from line
                   union all
                   select first, 0 from line where first is not null
               )
               update messages m set head = seats.head from seats where m.seq = seats.seq";
    db.run(sql, args![locked.key, recipients]).await.map(drop)
}

/// A claim on such a channel.
pub(super) async fn claim(db: Db<'_>, locked: &Locked, request: &ClaimRequest) -> Done<(Vec<Claimed>, Look)> {
    let mut look = Look::default();
    let line = &locked.line;
    if request.orphans != Orphans::Claimed {
        end_orphans(db, locked, request).await?;
    }
    if line.dispatches() && matches!(request.unanswered, Unanswered::Unknown(Some(_))) {
        queue_unknown(db, locked, request, &mut look).await?;
    }
    if seat_new(db, locked).await? {
        look.again(request.now);
    }
    let Some(front) = end_old(db, locked, request, &mut look).await? else { return Ok((Vec::new(), look)) };
    // What waits for whatever may grow too old before.
    look.again(front);
    if !line.dispatches() || request.limit == 0 {
        return Ok((Vec::new(), look));
    }
    if line.next_send_at > request.now {
        look.again(line.next_send_at);
        return Ok((Vec::new(), look));
    }
    let taken = take_ready(db, locked, request, &mut look).await?;
    Ok((taken, look))
}

/// Deals with all that is `SENDING` and in nobody's hand.
async fn end_orphans(db: Db<'_>, locked: &Locked, request: &ClaimRequest) -> Done<()> {
    let sql = "select seq from messages
               where channel_key = $1 and head is not null and status = 1 and seq <> all($2)";
    let rows = db.rows(sql, args![request.channel, request.held]).await?;
    let orphans: Vec<Seq> = rows.iter().map(|row| row.get(0)).collect();
    settle_orphans(db, locked, &orphans, request).await
}

/// Queues again what was `UNKNOWN` for long enough. What has expired meanwhile, or is of a deleted channel, stays `UNKNOWN`.
async fn queue_unknown(db: Db<'_>, locked: &Locked, request: &ClaimRequest, look: &mut Look) -> Done<()> {
    let sql = "select seq, resend_at, expires_at from messages
               where channel_key = $1 and resend_at is not null order by resend_at limit $2";
    let most = i64::try_from(END_AT_ONCE).unwrap_or(i64::MAX);
    let rows = db.rows(sql, args![request.channel, most]).await?;
    let full = rows.len() == END_AT_ONCE;
    let (mut again, mut left) = (Vec::<Seq>::new(), Vec::<Seq>::new());
    for row in rows {
        let (resend_at, expires_at): (Millis, Millis) = (row.get(1), row.get(2));
        if resend_at > request.now {
            look.again(resend_at);
            break;
        }
        let seq: Seq = row.get(0);
        let stays = expires_at <= request.now || locked.line.is_former(seq);
        if stays { left.push(seq) } else { again.push(seq) }
    }
    if full && again.len() + left.len() == END_AT_ONCE {
        // All of them were due: so may be the next.
        look.again(request.now);
    }
    if !left.is_empty() {
        let sql = "update messages set resend_at = null where seq = any($1) and channel_key = $2";
        db.run(sql, args![left, request.channel]).await?;
    }
    if again.is_empty() {
        return Ok(());
    }
    let sql = "update messages
               set status = 0, resend_at = null, unanswered = true, resent = true, error_code = null,
                   error_message = null,
                   -- One that comes back stands behind the others until it is given its seat.
                   head = 0
               where seq = any($1) and channel_key = $2 and status = $3
               returning recipient";
    let unknown = super::lock::number(MessageStatus::Unknown);
    let rows = db.rows(sql, args![again, request.channel, unknown]).await?;
    seat(db, locked, rows.iter().map(|row| row.get(0))).await
}

/// Leaves what is `UNKNOWN` as it is from now on: the policy was changed, or the channel is gone.
pub(super) async fn leave_unknown(db: Db<'_>, channel: ChannelKey) -> Done<()> {
    let sql = "update messages set resend_at = null where channel_key = $1 and resend_at is not null";
    db.run(sql, args![channel]).await.map(drop)
}

/// Ends what is too old, or was queued before the channel was deleted, from the front of the backlog; gives when the first of what is
/// left will be too old. Messages expire in the order of their acceptance, unless the setting was changed meanwhile;
/// those out of order are found when their turn comes.
async fn end_old(db: Db<'_>, locked: &Locked, request: &ClaimRequest, look: &mut Look) -> Done<Option<Millis>> {
    let mut rows = Walk::from(db, locked.key, 0, Asks::Nothing);
    let (mut old, mut front) = (Vec::new(), None);
    while let Some(seen) = rows.next().await? {
        if seen.row.status == MessageStatus::Sending {
            continue;
        }
        if seen.row.expires_at > request.now && !locked.line.cancels(seen.row.seq) {
            front = Some(seen.row.expires_at);
            break;
        }
        if old.len() == END_AT_ONCE {
            look.again(request.now);
            break;
        }
        old.push(seen.row.seq);
    }
    end_queued(db, locked, &old, true, request.now).await?;
    Ok(front)
}

/// Takes first messages: those whose time has come, then those that never had to wait, in the order of the queue. Then
/// looks when the next is due that waits for a time.
async fn take_ready(db: Db<'_>, locked: &Locked, request: &ClaimRequest, look: &mut Look) -> Done<Vec<Claimed>> {
    let most = if request.rest > 0 { 1 } else { request.limit };
    let (mut taken, mut passed) = (Vec::new(), 0);
    loop {
        let asked = most - taken.len();
        let ready = ready(db, request, asked).await?;
        let (found, mut free, mut ends) = (ready.len(), Vec::new(), Vec::new());
        for message in ready {
            // The policy that queued it again was taken back: it ends as UNKNOWN, like all whose card may have arrived.
            let left = message.resent && request.unanswered == Unanswered::Unknown(None);
            if message.expires_at <= request.now || left { ends.push(message.seq) } else { free.push(message) }
        }
        end_queued(db, locked, &ends, true, request.now).await?;
        let free = shares(db, request, free).await?;
        passed += found - free.len();
        // Another can be ready only behind one that was ended, or where more was found than could be taken.
        let done = found < asked && ends.is_empty() || taken.len() + free.len() == most;
        let late = !done && passed >= END_AT_ONCE;
        if late {
            look.again(request.now);
        }
        if done || late {
            let (last, waiting) = try_join(take(db, locked, &free, request), next_waiting(db, request)).await?;
            taken.extend(last);
            waiting.into_iter().for_each(|at| look.again(at));
            break;
        }
        taken.extend(take(db, locked, &free, request).await?);
    }
    taken.sort_unstable_by_key(|message| message.seq);
    // With a rest between sends, the claim after it is the next send.
    if request.rest > 0 && !taken.is_empty() {
        look.again(request.now + request.rest);
    }
    Ok(taken)
}

struct Ready {
    seq: Seq,
    recipient: String,
    run_at: Millis,
    expires_at: Millis,
    resent: bool,
}

async fn ready(db: Db<'_>, request: &ClaimRequest, most: usize) -> Done<Vec<Ready>> {
    let of = |times: &str| {
        format!(
            "(select seq, recipient, run_at, expires_at, resent from messages
              where channel_key = $1 and head = 1 and status = 0 and {times} limit $3)"
        )
    };
    let (waited, others) = (of("run_at between 1 and $2 order by run_at, seq"), of("run_at = 0 order by seq"));
    let limit = i64::try_from(most).unwrap_or(i64::MAX);
    let rows = db.rows(&format!("{waited} union all {others}"), args![request.channel, request.now, limit]).await?;
    let ready = rows.iter().map(|row| Ready {
        seq: row.get(0),
        recipient: row.get(1),
        run_at: row.get(2),
        expires_at: row.get(3),
        resent: row.get(4),
    });
    let mut ready: Vec<_> = ready.collect();
    ready.sort_unstable_by_key(|message| (message.run_at == 0, message.run_at, message.seq));
    ready.truncate(most);
    Ok(ready)
}

/// Takes each message's share of what the network allows for one recipient, and gives those that have one. The others
/// wait until there is one.
///
/// The share is kept as the time until which it is used up: each message adds `every`, and a burst of n may run ahead
/// by n of them (the "generic cell rate algorithm", with one number for each recipient that was written to lately).
async fn shares(db: Db<'_>, request: &ClaimRequest, ready: Vec<Ready>) -> Done<Vec<Seq>> {
    let all = |ready: Vec<Ready>| ready.into_iter().map(|message| message.seq).collect();
    let Some(RecipientPacing { burst, every }) = request.recipient_pacing else { return Ok(all(ready)) };
    if ready.is_empty() {
        return Ok(all(ready));
    }
    let (every, channel, now) = (millis(every), request.channel, request.now);
    let recipients: Vec<_> = ready.iter().map(|message| message.recipient.as_str()).collect();
    let sql = "select recipient, used_until from recipient_pace where channel_key = $1 and recipient = any($2)";
    let rows = db.rows(sql, args![channel, recipients]).await?;
    let used: HashMap<&str, Millis> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let (mut free, mut written_to, mut used_until) = (Vec::new(), Vec::new(), Vec::new());
    let (mut waiting, mut free_at) = (Vec::new(), Vec::new());
    for message in &ready {
        let used = used.get(message.recipient.as_str()).map_or(now, |used| now.max(*used));
        let from = used - every * Millis::from(burst.saturating_sub(1));
        if from > now {
            waiting.push(message.seq);
            free_at.push(from);
        } else {
            free.push(message.seq);
            written_to.push(message.recipient.as_str());
            used_until.push(used + every);
        }
    }
    let waits = async {
        let sql = "update messages m set run_at = s.run_at from unnest($1, $2) as s(seq, run_at) where m.seq = s.seq";
        if waiting.is_empty() { Ok(0) } else { db.run(sql, args![waiting, free_at]).await }
    };
    let takes = async {
        let sql = "insert into recipient_pace (channel_key, recipient, used_until)
                   select $1, s.recipient, s.used_until from unnest($2, $3) as s(recipient, used_until)
                   on conflict (channel_key, recipient) do update set used_until = excluded.used_until";
        if free.is_empty() { Ok(0) } else { db.run(sql, args![channel, written_to, used_until]).await }
    };
    try_join(waits, takes).await?;
    Ok(free)
}

/// Sends nothing to a message's recipient before this time, on a channel whose messages are one line: none that stands
/// behind this one may pass it.
pub(super) async fn hold(db: Db<'_>, seq: Seq, until: Millis) -> Done<()> {
    let sql = "insert into recipient_pace (channel_key, recipient, used_until)
               select channel_key, recipient, $2 from messages where seq = $1
               on conflict (channel_key, recipient) do update set used_until = excluded.used_until";
    db.run(sql, args![seq, until]).await.map(drop)
}

/// When the next first message is due that waits for a time.
async fn next_waiting(db: Db<'_>, request: &ClaimRequest) -> Done<Option<Millis>> {
    let sql = "select run_at, expires_at from messages
               where channel_key = $1 and head = 1 and status = 0 and run_at > $2
               order by run_at limit 1";
    let found = db.row(sql, args![request.channel, request.now]).await?;
    Ok(found.map(|row| row.get::<_, Millis>(0).min(row.get::<_, Millis>(1).max(request.now + 1))))
}
