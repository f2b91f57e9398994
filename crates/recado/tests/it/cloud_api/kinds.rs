//! Every kind of message, as Meta receives it: each body is checked against Meta's own schemas.

use fake_graph::{Answer, Attempt, Behaviour, Callback, Delivery, GraphError, Person, Said, Status};
use serde_json::{Value, json};

use super::{NUMBER, Stage};
use crate::harness::wait_for;
use crate::v1::{assert_sent_in_time, soon};

const TO: &str = "5531999998888";

/// A stage whose messages stay `SENT`: the network reports nothing more about them.
fn quiet() -> Stage {
    let stage = Stage::set();
    stage.graph.behave(|_| Behaviour::accept().calling_back([] as [Status; 0]));
    stage.link("vendas", NUMBER);
    stage
}

/// Submits a message. Returns its id.
fn accept(stage: &Stage, kind: &str, mut fields: Value) -> String {
    fields["to"] = TO.into();
    let path = format!("/v1/channels/vendas/messages/{kind}");
    stage.server.post(&path, &stage.key, &fields).expect(202).header("X-Message-Id").expect("an id").to_owned()
}

/// Sends a message. Returns the body that Meta received.
#[track_caller]
fn send(stage: &Stage, kind: &str, fields: Value) -> (Value, Attempt) {
    let id = accept(stage, kind, fields);
    let message = stage.until("vendas", &id, "SENT");
    (message, attempt(stage, &id))
}

fn attempt(stage: &Stage, id: &str) -> Attempt {
    let attempts = stage.graph.attempts();
    assert!(attempts.iter().all(|attempt| attempt.faults.is_empty()), "{attempts:#?}");
    let own = attempts.into_iter().rfind(|attempt| attempt.opaque_id.as_deref() == Some(id));
    own.expect("it was sent")
}

fn two_contacts() -> Value {
    json!({"contacts": [
        {
            "name": "Maria Silva", "firstName": "Maria", "lastName": "Silva", "organization": "Exemplo Ltda",
            "department": "Suporte", "title": "Gerente",
            "phones": [{"phone": "5511988887777"}, {"phone": "551140000000", "type": "WORK"}],
            "emails": [{"email": "maria@exemplo.com.br", "type": "HOME"}, {"email": "m@exemplo.com.br", "type": "CELL"}],
            "urls": [{"url": "https://exemplo.com.br"}], "birthday": "1990-08-18",
            "addresses": [{
                "street": "Rua A, 1", "city": "Sao Paulo", "state": "SP", "zip": "01000-000", "country": "Brasil",
                "countryCode": "BR", "type": "HOME",
            }],
        },
        // The recipient's own number: its account is known after the first message to it.
        {"name": "Joao", "phones": [{"phone": TO}]},
    ]})
}

#[test]
fn a_text_is_sent_with_its_lines() {
    let stage = quiet();
    let (message, attempt) = send(&stage, "text", json!({"content": "Ola,\n\"tudo\" bem? 🎉"}));
    assert_eq!(attempt.body["type"], "text");
    assert_eq!(attempt.body["text"], json!({"body": "Ola,\n\"tudo\" bem? 🎉", "preview_url": false}));
    assert_eq!((&message["type"], &message["content"]), (&json!("text"), &json!("Ola,\n\"tudo\" bem? 🎉")));
}

#[test]
fn a_location_is_sent_with_degrees_as_texts() {
    let stage = quiet();
    let place = json!({"latitude": -23.541_81, "longitude": -46.629_28, "name": "Mercado", "address": "Rua A, 306"});
    let (_, full) = send(&stage, "location", place);
    let expected =
        json!({"latitude": "-23.54181", "longitude": "-46.62928", "name": "Mercado", "address": "Rua A, 306"});
    assert_eq!((&full.body["type"], &full.body["location"]), (&json!("location"), &expected));
    let (_, least) = send(&stage, "location", json!({"latitude": 90, "longitude": 0.000_000_1}));
    assert_eq!(least.body["location"], json!({"latitude": "90", "longitude": "0.0000001"}));
}

#[test]
fn several_contacts_are_sent_in_one_message() {
    let stage = quiet();
    send(&stage, "text", json!({"content": "oi"}));
    let (message, attempt) = send(&stage, "contact", two_contacts());
    let expected = json!([
        {
            "name": {"formatted_name": "Maria Silva", "first_name": "Maria", "last_name": "Silva"},
            "phones": [{"phone": "+5511988887777"}, {"phone": "+551140000000", "type": "WORK"}],
            "emails": [{"email": "maria@exemplo.com.br", "type": "HOME"}, {"email": "m@exemplo.com.br"}],
            "org": {"company": "Exemplo Ltda", "department": "Suporte", "title": "Gerente"},
            "urls": [{"url": "https://exemplo.com.br", "type": "WORK"}],
            "birthday": "1990-08-18",
            "addresses": [{
                "street": "Rua A, 1", "city": "Sao Paulo", "state": "SP", "zip": "01000-000", "country": "Brasil",
                "country_code": "BR", "type": "HOME",
            }],
        },
        {
            "name": {"formatted_name": "Joao", "first_name": "Joao"},
            "phones": [{"phone": format!("+{TO}"), "wa_id": "553199998888"}],
        },
    ]);
    assert_eq!(attempt.body["contacts"], expected);
    assert!(message["contacts"].is_array(), "{message}");
    // The short form with its newer fields.
    let fields = json!({
        "name": "Maria", "phone": "5511988887777", "title": "Gerente", "department": "Suporte",
        "url": "https://exemplo.com.br", "birthday": "1990-08-18",
    });
    let (_, short) = send(&stage, "contact", fields);
    let expected = json!([{
        "name": {"formatted_name": "Maria", "first_name": "Maria"},
        "phones": [{"phone": "+5511988887777"}],
        "org": {"department": "Suporte", "title": "Gerente"},
        "urls": [{"url": "https://exemplo.com.br", "type": "WORK"}],
        "birthday": "1990-08-18",
    }]);
    assert_eq!(short.body["contacts"], expected);
}

#[test]
fn every_kind_quotes_by_metas_id_and_keeps_its_options() {
    let stage = quiet();
    let (first, target) = send(&stage, "text", json!({"content": "Qual o endereco?"}));
    let wamid = target.wamid.as_deref().expect("it was accepted");
    let kinds = [
        ("text", json!({"content": "Rua A, 1"})),
        ("location", json!({"latitude": 1, "longitude": 2})),
        ("contact", json!({"name": "Maria", "phone": "5511988887777"})),
        ("contact", two_contacts()),
    ];
    let send_at = soon();
    let accepted = kinds.map(|(kind, mut fields)| {
        fields["replyTo"] = first["id"].clone();
        fields["reference"] = "pedido-4711".into();
        fields["ttlSeconds"] = 3_600.into();
        fields["sendAt"] = send_at.clone().into();
        (kind, accept(&stage, kind, fields))
    });
    for (kind, id) in accepted {
        let message = stage.until("vendas", &id, "SENT");
        let body = attempt(&stage, &id).body;
        assert_eq!(&body["context"], &json!({"message_id": wamid}), "{kind}");
        assert_eq!((&message["replyTo"], &message["reference"]), (&first["id"], &json!("pedido-4711")), "{message}");
        assert_sent_in_time(&message, 3_600);
    }
    assert!(stage.graph.attempts()[0].body.get("context").is_none());
}

#[test]
fn what_people_wrote_is_quoted_by_metas_id() {
    let stage = Stage::linked();
    let said = Said::text("Qual o prazo?");
    let named = Said::text("Sou eu");
    let hidden = Person::with_username("BR.1502576394655843", "@ana", "Ana");
    stage.graph.deliver(NUMBER, &Delivery::new().message(&Person::with_phone("5511977776666", "Bia"), &said));
    stage.graph.deliver(NUMBER, &Delivery::new().message(&hidden, &named));
    wait_for("the acknowledgement", || stage.graph.callbacks_waiting() == 0);
    for (to, said) in [("5511977776666", &said), ("551177776666", &said), ("BR.1502576394655843", &named)] {
        let body = json!({"to": to, "content": "Amanha", "replyTo": said.id()});
        let answer = stage.server.post("/v1/channels/vendas/messages/text", &stage.key, &body).expect(202);
        let id = answer.header("X-Message-Id").expect("an id").to_owned();
        wait_for("the attempt", || !stage.graph.attempts().iter().all(|sent| sent.opaque_id.as_deref() != Some(&id)));
        assert_eq!(attempt(&stage, &id).body["context"], json!({"message_id": said.id()}), "{to}");
    }
}

/// A message behind another one of its recipient waits until that one was tried. So the target has its network id, or has
/// failed.
#[test]
fn a_quote_waits_for_its_target_and_fails_with_it() {
    let stage = quiet();
    stage.graph.behave(|attempt| {
        if attempt.body["text"]["body"] == "recusada" {
            return Behaviour::refuse(GraphError::new(400, 131_026, "(#131026) Message undeliverable"));
        }
        Behaviour::accept().after(std::time::Duration::from_millis(300)).calling_back([] as [Status; 0])
    });
    let target = accept(&stage, "text", json!({"content": "um momento"}));
    let quote = accept(&stage, "text", json!({"content": "pronto", "replyTo": target}));
    stage.until("vendas", &quote, "SENT");
    assert_eq!(attempt(&stage, &quote).body["context"]["message_id"], json!(attempt(&stage, &target).wamid));

    let refused = accept(&stage, "text", json!({"content": "recusada"}));
    let quote = accept(&stage, "text", json!({"content": "e agora?", "replyTo": refused}));
    let message = stage.until("vendas", &quote, "FAILED");
    let error = json!({"code": "TARGET_NOT_SENT", "message": "A mensagem citada nao foi enviada."});
    assert_eq!((&message["error"], &message["attempts"]), (&error, &json!(1)), "{message}");
    assert!(stage.graph.attempts().iter().all(|attempt| attempt.opaque_id.as_deref() != Some(&quote)));
}

/// The answer to the target was lost, so its network id is unknown until its callback names it.
#[test]
fn a_quote_of_an_unknown_message_waits_for_its_network_id() {
    let stage = Stage::set();
    stage.graph.behave(|attempt| match attempt.body["text"]["body"].as_str() {
        Some("perdida") => Behaviour::accept().answering(Answer::Lost).calling_back([Callback::from(Status::Sent)]),
        _ => Behaviour::accept().calling_back([] as [Status; 0]),
    });
    stage.link("vendas", NUMBER);
    let lost = accept(&stage, "text", json!({"content": "perdida"}));
    stage.until("vendas", &lost, "UNKNOWN");
    let quote = accept(&stage, "text", json!({"content": "e esta", "replyTo": lost}));
    wait_for("a first try", || stage.message("vendas", &quote)["attempts"].as_i64() >= Some(1));
    assert!(stage.graph.attempts().iter().all(|attempt| attempt.opaque_id.as_deref() != Some(&quote)));
    stage.take_callbacks();
    stage.until("vendas", &quote, "SENT");
    assert_eq!(attempt(&stage, &quote).body["context"]["message_id"], json!(attempt(&stage, &lost).wamid));
}
