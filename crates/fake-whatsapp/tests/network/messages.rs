//! Numbers, cards, receipts, and messages of contacts.

use wacore::types::events::Event;
use wacore::types::presence::ReceiptType;
use whatsapp_rust::Jid;

use crate::harness::{ACCOUNT, CONTACT, TYPED, TestSession, linked, network, vcard, wait_for};

#[tokio::test]
async fn a_card_is_read_by_its_recipient() {
    let whatsapp = network();
    let mut session = TestSession::up(&whatsapp).await;
    session.send(CONTACT, "3EB001").await;
    let (mut acked, mut delivered, mut read) = (false, false, false);
    session
        .until("ack and receipts", |event| {
            match event {
                Event::ServerAck(ack) if ack.id == "3EB001" => acked = ack.error.is_none(),
                Event::Receipt(receipt) if receipt.message_ids.iter().any(|id| id == "3EB001") => {
                    match receipt.r#type {
                        ReceiptType::Delivered => delivered = true,
                        ReceiptType::Read => read = true,
                        _ => {}
                    }
                }
                _ => {}
            }
            (acked && delivered && read).then_some(())
        })
        .await;

    let inbox = whatsapp.inbox();
    assert_eq!(inbox.len(), 1);
    assert_eq!((inbox[0].id.as_str(), inbox[0].from.as_str(), inbox[0].to.as_str()), ("3EB001", ACCOUNT, CONTACT));
    assert_eq!(inbox[0].display_name(), Some("Maria"));
    assert_eq!(inbox[0].vcard(), Some(vcard("Maria").as_str()));
    assert!(inbox[0].own_phone_saw_it);
    let counters = whatsapp.counters();
    assert_eq!((counters.messages, counters.undecryptable, counters.logins_ik), (1, 0, 1));
    session.stop().await;
}

#[tokio::test]
async fn a_number_is_known_by_its_other_form() {
    let whatsapp = network();
    whatsapp.add_alias(TYPED, CONTACT);
    let session = TestSession::up(&whatsapp).await;
    let found = session.client.contacts().is_on_whatsapp(&[Jid::pn(TYPED)]).await.expect("an answer");
    assert!(found[0].is_registered);
    assert_eq!(found[0].jid.user, CONTACT);
    let found = session.client.contacts().is_on_whatsapp(&[Jid::pn("15550000000")]).await.expect("an answer");
    assert!(found.iter().all(|found| !found.is_registered));
    let lookups = whatsapp.lookups();
    assert_eq!((lookups.get(TYPED), lookups.get("15550000000")), (Some(&1), Some(&1)));
    session.stop().await;
}

#[tokio::test]
async fn a_contact_writes() {
    let whatsapp = network();
    let mut session = TestSession::up(&whatsapp).await;
    wait_for("keys to write with", || whatsapp.one_time_keys(ACCOUNT)[0] > 0).await;
    let id = whatsapp.say(CONTACT, ACCOUNT, "oi").expect("sent");
    let received = session
        .until("a text", |event| {
            event.messages().find_map(|item| Some((item.info.id.clone(), item.message.conversation.clone()?)))
        })
        .await;
    assert_eq!(received, (id, "oi".to_owned()));
    whatsapp.say_card(CONTACT, ACCOUNT, "Ana", &vcard("Ana")).expect("sent");
    let name = session
        .until("a card", |event| event.messages().find_map(|item| item.message.contact_message.display_name.clone()));
    assert_eq!(name.await, "Ana");
    wait_for("the messages to be acknowledged", || whatsapp.unconfirmed(ACCOUNT) == 0).await;
    session.stop().await;
}

#[tokio::test]
async fn messages_to_an_offline_device_wait() {
    let whatsapp = network();
    let store = linked(&whatsapp).await;
    let mut session = TestSession::start(&whatsapp, store.clone()).await;
    session.connected().await;
    wait_for("keys to write with", || whatsapp.one_time_keys(ACCOUNT)[0] > 0).await;
    session.stop().await;
    wait_for("the device to be gone", || !whatsapp.is_online(ACCOUNT)).await;
    whatsapp.say(CONTACT, ACCOUNT, "while you were out").expect("sent");

    let mut session = TestSession::start(&whatsapp, store).await;
    let text = session.until("the text", |event| event.messages().find_map(|item| item.message.conversation.clone()));
    assert_eq!(text.await, "while you were out");
    session.stop().await;
}

#[tokio::test]
async fn typing_is_seen() {
    let whatsapp = network();
    let session = TestSession::up(&whatsapp).await;
    session.client.chatstate().send_composing(&Jid::pn(CONTACT)).await.expect("sent");
    session.client.chatstate().send_paused(&Jid::pn(CONTACT)).await.expect("sent");
    wait_for("both signs", || whatsapp.typing().len() == 2).await;
    let typing = whatsapp.typing();
    assert!(typing.iter().all(|sign| sign.from == ACCOUNT && sign.to == CONTACT), "{typing:?}");
    assert!(typing[0].on && !typing[1].on, "{typing:?}");
    session.stop().await;
}

#[tokio::test]
async fn an_account_asks_whether_it_is_restricted() {
    let whatsapp = network();
    let session = TestSession::up(&whatsapp).await;
    let lock = session.client.mex().fetch_reachout_timelock().await.expect("an answer");
    assert_eq!((lock.is_active, lock.time_enforcement_ends), (Some(false), None));
    whatsapp.restrict(Some(1_770_000_000));
    let lock = session.client.mex().fetch_reachout_timelock().await.expect("an answer");
    assert_eq!((lock.is_active, lock.time_enforcement_ends.as_deref()), (Some(true), Some("1770000000")));
    session.stop().await;
}

#[tokio::test]
async fn stanzas_are_noted() {
    let whatsapp = network();
    whatsapp.start_trace();
    let mut session = TestSession::up(&whatsapp).await;
    session.send(CONTACT, "3EB001").await;
    assert_eq!(session.ack("3EB001").await, None);
    let trace = whatsapp.trace();
    let message = trace.iter().find(|stanza| stanza.contains("<message ")).expect("a message stanza");
    assert!(message.starts_with(&format!("{ACCOUNT}:1 ")) && message.contains("id=3EB001"), "{message}");
    session.stop().await;
}
