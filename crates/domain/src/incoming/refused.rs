//! Arrivals that the store refuses although it works: because of their content, or because of a fault of this version. They are
//! kept, and tried again.

use super::{Arrival, SenderIds, What};
use crate::address::LID;
use crate::channel::ChannelKey;
use crate::clock::Millis;

/// Which of the refused arrivals it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RefusedKey {
    pub channel: ChannelKey,
    /// A hash of chat, author and network id. It must not name people: it is stored in clear.
    pub id: Vec<u8>,
}

/// A refused arrival that is to be kept.
#[derive(Clone, PartialEq, Eq)]
pub struct NewRefused {
    pub id: Vec<u8>,
    /// Whom it is from, or in whose chat it is: see [`Arrival::names`].
    pub names: Vec<String>,
    /// The arrival, sealed.
    pub sealed: Vec<u8>,
}

/// A refused arrival that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedArrival {
    pub key: RefusedKey,
    pub sealed: Vec<u8>,
    /// When it arrived.
    pub since: Millis,
    /// How often the store has refused it.
    pub tries: u32,
}

impl Arrival {
    /// The names of the person, in the forms in which an erasure looks for them.
    pub fn names(&self) -> Vec<String> {
        let others = match &self.what {
            What::IdentityChanged { old } => std::slice::from_ref(old),
            What::GroupChanged { members, .. } => members,
            _ => &[],
        };
        let people = std::iter::once(&self.person).chain(others).map(SenderIds::cleaned);
        let names = people.flat_map(|person| {
            let lid = person.lid.map(|lid| format!("{lid}{LID}"));
            [person.phone, lid, person.user_id].into_iter().flatten()
        });
        names.collect()
    }
}
