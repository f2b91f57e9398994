//! Channels whose network watches how many chats they open: a message for a new recipient may have to wait, and holds
//! nobody behind it. Why so: `docs/adr/0009-new-recipients.md`.

use std::time::Duration;

use recado_domain::channel::ChannelState;
use rusqlite::{OptionalExtension, params};

use super::claim::{END_AT_ONCE, OpenRow, Plan};
use super::{Line, Writing, chats};
use crate::clock::{Millis, millis};
use crate::store::rows::{ClaimRequest, Seq};

/// The time for which opened chats are counted.
const COUNTED: Duration = Duration::from_hours(24);
/// How late a message may expire that waits in front of the line and outlived none before it: all of them are looked at
/// for that.
const STRAYS_EXPIRE_WITHIN: Millis = 60_000;

/// What waits at the front of a line, so that no claim walks it again before something has changed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Front {
    /// Every open message before this one is for a new recipient, and waits.
    before: Seq,
    /// When they are all looked at again.
    until: Option<Millis>,
    /// The latest time at which one of them expires: each expires no earlier than those before it, but for strays.
    latest: Millis,
    /// The limit by which they wait.
    per_day: Option<u32>,
}

impl Front {
    /// The front for this claim: all of the line is looked at where the time has come, or the limit was changed.
    fn at(self, request: &ClaimRequest) -> Self {
        let holds =
            self.until.is_none_or(|until| request.now < until) && self.per_day == request.new_recipients_per_day;
        if holds { self } else { Self { per_day: request.new_recipients_per_day, ..Self::default() } }
    }

    /// One more waits, until then.
    fn pass(&mut self, row: &OpenRow, until: Millis) {
        self.before = row.seq + 1;
        self.again(until);
        if row.expires_at < self.latest {
            self.again(row.expires_at + STRAYS_EXPIRE_WITHIN);
        }
        self.latest = self.latest.max(row.expires_at);
    }

    fn again(&mut self, at: Millis) {
        self.until = Some(self.until.map_or(at, |until| until.min(at)));
    }

    /// A message stands behind all others, unless the last ones were deleted and their numbers are given anew.
    pub fn make_room_for(&mut self, seq: Seq) {
        self.before = self.before.min(seq);
    }
}

/// A channel's open messages from one on, in the order of the queue.
const OPEN: &str = "select seq, status, run_at, expires_at, claimed_until, recipient
     from messages indexed by messages_open
     where channel_key = ?1 and seq >= ?2 and status <= 1
     order by seq";

/// Walks the line, past those who wait for their recipient to be known, until one holds all that stand behind it. Gives
/// what waits at its front now.
pub(super) fn plan(writing: &Writing, line: Line, request: &ClaimRequest) -> rusqlite::Result<(Plan, Front)> {
    let (mut plan, mut front) = (Plan::default(), line.front.at(request));
    if front.before > 0 {
        end_old(writing, (line, front), request, &mut plan)?;
    }
    let now = request.now;
    let sends = line.state.dispatches() && !line.deleted && request.limit > 0 && line.next_send_at <= now;
    let mut gate = Gate { writing, line, request, closed_until: None };
    let mut statement = writing.connection.prepare_cached(OPEN)?;
    let mut rows = statement.query(params![request.channel, front.before])?;
    while let Some(row) = rows.next()? {
        let (row, recipient) = (OpenRow::read(row)?, row.get_ref(5)?.as_str()?);
        plan.walked += 1;
        if let Some(goes_on) = plan.on_its_way(&row, request) {
            if goes_on {
                continue;
            }
            break;
        }
        let waits_until = if sends && row.expires_at > now { gate.waits(recipient)? } else { None };
        match waits_until {
            Some(_) if plan.walked > END_AT_ONCE => {
                plan.look.again(now);
                break;
            }
            Some(until) => {
                plan.look.again(row.expires_at);
                front.pass(&row, until);
            }
            None if plan.queued(&row, line, request) => {}
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
        let row = OpenRow::read(row)?;
        plan.walked += 1;
        if row.seq >= front.before {
            break;
        }
        if row.expires_at > request.now {
            plan.look.again(row.expires_at);
            break;
        }
        if !plan.queued(&row, line, request) {
            break;
        }
    }
    Ok(())
}

struct Gate<'a> {
    writing: &'a Writing,
    line: Line,
    request: &'a ClaimRequest,
    /// Asked for once, and only where somebody comes.
    #[expect(clippy::option_option, reason = "not asked for yet, or until when, if it is closed")]
    closed_until: Option<Option<Millis>>,
}

impl Gate<'_> {
    /// Until when a message for this recipient waits; `None` when it need not.
    fn waits(&mut self, recipient: &str) -> rusqlite::Result<Option<Millis>> {
        let closed_until = match self.closed_until {
            Some(asked) => asked,
            None => *self.closed_until.insert(self.closed_until()?),
        };
        if closed_until.is_none() || chats::is_known(&self.writing.connection, (self.request.channel, recipient))? {
            return Ok(None);
        }
        Ok(closed_until)
    }

    /// Until when no chat may be opened.
    fn closed_until(&self) -> rusqlite::Result<Option<Millis>> {
        let restricted_until = self.line.restricted_until.filter(|_| self.line.state == ChannelState::Restricted);
        let restricted_until = restricted_until.filter(|until| *until > self.request.now);
        Ok(restricted_until.max(self.used_up_until()?))
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
