//! Another implementation of the protocol, Baileys, with the checks of signatures forced: it reads every kind of message, and
//! we confirm the card that it sends.

use fake_whatsapp::baileys::Baileys;
use serde_json::{Value, json};

use super::{JOAO, KNOWN, OWNER, Stage, TYPED};
use crate::harness::wait_for;

#[test]
fn messages_go_both_ways_between_the_gateway_and_baileys() {
    let stage = Stage::linked();
    let whatsapp = &stage.whatsapp;
    let mut baileys = Baileys::run(whatsapp, &[], "driver.mjs", &[OWNER, "5"]);
    let (mut checks, mut sent) = (Vec::new(), Vec::new());
    while let Some(check) = baileys.output.blocking_recv() {
        assert_eq!(check["ok"], true, "{check:#}");
        if check["check"] == "ready" {
            sent = send_every_kind(&stage, &check["account"]);
        }
        if let Some(read) = check["read"].as_array() {
            assert_read(read, &sent);
        }
        checks.push(check["check"].as_str().expect("a name").to_owned());
    }
    // The last of all, so that none before it was left out.
    assert_eq!(checks.last().map(String::as_str), Some("every signature was good"));
    let theirs = ["messages of another client are read", "another client confirms a card"];
    assert!(theirs.iter().all(|check| checks.iter().any(|done| done == check)), "{checks:?}");
    // Our session received the message of Baileys.
    wait_for("its card to be confirmed", || whatsapp.unconfirmed(OWNER) == 0);
    let counters = whatsapp.counters();
    assert_eq!((counters.undecryptable, counters.malformed), (0, 0));
}

/// Sends a message of each kind, the last with a quote of the first; their network ids. Its own phone and Baileys both read
/// them: the script looks at what Baileys read.
fn send_every_kind(stage: &Stage, to: &Value) -> Vec<Value> {
    let contact = |name: &str, phone: &str| json!({"name": name, "phones": [{"phone": phone}]});
    let mut sent: Vec<(String, Value)> = Vec::new();
    for (kind, mut fields) in [
        ("contact", json!({"name": "Maria", "phone": TYPED})),
        ("text", json!({"content": "Onde fica?\n🎉"})),
        ("location", json!({"latitude": -23.541_81, "longitude": -46.629_28, "name": "Mercado", "address": "Rua A"})),
        ("contact", json!({"contacts": [contact("Maria", TYPED), contact("Joao", JOAO)]})),
        ("text", json!({"content": "Obrigado", "replyTo": null})),
    ] {
        fields["to"] = to.clone();
        if fields.get("replyTo").is_some() {
            fields["replyTo"] = sent[2].0.clone().into();
        }
        let path = format!("/v1/channels/vendas/messages/{kind}");
        let answer = stage.server.post(&path, &stage.key, &fields).expect(202);
        let id = answer.header("X-Message-Id").expect("an id").to_owned();
        let network_id = stage.until("vendas", &id, "READ")["networkId"].clone();
        sent.push((id, network_id));
    }
    sent.into_iter().map(|(_, network_id)| network_id).collect()
}

fn assert_read(read: &[Value], sent: &[Value]) {
    let [card, text, location, cards, quote] = read else { panic!("{read:#?}") };
    let card = &card["contactMessage"];
    assert_eq!(card["displayName"], "Maria");
    assert!(card["vcard"].as_str().is_some_and(|vcard| vcard.contains(&format!("waid={KNOWN}:+{TYPED}"))), "{card}");
    assert_eq!(text["conversation"], "Onde fica?\n🎉");
    let place = &location["locationMessage"];
    let place = ["degreesLatitude", "degreesLongitude", "name", "address"].map(|field| place[field].clone());
    assert_eq!(place, [json!(-23.541_81), json!(-46.629_28), json!("Mercado"), json!("Rua A")]);
    let cards = &cards["contactsArrayMessage"];
    let names: Vec<_> = cards["contacts"].as_array().into_iter().flatten().map(|card| &card["displayName"]).collect();
    assert_eq!((&cards["displayName"], names), (&json!("2 contatos"), vec![&json!("Maria"), &json!("Joao")]));
    let quote = &quote["extendedTextMessage"];
    let context = &quote["contextInfo"];
    assert_eq!(quote["text"], "Obrigado");
    let owner = json!(format!("{OWNER}@s.whatsapp.net"));
    assert_eq!((&context["stanzaId"], &context["participant"]), (&sent[2], &owner), "{context}");
    assert_eq!(context["quotedMessage"]["locationMessage"]["name"], "Mercado", "{context}");
}
