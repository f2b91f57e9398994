//! The cache of a recipient's devices and hidden id, and when it is refreshed.

use std::sync::Arc;

use anyhow::Result;
use fake_whatsapp::{Account, FakeWhatsApp};
use recado_whatsapp_web::{Change, Event, Kind, Outgoing, Rows};

use crate::harness::{ACCOUNT, Client, PEER, PEER_LID, card, link, network, put_device};
use crate::memory_rows::MemoryRows;

const DAY: i64 = 24 * 60 * 60;

async fn up() -> Result<(FakeWhatsApp, Arc<MemoryRows>, Client)> {
    let (whatsapp, rows) = (network(), Arc::new(MemoryRows::default()));
    link(&whatsapp, &*rows).await?;
    let client = Client::up(&whatsapp, Arc::clone(&rows) as _).await?;
    Ok((whatsapp, rows, client))
}

/// Links a device of the recipient, without a notification to other clients.
async fn link_peer(whatsapp: &FakeWhatsApp) -> Result<Client> {
    let rows = Arc::new(MemoryRows::default());
    let device = whatsapp.linked_device(&Account::new(PEER, PEER_LID));
    put_device(&*rows, serde_json::to_vec(&device)?).await?;
    let client = Client::up(whatsapp, rows).await?;
    while whatsapp.one_time_keys(PEER) == [0] {
        tokio::task::yield_now().await;
    }
    Ok(client)
}

async fn until_written_to(peer: &mut Client) -> Result<()> {
    peer.until(|event| matches!(event, Event::Wrote { who } if who.number.as_deref() == Some(ACCOUNT))).await.map(drop)
}

/// Makes the last fetch of all devices older by so many seconds.
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
async fn a_missed_device_gets_its_copy_when_the_message_is_submitted_again() -> Result<()> {
    let (whatsapp, _, mut client) = up().await?;
    let mut submitted = client.session.submit(&card("3EB0P1")).await?;
    client.acked("3EB0P1").await?;
    assert!(!submitted.missed_devices());
    let mut peer = link_peer(&whatsapp).await?;
    let mut submitted = client.session.submit(&card("3EB0P2")).await?;
    client.acked("3EB0P2").await?;
    assert!(submitted.missed_devices(), "the ack names the missed device");
    let again = Outgoing { refresh: true, ..card("3EB0P2") };
    let mut submitted = client.session.submit(&again).await?;
    client.acked("3EB0P2").await?;
    assert!(!submitted.missed_devices());
    until_written_to(&mut peer).await?;
    assert_eq!(whatsapp.counters().undecryptable, 0);
    peer.session.stop().await;
    client.session.stop().await;
    Ok(())
}

#[tokio::test]
async fn devices_are_fetched_again_after_a_day() -> Result<()> {
    let (whatsapp, rows, mut client) = up().await?;
    client.send("3EB0Q1").await?;
    let mut peer = link_peer(&whatsapp).await?;
    client.session.stop().await;
    age(&rows, DAY).await?;
    let mut client = Client::up(&whatsapp, Arc::clone(&rows) as _).await?;
    let mut submitted = client.session.submit(&card("3EB0Q2")).await?;
    client.acked("3EB0Q2").await?;
    assert!(!submitted.missed_devices());
    until_written_to(&mut peer).await?;
    peer.session.stop().await;
    client.session.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_message_to_a_number_with_a_new_owner_goes_to_the_new_hidden_id() -> Result<()> {
    let (whatsapp, rows, mut client) = up().await?;
    client.send("3EB0R1").await?;
    client.session.stop().await;
    whatsapp.remove_contact(PEER);
    whatsapp.add_contact(PEER, "900000000000099");
    age(&rows, DAY).await?;
    let mut client = Client::up(&whatsapp, Arc::clone(&rows) as _).await?;
    client.send("3EB0R2").await?;
    assert_eq!((whatsapp.copies("3EB0R2"), whatsapp.counters().undecryptable), (1, 0));
    client.session.stop().await;
    Ok(())
}

#[tokio::test]
async fn cached_devices_are_used_when_the_network_does_not_answer() -> Result<()> {
    let (whatsapp, _, mut client) = up().await?;
    client.send("3EB0S1").await?;
    whatsapp.faults(|faults| faults.no_devices = vec![PEER.to_owned()]);
    let again = Outgoing { refresh: true, ..card("3EB0S2") };
    client.session.submit(&again).await?;
    client.acked("3EB0S2").await?;
    assert_eq!(whatsapp.copies("3EB0S2"), 1);
    client.session.stop().await;
    Ok(())
}
