//! Follows the commits of the store: the directory takes over what changed, and the dispatcher hears of new work.

use std::sync::Arc;

use recado_store::commits::{Change, Follow};
use recado_store::lease::WakeReason;

use crate::directory::Directory;
use crate::dispatch::Dispatcher;

/// What is kept in memory of the store.
pub struct InMemory {
    pub directory: Arc<Directory>,
    pub dispatcher: Dispatcher,
}

impl Follow for InMemory {
    fn committed(&self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Accepted(channel) => self.dispatcher.tell(channel, WakeReason::Accepted),
                Change::Work(channel) => self.dispatcher.wake(channel),
                Change::DefaultCountry(institution, country) => {
                    self.directory.set_default_country(institution, country);
                }
                Change::Key(key) => self.directory.take_key(*key),
                Change::Revoked(id) => self.directory.revoke(id),
                Change::Channel(channel) => {
                    self.directory.add_channel(&channel);
                    self.dispatcher.wake(channel.key);
                }
            }
        }
    }
}
