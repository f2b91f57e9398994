//! `POST /v1/channels/{channelId}/messages/{kind}` and `POST /v1/channels/{channelId}/messages`: every kind goes through
//! one pipeline.

use recado_domain::channel::ChannelType;
use recado_domain::kinds::{Feature, KINDS, Kind};
use serde_json::{Value, json};

use crate::harness::Answer;
use crate::openapi::{document, resolved};
use crate::v1::{
    ALL_SCOPES, JSON, KEY_REUSED, NO_METHOD, Stage, assert_faults, assert_refused, create_key, in_an_hour, location,
    on_both_engines, simulate, text,
};

const TO: &str = "5511999998888";

fn post(stage: &Stage, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let path = format!("/v1/channels/sandbox/messages{path}");
    let headers = [&[JSON], headers].concat();
    stage.server.call("POST", &path, Some(&stage.key), &headers, Some(body.to_string().as_bytes()))
}

/// Sends a message, and waits until it is read. Returns the message and its entry on the phone.
fn sent(stage: &Stage, path: &str, body: &Value) -> (Value, Value) {
    let accepted = post(stage, path, &[], body).expect(202);
    assert_eq!(accepted.text(), r#"{"success":true,"message":"Mensagem enfileirada para envio"}"#);
    let message = stage.until(&location(&accepted), "READ");
    let shown = stage.phone(text(body, "to"));
    let shown = shown.into_iter().find(|shown| shown["networkId"] == message["networkId"]);
    (message, shown.expect("the phone shows it"))
}

#[test]
fn every_kind_arrives_with_its_options() {
    let stage = Stage::set();
    for kind in KINDS {
        for body in (kind.examples)() {
            let (message, shown) = sent(&stage, &format!("/{}", kind.name), &body);
            for one in [&message, &shown] {
                assert_eq!(one["type"], kind.name);
                let fields = (kind.shown_schemas)();
                assert!(fields.iter().any(|(name, _)| !one[*name].is_null()), "{one}");
            }
            for (field, value) in [("rendering", json!("NATIVE")), ("warnings", json!([])), ("replyTo", Value::Null)] {
                assert_eq!(message[field], value, "{field}");
            }
            // The same body under the route for any kind.
            let mut named = body.clone();
            named["type"] = kind.name.into();
            named["reference"] = "pedido-4711".into();
            named["replyTo"] = message["networkId"].clone();
            named["ttlSeconds"] = 60.into();
            let (other, _) = sent(&stage, "", &named);
            assert_eq!((&other["reference"], &other["replyTo"]), (&json!("pedido-4711"), &message["id"]));
            let seconds =
                |message: &Value| crate::v1::millis(message, "expiresAt") - crate::v1::millis(message, "queuedAt");
            assert_eq!((seconds(&other), seconds(&message)), (60_000, 24 * 60 * 60 * 1_000));
        }
    }
}

#[test]
fn a_message_shows_what_it_carries() {
    let stage = Stage::set();
    let text = json!({"to": TO, "content": " Ola,\r\nMaria "});
    let (message, shown) = sent(&stage, "/text", &text);
    assert_eq!((&message["content"], &message["text"]["content"]), (&json!("Ola,\nMaria"), &json!("Ola,\nMaria")));
    assert_eq!((message.get("contact"), message.get("card"), shown.get("vcard")), (None, None, None));
    let place = json!({"to": TO, "latitude": -23.5, "longitude": 10, "name": "Casa"});
    let (message, shown) = sent(&stage, "/location", &place);
    let expected = json!({"latitude": -23.5, "longitude": 10.0, "name": "Casa"});
    assert_eq!((&message["location"], &shown["location"], &message["content"]), (&expected, &expected, &json!("")));
    let card = |name: &str| json!({"name": name, "phones": [{"phone": "5511988887777"}, {"phone": "551140000000", "type": "HOME"}]});
    let contacts = json!([card("Maria"), card("Ana")]);
    let (message, shown) = sent(&stage, "/contact", &json!({"to": TO, "contacts": contacts}));
    assert_eq!((&message["contacts"], message.get("contact")), (&contacts, None));
    let account = |waid: &str| json!({"waid": waid, "source": "NETWORK"});
    let accounts = json!({"accounts": [account("5511988887777"), account("551140000000")]});
    assert_eq!(message["cards"], json!([accounts, accounts]));
    assert_eq!(crate::v1::text(&shown, "vcard").matches("BEGIN:VCARD").count(), 2);
}

/// A reply by the address that a received message shows.
#[test]
fn a_reply_reaches_the_chat_of_the_message() {
    on_both_engines(|stage| {
        for (person, address) in [
            (json!({"from": "5511977776666"}), "5511977776666"),
            (json!({"from": "552177776666"}), "552177776666"),
            (json!({"lid": "103899771998284"}), "103899771998284@lid"),
            (json!({"userId": "BR.1502576394655843"}), "BR.1502576394655843"),
            (json!({"from": "5511966665555", "group": "120363041234567890@g.us"}), "120363041234567890@g.us"),
        ] {
            let mut body = person;
            body["type"] = "text".into();
            body["content"] = json!({"text": "Oi"});
            let said = simulate(stage, &body);
            let message = format!("/v1/channels/sandbox/messages/{}", text(&said, "messageId"));
            assert_eq!(stage.data(&message)["chat"]["address"], address);
            let (sent, shown) = sent(stage, "/text", &json!({"to": address, "content": "Bom dia"}));
            assert_eq!((&sent["to"], &shown["to"]), (&json!(address), &json!(address)));
            let is_number = !address.contains(['@', '.']);
            assert_eq!(sent["account"], if is_number { json!(address) } else { Value::Null });
            let conversation = text(&said, "conversationId");
            let chat = stage.rows(&format!("/v1/channels/sandbox/conversations/{conversation}"));
            assert!(chat.iter().any(|message| message["id"] == sent["id"]), "{address}: {chat:?}");
            let listed = stage.rows(&format!("/v1/channels/sandbox/messages?to={address}"));
            assert_eq!(listed.len(), 1, "{address}: {listed:?}");
        }
        for (to, quoted) in [("103899771998284@lid", true), ("103899771998285@lid", false)] {
            let target = stage.rows("/v1/channels/sandbox/messages?to=103899771998284@lid")[0]["id"].take();
            let reply = post(stage, "/text", &[], &json!({"to": to, "content": "b", "replyTo": target}));
            assert_eq!(reply.status, if quoted { 202 } else { 400 }, "{to}");
        }
        let fault = [("to", "O numero do destinatario deve estar no formato DDI+DDD+NUM.")];
        for to in ["status@broadcast", "120363041234567890@newsletter", "5511977776666@s.whatsapp.net", "BR.1 5"] {
            assert_faults(to, &post(stage, "/text", &[], &json!({"to": to, "content": "x"})), &fault);
            assert_faults(
                to,
                &stage.get(&format!("/v1/channels/sandbox/messages?to={}", to.replace(' ', "%20"))),
                &fault,
            );
        }
    });
}

#[test]
fn a_quote_is_of_the_same_chat() {
    let stage = Stage::set();
    let first = location(&post(&stage, "/text", &[], &json!({"to": TO, "content": "a"})).expect(202));
    let (id, network_id) = (stage.data(&first)["id"].clone(), stage.data(&first)["networkId"].clone());
    let reply = |to: &str, target: &Value| json!({"to": to, "content": "b", "replyTo": target});
    for target in [&id, &network_id] {
        let answer = location(&post(&stage, "/text", &[], &reply(TO, target)).expect(202));
        assert_eq!(stage.data(&answer)["replyTo"], id);
        // Another spelling of the same number.
        post(&stage, "/text", &[], &reply("+55 11 99999-8888", target)).expect(202);
    }
    let fault = [("replyTo", "A mensagem citada nao pertence a esta conversa.")];
    for (to, target) in [
        ("5511988887777", &id),
        (TO, &json!("01a2085f-07eb-7913-a5da-c9ff5fe6d655")),
        (TO, &json!("3EB0000000000000000000")),
    ] {
        assert_faults(&target.to_string(), &post(&stage, "/text", &[], &reply(to, target)), &fault);
    }
    // One that is sent later, and one that never is.
    let later = json!({"to": TO, "content": "c", "sendAt": in_an_hour()});
    let later = location(&post(&stage, "/text", &[], &later).expect(202));
    let later_id = stage.data(&later)["id"].clone();
    let refuses = |expected: &str| {
        let answer = post(&stage, "/text", &[], &reply(TO, &later_id));
        assert_faults(expected, &answer, &[("replyTo", expected)]);
    };
    refuses("A mensagem citada so e enviada depois desta.");
    stage.server.delete(&later, Some(&stage.key)).expect(200);
    refuses("A mensagem citada foi cancelada.");
    stage.open("other", &["connect"]);
    let body = reply(TO, &id).to_string();
    let other =
        stage.server.call("POST", "/v1/channels/other/messages/text", Some(&stage.key), &[JSON], Some(body.as_bytes()));
    assert_faults("another channel", &other, &fault);
}

#[test]
fn a_received_message_is_quoted() {
    on_both_engines(|stage| {
        let says = |person: &Value, text: &str, more: Value| {
            let mut body = person.clone();
            body["type"] = "text".into();
            body["content"] = json!({"text": text});
            more.as_object().expect("fields").iter().for_each(|(name, value)| body[name] = value.clone());
            simulate(stage, &body)
        };
        let fault = [("replyTo", "A mensagem citada nao pertence a esta conversa.")];
        let other = says(&json!({"from": "5521966665555"}), "segredo", json!({}));
        for (person, addresses) in [
            (json!({"from": "5511977776666"}), &["5511977776666", "551177776666"][..]),
            (json!({"from": "552177776666"}), &["552177776666", "5521977776666"][..]),
            (json!({"lid": "103899771998284"}), &["103899771998284@lid"][..]),
            (json!({"userId": "BR.1502576394655843"}), &["BR.1502576394655843"][..]),
            (json!({"from": "5511966665555", "group": "120363041234567890@g.us"}), &["120363041234567890@g.us"][..]),
        ] {
            let said = says(&person, "Qual o prazo?", json!({}));
            let conversation = json!({"conversationId": said["conversationId"]});
            let chats = addresses.iter().map(|address| json!({"to": address})).chain([conversation]);
            for (mut body, id) in chats.flat_map(|chat| ["messageId", "networkId"].map(|id| (chat.clone(), &said[id])))
            {
                body["content"] = "Amanha".into();
                body["replyTo"] = id.clone();
                let answer = location(&post(stage, "/text", &[], &body).expect(202));
                let message = stage.until(&answer, "READ");
                assert_eq!(message["replyTo"], said["messageId"], "{body}");
                let shown = stage.phone(text(&message, "to"));
                let shown = shown.iter().find(|shown| shown["networkId"] == message["networkId"]).expect("it arrived");
                assert_eq!(shown["replyTo"], said["networkId"], "{body}");
                for id in ["messageId", "networkId"] {
                    body["replyTo"] = other[id].clone();
                    assert_faults(&body.to_string(), &post(stage, "/text", &[], &body), &fault);
                }
            }
            let mut revoke = json!({"type": "revoke", "content": {"messageId": said["messageId"]}});
            person.as_object().expect("names").iter().for_each(|(name, value)| revoke[name] = value.clone());
            simulate(stage, &revoke);
            let body = json!({"to": addresses[0], "content": "b", "replyTo": said["messageId"]});
            let deleted = [("replyTo", "A mensagem citada foi apagada.")];
            assert_faults("deleted", &post(stage, "/text", &[], &body), &deleted);
        }
        // What the channel's phone wrote, and a person whose number became known later.
        let ana = json!({"from": "5511977776666"});
        let echo = says(&ana, "Do telefone", json!({"type": "echo"}));
        let body = json!({"to": "551177776666", "content": "b", "replyTo": echo["networkId"]});
        post(stage, "/text", &[], &body).expect(202);
        let hidden = says(&json!({"lid": "103899771998284"}), "Oi", json!({}));
        says(&json!({"lid": "103899771998284", "from": "5531977776666"}), "Sou eu", json!({}));
        for to in ["5531977776666", "553177776666", "103899771998284@lid"] {
            let body = json!({"to": to, "content": "b", "replyTo": hidden["messageId"]});
            post(stage, "/text", &[], &body).expect(202);
        }
    });
}

#[test]
fn an_unsupported_feature_is_refused_after_a_replay() {
    let stage = Stage::set();
    let refused = |field: &str| {
        format!(
            r#"{{"message":"Este canal nao oferece este recurso.","code":"NOT_SUPPORTED_BY_CHANNEL","errors":[{{"field":"{field}","message":"Este canal nao oferece este recurso."}}]}}"#
        )
    };
    let preview = json!({"to": TO, "content": "https://a.co", "linkPreview": true});
    let photo =
        json!({"to": TO, "contacts": [{"name": "M", "phones": [{"phone": "5511988887777"}], "photoMediaId": "x"}]});
    for (path, body, field) in [("/text", &preview, "linkPreview"), ("/contact", &photo, "contacts[0].photoMediaId")] {
        let answer = post(&stage, path, &[], body);
        assert_eq!((answer.status, answer.text()), (422, &*refused(field)));
        // A key that was used for another call is refused for that reason first.
        let key = ("Idempotency-Key", path);
        let mut good = body.clone();
        good["linkPreview"] = Value::Null;
        if path == "/contact" {
            good = json!({"to": TO, "name": "Maria", "phone": "5511988887777"});
        }
        post(&stage, path, &[key], &good).expect(202);
        assert_refused(path, &post(&stage, path, &[key], body), KEY_REUSED);
        assert_eq!(post(&stage, path, &[key], &good).header("Idempotent-Replayed"), Some("true"));
    }
}

#[test]
fn a_scheduled_call_is_answered_again_after_its_time() {
    let stage = Stage::set();
    let past = json!({"to": TO, "content": "x", "sendAt": "2020-01-01T00:00:00Z"});
    let fault = [("sendAt", "O campo sendAt deve ser uma data futura em RFC 3339.")];
    assert_faults("without a key", &post(&stage, "/text", &[], &past), &fault);
    assert_faults("with a key", &post(&stage, "/text", &[("Idempotency-Key", "k")], &past), &fault);
}

#[test]
fn a_body_names_its_kind() {
    let stage = Stage::set();
    for (body, message) in [
        (json!({"to": TO}), "O campo type e obrigatorio."),
        (json!({"type": "poll"}), "O campo type deve ser um destes: contact, text, location."),
    ] {
        assert_faults(message, &post(&stage, "", &[], &body), &[("type", message)]);
    }
    let named = json!({"to": TO, "content": "x", "type": "text"});
    assert_faults("a route of a kind", &post(&stage, "/text", &[], &named), &[("type", "Campo desconhecido.")]);
    // The routes share no keys, and the kind is a part of the call.
    let key = [("Idempotency-Key", "one")];
    post(&stage, "", &key, &named).expect(202);
    post(&stage, "/text", &key, &json!({"to": TO, "content": "x"})).expect(202);
    let other = json!({"to": TO, "type": "location", "latitude": 0, "longitude": 0});
    assert_refused("another kind", &post(&stage, "", &key, &other), KEY_REUSED);
}

#[test]
fn a_message_without_a_card_has_no_file() {
    let stage = Stage::set();
    let place = location(&post(&stage, "/text", &[], &json!({"to": TO, "content": "x"})).expect(202));
    let answer = stage.get(&format!("{place}/vcard"));
    assert_refused(
        "a text",
        &answer,
        (404, r#"{"message":"A mensagem nao tem cartao de contato.","code":"CARD_NOT_FOUND"}"#),
    );
    let card = json!({"name": "Ana", "phones": [{"phone": "5511988887777"}]});
    let place = location(&post(&stage, "/contact", &[], &json!({"to": TO, "contacts": [card, card]})).expect(202));
    let file = stage.get(&format!("{place}/vcard")).expect(200);
    assert_eq!(file.text().matches("END:VCARD\r\n").count(), 2);
}

#[test]
fn sending_needs_the_scope() {
    let stage = Stage::set();
    let scopes = ALL_SCOPES.replace("messages.send,", "");
    let key = create_key(&stage.home, "test", &scopes, "unlimited");
    for kind in KINDS {
        let path = format!("/v1/channels/sandbox/messages/{}", kind.name);
        stage.server.post(&path, &key, &(kind.examples)().remove(0)).expect(403);
    }
}

#[test]
fn a_message_that_quotes_an_unsent_message_fails() {
    let stage = Stage::set();
    let scenario = [("X-Ogmma-Sandbox-Scenario", "number_not_on_whatsapp")];
    let lost = location(&post(&stage, "/text", &scenario, &json!({"to": TO, "content": "a"})).expect(202));
    let id = stage.until(&lost, "FAILED")["id"].clone();
    let reply = json!({"to": TO, "content": "b", "replyTo": id});
    let reply = stage.until(&location(&post(&stage, "/text", &[], &reply).expect(202)), "FAILED");
    assert_eq!(reply["error"]["code"], "TARGET_NOT_SENT");
}

// --- The contract's table of kinds and channels (its section 8), in the rows that exist ---

/// S: offered; R: refused. The columns: Cloud API, WhatsApp Web, sandbox. A preview and a photo need the fetch client and
/// the store of media, so that no channel offers them yet; the contract's own letters are `SSS` and `RSS`.
const TABLE: [(&str, &str, Feature, &str); 13] = [
    ("text", "content", Feature::Kind, "SSS"),
    ("location", "latitude", Feature::Kind, "SSS"),
    ("contact", "name", Feature::Kind, "SSS"),
    ("contact", "contacts", Feature::SeveralContacts, "SSS"),
    ("text", "linkPreview", Feature::LinkPreview, "RRR"),
    ("contact", "photoMediaId", Feature::Photo, "RRR"),
    ("text", "replyTo", Feature::ReplyTo, "SSS"),
    ("location", "replyTo", Feature::ReplyTo, "SSS"),
    ("contact", "replyTo", Feature::ReplyTo, "SSS"),
    ("text", "sendAt", Feature::Schedule, "SSS"),
    ("text", "reference", Feature::Own, "SSS"),
    ("location", "ttlSeconds", Feature::Own, "SSS"),
    ("contact", "sendAt", Feature::Schedule, "SSS"),
];

#[test]
fn kinds_and_options_are_offered_as_the_contract_says() {
    let document = document();
    for (name, field, feature, cells) in TABLE {
        let kind = Kind::named(name).expect("a kind");
        let channels = [ChannelType::CloudApi, ChannelType::WhatsAppWeb, ChannelType::Sandbox];
        let letter = |channel| if (kind.supports)(channel, feature) { 'S' } else { 'R' };
        assert_eq!(channels.map(letter).into_iter().collect::<String>(), cells, "{name} {field}");
        let route = &document["paths"][format!("/v1/channels/{{channelId}}/messages/{name}")]["post"];
        let body = &document["components"]["schemas"][kind.body]["properties"];
        assert!(body[field].is_object(), "{name} has no {field} in the document");
        let codes = &resolved(&document, &route["responses"]["422"])["content"]["application/json"]["examples"];
        assert!(codes["NOT_SUPPORTED_BY_CHANNEL"].is_object(), "{name}: {codes}");
    }
    // The table has every offered feature.
    for kind in KINDS {
        for feature in Feature::ALL {
            let known = TABLE.iter().any(|(name, _, row, _)| (*name, *row) == (kind.name, feature))
                || matches!(feature, Feature::Schedule | Feature::Own);
            let offered = ChannelType::ALL.into_iter().any(|channel| (kind.supports)(channel, feature));
            assert!(known || !offered, "{} {feature:?}", kind.name);
        }
    }
}

#[test]
fn a_kind_that_is_not_sent_yet_is_not_called_a_wrong_method() {
    let stage = Stage::set();
    let refusal = json!({"message": "Recurso ainda nao disponivel.", "code": "NOT_IMPLEMENTED"});
    let path = |last: &str| format!("/v1/channels/sandbox/messages/{last}");
    let body = json!({"to": "5511999998888", "url": "https://example.com/a.png"});
    for kind in
        ["image", "video", "audio", "document", "react", "template", "buttons", "list", "cta", "poll", "sticker"]
    {
        assert_eq!(stage.server.post(&path(kind), &stage.key, &body).expect(501).json(), refusal, "{kind}");
    }
    let other = stage.server.post(&path("01a2085f-07eb-7913-a5da-c9ff5fe6d655"), &stage.key, &body);
    assert_refused("a message", &other, NO_METHOD);
    let put = stage.server.call("PUT", &path("image"), Some(&stage.key), &[JSON], Some(b"{}"));
    assert_refused("another method", &put, NO_METHOD);
}
