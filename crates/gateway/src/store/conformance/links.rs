//! How channels are linked to their networks.

use recado_domain::channel::ChannelState;

use crate::store::fixtures::{Ground, NOW};
use crate::store::rows::{ChannelKey, Enqueued, Link};

fn link(channel: ChannelKey, word: &str) -> Link {
    Link { channel, details: format!(r#"{{"number":"{word}"}}"#), sealed: [b"\0\xff", word.as_bytes()].concat() }
}

async fn write(ground: &Ground, link: &Link, expected: ChannelState) -> bool {
    ground.store.link_channel(link.clone(), expected, NOW + 5).await.expect("answered")
}

async fn links(ground: &Ground) -> Vec<Link> {
    ground.store.links().await.expect("read")
}

pub(super) async fn a_link_comes_back_as_it_was_written(mut ground: Ground) {
    assert_eq!(links(&ground).await, []);
    let first = ground.channel_in("loja", ChannelState::Created).await;
    let second = ground.channel_in("outra", ChannelState::Created).await;
    ground.channel_in("nova", ChannelState::Created).await;
    for key in [second, first] {
        assert!(write(&ground, &link(key, "um"), ChannelState::Created).await);
    }
    let expected = [link(first, "um"), link(second, "um")];
    assert_eq!(ground.store.link(second).await.expect("read").as_ref(), Some(&expected[1]));
    assert_eq!(ground.store.link(second + 1).await.expect("read"), None, "it is not linked");
    assert_eq!(links(&ground).await, expected, "oldest channel first");
    ground.reopen().await;
    assert_eq!(links(&ground).await, expected);
    assert!(!format!("{:?}", expected[0]).contains("255"), "sealed bytes are printed: {:?}", expected[0]);
}

pub(super) async fn a_link_needs_the_expected_state(ground: Ground) {
    let key = ground.channel_in("loja", ChannelState::Paused).await;
    assert!(!write(&ground, &link(key, "um"), ChannelState::Created).await, "it is paused");
    assert!(!write(&ground, &link(key + 1, "um"), ChannelState::Paused).await, "unknown");
    assert_eq!(links(&ground).await, []);
    assert_eq!(ground.store.channel(key).await.expect("read").expect("there").state, ChannelState::Paused);

    assert!(write(&ground, &link(key, "um"), ChannelState::Paused).await);
    assert!(!write(&ground, &link(key, "dois"), ChannelState::Paused).await, "it is connected");
    assert_eq!(links(&ground).await, [link(key, "um")], "what is there stays");
}

pub(super) async fn a_linked_channel_is_up_at_once(ground: Ground) {
    let (created, connecting) = (ChannelState::Created, ChannelState::Connecting);
    let key = ground.channel_in("loja", created).await;
    let reason = Some("Ligando.".to_owned());
    assert!(ground.store.move_channel(key, created, connecting, reason, NOW).await.expect("stored"));
    assert_eq!(ground.enqueue(ground.new_message(key, "551")).await, Enqueued::NotConnected);

    assert!(write(&ground, &link(key, "um"), connecting).await);
    let linked = ground.store.channel(key).await.expect("read").expect("there");
    assert_eq!((linked.state, linked.state_reason), (ChannelState::Connected, None));
    assert_eq!(linked.connected_at, Some(NOW + 5));
    let id = ground.accept(key, "551").await;
    assert_eq!(ground.claim_one(key).await.id, id);
}

pub(super) async fn a_link_can_be_replaced(ground: Ground) {
    let key = ground.channel("loja").await;
    for word in ["um", "dois"] {
        assert!(write(&ground, &link(key, word), ChannelState::Connected).await);
        assert_eq!(links(&ground).await, [link(key, word)]);
    }
    let linked = ground.store.channel(key).await.expect("read").expect("there");
    assert_eq!((linked.state, linked.connected_at), (ChannelState::Connected, Some(NOW)), "the first time stands");
}

pub(super) async fn only_what_is_still_the_same_is_sealed_anew(ground: Ground) {
    let (key, neighbour) = (ground.channel("loja").await, ground.channel("outra").await);
    for key in [key, neighbour] {
        assert!(write(&ground, &link(key, "um"), ChannelState::Connected).await);
    }
    let reseal = async |channel, old: &Link, new: &str| {
        ground.store.reseal_link(channel, old.sealed.clone(), link(channel, new).sealed).await.expect("answered")
    };
    assert!(reseal(key, &link(key, "um"), "dois").await);
    assert!(!reseal(key, &link(key, "um"), "tres").await, "it was changed");
    assert!(!reseal(key + 9, &link(key, "um"), "tres").await, "unknown");
    let resealed = Link { sealed: link(key, "dois").sealed, ..link(key, "um") };
    assert_eq!(links(&ground).await, [resealed, link(neighbour, "um")], "details and neighbours stay");
}

pub(super) async fn a_deleted_channel_has_no_link(ground: Ground) {
    let (key, neighbour) = (ground.channel("loja").await, ground.channel("outra").await);
    for key in [key, neighbour] {
        assert!(write(&ground, &link(key, "um"), ChannelState::Connected).await);
    }
    ground.store.delete_channel(key, NOW).await.expect("stored");
    assert_eq!(links(&ground).await, [link(neighbour, "um")]);
    assert!(!write(&ground, &link(key, "dois"), ChannelState::Connected).await, "it is deleted");
    let sealed = link(key, "um").sealed;
    assert!(!ground.store.reseal_link(key, sealed.clone(), sealed).await.expect("answered"));

    // Made anew under its id, with its former history: not with its former secrets.
    assert_eq!(ground.channel_in("loja", ChannelState::Created).await, key);
    assert_eq!(links(&ground).await, [link(neighbour, "um")]);
    assert!(write(&ground, &link(key, "tres"), ChannelState::Created).await);
}

pub(super) async fn a_session_rests_until_the_latest_time_that_was_set(mut ground: Ground) {
    let key = ground.channel_in("loja", ChannelState::Created).await;
    let rests = async |ground: &Ground| ground.store.link_rests_until(key).await.expect("read");
    ground.store.rest_link(key, NOW + 9).await.expect("who has no link rests not");
    assert_eq!(rests(&ground).await, None);
    assert!(write(&ground, &link(key, "um"), ChannelState::Created).await);
    assert_eq!(rests(&ground).await, None);
    for until in [NOW + 60, NOW + 10] {
        ground.store.rest_link(key, until).await.expect("stored");
        assert_eq!(rests(&ground).await, Some(NOW + 60));
    }
    ground.reopen().await;
    assert_eq!(rests(&ground).await, Some(NOW + 60));
    assert!(
        ground
            .store
            .move_channel(key, ChannelState::Connected, ChannelState::Disconnected, None, NOW)
            .await
            .expect("moved")
    );
    assert!(write(&ground, &link(key, "dois"), ChannelState::Disconnected).await);
    assert_eq!(rests(&ground).await, None, "another link");
}
