//! The network tested with Baileys and a client of whatsapp-rust: a card in each direction.

use std::sync::Arc;

use fake_whatsapp::baileys::Baileys;
use wacore::types::events::Event;

use crate::harness::{ACCOUNT, TestSession, network};

#[tokio::test]
async fn baileys_agrees() {
    let whatsapp = Arc::new(network());
    let mut session = TestSession::up(&whatsapp).await;
    let mut baileys = Baileys::run(&whatsapp, &[], "driver.mjs", &[ACCOUNT, "1"]);
    let mut checks = Vec::new();
    while let Some(check) = baileys.output.recv().await {
        assert_eq!(check["ok"], true, "{check:#}");
        if check["check"] == "ready" {
            let to = check["account"].as_str().expect("an account");
            session.send(to, "3EB0RUST000000000001").await;
            assert_eq!(session.ack("3EB0RUST000000000001").await, None);
            delivered_to_both_devices(&mut session, to).await;
            let name = session.until("a card from Baileys", |event| {
                event.messages().find_map(|item| item.message.contact_message.display_name.clone())
            });
            assert_eq!(name.await, "Zé");
        }
        if let Some(read) = check["read"].as_array() {
            let names: Vec<_> = read.iter().map(|message| &message["contactMessage"]["displayName"]).collect();
            assert_eq!(names, ["Maria"], "{check:#}");
        }
        checks.push(check["check"].as_str().expect("a name").to_owned());
    }
    // The last check, so that none before it was left out.
    assert_eq!(checks.last().map(String::as_str), Some("every signature was good"));
    assert_eq!(checks.len(), 13);
    session.stop().await;
}

/// The phone sends receipts, and so does the Baileys that is linked to it.
async fn delivered_to_both_devices(session: &mut TestSession, to: &str) {
    let mut by = std::collections::BTreeSet::new();
    session
        .until("both receipts", |event| {
            if let Event::Receipt(receipt) = event
                && receipt.message_ids.iter().any(|id| id == "3EB0RUST000000000001")
                && receipt.source.sender.user == to
            {
                by.insert(receipt.source.sender.device);
            }
            (by.len() == 2).then_some(())
        })
        .await;
}

#[tokio::test]
async fn its_memory_is_measured() {
    let whatsapp = Arc::new(network());
    let mut baileys = Baileys::run(&whatsapp, &["--expose-gc"], "mem.mjs", &["2"]);
    let measured = baileys.output.recv().await.expect("a measurement");
    let sockets: Vec<_> = measured["measured"].as_array().expect("a list").iter().map(|m| &m["sockets"]).collect();
    assert_eq!(sockets, [0, 1, 2]);
    assert!(measured["each_further_kib"].is_i64() && measured["forced_gc"] == true, "{measured}");
    assert_eq!(whatsapp.inbox().len(), 2);
}
