//! Channels whose network watches how many chats they open: a message for a new recipient may have to wait, and holds
//! nobody behind it. Why so: `docs/adr/0009-new-recipients.md`. Nor does one whose recipient cannot be written to for now.

use std::time::Duration;

use recado_domain::clock::{Millis, millis};
use recado_domain::queue::ClaimRequest;

use super::claim::{Asks, Walk};
use super::lock::Locked;
use crate::line::{END_AT_ONCE, Front, Plan};
use crate::sqlkit::postgres::db::{Db, Done, args};

/// The time for which opened chats are counted.
const COUNTED: Duration = Duration::from_hours(24);
/// After this time nobody adds a message before one that is visible: no node takes so long to store one, and no clock is
/// so wrong.
const SETTLED: Duration = Duration::from_secs(15);
/// Rows that are walked again at most, because a message may yet come before them: what was accepted within that time.
const UNSETTLED: usize = 10_000;

/// Walks the line, past those who wait for their recipient, until one holds all that stand behind it. Gives
/// what waits at its front now.
pub(super) async fn plan(db: Db<'_>, locked: &Locked, request: &ClaimRequest) -> Done<(Plan, Front)> {
    let (line, now) = (&locked.line, request.now);
    let (mut plan, mut front) = (Plan::default(), line.front.at(request));
    if front.before > 0 {
        end_old(db, locked, front, request, &mut plan).await?;
    }
    let sends = line.dispatches() && request.limit > 0 && line.next_send_at <= now;
    let closed_until = if sends { closed_until(db, locked, request).await? } else { None };
    let asks = if closed_until.is_some() { Asks::New } else { Asks::Held };
    let mut rows = Walk::from(db, locked.key, front.before, asks);
    // The front ends at the first one that is not settled, and the walk goes on.
    let (mut settled, mut unsettled) = (true, 0);
    while let Some(seen) = rows.next().await? {
        let row = &seen.row;
        plan.walked += 1;
        if let Some(goes_on) = plan.on_its_way(row, request) {
            if goes_on {
                continue;
            }
            break;
        }
        let held_until = seen.held_until.filter(|until| *until > now);
        let waits_until = held_until.or(closed_until.filter(|_| seen.is_new));
        match waits_until.filter(|_| row.expires_at > now && !line.cancels(row.seq)) {
            None if plan.queued(row, line, request) => {}
            None => break,
            Some(until) => {
                settled &= seen.queued_at + millis(SETTLED) <= now;
                if settled && plan.walked > END_AT_ONCE {
                    plan.look.again(now);
                    break;
                }
                plan.look.again(row.expires_at);
                if settled {
                    front.pass(row, until);
                    continue;
                }
                plan.look.again(until);
                unsettled += 1;
                if unsettled == UNSETTLED {
                    plan.look.again(now + millis(SETTLED));
                    break;
                }
            }
        }
    }
    front.until.into_iter().for_each(|until| plan.look.again(until));
    Ok((plan, front))
}

/// Those who wait at the front have nothing to do but to grow too old, one after another.
async fn end_old(db: Db<'_>, locked: &Locked, front: Front, request: &ClaimRequest, plan: &mut Plan) -> Done<()> {
    let mut rows = Walk::from(db, locked.key, 0, Asks::Nothing);
    while let Some(seen) = rows.next().await? {
        let row = &seen.row;
        plan.walked += 1;
        if row.seq >= front.before {
            break;
        }
        if row.expires_at > request.now {
            plan.look.again(row.expires_at);
            break;
        }
        if !plan.queued(row, &locked.line, request) {
            break;
        }
    }
    Ok(())
}

/// Until when no chat may be opened.
async fn closed_until(db: Db<'_>, locked: &Locked, request: &ClaimRequest) -> Done<Option<Millis>> {
    Ok(locked.line.restricted_until(request.now).max(used_up_until(db, request).await?))
}

/// Until when as many chats as a day may have were opened within the last one.
async fn used_up_until(db: Db<'_>, request: &ClaimRequest) -> Done<Option<Millis>> {
    let Some(per_day) = request.new_recipients_per_day else { return Ok(None) };
    // With this many later ones, the next may come when this one is no longer counted.
    let sql = "select opened_at from chats
               where channel_key = $1 and opened_at is not null and opened_at > $2
               order by opened_at desc limit 1 offset $3";
    let counted_from = request.now - millis(COUNTED);
    let later = i64::from(per_day.saturating_sub(1));
    let found = db.row(sql, args![request.channel, counted_from, later]).await?;
    Ok(found.map(|row| row.get::<_, Millis>(0) + millis(COUNTED)))
}
