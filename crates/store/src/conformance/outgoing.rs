//! Sent messages in conversations.

use futures_util::future::join_all;
use recado_domain::channel::{Actor, ChannelKey, ChannelType};
use recado_domain::clock::Millis;
use recado_domain::contact_book::{ContactChange, ContactChanged, NewContact};
use recado_domain::conversation::{
    Change, Changed, Conversation, ConversationMessages, InboxItem, Order, Status, WindowState,
};
use recado_domain::event::ChatKind;
use recado_domain::ids::MessageId;
use recado_domain::incoming::{Arrival, Arrivals, Direction, Group, SenderIds, What};
use recado_domain::message::NewMessage;
use recado_domain::queue::Submitted;
use recado_domain::status::MessageStatus;

use super::inbox::{arrival, batch, both, contacts, conversations, owner, receive, record, text};
use crate::fixtures::{Ground, MINUTE, NOW, request, sent};
use crate::person::{Erasure, Person, PersonPart, PersonQuery, PersonRow};

const ANA: &str = "5511988887777";
/// The same number without its ninth digit.
const ANA_SHORT: &str = "551188887777";
const BIA: &str = "5521977776666";

/// A text message that is claimed now, and its conversation's input.
async fn submit(ground: &Ground, channel: ChannelKey, to: &str, content: &str) -> Submitted {
    let payload = format!(r#"{{"to":"{to}","type":"text","text":{{"content":"{content}"}}}}"#);
    let new = NewMessage { kind: "text", payload, rendition: None, ..ground.new_message(channel, to) };
    ground.enqueue_id(new).await;
    let claimed = ground.claim_one(channel).await;
    assert!(!claimed.joined);
    let kind = ground.store.channel(channel).await.expect("read").expect("a channel").kind;
    Submitted::new((channel, kind), &claimed)
}

async fn join(ground: &Ground, submitted: &[Submitted], now: Millis) {
    ground.store.join_conversations(owner(ground), submitted.to_vec(), now).await.expect("stored");
}

/// Sends a message, and has the network accept it.
pub(super) async fn send(ground: &Ground, channel: ChannelKey, to: &str, content: &str, now: Millis) -> MessageId {
    let submitted = submit(ground, channel, to, content).await;
    join(ground, std::slice::from_ref(&submitted), now).await;
    ground.settle_at(channel, vec![(submitted.seq, sent())], now).await;
    submitted.id
}

async fn only(ground: &Ground) -> Conversation {
    let mut all = conversations(ground).await;
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// The ids of the messages of a conversation, oldest first.
pub(super) async fn said(ground: &Ground, conversation: &Conversation) -> Vec<MessageId> {
    said_in(ground, conversation, None).await
}

/// Those that go in this direction.
async fn said_in(ground: &Ground, conversation: &Conversation, direction: Option<Direction>) -> Vec<MessageId> {
    let query = ConversationMessages {
        owner: owner(ground),
        channel: conversation.channel,
        conversation: conversation.id,
        direction,
        after: None,
        order: Order::OldestFirst,
        limit: 100,
    };
    let page = ground.store.conversation_messages(query).await.expect("read").expect("a conversation");
    let id = |item: &InboxItem| match item {
        InboxItem::Incoming(message) => message.id,
        InboxItem::Sent(message) => message.id,
    };
    page.items.iter().map(id).collect()
}

async fn close(ground: &Ground, conversation: &Conversation) {
    let change = Change::Close { reason: None };
    let closed = ground.store.change_conversation(owner(ground), conversation.id, change, NOW).await.expect("stored");
    assert!(matches!(closed, Changed::Done(_)), "{closed:?}");
}

async fn new_contact(ground: &Ground, phone: &str) -> recado_domain::contact_book::Contact {
    let contact = NewContact {
        owner: owner(ground),
        name: "Ana".to_owned(),
        phone: phone.to_owned(),
        email: None,
        tags: Vec::new(),
        metadata: serde_json::Map::new(),
        opt_out: false,
    };
    match ground.store.create_contact(contact, NOW).await.expect("stored") {
        ContactChanged::Done(contact) => *contact,
        other => panic!("{other:?}"),
    }
}

pub(super) async fn a_sent_message_begins_or_continues_a_conversation(ground: Ground) {
    record(&ground).await;
    let channel = ground.channel("vendas").await;
    let first = send(&ground, channel, ANA, "Oi", NOW).await;
    let begun = only(&ground).await;
    assert_eq!((begun.status, begun.unread, &*begun.address, &begun.contact), (Status::Open, 0, ANA, &None));
    assert_eq!((begun.chat, begun.created_at, begun.active_at), (ChatKind::Direct, NOW, NOW));
    let last = begun.last.clone().expect("a message");
    assert_eq!((last.id, &*last.kind, last.direction, &*last.content), (first, "text", Direction::Outbound, "Oi"));
    let shown = ground.message(channel, first).await;
    assert_eq!((shown.status, shown.conversation), (MessageStatus::Sent, Some(begun.id)));
    assert_eq!(contacts(&ground).await, []);
    let second = send(&ground, channel, ANA, "Tudo bem?", NOW + MINUTE).await;
    let answer = receive(&ground, channel, vec![text("A1", both(), "Tudo")]).await[0];
    let third = send(&ground, channel, ANA, "Que bom", NOW + 2 * MINUTE).await;
    let goes_on = only(&ground).await;
    assert_eq!((goes_on.id, goes_on.status, goes_on.unread), (begun.id, Status::Open, 1));
    assert_eq!((goes_on.updated_at, goes_on.active_at), (NOW + 2 * MINUTE, NOW + 2 * MINUTE));
    assert_eq!(goes_on.last.as_ref().map(|last| last.id), Some(third));
    let mut all = said(&ground, &goes_on).await;
    all.sort();
    let answer = answer.message.expect("a message");
    let mut expected = vec![first, second, answer, third];
    expected.sort();
    assert_eq!(all, expected);
    assert_eq!(said_in(&ground, &goes_on, Some(Direction::Inbound)).await, [answer]);
    assert_eq!(said_in(&ground, &goes_on, Some(Direction::Outbound)).await, [first, second, third]);
    // The events of a message name its conversation from the first attempt on.
    let events = ground.events(ground.event_query()).await;
    let of_first = events.iter().filter(|event| event.message.as_ref().is_some_and(|message| message.id == first));
    let named: Vec<_> = of_first.map(|event| (&*event.kind, event.conversation)).collect();
    let id = Some(*begun.id.as_bytes());
    assert_eq!(named, [("message.queued", None), ("message.sending", None), ("message.sent", id)]);
    let begun = events.iter().filter(|event| event.kind == "conversation.created").count();
    assert_eq!(begun, 1);
}

pub(super) async fn sending_finds_a_contact_by_either_form_and_creates_none(ground: Ground) {
    let channel = ground.channel("vendas").await;
    // Begun before there was a contact.
    let first = send(&ground, channel, ANA, "Oi", NOW).await;
    let begun = only(&ground).await;
    let contact = new_contact(&ground, ANA_SHORT).await;
    assert_eq!(contact.last_outbound_at, Some(NOW));
    assert_eq!(
        only(&ground).await.contact.map(|who| who.id),
        Some(contact.id),
        "the conversation is the contact's now"
    );
    let second = send(&ground, channel, ANA, "Ola", NOW + MINUTE).await;
    let goes_on = only(&ground).await;
    assert_eq!(goes_on.id, begun.id);
    assert_eq!(goes_on.contact.as_ref().map(|who| who.id), Some(contact.id));
    assert_eq!(said(&ground, &goes_on).await, [first, second]);
    let [known] = &contacts(&ground).await[..] else { panic!("one contact") };
    assert_eq!((known.id, known.last_outbound_at, known.last_inbound_at), (contact.id, Some(NOW + MINUTE), None));
    let answer = receive(&ground, channel, vec![text("A1", SenderIds::of_phone(ANA), "Oi")]).await[0];
    assert_eq!(answer.conversation, Some(begun.id));
    assert_eq!(contacts(&ground).await.len(), 1);
}

pub(super) async fn a_person_without_a_contact_has_one_conversation(ground: Ground) {
    let channel = ground.channel("vendas").await;
    send(&ground, channel, ANA_SHORT, "Oi", NOW).await;
    send(&ground, channel, ANA, "Ola", NOW + MINUTE).await;
    let begun = only(&ground).await;
    // What the phone of the channel writes belongs to it, under either form.
    let echo = Arrival { from_me: true, ..text("E1", SenderIds::of_phone(ANA), "Ja vai") };
    assert_eq!(receive(&ground, channel, vec![echo]).await[0].conversation, Some(begun.id));
    let answer = receive(&ground, channel, vec![text("A1", both(), "Obrigada")]).await[0];
    assert_eq!(answer.conversation, Some(begun.id));
    assert_eq!(said(&ground, &only(&ground).await).await.len(), 4);
}

pub(super) async fn a_closed_conversation_is_followed_by_one_with_its_window(ground: Ground) {
    let channel = ground.channel("vendas").await;
    let written = Arrivals { windowed: true, ..batch(channel, vec![text("A1", both(), "Oi")]) };
    ground.store.receive(written, NOW).await.expect("stored");
    let closed = only(&ground).await;
    close(&ground, &closed).await;
    let id = send(&ground, channel, ANA, "Mais alguma coisa?", NOW + MINUTE).await;
    let all = conversations(&ground).await;
    assert_eq!((all.len(), all[1].id, all[1].status), (2, closed.id, Status::Closed), "the newest first");
    assert_eq!((all[0].status, all[0].address.as_str()), (Status::Open, ANA));
    let window = all[0].window(NOW + MINUTE);
    assert_eq!((window.state, all[0].person_wrote_at), (WindowState::Open, closed.person_wrote_at));
    assert_eq!(ground.message(channel, id).await.conversation, Some(all[0].id));
    assert_eq!((said(&ground, &all[0]).await, said(&ground, &all[1]).await.len()), (vec![id], 1));
}

/// A person who wrote on a channel with windows got an answer, and then the conversation was closed. The id of the answer.
async fn closed_with_ana(ground: &Ground, channel: ChannelKey) -> MessageId {
    let written = Arrivals { windowed: true, ..batch(channel, vec![text("A1", both(), "Oi")]) };
    ground.store.receive(written, NOW).await.expect("stored");
    let answer = send(ground, channel, ANA, "Bom dia", NOW).await;
    close(ground, &only(ground).await).await;
    answer
}

pub(super) async fn conversations_follow_a_number_that_a_caller_changes(ground: Ground) {
    let (channel, other) = (ground.channel_of(ChannelType::CloudApi, "meta").await, ground.channel("vendas").await);
    let answer = closed_with_ana(&ground, channel).await;
    receive(&ground, other, vec![text("B1", SenderIds::of_phone(ANA_SHORT), "Oi")]).await;
    let id = contacts(&ground).await[0].id;
    let change = ContactChange { phone: Some(BIA.to_owned()), ..ContactChange::default() };
    let changed = ground.store.change_contact(owner(&ground), id, change, NOW).await.expect("stored");
    assert!(matches!(changed, ContactChanged::Done(_)), "{changed:?}");
    let all = conversations(&ground).await;
    let shown: Vec<_> = all.iter().map(|one| (&*one.address, one.closed_at.is_some(), one.person_wrote_at)).collect();
    assert_eq!(all.len(), 2);
    assert!(shown.contains(&(BIA, true, None)) && shown.contains(&(BIA, false, None)), "{shown:?}");
    // What was sent to the former number stays in the list.
    let closed = all.iter().find(|one| one.channel == channel).expect("it is there");
    assert!(said(&ground, closed).await.contains(&answer));
    let next = send(&ground, channel, BIA, "Numero novo?", NOW + MINUTE).await;
    let begun = conversations(&ground).await.remove(0);
    assert_eq!(ground.message(channel, next).await.conversation, Some(begun.id));
    assert_eq!((&*begun.address, begun.contact.as_ref().map(|who| who.id)), (BIA, Some(id)));
    assert_eq!(begun.window(NOW).state, WindowState::Unknown, "the person has not written from this number");
    // The other form is no other number.
    close(&ground, &begun).await;
    let form = "552177776666";
    let change = ContactChange { phone: Some(form.to_owned()), ..ContactChange::default() };
    ground
        .store
        .receive(Arrivals { windowed: true, ..batch(channel, vec![text("C1", SenderIds::of_phone(BIA), "Oi")]) }, NOW)
        .await
        .expect("stored");
    ground.store.change_contact(owner(&ground), id, change, NOW).await.expect("stored");
    let goes_on =
        conversations(&ground).await.into_iter().find(|one| one.closed_at.is_none() && one.channel == channel);
    assert!(goes_on.is_some_and(|one| one.person_wrote_at.is_some()), "the window is that of the number");
}

pub(super) async fn conversations_follow_a_number_that_the_network_changes(ground: Ground) {
    let (channel, other) = (ground.channel_of(ChannelType::CloudApi, "meta").await, ground.channel("vendas").await);
    let answer = closed_with_ana(&ground, channel).await;
    receive(&ground, other, vec![text("B1", SenderIds::of_phone(ANA), "Oi")]).await;
    let what = What::IdentityChanged { old: SenderIds::of_phone(ANA) };
    receive(&ground, other, vec![arrival("change", SenderIds::of_phone(BIA), what)]).await;
    let addresses =
        async || -> Vec<String> { conversations(&ground).await.into_iter().map(|one| one.address).collect() };
    assert_eq!(addresses().await, [BIA, BIA]);
    // A message names another number of the same hidden id.
    let moved = SenderIds { lid: both().lid, ..SenderIds::of_phone("12025550123") };
    receive(&ground, channel, vec![text("A2", moved, "Mudei")]).await;
    assert_eq!(addresses().await, ["12025550123"; 3]);
    let closed = conversations(&ground).await.into_iter().find(|one| one.closed_at.is_some()).expect("it is there");
    assert!(said(&ground, &closed).await.contains(&answer), "messages to every former number stay in the list");
    // Another person has the number now: only the hidden id of this channel leads to Ana.
    let beto = SenderIds { lid: Some("901".to_owned()), ..SenderIds::of_phone("12025550123") };
    receive(&ground, channel, vec![text("C1", beto, "Oi")]).await;
    let ana = closed.contact.expect("a contact").id;
    let all = conversations(&ground).await.into_iter();
    let of_ana = all.filter(|one| one.contact.as_ref().is_some_and(|who| who.id == ana));
    let mut of_ana: Vec<_> = of_ana.map(|one| (one.channel == channel, one.address)).collect();
    of_ana.sort();
    let hidden = (true, "900@lid".to_owned());
    assert_eq!(of_ana, [(false, String::new()), hidden.clone(), hidden]);
    let sent = send(&ground, channel, "900@lid", "Oi, Ana", NOW + MINUTE).await;
    let goes_on =
        conversations(&ground).await.into_iter().find(|one| one.last.as_ref().is_some_and(|last| last.id == sent));
    assert_eq!(goes_on.and_then(|one| one.contact).map(|who| who.id), Some(ana));
}

/// Versions before left closed conversations with a number that their persons do not have any more.
pub(crate) async fn a_former_address_of_the_versions_before_is_not_used(ground: Ground, make_old: impl Fn(&str)) {
    let channel = ground.channel_of(ChannelType::CloudApi, "meta").await;
    closed_with_ana(&ground, channel).await;
    make_old(&format!("UPDATE conversations SET address = '{BIA}'"));
    send(&ground, channel, ANA, "Oi", NOW + MINUTE).await;
    let begun = conversations(&ground).await.remove(0);
    assert_eq!((&*begun.address, begun.window(NOW).state), (ANA, WindowState::Unknown));
    close(&ground, &begun).await;
    make_old(&format!("UPDATE conversations SET address = '{BIA}'"));
    send(&ground, channel, "900@lid", "Oi", NOW + 2 * MINUTE).await;
    assert_eq!(conversations(&ground).await[0].address, ANA, "the number is known");
}

pub(super) async fn two_forms_of_a_number_in_one_batch_are_one_chat(ground: Ground) {
    let channel = ground.channel("vendas").await;
    let mut both = Vec::new();
    for form in [ANA, ANA_SHORT] {
        let submitted = submit(&ground, channel, form, "Oi").await;
        ground.settle_at(channel, vec![(submitted.seq, sent())], NOW).await;
        both.push(submitted);
    }
    join(&ground, &both, NOW).await;
    assert_eq!(said(&ground, &only(&ground).await).await, [both[0].id, both[1].id]);
}

pub(super) async fn messages_of_several_channels_join_together_and_once(ground: Ground) {
    record(&ground).await;
    let (sales, support, gone) =
        (ground.channel("vendas").await, ground.channel("suporte").await, ground.channel("antigo").await);
    let mut all = Vec::new();
    for n in 0..30 {
        let channel = if n % 2 == 0 { sales } else { support };
        let to = format!("55119{:08}", n / 3);
        let submitted = submit(&ground, channel, &to, &format!("{n}")).await;
        ground.settle_at(channel, vec![(submitted.seq, sent())], NOW).await;
        all.push(submitted);
    }
    let late = submit(&ground, gone, ANA, "tarde").await;
    ground.store.delete_channel(gone, Actor::Operator, NOW).await.expect("stored");
    all.push(late.clone());
    join(&ground, &all, NOW).await;
    let begun = conversations(&ground).await;
    assert_eq!(begun.len(), 20, "one for each chat of each channel");
    assert_eq!(ground.message(gone, late.id).await.conversation, None);
    // Repeated after a lost answer.
    join(&ground, &all, NOW).await;
    assert_eq!(conversations(&ground).await.len(), 20);
    for submitted in &all[..30] {
        let conversation = ground.message(submitted.channel, submitted.id).await.conversation;
        let of = begun.iter().find(|begun| Some(begun.id) == conversation).expect("its conversation");
        assert_eq!((of.channel, &of.address), (submitted.channel, &submitted.recipient));
    }
    let last = begun.iter().map(|begun| begun.last.as_ref().expect("a message").content.parse().expect("a number"));
    let last: std::collections::BTreeSet<u32> = last.collect();
    // Of the messages 0, 1 and 2 the chat of the first channel has 0 and 2.
    assert!(last.contains(&2) && last.contains(&1) && !last.contains(&0), "{last:?}");
    let events = ground.events(ground.event_query()).await;
    assert_eq!(events.iter().filter(|event| event.kind == "conversation.created").count(), 20);
}

pub(super) async fn an_address_that_is_no_number_finds_its_chat(ground: Ground) {
    let channel = ground.channel("vendas").await;
    let hidden = receive(&ground, channel, vec![text("A1", SenderIds::of_lid("900"), "Oi")]).await[0];
    let group = Some(Group { address: "120363@g.us".to_owned(), name: Some("Turma".to_owned()) });
    let said = Arrival { group, ..text("B1", SenderIds::of_lid("900"), "Oi, gente") };
    let group = receive(&ground, channel, vec![said]).await[0];
    for (to, conversation) in [("900@lid", hidden.conversation), ("120363@g.us", group.conversation)] {
        let id = send(&ground, channel, to, "Ola", NOW).await;
        assert_eq!(ground.message(channel, id).await.conversation, conversation, "{to}");
    }
    assert_eq!(conversations(&ground).await.len(), 2);
    // Nothing was received of these.
    for to in ["777@lid", "888@g.us", "BR.900"] {
        send(&ground, channel, to, "Ola", NOW).await;
        send(&ground, channel, to, "Ola", NOW).await;
    }
    let begun: Vec<_> = conversations(&ground).await;
    assert_eq!(begun.len(), 5);
    let group = begun.iter().find(|begun| begun.address == "888@g.us").expect("a group");
    assert_eq!((group.chat, group.windowed), (ChatKind::Group, false));
    assert_eq!(contacts(&ground).await.len(), 1);
}

pub(super) async fn an_answer_leaves_a_conversation_to_the_person_who_wrote_in_it(ground: Ground) {
    let channel = ground.channel("vendas").await;
    let wrote = receive(&ground, channel, vec![text("A1", SenderIds::of_phone(ANA), "Oi")]).await[0];
    let ana = contacts(&ground).await[0].id;
    assert!(ground.store.delete_contact(owner(&ground), ana).await.expect("stored"));
    // Another person is added with this number, by mistake.
    let bia = new_contact(&ground, ANA).await;
    for to in [ANA, ANA_SHORT] {
        let answer = send(&ground, channel, to, "Ola", NOW).await;
        assert_eq!(ground.message(channel, answer).await.conversation, wrote.conversation, "{to}");
    }
    assert_eq!(only(&ground).await.contact, None);
    let change = ContactChange { phone: Some(BIA.to_owned()), ..ContactChange::default() };
    let changed = ground.store.change_contact(owner(&ground), bia.id, change, NOW).await.expect("stored");
    assert!(matches!(changed, ContactChanged::Done(_)), "{changed:?}");
    assert_eq!(only(&ground).await.address, ANA, "an answer reaches the person who wrote");
}

pub(super) async fn sent_messages_move_with_their_conversation(ground: Ground) {
    let channel = ground.channel("vendas").await;
    receive(&ground, channel, vec![text("A1", SenderIds::of_phone(ANA), "Oi")]).await;
    receive(&ground, channel, vec![text("B1", SenderIds::of_lid("900"), "Oi")]).await;
    let to_number = send(&ground, channel, ANA, "um", NOW).await;
    let to_hidden = send(&ground, channel, "900@lid", "dois", NOW).await;
    assert_ne!(
        ground.message(channel, to_number).await.conversation,
        ground.message(channel, to_hidden).await.conversation
    );
    // Both are one person.
    receive(&ground, channel, vec![text("A2", both(), "Sou eu")]).await;
    let (first, second) =
        (ground.message(channel, to_number).await.conversation, ground.message(channel, to_hidden).await.conversation);
    assert_eq!(first, second);
    let goes_on = conversations(&ground).await.into_iter().find(|begun| Some(begun.id) == first).expect("it is there");
    let said = said(&ground, &goes_on).await;
    assert!(said.len() == 5 && said.contains(&to_number) && said.contains(&to_hidden), "{said:?}");
}

pub(super) async fn messages_of_a_crashed_process_are_left_to_join(ground: Ground) {
    let channel = ground.channel("vendas").await;
    send(&ground, channel, ANA, "um", NOW).await;
    let submitted = submit(&ground, channel, ANA, "dois").await;
    ground.accept(channel, "5511900000000").await;
    let left = ground.store.left_to_join(channel).await.expect("read");
    assert_eq!(left, [submitted]);
    join(&ground, &left, NOW).await;
    assert_eq!(ground.store.left_to_join(channel).await.expect("read"), []);
    assert_eq!(only(&ground).await.last.map(|last| last.content), Some("dois".to_owned()));
    // The next attempt does not join again.
    let again = recado_domain::queue::ClaimRequest {
        orphans: recado_domain::queue::UnheldSending::OwnerCrashed,
        ..request(channel)
    };
    let claimed = ground.claim(again).await.messages.remove(0);
    assert!(claimed.joined && claimed.id == left[0].id, "{claimed:?}");
}

pub(super) async fn senders_and_receivers_at_once_share_one_conversation(ground: Ground) {
    let mut channels = Vec::new();
    for n in 0..4 {
        channels.push(ground.channel(&format!("canal-{n}")).await);
    }
    for round in 0..5 {
        let person = format!("551198888777{round}");
        let mut submitted = Vec::new();
        for channel in &channels {
            submitted.push(submit(&ground, *channel, &person, "Oi").await);
        }
        let sending = submitted.iter().map(async |one| join(&ground, std::slice::from_ref(one), NOW).await);
        let receiving = channels.iter().map(async |channel| {
            let arrival = text(&format!("A{round}-{channel}"), SenderIds::of_phone(&person), "Oi");
            receive(&ground, *channel, vec![arrival]).await;
        });
        tokio::join!(join_all(sending), join_all(receiving));
        for one in &submitted {
            ground.settle_at(one.channel, vec![(one.seq, sent())], NOW).await;
        }
    }
    let all = conversations(&ground).await;
    assert_eq!((all.len(), contacts(&ground).await.len()), (20, 5));
    for conversation in &all {
        assert!(conversation.contact.is_some());
        assert_eq!(said(&ground, conversation).await.len(), 2, "{conversation:?}");
    }
}

pub(super) async fn nothing_of_a_person_who_never_wrote_is_left(ground: Ground) {
    record(&ground).await;
    let channel = ground.channel("vendas").await;
    send(&ground, channel, ANA_SHORT, "Segredo", NOW).await;
    let person = || Person::new(vec![ANA.to_owned(), ANA_SHORT.to_owned()], None);
    let query = PersonQuery { person: person(), part: PersonPart::Book, after: 0 };
    assert_eq!(ground.store.person(query.clone()).await.expect("read").rows.len(), 1, "the conversation is exported");
    let erased = ground
        .store
        .erase_person(Erasure::Inbox { person: person(), keeps_contacts: false }, NOW)
        .await
        .expect("stored");
    assert_eq!(erased.conversations, 1);
    assert_eq!(conversations(&ground).await, []);
    let named = ground.events(ground.event_query()).await.into_iter().filter(|event| event.complete);
    assert_eq!(named.count(), 0, "the event of the conversation has its address");
    assert!(ground.store.person(query).await.expect("read").rows.is_empty());
}

pub(super) async fn what_was_sent_to_a_former_number_is_erased_with_its_person(ground: Ground) {
    let channel = ground.channel_of(ChannelType::CloudApi, "meta").await;
    let answer = closed_with_ana(&ground, channel).await;
    let id = contacts(&ground).await[0].id;
    let change = ContactChange { phone: Some(BIA.to_owned()), ..ContactChange::default() };
    ground.store.change_contact(owner(&ground), id, change, NOW).await.expect("stored");
    // Another person has the former number.
    send(&ground, channel, ANA, "Oi, Beto", NOW + MINUTE).await;
    let (institution, environment) = owner(&ground);
    let person = |number: &str| Person {
        environment: Some(environment),
        ..Person::new(vec![number.to_owned()], Some(institution))
    };
    let places = async || {
        let query = PersonQuery { person: person(BIA), part: PersonPart::Places, after: 0 };
        let place = |row| if let PersonRow::Place(place) = row { place.id } else { panic!("no place") };
        ground.store.person(query).await.expect("read").rows.into_iter().map(place).collect::<Vec<_>>()
    };
    assert_eq!(places().await, [answer]);
    // When that person is erased, the number is nowhere.
    ground
        .store
        .erase_person(Erasure::Inbox { person: person(ANA), keeps_contacts: false }, NOW)
        .await
        .expect("stored");
    assert_eq!(places().await, []);
}
