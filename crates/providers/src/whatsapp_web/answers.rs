//! The state that a connection keeps about its messages: the waiters for answers, and what was learned about recipients'
//! devices.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use recado_domain::clock::{Millis, millis};
use recado_domain::party::{Party, Recipient};
use tokio::sync::oneshot;

/// The most message ids without a device that are remembered. Their answers come within moments.
const REMEMBERED: usize = 64;
/// How long a useless refresh of a recipient's devices is remembered, and for how many recipients.
const MISSED_FOR: Duration = Duration::from_hours(24);
const MISSED_AT_MOST: usize = 256;

/// The network's answer to a message.
pub enum Answer {
    Accepted,
    Refused { code: String },
}

/// By message id: the recipient, and the waiter for the answer.
type Waiting = Mutex<HashMap<String, (Recipient, oneshot::Sender<Answer>)>>;

/// A wait for an answer. Dropping it ends the wait.
pub struct Awaited<'a> {
    pub receiver: oneshot::Receiver<Answer>,
    id: String,
    waiting: &'a Waiting,
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        lock(self.waiting).remove(&self.id);
    }
}

#[derive(Default)]
pub struct Answers {
    waiting: Waiting,
    /// Ids of messages that were sent to no device of their recipient. An acknowledgement of such a message proves nothing.
    without_device: Mutex<VecDeque<String>>,
    /// Recipients with devices that the network counts but does not list, and the time when that was noticed.
    missed: Mutex<VecDeque<(String, Millis)>>,
}

impl Answers {
    /// Starts to wait for the answer to a message.
    pub fn expect(&self, id: &str, to: Recipient) -> Awaited<'_> {
        let (sender, receiver) = oneshot::channel();
        lock(&self.waiting).insert(id.to_owned(), (to, sender));
        Awaited { receiver, id: id.to_owned(), waiting: &self.waiting }
    }

    /// Passes the answer to its waiter. Returns whether there was one.
    pub fn resolve(&self, id: &str, answer: Answer) -> bool {
        let waiting = lock(&self.waiting).remove(id);
        waiting.is_some_and(|(_, waiting)| waiting.send(answer).is_ok())
    }

    /// A person reports that a message was delivered. If the person is the recipient, the network has accepted the message.
    pub fn resolve_delivered(&self, id: &str, from: &Party) {
        let mut answers = lock(&self.waiting);
        if answers.get(id).is_some_and(|(to, _)| from.is_recipient(to))
            && let Some((_, waiting)) = answers.remove(id)
        {
            // The waiter may have gone.
            let _ = waiting.send(Answer::Accepted);
        }
    }

    /// The message was sent to no device of its recipient.
    pub fn note_no_device(&self, id: &str) {
        let mut without_device = lock(&self.without_device);
        if without_device.len() == REMEMBERED {
            without_device.pop_front();
        }
        without_device.push_back(id.to_owned());
    }

    /// The message was sent to a device, perhaps after a try that reached none.
    pub fn note_device(&self, id: &str) {
        lock(&self.without_device).retain(|other| other != id);
    }

    /// Whether the last try reached no device.
    pub fn had_no_device(&self, id: &str) -> bool {
        lock(&self.without_device).iter().any(|other| other == id)
    }

    /// Whether a recent refresh of the recipient's devices was useless: a device without keys, for instance.
    pub fn is_missed(&self, recipient: &str, now: Millis) -> bool {
        let mut missed = lock(&self.missed);
        missed.retain(|(_, at)| now - at < millis(MISSED_FOR));
        missed.iter().any(|(other, _)| other == recipient)
    }

    /// Records a useless refresh of the recipient's devices.
    pub fn note_missed(&self, recipient: &str, now: Millis) {
        let mut missed = lock(&self.missed);
        if missed.len() == MISSED_AT_MOST {
            missed.pop_front();
        }
        missed.push_back((recipient.to_owned(), now));
    }
}

fn lock<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}
