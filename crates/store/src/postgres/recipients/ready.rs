//! The messages to send on channels with a queue for each recipient: due heads.

use std::collections::{BTreeMap, HashMap};

use futures_util::future::try_join4;
use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::message::Seq;
use recado_domain::queue::{Finish, Pace, Queued, Transition, pace};

use super::super::apply::apply_all;
use super::super::claim::send;
use super::super::lock::Queues;
use super::{Claiming, by_channel};
use crate::sql::QUEUED;
use crate::sqlkit::postgres::db::{Db, Done, args, column};

/// Messages that claims which go together send at most.
const SENT_TOGETHER: usize = 1_024;

/// Sends heads: first those whose time has come, then those that never had to wait, in queue order. Then finds the time
/// of the next waiting head.
pub(super) async fn send_ready(db: Db<'_>, queues: &Queues, claims: Vec<&mut Claiming<'_>>, each: usize) -> Done<()> {
    let room = (SENT_TOGETHER / claims.len().max(1)).max(1);
    let mut claims: BTreeMap<_, _> = claims.into_iter().map(|claim| (claim.channel(), claim)).collect();
    while !claims.is_empty() {
        let mut ready = ready(db, &claims, room).await?;
        let mut round = Round::default();
        for (channel, claim) in &mut claims {
            round.decide(claim, ready.remove(channel).unwrap_or_default(), (room, each));
        }
        apply_all(db, queues, &round.ends).await?;
        // The order does not matter: different messages are deferred and sent.
        let (shared, deferred) = (round.store_paces(db), round.defer(db));
        let (_, _, sent, waiting) =
            try_join4(shared, deferred, send(db, queues, &round.sends), next_waiting(db, &round.last)).await?;
        for message in sent {
            let claim = round.channels.get(&message.seq).and_then(|channel| claims.get_mut(channel));
            claim.into_iter().for_each(|claim| claim.sent.push(message.clone()));
        }
        for (channel, at) in waiting {
            claims.get_mut(&channel).into_iter().for_each(|claim| claim.wakeup.schedule(at));
        }
        for (channel, _) in &round.last {
            claims.remove(channel);
        }
    }
    Ok(())
}

/// The decisions about the ready messages of all claims.
#[derive(Default)]
struct Round {
    ends: Vec<Transition<'static>>,
    sends: Vec<Transition<'static>>,
    /// Whose the messages are that are sent.
    channels: HashMap<Seq, ChannelKey>,
    /// Messages that their recipient's rate limit defers.
    deferred: Vec<(Seq, Millis)>,
    /// Until when a recipient's share of a channel is used up.
    shares: Vec<(ChannelKey, String, Millis)>,
    /// Claims that are done, and their time.
    last: Vec<(ChannelKey, Millis)>,
}

impl Round {
    /// Decides about the ready messages of a channel. Returns whether its claim is done.
    fn decide(&mut self, claim: &mut Claiming<'_>, ready: Vec<Ready>, (room, each): (usize, usize)) {
        let (request, channel, now) = (claim.request, claim.channel(), claim.request.now);
        let asked = claim.asks(room);
        let (found, mut ended, mut free) = (ready.len(), 0, 0);
        for Ready { message, recipient, resent, used_until } in ready {
            if message.is_dropped(resent, request) {
                self.ends.extend(message.finish(Finish::Dropped, now));
                ended += 1;
                continue;
            }
            match request.recipient_pacing.map(|pacing| pace(pacing, used_until, now)) {
                Some(Pace::At(at)) => {
                    self.deferred.push((message.seq, at));
                    claim.wakeup.schedule(due(at, message.expires_at, now));
                    continue;
                }
                Some(Pace::Now { used_until }) => self.shares.push((channel, recipient, used_until)),
                None => {}
            }
            free += 1;
            self.sends.extend(message.send(request, &claim.queue));
            self.channels.insert(message.seq, channel);
        }
        claim.passed += found - free;
        claim.claimed += free;
        let full = free == asked;
        // Another message can be ready only after an ended one, or if more were found than could be sent.
        let done = full || found < asked && ended == 0;
        let late = !done && claim.passed >= each;
        if late || full && claim.claimed < claim.most {
            claim.wakeup.schedule(now);
        }
        if done || late {
            self.last.push((channel, now));
        }
    }

    /// Stores the used part of each recipient's rate limit.
    async fn store_paces(&self, db: Db<'_>) -> Done<u64> {
        let sql = "INSERT INTO recipient_pace (channel_key, recipient, used_until)
                   SELECT s.channel_key, s.recipient, s.used_until
                   FROM unnest($1, $2, $3) AS s(channel_key, recipient, used_until)
                   ON CONFLICT (channel_key, recipient) DO UPDATE SET used_until = excluded.used_until";
        if self.shares.is_empty() {
            return Ok(0);
        }
        let channels = column(&self.shares, |(channel, ..)| *channel);
        let recipients = column(&self.shares, |(_, recipient, _)| recipient.as_str());
        db.run(sql, args![channels, recipients, column(&self.shares, |(.., until)| *until)]).await
    }

    async fn defer(&self, db: Db<'_>) -> Done<u64> {
        let sql = "UPDATE messages m SET run_at = s.run_at FROM unnest($1, $2) AS s(seq, run_at)
                   -- Named twice, so that no plan reads all messages to find these.
                   WHERE m.seq = any($1) AND m.seq = s.seq";
        if self.deferred.is_empty() {
            return Ok(0);
        }
        db.run(sql, args![column(&self.deferred, |(seq, _)| *seq), column(&self.deferred, |(_, at)| *at)]).await
    }
}

/// A head whose time has come.
struct Ready {
    message: Queued,
    recipient: String,
    resent: bool,
    /// Until when the recipient's share is used up.
    used_until: Option<Millis>,
}

async fn ready(
    db: Db<'_>,
    claims: &BTreeMap<ChannelKey, &mut Claiming<'_>>,
    room: usize,
) -> Done<HashMap<ChannelKey, Vec<Ready>>> {
    let of = |times: &str| {
        format!(
            "(SELECT seq, expires_at, unanswered, recipient, run_at, resent FROM messages
              WHERE channel_key = c.key AND head = 1 AND {QUEUED} AND {times} LIMIT c.most)"
        )
    };
    let (waited, others) = (of("run_at BETWEEN 1 AND c.now ORDER BY run_at, seq"), of("run_at = 0 ORDER BY seq"));
    let sql = format!(include_str!("ready/ready.sql"), waited = waited, others = others);
    let asking: Vec<_> = claims.values().collect();
    let most = column(&asking, |claim| i64::try_from(claim.asks(room)).unwrap_or(i64::MAX));
    let times = column(&asking, |claim| claim.request.now);
    let rows = db.rows(&sql, args![column(&asking, |claim| claim.channel()), times, most]).await?;
    let ready = by_channel(&rows).map(|(channel, rows)| {
        let most = claims.get(&channel).map_or(0, |claim| claim.asks(room));
        let ready = rows.iter().take(most).map(|row| Ready {
            message: Queued {
                channel,
                seq: row.get("seq"),
                expires_at: row.get("expires_at"),
                unanswered: row.get("unanswered"),
            },
            recipient: row.get("recipient"),
            resent: row.get("resent"),
            used_until: row.get("used_until"),
        });
        (channel, ready.collect())
    });
    Ok(ready.collect())
}

/// When the next first message of each of these channels is due that waits for a time.
async fn next_waiting(db: Db<'_>, claims: &[(ChannelKey, Millis)]) -> Done<Vec<(ChannelKey, Millis)>> {
    if claims.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT c.key, c.now, m.run_at, m.expires_at
         FROM unnest($1, $2) AS c(key, now)
         CROSS JOIN LATERAL (SELECT run_at, expires_at FROM messages
                             WHERE channel_key = c.key AND head = 1 AND {QUEUED} AND run_at > c.now
                             ORDER BY run_at LIMIT 1) m"
    );
    let (channels, times): (Vec<_>, Vec<_>) = claims.iter().copied().unzip();
    let rows = db.rows(&sql, args![channels, times]).await?;
    Ok(rows.iter().map(|row| (row.get("key"), due(row.get("run_at"), row.get("expires_at"), row.get("now")))).collect())
}

/// When a waiting message is checked again.
fn due(run_at: Millis, expires_at: Millis, now: Millis) -> Millis {
    run_at.min(expires_at.max(now + 1))
}
