//! Channels on which each recipient is a line of its own: the first open message of each is marked, so that a claim
//! looks at first ones only.

use std::collections::{BTreeSet, HashMap};

use futures_util::future::try_join;
use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::message::Seq;
use recado_domain::phone::forms;
use recado_domain::queue::{
    ClaimRequest, Claimed, FINISH_AT_ONCE, Finish, NextWakeup, Orphans, Pace, Queued, Resendable, pace, resend, resends,
};
use recado_domain::status::MessageStatus;

use super::apply::apply;
use super::claim::{Asks, RowScan, rescue, send};
use super::lock::Locked;
use crate::sql::{OPEN, QUEUED, SENDING};
use crate::sqlkit::postgres::db::{Db, Done, args};

/// Finds the places of new messages, some at a time: whether there may be more. Who accepts a message cannot say whether
/// it is the first of its recipient's, because another node may accept one at the same moment.
async fn place_new(db: Db<'_>, locked: &Locked) -> Done<bool> {
    let sql = format!(
        "with new as (
                   select seq, recipient, row_number() over (partition by recipient order by seq) = 1 as is_first
                   from (select seq, recipient from messages
                         where channel_key = $1 and head = 2 and {OPEN}
                         order by seq limit $2) of_channel
               ), seats as (
                   select new.seq, case when is_first and first.seq is null then 1 else 0 end as head,
                          -- It was accepted before the one that has the seat, and came to light after it.
                          coalesce(first.seq > new.seq, false) as comes_before
                   from new left join lateral (
                       select seq from messages m
                       where m.channel_key = $1 and m.recipient = new.recipient and m.head = 1 and m.{OPEN}
                       order by seq limit 1) first on true
               )
               update messages m set head = seats.head from seats where m.seq = seats.seq
               returning m.recipient, seats.comes_before"
    );
    let most = i64::try_from(FINISH_AT_ONCE).unwrap_or(i64::MAX);
    let seated = db.rows(&sql, args![locked.key, most]).await?;
    elect_heads(db, seated.iter().filter(|row| row.get(1)).map(|row| (locked.key, row.get(0)))).await?;
    Ok(seated.len() == FINISH_AT_ONCE)
}

/// Marks the first open message of each of these recipients anew, after messages of theirs have changed. One that is on
/// its way stays first until it is back. New messages get their places from the next claim.
pub(super) async fn elect_heads(db: Db<'_>, recipients: impl Iterator<Item = (ChannelKey, String)>) -> Done<()> {
    let (channels, recipients): (Vec<_>, Vec<_>) = recipients.collect::<BTreeSet<_>>().into_iter().unzip();
    if recipients.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "with line as (
                   select first.seq as first, behind.seq as behind
                   from unnest($1, $2) as who(channel_key, recipient)
                   cross join lateral (
                       select seq from messages m
                       where m.channel_key = who.channel_key and m.recipient = who.recipient and m.head = 0 and m.{OPEN}
                       order by seq limit 1) behind
                   left join lateral (
                       select seq, status from messages m
                       where m.channel_key = who.channel_key and m.recipient = who.recipient and m.head = 1 and m.{OPEN}
                       order by seq limit 1) first on true
                   -- Nobody is first, or an older one was queued again.
                   where first.seq is null or (first.{QUEUED} and behind.seq < first.seq)
               ), seats as (
                   select behind as seq, 1 as head from line
                   union all
                   select first, 0 from line where first is not null
               )
               update messages m set head = seats.head from seats where m.seq = seats.seq"
    );
    db.run(&sql, args![channels, recipients]).await.map(drop)
}

/// A claim on such a channel.
pub(super) async fn claim(db: Db<'_>, locked: &Locked, request: &ClaimRequest) -> Done<(Vec<Claimed>, NextWakeup)> {
    let (queue, mut wakeup) = (&locked.queue, NextWakeup::default());
    if request.orphans != Orphans::Claimed {
        rescue_all(db, locked, request).await?;
    }
    if resends(request, queue) {
        resend_unknown(db, locked, request, &mut wakeup).await?;
    }
    if place_new(db, locked).await? {
        wakeup.schedule(request.now);
    }
    let Some(expires_at) = finish_old(db, locked, request, &mut wakeup).await? else {
        return Ok((Vec::new(), wakeup));
    };
    // What waits for whatever may grow too old before.
    wakeup.schedule(expires_at);
    if !queue.dispatches() || request.limit == 0 {
        return Ok((Vec::new(), wakeup));
    }
    if queue.next_send_at > request.now {
        wakeup.schedule(queue.next_send_at);
        return Ok((Vec::new(), wakeup));
    }
    let sent = send_ready(db, locked, request, &mut wakeup).await?;
    Ok((sent, wakeup))
}

/// Rescues all that is `SENDING` and that nobody has in flight.
async fn rescue_all(db: Db<'_>, locked: &Locked, request: &ClaimRequest) -> Done<()> {
    let sql = format!(
        "select seq from messages where channel_key = $1 and head is not null and {SENDING} and seq <> all($2)"
    );
    let rows = db.rows(&sql, args![request.channel, request.held]).await?;
    let orphans: Vec<Seq> = rows.iter().map(|row| row.get(0)).collect();
    rescue(db, locked, &orphans, request).await
}

/// Queues again what was `UNKNOWN` for long enough.
async fn resend_unknown(db: Db<'_>, locked: &Locked, request: &ClaimRequest, wakeup: &mut NextWakeup) -> Done<()> {
    let sql = "select seq, resend_at, expires_at from messages
               where channel_key = $1 and resend_at is not null order by resend_at limit $2";
    let most = i64::try_from(FINISH_AT_ONCE).unwrap_or(i64::MAX);
    let rows = db.rows(sql, args![request.channel, most]).await?;
    let first = rows.iter().map(|row| Resendable { seq: row.get(0), resend_at: row.get(1), expires_at: row.get(2) });
    let resends = resend(&first.collect::<Vec<_>>(), request, &locked.queue, wakeup);
    if !resends.left.is_empty() {
        let sql = "update messages set resend_at = null where seq = any($1) and channel_key = $2";
        db.run(sql, args![resends.left, request.channel]).await?;
    }
    apply(db, locked, &resends.again).await.map(drop)
}

/// Leaves what is `UNKNOWN` as it is from now on: the policy was changed, or the channel is gone.
pub(super) async fn leave_unknown(db: Db<'_>, channel: ChannelKey) -> Done<()> {
    let sql = "update messages set resend_at = null where channel_key = $1 and resend_at is not null";
    db.run(sql, args![channel]).await.map(drop)
}

/// Ends what is too old, or was queued before the channel was deleted, from the head of the queue; gives when the first of
/// what is left will be too old. Messages expire in the order of their acceptance, unless the setting was changed meanwhile;
/// those out of order are found when their turn comes.
async fn finish_old(
    db: Db<'_>,
    locked: &Locked,
    request: &ClaimRequest,
    wakeup: &mut NextWakeup,
) -> Done<Option<Millis>> {
    let mut rows = RowScan::from(db, locked.key, 0, Asks::Nothing);
    let (mut ends, mut expires_at) = (Vec::new(), None);
    while let Some(seen) = rows.next().await? {
        let row = seen.row;
        if row.status == MessageStatus::Sending {
            continue;
        }
        if row.expires_at > request.now && !locked.queue.cancels(row.seq) {
            expires_at = Some(row.expires_at);
            break;
        }
        if ends.len() == FINISH_AT_ONCE {
            wakeup.schedule(request.now);
            break;
        }
        ends.extend(row.as_queued(request).finish(Finish::Dropped, request.now));
    }
    apply(db, locked, &ends).await?;
    Ok(expires_at)
}

/// Sends first messages: those whose time has come, then those that never had to wait, in the order of the queue. Then
/// looks when the next is due that waits for a time.
async fn send_ready(
    db: Db<'_>,
    locked: &Locked,
    request: &ClaimRequest,
    wakeup: &mut NextWakeup,
) -> Done<Vec<Claimed>> {
    let most = if request.rest > 0 { 1 } else { request.limit };
    let (mut sent, mut passed) = (Vec::new(), 0);
    loop {
        let asked = most - sent.len();
        let ready = ready(db, request, asked).await?;
        let found = ready.len();
        let (dropped, free): (Vec<_>, Vec<_>) =
            ready.into_iter().partition(|ready| ready.message.is_dropped(ready.resent, request));
        let ends = dropped.iter().filter_map(|ready| ready.message.finish(Finish::Dropped, request.now));
        apply(db, locked, &ends.collect::<Vec<_>>()).await?;
        let free = paced(db, request, free).await?;
        passed += found - free.len();
        let sends: Vec<_> = free.iter().filter_map(|message| message.send(request, &locked.queue)).collect();
        // Another can be ready only behind one that was ended, or where more was found than could be sent.
        let done = found < asked && dropped.is_empty() || sent.len() + free.len() == most;
        let late = !done && passed >= FINISH_AT_ONCE;
        if late {
            wakeup.schedule(request.now);
        }
        if done || late {
            let (last, waiting) = try_join(send(db, &locked.alone(), &sends), next_waiting(db, request)).await?;
            sent.extend(last);
            waiting.into_iter().for_each(|at| wakeup.schedule(at));
            break;
        }
        sent.extend(send(db, &locked.alone(), &sends).await?);
    }
    sent.sort_unstable_by_key(|message| message.seq);
    // With an interval between sends, the claim after it is the next send.
    if request.rest > 0 && !sent.is_empty() {
        wakeup.schedule(request.now + request.rest);
    }
    Ok(sent)
}

struct Ready {
    message: Queued,
    recipient: String,
    run_at: Millis,
    resent: bool,
}

async fn ready(db: Db<'_>, request: &ClaimRequest, most: usize) -> Done<Vec<Ready>> {
    let of = |times: &str| {
        format!(
            "(select seq, expires_at, unanswered, recipient, run_at, resent from messages
              where channel_key = $1 and head = 1 and {QUEUED} and {times} limit $3)"
        )
    };
    let (waited, others) = (of("run_at between 1 and $2 order by run_at, seq"), of("run_at = 0 order by seq"));
    let limit = i64::try_from(most).unwrap_or(i64::MAX);
    let rows = db.rows(&format!("{waited} union all {others}"), args![request.channel, request.now, limit]).await?;
    let ready = rows.iter().map(|row| {
        let (channel, seq, expires_at, unanswered) = (request.channel, row.get(0), row.get(1), row.get(2));
        let message = Queued { channel, seq, expires_at, unanswered };
        Ready { message, recipient: row.get(3), run_at: row.get(4), resent: row.get(5) }
    });
    let mut ready: Vec<_> = ready.collect();
    ready.sort_unstable_by_key(|ready| (ready.run_at == 0, ready.run_at, ready.message.seq));
    ready.truncate(most);
    Ok(ready)
}

/// Takes each message's share of what the network allows for one recipient, and gives those that have one. The others
/// wait until there is one.
async fn paced(db: Db<'_>, request: &ClaimRequest, ready: Vec<Ready>) -> Done<Vec<Queued>> {
    let pacing = request.recipient_pacing.filter(|_| !ready.is_empty());
    let Some(pacing) = pacing else { return Ok(ready.into_iter().map(|ready| ready.message).collect()) };
    let recipients: Vec<_> = ready.iter().map(|ready| ready.recipient.as_str()).collect();
    let sql = "select recipient, used_until from recipient_pace where channel_key = $1 and recipient = any($2)";
    let rows = db.rows(sql, args![request.channel, recipients]).await?;
    let used: HashMap<&str, Millis> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let (mut free, mut written_to, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    let (mut waiting, mut free_at) = (Vec::new(), Vec::new());
    for Ready { message, recipient, .. } in &ready {
        match pace(pacing, used.get(recipient.as_str()).copied(), request.now) {
            Pace::At(at) => {
                waiting.push(message.seq);
                free_at.push(at);
            }
            Pace::Now { used_until } => {
                free.push(*message);
                written_to.push(recipient.as_str());
                shares.push(used_until);
            }
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
        if free.is_empty() { Ok(0) } else { db.run(sql, args![request.channel, written_to, shares]).await }
    };
    try_join(waits, takes).await?;
    Ok(free)
}

/// Sends nothing to a message's recipient before this time, on a channel whose messages are one line: none that stands
/// behind this one may pass it, also where it has the other form of their number.
pub(super) async fn hold(db: Db<'_>, seq: Seq, until: Millis) -> Done<()> {
    // One that was erased meanwhile is nobody's.
    let Some(row) = db.row("select recipient from messages where seq = $1", args![seq]).await? else { return Ok(()) };
    let both: Vec<String> = forms(row.get(0)).collect();
    let sql = "insert into recipient_pace (channel_key, recipient, used_until)
               select channel_key, unnest($3::text[]), $2 from messages where seq = $1
               on conflict (channel_key, recipient) do update set used_until = excluded.used_until";
    db.run(sql, args![seq, until, both]).await.map(drop)
}

/// When the next first message is due that waits for a time.
async fn next_waiting(db: Db<'_>, request: &ClaimRequest) -> Done<Option<Millis>> {
    let sql = format!(
        "select run_at, expires_at from messages
         where channel_key = $1 and head = 1 and {QUEUED} and run_at > $2
         order by run_at limit 1"
    );
    let found = db.row(&sql, args![request.channel, request.now]).await?;
    Ok(found.map(|row| row.get::<_, Millis>(0).min(row.get::<_, Millis>(1).max(request.now + 1))))
}
