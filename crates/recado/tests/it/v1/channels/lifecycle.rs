//! `/v1/channels/{channelId}`, its `connect`, `disconnect`, `pause` and `resume`: which calls each state accepts.

use serde_json::{Value, json};

use crate::harness::{Answer, wait_for};
use crate::v1::{CARD, NO_CHANNEL, NOT_CONNECTED, Stage, assert_refused, card, create_key, location, millis};

/// A step, or its refusal.
fn step(stage: &Stage, channel: &str, step: &str) -> Answer {
    stage.server.call("POST", &format!("/v1/channels/{channel}/{step}"), Some(&stage.key), &[], None)
}

fn state(stage: &Stage, channel: &str) -> Value {
    stage.data(&format!("/v1/channels/{channel}"))["state"].clone()
}

#[test]
fn steps_lead_from_state_to_state() {
    let stage = Stage::set();
    // From a state, by a step, to a state; `None` where it is refused.
    let moves = [
        (&[][..], "CREATED", [("disconnect", None), ("pause", None), ("resume", None), ("connect", Some("CONNECTED"))]),
        (
            &["connect"],
            "CONNECTED",
            [
                ("connect", Some("CONNECTED")),
                ("resume", Some("CONNECTED")),
                ("disconnect", Some("DISCONNECTED")),
                ("pause", Some("PAUSED")),
            ],
        ),
        (
            &["connect", "pause"],
            "PAUSED",
            [
                ("pause", Some("PAUSED")),
                ("resume", Some("CONNECTED")),
                ("connect", Some("CONNECTED")),
                ("disconnect", Some("DISCONNECTED")),
            ],
        ),
        (
            &["connect", "disconnect"],
            "DISCONNECTED",
            [
                ("disconnect", Some("DISCONNECTED")),
                ("resume", None),
                ("connect", Some("CONNECTED")),
                ("pause", Some("PAUSED")),
            ],
        ),
    ];
    for (path, from, steps) in moves {
        for (action, to) in steps {
            let channel = format!("{from}-{action}");
            stage.open(&channel, path);
            assert_eq!(state(&stage, &channel), from, "{channel}");
            let answer = step(&stage, &channel, action);
            match to {
                Some(to) => assert_eq!(answer.expect(200).json()["data"]["state"], to, "{channel}"),
                None => assert_refused(&channel, &answer, NOT_CONNECTED),
            }
            assert_eq!(state(&stage, &channel), to.unwrap_or(from), "{channel}");
        }
    }
    for action in ["connect", "disconnect", "pause", "resume"] {
        assert_refused(action, &step(&stage, "nowhere", action), NO_CHANNEL);
    }
}

#[test]
fn each_state_accepts_and_holds_as_listed() {
    let stage = Stage::set();
    stage.open("created", &[]);
    assert_refused("CREATED", &stage.send("created", &[], CARD), NOT_CONNECTED);
    assert_eq!(stage.data("/v1/channels/created")["accepts"], false);
    for (channel, steps, end) in
        [("paused", ["connect", "pause"], "resume"), ("disconnected", ["connect", "disconnect"], "connect")]
    {
        stage.open(channel, &steps);
        let shown = stage.data(&format!("/v1/channels/{channel}"));
        assert_eq!((&shown["accepts"], shown["connectedAt"].is_string()), (&json!(true), true), "{channel}");
        let to = if channel == "paused" { "5511999996301" } else { "5511999996302" };
        let held: Vec<_> = (0..3).map(|number| stage.accept(channel, &[], &card(to, &number.to_string()))).collect();
        // A card on another channel comes and is read meanwhile: there was time to send these as well.
        stage.until(&stage.accept("sandbox", &[], CARD), "READ");
        for location in &held {
            let message = stage.data(location);
            assert_eq!((&message["status"], &message["attempts"]), (&json!("QUEUED"), &json!(0)), "{channel}");
        }
        let released = millis(&stage.until(&stage.accept("sandbox", &[], CARD), "READ"), "queuedAt");
        stage.act(channel, end);
        let sent: Vec<_> = held.iter().map(|location| millis(&stage.until(location, "READ"), "sendingAt")).collect();
        assert!(sent[0] >= released && sent.is_sorted(), "{channel}: {sent:?}");
        assert_eq!(stage.phone(to).len(), 3);
    }
}

#[test]
fn states_survive_a_crash() {
    let stage = Stage::set();
    for (channel, steps) in [("created", &[][..]), ("connected", &["connect"]), ("paused", &["connect", "pause"])] {
        stage.open(channel, steps);
    }
    let held = stage.accept("paused", &[], &card("5511999996303", "Held"));
    let before = stage.rows("/v1/channels");
    let stage = stage.crash(&[]);
    assert_eq!(stage.rows("/v1/channels"), before);
    assert_refused("created", &stage.send("created", &[], CARD), NOT_CONNECTED);
    stage.until(&stage.accept("connected", &[], CARD), "READ");
    assert_eq!(stage.data(&held)["status"], "QUEUED");
    stage.act("paused", "resume");
    stage.until(&held, "READ");
}

#[test]
fn deleting_a_channel_cancels_queued_messages_and_keeps_the_history() {
    let stage = Stage::set();
    stage.open("gone", &["connect"]);
    let read = stage.accept("gone", &[], &card("5511999996304", "Read"));
    stage.until(&read, "READ");
    stage.act("gone", "pause");
    let queued: Vec<_> = (0..3).map(|_| stage.accept("gone", &[], &card("5511999996305", "Queued"))).collect();
    let answer = stage.server.delete("/v1/channels/gone", Some(&stage.key)).expect(200);
    assert_eq!(answer.json()["success"], true, "{}", answer.text());
    for location in &queued {
        assert_eq!(stage.until(location, "CANCELLED")["attempts"], 0);
    }
    assert_eq!(stage.data(&read)["status"], "READ");
    assert_eq!(stage.rows("/v1/channels/gone/messages").len(), 4);
    stage.get(&format!("{read}/vcard")).expect(200);
    // In every other way it is not there.
    assert_refused("get", &stage.get("/v1/channels/gone"), NO_CHANNEL);
    assert_refused("send", &stage.send("gone", &[], CARD), NO_CHANNEL);
    assert_refused("delete", &stage.server.delete("/v1/channels/gone", Some(&stage.key)), NO_CHANNEL);
    for action in ["connect", "disconnect", "pause", "resume"] {
        assert_refused(action, &step(&stage, "gone", action), NO_CHANNEL);
    }
    assert!(stage.rows("/v1/channels").iter().all(|channel| channel["id"] != "gone"));
    let stage = stage.crash(&[]);
    assert_refused("after a crash", &stage.get("/v1/channels/gone"), NO_CHANNEL);
    assert_eq!(stage.rows("/v1/channels/gone/messages").len(), 4);
    assert_eq!(stage.phone("5511999996305"), Vec::<Value>::new());
}

#[test]
fn an_id_can_be_used_again_after_deletion() {
    let stage = Stage::set();
    stage.open("again", &["connect"]);
    let old = stage.accept("again", &[], &card("5511999996306", "Old"));
    stage.until(&old, "READ");
    stage.act("again", "disconnect");
    stage.server.delete("/v1/channels/again", Some(&stage.key)).expect(200);
    stage.open("again", &[]);
    let channel = stage.data("/v1/channels/again");
    assert_eq!((&channel["state"], &channel["connectedAt"]), (&json!("CREATED"), &Value::Null));
    assert_eq!((&channel["accepts"], &channel["stateReason"]), (&json!(false), &Value::Null));
    assert_refused("not connected yet", &stage.send("again", &[], CARD), NOT_CONNECTED);
    stage.act("again", "connect");
    stage.until(&stage.accept("again", &[], &card("5511999996306", "New")), "READ");
    assert_eq!(stage.data(&old)["contact"]["name"], "Old");
    let stage = stage.crash(&[]);
    stage.until(&stage.accept("again", &[], CARD), "READ");
}

/// A channel is deleted while callers send on it: every card that was accepted ends, on the phone or cancelled.
#[test]
fn a_message_in_flight_is_settled_after_its_channel_is_deleted() {
    // Slower than its callers, so that many wait when it is deleted.
    let stage = &Stage::with(&["--sandbox-delay-min", "20ms", "--sandbox-delay-max", "20ms"]);
    for round in 0..3 {
        let channel = &format!("busy-{round}");
        stage.open(channel, &["connect"]);
        let accepted = send_until_deleted(stage, channel);
        assert_refused("deleted", &stage.send(channel, &[], CARD), NO_CHANNEL);
        let mut read = 0;
        for location in &accepted {
            let mut status = Value::Null;
            wait_for("an accepted card to end", || {
                status = stage.data(location)["status"].clone();
                status == "READ" || status == "CANCELLED"
            });
            read += usize::from(status == "READ");
        }
        assert!(read > 0 && read < accepted.len(), "{read} of {} were sent: this shows nothing", accepted.len());
        let shown = stage.rows("/v1/sandbox/messages?limit=100");
        assert!(shown.iter().all(|one| one["arrivals"] == 1), "{shown:?}");
        assert_eq!(shown.len(), read, "on the phone, and read");
        stage.server.delete("/v1/sandbox/data", Some(&stage.key)).expect(200);
    }
}

/// Four callers send until they are refused; the channel is deleted when its first card was read. Gives what was
/// accepted.
fn send_until_deleted(stage: &Stage, channel: &str) -> Vec<String> {
    let until_refused = || -> Vec<String> {
        let answers = std::iter::repeat_with(|| stage.send(channel, &[], CARD));
        answers.take_while(|answer| answer.status == 202).map(|answer| location(&answer)).collect()
    };
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..4).map(|_| scope.spawn(until_refused)).collect();
        let read = format!("/v1/channels/{channel}/messages?status=READ");
        wait_for("a card to be read", || stage.get(&read).expect(200).json()["data"] != json!([]));
        stage.server.delete(&format!("/v1/channels/{channel}"), Some(&stage.key)).expect(200);
        senders.into_iter().flat_map(|sender| sender.join().expect("a sender")).collect()
    })
}

#[test]
fn the_sandbox_stays() {
    let stage = Stage::set();
    let reserved = (409, r#"{"message":"O canal sandbox nao pode ser removido.","code":"CHANNEL_RESERVED"}"#);
    assert_refused("delete", &stage.server.delete("/v1/channels/sandbox", Some(&stage.key)), reserved);
    let sandbox = stage.data("/v1/channels/sandbox");
    assert_eq!((&sandbox["type"], &sandbox["state"]), (&json!("SANDBOX"), &json!("CONNECTED")));
    // It can be held like any other.
    stage.act("sandbox", "pause");
    let held = stage.accept("sandbox", &[], CARD);
    assert_eq!(stage.data(&held)["status"], "QUEUED");
    stage.act("sandbox", "resume");
    stage.until(&held, "READ");
    // Live keys have none.
    let live = create_key(&stage.home, "live", "channels.read,channels.write", "unlimited");
    assert_refused("live", &stage.server.get("/v1/channels/sandbox", Some(&live)), NO_CHANNEL);
    assert_refused("live", &stage.server.delete("/v1/channels/sandbox", Some(&live)), NO_CHANNEL);
}

#[test]
fn transitions_of_a_channel_are_listed_with_their_actors() {
    let stage = Stage::set();
    stage.open("loja", &["connect", "pause"]);
    stage.home.cli(&["channels", "resume", "loja"]);
    let page = stage.get("/v1/channels/loja/events?limit=2").expect(200).json();
    let seen = |page: &Value| -> Vec<(Value, Value, Value)> {
        let events = page["data"].as_array().expect("a list").iter();
        events.map(|event| (event["event"].clone(), event["to"].clone(), event["actor"]["type"].clone())).collect()
    };
    let event = |event: &str, to: &str, by: &str| (json!(event), json!(to), json!(by));
    let newest = [event("channel.connected", "CONNECTED", "OPERATOR"), event("channel.paused", "PAUSED", "KEY")];
    assert_eq!(seen(&page), newest);
    assert_eq!(page["data"][1]["reason"], "Pausado a pedido.");
    let next = page["pagination"]["nextCursor"].as_str().expect("there is more");
    let page = stage.get(&format!("/v1/channels/loja/events?limit=2&cursor={next}")).expect(200).json();
    let oldest = [event("channel.connected", "CONNECTED", "KEY"), event("channel.created", "CREATED", "KEY")];
    assert_eq!(seen(&page), oldest);
    assert_eq!(page["pagination"]["nextCursor"], Value::Null);
    for bad in ["0", "-1", "+1", "01", "x", "%00"] {
        stage.get(&format!("/v1/channels/loja/events?cursor={bad}")).expect(400);
    }
}
