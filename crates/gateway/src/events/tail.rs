//! The newest part of the stream, as the polls of this process have seen it: whose events are in it. So a reader whose position
//! is near the end reads the store only if an event of its own owner follows, however many events others have.

use std::collections::HashMap;

use recado_domain::event::{EventSeq, OwnedRange, Owner};

/// Numbers of one poll. If more are new, the tail begins anew behind them, and readers read what is before it.
pub const LONGEST: EventSeq = 20_000;
/// Owners in the tail. If there are more, it begins anew.
const OWNERS: usize = 20_000;

/// The newest part of the stream.
#[derive(Default)]
pub struct Tail {
    /// It begins after this number.
    begin: EventSeq,
    /// It ends with this number: the last one of which it is known that no earlier event is missing.
    end: EventSeq,
    /// The last number of which it is known that an event has it.
    last: EventSeq,
    owners: HashMap<Owner, Recent>,
}

/// The newest events of an owner. None of its events is in `(quiet.0, quiet.1]`, and none is after `last`.
struct Recent {
    quiet: (EventSeq, EventSeq),
    last: EventSeq,
}

impl Tail {
    /// Where the tail ends.
    pub fn end(&self) -> EventSeq {
        self.end
    }

    /// Begins anew after this number, with nothing known.
    pub fn restart(&mut self, at: EventSeq) {
        *self = Self { begin: at, end: at, last: at, owners: HashMap::new() };
    }

    /// Adds what follows up to this number.
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

    /// Moves a position of this owner's reader over events of others. It is never moved over an event of the owner, nor to a
    /// number behind the last event: such a number can be given again.
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
        // Positions before the tail, at its begin, in it; nothing is in it.
        for position in [3, 10, 12] {
            assert_eq!(tail.skip(owner(1), position), position);
            assert_eq!(tail.may_follow(owner(1), position), position < 10);
        }
        tail.extend(20, &[range(2, 11, 19)]);
        // The end, 20, was given to no event.
        assert_eq!((tail.skip(owner(1), 9), tail.skip(owner(1), 10), tail.end()), (9, 19, 20));
        assert!(!tail.may_follow(owner(1), 19));
        // Events of the owner are not passed.
        tail.extend(30, &[range(1, 25, 27), range(2, 21, 29)]);
        let table = [(10, 24), (19, 24), (23, 24), (24, 24), (25, 25), (26, 26), (27, 29), (28, 29), (29, 29)];
        for (position, skipped) in table {
            assert_eq!(tail.skip(owner(1), position), skipped, "{position}");
            assert_eq!(tail.may_follow(owner(1), position), position < 27, "{position}");
        }
        tail.extend(40, &[range(1, 40, 40)]);
        // 25 to 27 are behind what is remembered of the owner.
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
