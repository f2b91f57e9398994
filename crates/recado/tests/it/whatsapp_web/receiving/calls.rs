//! Calls of people: each is an event once, with its end, and nothing else.

use fake_whatsapp::NodeBuilder;
use serde_json::{Value, json};

use super::{GROUP, Inbox, assert_shows};
use crate::harness::wait_for;
use crate::whatsapp_web::{JOAO, MARIA, OWNER, unix_seconds};

fn number(digits: &str) -> String {
    format!("{digits}@s.whatsapp.net")
}

/// What a person signals of a call.
fn call(from: &str, id: &str, action: NodeBuilder) -> NodeBuilder {
    let action = action.attr("call-id", id).attr("call-creator", number(from));
    NodeBuilder::new("call")
        .attr("from", number(from))
        .attr("id", format!("S{id}"))
        .attr("t", unix_seconds().to_string())
        .children([action.build()])
}

fn offer(video: bool) -> NodeBuilder {
    let offer = NodeBuilder::new("offer");
    if video { offer.children([NodeBuilder::new("video").build()]) } else { offer }
}

fn terminate(reason: Option<&str>) -> NodeBuilder {
    let terminate = NodeBuilder::new("terminate");
    if let Some(reason) = reason { terminate.attr("reason", reason) } else { terminate }
}

#[test]
fn a_call_is_an_event_once_with_its_end() {
    let inbox = Inbox::set();
    let whatsapp = &inbox.stage.whatsapp;
    let show = |stanza: NodeBuilder| whatsapp.send_stanza(OWNER, &stanza.build());
    let group = format!("{GROUP}@g.us");
    let of_group = || offer(false).attr("group-jid", group.as_str());
    // The library handles two stanzas at the same time, so an end can overtake its call.
    let end = |from: &str, id: &str, reason: Option<&str>| {
        let is_this = |event: &Value| event["data"]["callId"] == id;
        wait_for("the end of the call", || {
            show(call(from, id, terminate(reason)));
            inbox.events("call.received").iter().any(is_this)
        });
    };
    show(call(MARIA, "C0", of_group()));
    show(call(OWNER, "C1", offer(false)));
    show(call(MARIA, "C2", offer(true)));
    end(MARIA, "C2", None);
    // Neither a group that is off, nor the account itself.
    show(call(MARIA, "C0", terminate(None)));
    show(call(OWNER, "C1", terminate(None)));
    show(call(MARIA, "C2", offer(true)));
    show(call(MARIA, "C2", terminate(None)));
    show(call(JOAO, "C3", offer(false)));
    end(JOAO, "C3", Some("accepted_elsewhere"));
    // It rang while the channel was disconnected.
    show(call(JOAO, "C4", offer(true)).attr("offline", "1"));
    end(JOAO, "C4", Some("rejected_elsewhere"));
    inbox.stage.settings("vendas", &json!({"groups": "on"}));
    show(call(MARIA, "C5", of_group()));
    end(MARIA, "C5", Some("timeout"));
    let calls = inbox.events("call.received");
    let data = |from: &str, id: &str, video: Option<bool>, missed: bool| {
        let sender = json!({"phone": from, "contactId": null, "isMe": false});
        json!({"channelId": "vendas", "data": {"sender": sender, "callId": id, "video": video, "missed": missed}})
    };
    let expected = json!([
        data(MARIA, "C2", Some(true), true),
        data(JOAO, "C3", Some(false), false),
        data(JOAO, "C4", None, false),
        data(MARIA, "C5", Some(false), true),
    ]);
    assert_shows("calls", &Value::Array(calls), &expected);
    assert!(inbox.events("message").is_empty() && inbox.events("contact").is_empty());
    assert_eq!(inbox.get("/v1/conversations")["data"], json!([]));
}
