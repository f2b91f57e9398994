//! Follows the commits of the store: the directory takes over what changed, and the dispatcher hears of new work.

use std::sync::Arc;
use std::time::Duration;

use recado_store::commits::{Change, Follow};
use recado_store::{Health, StoreError};

use crate::directory::Directory;
use crate::dispatch::{Dispatcher, News};
use crate::gateway::Gateway;
use crate::operations::links;

/// The wait before rows that could not be read after an outage are asked for again.
const RETRY: Duration = Duration::from_millis(200);

/// What is kept in memory of the store.
pub struct InMemory {
    pub directory: Arc<Directory>,
    pub dispatcher: Dispatcher,
}

impl Follow for InMemory {
    fn committed(&self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Accepted(channel) => self.dispatcher.tell(channel, News::Accepted),
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

/// Reads everything anew each time that the store comes back: a commit whose answer was lost may have been kept, and
/// nobody was told of it. Where nodes share a store, `cluster` does the same.
pub async fn follow_outages(gateway: Arc<Gateway>) {
    let mut health = gateway.store.health();
    loop {
        tokio::select! {
            () = gateway.stop.cancelled() => return,
            // Each change counts: a store that comes back at once may be up again before this task looks.
            changed = health.changed() => if changed.is_err() { return },
        }
        loop {
            tokio::select! {
                () = gateway.stop.cancelled() => return,
                changed = health.wait_for(|health| *health == Health::Up) => if changed.is_err() { return },
            }
            match read_anew(&gateway).await {
                Ok(()) => break,
                Err(error) => tracing::debug!(%error, "keys and channels could not be read; the next try follows"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

async fn read_anew(gateway: &Gateway) -> Result<(), StoreError> {
    let _one_at_a_time = gateway.changes.lock().await;
    let keys = gateway.store.api_keys().await?;
    // Read behind the keys and taken over before them: a key is never known here without its default country.
    for institution in gateway.store.institutions().await? {
        gateway.directory.set_default_country(institution.id, institution.default_country);
    }
    keys.into_iter().for_each(|key| gateway.directory.take_key(key));
    let channels = gateway.store.channels().await?;
    channels.iter().for_each(|channel| gateway.directory.add_channel(channel));
    if gateway.cluster.is_none() {
        let keys: Vec<_> = channels.iter().map(|channel| channel.key).collect();
        links::take_over(gateway, &keys, &gateway.store.links().await?);
        let web = gateway.providers.whatsapp_web().into_iter();
        let deleted = channels.iter().filter(|channel| channel.deleted_at.is_some());
        // A phone that is linked no more ends its session by itself; nobody waits for that.
        web.for_each(|web| deleted.clone().for_each(|channel| drop(web.forget(channel.key))));
        gateway.dispatcher.wake_all().await?;
    }
    Ok(())
}
