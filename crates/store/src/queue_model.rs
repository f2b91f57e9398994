//! The queue against a model: random operations, crashes, lost answers and passing time, and after each step the
//! invariants.
//!
//! The model does not predict what a claim returns. It says what no claim may do (send out of order, send twice where
//! that doubles, lose, finish twice) and what every claim must do (leave no queue idle whose head may be sent), and
//! then adopts the observed result. It predicts all other operations completely.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;
use recado_domain::channel::{ChannelKey, ChannelState, ChannelType, Ordering};
use recado_domain::clock::{Millis, millis};
use recado_domain::ids::MessageId;
use recado_domain::message::{Cancelled, Enqueued, Message, NewMessage};
use recado_domain::pacing::RecipientPacing;
use recado_domain::queue::{Claim, ClaimRequest, MessageRef, Receipt, Settlement, UnheldSending, UnknownOutcomePolicy};
use recado_domain::status::MessageStatus;

use super::fixtures::{Engine, Ground, LEAVE, MINUTE, NOW, PgDatabase, SqliteFile, request, sent};

const RECIPIENTS: [&str; 3] = ["551", "552", "553"];
/// Small enough to be met.
const BACKLOG_CAP: usize = 9;

#[derive(Debug, Clone)]
pub(super) enum Op {
    Enqueue {
        channel: usize,
        recipient: usize,
        lives: Millis,
        key: Option<u8>,
        delay: Option<Millis>,
    },
    /// Due messages are queued.
    Promote,
    Claim {
        channel: usize,
        limit: usize,
        send_interval: Millis,
        answered: bool,
    },
    Settle {
        pick: usize,
        how: How,
    },
    Receipt {
        pick: usize,
        status: MessageStatus,
        astray: bool,
    },
    Cancel {
        pick: usize,
    },
    Pass(Millis),
    Pause {
        channel: usize,
    },
    Resume {
        channel: usize,
    },
    Crash,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum How {
    Sent,
    Failed,
    /// The network refused for now.
    Retry(Millis),
    /// The answer was lost; once the connection broke before it.
    Silence(Millis),
    Broken(Millis),
    /// The network accepts nothing more from the channel.
    Pause,
    Hold(Millis),
    HoldRecipient(Millis),
    Unknown,
}

impl How {
    fn at(self, now: Millis, unanswered: UnknownOutcomePolicy) -> Settlement {
        match self {
            How::Sent => sent(),
            How::Failed => Settlement::Failed { code: "X".to_owned(), message: "x".to_owned() },
            How::Retry(wait) => Settlement::Retry { run_at: now + wait },
            // If the network does not recognise a resend, nothing is sent again.
            How::Silence(_) | How::Broken(_) if unanswered != UnknownOutcomePolicy::Resend => {
                How::Unknown.at(now, unanswered)
            }
            How::Silence(wait) => Settlement::RetryUnanswered { run_at: now + wait },
            How::Broken(wait) => Settlement::ConnectionLost { run_at: now + wait },
            How::Pause => Settlement::PauseChannel { reason: "x".to_owned() },
            How::Hold(wait) => Settlement::HoldChannel { until: now + wait },
            How::HoldRecipient(wait) => Settlement::HoldRecipient { until: now + wait, hold: None },
            How::Unknown => Settlement::Unknown { resend_at: unanswered.resend_at(now), hold: None },
        }
    }
}

pub(super) fn ops() -> impl Strategy<Value = Vec<Op>> {
    let channel = 0..3_usize;
    let pick = any::<prop::sample::Index>().prop_map(|index| index.index(1 << 16));
    let how = prop_oneof![
        4 => Just(How::Sent),
        1 => Just(How::Failed),
        2 => (0..800_i64).prop_map(How::Retry),
        2 => (0..800_i64).prop_map(How::Silence),
        1 => (0..800_i64).prop_map(How::Broken),
        1 => Just(How::Pause),
        1 => (0..500_i64).prop_map(How::Hold),
        1 => (0..800_i64).prop_map(How::HoldRecipient),
        2 => Just(How::Unknown),
    ];
    let receipt = prop_oneof![Just(MessageStatus::Delivered), Just(MessageStatus::Read), Just(MessageStatus::Failed)];
    let lives = prop_oneof![2 => 1..2_000_i64, 3 => Just(100_000_i64)];
    let (key, delay) = (prop::option::weighted(0.3, 0..6_u8), prop::option::weighted(0.2, 0..1_500_i64));
    let send_interval = prop_oneof![3 => Just(0_i64), 1 => 1..300_i64];
    let op = prop_oneof![
        10 => (channel.clone(), 0..RECIPIENTS.len(), lives, key, delay).prop_map(
            |(channel, recipient, lives, key, delay)| Op::Enqueue { channel, recipient, lives, key, delay }
        ),
        3 => Just(Op::Promote),
        10 => (channel.clone(), 0..4_usize, send_interval, prop::bool::weighted(0.8))
            .prop_map(|(channel, limit, send_interval, answered)| Op::Claim { channel, limit, send_interval, answered }),
        10 => (pick.clone(), how).prop_map(|(pick, how)| Op::Settle { pick, how }),
        3 => (pick.clone(), receipt, prop::bool::weighted(0.2))
            .prop_map(|(pick, status, astray)| Op::Receipt { pick, status, astray }),
        2 => pick.prop_map(|pick| Op::Cancel { pick }),
        4 => (1..1_000_i64).prop_map(Op::Pass),
        1 => channel.clone().prop_map(|channel| Op::Pause { channel }),
        2 => channel.prop_map(|channel| Op::Resume { channel }),
        2 => Just(Op::Crash),
    ];
    prop::collection::vec(op, 1..120)
}

/// The behaviour of a channel's driver.
pub(super) fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let kind = prop_oneof![Just(ChannelType::Sandbox), Just(ChannelType::CloudApi)];
    let unanswered = prop_oneof![
        Just(UnknownOutcomePolicy::Resend),
        Just(LEAVE),
        Just(UnknownOutcomePolicy::MarkUnknown(Some(700)))
    ];
    let pacing = prop::option::of((1..4_u32, 1..900_u64));
    let rule = (kind, unanswered, pacing).prop_map(|(kind, unanswered, pacing)| {
        let every = |(burst, every)| RecipientPacing { burst, every: Duration::from_millis(every) };
        let by_recipient = kind.descriptor().ordering == Ordering::Recipient;
        // Unknown messages are queued again on channels with a queue for each recipient.
        let unanswered = if by_recipient || unanswered == UnknownOutcomePolicy::Resend { unanswered } else { LEAVE };
        Rule { kind, unanswered, pacing: pacing.map(every).filter(|_| by_recipient) }
    });
    prop::collection::vec(rule, 3)
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    kind: ChannelType,
    unanswered: UnknownOutcomePolicy,
    pacing: Option<RecipientPacing>,
}

/// The holder of a claimed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    None,
    Held,
    /// The claim's answer never came.
    Lost,
    /// The process ended over it.
    Dead,
}

struct Known {
    id: MessageId,
    /// Its place in the order of the queue; while it waits for its time, in the order of acceptance and with a minus.
    number: i64,
    /// When it is queued, while it waits for that.
    due: Option<Millis>,
    channel: usize,
    recipient: usize,
    expires_at: Millis,
    run_at: Millis,
    status: MessageStatus,
    claims: u32,
    holder: Holder,
    /// Sent, and not reported as refused since.
    maybe_sent: bool,
    /// It is `UNKNOWN`, and queued again then.
    resend_at: Option<Millis>,
    /// The message was queued again, so it may be before others of its queue that were sent meanwhile.
    queued_again: bool,
    /// An orphan of a crashed owner, or a message whose answer was lost: it may have arrived, so it never ends as
    /// unsent.
    unanswered: bool,
    /// Under which of the channel's connections it was last sent.
    connection: u32,
}

struct ModelQueue {
    key: ChannelKey,
    rule: Rule,
    orphans: UnheldSending,
    paused: bool,
    /// How often it was connected.
    connections: u32,
    next_send_at: Millis,
    /// The times of the sends to each recipient.
    sends: [Vec<Millis>; RECIPIENTS.len()],
}

struct World {
    ground: Ground,
    now: Millis,
    queues: Vec<ModelQueue>,
    /// By their numbers.
    messages: Vec<Known>,
    /// The number of given numbers.
    numbers: i64,
    /// The message of each key, with its channel and recipient.
    keys: HashMap<u8, (MessageId, usize, usize)>,
}

impl World {
    async fn new(engine: impl Engine + 'static, rules: &[Rule]) -> Self {
        let ground = Ground::on(engine).await;
        let mut queues = Vec::new();
        for (n, rule) in rules.iter().enumerate() {
            let (key, sends) = (ground.channel_of(rule.kind, &format!("canal-{n}")).await, Default::default());
            let (orphans, paused, connections) = (UnheldSending::OwnerCrashed, false, 1);
            queues.push(ModelQueue { key, rule: *rule, orphans, paused, connections, next_send_at: 0, sends });
        }
        Self { ground, now: NOW, queues, messages: Vec::new(), numbers: 0, keys: HashMap::new() }
    }

    async fn step(&mut self, op: Op) {
        match op {
            Op::Enqueue { channel, recipient, lives, key, delay } => {
                self.enqueue((channel, recipient), lives, key, delay).await;
            }
            Op::Promote => {
                self.promote().await;
            }
            Op::Claim { channel, limit, send_interval, answered } => {
                self.claim(channel, limit, send_interval, answered).await;
            }
            Op::Settle { pick, how } => {
                let held: Vec<usize> = self.held(|_| true);
                if !held.is_empty() {
                    self.settle(held[pick % held.len()], how).await;
                }
            }
            Op::Receipt { pick, status, astray } if !self.messages.is_empty() => {
                self.receipt(pick % self.messages.len(), status, astray).await;
            }
            Op::Cancel { pick } if !self.messages.is_empty() => self.cancel(pick % self.messages.len()).await,
            Op::Receipt { .. } | Op::Cancel { .. } => {}
            Op::Pass(millis) => self.now += millis,
            Op::Pause { channel } => self.pause(channel, true).await,
            Op::Resume { channel } => self.pause(channel, false).await,
            Op::Crash => self.crash().await,
        }
        self.check().await;
    }

    fn held(&self, filter: impl Fn(&Known) -> bool) -> Vec<usize> {
        let held = |n: &usize| self.messages[*n].holder == Holder::Held && filter(&self.messages[*n]);
        (0..self.messages.len()).filter(held).collect()
    }

    fn open(&self, channel: usize) -> impl Iterator<Item = &Known> {
        self.messages.iter().filter(move |known| known.channel == channel && known.status.is_open())
    }

    /// The same without scheduled messages.
    fn queued(&self, channel: usize) -> impl Iterator<Item = &Known> {
        self.open(channel).filter(|known| known.due.is_none())
    }

    async fn enqueue(
        &mut self,
        (channel, recipient): (usize, usize),
        lives: Millis,
        key: Option<u8>,
        delay: Option<Millis>,
    ) {
        let due = delay.map(|delay| self.now + delay);
        let mut message = NewMessage {
            accepted_at: self.now,
            send_at: due,
            expires_at: due.unwrap_or(self.now) + lives,
            backlog_cap: BACKLOG_CAP,
            ..self.ground.new_message(self.queues[channel].key, RECIPIENTS[recipient])
        };
        let content = u8::try_from(channel * RECIPIENTS.len() + recipient).expect("small");
        message.idempotency = key.map(|key| self.ground.idempotency(&key.to_string(), content));
        let expected = match key.and_then(|key| self.keys.get(&key)) {
            Some((earlier, of, to)) if (*of, *to) == (channel, recipient) => Enqueued::Replayed(*earlier),
            Some(_) => Enqueued::KeyReused,
            None if self.open(channel).count() >= BACKLOG_CAP => Enqueued::QueueFull,
            None => Enqueued::Accepted,
        };
        let (id, expires_at) = (message.id, message.expires_at);
        assert_eq!(self.ground.enqueue(message).await, expected);
        if expected == Enqueued::Accepted {
            key.map(|key| self.keys.insert(key, (id, channel, recipient)));
            self.numbers += 1;
            let number = if due.is_some() { -self.numbers } else { self.numbers };
            let (status, holder) = (MessageStatus::Queued, Holder::None);
            let known = Known {
                id,
                number,
                due,
                channel,
                recipient,
                expires_at,
                run_at: 0,
                status,
                claims: 0,
                holder,
                maybe_sent: false,
                resend_at: None,
                queued_again: false,
                unanswered: false,
                connection: 0,
            };
            self.messages.push(known);
            self.sort();
        }
    }

    fn sort(&mut self) {
        self.messages.sort_by_key(|known| known.number);
    }

    /// Queues due messages in the order of their times. Returns when the next one is due.
    async fn promote(&mut self) -> Option<Millis> {
        let promoted = self.ground.store.promote(self.now).await.expect("the store works");
        let now = self.now;
        let mut due: Vec<&mut Known> =
            self.messages.iter_mut().filter(|known| known.due.is_some_and(|due| due <= now)).collect();
        due.sort_by_key(|known| (known.due, known.number.abs()));
        assert_eq!(promoted.messages, due.len());
        for known in due {
            self.numbers += 1;
            (known.number, known.due) = (self.numbers, None);
        }
        self.sort();
        assert_eq!(promoted.next_at, self.messages.iter().filter_map(|known| known.due).min());
        promoted.next_at
    }

    async fn claim(&mut self, channel: usize, limit: usize, send_interval: Millis, answered: bool) -> Claim {
        let rows = self.ground.all(self.queues[channel].key).await;
        let seq_of = |id| rows.iter().find(|row| row.id == id).expect("a message in the store").seq;
        let held = self.held(|known| known.channel == channel).into_iter().map(|n| seq_of(self.messages[n].id));
        let queue = &self.queues[channel];
        let request = ClaimRequest {
            limit,
            held: held.collect(),
            orphans: queue.orphans,
            unanswered: queue.rule.unanswered,
            now: self.now,
            claimed_until: self.now + MINUTE,
            send_interval,
            recipient_pacing: queue.rule.pacing,
            ..request(queue.key)
        };
        let claim = self.ground.claim(request.clone()).await;
        assert!(claim.messages.is_sorted_by_key(|claimed| claimed.seq));
        let rows = self.ground.all(queue.key).await;
        for n in 0..self.messages.len() {
            if self.messages[n].channel == channel {
                self.check_claimed(n, &claim, &rows, answered);
            }
        }
        let queue = &mut self.queues[channel];
        for claimed in &claim.messages {
            let recipient = RECIPIENTS.iter().position(|known| *known == claimed.recipient).expect("known");
            queue.sends[recipient].push(self.now);
            if let Some(RecipientPacing { burst, every }) = queue.rule.pacing {
                let (sends, burst) = (&queue.sends[recipient], usize::try_from(burst).expect("small"));
                let before = sends.len().checked_sub(burst + 1).map(|n| sends[n]);
                assert!(before.is_none_or(|before| self.now - before >= millis(every)), "more than a burst: {sends:?}");
            }
        }
        let could_send = !queue.paused && queue.next_send_at <= self.now;
        assert!(could_send || claim.messages.is_empty(), "the channel does not send now: {claim:?}");
        if send_interval > 0 && !claim.messages.is_empty() {
            queue.next_send_at = queue.next_send_at.max(self.now + send_interval);
        }
        queue.orphans = match (answered, queue.orphans) {
            (true, _) => UnheldSending::LeaseLive,
            // Messages of a lost answer look like those of a crashed owner now.
            (false, UnheldSending::OwnerCrashed) => UnheldSending::OwnerCrashed,
            (false, _) => UnheldSending::ClaimLost,
        };
        let most = if send_interval > 0 { limit.min(1) } else { limit };
        self.nothing_idle(channel, could_send && claim.messages.len() < most, &claim);
        assert!(claim.messages.len() <= most, "{request:?}: {claim:?}");
        claim
    }

    /// Checks what a claim did to one message.
    fn check_claimed(&mut self, n: usize, claim: &Claim, rows: &[Message], answered: bool) {
        let (now, queue) = (self.now, &self.queues[self.messages[n].channel]);
        let known = &mut self.messages[n];
        let resent = known.status == MessageStatus::Unknown
            && !queue.paused
            && known.resend_at.is_some_and(|at| at <= now)
            && known.expires_at > now;
        if resent {
            (known.status, known.holder) = (MessageStatus::Queued, Holder::None);
            (known.queued_again, known.unanswered, known.maybe_sent, known.resend_at) = (true, true, false, None);
        }
        let (before, after) = (known.status, rows.iter().find(|row| row.id == known.id).expect("not lost").status);
        let context = format!("message {n}, {before:?} held by {:?} -> {after:?} by {:?}", known.holder, queue.orphans);
        let orphan = before == MessageStatus::Sending
            && known.holder != Holder::Held
            && queue.orphans != UnheldSending::LeaseLive;
        let free = before == MessageStatus::Queued || orphan;
        // If the network does not recognise a resend, a message that may have arrived is not sent again.
        let may_go = queue.rule.unanswered == UnknownOutcomePolicy::Resend || !known.maybe_sent;
        let was_claimed = claim.messages.iter().any(|claimed| claimed.id == known.id);
        if orphan && queue.orphans == UnheldSending::ClaimLost {
            // Its claim was no attempt.
            known.claims -= 1;
        }
        known.unanswered |= orphan && queue.orphans == UnheldSending::OwnerCrashed;
        if known.due.is_some() {
            assert!(!was_claimed && after == before, "not yet: {context}");
        }
        if was_claimed {
            assert_eq!(after, MessageStatus::Sending, "{context}");
            assert!(free && may_go && known.run_at <= now && known.expires_at > now, "was_claimed: {context}");
            known.claims += 1;
            known.connection = queue.connections;
            known.holder = if answered { Holder::Held } else { Holder::Lost };
            known.maybe_sent |= answered;
        } else {
            let allowed = match after {
                // The next claim could not distinguish it from a message in flight.
                _ if orphan && after == MessageStatus::Sending => false,
                _ if after == before => true,
                MessageStatus::Queued => orphan && may_go,
                MessageStatus::Expired => free && may_go && !known.unanswered && known.expires_at <= now,
                MessageStatus::Unknown if known.unanswered && known.expires_at <= now => free,
                MessageStatus::Unknown => {
                    let given_up = queue.rule.unanswered != UnknownOutcomePolicy::Resend;
                    // Once.
                    known.resend_at = queue.rule.unanswered.resend_at(now).filter(|_| !known.queued_again);
                    orphan && given_up && queue.orphans == UnheldSending::OwnerCrashed
                }
                _ => false,
            };
            assert!(allowed, "{context}");
            if orphan {
                known.holder = Holder::None;
            }
        }
        known.status = after;
    }

    /// The head of each queue; every other open message waits. A message that was queued again waits for the one in
    /// flight.
    fn heads(&self, channel: usize) -> Vec<&Known> {
        let mut heads: Vec<&Known> = Vec::new();
        for known in self.queued(channel) {
            let same_line = |head: &&mut &Known| {
                self.queues[channel].rule.kind.descriptor().ordering == Ordering::Channel
                    || head.recipient == known.recipient
            };
            match heads.iter_mut().find(same_line) {
                Some(head) if known.status == MessageStatus::Sending => {
                    let elder = head.queued_again && head.status == MessageStatus::Queued;
                    assert!(elder, "handed out past its elders");
                    *head = known;
                }
                Some(_) => {}
                None => heads.push(known),
            }
        }
        heads
    }

    fn nothing_idle(&self, channel: usize, has_capacity: bool, claim: &Claim) {
        for head in self.heads(channel) {
            let paced = claim.next_at.is_some() && self.queues[channel].rule.pacing.is_some();
            let moves = head.status == MessageStatus::Sending || head.run_at > self.now || paced;
            assert!(moves || !has_capacity, "a queue is stuck: {claim:?}");
        }
        let waits = self.queued(channel).next().is_some() && self.held(|known| known.channel == channel).is_empty();
        let lost = self.open(channel).any(|known| known.holder == Holder::Lost);
        assert!(!waits || lost || claim.next_at.is_some(), "no wake-up is scheduled");
        assert!(claim.next_at.is_none_or(|at| at > self.now), "looking again at once: {claim:?}");
    }

    async fn settle(&mut self, n: usize, how: How) {
        let queue = &mut self.queues[self.messages[n].channel];
        let known = &mut self.messages[n];
        let seq = self.ground.message(queue.key, known.id).await.seq;
        let outcomes = vec![(seq, how.at(self.now, queue.rule.unanswered))];
        self.ground.settle_at(queue.key, outcomes, self.now).await;
        known.holder = Holder::None;
        if let How::Hold(wait) = how {
            queue.next_send_at = queue.next_send_at.max(self.now + wait);
        }
        // Not where it was connected again since the message was sent.
        queue.paused |= matches!(how, How::Pause) && known.connection == queue.connections;
        if known.status == MessageStatus::Sending {
            let sends_again = queue.rule.unanswered == UnknownOutcomePolicy::Resend;
            let lost = matches!(how, How::Silence(_) | How::Broken(_));
            known.status = match how {
                How::Sent => MessageStatus::Sent,
                How::Failed => MessageStatus::Failed,
                How::Unknown => MessageStatus::Unknown,
                How::Silence(_) | How::Broken(_) if !sends_again => MessageStatus::Unknown,
                How::Retry(wait) | How::HoldRecipient(wait) | How::Silence(wait) | How::Broken(wait) => {
                    known.run_at = self.now + wait;
                    MessageStatus::Queued
                }
                How::Hold(_) | How::Pause => MessageStatus::Queued,
            };
            known.unanswered |= lost && sends_again;
            known.maybe_sent = lost || known.status != MessageStatus::Queued;
            if known.status == MessageStatus::Unknown {
                let resend_at = queue.rule.unanswered.resend_at(self.now);
                known.resend_at = resend_at.filter(|_| !known.queued_again);
            }
        }
    }

    async fn receipt(&mut self, n: usize, status: MessageStatus, astray: bool) {
        let known = &mut self.messages[n];
        let message = self.ground.message(self.queues[known.channel].key, known.id).await;
        let channel = if astray { (known.channel + 1) % self.queues.len() } else { known.channel };
        let channel = self.queues[channel].key;
        let of = MessageRef::NetworkId(message.network_id.parse().unwrap());
        self.ground
            .apply(Receipt {
                channel,
                of,
                status,
                at: self.now,
                from: None,
                account: None,
                error: None,
                pauses: None,
                pricing: None,
            })
            .await;
        // The failure of one of two attempts says nothing about the other.
        let doubtful = known.queued_again && status == MessageStatus::Failed;
        let moves = known.status.awaits_receipts() && known.status.may_become(status, false);
        let arrived = matches!(status, MessageStatus::Delivered | MessageStatus::Read);
        // An attempt without an answer arrived all the same.
        let late = known.status == MessageStatus::Queued && known.unanswered && arrived;
        if !astray && !doubtful && (moves || late) {
            known.status = status;
        }
    }

    async fn cancel(&mut self, n: usize) {
        let known = &mut self.messages[n];
        let key = self.queues[known.channel].key;
        let answer = self.ground.store.cancel(key, known.id, self.now).await.expect("the store works");
        if known.status == MessageStatus::Queued && !known.unanswered {
            assert_eq!(answer, Cancelled::Done);
            known.status = MessageStatus::Cancelled;
            (known.number, known.due) = (known.number.abs(), None);
            self.sort();
        } else {
            assert_eq!(answer, Cancelled::TooLate);
        }
    }

    async fn pause(&mut self, channel: usize, pause: bool) {
        let (connected, paused) = (ChannelState::Connected, ChannelState::Paused);
        let (from, to) = if pause { (connected, paused) } else { (paused, connected) };
        let queue = &mut self.queues[channel];
        let moved = self.ground.try_move(queue.key, from, to, None, self.now).await;
        assert_eq!(moved, queue.paused != pause);
        queue.connections += u32::from(queue.paused && !pause);
        queue.paused = pause;
    }

    async fn crash(&mut self) {
        self.ground.reopen().await;
        for known in &mut self.messages {
            if known.holder != Holder::None {
                known.holder = Holder::Dead;
            }
        }
        self.queues.iter_mut().for_each(|queue| queue.orphans = UnheldSending::OwnerCrashed);
    }

    /// The store has each accepted message once, in the order of the numbers, in the state of the model; and only heads
    /// are in flight.
    async fn check(&self) {
        for (channel, queue) in self.queues.iter().enumerate() {
            let rows = self.ground.all(queue.key).await;
            assert!(rows.is_sorted_by(|older, newer| older.seq < newer.seq));
            let stored = rows.iter().map(|row| (row.id, row.status, row.attempts));
            let known = self.messages.iter().filter(|known| known.channel == channel);
            let known = known.map(|known| (known.id, known.status, known.claims));
            assert_eq!(stored.collect::<Vec<_>>(), known.collect::<Vec<_>>(), "channel {channel}");
            self.heads(channel);
        }
    }

    /// Continues without failures until no message is open.
    async fn drain(&mut self) {
        for channel in 0..self.queues.len() {
            if self.queues[channel].paused {
                self.pause(channel, false).await;
            }
        }
        for round in 0.. {
            assert!(round < 20 * (self.messages.len() + 10), "the queue does not drain");
            let mut next = self.promote().await;
            for channel in 0..self.queues.len() {
                for n in self.held(|known| known.channel == channel) {
                    self.settle(n, How::Sent).await;
                }
                let claim = self.claim(channel, 2, 0, true).await;
                let at = if claim.messages.is_empty() { claim.next_at } else { Some(self.now) };
                next = [next, at].into_iter().flatten().min();
            }
            match next {
                Some(at) => self.now = self.now.max(at),
                None => break,
            }
        }
        self.check().await;
        for (channel, queue) in self.queues.iter().enumerate() {
            assert_eq!(self.open(channel).count(), 0, "channel {channel} has an end for each");
            for row in self.ground.all(queue.key).await {
                use MessageStatus::{Cancelled, Expired, Failed, Read};
                let ends = [Read, Failed, Expired, Cancelled].map(|end| row.reached[usize::from(end.number())]);
                assert!(ends.iter().flatten().count() <= 1, "finished twice: {row:?}");
            }
        }
    }
}

pub(super) fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 3_000, ..ProptestConfig::default() }
}

/// Does these things on a store of this engine. `begin` is run when its channels are there, and `end` when all is done.
pub(super) fn keeps_its_promises(
    engine: impl Engine + 'static,
    rules: &[Rule],
    ops: Vec<Op>,
    begin: impl AsyncFnOnce(&Ground),
    end: impl AsyncFnOnce(&Ground),
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut world = World::new(engine, rules).await;
        begin(&world.ground).await;
        for op in ops {
            world.step(op).await;
        }
        world.drain().await;
        end(&world.ground).await;
        world.ground.store.close().await;
    });
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn the_queue_keeps_its_promises(rules in rules(), ops in ops()) {
        keeps_its_promises(SqliteFile::new(), &rules, ops, async |_| {}, async |_| {});
    }
}

proptest! {
    #![proptest_config(config(20))]

    #[test]
    fn the_shared_queue_keeps_its_promises(rules in rules(), ops in ops()) {
        keeps_its_promises(PgDatabase::new(), &rules, ops, async |_| {}, async |_| {});
    }
}
