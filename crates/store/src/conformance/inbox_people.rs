//! Who people are: their contacts, their names, groups, and what they do not want.

use recado_domain::conversation::{Change, Status};
use recado_domain::event::ChatKind;
use recado_domain::incoming::{
    Arrival, Arrivals, Call, Direction, Group, GroupChange, Ignored, Outcome, SenderIds, What,
};
use recado_domain::queue::Settlement;
use serde_json::json;

use super::inbox::{
    ANA, ANA_LID, ANA_SHORT, BIA, arrival, batch, both, contacts, conversations, data, delivered, events, message,
    names, one, owner, receive, record, text,
};
use crate::fixtures::{DAY, Ground, NOW};
use crate::person::{Erasure, Person};

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

pub(super) async fn the_conversation_that_goes_on_has_the_attendant_of_the_closed_one(ground: Ground) {
    record(&ground).await;
    let channel = ground.channel("vendas").await;
    let older = one(&ground, channel, text("A1", SenderIds::of_phone(ANA), "Oi")).await;
    let by_hidden_id = batch(channel, vec![text("A2", SenderIds::of_lid(ANA_LID), "Oi")]);
    let younger = ground.store.receive(by_hidden_id, NOW + 1).await.expect("stored")[0];
    let id = younger.conversation.expect("a conversation");
    let assign = Change::Assign { attendant: "bia".to_owned(), name: Some("Bia".to_owned()), expected: None };
    ground.store.change_conversation(owner(&ground), id, assign, NOW + 1).await.expect("stored");
    let transfer = Change::Transfer {
        attendant: Some("bia".to_owned()),
        department: Some(Some("suporte".to_owned())),
        note: Some("Promete um desconto".to_owned()),
    };
    ground.store.change_conversation(owner(&ground), id, transfer, NOW + 1).await.expect("stored");
    receive(&ground, channel, vec![text("A3", both(), "Sou eu")]).await;
    let all = conversations(&ground).await;
    let goes_on = all.iter().find(|found| Some(found.id) == older.conversation).expect("it is there");
    let attendant = goes_on.assigned_to.as_ref().map(|who| (&*who.id, &*who.name));
    assert_eq!((goes_on.status, attendant), (Status::Open, Some(("bia", "Bia"))));
    assert_eq!(
        (goes_on.department.as_deref(), goes_on.note.as_deref()),
        (Some("suporte"), Some("Promete um desconto"))
    );
    let all = events(&ground).await;
    let assigned = all.iter().rfind(|event| event.kind == "conversation.assigned").expect("recorded");
    assert_eq!(data(assigned)["conversation"]["id"], goes_on.id.to_string());
    assert_eq!(data(assigned)["previous"], json!({"assignedTo": null, "departmentId": null}));
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

pub(super) async fn a_change_of_a_group_is_an_event_once(ground: Ground) {
    record(&ground).await;
    let channel = ground.channel("vendas").await;
    let group = |id: &str, name: Option<&str>| Some(Group { address: id.to_owned(), name: name.map(str::to_owned) });
    let said = Arrival { group: group("1@g.us", Some("Turma")), ..text("G1", both(), "Oi") };
    let conversation = one(&ground, channel, said).await.conversation.expect("a conversation");
    let renamed = || {
        let what = What::GroupChanged { change: GroupChange::Subject, members: vec![] };
        Arrival { group: group("1@g.us", Some("Turma nova")), ..arrival("C1", SenderIds::of_lid(ANA_LID), what) }
    };
    assert_eq!(one(&ground, channel, renamed()).await.outcome, Outcome::Applied);
    assert_eq!(one(&ground, channel, renamed()).await.outcome, Outcome::Repeated);
    assert_eq!(conversations(&ground).await[0].chat_name.as_deref(), Some("Turma nova"));
    let me = SenderIds::of_phone("551140000000");
    let what = What::GroupChanged { change: GroupChange::Add, members: vec![SenderIds::of_phone(BIA), me] };
    let added = Arrival { group: group("2@g.us", None), ..arrival("C2", SenderIds::default(), what) };
    assert_eq!(one(&ground, channel, added).await.outcome, Outcome::Applied);
    let changes = async || {
        let all = events(&ground).await.into_iter();
        all.filter(|event| event.kind == "group.updated").collect::<Vec<_>>()
    };
    let [subject, add] = &changes().await[..] else { panic!("two events") };
    assert_eq!((subject.conversation, subject.chat), (Some(*conversation.as_bytes()), ChatKind::Group));
    assert_eq!((add.conversation, add.chat), (None, ChatKind::Group));
    let ana = contacts(&ground).await;
    let [ana] = &ana[..] else { panic!("a change creates no contact: {ana:?}") };
    let sender = |contact: Option<String>, phone: &str, lid: Option<&str>, is_me: bool| json!({"contactId": contact, "phone": phone, "userId": null, "lid": lid, "username": null, "name": null, "isMe": is_me});
    let expected = json!({
        "chat": {"kind": "GROUP", "address": "1@g.us", "name": "Turma nova"}, "action": "SUBJECT", "participants": [],
        "by": sender(Some(ana.id.to_string()), ANA, Some(ANA_LID), false),
    });
    assert_eq!(data(subject), expected);
    let participants = [sender(None, BIA, None, false), sender(None, "551140000000", None, true)];
    let expected = json!({
        "chat": {"kind": "GROUP", "address": "2@g.us", "name": null}, "action": "ADD", "participants": participants,
        "by": null,
    });
    assert_eq!(data(add), expected);
    // An erasure finds a member who never wrote.
    let person = Person::new(vec![BIA.to_owned()], None);
    ground.store.erase_person(Erasure::EventTraces { person, after: 0 }, NOW).await.expect("erased");
    assert_eq!(changes().await.iter().collect::<Vec<_>>(), [subject]);
}

pub(super) async fn a_call_is_an_event_once(ground: Ground) {
    record(&ground).await;
    let channel = ground.channel("vendas").await;
    let conversation = one(&ground, channel, text("A1", both(), "Oi")).await.conversation.expect("a conversation");
    let called = |id: &str, person: SenderIds, missed: Option<bool>| {
        let call = Call { id: id.to_owned(), video: Some(false), missed };
        arrival(&format!("CALL{id}"), person, What::Called(call))
    };
    let from_ana = || called("C1", SenderIds::of_lid(ANA_LID), Some(true));
    assert_eq!(one(&ground, channel, from_ana()).await.outcome, Outcome::Applied);
    assert_eq!(one(&ground, channel, from_ana()).await.outcome, Outcome::Repeated);
    let from_bia = called("C2", SenderIds::of_phone(BIA), None);
    assert_eq!(one(&ground, channel, from_bia).await.outcome, Outcome::Applied);
    let calls = async || {
        let all = events(&ground).await.into_iter();
        all.filter(|event| event.kind == "call.received").collect::<Vec<_>>()
    };
    let [of_ana, of_bia] = &calls().await[..] else { panic!("two events") };
    let ana = contacts(&ground).await;
    let [ana] = &ana[..] else { panic!("a call creates no contact: {ana:?}") };
    assert_eq!((of_ana.subject, of_ana.conversation), (Some(*ana.id.as_bytes()), Some(*conversation.as_bytes())));
    assert_eq!((of_bia.conversation, of_bia.chat), (None, ChatKind::Direct));
    assert_eq!((conversations(&ground).await.len(), delivered(&ground, channel).await.len()), (1, 1));
    let sender = |contact: Option<String>, phone: &str, lid: Option<&str>| json!({"contactId": contact, "phone": phone, "userId": null, "lid": lid, "username": null, "name": null, "isMe": false});
    let at = crate::clock::rfc3339(NOW - 1_000);
    let expected = |sender: serde_json::Value, id: &str, missed: Option<bool>| json!({"sender": sender, "callId": id, "video": false, "missed": missed, "at": at});
    assert_eq!(data(of_ana), expected(sender(Some(ana.id.to_string()), ANA, Some(ANA_LID)), "C1", Some(true)));
    assert_eq!(data(of_bia), expected(sender(None, BIA, None), "C2", None));
    // An erasure finds a person who called and never wrote.
    let person = Person::new(vec![BIA.to_owned()], None);
    ground.store.erase_person(Erasure::EventTraces { person, after: 0 }, NOW).await.expect("erased");
    assert_eq!(calls().await.iter().collect::<Vec<_>>(), [of_ana]);
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
