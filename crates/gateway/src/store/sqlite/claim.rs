//! Claims: the next messages of a channel, in its order.

use recado_domain::channel::Ordering;
use recado_domain::ids::MessageId;
use recado_domain::status::MessageStatus;
use rusqlite::{Row, params};

use super::queue::{Details, end_queued, hold, move_message, note_unanswered, status};
use super::{Line, Writing, gate, recipients};
use crate::clock::Millis;
use crate::store::rows::{Claim, ClaimRequest, Claimed, Orphans, Seq};

/// Most messages that one claim ends unsent: others wait for the writer too.
pub(super) const END_AT_ONCE: usize = 500;

/// When to look at a channel again.
#[derive(Default)]
pub(super) struct Look {
    pub next_at: Option<Millis>,
}

impl Look {
    /// At this time, if not earlier.
    pub fn again(&mut self, at: Millis) {
        self.next_at = Some(self.next_at.map_or(at, |earlier| earlier.min(at)));
    }
}

pub(super) fn claim(writing: &mut Writing, request: &ClaimRequest) -> rusqlite::Result<Claim> {
    let Some(line) = writing.lines.get(&request.channel).copied() else { return Ok(Claim::default()) };
    let (messages, look) = match line.ordering {
        Ordering::Channel if line.opens_chats => {
            let (plan, front) = gate::plan(writing, line, request)?;
            let done = carry_out(writing, plan, request)?;
            writing.line(request.channel).into_iter().for_each(|line| line.front = front);
            done
        }
        Ordering::Channel => {
            let plan = plan(writing, line, request)?;
            carry_out(writing, plan, request)?
        }
        Ordering::Recipient => recipients::claim(writing, line, request)?,
    };
    if request.rest > 0 && !messages.is_empty() {
        hold(writing, request.channel, request.now + request.rest)?;
    }
    Ok(Claim { messages, next_at: look.next_at })
}

/// What a claim decides about the rows of a line, before it changes any.
#[derive(Default)]
pub(super) struct Plan {
    /// What is not to be sent any more, with the time at which it expires.
    ends: Vec<(Seq, Millis)>,
    /// Orphans, and whether they are queued again.
    orphans: Vec<(Seq, bool)>,
    take: Option<Seq>,
    pub look: Look,
    /// Rows that were looked at, where that has a bound.
    pub walked: usize,
}

/// Does what a claim on a channel that is one line has decided.
fn carry_out(writing: &mut Writing, plan: Plan, request: &ClaimRequest) -> rusqlite::Result<(Vec<Claimed>, Look)> {
    for (seq, again) in plan.orphans {
        settle_orphan(writing, seq, again, request)?;
    }
    for (seq, expires_at) in plan.ends {
        end(writing, seq, expires_at, request)?;
    }
    let taken = plan.take.map(|seq| take(writing, seq, request)).transpose()?;
    Ok((taken.into_iter().collect(), plan.look))
}

/// Ends a message that is queued: it is too old, or its channel is gone.
pub(super) fn end(writing: &mut Writing, seq: Seq, expires_at: Millis, request: &ClaimRequest) -> rusqlite::Result<()> {
    let end = if expires_at <= request.now { MessageStatus::Expired } else { MessageStatus::Cancelled };
    end_queued(writing, (request.channel, seq), end, request.now)
}

/// Ends the sending of a message that nobody has in hand: it is queued again, or its fate is `UNKNOWN`.
pub(super) fn settle_orphan(
    writing: &mut Writing,
    seq: Seq,
    again: bool,
    request: &ClaimRequest,
) -> rusqlite::Result<()> {
    let resend_at = if again { None } else { request.unanswered.resend_at(request.now) };
    let next = if again { MessageStatus::Queued } else { MessageStatus::Unknown };
    let details = Details { resend_at, ..Details::default() };
    move_message(writing, (request.channel, seq), (MessageStatus::Sending, next), &details, request.now)?;
    if request.orphans == Orphans::NeverSent { uncount(writing, seq) } else { note_unanswered(writing, seq) }
}

/// Walks the line from its head and decides what to do with each row, until one holds all that stand behind it.
fn plan(writing: &Writing, line: Line, request: &ClaimRequest) -> rusqlite::Result<Plan> {
    let mut plan = Plan::default();
    let mut statement = writing.connection.prepare_cached(OPEN)?;
    let mut rows = statement.query([request.channel])?;
    while let Some(row) = rows.next()? {
        let row = OpenRow::read(row)?;
        if !plan.on_its_way(&row, request).unwrap_or_else(|| plan.queued(&row, line, request)) {
            break;
        }
    }
    Ok(plan)
}

impl Plan {
    /// Decides what to do with a row that is `SENDING`: whether to look behind it; `None` when it waits like any other.
    pub fn on_its_way(&mut self, row: &OpenRow, request: &ClaimRequest) -> Option<bool> {
        if row.status != MessageStatus::Sending {
            return None;
        }
        match row.as_orphan(request) {
            Orphan::Held(until) => {
                until.into_iter().for_each(|at| self.look.again(at));
                Some(false)
            }
            Orphan::GiveUp => {
                self.orphans.push((row.seq, false));
                Some(true)
            }
            // To be looked at like any other that waits.
            Orphan::GiveBack => {
                self.orphans.push((row.seq, true));
                None
            }
        }
    }

    /// Decides what to do with a row that is queued, and whether to look behind it.
    pub fn queued(&mut self, row: &OpenRow, line: Line, request: &ClaimRequest) -> bool {
        match row.decide(request, line) {
            Decision::End if self.ends.len() < END_AT_ONCE => {
                self.ends.push((row.seq, row.expires_at));
                return true;
            }
            Decision::End => self.look.again(request.now),
            Decision::Wait(until) => self.look.again(until),
            Decision::Take => {
                self.take = Some(row.seq);
                // With a rest between sends, the claim after it is the next send.
                if request.rest > 0 {
                    self.look.again(request.now + request.rest);
                }
            }
        }
        false
    }
}

/// A channel's open messages, in the order of the queue.
pub(super) const OPEN: &str = "select seq, status, run_at, expires_at, claimed_until
     from messages indexed by messages_open
     where channel_key = ?1 and status <= 1
     order by seq";

/// A row of [`OPEN`].
pub(super) struct OpenRow {
    pub seq: Seq,
    pub status: MessageStatus,
    run_at: Millis,
    pub expires_at: Millis,
    claimed_until: Option<Millis>,
}

/// What a `SENDING` row is to the asker.
enum Orphan {
    /// In somebody's hand, until that time if its claim can run out.
    Held(Option<Millis>),
    /// Nobody knows what became of it, and the network would not recognise a re-send.
    GiveUp,
    GiveBack,
}

/// What to do with a row that is queued.
enum Decision {
    /// It is not sent any more: it expired, or its channel is gone.
    End,
    /// Nothing more can be taken from this channel before then.
    Wait(Millis),
    Take,
}

impl OpenRow {
    pub fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            status: status(row.get(1)?)?,
            run_at: row.get(2)?,
            expires_at: row.get(3)?,
            claimed_until: row.get(4)?,
        })
    }

    fn as_orphan(&self, request: &ClaimRequest) -> Orphan {
        let ends = self.claimed_until.unwrap_or(0);
        if request.held.contains(&self.seq) {
            Orphan::Held(None)
        } else if request.orphans == Orphans::Claimed && ends > request.now {
            Orphan::Held(Some(ends))
        } else if request.gives_back_orphans() {
            Orphan::GiveBack
        } else {
            Orphan::GiveUp
        }
    }

    fn decide(&self, request: &ClaimRequest, line: Line) -> Decision {
        let now = request.now;
        if self.expires_at <= now || line.deleted {
            Decision::End
        } else if !line.state.dispatches() || request.limit == 0 {
            Decision::Wait(self.expires_at)
        } else if line.next_send_at.max(self.run_at) > now {
            Decision::Wait(line.next_send_at.max(self.run_at).min(self.expires_at))
        } else {
            Decision::Take
        }
    }
}

pub(super) fn take(writing: &mut Writing, seq: Seq, request: &ClaimRequest) -> rusqlite::Result<Claimed> {
    let mut statement = writing.connection.prepare_cached(
        "update messages
         set status = 1, attempts = attempts + 1, sending_at = coalesce(sending_at, ?2), claimed_until = ?3
         where seq = ?1 and status = 0
         returning id, network_id, recipient, payload, card, scenario, attempts, failures,
                   iif(card_account_known, card_account, null), recipient_holds, resent, unanswered",
    )?;
    statement.query_row(params![seq, request.now, request.claimed_until], |row| {
        Ok(Claimed {
            seq,
            id: MessageId::from_bytes(row.get(0)?),
            network_id: row.get(1)?,
            recipient: row.get(2)?,
            payload: row.get(3)?,
            card: row.get(4)?,
            scenario: row.get(5)?,
            attempts: row.get(6)?,
            failures: row.get(7)?,
            card_account: row.get(8)?,
            recipient_holds: row.get(9)?,
            resent: row.get(10)?,
            unanswered: row.get(11)?,
        })
    })
}

/// What was never sent was no attempt.
fn uncount(writing: &Writing, seq: Seq) -> rusqlite::Result<()> {
    writing.connection.prepare_cached("update messages set attempts = attempts - 1 where seq = ?1")?.execute([seq])?;
    Ok(())
}
