//! The data of a person in the inbox: found by every name, shown, and erased without harm to others.

use recado_domain::api_key::Environment;
use recado_domain::channel::{ChannelKey, ChannelState, NewChannel};
use recado_domain::conversation::ConversationQuery;
use recado_domain::event::Patterns;
use recado_domain::incoming::{
    Arrival, Arrivals, Captioned, Content, Group, NewIncoming, NewMedia, Outcome, Quoted, Received, SenderIds, What,
};
use recado_domain::party::Party;
use serde_json::Value;

use crate::fixtures::{Ground, NOW};
use crate::person::{Erased, Erasure, Person, PersonPart, PersonQuery, PersonRow};
use crate::views;

const MARIA: &str = "5531988887777";
const TWIN: &str = "553188887777";
const LID: &str = "900";
const OTHER: &str = "5511999998888";

fn maria() -> SenderIds {
    SenderIds { lid: Some(LID.to_owned()), name: Some("Maria".to_owned()), ..SenderIds::of_phone(MARIA) }
}

fn arrival(network_id: &str, person: SenderIds, what: What) -> Arrival {
    let network_id = network_id.parse().expect("an id");
    Arrival { network_id, group: None, person, from_me: false, sent_at: NOW, what }
}

fn says(network_id: &str, person: SenderIds, text: &str) -> Arrival {
    arrival(network_id, person, What::Message(Box::new(NewIncoming::new(Content::text(), text))))
}

fn in_group(arrival: Arrival) -> Arrival {
    Arrival { group: Some(Group { address: "120363@g.us".to_owned(), name: None }), ..arrival }
}

async fn receive(ground: &Ground, channel: ChannelKey, arrivals: Vec<Arrival>) -> Vec<Received> {
    let (number, business) = (Some("551140000000".to_owned()), None);
    let batch = Arrivals { channel, number, business, windowed: false, arrivals };
    ground.store.receive(batch, NOW).await.expect("stored")
}

fn person(names: &[&str]) -> Person {
    Person::new(names.iter().map(|name| (*name).to_owned()).collect(), None)
}

async fn shown(ground: &Ground, names: &[&str], part: PersonPart) -> Vec<Value> {
    let (mut rows, mut after) = (Vec::new(), 0);
    loop {
        let page = ground.store.person(PersonQuery { person: person(names), part, after }).await.expect("read");
        rows.extend(page.rows.into_iter().map(|row| match row {
            PersonRow::Received(message) => serde_json::to_value(views::message(&message)).expect("JSON"),
            PersonRow::Contact(contact) => serde_json::to_value(views::contact(&contact)).expect("JSON"),
            PersonRow::Conversation(found) => serde_json::to_value(views::conversation(&found, NOW)).expect("JSON"),
            PersonRow::Name(name) => name.into(),
            _ => panic!("another row"),
        }));
        let Some(next) = page.next else { return rows };
        assert!(next > after || part == PersonPart::Names, "a page that does not go on");
        after = next;
    }
}

/// Erases as `recado data erase` does.
async fn erase(ground: &Ground, names: &[&str]) -> Erased {
    let mut total = Erased::default();
    for step in 0..3 {
        let mut after = 0;
        loop {
            let person = person(names);
            let erasure = match step {
                0 => Erasure::Inbox { person, keeps_contacts: false },
                1 => Erasure::Traces { person, channel: None, after },
                _ => Erasure::EventTraces { person, after },
            };
            let done = ground.store.erase_person(erasure, NOW).await.expect("stored");
            total.received += done.received;
            total.conversations += done.conversations;
            total.people += done.people;
            total.traces += done.traces;
            total.files.extend(done.files);
            let Some(next) = done.next else { break };
            after = next;
        }
    }
    total
}

/// Texts that `Content` and quotes show.
fn contents(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["content"].as_str().expect("a text")).collect()
}

pub(super) async fn who_wrote_is_found_by_every_name(ground: Ground) {
    let channel = ground.channel("loja").await;
    let other = SenderIds::of_phone(OTHER);
    receive(&ground, channel, vec![says("A1", maria(), "um"), says("A2", other, "dois")]).await;
    let echo = Arrival { from_me: true, ..says("A3", maria(), "resposta") };
    receive(&ground, channel, vec![echo, in_group(says("A4", maria(), "no grupo"))]).await;
    for name in [MARIA, TWIN, "900@lid"] {
        assert_eq!(contents(&shown(&ground, &[name], PersonPart::Received).await), ["um", "resposta", "no grupo"]);
        // The contact, and the direct conversation.
        let people = shown(&ground, &[name], PersonPart::Book).await;
        assert_eq!((people.len(), &people[0]["name"]), (2, &Value::from("Maria")), "{name}");
        let mut names = shown(&ground, &[name], PersonPart::Names).await;
        names.sort_by_key(ToString::to_string);
        names.dedup();
        assert_eq!(names, [TWIN, MARIA, "900@lid"], "{name}");
    }
    for unknown in ["900", "5531988886666", "901@lid", "BR.900"] {
        assert_eq!(shown(&ground, &[unknown], PersonPart::Received).await, [Value::Null; 0], "{unknown}");
        assert_eq!(shown(&ground, &[unknown], PersonPart::Book).await, [Value::Null; 0], "{unknown}");
    }
    let elsewhere =
        Person { institution: Some(recado_domain::ids::InstitutionId::new(1, [9; 10])), ..person(&[MARIA]) };
    for part in [PersonPart::Received, PersonPart::Book] {
        let page = ground.store.person(PersonQuery { person: elsewhere.clone(), part, after: 0 }).await.expect("read");
        assert!(page.rows.is_empty(), "{part:?}");
    }
}

pub(super) async fn who_wrote_is_erased_and_taken_out_of_what_others_wrote(ground: Ground) {
    let channel = ground.channel("loja").await;
    let owner = (ground.institution, Environment::Live);
    ground.store.set_event_log(owner, Patterns::default_log()).await.expect("stored");
    let other = || SenderIds::of_phone(OTHER);
    receive(&ground, channel, vec![says("A1", maria(), "segredo"), in_group(says("A2", maria(), "segredo"))]).await;
    let mut quote = NewIncoming::new(Content::text(), "dito por ela");
    let from = Some(MARIA.to_owned());
    quote.reply_to = Some(Quoted { from, content: Some("segredo".to_owned()), ..Quoted::of_id("A2") });
    quote.mentions = vec![MARIA.to_owned(), "5511900000000".to_owned()];
    let quote = in_group(arrival("A3", other(), What::Message(Box::new(quote))));
    receive(&ground, channel, vec![quote, says("A4", other(), "de outro")]).await;
    // Lists and events show the newest message of a group.
    receive(&ground, channel, vec![in_group(says("A7", maria(), "segredo"))]).await;
    let target = "A3".parse().expect("an id");
    let reaction = What::Reaction { target, emoji: Some("x".to_owned()) };
    let reacted = receive(&ground, channel, vec![in_group(arrival("A5", maria(), reaction))]).await;
    assert_eq!(reacted[0].outcome, Outcome::Applied);

    let media = Some(NewMedia { mime_type: "audio/ogg".to_owned(), ..NewMedia::default() });
    let new = NewIncoming { media, ..NewIncoming::new(Content::Audio(Captioned::default()), "") };
    let received = receive(&ground, channel, vec![arrival("A8", maria(), What::Message(Box::new(new)))]).await;
    let received =
        ground.store.incoming(channel, received[0].message.expect("stored")).await.expect("read").expect("there");

    let names = [MARIA, TWIN, "900@lid"];
    let erased = erase(&ground, &names).await;
    assert_eq!((erased.received, erased.conversations, erased.people, erased.traces), (4, 1, 1, 1), "{erased:?}");
    assert_eq!(erased.files, [received.media.expect("a file").id], "their bytes are no rows");
    for part in [PersonPart::Received, PersonPart::Book] {
        assert_eq!(shown(&ground, &names, part).await, [Value::Null; 0], "{part:?}");
    }
    assert_eq!(erase(&ground, &names).await, Erased::default());

    let others = shown(&ground, &[OTHER], PersonPart::Received).await;
    assert_eq!(contents(&others), ["dito por ela", "de outro"]);
    assert_eq!((&others[0]["replyTo"]["from"], &others[0]["replyTo"]["content"]), (&Value::Null, &Value::Null));
    assert_eq!(
        (&others[0]["mentions"], &others[0]["reactions"]),
        (&serde_json::json!(["5511900000000"]), &serde_json::json!([]))
    );
    let page = ground.store.conversations(ConversationQuery::of(owner, NOW, 10)).await.expect("read");
    assert_eq!(page.conversations.len(), 2, "the group, and the other person's");
    assert!(page.conversations.iter().flat_map(|one| &one.last).all(|last| last.content != "segredo"));
    for event in ground.events(ground.event_query()).await {
        assert!(
            ![MARIA, TWIN, "\"900\"", "900@lid", "segredo"].iter().any(|name| event.data.contains(name)),
            "{}",
            event.kind
        );
    }
    // The next message of the person is from an unknown person.
    let again = receive(&ground, channel, vec![says("A6", maria(), "de novo")]).await;
    assert_eq!(again[0].outcome, Outcome::Stored);
    assert_eq!(shown(&ground, &names, PersonPart::Book).await.len(), 2);
}

pub(super) async fn a_person_whose_contact_was_removed_is_erased_all_the_same(ground: Ground) {
    let channel = ground.channel("loja").await;
    let owner = (ground.institution, Environment::Live);
    ground.store.set_event_log(owner, Patterns::default_log()).await.expect("stored");
    let other = in_group(says("A3", SenderIds::of_phone(OTHER), "de outro"));
    receive(&ground, channel, vec![says("A1", maria(), "segredo"), in_group(says("A2", maria(), "segredo")), other])
        .await;
    let id = ground.store.contact_of_phone(owner, MARIA.to_owned()).await.expect("read").expect("she wrote").id;
    assert!(ground.store.delete_contact(owner, id).await.expect("stored"));
    assert_eq!(erase(&ground, &[MARIA, TWIN, "900@lid"]).await.received, 2, "also what she wrote in the group");
    assert_eq!(contents(&shown(&ground, &[OTHER], PersonPart::Received).await), ["de outro"]);
    for event in ground.events(ground.event_query()).await {
        assert!(![MARIA, "900", "segredo"].iter().any(|name| event.data.contains(name)), "{}", event.kind);
    }
}

pub(super) async fn a_person_of_one_environment_is_no_person_of_the_other(ground: Ground) {
    let live = ground.channel("loja").await;
    let new = NewChannel { environment: Environment::Test, ..ground.new_channel("teste", ChannelState::Connected) };
    let test = ground.store.create_channel(new).await.expect("stored").expect("a free id").key;
    for channel in [live, test] {
        ground.accept(channel, MARIA).await;
        receive(&ground, channel, vec![says("A1", maria(), "oi"), in_group(says("A2", maria(), "oi"))]).await;
        let account = Party::new(Some(TWIN.to_owned()), None);
        ground.store.note_account(channel, MARIA.to_owned(), account, NOW).await.expect("stored");
    }
    let of = |environment| {
        let numbers = vec![MARIA.to_owned(), TWIN.to_owned(), "900@lid".to_owned()];
        Person { environment: Some(environment), ..Person::new(numbers, Some(ground.institution)) }
    };
    let rows = async |environment, part| {
        let (mut rows, mut after) = (Vec::new(), Some(0));
        while let Some(place) = after {
            let query = PersonQuery { person: of(environment), part, after: place };
            let page = ground.store.person(query).await.expect("read");
            rows.extend(page.rows);
            after = page.next;
        }
        rows
    };
    for (environment, channel) in [(Environment::Live, live), (Environment::Test, test)] {
        let places = rows(environment, PersonPart::Places).await;
        assert!(matches!(&places[..], [PersonRow::Place(place)] if place.channel == channel), "{environment:?}");
        assert_eq!(rows(environment, PersonPart::Contacts).await.len(), 1, "the account that a channel knows");
        let received = rows(environment, PersonPart::Received).await;
        let of_channel = |row: &PersonRow| matches!(row, PersonRow::Received(message) if message.channel == channel);
        assert_eq!((received.len(), received.iter().all(of_channel)), (2, true));
        assert_eq!(rows(environment, PersonPart::Book).await.len(), 2, "the contact and the conversation");
    }
    let erase = async |erasure: &dyn Fn(i64) -> Erasure| {
        let mut after = Some(0);
        while let Some(place) = after {
            after = ground.store.erase_person(erasure(place), NOW).await.expect("erased").next;
        }
    };
    let PersonRow::Place(place) = rows(Environment::Test, PersonPart::Places).await.remove(0) else {
        panic!("a place")
    };
    ground.store.erase_person(Erasure::Messages(vec![place]), NOW).await.expect("erased");
    let person = || of(Environment::Test);
    erase(&|after| Erasure::Contacts { person: person(), after }).await;
    for channel in [live, test] {
        erase(&|after| Erasure::Traces { person: person(), channel: Some(channel), after }).await;
    }
    erase(&|after| Erasure::EventTraces { person: person(), after }).await;
    erase(&|_| Erasure::Inbox { person: person(), keeps_contacts: false }).await;
    for part in [PersonPart::Places, PersonPart::Contacts, PersonPart::Received, PersonPart::Book] {
        assert_eq!(rows(Environment::Test, part).await.len(), 0, "{part:?}");
        assert_ne!(rows(Environment::Live, part).await.len(), 0, "{part:?}");
    }
}
