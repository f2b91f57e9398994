//! A network with scripted answers.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use recado_domain::channel::{ChannelRef, ChannelSettings, ChannelType};
use recado_domain::clock::millis;
use recado_domain::conversation::ReadSignal;
use recado_domain::ids::MessageId;
use recado_domain::pacing::Pacing;
use recado_domain::phone::PhoneNumber;
use recado_domain::queue::{Claimed, UnknownOutcomePolicy};
use recado_providers::{ChannelDriver, ReadOutcome, SendOutcome};
use tokio::sync::watch;

/// The outcome of one send.
pub(super) enum Act {
    Answer(SendOutcome),
    Panic,
}

pub(super) struct Network {
    kind: ChannelType,
    max_in_flight: usize,
    unanswered: UnknownOutcomePolicy,
    rest: Duration,
    /// By recipient. Without an entry, the network accepts the message.
    script: Mutex<HashMap<String, VecDeque<Act>>>,
    /// Every sent message, in order.
    sent: watch::Sender<Vec<Claimed>>,
    /// Whether the network answers. Otherwise all sends stay in flight.
    answers: watch::Sender<bool>,
    in_flight: Mutex<InFlight>,
}

#[derive(Default, Clone, Copy)]
struct InFlight {
    now: usize,
    most: usize,
}

impl Network {
    /// A network like WhatsApp Web: one message at a time, and re-sends are recognised.
    pub(super) fn one_by_one() -> Self {
        Self {
            kind: ChannelType::Sandbox,
            max_in_flight: 1,
            unanswered: UnknownOutcomePolicy::Resend,
            rest: Duration::ZERO,
            script: Mutex::default(),
            sent: watch::Sender::default(),
            answers: watch::Sender::new(true),
            in_flight: Mutex::default(),
        }
    }

    /// WhatsApp Web itself: the outcome of a message without an answer is unknown.
    pub(super) fn web() -> Self {
        Self { kind: ChannelType::WhatsAppWeb, ..Self::one_by_one() }
    }

    /// A network like the Cloud API: several recipients concurrently, and a re-send arrives twice.
    pub(super) fn side_by_side(max_in_flight: usize) -> Self {
        let unanswered = UnknownOutcomePolicy::MarkUnknown(None);
        Self { kind: ChannelType::CloudApi, max_in_flight, unanswered, ..Self::one_by_one() }
    }

    /// The same, with unknown messages sent again after a while.
    pub(super) fn resending_after(self, wait: Duration) -> Self {
        Self { unanswered: UnknownOutcomePolicy::MarkUnknown(Some(millis(wait))), ..self }
    }

    /// The type of its channels.
    pub(super) fn kind(&self) -> ChannelType {
        self.kind
    }

    /// The same with a send interval.
    pub(super) fn with_interval(self, rest: Duration) -> Self {
        Self { rest, ..self }
    }

    pub(super) fn act(&self, recipient: &str, acts: impl IntoIterator<Item = Act>) {
        self.script.lock().expect("no panic").entry(recipient.to_owned()).or_default().extend(acts);
    }

    pub(super) fn answer(&self, answers: bool) {
        self.answers.send_replace(answers);
    }

    pub(super) fn sent(&self) -> Vec<Claimed> {
        self.sent.borrow().clone()
    }

    /// Waits until so many messages were sent, and returns all of them.
    pub(super) async fn until_sent(&self, count: usize) -> Vec<Claimed> {
        super::within_timeout(self.sent.subscribe().wait_for(|sent| sent.len() >= count))
            .await
            .expect("it lives")
            .clone()
    }

    /// Waits until this message was sent.
    pub(super) async fn until_submitted(&self, id: MessageId) {
        let submitted = |sent: &Vec<Claimed>| sent.iter().any(|message| message.id == id);
        super::within_timeout(self.sent.subscribe().wait_for(submitted)).await.expect("it lives");
    }

    pub(super) fn most_in_flight(&self) -> usize {
        self.in_flight.lock().expect("no panic").most
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.lock().expect("no panic").now
    }
}

/// Counts a send as finished, however it ends.
struct Flight<'a>(&'a Network);

impl<'a> Flight<'a> {
    fn begin(network: &'a Network) -> Self {
        let mut in_flight = network.in_flight.lock().expect("no panic");
        in_flight.now += 1;
        in_flight.most = in_flight.most.max(in_flight.now);
        Self(network)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.lock().expect("no panic").now -= 1;
    }
}

#[async_trait]
impl ChannelDriver for Network {
    fn max_in_flight(&self, _: &ChannelSettings) -> usize {
        self.max_in_flight
    }

    fn pacing(&self, _: &ChannelSettings) -> Pacing {
        Pacing { min: self.rest, max: self.rest }
    }

    fn unanswered(&self, _: &ChannelSettings) -> UnknownOutcomePolicy {
        self.unanswered
    }

    fn timeout_is_failure(&self) -> bool {
        self.kind == ChannelType::Sandbox
    }

    async fn known_account(&self, _: &ChannelRef, _: &PhoneNumber) -> Option<String> {
        None
    }

    async fn mark_read(&self, _: &ChannelRef, _: &ReadSignal) -> ReadOutcome {
        ReadOutcome::Refused
    }

    async fn send(&self, _: &ChannelRef, message: &Claimed) -> SendOutcome {
        let _flight = Flight::begin(self);
        let act = self.script.lock().expect("no panic").get_mut(&message.recipient).and_then(VecDeque::pop_front);
        self.sent.send_modify(|sent| sent.push(message.clone()));
        let answers = self.answers.subscribe().wait_for(|answers| *answers).await.is_ok();
        assert!(answers, "the network lives as long as its sends");
        match act {
            Some(Act::Answer(outcome)) => outcome,
            Some(Act::Panic) => panic!("a bug in a provider"),
            None => SendOutcome::Accepted { account: None, remote_id: None, rendition: None },
        }
    }
}

pub(super) fn temporary_failure() -> Act {
    Act::Answer(SendOutcome::TemporaryFailure { code: "SLOW_DOWN", message: "Devagar.".to_owned() })
}

pub(super) fn no_answer() -> Act {
    Act::Answer(SendOutcome::UnknownOutcome)
}

pub(super) fn channel_failure(wait: Duration) -> Act {
    Act::Answer(SendOutcome::ChannelUnavailable { wait })
}
