//! What a transaction leaves to later steps, because it would change too many rows. The limits are lower in tests.

use recado_domain::channel::ChannelKey;
use recado_domain::conversation::{Conversation, Status};
use recado_domain::event::ChatKind;
use recado_domain::incoming::{Arrival, Group, Outcome, SenderIds, What};
use serde_json::json;

use super::inbox::{
    ANA, ANA_LID, arrival, batch, both, change_settings, contacts, conversations, delivered, one, owner, receive, text,
};
use super::outgoing::{said, send};
use crate::fixtures::{Ground, NOW};
use crate::person::{Erasure, Person, PersonPart, PersonQuery};

/// More than one transaction marks in tests.
const MANY: usize = 60;

/// Does all steps; how many there were.
async fn finish(ground: &Ground) -> usize {
    let mut steps = 0;
    while ground.store.finish_left().await.expect("stored") {
        steps += 1;
        assert!(steps < 200, "the steps do not end");
    }
    steps
}

async fn receive_many(ground: &Ground, channel: ChannelKey) {
    receive(ground, channel, (0..MANY).map(|n| text(&format!("A{n}"), both(), "Oi")).collect()).await;
}

/// How many messages are shown as unread, and what their conversation counts.
async fn unread(ground: &Ground, channel: ChannelKey) -> (usize, u32) {
    let shown = delivered(ground, channel).await.iter().filter(|message| message.read_at.is_none()).count();
    (shown, conversations(ground).await[0].unread)
}

pub(super) async fn many_messages_are_read_at_once_and_marked_in_steps(ground: Ground) {
    let channel = ground.channel("vendas").await;
    receive_many(&ground, channel).await;
    let id = conversations(&ground).await[0].id;
    let read = async || ground.store.read_conversation(owner(&ground), id, NOW).await.expect("stored").expect("one");
    assert_eq!(read().await.messages.len(), MANY, "the network is told at once");
    assert_eq!(unread(&ground, channel).await, (0, 0), "they are shown as read at once");
    // What arrives meanwhile is unread.
    one(&ground, channel, text("B1", both(), "Oi?")).await;
    assert_eq!(unread(&ground, channel).await, (1, 1));
    assert!(ground.store.finish_left().await.expect("stored"));
    let again = read().await;
    assert_eq!((again.messages.len(), again.conversation.unread), (1, 0), "no message is reported twice");
    one(&ground, channel, text("B2", both(), "Oi??")).await;
    assert!(finish(&ground).await > 3, "they are marked some at a time");
    assert_eq!(unread(&ground, channel).await, (1, 1), "the one that nobody read stays unread");
}

pub(super) async fn an_arrival_marks_few_of_many_unread_messages(ground: Ground) {
    let channel = ground.channel("vendas").await;
    receive_many(&ground, channel).await;
    change_settings(&ground, channel, json!({"autoRead": "received"})).await;
    one(&ground, channel, text("B1", both(), "Oi?")).await;
    assert_eq!(unread(&ground, channel).await, (0, 0));
    one(&ground, channel, text("B2", both(), "Oi??")).await;
    assert!(finish(&ground).await > 3, "the arrivals have marked only some");
    assert_eq!(unread(&ground, channel).await, (0, 0));
}

pub(super) async fn the_phone_reads_many_messages(ground: Ground) {
    let channel = ground.channel("vendas").await;
    receive_many(&ground, channel).await;
    let read = |target: &str| {
        let what = What::ReadSelf { targets: vec![target.parse().expect("an id")] };
        arrival(&format!("read:{target}"), both(), what)
    };
    assert_eq!(one(&ground, channel, read("A49")).await.outcome, Outcome::Applied);
    assert_eq!(unread(&ground, channel).await, (10, 10));
    assert_eq!(one(&ground, channel, read("A54")).await.outcome, Outcome::Applied);
    assert_eq!(unread(&ground, channel).await, (5, 5));
    assert!(finish(&ground).await > 3);
    assert_eq!(unread(&ground, channel).await, (5, 5));
}

/// How many messages a person wrote by the hidden id in the chat and in a group, and how many calls sent there.
const DIRECT: usize = 45;
const IN_GROUP: usize = 30;
const SENT: usize = 25;

/// A person with many messages by the hidden id writes with the number, too, which is that of an older contact. Returns the
/// conversation that goes on, and the one that is closed.
async fn merge_many(ground: &Ground, channel: ChannelKey) -> (Conversation, Conversation) {
    one(ground, channel, text("N1", SenderIds::of_phone(ANA), "Oi")).await;
    let hidden = |id: String| text(&id, SenderIds::of_lid(ANA_LID), "Oi");
    let group = || Some(Group { address: "1@g.us".to_owned(), name: None });
    let mut all: Vec<_> = (0..DIRECT).map(|n| hidden(format!("H{n}"))).collect();
    all.extend((0..IN_GROUP).map(|n| Arrival { group: group(), ..hidden(format!("G{n}")) }));
    ground.store.receive(batch(channel, all), NOW + 1).await.expect("stored");
    for n in 0..SENT {
        send(ground, channel, &format!("{ANA_LID}@lid"), &n.to_string(), NOW + 1).await;
    }
    let one_person = batch(channel, vec![text("A1", both(), "Sou eu")]);
    ground.store.receive(one_person, NOW + 2).await.expect("stored");
    assert_eq!(contacts(ground).await.len(), 1);
    let all = conversations(ground).await.into_iter().filter(|found| found.chat == ChatKind::Direct);
    let (mut closed, mut goes_on): (Vec<_>, Vec<_>) = all.partition(|found| found.status == Status::Closed);
    assert_eq!((closed.len(), goes_on.len()), (1, 1));
    (goes_on.remove(0), closed.remove(0))
}

fn ana() -> Person {
    Person::new(vec![ANA.to_owned(), format!("{ANA_LID}@lid")], None)
}

pub(super) async fn many_rows_of_a_merge_move_in_steps(ground: Ground) {
    let channel = ground.channel("vendas").await;
    let (goes_on, closed) = merge_many(&ground, channel).await;
    assert_eq!((goes_on.unread as usize, closed.unread), (DIRECT + 2, 0));
    let (here, there) = (said(&ground, &goes_on).await.len(), said(&ground, &closed).await.len());
    assert_eq!((here + there, there), (DIRECT + SENT + 2, DIRECT + SENT - 40), "the newest ones have moved");
    // Whoever asks for the data of the person gets all of it meanwhile.
    let query = PersonQuery { person: ana(), part: PersonPart::Received, after: 0 };
    let shown = ground.store.person(query).await.expect("read").rows.len();
    assert_eq!(shown, DIRECT + IN_GROUP + 2);
    assert!(finish(&ground).await > 3, "the others move some at a time");
    let (here, there) = (said(&ground, &goes_on).await.len(), said(&ground, &closed).await.len());
    assert_eq!((here, there), (DIRECT + SENT + 2, 0));
    let contact = contacts(&ground).await[0].id;
    assert!(delivered(&ground, channel).await.iter().all(|message| message.contact == Some(contact)));
}

pub(super) async fn messages_that_have_not_moved_yet_are_read_with_the_others(ground: Ground) {
    let channel = ground.channel("vendas").await;
    let (goes_on, _) = merge_many(&ground, channel).await;
    let read = ground.store.read_conversation(owner(&ground), goes_on.id, NOW + 3).await.expect("stored");
    assert_eq!(read.expect("it is there").conversation.unread, 0);
    let unread = async || {
        let unread = delivered(&ground, channel).await.into_iter().filter(|message| message.read_at.is_none());
        let (direct, in_group): (Vec<_>, Vec<_>) = unread.partition(|message| message.chat == ChatKind::Direct);
        (direct.len(), in_group.len())
    };
    assert_eq!(unread().await, (0, IN_GROUP), "they are shown as read at once");
    finish(&ground).await;
    assert_eq!(unread().await, (0, IN_GROUP));
    assert_eq!(said(&ground, &goes_on).await.len(), DIRECT + SENT + 2);
    let counts: usize = conversations(&ground).await.iter().map(|found| found.unread as usize).sum();
    assert_eq!(counts, IN_GROUP);
}

pub(super) async fn what_has_not_moved_yet_is_erased_with_its_person(ground: Ground) {
    let channel = ground.channel("vendas").await;
    merge_many(&ground, channel).await;
    let mut people = 0;
    loop {
        let erasure = Erasure::Inbox { person: ana(), keeps_contacts: false };
        let erased = ground.store.erase_person(erasure, NOW).await.expect("stored");
        people += erased.people;
        if erased.next.is_none() {
            break;
        }
    }
    assert_eq!((people, contacts(&ground).await.len()), (1, 0));
    assert_eq!(delivered(&ground, channel).await.len(), 0);
    assert_eq!(finish(&ground).await, 0, "nothing is left to be moved");
}
