//! Another implementation of the protocol, Baileys, with the checks of signatures forced: it reads our card, and we confirm
//! the one that it sends.

use fake_whatsapp::baileys::Baileys;
use serde_json::json;

use super::{KNOWN, OWNER, Stage, TYPED};
use crate::harness::wait_for;

#[test]
fn cards_go_both_ways_between_the_gateway_and_baileys() {
    let stage = Stage::linked();
    let whatsapp = &stage.whatsapp;
    let mut baileys = Baileys::run(whatsapp, &[], "driver.mjs", &[OWNER, "1"]);
    let mut checks = Vec::new();
    while let Some(check) = baileys.said.blocking_recv() {
        assert_eq!(check["ok"], true, "{check:#}");
        if check["check"] == "ready" {
            // Its own phone and Baileys both read it: the script looks at what Baileys read.
            let body = json!({"to": check["account"], "name": "Maria", "phone": TYPED});
            let answer = stage.server.post("/v1/channels/vendas/messages/contact", &stage.key, &body).expect(202);
            let id = answer.header("X-Message-Id").expect("an id").to_owned();
            stage.until("vendas", &id, "READ");
        }
        if let Some(read) = check["read"].as_array() {
            let names: Vec<_> = read.iter().map(|message| &message["contactMessage"]["displayName"]).collect();
            assert_eq!(names, ["Maria"], "{check:#}");
        }
        checks.push(check["check"].as_str().expect("a name").to_owned());
    }
    // The last of all, so that none before it was left out.
    assert_eq!(checks.last().map(String::as_str), Some("every signature was good"));
    let theirs = ["messages of another client are read", "another client confirms a card"];
    assert!(theirs.iter().all(|check| checks.iter().any(|done| done == check)), "{checks:?}");
    // What Baileys sent was taken by our session.
    wait_for("its card to be confirmed", || whatsapp.unconfirmed(OWNER) == 0);
    assert_eq!(whatsapp.counters().undecryptable, 0);
    assert!(whatsapp.inbox().iter().any(|received| received.vcard().is_some_and(|card| card.contains(KNOWN))));
}
