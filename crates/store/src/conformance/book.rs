//! Conversations and contacts as callers read and change them.

use recado_domain::api_key::Environment;
use recado_domain::clock::Millis;
use recado_domain::contact_book::{
    ContactChange, ContactChanged, ContactFrom, ContactPut, ContactQuery, NewContact, Source,
};
use recado_domain::conversation::{
    Change, Changed, ConversationQuery, READ_KEPT, ReadClaim, ReadSignal, Refused, Status,
};
use recado_domain::incoming::{IdentityKey, SenderIds};
use serde_json::{Map, Value, json};

use super::inbox::{ANA, both, contacts, conversations, events, owner, receive, record, text};
use crate::fixtures::{Ground, MINUTE, NOW};

fn assign(attendant: &str, name: Option<&str>) -> Change {
    Change::Assign { attendant: attendant.to_owned(), name: name.map(str::to_owned), expected: None }
}

pub(super) async fn a_conversation_is_assigned_transferred_closed_and_reopened(ground: Ground) {
    record(&ground).await;
    let channel = ground.channel("vendas").await;
    receive(&ground, channel, vec![text("A1", both(), "Oi")]).await;
    let id = conversations(&ground).await[0].id;
    let change = async |change| match ground
        .store
        .change_conversation(owner(&ground), id, change, NOW + MINUTE)
        .await
        .expect("stored")
    {
        Changed::Done(conversation) => Ok(*conversation),
        Changed::Refused(refused) => Err(refused),
        Changed::NotFound => panic!("it is there"),
    };
    let open = change(assign("bia", Some("Bia"))).await.expect("assigned");
    assert_eq!((open.status, open.updated_at), (Status::Open, NOW + MINUTE));
    change(assign("bia", None)).await.expect("the same again");
    let department = Some(Some("suporte".to_owned()));
    let note = Some("liga as 15h".to_owned());
    let moved = change(Change::Transfer { attendant: None, department, note }).await.expect("moved");
    assert_eq!(
        (moved.status, moved.department.as_deref(), &moved.assigned_to),
        (Status::Pending, Some("suporte"), &None)
    );
    change(Change::Unassign).await.expect("nobody is");
    let named = change(assign("bia", None)).await.expect("assigned");
    assert_eq!(named.assigned_to.map(|who| who.name), Some("bia".to_owned()), "no row has the name any more");
    let closed = change(Change::Close { reason: Some("resolvido".to_owned()) }).await.expect("closed");
    assert_eq!((closed.status, closed.closed_at), (Status::Closed, Some(NOW + MINUTE)));
    assert_eq!(closed.close_reason.as_deref(), Some("resolvido"));
    assert_eq!(conversations(&ground).await[0], closed, "the list shows the same");
    assert_eq!(change(assign("leo", None)).await, Err(Refused::Closed));
    let again = change(Change::Close { reason: None }).await.expect("the same again");
    assert_eq!(again, closed);
    let reopened = change(Change::Reopen).await.expect("reopened");
    assert_eq!((reopened.status, reopened.close_reason), (Status::Open, None));
    change(Change::Close { reason: None }).await.expect("closed");
    // The next message begins another one, and then this one stays closed.
    receive(&ground, channel, vec![text("A2", both(), "Oi de novo")]).await;
    assert_eq!(change(Change::Reopen).await, Err(Refused::Changed));
    assert_eq!(conversations(&ground).await.len(), 2);
    let kinds: Vec<_> = events(&ground).await.into_iter().skip(3).collect();
    let kind_names: Vec<_> = kinds.iter().map(|event| event.kind.trim_start_matches("conversation.")).collect();
    let wanted = ["assigned", "assigned", "assigned", "closed", "assigned", "closed", "created", "message.received"];
    assert_eq!(kind_names, wanted);
    let data = |n: usize| serde_json::from_str::<Value>(&kinds[n].data).expect("JSON");
    assert_eq!(data(1)["previous"], json!({"assignedTo": {"id": "bia", "name": "Bia"}, "departmentId": null}));
    assert_eq!(
        (&data(1)["note"], &data(3)["by"], &data(3)["reason"]),
        (&json!("liga as 15h"), &json!("API"), &json!("resolvido"))
    );
    let other = (ground.institution, Environment::Test);
    let hidden = ground.store.change_conversation(other, id, Change::Reopen, NOW).await.expect("answered");
    assert_eq!(hidden, Changed::NotFound);
}

pub(super) async fn reading_a_conversation_names_what_the_network_has_to_hear(ground: Ground) {
    let channel = ground.channel("vendas").await;
    let said = (0..3).map(|n| text(&format!("A{n}"), both(), "Oi")).collect();
    receive(&ground, channel, said).await;
    let id = conversations(&ground).await[0].id;
    let read = ground.store.read_conversation(owner(&ground), id, NOW).await.expect("stored").expect("there");
    let marks: Vec<_> = read.messages.iter().map(|mark| (&*mark.network_id, &*mark.author)).collect();
    assert_eq!(marks, [("A2", ANA), ("A1", ANA), ("A0", ANA)], "newest first");
    assert_eq!(read.conversation.unread, 0);
    let again = ground.store.read_conversation(owner(&ground), id, NOW).await.expect("stored").expect("there");
    assert_eq!(again.messages, []);
    let unread = ConversationQuery { unread: true, ..ConversationQuery::of(owner(&ground), NOW, 10) };
    assert_eq!(ground.store.conversations(unread).await.expect("read").conversations, []);
}

/// A claim for read signals of all channels.
fn claim(now: Millis) -> ReadClaim {
    ReadClaim { owned: None, busy: Vec::new(), limit: 9, now, lost_at: now + MINUTE }
}

async fn due(ground: &Ground, claim: ReadClaim) -> Vec<ReadSignal> {
    ground.store.due_reads(claim).await.expect("stored").signals
}

fn network_ids(signal: &ReadSignal) -> Vec<&str> {
    signal.messages.iter().map(|message| &*message.network_id).collect()
}

pub(super) async fn a_read_signal_waits_until_the_network_was_told(ground: Ground) {
    let (channel, other) = (ground.channel("vendas").await, ground.channel("loja").await);
    let read = async || {
        for conversation in conversations(&ground).await {
            ground.store.read_conversation(owner(&ground), conversation.id, NOW).await.expect("stored");
        }
    };
    receive(&ground, channel, (0..3).map(|n| text(&format!("A{n}"), both(), "Oi")).collect()).await;
    assert_eq!(due(&ground, claim(NOW)).await, [], "nobody has read it");
    read().await;
    let (mine, none) = (Some(vec![other, channel]), Some(vec![other]));
    assert_eq!(due(&ground, ReadClaim { owned: none, ..claim(NOW) }).await, [], "another process owns the channel");
    let claims = ground.store.due_reads(ReadClaim { owned: mine, ..claim(NOW) }).await.expect("stored");
    assert_eq!(claims.next_at, None);
    let first = claims.signals.into_iter().next().expect("due");
    assert_eq!((network_ids(&first), &*first.address, first.attempts), (vec!["A2", "A1", "A0"], ANA, 1));
    // Meanwhile a call reads more, in this chat and in others.
    let beto = SenderIds::of_phone("5511966665555");
    receive(&ground, channel, vec![text("A3", both(), "Oi"), text("B1", beto.clone(), "Oi")]).await;
    receive(&ground, other, vec![text("C1", beto, "Oi")]).await;
    read().await;
    let busy = ReadClaim { busy: vec![channel], ..claim(NOW) };
    let signals: Vec<_> =
        due(&ground, busy).await.iter().map(|signal| (signal.channel, signal.messages.len())).collect();
    assert_eq!(signals, [(other, 1)], "one at a time on a channel");
    let beto = due(&ground, claim(NOW)).await;
    assert_eq!((beto.len(), network_ids(&beto[0])), (1, vec!["B1"]));
    // Not now, then accepted: what was read meanwhile is next.
    let end = async |signal: &ReadSignal, at| ground.store.end_read(signal.clone(), at, NOW).await.expect("stored");
    end(&beto[0], None).await;
    end(&first, Some(NOW + 5)).await;
    assert_eq!(due(&ground, claim(NOW + 4)).await, []);
    let again = due(&ground, claim(NOW + 5)).await;
    assert_eq!((network_ids(&again[0]), again[0].attempts), (vec!["A3", "A2", "A1", "A0"], 2));
    receive(&ground, channel, vec![text("A4", both(), "Oi")]).await;
    read().await;
    end(&again[0], None).await;
    let last = due(&ground, claim(NOW + 5)).await;
    assert_eq!((network_ids(&last[0]), last[0].attempts), (vec!["A4"], 1));
    end(&last[0], None).await;
    assert_eq!(due(&ground, ReadClaim { now: NOW + 30, ..claim(NOW + 30) }).await, []);
}

pub(super) async fn a_lost_read_signal_is_sent_again_and_an_old_one_is_dropped(ground: Ground) {
    let channel = ground.channel("vendas").await;
    receive(&ground, channel, vec![text("A1", both(), "Oi")]).await;
    let id = conversations(&ground).await[0].id;
    ground.store.read_conversation(owner(&ground), id, NOW).await.expect("stored");
    assert_eq!(due(&ground, claim(NOW)).await.len(), 1);
    // The process crashes.
    let claims = ground.store.due_reads(claim(NOW + MINUTE - 1)).await.expect("stored");
    assert_eq!((claims.signals, claims.next_at), (Vec::new(), Some(NOW + MINUTE)));
    let again = due(&ground, claim(NOW + MINUTE)).await;
    assert_eq!(again[0].attempts, 2);
    // A late answer to the first attempt ends nothing.
    let late = ReadSignal { attempts: 1, ..again[0].clone() };
    ground.store.end_read(late, Some(NOW), NOW).await.expect("stored");
    assert_eq!(due(&ground, claim(NOW + MINUTE)).await, []);
    assert_eq!(due(&ground, claim(NOW + 2 * MINUTE + READ_KEPT + 1)).await, []);
    assert_eq!(due(&ground, claim(NOW + 2 * MINUTE)).await, [], "it is dropped");
}

pub(super) async fn the_contact_with_a_number_is_added_or_changed(ground: Ground) {
    record(&ground).await;
    let put = async |phone: &str, change: ContactChange| {
        ground.store.put_contact(owner(&ground), phone.to_owned(), change, NOW).await.expect("stored")
    };
    assert_eq!(put("5511977776666", ContactChange::default()).await, ContactPut::Unnamed);
    assert_eq!(contacts(&ground).await, []);
    let named = |name: &str| ContactChange { name: Some(name.to_owned()), ..ContactChange::default() };
    let ContactPut::Created(ana) = put("5511977776666", named("Ana")).await else { panic!("it is new") };
    assert_eq!((&*ana.name, ana.phone.as_deref()), ("Ana", Some("5511977776666")));
    // The other form of the number is the same person, also without a name.
    let vip = ContactChange { tags: Some(vec!["vip".to_owned()]), ..ContactChange::default() };
    for phone in ["5511977776666", "551177776666"] {
        let ContactPut::Changed(ContactChanged::Done(same)) = put(phone, vip.clone()).await else {
            panic!("{phone} is there")
        };
        assert_eq!((same.id, &*same.name, same.tags), (ana.id, "Ana", vec!["vip".to_owned()]));
    }
    let kinds: Vec<_> = events(&ground).await.into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds, ["contact.created", "contact.updated"]);
}

pub(super) async fn a_removed_contact_leaves_its_conversation_to_the_next(ground: Ground) {
    let channel = ground.channel("vendas").await;
    receive(&ground, channel, vec![text("A1", both(), "Oi")]).await;
    let (contact, before) = (contacts(&ground).await[0].clone(), conversations(&ground).await[0].clone());
    let elsewhere = (ground.institution, Environment::Test);
    let delete = async |owner| ground.store.delete_contact(owner, contact.id).await.expect("stored");
    assert!(!delete(elsewhere).await);
    assert!(delete(owner(&ground)).await);
    assert!(!delete(owner(&ground)).await, "it is gone");
    assert_eq!(contacts(&ground).await, []);
    let left = conversations(&ground).await[0].clone();
    assert_eq!((left.id, left.contact, left.address), (before.id, None, before.address));
    // The person writes again: a new contact, the same conversation.
    receive(&ground, channel, vec![text("A2", both(), "Oi")]).await;
    let (new, after) = (contacts(&ground).await, conversations(&ground).await);
    assert_eq!((new.len(), new[0].id == contact.id), (1, false));
    assert_eq!((after.len(), after[0].id), (1, before.id));
    assert_eq!(after[0].contact.as_ref().map(|who| who.id), Some(new[0].id));
}

pub(super) async fn idle_conversations_are_closed(ground: Ground) {
    record(&ground).await;
    let channel = ground.channel("vendas").await;
    receive(&ground, channel, vec![text("A1", both(), "Oi")]).await;
    assert_eq!(ground.store.close_idle(channel, NOW, NOW + 1).await.expect("stored"), 0);
    assert_eq!(ground.store.close_idle(channel, NOW + 1, NOW + 1).await.expect("stored"), 1);
    assert_eq!(ground.store.close_idle(channel, NOW + 1, NOW + 1).await.expect("stored"), 0);
    let closed = events(&ground).await.pop().expect("recorded");
    let data: Value = serde_json::from_str(&closed.data).expect("JSON");
    assert_eq!((&*closed.kind, &data["by"]), ("conversation.closed", &json!("IDLE")));
}

pub(super) async fn conversations_of_a_deleted_channel_are_closed(ground: Ground) {
    record(&ground).await;
    let (channel, other) = (ground.channel("vendas").await, ground.channel("suporte").await);
    receive(&ground, channel, vec![text("A1", both(), "Oi")]).await;
    receive(&ground, other, vec![text("A1", both(), "Oi")]).await;
    let close = async || ground.store.close_of_deleted(channel, NOW + MINUTE).await.expect("stored");
    let deleted = async || ground.store.deleted_channel_with_conversations().await.expect("read");
    assert_eq!((close().await, deleted().await), (0, None), "it is not deleted");
    ground.delete_channel(channel, NOW).await;
    assert_eq!((deleted().await, close().await), (Some(channel), 1));
    assert_eq!((deleted().await, close().await), (None, 0));
    let all = conversations(&ground).await;
    let shown: Vec<_> = all.iter().map(|one| (one.channel, one.status, one.closed_at)).collect();
    assert!(shown.contains(&(channel, Status::Closed, Some(NOW + MINUTE))), "{shown:?}");
    assert!(shown.contains(&(other, Status::Pending, None)), "{shown:?}");
    let closed = events(&ground).await.pop().expect("recorded");
    let data: Value = serde_json::from_str(&closed.data).expect("JSON");
    assert_eq!((&*closed.kind, &data["by"]), ("conversation.closed", &json!("CHANNEL")));
    // The conversations of the channel that is created again stay.
    assert_eq!(ground.channel("vendas").await, channel);
    receive(&ground, channel, vec![text("A2", both(), "Oi")]).await;
    assert_eq!((deleted().await, close().await), (None, 0));
}

pub(super) async fn lists_of_conversations_are_filtered_and_paged(ground: Ground) {
    let (one, two) = (ground.channel("um").await, ground.channel("dois").await);
    for n in 0..7 {
        let channel = if n % 2 == 0 { one } else { two };
        let batch = super::inbox::batch(
            channel,
            vec![text(&format!("A{n}"), SenderIds::of_phone(&format!("551140000{n:03}")), "Oi")],
        );
        ground.store.receive(batch, NOW + n).await.expect("stored");
    }
    let all = conversations(&ground).await;
    let order: Vec<_> = all.iter().map(|conversation| conversation.active_at - NOW).collect();
    assert_eq!(order, [6, 5, 4, 3, 2, 1, 0], "the most recently active first");
    let (first, second) = (&all[0], &all[1]);
    ground.store.change_conversation(owner(&ground), first.id, assign("bia", None), NOW).await.expect("stored");
    let department = Some("suporte".to_owned());
    let transfer = Change::Transfer { attendant: None, department: Some(department.clone()), note: None };
    ground.store.change_conversation(owner(&ground), second.id, transfer, NOW).await.expect("stored");
    ground.store.read_conversation(owner(&ground), all[2].id, NOW).await.expect("stored");
    let of = || ConversationQuery::of(owner(&ground), NOW, 2);
    let queries = [
        (ConversationQuery { channel: Some(one), ..of() }, vec![6, 4, 2, 0]),
        (ConversationQuery { status: Some(Status::Open), ..of() }, vec![6]),
        (ConversationQuery { assigned_to: Some("bia".to_owned()), channel: Some(one), ..of() }, vec![6]),
        (ConversationQuery { assigned_to: Some("bia".to_owned()), channel: Some(two), ..of() }, vec![]),
        (ConversationQuery { department, ..of() }, vec![5]),
        (ConversationQuery { contact: all[3].contact.as_ref().map(|who| who.id), ..of() }, vec![3]),
        (ConversationQuery { unread: true, status: Some(Status::Pending), ..of() }, vec![5, 3, 2, 1, 0]),
        (ConversationQuery { unread: true, ..of() }, vec![6, 5, 3, 2, 1, 0]),
        (ConversationQuery { owner: (ground.institution, Environment::Test), ..of() }, vec![]),
        (ConversationQuery { owner: (ground.institution, Environment::Test), channel: Some(one), ..of() }, vec![]),
    ];
    for (mut query, wanted) in queries {
        let (mut found, asked) = (Vec::new(), format!("{query:?}"));
        loop {
            let page = ground.store.conversations(query.clone()).await.expect("read");
            assert!(page.conversations.len() <= 2);
            found.extend(page.conversations.iter().map(|conversation| conversation.active_at - NOW));
            let Some(next) = page.next else { break };
            assert_eq!(next.to_string().parse(), Ok(next));
            query.after = Some(next);
        }
        assert_eq!(found, wanted, "{asked}");
    }
}

fn new_contact(ground: &Ground, name: &str, phone: &str) -> NewContact {
    NewContact {
        owner: owner(ground),
        name: name.to_owned(),
        phone: phone.to_owned(),
        email: None,
        tags: Vec::new(),
        metadata: Map::new(),
        opt_out: false,
    }
}

pub(super) async fn a_contact_is_created_once_and_changed(ground: Ground) {
    record(&ground).await;
    let create = async |new| ground.store.create_contact(new, NOW).await.expect("stored");
    let ContactChanged::Done(ana) = create(new_contact(&ground, "Ana", ANA)).await else { panic!("it is new") };
    assert_eq!((ana.source, ana.is_named, ana.opt_out_at), (Source::Api, true, None));
    let again = create(new_contact(&ground, "Outra", "551188887777")).await;
    assert_eq!(again, ContactChanged::Exists(ana.id), "the other form");
    let ContactChanged::Done(bia) = create(new_contact(&ground, "Bia", "5521977776666")).await else { panic!("new") };
    let change =
        async |id, change| ground.store.change_contact(owner(&ground), id, change, NOW + 1).await.expect("stored");
    let taken = ContactChange { phone: Some(ANA.to_owned()), ..ContactChange::default() };
    assert_eq!(change(bia.id, taken).await, ContactChanged::Exists(ana.id));
    let other = ContactChange {
        phone: Some("12025550123".to_owned()),
        tags: Some(vec!["VIP".to_owned()]),
        opt_out: Some(true),
        ..ContactChange::default()
    };
    let ContactChanged::Done(changed) = change(ana.id, other.clone()).await else { panic!("changed") };
    assert_eq!((changed.phone.as_deref(), changed.opt_out_source.as_deref()), (Some("12025550123"), Some("API")));
    assert_eq!(changed, Box::new(ground.store.contact(owner(&ground), ana.id).await.expect("read").expect("there")));
    // The old number is free, and a repeated change is none.
    change(ana.id, other).await;
    assert!(matches!(create(new_contact(&ground, "Nova", ANA)).await, ContactChanged::Done(_)));
    let strange = recado_domain::ids::ContactId::new(1, [9; 10]);
    assert_eq!(change(strange, ContactChange::default()).await, ContactChanged::NotFound);
    let kinds: Vec<_> = events(&ground).await.into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds, ["contact.created", "contact.created", "contact.updated", "contact.created"]);
    // A message of the person finds the contact.
    let channel = ground.channel("vendas").await;
    receive(&ground, channel, vec![text("A1", SenderIds::of_phone("12025550123"), "Oi")]).await;
    assert_eq!(conversations(&ground).await[0].contact.as_ref().map(|who| who.id), Some(ana.id));
}

pub(super) async fn contacts_are_searched_filtered_and_paged_by_name(ground: Ground) {
    for (n, name) in ["José da Silva", "ana maria", "Ana", "Zé", "José Souza", "Árvore"].into_iter().enumerate() {
        let new = NewContact {
            tags: if n % 2 == 0 { vec!["VIP".to_owned(), "novo".to_owned()] } else { vec!["novo".to_owned()] },
            opt_out: n == 3,
            ..new_contact(&ground, name, &format!("551140001{n:03}"))
        };
        ground.store.create_contact(new, NOW + i64::try_from(n).expect("small")).await.expect("stored");
    }
    let names: Vec<_> = contacts(&ground).await.into_iter().map(|contact| contact.name).collect();
    assert_eq!(names, ["Ana", "ana maria", "Árvore", "José da Silva", "José Souza", "Zé"]);
    let of = || ContactQuery::of(owner(&ground), 2);
    let search = |text: &str| ContactQuery { search: Some(text.to_owned()), ..of() };
    let tags = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
    let queries = [
        (search("SILVA"), vec!["José da Silva"]),
        (search("jose"), vec!["José da Silva", "José Souza"]),
        (search("ria"), vec!["ana maria"]),
        (search("da s"), vec!["José da Silva"]),
        (search("a"), vec!["Ana", "ana maria", "Árvore"]),
        (search("s"), vec!["José da Silva", "José Souza"]),
        (search("0001003"), vec!["Zé"]),
        (search("55"), vec!["Ana", "ana maria", "Árvore", "José da Silva", "José Souza", "Zé"]),
        (search("%"), vec![]),
        (search("xyz"), vec![]),
        (ContactQuery { tags: tags(&["vip"]), ..of() }, vec!["Ana", "José da Silva", "José Souza"]),
        (ContactQuery { tags: tags(&["vip", "novo"]), ..search("z") }, vec!["Zé"]),
        (ContactQuery { tags_all: tags(&["vip", "Novo"]), ..of() }, vec!["Ana", "José da Silva", "José Souza"]),
        (ContactQuery { opt_out: Some(true), ..of() }, vec!["Zé"]),
        (ContactQuery { source: Some(Source::Inbound), ..of() }, vec![]),
        (ContactQuery { updated_since: Some(NOW + 4), ..of() }, vec!["Árvore", "José Souza"]),
        (ContactQuery { phone: Some(IdentityKey::phone("551140001002")), ..of() }, vec!["Ana"]),
        (ContactQuery { phone: Some(IdentityKey::phone("551140001999")), ..of() }, vec![]),
        (ContactQuery { owner: (ground.institution, Environment::Test), ..search("ana") }, vec![]),
    ];
    for (mut query, wanted) in queries {
        let (mut found, asked) = (Vec::new(), format!("{query:?}"));
        let all = ContactQuery { from: ContactFrom::Offset(0), limit: 10, ..query.clone() };
        let all = ground.store.contacts(all).await.expect("read");
        loop {
            let page = ground.store.contacts(query.clone()).await.expect("read");
            assert_eq!(page.total, None);
            found.extend(page.contacts.into_iter().map(|contact| contact.name));
            let Some(next) = page.next else { break };
            query.from = ContactFrom::After(next);
        }
        assert_eq!(found, wanted, "{asked}");
        if query.phone.is_none() {
            assert_eq!(all.total, Some((wanted.len(), false)), "{asked}");
        }
        assert_eq!(all.contacts.len(), wanted.len());
    }
    let page = ContactQuery { from: ContactFrom::Offset(4), ..of() };
    let page = ground.store.contacts(page).await.expect("read");
    let names: Vec<_> = page.contacts.iter().map(|contact| &*contact.name).collect();
    assert_eq!((names, page.total), (vec!["José Souza", "Zé"], Some((6, false))));
}
