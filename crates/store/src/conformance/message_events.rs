//! Events of messages, where they are recorded.

use recado_domain::api_key::Environment;
use recado_domain::channel::{ChannelKey, ChannelState, NewChannel};
use recado_domain::event::{Event, EventQuery, Recording};
use recado_domain::ids::{MessageId, NetworkId};
use recado_domain::message::{NewMessage, Pricing, StatusChange};
use recado_domain::queue::{MessageRef, PurgeRequest, Receipt, Settlement};
use recado_domain::status::MessageStatus;

use crate::fixtures::{Ground, NOW, request, sent};
use crate::person::{Erased, Erasure, Person, PersonPart, PersonQuery, PersonRow};
use MessageStatus::{Cancelled, Delivered, Failed, Queued, Read, Sending, Sent};

fn of_messages(events: Vec<Event>) -> Vec<Event> {
    events.into_iter().filter(|event| event.message.is_some()).collect()
}

/// The states of a message according to its events, each from the one before.
async fn reached(ground: &Ground, id: MessageId) -> Vec<MessageStatus> {
    let events = of_messages(ground.events(ground.event_query()).await);
    let mut last = None;
    let mut reached = Vec::new();
    for event in events.iter().filter(|event| event.message.as_ref().is_some_and(|message| message.id == id)) {
        let what = StatusChange::from_json(&event.data).expect("a change of a state");
        assert_eq!((what.from, event.kind.as_str()), (last, what.kind()), "{event:?}");
        last = Some(what.to);
        reached.push(what.to);
    }
    reached
}

async fn consumed(ground: &Ground) -> ChannelKey {
    let channel = ground.channel_by_recipient("loja").await;
    ground.record_messages(Environment::Live, true).await;
    channel
}

fn by_network_id(channel: ChannelKey, network_id: &str, status: MessageStatus, at: i64) -> Receipt {
    let of = MessageRef::NetworkId(network_id.parse().expect("an id"));
    Receipt { channel, of, status, at, from: None, account: None, error: None, pauses: None, pricing: None }
}

pub(super) async fn without_a_consumer_messages_have_no_events(ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    ground.accept(channel, "551").await;
    let claimed = ground.claim_one(channel).await;
    ground.settle(channel, claimed.seq, sent()).await;
    ground.receipt(channel, &claimed.network_id, Read).await;
    assert_eq!(of_messages(ground.events(ground.event_query()).await), []);
}

pub(super) async fn every_change_of_a_message_is_recorded(ground: Ground) {
    let channel = consumed(&ground).await;
    let id = ground.accept(channel, "551").await;
    let claimed = ground.claim_one(channel).await;
    ground.settle(channel, claimed.seq, Settlement::Retry { run_at: NOW }).await;
    let claimed = ground.claim_one(channel).await;
    ground.settle_at(channel, vec![(claimed.seq, sent())], NOW + 5).await;
    let receipt = |status, at| by_network_id(channel, &claimed.network_id, status, at);
    // The receipts arrive together, and one of them twice.
    let receipts = vec![receipt(Delivered, NOW + 7), receipt(Read, NOW + 8), receipt(Delivered, NOW + 9)];
    ground.store.apply_receipts(receipts, NOW + 9).await.expect("stored");
    assert_eq!(reached(&ground, id).await, [Queued, Sending, Queued, Sending, Sent, Delivered, Read]);
    let events = of_messages(ground.events(ground.event_query()).await);
    let times: Vec<_> = events.iter().map(|event| event.at - NOW).collect();
    assert_eq!(times, [0, 0, 0, 0, 5, 7, 8]);
    assert!(events.iter().all(|event| event.channel.as_ref().is_some_and(|of| of.key == channel)));
    assert_eq!(events[4].data, r#"{"from":"SENDING","to":"SENT"}"#);
}

pub(super) async fn a_price_is_in_the_event_of_its_state(ground: Ground) {
    let channel = consumed(&ground).await;
    let price = |model: &str| Pricing { billable: Some(true), model: Some(model.to_owned()), category: None };
    let receipt = |of: &MessageRef, status, model: &str| Receipt {
        channel,
        of: of.clone(),
        status,
        at: NOW + 7,
        from: None,
        account: None,
        error: None,
        pauses: None,
        pricing: Some(price(model)),
    };
    let priced = async |id: MessageId| {
        let events = of_messages(ground.events(ground.event_query()).await);
        let of_id = events.iter().filter(|event| event.message.as_ref().is_some_and(|message| message.id == id));
        let prices = of_id.filter_map(|event| StatusChange::from_json(&event.data).expect("a change").pricing);
        prices.filter_map(|price| price.model).collect::<Vec<_>>()
    };
    let id = ground.accept(channel, "551").await;
    let claimed = ground.claim_one(channel).await;
    ground.settle(channel, claimed.seq, sent()).await;
    let of = MessageRef::NetworkId(claimed.network_id.parse().expect("an id"));
    let receipts = vec![receipt(&of, Delivered, "first"), receipt(&of, Read, "second"), receipt(&of, Read, "third")];
    ground.store.apply_receipts(receipts, NOW + 9).await.expect("stored");
    assert_eq!(priced(id).await, ["first", "second"]);
    // Receipts that come before the answer of the network.
    let early = ground.accept(channel, "552").await;
    let claimed = ground.claim_one(channel).await;
    let remote_id: NetworkId = "wamid.1".parse().expect("an id");
    let of = MessageRef::RemoteId { remote_id: remote_id.clone(), ours: None };
    let receipts = vec![receipt(&of, Delivered, "early"), receipt(&of, Read, "later")];
    ground.store.apply_receipts(receipts, NOW + 9).await.expect("stored");
    assert_eq!(priced(early).await, [""; 0]);
    let answer = Settlement::Sent { account: None, remote_id: Some(remote_id), rendition: None };
    ground.settle(channel, claimed.seq, answer).await;
    assert_eq!(priced(early).await, ["early", "later"]);
}

pub(super) async fn an_event_of_a_failure_has_its_code_alone(ground: Ground) {
    let channel = consumed(&ground).await;
    let error = || ("131026".to_owned(), "5511999998888 nao tem WhatsApp.".to_owned());
    let (by_answer, by_receipt) = (ground.accept(channel, "551").await, ground.accept(channel, "552").await);
    let (code, message) = error();
    let claimed = ground.claim_one(channel).await;
    ground.settle(channel, claimed.seq, Settlement::Failed { code, message }).await;
    let claimed = ground.claim_one(channel).await;
    ground.settle(channel, claimed.seq, sent()).await;
    ground
        .apply(Receipt { error: Some(error()), ..by_network_id(channel, &claimed.network_id, Failed, NOW + 1) })
        .await;
    assert_eq!(reached(&ground, by_answer).await, [Queued, Sending, Failed]);
    assert_eq!(reached(&ground, by_receipt).await, [Queued, Sending, Sent, Failed]);
    let failed = of_messages(ground.events(ground.event_query()).await);
    let failed: Vec<_> =
        failed.iter().filter(|event| event.kind == "message.failed").map(|event| &event.data).collect();
    let expected = |from: &str| format!(r#"{{"from":"{from}","to":"FAILED","error":"131026"}}"#);
    assert_eq!(failed, [&expected("SENDING"), &expected("SENT")]);
}

pub(super) async fn an_unchanged_message_records_no_event(ground: Ground) {
    let channel = consumed(&ground).await;
    let other = ground.channel("outra").await;
    let id = ground.accept(channel, "551").await;
    let twin = NewMessage { idempotency: Some(ground.idempotency("a", 1)), ..ground.new_message(channel, "552") };
    ground.enqueue(twin.clone()).await;
    ground.enqueue(NewMessage { id: MessageId::new(NOW, ground.unique()), ..twin.clone() }).await;
    let claimed = ground.claim_one(channel).await;
    // A receipt overtakes the outcome, a second outcome is late, and a receipt belongs to another channel.
    ground.receipt(channel, &claimed.network_id, Delivered).await;
    ground.settle(channel, claimed.seq, sent()).await;
    ground.settle(channel, claimed.seq, Settlement::Retry { run_at: NOW }).await;
    ground.receipt(other, &claimed.network_id, Read).await;
    assert_eq!(reached(&ground, id).await, [Queued, Sending, Delivered]);
    assert_eq!(reached(&ground, twin.id).await, [Queued]);
    ground.store.cancel(channel, twin.id, NOW).await.expect("stored");
    assert_eq!(reached(&ground, twin.id).await, [Queued, Cancelled]);
    assert_eq!(of_messages(ground.events(ground.event_query()).await).len(), 5, "nothing of the repeated call");
}

pub(super) async fn only_the_channels_of_the_consumer_record(ground: Ground) {
    let live = consumed(&ground).await;
    let sandbox = NewChannel { environment: Environment::Test, ..ground.new_channel("teste", ChannelState::Connected) };
    let sandbox = ground.store.create_channel(sandbox).await.expect("stored").expect("a free id").key;
    // A channel that is created later, and one that is created again.
    let later = ground.channel("depois").await;
    ground.delete_channel(live, NOW).await;
    assert_eq!(ground.channel_by_recipient("loja").await, live);
    for channel in [live, sandbox, later] {
        ground.accept(channel, "551").await;
    }
    let events = async |environment| {
        let events =
            ground.events(EventQuery { owner: Some((ground.institution, environment)), ..ground.event_query() }).await;
        of_messages(events).into_iter().map(|event| event.channel.expect("of a channel").key).collect::<Vec<_>>()
    };
    assert_eq!(events(Environment::Live).await, [live, later]);
    assert!(events(Environment::Test).await.is_empty());
    ground.record_messages(Environment::Live, false).await;
    ground.record_messages(Environment::Test, true).await;
    let last = ground.channel("mais").await;
    for channel in [live, sandbox, later, last] {
        ground.accept(channel, "551").await;
    }
    assert_eq!(events(Environment::Live).await, [live, later]);
    assert_eq!(events(Environment::Test).await, [sandbox]);
    let unknown = (recado_domain::ids::InstitutionId::new(NOW, [9; 10]), Environment::Live);
    assert!(!ground.store.record_messages(unknown, Recording::All).await.expect("answered"));
}

pub(super) async fn a_consumer_outlasts_a_restart(mut ground: Ground) {
    let channel = consumed(&ground).await;
    ground.reopen().await;
    let later = ground.channel("depois").await;
    let ids = [ground.accept(channel, "551").await, ground.accept(later, "551").await];
    let events = of_messages(ground.events(ground.event_query()).await);
    assert_eq!(events.iter().filter_map(|event| Some(event.message.as_ref()?.id)).collect::<Vec<_>>(), ids);
}

/// Purges one message, and keeps another one of the same channel.
async fn one_of_two_keys_is_removed(ground: &Ground, channel: ChannelKey) -> [MessageId; 2] {
    let (old, young) = (ground.accept(channel, "551").await, ground.accept(channel, "552").await);
    for settled_at in [NOW, NOW + 2] {
        let claimed = ground.claim_one(channel).await;
        let failed = Settlement::Failed { code: "1".to_owned(), message: "x".to_owned() };
        ground.settle_at(channel, vec![(claimed.seq, failed)], settled_at).await;
    }
    let purge = PurgeRequest { now: NOW + 3, finished_before: NOW + 1, used_before: 0, events_before: 0, after: 0 };
    ground.store.purge(purge).await.expect("purged");
    assert_ne!(ground.store.event_state().await.expect("read").deleted_until, 0, "readers can tell");
    [old, young]
}

/// Erases the messages to this number.
async fn erase(ground: &Ground, number: &str) -> Erased {
    let person = Person::new(vec![number.to_owned()], None);
    let query = PersonQuery { person, part: PersonPart::Places, after: 0 };
    let places = ground.store.person(query).await.expect("read").rows.into_iter().map(|row| match row {
        PersonRow::Place(place) => place,
        other => panic!("{other:?}"),
    });
    ground.store.erase_person(Erasure::Messages(places.collect()), NOW).await.expect("erased")
}

pub(super) async fn an_event_goes_with_its_message(ground: Ground) {
    let channel = consumed(&ground).await;
    let [old, young] = one_of_two_keys_is_removed(&ground, channel).await;
    assert_eq!(reached(&ground, old).await, []);
    assert_eq!(reached(&ground, young).await, [Queued, Sending, Failed]);
    assert_eq!(of_messages(ground.events(ground.event_query()).await).len(), 3);
}

/// Readers get no event whose message is gone. So an engine's own test reads what is left after this: the events of one
/// message.
pub(crate) async fn events_are_purged_with_their_messages(ground: &Ground) {
    let channel = consumed(ground).await;
    one_of_two_keys_is_removed(ground, channel).await;
    ground.accept(channel, "553").await;
    assert_eq!(erase(ground, "553").await.messages, 1);
}

pub(super) async fn old_events_of_messages_go_and_readers_can_tell(ground: Ground) {
    let channel = consumed(&ground).await;
    let id = ground.accept(channel, "551").await;
    let claimed = ground.claim_one(channel).await;
    ground.settle_at(channel, vec![(claimed.seq, sent())], NOW + 1).await;
    let before = async |events_before| {
        let purge = PurgeRequest { now: NOW, finished_before: 0, used_before: 0, events_before, after: 0 };
        ground.store.purge(purge).await.expect("purged");
        of_messages(ground.events(ground.event_query()).await)
            .iter()
            .map(|event| event.kind.clone())
            .collect::<Vec<_>>()
    };
    let deleted_until = async || ground.store.event_state().await.expect("read").deleted_until;
    assert_eq!((before(NOW).await.len(), deleted_until().await), (3, 0));
    assert_eq!(before(NOW + 1).await, ["message.sent"]);
    let earlier = deleted_until().await;
    assert!(earlier > 0);
    assert_eq!(before(NOW + 2).await, Vec::<String>::new());
    assert_eq!(deleted_until().await, earlier + 1);
    assert_eq!(ground.status(channel, id).await, Sent, "the message stays");
    let query = recado_domain::channel::ChannelEventQuery { channel, before: None, limit: 9 };
    assert_eq!(ground.store.channel_events(query).await.expect("read").events.len(), 1, "and so does its channel's");
}

pub(super) async fn erasing_a_message_erases_its_events(ground: Ground) {
    let channel = consumed(&ground).await;
    let (waits, was_sent) = (ground.accept(channel, "551").await, ground.accept(channel, "551").await);
    let others = ground.accept(channel, "552").await;
    let claimed = ground.claim(request(channel)).await.messages.remove(0);
    assert_eq!(claimed.id, waits);
    ground.settle(channel, claimed.seq, sent()).await;
    let erased = erase(&ground, "551").await;
    assert_eq!((erased.messages, erased.cancelled), (2, 1));
    assert_eq!(reached(&ground, was_sent).await, []);
    assert_eq!(reached(&ground, others).await, [Queued]);
    assert_eq!(of_messages(ground.events(ground.event_query()).await).len(), 1);
}

pub(super) async fn pages_of_events_are_in_order_and_complete(ground: Ground) {
    let channel = consumed(&ground).await;
    let other = ground.channel("outra").await;
    for n in 0..5 {
        ground.accept(if n % 2 == 0 { channel } else { other }, "551").await;
    }
    let all = ground.events(ground.event_query()).await;
    assert!(all.is_sorted_by(|one, next| one.seq < next.seq), "{all:?}");
    assert_eq!(all.len(), 7, "two channels, and five messages");
    // Each call records its own marker, which the next call reads.
    let mine = |events: Vec<Event>| events.into_iter().take_while(|event| event.seq <= all[6].seq).collect::<Vec<_>>();
    for limit in [0, 1, 2, 3, 7, 1_000] {
        let query = EventQuery { limit, ..ground.event_query() };
        assert_eq!(mine(ground.events(query).await), all, "{limit}");
    }
    let of_other = EventQuery { channel: Some(other), limit: 1, ..ground.event_query() };
    let expected: Vec<_> =
        all.iter().filter(|event| event.channel.as_ref().is_some_and(|of| of.key == other)).cloned().collect();
    assert_eq!(ground.events(of_other).await, expected);
    let behind = EventQuery { after: all[2].seq, ..ground.event_query() };
    assert_eq!(mine(ground.events(behind).await), all[3..]);
    let foreign = EventQuery {
        owner: Some((recado_domain::ids::InstitutionId::new(1, [8; 10]), Environment::Live)),
        ..ground.event_query()
    };
    assert_eq!(ground.events(foreign).await, []);
}

pub(super) async fn a_cursor_ahead_of_the_store_is_refused(ground: Ground) {
    let last = |events: Vec<Event>| events.last().expect("an event").seq;
    ground.channel("loja").await;
    let seen = last(ground.events(ground.event_query()).await);
    let mut reader = ground.store.event_reader();
    let mut read = async |after| reader.read(EventQuery { after, ..ground.event_query() }).await.expect("read");
    assert!(read(seen).await.is_some());
    // The marker has a number.
    assert!(read(seen + 1).await.is_some());
    assert_eq!(read(seen + 2).await, None);
    ground.channel("outra").await;
    assert!(read(seen + 2).await.is_some());
}
