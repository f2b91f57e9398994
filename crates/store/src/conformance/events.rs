//! Events of channels.

use recado_domain::api_key::Environment;
use recado_domain::channel::{Actor, ChannelEventQuery, ChannelKey, ChannelMove, ChannelState, Recorded};
use recado_domain::event::{ChatKind, DATA_LIMIT, Event, NewEvent, Patterns};
use recado_domain::ids::ApiKeyId;
use recado_domain::queue::{PurgeRequest, Settlement};

use crate::fixtures::{DAY, Ground, NOW, new_event};

async fn recorded(ground: &Ground, channel: ChannelKey) -> Vec<(i64, Recorded)> {
    let query = ChannelEventQuery { channel, before: None, limit: 100 };
    let events = ground.store.channel_events(query).await.expect("read").events;
    assert!(events.is_sorted_by(|one, next| one.seq > next.seq), "newest first");
    events.into_iter().rev().map(|event| (event.at, event.what)).collect()
}

fn moved(from: ChannelState, to: ChannelState, reason: Option<&str>, by: Actor) -> Recorded {
    Recorded { from: Some(from), to: Some(to), reason: reason.map(str::to_owned), by, until: None }
}

pub(super) async fn every_move_of_a_channel_is_recorded(ground: Ground) {
    use ChannelState::{Connected, Paused, Restricted};
    let key = ground.channel_in("loja", Connected).await;
    let other = ground.channel_in("outra", Connected).await;
    let by = Actor::Key { id: ApiKeyId::new(NOW, [7; 10]) };
    let to = ChannelMove { from: Connected, to: Paused, reason: Some("Pausado a pedido.".to_owned()), by, at: NOW + 1 };
    assert!(ground.store.move_channel(key, to.clone()).await.expect("stored"));
    // A refused move is not recorded.
    assert!(!ground.store.move_channel(key, to).await.expect("answered"));
    assert!(ground.try_move(key, Paused, Connected, None, NOW + 2).await);
    assert!(ground.store.restrict_channel(key, NOW + DAY, "Devagar.".to_owned(), NOW + 3).await.expect("stored"));
    ground.delete_channel(key, NOW + 4).await;
    // Deleting twice keeps the first time.
    ground.delete_channel(key, NOW + 5).await;
    let expected = [
        (NOW, Recorded::creation(Connected, Actor::Operator)),
        (NOW + 1, moved(Connected, Paused, Some("Pausado a pedido."), by)),
        (NOW + 2, moved(Paused, Connected, None, Actor::Operator)),
        (
            NOW + 3,
            Recorded { until: Some(NOW + DAY), ..moved(Connected, Restricted, Some("Devagar."), Actor::Network) },
        ),
        (NOW + 4, Recorded::deletion(Restricted, Actor::Operator)),
    ];
    assert_eq!(recorded(&ground, key).await, expected);
    assert_eq!(recorded(&ground, other).await.len(), 1, "its creation");
}

pub(super) async fn a_pause_by_the_network_is_recorded_with_its_outcome(ground: Ground) {
    let key = ground.channel_by_recipient("loja").await;
    ground.accept(key, "551").await;
    let claimed = ground.claim_one(key).await;
    let reason = "O WhatsApp recusou o token.".to_owned();
    ground.settle(key, claimed.seq, Settlement::PauseChannel { reason: reason.clone() }).await;
    let (_, last) = recorded(&ground, key).await.pop().expect("an event");
    assert_eq!(last, moved(ChannelState::Connected, ChannelState::Paused, Some(&reason), Actor::Network));
}

pub(super) async fn a_page_of_events_ends_where_the_next_begins(ground: Ground) {
    let key = ground.channel_in("loja", ChannelState::Connected).await;
    for n in 0..3 {
        ground.move_channel(key, ChannelState::Connected, ChannelState::Paused).await;
        ground.move_channel(key, ChannelState::Paused, ChannelState::Connected).await;
        assert_eq!(recorded(&ground, key).await.len(), 2 * n + 3);
    }
    let (mut before, mut pages) = (None, Vec::new());
    for _ in 0..3 {
        let query = ChannelEventQuery { channel: key, before, limit: 3 };
        let page = ground.store.channel_events(query).await.expect("read");
        pages.push((page.events.len(), page.next.is_some()));
        before = page.next;
    }
    assert_eq!(pages, [(3, true), (3, true), (1, false)]);
}

pub(super) async fn a_connection_that_stays_down_is_recorded_once(ground: Ground) {
    use ChannelState::{Connected, Disconnected};
    let key = ground.channel_in("loja", Connected).await;
    let lost = Some("A linha caiu.".to_owned());
    assert!(ground.try_move(key, Connected, Disconnected, lost.clone(), NOW + 1).await);
    for at in 2..5 {
        assert!(ground.try_move(key, Disconnected, Disconnected, lost.clone(), NOW + at).await);
    }
    assert!(ground.try_move(key, Disconnected, Disconnected, Some("Erro 503.".to_owned()), NOW + 5).await);
    let times: Vec<_> = recorded(&ground, key).await.into_iter().map(|(at, _)| at).collect();
    assert_eq!(times, [NOW, NOW + 1, NOW + 5]);
}

pub(super) async fn a_state_is_known_since_it_began(ground: Ground) {
    use ChannelState::{Connected, Disconnected, Paused};
    let (lost, quiet, gone) = (
        ground.channel_in("loja", Connected).await,
        ground.channel_in("outra", Connected).await,
        ground.channel_in("fechada", Connected).await,
    );
    ground.delete_channel(gone, NOW + 1).await;
    assert!(ground.try_move(lost, Connected, Paused, None, NOW + 1).await);
    assert!(ground.try_move(lost, Paused, Connected, None, NOW + 2).await);
    assert!(ground.try_move(lost, Connected, Disconnected, Some("A linha caiu.".to_owned()), NOW + 3).await);
    // The same state for another reason.
    assert!(ground.try_move(lost, Disconnected, Disconnected, Some("Erro 503.".to_owned()), NOW + 4).await);
    let mut found = ground.store.state_events().await.expect("read");
    found.sort_by_key(|(channel, _)| *channel);
    let found: Vec<_> = found.into_iter().map(|(channel, event)| (channel, event.at, event.what.to)).collect();
    assert_eq!(found, [(lost, NOW + 3, Some(Disconnected)), (quiet, NOW, Some(Connected))]);
}

pub(super) async fn events_go_after_a_year(ground: Ground) {
    let key = ground.channel_in("loja", ChannelState::Connected).await;
    let year_later = NOW + 365 * DAY;
    let purge =
        |now| PurgeRequest { now, finished_before: now - DAY, used_before: now - DAY, events_before: 0, after: 0 };
    assert_eq!(ground.store.purge(purge(year_later)).await.expect("purged").next, None);
    assert_eq!(recorded(&ground, key).await.len(), 1, "not yet");
    assert_eq!(ground.store.purge(purge(year_later + 1)).await.expect("purged").next, None);
    assert_eq!(recorded(&ground, key).await, []);
}

pub(super) async fn an_event_with_complete_data_is_recorded_for_a_reader_and_erased_by_its_subject(ground: Ground) {
    let key = ground.channel_in("loja", ChannelState::Connected).await;
    let owner = (ground.institution, Environment::Live);
    let event = |subject, channel, chat| NewEvent {
        channel,
        name: "message.received",
        conversation: Some([9; 16]),
        chat,
        data: r#"{"message":{"id":"1"}}"#.to_owned(),
        ..new_event(owner, subject)
    };
    let record = async |event| ground.store.record_event(event).await.expect("stored");
    assert!(!record(event(1, Some(key), ChatKind::Direct)).await, "nothing reads");
    ground.record_messages(Environment::Live, true).await;
    assert!(record(event(1, Some(key), ChatKind::Group)).await);
    assert!(record(event(2, None, ChatKind::Direct)).await);
    let complete = async || {
        let events = ground.events(ground.event_query()).await;
        events.into_iter().filter(|event| event.complete).collect::<Vec<_>>()
    };
    let found = complete().await;
    let shown =
        |event: &Event| (event.subject, event.conversation, event.chat, event.channel.as_ref().map(|of| of.key));
    let expected = [
        (Some([1; 16]), Some([9; 16]), ChatKind::Group, Some(key)),
        (Some([2; 16]), Some([9; 16]), ChatKind::Direct, None),
    ];
    assert_eq!(found.iter().map(shown).collect::<Vec<_>>(), expected);
    assert!(found.iter().all(|event| event.owner == owner && event.data == r#"{"message":{"id":"1"}}"#));
    // Alone, by its number: for its owner and for no other.
    let one = ground.store.event(owner, found[1].seq).await.expect("read");
    assert_eq!(one.as_ref(), Some(&found[1]));
    assert_eq!(ground.store.event((ground.institution, Environment::Test), found[1].seq).await.expect("read"), None);
    let too_long = NewEvent { data: "x".repeat(DATA_LIMIT + 1), ..event(3, None, ChatKind::Direct) };
    assert!(ground.store.record_event(too_long).await.is_err());
    assert_eq!(ground.store.forget_events(vec![[1; 16], [7; 16]]).await.expect("deleted"), 1);
    assert_eq!(complete().await, found[1..]);
    // The history of the channel is that of the channel alone.
    assert_eq!(recorded(&ground, key).await.len(), 1);
}

pub(super) async fn a_log_decides_what_is_recorded_on_channels_of_today_and_tomorrow(mut ground: Ground) {
    let owner = (ground.institution, Environment::Live);
    let kinds = async |ground: &Ground, channel| {
        ground.accept(channel, "551").await;
        let claimed = ground.claim_one(channel).await;
        ground.settle(channel, claimed.seq, crate::fixtures::sent()).await;
        let events = ground.events(ground.event_query()).await;
        let of_channel = events.into_iter().filter(|event| event.channel.as_ref().is_some_and(|of| of.key == channel));
        of_channel.filter(|event| event.message.is_some()).map(|event| event.kind).collect::<Vec<_>>()
    };
    let set = async |ground: &Ground, log: &str| {
        ground.store.set_event_log(owner, Patterns::from_stored(log)).await.expect("stored")
    };
    let before = ground.channel_by_recipient("antes").await;
    assert_eq!(ground.store.event_log(owner).await.expect("read"), None);
    assert!(set(&ground, "* !message.queued").await);
    let after = ground.channel_by_recipient("depois").await;
    for channel in [before, after] {
        assert_eq!(kinds(&ground, channel).await, ["message.sending", "message.sent"]);
    }
    assert!(set(&ground, "*").await);
    ground.reopen().await;
    let all = ground.channel_by_recipient("tudo").await;
    assert_eq!(kinds(&ground, all).await[0], "message.queued");
    assert!(set(&ground, "").await);
    let none = ground.channel_by_recipient("nada").await;
    assert_eq!(kinds(&ground, none).await, Vec::<String>::new());
    assert_eq!(ground.store.event_log(owner).await.expect("read"), Some(Patterns::default()));
    let unknown = recado_domain::ids::InstitutionId::new(1, [8; 10]);
    assert!(!ground.store.set_event_log((unknown, Environment::Live), Patterns::default()).await.expect("answered"));
}
