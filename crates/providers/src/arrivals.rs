//! What every network does with what arrives: the settings that accept it, and what becomes of a message that the store can
//! never take.

use async_trait::async_trait;
use recado_domain::channel::OnOff;
use recado_domain::incoming::{Arrival, Arrivals, Content, NewIncoming, What};
use recado_store::StoreError;

/// Whether the settings of a channel accept this arrival.
pub fn takes(arrival: &Arrival, groups: OnOff, own_device: OnOff) -> bool {
    (arrival.group.is_none() || groups.is_on()) && (!arrival.from_me || own_device.is_on())
}

/// Where a part is stored.
#[async_trait]
pub trait Receives: Sync {
    /// Stores a part, or nothing of it.
    async fn receive(&self, arrivals: Arrivals) -> Result<(), StoreError>;
}

/// Stores a part. If the store refuses one of its messages for good, that message is stored in a simpler form, and the
/// others as usual. Otherwise the network would repeat it for days, and later messages would wait. A failure of the store is
/// returned.
pub async fn store(inbox: &impl Receives, arrivals: Arrivals) -> Result<(), StoreError> {
    match inbox.receive(arrivals.clone()).await {
        Err(StoreError::Refused(_)) => {}
        other => return other,
    }
    let Arrivals { channel, number, business, windowed, arrivals } = arrivals;
    let alone = |arrival: Arrival| Arrivals {
        channel,
        number: number.clone(),
        business: business.clone(),
        windowed,
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
        Arrivals { channel: 1, number: None, business: None, windowed: true, arrivals }
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
