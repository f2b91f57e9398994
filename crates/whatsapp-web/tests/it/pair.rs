//! Linking by QR code, and by a code that is typed on the phone. The server's certificate is not WhatsApp's, so these tests
//! need the feature `danger-loopback`.

use std::sync::Arc;

use anyhow::Result;
use recado_whatsapp_web::{Event, OpenError, PairError, Rows, Session, backlog};

use crate::harness::{ACCOUNT, ACCOUNT_LID, Client, account, network, options};
use crate::memory_inbox::MemoryInbox;
use crate::memory_rows::MemoryRows;

#[tokio::test]
async fn a_phone_links_by_qr_code_and_stays_linked() -> Result<()> {
    let whatsapp = network();
    let rows: Arc<dyn Rows> = Arc::new(MemoryRows::default());
    let mut client = Client::open(&whatsapp, Arc::clone(&rows)).await?;
    let qr = client.until(|event| matches!(event, Event::Qr { .. })).await?;
    let Event::Qr { code, .. } = qr else { unreachable!() };
    assert!(!Session::is_linked(&rows).await?);
    whatsapp.scan(&code, &account())?;
    let linked = client.until(|event| matches!(event, Event::Linked { .. })).await?;
    assert_eq!(linked, Event::Linked { phone: ACCOUNT.into(), lid: Some(ACCOUNT_LID.into()) });
    // Stored before the session is connected, and before anything else could have stored it.
    assert!(Session::is_linked(&rows).await?);
    client.until(|event| *event == Event::Up).await?;
    client.send("3EB0P1").await?;
    assert_eq!(client.session.pair_by_phone(ACCOUNT).await, Err(PairError::Linked));
    client.session.stop().await;

    let mut client = Client::open(&whatsapp, rows).await?;
    let first = client.until(|event| matches!(event, Event::Up | Event::Qr { .. })).await?;
    assert_eq!(first, Event::Up);
    client.send("3EB0P2").await?;
    client.session.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_phone_links_by_a_typed_code() -> Result<()> {
    let whatsapp = network();
    let rows: Arc<dyn Rows> = Arc::new(MemoryRows::default());
    let mut client = Client::open(&whatsapp, Arc::clone(&rows)).await?;
    client.until(|event| matches!(event, Event::Qr { .. })).await?;
    let mut shown = String::new();
    for _ in 0..2 {
        client.session.pair_by_phone(ACCOUNT).await?;
        let event = client.until(|event| matches!(event, Event::PairingCode { .. })).await?;
        let Event::PairingCode { code, .. } = event else { unreachable!() };
        assert!(code.len() == 8 && code != shown);
        shown = code;
    }
    whatsapp.type_code(&shown, &account())?;
    let linked = client.until(|event| matches!(event, Event::Linked { .. })).await?;
    assert_eq!(linked, Event::Linked { phone: ACCOUNT.into(), lid: Some(ACCOUNT_LID.into()) });
    assert!(Session::is_linked(&rows).await?);
    client.until(|event| *event == Event::Up).await?;
    client.send("3EB0P3").await?;
    client.session.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_loopback_build_does_not_reach_whatsapp() {
    let (sender, _events) = backlog::channel();
    let whatsapp = recado_whatsapp_web::Options { url: None, ..options("") };
    let opened =
        Session::open(Arc::new(MemoryRows::default()), &whatsapp, Arc::new(MemoryInbox::default()), sender).await;
    assert_eq!(opened.err(), Some(OpenError::LoopbackOnly));
}
