//! Claims: the next messages of a line, in its order.

use std::collections::HashSet;

use recado_domain::ids::MessageId;
use recado_domain::status::MessageStatus;
use rusqlite::{Row, params};

use super::queue::{Details, end_queued, hold, move_message, note_unanswered, status};
use super::{Line, Writing};
use crate::clock::Millis;
use crate::store::rows::{Claim, ClaimRequest, Claimed, Ordering, Orphans, Seq};

/// Most messages that one claim ends unsent: others wait for the writer too.
const END_AT_ONCE: usize = 500;

/// What a claim decides about the rows of a line, before it changes any.
#[derive(Default)]
struct Plan {
    moves: Vec<(Seq, (MessageStatus, MessageStatus))>,
    take: Vec<Seq>,
    next_at: Option<Millis>,
    /// How many end unsent.
    ends: usize,
    /// Recipients whose next message waits for an earlier one.
    busy: HashSet<String>,
    /// Nothing that stands behind is sent or ended by this claim.
    closed: bool,
}

pub(super) fn claim(writing: &mut Writing, request: &ClaimRequest) -> rusqlite::Result<Claim> {
    let plan = plan(writing, request)?;
    for (seq, step) in plan.moves {
        let place = (request.channel, seq);
        if step.0 == MessageStatus::Queued {
            end_queued(writing, place, step.1, request.now)?;
            continue;
        }
        move_message(writing, place, step, &Details::default(), request.now)?;
        if request.orphans == Orphans::NeverSent {
            uncount(writing, seq)?;
        } else {
            note_unanswered(writing, seq)?;
        }
    }
    let messages = plan.take.iter().map(|seq| take(writing, *seq, request)).collect::<rusqlite::Result<Vec<_>>>()?;
    if request.rest > 0 && !messages.is_empty() {
        hold(writing, request.channel, request.now + request.rest)?;
    }
    let open = writing.line(request.channel).map_or(0, |line| line.open);
    Ok(Claim { messages, next_at: plan.next_at, open })
}

/// Walks the line from its head and decides what to do with each row, until one holds all that stand behind it.
fn plan(writing: &Writing, request: &ClaimRequest) -> rusqlite::Result<Plan> {
    let mut plan = Plan::default();
    let Some(line) = writing.lines.get(&request.channel) else { return Ok(plan) };
    let mut statement = writing.connection.prepare_cached(
        "select seq, status, recipient, run_at, expires_at, claimed_until
         from messages indexed by messages_open
         where channel_key = ?1 and status <= 1
         order by seq",
    )?;
    let mut rows = statement.query([request.channel])?;
    while let Some(row) = rows.next()? {
        let row = OpenRow::read(row)?;
        let waits = row.status == MessageStatus::Queued || plan.takes_back(&row, request);
        if waits && !plan.closed {
            plan.decide(&row, request, line);
        }
        // Who knows of orphans goes on to the last one: later nobody could tell it from a message in hand. Where one
        // message is sent after another there is none but the first.
        if plan.closed && (request.orphans == Orphans::Claimed || request.ordering == Ordering::Channel) {
            break;
        }
    }
    Ok(plan)
}

impl Plan {
    fn look_again(&mut self, at: Millis) {
        self.next_at = Some(self.next_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Holds what stands behind a message on its line; `false` when an earlier message does so already.
    fn holds_its_line(&mut self, recipient: &str, ordering: Ordering) -> bool {
        self.closed |= ordering == Ordering::Channel;
        self.busy.insert(recipient.to_owned())
    }

    /// Decides about a row that is `SENDING`: whether it is queued again, to be looked at like any other.
    fn takes_back(&mut self, row: &OpenRow, request: &ClaimRequest) -> bool {
        match row.as_orphan(request) {
            Orphan::Held(until) => {
                until.into_iter().for_each(|at| self.look_again(at));
                self.holds_its_line(&row.recipient, request.ordering);
                false
            }
            Orphan::GiveUp => {
                self.moves.push((row.seq, (MessageStatus::Sending, MessageStatus::Unknown)));
                false
            }
            Orphan::GiveBack => {
                self.moves.push((row.seq, (MessageStatus::Sending, MessageStatus::Queued)));
                true
            }
        }
    }

    /// Decides about a row that is queued.
    fn decide(&mut self, row: &OpenRow, request: &ClaimRequest, line: &Line) {
        match row.decide(request, line) {
            Decision::End(_) if self.ends == END_AT_ONCE => {
                self.look_again(request.now);
                self.closed = true;
            }
            Decision::End(status) => {
                self.moves.push((row.seq, (MessageStatus::Queued, status)));
                self.ends += 1;
            }
            Decision::HoldAll(at) => {
                self.look_again(at);
                self.closed = true;
            }
            Decision::Hold(at) => {
                self.look_again(at);
                self.holds_its_line(&row.recipient, request.ordering);
            }
            Decision::Take => {
                if self.holds_its_line(&row.recipient, request.ordering) {
                    self.take.push(row.seq);
                    // With a rest between sends, the claim after it is the next send.
                    if request.rest > 0 {
                        self.look_again(request.now + request.rest);
                    }
                }
                let most = if request.rest > 0 { 1 } else { request.limit };
                self.closed |= self.take.len() >= most;
            }
        }
    }
}

struct OpenRow {
    seq: Seq,
    status: MessageStatus,
    recipient: String,
    run_at: Millis,
    expires_at: Millis,
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

enum Decision {
    /// It is not sent any more: it expired, or its channel is gone.
    End(MessageStatus),
    /// Nothing more can be taken from this channel before then.
    HoldAll(Millis),
    /// Nothing more on this row's line before then.
    Hold(Millis),
    Take,
}

impl OpenRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            status: status(row.get(1)?)?,
            recipient: row.get(2)?,
            run_at: row.get(3)?,
            expires_at: row.get(4)?,
            claimed_until: row.get(5)?,
        })
    }

    fn as_orphan(&self, request: &ClaimRequest) -> Orphan {
        let ends = self.claimed_until.unwrap_or(0);
        if request.held.contains(&self.seq) {
            Orphan::Held(None)
        } else if request.orphans == Orphans::Claimed && ends > request.now {
            Orphan::Held(Some(ends))
        } else if request.resend || request.orphans == Orphans::NeverSent {
            Orphan::GiveBack
        } else {
            Orphan::GiveUp
        }
    }

    fn decide(&self, request: &ClaimRequest, line: &Line) -> Decision {
        let now = request.now;
        if self.expires_at <= now {
            Decision::End(MessageStatus::Expired)
        } else if line.deleted {
            Decision::End(MessageStatus::Cancelled)
        } else if !line.state.dispatches() || request.limit == 0 {
            Decision::HoldAll(self.expires_at)
        } else if line.next_send_at > now {
            Decision::HoldAll(line.next_send_at.min(self.expires_at))
        } else if self.run_at > now {
            Decision::Hold(self.run_at.min(self.expires_at))
        } else {
            Decision::Take
        }
    }
}

fn take(writing: &mut Writing, seq: Seq, request: &ClaimRequest) -> rusqlite::Result<Claimed> {
    let mut statement = writing.connection.prepare_cached(
        "update messages
         set status = 1, attempts = attempts + 1, sending_at = coalesce(sending_at, ?2), claimed_until = ?3
         where seq = ?1 and status = 0
         returning id, network_id, recipient, payload, card, scenario, attempts, failures",
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
        })
    })
}

/// What was never sent was no attempt.
fn uncount(writing: &Writing, seq: Seq) -> rusqlite::Result<()> {
    writing.connection.prepare_cached("update messages set attempts = attempts - 1 where seq = ?1")?.execute([seq])?;
    Ok(())
}
