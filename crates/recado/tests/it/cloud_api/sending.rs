//! The way of a card: the request to Meta, and the callbacks.

use std::time::Duration;

use fake_graph::{Behaviour, FakeGraph, Number, Status};
use serde_json::{Value, json};

use super::{NUMBER, Stage, credentials};
use crate::harness::wait_for;
use crate::v1::JSON;

#[test]
fn a_card_is_sent_delivered_and_read() {
    let stage = Stage::linked();
    stage.graph.behave(|_| Behaviour::accept().calling_back([Status::Sent, Status::Delivered, Status::Read]));
    let id = stage.accept("vendas", "5531999998888");
    let message = stage.until("vendas", &id, "READ");
    let attempts = stage.graph.attempts();
    assert_eq!(attempts.len(), 1);
    assert!(attempts[0].faults.is_empty(), "{:?}", attempts[0].faults);
    assert_eq!(attempts[0].opaque_id.as_deref(), Some(&*id));
    assert_eq!(message["account"], "553199998888", "as Meta names the recipient");
    assert_eq!(message["networkId"], json!(attempts[0].wamid));
    assert_eq!(message["attempts"], 1);
    for time in ["queuedAt", "sendingAt", "sentAt", "deliveredAt", "readAt"] {
        assert!(message[time].is_string(), "{time}: {message}");
    }
}

#[test]
fn a_person_without_a_number_is_reached_by_the_user_id() {
    let stage = Stage::linked();
    stage.graph.behave(|_| Behaviour::accept().calling_back([Status::Sent, Status::Delivered, Status::Read]));
    let id = stage.accept("vendas", "BR.1502576394655843");
    let message = stage.until("vendas", &id, "READ");
    let attempts = stage.graph.attempts();
    assert_eq!((attempts.len(), &attempts[0].faults), (1, &Vec::new()));
    assert_eq!(attempts[0].body["recipient"], "BR.1502576394655843");
    assert!(attempts[0].body.get("to").is_none(), "Meta drops a user id there");
    assert_eq!((&message["to"], &message["account"]), (&json!("BR.1502576394655843"), &Value::Null));
    for to in ["103899771998284@lid", "120363041234567890@g.us"] {
        let body = json!({"to": to, "content": "x"});
        let refused = stage.server.post("/v1/channels/vendas/messages/text", &stage.key, &body).expect(422).json();
        assert_eq!(
            (&refused["code"], &refused["errors"][0]["field"]),
            (&json!("NOT_SUPPORTED_BY_CHANNEL"), &json!("to"))
        );
    }
}

/// The account of a number is known once a card was sent to it.
#[test]
fn a_known_account_is_sent_with_a_card() {
    let stage = Stage::set();
    stage.link("vendas", NUMBER);
    let to = |stage: &Stage, to: &str, phone: &str| {
        let body = json!({"to": to, "name": "Maria", "phone": phone});
        let answer = stage.server.post("/v1/channels/vendas/messages/contact", &stage.key, &body).expect(202);
        let id = answer.header("X-Message-Id").expect("an id").to_owned();
        stage.until("vendas", &id, "SENT")
    };
    let unknown = to(&stage, "5531999998888", "5531977776666");
    assert_eq!(unknown["card"], json!({"waid": "5531977776666", "source": "TYPED"}));
    let known = to(&stage, "5531955554444", "5531999998888");
    assert_eq!(known["card"], json!({"waid": "553199998888", "source": "NETWORK"}));
    let attempts = stage.graph.attempts();
    let phone = |n: usize| &attempts[n].body["contacts"][0]["phones"][0];
    assert_eq!(phone(0), &json!({"phone": "+5531977776666"}));
    assert_eq!(phone(1), &json!({"phone": "+5531999998888", "wa_id": "553199998888"}));
}

/// Over TLS there is one HTTP/2 connection, which the sends of all channels share. The first send is alone: several sends
/// that find no connection may open one each, because only the handshake shows that a connection can be shared.
#[test]
fn https_is_http2_on_one_connection() {
    let stage = Stage::with(FakeGraph::start_with_tls());
    stage.link("vendas", NUMBER);
    let first = stage.accept("vendas", "5511988880000");
    stage.until("vendas", &first, "SENT");
    let ids: Vec<_> = (0..40).map(|n| stage.accept("vendas", &format!("55119{n:08}"))).collect();
    ids.iter().for_each(|id| drop(stage.until("vendas", id, "SENT")));
    let attempts = stage.graph.attempts();
    assert!(attempts.iter().all(|attempt| attempt.http2));
    let connections: std::collections::HashSet<_> = attempts.iter().map(|attempt| attempt.connection).collect();
    assert_eq!(connections.len(), 1, "{connections:?}");
}

/// A server without such channels needs no certificates. A server with one reports the missing certificates, and loses
/// nothing.
#[test]
fn a_system_without_certificates_serves_all_the_same() {
    let graph = FakeGraph::start_with_tls();
    let stage = Stage::with(graph);
    stage.link("vendas", NUMBER);
    let Stage { home, server, graph, key } = stage;
    server.kill();
    let mut command = super::command(&home, &graph);
    command.env("SSL_CERT_FILE", "/nonexistent").env("SSL_CERT_DIR", "/nonexistent");
    command.args(["serve", "--data-dir", home.dir(), "--listen", "127.0.0.1:0"]);
    let server = crate::harness::Server::start(command, &home);
    let stage = Stage { home, server, graph, key };
    let id = stage.accept("vendas", "5511999998888");
    wait_for("the log event", || stage.server.log().contains("no CA certificates"));
    stage.until("vendas", &id, "QUEUED");
    stage.connect("vendas", &credentials(NUMBER)).expect(503);
    let stage = stage.crash();
    stage.until("vendas", &id, "READ");
}

/// The connection of a number among so many connections.
fn connection_of(number: &str, connections: usize) -> usize {
    number.bytes().fold(0, |place, digit| place * 31 % 997 + usize::from(digit)) % connections
}

/// Two numbers have slow answers, and more sends in flight than a connection holds. A third number shares their connection:
/// it is not delayed, and a wait without an error is no attempt.
#[test]
fn slow_numbers_delay_no_other() {
    let stage = Stage::set();
    stage.graph.behave(|attempt| {
        let slow = if attempt.number_id == NUMBER { Duration::ZERO } else { Duration::from_secs(25) };
        Behaviour::accept().after(slow).calling_back([] as [Status; 0])
    });
    stage.link("vendas", NUMBER);
    let beside = |number: &String| connection_of(number, 32) == connection_of(NUMBER, 32);
    let slow: Vec<_> = (1..).map(|number: u32| number.to_string()).filter(beside).take(2).collect();
    for number in &slow {
        stage.graph.add_number(Number::example(number));
        let channel = format!("lento-{number}");
        stage.link(&channel, number);
        let body = json!({"settings": {"pipeline": 256}});
        stage
            .server
            .call(
                "PUT",
                &format!("/v1/channels/{channel}"),
                Some(&stage.key),
                &[JSON],
                Some(body.to_string().as_bytes()),
            )
            .expect(200);
        (0..150).for_each(|n| drop(stage.accept(&channel, &format!("55119{n:08}"))));
    }
    wait_for("a full connection", || stage.graph.attempts().len() >= 100);
    let id = stage.accept("vendas", "5531999998888");
    let message = stage.until("vendas", &id, "SENT");
    assert_eq!(message["attempts"], 1, "{message}");
    let of = |number: &str| stage.graph.attempts().iter().filter(|attempt| attempt.number_id == number).count();
    wait_for("both slow ones to have what one may", || slow.iter().all(|number| of(number) == 100));
}
