use serde_json::{Value, json};

use super::*;
use crate::field_errors::FieldErrors;
use crate::json::Object;
use crate::kinds::Context;

const NOW: Millis = 1_800_000_000_000;

fn parse(body: &Value) -> Result<Simulation, FieldErrors> {
    let text = body.to_string();
    let context = Context { country: None, now: NOW, ignores_unknown: false, may_repeat: false };
    Simulation::parse(&Object::parse(&text).expect("an object"), &context)
}

fn of(kind: &str, content: &Value) -> Simulation {
    let body = json!({"from": "5511977776666", "type": kind, "content": content});
    parse(&body).unwrap_or_else(|errors| panic!("{body}: {:?}", errors.as_slice()))
}

fn assert_faults(body: &Value, expected: &[(&str, &str)]) {
    let errors = parse(body).expect_err("refused");
    let found: Vec<_> = errors.as_slice().iter().map(|error| (&*error.field, &*error.message)).collect();
    assert_eq!(found, expected, "{body}");
}

const MEDIA: &str = "01a2085f-0c22-7d04-8a8e-2b1f3c4d5e6f";

/// The smallest content of every type.
fn smallest(kind: &str) -> Value {
    match kind {
        "text" | "echo" => json!({"text": "Oi"}),
        "image" | "video" | "audio" | "document" | "sticker" => json!({"url": "https://example.com/a"}),
        "location" => json!({"latitude": -23.5, "longitude": -46.6}),
        "contact" => json!({"name": "Maria", "phone": "5511988887777"}),
        "button" => json!({"title": "Sim"}),
        "poll" => json!({"question": "Vai?", "options": ["Sim", "Nao"]}),
        "unsupported" => json!({}),
        "reaction" | "revoke" | "poll_vote" => json!({"messageId": "3EB0"}),
        "edit" => json!({"messageId": "3EB0", "text": "Novo"}),
        "number_change" => json!({"phone": "5521977776666"}),
        "typing" => json!({"state": "recording"}),
        other => panic!("no content of {other}"),
    }
}

#[test]
fn every_type_is_read_stored_and_delivered() {
    for name in names() {
        let simulation = of(name, &smallest(name));
        let simulated = Simulated {
            network_id: "3EB1".to_owned(),
            group: None,
            person: simulation.person.clone(),
            sent_at: NOW,
            target: simulation.target.as_ref().map(|target| target.name.clone()),
            act: simulation.act.clone(),
        };
        assert_eq!(simulated.kind(), name);
        let stored = serde_json::to_string(&simulated).expect("JSON");
        assert_eq!(serde_json::from_str::<Simulated>(&stored).expect("read"), simulated, "{stored}");
        if let Act::Typing { state } = simulation.act {
            assert_eq!((state, simulated.arrival().is_none()), (Typing::Recording, true));
        } else {
            let arrival = simulated.arrival().expect("an arrival");
            assert_eq!((arrival.network_id.as_str(), arrival.from_me), ("3EB1", name == "echo"));
        }
        assert_eq!(simulation.target.is_some(), smallest(name).get("messageId").is_some());
        // A field that the type does not have, in the body and in its content.
        let mut content = smallest(name);
        content["other"] = 1.into();
        let body = json!({"from": "5511977776666", "type": name, "content": content, "to": "1"});
        assert_faults(&body, &[("content.other", "Campo desconhecido."), ("to", "Campo desconhecido.")]);
    }
}

#[test]
fn a_person_has_at_least_one_name() {
    let body = |names: Value| {
        let mut body = json!({"type": "text", "content": {"text": "Oi"}});
        for (name, value) in names.as_object().expect("an object") {
            body[name] = value.clone();
        }
        body
    };
    let person = |names: Value| parse(&body(names)).expect("valid").person;
    assert_eq!(person(json!({"from": "+55 (11) 97777-6666"})), SenderIds::of_phone("5511977776666"));
    assert_eq!(person(json!({"userId": "BR.1349", "from": null})), SenderIds::of_user_id("BR.1349"));
    assert_eq!(person(json!({"lid": "103899771998284", "from": ""})), SenderIds::of_lid("103899771998284"));
    let all = person(json!({"from": "5511977776666", "lid": "1", "userId": "BR.1", "name": "Ana"}));
    assert_eq!(all.keys().len(), 3);
    assert_eq!(all.name.as_deref(), Some("Ana"));
    assert_faults(&body(json!({})), &[("from", "O campo from e obrigatorio.")]);
    for (names, field, message) in [
        (json!({"from": "12"}), "from", "O numero do remetente deve estar no formato DDI+DDD+NUM."),
        (json!({"userId": "5511977776666"}), "userId", "O campo userId tem um formato invalido."),
        (json!({"userId": "br.1"}), "userId", "O campo userId tem um formato invalido."),
        (json!({"lid": "1@lid"}), "lid", "O campo lid tem um formato invalido."),
        (json!({"lid": 7}), "lid", "O campo lid deve ser uma string."),
        (json!({"from": "5511977776666", "name": "a\u{0}b"}), "name", "O campo name contem caracteres invalidos."),
        (
            json!({"from": "5511977776666", "name": "x".repeat(201)}),
            "name",
            "O campo name deve ter no maximo 200 caracteres.",
        ),
    ] {
        assert_faults(&body(names), &[(field, message)]);
    }
}

#[test]
fn every_invalid_field_is_named() {
    let body = json!({
        "from": "x", "type": "image", "content": {"url": "ftp://x", "caption": "\u{7}", "mimeType": "x", "expires": 1},
        "channelId": "a b", "group": "\n", "replyTo": "a b", "sentAt": "ontem", "repeat": 6, "outOfOrder": "x", "windowed": 1,
    });
    assert_faults(
        &body,
        &[
            ("from", "O numero do remetente deve estar no formato DDI+DDD+NUM."),
            ("content.url", "O campo content.url deve ser uma URL publica http ou https."),
            ("content.caption", "O campo content.caption contem caracteres invalidos."),
            ("content.mimeType", "O campo content.mimeType tem um formato invalido."),
            ("content.expires", "O campo content.expires deve ser um booleano."),
            ("channelId", "O campo channelId deve ser o id de um canal."),
            ("replyTo", "O campo replyTo contem caracteres invalidos."),
            ("sentAt", "O campo sentAt deve ser uma data em RFC 3339."),
            ("repeat", "O campo repeat deve estar entre 1 e 5."),
            ("outOfOrder", "O campo outOfOrder deve ser um booleano."),
            ("windowed", "O campo windowed deve ser um booleano."),
        ],
    );
    for (body, field) in [
        (json!({"from": "5511977776666"}), "type"),
        (json!({"from": "5511977776666", "type": ""}), "type"),
        (json!({"from": "5511977776666", "type": "call", "content": {}}), "type"),
        (json!({"from": "5511977776666", "type": "typing", "content": {}}), "content.state"),
        (json!({"from": "5511977776666", "type": "typing", "content": {"state": "typing"}}), "content.state"),
        (json!({"from": "5511977776666", "type": "typing", "content": {"state": "paused"}, "repeat": 2}), "repeat"),
        (json!({"from": "5511977776666", "type": "typing", "content": {"state": "paused"}, "replyTo": "x"}), "replyTo"),
        (json!({"from": "5511977776666", "type": "text"}), "content"),
        (json!({"from": "5511977776666", "type": "text", "content": "Oi"}), "content"),
        (json!({"from": "5511977776666", "type": "text", "content": {}}), "content.text"),
        (json!({"from": "5511977776666", "type": "text", "content": {"text": "\u{200b}"}}), "content.text"),
        (json!({"from": "5511977776666", "type": "revoke", "content": {"messageId": "x"}, "replyTo": "y"}), "replyTo"),
        (
            json!({"from": "5511977776666", "type": "button", "content": {"title": "x", "kind": "OUTRO"}}),
            "content.kind",
        ),
        (
            json!({"from": "5511977776666", "type": "poll", "content": {"question": "x", "options": ["a"]}}),
            "content.options",
        ),
        (
            json!({"from": "5511977776666", "type": "poll", "content": {"question": "x", "options": ["a", ""]}}),
            "content.options[1]",
        ),
        (json!({"from": "5511977776666", "type": "edit", "content": {"text": "x"}}), "content.messageId"),
        (json!({"from": "5511977776666", "type": "image", "content": {"mediaId": "x"}}), "content.mediaId"),
        (json!({"from": "5511977776666", "type": "image", "content": {"mediaId": ""}}), "content.url"),
        (
            json!({"from": "5511977776666", "type": "image", "content": {"mediaId": MEDIA, "url": "https://example.com/a"}}),
            "content.mediaId",
        ),
    ] {
        let errors = parse(&body).expect_err("refused");
        assert_eq!(errors.as_slice().iter().map(|error| &*error.field).collect::<Vec<_>>(), [field], "{body}");
    }
}

/// To build the schemas of `contact` takes about a second in a debug build, and a caller can ask for it again and again.
#[test]
fn to_refuse_a_field_builds_no_schema() {
    let mut content = smallest("contact");
    for number in 0..20 {
        content[format!("x{number}")] = json!(1);
    }
    let body = json!({"from": "5511977776666", "type": "contact", "content": content});
    let began = std::time::Instant::now();
    let errors = parse(&body).expect_err("refused");
    assert_eq!(errors.as_slice().len(), 20);
    assert!(began.elapsed() < std::time::Duration::from_millis(500), "{:?}", began.elapsed());
}

#[test]
fn a_reaction_is_one_emoji() {
    let of = |emoji: &str| {
        let content = json!({"messageId": "3EB0459984FC15DDAB10A5", "emoji": emoji});
        parse(&json!({"from": "5511977776666", "type": "reaction", "content": content}))
    };
    for good in ["👍", "👍🏽", "❤️", "👨‍👩‍👧", "🇧🇷", "1️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "©", ""]
    {
        assert!(of(good).is_ok(), "{good}");
    }
    for bad in ["abc", "👍👍", "👍 a", "1", "🇧", "12\u{20e3}"] {
        let errors = of(bad).expect_err(bad);
        let found: Vec<_> = errors.as_slice().iter().map(|error| (&*error.field, &*error.message)).collect();
        assert_eq!(found, [("content.emoji", "O campo content.emoji deve ser um unico emoji.")], "{bad}");
    }
}

#[test]
fn times_are_never_ahead() {
    let at = |text: &str| {
        let body = json!({"from": "5511977776666", "type": "text", "content": {"text": "Oi"}, "sentAt": text});
        parse(&body).expect("valid").sent_at
    };
    assert_eq!(at("2026-11-24T09:26:15.403-03:00"), Some(1_795_523_175_403));
    assert_eq!(
        (at("2999-01-01T00:00:00Z"), at("0001-01-01T00:00:00Z"), at("")),
        (Some(NOW), Some(1_230_768_000_000), None)
    );
}

#[test]
fn a_group_is_named_or_addressed() {
    let vendas = SimulatedGroup::named("Vendas");
    assert_eq!((vendas.name.as_deref(), vendas.address.len()), (Some("Vendas"), 25));
    assert_eq!(vendas, SimulatedGroup::named("Vendas"));
    assert_ne!(vendas.address, SimulatedGroup::named("vendas").address);
    let address = "120363021234567890@g.us";
    assert_eq!(SimulatedGroup::named(address), SimulatedGroup { address: address.to_owned(), name: None });
}

#[test]
fn what_arrives_is_what_was_given() {
    let image = of("image", &json!({"url": "https://example.com/a.png", "caption": "Olha", "expires": true}));
    let Act::Say { content, text, media: Some(media), .. } = image.act else { panic!("no file") };
    assert_eq!((content.object()["caption"].clone(), &*text), (json!("Olha"), "Olha"));
    assert_eq!(media.remote_id.as_deref(), Some("expired:https://example.com/a.png"));
    let again = of("image", &json!({"mediaId": MEDIA, "expires": true}));
    let Act::Say { media: Some(media), .. } = again.act else { panic!("no file") };
    assert_eq!((media.remote_id, &*media.mime_type), (Some(format!("expired:media:{MEDIA}")), ""));
    let audio = of("audio", &json!({"url": "https://example.com/a", "ptt": true}));
    assert!(matches!(&audio.act, Act::Say { media: Some(media), .. } if media.ptt));
    let contact = of("contact", &smallest("contact"));
    let Act::Say { content: Content::Contact { contacts, vcards }, text, .. } = contact.act else { panic!("no card") };
    assert_eq!(contacts, [json!({"name": "Maria", "phones": [{"phone": "5511988887777", "type": "CELL"}]})]);
    assert!(vcards[0].contains("TEL;type=CELL;type=VOICE;waid=5511988887777"));
    assert_eq!(text, "Maria");
    let mut button = of("button", &json!({"title": "Sim", "id": "a", "kind": "LIST"}));
    button.target = Some(Target { name: "3EB0".to_owned(), field: "replyTo" });
    let simulated = |simulation: Simulation, group: Option<SimulatedGroup>| Simulated {
        network_id: "3EB1".to_owned(),
        group,
        person: simulation.person,
        sent_at: NOW,
        target: simulation.target.map(|target| target.name),
        act: simulation.act,
    };
    let What::Message(new) = simulated(button, None).arrival().expect("one").what else { panic!("no message") };
    let choice = new.choice.expect("a choice");
    assert_eq!(
        (choice.kind, choice.id.as_deref(), choice.network_id.as_deref()),
        (ChoiceKind::List, Some("a"), Some("3EB0"))
    );
    assert_eq!(new.reply_to, Some(Quoted::of_id("3EB0")));
    let change = simulated(of("number_change", &smallest("number_change")), None).arrival().expect("one");
    assert!(matches!(&change.what, What::IdentityChanged { old } if *old == SenderIds::of_phone("5511977776666")));
    assert_eq!(change.person, SenderIds::of_phone("5521977776666"));
    let group = Some(SimulatedGroup::named("Vendas"));
    let echo = simulated(of("echo", &smallest("echo")), group.clone()).arrival().expect("one");
    assert!(echo.person.is_nobody() && echo.group.is_some(), "the channel is no person");
    let said = simulated(of("text", &smallest("text")), group).arrival().expect("one");
    assert_eq!(said.person, SenderIds::of_phone("5511977776666"));
}
