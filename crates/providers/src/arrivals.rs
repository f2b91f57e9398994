//! What every network does with what arrives: the settings that accept it, and what the store refuses of it.

use async_trait::async_trait;
use recado_domain::channel::OnOff;
use recado_domain::incoming::{Arrival, Arrivals, Content, NewIncoming, UnsupportedReason, What};
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

/// An arrival that the store refuses although it works.
pub struct Refused {
    pub arrival: Arrival,
    /// Why, in the words of the store.
    pub why: String,
}

/// Stores a part, and returns what the store refuses of it although it works. Everything else of the part is stored. A failure of
/// the store is returned.
pub async fn store(inbox: &impl Receives, arrivals: Arrivals) -> Result<Vec<Refused>, StoreError> {
    match inbox.receive(arrivals.clone()).await {
        Ok(()) => return Ok(Vec::new()),
        Err(StoreError::Refused(_)) => {}
        Err(error) => return Err(error),
    }
    let mut refused = Vec::new();
    for arrival in arrivals.arrivals.clone() {
        match inbox.receive(Arrivals { arrivals: vec![arrival.clone()], ..arrivals.clone() }).await {
            Err(StoreError::Refused(why)) => refused.push(Refused { arrival, why }),
            other => other?,
        }
    }
    Ok(refused)
}

/// The message with its text alone, as one that may be recovered later; `None` for a change of a message.
pub fn simplified(arrival: &Arrival) -> Option<Arrival> {
    let What::Message(new) = &arrival.what else { return None };
    let simple = NewIncoming::new(Content::Unsupported { reason: UnsupportedReason::Undecryptable }, new.text.clone());
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

    /// A store that refuses "bad" and "worse".
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
                if id == "worse" || id == "bad" {
                    return Err(StoreError::Refused(id));
                }
                batch.push((id, kind));
            }
            self.stored.lock().expect("not poisoned").extend(batch);
            Ok(())
        }
    }

    /// What is stored of a part, and what is refused.
    async fn stored(ids: &[&str]) -> (Vec<(String, &'static str)>, Vec<String>) {
        let strict = Strict::default();
        let refused = store(&strict, part(ids)).await.expect("everything that can be stored");
        let refused = refused.into_iter().map(|one| one.arrival.network_id.as_str().to_owned()).collect();
        (strict.stored.into_inner().expect("not poisoned"), refused)
    }

    #[tokio::test]
    async fn a_message_that_the_store_refuses_concerns_itself_alone() {
        let of = |ids: &[&str]| ids.iter().map(|id| ((*id).to_owned(), "text")).collect::<Vec<_>>();
        assert_eq!(stored(&["a", "b"]).await, (of(&["a", "b"]), vec![]));
        assert_eq!(stored(&["bad"]).await, (of(&[]), vec!["bad".to_owned()]));
        let refused = vec!["bad".to_owned(), "worse".to_owned()];
        assert_eq!(stored(&["a", "bad", "worse", "b"]).await, (of(&["a", "b"]), refused));
    }

    #[test]
    fn a_simpler_form_has_the_text_alone() {
        let mut whole = message("3EB0A");
        let What::Message(new) = &mut whole.what else { panic!("a message") };
        new.raw = Some(b"raw".to_vec());
        let simple = simplified(&whole).expect("a message has one");
        let What::Message(new) = simple.what else { panic!("a message") };
        assert_eq!((new.content.is_undecryptable(), &*new.text, new.raw), (true, "3EB0A", None));
        let change = Arrival { what: What::OptOut(true), ..whole };
        assert!(simplified(&change).is_none());
    }

    #[tokio::test]
    async fn a_failure_of_the_store_is_returned() {
        let full = Strict { is_full: true, ..Strict::default() };
        assert!(store(&full, part(&["a", "b"])).await.is_err());
    }
}
