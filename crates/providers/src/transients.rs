//! Passes what networks report for the moment to the open streams of this process. Nothing is stored, and no driver waits: a
//! stream that is too slow loses the oldest reports.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use recado_domain::channel::ChannelKey;
use recado_domain::clock::{Millis, millis};
use recado_domain::event::Owner;
use recado_domain::transient::{Transient, TransientState};
use tokio::sync::broadcast;

/// The most reports that wait for a stream.
const WAITING: usize = 256;
/// The most states of people that are remembered for an owner. Beyond it reports are dropped until some are old.
const REMEMBERED: usize = 1_000;

/// The open streams of this process. Those of one owner do not affect those of another.
#[derive(Default)]
pub struct Transients {
    streams: Mutex<HashMap<Owner, Streams>>,
}

/// A person in a chat of a channel.
type Who = (ChannelKey, String, Option<String>, &'static str);

struct Streams {
    sender: broadcast::Sender<Arc<Transient>>,
    /// The last states that streams received.
    last: HashMap<Who, (TransientState, Millis)>,
}

impl Transients {
    /// The reports for an owner from now on.
    pub fn subscribe(&self, owner: Owner) -> broadcast::Receiver<Arc<Transient>> {
        let mut all = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        // Owners whose streams have ended are forgotten, so that the map stays small.
        all.retain(|_, streams| streams.sender.receiver_count() > 0);
        let new = || Streams { sender: broadcast::Sender::new(WAITING), last: HashMap::new() };
        all.entry(owner).or_insert_with(new).sender.subscribe()
    }

    /// Passes a report to the streams of its owner. Returns whether it was passed: without a stream, and if it says nothing new,
    /// it is not.
    pub fn publish(&self, owner: Owner, transient: Transient) -> bool {
        let mut all = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(streams) = all.get_mut(&owner).filter(|streams| streams.sender.receiver_count() > 0) else {
            return false;
        };
        streams.is_new(&transient) && streams.sender.send(Arc::new(transient)).is_ok()
    }
}

impl Streams {
    /// Whether this says something new. Then it is remembered.
    fn is_new(&mut self, transient: &Transient) -> bool {
        if transient.person.is_nobody() {
            return false;
        }
        let group = transient.group.as_ref().map(|group| group.address.clone());
        let who = (transient.channel, transient.person.address(), group, transient.state.event());
        let is_known = match self.last.get(&who) {
            Some(last) if !transient.passes(*last) => return false,
            last => last.is_some(),
        };
        if !is_known && self.last.len() >= REMEMBERED {
            let kept = millis(Transient::REPEATED);
            self.last.retain(|_, (_, at)| (0..kept).contains(&(transient.at - *at)));
            if self.last.len() >= REMEMBERED {
                return false;
            }
        }
        self.last.insert(who, (transient.state, transient.at));
        true
    }
}

#[cfg(test)]
mod tests {
    use recado_domain::api_key::Environment;
    use recado_domain::ids::InstitutionId;
    use recado_domain::incoming::SenderIds;
    use recado_domain::transient::Typing;
    use tokio::sync::broadcast::error::TryRecvError;

    use super::*;

    fn owner(n: u8) -> Owner {
        (InstitutionId::new(1, [n; 10]), Environment::Live)
    }

    fn types(person: usize, state: Typing, at: Millis) -> Transient {
        let person = SenderIds::of_lid(&person.to_string());
        Transient { channel: 1, group: None, person, state: TransientState::Typing(state), at }
    }

    #[test]
    fn a_report_reaches_the_streams_of_its_owner_alone() {
        let all = Transients::default();
        assert!(!all.publish(owner(1), types(1, Typing::Composing, 0)), "nobody reads");
        let (mut one, mut same, mut other) =
            (all.subscribe(owner(1)), all.subscribe(owner(1)), all.subscribe(owner(2)));
        let composing = types(1, Typing::Composing, 0);
        assert!(all.publish(owner(1), composing.clone()));
        assert!(!all.publish(owner(1), types(1, Typing::Composing, 500)), "nothing new");
        assert!(!all.publish(owner(1), types(1, Typing::Recording, 500)), "too soon");
        assert!(all.publish(owner(1), types(2, Typing::Composing, 500)), "another person");
        assert!(!all.publish(owner(1), Transient { person: SenderIds::default(), ..composing.clone() }));
        for stream in [&mut one, &mut same] {
            assert_eq!(*stream.try_recv().expect("a report"), composing);
            assert_eq!(stream.try_recv().expect("a report").at, 500);
            assert_eq!(stream.try_recv(), Err(TryRecvError::Empty));
        }
        assert_eq!(other.try_recv(), Err(TryRecvError::Empty));
        drop((one, same));
        assert!(!all.publish(owner(1), types(3, Typing::Composing, 0)), "nobody reads any more");
        drop(all.subscribe(owner(3)));
        assert_eq!(all.streams.lock().expect("the lock").len(), 2, "an owner without a stream is forgotten");
    }

    #[test]
    fn what_waits_and_what_is_remembered_is_bounded() {
        let all = Transients::default();
        let mut stream = all.subscribe(owner(1));
        for person in 0..REMEMBERED {
            assert!(all.publish(owner(1), types(person, Typing::Composing, 0)));
        }
        assert!(!all.publish(owner(1), types(REMEMBERED, Typing::Composing, 9_999)), "too many people at once");
        assert!(all.publish(owner(1), types(REMEMBERED, Typing::Composing, 10_000)));
        let lost = REMEMBERED + 1 - WAITING;
        assert_eq!(stream.try_recv(), Err(TryRecvError::Lagged(u64::try_from(lost).expect("small"))));
        assert_eq!(stream.try_recv().expect("a report").person, SenderIds::of_lid(&lost.to_string()), "the oldest go");
    }
}
