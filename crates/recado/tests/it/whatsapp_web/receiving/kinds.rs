//! Every kind of the contract's table, sent by Baileys.

use std::thread::sleep;
use std::time::Duration;

use fake_whatsapp::baileys::Sender;
use serde_json::{Value, json};

use super::{GROUP, Inbox, PEER, PEER_LID, assert_shows, of_network};
use crate::harness::wait_for;
use crate::webhooks::receiver::Receiver;
use crate::whatsapp_web::{MARIA, OWNER, TYPED};

/// The network's clock has seconds: of two changes in one second none is the later one.
const SECOND: Duration = Duration::from_millis(1_050);
/// The bytes of every file, `picture`, and their hash.
const FILE: &str = "cGljdHVyZQ==";
const SHA256: &str = "2cea274d";

fn owner() -> String {
    format!("{OWNER}@s.whatsapp.net")
}

fn file() -> Value {
    json!({"base64": FILE})
}

/// What Baileys makes itself: the content, and what is shown of it.
#[expect(clippy::too_many_lines, reason = "a table, one entry a kind")]
fn contents() -> Vec<(Value, Value)> {
    let vcard = |name: &str| {
        format!(
            "BEGIN:VCARD\nVERSION:3.0\nN:Lima;{name};;;\nFN:{name} Lima\nTEL;type=CELL;waid={MARIA}:+{TYPED}\nEND:VCARD"
        )
    };
    let card = |name: &str| json!({"displayName": name, "vcard": vcard(name)});
    let contact = |name: &str| json!({"name": format!("{name} Lima"), "phones": [{"account": MARIA}]});
    let media = |mime: &str, more: Value| {
        let mut media = json!({"mimeType": mime, "size": 7, "state": "REMOTE", "ptt": false, "animated": false});
        more.as_object().expect("fields").iter().for_each(|(name, value)| media[name] = value.clone());
        media
    };
    let choice = |kind: &str| json!({"id": "b1", "title": "Sim", "kind": kind, "matchedBy": "NETWORK"});
    vec![
        (json!({"text": "Oi\nção 🎉"}), json!({"type": "text", "content": "Oi\nção 🎉", "text": {"truncated": false}})),
        (
            json!({"image": file(), "caption": "Olha", "jpegThumbnail": "", "width": 4, "height": 3}),
            json!({"type": "image", "content": "Olha", "image": {"caption": "Olha"},
                   "media": media("image/jpeg", json!({"width": 4, "height": 3}))}),
        ),
        (
            json!({"video": file(), "caption": "Veja", "jpegThumbnail": "", "seconds": 9, "gifPlayback": true}),
            json!({"type": "video", "content": "Veja", "video": {"animated": true},
                   "media": media("video/mp4", json!({"durationSeconds": 9, "animated": true}))}),
        ),
        (
            json!({"video": file(), "ptv": true, "jpegThumbnail": "", "seconds": 3}),
            json!({"type": "video", "content": "", "video": {"videoNote": true}, "media": media("video/mp4", json!({}))}),
        ),
        (
            json!({"audio": file(), "mimetype": "audio/mp4", "seconds": 5}),
            json!({"type": "audio", "content": "", "audio": {"caption": null},
                   "media": media("audio/mp4", json!({"durationSeconds": 5}))}),
        ),
        (
            json!({"audio": file(), "ptt": true, "mimetype": "audio/ogg; codecs=opus", "seconds": 4, "waveform": file()}),
            json!({"type": "audio", "audio": {"ptt": true},
                   "media": media("audio/ogg; codecs=opus", json!({"ptt": true, "durationSeconds": 4}))}),
        ),
        (
            json!({"document": file(), "fileName": "nota.pdf", "mimetype": "application/pdf"}),
            json!({"type": "document", "content": "", "document": {"fileName": "nota.pdf", "caption": null},
                   "media": media("application/pdf", json!({"fileName": "nota.pdf"}))}),
        ),
        (
            json!({"sticker": file(), "isAnimated": true, "width": 64, "height": 64}),
            json!({"type": "sticker", "sticker": {"animated": true},
                   "media": media("image/webp", json!({"animated": true, "width": 64}))}),
        ),
        (
            json!({"location": {"degreesLatitude": -23.5, "degreesLongitude": -46.6, "name": "Mercado",
                                "address": "Rua A, 1", "url": "https://example.com/"}}),
            json!({"type": "location", "content": "", "location": {"latitude": -23.5, "longitude": -46.6,
                   "name": "Mercado", "address": "Rua A, 1", "url": "https://example.com/"}}),
        ),
        (
            json!({"contacts": {"displayName": "Ana", "contacts": [card("Ana")]}}),
            json!({"type": "contact", "content": "Ana Lima", "contact": {"contacts": [contact("Ana")]}}),
        ),
        (
            json!({"contacts": {"displayName": "2 contatos", "contacts": [card("Ana"), card("Bia")]}}),
            json!({"type": "contact", "contact": {"contacts": [contact("Ana"), contact("Bia")]}}),
        ),
        (
            json!({"poll": {"name": "Qual?", "values": ["A", "B", "C"], "selectableCount": 2}}),
            json!({"type": "poll", "content": "Qual?",
                   "poll": {"question": "Qual?", "options": ["A", "B", "C"], "maxSelections": 2}}),
        ),
        (
            json!({"buttonReply": {"id": "b1", "displayText": "Sim"}, "type": "plain"}),
            json!({"type": "button", "content": "Sim", "button": {"id": "b1", "title": "Sim"}, "choice": choice("BUTTON")}),
        ),
        (
            json!({"buttonReply": {"id": "b1", "displayText": "Sim", "index": 0}, "type": "template"}),
            json!({"type": "button", "content": "Sim", "button": {"id": "b1"}, "choice": choice("TEMPLATE")}),
        ),
        (
            json!({"listReply": {"title": "Sim", "description": "Hoje", "listType": 1,
                                 "singleSelectReply": {"selectedRowId": "b1"}}}),
            json!({"type": "button", "button": {"id": "b1", "title": "Sim", "description": "Hoje"},
                   "choice": choice("LIST")}),
        ),
        (
            json!({"product": {"productImage": file(), "productId": "p1", "title": "Bolo", "currencyCode": "BRL",
                               "priceAmount1000": "30500", "productImageCount": 1},
                   "businessOwnerJid": owner(), "body": "Tem este?", "jpegThumbnail": ""}),
            json!({"type": "order", "content": "Tem este?", "order": {"text": "Tem este?",
                   "items": [{"productId": "p1", "name": "Bolo", "price": "30.5", "currency": "BRL"}]}}),
        ),
        (
            json!({"groupInvite": {"inviteCode": "c", "inviteExpiration": 1, "text": "Entre", "jid": "1-1@g.us",
                                   "subject": "Grupo"}}),
            json!({"type": "other", "other": {"kind": "groupInvite", "text": "Entre"}}),
        ),
        (
            json!({"event": {"name": "Festa", "startDate": {"date": 1_790_000_000_000_u64}}}),
            json!({"type": "other", "content": "Festa", "other": {"kind": "event", "text": "Festa"}}),
        ),
        (
            json!({"image": file(), "viewOnce": true, "jpegThumbnail": ""}),
            json!({"type": "unsupported", "content": "", "unsupported": {"reason": "VIEW_ONCE"}, "media": null}),
        ),
        (
            json!({"text": "Oi, @551140001000", "mentions": [owner()]}),
            json!({"type": "text", "mentions": [OWNER], "forwarded": false}),
        ),
    ]
}

/// What Baileys cannot make: the message in the form of the protocol, and what is shown of it.
fn messages() -> Vec<(Value, Value)> {
    let text = |text: &str| json!({"conversation": text});
    let pdf = json!({"url": "https://mmg.whatsapp.net/v/1", "directPath": "/v/1", "mimetype": "application/pdf",
                     "fileName": "nota.pdf", "caption": "A nota", "fileLength": 7});
    vec![
        (text("simples"), json!({"type": "text", "content": "simples", "expiresInSeconds": null})),
        (
            json!({"extendedTextMessage": {"text": "veja https://a.example/", "matchedText": "https://a.example/",
                                           "title": "A", "description": "B"}}),
            json!({"type": "text", "content": "veja https://a.example/", "referral": null}),
        ),
        (
            json!({"documentWithCaptionMessage": {"message": {"documentMessage": pdf}}}),
            json!({"type": "document", "content": "A nota",
                   "document": {"caption": "A nota", "fileName": "nota.pdf"}, "media": {"size": 7}}),
        ),
        (
            json!({"liveLocationMessage": {"degreesLatitude": 1.5, "degreesLongitude": 2.5, "caption": "Aqui"}}),
            json!({"type": "location", "location": {"latitude": 1.5, "longitude": 2.5, "live": true}}),
        ),
        (
            json!({"interactiveResponseMessage": {"body": {"text": "Enviado"}, "nativeFlowResponseMessage":
                  {"name": "flow", "paramsJson": "{\"dia\":\"2026-12-01\"}", "version": 3}}}),
            json!({"type": "button", "content": "Enviado", "button": {"data": {"dia": "2026-12-01"}}}),
        ),
        (
            json!({"orderMessage": {"orderId": "o1", "message": "Quero", "itemCount": 2, "orderTitle": "Pedido"}}),
            json!({"type": "order", "content": "Quero", "order": {"orderId": "o1", "text": "Quero"}}),
        ),
        (
            json!({"scheduledCallCreationMessage": {"title": "Reuniao", "callType": 1}}),
            json!({"type": "other", "other": {"kind": "call", "text": "Reuniao"}}),
        ),
        (
            json!({"sendPaymentMessage": {"noteMessage": {"conversation": "Obrigado"}}}),
            json!({"type": "other", "other": {"kind": "payment", "text": "Obrigado"}}),
        ),
        (
            json!({"ephemeralMessage": {"message": {"extendedTextMessage":
                  {"text": "some", "contextInfo": {"expiration": 86400}}}}}),
            json!({"type": "text", "content": "some", "expiresInSeconds": 86400}),
        ),
        (
            json!({"lottieStickerMessage": {"message": {"stickerMessage":
                  {"directPath": "/v/1", "mimetype": "application/was", "isLottie": true}}}}),
            json!({"type": "sticker", "sticker": {"animated": true}, "media": {"mimeType": "application/was"}}),
        ),
        (
            json!({"extendedTextMessage": {"text": "do anuncio", "contextInfo": {"externalAdReply":
                  {"sourceUrl": "https://fb.me/1", "sourceType": "ad", "sourceId": "7", "title": "Fale"}}}}),
            json!({"type": "text", "referral": {"source_url": "https://fb.me/1", "source_type": "ad", "headline": "Fale"}}),
        ),
    ]
}

/// What is no message of a person in a chat.
fn nothing() -> Vec<Value> {
    vec![
        json!({"albumMessage": {"expectedImageCount": 2}}),
        json!({"pinInChatMessage": {"key": {"id": "X"}, "type": 1}}),
        json!({"protocolMessage": {"type": 3, "ephemeralExpiration": 86400}}),
    ]
}

/// Baileys, and what it sent: network id and what is shown of it.
struct Written {
    baileys: Sender,
    expected: Vec<(String, Value)>,
}

impl Written {
    #[track_caller]
    fn send(&mut self, to: &str, content: &Value, options: &Value, shows: Value) -> Value {
        let sent = self.baileys.send(to, content, options);
        self.expected.push((sent["id"].as_str().expect("an id").to_owned(), shows));
        sent
    }
}

/// The events of every message show what Baileys wrote, and so do the routes and the webhook.
#[test]
fn every_kind_is_stored_with_every_field() {
    let inbox = Inbox::set();
    let receiver = Receiver::start();
    inbox.hook(&receiver.url("/"));
    let baileys = Sender::link(&inbox.stage.whatsapp, PEER, PEER_LID);
    let ours = inbox.stage.accept("vendas", PEER);
    let mut written = Written { baileys, expected: Vec::new() };
    for (content, shows) in contents() {
        written.send(&owner(), &content, &json!({}), shows);
    }
    for (message, shows) in messages() {
        let sent = written.baileys.relay(&owner(), &message, &json!({}));
        written.expected.push((sent["id"].as_str().expect("an id").to_owned(), shows));
    }
    for message in nothing() {
        written.baileys.relay(&owner(), &message, &json!({}));
    }
    written.baileys.send("status@broadcast", &json!({"text": "status"}), &json!({"statusJidList": [owner()]}));
    answers(&inbox, &mut written, &ours);
    in_a_group(&inbox, &mut written);

    let Written { expected, .. } = written;
    let messages = inbox.until_received(expected.len());
    wait_for("all to be acknowledged", || inbox.stage.whatsapp.unconfirmed(OWNER) == 0);
    assert_eq!(inbox.events("message.received").len(), expected.len());
    for (id, shows) in &expected {
        let message = of_network(&messages, id);
        assert_shows(id, message, shows);
        if message["media"]["size"] == 7 && shows["media"]["size"] == 7 && message["type"] != "document" {
            assert!(message["media"]["sha256"].as_str().is_some_and(|hash| hash.starts_with(SHA256)), "{message}");
        }
        assert_shows(id, message, &common());
        let shown = inbox.get(&format!("/v1/channels/vendas/messages/{}", message["id"].as_str().expect("an id")));
        assert_eq!(&shown["data"], message);
    }
    same_at_the_receiver(&receiver, &inbox.events("message.received"));
    assert_eq!(inbox.events("contact.created").len(), 1);
    assert_eq!(inbox.stage.whatsapp.counters().undecryptable, 0);
}

/// What is the same of all messages.
fn common() -> Value {
    json!({
        "channelId": "vendas", "direction": "INBOUND", "status": "RECEIVED", "from": PEER, "to": OWNER,
        "sender": {"phone": PEER, "lid": PEER_LID, "userId": null, "username": null, "name": "Peer", "isMe": false},
        "reactions": [], "editedAt": null, "revokedAt": null, "late": false, "readAt": null,
    })
}

/// Answers to a message of ours, and to one of the person; forwarded and ephemeral ones.
fn answers(inbox: &Inbox, written: &mut Written, ours: &str) {
    inbox.stage.until("vendas", ours, "READ");
    let network_id = inbox.stage.message("vendas", ours)["networkId"].clone();
    let quoted = json!({"key": {"remoteJid": owner(), "fromMe": false, "id": network_id},
                        "message": {"contactMessage": {"displayName": "Maria", "vcard": "BEGIN:VCARD\nEND:VCARD"}}});
    let reply = json!({"messageId": ours, "networkId": network_id, "from": OWNER, "type": "contact"});
    written.send(&owner(), &json!({"text": "Obrigado"}), &json!({"quoted": quoted}), json!({"replyTo": reply}));

    let first = written.send(&owner(), &json!({"text": "Pergunta"}), &json!({}), json!({"replyTo": null}));
    let options = json!({"quoted": first["message"]});
    let reply = json!({"networkId": first["id"], "from": PEER, "type": "text", "content": "Pergunta"});
    written.send(&owner(), &json!({"text": "?"}), &options, json!({"replyTo": reply}));
    let forward = json!({"forward": first["message"], "force": false});
    written.send(&owner(), &forward, &json!({}), json!({"content": "Pergunta", "forwarded": false}));
    // Baileys marks as forwarded only what others wrote.
    let theirs =
        json!({"key": {"remoteJid": owner(), "fromMe": false, "id": "3EB0FF"}, "message": {"conversation": "Veja"}});
    let forward = json!({"forward": theirs, "force": true});
    written.send(&owner(), &forward, &json!({}), json!({"content": "Veja", "forwarded": true}));
    let options = json!({"ephemeralExpiration": 86400});
    written.send(&owner(), &json!({"text": "some"}), &options, json!({"expiresInSeconds": 86400}));
}

/// Two messages in a group, before and after groups are received.
fn in_a_group(inbox: &Inbox, written: &mut Written) {
    let group = format!("{GROUP}@g.us");
    inbox.stage.whatsapp.add_group(GROUP, "Vendas", &[OWNER, PEER, MARIA], true);
    let before = written.baileys.send(&group, &json!({"text": "antes"}), &json!({}))["id"].clone();
    let is_done = |id: &Value| inbox.stage.whatsapp.acknowledged().iter().any(|done| *id == *done.id);
    wait_for("the first message of the group", || is_done(&before));
    inbox.stage.settings("vendas", &json!({"groups": "on"}));
    let shows = json!({"content": "no grupo", "chat": {"kind": "GROUP", "address": group}});
    written.send(&group, &json!({"text": "no grupo"}), &json!({}), shows);
}

/// Each event reached the receiver, as the event stream has it.
fn same_at_the_receiver(receiver: &Receiver, events: &[Value]) {
    let arrived = |id: &Value| receiver.arrivals().into_iter().find(|arrival| *id == *arrival.id());
    for event in events {
        wait_for("the delivery", || arrived(&event["id"]).is_some());
        let arrival = arrived(&event["id"]).expect("it arrived");
        assert_eq!(&arrival.json(), event);
    }
}

/// Changes of messages are events of the message, and the message shows them.
#[test]
fn changes_are_events_of_their_message() {
    let inbox = Inbox::set();
    let mut baileys = Sender::link(&inbox.stage.whatsapp, PEER, PEER_LID);
    let text = |baileys: &mut Sender, text: &str| baileys.send(&owner(), &json!({"text": text}), &json!({}));
    let [plain, secret, gone] = ["Antes", "Segredo", "Apaga"].map(|said| text(&mut baileys, said));
    let poll = json!({"poll": {"name": "Qual?", "values": ["A", "B", "C"], "selectableCount": 2}});
    let poll = baileys.send(&owner(), &poll, &json!({}));
    inbox.until_received(4);
    change(&mut baileys, &plain, &secret, &gone);
    for options in [&["B", "C"][..], &[]] {
        vote(&mut baileys, &poll, options);
        sleep(SECOND);
    }

    let names = [
        ("message.reaction", 2),
        ("message.edited", 2),
        ("message.revoked", 1),
        ("message.poll_vote", 2),
        ("message.received", 4),
    ];
    let [reactions, edits, revoked, votes, received] = names.map(|(name, count)| inbox.until(name, count));
    wait_for("all to be acknowledged", || inbox.stage.whatsapp.unconfirmed(OWNER) == 0);
    assert_eq!(inbox.events("message.").len(), 11, "{:#?}", inbox.events("message."));
    let received: Vec<_> = received.into_iter().map(|event| event["data"]["message"].clone()).collect();
    let id = |sent: &Value| of_network(&received, sent["id"].as_str().expect("an id"))["id"].clone();
    for (event, emoji) in reactions.iter().zip([json!("👍"), Value::Null]) {
        let shows = json!({"messageId": id(&plain), "from": PEER, "sender": {"phone": PEER}, "emoji": emoji});
        assert_shows("reaction", &event["data"], &shows);
    }
    for (event, (of, content, before)) in
        edits.iter().zip([(&plain, "Depois", "Antes"), (&secret, "Revelado", "Segredo")])
    {
        let shows = json!({"messageId": id(of), "content": content, "previousContent": before});
        assert_shows("edit", &event["data"], &shows);
    }
    assert_shows("revoked", &revoked[0]["data"], &json!({"messageId": id(&gone), "by": "SENDER"}));
    for (event, options) in votes.iter().zip([json!(["B", "C"]), json!([])]) {
        assert_shows("vote", &event["data"], &json!({"messageId": id(&poll), "options": options}));
    }
    let count = |option: &str, votes: u32| json!({"option": option, "votes": votes});
    assert_eq!(votes[0]["data"]["results"], json!([count("A", 0), count("B", 1), count("C", 1)]));

    let listed = inbox.listed("vendas");
    assert_eq!(listed.len(), 4);
    let now = |sent: &Value| of_network(&listed, sent["id"].as_str().expect("an id")).clone();
    assert_shows("edited", &now(&plain), &json!({"content": "Depois", "reactions": []}));
    assert!(now(&plain)["editedAt"].is_string() && now(&gone)["revokedAt"].is_string(), "{listed:#?}");
    assert_eq!((&now(&secret)["content"], &now(&gone)["content"]), (&json!("Revelado"), &json!("")));
}

/// A reaction and its removal, an edit, a revocation, and an edit that only the message opens.
fn change(baileys: &mut Sender, plain: &Value, secret: &Value, gone: &Value) {
    let key = |sent: &Value| json!({"remoteJid": owner(), "fromMe": true, "id": sent["id"]});
    for emoji in ["👍", ""] {
        baileys.send(&owner(), &json!({"react": {"text": emoji, "key": key(plain)}}), &json!({}));
        sleep(SECOND);
    }
    baileys.send(&owner(), &json!({"text": "Depois", "edit": key(plain)}), &json!({}));
    baileys.send(&owner(), &json!({"delete": key(gone)}), &json!({}));
    // As clients of 2026 do it.
    let edited = json!({"protocolMessage": {"key": key(secret), "type": 14,
                        "editedMessage": {"conversation": "Revelado"}, "timestampMs": 1_790_000_000_000_u64}});
    let addon = baileys.addon("Message Edit", &secret_of(secret), &edited);
    let envelope = json!({"targetMessageKey": key(secret), "encPayload": addon["encPayload"], "encIv": addon["encIv"],
                          "secretEncType": 2});
    baileys.relay(
        &owner(),
        &json!({"secretEncryptedMessage": envelope}),
        &json!({"additionalAttributes": {"edit": "1"}}),
    );
}

/// The secret of a message that Baileys sent, and who may change it.
fn secret_of(sent: &Value) -> Value {
    let secret = &sent["message"]["message"]["messageContextInfo"]["messageSecret"];
    let own = format!("{PEER}@s.whatsapp.net");
    json!({"id": sent["id"], "author": own, "by": own, "secret": {"base64": secret}})
}

/// Votes for these options, by their names.
fn vote(baileys: &mut Sender, poll: &Value, options: &[&str]) {
    let vote = baileys.addon("Poll Vote", &secret_of(poll), &json!({"options": options}));
    let key = json!({"remoteJid": owner(), "fromMe": true, "id": poll["id"]});
    let update = json!({"pollCreationMessageKey": key, "vote": vote, "senderTimestampMs": 1_790_000_000_000_u64});
    baileys.relay(&owner(), &json!({"pollUpdateMessage": update}), &json!({}));
}
