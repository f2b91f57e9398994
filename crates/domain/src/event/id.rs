//! Public names of events and of places in the stream.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::{EventSeq, Owner};
use crate::clock::Millis;
use crate::ids::InvalidId;
use crate::numbered_id::NumberedId;

/// The public id of an event: `evt_` and 32 hexadecimal digits, made of the event's time, its number, and a hash of both
/// with its owner. So the id is the same on every read and after the store was moved, and a number that a restored backup
/// gives again makes another id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventId(NumberedId);

const PREFIX: &str = "evt_";

impl EventId {
    pub fn new(seq: EventSeq, at: Millis, (institution, environment): Owner) -> Self {
        let owner: [&[u8]; 2] = [institution.as_bytes(), environment.name().as_bytes()];
        Self(NumberedId::new(b"recado event\0", seq, at, &owner))
    }

    /// The number that the id names. The caller compares the whole id with the id of the event that has this number.
    pub fn seq(&self) -> EventSeq {
        self.0.number()
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(PREFIX, f)
    }
}

impl FromStr for EventId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        NumberedId::parse(PREFIX, text).map(Self)
    }
}

/// A place in the stream of a store: behind an event. The identity shows that a cursor is of another store. The number or the
/// event's time shows that a cursor is older than the restore of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CursorText {
    /// The beginning of a hash of the store's identity.
    store: [u8; 8],
    pub seq: EventSeq,
    /// The event's time; 0 where no event has the number.
    pub at: Millis,
}

impl CursorText {
    pub fn new(identity: &[u8; 16], seq: EventSeq, at: Option<Millis>) -> Self {
        Self { store: store(identity), seq, at: at.unwrap_or(0) }
    }

    /// Whether it is of the store with this identity.
    pub fn is_of(&self, identity: &[u8; 16]) -> bool {
        self.store == store(identity)
    }
}

/// Sixteen hexadecimal digits in lower case.
fn number(digits: &str) -> Option<u64> {
    let hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    u64::from_str_radix(digits, 16).ok().filter(|_| hex)
}

fn store(identity: &[u8; 16]) -> [u8; 8] {
    let mut start = [0; 8];
    start.copy_from_slice(&Sha256::new().chain_update(b"recado stream\0").chain_update(identity).finalize()[..8]);
    start
}

impl fmt::Display for CursorText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.store);
        bytes[8..16].copy_from_slice(&self.seq.to_be_bytes());
        bytes[16..].copy_from_slice(&self.at.to_be_bytes());
        bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for CursorText {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let part = |n: usize| number(text.get(16 * n..16 * (n + 1))?);
        let whole = || Some((part(0)?, part(1)?.try_into().ok()?, part(2)?.try_into().ok()?));
        let (store, seq, at) = whole().filter(|_| text.len() == 48).ok_or(InvalidId)?;
        Ok(Self { store: store.to_be_bytes(), seq, at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api_key::Environment;
    use crate::ids::InstitutionId;

    #[test]
    fn an_id_names_its_event() {
        let owner = (InstitutionId::new(1, [7; 10]), Environment::Live);
        let id = EventId::new(70_000, 1_763_900_000_000, owner);
        let text = id.to_string();
        assert_eq!((text.len(), text.parse(), id.seq()), (36, Ok(id), 70_000));
        assert!(text.starts_with("evt_019a"), "{text}");
        // A number that is given again, and another owner's event.
        assert_ne!(EventId::new(70_000, 1_763_900_000_001, owner), id);
        assert_ne!(EventId::new(70_000, 1_763_900_000_000, (owner.0, Environment::Test)), id);
        for bad in ["", "evt_", &text[..35], &text.to_uppercase(), &text.replace('0', "+"), &text[4..]] {
            assert_eq!(bad.parse::<EventId>(), Err(InvalidId), "{bad}");
        }
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let cursor = CursorText::new(&[7; 16], 12, Some(5));
        let text = cursor.to_string();
        assert_eq!((text.len(), text.parse()), (48, Ok(cursor)));
        assert!(cursor.is_of(&[7; 16]) && !cursor.is_of(&[8; 16]));
        for bad in [
            "",
            "12",
            &text[1..],
            &format!("{text}a"),
            &text.to_uppercase(),
            &"g".repeat(48),
            &"f".repeat(48),
            &"\u{e7}".repeat(24),
        ] {
            assert_eq!(bad.parse::<CursorText>(), Err(InvalidId), "{bad}");
        }
    }
}
