//! Channels whose network limits how many chats they open. A message for a new recipient may have to wait, and so may a
//! message for a recipient that is deferred; neither blocks the messages after it. `docs/adr/0009-new-recipients.md`
//! gives the reasons.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::try_join3;
use recado_domain::channel::ChannelKey;
use recado_domain::clock::{Millis, millis};
use recado_domain::queue::{ChannelQueue, ClaimPlan, ClaimRequest, FINISH_AT_ONCE, OpenRow, ScanCursor};

use super::claim::{Asks, HEADS, RowScan, Seen, rows_from};
use super::lock::Locked;
use crate::sqlkit::postgres::db::{Db, Done, args, column};

/// After this time no message appears before a visible one: storing a message takes less, and clocks differ by less.
const VISIBILITY_GRACE: Duration = Duration::from_secs(15);
/// The most rows that a claim scans again because a message may still appear before them.
const MAX_UNSETTLED: usize = 10_000;

/// A scan of such a channel's queue, past messages that wait for their recipient.
struct Scan<'a> {
    queue: ChannelQueue,
    request: &'a ClaimRequest,
    /// Until when no chat may be opened.
    blocked_until: Option<Millis>,
    plan: ClaimPlan,
    /// Where the next scan begins: at the first message that is not settled. This scan continues after it.
    cursor: ScanCursor,
    settled: bool,
    unsettled: usize,
}

impl<'a> Scan<'a> {
    fn of(queue: ChannelQueue, request: &'a ClaimRequest) -> Self {
        let (plan, cursor) = (ClaimPlan::default(), queue.cursor.at(request));
        Self { queue, request, blocked_until: None, plan, cursor, settled: true, unsettled: 0 }
    }

    /// Whether the channel may send now.
    fn sends(&self) -> bool {
        self.queue.dispatches() && self.request.limit > 0 && self.queue.next_send_at <= self.request.now
    }

    /// Decides about a message before the cursor. Returns whether to continue the scan.
    fn before_cursor(&mut self, row: &OpenRow) -> bool {
        self.plan.before_cursor(row, self.cursor, &self.queue, self.request)
    }

    /// Decides about a message. Returns whether to continue the scan.
    fn decide(&mut self, seen: &Seen) -> bool {
        let (row, now) = (&seen.row, self.request.now);
        self.plan.scanned += 1;
        if let Some(goes_on) = self.plan.in_flight(row, self.request) {
            return goes_on;
        }
        let held_until = seen.held_until.filter(|until| *until > now);
        let waits_until = held_until.or(self.blocked_until.filter(|_| seen.is_new));
        let Some(until) = waits_until.filter(|_| row.expires_at > now && !self.queue.cancels(row.seq)) else {
            return self.plan.queued(row, &self.queue, self.request);
        };
        self.settled &= seen.queued_at + millis(VISIBILITY_GRACE) <= now;
        if self.settled && self.plan.scanned > FINISH_AT_ONCE {
            self.plan.wakeup.schedule(now);
            return false;
        }
        self.plan.wakeup.schedule(row.expires_at);
        if self.settled {
            self.cursor.pass(row, until);
            return true;
        }
        self.plan.wakeup.schedule(until);
        self.unsettled += 1;
        if self.unsettled == MAX_UNSETTLED {
            self.plan.wakeup.schedule(now + millis(VISIBILITY_GRACE));
        }
        self.unsettled < MAX_UNSETTLED
    }

    fn end(mut self) -> (ClaimPlan, ScanCursor) {
        self.cursor.until.into_iter().for_each(|until| self.plan.wakeup.schedule(until));
        (self.plan, self.cursor)
    }
}

/// Scans the queue until a message blocks all messages after it. Returns where the next scan begins.
pub(super) async fn plan(db: Db<'_>, locked: &Locked, request: &ClaimRequest) -> Done<(ClaimPlan, ScanCursor)> {
    let mut scan = Scan::of(locked.queue, request);
    if scan.cursor.before > 0 {
        let mut rows = RowScan::from(db, locked.key, 0, Asks::Nothing);
        while let Some(seen) = rows.next().await?
            && scan.before_cursor(&seen.row)
        {}
    }
    scan.blocked_until = blocked_until(db, &[&scan]).await?.remove(&locked.key);
    let asks = if scan.blocked_until.is_some() { Asks::New } else { Asks::Held };
    let mut rows = RowScan::from(db, locked.key, scan.cursor.before, asks);
    while let Some(seen) = rows.next().await?
        && scan.decide(&seen)
    {}
    Ok(scan.end())
}

/// The plans of claims on several such channels, of those that need only the first messages and rescue none.
pub(super) async fn plans(
    db: Db<'_>,
    claims: &[(ChannelQueue, &ClaimRequest)],
) -> Done<HashMap<ChannelKey, (ClaimPlan, ScanCursor)>> {
    let scans: Vec<_> = claims.iter().map(|(queue, request)| Scan::of(*queue, request)).collect();
    let from = |scan: &Scan<'_>| (scan.request.channel, scan.cursor.before);
    let passed: Vec<_> = scans.iter().map(from).filter(|(_, before)| *before > 0).map(|(key, _)| (key, 0)).collect();
    let asking: Vec<_> = scans.iter().collect();
    let (blocked, in_front, rows) = try_join3(
        blocked_until(db, &asking),
        rows_from(db, &passed, Asks::Nothing, 1),
        rows_from(db, &column(&scans, from), Asks::New, HEADS),
    )
    .await?;
    let mut plans = HashMap::new();
    for mut scan in scans {
        let channel = scan.request.channel;
        scan.blocked_until = blocked.get(&channel).copied();
        let ends_some =
            in_front.get(&channel).is_some_and(|seen| seen.iter().any(|seen| scan.before_cursor(&seen.row)));
        let rows = rows.get(&channel).map_or(&[][..], Vec::as_slice);
        let decided = rows.iter().any(|seen| !scan.decide(seen)) || rows.len() < HEADS;
        if decided && !ends_some && scan.plan.orphans.is_empty() {
            plans.insert(channel, scan.end());
        }
    }
    Ok(plans)
}

/// Until when these channels may open no chat, of those that may open none.
async fn blocked_until(db: Db<'_>, scans: &[&Scan<'_>]) -> Done<HashMap<ChannelKey, Millis>> {
    let sends: Vec<_> = scans.iter().filter(|scan| scan.sends()).collect();
    let limited = sends.iter().filter_map(|scan| Some((scan.request.channel, scan.request.counted_chat()?)));
    let limited: Vec<_> = limited.collect();
    let mut counted: HashMap<ChannelKey, Millis> = HashMap::new();
    if !limited.is_empty() {
        let sql = "SELECT c.key, o.opened_at
                   FROM unnest($1, $2, $3) AS c(key, after, later)
                   CROSS JOIN LATERAL (SELECT opened_at FROM chats
                                       WHERE channel_key = c.key AND opened_at IS NOT NULL AND opened_at > c.after
                                       ORDER BY opened_at DESC LIMIT 1 OFFSET c.later) o";
        let (channels, after) = (column(&limited, |(key, _)| *key), column(&limited, |(_, chat)| chat.after));
        let rows = db.rows(sql, args![channels, after, column(&limited, |(_, chat)| chat.later)]).await?;
        counted.extend(rows.iter().map(|row| (row.get::<_, ChannelKey>("key"), row.get::<_, Millis>("opened_at"))));
    }
    let blocked = sends.iter().filter_map(|scan| {
        let channel = scan.request.channel;
        let until = scan.queue.new_chats_blocked_until(scan.request.now, counted.get(&channel).copied())?;
        Some((channel, until))
    });
    Ok(blocked.collect())
}
