//! Received messages of a callback, for the channels of the number that received them.

use async_trait::async_trait;
use recado_domain::channel::types::cloud_api::Settings;
use recado_domain::channel::{ChannelKey, ChannelSettings};
use recado_domain::clock::Millis;
use recado_domain::incoming::{ARRIVALS_AT_ONCE, Arrival, Arrivals};
use recado_providers::arrivals::{Receives, takes};
use recado_providers::cloud_api::Link;
use recado_providers::cloud_api::incoming::OfNumber;
use recado_providers::refused::{self, Keeper, NotKept};
use recado_store::StoreError;

use super::Address;
use crate::api::error::ApiError;
use crate::gateway::Gateway;

/// What arrived at one number, and the channels that get it.
pub(super) struct Delivered {
    of: OfNumber,
    channels: Vec<Channel>,
}

struct Channel {
    key: ChannelKey,
    business: String,
    settings: Settings,
}

impl Delivered {
    /// How many arrivals will be stored.
    pub(super) fn count(&self) -> usize {
        self.of.arrivals.len() * self.channels.len()
    }
}

/// The channels whose app signed the callback, for each number in it.
pub(super) fn of(gateway: &Gateway, address: &Address, app: &Link, received: Vec<OfNumber>) -> Vec<Delivered> {
    let channel = |key: ChannelKey, link: &Link| {
        let entry = gateway.directory.channel(key).filter(|entry| !entry.is_deleted())?;
        let settings: ChannelSettings = entry.settings();
        Some(Channel { key, business: link.business_account_id().to_owned(), settings: settings.into() })
    };
    let mut delivered = Vec::new();
    for of in received {
        if of.unreadable > 0 {
            tracing::warn!(unreadable = of.unreadable, "messages of unknown form stored as they are");
        }
        let linked = address.of_number(&of.phone_number_id).into_iter().filter(|(_, link)| link.is_of_the_app_of(app));
        let channels = linked.filter_map(|(key, link)| channel(key, &link)).collect();
        delivered.push(Delivered { of, channels });
    }
    delivered
}

/// Stores all parts, one after the other, so that the copies for several channels are never in memory together. After
/// an error Meta repeats the callback, and the store recognises the parts that it has. What the store does not take for one
/// channel keeps the parts of no other channel from being stored. Returns the first error.
pub(super) async fn receive(gateway: &Gateway, delivered: &[Delivered], now: Millis) -> Result<(), ApiError> {
    let mut first = None;
    for Delivered { of, channels } in delivered {
        for channel in channels {
            for part in of.arrivals.chunks(ARRIVALS_AT_ONCE) {
                let arrivals: Vec<_> = part.iter().filter(|arrival| channel.takes(arrival)).cloned().collect();
                if arrivals.is_empty() {
                    continue;
                }
                let arrivals = Arrivals {
                    channel: channel.key,
                    number: of.number.clone(),
                    business: Some(channel.business.clone()),
                    windowed: true,
                    arrivals,
                };
                // What the store refuses is kept: Meta would repeat the whole callback for days.
                match refused::receive(&Inbox { gateway, now }, keeper(gateway), arrivals).await {
                    Ok(()) => {}
                    Err(NotKept::Full) => {
                        first.get_or_insert(ApiError::Unavailable);
                    }
                    // The channel's other parts would only be refused in the same way, after another wait.
                    Err(NotKept::Store(error)) => {
                        first.get_or_insert_with(|| error.into());
                        break;
                    }
                }
            }
        }
    }
    first.map_or(Ok(()), Err)
}

/// Meta's own form of a message holds no keys.
fn keeper(gateway: &Gateway) -> Keeper<'_> {
    let (store, secrets) = (&*gateway.store, &*gateway.secrets);
    Keeper { store, secrets, clock: &*gateway.clock, entropy: &*gateway.entropy, seals: false }
}

struct Inbox<'a> {
    gateway: &'a Gateway,
    now: Millis,
}

#[async_trait]
impl Receives for Inbox<'_> {
    async fn receive(&self, arrivals: Arrivals) -> Result<(), StoreError> {
        self.gateway.store.receive(arrivals, self.now).await.map(drop)
    }
}

impl Channel {
    /// Whether the settings of the channel accept this arrival.
    fn takes(&self, arrival: &Arrival) -> bool {
        takes(arrival, self.settings.groups, self.settings.own_device)
    }
}
