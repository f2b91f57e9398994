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

/// Stores a part, and returns the places of what the store refuses although it works. Everything else of the part is stored.
/// With `simplifies`, a message that is refused is stored in a simpler form, if the store takes that. A failure of the store is
/// returned.
pub async fn store(inbox: &impl Receives, arrivals: Arrivals, simplifies: bool) -> Result<Vec<usize>, StoreError> {
    match inbox.receive(arrivals.clone()).await {
        Ok(()) => return Ok(Vec::new()),
        Err(StoreError::Refused(_)) => {}
        Err(error) => return Err(error),
    }
    let Arrivals { channel, number, business, windowed, arrivals } = arrivals;
    let alone = |arrival: Arrival| Arrivals {
        channel,
        number: number.clone(),
        business: business.clone(),
        windowed,
        arrivals: vec![arrival],
    };
    let mut refused = Vec::new();
    for (place, arrival) in arrivals.into_iter().enumerate() {
        let simple = simplified(&arrival).filter(|_| simplifies);
        match (inbox.receive(alone(arrival)).await, simple) {
            (Err(StoreError::Refused(error)), Some(simple)) => {
                tracing::error!(error, "message refused by the store; only its text is kept");
                match inbox.receive(alone(simple)).await {
                    Err(StoreError::Refused(error)) => {
                        tracing::error!(error, "received message refused by the store");
                        refused.push(place);
                    }
                    other => other?,
                }
            }
            (Err(StoreError::Refused(error)), None) => {
                tracing::error!(error, "received message refused by the store");
                refused.push(place);
            }
            (other, _) => other?,
        }
    }
    Ok(refused)
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

    /// What is stored of a part, and the places of what is refused.
    async fn stored(ids: &[&str], simplifies: bool) -> (Vec<(String, &'static str)>, Vec<usize>) {
        let strict = Strict::default();
        let refused = store(&strict, part(ids), simplifies).await.expect("everything that can be stored");
        (strict.stored.into_inner().expect("not poisoned"), refused)
    }

    #[tokio::test]
    async fn a_message_that_the_store_refuses_concerns_itself_alone() {
        let of =
            |rows: &[(&str, &'static str)]| rows.iter().map(|(id, kind)| ((*id).to_owned(), *kind)).collect::<Vec<_>>();
        for simplifies in [false, true] {
            let both = of(&[("a", "text"), ("b", "text")]);
            assert_eq!(stored(&["a", "b"], simplifies).await, (both, vec![]));
            assert_eq!(stored(&["worse"], simplifies).await, (of(&[]), vec![0]));
        }
        let all = ["a", "bad", "worse", "b"];
        let expected = of(&[("a", "text"), ("bad", "other"), ("b", "text")]);
        assert_eq!(stored(&all, true).await, (expected, vec![2]));
        let expected = of(&[("a", "text"), ("b", "text")]);
        assert_eq!(stored(&all, false).await, (expected, vec![1, 2]), "nothing is lost of it");
    }

    #[tokio::test]
    async fn a_failure_of_the_store_is_returned() {
        let full = Strict { is_full: true, ..Strict::default() };
        assert!(store(&full, part(&["a", "b"]), true).await.is_err());
    }
}
