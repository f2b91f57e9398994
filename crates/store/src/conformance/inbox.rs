//! Receiving: messages of networks, with repetitions and in any order.

use recado_domain::api_key::Environment;
use recado_domain::channel::{ChannelChange, ChannelKey, ChannelType};
use recado_domain::clock::Millis;
use recado_domain::contact_book::{Contact, ContactQuery};
use recado_domain::conversation::{
    Conversation, ConversationMessages, ConversationQuery, InboxItem, Order, Status, WINDOW, WindowState,
};
use recado_domain::event::{ChatKind, Event, Owner, Patterns};
use recado_domain::field_errors::FieldErrors;
use recado_domain::ids::MediaId;
use recado_domain::incoming::{
    ARRIVALS_AT_ONCE, Arrival, Arrivals, Captioned, Content, Direction, Group, Ignored, Incoming, MediaState,
    NewIncoming, NewMedia, Outcome, Quoted, Received, SenderIds, StoredFile, UnsupportedReason, What,
};
use recado_domain::queue::{PurgeRequest, Settlement};
use serde_json::{Value, json};

use crate::fixtures::{DAY, Ground, MINUTE, NOW};
use crate::person::{Erasure, Person, PersonPart, PersonQuery, PersonRow, Place};

pub(crate) const ANA: &str = "5511988887777";
/// The same number without its ninth digit.
const ANA_SHORT: &str = "551188887777";
const ANA_LID: &str = "900";
const BIA: &str = "5521977776666";

pub(crate) fn owner(ground: &Ground) -> Owner {
    (ground.institution, Environment::Live)
}

/// Records all events of the owner.
pub(crate) async fn record(ground: &Ground) {
    assert!(ground.store.set_event_log(owner(ground), Patterns::from_stored("*")).await.expect("stored"));
}

pub(crate) fn arrival(id: &str, person: SenderIds, what: What) -> Arrival {
    let network_id = id.parse().expect("a network id");
    Arrival { network_id, group: None, person, from_me: false, sent_at: NOW - 1_000, what }
}

pub(crate) fn text(id: &str, person: SenderIds, text: &str) -> Arrival {
    arrival(id, person, What::Message(Box::new(NewIncoming::new(Content::text(), text))))
}

pub(crate) fn both() -> SenderIds {
    SenderIds {
        phone: Some(ANA.to_owned()),
        lid: Some(ANA_LID.to_owned()),
        name: Some("Ana".to_owned()),
        ..SenderIds::default()
    }
}

pub(crate) fn batch(channel: ChannelKey, arrivals: Vec<Arrival>) -> Arrivals {
    let number = Some("551140000000".to_owned());
    Arrivals { channel, number, business: None, windowed: false, arrivals }
}

pub(crate) async fn receive(ground: &Ground, channel: ChannelKey, arrivals: Vec<Arrival>) -> Vec<Received> {
    ground.store.receive(batch(channel, arrivals), NOW).await.expect("stored")
}

/// Changes settings of a channel, as a call does.
pub(crate) async fn change_settings(ground: &Ground, channel: ChannelKey, settings: Value) {
    let Value::Object(settings) = settings else { panic!("an object") };
    let channel = ground.store.channel(channel).await.expect("read").expect("a channel");
    let mut errors = FieldErrors::default();
    let change = ChannelChange { name: None, settings };
    let settings = channel.settings.changed(&change, &mut errors);
    assert!(errors.is_empty(), "{errors:?}");
    assert!(ground.store.update_channel(channel.key, channel.name, settings).await.expect("stored"));
}

/// Receives one arrival.
async fn one(ground: &Ground, channel: ChannelKey, arrival: Arrival) -> Received {
    receive(ground, channel, vec![arrival]).await[0]
}

async fn message(ground: &Ground, channel: ChannelKey, received: Received) -> Incoming {
    let id = received.message.expect("a message");
    ground.store.incoming(channel, id).await.expect("read").expect("it is there")
}

/// All delivered messages of a channel, oldest first.
pub(crate) async fn delivered(ground: &Ground, channel: ChannelKey) -> Vec<Incoming> {
    let query = recado_domain::incoming::IncomingQuery { channel, before: None, limit: 1_000 };
    let page = ground.store.incoming_page(query).await.expect("read");
    assert_eq!(page.next, None);
    page.messages.into_iter().rev().collect()
}

pub(crate) async fn conversations(ground: &Ground) -> Vec<Conversation> {
    let page = ground.store.conversations(ConversationQuery::of(owner(ground), NOW, 100)).await.expect("read");
    assert_eq!(page.next, None);
    page.conversations
}

pub(crate) async fn contacts(ground: &Ground) -> Vec<Contact> {
    let page = ground.store.contacts(ContactQuery::of(owner(ground), 100)).await.expect("read");
    assert_eq!(page.next, None);
    page.contacts
}

/// The complete events, oldest first.
pub(crate) async fn events(ground: &Ground) -> Vec<Event> {
    let all = ground.events(ground.event_query()).await;
    all.into_iter().filter(|event| event.complete).collect()
}

async fn names(ground: &Ground) -> Vec<String> {
    events(ground).await.into_iter().map(|event| event.kind).collect()
}

fn data(event: &Event) -> Value {
    serde_json::from_str(&event.data).expect("JSON")
}

pub(super) async fn a_message_is_stored_with_its_contact_and_its_conversation(ground: Ground) {
    record(&ground).await;
    let channel = ground.channel("vendas").await;
    let media = NewMedia {
        mime_type: "image/jpeg".to_owned(),
        size: Some(3),
        remote_id: Some("123".to_owned()),
        sealed: Some(vec![1, 2]),
        ..NewMedia::default()
    };
    let image = Content::Image(Captioned { caption: Some("Olha".to_owned()), ..Captioned::default() });
    let new = NewIncoming { media: Some(media.clone()), raw: Some(vec![7]), ..NewIncoming::new(image, "Olha") };
    let received = one(&ground, channel, arrival("A1", both(), What::Message(Box::new(new)))).await;
    assert_eq!(received.outcome, Outcome::Stored);
    let stored = message(&ground, channel, received).await;
    assert_eq!((stored.direction, stored.chat, &*stored.address), (Direction::Inbound, ChatKind::Direct, ANA));
    assert_eq!((stored.sent_at, stored.received_at, stored.read_at), (NOW - 1_000, NOW, None));
    let file = stored.media.clone().expect("a file");
    assert_eq!((file.about, file.state, file.message), (media, MediaState::Remote, stored.id));
    let raw = ground.store.incoming_raw(channel, stored.id).await.expect("read");
    assert_eq!(raw, Some(vec![7]));
    let [contact] = &contacts(&ground).await[..] else { panic!("one contact") };
    assert_eq!((&*contact.name, contact.phone.as_deref(), contact.last_inbound_at), ("Ana", Some(ANA), Some(NOW)));
    assert_eq!(stored.contact, Some(contact.id));
    let kinds: Vec<_> = contact.identities.iter().map(|identity| identity.kind.name()).collect();
    assert_eq!(kinds, ["LID", "PHONE"]);
    let [conversation] = &conversations(&ground).await[..] else { panic!("one conversation") };
    assert_eq!((conversation.status, conversation.unread, &*conversation.channel_id), (Status::Pending, 1, "vendas"));
    assert_eq!(conversation.contact.as_ref().map(|who| who.id), Some(contact.id));
    let last = conversation.last.as_ref().expect("a message");
    assert_eq!((last.id, &*last.kind, &*last.content), (stored.id, "image", "Olha"));
    let all = events(&ground).await;
    let kinds: Vec<_> = all.iter().map(|event| &*event.kind).collect();
    assert_eq!(kinds, ["contact.created", "conversation.created", "message.received"]);
    let said = data(&all[2]);
    assert_eq!(said["message"], serde_json::to_value(crate::views::message(&stored)).expect("JSON"));
    let short = json!({"id": conversation.id, "status": "PENDING", "isNew": true});
    assert_eq!(said["conversation"], short);
    let who = json!({"id": contact.id, "name": "Ana", "phone": ANA, "tags": [], "isNew": true});
    assert_eq!(said["contact"], who);
    assert_eq!(data(&all[0])["contact"], serde_json::to_value(crate::views::contact(contact)).expect("JSON"));
    assert_eq!((all[2].subject, all[2].conversation), (Some(*stored.id.as_bytes()), Some(*conversation.id.as_bytes())));
    // Another owner and another channel have none of it.
    let other = (ground.institution, Environment::Test);
    let id = file.id;
    assert_eq!(ground.store.media(other, id).await.expect("read"), None);
    assert!(ground.store.media(owner(&ground), id).await.expect("read").is_some());
    assert_eq!(ground.store.conversation(other, conversation.id).await.expect("read"), None);
    assert_eq!(ground.store.contact(other, contact.id).await.expect("read"), None);
    assert_eq!(ground.store.incoming(channel + 1, stored.id).await.expect("read"), None);
}

pub(super) async fn without_a_reader_nothing_is_recorded(ground: Ground) {
    let channel = ground.channel("vendas").await;
    receive(&ground, channel, vec![text("A1", both(), "Oi")]).await;
    assert_eq!(delivered(&ground, channel).await.len(), 1);
    assert_eq!(names(&ground).await, Vec::<String>::new());
}

/// A generator that is good enough to shuffle, and that a failed test repeats.
struct Shuffle(u64);

impl Shuffle {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("small") % below
    }

    fn shuffle<T>(&mut self, all: &mut [T]) {
        for place in (1..all.len()).rev() {
            all.swap(place, self.next(place + 1));
        }
    }
}

/// What two people said, and what they changed afterwards.
fn said() -> Vec<Arrival> {
    let bia = SenderIds { name: Some("Bia".to_owned()), ..SenderIds::of_phone(BIA) };
    let at = |arrival: Arrival, seconds: Millis| Arrival { sent_at: NOW - 60_000 + seconds * 1_000, ..arrival };
    let target = || "A1".parse().expect("an id");
    vec![
        at(text("A1", both(), "Bom dia"), 1),
        at(text("A2", both(), "Tem bolo?"), 2),
        at(text("B1", bia, "Oi"), 3),
        at(arrival("A3", both(), What::Reaction { target: target(), emoji: Some("👍".to_owned()) }), 4),
        at(arrival("A4", both(), What::Edit { target: target(), content: "Boa tarde".to_owned() }), 5),
        at(arrival("A5", both(), What::Revoke { target: "A2".parse().expect("an id"), by_admin: false }), 6),
    ]
}

/// A number without its ninth digit: the network may name either form last.
fn short(number: &str) -> String {
    recado_domain::incoming::IdentityKey::phone(number).value
}

/// Everything that callers see of a channel, without what every delivery draws: ids and places.
async fn seen(ground: &Ground, channel: ChannelKey) -> Vec<String> {
    let mut seen = Vec::new();
    for message in delivered(ground, channel).await {
        let reactions: Vec<_> = message.reactions.iter().map(|reaction| reaction.emoji.clone()).collect();
        let (sender, body) = (message.body.sender.phone.as_deref().map(short), &message.body);
        let (edited, revoked, address) = (message.edited_at, message.revoked_at, short(&message.address));
        seen.push(format!(
            "{} {:?} {} {sender:?} {reactions:?} {edited:?} {revoked:?} {address}",
            message.network_id, body.content, body.text
        ));
    }
    for conversation in conversations(ground).await.into_iter().filter(|found| found.channel == channel) {
        let contact = conversation.contact.as_ref().map(|who| who.name.clone());
        let address = short(&conversation.address);
        seen.push(format!("{address} {contact:?} {:?} {}", conversation.status, conversation.unread));
    }
    seen.sort();
    seen
}

/// The events of a channel and of contacts, without their order: a network may deliver in any.
async fn counted(ground: &Ground) -> Vec<String> {
    let mut counted: Vec<_> = events(ground)
        .await
        .iter()
        .map(|event| {
            let data = data(event);
            format!("{} {} {}", event.kind, data["message"]["networkId"], data["networkId"])
        })
        .collect();
    counted.sort();
    counted
}

pub(super) async fn everything_twice_and_shuffled_is_as_one_delivery(mut ground: Ground) {
    record(&ground).await;
    let channel = ground.channel("vendas").await;
    receive(&ground, channel, said()).await;
    let (wanted, wanted_events) = (seen(&ground, channel).await, counted(&ground).await);
    assert_eq!(wanted_events.len(), 3 + 3 + 2 + 2, "{wanted_events:?}");
    for seed in 0..20 {
        while ground.store.clear_inbox(owner(&ground)).await.expect("cleared").is_some() {}
        assert_eq!(counted(&ground).await, Vec::<String>::new());
        let mut shuffle = Shuffle(seed);
        // Once by all names, once by the hidden id or by the number in its other form.
        let mut twice = said();
        for (n, again) in said().into_iter().enumerate() {
            let lid = again.person.lid.is_some() && n % 2 == 0;
            let person = if lid { SenderIds::of_lid(ANA_LID) } else { again.person.clone() };
            let phone = person.phone.as_deref().map(|phone| if phone == ANA { ANA_SHORT } else { phone }.to_owned());
            twice.push(Arrival { person: SenderIds { phone, ..person }, ..again });
        }
        shuffle.shuffle(&mut twice);
        // The driver knows both names, and says them until the store knows the person by a message.
        let is_hers = |arrival: &Arrival| arrival.person.lid.is_some() && matches!(arrival.what, What::Message(_));
        let first = twice.iter().position(is_hers).expect("Ana");
        let unknown = twice[..=first].iter_mut().filter(|arrival| arrival.person.lid.is_some());
        unknown.for_each(|arrival| arrival.person = both());
        let mut rest = &twice[..];
        while !rest.is_empty() {
            let (some, others) = rest.split_at(1 + shuffle.next(rest.len()));
            receive(&ground, channel, some.to_vec()).await;
            rest = others;
            if shuffle.next(4) == 0 {
                ground.reopen().await;
            }
        }
        assert_eq!(seen(&ground, channel).await, wanted, "seed {seed}");
        assert_eq!(counted(&ground).await, wanted_events, "seed {seed}");
    }
}

pub(super) async fn a_message_by_a_number_and_by_a_hidden_id_is_one(ground: Ground) {
    record(&ground).await;
    for (n, (first, second)) in [
        (SenderIds::of_phone(ANA), SenderIds::of_lid(ANA_LID)),
        (SenderIds::of_lid(ANA_LID), SenderIds::of_phone(ANA_SHORT)),
    ]
    .into_iter()
    .enumerate()
    {
        let channel = ground.channel(&format!("canal-{n}")).await;
        let stored = one(&ground, channel, text("A1", first.clone(), "Oi")).await;
        let again = one(&ground, channel, text("A1", second.clone(), "Oi")).await;
        assert_eq!((again.outcome, again.message), (Outcome::Repeated, stored.message));
        // From then on both names are one person's.
        one(&ground, channel, text("A2", second, "E ai")).await;
        let last = one(&ground, channel, text("A3", first, "Oi?")).await;
        assert_eq!((delivered(&ground, channel).await.len(), last.conversation), (3, stored.conversation));
        assert_eq!(contacts(&ground).await.len(), 1);
        while ground.store.clear_inbox(owner(&ground)).await.expect("cleared").is_some() {}
    }
}

pub(super) async fn people_who_chose_one_id_are_kept_apart(ground: Ground) {
    let channel = ground.channel("vendas").await;
    let (ana, bia) = (SenderIds::of_phone(ANA), SenderIds::of_phone(BIA));
    let from_ana = one(&ground, channel, text("1", ana, "Oi")).await;
    let from_bia = one(&ground, channel, text("1", bia.clone(), "Oi")).await;
    assert_eq!((from_ana.outcome, from_bia.outcome), (Outcome::Stored, Outcome::Stored));
    // Another time: the hidden id alone does not show that it is Ana's, and so it is stored.
    let later = Arrival { sent_at: NOW, ..text("1", SenderIds::of_lid("77"), "Oi") };
    assert_eq!(one(&ground, channel, later).await.outcome, Outcome::Stored);
    let group = Some(Group { address: "1@g.us".to_owned(), name: Some("Turma".to_owned()) });
    let in_group = one(&ground, channel, Arrival { group, ..text("1", bia, "Oi") }).await;
    assert_eq!(in_group.outcome, Outcome::Stored);
    assert_eq!(delivered(&ground, channel).await.len(), 4);
}

pub(super) async fn both_forms_of_a_number_are_one_contact(ground: Ground) {
    let channel = ground.channel("vendas").await;
    receive(&ground, channel, vec![text("A1", SenderIds::of_phone(ANA_SHORT), "Oi")]).await;
    receive(&ground, channel, vec![text("A2", SenderIds::of_phone(ANA), "Oi")]).await;
    let [contact] = &contacts(&ground).await[..] else { panic!("one contact") };
    assert_eq!((contact.phone.as_deref(), contact.account.as_deref()), (Some(ANA_SHORT), Some(ANA)));
    assert_eq!(conversations(&ground).await.len(), 1);
    for form in [ANA, ANA_SHORT] {
        let found = ground.store.contact_of_phone(owner(&ground), form.to_owned()).await.expect("read");
        assert_eq!(found.map(|found| found.id), Some(contact.id));
    }
}

pub(super) async fn contacts_that_are_one_person_become_one(ground: Ground) {
    record(&ground).await;
    let channel = ground.channel("vendas").await;
    let hidden = one(&ground, channel, text("A1", SenderIds::of_lid(ANA_LID), "Oi")).await;
    let by_number =
        ground.store.receive(batch(channel, vec![text("A2", SenderIds::of_phone(ANA), "Oi")]), NOW + 1).await;
    let by_number = by_number.expect("stored")[0];
    assert_ne!(hidden.conversation, by_number.conversation);
    let ids: Vec<_> = contacts(&ground).await.iter().map(|contact| (contact.created_at, contact.id)).collect();
    let (older, younger) = (ids.iter().min().expect("two").1, ids.iter().max().expect("two").1);
    receive(&ground, channel, vec![text("A3", both(), "Sou eu")]).await;
    let [contact] = &contacts(&ground).await[..] else { panic!("one contact") };
    assert_eq!((contact.id, contact.phone.as_deref(), &*contact.name), (older, Some(ANA), "Ana"));
    let all = conversations(&ground).await;
    let going_on: Vec<_> = all.iter().filter(|conversation| conversation.status != Status::Closed).collect();
    let [conversation] = going_on[..] else { panic!("one conversation goes on: {all:?}") };
    assert_eq!((Some(conversation.id), conversation.unread), (hidden.conversation, 3));
    assert!(delivered(&ground, channel).await.iter().all(|message| message.conversation == conversation.id));
    assert_eq!(conversation.address, ANA);
    let all = events(&ground).await;
    let updated = all.iter().find(|event| event.kind == "contact.updated").expect("recorded");
    assert_eq!(data(updated)["mergedFrom"], younger.to_string());
    let closed = all.iter().find(|event| event.kind == "conversation.closed").expect("recorded");
    assert_eq!(data(closed)["by"], "MERGE");
    // What is known of the contact that is gone is found by the one that stays.
    assert!(all.iter().all(|event| event.subject != Some(*younger.as_bytes())));
}

pub(super) async fn a_number_that_another_person_has_now_moves(ground: Ground) {
    record(&ground).await;
    let channel = ground.channel("vendas").await;
    one(&ground, channel, text("A1", both(), "Oi")).await;
    let other = SenderIds { lid: Some("901".to_owned()), name: Some("Beto".to_owned()), ..SenderIds::of_phone(ANA) };
    one(&ground, channel, text("B1", other, "Numero novo")).await;
    let all = contacts(&ground).await;
    let addresses: Vec<_> = conversations(&ground).await.into_iter().map(|found| found.address).collect();
    assert!(addresses.contains(&"900@lid".to_owned()), "an answer to Ana must not reach Beto: {addresses:?}");
    let phones: Vec<_> = all.iter().map(|contact| (&*contact.name, contact.phone.as_deref())).collect();
    assert_eq!(phones, [("Ana", None), ("Beto", Some(ANA))]);
    let found = ground.store.contact_of_phone(owner(&ground), ANA.to_owned()).await.expect("read");
    assert_eq!(found.map(|found| found.name), Some("Beto".to_owned()));
    let updated = events(&ground).await.into_iter().find(|event| event.kind == "contact.updated").expect("recorded");
    assert_eq!(data(&updated)["changes"], json!(["phone"]));
}

pub(super) async fn a_changed_number_keeps_its_contact(ground: Ground) {
    record(&ground).await;
    let channel = ground.channel("vendas").await;
    let before = one(&ground, channel, text("A1", SenderIds::of_phone(ANA), "Oi")).await;
    let id = contacts(&ground).await[0].id;
    let changed = |old: SenderIds, new: SenderIds| {
        let id = format!("change:{}", new.address());
        arrival(&id, new, What::IdentityChanged { old })
    };
    let outcome = one(&ground, channel, changed(SenderIds::of_phone(ANA), SenderIds::of_phone(BIA))).await.outcome;
    assert_eq!(outcome, Outcome::Applied);
    let [contact] = &contacts(&ground).await[..] else { panic!("one contact") };
    assert_eq!((contact.id, contact.phone.as_deref()), (id, Some(BIA)));
    assert_eq!(conversations(&ground).await[0].address, BIA, "an answer reaches the new number");
    let after = one(&ground, channel, text("A2", SenderIds::of_phone(BIA), "Numero novo")).await;
    assert_eq!(after.conversation, before.conversation);
    // The old number is another person's from now on, also if the network repeats itself.
    one(&ground, channel, text("X1", SenderIds::of_phone(ANA), "Quem e?")).await;
    let again = changed(SenderIds::of_phone(ANA), SenderIds::of_phone(BIA));
    assert_eq!(one(&ground, channel, again).await.outcome, Outcome::Repeated);
    assert_eq!(contacts(&ground).await.len(), 2);
    let updated: Vec<_> =
        events(&ground).await.iter().filter(|event| event.kind == "contact.updated").map(data).collect();
    assert_eq!(updated.len(), 1, "{updated:?}");
    assert_eq!(updated[0]["changes"], json!(["name", "phone"]), "a number stood for the name");
    // A person who wrote from the new number first is the same.
    let first = text("D1", SenderIds::of_phone("12025550123"), "Oi");
    ground.store.receive(batch(channel, vec![first]), NOW + 1).await.expect("stored");
    one(&ground, channel, changed(SenderIds::of_phone(BIA), SenderIds::of_phone("12025550123"))).await;
    let stays = ground.store.contact_of_phone(owner(&ground), "12025550123".to_owned()).await.expect("read");
    assert_eq!(stays.map(|stays| stays.id), Some(id));
    assert_eq!(contacts(&ground).await.len(), 2);
    // Who had the number before, and wrote long ago, is another person.
    let former = text("F1", SenderIds::of_phone("12025550199"), "Oi");
    ground.store.receive(batch(channel, vec![former]), NOW - DAY).await.expect("stored");
    one(&ground, channel, changed(SenderIds::of_phone("12025550123"), SenderIds::of_phone("12025550199"))).await;
    let has_it = ground.store.contact_of_phone(owner(&ground), "12025550199".to_owned()).await.expect("read");
    assert_eq!((has_it.map(|contact| contact.id), contacts(&ground).await.len()), (Some(id), 3));
}

pub(super) async fn ids_of_a_business_and_people_without_a_number_are_contacts(ground: Ground) {
    let (one_channel, other_channel) = (ground.channel("um").await, ground.channel("dois").await);
    let id = SenderIds { username: Some("ana.m".to_owned()), ..SenderIds::of_user_id("BR.15") };
    let of = |channel, business: &str, id: &str| Arrivals {
        business: Some(business.to_owned()),
        ..batch(
            channel,
            vec![text(id, SenderIds { username: Some("ana.m".to_owned()), ..SenderIds::of_user_id("BR.15") }, "Oi")],
        )
    };
    let store = &ground.store;
    store.receive(of(one_channel, "1", "A1"), NOW).await.expect("stored");
    store.receive(of(other_channel, "1", "A2"), NOW).await.expect("stored");
    let [contact] = &contacts(&ground).await[..] else { panic!("one contact of the business") };
    assert_eq!((&*contact.name, contact.phone.as_deref()), ("ana.m", None));
    assert_eq!(conversations(&ground).await.len(), 2, "one on each channel");
    assert!(conversations(&ground).await.iter().all(|found| found.address == "BR.15"));
    store.receive(of(other_channel, "2", "A3"), NOW).await.expect("stored");
    assert_eq!(contacts(&ground).await.len(), 2, "the same id of another business is another person's");
    drop(id);
    // Messages without a sender have a chat, too, so none is dropped.
    let nobody = one(&ground, one_channel, text("N1", SenderIds::default(), "?")).await;
    let again = one(&ground, one_channel, text("N1", SenderIds::default(), "?")).await;
    assert_eq!((nobody.outcome, again.outcome, again.message), (Outcome::Stored, Outcome::Repeated, nobody.message));
    assert_eq!(message(&ground, one_channel, nobody).await.contact, None);
}

pub(super) async fn a_name_that_a_caller_gave_stays(ground: Ground) {
    let channel = ground.channel("vendas").await;
    receive(&ground, channel, vec![text("A1", SenderIds::of_phone(ANA), "Oi")]).await;
    assert_eq!(contacts(&ground).await[0].name, ANA, "until there is a name");
    receive(&ground, channel, vec![text("A2", both(), "Oi")]).await;
    let contact = contacts(&ground).await.remove(0);
    assert_eq!(contact.name, "Ana");
    let change = recado_domain::contact_book::ContactChange {
        name: Some("Ana Maria".to_owned()),
        ..recado_domain::contact_book::ContactChange::default()
    };
    ground.store.change_contact(owner(&ground), contact.id, change, NOW).await.expect("stored");
    receive(&ground, channel, vec![text("A3", both(), "Oi")]).await;
    assert_eq!(contacts(&ground).await[0].name, "Ana Maria");
}

pub(super) async fn an_echo_opens_a_conversation_and_creates_no_contact(ground: Ground) {
    record(&ground).await;
    let channel = ground.channel("vendas").await;
    let echo = Arrival { from_me: true, ..text("E1", SenderIds::of_phone(ANA_SHORT), "Ja vai") };
    let stored = one(&ground, channel, echo.clone()).await;
    assert_eq!(one(&ground, channel, echo).await.outcome, Outcome::Repeated);
    let shown = message(&ground, channel, stored).await;
    assert_eq!((shown.direction, shown.contact, &*shown.address), (Direction::Outbound, None, ANA_SHORT));
    assert_eq!(contacts(&ground).await, []);
    let [conversation] = &conversations(&ground).await[..] else { panic!("one conversation") };
    assert_eq!((conversation.status, conversation.unread, &conversation.contact), (Status::Open, 0, &None));
    // The answer of the person belongs to it.
    let answer = one(&ground, channel, text("A1", both(), "Obrigada")).await;
    assert_eq!(answer.conversation, stored.conversation);
    let [conversation] = &conversations(&ground).await[..] else { panic!("one conversation") };
    assert_eq!((conversation.status, conversation.unread), (Status::Open, 1));
    assert!(conversation.contact.is_some());
    assert_eq!(names(&ground).await, ["conversation.created", "message.echo", "contact.created", "message.received"]);
    // What a call of the API sent is no echo.
    let id = ground.accept(channel, ANA).await;
    let claimed = ground.claim_one(channel).await;
    ground.settle(channel, claimed.seq, Settlement::Sent { account: None, remote_id: None, rendition: None }).await;
    let network_id = ground.message(channel, id).await.network_id;
    let own = Arrival { from_me: true, ..text(&network_id, both(), "Oi") };
    assert_eq!(one(&ground, channel, own).await.outcome, Outcome::Ignored(Ignored::SentByUs));
}

pub(super) async fn a_group_is_one_chat_with_many_people(ground: Ground) {
    record(&ground).await;
    let channel = ground.channel("vendas").await;
    let group = Some(Group { address: "120363@g.us".to_owned(), name: Some("Turma".to_owned()) });
    let from_ana = one(&ground, channel, Arrival { group: group.clone(), ..text("A1", both(), "Oi") }).await;
    let bia = SenderIds::of_phone(BIA);
    let from_bia = one(&ground, channel, Arrival { group: group.clone(), ..text("B1", bia, "Oi") }).await;
    assert_eq!(from_ana.conversation, from_bia.conversation);
    let [conversation] = &conversations(&ground).await[..] else { panic!("one conversation") };
    assert_eq!((conversation.chat, conversation.chat_name.as_deref()), (ChatKind::Group, Some("Turma")));
    assert_eq!((&*conversation.address, &conversation.contact), ("120363@g.us", &None));
    assert_eq!(contacts(&ground).await.len(), 2);
    let received = events(&ground).await.into_iter().find(|event| event.kind == "message.received").expect("recorded");
    assert_eq!((received.chat, &data(&received)["message"]["from"]), (ChatKind::Group, &json!(ANA)));
    // The same person in a chat of two is another conversation.
    let direct = one(&ground, channel, text("A2", both(), "Oi")).await;
    assert_ne!(direct.conversation, from_ana.conversation);
}

pub(super) async fn changes_wait_for_their_message_and_old_ones_change_nothing(ground: Ground) {
    record(&ground).await;
    let channel = ground.channel("vendas").await;
    let target = || "A1".parse().expect("an id");
    let change = |id: &str, seconds: Millis, what| Arrival {
        sent_at: NOW - 9_000 + seconds * 1_000,
        ..arrival(id, both(), what)
    };
    let edit = |id: &str, seconds, content: &str| {
        change(id, seconds, What::Edit { target: target(), content: content.to_owned() })
    };
    let held = one(&ground, channel, edit("E2", 2, "dois")).await;
    assert_eq!(held, Received::of(Outcome::Held, None, None));
    let stored =
        one(&ground, channel, change("A1", 0, What::Message(Box::new(NewIncoming::new(Content::text(), "zero")))))
            .await;
    let shown = message(&ground, channel, stored).await;
    assert_eq!((&*shown.body.text, shown.edited_at), ("dois", Some(NOW - 7_000)));
    assert_eq!(one(&ground, channel, edit("E1", 1, "um")).await.outcome, Outcome::Ignored(Ignored::Stale));
    assert_eq!(one(&ground, channel, edit("E3", 3, "tres")).await.outcome, Outcome::Applied);
    assert_eq!(one(&ground, channel, edit("E3", 3, "tres")).await.outcome, Outcome::Repeated);
    assert_eq!(conversations(&ground).await[0].last.as_ref().map(|last| &*last.content), Some("tres"));
    let react = |id: &str, seconds, emoji: Option<&str>| {
        change(id, seconds, What::Reaction { target: target(), emoji: emoji.map(str::to_owned) })
    };
    assert_eq!(one(&ground, channel, react("R1", 4, Some("👍"))).await.outcome, Outcome::Applied);
    assert_eq!(one(&ground, channel, react("R3", 6, None)).await.outcome, Outcome::Applied);
    assert_eq!(one(&ground, channel, react("R2", 5, Some("😀"))).await.outcome, Outcome::Ignored(Ignored::Stale));
    let view = serde_json::to_value(crate::views::message(&message(&ground, channel, stored).await)).expect("JSON");
    assert_eq!(view["reactions"], json!([]), "it was taken back");
    // Another person edits nothing.
    let strange = Arrival { person: SenderIds::of_phone(BIA), ..edit("X1", 7, "outro") };
    assert_eq!(one(&ground, channel, strange).await.outcome, Outcome::Held, "it is another chat's");
    let group = Some(Group { address: "1@g.us".to_owned(), name: None });
    let in_group = |arrival: Arrival| Arrival { group: group.clone(), ..arrival };
    one(&ground, channel, in_group(text("G1", both(), "Oi"))).await;
    let what = |content: &str| What::Edit { target: "G1".parse().expect("an id"), content: content.to_owned() };
    let strange = in_group(arrival("X2", SenderIds::of_phone(BIA), what("outro")));
    assert_eq!(one(&ground, channel, strange).await.outcome, Outcome::Ignored(Ignored::Stale));
    let all = events(&ground).await;
    let edits: Vec<_> = all.iter().filter(|event| event.kind == "message.edited").map(data).collect();
    let texts: Vec<_> = edits.iter().map(|edit| (&edit["previousContent"], &edit["content"])).collect();
    assert_eq!(texts, [(&json!("zero"), &json!("dois")), (&json!("dois"), &json!("tres"))]);
    assert_eq!(edits[0]["sender"]["phone"], ANA);
    let emojis: Vec<_> =
        all.iter().filter(|event| event.kind == "message.reaction").map(|event| data(event)["emoji"].clone()).collect();
    assert_eq!(emojis, [json!("👍"), Value::Null]);
}

pub(super) async fn a_revoked_message_has_no_content_unless_it_is_kept(ground: Ground) {
    record(&ground).await;
    let channel = ground.channel("vendas").await;
    let media = NewMedia { mime_type: "image/jpeg".to_owned(), ..NewMedia::default() };
    let image = Content::Image(Captioned { caption: Some("segredo".to_owned()), ..Captioned::default() });
    let new = NewIncoming { media: Some(media), raw: Some(vec![1]), ..NewIncoming::new(image, "segredo") };
    for (n, keep) in [false, true].into_iter().enumerate() {
        let id = format!("A{n}");
        let stored = one(&ground, channel, arrival(&id, both(), What::Message(Box::new(new.clone())))).await;
        let target = id.parse().expect("an id");
        let revoke = arrival(&format!("R{n}"), both(), What::Revoke { target, by_admin: false });
        change_settings(&ground, channel, json!({"keepRevoked": keep})).await;
        receive(&ground, channel, vec![revoke]).await;
        let shown = message(&ground, channel, stored).await;
        assert_eq!(shown.revoked_at, Some(NOW - 1_000));
        let raw = ground.store.incoming_raw(channel, shown.id).await.expect("read");
        if keep {
            assert_eq!((&*shown.body.text, shown.media.is_some(), raw), ("segredo", true, Some(vec![1])));
        } else {
            assert_eq!((&*shown.body.text, shown.media, raw), ("", None, None));
            assert!(!serde_json::to_string(&shown.body).expect("JSON").contains("segredo"));
            assert_eq!(conversations(&ground).await[0].last.as_ref().map(|last| &*last.content), Some(""));
        }
    }
    let revoked = events(&ground).await.into_iter().find(|event| event.kind == "message.revoked").expect("recorded");
    assert_eq!(data(&revoked)["by"], "SENDER");
}

pub(super) async fn votes_are_counted_by_person(ground: Ground) {
    record(&ground).await;
    let channel = ground.channel("vendas").await;
    let group = Some(Group { address: "1@g.us".to_owned(), name: None });
    let options = || vec!["Sim".to_owned(), "Nao".to_owned()];
    let poll = Content::Poll { question: "Vem?".to_owned(), options: options(), max_selections: Some(1) };
    let in_group = |arrival: Arrival| Arrival { group: group.clone(), ..arrival };
    let asked = What::Message(Box::new(NewIncoming::new(poll, "Vem?")));
    one(&ground, channel, in_group(arrival("P1", both(), asked))).await;
    let vote = |id: &str, person: SenderIds, option: &str| {
        let options = vec![option.to_owned()];
        in_group(arrival(id, person, What::PollVote { target: "P1".parse().expect("an id"), options }))
    };
    let bia = || SenderIds::of_phone(BIA);
    one(&ground, channel, vote("V1", both(), "Sim")).await;
    one(&ground, channel, vote("V2", bia(), "Sim")).await;
    one(&ground, channel, Arrival { sent_at: NOW, ..vote("V3", bia(), "Nao") }).await;
    let last = events(&ground).await.pop().expect("recorded");
    assert_eq!(last.kind, "message.poll_vote");
    // People of a group who never wrote are people as well.
    let strange = ["5521911112222", "5521933334444"].map(SenderIds::of_phone);
    for (n, person) in strange.into_iter().enumerate() {
        one(&ground, channel, vote(&format!("S{n}"), person.clone(), "Sim")).await;
        let react = What::Reaction { target: "P1".parse().expect("an id"), emoji: Some("👍".to_owned()) };
        one(&ground, channel, in_group(arrival(&format!("T{n}"), person, react))).await;
    }
    let [poll] = &delivered(&ground, channel).await[..] else { panic!("one message") };
    assert_eq!(poll.reactions.len(), 2);
    let strangers =
        events(&ground).await.into_iter().rfind(|event| event.kind == "message.poll_vote").expect("recorded");
    assert_eq!(data(&strangers)["results"][0], json!({"option": "Sim", "votes": 3}));
    let results = json!([{"option": "Sim", "votes": 1}, {"option": "Nao", "votes": 1}]);
    assert_eq!((&data(&last)["results"], &data(&last)["options"]), (&results, &json!(["Nao"])));
}

pub(super) async fn a_reaction_to_a_sent_message_is_reported(ground: Ground) {
    record(&ground).await;
    let channel = ground.channel("vendas").await;
    let id = ground.accept(channel, ANA).await;
    let claimed = ground.claim_one(channel).await;
    let remote_id = "wamid.1".parse().ok();
    ground.settle(channel, claimed.seq, Settlement::Sent { account: None, remote_id, rendition: None }).await;
    let what = What::Reaction { target: "wamid.1".parse().expect("an id"), emoji: Some("👍".to_owned()) };
    let made = one(&ground, channel, arrival("R1", SenderIds::of_phone(ANA), what)).await;
    assert_eq!((made.outcome, made.message), (Outcome::Applied, Some(id)));
    let [event] = &events(&ground).await[..] else { panic!("one event") };
    let said = data(event);
    assert_eq!((&said["messageId"], &said["networkId"], &said["from"]), (&json!(id), &json!("wamid.1"), &json!(ANA)));
    assert_eq!(contacts(&ground).await, [], "a reaction creates nothing");
    // And an answer names it.
    let quoted = Quoted { content: Some("x".repeat(300)), ..Quoted::of_id("wamid.1") };
    let new = NewIncoming { reply_to: Some(quoted), ..NewIncoming::new(Content::text(), "Certo") };
    let answer = one(&ground, channel, arrival("A1", both(), What::Message(Box::new(new)))).await;
    let reply = message(&ground, channel, answer).await.body.reply_to.expect("a quote");
    assert_eq!((reply.message_id, reply.from.as_deref()), (Some(id), Some("551140000000")));
    let unknown = Quoted { content: Some("x".repeat(300)), ..Quoted::of_id("outro") };
    let new = NewIncoming { reply_to: Some(unknown), ..NewIncoming::new(Content::text(), "Certo") };
    let answer = one(&ground, channel, arrival("A2", both(), What::Message(Box::new(new)))).await;
    let reply = message(&ground, channel, answer).await.body.reply_to.expect("a quote");
    assert_eq!((reply.message_id, reply.content.map(|content| content.len())), (None, Some(256)));
    let new = NewIncoming { reply_to: Some(Quoted::of_id("A1")), ..NewIncoming::new(Content::text(), "!") };
    let answer = one(&ground, channel, arrival("A3", both(), What::Message(Box::new(new)))).await;
    let reply = message(&ground, channel, answer).await.body.reply_to.expect("a quote");
    assert_eq!(
        (reply.from.as_deref(), reply.content.as_deref(), reply.kind.as_deref()),
        (Some(ANA), Some("Certo"), Some("text"))
    );
}

pub(super) async fn a_message_that_could_not_be_read_is_recovered_once(ground: Ground) {
    record(&ground).await;
    let channel = ground.channel("vendas").await;
    let unreadable = Content::Unsupported { reason: UnsupportedReason::Undecryptable };
    let lost = arrival("A1", both(), What::Message(Box::new(NewIncoming::new(unreadable, ""))));
    let stored = one(&ground, channel, lost.clone()).await;
    for outcome in [Outcome::Recovered, Outcome::Repeated] {
        let again = one(&ground, channel, text("A1", both(), "Oi")).await;
        assert_eq!((again.outcome, again.message), (outcome, stored.message));
    }
    assert_eq!(one(&ground, channel, lost).await.outcome, Outcome::Repeated);
    assert_eq!(message(&ground, channel, stored).await.body.text, "Oi");
    assert_eq!(conversations(&ground).await[0].last.as_ref().map(|last| &*last.content), Some("Oi"));
    let recovered: Vec<_> = names(&ground).await.into_iter().filter(|name| name == "message.recovered").collect();
    assert_eq!(recovered.len(), 1);
}

pub(super) async fn the_phone_reads_messages(ground: Ground) {
    let channel = ground.channel("vendas").await;
    let read =
        |id: &str, target: &str| arrival(id, both(), What::ReadSelf { targets: vec![target.parse().expect("an id")] });
    let first = one(&ground, channel, text("A1", both(), "um")).await;
    let second = one(&ground, channel, text("A2", both(), "dois")).await;
    one(&ground, channel, text("A3", both(), "tres")).await;
    assert_eq!(conversations(&ground).await[0].unread, 3);
    assert_eq!(one(&ground, channel, read("read:A2", "A2")).await.outcome, Outcome::Applied);
    assert_eq!(conversations(&ground).await[0].unread, 1);
    for read in [first, second] {
        assert_eq!(message(&ground, channel, read).await.read_at, Some(NOW));
    }
    // The news that it was read comes first.
    assert_eq!(one(&ground, channel, read("read:A4", "A4")).await.outcome, Outcome::Held);
    one(&ground, channel, text("A4", both(), "quatro")).await;
    assert_eq!(conversations(&ground).await[0].unread, 0);
}

pub(super) async fn a_word_opts_out_and_a_preference_too(ground: Ground) {
    record(&ground).await;
    let channel = ground.channel("vendas").await;
    receive(&ground, channel, vec![text("A1", both(), "quero sair")]).await;
    let group = Some(Group { address: "1@g.us".to_owned(), name: None });
    receive(&ground, channel, vec![Arrival { group, ..text("G1", both(), "sair") }]).await;
    assert_eq!(contacts(&ground).await[0].opt_out_at, None, "in a group, the word is for the others");
    receive(&ground, channel, vec![text("A2", both(), "Sair."), text("A3", both(), "sair")]).await;
    let contact = contacts(&ground).await.remove(0);
    assert_eq!((contact.opt_out_at, contact.opt_out_source.as_deref()), (Some(NOW), Some("KEYWORD")));
    receive(&ground, channel, vec![text("A4", both(), "Oi")]).await;
    assert!(contacts(&ground).await[0].opt_out_at.is_some(), "a later message does not reset it");
    let updated: Vec<_> = events(&ground).await.into_iter().filter(|event| event.kind == "contact.updated").collect();
    assert_eq!((updated.len(), &data(&updated[0])["changes"]), (1, &json!(["optOut"])));
    let preference = |id: &str, stop| arrival(id, both(), What::OptOut(stop));
    assert_eq!(one(&ground, channel, preference("P1", false)).await.outcome, Outcome::Applied);
    assert_eq!(contacts(&ground).await[0].opt_out_at, None);
    assert_eq!(one(&ground, channel, preference("P2", true)).await.outcome, Outcome::Applied);
    assert_eq!(contacts(&ground).await[0].opt_out_source.as_deref(), Some("NETWORK"));
    let back = recado_domain::contact_book::ContactChange {
        opt_out: Some(false),
        ..recado_domain::contact_book::ContactChange::default()
    };
    ground.store.change_contact(owner(&ground), contact.id, back, NOW).await.expect("stored");
    assert_eq!(one(&ground, channel, preference("P2", true)).await.outcome, Outcome::Repeated);
    assert_eq!(contacts(&ground).await[0].opt_out_at, None, "a caller has decided since");
}

pub(super) async fn a_window_is_open_for_a_day_after_a_message_of_the_person(ground: Ground) {
    let channel = ground.channel_of(ChannelType::CloudApi, "meta").await;
    let windowed = |arrivals| Arrivals { windowed: true, ..batch(channel, arrivals) };
    let state = async |now| {
        let conversation = conversations(&ground).await.remove(0);
        conversation.window(now)
    };
    let echo = Arrival { from_me: true, ..text("E1", both(), "Oi") };
    ground.store.receive(windowed(vec![echo]), NOW).await.expect("stored");
    assert_eq!(state(NOW).await.state, WindowState::Unknown, "echoes open none");
    let earlier = Arrival { sent_at: NOW - DAY / 2, ..text("A1", both(), "Oi") };
    ground.store.receive(windowed(vec![text("A2", both(), "Oi"), earlier]), NOW).await.expect("stored");
    let window = state(NOW).await;
    assert_eq!((window.state, window.open_until), (WindowState::Open, Some(NOW - 1_000 + WINDOW)));
    assert_eq!(state(NOW - 1_000 + WINDOW).await.state, WindowState::Closed);
    let open = |now| ConversationQuery { window_open: true, ..ConversationQuery::of(owner(&ground), now, 10) };
    for (now, found) in [(NOW, 1), (NOW - 1_000 + WINDOW, 0)] {
        assert_eq!(ground.store.conversations(open(now)).await.expect("read").conversations.len(), found);
    }
    // It outlasts the conversation.
    let id = conversations(&ground).await[0].id;
    let close = recado_domain::conversation::Change::Close { reason: None };
    ground.store.change_conversation(owner(&ground), id, close, NOW).await.expect("stored");
    let echo = Arrival { from_me: true, ..text("E2", both(), "Oi") };
    ground.store.receive(windowed(vec![echo]), NOW + MINUTE).await.expect("stored");
    assert_ne!(conversations(&ground).await[0].id, id);
    assert_eq!(state(NOW).await.state, WindowState::Open);
}

pub(super) async fn long_texts_are_cut_and_events_stay_short(ground: Ground) {
    record(&ground).await;
    let channel = ground.channel("vendas").await;
    // Six bytes each in JSON.
    let long = "\u{1}".repeat(70_000);
    let stored = one(&ground, channel, text("A1", both(), &long)).await;
    let shown = message(&ground, channel, stored).await;
    assert_eq!(shown.body.text.chars().count(), 65_536);
    assert_eq!(shown.body.content, Content::Text { truncated: true });
    let received = events(&ground).await.pop().expect("recorded");
    assert!(received.kind == "message.received" && received.data.len() <= recado_domain::event::DATA_LIMIT);
    assert_eq!(data(&received)["message"]["text"]["truncated"], true);
    let edit = What::Edit { target: "A1".parse().expect("an id"), content: format!("{long}!") };
    one(&ground, channel, arrival("E1", both(), edit)).await;
    // A text with NUL, which no database keeps.
    one(&ground, channel, text("A2", SenderIds { name: Some("A\0na".to_owned()), ..both() }, "a\0b")).await;
    assert_eq!(delivered(&ground, channel).await[1].body.text, "ab");
    let many = vec![text("A1", both(), "Oi"); ARRIVALS_AT_ONCE + 1];
    assert!(ground.store.receive(batch(channel, many), NOW).await.is_err());
}

pub(super) async fn deep_json_of_a_person_is_stored_and_read(ground: Ground) {
    record(&ground).await;
    let channel = ground.channel("vendas").await;
    let deep = (0..125).fold(json!("x"), |inner, _| json!([inner]));
    let data = Some(deep.clone());
    let content = Content::Button { id: None, title: Some("Enviar".to_owned()), description: None, data };
    let new = NewIncoming { referral: Some(deep), ..NewIncoming::new(content, "Enviar") };
    let stored = one(&ground, channel, arrival("A1", both(), What::Message(Box::new(new)))).await;
    let body = message(&ground, channel, stored).await.body;
    let Content::Button { data: Some(Value::String(text)), .. } = body.content else { panic!("a text") };
    assert!(text.contains('x') && body.referral.is_none());
}

pub(super) async fn only_so_many_changes_wait_for_one_message(ground: Ground) {
    let channel = ground.channel("vendas").await;
    let react = |n: usize| {
        let what = What::Reaction { target: "A1".parse().expect("an id"), emoji: Some("👍".to_owned()) };
        arrival(&format!("R{n}"), both(), what)
    };
    let first = receive(&ground, channel, (0..64).map(react).collect()).await;
    assert!(first.iter().all(|held| held.outcome == Outcome::Held));
    assert_eq!(one(&ground, channel, react(64)).await.outcome, Outcome::Ignored(Ignored::Stale));
    let stored = one(&ground, channel, text("A1", both(), "Oi")).await;
    assert_eq!(message(&ground, channel, stored).await.reactions.len(), 1);
}

pub(super) async fn a_deleted_channel_receives_nothing_and_stays_readable(ground: Ground) {
    let channel = ground.channel("vendas").await;
    let stored = one(&ground, channel, text("A1", both(), "Oi")).await;
    ground.delete_channel(channel, NOW).await;
    let late = one(&ground, channel, text("A2", both(), "Oi")).await;
    assert_eq!(late.outcome, Outcome::Ignored(Ignored::ChannelGone));
    assert_eq!(message(&ground, channel, stored).await.body.text, "Oi");
    assert_eq!(conversations(&ground).await.len(), 1);
}

pub(super) async fn files_are_kept_by_their_last_use(ground: Ground) {
    let channel = ground.channel("vendas").await;
    let mut ids = Vec::new();
    for n in 0..3 {
        let media = NewMedia { mime_type: "audio/ogg".to_owned(), ..NewMedia::default() };
        let new = NewIncoming { media: Some(media), ..NewIncoming::new(Content::Audio(Captioned::default()), "") };
        let stored = one(&ground, channel, arrival(&format!("A{n}"), both(), What::Message(Box::new(new)))).await;
        ids.push(message(&ground, channel, stored).await.media.expect("a file").id);
    }
    let store = &ground.store;
    let hash = "ab".repeat(32);
    for (place, at) in [(0, NOW), (1, NOW)] {
        assert!(store.media_stored(ids[place], 9, hash.clone(), at).await.expect("stored"));
    }
    assert!(!store.media_gone(ids[2], MediaState::Stored).await.expect("stored"), "it is in another state");
    assert!(store.media_gone(ids[2], MediaState::Remote).await.expect("stored"));
    let strange = MediaId::new(1, [9; 10]);
    assert!(!store.media_stored(strange, 1, hash.clone(), NOW).await.expect("stored"));
    assert!(!store.media_gone(strange, MediaState::Remote).await.expect("stored"));
    let file = store.media(owner(&ground), ids[0]).await.expect("read").expect("there");
    assert_eq!((file.state, file.about.size, file.read_at), (MediaState::Stored, Some(9), Some(NOW)));
    assert_eq!((file.about.sha256, &*file.about.mime_type), (Some(hash), "audio/ogg"));
    // One that is read stays.
    assert!(store.media_read(ids[1], NOW + DAY).await.expect("noted"));
    assert!(!store.media_read(ids[2], NOW + DAY).await.expect("not noted"), "it is not stored");
    let stored = async |ids: Vec<MediaId>| {
        let mut stored = store.stored_files(ids).await.expect("read");
        stored.sort_by_key(|file| file.id);
        stored
    };
    let file = |id, read_at| StoredFile { id, channel, read_at: Some(read_at) };
    let both = {
        let mut both = vec![file(ids[0], NOW), file(ids[1], NOW + DAY)];
        both.sort_by_key(|file| file.id);
        both
    };
    assert_eq!(stored(vec![ids[2], ids[1], strange, ids[0]]).await, both);
    assert_eq!(stored(vec![]).await, []);
    assert_eq!(store.release_media(NOW + DAY).await.expect("released"), 1);
    assert_eq!(store.release_media(NOW + DAY).await.expect("released"), 0);
    let mut states = Vec::new();
    for id in &ids {
        states.push(store.media(owner(&ground), *id).await.expect("read").expect("there").state);
    }
    assert_eq!(states, [MediaState::Remote, MediaState::Stored, MediaState::Gone]);
    assert_eq!(stored(ids.clone()).await, [file(ids[1], NOW + DAY)]);
    // A full disk makes files remote early.
    assert_eq!(store.release_files(vec![]).await.expect("released"), 0);
    assert_eq!(store.release_files(vec![ids[2], strange, ids[1]]).await.expect("released"), 1);
    assert_eq!(stored(ids.clone()).await, []);
    assert_eq!(store.media(owner(&ground), ids[2]).await.expect("read").expect("there").state, MediaState::Gone);
    // What is cleared names its files.
    let mut cleared = Vec::new();
    while let Some(files) = store.clear_inbox(owner(&ground)).await.expect("cleared") {
        cleared.extend(files);
    }
    cleared.sort_unstable();
    ids.sort_unstable();
    assert_eq!(cleared, ids);
}

pub(super) async fn old_messages_go_with_their_files_and_empty_conversations(ground: Ground) {
    let channel = ground.channel("vendas").await;
    let media = NewMedia { mime_type: "audio/ogg".to_owned(), ..NewMedia::default() };
    let new = NewIncoming { media: Some(media), ..NewIncoming::new(Content::Audio(Captioned::default()), "") };
    let old = arrival("A1", both(), What::Message(Box::new(new)));
    let held = arrival("R1", both(), What::Reaction { target: "X".parse().expect("an id"), emoji: None });
    ground.store.receive(batch(channel, vec![old, held]), NOW - 90 * DAY).await.expect("stored");
    let id = conversations(&ground).await[0].id;
    let close = recado_domain::conversation::Change::Close { reason: None };
    ground.store.change_conversation(owner(&ground), id, close, NOW - 90 * DAY).await.expect("stored");
    let early = text("A0", both(), "Oi");
    ground.store.receive(batch(channel, vec![early]), NOW - 60 * DAY).await.expect("stored");
    one(&ground, channel, text("A2", both(), "Oi")).await;
    let idle = vec![text("B1", SenderIds::of_phone(BIA), "Oi")];
    ground.store.receive(batch(channel, idle), NOW - 90 * DAY).await.expect("stored");
    let file = delivered(&ground, channel).await[0].media.clone().expect("a file").id;
    let purge = PurgeRequest { now: NOW, finished_before: NOW - 30 * DAY, used_before: 0, events_before: 0, after: 0 };
    while ground.store.purge(purge).await.expect("purged").is_some() {}
    let left = delivered(&ground, channel).await;
    assert_eq!(left.iter().map(|message| &*message.network_id).collect::<Vec<_>>(), ["A2"]);
    assert_eq!(ground.store.media(owner(&ground), file).await.expect("read"), None);
    let all = conversations(&ground).await;
    // An active conversation is deleted, too: otherwise it would show the text of its last message for ever.
    assert_eq!((all.len(), all[0].status, &*all[0].address), (1, Status::Pending, ANA));
    assert_eq!(all[0].unread, 1, "the one that is there");
    assert_eq!(contacts(&ground).await.len(), 2, "a contact is no message");
    let again = one(&ground, channel, arrival("R1", both(), What::OptOut(false))).await;
    assert_eq!(again.outcome, Outcome::Ignored(Ignored::Stale));
}

pub(super) async fn a_page_of_a_conversation_goes_on_in_both_orders(ground: Ground) {
    let channel = ground.channel("vendas").await;
    let conversation = one(&ground, channel, text("A0", both(), "0")).await.conversation.expect("one");
    for n in 1..7 {
        one(&ground, channel, text(&format!("A{n}"), both(), &n.to_string())).await;
    }
    for (order, wanted) in [(Order::OldestFirst, "0123456"), (Order::NewestFirst, "6543210")] {
        let mut query =
            ConversationMessages { owner: owner(&ground), channel, conversation, after: None, order, limit: 3 };
        let mut texts = String::new();
        loop {
            let page = ground.store.conversation_messages(query).await.expect("read").expect("there");
            for item in page.items {
                let InboxItem::Incoming(message) = item else { panic!("none was sent") };
                texts.push_str(&message.body.text);
            }
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        assert_eq!(texts, wanted);
        let elsewhere = ConversationMessages { channel: channel + 1, ..query };
        assert_eq!(ground.store.conversation_messages(elsewhere).await.expect("read"), None);
    }
}

/// Checks that nothing of an erased person can be found.
pub(crate) const ERASED: [&str; 5] = ["5531966665555", "553166665555", "103899771998284", "Carla", "segredo"];

/// A person in every table: messages in both directions, in a group, quoted, mentioned, and changes of all kinds.
async fn receive_from_carla(ground: &Ground, channel: ChannelKey) {
    let carla = || SenderIds {
        lid: Some("103899771998284".to_owned()),
        name: Some("Carla".to_owned()),
        ..SenderIds::of_phone("5531966665555")
    };
    let group = || Some(Group { address: "1@g.us".to_owned(), name: None });
    let in_group = |arrival: Arrival| Arrival { group: group(), ..arrival };
    let id = |id: &str| id.parse().expect("an id");
    let quote = Quoted { content: Some("segredo".to_owned()), ..Quoted::of_id("G1") };
    let answer = NewIncoming {
        reply_to: Some(quote),
        mentions: vec!["5531966665555".to_owned(), BIA.to_owned()],
        ..NewIncoming::new(Content::text(), "Oi")
    };
    let quote = Quoted { content: Some("segredo".to_owned()), ..Quoted::of_id("G4") };
    let quoting_hidden = NewIncoming { reply_to: Some(quote), ..NewIncoming::new(Content::text(), "Certo") };
    let bia = SenderIds::of_phone(BIA);
    let file_name = Some("segredo".to_owned());
    let media = NewMedia { mime_type: "text/plain".to_owned(), file_name, ..NewMedia::default() };
    let file = NewIncoming { media: Some(media), ..NewIncoming::new(Content::Document(Captioned::default()), "") };
    let emoji = Some("👍".to_owned());
    let poll = Content::Poll { question: "?".to_owned(), options: vec!["Sim".to_owned()], max_selections: None };
    let to_sent = What::Reaction { target: id("wamid.2"), emoji: emoji.clone() };
    let arrivals = vec![
        Arrival { from_me: true, ..text("E1", SenderIds::of_phone("553166665555"), "Ola") },
        arrival("R0", SenderIds::of_phone("5531966665555"), to_sent),
        text("C1", carla(), "segredo"),
        arrival("C2", carla(), What::Message(Box::new(file))),
        in_group(text("G1", carla(), "segredo")),
        in_group(arrival("G2", bia.clone(), What::Message(Box::new(answer)))),
        in_group(arrival("G3", bia.clone(), What::Message(Box::new(NewIncoming::new(poll, "?"))))),
        // By the hidden id alone, as a network may report them.
        in_group(text("G4", SenderIds::of_lid("900111222333444"), "segredo")),
        in_group(arrival("G5", bia.clone(), What::Message(Box::new(quoting_hidden)))),
        in_group(arrival("R1", carla(), What::Reaction { target: id("G2"), emoji })),
        in_group(arrival("V1", carla(), What::PollVote { target: id("G3"), options: vec!["Sim".to_owned()] })),
        arrival("X1", carla(), What::Edit { target: id("nunca"), content: "segredo".to_owned() }),
        text("B1", bia, "Fica"),
    ];
    receive(ground, channel, arrivals).await;
}

/// Every name of a person, as `recado data` finds them.
async fn all_names(ground: &Ground, first: &str) -> Person {
    let mut person = Person::new(vec![first.to_owned()], None);
    loop {
        let known = person.numbers.len();
        let mut after = Some(0);
        while let Some(from) = after {
            let query = PersonQuery { person: person.clone(), part: PersonPart::Names, after: from };
            let page = ground.store.person(query).await.expect("read");
            for row in page.rows {
                let PersonRow::Name(name) = row else { panic!("a name") };
                if !person.numbers.contains(&name) {
                    person.numbers.push(name);
                }
            }
            after = page.next;
        }
        if person.numbers.len() == known {
            return person;
        }
    }
}

/// Fills every table with a person, and erases the person as `recado data erase` does.
pub(crate) async fn erase_a_person(ground: &Ground) {
    record(ground).await;
    let channel = ground.channel("vendas").await;
    let sent = ground.accept(channel, "5531966665555").await;
    let claimed = ground.claim_one(channel).await;
    let settlement = Settlement::Sent { account: None, remote_id: "wamid.2".parse().ok(), rendition: None };
    ground.settle(channel, claimed.seq, settlement).await;
    receive_from_carla(ground, channel).await;
    let person = all_names(ground, "5531966665555").await;
    let export = async |part| {
        let query = PersonQuery { person: person.clone(), part, after: 0 };
        ground.store.person(query).await.expect("read").rows
    };
    assert_eq!(export(PersonPart::Received).await.len(), 4, "an echo, two messages and one in a group");
    assert_eq!(export(PersonPart::Book).await.len(), 2, "a contact and a conversation");
    let place = Place { channel, seq: ground.message(channel, sent).await.seq, id: sent, key: None };
    let erase = async |erasure| ground.store.erase_person(erasure, NOW).await.expect("stored").next;
    erase(Erasure::Messages(vec![place])).await;
    let hidden = all_names(ground, "900111222333444@lid").await;
    for person in [&person, &hidden] {
        for all in [
            (|person, after| Erasure::Contacts { person, after }) as fn(Person, i64) -> Erasure,
            |person, after| Erasure::Traces { person, channel: None, after },
            |person, _| Erasure::Inbox { person },
            |person, after| Erasure::EventTraces { person, after },
        ] {
            let mut after = 0;
            while let Some(next) = erase(all(person.clone(), after)).await {
                after = next;
            }
        }
    }
    assert_eq!(export(PersonPart::Received).await, []);
    assert_eq!(export(PersonPart::Book).await, []);
    // Others keep what is theirs.
    let left: Vec<_> = delivered(ground, channel).await.into_iter().map(|message| message.network_id).collect();
    assert_eq!(left, ["G2", "G3", "G5", "B1"]);
    assert_eq!(contacts(ground).await.len(), 1);
}
