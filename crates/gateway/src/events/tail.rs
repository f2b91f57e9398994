//! The owners of the newest events, as the polls of this process found them. So a reader whose position is near the end
//! reads the store only if an event of its own owner follows. Events of other owners cause no reads.

use std::collections::HashMap;

use recado_domain::event::{EventSeq, OwnedRange, Owner};

/// Most new numbers of one poll. If more numbers are new, the tail restarts after them, and readers read the events
/// before the tail from the store.
pub const LONGEST: EventSeq = 20_000;
/// Most owners in the tail. If there are more owners, the tail restarts.
const OWNERS: usize = 20_000;

/// The newest part of the stream.
#[derive(Default)]
pub struct Tail {
    /// The tail begins after this number.
    begin: EventSeq,
    /// The tail ends with this number: the last number up to which no event is missing.
    end: EventSeq,
    /// The last number that is known to belong to an event.
    last: EventSeq,
    owners: HashMap<Owner, Recent>,
}

/// The newest events of an owner. The owner has no event in `(quiet.0, quiet.1]`, and no event after `last`.
struct Recent {
    quiet: (EventSeq, EventSeq),
    last: EventSeq,
}

impl Tail {
    /// Where the tail ends.
    pub fn end(&self) -> EventSeq {
        self.end
    }

    /// Restarts the tail after this number, without owners.
    pub fn restart(&mut self, at: EventSeq) {
        *self = Self { begin: at, end: at, last: at, owners: HashMap::new() };
    }

    /// Extends the tail up to this number by the events of these owners.
    pub fn extend(&mut self, end: EventSeq, ranges: &[OwnedRange]) {
        if self.owners.len() + ranges.len() > OWNERS {
            return self.restart(end);
        }
        for OwnedRange { owner, first, last } in ranges.iter().copied() {
            let quiet_from = self.owners.get(&owner).map_or(self.begin, |recent| recent.last);
            self.owners.insert(owner, Recent { quiet: (quiet_from, first - 1), last });
            self.last = self.last.max(last);
        }
        self.end = end;
    }

    /// Moves a position of this owner's reader over events of other owners. The position never moves over an event of
    /// the owner. It never moves beyond the last event either, because a number without an event can be given to a
    /// later event.
    pub fn skip(&self, owner: Owner, position: EventSeq) -> EventSeq {
        if position < self.begin {
            return position;
        }
        match self.owners.get(&owner) {
            Some(recent) if position < recent.quiet.0 || (recent.quiet.1..recent.last).contains(&position) => position,
            Some(recent) if position < recent.quiet.1 => recent.quiet.1,
            _ => position.max(self.last),
        }
    }

    /// Whether an event of this owner may follow the position.
    pub fn may_follow(&self, owner: Owner, position: EventSeq) -> bool {
        position < self.begin || self.owners.get(&owner).is_some_and(|recent| position < recent.last)
    }
}

#[cfg(test)]
mod tests {
    use recado_domain::api_key::Environment;
    use recado_domain::ids::InstitutionId;

    use super::*;

    fn owner(n: u8) -> Owner {
        (InstitutionId::new(1, [n; 10]), Environment::Live)
    }

    fn range(n: u8, first: EventSeq, last: EventSeq) -> OwnedRange {
        OwnedRange { owner: owner(n), first, last }
    }

    #[test]
    fn a_position_moves_over_events_of_others() {
        let mut tail = Tail::default();
        tail.restart(10);
        // Positions before the tail, at its beginning and inside it. The tail has no event.
        for position in [3, 10, 12] {
            assert_eq!(tail.skip(owner(1), position), position);
            assert_eq!(tail.may_follow(owner(1), position), position < 10);
        }
        tail.extend(20, &[range(2, 11, 19)]);
        // The end, 20, was given to no event.
        assert_eq!((tail.skip(owner(1), 9), tail.skip(owner(1), 10), tail.end()), (9, 19, 20));
        assert!(!tail.may_follow(owner(1), 19));
        // The position does not move over events of the owner.
        tail.extend(30, &[range(1, 25, 27), range(2, 21, 29)]);
        let table = [(10, 24), (19, 24), (23, 24), (24, 24), (25, 25), (26, 26), (27, 29), (28, 29), (29, 29)];
        for (position, skipped) in table {
            assert_eq!(tail.skip(owner(1), position), skipped, "{position}");
            assert_eq!(tail.may_follow(owner(1), position), position < 27, "{position}");
        }
        tail.extend(40, &[range(1, 40, 40)]);
        // The tail remembers only the last range of the owner, and 25 to 27 are before it.
        for (position, skipped) in [(10, 10), (26, 26), (27, 39), (39, 39), (40, 40)] {
            assert_eq!(tail.skip(owner(1), position), skipped, "{position}");
        }
        tail.restart(50);
        assert_eq!((tail.skip(owner(1), 45), tail.may_follow(owner(1), 45)), (45, true));
    }

    #[test]
    fn too_many_owners_begin_a_new_tail() {
        let mut tail = Tail::default();
        let institution = |n: i64| (InstitutionId::new(n, [0; 10]), Environment::Live);
        let many: Vec<_> =
            (0..).take(OWNERS + 1).map(|n| OwnedRange { owner: institution(n), first: 1, last: 2 }).collect();
        tail.extend(2, &many[..OWNERS]);
        assert_eq!(tail.owners.len(), OWNERS);
        tail.extend(4, &many[OWNERS..]);
        assert_eq!((tail.owners.len(), tail.begin, tail.end), (0, 4, 4));
    }
}
