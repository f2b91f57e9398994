//! Decides to which contact the identities of an arrival belong: pure rules on the contacts that the store found for
//! them.

use crate::clock::Millis;
use crate::ids::ContactId;
use crate::incoming::{IdentityKey, IdentityKind};

/// A contact that has one of the identities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub id: ContactId,
    pub created_at: Millis,
    /// The identities of the contact that are valid on this channel: numbers, and identities of the channel or the
    /// business.
    pub keys: Vec<IdentityKey>,
}

/// What to do with the contacts and the identities.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolution {
    /// The contact of the person; `None`: it is new.
    pub contact: Option<ContactId>,
    /// Contacts of the same person, which are merged into [`Self::contact`].
    pub merged: Vec<ContactId>,
    /// Identities that another contact loses, because they belong to this person now.
    pub taken: Vec<(ContactId, IdentityKey)>,
    /// Identities that the contact gets.
    pub added: Vec<IdentityKey>,
    /// Identities that the contact loses, because the person has another identity of the same kind now.
    pub replaced: Vec<IdentityKey>,
}

/// Resolves identities in the order in which they are looked up: a user id, a hidden id, a number.
///
/// Two contacts that share an identity are one person, unless both have an identity of a stronger kind and these
/// identities differ. Hidden ids and user ids stay with an account. A number can be given to another person later.
pub fn resolve(keys: &[IdentityKey], found: &[Found]) -> Resolution {
    let owner = |key: &IdentityKey| found.iter().find(|contact| contact.keys.contains(key));
    let mut same: Vec<&Found> = Vec::new();
    let mut taken = Vec::new();
    for key in keys {
        let Some(contact) = owner(key).filter(|contact| same.iter().all(|known| known.id != contact.id)) else {
            continue;
        };
        if is_another(keys, key, contact) {
            taken.push((contact.id, key.clone()));
        } else {
            same.push(contact);
        }
    }
    // The older one stays.
    same.sort_by_key(|contact| (contact.created_at, contact.id));
    let stays = same.first().map(|contact| contact.id);
    let has = |key: &IdentityKey| same.iter().any(|contact| contact.keys.contains(key));
    let added: Vec<_> = keys.iter().filter(|key| !has(key)).cloned().collect();
    // A person has one number, one hidden id and one user id here.
    let replaced = same
        .iter()
        .flat_map(|contact| &contact.keys)
        .filter(|old| keys.iter().any(|key| key.kind == old.kind && key != *old));
    let replaced = replaced.cloned().collect();
    let merged = same.iter().skip(1).map(|contact| contact.id).collect();
    Resolution { contact: stays, merged, taken, added, replaced }
}

/// Whether the contact that has this key belongs to another person than the person with all of these keys.
pub fn is_another(keys: &[IdentityKey], key: &IdentityKey, contact: &Found) -> bool {
    let differs = |kind: IdentityKind| {
        let of = |keys: &[IdentityKey]| keys.iter().filter(|key| key.kind == kind).cloned().collect::<Vec<_>>();
        let (ours, theirs) = (of(keys), of(&contact.keys));
        !ours.is_empty() && !theirs.is_empty() && ours.iter().all(|own| !theirs.contains(own))
    };
    let shares = |kind: IdentityKind| keys.iter().any(|own| own.kind == kind && contact.keys.contains(own));
    let stronger: Vec<_> = IdentityKind::ALL.into_iter().take_while(|kind| *kind != key.kind).collect();
    !stronger.iter().any(|kind| shares(*kind)) && stronger.iter().any(|kind| differs(*kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> ContactId {
        ContactId::new(i64::from(n), [n; 10])
    }

    fn found(n: u8, keys: &[IdentityKey]) -> Found {
        Found { id: id(n), created_at: i64::from(n), keys: keys.to_vec() }
    }

    fn phone() -> IdentityKey {
        IdentityKey::phone("5511988887777")
    }

    #[test]
    fn a_person_without_a_contact_is_new() {
        let keys = [IdentityKey::lid("900"), phone()];
        let new = resolve(&keys, &[]);
        assert_eq!(new, Resolution { added: keys.to_vec(), ..Resolution::default() });
    }

    #[test]
    fn a_number_that_becomes_known_for_a_hidden_id_is_added_or_merges() {
        let keys = [IdentityKey::lid("900"), phone()];
        let known = resolve(&keys, &[found(1, &keys[..1])]);
        assert_eq!((known.contact, known.added), (Some(id(1)), vec![phone()]));
        // Of two contacts the older one stays.
        for (lid, number, stays, goes) in [(1, 2, 1, 2), (2, 1, 1, 2)] {
            let both = resolve(&keys, &[found(lid, &keys[..1]), found(number, &keys[1..])]);
            let wanted = Resolution { contact: Some(id(stays)), merged: vec![id(goes)], ..Resolution::default() };
            assert_eq!(both, wanted);
        }
    }

    #[test]
    fn a_number_that_another_person_had_moves() {
        let old = found(1, &[IdentityKey::lid("900"), phone()]);
        let keys = [IdentityKey::lid("901"), phone()];
        let moved = resolve(&keys, std::slice::from_ref(&old));
        assert_eq!((moved.contact, moved.merged.is_empty()), (None, true), "never one contact for two people");
        assert_eq!((moved.taken, moved.added), (vec![(id(1), phone())], keys.to_vec()));
        // The same person with another number keeps the contact.
        let keys = [IdentityKey::lid("900"), IdentityKey::phone("5511977776666")];
        let changed = resolve(&keys, &[old]);
        assert_eq!((changed.contact, changed.replaced), (Some(id(1)), vec![phone()]));
        assert_eq!(changed.added, [IdentityKey::phone("5511977776666")]);
    }

    #[test]
    fn three_contacts_of_one_person_become_one() {
        let keys = [IdentityKey::user_id("BR.1"), IdentityKey::lid("900"), phone()];
        let all: Vec<_> = keys.iter().zip([3, 1, 2]).map(|(key, n)| found(n, std::slice::from_ref(key))).collect();
        let one = resolve(&keys, &all);
        assert_eq!((one.contact, one.merged), (Some(id(1)), vec![id(2), id(3)]));
    }
}
