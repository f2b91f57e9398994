//! Each fault, as a client sees it.

use std::time::Duration;

use fake_whatsapp::{ALL, Refusal};
use wacore::types::events::Event;
use wacore::types::presence::ReceiptType;

use crate::harness::{CONTACT, TestSession, network, wait_for};

/// The receipts and acks of a message, until the given kind arrived this often.
async fn arrivals(session: &mut TestSession, id: &str, last: &'static str, times: usize) -> Vec<&'static str> {
    let mut arrived = Vec::new();
    session
        .until("the last arrival", |event| {
            match event {
                Event::ServerAck(ack) if ack.id == id => arrived.push("ack"),
                Event::Receipt(receipt) if receipt.message_ids.iter().any(|known| known == id) => {
                    match receipt.r#type {
                        ReceiptType::Delivered => arrived.push("delivered"),
                        ReceiptType::Read => arrived.push("read"),
                        _ => {}
                    }
                }
                _ => {}
            }
            (arrived.iter().filter(|kind| **kind == last).count() == times).then_some(())
        })
        .await;
    arrived
}

#[tokio::test]
async fn the_next_messages_are_refused() {
    let whatsapp = network();
    let mut session = TestSession::up(&whatsapp).await;
    whatsapp.faults(|faults| faults.refusal = Some(Refusal { code: 463, times: 2, to: vec![] }));
    for (id, error) in [("3EB001", Some("463")), ("3EB002", Some("463")), ("3EB003", None)] {
        session.send(CONTACT, id).await;
        assert_eq!(session.ack(id).await.as_deref(), error);
    }
    assert_eq!(whatsapp.inbox().len(), 1);
    session.stop().await;
}

#[tokio::test]
async fn messages_to_certain_recipients_are_refused() {
    let whatsapp = network();
    whatsapp.add_contact("553199990002", "900000000000003");
    let mut session = TestSession::up(&whatsapp).await;
    whatsapp.faults(|faults| faults.refusal = Some(Refusal { code: 463, times: ALL, to: vec![CONTACT.to_owned()] }));
    session.send("553199990002", "3EB001").await;
    assert_eq!(session.ack("3EB001").await, None);
    for id in ["3EB002", "3EB003"] {
        session.send(CONTACT, id).await;
        assert_eq!(session.ack(id).await.as_deref(), Some("463"));
    }
    session.stop().await;
}

#[tokio::test]
async fn acks_are_swallowed() {
    let whatsapp = network();
    let mut session = TestSession::up(&whatsapp).await;
    whatsapp.faults(|faults| faults.swallow_acks = 1);
    session.send(CONTACT, "3EB001").await;
    session.send(CONTACT, "3EB002").await;
    // The first ack would have come before the second.
    let first = session
        .until("an ack", |event| match event {
            Event::ServerAck(ack) if ack.class.as_deref() == Some("message") => Some(ack.id.clone()),
            _ => None,
        })
        .await;
    assert_eq!(first, "3EB002");
    assert_eq!((whatsapp.copies("3EB001"), whatsapp.copies("3EB002")), (0, 1));

    whatsapp.faults(|faults| {
        faults.swallow_acks = 1;
        faults.deliver_unacked = true;
    });
    session.send(CONTACT, "3EB003").await;
    assert_eq!(arrivals(&mut session, "3EB003", "read", 1).await, ["delivered", "read"]);
    assert_eq!(whatsapp.copies("3EB003"), 1);
    session.stop().await;
}

#[tokio::test]
async fn the_connection_breaks_before_the_ack() {
    let whatsapp = network();
    let mut session = TestSession::up(&whatsapp).await;
    whatsapp.faults(|faults| faults.hang_up_before_ack = 1);
    session.send(CONTACT, "3EB001").await;
    session.until("the connection to break", |event| matches!(event, Event::Disconnected(_)).then_some(())).await;
    session.connected().await;
    assert_eq!(whatsapp.copies("3EB001"), 0);
    session.send(CONTACT, "3EB001").await;
    assert_eq!(session.ack("3EB001").await, None);
    assert_eq!((whatsapp.copies("3EB001"), whatsapp.counters().undecryptable), (1, 0));
    session.stop().await;
}

#[tokio::test]
async fn the_connection_breaks_after_the_message_was_delivered() {
    let whatsapp = network();
    let mut session = TestSession::up(&whatsapp).await;
    whatsapp.faults(|faults| {
        faults.hang_up_before_ack = 1;
        faults.deliver_unacked = true;
    });
    session.send(CONTACT, "3EB001").await;
    session.until("the connection to break", |event| matches!(event, Event::Disconnected(_)).then_some(())).await;
    // Its receipts come on the next connection, and no ack.
    assert_eq!(arrivals(&mut session, "3EB001", "read", 1).await, ["delivered", "read"]);
    session.send(CONTACT, "3EB001").await;
    assert_eq!(session.ack("3EB001").await, None);
    assert_eq!((whatsapp.copies("3EB001"), whatsapp.counters().undecryptable), (2, 0));
    session.stop().await;
}

#[tokio::test]
async fn receipts_can_be_disabled() {
    let whatsapp = network();
    let mut session = TestSession::up(&whatsapp).await;
    whatsapp.faults(|faults| faults.no_receipts = true);
    session.send(CONTACT, "3EB001").await;
    assert_eq!(session.ack("3EB001").await, None);
    wait_for("the message to be read", || whatsapp.copies("3EB001") == 1).await;

    whatsapp.faults(|faults| {
        faults.no_receipts = false;
        faults.no_read = true;
    });
    session.send(CONTACT, "3EB002").await;
    let mut receipts = Vec::new();
    session
        .until("the second to be delivered", |event| {
            if let Event::Receipt(receipt) = event {
                receipts.push((receipt.message_ids.clone(), receipt.r#type.clone()));
            }
            (!receipts.is_empty()).then_some(())
        })
        .await;
    assert_eq!(receipts, [(vec!["3EB002".to_owned()], ReceiptType::Delivered)]);
    whatsapp.faults(|faults| faults.no_read = false);
    session.send(CONTACT, "3EB003").await;
    session
        .until("the third to be read", |event| match event {
            Event::Receipt(receipt) if receipt.r#type == ReceiptType::Read => {
                assert_eq!(receipt.message_ids, ["3EB003"]);
                Some(())
            }
            _ => None,
        })
        .await;
    session.stop().await;
}

#[tokio::test]
async fn receipts_come_twice() {
    let whatsapp = network();
    let mut session = TestSession::up(&whatsapp).await;
    whatsapp.faults(|faults| faults.extra_receipts = 1);
    session.send(CONTACT, "3EB001").await;
    let arrived = arrivals(&mut session, "3EB001", "read", 2).await;
    assert_eq!(arrived.iter().filter(|kind| **kind == "delivered").count(), 2, "{arrived:?}");
    session.stop().await;
}

#[tokio::test]
async fn receipts_come_late() {
    let whatsapp = network();
    let mut session = TestSession::up(&whatsapp).await;
    whatsapp.faults(|faults| faults.receipt_delay = Duration::from_millis(500));
    session.send(CONTACT, "3EB001").await;
    assert_eq!(session.ack("3EB001").await, None);
    whatsapp.faults(|faults| faults.receipt_delay = Duration::ZERO);
    session.send(CONTACT, "3EB002").await;
    let mut order = Vec::new();
    session
        .until("both to be read", |event| {
            if let Event::Receipt(receipt) = event
                && receipt.r#type == ReceiptType::Read
            {
                order.extend(receipt.message_ids.clone());
            }
            (order.len() == 2).then_some(())
        })
        .await;
    assert_eq!(order, ["3EB002", "3EB001"]);
    session.stop().await;
}

#[tokio::test]
async fn acks_come_late() {
    let whatsapp = network();
    let mut session = TestSession::up(&whatsapp).await;
    whatsapp.faults(|faults| faults.ack_delay = Duration::from_millis(500));
    session.send(CONTACT, "3EB001").await;
    assert_eq!(arrivals(&mut session, "3EB001", "ack", 1).await, ["delivered", "read", "ack"]);
    session.stop().await;
}
