//! The network repeats everything twice, in another order, by number and by LID: the rows and the events are those of one
//! delivery.

use std::collections::{BTreeMap, BTreeSet};

use fake_whatsapp::{Account, FakeWhatsApp, MediaType, MessageField, Said, proto};
use serde_json::Value;

use super::Inbox;
use crate::harness::wait_for;
use crate::whatsapp_web::{JOAO, MARIA, OWNER, wait_to_see};

/// The account of a channel to which everything is delivered once, and in order.
const CALM: &str = "551140001001";
/// The seeds of the orders in which everything arrives.
const SEEDS: [u64; 2] = [7, 1_234];
const BEGUN: u64 = 1_790_000_000;

fn key(by: &str, id: &str) -> MessageField<proto::MessageKey> {
    MessageField::some(proto::MessageKey {
        remote_jid: Some(format!("{by}@s.whatsapp.net")),
        from_me: Some(true),
        id: Some(id.to_owned()),
        ..Default::default()
    })
}

fn text(text: &str) -> proto::Message {
    proto::Message { conversation: Some(text.to_owned()), ..Default::default() }
}

fn protocol(kind: proto::message::protocol_message::Type, of: &str, edited: Option<proto::Message>) -> proto::Message {
    let protocol = proto::message::ProtocolMessage {
        key: key(OWNER, of),
        r#type: Some(kind),
        edited_message: edited.map(MessageField::some).unwrap_or_default(),
        timestamp_ms: Some(1_790_000_000_000),
        ..Default::default()
    };
    proto::Message { protocol_message: MessageField::some(protocol), ..Default::default() }
}

fn reaction(of: &str, emoji: &str) -> proto::Message {
    let reaction = proto::message::ReactionMessage {
        key: key(OWNER, of),
        text: Some(emoji.to_owned()),
        sender_timestamp_ms: Some(1_790_000_000_000),
        ..Default::default()
    };
    proto::Message { reaction_message: MessageField::some(reaction), ..Default::default() }
}

fn picture(whatsapp: &FakeWhatsApp) -> proto::Message {
    let file = whatsapp.upload(b"picture", MediaType::Image);
    let image = proto::message::ImageMessage {
        mimetype: Some("image/jpeg".to_owned()),
        caption: Some("Olha".to_owned()),
        direct_path: Some(file.direct_path),
        media_key: Some(file.media_key),
        file_sha256: Some(file.file_sha256),
        file_enc_sha256: Some(file.file_enc_sha256),
        file_length: Some(file.file_length),
        ..Default::default()
    };
    proto::Message { image_message: MessageField::some(image), ..Default::default() }
}

/// What each of two people writes and changes, under ids of their own.
fn dialogue(whatsapp: &FakeWhatsApp) -> Vec<(&'static str, Said)> {
    use proto::message::protocol_message::Type::{MESSAGE_EDIT, REVOKE};
    let mut said = Vec::new();
    for by in [MARIA, JOAO] {
        let id = |name: &str| format!("3EB0{by}{name}");
        let messages = [
            ("A", text("Um"), None),
            ("B", text("Dois"), None),
            ("C", text("Tres"), None),
            ("D", picture(whatsapp), None),
            ("E", reaction(&id("A"), "👍"), None),
            ("F", protocol(MESSAGE_EDIT, &id("B"), Some(text("Dois!"))), Some("1")),
            ("G", protocol(REVOKE, &id("C"), None), Some("7")),
        ];
        for (second, (name, message, edit)) in (0..).zip(messages) {
            let message = Said::from(message).id(&id(name)).at(BEGUN + second);
            said.push((by, edit.into_iter().fold(message, |message, edit| message.attribute("edit", edit))));
        }
    }
    said
}

/// A channel's messages without what differs from channel to channel.
fn rows(inbox: &Inbox, channel: &str) -> BTreeMap<String, Value> {
    let row = |mut message: Value| {
        for (object, names) in [
            (
                "",
                &[
                    "id",
                    "conversationId",
                    "channelId",
                    "to",
                    "mediaUrl",
                    "receivedAt",
                    "createdAt",
                    "updatedAt",
                    "editedAt",
                ][..],
            ),
            ("/sender", &["contactId"][..]),
            ("/media", &["id"][..]),
        ] {
            if let Some(object) = message.pointer_mut(object).and_then(Value::as_object_mut) {
                object.retain(|name, _| !names.contains(&name.as_str()));
            }
        }
        message["revokedAt"] = message["revokedAt"].is_string().into();
        for reaction in message["reactions"].as_array_mut().into_iter().flatten() {
            reaction["contactId"] = Value::Null;
        }
        (message["networkId"].as_str().expect("an id").to_owned(), message)
    };
    inbox.listed(channel).into_iter().map(row).collect()
}

/// Waits until a channel has so many events: the name of each, and the message that it is about.
fn events(inbox: &Inbox, channel: &str, count: usize) -> Vec<(String, String)> {
    // A reader on PostgreSQL sees an event a moment after its commit.
    let seen = |events: &Vec<_>| events.len() >= count;
    wait_to_see(&format!("{count} events"), || all_events(inbox, channel), seen)
}

fn all_events(inbox: &Inbox, channel: &str) -> Vec<(String, String)> {
    let of_channel = inbox.events("").into_iter().filter(|event| event["channelId"] == channel);
    let named = of_channel.filter_map(|event| {
        let name = event["event"].as_str().expect("a name");
        let data = &event["data"];
        let of = data["message"]["networkId"].as_str().or(data["networkId"].as_str());
        let of = of.or(data["conversation"]["contact"]["phone"].as_str()).unwrap_or_default();
        ["message.", "conversation."]
            .iter()
            .any(|group| name.starts_with(group))
            .then(|| (name.to_owned(), of.to_owned()))
    });
    let mut events: Vec<_> = named.collect();
    events.sort();
    events
}

fn repeated_and_shuffled(inbox: &Inbox) {
    let whatsapp = &inbox.stage.whatsapp;
    inbox.stage.link("calma", &Account::new(CALM, "900000000000011"));
    wait_for("keys to write with", || whatsapp.one_time_keys(CALM).iter().all(|left| *left > 0));
    let said = dialogue(whatsapp);
    for (by, said) in &said {
        whatsapp.say_as(by, CALM, said.clone()).expect("sent");
    }
    wait_for("the calm channel", || whatsapp.unconfirmed(CALM) == 0);
    let calm = (rows(inbox, "calma"), events(inbox, "calma", 16));
    assert_eq!((calm.0.len(), calm.1.len()), (8, 16), "{:#?}", calm.1);

    for (round, seed) in (0..).zip(SEEDS) {
        whatsapp.hold(OWNER, true);
        whatsapp.faults(|faults| (faults.extra_messages, faults.shuffle) = (1, Some(seed)));
        // Each is encrypted twice: from the number, and from the LID. Each cipher text comes twice.
        for by_lid in [vec![], vec![MARIA.to_owned(), JOAO.to_owned()]] {
            whatsapp.faults(|faults| faults.by_lid = by_lid);
            for (by, said) in &said {
                whatsapp.say_as(by, OWNER, said.clone()).expect("sent");
            }
        }
        whatsapp.hold(OWNER, false);
        wait_for("the restless channel", || whatsapp.unconfirmed(OWNER) == 0);
        let restless = (rows(inbox, "vendas"), events(inbox, "vendas", calm.1.len()));
        assert_eq!(restless.1, calm.1, "events of round {round}");
        assert_eq!(restless.0, calm.0, "rows of round {round}");
    }
    // Everything was delivered four times in each round, and was acknowledged each time.
    let receipts = whatsapp.receipts(OWNER).len();
    assert!(receipts >= said.len() * 4, "{receipts} receipts");
    let contacts = inbox.get("/v1/contacts");
    let contacts = contacts["data"].as_array().expect("a list");
    let phones: BTreeSet<_> = contacts.iter().filter_map(|contact| contact["phone"].as_str()).collect();
    assert_eq!((phones, contacts.len()), ([MARIA, JOAO].into_iter().collect(), 2));
    assert_eq!(whatsapp.counters().undecryptable, 0);
}

#[test]
fn what_is_repeated_and_shuffled_is_as_one_delivery() {
    repeated_and_shuffled(&Inbox::set());
}

#[test]
fn what_is_repeated_and_shuffled_is_as_one_delivery_on_postgres() {
    repeated_and_shuffled(&Inbox::on_postgres());
}
