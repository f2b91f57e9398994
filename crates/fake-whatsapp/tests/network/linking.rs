//! A new device: linked by a QR code, or by a code that is typed on the phone.

use std::sync::Arc;

use fake_whatsapp::{Account, FakeWhatsApp};
use wacore::store::InMemoryBackend;
use wacore::types::events::Event;
use whatsapp_rust::pair_code::PairCodeOptions;

use crate::harness::{ACCOUNT, CONTACT, TestSession, account, network, wait_for};

async fn unlinked(whatsapp: &FakeWhatsApp) -> (TestSession, String) {
    let mut session = TestSession::start(whatsapp, Arc::new(InMemoryBackend::new())).await;
    let code = session.until("a QR code", |event| match event {
        Event::PairingQrCode(shown) => Some(shown.code.clone()),
        _ => None,
    });
    let code = code.await;
    (session, code)
}

/// The linked client can send under this account.
async fn works(whatsapp: &FakeWhatsApp, session: &mut TestSession, account: &Account) {
    let id = session.until("being linked", |event| match event {
        Event::PairSuccess(linked) => Some(linked.id.to_string()),
        _ => None,
    });
    assert_eq!(id.await, format!("{}:{}@s.whatsapp.net", account.phone, account.device));
    session.connected().await;
    session.send(CONTACT, "3EB001").await;
    assert_eq!(session.ack("3EB001").await, None);
    assert_eq!(whatsapp.copies("3EB001"), 1);
}

#[tokio::test]
async fn a_code_is_scanned() {
    let whatsapp = network();
    let (mut session, code) = unlinked(&whatsapp).await;
    whatsapp.scan(&code, &account()).expect("scanned");
    works(&whatsapp, &mut session, &account()).await;
    assert!(whatsapp.scan(&code, &account()).is_err(), "a code is good for once");
    session.stop().await;
}

#[tokio::test]
async fn a_code_is_typed() {
    let whatsapp = network();
    let (mut session, _) = unlinked(&whatsapp).await;
    let asked = PairCodeOptions { phone_number: ACCOUNT.to_owned(), ..Default::default() };
    let code = session.client.pair_with_code(asked).await.expect("a code");
    // First a typing error: the phone may try again.
    let slip = if code.starts_with('A') { "B" } else { "A" };
    whatsapp.type_code(&format!("{slip}{}", &code[1..]), &account()).expect("typed");
    wait_for("the wrong code to be found out", || whatsapp.counters().wrong_codes == 1).await;
    whatsapp.type_code(&code, &account()).expect("typed");
    works(&whatsapp, &mut session, &account()).await;
    session.stop().await;
}
