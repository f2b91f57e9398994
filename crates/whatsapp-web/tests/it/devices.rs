//! What is known of a recipient's devices and hidden id, and when it is asked for anew.

use std::sync::Arc;

use anyhow::Result;
use fake_whatsapp::{Account, FakeWhatsApp};
use recado_whatsapp_web::{Change, Event, Kind, Outgoing, Rows};

use crate::harness::{ACCOUNT, Line, PEER, PEER_LID, card, link, network, put_device};
use crate::memory_rows::MemoryRows;

const DAY: i64 = 24 * 60 * 60;

async fn up() -> Result<(FakeWhatsApp, Arc<MemoryRows>, Line)> {
    let (whatsapp, rows) = (network(), Arc::new(MemoryRows::default()));
    link(&whatsapp, &*rows).await?;
    let line = Line::up(&whatsapp, Arc::clone(&rows) as _).await?;
    Ok((whatsapp, rows, line))
}

/// The recipient links a device, and nobody is told.
async fn link_peer(whatsapp: &FakeWhatsApp) -> Result<Line> {
    let rows = Arc::new(MemoryRows::default());
    let device = whatsapp.linked_device(&Account::new(PEER, PEER_LID));
    put_device(&*rows, serde_json::to_vec(&device)?).await?;
    let line = Line::up(whatsapp, rows).await?;
    while whatsapp.one_time_keys(PEER) == [0] {
        tokio::task::yield_now().await;
    }
    Ok(line)
}

async fn until_written_to(peer: &mut Line) -> Result<()> {
    peer.until(|event| matches!(event, Event::Wrote { who } if who.number.as_deref() == Some(ACCOUNT))).await.map(drop)
}

/// As if the last question for anybody's devices were so much older.
async fn age(rows: &MemoryRows, seconds: i64) -> Result<()> {
    for (key, value) in rows.list(Kind::DeviceList, Vec::new()).await? {
        let mut record: serde_json::Value = serde_json::from_slice(&value)?;
        let asked_at = record["timestamp"].as_i64().expect("a time");
        record["timestamp"] = (asked_at - seconds).into();
        let value = serde_json::to_vec(&record)?;
        rows.write(vec![Change::Put { kind: Kind::DeviceList, key, value, stamp: 0 }]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_device_that_was_missed_gets_its_copy_when_the_message_is_submitted_anew() -> Result<()> {
    let (whatsapp, _, mut line) = up().await?;
    let mut submitted = line.session.submit(&card("3EB0P1")).await?;
    line.acked("3EB0P1").await?;
    assert!(!submitted.missed_devices());
    let mut peer = link_peer(&whatsapp).await?;
    let mut submitted = line.session.submit(&card("3EB0P2")).await?;
    line.acked("3EB0P2").await?;
    assert!(submitted.missed_devices(), "the ack says so");
    let again = Outgoing { refresh: true, ..card("3EB0P2") };
    let mut submitted = line.session.submit(&again).await?;
    line.acked("3EB0P2").await?;
    assert!(!submitted.missed_devices());
    until_written_to(&mut peer).await?;
    assert_eq!(whatsapp.counters().undecryptable, 0);
    peer.session.stop().await;
    line.session.stop().await;
    Ok(())
}

#[tokio::test]
async fn devices_are_asked_for_anew_after_a_day() -> Result<()> {
    let (whatsapp, rows, mut line) = up().await?;
    line.send("3EB0Q1").await?;
    let mut peer = link_peer(&whatsapp).await?;
    line.session.stop().await;
    age(&rows, DAY).await?;
    let mut line = Line::up(&whatsapp, Arc::clone(&rows) as _).await?;
    let mut submitted = line.session.submit(&card("3EB0Q2")).await?;
    line.acked("3EB0Q2").await?;
    assert!(!submitted.missed_devices());
    until_written_to(&mut peer).await?;
    peer.session.stop().await;
    line.session.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_number_that_changed_hands_is_written_to_under_its_new_hidden_id() -> Result<()> {
    let (whatsapp, rows, mut line) = up().await?;
    line.send("3EB0R1").await?;
    line.session.stop().await;
    whatsapp.remove_contact(PEER);
    whatsapp.add_contact(PEER, "900000000000099");
    age(&rows, DAY).await?;
    let mut line = Line::up(&whatsapp, Arc::clone(&rows) as _).await?;
    line.send("3EB0R2").await?;
    assert_eq!((whatsapp.copies("3EB0R2"), whatsapp.counters().undecryptable), (1, 0));
    line.session.stop().await;
    Ok(())
}

#[tokio::test]
async fn what_is_known_serves_where_the_network_does_not_answer_anew() -> Result<()> {
    let (whatsapp, _, mut line) = up().await?;
    line.send("3EB0S1").await?;
    whatsapp.faults(|faults| faults.no_devices = vec![PEER.to_owned()]);
    let again = Outgoing { refresh: true, ..card("3EB0S2") };
    line.session.submit(&again).await?;
    line.acked("3EB0S2").await?;
    assert_eq!(whatsapp.copies("3EB0S2"), 1);
    line.session.stop().await;
    Ok(())
}
