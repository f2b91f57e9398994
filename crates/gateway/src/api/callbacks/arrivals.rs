//! Received messages of a callback, for the channels of the number that received them.

use async_trait::async_trait;
use recado_domain::channel::types::cloud_api::Settings;
use recado_domain::channel::{ChannelKey, ChannelSettings};
use recado_domain::clock::Millis;
use recado_domain::incoming::{ARRIVALS_AT_ONCE, Arrival, Arrivals, Content, NewIncoming, Rules, What};
use recado_providers::cloud_api::Link;
use recado_providers::cloud_api::incoming::OfNumber;
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
/// an error Meta repeats the callback, and the store recognises the parts that it has.
pub(super) async fn receive(gateway: &Gateway, delivered: &[Delivered], now: Millis) -> Result<(), ApiError> {
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
                    rules: Rules::default(),
                    arrivals,
                };
                store(&Inbox { gateway, now }, arrivals).await?;
            }
        }
    }
    Ok(())
}

/// Where a part is stored.
#[async_trait]
trait Receives: Sync {
    async fn receive(&self, arrivals: Arrivals) -> Result<(), StoreError>;
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

/// Stores a part. If the store refuses one of its messages for good, that message is stored in a simpler form, and the
/// others as usual. Otherwise Meta would repeat the callback for days, and later messages would wait. A failure of the
/// store is returned.
async fn store(inbox: &impl Receives, arrivals: Arrivals) -> Result<(), StoreError> {
    match inbox.receive(arrivals.clone()).await {
        Err(StoreError::Refused(_)) => {}
        other => return other,
    }
    let Arrivals { channel, number, business, windowed, rules, arrivals } = arrivals;
    let alone = |arrival: Arrival| Arrivals {
        channel,
        number: number.clone(),
        business: business.clone(),
        windowed,
        rules: rules.clone(),
        arrivals: vec![arrival],
    };
    for arrival in arrivals {
        let simple = simplified(&arrival);
        match (inbox.receive(alone(arrival)).await, simple) {
            (Err(StoreError::Refused(error)), Some(simple)) => {
                tracing::error!(error, "message refused by the store; only its text is kept");
                match inbox.receive(alone(simple)).await {
                    Err(StoreError::Refused(error)) => tracing::error!(error, "message refused by the store"),
                    other => other?,
                }
            }
            (Err(StoreError::Refused(error)), None) => {
                tracing::error!(error, "change of a message refused by the store");
            }
            (other, _) => other?,
        }
    }
    Ok(())
}

/// The message with its text alone; `None` for a change of a message.
fn simplified(arrival: &Arrival) -> Option<Arrival> {
    let What::Message(new) = &arrival.what else { return None };
    let kind = new.content.name().to_owned();
    let content = Content::Other { kind, text: None };
    let mut simple = NewIncoming::new(content, new.text.clone());
    simple.raw.clone_from(&new.raw);
    Some(Arrival { what: What::Message(Box::new(simple)), ..arrival.clone() })
}

impl Channel {
    /// Whether the settings of the channel accept this arrival.
    fn takes(&self, arrival: &Arrival) -> bool {
        (arrival.group.is_none() || self.settings.groups.is_on())
            && (!arrival.from_me || self.settings.own_device.is_on())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use recado_domain::incoming::SenderIds;

    use super::*;

    fn message(id: &str) -> Arrival {
        Arrival {
            network_id: id.parse().expect("an id"),
            group: None,
            person: SenderIds::of_phone("5511977776666"),
            from_me: false,
            sent_at: 1,
            what: What::Message(Box::new(NewIncoming::new(Content::text(), id))),
        }
    }

    fn part(ids: &[&str]) -> Arrivals {
        let arrivals = ids.iter().map(|id| message(id)).collect();
        Arrivals { channel: 1, number: None, business: None, windowed: true, rules: Rules::default(), arrivals }
    }

    /// A store that refuses texts of "bad", and everything of "worse".
    #[derive(Default)]
    struct Strict {
        stored: Mutex<Vec<(String, &'static str)>>,
        is_full: bool,
    }

    #[async_trait]
    impl Receives for Strict {
        async fn receive(&self, arrivals: Arrivals) -> Result<(), StoreError> {
            if self.is_full {
                return Err(StoreError::Overloaded);
            }
            let mut batch = Vec::new();
            for arrival in &arrivals.arrivals {
                let What::Message(new) = &arrival.what else { panic!("no message") };
                let (id, kind) = (arrival.network_id.as_str().to_owned(), new.content.name());
                if id == "worse" || (id == "bad" && kind == "text") {
                    return Err(StoreError::Refused(id));
                }
                batch.push((id, kind));
            }
            self.stored.lock().expect("not poisoned").extend(batch);
            Ok(())
        }
    }

    async fn stored(ids: &[&str]) -> Vec<(String, &'static str)> {
        let strict = Strict::default();
        store(&strict, part(ids)).await.expect("everything that can be stored");
        strict.stored.into_inner().expect("not poisoned")
    }

    #[tokio::test]
    async fn a_message_that_the_store_refuses_concerns_itself_alone() {
        let of =
            |rows: &[(&str, &'static str)]| rows.iter().map(|(id, kind)| ((*id).to_owned(), *kind)).collect::<Vec<_>>();
        assert_eq!(stored(&["a", "b"]).await, of(&[("a", "text"), ("b", "text")]));
        assert_eq!(stored(&["a", "bad", "worse", "b"]).await, of(&[("a", "text"), ("bad", "other"), ("b", "text")]));
        assert_eq!(stored(&["bad"]).await, of(&[("bad", "other")]));
        assert_eq!(stored(&["worse"]).await, of(&[]));
    }

    #[tokio::test]
    async fn a_failure_of_the_store_is_returned() {
        let full = Strict { is_full: true, ..Strict::default() };
        assert!(store(&full, part(&["a", "b"])).await.is_err());
    }
}
