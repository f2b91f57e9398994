//! Changes of the data that is also kept in memory: which channels have work, and the institutions, keys and channels
//! of the directory. The store reports them after each commit, so none of them depends on the request that caused the
//! change.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use recado_domain::channel::{Channel, ChannelKey, ChannelState};
use recado_domain::clock::Millis;
use recado_domain::ids::{ApiKeyId, InstitutionId, MessageId};
use recado_domain::institution::ApiKey;
use recado_domain::phone::DefaultCountry;
use recado_domain::queue::Transition;
use recado_domain::status::MessageStatus;

/// One consequence of a commit.
#[derive(Debug, Clone)]
pub enum Change {
    /// A message was accepted, or a repeated call found it accepted. The message is at the end of its queue.
    Accepted(ChannelKey),
    /// A message was scheduled, or is due at an earlier time than before.
    Scheduled,
    /// Messages with files were received.
    Files(ChannelKey, Vec<MessageId>),
    /// A message of the channel was cancelled, or the channel changed its state: waiting messages may be due now.
    Work(ChannelKey),
    /// Received messages were marked as read, and their read signals have to be sent.
    Read,
    /// The default country of an institution was set.
    DefaultCountry(InstitutionId, DefaultCountry),
    /// A key was created.
    Key(Box<ApiKey>),
    /// A key was revoked.
    Revoked(ApiKeyId),
    /// A channel was created, changed or deleted.
    Channel(Box<Channel>),
}

/// What a commit moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// A message of this channel reached a status. `after`: how long after it was handed to its network, if a receipt says
    /// so.
    Message { channel: ChannelKey, status: MessageStatus, after: Option<Millis> },
    /// The channel reached a state.
    Channel { channel: ChannelKey, state: ChannelState },
}

impl Reached {
    /// What a transition reaches.
    pub fn by(transition: &Transition<'_>) -> impl Iterator<Item = Self> {
        let channel = transition.channel();
        transition.reaches().map(move |(status, after)| Self::Message { channel, status, after })
    }
}

/// Receives the changes of each commit.
pub trait Follow: Send + Sync + 'static {
    /// Called once for each commit, before its callers are answered. Commits of keys and channels arrive in order,
    /// because the gateway makes one such change at a time. The call may come from a thread outside the runtime, and
    /// must not block.
    fn committed(&self, changes: Vec<Change>);
    /// Called once for each commit that moved messages to other statuses, or channels to other states. The same rules apply.
    fn reached(&self, _: Vec<Reached>) {}
    /// Called for each commit of a writing thread, with its duration and the number of its calls.
    fn measured(&self, _: Duration, _: usize) {}
    /// A writing thread works again after a failure: it has opened its file again.
    fn reopened(&self) {}
}

/// The follower of a store, once it is set.
#[derive(Clone, Default)]
pub struct Follower(Arc<OnceLock<Arc<dyn Follow>>>);

impl Follower {
    pub fn set(&self, follow: Arc<dyn Follow>) {
        // A store has one gateway: the first follower stays.
        let _ = self.0.set(follow);
    }

    pub fn measured(&self, time: Duration, calls: usize) {
        if let Some(follow) = self.0.get() {
            follow.measured(time, calls);
        }
    }

    pub fn reopened(&self) {
        if let Some(follow) = self.0.get() {
            follow.reopened();
        }
    }

    pub fn reached(&self, reached: Vec<Reached>) {
        if let Some(follow) = self.0.get().filter(|_| !reached.is_empty()) {
            follow.reached(reached);
        }
    }

    pub fn notify(&self, changes: Vec<Change>) {
        if let Some(follow) = self.0.get().filter(|_| !changes.is_empty()) {
            follow.committed(changes);
        }
    }
}
