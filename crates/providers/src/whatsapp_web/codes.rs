//! The rate limit for codes that are typed on a phone. Each code is a notification on the phone with that number, and
//! WhatsApp sees all requests come from one address, which the institutions share.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use recado_domain::channel::{ChannelKey, ChannelRef};
use recado_domain::clock::{Millis, millis};
use recado_domain::ids::InstitutionId;
use recado_domain::phone::PhoneNumber;

use crate::pairing::ConnectionError;

/// The time over which codes are counted.
const WINDOW: Duration = Duration::from_hours(1);

/// What the codes of a counter have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Of {
    Channel(ChannelKey),
    /// The phone that the code is for, for every caller.
    Phone(String),
    /// All keys of an institution, because a key can create others.
    Institution(InstitutionId),
}

impl Of {
    /// The most codes in an hour.
    fn limit(&self) -> usize {
        match self {
            Self::Channel(_) | Self::Phone(_) => 3,
            Self::Institution(_) => 10,
        }
    }
}

/// The times of the codes within the last hour.
#[derive(Default)]
pub struct Codes(Mutex<HashMap<Of, VecDeque<Millis>>>);

impl Codes {
    /// Counts a code, or returns when the next one may be requested.
    pub fn acquire(&self, via: &ChannelRef, phone: &PhoneNumber, now: Millis) -> Result<(), ConnectionError> {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = now - millis(WINDOW);
        asked.retain(|_, times| {
            times.retain(|at| *at > begin);
            !times.is_empty()
        });
        let all = [Of::Channel(via.key), Of::Phone(phone.digits().to_owned()), Of::Institution(via.institution)];
        // A full counter is free again when its oldest entry is an hour old.
        let full = |of: &Of| asked.get(of).filter(|times| times.len() >= of.limit()).and_then(|times| times.front());
        if let Some(oldest) = all.iter().filter_map(full).max() {
            return Err(ConnectionError::TooMany(u64::try_from((oldest - begin) / 1_000 + 1).unwrap_or(1)));
        }
        for of in all {
            asked.entry(of).or_default().push_back(now);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::whatsapp_web::codes::*;

    fn via(key: ChannelKey, institution: InstitutionId) -> ChannelRef {
        ChannelRef { key, institution, id: "vendas".parse().expect("an id") }
    }

    #[test]
    fn codes_are_counted_by_channel_phone_and_institution() {
        let (codes, hour) = (Codes::default(), millis(WINDOW));
        let phone = |n: u64| PhoneNumber::of_stored(&format!("55119{n:08}")).expect("a number");
        let of = |institution| InstitutionId::new(1, [institution; 10]);
        let acquire = |key, institution, number, now| codes.acquire(&via(key, of(institution)), &phone(number), now);
        for n in 0..3 {
            acquire(1, 1, n, 1_000).expect("the first three of a channel");
        }
        assert!(matches!(acquire(1, 1, 9, 2_000), Err(ConnectionError::TooMany(3_600))), "not a fourth");
        for key in 2..4 {
            acquire(key, 2, 0, 2_000).expect("others may ask for the same phone");
        }
        assert!(matches!(acquire(4, 3, 0, 2_000), Err(ConnectionError::TooMany(_))), "but it is one phone");
        for n in 10..17 {
            acquire(n, 1, u64::try_from(n).unwrap(), 3_000).expect("the rest of the institution's");
        }
        assert!(matches!(acquire(20, 1, 50, 3_000), Err(ConnectionError::TooMany(_))), "it has had ten");
        acquire(1, 1, 9, 1_000 + hour).expect("an hour later");
        assert_eq!(codes.0.lock().unwrap().values().map(VecDeque::len).sum::<usize>(), 3 + 3 * 7 + 2 * 3);
    }
}
