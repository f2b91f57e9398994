//! What a claim goes by, and what it decides about each row of a line. Pure: how rows are read and written is each
//! engine's own.

use recado_domain::channel::{ChannelState, ChannelType, Ordering, SessionNumber};
use recado_domain::clock::Millis;
use recado_domain::message::Seq;
use recado_domain::queue::{ClaimRequest, Orphans};
use recado_domain::status::MessageStatus;

/// Most messages that one claim ends unsent, or passes: others wait for the writer, or for the channel's row, too.
pub(super) const END_AT_ONCE: usize = 500;
/// How late a message may expire that waits in front of the line and outlived none before it: all of them are looked at
/// for that.
const STRAYS_EXPIRE_WITHIN: Millis = 60_000;

/// What accepting and claiming ask of a channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub ordering: Ordering,
    pub state: ChannelState,
    pub was_connected: bool,
    pub deleted: bool,
    pub next_send_at: Millis,
    /// Writing to somebody new opens a chat.
    pub opens_chats: bool,
    pub restricted_until: Option<Millis>,
    /// Messages up to this one were queued before the channel was deleted: they are sent no more, whoever has the channel
    /// now.
    pub cancel_before: Seq,
    /// How often the line came up.
    pub connections: i64,
    /// Which of its sessions the channel has.
    pub session: SessionNumber,
    pub front: Front,
}

impl Line {
    /// The line of a channel of this type; what else is known of it is filled in.
    pub fn of(kind: ChannelType, state: ChannelState) -> Self {
        Self {
            ordering: kind.ordering(),
            state,
            was_connected: false,
            deleted: false,
            next_send_at: 0,
            opens_chats: kind.opens_chats(),
            restricted_until: None,
            cancel_before: 0,
            connections: 0,
            session: 0,
            front: Front::default(),
        }
    }

    /// Whether the channel's state lets it send.
    pub fn dispatches(&self) -> bool {
        self.state.dispatches() && !self.deleted
    }

    /// Whether this message was queued before the channel was deleted.
    pub fn is_former(&self, seq: Seq) -> bool {
        seq <= self.cancel_before
    }

    /// Whether a queued message is sent no more, because the channel that it was queued on is gone.
    pub fn cancels(&self, seq: Seq) -> bool {
        self.deleted || self.is_former(seq)
    }

    /// Until when its network lets it open no chats.
    pub fn restricted_until(&self, now: Millis) -> Option<Millis> {
        self.restricted_until.filter(|until| self.state == ChannelState::Restricted && *until > now)
    }
}

/// When to look at a channel again.
#[derive(Default)]
pub(super) struct Look {
    pub next_at: Option<Millis>,
    /// A message waits that holds all behind it.
    pub holds_all: bool,
}

impl Look {
    /// At this time, if not earlier.
    pub fn again(&mut self, at: Millis) {
        self.next_at = Some(self.next_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// What a claim decides about the rows of a line, before it changes any.
#[derive(Default)]
pub(super) struct Plan {
    /// What is not to be sent any more, with the time at which it expires.
    pub ends: Vec<(Seq, Millis)>,
    /// Orphans, and whether they are queued again.
    pub orphans: Vec<(Seq, bool)>,
    pub take: Option<Seq>,
    pub look: Look,
    /// Rows that were looked at, where that has a bound.
    pub walked: usize,
}

impl Plan {
    /// Decides what to do with a row: whether to look behind it.
    pub fn decide(&mut self, row: &OpenRow, line: &Line, request: &ClaimRequest) -> bool {
        self.on_its_way(row, request).unwrap_or_else(|| self.queued(row, line, request))
    }

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
    pub fn queued(&mut self, row: &OpenRow, line: &Line, request: &ClaimRequest) -> bool {
        match row.decide(request, line) {
            Decision::End if self.ends.len() < END_AT_ONCE => {
                self.ends.push((row.seq, row.expires_at));
                return true;
            }
            Decision::End => self.look.again(request.now),
            Decision::Wait(until) => {
                self.look.again(until);
                self.look.holds_all = true;
            }
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

/// An open message, as far as a claim looks at it.
pub(super) struct OpenRow {
    pub seq: Seq,
    pub status: MessageStatus,
    pub run_at: Millis,
    pub expires_at: Millis,
    pub claimed_until: Option<Millis>,
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

    fn decide(&self, request: &ClaimRequest, line: &Line) -> Decision {
        let now = request.now;
        if self.expires_at <= now || line.cancels(self.seq) {
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

/// What waits at the front of a line, so that no claim walks it again before something has changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Front {
    /// Every open message before this one waits for its recipient: a new one, or one that cannot be written to for now.
    pub before: Seq,
    /// When they are all looked at again.
    pub until: Option<Millis>,
    /// The latest time at which one of them expires: each expires no earlier than those before it, but for strays.
    pub latest: Millis,
    /// The limit by which they wait.
    pub per_day: Option<u32>,
}

impl Front {
    /// The front for this claim: all of the line is looked at where the time has come, or the limit was changed.
    pub fn at(self, request: &ClaimRequest) -> Self {
        let holds =
            self.until.is_none_or(|until| request.now < until) && self.per_day == request.new_recipients_per_day;
        if holds { self } else { Self { per_day: request.new_recipients_per_day, ..Self::default() } }
    }

    /// One more waits, until then.
    pub fn pass(&mut self, row: &OpenRow, until: Millis) {
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

/// The column that keeps when a state was reached.
pub(super) fn reached_column(status: MessageStatus) -> &'static str {
    match status {
        MessageStatus::Queued => "queued_at",
        MessageStatus::Sending => "sending_at",
        MessageStatus::Sent => "sent_at",
        MessageStatus::Delivered => "delivered_at",
        MessageStatus::Unknown => "unknown_at",
        MessageStatus::Read => "read_at",
        MessageStatus::Failed => "failed_at",
        MessageStatus::Expired => "expired_at",
        MessageStatus::Cancelled => "cancelled_at",
    }
}

/// Whether a restriction is remembered in this state: it outlasts a pause, and a line that is lost and comes back.
pub(super) fn keeps_restriction(state: ChannelState) -> bool {
    use ChannelState::{Banned, Connected, Connecting, Created, Disconnected, LoggedOut, Paused, Restricted};
    match state {
        Restricted | Paused | Disconnected | Connecting => true,
        Created | Connected | LoggedOut | Banned => false,
    }
}
