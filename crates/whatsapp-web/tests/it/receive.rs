//! Messages of people, from the network to the inbox, and the acknowledgement that waits for the inbox.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, ensure};
use fake_whatsapp::{FakeWhatsApp, MadeUpReceipt};
use recado_domain::incoming::What;
use recado_whatsapp_web::{Change, Kind, Rows};
use tokio::time::{Instant, sleep};

use crate::harness::{ACCOUNT, Client, PEER, PEER_LID, link, network};
use crate::memory_rows::MemoryRows;

const PATIENCE: Duration = Duration::from_secs(30);

async fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !holds() {
        ensure!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// A connected session whose keys are uploaded: an author needs them.
async fn up(whatsapp: &FakeWhatsApp, rows: Arc<dyn Rows>) -> Result<Client> {
    let client = Client::up(whatsapp, rows).await?;
    until("the keys", || whatsapp.one_time_keys(ACCOUNT) != [0]).await?;
    Ok(client)
}

#[tokio::test]
async fn what_a_person_writes_is_stored_and_then_acknowledged() -> Result<()> {
    let whatsapp = network();
    let rows: Arc<dyn Rows> = Arc::new(MemoryRows::default());
    link(&whatsapp, &*rows).await?;
    let client = up(&whatsapp, rows).await?;
    let id = whatsapp.say(PEER, ACCOUNT, "Oi, tudo bem?")?;
    until("the message", || client.inbox.texts() == ["Oi, tudo bem?"]).await?;
    until("the acknowledgement", || whatsapp.unconfirmed(ACCOUNT) == 0).await?;
    let arrival = client.inbox.arrivals().remove(0);
    assert_eq!(arrival.network_id.as_str(), id);
    assert_eq!((arrival.person.phone.as_deref(), arrival.person.lid.as_deref()), (Some(PEER), Some(PEER_LID)));
    assert!(!arrival.from_me && arrival.group.is_none());
    assert!(matches!(arrival.what, What::Message(new) if new.raw.is_some()));
    client.session.stop().await;
    Ok(())
}

#[tokio::test]
async fn what_a_former_version_kept_is_passed_on() -> Result<()> {
    let whatsapp = network();
    let rows: Arc<dyn Rows> = Arc::new(MemoryRows::default());
    link(&whatsapp, &*rows).await?;
    let envelope = format!(r#"[1,{{"id":"3EB0A","person":{{"phone":"{PEER}"}},"sent_at":7000}}]"#);
    let length = u32::try_from(envelope.len())?.to_be_bytes();
    // A message whose field 1, the text, is `Oi`.
    let readable = [&length[..], envelope.as_bytes(), &[10, 2, b'O', b'i']].concat();
    for (key, value) in [(b"a", readable), (b"b", b"of another version".to_vec())] {
        rows.write(vec![Change::Put { kind: Kind::NotTaken, key: key.to_vec(), value, stamp: 1 }]).await?;
    }
    let client = up(&whatsapp, Arc::clone(&rows)).await?;
    until("the message", || client.inbox.texts() == ["Oi"]).await?;
    assert_eq!(client.inbox.arrivals()[0].network_id.as_str(), "3EB0A");
    let begun = Instant::now();
    while !rows.list(Kind::NotTaken, Vec::new()).await?.is_empty() {
        ensure!(begun.elapsed() < PATIENCE, "a row stays");
        sleep(Duration::from_millis(20)).await;
    }
    client.session.stop().await;
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_stored_is_not_acknowledged_and_comes_again() -> Result<()> {
    let whatsapp = network();
    let rows: Arc<dyn Rows> = Arc::new(MemoryRows::default());
    link(&whatsapp, &*rows).await?;
    let client = up(&whatsapp, Arc::clone(&rows)).await?;
    client.inbox.is_full.store(true, Ordering::Relaxed);
    whatsapp.say(PEER, ACCOUNT, "primeira")?;
    whatsapp.say(PEER, ACCOUNT, "segunda")?;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(whatsapp.unconfirmed(ACCOUNT), 2);
    // Another process opens the session.
    client.session.abort().await;
    let client = up(&whatsapp, rows).await?;
    until("both messages", || client.inbox.texts() == ["primeira", "segunda"]).await?;
    until("the acknowledgements", || whatsapp.unconfirmed(ACCOUNT) == 0).await?;
    client.session.stop().await;
    Ok(())
}

/// The network does not report again what the phone has read.
#[tokio::test]
async fn what_is_read_on_the_phone_is_stored_when_the_store_answers_again() -> Result<()> {
    let whatsapp = network();
    let rows: Arc<dyn Rows> = Arc::new(MemoryRows::default());
    link(&whatsapp, &*rows).await?;
    let client = up(&whatsapp, rows).await?;
    client.inbox.is_full.store(true, Ordering::Relaxed);
    let chat = format!("{PEER}@s.whatsapp.net");
    whatsapp.receipt(ACCOUNT, &MadeUpReceipt::new(&chat, "3EB0READ", "read-self"));
    until("a try", || client.inbox.tries.load(Ordering::Relaxed) > 0).await?;
    client.session.stop().await;
    client.inbox.is_full.store(false, Ordering::Relaxed);
    until("the reading", || client.inbox.reads() == ["3EB0READ"]).await
}

/// The library would write the ratchet that has passed the message, and could not decrypt it when it comes again.
#[tokio::test]
async fn a_full_disk_loses_no_message() -> Result<()> {
    let whatsapp = network();
    let rows = Arc::new(MemoryRows::default());
    link(&whatsapp, &*rows).await?;
    let client = up(&whatsapp, rows.clone()).await?;
    whatsapp.say(PEER, ACCOUNT, "antes")?;
    until("the first message", || client.inbox.texts() == ["antes"] && whatsapp.unconfirmed(ACCOUNT) == 0).await?;
    rows.refuse(true);
    whatsapp.say(PEER, ACCOUNT, "durante")?;
    // Longer than the driver tries to store it.
    sleep(Duration::from_secs(8)).await;
    assert_eq!(whatsapp.unconfirmed(ACCOUNT), 1);
    rows.refuse(false);
    sleep(Duration::from_secs(1)).await;
    client.session.stop().await;
    let client = up(&whatsapp, rows).await?;
    until("the message", || client.inbox.texts() == ["durante"]).await?;
    until("the acknowledgement", || whatsapp.unconfirmed(ACCOUNT) == 0).await?;
    client.session.stop().await;
    Ok(())
}
