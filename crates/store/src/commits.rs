//! What a commit changes that is also kept in memory: which channels have work, and the institutions, keys and
//! channels of the directory. The store tells it after each commit, so that none of it depends on the request that asked for the change.

use std::sync::{Arc, OnceLock};

use recado_domain::channel::{Channel, ChannelKey};
use recado_domain::ids::{ApiKeyId, InstitutionId};
use recado_domain::institution::ApiKey;
use recado_domain::phone::DefaultCountry;

/// One consequence of a commit.
#[derive(Debug, Clone)]
pub enum Change {
    /// A message was accepted, or a repeated call found it accepted. The message stands behind all others.
    Accepted(ChannelKey),
    /// A message was scheduled, or is due at an earlier time than before.
    Scheduled,
    /// A message of the channel was cancelled, or the channel changed its state: what waited may be sent now.
    Work(ChannelKey),
    /// The default country of an institution was set.
    DefaultCountry(InstitutionId, DefaultCountry),
    /// A key was created.
    Key(Box<ApiKey>),
    /// A key was revoked.
    Revoked(ApiKeyId),
    /// A channel was created, changed or deleted.
    Channel(Box<Channel>),
}

/// Takes over what was committed.
pub trait Follow: Send + Sync + 'static {
    /// Called once for each commit, before its callers are answered. Commits of keys and channels come in their order: the
    /// gateway makes one such change at a time. It may be called on a thread outside the runtime, and must not block.
    fn committed(&self, changes: Vec<Change>);
}

/// Who follows the commits of a store; before that is set nobody does.
#[derive(Clone, Default)]
pub struct Follower(Arc<OnceLock<Arc<dyn Follow>>>);

impl Follower {
    pub fn set(&self, follow: Arc<dyn Follow>) {
        // A store has one gateway: the first that follows stays.
        let _ = self.0.set(follow);
    }

    pub fn tell(&self, changes: Vec<Change>) {
        if let Some(follow) = self.0.get().filter(|_| !changes.is_empty()) {
            follow.committed(changes);
        }
    }
}
