//! Receiving: messages of networks, with repetitions and in any order. The other files of the inbox share the first part.

use recado_domain::api_key::Environment;
use recado_domain::channel::{ChannelChange, ChannelKey, ChannelType};
use recado_domain::clock::Millis;
use recado_domain::contact_book::{Contact, ContactQuery};
use recado_domain::conversation::{
    Conversation, ConversationMessages, ConversationQuery, InboxItem, Order, Status, WINDOW, WindowState,
};
use recado_domain::event::{ChatKind, Event, Owner, Patterns};
use recado_domain::field_errors::FieldErrors;
use recado_domain::incoming::{
    ARRIVALS_AT_ONCE, Arrival, Arrivals, Captioned, Content, Direction, Ignored, Incoming, MediaState, NewIncoming,
    NewMedia, Outcome, Received, SenderIds, What,
};
use serde_json::{Value, json};

use crate::fixtures::{DAY, Ground, MINUTE, NOW};

pub(crate) const ANA: &str = "5511988887777";
/// The same number without its ninth digit.
pub(super) const ANA_SHORT: &str = "551188887777";
pub(super) const ANA_LID: &str = "900";
pub(super) const BIA: &str = "5521977776666";

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
pub(super) async fn one(ground: &Ground, channel: ChannelKey, arrival: Arrival) -> Received {
    receive(ground, channel, vec![arrival]).await[0]
}

pub(super) async fn message(ground: &Ground, channel: ChannelKey, received: Received) -> Incoming {
    let id = received.message.expect("a message");
    ground.store.incoming(channel, id).await.expect("read").expect("it is there")
}

/// All delivered messages of a channel, oldest first.
pub(crate) async fn delivered(ground: &Ground, channel: ChannelKey) -> Vec<Incoming> {
    let query = recado_domain::incoming::IncomingQuery { channel, before: None, from: None, limit: 1_000 };
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

pub(super) async fn names(ground: &Ground) -> Vec<String> {
    events(ground).await.into_iter().map(|event| event.kind).collect()
}

pub(super) fn data(event: &Event) -> Value {
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

/// A clock of the network that is ahead must not keep a window open for longer, or hide later changes.
pub(super) async fn a_message_from_the_future_is_from_now(ground: Ground) {
    let channel = ground.channel("vendas").await;
    let message = Arrival { sent_at: NOW + DAY, ..text("A1", both(), "Oi") };
    let windowed = Arrivals { windowed: true, ..batch(channel, vec![message]) };
    ground.store.receive(windowed, NOW).await.expect("stored");
    assert_eq!(delivered(&ground, channel).await[0].sent_at, NOW);
    assert_eq!(conversations(&ground).await[0].person_wrote_at, Some(NOW));
    for (id, ahead, now, content) in [("E1", DAY, NOW, "um"), ("E2", 0, NOW + MINUTE, "dois")] {
        let what = What::Edit { target: "A1".parse().expect("an id"), content: content.to_owned() };
        let edit = Arrival { sent_at: now + ahead, ..arrival(id, both(), what) };
        let received = ground.store.receive(batch(channel, vec![edit]), now).await.expect("stored");
        assert_eq!(received[0].outcome, Outcome::Applied, "{content}");
    }
    assert_eq!(delivered(&ground, channel).await[0].body.text, "dois");
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

pub(super) async fn a_deleted_channel_receives_nothing_and_stays_readable(ground: Ground) {
    let channel = ground.channel("vendas").await;
    let stored = one(&ground, channel, text("A1", both(), "Oi")).await;
    ground.delete_channel(channel, NOW).await;
    let late = one(&ground, channel, text("A2", both(), "Oi")).await;
    assert_eq!(late.outcome, Outcome::Ignored(Ignored::ChannelGone));
    assert_eq!(message(&ground, channel, stored).await.body.text, "Oi");
    assert_eq!(conversations(&ground).await.len(), 1);
}

pub(super) async fn a_page_of_a_conversation_goes_on_in_both_orders(ground: Ground) {
    let channel = ground.channel("vendas").await;
    let conversation = one(&ground, channel, text("A0", both(), "0")).await.conversation.expect("one");
    for n in 1..7 {
        one(&ground, channel, text(&format!("A{n}"), both(), &n.to_string())).await;
    }
    for (order, wanted) in [(Order::OldestFirst, "0123456"), (Order::NewestFirst, "6543210")] {
        let mut query = ConversationMessages {
            owner: owner(&ground),
            channel,
            conversation,
            direction: None,
            after: None,
            order,
            limit: 3,
        };
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

pub(super) async fn messages_of_an_author_are_found_behind_those_on_other_channels(ground: Ground) {
    let (channel, other) = (ground.channel("vendas").await, ground.channel("outro").await);
    one(&ground, channel, text("A1", both(), "1")).await;
    one(&ground, channel, text("A2", SenderIds::of_phone(ANA_SHORT), "2")).await;
    one(&ground, channel, text("B1", SenderIds::of_phone(BIA), "de Bia")).await;
    // More than a page reads.
    for part in 0..10 {
        let ids = part * 100..(part + 1) * 100;
        receive(&ground, other, ids.map(|n| text(&format!("O{n}"), both(), "la")).collect()).await;
    }
    one(&ground, channel, text("A3", both(), "3")).await;
    let read = async |from: &str, before| {
        let from = Some((owner(&ground), from.to_owned()));
        let query = recado_domain::incoming::IncomingQuery { channel, from, before, limit: 2 };
        let page = ground.store.incoming_page(query).await.expect("read");
        (page.messages.into_iter().map(|message| message.body.text).collect::<Vec<_>>(), page.next)
    };
    let lid = format!("{ANA_LID}@lid");
    for name in [ANA, ANA_SHORT, &*lid] {
        let (first, next) = read(name, None).await;
        assert_eq!(first, ["3"], "{name}");
        assert_eq!(
            read(name, Some(next.expect("the list goes on"))).await,
            (vec!["2".to_owned(), "1".to_owned()], None)
        );
    }
    assert_eq!(read(BIA, None).await, (vec!["de Bia".to_owned()], None));
    assert_eq!(read("5531955554444", None).await, (Vec::new(), None), "of nobody");
}
