//! Conversations, through a dialogue with the sandbox: people write, callers answer and decide.

use serde_json::{Value, json};

use crate::harness::wait_for;
use crate::v1::{JSON, NO_CHANNEL, Refusal, Stage, assert_faults, assert_refused, on_both_engines, simulate, text};

const NO_CONVERSATION: Refusal = (404, r#"{"message":"Conversa nao encontrada.","code":"CONVERSATION_NOT_FOUND"}"#);
const CLOSED: Refusal = (409, r#"{"message":"Conversa encerrada.","code":"CONVERSATION_CLOSED"}"#);
const CHANGED: Refusal = (409, r#"{"message":"Conversa alterada por outra operacao.","code":"CONVERSATION_CHANGED"}"#);

const ANA: &str = "5511977776666";

/// A text of this person arrives; the ids of the message and of the conversation.
fn says(stage: &Stage, from: &str, content: &str) -> (String, String) {
    let body = json!({"from": from, "type": "text", "content": {"text": content}, "name": "Ana"});
    let data = simulate(stage, &body);
    (text(&data, "messageId").to_owned(), text(&data, "conversationId").to_owned())
}

fn path(id: &str) -> String {
    format!("/v1/conversations/{id}")
}

fn act(stage: &Stage, id: &str, action: &str, body: Option<&Value>) -> crate::harness::Answer {
    let method = if action == "read" { "POST" } else { "PATCH" };
    let bytes = body.map(Value::to_string);
    let headers = if body.is_some() { &[JSON][..] } else { &[] };
    stage.server.call(
        method,
        &format!("{}/{action}", path(id)),
        Some(&stage.key),
        headers,
        bytes.as_ref().map(String::as_bytes),
    )
}

#[track_caller]
fn after(stage: &Stage, id: &str, action: &str, body: Option<&Value>) -> Value {
    let shown = act(stage, id, action, body).expect(200).json()["data"].take();
    assert_eq!(shown, stage.data(&path(id)), "{action} shows another state than the conversation");
    shown
}

/// The ids of a list.
fn ids(stage: &Stage, query: &str) -> Vec<String> {
    let list = stage.get(&format!("/v1/conversations?limit=100{query}")).expect(200).json();
    list["data"].as_array().expect("a list").iter().map(|row| text(row, "id").to_owned()).collect()
}

/// The names of all events of conversations and contacts so far.
fn events(stage: &Stage) -> Vec<String> {
    let path = "/v1/events?from=oldest&limit=500&events=conversation.*,contact.*,message.received";
    let list = stage.get(path).expect(200).json();
    list["data"].as_array().expect("events").iter().map(|event| text(event, "event").to_owned()).collect()
}

/// An attendant reads the conversation, takes it, transfers it and closes it.
fn is_attended_to(stage: &Stage, first: &str, location: &str) {
    let read = after(stage, first, "read", None);
    assert_eq!(read["unreadCount"], 0);
    let received = stage.data(location);
    assert_eq!(received["status"], "READ");
    assert!(received["readAt"].is_string(), "{received}");
    // The person sees it.
    let shown = || stage.rows("/v1/sandbox/messages?direction=INBOUND");
    wait_for("the read signal", || shown().iter().all(|message| message["readAt"].is_string()));

    let bia = json!({"attendantId": "bia", "attendantName": "Bia"});
    let assigned = after(stage, first, "assign", Some(&bia));
    assert_eq!((&assigned["status"], &assigned["assignedTo"]), (&json!("OPEN"), &json!({"id": "bia", "name": "Bia"})));
    // A repetition changes nothing. A call that expects another attendant is refused.
    assert_eq!(after(stage, first, "assign", Some(&bia)), assigned);
    let late = json!({"attendantId": "leo", "expectedAttendantId": null});
    assert_refused("another was faster", &act(stage, first, "assign", Some(&late)), CHANGED);
    let leo = json!({"attendantId": "leo", "expectedAttendantId": "bia"});
    assert_eq!(after(stage, first, "assign", Some(&leo))["assignedTo"], json!({"id": "leo", "name": "leo"}));
    let transfer = json!({"attendantId": "bia", "departmentId": "suporte", "note": "Quer a segunda via"});
    let moved = after(stage, first, "transfer", Some(&transfer));
    assert_eq!((&moved["assignedTo"]["id"], &moved["departmentId"]), (&json!("bia"), &json!("suporte")));
    let moved = after(stage, first, "transfer", Some(&json!({"departmentId": "vendas"})));
    assert_eq!((&moved["assignedTo"], &moved["status"]), (&Value::Null, &json!("PENDING")));
    let moved = after(stage, first, "transfer", Some(&json!({"attendantId": "leo"})));
    assert_eq!(moved["departmentId"], "vendas", "it stays");
    let moved = after(stage, first, "transfer", Some(&json!({"departmentId": null})));
    assert_eq!((&moved["departmentId"], &moved["status"]), (&Value::Null, &json!("PENDING")));
    after(stage, first, "assign", Some(&bia));
    assert_eq!(after(stage, first, "unassign", None)["status"], "PENDING");

    let closed = after(stage, first, "close", Some(&json!({"reason": "Resolvido"})));
    assert_eq!((&closed["status"], &closed["closeReason"]), (&json!("CLOSED"), &json!("Resolvido")));
    assert!(closed["closedAt"].is_string(), "{closed}");
    assert_eq!(after(stage, first, "close", None), closed);
    for (action, body) in [("assign", Some(&bia)), ("transfer", Some(&transfer)), ("unassign", None)] {
        assert_refused(action, &act(stage, first, action, body), CLOSED);
    }
}

#[test]
fn a_call_without_fields_refuses_a_body_that_it_would_not_obey() {
    let stage = Stage::set();
    let (_, id) = says(&stage, ANA, "Oi");
    after(&stage, &id, "assign", Some(&json!({"attendantId": "bia"})));
    let calls = [
        ("PATCH", format!("{}/unassign", path(&id))),
        ("PATCH", format!("{}/reopen", path(&id))),
        ("POST", format!("{}/read", path(&id))),
        ("POST", "/v1/channels/sandbox/pause".to_owned()),
        ("POST", "/v1/channels/sandbox/resume".to_owned()),
        ("POST", "/v1/channels/sandbox/disconnect".to_owned()),
        ("POST", format!("/v1/webhooks/x/logs/dlv_{}/replay", "0".repeat(32))),
    ];
    for (method, path) in &calls {
        let call = |headers: &[(&str, &str)], body: &str| {
            stage.server.call(method, path, Some(&stage.key), headers, Some(body.as_bytes()))
        };
        let unknown = [("expectedAttendantId", "Campo desconhecido.")];
        assert_faults(path, &call(&[JSON], r#"{"expectedAttendantId":"leo"}"#), &unknown);
        for bad in ["[1]", "{bad"] {
            assert_eq!(call(&[JSON], bad).expect(400).json()["errors"][0]["field"], "body", "{path} {bad}");
        }
        call(&[("Content-Type", "text/plain")], "x").expect(415);
        let answer = call(&[JSON], "{}");
        assert!(!matches!(answer.status, 400 | 415), "{path}: {}", answer.text());
    }
    stage.act("sandbox", "connect");
    assert_eq!(stage.data(&path(&id))["status"], "PENDING", "the last unassign had no condition");
}

/// The next message begins another one. The first one is opened again when that is over.
fn begins_again(stage: &Stage, first: &str, contact: &Value) {
    let (_, second) = says(stage, ANA, "Mais uma coisa");
    assert_ne!(second, first);
    assert_eq!(stage.data(&path(&second))["contact"], *contact);
    assert_eq!(ids(stage, ""), [second.clone(), first.to_owned()]);
    assert_refused("a newer one goes on", &act(stage, first, "reopen", None), CHANGED);
    after(stage, &second, "close", None);
    let reopened = after(stage, first, "reopen", None);
    assert_eq!((&reopened["status"], &reopened["closedAt"]), (&json!("OPEN"), &Value::Null));
    assert_eq!(reopened["closeReason"], Value::Null);
    let (_, third) = says(stage, ANA, "E outra");
    assert_eq!(third, first);
}

#[test]
fn a_dialogue_goes_from_the_first_message_to_a_new_conversation() {
    on_both_engines(|stage| {
        // The first reader begins to record events.
        stage.get("/v1/events").expect(200);
        let (message, first) = says(stage, ANA, "Oi, tudo bem?");
        let shown = stage.data(&path(&first));
        assert_eq!((&shown["status"], &shown["unreadCount"]), (&json!("PENDING"), &json!(1)), "{shown}");
        assert_eq!((&shown["contact"]["name"], &shown["contact"]["phone"]), (&json!("Ana"), &json!(ANA)));
        assert_eq!((&shown["channelId"], &shown["kind"]), (&json!("sandbox"), &json!("DIRECT")));
        assert_eq!((&shown["window"]["state"], &shown["assignedTo"]), (&json!("NONE"), &Value::Null));
        let last = &shown["lastMessage"];
        assert_eq!((&last["id"], &last["content"]), (&json!(message), &json!("Oi, tudo bem?")));
        assert_eq!(stage.rows("/v1/conversations"), std::slice::from_ref(&shown));

        let location = format!("/v1/channels/sandbox/messages/{message}");
        let received = stage.data(&location);
        assert_eq!((&received["direction"], &received["status"]), (&json!("INBOUND"), &json!("RECEIVED")));
        assert_eq!((&received["from"], &received["conversationId"]), (&json!(ANA), &json!(first)));
        assert_eq!(stage.rows("/v1/channels/sandbox/messages?direction=INBOUND"), std::slice::from_ref(&received));
        assert_eq!(stage.rows("/v1/channels/sandbox/messages"), [Value::Null; 0]);

        // The answer goes to the address of the chat, and is part of the conversation.
        let to = text(&shown["chat"], "address");
        let answer = json!({"to": to, "content": "Tudo!"});
        let sent = stage.server.post("/v1/channels/sandbox/messages/text", &stage.key, &answer).expect(202);
        let sent = crate::v1::location(&sent);
        stage.until(&sent, "READ");
        let messages = format!("/v1/channels/sandbox/conversations/{first}");
        wait_for("the answer to be in the conversation", || stage.rows(&messages).len() == 2);
        let both = stage.rows(&messages);
        assert_eq!([&both[0]["direction"], &both[1]["direction"]], ["OUTBOUND", "INBOUND"]);
        let reversed: Vec<_> = both.iter().rev().cloned().collect();
        assert_eq!(stage.rows(&format!("{messages}?order=asc")), reversed);
        assert_eq!(both[1], received);

        is_attended_to(stage, &first, &location);
        begins_again(stage, &first, &shown["contact"]);
        let received = |events: &[String]| events.iter().filter(|event| **event == "message.received").count();
        wait_for("the events", || received(&events(stage)) == 3);
        let events = events(stage);
        for (name, times) in
            [("message.received", 3), ("contact.created", 1), ("conversation.created", 2), ("conversation.closed", 2)]
        {
            assert_eq!(events.iter().filter(|event| **event == name).count(), times, "{name} in {events:?}");
        }
    });
}

/// Sends a text, and waits until the phone shows it. Returns the message.
fn sends(stage: &Stage, body: &Value) -> Value {
    let sent = stage.server.post("/v1/channels/sandbox/messages/text", &stage.key, body).expect(202);
    let sent = crate::v1::location(&sent);
    stage.until(&sent, "READ");
    stage.data(&sent)
}

/// The list of the channel has the messages of one conversation, of each direction.
fn lists_its_messages(stage: &Stage, id: &str, sent: &[Value], received: &Value) {
    sends(stage, &json!({"to": "5521966665555", "content": "Outra conversa"}));
    says(stage, "5521966665555", "Sim");
    let list = "/v1/channels/sandbox/messages";
    let of = format!("{list}?conversationId={id}");
    assert_eq!(stage.rows(&of), sent);
    assert_eq!(stage.rows(&format!("{of}&direction=OUTBOUND")), sent);
    assert_eq!(stage.rows(&format!("{of}&direction=INBOUND")), std::slice::from_ref(received));
    let first = stage.get(&format!("{of}&limit=1")).expect(200).json();
    assert_eq!(first["data"], json!([sent[0]]));
    let rest = stage.get(&format!("{of}&limit=1&cursor={}", text(&first["pagination"], "nextCursor"))).expect(200);
    assert_eq!(rest.json()["data"], json!([sent[1]]));
    let unknown = format!("{list}?conversationId={}", text(received, "id"));
    assert_refused("of nothing", &stage.get(&unknown), NO_CONVERSATION);
    let filter = "O filtro nao se aplica com conversationId.";
    assert_faults("status", &stage.get(&format!("{of}&status=READ")), &[("status", filter)]);
    // Those of one person, by either form of the number.
    for number in ["%2B55%2011%2097777-6666", "551177776666"] {
        let of_ana = format!("{list}?direction=INBOUND&from={number}");
        assert_eq!(stage.rows(&of_ana), std::slice::from_ref(received), "{number}");
    }
    assert_eq!(stage.rows(&format!("{list}?direction=INBOUND&from=5531955554444")), [Value::Null; 0]);
    let filter = "O filtro nao se aplica a mensagens enviadas.";
    assert_faults("from", &stage.get(&format!("{list}?from={ANA}")), &[("from", filter)]);
    let malformed = "O numero do remetente deve estar no formato DDI+DDD+NUM.";
    assert_faults("from=12", &stage.get(&format!("{list}?direction=INBOUND&from=12")), &[("from", malformed)]);
    let malformed = "O campo conversationId deve ser o id de uma conversa.";
    assert_faults("x", &stage.get(&format!("{list}?conversationId=x")), &[("conversationId", malformed)]);
}

#[test]
fn a_sent_message_begins_a_conversation_and_an_answer_goes_to_it_by_its_id() {
    on_both_engines(|stage| {
        stage.get("/v1/events").expect(200);
        let first = sends(stage, &json!({"to": ANA, "content": "Seu pedido chegou."}));
        let id = text(&first, "conversationId");
        let begun = stage.data(&path(id));
        assert_eq!(
            (&begun["status"], &begun["contact"], &begun["unreadCount"]),
            (&json!("OPEN"), &Value::Null, &json!(0))
        );
        assert_eq!((&begun["chat"]["address"], &begun["window"]["state"]), (&json!(ANA), &json!("NONE")));
        let last = &begun["lastMessage"];
        assert_eq!(
            (&last["id"], &last["type"], &last["direction"]),
            (&first["id"], &json!("text"), &json!("OUTBOUND"))
        );
        assert_eq!(last["content"], "Seu pedido chegou.");
        assert_eq!(stage.rows("/v1/contacts"), [Value::Null; 0], "sending creates no contact");
        // The person answers under the number without the ninth digit.
        let (_, answered) = says(stage, "551177776666", "Obrigada!");
        assert_eq!(answered, id);
        let second = sends(stage, &json!({"conversationId": id, "content": "De nada."}));
        assert_eq!(second["conversationId"], *id);
        let shown = stage.data(&path(id));
        assert_eq!((&shown["lastMessage"]["id"], &shown["status"]), (&second["id"], &json!("OPEN")));
        assert_eq!(shown["updatedAt"], shown["lastMessage"]["createdAt"]);
        let contact = stage.data(&format!("/v1/contacts/{}", text(&shown["contact"], "id")));
        assert!(contact["lastOutboundAt"].is_string(), "{contact}");
        let all = stage.rows(&format!("/v1/channels/sandbox/conversations/{id}?order=asc"));
        let directions: Vec<_> = all.iter().map(|message| text(message, "direction")).collect();
        assert_eq!(directions, ["OUTBOUND", "INBOUND", "OUTBOUND"]);
        let of_sent = "/v1/events?from=oldest&limit=500&events=message.sent,message.delivered,message.read";
        let named = || -> Vec<Value> {
            let page = stage.get(of_sent).expect(200).json();
            let events = page["data"].as_array().expect("events");
            events.iter().map(|event| event["data"]["conversationId"].clone()).collect()
        };
        // On PostgreSQL, a transaction of another database may hold the reader back for a moment.
        wait_for("the events of two messages", || named().len() >= 6);
        assert_eq!(named(), vec![json!(id); 6]);
        // After the end of the conversation the same id leads to the same chat, and begins another one.
        after(stage, id, "close", None);
        let third = sends(stage, &json!({"conversationId": id, "content": "Mais alguma coisa?"}));
        let next = text(&third, "conversationId");
        assert_ne!(next, id);
        assert_eq!(
            (&stage.data(&path(next))["status"], &stage.data(&path(id))["status"]),
            (&json!("OPEN"), &json!("CLOSED"))
        );
        assert_eq!(third["to"], second["to"]);
        let all = stage.rows(&format!("/v1/channels/sandbox/conversations/{id}"));
        lists_its_messages(stage, id, &[all[0].clone(), all[2].clone()], &all[1]);
    });
}

#[test]
fn a_contact_that_is_added_later_is_that_of_the_conversation() {
    on_both_engines(|stage| {
        let closed = text(&sends(stage, &json!({"to": ANA, "content": "Oi"})), "conversationId").to_owned();
        after(stage, &closed, "close", None);
        let id = text(&sends(stage, &json!({"to": ANA, "content": "Oi"})), "conversationId").to_owned();
        assert!(stage.data(&path(&id))["contact"].is_null());
        // Under the number without the ninth digit.
        let (named, short) = (json!({"name": "Ana"}).to_string(), "/v1/contacts/by-phone/551177776666");
        let put = || stage.server.call("PUT", short, Some(&stage.key), &[JSON], Some(named.as_bytes()));
        let contact = put().expect(201).json()["data"].take();
        assert!(contact["lastOutboundAt"].is_string(), "{contact}");
        for one in [&closed, &id] {
            assert_eq!(stage.data(&path(one))["contact"]["id"], contact["id"], "{one}");
        }
        assert_eq!(ids(stage, &format!("&contactId={}", text(&contact, "id"))), [id.clone(), closed]);
        // The person and the caller go on in the same conversation.
        assert_eq!(says(stage, ANA, "Oi").1, id);
        assert_eq!(sends(stage, &json!({"to": ANA, "content": "b"}))["conversationId"], *id);
    });
}

#[test]
fn a_mistyped_number_takes_no_conversation_of_another_person() {
    on_both_engines(|stage| {
        let change = |id: &str, body: Value| {
            let path = format!("/v1/contacts/{id}");
            stage.server.call("PUT", &path, Some(&stage.key), &[JSON], Some(body.to_string().as_bytes())).expect(200);
        };
        let add = |name: &str, phone: &str| {
            let added =
                stage.server.post("/v1/contacts", &stage.key, &json!({"name": name, "phone": phone})).expect(201);
            text(&added.json()["data"], "id").to_owned()
        };
        // Bia wrote, and her contact was deleted. A call wrote to Caio, who has no contact.
        let (bia, caio) = ("5521966665555", "5531955554444");
        let of_bia = says(stage, bia, "Oi").1;
        let contact = text(&stage.data(&path(&of_bia))["contact"], "id").to_owned();
        stage.server.delete(&format!("/v1/contacts/{contact}"), Some(&stage.key)).expect(200);
        let of_caio = text(&sends(stage, &json!({"to": caio, "content": "Oi"})), "conversationId").to_owned();
        let ana = add("Ana", bia);
        assert!(stage.data(&path(&of_bia))["contact"].is_null(), "whom she wrote to");
        change(&ana, json!({"phone": ANA}));
        let other = add("Ana 2", caio);
        assert_eq!(stage.data(&path(&of_caio))["contact"]["id"], other, "nobody wrote");
        change(&other, json!({"phone": "5541944443333"}));
        for (conversation, number) in [(&of_bia, bia), (&of_caio, caio)] {
            let shown = stage.data(&path(conversation));
            assert_eq!((&shown["contact"], &shown["chat"]["address"]), (&Value::Null, &json!(number)));
            assert_eq!(sends(stage, &json!({"conversationId": conversation, "content": "b"}))["to"], number);
        }
    });
}

#[test]
fn an_answer_goes_to_the_number_that_the_person_has_now() {
    on_both_engines(|stage| {
        stage.open("vendas", &["connect"]);
        let arrives = |channel: &str, person: &Value| {
            let mut body = json!({"channelId": channel, "from": ANA, "type": "text", "content": {"text": "Oi"}});
            body.as_object_mut().expect("an object").extend(person.as_object().expect("an object").clone());
            text(&simulate(stage, &body), "conversationId").to_owned()
        };
        let first = arrives("sandbox", &json!({"name": "Ana", "lid": "900"}));
        let second = arrives("vendas", &json!({"name": "Ana"}));
        let contact = text(&stage.data(&path(&first))["contact"], "id").to_owned();
        let answer = sends(stage, &json!({"conversationId": first, "content": "Bom dia"}));
        assert_eq!(answer["to"], ANA);
        after(stage, &first, "close", None);
        // Another person gets the number. Ana is known by a hidden id on one channel, and by nothing on the other one.
        let of_beto = arrives("sandbox", &json!({"name": "Beto", "lid": "901"}));
        let address = |id: &str| stage.data(&path(id))["chat"]["address"].clone();
        assert_eq!([address(&of_beto), address(&first)], [json!(ANA), json!("900@lid")]);
        let to_ana = json!({"conversationId": first, "content": "Para Ana"});
        assert_eq!(sends(stage, &to_ana)["to"], "900@lid");
        let body = json!({"conversationId": second, "content": "Para Ana"});
        let to_vendas = || stage.server.post("/v1/channels/vendas/messages/text", &stage.key, &body);
        assert_refused("a person without an address", &to_vendas(), NO_CONVERSATION);
        // A caller knows the new number: every conversation has it, closed or not.
        let new = "5521966665555";
        let change = json!({"phone": new}).to_string();
        let put = format!("/v1/contacts/{contact}");
        stage.server.call("PUT", &put, Some(&stage.key), &[JSON], Some(change.as_bytes())).expect(200);
        assert_eq!([address(&first), address(&second)], [json!(new), json!(new)]);
        assert_eq!(sends(stage, &to_ana)["to"], new);
        let sent = crate::v1::location(&to_vendas().expect(202));
        assert_eq!(stage.until(&sent, "READ")["to"], new);
        let to_beto = stage.rows(&format!("/v1/channels/sandbox/conversations/{of_beto}"));
        assert_eq!(to_beto.len(), 1, "nothing was sent to Beto: {to_beto:?}");
        // What was sent to the former number stays in its conversation.
        let all = stage.rows(&format!("/v1/channels/sandbox/conversations/{first}"));
        assert!(all.iter().any(|message| message["id"] == answer["id"]), "{all:?}");
    });
}

#[test]
fn a_conversation_in_place_of_a_recipient_is_checked() {
    let stage = Stage::set();
    stage.open("vendas", &["connect"]);
    let (_, id) = says(&stage, ANA, "Oi");
    let send = |channel: &str, headers: &[(&str, &str)], body: &Value| {
        let path = format!("/v1/channels/{channel}/messages/text");
        let headers = [&[JSON], headers].concat();
        stage.server.call("POST", &path, Some(&stage.key), &headers, Some(body.to_string().as_bytes()))
    };
    let both = json!({"to": ANA, "conversationId": id, "content": "a"});
    let neither = json!({"content": "a"});
    let malformed = json!({"conversationId": "x", "content": "a"});
    for (body, field, message) in [
        (&both, "conversationId", "Informe to ou conversationId, nao os dois."),
        (&neither, "to", "O numero do destinatario e obrigatorio."),
        (&malformed, "conversationId", "O campo conversationId deve ser o id de uma conversa."),
    ] {
        assert_faults(&body.to_string(), &send("sandbox", &[], body), &[(field, message)]);
    }
    let body = json!({"conversationId": id, "content": "a"});
    assert_refused("a conversation of another channel", &send("vendas", &[], &body), NO_CONVERSATION);
    let unknown = json!({"conversationId": "01a2085f-0b11-7c35-9a02-5d0e9c1f7a44", "content": "a"});
    assert_refused("an unknown conversation", &send("sandbox", &[], &unknown), NO_CONVERSATION);
    // The key of a call covers the conversation.
    let key = [("Idempotency-Key", "resposta-1")];
    let first = crate::v1::location(&send("sandbox", &key, &body).expect(202));
    assert_eq!(crate::v1::location(&send("sandbox", &key, &body).expect(202)), first);
    for other in [json!({"to": ANA, "content": "a"}), unknown] {
        assert_eq!(send("sandbox", &key, &other).status, 422, "{other}");
    }
}

#[test]
fn a_channel_can_refuse_messages_for_a_closed_window() {
    on_both_engines(|stage| {
        let set = |guard: &str| {
            let body = json!({"settings": {"windowGuard": guard}}).to_string();
            let path = "/v1/channels/sandbox";
            stage.server.call("PUT", path, Some(&stage.key), &[JSON], Some(body.as_bytes())).expect(200);
        };
        set("refuse");
        let old = json!({
            "from": ANA, "type": "text", "content": {"text": "Oi"}, "windowed": true, "sentAt": "2026-01-01T00:00:00Z",
        });
        let conversation = text(&simulate(stage, &old), "conversationId").to_owned();
        assert_eq!(stage.data(&path(&conversation))["window"]["state"], "CLOSED");
        let send = |body: Value| {
            let path = "/v1/channels/sandbox/messages/text";
            stage.server.call("POST", path, Some(&stage.key), &[JSON], Some(body.to_string().as_bytes()))
        };
        let closed: Refusal =
            (409, r#"{"message":"Janela de atendimento de 24 horas fechada.","code":"WINDOW_CLOSED"}"#);
        assert_refused("the number", &send(json!({"to": ANA, "content": "a"})), closed);
        assert_refused("without its ninth digit", &send(json!({"to": "551177776666", "content": "a"})), closed);
        assert_refused("the conversation", &send(json!({"conversationId": conversation, "content": "a"})), closed);
        assert_eq!(stage.rows("/v1/channels/sandbox/messages"), [Value::Null; 0], "nothing was accepted");
        // Nothing is known of another person.
        send(json!({"to": "5511966665555", "content": "a"})).expect(202);
        set("off");
        send(json!({"to": ANA, "content": "a"})).expect(202);
        set("refuse");
        says(stage, ANA, "Oi de novo");
        send(json!({"to": ANA, "content": "a"})).expect(202);
    });
}

#[test]
fn filters_and_pages_of_conversations() {
    on_both_engines(|stage| {
        stage.open("vendas", &["connect"]);
        let mut all: Vec<String> = (0..5).map(|n| says(stage, &format!("551197777000{n}"), "Oi").1).collect();
        let body = json!({"from": ANA, "type": "text", "content": {"text": "Oi"}, "channelId": "vendas"});
        let vendas = text(&simulate(stage, &body), "conversationId").to_owned();
        all.push(vendas.clone());
        all.reverse();
        assert_eq!(ids(stage, ""), all);
        for limit in [1, 2, 4, 6] {
            let (mut seen, mut cursor) = (Vec::new(), String::new());
            loop {
                let page = stage.get(&format!("/v1/conversations?limit={limit}{cursor}")).expect(200).json();
                let rows = page["data"].as_array().expect("a list");
                assert!(rows.len() <= limit, "{page}");
                seen.extend(rows.iter().map(|row| text(row, "id").to_owned()));
                let Some(next) = page["pagination"]["nextCursor"].as_str() else { break };
                assert!(seen.len() <= all.len(), "the pages have no end");
                cursor = format!("&cursor={next}");
            }
            assert_eq!(seen, all, "limit {limit}");
        }
        let (one, two, three) = (&all[1], &all[2], &all[3]);
        after(stage, one, "assign", Some(&json!({"attendantId": "bia"})));
        after(stage, two, "transfer", Some(&json!({"departmentId": "suporte"})));
        after(stage, three, "close", None);
        after(stage, three, "read", None);
        let contact = text(&stage.data(&path(one))["contact"], "id").to_owned();
        let others =
            |left_out: &[&String]| -> Vec<String> { all.iter().filter(|id| !left_out.contains(id)).cloned().collect() };
        assert_eq!(ids(stage, "&status=OPEN"), std::slice::from_ref(one));
        assert_eq!(ids(stage, "&status=CLOSED"), std::slice::from_ref(three));
        assert_eq!(ids(stage, "&status=PENDING"), others(&[one, three]));
        assert_eq!(ids(stage, "&assignedTo=bia"), std::slice::from_ref(one));
        assert_eq!(ids(stage, "&assignedTo=leo"), [""; 0]);
        assert_eq!(ids(stage, "&departmentId=suporte"), std::slice::from_ref(two));
        assert_eq!(ids(stage, "&channelId=vendas"), [vendas]);
        assert_eq!(ids(stage, &format!("&contactId={contact}")), std::slice::from_ref(one));
        assert_eq!(ids(stage, "&unread=true"), others(&[three]));
        assert_eq!(ids(stage, "&window=OPEN"), [""; 0], "this channel has no window");
        assert_eq!(ids(stage, "&status=PENDING&unread=true&channelId=sandbox"), others(&[one, three, &all[0]]));
    });
}

#[test]
fn invalid_calls_are_told_what_is_wrong() {
    let stage = Stage::set();
    let (message, id) = says(&stage, ANA, "Oi");
    for (query, field, message) in [
        ("limit=0", "limit", "O limite deve ser um numero de 1 a 100."),
        ("cursor=x", "cursor", "Cursor invalido."),
        ("status=open", "status", "O status deve ser PENDING, OPEN ou CLOSED."),
        ("assignedTo=", "assignedTo", "O campo assignedTo deve ter de 1 a 64 caracteres ASCII visiveis."),
        ("assignedTo=%1F", "assignedTo", "O campo assignedTo deve ter de 1 a 64 caracteres ASCII visiveis."),
        ("departmentId=a+b", "departmentId", "O campo departmentId deve ter de 1 a 64 caracteres ASCII visiveis."),
        ("channelId=a.b", "channelId", "O campo channelId deve ser o id de um canal."),
        ("contactId=1", "contactId", "O campo contactId deve ser o id de um contato."),
        ("unread=false", "unread", "O filtro unread deve ser true."),
        ("window=CLOSED", "window", "O filtro window deve ser OPEN."),
        ("page=1", "page", "Campo desconhecido."),
    ] {
        assert_faults(query, &stage.get(&format!("/v1/conversations?{query}")), &[(field, message)]);
    }
    assert_refused("no channel", &stage.get("/v1/conversations?channelId=nowhere"), NO_CHANNEL);
    for (action, body, field, message) in [
        ("assign", "{}", "attendantId", "O campo attendantId e obrigatorio."),
        (
            "assign",
            r#"{"attendantId":"a b"}"#,
            "attendantId",
            "O campo attendantId deve ter de 1 a 64 caracteres ASCII visiveis.",
        ),
        ("transfer", "{}", "attendantId", "Informe attendantId ou departmentId."),
        ("close", r#"{"reason":"\u0085"}"#, "reason", "O campo reason contem caracteres invalidos."),
        ("close", r#"{"x":1}"#, "x", "Campo desconhecido."),
    ] {
        let body: Value = serde_json::from_str(body).expect("JSON");
        assert_faults(action, &act(&stage, &id, action, Some(&body)), &[(field, message)]);
    }
    let nobody = "00000000-0000-7000-8000-000000000000";
    for unknown in [nobody, "x", &id.to_uppercase(), &message] {
        assert_refused(unknown, &stage.get(&path(unknown)), NO_CONVERSATION);
        assert_refused(unknown, &act(&stage, unknown, "close", None), NO_CONVERSATION);
        let messages = format!("/v1/channels/sandbox/conversations/{unknown}");
        assert_refused(unknown, &stage.get(&messages), NO_CONVERSATION);
    }
    // A conversation of another channel is none of this one.
    stage.open("vendas", &["connect"]);
    assert_refused("channel", &stage.get(&format!("/v1/channels/vendas/conversations/{id}")), NO_CONVERSATION);
    assert_refused("none", &stage.get(&format!("/v1/channels/nowhere/conversations/{id}")), NO_CHANNEL);
    for query in ["limit=501", "limit=0"] {
        let list = stage.get(&format!("/v1/channels/sandbox/conversations/{id}?{query}"));
        assert_faults(query, &list, &[("limit", "O limite deve ser um numero de 1 a 500.")]);
    }
    let cancelled = stage.server.delete(&format!("/v1/channels/sandbox/messages/{message}"), Some(&stage.key));
    assert_eq!(cancelled.expect(409).json()["code"], "MESSAGE_NOT_CANCELLABLE");
}

#[test]
fn conversations_of_a_deleted_channel_are_no_open_work() {
    on_both_engines(|stage| {
        stage.open("vendas", &["connect"]);
        let body = json!({"channelId": "vendas", "from": ANA, "type": "text", "content": {"text": "Oi"}});
        let id = text(&simulate(stage, &body), "conversationId").to_owned();
        assert_eq!(ids(stage, "&status=PENDING"), std::slice::from_ref(&id));
        stage.server.delete("/v1/channels/vendas", Some(&stage.key)).expect(200);
        assert_eq!(ids(stage, "&status=PENDING"), Vec::<String>::new());
        let shown = stage.data(&path(&id));
        assert_eq!((&shown["status"], &shown["channelId"]), (&json!("CLOSED"), &json!("vendas")));
        assert_eq!(stage.rows(&format!("/v1/channels/vendas/conversations/{id}")).len(), 1);
    });
}

/// Lists messages of a path page by page. Returns how many each page has, and checks that each message is there once.
fn pages(stage: &Stage, path: &str) -> Vec<usize> {
    let (mut counts, mut ids) = (Vec::new(), std::collections::HashSet::new());
    let mut cursor = String::new();
    loop {
        let answer = stage.get(&format!("{path}{cursor}")).expect(200);
        assert!(answer.body.len() < 6 << 20, "{} bytes", answer.body.len());
        let page = answer.json();
        let messages = page["data"].as_array().expect("a list");
        ids.extend(messages.iter().map(|message| text(message, "id").to_owned()));
        counts.push(messages.len());
        let Some(next) = page["pagination"]["nextCursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(ids.len(), counts.iter().sum::<usize>(), "a message is listed twice");
    counts
}

#[test]
fn a_page_of_long_messages_ends_early_and_goes_on_by_its_cursor() {
    const MESSAGES: usize = 350;
    on_both_engines(|stage| {
        let long = "\u{1f600}".repeat(4_000);
        let conversations = (0..MESSAGES).map(|n| says(stage, ANA, &format!("{n} {long}")).1);
        let conversations: std::collections::HashSet<_> = conversations.collect();
        let id = conversations.iter().next().expect("a conversation");
        for order in ["desc", "asc"] {
            let path = format!("/v1/channels/sandbox/conversations/{id}?limit=500&order={order}");
            // Each step has 0.8 MB.
            assert_eq!(pages(stage, &path), [250, MESSAGES - 250]);
        }
        let received = pages(stage, "/v1/channels/sandbox/messages?direction=INBOUND&limit=100");
        assert_eq!(received, [100, 100, 100, MESSAGES - 300], "pages of a hundred are short enough");
    });
}
