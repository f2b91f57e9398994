//! `POST /v1/channels`, `GET /v1/channels`: channels are created and listed.

use serde_json::{Value, json};

use crate::harness::Answer;
use crate::v1::{
    CARD, JSON, NO_JSON, NO_SECRET_KEY, Stage, TOO_LARGE, assert_faults, assert_refused, create_key, text,
};

const EXISTS: (u16, &str) = (409, r#"{"message":"Ja existe um canal com este id.","code":"CHANNEL_ALREADY_EXISTS"}"#);
const NO_NAME: (&str, &str) = ("name", "O nome do canal e obrigatorio.");
const BAD_NAME: (&str, &str) = ("name", "O nome do canal deve ter de 1 a 100 caracteres.");
const NAME_TYPE: (&str, &str) = ("name", "O campo name deve ser uma string.");
const NO_TYPE: (&str, &str) = ("type", "O tipo do canal e obrigatorio.");
const BAD_TYPE: (&str, &str) = ("type", "O tipo do canal deve ser SANDBOX, WHATSAPP_WABA ou WHATSAPP_BAILEYS.");
const BAD_ID: (&str, &str) = ("id", "O id do canal deve ter de 1 a 64 caracteres: letras, digitos, _ e -.");
const RESERVED: (&str, &str) = ("id", "O id sandbox e reservado.");

fn create(stage: &Stage, body: &Value) -> Answer {
    stage.server.post("/v1/channels", &stage.key, body)
}

#[test]
fn a_channel_is_made() {
    let stage = Stage::set();
    let answer = create(&stage, &json!({"name": " Suporte ", "type": "SANDBOX", "id": "A_b-9"})).expect(201);
    let channel = answer.json()["data"].clone();
    for (field, value) in [
        ("id", json!("A_b-9")),
        ("name", json!("Suporte")),
        ("type", json!("SANDBOX")),
        ("environment", json!("test")),
        ("state", json!("CREATED")),
        ("accepts", json!(false)),
        ("connectedAt", Value::Null),
    ] {
        assert_eq!(channel[field], value, "{field}");
    }
    assert_eq!(stage.data("/v1/channels/A_b-9"), channel);
    // Without an id, or with `null`, the server makes one that a path can contain.
    for body in [json!({"name": "x", "type": "SANDBOX"}), json!({"name": "x", "type": "SANDBOX", "id": null})] {
        let made = create(&stage, &body).expect(201).json();
        let id = text(&made["data"], "id");
        assert!(id.len() >= 8 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)), "{id}");
        stage.act(id, "connect");
        stage.until(&stage.accept(id, &[], CARD), "READ");
    }
}

#[test]
fn a_channel_is_made_with_settings() {
    let stage = Stage::set();
    let made = |settings: Value| {
        let body = json!({"name": "x", "type": "SANDBOX", "settings": settings});
        create(&stage, &body).expect(201).json()["data"].take()
    };
    let plain = made(Value::Null)["settings"].take();
    let channel = made(json!({"windowGuard": "refuse", "closeAfterHours": 24, "keepText": null}));
    let mut expected = plain.clone();
    (expected["windowGuard"], expected["closeAfterHours"]) = (json!("refuse"), json!(24));
    assert_eq!(channel["settings"], expected);
    assert_eq!(stage.data(&format!("/v1/channels/{}", text(&channel, "id"))), channel);
    assert_eq!(made(json!({}))["settings"], plain);
}

#[test]
fn an_invalid_channel_is_refused() {
    let stage = Stage::set();
    let (long_name, long_id) = ("n".repeat(101), "i".repeat(65));
    for (body, expected) in [
        (json!({}), &[NO_NAME, NO_TYPE][..]),
        (json!({"name": "", "type": null}), &[NO_NAME, NO_TYPE]),
        (json!({"name": long_name, "type": "SANDBOX"}), &[BAD_NAME]),
        (json!({"name": "a\nb", "type": "SANDBOX"}), &[BAD_NAME]),
        (json!({"name": "\u{200b}", "type": "SANDBOX"}), &[BAD_NAME]),
        (json!({"name": "x", "type": "sandbox"}), &[BAD_TYPE]),
        (json!({"name": "x", "type": "TELEGRAM"}), &[BAD_TYPE]),
        (json!({"name": "x", "type": "SANDBOX", "id": "sandbox"}), &[RESERVED]),
        (json!({"name": "x", "type": "SANDBOX", "id": "a.b"}), &[BAD_ID]),
        (json!({"name": "x", "type": "SANDBOX", "id": "a/b"}), &[BAD_ID]),
        (json!({"name": "x", "type": "SANDBOX", "id": "ç"}), &[BAD_ID]),
        (json!({"name": "x", "type": "SANDBOX", "id": long_id}), &[BAD_ID]),
        (
            json!({"name": 1, "type": [], "id": {}}),
            &[NAME_TYPE, ("type", "O campo type deve ser uma string."), ("id", "O campo id deve ser uma string.")],
        ),
        (json!({"name": "x", "type": "SANDBOX", "state": "CONNECTED"}), &[("state", "Campo desconhecido.")]),
        (json!({"x": 1, "id": "a.b", "name": 1}), &[NAME_TYPE, NO_TYPE, BAD_ID, ("x", "Campo desconhecido.")]),
        (
            json!({"name": "x", "type": "SANDBOX", "settings": 1}),
            &[("settings", "O campo settings deve ser um objeto.")],
        ),
        (
            json!({"type": "SANDBOX", "settings": {"pipeline": 0, "windowGuard": "on"}}),
            &[
                NO_NAME,
                ("settings.windowGuard", "O campo settings.windowGuard deve ser off ou refuse."),
                ("settings.pipeline", "Campo desconhecido."),
                ("settings.pipeline", "O campo settings.pipeline deve ser um numero de 1 a 256."),
            ],
        ),
    ] {
        assert_faults(&body.to_string(), &create(&stage, &body), expected);
    }
    let raw = |headers: &[(&str, &str)], body: &str| {
        stage.server.call("POST", "/v1/channels", Some(&stage.key), headers, Some(body.as_bytes()))
    };
    let twice = r#"{"name":"x","name":"y","type":"SANDBOX"}"#;
    assert_faults(twice, &raw(&[JSON], twice), &[("name", "Campo repetido.")]);
    assert_faults("[", &raw(&[JSON], "["), &[("body", "JSON invalido.")]);
    assert_refused("type", &raw(&[("Content-Type", "text/plain")], twice), NO_JSON);
    assert_refused("size", &raw(&[JSON], &" ".repeat(70 << 10)), TOO_LARGE);
    assert_eq!(stage.rows("/v1/channels").len(), 1, "something was made");
}

#[test]
fn an_id_is_given_once() {
    let stage = Stage::set();
    stage.open("mine", &[]);
    let again = json!({"name": "x", "type": "SANDBOX", "id": "mine"});
    assert_refused("again", &create(&stage, &again), EXISTS);
    assert_eq!(stage.data("/v1/channels/mine")["name"], "mine");
    // Ids are case-sensitive, and unique within an institution.
    create(&stage, &json!({"name": "x", "type": "SANDBOX", "id": "MINE"})).expect(201);
    let other = stage.home.cli(&["institutions", "create", "--name", "Another"]);
    stage.server.post("/v1/channels", text(&other, "testKey"), &again).expect(201);
    // Of many concurrent calls one creates the channel.
    let race = &json!({"name": "x", "type": "SANDBOX", "id": "race"});
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(|| create(&stage, race))).collect();
        all.into_iter().map(|one| one.join().expect("an answer")).collect()
    });
    let (made, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 201);
    refused.iter().for_each(|answer| assert_refused("a race", answer, EXISTS));
    assert_eq!(made.len(), 1);
}

#[test]
fn types_belong_to_an_environment() {
    let stage = Stage::set();
    let live = create_key(&stage.home, "live", "channels.write,channels.read", "unlimited");
    let create = |key: &str, kind: &str, id: &str| {
        stage.server.post("/v1/channels", key, &json!({"name": "x", "type": kind, "id": id}))
    };
    let refused = [("type", "Um canal SANDBOX exige uma chave de teste.")];
    assert_faults("SANDBOX live", &create(&live, "SANDBOX", "a"), &refused);
    for (kind, refused) in [
        ("WHATSAPP_WABA", "Um canal WHATSAPP_WABA exige uma chave live."),
        ("WHATSAPP_BAILEYS", "Um canal WHATSAPP_BAILEYS exige uma chave live."),
    ] {
        assert_faults(kind, &create(&stage.key, kind, "a"), &[("type", refused)]);
    }
    assert_refused("no secret key", &create(&live, "WHATSAPP_WABA", "a"), NO_SECRET_KEY);
    #[cfg(not(feature = "whatsapp-web"))]
    assert_refused("not built", &create(&live, "WHATSAPP_BAILEYS", "a"), crate::v1::NO_WHATSAPP_WEB);
    #[cfg(feature = "whatsapp-web")]
    assert_refused("no secret key", &create(&live, "WHATSAPP_BAILEYS", "a"), NO_SECRET_KEY);
    assert_faults("reserved", &create(&live, "WHATSAPP_WABA", "sandbox"), &[RESERVED]);
    assert_eq!(stage.server.get("/v1/channels", Some(&live)).expect(200).json()["data"], json!([]));
}

#[test]
fn channels_are_listed_page_by_page() {
    let stage = Stage::set();
    let names: Vec<_> = (0..7).map(|number| format!("listed-{number}")).collect();
    names.iter().for_each(|name| stage.open(name, &[]));
    stage.server.delete("/v1/channels/listed-3", Some(&stage.key)).expect(200);
    let expected = ["sandbox", "listed-0", "listed-1", "listed-2", "listed-4", "listed-5", "listed-6"];
    let ids = |list: &Value| -> Vec<String> {
        list["data"].as_array().expect("a list").iter().map(|row| text(row, "id").to_owned()).collect()
    };
    let whole = stage.get("/v1/channels").expect(200).json();
    assert_eq!(
        (ids(&whole), &whole["pagination"]),
        (expected.map(str::to_owned).to_vec(), &json!({"limit": 20, "nextCursor": null}))
    );
    assert_eq!(whole["data"][1], stage.data("/v1/channels/listed-0"));
    for limit in [1, 2, 3, 7] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = stage.get(&format!("/v1/channels?limit={limit}{cursor}")).expect(200).json();
            seen.extend(ids(&page));
            let Some(next) = page["pagination"]["nextCursor"].as_str() else { break };
            assert!(seen.len() < 20, "the pages have no end: {seen:?}");
            cursor = format!("&cursor={next}");
        }
        assert_eq!(seen, expected, "limit {limit}");
    }
    for (query, expected) in [
        ("limit=0", ("limit", "O limite deve ser um numero de 1 a 100.")),
        ("cursor=nowhere", ("cursor", "Cursor invalido.")),
        ("state=CREATED", ("state", "Campo desconhecido.")),
    ] {
        assert_faults(query, &stage.get(&format!("/v1/channels?{query}")), &[expected]);
    }
}
