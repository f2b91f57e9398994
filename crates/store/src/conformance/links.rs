//! How channels are linked to their networks.

use recado_domain::channel::{ChannelKey, ChannelState, ChannelType, Link, LoginLimits};
use recado_domain::ids::MessageId;
use recado_domain::message::Enqueued;
use recado_domain::queue::{ClaimRequest, Settlement, UnknownOutcomePolicy};
use recado_domain::status::MessageStatus;

use crate::fixtures::{Ground, NOW, request};

fn link(channel: ChannelKey, word: &str) -> Link {
    Link { channel, details: format!(r#"{{"phone":"{word}"}}"#), sealed: [b"\0\xff", word.as_bytes()].concat() }
}

async fn write(ground: &Ground, link: &Link, expected: ChannelState) -> bool {
    ground
        .store
        .link_channel(link.clone(), expected, recado_domain::channel::Actor::Operator, NOW + 5)
        .await
        .expect("answered")
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
    assert!(ground.try_move(key, created, connecting, reason, NOW).await);
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
    assert_eq!((linked.state, linked.connected_at), (ChannelState::Connected, Some(NOW)), "the first time stays");
}

/// Three messages on a channel of the number `um`, and a claim of the first; if `breaks`, the connection is lost then.
async fn one_under_way(ground: &Ground, id: &str, kind: ChannelType, breaks: bool) -> (ChannelKey, [MessageId; 3]) {
    let channel = ground.channel_of(kind, id).await;
    assert!(write(ground, &link(channel, "um"), ChannelState::Connected).await);
    let ids =
        [ground.accept(channel, "551").await, ground.accept(channel, "552").await, ground.accept(channel, "553").await];
    let claimed = ground.claim_one(channel).await;
    if breaks {
        ground.settle(channel, claimed.seq, Settlement::ConnectionLost { run_at: NOW }).await;
    }
    (channel, ids)
}

async fn statuses(ground: &Ground, channel: ChannelKey, ids: [MessageId; 3]) -> [MessageStatus; 3] {
    let [one, two, three] = ids.map(|id| ground.status(channel, id));
    [one.await, two.await, three.await]
}

pub(super) async fn a_maybe_delivered_message_is_not_sent_from_another_number(ground: Ground) {
    use MessageStatus::{Queued, Sending, Unknown};
    let web = ChannelType::WhatsAppWeb;
    // A message in flight at Meta still gets its answer.
    let cases = [
        (web, true, Queued, Unknown),
        (web, false, Sending, Unknown),
        (ChannelType::CloudApi, false, Sending, Sending),
    ];
    for (number, (kind, breaks, before, after)) in cases.into_iter().enumerate() {
        let (channel, ids) = one_under_way(&ground, &format!("loja{number}"), kind, breaks).await;
        let (neighbour, theirs) = one_under_way(&ground, &format!("outra{number}"), kind, breaks).await;
        let same = Link { details: r#"{"quality":"GREEN","phone":"um"}"#.to_owned(), ..link(channel, "um") };
        assert!(write(&ground, &same, ChannelState::Connected).await);
        assert_eq!(statuses(&ground, channel, ids).await, [before, Queued, Queued], "{kind:?}: the number is the same");
        assert!(write(&ground, &link(channel, "dois"), ChannelState::Connected).await);
        assert_eq!(statuses(&ground, channel, ids).await, [after, Queued, Queued], "{kind:?}");
        assert_eq!(statuses(&ground, neighbour, theirs).await, [before, Queued, Queued], "{kind:?}: another channel");
        let first = ground.message(channel, ids[0]).await;
        let reached = first.reached[usize::from(Unknown.number())];
        assert_eq!(reached, (after == Unknown).then_some(NOW + 5), "{kind:?}: its time is returned");
        if after == Unknown {
            // A message that was not sent goes from the present number; a late outcome changes nothing.
            ground.settle(channel, first.seq, Settlement::ConnectionLost { run_at: NOW }).await;
            assert_eq!(ground.claim_one(channel).await.id, ids[1], "{kind:?}");
            assert_eq!(ground.open(channel).await, 2, "{kind:?}");
        }
    }
}

pub(super) async fn an_unknown_message_is_not_sent_again_from_another_number(ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    assert!(write(&ground, &link(channel, "um"), ChannelState::Connected).await);
    let id = ground.accept(channel, "551").await;
    let claimed = ground.claim_one(channel).await;
    ground.settle(channel, claimed.seq, Settlement::Unknown { resend_at: Some(NOW + 9), hold: None }).await;
    assert!(write(&ground, &link(channel, "dois"), ChannelState::Connected).await);
    let later =
        ClaimRequest { now: NOW + 10, unanswered: UnknownOutcomePolicy::MarkUnknown(Some(9)), ..request(channel) };
    assert!(ground.claim(later).await.messages.is_empty());
    assert_eq!(ground.status(channel, id).await, MessageStatus::Unknown);
}

pub(super) async fn only_unchanged_bytes_are_sealed_again(ground: Ground) {
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
    ground.delete_channel(key, NOW).await;
    assert_eq!(links(&ground).await, [link(neighbour, "um")]);
    assert!(!write(&ground, &link(key, "dois"), ChannelState::Connected).await, "it is deleted");
    let sealed = link(key, "um").sealed;
    assert!(!ground.store.reseal_link(key, sealed.clone(), sealed).await.expect("answered"));

    // Created again under its id, with its former history, but not with its former secrets.
    assert_eq!(ground.channel_in("loja", ChannelState::Created).await, key);
    assert_eq!(links(&ground).await, [link(neighbour, "um")]);
    assert!(write(&ground, &link(key, "tres"), ChannelState::Created).await);
}

pub(super) async fn a_ban_ends_at_the_latest_time_that_was_set(mut ground: Ground) {
    let key = ground.channel_in("loja", ChannelState::Created).await;
    let rest = async |ground: &Ground| ground.store.login_limits(key).await.expect("read");
    ground.store.ban_link(key, NOW + 9).await.expect("who has no link rests not");
    assert_eq!(rest(&ground).await, LoginLimits::default());
    assert!(write(&ground, &link(key, "um"), ChannelState::Created).await);
    assert_eq!(rest(&ground).await, LoginLimits::default());
    for (until, at) in [(NOW + 60, NOW + 2), (NOW + 10, NOW + 1)] {
        ground.store.ban_link(key, until).await.expect("stored");
        ground.store.note_login(key, at).await.expect("stored");
        assert_eq!(rest(&ground).await, LoginLimits { banned_until: Some(NOW + 60), logged_in_at: Some(at) });
    }
    ground.reopen().await;
    assert_eq!(rest(&ground).await, LoginLimits { banned_until: Some(NOW + 60), logged_in_at: Some(NOW + 1) });
    let (up, down) = (ChannelState::Connected, ChannelState::Disconnected);
    assert!(ground.try_move(key, up, down, None, NOW).await);
    assert!(write(&ground, &link(key, "dois"), down).await);
    assert_eq!(rest(&ground).await, LoginLimits::default(), "another link");
}
