//! What is remembered of a line's messages from one moment to the next: who waits for which answer, and what was found of
//! the devices that they went to.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use recado_domain::clock::{Millis, millis};
use recado_domain::party::{Party, Recipient};
use tokio::sync::oneshot;

/// Messages of which it is remembered that they reached nobody. Their answers come within moments.
const REMEMBERED: usize = 64;
/// How long it is remembered that asking for a recipient's devices did not help, and of how many recipients.
const MISSED_FOR: Duration = Duration::from_hours(24);
const MISSED_AT_MOST: usize = 256;

/// The network's answer to a message.
pub enum Answer {
    Taken,
    Refused { code: String },
}

/// By the message's id: whom it goes to, and who waits for the answer.
type Waiting = Mutex<HashMap<String, (Recipient, oneshot::Sender<Answer>)>>;

/// An answer that somebody waits for; nobody waits for it any more when this goes.
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
    /// Messages that were sent to no device of their recipient: that the network takes such a one says nothing.
    nobody: Mutex<VecDeque<String>>,
    /// Recipients of whose devices the network knows more than it tells, with the time when that showed.
    missed: Mutex<VecDeque<(String, Millis)>>,
}

impl Answers {
    /// Waits for the answer to a message from now on.
    pub fn expect(&self, id: &str, to: Recipient) -> Awaited<'_> {
        let (sender, receiver) = oneshot::channel();
        lock(&self.waiting).insert(id.to_owned(), (to, sender));
        Awaited { receiver, id: id.to_owned(), waiting: &self.waiting }
    }

    /// An answer came; whether somebody waited for it.
    pub fn came(&self, id: &str, answer: Answer) -> bool {
        let waiting = lock(&self.waiting).remove(id);
        waiting.is_some_and(|(_, waiting)| waiting.send(answer).is_ok())
    }

    /// Somebody says that they have a message. Where they are its recipient, the network has taken it.
    pub fn arrived(&self, id: &str, from: &Party) {
        let mut answers = lock(&self.waiting);
        if answers.get(id).is_some_and(|(to, _)| from.is_recipient(to))
            && let Some((_, waiting)) = answers.remove(id)
        {
            // Who waited may have gone.
            let _ = waiting.send(Answer::Taken);
        }
    }

    /// A message was sent to no device of its recipient.
    pub fn reaches_nobody(&self, id: &str) {
        let mut nobody = lock(&self.nobody);
        if nobody.len() == REMEMBERED {
            nobody.pop_front();
        }
        nobody.push_back(id.to_owned());
    }

    /// A message was sent to some device, perhaps after it was sent to none.
    pub fn reaches_somebody(&self, id: &str) {
        lock(&self.nobody).retain(|other| other != id);
    }

    /// Whether the message was last sent to no device.
    pub fn reached_nobody(&self, id: &str) -> bool {
        lock(&self.nobody).iter().any(|other| other == id)
    }

    /// Whether asking for the recipient's devices did not help of late: one of them has no keys, for instance.
    pub fn misses(&self, recipient: &str, now: Millis) -> bool {
        let mut missed = lock(&self.missed);
        missed.retain(|(_, at)| now - at < millis(MISSED_FOR));
        missed.iter().any(|(other, _)| other == recipient)
    }

    /// Asking for the recipient's devices did not help.
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
