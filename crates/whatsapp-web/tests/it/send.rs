//! Cards: sent, refused, lost on the way, sent again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Result;
use recado_whatsapp_web::{Event, Outgoing, Rows, Session, SubmitError};

use crate::harness::{ACCOUNT, DEVICE, Line, PEER, card, link, server};
use crate::memory_rows::MemoryRows;

async fn up() -> Result<(Arc<fake_whatsapp::server::Server>, Arc<dyn Rows>, Line)> {
    let server = server().await?;
    let rows: Arc<dyn Rows> = Arc::new(MemoryRows::default());
    assert!(!Session::is_linked(&rows).await?);
    link(&server, &*rows).await?;
    assert!(Session::is_linked(&rows).await?);
    let line = Line::up(&server, Arc::clone(&rows)).await?;
    Ok((server, rows, line))
}

#[tokio::test]
async fn a_card_is_read_by_its_recipient() -> Result<()> {
    let (server, _, mut line) = up().await?;
    line.session.submit(&card("3EB0A1")).await?;
    let (mut acked, mut delivered, mut read) = (false, false, false);
    while !(acked && delivered && read) {
        match line.until(|_| true).await? {
            Event::Acked { id } => acked |= id == "3EB0A1",
            Event::Delivered { ids, at } => delivered |= ids == ["3EB0A1"] && at > 1_700_000_000,
            Event::Read { ids, .. } => read |= ids == ["3EB0A1"],
            other => panic!("{other:?}"),
        }
    }
    let inbox = server.inbox();
    let [received] = inbox.as_slice() else { panic!("{inbox:?}") };
    assert_eq!((received.id.as_str(), received.own_phone_saw_it), ("3EB0A1", true));
    let contact = &received.peer_message.contact_message;
    assert_eq!(contact.display_name.as_deref(), Some("Maria"));
    assert_eq!(contact.vcard.as_deref(), Some(card("").vcard.as_str()));
    line.session.stop().await;
    assert_eq!(line.session.submit(&card("3EB0A2")).await, Err(SubmitError::Down));
    Ok(())
}

#[tokio::test]
async fn a_refusal_is_told_with_its_code() -> Result<()> {
    let (server, _, mut line) = up().await?;
    server.faults.nack_code.store(463, Ordering::Relaxed);
    line.session.submit(&card("3EB0B1")).await?;
    let nacked = Event::Nacked { id: "3EB0B1".into(), code: "463".into() };
    line.until(|event| *event == nacked).await?;
    line.session.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_card_lost_before_its_answer_is_sent_again_after_a_restart() -> Result<()> {
    let (server, rows, mut line) = up().await?;
    line.send("3EB0C1").await?;
    server.faults.hang_up_before_ack.store(true, Ordering::Relaxed);
    // The line breaks on the way: the answer may be either.
    let _ = line.session.submit(&card("3EB0C2")).await;
    line.until(|event| *event == Event::Down).await?;
    line.session.stop().await;
    server.faults.hang_up_before_ack.store(false, Ordering::Relaxed);

    let mut line = Line::up(&server, rows).await?;
    line.send("3EB0C2").await?;
    line.send("3EB0C3").await?;
    line.session.stop().await;
    let mut ids: Vec<_> = server.inbox().into_iter().map(|received| received.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids, ["3EB0C1", "3EB0C2", "3EB0C3"]);
    assert_eq!(server.decrypt_failures.load(Ordering::Relaxed), 0);
    Ok(())
}

#[tokio::test]
async fn a_number_without_a_device_is_no_success() -> Result<()> {
    let (_server, _, line) = up().await?;
    let ghost = Outgoing { account: "15550000000".into(), ..card("3EB0D1") };
    assert_eq!(line.session.submit(&ghost).await, Err(SubmitError::NoDevice));
    line.session.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_number_is_looked_up() -> Result<()> {
    let (server, _, mut line) = up().await?;
    server.add_alias("5531999990001", PEER);
    assert_eq!(line.session.look_up("5531999990001").await?.as_deref(), Some(PEER));
    assert_eq!(line.session.look_up(PEER).await?.as_deref(), Some(PEER));
    assert_eq!(line.session.look_up("15550000000").await?, None);
    line.send("3EB0E1").await?;
    line.session.stop().await;
    Ok(())
}

#[tokio::test]
async fn who_writes_is_told() -> Result<()> {
    let (server, _, mut line) = up().await?;
    // Who writes needs the session's keys, which go up after the line is.
    while server.one_time_keys_left(ACCOUNT, DEVICE).is_none_or(|left| left == 0) {
        tokio::task::yield_now().await;
    }
    server.contact_says(PEER, ACCOUNT, DEVICE, "oi").await?;
    line.until(|event| *event == Event::Wrote { account: PEER.into() }).await?;
    line.session.stop().await;
    Ok(())
}

#[tokio::test]
async fn typing_is_shown_and_ends() -> Result<()> {
    let (_server, _, mut line) = up().await?;
    line.session.typing(PEER, true).await?;
    line.session.typing(PEER, false).await?;
    line.send("3EB0F1").await?;
    line.session.stop().await;
    Ok(())
}

/// A recipient's own number: the card goes to the sender's other devices alone, and that is right.
#[tokio::test]
async fn a_card_to_oneself_is_sent() -> Result<()> {
    let (_server, _, line) = up().await?;
    let own = Outgoing { account: ACCOUNT.into(), ..card("3EB0G1") };
    assert_eq!(line.session.submit(&own).await, Ok(()));
    line.session.stop().await;
    Ok(())
}
