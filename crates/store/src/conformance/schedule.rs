//! Messages that are queued at a later time.

use recado_domain::api_key::Environment;
use recado_domain::channel::{ChannelKey, ChannelState};
use recado_domain::clock::Millis;
use recado_domain::ids::MessageId;
use recado_domain::message::{Cancelled, Enqueued, Message, MessageQuery, NewMessage, Place, Promoted};
use recado_domain::queue::{ClaimRequest, PurgeRequest};
use recado_domain::status::MessageStatus;

use crate::fixtures::{DAY, Ground, MINUTE, NOW, ids, request, sent};
use crate::person::{Erasure, Person, PersonPart, PersonQuery, PersonRow};

fn scheduled(ground: &Ground, channel: ChannelKey, recipient: &str, send_at: Millis) -> NewMessage {
    let expires_at = send_at + DAY;
    NewMessage { send_at: Some(send_at), expires_at, ..ground.new_message(channel, recipient) }
}

async fn schedule(ground: &Ground, channel: ChannelKey, recipient: &str, send_at: Millis) -> MessageId {
    let message = scheduled(ground, channel, recipient, send_at);
    let id = message.id;
    assert_eq!(ground.enqueue(message).await, Enqueued::Accepted);
    id
}

async fn promote(ground: &Ground, now: Millis) -> Promoted {
    ground.store.promote(now).await.expect("the store works")
}

/// Claims and settles all that can be sent; in this order.
async fn send_all(ground: &Ground, channel: ChannelKey, now: Millis) -> Vec<MessageId> {
    let mut all = Vec::new();
    loop {
        let asked = ClaimRequest { now, claimed_until: now + MINUTE, ..request(channel) };
        let claim = ground.claim(asked).await;
        if claim.messages.is_empty() {
            return all;
        }
        all.extend(ids(&claim));
        for message in claim.messages {
            ground.settle(channel, message.seq, sent()).await;
        }
    }
}

pub(super) async fn a_scheduled_message_waits_for_its_time(ground: Ground) {
    let channel = ground.channel("loja").await;
    let id = schedule(&ground, channel, "551", NOW + 5_000).await;
    let stored = ground.message(channel, id).await;
    assert_eq!((stored.status, stored.send_at), (MessageStatus::Queued, Some(NOW + 5_000)));
    let next = ground.channel("outra").await;
    schedule(&ground, next, "551", NOW + 2 * DAY).await;
    let claim = ground.claim(request(channel)).await;
    assert_eq!((claim.messages.len(), claim.next_at), (0, None), "a claim knows nothing of it, nor of its neighbour's");
    assert!(ground.store.open_channels().await.expect("read").is_empty(), "nor has the channel anything to do");
    let next_at = Some(NOW + 5_000);
    assert_eq!(promote(&ground, NOW + 4_999).await, Promoted { messages: 0, next_at });
    // The clock may be set back.
    assert_eq!(promote(&ground, NOW - DAY).await, Promoted { messages: 0, next_at });
    assert_eq!(promote(&ground, NOW + 5_000).await, Promoted { messages: 1, next_at: Some(NOW + 2 * DAY) });
    assert_eq!(ground.store.open_channels().await.expect("read"), [channel]);
    assert_eq!(send_all(&ground, channel, NOW + 5_000).await, [id]);
    let late = schedule(&ground, channel, "551", NOW + 6_000).await;
    // The clock may be set forward, and the server may have stood still for longer than the message lives.
    let now = NOW + 6_000 + DAY;
    assert_eq!(promote(&ground, now).await.messages, 1);
    assert_eq!(send_all(&ground, channel, now).await, []);
    assert_eq!(ground.status(channel, late).await, MessageStatus::Expired, "counted from its time");
}

pub(super) async fn scheduled_messages_are_queued_in_the_order_of_their_times(ground: Ground) {
    let channel = ground.channel("loja").await;
    let third = schedule(&ground, channel, "551", NOW + 30).await;
    let second = schedule(&ground, channel, "552", NOW + 20).await;
    let with_it = schedule(&ground, channel, "553", NOW + 20).await;
    let first = ground.accept(channel, "554").await;
    assert_eq!(promote(&ground, NOW + 30).await.messages, 3);
    let last = ground.accept(channel, "555").await;
    let order = [first, second, with_it, third, last];
    assert_eq!(send_all(&ground, channel, NOW + 30).await, order);
}

pub(super) async fn a_scheduled_message_counts_and_can_be_cancelled(ground: Ground) {
    let channel = ground.channel("loja").await;
    let id = schedule(&ground, channel, "551", NOW + DAY).await;
    let full = || NewMessage { backlog_cap: 1, ..ground.new_message(channel, "551") };
    assert_eq!(ground.enqueue(full()).await, Enqueued::QueueFull);
    assert_eq!(ground.store.cancel(channel, id, NOW).await.expect("answered"), Cancelled::Done);
    assert_eq!(ground.status(channel, id).await, MessageStatus::Cancelled);
    assert_eq!(ground.store.cancel(channel, id, NOW).await.expect("answered"), Cancelled::TooLate);
    assert_eq!(promote(&ground, NOW + DAY).await, Promoted { messages: 0, next_at: None });
    assert_eq!(ground.enqueue(full()).await, Enqueued::Accepted);
    // It is purged in time.
    let before = NOW + 1;
    let purge = PurgeRequest { now: NOW, finished_before: before, used_before: 0, events_before: 0, after: 0 };
    ground.store.purge(purge).await.expect("purged");
    assert_eq!(ground.store.message(channel, id).await.expect("read"), None);
}

pub(super) async fn a_scheduled_message_is_queued_behind_its_recipients_others(ground: Ground) {
    let channel = ground.channel_by_recipient("meta").await;
    let due = schedule(&ground, channel, "551", NOW + 10).await;
    let alone = schedule(&ground, channel, "552", NOW + 20).await;
    let first = ground.accept(channel, "551").await;
    let asked = |now| ClaimRequest { limit: 9, now, ..request(channel) };
    let claim = ground.claim(asked(NOW)).await;
    assert_eq!(ids(&claim), [first], "a scheduled message blocks no other");
    assert_eq!(promote(&ground, NOW + 20).await.messages, 2);
    let held = claim.messages.iter().map(|message| message.seq).collect();
    let next = ground.claim(ClaimRequest { held, ..asked(NOW + 20) }).await;
    assert_eq!(ids(&next), [alone], "its recipient's first is on its way");
    ground.settle(channel, claim.messages[0].seq, sent()).await;
    let held = next.messages.iter().map(|message| message.seq).collect();
    assert_eq!(ids(&ground.claim(ClaimRequest { held, ..asked(NOW + 20) }).await), [due]);
}

pub(super) async fn messages_scheduled_before_a_deletion_are_cancelled(ground: Ground) {
    let channel = ground.channel("loja").await;
    let former = schedule(&ground, channel, "551", NOW + DAY).await;
    ground.delete_channel(channel, NOW).await;
    let again = ground.store.create_channel(ground.new_channel("loja", ChannelState::Connected)).await;
    assert_eq!(again.expect("stored").expect("a free id").key, channel);
    let own = schedule(&ground, channel, "551", NOW + DAY).await;
    let one_more = NewMessage { backlog_cap: 2, ..ground.new_message(channel, "551") };
    assert_eq!(ground.enqueue(one_more).await, Enqueued::Accepted, "the former one is no backlog");
    assert_eq!(promote(&ground, NOW).await.messages, 1, "at once");
    assert_eq!(ground.status(channel, former).await, MessageStatus::Cancelled);
    assert_eq!(ground.status(channel, own).await, MessageStatus::Queued);
    assert_eq!(promote(&ground, NOW + DAY).await.messages, 1);
    assert_eq!(send_all(&ground, channel, NOW + DAY).await.last(), Some(&own));

    let left = schedule(&ground, channel, "551", NOW + 2 * DAY).await;
    ground.delete_channel(channel, NOW).await;
    assert_eq!(promote(&ground, NOW).await.messages, 1);
    assert_eq!(ground.status(channel, left).await, MessageStatus::Cancelled);
}

pub(super) async fn a_scheduled_message_is_found_shown_and_erased(ground: Ground) {
    let channel = ground.channel("loja").await;
    let text = NewMessage { kind: "text", rendition: None, ..scheduled(&ground, channel, "551", NOW + DAY) };
    let marked = NewMessage { reference: Some("p-1".to_owned()), ..scheduled(&ground, channel, "552", NOW + 2 * DAY) };
    let (text, marked) = (ground.enqueue_id(text).await, ground.enqueue_id(marked).await);
    let plain = ground.accept(channel, "553").await;
    let found = async |query: MessageQuery| {
        let page = ground.store.messages(query).await.expect("read").expect("no cursor");
        page.messages.into_iter().map(|message| message.id).collect::<Vec<_>>()
    };
    let all = || MessageQuery::of(channel, 10);
    assert_eq!(found(all()).await.len(), 3);
    let waiting = found(MessageQuery { scheduled: true, ..all() }).await;
    assert!(waiting.len() == 2 && !waiting.contains(&plain), "{waiting:?}");
    assert_eq!(found(MessageQuery { kind: Some("text".to_owned()), ..all() }).await, [text]);
    assert_eq!(found(MessageQuery { reference: Some("p-1".to_owned()), ..all() }).await, [marked]);
    let next = MessageQuery { before: Some(Place::Scheduled(waiting[0])), scheduled: true, ..all() };
    assert_eq!(found(next).await, [waiting[1]]);

    let person = Person::new(vec!["551".to_owned()], None);
    let query = |part| PersonQuery { person: person.clone(), part, after: 0 };
    let places = ground.store.person(query(PersonPart::Places)).await.expect("read").rows;
    let places: Vec<_> = places
        .into_iter()
        .filter_map(|row| if let PersonRow::Place(place) = row { Some(place) } else { None })
        .collect();
    assert_eq!(places.iter().map(|place| place.id).collect::<Vec<_>>(), [text]);
    let erased = ground.store.erase_person(Erasure::Messages(places), NOW).await.expect("erased");
    assert_eq!((erased.messages, erased.cancelled), (1, 1));
    assert_eq!(ground.store.message(channel, text).await.expect("read"), None);
    assert_eq!(promote(&ground, NOW).await.next_at, Some(NOW + 2 * DAY), "nothing of it is left");
}

pub(super) async fn events_of_a_scheduled_message_go_with_it(ground: Ground) {
    ground.record_messages(Environment::Live, true).await;
    let channel = ground.channel("loja").await;
    let promoted = schedule(&ground, channel, "551", NOW + 1).await;
    let cancelled = schedule(&ground, channel, "551", NOW + DAY).await;
    let kinds = async |id: MessageId| {
        let events = ground.events(ground.event_query()).await;
        events
            .into_iter()
            .filter(|event| event.message.as_ref().is_some_and(|message| message.id == id))
            .map(|event| event.kind)
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds(promoted).await, ["message.queued"]);
    promote(&ground, NOW + 1).await;
    assert_eq!(send_all(&ground, channel, NOW + 1).await, [promoted]);
    assert_eq!(kinds(promoted).await, ["message.queued", "message.sending", "message.sent"]);
    ground.store.cancel(channel, cancelled, NOW).await.expect("answered");
    assert_eq!(kinds(cancelled).await, ["message.queued", "message.cancelled"]);
    let purge = PurgeRequest { now: NOW, finished_before: NOW + DAY, used_before: 0, events_before: 0, after: 0 };
    ground.store.purge(purge).await.expect("purged");
    assert_eq!((kinds(promoted).await, kinds(cancelled).await), (vec![], vec![]));
}

pub(super) async fn many_that_are_due_are_queued_some_at_a_time(ground: Ground) {
    const MESSAGES: usize = 1_200;
    let channel = ground.channel("loja").await;
    let all = (0..MESSAGES).map(|_| schedule(&ground, channel, "551", NOW + 1));
    futures_util::future::join_all(all).await;
    let mut accepted = ground.all(channel).await;
    accepted.sort_unstable_by_key(|message| message.seq.abs());
    let mut batches = Vec::new();
    loop {
        let promoted = promote(&ground, NOW + 1).await;
        batches.push(promoted.messages);
        if promoted.next_at.is_none() {
            break;
        }
    }
    assert_eq!(batches, [500, 500, 200]);
    let mut queued = ground.all(channel).await;
    assert_eq!(queued.iter().filter(|message| message.seq > 0).count(), MESSAGES);
    queued.sort_unstable_by_key(|message| message.seq);
    let ids = |messages: &[Message]| messages.iter().map(|message| message.id).collect::<Vec<_>>();
    assert!(ids(&queued) == ids(&accepted), "of messages with the same time the first accepted is the first queued");
}

pub(super) async fn a_channel_with_many_due_messages_delays_no_other(ground: Ground) {
    const MESSAGES: usize = 700;
    let (busy, quiet) = (ground.channel("loja").await, ground.channel("outra").await);
    let all = (0..MESSAGES).map(|_| schedule(&ground, busy, "551", NOW + 1));
    futures_util::future::join_all(all).await;
    let theirs = schedule(&ground, quiet, "551", NOW + 2).await;
    let not_yet = schedule(&ground, quiet, "551", NOW + 3).await;
    promote(&ground, NOW + 2).await;
    assert!(ground.message(quiet, theirs).await.seq > 0, "it was due, too");
    assert!(ground.message(quiet, not_yet).await.seq < 0);
    while promote(&ground, NOW + 2).await.next_at != Some(NOW + 3) {}
    assert!(ground.all(busy).await.iter().all(|message| message.seq > 0));
}

pub(super) async fn a_list_goes_on_where_it_was_when_a_message_is_queued(ground: Ground) {
    let channel = ground.channel("loja").await;
    let scheduled = [NOW + 1, NOW + 2, NOW + 3].map(async |at| schedule(&ground, channel, "551", at).await);
    let mut expected = vec![ground.accept(channel, "551").await];
    for id in scheduled {
        expected.push(id.await);
    }
    let (mut query, mut found) = (MessageQuery::of(channel, 2), Vec::new());
    loop {
        let page = ground.store.messages(query.clone()).await.expect("read").expect("a cursor of this list");
        found.extend(page.messages.into_iter().map(|message| message.id));
        // The last message of the page is queued, and gets another number.
        promote(&ground, NOW + 1).await;
        query.before = page.next;
        if page.next.is_none() {
            break;
        }
    }
    assert_eq!(found, expected);
}

pub(super) async fn a_schedule_outlasts_a_restart(mut ground: Ground) {
    let channel = ground.channel("loja").await;
    let id = schedule(&ground, channel, "551", NOW + 1).await;
    ground.reopen().await;
    // Its number is not given again.
    let other = ground.accept(channel, "552").await;
    assert_eq!(ground.store.cancel(channel, other, NOW).await.expect("answered"), Cancelled::Done);
    assert_eq!(promote(&ground, NOW + 1).await.messages, 1);
    assert_eq!(send_all(&ground, channel, NOW + 1).await, [id]);
}
