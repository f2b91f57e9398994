//! Each misbehaviour, as a client meets it.

use std::time::Duration;

use fake_whatsapp::{ALL, Refusal};
use wacore::types::events::Event;
use wacore::types::presence::ReceiptType;

use crate::harness::{CONTACT, Line, network, wait_for};

/// Notes what arrives for a message, until the given kind did so often.
async fn arrivals(line: &mut Line, id: &str, last: &'static str, times: usize) -> Vec<&'static str> {
    let mut arrived = Vec::new();
    line.until("the last arrival", |event| {
        match event {
            Event::ServerAck(ack) if ack.id == id => arrived.push("ack"),
            Event::Receipt(receipt) if receipt.message_ids.iter().any(|known| known == id) => match receipt.r#type {
                ReceiptType::Delivered => arrived.push("delivered"),
                ReceiptType::Read => arrived.push("read"),
                _ => {}
            },
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
    let mut line = Line::up(&whatsapp).await;
    whatsapp.faults(|faults| faults.refusal = Some(Refusal { code: 463, times: 2, to: vec![] }));
    for (id, error) in [("3EB001", Some("463")), ("3EB002", Some("463")), ("3EB003", None)] {
        line.send(CONTACT, id).await;
        assert_eq!(line.ack(id).await.as_deref(), error);
    }
    assert_eq!(whatsapp.inbox().len(), 1);
    line.stop().await;
}

#[tokio::test]
async fn messages_to_certain_recipients_are_refused() {
    let whatsapp = network();
    whatsapp.add_contact("553199990002", "900000000000003");
    let mut line = Line::up(&whatsapp).await;
    whatsapp.faults(|faults| faults.refusal = Some(Refusal { code: 463, times: ALL, to: vec![CONTACT.to_owned()] }));
    line.send("553199990002", "3EB001").await;
    assert_eq!(line.ack("3EB001").await, None);
    for id in ["3EB002", "3EB003"] {
        line.send(CONTACT, id).await;
        assert_eq!(line.ack(id).await.as_deref(), Some("463"));
    }
    line.stop().await;
}

#[tokio::test]
async fn acks_are_swallowed() {
    let whatsapp = network();
    let mut line = Line::up(&whatsapp).await;
    whatsapp.faults(|faults| faults.swallow_acks = 1);
    line.send(CONTACT, "3EB001").await;
    line.send(CONTACT, "3EB002").await;
    // The first would have come before the second.
    let first = line
        .until("an ack", |event| match event {
            Event::ServerAck(ack) if ack.class.as_deref() == Some("message") => Some(ack.id.clone()),
            _ => None,
        })
        .await;
    assert_eq!(first, "3EB002");
    assert_eq!((whatsapp.copies("3EB001"), whatsapp.copies("3EB002")), (0, 1));

    whatsapp.faults(|faults| {
        faults.swallow_acks = 1;
        faults.take_unacked = true;
    });
    line.send(CONTACT, "3EB003").await;
    assert_eq!(arrivals(&mut line, "3EB003", "read", 1).await, ["delivered", "read"]);
    assert_eq!(whatsapp.copies("3EB003"), 1);
    line.stop().await;
}

#[tokio::test]
async fn the_line_breaks_before_the_ack() {
    let whatsapp = network();
    let mut line = Line::up(&whatsapp).await;
    whatsapp.faults(|faults| faults.hang_up_before_ack = 1);
    line.send(CONTACT, "3EB001").await;
    line.until("the line to break", |event| matches!(event, Event::Disconnected(_)).then_some(())).await;
    line.connected().await;
    assert_eq!(whatsapp.copies("3EB001"), 0);
    line.send(CONTACT, "3EB001").await;
    assert_eq!(line.ack("3EB001").await, None);
    assert_eq!((whatsapp.copies("3EB001"), whatsapp.counters().undecryptable), (1, 0));
    line.stop().await;
}

#[tokio::test]
async fn the_line_breaks_after_the_message_was_taken() {
    let whatsapp = network();
    let mut line = Line::up(&whatsapp).await;
    whatsapp.faults(|faults| {
        faults.hang_up_before_ack = 1;
        faults.take_unacked = true;
    });
    line.send(CONTACT, "3EB001").await;
    line.until("the line to break", |event| matches!(event, Event::Disconnected(_)).then_some(())).await;
    // Its receipts come on the next connection, and no ack.
    assert_eq!(arrivals(&mut line, "3EB001", "read", 1).await, ["delivered", "read"]);
    line.send(CONTACT, "3EB001").await;
    assert_eq!(line.ack("3EB001").await, None);
    assert_eq!((whatsapp.copies("3EB001"), whatsapp.counters().undecryptable), (2, 0));
    line.stop().await;
}

#[tokio::test]
async fn nobody_confirms_or_reads() {
    let whatsapp = network();
    let mut line = Line::up(&whatsapp).await;
    whatsapp.faults(|faults| faults.no_receipts = true);
    line.send(CONTACT, "3EB001").await;
    assert_eq!(line.ack("3EB001").await, None);
    wait_for("the message to be read", || whatsapp.copies("3EB001") == 1).await;

    whatsapp.faults(|faults| {
        faults.no_receipts = false;
        faults.no_read = true;
    });
    line.send(CONTACT, "3EB002").await;
    let mut receipts = Vec::new();
    line.until("the second to be delivered", |event| {
        if let Event::Receipt(receipt) = event {
            receipts.push((receipt.message_ids.clone(), receipt.r#type.clone()));
        }
        (!receipts.is_empty()).then_some(())
    })
    .await;
    assert_eq!(receipts, [(vec!["3EB002".to_owned()], ReceiptType::Delivered)]);
    whatsapp.faults(|faults| faults.no_read = false);
    line.send(CONTACT, "3EB003").await;
    line.until("the third to be read", |event| match event {
        Event::Receipt(receipt) if receipt.r#type == ReceiptType::Read => {
            assert_eq!(receipt.message_ids, ["3EB003"]);
            Some(())
        }
        _ => None,
    })
    .await;
    line.stop().await;
}

#[tokio::test]
async fn receipts_come_twice() {
    let whatsapp = network();
    let mut line = Line::up(&whatsapp).await;
    whatsapp.faults(|faults| faults.extra_receipts = 1);
    line.send(CONTACT, "3EB001").await;
    let arrived = arrivals(&mut line, "3EB001", "read", 2).await;
    assert_eq!(arrived.iter().filter(|kind| **kind == "delivered").count(), 2, "{arrived:?}");
    line.stop().await;
}

#[tokio::test]
async fn receipts_come_late() {
    let whatsapp = network();
    let mut line = Line::up(&whatsapp).await;
    whatsapp.faults(|faults| faults.receipt_delay = Duration::from_millis(500));
    line.send(CONTACT, "3EB001").await;
    assert_eq!(line.ack("3EB001").await, None);
    whatsapp.faults(|faults| faults.receipt_delay = Duration::ZERO);
    line.send(CONTACT, "3EB002").await;
    let mut order = Vec::new();
    line.until("both to be read", |event| {
        if let Event::Receipt(receipt) = event
            && receipt.r#type == ReceiptType::Read
        {
            order.extend(receipt.message_ids.clone());
        }
        (order.len() == 2).then_some(())
    })
    .await;
    assert_eq!(order, ["3EB002", "3EB001"]);
    line.stop().await;
}

#[tokio::test]
async fn acks_come_late() {
    let whatsapp = network();
    let mut line = Line::up(&whatsapp).await;
    whatsapp.faults(|faults| faults.ack_delay = Duration::from_millis(500));
    line.send(CONTACT, "3EB001").await;
    assert_eq!(arrivals(&mut line, "3EB001", "ack", 1).await, ["delivered", "read", "ack"]);
    line.stop().await;
}
