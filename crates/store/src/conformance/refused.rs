//! Arrivals that the store refused: kept, tried again, erased with their person.

use recado_domain::api_key::Environment;
use recado_domain::channel::{ChannelKey, ChannelState, NewChannel};
use recado_domain::incoming::{
    Arrival, Arrivals, Content, NewIncoming, NewRefused, Outcome, RefusedKey, SenderIds, What,
};

use crate::fixtures::{Ground, MINUTE, NOW};
use crate::person::{Erased, Erasure, Person};

const MARIA: &str = "5531988887777";

fn refused(id: u8, names: &[&str]) -> NewRefused {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    NewRefused { id: vec![id; 32], names, sealed: vec![id, 0, 255] }
}

async fn keep(ground: &Ground, channel: ChannelKey, refused: Vec<NewRefused>) -> bool {
    ground.store.keep_refused(channel, refused, NOW).await.expect("stored")
}

/// The first bytes of the ids of those that are due.
async fn due(ground: &Ground, now: i64) -> Vec<u8> {
    let due = ground.store.due_refused(now, 100).await.expect("read");
    due.iter().map(|one| one.key.id[0]).collect()
}

fn message(channel: ChannelKey) -> Arrivals {
    let arrival = Arrival {
        network_id: "A1".parse().expect("an id"),
        group: None,
        person: SenderIds::of_phone(MARIA),
        from_me: false,
        sent_at: NOW,
        what: What::Message(Box::new(NewIncoming::new(Content::text(), "Oi"))),
    };
    Arrivals { channel, number: None, business: None, windowed: false, arrivals: vec![arrival] }
}

pub(super) async fn a_refused_arrival_is_kept_until_it_is_stored(ground: Ground) {
    let channel = ground.channel("loja").await;
    assert!(keep(&ground, channel, vec![refused(1, &[MARIA]), refused(2, &[])]).await);
    assert!(keep(&ground, channel, vec![NewRefused { sealed: vec![9], ..refused(1, &[MARIA]) }]).await, "repeated");
    assert_eq!(due(&ground, NOW).await, [0; 0], "not at once");
    let later = NOW + 10 * MINUTE;
    assert_eq!(due(&ground, later).await, [1, 2]);
    let first = ground.store.due_refused(later, 1).await.expect("read").remove(0);
    assert_eq!((first.key.channel, &*first.sealed, first.since, first.tries), (channel, &[1, 0, 255][..], NOW, 1));
    // Refused again.
    ground.store.defer_refused(first.key.clone(), later).await.expect("stored");
    assert_eq!(due(&ground, later).await, [2]);
    assert_eq!(due(&ground, later + 10 * MINUTE).await, [2, 1]);
    // Another key.
    let all = ground.store.sealed_refused(None, 10).await.expect("read");
    assert_eq!(all.iter().map(|one| (one.key.id[0], one.tries)).collect::<Vec<_>>(), [(1, 2), (2, 1)]);
    let behind = ground.store.sealed_refused(Some(all[0].key.clone()), 10).await.expect("read");
    assert_eq!(behind, all[1..]);
    assert!(ground.store.reseal_refused(all[1].clone(), vec![7]).await.expect("stored"));
    assert!(!ground.store.reseal_refused(all[1].clone(), vec![8]).await.expect("stored"), "it was changed meanwhile");
    assert_eq!(ground.store.sealed_refused(None, 10).await.expect("read")[1].sealed, [7]);
    // A failure stores nothing, and keeps it.
    let store = async |key: &RefusedKey, arrivals| ground.store.store_refused(key.clone(), arrivals, later).await;
    let too_many = Arrivals { arrivals: vec![message(channel).arrivals.remove(0); 101], ..message(channel) };
    store(&first.key, too_many).await.expect_err("refused");
    assert_eq!(due(&ground, later + 10 * MINUTE).await, [2, 1]);
    let stored = store(&first.key, message(channel)).await.expect("stored").expect("kept");
    assert_eq!(stored[0].outcome, Outcome::Stored);
    assert_eq!(due(&ground, later + 10 * MINUTE).await, [2]);
    assert_eq!(store(&first.key, message(channel)).await.expect("read"), None, "it is gone");
    assert!(ground.store.forget_refused(all[1].key.clone()).await.expect("stored"));
    assert!(!ground.store.forget_refused(all[1].key.clone()).await.expect("stored"));
}

pub(super) async fn so_many_refused_arrivals_of_a_channel_are_kept(ground: Ground) {
    let (channel, other) = (ground.channel("loja").await, ground.channel("outra").await);
    let many = |from: u32, to: u32| {
        let one = |n: u32| NewRefused { id: n.to_be_bytes().to_vec(), ..refused(0, &[]) };
        (from..to).map(one).collect::<Vec<_>>()
    };
    assert!(keep(&ground, channel, many(0, 999)).await);
    assert!(!keep(&ground, channel, many(998, 1_001)).await, "one too many");
    assert!(keep(&ground, channel, many(998, 1_000)).await);
    assert!(keep(&ground, channel, many(0, 10)).await, "they are kept already");
    assert!(!keep(&ground, channel, many(2_000, 2_001)).await);
    assert_eq!(ground.store.sealed_refused(None, 2_000).await.expect("read").len(), 1_000);
    let large = |bytes| vec![NewRefused { sealed: vec![0; bytes], ..refused(1, &[]) }];
    assert!(!keep(&ground, other, large((16 << 20) + 1)).await);
    assert!(keep(&ground, other, large(16 << 20)).await, "each channel has room of its own");
    assert!(!keep(&ground, other, vec![refused(2, &[])]).await);
}

pub(super) async fn refused_arrivals_of_a_person_are_erased(ground: Ground) {
    let channel = ground.channel("loja").await;
    let new = NewChannel { environment: Environment::Test, ..ground.new_channel("teste", ChannelState::Connected) };
    let test = ground.store.create_channel(new).await.expect("stored").expect("a free id").key;
    let kept = [
        refused(1, &[MARIA, "900@lid"]),
        refused(2, &["900@lid"]),
        refused(3, &["BR.9"]),
        refused(4, &["15531988887777", "9900@lid"]),
        refused(5, &[]),
    ];
    assert!(keep(&ground, channel, kept.to_vec()).await);
    assert!(keep(&ground, test, vec![refused(6, &[MARIA])]).await);
    let person = Person {
        environment: Some(Environment::Live),
        ..Person::new(vec![MARIA.to_owned(), "900@lid".to_owned()], Some(ground.institution))
    };
    let erase = async |person: Person| {
        ground.store.erase_person(Erasure::Inbox { person, keeps_contacts: false }, NOW).await.expect("stored")
    };
    let erased = erase(person.clone()).await;
    assert_eq!(erased, Erased { received: 2, ..Erased::default() });
    let later = NOW + 10 * MINUTE;
    assert_eq!(due(&ground, later).await, [3, 4, 5, 6], "of others, and of another environment");
    assert_eq!(erase(person).await, Erased::default());
    // Of all institutions.
    let everywhere = Person::new(vec![MARIA.to_owned(), "BR.9".to_owned()], None);
    assert_eq!(erase(everywhere).await.received, 2);
    assert_eq!(due(&ground, later).await, [4, 5]);
}
