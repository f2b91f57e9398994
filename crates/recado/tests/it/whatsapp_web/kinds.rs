//! Every kind of message, as the recipient's phone shows it.

use std::time::{Duration, Instant};

use fake_whatsapp::{Location, Received};
use serde_json::{Value, json};

use super::{JOAO, KNOWN, MARIA, NOBODY, OWNER, Stage, TYPED};
use crate::harness::{PATIENCE, wait_for};
use crate::v1::{assert_sent_in_time, soon};

/// How long cards wait for the accounts of their numbers.
const CARDS_WAIT: Duration = Duration::from_secs(3);

/// Submits a message. Returns its id.
fn accept(stage: &Stage, kind: &str, mut fields: Value) -> String {
    fields["to"] = MARIA.into();
    let path = format!("/v1/channels/vendas/messages/{kind}");
    stage.server.post(&path, &stage.key, &fields).expect(202).header("X-Message-Id").expect("an id").to_owned()
}

/// Sends a message. Returns its entry in the API, and the message that the recipient's phone read.
#[track_caller]
fn send(stage: &Stage, kind: &str, fields: Value) -> (Value, Received) {
    shown(stage, &accept(stage, kind, fields))
}

#[track_caller]
fn shown(stage: &Stage, id: &str) -> (Value, Received) {
    let message = stage.until("vendas", id, "READ");
    let network_id = message["networkId"].as_str().expect("an id");
    let received = stage.whatsapp.inbox().into_iter().find(|received| received.id == network_id).expect("it was read");
    let counters = stage.whatsapp.counters();
    assert_eq!((counters.malformed, counters.undecryptable), (0, 0), "{received:?}");
    (message, received)
}

fn several_contacts() -> Value {
    json!({"contacts": [
        {
            "name": "Maria Silva", "organization": "Exemplo Ltda", "department": "Suporte", "title": "Gerente",
            "phones": [{"phone": TYPED}, {"phone": NOBODY, "type": "WORK"}],
            "emails": [{"email": "maria@exemplo.com.br", "type": "WORK"}], "urls": [{"url": "https://exemplo.com.br"}],
            "birthday": "1990-08-18", "addresses": [{"street": "Rua A, 1", "city": "Sao Paulo", "country": "Brasil"}],
        },
        {"name": "Joao", "phones": [{"phone": JOAO, "type": "HOME"}]},
    ]})
}

/// Sends several contacts on a new stage. If the network names the accounts too late, as on a slow machine, the cards have
/// the typed numbers: then another stage is tried. Cards that did not wait so long are returned as they are.
fn send_several(accounts: &Value) -> (Stage, Value, Received) {
    let end = Instant::now() + PATIENCE;
    loop {
        let (stage, began) = (Stage::linked(), Instant::now());
        let id = accept(&stage, "contact", several_contacts());
        let received = shown(&stage, &id).1;
        // A receipt may be recorded before the answer, with which the accounts are.
        wait_for("the account of the recipient", || stage.message("vendas", &id)["account"] == MARIA);
        let message = stage.message("vendas", &id);
        let may_be_late = began.elapsed() >= CARDS_WAIT && Instant::now() < end;
        if message["cards"] == *accounts || !may_be_late {
            return (stage, message, received);
        }
    }
}

#[test]
fn a_text_is_shown_with_its_lines() {
    let stage = Stage::linked();
    let (message, received) = send(&stage, "text", json!({"content": "Ola,\n\"tudo\" bem? 🎉"}));
    assert_eq!(received.text(), Some("Ola,\n\"tudo\" bem? 🎉"));
    assert!(received.message.conversation.is_some() && received.quote().is_none(), "{received:?}");
    assert_eq!((&message["type"], &message["content"]), (&json!("text"), &json!("Ola,\n\"tudo\" bem? 🎉")));
    assert!(received.own_phone_saw_it, "the owner sees on the phone what was sent");
}

#[test]
fn a_location_is_shown_with_its_name() {
    let stage = Stage::linked();
    let place = json!({"latitude": -23.541_81, "longitude": -46.629_28, "name": "Mercado", "address": "Rua A, 306"});
    let (_, received) = send(&stage, "location", place);
    let (name, address) = (Some("Mercado"), Some("Rua A, 306"));
    assert_eq!(received.location(), Some(Location { latitude: -23.541_81, longitude: -46.629_28, name, address }));
    let (_, received) = send(&stage, "location", json!({"latitude": 0, "longitude": -180}));
    let least = Location { latitude: 0.0, longitude: -180.0, name: None, address: None };
    assert_eq!(received.location(), Some(least));
}

#[test]
fn several_contacts_are_shown_with_the_accounts_of_all_their_numbers() {
    // The stored message is the sent one, and shows which accounts the network named.
    let account = |waid: &str, source: &str| json!({"waid": waid, "source": source});
    let accounts = json!([
        {"accounts": [account(KNOWN, "NETWORK"), account(NOBODY, "TYPED")]},
        {"accounts": [account(JOAO, "NETWORK")]},
    ]);
    let (stage, message, received) = send_several(&accounts);
    assert_eq!(message["cards"], accounts, "{message}");
    assert_eq!(received.message.contacts_array_message.display_name.as_deref(), Some("2 contatos"));
    let cards: Vec<_> =
        received.cards().into_iter().map(|card| (card.display_name.as_deref(), card.vcard.as_deref())).collect();
    let maria = format!(
        "BEGIN:VCARD\nVERSION:3.0\nN:;Maria Silva;;;\nFN:Maria Silva\nORG:Exemplo Ltda;Suporte\nTITLE:Gerente\n\
         EMAIL;type=INTERNET,type=WORK:maria@exemplo.com.br\nURL:https://exemplo.com.br\nBDAY:1990-08-18\n\
         ADR;type=WORK:;;Rua A\\, 1;Sao Paulo;;;Brasil\nTEL;type=CELL;type=VOICE;waid={KNOWN}:+{TYPED}\n\
         TEL;type=WORK;waid={NOBODY}:+{NOBODY}\nEND:VCARD"
    );
    let joao = format!(
        "BEGIN:VCARD\nVERSION:3.0\nN:;Joao;;;\nFN:Joao\nTEL;type=CELL;type=VOICE;waid={JOAO}:+{JOAO}\nEND:VCARD"
    );
    assert_eq!(cards, [(Some("Maria Silva"), Some(&*maria)), (Some("Joao"), Some(&*joao))]);
    // The long form with one contact is one card, with one question for each number.
    let one = json!({"contacts": [several_contacts()["contacts"][1]]});
    let (_, received) = send(&stage, "contact", one);
    assert_eq!((received.display_name(), received.vcard()), (Some("Joao"), Some(&*joao)));
    assert!(received.message.contact_message.is_set(), "{received:?}");
    let lookups = stage.whatsapp.lookups();
    let asked = [TYPED, NOBODY, JOAO].map(|number| lookups.get(number).copied());
    assert_eq!(asked, [Some(1), Some(1), Some(1)], "{lookups:?}");
}

/// The network gives no answer about fifty numbers: the cards are sent with the typed numbers, and soon.
#[test]
fn cards_without_known_accounts_keep_their_typed_numbers() {
    let stage = Stage::linked();
    let number = |n: usize| format!("55119777{n:05}");
    stage.whatsapp.faults(|faults| faults.withheld_accounts = (0..25).map(number).collect());
    let contact = |card: usize| {
        let phones: Vec<_> = (0..5).map(|place| json!({"phone": number(card * 5 + place)})).collect();
        json!({"name": format!("Maria {card}"), "phones": phones})
    };
    let contacts: Vec<_> = (0..5).map(contact).collect();
    let (message, received) = send(&stage, "contact", json!({"contacts": contacts}));
    assert_eq!((&message["attempts"], received.cards().len()), (&json!(1), 5));
    for (place, card) in received.cards().into_iter().enumerate() {
        let vcard = card.vcard.as_deref().expect("a card");
        assert!((0..5).all(|n| vcard.contains(&format!("waid={0}:+{0}", number(place * 5 + n)))), "{vcard}");
    }
}

#[test]
fn every_kind_quotes_and_keeps_its_options() {
    let stage = Stage::linked();
    let kinds = [
        ("text", json!({"content": "Rua A, 1"})),
        ("location", json!({"latitude": 1.5, "longitude": 2.5})),
        ("contact", json!({"name": "Maria", "phone": TYPED})),
        ("contact", several_contacts()),
    ];
    let own = format!("{OWNER}@s.whatsapp.net");
    let mut target = send(&stage, "text", json!({"content": "Qual o endereco?"}));
    assert!(target.1.quote().is_none());
    // Each message quotes the message before, which is scheduled, too.
    let send_at = soon();
    let mut quoted = target.0["id"].clone();
    let accepted = kinds.map(|(kind, mut fields)| {
        fields["replyTo"] = quoted.clone();
        fields["reference"] = "pedido-4711".into();
        fields["ttlSeconds"] = 3_600.into();
        fields["sendAt"] = send_at.clone().into();
        let id = accept(&stage, kind, fields);
        quoted = id.clone().into();
        id
    });
    for id in accepted {
        let (message, received) = shown(&stage, &id);
        assert_sent_in_time(&message, 3_600);
        let quote = received.quote().expect("a quote");
        assert_eq!((quote.id, quote.from), (&*target.1.id, &*own));
        // The message of the target, without the quote of the target.
        let body = Received { message: quote.message.expect("a body").clone(), ..target.1.clone() };
        assert_eq!((body.text(), body.location()), (target.1.text(), target.1.location()));
        assert_eq!((body.vcard(), body.cards().len()), (target.1.vcard(), target.1.cards().len()));
        assert!(body.quote().is_none(), "{body:?}");
        assert_eq!((&message["replyTo"], &message["reference"]), (&target.0["id"], &json!("pedido-4711")), "{message}");
        target = (message, received);
    }
}

#[test]
fn a_quote_of_a_message_that_was_not_sent_fails() {
    let stage = Stage::linked();
    super::sending::refuse(&stage, 479, 1, &[]);
    let refused = accept(&stage, "text", json!({"content": "recusada"}));
    let quote = accept(&stage, "location", json!({"latitude": 1, "longitude": 2, "replyTo": refused}));
    stage.until("vendas", &refused, "FAILED");
    let message = stage.until("vendas", &quote, "FAILED");
    let error = json!({"code": "TARGET_NOT_SENT", "message": "A mensagem citada nao foi enviada."});
    assert_eq!((&message["error"], &message["attempts"]), (&error, &json!(1)), "{message}");
    assert!(stage.whatsapp.inbox().is_empty());
    // The channel continues.
    let next = stage.accept("vendas", JOAO);
    stage.until("vendas", &next, "READ");
    wait_for("nothing else", || stage.whatsapp.inbox().len() == 1);
}
