//! Channels with a queue for each recipient. The first open message of each recipient queue is marked as its head, so a
//! claim reads heads only. Claims on several channels share each statement.

mod ready;

use std::collections::{BTreeSet, HashMap};
use std::mem::take;

use futures_util::future::try_join;
use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::message::Seq;
use recado_domain::phone::forms;
use recado_domain::queue::{
    ChannelQueue, Claim, ClaimRequest, Claimed, FINISH_AT_ONCE, NextWakeup, OpenRow, Outdated, Resendable, Transition,
    UnheldSending, rescue, resend, resends,
};
use tokio_postgres::Row;

use super::apply::apply_all;
use super::claim::{OPEN_ROW, open_row};
use super::lock::{Locked, Queues};
use crate::sql::{LOWEST, OPEN, QUEUED, SENDING};
use crate::sqlkit::postgres::db::{Db, Done, args, column};
use ready::send_ready;

/// The most messages of one channel that each step of a claim in a batch handles.
const EACH: usize = 32;

/// The state of a claim on such a channel.
pub(super) struct Claiming<'a> {
    request: &'a ClaimRequest,
    queue: ChannelQueue,
    wakeup: NextWakeup,
    /// Messages that it sends at most, where others leave it room.
    most: usize,
    sent: Vec<Claimed>,
    /// How many that are.
    claimed: usize,
    /// Messages that were ready and are not sent.
    passed: usize,
}

impl<'a> Claiming<'a> {
    /// A claim on a channel whose row is locked.
    pub fn on(locked: &Locked, request: &'a ClaimRequest) -> Self {
        let most = if request.send_interval > 0 { 1 } else { request.limit };
        let (wakeup, sent) = (NextWakeup::default(), Vec::new());
        Self { request, queue: locked.queue, wakeup, most, sent, claimed: 0, passed: 0 }
    }

    pub fn answer(mut self) -> Claim {
        // With an interval between sends, the claim after it is the next send.
        if self.request.send_interval > 0 && !self.sent.is_empty() {
            self.wakeup.schedule(self.request.now + self.request.send_interval);
        }
        self.sent.sort_unstable_by_key(|message| message.seq);
        let NextWakeup { next_at, holds_all } = self.wakeup;
        Claim { messages: self.sent, next_at, holds_all }
    }

    /// How many more messages the claim wants, at most `room`.
    fn asks(&self, room: usize) -> usize {
        (self.most - self.claimed).min(room)
    }

    pub fn channel(&self) -> ChannelKey {
        self.request.channel
    }
}

/// The most rows of one channel in each step. The next claim handles the remaining rows, so that no channel delays the
/// others of its batch.
fn each(claims: usize) -> usize {
    if claims == 1 { FINISH_AT_ONCE } else { EACH }
}

/// Claims messages of such channels. Their outcomes are already stored.
pub(super) async fn claim(db: Db<'_>, queues: &Queues, claims: &mut [Claiming<'_>]) -> Done<()> {
    let each = each(claims.len());
    if claims.is_empty() {
        return Ok(());
    }
    rescue_and_resend(db, queues, claims, each).await?;
    // The election of heads and the expiry of messages do not affect each other.
    let places = elect_new_heads(db, claims, each);
    let (more, mut outdated) = try_join(places, outdated(db, claims, each)).await?;
    let ends: Vec<_> = outdated.values_mut().flat_map(|outdated| take(&mut outdated.ends)).collect();
    apply_all(db, queues, &ends).await?;
    let mut sending = Vec::with_capacity(claims.len());
    for claim in claims {
        if more.contains(&claim.channel()) {
            claim.wakeup.schedule(claim.request.now);
        }
        let outdated = outdated.remove(&claim.channel()).unwrap_or_default();
        if outdated.may_send(&claim.queue, claim.request, &mut claim.wakeup) {
            sending.push(claim);
        }
    }
    send_ready(db, queues, sending, each).await
}

/// Rescues messages that no node has in flight, and queues messages again that were `UNKNOWN` for long enough.
async fn rescue_and_resend(db: Db<'_>, queues: &Queues, claims: &mut [Claiming<'_>], each: usize) -> Done<()> {
    let rescued = orphans(db, claims).await?;
    apply_all(db, queues, &rescued).await?;
    let again = resendable(db, claims, each).await?;
    apply_all(db, queues, &again).await.map(drop)
}

/// All messages that are `SENDING` and that no node has in flight.
async fn orphans(db: Db<'_>, claims: &[Claiming<'_>]) -> Done<Vec<Transition<'static>>> {
    let asking = claims.iter().filter(|claim| claim.request.orphans != UnheldSending::LeaseLive);
    let asking: HashMap<_, _> = asking.map(|claim| (claim.channel(), claim.request)).collect();
    if asking.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(include_str!("recipients/orphans.sql"), SENDING = SENDING);
    let rows = db.rows(&sql, args![asking.keys().copied().collect::<Vec<_>>()]).await?;
    let orphans = rows.iter().filter_map(|row| {
        let (request, seq) = (asking.get(&row.get("channel_key"))?, row.get("seq"));
        if request.held.contains(&seq) { None } else { rescue(seq, request) }
    });
    Ok(orphans.collect())
}

/// The messages to queue again, because they were `UNKNOWN` for long enough. A message that is not queued again stays
/// `UNKNOWN`.
async fn resendable(db: Db<'_>, claims: &mut [Claiming<'_>], each: usize) -> Done<Vec<Transition<'static>>> {
    let asking = claims.iter_mut().filter(|claim| resends(claim.request, &claim.queue));
    let mut asking: HashMap<_, _> = asking.map(|claim| (claim.channel(), claim)).collect();
    if asking.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(include_str!("recipients/resendable.sql"), each = each);
    let rows = db.rows(&sql, args![asking.keys().copied().collect::<Vec<_>>()]).await?;
    let (mut again, mut left) = (Vec::new(), Vec::new());
    for (channel, rows) in by_channel(&rows) {
        let Some(claim) = asking.get_mut(&channel) else { continue };
        let first = rows.iter().map(|row| Resendable {
            seq: row.get("seq"),
            resend_at: row.get("resend_at"),
            expires_at: row.get("expires_at"),
        });
        let first: Vec<_> = first.collect();
        let resends = resend((&first, each), claim.request, &claim.queue, &mut claim.wakeup);
        again.extend(resends.again);
        left.extend(resends.left);
    }
    if !left.is_empty() {
        db.run("UPDATE messages SET resend_at = NULL WHERE seq = any($1)", args![left]).await?;
    }
    Ok(again)
}

/// Rows that are in the order of their channels, which their column `channel_key` names.
fn by_channel(rows: &[Row]) -> impl Iterator<Item = (ChannelKey, &[Row])> {
    let channel = |row: &Row| -> ChannelKey { row.get("channel_key") };
    rows.chunk_by(move |one, next| channel(one) == channel(next)).map(move |rows| (channel(&rows[0]), rows))
}

/// Keeps `UNKNOWN` messages as they are: the policy was changed, or the channel is gone.
pub(super) async fn leave_unknown(db: Db<'_>, channel: ChannelKey) -> Done<()> {
    let sql = "UPDATE messages SET resend_at = NULL WHERE channel_key = $1 AND resend_at IS NOT NULL";
    db.run(sql, args![channel]).await.map(drop)
}

/// Finds out which new messages are heads, for a limited number per channel. Returns the channels that may have more.
/// The node that accepts a message cannot decide this, because another node may accept one for the same recipient at
/// the same moment.
async fn elect_new_heads(db: Db<'_>, claims: &[Claiming<'_>], each: usize) -> Done<Vec<ChannelKey>> {
    let sql = format!(include_str!("recipients/elect_new_heads.sql"), OPEN = OPEN, each = each);
    let elected = db.rows(&sql, args![column(claims, Claiming::channel)]).await?;
    let before = elected.iter().filter(|row| row.get("comes_before"));
    elect_heads(db, before.map(|row| (row.get("channel_key"), row.get("recipient")))).await?;
    let mut found: HashMap<ChannelKey, usize> = HashMap::new();
    elected.iter().for_each(|row| *found.entry(row.get("channel_key")).or_default() += 1);
    Ok(found.into_iter().filter(|(_, found)| *found == each).map(|(channel, _)| channel).collect())
}

/// Elects the heads of these recipient queues again after their messages have changed. A message in flight stays head
/// until its outcome. New messages wait for the next claim.
pub(super) async fn elect_heads(db: Db<'_>, recipients: impl Iterator<Item = (ChannelKey, String)>) -> Done<()> {
    let (channels, recipients): (Vec<_>, Vec<_>) = recipients.collect::<BTreeSet<_>>().into_iter().unzip();
    if recipients.is_empty() {
        return Ok(());
    }
    let sql = format!(include_str!("recipients/elect_heads.sql"), OPEN = OPEN, QUEUED = QUEUED);
    db.run(&sql, args![channels, recipients]).await.map(drop)
}

/// The messages to end from the head of each queue. Most claims read only the first message.
async fn outdated(db: Db<'_>, claims: &[Claiming<'_>], each: usize) -> Done<HashMap<ChannelKey, Outdated>> {
    let mut found = HashMap::new();
    let mut from: Vec<_> = claims.iter().map(|claim| (claim.channel(), 0)).collect();
    let claims: HashMap<_, _> = claims.iter().map(|claim| (claim.channel(), claim)).collect();
    let mut page = 1;
    while !from.is_empty() {
        let rows = waiting(db, &from, page).await?;
        from.clear();
        for (channel, rows) in by_channel(&rows) {
            let Some(claim) = claims.get(&channel) else { continue };
            let outdated: &mut Outdated = found.entry(channel).or_default();
            let open: Vec<OpenRow> = rows.iter().map(open_row).collect::<Done<_>>()?;
            let goes_on = open.iter().all(|row| outdated.decide(row, &claim.queue, claim.request, each));
            if let Some(last) = open.last().filter(|_| goes_on && open.len() == page) {
                from.push((channel, last.seq + 1));
            }
        }
        page = each;
    }
    Ok(found)
}

/// The first queued messages of each of these channels, from a number on. The comparison of rows leaves only the index
/// of open messages for the order.
async fn waiting(db: Db<'_>, from: &[(ChannelKey, Seq)], page: usize) -> Done<Vec<Row>> {
    let sql = format!(
        include_str!("recipients/waiting.sql"),
        OPEN_ROW = OPEN_ROW,
        LOWEST = LOWEST,
        OPEN = OPEN,
        QUEUED = QUEUED,
        page = page
    );
    let (channels, first): (Vec<_>, Vec<_>) = from.iter().copied().unzip();
    db.rows(&sql, args![channels, first]).await
}

/// Sends nothing to the recipient of a message before this time, on a channel that is one queue. No later message
/// passes this one, even with the other form of the recipient's number.
pub(super) async fn defer(db: Db<'_>, seq: Seq, until: Millis) -> Done<()> {
    // The message was erased meanwhile.
    let Some(row) = db.row("SELECT recipient FROM messages WHERE seq = $1", args![seq]).await? else { return Ok(()) };
    let both: Vec<String> = forms(row.get(0)).collect();
    let sql = "INSERT INTO recipient_pace (channel_key, recipient, used_until)
               SELECT channel_key, unnest($3::text[]), $2 FROM messages WHERE seq = $1
               ON CONFLICT (channel_key, recipient) DO UPDATE SET used_until = excluded.used_until";
    db.run(sql, args![seq, until, both]).await.map(drop)
}
