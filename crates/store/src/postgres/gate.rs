//! Channels whose network watches how many chats they open: a message for a new recipient may have to wait, and holds
//! nobody behind it. Why so: `docs/adr/0009-new-recipients.md`. Nor does one whose recipient cannot be written to for now.

use std::time::Duration;

use recado_domain::clock::{Millis, millis};
use recado_domain::queue::{ClaimPlan, ClaimRequest, FINISH_AT_ONCE, ScanCursor};

use super::claim::{Asks, RowScan};
use super::lock::Locked;
use crate::sqlkit::postgres::db::{Db, Done, args};

/// After this time nobody adds a message before one that is visible: no node takes so long to store one, and no clock is
/// so wrong.
const SETTLED: Duration = Duration::from_secs(15);
/// Rows that are scanned again at most, because a message may yet come before them: what was accepted within that time.
const UNSETTLED: usize = 10_000;

/// Scans the queue, past those who wait for their recipient, until one holds all that stand behind it. Gives
/// where the next scan begins.
pub(super) async fn plan(db: Db<'_>, locked: &Locked, request: &ClaimRequest) -> Done<(ClaimPlan, ScanCursor)> {
    let (queue, now) = (&locked.queue, request.now);
    let (mut plan, mut cursor) = (ClaimPlan::default(), queue.cursor.at(request));
    if cursor.before > 0 {
        finish_old(db, locked, cursor, request, &mut plan).await?;
    }
    let sends = queue.dispatches() && request.limit > 0 && queue.next_send_at <= now;
    let blocked_until = if sends { blocked_until(db, locked, request).await? } else { None };
    let asks = if blocked_until.is_some() { Asks::New } else { Asks::Held };
    let mut rows = RowScan::from(db, locked.key, cursor.before, asks);
    // The cursor stays at the first one that is not settled, and the scan goes on.
    let (mut settled, mut unsettled) = (true, 0);
    while let Some(seen) = rows.next().await? {
        let row = &seen.row;
        plan.scanned += 1;
        if let Some(goes_on) = plan.in_flight(row, request) {
            if goes_on {
                continue;
            }
            break;
        }
        let held_until = seen.held_until.filter(|until| *until > now);
        let waits_until = held_until.or(blocked_until.filter(|_| seen.is_new));
        match waits_until.filter(|_| row.expires_at > now && !queue.cancels(row.seq)) {
            None if plan.queued(row, queue, request) => {}
            None => break,
            Some(until) => {
                settled &= seen.queued_at + millis(SETTLED) <= now;
                if settled && plan.scanned > FINISH_AT_ONCE {
                    plan.wakeup.schedule(now);
                    break;
                }
                plan.wakeup.schedule(row.expires_at);
                if settled {
                    cursor.pass(row, until);
                    continue;
                }
                plan.wakeup.schedule(until);
                unsettled += 1;
                if unsettled == UNSETTLED {
                    plan.wakeup.schedule(now + millis(SETTLED));
                    break;
                }
            }
        }
    }
    cursor.until.into_iter().for_each(|until| plan.wakeup.schedule(until));
    Ok((plan, cursor))
}

/// Ends messages in front of the cursor that are too old.
async fn finish_old(
    db: Db<'_>,
    locked: &Locked,
    cursor: ScanCursor,
    request: &ClaimRequest,
    plan: &mut ClaimPlan,
) -> Done<()> {
    let mut rows = RowScan::from(db, locked.key, 0, Asks::Nothing);
    while let Some(seen) = rows.next().await? {
        if !plan.in_front(&seen.row, cursor, &locked.queue, request) {
            break;
        }
    }
    Ok(())
}

/// Until when no chat may be opened.
async fn blocked_until(db: Db<'_>, locked: &Locked, request: &ClaimRequest) -> Done<Option<Millis>> {
    let mut counted = None;
    if let Some(chat) = request.counted_chat() {
        let sql = "select opened_at from chats
                   where channel_key = $1 and opened_at is not null and opened_at > $2
                   order by opened_at desc limit 1 offset $3";
        counted = db.row(sql, args![request.channel, chat.after, chat.later]).await?.map(|row| row.get(0));
    }
    Ok(locked.queue.new_chats_blocked_until(request.now, counted))
}
