//! All kinds of answers over HTTP/1.1.

use std::io::{ErrorKind, Read};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use fake_graph::{Answer, Behaviour, GraphError, Status};
use serde_json::{Value, json};

use crate::harness::{Sink, graph, raw_send, read_to_end, send, wait_for, wait_for_callbacks};

#[test]
fn an_error_has_graphs_envelope() {
    let graph = graph();
    let error = GraphError::new(429, 131_056, "(#131056) Pair rate limit hit")
        .subcode(2_494_055)
        .details("Too many messages to this recipient")
        .transient(true);
    graph.behave(move |_| Behaviour::refuse(error.clone()));
    let (status, body) = send(&graph).expect("an answer");
    let mut body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(status, 429);
    assert!(body["error"]["fbtrace_id"].take().is_string());
    let error = json!({ "error": {
        "message": "(#131056) Pair rate limit hit",
        "type": "OAuthException",
        "code": 131_056,
        "error_subcode": 2_494_055,
        "is_transient": true,
        "error_data": { "messaging_product": "whatsapp", "details": "Too many messages to this recipient" },
        "fbtrace_id": null,
    } });
    assert_eq!(body, error);
    assert_eq!(graph.accepted(), 0);
    assert_eq!(graph.attempts()[0].answered, Some(429));
    assert_eq!(graph.callbacks_waiting(), 0);
}

#[test]
fn each_send_has_its_own_behaviour() {
    let graph = graph();
    let mut sends = 0;
    graph.behave(move |attempt| {
        sends += 1;
        assert_eq!(attempt.opaque_id.as_deref(), Some("msg_1"));
        if sends == 2 { Behaviour::refuse(GraphError::new(500, 1, "Unknown")) } else { Behaviour::accept() }
    });
    assert_eq!([(); 3].map(|()| send(&graph).expect("an answer").0), [200, 500, 200]);
}

#[test]
fn an_answer_can_be_slow_and_the_message_is_accepted_all_the_same() {
    let graph = graph();
    graph.behave(|_| Behaviour::accept().after(Duration::from_millis(300)));
    let begun = Instant::now();
    let waiting = raw_send(&graph);
    wait_for("the message to be accepted", || graph.accepted() == 1);
    assert_eq!(graph.attempts()[0].answered, None);
    drop(waiting);
    assert_eq!(send(&graph).expect("an answer").0, 200);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(graph.attempts()[0].answered, None, "the client has gone");
    assert_eq!(graph.attempts()[1].answered, Some(200));
}

#[test]
fn an_answer_can_be_lost_after_the_message_was_accepted() {
    let graph = graph();
    let sink = Sink::start();
    graph.send_callbacks_to(Some(sink.url.clone()));
    graph.behave(|_| Behaviour::accept().answering(Answer::Lost));
    assert_eq!(read_to_end(raw_send(&graph)).expect("an orderly end"), b"");
    assert!(send(&graph).is_err());
    assert_eq!(graph.accepted(), 2);
    assert_eq!(graph.attempts()[0].answered, None);
    wait_for_callbacks(&graph);
    assert_eq!(sink.names().len(), 6);
}

#[test]
fn a_connection_can_be_reset_before_the_message_was_accepted() {
    let graph = graph();
    graph.behave(|_| Behaviour::refuse(Answer::Reset));
    let end = read_to_end(raw_send(&graph)).expect_err("no orderly end");
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    assert!(send(&graph).is_err());
    assert_eq!(graph.attempts().len(), 2);
    assert_eq!(graph.accepted(), 0);
    assert_eq!(graph.callbacks_waiting(), 0);
}

#[test]
fn an_answer_can_be_a_proxy_s() {
    let graph = graph();
    let page = "<html><body>Bad Gateway</body></html>";
    graph.behave(move |_| {
        Behaviour::refuse(Answer::Foreign { status: 502, content_type: "text/html", body: page.to_owned() })
    });
    assert_eq!(send(&graph).expect("an answer"), (502, page.to_owned()));
    assert_eq!(graph.accepted(), 0);

    graph.behave(|_| {
        let garbage = Answer::Foreign { status: 200, content_type: "application/json", body: "{\"messa".to_owned() };
        Behaviour::accept().answering(garbage)
    });
    assert_eq!(send(&graph).expect("an answer"), (200, "{\"messa".to_owned()));
    assert_eq!(graph.accepted(), 1);
}

#[test]
fn an_answer_can_have_no_end() {
    let graph = graph();
    graph.behave(|_| Behaviour::accept().answering(Answer::Endless { pause: Duration::ZERO }));
    let mut answer = raw_send(&graph);
    let mut read = vec![0; 20 << 20];
    answer.read_exact(&mut read).expect("20 MiB, and more to come");
    assert!(read.starts_with(b"HTTP/1.1 200 OK\r\n"));

    // The others are answered concurrently.
    graph.behave(|_| Behaviour::accept());
    assert_eq!(send(&graph).expect("an answer").0, 200);
}

#[test]
fn callbacks_can_overtake_the_answer() {
    let graph = graph();
    let sink = Sink::start();
    graph.behave(|_| Behaviour::accept().calling_back([Status::Sent, Status::Delivered]).callbacks_first());
    let (answered, answer) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| answered.send(send(&graph).expect("an answer")).expect("the test waits"));
        wait_for("the message to be accepted", || graph.accepted() == 1);
        assert!(answer.recv_timeout(Duration::from_millis(100)).is_err(), "no answer while the callbacks wait");
        graph.send_callbacks_to(Some(sink.url.clone()));
        assert_eq!(answer.recv().expect("an answer").0, 200);
        assert_eq!(sink.names(), ["sent", "delivered"]);
        assert_eq!(graph.callbacks_waiting(), 0);
    });
}
