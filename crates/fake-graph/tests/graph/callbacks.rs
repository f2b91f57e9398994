//! What the network tells of a message afterwards.

use std::net::TcpListener;
use std::time::Duration;

use fake_graph::{Behaviour, Callback, GraphError, Number, Signed, Status, signature};
use serde_json::{Value, json};

use crate::harness::{NUMBER, Sink, TO, Taken, graph, send, wait_for, wait_for_callbacks};

/// Sends one message whose callbacks are these, and gives the callbacks as they came.
fn callbacks_of<C: Into<Callback> + Clone + Send + 'static>(callbacks: Vec<C>) -> Vec<Taken> {
    let (graph, sink) = (graph(), Sink::start());
    graph.send_callbacks_to(Some(sink.url.clone()));
    graph.behave(move |_| Behaviour::accept().calling_back(callbacks.clone()));
    assert_eq!(send(&graph).expect("an answer").0, 200);
    wait_for_callbacks(&graph);
    sink.taken()
}

fn names(taken: &[Taken]) -> Vec<String> {
    taken.iter().map(Taken::names).collect()
}

#[test]
fn a_message_is_sent_delivered_and_read_unless_told_otherwise() {
    let (graph, sink) = (graph(), Sink::start());
    graph.send_callbacks_to(Some(sink.url.clone()));
    assert_eq!(send(&graph).expect("an answer").0, 200);
    wait_for_callbacks(&graph);
    assert_eq!(sink.names(), ["sent", "delivered", "read"]);
    assert_eq!(graph.callbacks_taken(), 3);

    let mut body = sink.taken()[2].json();
    let status = &mut body["entry"][0]["changes"][0]["value"]["statuses"][0];
    let time = status["timestamp"].take();
    assert!(time.as_str().and_then(|text| text.parse::<u64>().ok()).is_some_and(|time| time > 1_700_000_000), "{time}");
    let value = json!({
        "messaging_product": "whatsapp",
        "metadata": { "display_phone_number": "+55 11 4000-0000", "phone_number_id": NUMBER },
        "statuses": [{
            "id": graph.attempts()[0].wamid,
            "status": "read",
            "timestamp": null,
            "recipient_id": TO,
            "biz_opaque_callback_data": "msg_1",
        }],
    });
    let entry = json!([{ "id": "102290129340398", "changes": [{ "value": value, "field": "messages" }] }]);
    assert_eq!(body, json!({ "object": "whatsapp_business_account", "entry": entry }));
}

#[test]
fn they_come_in_the_order_given_together_or_repeated() {
    let taken = callbacks_of(vec![Status::Read.into(), Callback::of([Status::Delivered, Status::Sent]).times(2)]);
    assert_eq!(names(&taken), ["read", "delivered+sent", "delivered+sent"]);
    assert_eq!(taken[1].body, taken[2].body);
    assert_eq!(callbacks_of(Vec::<Status>::new()).len(), 0);
}

#[test]
fn they_come_when_they_are_told_to() {
    let rest = Duration::from_millis(200);
    let taken = callbacks_of(vec![Callback::from(Status::Sent), Callback::from(Status::Read).after(rest)]);
    assert!(taken[1].at - taken[0].at >= rest);
}

#[test]
fn a_failure_has_its_reasons() {
    let error = GraphError::new(400, 131_026, "Message undeliverable").details("The number is not on WhatsApp");
    let taken = callbacks_of(vec![Status::Failed(vec![error])]);
    assert_eq!(names(&taken), ["failed"]);
    let error = &taken[0].statuses()[0]["errors"][0];
    assert_eq!(error["code"], 131_026);
    assert_eq!(error["title"], "Message undeliverable");
    assert_eq!(error["error_data"], json!({ "details": "The number is not on WhatsApp" }));
}

#[test]
fn they_can_lack_the_opaque_id() {
    let taken = callbacks_of(vec![Status::Sent.into(), Callback::from(Status::Read).without_opaque_id()]);
    let ids: Vec<_> = taken.iter().map(|one| one.statuses()[0]["biz_opaque_callback_data"].clone()).collect();
    assert_eq!(ids, [json!("msg_1"), Value::Null]);
}

#[test]
fn they_are_signed_rightly_wrongly_or_not_at_all() {
    let secret = Number::example(NUMBER).app_secret.expect("an app secret");
    let (graph, sink) = (graph(), Sink::start());
    sink.answer([401, 403]);
    graph.send_callbacks_to(Some(sink.url.clone()));
    let [wrong, none] = [Signed::Wrongly, Signed::Not].map(|signed| Callback::from(Status::Read).signed(signed));
    graph.behave(move |_| Behaviour::accept().calling_back([wrong.clone(), none.clone(), Status::Sent.into()]));
    assert_eq!(send(&graph).expect("an answer").0, 200);
    wait_for_callbacks(&graph);

    let taken = sink.taken();
    assert_eq!(names(&taken), ["read", "read", "sent"], "what was not signed rightly is not repeated");
    let forged = taken[0].signature.as_deref().expect("a signature");
    assert_eq!(forged.len(), "sha256=".len() + 64);
    assert_ne!(forged, signature(&secret, &taken[0].body));
    assert_eq!(taken[1].signature, None);
    assert_eq!(taken[2].signature, Some(signature(&secret, &taken[2].body)));
    let refused: Vec<_> = graph.refused_callbacks().iter().map(|refused| refused.status).collect();
    assert_eq!(refused, [401, 403]);
    assert_eq!(graph.callbacks_taken(), 1);
}

#[test]
fn a_number_without_an_app_secret_does_not_sign() {
    let (graph, sink) = (graph(), Sink::start());
    graph.add_number(Number { app_secret: None, ..Number::example(NUMBER) });
    graph.send_callbacks_to(Some(sink.url.clone()));
    assert_eq!(send(&graph).expect("an answer").0, 200);
    wait_for_callbacks(&graph);
    assert!(sink.taken().iter().all(|taken| taken.signature.is_none()));
}

#[test]
fn what_was_not_taken_comes_again_byte_for_byte() {
    let (graph, sink) = (graph(), Sink::start());
    sink.answer([500, 503, 202, 401]);
    graph.send_callbacks_to(Some(sink.url.clone()));
    graph.behave(|_| Behaviour::accept().calling_back([Status::Sent, Status::Read]));
    assert_eq!(send(&graph).expect("an answer").0, 200);
    let taken = sink.wait(1);
    assert_eq!(graph.callbacks_waiting(), 2);
    wait_for_callbacks(&graph);
    assert_eq!(sink.names(), ["sent", "sent", "sent", "sent", "sent", "read"]);
    assert!(sink.taken()[..5].iter().all(|again| again.body == taken[0].body && again.signature == taken[0].signature));
    assert_eq!(graph.callbacks_taken(), 2);
}

#[test]
fn they_wait_for_a_gateway_that_is_away() {
    let graph = graph();
    assert_eq!(send(&graph).expect("an answer").0, 200);
    assert_eq!(graph.callbacks_waiting(), 3);
    // Bound to learn a port, and closed again: refused.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    graph.send_callbacks_to(Some(format!("http://{}/webhook", listener.local_addr().expect("an address"))));
    drop(listener);
    assert_eq!(send(&graph).expect("an answer").0, 200);
    assert_eq!(graph.callbacks_waiting(), 6);
    let sink = Sink::start();
    graph.send_callbacks_to(Some(sink.url.clone()));
    wait_for_callbacks(&graph);
    assert_eq!(sink.taken().len(), 6);
    assert!(graph.refused_callbacks().is_empty());
}

#[test]
fn a_gateway_that_was_killed_gets_them_at_its_new_address() {
    let (graph, killed) = (graph(), Sink::start());
    graph.send_callbacks_to(Some(killed.url.clone()));
    killed.answer([200, 500]);
    graph.behave(|_| Behaviour::accept().calling_back([Status::Sent, Status::Delivered]));
    assert_eq!(send(&graph).expect("an answer").0, 200);
    killed.wait(2);
    drop(killed);
    let again = Sink::start();
    graph.send_callbacks_to(Some(again.url.clone()));
    wait_for_callbacks(&graph);
    // The one that was being answered when the gateway died may have been taken by it; nothing is lost.
    wait_for("the rest", || graph.callbacks_taken() == 2);
    assert!(again.names().iter().all(|name| name == "delivered"), "{:?}", again.names());
}

#[test]
fn a_test_can_tell_of_several_messages_at_once() {
    let (graph, sink) = (graph(), Sink::start());
    graph.behave(|_| Behaviour::accept().calling_back([Status::Sent; 0]));
    for _ in 0..2 {
        assert_eq!(send(&graph).expect("an answer").0, 200);
    }
    let attempts = graph.attempts();
    graph.call_back(&[(&attempts[1], Status::Read), (&attempts[0], Status::Sent)]);
    assert_eq!(graph.callbacks_waiting(), 1);
    graph.send_callbacks_to(Some(sink.url.clone()));
    wait_for_callbacks(&graph);
    assert_eq!(sink.names(), ["read+sent"]);
    let ids: Vec<_> = sink.taken()[0].statuses().iter().map(|status| status["id"].clone()).collect();
    assert_eq!(ids, [json!(attempts[1].wamid), json!(attempts[0].wamid)]);
}
