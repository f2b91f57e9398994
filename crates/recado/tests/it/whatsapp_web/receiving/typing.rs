//! What people do for the moment: open streams show it, and nothing stores it.

use fake_whatsapp::NodeBuilder;
use serde_json::json;

use super::{GROUP, Inbox, assert_shows};
use crate::v1::transient::{next, open};
use crate::whatsapp_web::{JOAO, MARIA, OWNER};

fn number(digits: &str) -> String {
    format!("{digits}@s.whatsapp.net")
}

/// Somebody types in a chat.
fn chatstate(from: &str, state: NodeBuilder) -> NodeBuilder {
    NodeBuilder::new("chatstate").attr("from", from).children([state.build()])
}

#[test]
fn who_types_and_who_is_online_reaches_streams() {
    let inbox = Inbox::set();
    let whatsapp = &inbox.stage.whatsapp;
    let show = |stanza: NodeBuilder| whatsapp.send_stanza(OWNER, &stanza.build());
    let composing = || NodeBuilder::new("composing");
    let group = format!("{GROUP}@g.us");
    let in_group = |who: &str| chatstate(&group, composing()).attr("participant", number(who));
    whatsapp.add_group(GROUP, "Vendas", &[OWNER, MARIA, JOAO], true);
    let mut stream = open(&inbox.stage.server, &inbox.key, "events=typing.*,presence.*");
    show(chatstate(&number(MARIA), composing()));
    let (lines, event) = next(&mut stream);
    assert_eq!(lines, ["event: typing.updated"]);
    let data = json!({"sender": {"phone": MARIA, "contactId": null, "isMe": false}, "conversationId": null,
                      "chat": {"kind": "DIRECT", "address": MARIA}, "state": "composing"});
    assert_shows("typing", &event, &json!({"channelId": "vendas", "environment": "live", "data": data}));
    let records = composing().attr("media", "audio");
    for (does, state) in [(records, "recording"), (NodeBuilder::new("paused"), "paused")] {
        show(chatstate(&number(JOAO), does));
        let event = next(&mut stream).1;
        assert_shows(state, &event["data"], &json!({"sender": {"phone": JOAO}, "state": state}));
    }
    // Neither the account itself, nor a group that is off.
    show(chatstate(&number(OWNER), composing()));
    show(in_group(MARIA));
    let presence = || NodeBuilder::new("presence").attr("from", number(MARIA));
    show(presence());
    let (lines, event) = next(&mut stream);
    assert_eq!(lines, ["event: presence.updated"]);
    let data = json!({"sender": {"phone": MARIA}, "state": "available", "lastSeenAt": null});
    assert_shows("online", &event["data"], &data);
    // The library handles two stanzas at the same time.
    show(presence().attr("type", "unavailable").attr("last", "1763900000"));
    let data = json!({"sender": {"phone": MARIA}, "state": "unavailable", "lastSeenAt": "2025-11-23T12:13:20.000Z"});
    assert_shows("offline", &next(&mut stream).1["data"], &data);
    inbox.stage.settings("vendas", &json!({"groups": "on"}));
    show(in_group(JOAO));
    let chat = json!({"kind": "GROUP", "address": group});
    assert_shows("in a group", &next(&mut stream).1["data"], &json!({"sender": {"phone": JOAO}, "chat": chat}));
    assert!(inbox.events("typing").is_empty() && inbox.events("presence").is_empty());
    assert_eq!(inbox.get("/v1/conversations")["data"], json!([]));
}
