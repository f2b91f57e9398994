//! The callbacks of a message.

use std::net::TcpListener;
use std::time::Duration;

use fake_graph::{Behaviour, Callback, GraphError, Number, Signed, Status, signature};
use serde_json::{Value, json};

use crate::harness::{NUMBER, ReceivedCallback, Sink, TO, graph, send, wait_for, wait_for_callbacks};

/// Sends one message with these callbacks, and returns the received callbacks.
fn callbacks_of<C: Into<Callback> + Clone + Send + 'static>(callbacks: Vec<C>) -> Vec<ReceivedCallback> {
    let (graph, sink) = (graph(), Sink::start());
    graph.send_callbacks_to(Some(sink.url.clone()));
    graph.behave(move |_| Behaviour::accept().calling_back(callbacks.clone()));
    assert_eq!(send(&graph).expect("an answer").0, 200);
    wait_for_callbacks(&graph);
    sink.received()
}

fn names(received: &[ReceivedCallback]) -> Vec<String> {
    received.iter().map(ReceivedCallback::names).collect()
}

#[test]
fn a_message_is_sent_delivered_and_read_by_default() {
    let (graph, sink) = (graph(), Sink::start());
    graph.send_callbacks_to(Some(sink.url.clone()));
    assert_eq!(send(&graph).expect("an answer").0, 200);
    wait_for_callbacks(&graph);
    assert_eq!(sink.names(), ["sent", "delivered", "read"]);
    assert_eq!(graph.callbacks_acknowledged(), 3);

    let mut body = sink.received()[2].json();
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
fn callbacks_come_in_the_given_order_together_or_repeated() {
    let received = callbacks_of(vec![Status::Read.into(), Callback::of([Status::Delivered, Status::Sent]).times(2)]);
    assert_eq!(names(&received), ["read", "delivered+sent", "delivered+sent"]);
    assert_eq!(received[1].body, received[2].body);
    assert_eq!(callbacks_of(Vec::<Status>::new()).len(), 0);
}

#[test]
fn callbacks_come_at_the_given_time() {
    let rest = Duration::from_millis(200);
    let received = callbacks_of(vec![Callback::from(Status::Sent), Callback::from(Status::Read).after(rest)]);
    assert!(received[1].at - received[0].at >= rest);
}

#[test]
fn a_failure_has_its_reasons() {
    let error = GraphError::new(400, 131_026, "Message undeliverable").details("The number is not on WhatsApp");
    let received = callbacks_of(vec![Status::Failed(vec![error])]);
    assert_eq!(names(&received), ["failed"]);
    let error = &received[0].statuses()[0]["errors"][0];
    assert_eq!(error["code"], 131_026);
    assert_eq!(error["title"], "Message undeliverable");
    assert_eq!(error["error_data"], json!({ "details": "The number is not on WhatsApp" }));
}

#[test]
fn callbacks_can_lack_the_opaque_id() {
    let received = callbacks_of(vec![Status::Sent.into(), Callback::from(Status::Read).without_opaque_id()]);
    let ids: Vec<_> = received.iter().map(|one| one.statuses()[0]["biz_opaque_callback_data"].clone()).collect();
    assert_eq!(ids, [json!("msg_1"), Value::Null]);
}

#[test]
fn callbacks_can_be_signed_correctly_wrongly_or_not_at_all() {
    let secret = Number::example(NUMBER).app_secret.expect("an app secret");
    let (graph, sink) = (graph(), Sink::start());
    sink.answer([401, 403]);
    graph.send_callbacks_to(Some(sink.url.clone()));
    let [wrong, none] = [Signed::Wrongly, Signed::Not].map(|signed| Callback::from(Status::Read).signed(signed));
    graph.behave(move |_| Behaviour::accept().calling_back([wrong.clone(), none.clone(), Status::Sent.into()]));
    assert_eq!(send(&graph).expect("an answer").0, 200);
    wait_for_callbacks(&graph);

    let received = sink.received();
    assert_eq!(names(&received), ["read", "read", "sent"], "a callback with a wrong signature is not repeated");
    let forged = received[0].signature.as_deref().expect("a signature");
    assert_eq!(forged.len(), "sha256=".len() + 64);
    assert_ne!(forged, signature(&secret, &received[0].body));
    assert_eq!(received[1].signature, None);
    assert_eq!(received[2].signature, Some(signature(&secret, &received[2].body)));
    let refused: Vec<_> = graph.refused_callbacks().iter().map(|refused| refused.status).collect();
    assert_eq!(refused, [401, 403]);
    assert_eq!(graph.callbacks_acknowledged(), 1);
}

#[test]
fn a_number_without_an_app_secret_does_not_sign() {
    let (graph, sink) = (graph(), Sink::start());
    graph.add_number(Number { app_secret: None, ..Number::example(NUMBER) });
    graph.send_callbacks_to(Some(sink.url.clone()));
    assert_eq!(send(&graph).expect("an answer").0, 200);
    wait_for_callbacks(&graph);
    assert!(sink.received().iter().all(|received| received.signature.is_none()));
}

#[test]
fn an_unacknowledged_callback_is_repeated_byte_for_byte() {
    let (graph, sink) = (graph(), Sink::start());
    sink.answer([500, 503, 202, 401]);
    graph.send_callbacks_to(Some(sink.url.clone()));
    graph.behave(|_| Behaviour::accept().calling_back([Status::Sent, Status::Read]));
    assert_eq!(send(&graph).expect("an answer").0, 200);
    let received = sink.wait(1);
    assert_eq!(graph.callbacks_waiting(), 2);
    wait_for_callbacks(&graph);
    assert_eq!(sink.names(), ["sent", "sent", "sent", "sent", "sent", "read"]);
    assert!(
        sink.received()[..5]
            .iter()
            .all(|again| again.body == received[0].body && again.signature == received[0].signature)
    );
    assert_eq!(graph.callbacks_acknowledged(), 2);
}

#[test]
fn callbacks_wait_for_an_unavailable_gateway() {
    let graph = graph();
    assert_eq!(send(&graph).expect("an answer").0, 200);
    assert_eq!(graph.callbacks_waiting(), 3);
    // Bound to reserve a port, and closed again, so that connections are refused.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    graph.send_callbacks_to(Some(format!("http://{}/webhook", listener.local_addr().expect("an address"))));
    drop(listener);
    assert_eq!(send(&graph).expect("an answer").0, 200);
    assert_eq!(graph.callbacks_waiting(), 6);
    let sink = Sink::start();
    graph.send_callbacks_to(Some(sink.url.clone()));
    wait_for_callbacks(&graph);
    assert_eq!(sink.received().len(), 6);
    assert!(graph.refused_callbacks().is_empty());
}

#[test]
fn a_killed_gateway_gets_callbacks_at_its_new_address() {
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
    // The killed gateway may have accepted the callback that it was answering. None is lost.
    wait_for("the rest", || graph.callbacks_acknowledged() == 2);
    assert!(again.names().iter().all(|name| name == "delivered"), "{:?}", again.names());
}

#[test]
fn a_callback_can_contain_several_messages() {
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
    let ids: Vec<_> = sink.received()[0].statuses().iter().map(|status| status["id"].clone()).collect();
    assert_eq!(ids, [json!(attempts[1].wamid), json!(attempts[0].wamid)]);
}
