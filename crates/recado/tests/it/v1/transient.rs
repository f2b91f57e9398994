//! Events that only open streams receive: nothing stores them, and they have no id.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use super::events::{begins_at, connect};
use crate::harness::{Server, wait_for};
use crate::v1::{ALL_SCOPES, JSON, Stage, assert_faults, create_key, every_scope, on_both_engines, simulate};

const ANA: &str = "5511977776666";
const SIMULATE: &str = "/v1/sandbox/simulate/incoming";
const ALONE: &str = "Este evento existe apenas no fluxo (text/event-stream): ";

/// A stream that has begun.
pub fn open(server: &Server, key: &str, query: &str) -> BufReader<TcpStream> {
    let mut stream = connect(server, key, query, None);
    begins_at(&mut stream);
    stream
}

/// The next event: its lines but the data, and the data. Comments are left out.
pub fn next(stream: &mut BufReader<TcpStream>) -> (Vec<String>, Value) {
    let (mut lines, mut data) = (Vec::new(), None);
    loop {
        let mut line = String::new();
        assert_ne!(stream.read_line(&mut line).expect("a line"), 0, "the stream ended");
        match (line.trim_end(), data.take()) {
            ("", Some(data)) => return (lines, data),
            ("", None) => lines.clear(),
            (line, known) if line.starts_with("data: ") => {
                assert_eq!(known, None);
                data = serde_json::from_str(&line["data: ".len()..]).expect("JSON");
            }
            (line, known) => {
                data = known;
                // The sizes of chunks stand between.
                lines.extend(line.contains(": ").then(|| line.to_owned()));
            }
        }
    }
}

fn typing(state: &str) -> Value {
    json!({"from": ANA, "name": "Ana", "type": "typing", "content": {"state": state}})
}

#[test]
fn typing_reaches_open_streams_and_is_stored_nowhere() {
    on_both_engines(|stage| {
        assert_eq!(simulate(stage, &typing("composing"))["outcome"], "IGNORED", "no stream is open");
        let mut stream = open(&stage.server, &stage.key, "events=typing.*,message.received");
        let ids = simulate(stage, &typing("composing"));
        let none = json!({"messageId": null, "networkId": null, "conversationId": null, "outcome": "STREAMED"});
        assert_eq!(ids, none);
        assert_eq!(simulate(stage, &typing("composing"))["outcome"], "IGNORED", "nothing new");
        let (lines, event) = next(&mut stream);
        assert_eq!(lines, ["event: typing.updated"], "it has no id");
        let keys: Vec<_> = event.as_object().expect("an object").keys().collect();
        assert_eq!(keys, ["event", "version", "createdAt", "environment", "channelId", "test", "data"]);
        assert_eq!((&event["channelId"], &event["environment"]), (&json!("sandbox"), &json!("test")));
        let mut sender = json!({
            "contactId": null, "phone": ANA, "userId": null, "lid": null, "username": null, "name": "Ana", "isMe": false,
        });
        let mut data = json!({
            "conversationId": null, "sender": sender, "chat": {"kind": "DIRECT", "address": ANA, "name": null},
            "state": "composing",
        });
        assert_eq!(event["data"], data);
        assert!(stage.rows("/v1/conversations").is_empty() && stage.rows("/v1/contacts").is_empty());
        // What the person writes is stored, and then the person is known.
        let text = json!({"from": ANA, "name": "Ana", "type": "text", "content": {"text": "Oi"}});
        let said = simulate(stage, &text);
        let (lines, received) = next(&mut stream);
        assert!(lines.iter().any(|line| line.starts_with("id: ")), "{lines:?}");
        sender["contactId"] = received["data"]["contact"]["id"].clone();
        assert!(sender["contactId"].is_string(), "{received}");
        simulate(stage, &typing("paused"));
        data["sender"] = sender;
        data["conversationId"] = said["conversationId"].clone();
        data["state"] = "paused".into();
        assert_eq!(next(&mut stream).1["data"], data);
        // In a group.
        let mut recording = typing("recording");
        recording["group"] = "Vendas".into();
        simulate(stage, &recording);
        let chat = next(&mut stream).1["data"]["chat"].take();
        assert_eq!((&chat["kind"], &chat["name"]), (&json!("GROUP"), &json!("Vendas")));
        // A client that resumes gets what is stored alone.
        let page = stage.get("/v1/events?from=oldest&limit=500").expect(200).json();
        let names: Vec<_> =
            page["data"].as_array().expect("events").iter().map(|event| event["event"].clone()).collect();
        assert!(names.contains(&json!("message.received")) && !names.contains(&json!("typing.updated")), "{names:?}");
        assert_eq!(stage.rows("/v1/sandbox/messages").len(), 1, "the phone shows what was written");
    });
}

#[test]
fn others_receive_nothing() {
    let stage = Stage::set();
    let mine = every_scope(&stage.home);
    let unread = create_key(&stage.home, "test", "events.read,contacts.read", "unlimited");
    let real = create_key(&stage.home, "live", ALL_SCOPES, "unlimited");
    let other = stage.home.cli(&["institutions", "create", "--name", "Another"]);
    let args = ["keys", "create", "--institution", other["id"].as_str().expect("an id"), "--name", "tests"];
    let more = ["--environment", "test", "--scopes", ALL_SCOPES, "--rate-limit", "unlimited"];
    let other = stage.home.cli(&[&args[..], &more].concat())["key"].as_str().expect("a key").to_owned();
    stage.open("outro", &["connect"]);
    let mut heard = open(&stage.server, &mine, "");
    let mut deaf = [
        (open(&stage.server, &other, ""), "another institution"),
        (open(&stage.server, &real, ""), "the other environment"),
        (open(&stage.server, &unread, ""), "without the scope"),
        (open(&stage.server, &mine, "channelId=outro"), "another channel"),
        (open(&stage.server, &mine, "chatKinds=GROUP"), "another kind of chat"),
        (open(&stage.server, &mine, "events=message.*"), "other events"),
    ];
    simulate(&stage, &typing("composing"));
    assert_eq!(next(&mut heard).1["event"], "typing.updated");
    // It has reached every stream that it was sent to by then.
    std::thread::sleep(Duration::from_millis(500));
    for (stream, whose) in &mut deaf {
        stream.get_ref().set_read_timeout(Some(Duration::from_millis(200))).expect("set");
        let mut line = String::new();
        while stream.read_line(&mut line).is_ok_and(|read| read > 0) {}
        assert!(!line.contains("typing.updated"), "{whose}: {line}");
    }
    let mut refused = connect(&stage.server, &unread, "events=typing.updated", None);
    let mut status = String::new();
    refused.read_line(&mut status).expect("a line");
    assert!(status.contains(" 403 "), "{status}");
}

#[test]
fn a_stream_that_has_ended_costs_nothing() {
    let stage = Stage::set();
    let stream = open(&stage.server, &stage.key, "");
    assert_eq!(simulate(&stage, &typing("composing"))["outcome"], "STREAMED");
    drop(stream);
    // Each time another person, so that each call says something new.
    let mut people = 0;
    wait_for("the end of the stream", || {
        people += 1;
        let mut another = typing("composing");
        another["from"] = format!("55119{:08}", 70_000_000 + people).into();
        simulate(&stage, &another)["outcome"] == "IGNORED"
    });
}

#[test]
fn only_a_stream_can_name_them() {
    let stage = Stage::set();
    let server = &stage.server;
    for pattern in ["typing.updated", "typing.*", "presence.updated"] {
        let text = format!("{ALONE}{pattern}.");
        let webhook = json!({"url": "https://hooks.example.com/", "events": ["message.*", pattern]});
        let refused = server.post("/v1/webhooks", &stage.key, &webhook);
        assert_faults("a webhook", &refused, &[("events", &text)]);
        let page = stage.get(&format!("/v1/events?events={pattern}"));
        assert_faults("a page", &page, &[("events", &text)]);
        for pattern in [pattern.to_owned(), format!("!{pattern}")] {
            let body = json!({"eventLog": ["*", pattern]}).to_string();
            let refused = server.call("PUT", "/v1/events/settings", Some(&stage.key), &[JSON], Some(body.as_bytes()));
            assert_faults("a log", &refused, &[("eventLog", &format!("{ALONE}{pattern}."))]);
        }
    }
    let refused = server.post(SIMULATE, &stage.key, &typing("thinking"));
    let text = "O campo content.state deve ser um destes: composing, recording, paused.";
    assert_faults("a state", &refused, &[("content.state", text)]);
}
