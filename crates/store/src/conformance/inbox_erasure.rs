//! A person in every table, erased as `recado data erase` does.

use recado_domain::channel::ChannelKey;
use recado_domain::incoming::{Arrival, Captioned, Content, Group, NewIncoming, NewMedia, Quoted, SenderIds, What};
use recado_domain::queue::Settlement;

use super::inbox::{BIA, arrival, contacts, delivered, receive, record, text};
use crate::fixtures::{Ground, NOW};
use crate::person::{Erasure, Person, PersonPart, PersonQuery, PersonRow, Place};

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
    let poll = Content::Poll {
        question: "?".to_owned(),
        options: vec!["Sim".to_owned()],
        max_selections: None,
        results: Vec::new(),
    };
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
            |person, _| Erasure::Inbox { person, keeps_contacts: false },
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
