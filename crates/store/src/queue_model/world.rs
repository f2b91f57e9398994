//! The model of the queues, and what each operation does to it.

use std::collections::HashMap;

use recado_domain::channel::{ChannelKey, ChannelState};
use recado_domain::clock::Millis;
use recado_domain::ids::MessageId;
use recado_domain::message::{Cancelled, Enqueued, NewMessage};
use recado_domain::queue::{MessageRef, Receipt, UnheldSending, UnknownOutcomePolicy};
use recado_domain::status::MessageStatus;

use super::ops::{How, Op, Rule};
use super::{BACKLOG_CAP, RECIPIENTS};
use crate::fixtures::{Engine, Ground, NOW};

/// The holder of a claimed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    None,
    Held,
    /// The claim's answer never came.
    Lost,
    /// The process ended over it.
    Dead,
}

pub(super) struct Known {
    pub(super) id: MessageId,
    /// Its place in the order of the queue; while it waits for its time, in the order of acceptance and with a minus.
    pub(super) number: i64,
    /// When it is queued, while it waits for that.
    pub(super) due: Option<Millis>,
    pub(super) channel: usize,
    pub(super) recipient: usize,
    pub(super) expires_at: Millis,
    pub(super) run_at: Millis,
    pub(super) status: MessageStatus,
    pub(super) claims: u32,
    pub(super) holder: Holder,
    /// Sent, and not reported as refused since.
    pub(super) maybe_sent: bool,
    /// It is `UNKNOWN`, and queued again then.
    pub(super) resend_at: Option<Millis>,
    /// The message was queued again, so it may be before others of its queue that were sent meanwhile.
    pub(super) queued_again: bool,
    /// An orphan of a crashed owner, or a message whose answer was lost: it may have arrived, so it never ends as
    /// unsent.
    pub(super) unanswered: bool,
    /// Under which of the channel's connections it was last sent.
    pub(super) connection: u32,
}

pub(super) struct ModelQueue {
    pub(super) key: ChannelKey,
    pub(super) rule: Rule,
    pub(super) orphans: UnheldSending,
    pub(super) paused: bool,
    /// How often it was connected.
    pub(super) connections: u32,
    pub(super) next_send_at: Millis,
    /// The times of the sends to each recipient.
    pub(super) sends: [Vec<Millis>; RECIPIENTS.len()],
}

pub(super) struct World {
    pub(super) ground: Ground,
    pub(super) now: Millis,
    pub(super) queues: Vec<ModelQueue>,
    /// By their numbers.
    pub(super) messages: Vec<Known>,
    /// The number of given numbers.
    pub(super) numbers: i64,
    /// The message of each key, with its channel and recipient.
    pub(super) keys: HashMap<u8, (MessageId, usize, usize)>,
}

impl World {
    pub(super) async fn new(engine: impl Engine + 'static, rules: &[Rule]) -> Self {
        let ground = Ground::on(engine).await;
        let mut queues = Vec::new();
        for (n, rule) in rules.iter().enumerate() {
            let (key, sends) = (ground.channel_of(rule.kind, &format!("canal-{n}")).await, Default::default());
            let (orphans, paused, connections) = (UnheldSending::OwnerCrashed, false, 1);
            queues.push(ModelQueue { key, rule: *rule, orphans, paused, connections, next_send_at: 0, sends });
        }
        Self { ground, now: NOW, queues, messages: Vec::new(), numbers: 0, keys: HashMap::new() }
    }

    pub(super) async fn step(&mut self, op: Op) {
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

    pub(super) fn held(&self, filter: impl Fn(&Known) -> bool) -> Vec<usize> {
        let held = |n: &usize| self.messages[*n].holder == Holder::Held && filter(&self.messages[*n]);
        (0..self.messages.len()).filter(held).collect()
    }

    pub(super) fn open(&self, channel: usize) -> impl Iterator<Item = &Known> {
        self.messages.iter().filter(move |known| known.channel == channel && known.status.is_open())
    }

    /// The same without scheduled messages.
    pub(super) fn queued(&self, channel: usize) -> impl Iterator<Item = &Known> {
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
    pub(super) async fn promote(&mut self) -> Option<Millis> {
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

    pub(super) async fn settle(&mut self, n: usize, how: How) {
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

    pub(super) async fn pause(&mut self, channel: usize, pause: bool) {
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
}
