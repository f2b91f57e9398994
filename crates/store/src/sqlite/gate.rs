//! Channels whose network watches how many chats they open: a message for a new recipient may have to wait, and holds
//! nobody behind it. Why so: `docs/adr/0009-new-recipients.md`. Nor does one whose recipient cannot be written to for now.

use std::time::Duration;

use recado_domain::clock::{Millis, millis};
use recado_domain::queue::ClaimRequest;
use rusqlite::{OptionalExtension, params};

use super::claim::open_row;
use super::{Writing, chats, recipients};
use crate::line::{END_AT_ONCE, Front, Line, Plan};

/// The time for which opened chats are counted.
const COUNTED: Duration = Duration::from_hours(24);
/// A channel's open messages from one on, in the order of the queue.
const OPEN: &str = "select seq, status, run_at, expires_at, claimed_until, recipient
     from messages indexed by messages_open
     where channel_key = ?1 and seq >= ?2 and status <= 1
     order by seq";

/// Walks the line, past those who wait for their recipient, until one holds all that stand behind it. Gives
/// what waits at its front now.
pub(super) fn plan(writing: &Writing, line: Line, request: &ClaimRequest) -> rusqlite::Result<(Plan, Front)> {
    let (mut plan, mut front) = (Plan::default(), line.front.at(request));
    if front.before > 0 {
        end_old(writing, (line, front), request, &mut plan)?;
    }
    let now = request.now;
    let sends = line.dispatches() && request.limit > 0 && line.next_send_at <= now;
    let mut gate = Gate { writing, line, request, sends, closed_until: None };
    let mut statement = writing.connection.prepare_cached(OPEN)?;
    let mut rows = statement.query(params![request.channel, front.before])?;
    while let Some(row) = rows.next()? {
        let (row, recipient) = (open_row(row)?, row.get_ref(5)?.as_str()?);
        plan.walked += 1;
        if let Some(goes_on) = plan.on_its_way(&row, request) {
            if goes_on {
                continue;
            }
            break;
        }
        let waits_until = if row.expires_at > now && !line.cancels(row.seq) { gate.waits(recipient)? } else { None };
        match waits_until {
            Some(_) if plan.walked > END_AT_ONCE => {
                plan.look.again(now);
                break;
            }
            Some(until) => {
                plan.look.again(row.expires_at);
                front.pass(&row, until);
            }
            None if plan.queued(&row, &line, request) => {}
            None => break,
        }
    }
    front.until.into_iter().for_each(|until| plan.look.again(until));
    Ok((plan, front))
}

/// Those who wait at the front have nothing to do but to grow too old, one after another.
fn end_old(
    writing: &Writing,
    (line, front): (Line, Front),
    request: &ClaimRequest,
    plan: &mut Plan,
) -> rusqlite::Result<()> {
    let mut statement = writing.connection.prepare_cached(OPEN)?;
    let mut rows = statement.query(params![request.channel, 0])?;
    while let Some(row) = rows.next()? {
        let row = open_row(row)?;
        plan.walked += 1;
        if row.seq >= front.before {
            break;
        }
        if row.expires_at > request.now {
            plan.look.again(row.expires_at);
            break;
        }
        if !plan.queued(&row, &line, request) {
            break;
        }
    }
    Ok(())
}

struct Gate<'a> {
    writing: &'a Writing,
    line: Line,
    request: &'a ClaimRequest,
    /// Whether anything may be sent now.
    sends: bool,
    /// Asked for once, and only where somebody comes.
    #[expect(clippy::option_option, reason = "not asked for yet, or until when, if it is closed")]
    closed_until: Option<Option<Millis>>,
}

impl Gate<'_> {
    /// Until when a message for this recipient waits; `None` when it need not.
    fn waits(&mut self, recipient: &str) -> rusqlite::Result<Option<Millis>> {
        let who = (self.request.channel, recipient);
        let held_until = recipients::held_until(&self.writing.connection, who, self.request.now)?;
        if held_until.is_some() || !self.sends {
            return Ok(held_until);
        }
        let closed_until = match self.closed_until {
            Some(asked) => asked,
            None => *self.closed_until.insert(self.closed_until()?),
        };
        if closed_until.is_none() || chats::is_known(&self.writing.connection, who)? {
            return Ok(None);
        }
        Ok(closed_until)
    }

    /// Until when no chat may be opened.
    fn closed_until(&self) -> rusqlite::Result<Option<Millis>> {
        Ok(self.line.restricted_until(self.request.now).max(self.used_up_until()?))
    }

    /// Until when as many chats as a day may have were opened within the last one.
    fn used_up_until(&self) -> rusqlite::Result<Option<Millis>> {
        let Some(per_day) = self.request.new_recipients_per_day else { return Ok(None) };
        // With this many later ones, the next may come when this one is no longer counted.
        let mut statement = self.writing.connection.prepare_cached(
            "select opened_at from chats indexed by chats_opened
             where channel_key = ?1 and opened_at is not null and opened_at > ?2
             order by opened_at desc limit 1 offset ?3",
        )?;
        let counted_from = self.request.now - millis(COUNTED);
        let found = statement
            .query_row(params![self.request.channel, counted_from, per_day.saturating_sub(1)], |row| {
                row.get::<_, Millis>(0)
            })
            .optional()?;
        Ok(found.map(|opened_at| opened_at + millis(COUNTED)))
    }
}
