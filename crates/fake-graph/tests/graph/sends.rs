//! Sends and look-ups without failures of the network.

use fake_graph::{FakeGraph, Number};
use serde_json::{Value, json};

use crate::harness::{NUMBER, TO, call, graph, message, messages, send};

/// The parsed answer to a call with a status.
#[track_caller]
fn expect(status: u16, answer: Result<(u16, String), ureq::Error>) -> Value {
    let (got, body) = answer.expect("an answer");
    assert_eq!(got, status, "{body}");
    serde_json::from_str(&body).expect("JSON")
}

/// The status, code and subcode of a refusal.
fn refusal(graph: &FakeGraph, method: &str, path: &str, token: Option<&str>) -> (u16, Value, Value) {
    let body = (method == "POST").then(|| message(TO));
    let (status, body) = call(graph, method, path, token, body.as_ref()).expect("an answer");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    (status, body["error"]["code"].clone(), body["error"]["error_subcode"].clone())
}

fn token() -> String {
    Number::example(NUMBER).access_token
}

#[test]
fn every_send_is_a_new_message() {
    let graph = graph();
    let first = expect(200, send(&graph));
    let second = expect(200, send(&graph));
    assert_eq!(first["messaging_product"], "whatsapp");
    assert_eq!(first["contacts"], json!([{ "input": TO, "wa_id": TO }]));
    let id = |answer: &Value| answer["messages"][0]["id"].as_str().expect("an id").to_owned();
    assert!(id(&first).starts_with("wamid."));
    assert_ne!(id(&first), id(&second));

    let attempts = graph.attempts();
    assert_eq!(attempts.len(), 2);
    assert_eq!(graph.accepted(), 2);
    assert_eq!(attempts[0].wamid, Some(id(&first)));
    assert_eq!(attempts[1].wamid, Some(id(&second)));
    assert_eq!((&*attempts[0].number_id, &*attempts[0].to), (NUMBER, TO));
    assert_eq!(attempts[0].opaque_id.as_deref(), Some("msg_1"));
    assert_eq!(*attempts[0].body, message(TO));
    assert_eq!(attempts[0].answered, Some(200));
    assert!(attempts[0].at < attempts[1].at && !attempts[0].http2);
    assert!(graph.invalid_bodies().is_empty());
}

#[test]
fn two_networks_never_give_the_same_id() {
    let ids = [graph(), graph()].map(|graph| expect(200, send(&graph))["messages"][0]["id"].clone());
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn an_account_can_differ_from_the_number() {
    let graph = graph();
    let body = message("5531999998888");
    let answer = expect(200, call(&graph, "POST", &messages(NUMBER), Some(&token()), Some(&body)));
    assert_eq!(answer["contacts"], json!([{ "input": "5531999998888", "wa_id": "553199998888" }]));
}

#[test]
fn a_token_opens_its_number_and_no_other() {
    let graph = graph();
    graph.add_number(Number::example("7"));
    let number = format!("/v23.0/{NUMBER}");
    for (method, path) in [("POST", messages(NUMBER)), ("GET", number)] {
        let token_error = (401, json!(190), Value::Null);
        assert_eq!(refusal(&graph, method, &path, None), token_error);
        assert_eq!(refusal(&graph, method, &path, Some("wrong")), token_error);
        let others = Number::example("7").access_token;
        assert_eq!(refusal(&graph, method, &path, Some(&others)), (400, json!(100), json!(33)));
    }
    assert_eq!(refusal(&graph, "POST", &messages("8"), Some(&token())), (400, json!(100), json!(33)));
    assert_eq!(refusal(&graph, "GET", "/v23.0/8", Some(&token())), (400, json!(100), json!(33)));

    expect(200, send(&graph));
    graph.set_access_token(NUMBER, "another");
    assert_eq!(refusal(&graph, "POST", &messages(NUMBER), Some(&token())).1, 190);
    expect(200, call(&graph, "POST", &messages(NUMBER), Some("another"), Some(&message(TO))));
    assert_eq!(graph.attempts().len(), 7, "refused sends are recorded too");
    assert_eq!(graph.accepted(), 2);
}

#[test]
fn unknown_objects_of_graph_are_refused() {
    let graph = graph();
    for path in ["/", "/v23.0", "/v23/1/messages", "/23.0/1/messages", "/v23.0/1/messages/2", "/v23.0/1/media"] {
        assert_eq!(refusal(&graph, "POST", path, Some(&token())), (400, json!(2500), Value::Null), "{path}");
    }
    for (method, path) in [("DELETE", format!("/v23.0/{NUMBER}")), ("GET", messages(NUMBER))] {
        assert_eq!(refusal(&graph, method, &path, Some(&token())), (400, json!(100), json!(33)), "{path}");
    }
    assert!(graph.attempts().is_empty());
}

#[test]
fn a_body_that_meta_would_refuse_is_refused_and_recorded() {
    let graph = graph();
    graph.behave(|_| panic!("`behave` is not called for an invalid body"));
    let mut body = message(TO);
    body["contacts"][0]["phones"][0]["type"] = json!("CELL");
    let answer = expect(400, call(&graph, "POST", &messages(NUMBER), Some(&token()), Some(&body)));
    assert_eq!(answer["error"]["code"], 131_009);
    let details = answer["error"]["error_data"]["details"].as_str().expect("details");
    assert!(details.contains("phones/0/type"), "{details}");

    let url = format!("{}{}", graph.url(), messages(NUMBER));
    for (content_type, body) in [("application/json", "no json"), ("text/plain", &message(TO).to_string())] {
        let request = ureq::post(&url).config().http_status_as_error(false).build();
        let request = request.header("Authorization", format!("Bearer {}", token())).content_type(content_type);
        assert_eq!(request.send(body).expect("an answer").status(), 400);
    }
    let invalid = graph.invalid_bodies();
    assert_eq!(invalid.len(), 3);
    assert_eq!(*invalid[1].body, "no json");
    assert_eq!(invalid[2].faults, ["Content-Type: must be application/json"]);
    assert_eq!(graph.accepted(), 0);
}

#[test]
fn a_number_is_checked_before_it_is_linked() {
    let graph = graph();
    let show = |query: &str| call(&graph, "GET", &format!("/v23.0/{NUMBER}{query}"), Some(&token()), None);
    let all = json!({
        "display_phone_number": "+55 11 4000-0000", "verified_name": "Recado", "quality_rating": "GREEN", "id": NUMBER,
    });
    assert_eq!(expect(200, show("")), all);
    assert_eq!(expect(200, show("?fields=id,display_phone_number,verified_name,quality_rating")), all);
    let some = json!({ "verified_name": "Recado", "name_status": "APPROVED", "id": NUMBER });
    assert_eq!(expect(200, show("?fields=verified_name%2Cname_status")), some);
    assert_eq!(expect(400, show("?fields=shoe_size"))["error"]["code"], 100);
}
