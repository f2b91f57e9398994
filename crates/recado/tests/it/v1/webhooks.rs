//! `/v1/webhooks`: what can be set, what is shown, what is refused.

use serde_json::{Value, json};

use crate::harness::{Answer, Home, Server};
use crate::v1::{FORBIDDEN, assert_faults, assert_refused, create_key};
use crate::webhooks::{LOOPBACK, Stage};

const NO_WEBHOOK: (u16, &str) = (404, r#"{"message":"Webhook nao encontrado.","code":"WEBHOOK_NOT_FOUND"}"#);
const PUBLIC: &str = "https://crm.example.com/recado";

fn create(stage: &Stage, body: &Value) -> Answer {
    stage.server.post("/v1/webhooks", &stage.key, body)
}

/// The fields of a webhook that was just created, without what differs.
fn settings(mut webhook: Value) -> Value {
    let fields = webhook.as_object_mut().expect("an object");
    for name in ["id", "createdAt", "updatedAt"] {
        assert!(fields.shift_remove(name).is_some_and(|value| value.is_string()), "{name}");
    }
    webhook
}

#[test]
fn a_webhook_has_defaults_and_shows_a_made_secret_once() {
    let stage = Stage::set();
    let created = create(&stage, &json!({"url": PUBLIC, "events": ["message.*"]})).expect(201);
    let mut data = created.json()["data"].take();
    let path = created.header("Location").expect("a location").to_owned();
    assert_eq!(path, format!("/v1/webhooks/{}", data["id"].as_str().expect("an id")));
    let secret = data.as_object_mut().expect("an object").shift_remove("secret").expect("a secret");
    let secret = secret.as_str().expect("a text");
    assert_eq!((&secret[..6], secret.len()), ("whsec_", 6 + 44), "32 bytes");
    let expected = json!({
        "name": "crm.example.com", "url": PUBLIC, "events": ["message.*"], "active": true, "retryPolicy": null,
        "channelIds": null, "chatKinds": ["DIRECT"], "headers": [], "content": true, "order": "message",
        "failingSince": null, "disabledAt": null, "lastDeliveredAt": null,
    });
    assert_eq!(settings(data.clone()), expected);
    let shown = stage.server.get(&path, Some(&stage.key)).expect(200);
    assert_eq!(shown.json()["data"], data, "the secret is not shown again");
    let list = stage.server.get("/v1/webhooks", Some(&stage.key)).expect(200).json();
    assert_eq!(list, json!({"data": [data], "pagination": {"limit": 20, "nextCursor": null}}));
    // The files do not contain it.
    let key = secret.trim_start_matches("whsec_");
    let grep = ["-r", "-l", "-a", "-F", "--devices=skip", key, stage.home.dir()];
    let found = std::process::Command::new("grep").args(grep).output().expect("grep runs");
    assert_eq!((found.status.code(), found.stdout.as_slice()), (Some(1), &b""[..]), "files that hold the secret");
}

#[test]
fn all_fields_are_set_and_changed_and_left_as_they_are() {
    let stage = Stage::set();
    let body = json!({
        "name": "CRM da loja", "url": format!("{PUBLIC}?a=b"), "events": ["message.sent", "channel.*"], "secret": "um segredo nosso 123",
        "active": false, "retryPolicy": {"maxRetries": 3}, "channelIds": ["sandbox"], "chatKinds": ["GROUP", "DIRECT"],
        "headers": {"Authorization": "Bearer abc"}, "content": false, "order": "conversation",
    });
    let created = create(&stage, &body).expect(201).json()["data"].take();
    assert!(created["secret"].is_null(), "the caller has it");
    let path = format!("/v1/webhooks/{}", created["id"].as_str().expect("an id"));
    let mut expected = json!({
        "name": "CRM da loja", "url": format!("{PUBLIC}?a=b"), "events": ["message.sent", "channel.*"], "active": false,
        "retryPolicy": {"maxRetries": 3, "retryDelay": 30_000}, "channelIds": ["sandbox"],
        "chatKinds": ["DIRECT", "GROUP"], "headers": ["Authorization"], "content": false, "order": "conversation",
        "failingSince": null, "disabledAt": null, "lastDeliveredAt": null,
    });
    assert_eq!(settings(stage.data(&path)), expected);
    stage.put(&path, &json!({})).expect(200);
    assert_eq!(settings(stage.data(&path)), expected, "nothing was given");
    for (name, value, shown) in [
        ("name", json!("outro nome"), json!("outro nome")),
        ("active", json!(true), json!(true)),
        ("retryPolicy", Value::Null, Value::Null),
        ("channelIds", Value::Null, Value::Null),
        ("chatKinds", json!(["GROUP"]), json!(["GROUP"])),
        ("headers", json!({}), json!([])),
        ("content", json!(true), json!(true)),
        ("order", json!("message"), json!("message")),
        ("events", json!(["*"]), json!(["*"])),
        ("url", json!("https://1.1.1.1/x"), json!("https://1.1.1.1/x")),
    ] {
        expected[name] = shown;
        let answer = stage.put(&path, &json!({ name: value })).expect(200).json()["data"].take();
        assert_eq!((settings(answer), settings(stage.data(&path))), (expected.clone(), expected.clone()), "{name}");
    }
    assert_eq!(
        stage.server.delete(&path, Some(&stage.key)).expect(200).json(),
        json!({"success": true, "message": "Webhook removido."})
    );
    assert_refused("deleted", &stage.server.get(&path, Some(&stage.key)), NO_WEBHOOK);
    assert_refused("deleted", &stage.server.delete(&path, Some(&stage.key)), NO_WEBHOOK);
    assert_refused("deleted", &stage.put(&path, &json!({})), NO_WEBHOOK);
    assert_eq!(stage.data("/v1/webhooks"), json!([]));
}

#[test]
fn null_has_one_meaning_in_each_field() {
    let stage = Stage::set();
    let body = json!({
        "name": "CRM", "url": PUBLIC, "events": ["message.sent"], "active": false, "retryPolicy": {"maxRetries": 3},
        "channelIds": ["sandbox"], "chatKinds": ["GROUP"], "headers": {"X-A": "1"}, "content": false, "order": "conversation",
    });
    let created = create(&stage, &body).expect(201).json()["data"].take();
    let path = format!("/v1/webhooks/{}", created["id"].as_str().expect("an id"));
    let before = settings(stage.data(&path));
    for (name, cleared) in [("channelIds", Value::Null), ("retryPolicy", Value::Null), ("headers", json!([]))] {
        assert_ne!(before[name], cleared, "{name}");
        stage.put(&path, &json!({ name: null })).expect(200);
        assert_eq!(stage.data(&path)[name], cleared, "{name}");
    }
    let before = settings(stage.data(&path));
    for name in ["name", "url", "events", "secret", "active", "chatKinds", "content", "order"] {
        stage.put(&path, &json!({ name: null })).expect(200);
        assert_eq!(settings(stage.data(&path)), before, "{name}");
    }
    // The manual and the document say so.
    let manual = include_str!("../../../../../docs/api.md");
    let (_, table) = manual.split_once("\n### Null\n").expect("the manual has the table");
    let (table, _) = table.split_once("\n## ").expect("something follows");
    let document: Value = serde_json::from_str(include_str!("../../../../../openapi.json")).expect("JSON");
    for name in ["channelIds", "retryPolicy", "headers"] {
        assert!(table.contains(&format!("`{name}`")), "{name}");
        let about = &document["components"]["schemas"]["WebhookChange"]["properties"][name]["description"];
        assert!(about.as_str().expect("a description").contains("`null`"), "{name}: {about}");
    }
}

#[test]
fn every_invalid_field_is_named() {
    let stage = Stage::set();
    let url = ("url", "O campo url deve ser uma URL https.");
    let events = ("events", "O campo events deve ser uma lista de 1 a 64 eventos.");
    assert_faults("nothing given", &create(&stage, &json!({})), &[url, events]);
    let all = json!({
        "name": "ab", "url": "ftp://x", "events": ["message.none"], "secret": "short", "active": 1,
        "retryPolicy": {"maxRetries": 11, "retryDelay": 4_999, "x": 1}, "channelIds": ["none"], "chatKinds": ["X"],
        "headers": {"Host": "x", "X-A": ""}, "content": "no", "order": "none", "y": 1,
    });
    let refused = create(&stage, &all).expect(400).json();
    let named: Vec<_> = refused["errors"]
        .as_array()
        .expect("errors")
        .iter()
        .map(|one| one["field"].as_str().expect("a field").to_owned())
        .collect();
    let expected = [
        "name",
        "url",
        "events",
        "secret",
        "active",
        "retryPolicy.maxRetries",
        "retryPolicy.retryDelay",
        "retryPolicy.x",
        "channelIds",
        "chatKinds",
        "headers.Host",
        "headers.X-A",
        "content",
        "order",
        "y",
    ];
    assert_eq!(named, expected, "{refused}");
    let errors = refused["errors"].as_array().expect("errors");
    assert_eq!(errors[2]["message"], "Evento desconhecido: message.none.");
    assert_eq!(errors[3]["message"], "O secret deve ter de 16 a 256 caracteres.");
    assert_eq!(stage.data("/v1/webhooks"), json!([]), "nothing was stored");
}

#[test]
fn what_a_field_may_not_hold_is_named() {
    let stage = Stage::set();
    for (field, bad) in [
        ("name", json!("a\nbc")),
        ("name", json!("x".repeat(101))),
        ("events", json!([])),
        ("events", json!(["*", 1])),
        ("events", json!(vec!["*"; 65])),
        ("secret", json!("whsec_not base64!!")),
        ("secret", json!("0123456789\u{7}abcdef")),
        ("secret", json!("x".repeat(257))),
        ("retryPolicy", json!([])),
        ("channelIds", json!([])),
        ("chatKinds", json!([])),
        ("headers", json!([])),
        ("headers.content-type", json!({"content-type": "x"})),
        ("headers.Webhook-Id", json!({"Webhook-Id": "x"})),
        ("headers.Transfer-Encoding", json!({"Transfer-Encoding": "x"})),
        ("headers.X-A", json!({"X-A": "x\ny"})),
        ("headers.x a", json!({"x a": "x"})),
        ("headers.x-a", json!({"X-A": "1", "x-a": "2"})),
    ] {
        let name = field.split('.').next().expect("a name");
        let mut body = json!({"url": PUBLIC, "events": ["*"]});
        body[name] = bad.clone();
        let refused = create(&stage, &body).expect(400).json();
        assert_eq!(refused["errors"][0]["field"], field, "{bad}");
        assert_eq!(refused["errors"].as_array().map(Vec::len), Some(1), "{bad}");
    }
    assert_eq!(stage.data("/v1/webhooks"), json!([]), "nothing was stored");
}

#[test]
fn a_secret_is_told_whether_its_length_or_its_base64_is_wrong() {
    let stage = Stage::set();
    for (secret, message) in [
        ("whsec_not base64!!", "O secret deve ter base64 depois de whsec_."),
        ("whsec_x", "O secret deve ter de 16 a 256 caracteres."),
        ("0123456789\u{7}abcdef", "O secret deve ter de 16 a 256 caracteres."),
    ] {
        let body = json!({"url": PUBLIC, "events": ["*"], "secret": secret});
        assert_faults(secret, &create(&stage, &body), &[("secret", message)]);
    }
}

#[test]
fn a_url_leads_to_a_public_address_or_one_that_the_operator_allows() {
    let home = Home::init();
    let key = crate::v1::every_scope(&home);
    let server = home.serve_sealing(&[]);
    let of = |server: &Server, url: &str| {
        let answer = server.post("/v1/webhooks", &key, &json!({"url": url, "events": ["*"]}));
        match answer.status {
            201 => "created".to_owned(),
            _ => answer.expect(400).json()["errors"][0]["message"].as_str().expect("a text").to_owned(),
        }
    };
    let long = format!("https://crm.example.com/{}", "x".repeat(2_048));
    let (https, address) = ("O campo url deve ser uma URL https.", "O endereco do webhook nao e permitido.");
    for (url, expected) in [
        ("https://crm.example.com", "created"),
        ("https://crm.example.com:8443/a?b", "created"),
        ("https://1.1.1.1/", "created"),
        ("http://crm.example.com/", https),
        ("http://1.1.1.1/", https),
        ("http://127.0.0.1/", https),
        ("https://user:pw@crm.example.com/", "O campo url deve ser uma URL sem usuario e senha."),
        ("https://crm.example.com:22/", "O campo url deve ter a porta 80, 443 ou de 1024 a 65535."),
        (&*long, "O campo url deve ter no maximo 2048 caracteres."),
        ("crm.example.com", https),
        ("", https),
        ("https://127.0.0.1/", address),
        ("https://2130706433/", address),
        ("https://0x7f.1/", address),
        ("https://10.0.0.1/", address),
        ("https://169.254.169.254/latest", address),
        ("https://[::1]/", address),
        ("https://[::ffff:10.0.0.1]/", address),
        ("https://[fd00::1]/", address),
    ] {
        assert_eq!(of(&server, url), expected, "{url}");
    }
    drop(server);
    let server = home.serve_sealing(&LOOPBACK);
    for (url, expected) in [
        ("http://127.0.0.1:8000/", "created"),
        ("https://127.0.0.1/", "created"),
        ("http://localhost:8000/", "created"),
        ("http://10.0.0.1/", https),
        ("https://10.0.0.1/", address),
    ] {
        assert_eq!(of(&server, url), expected, "{url}");
    }
}

#[test]
fn a_key_subscribes_to_what_it_may_read() {
    let stage = Stage::set();
    let narrow = create_key(&stage.home, "test", "webhooks.read,webhooks.write,channels.read", "unlimited");
    let with = |events: Value| stage.server.post("/v1/webhooks", &narrow, &json!({"url": PUBLIC, "events": events}));
    for refused in [json!(["message.sent"]), json!(["message.*"]), json!(["channel.paused", "contact.*"])] {
        assert_refused(&refused.to_string(), &with(refused.clone()), FORBIDDEN);
    }
    let created = with(json!(["channel.*"])).expect(201).json()["data"].take();
    with(json!(["*"])).expect(201);
    let path = format!("/v1/webhooks/{}", created["id"].as_str().expect("an id"));
    let put = |key: &str, body: &str| {
        stage.server.call("PUT", &path, Some(key), &[("Content-Type", "application/json")], Some(body.as_bytes()))
    };
    assert_refused("more events", &put(&narrow, r#"{"events":["message.*"]}"#), FORBIDDEN);
    put(&narrow, r#"{"name":"other"}"#).expect(200);
    put(&stage.key, r#"{"events":["message.*"]}"#).expect(200);
    // A key leads no events that it may not read to a URL of its own.
    let mine = "https://mine.example.com/";
    for change in [json!({"url": mine}), json!({"url": mine, "events": ["channel.*"]}), json!({"active": true})] {
        let change = change.to_string();
        assert_refused(&change, &put(&narrow, &change), FORBIDDEN);
    }
}

#[test]
fn an_environment_has_fifty_webhooks_at_most() {
    let stage = Stage::set();
    let body = json!({"url": PUBLIC, "events": ["*"]});
    (0..50).for_each(|_| drop(create(&stage, &body).expect(201)));
    let full = (409, r#"{"message":"Limite de webhooks atingido.","code":"WEBHOOK_LIMIT_REACHED"}"#);
    assert_refused("one more", &create(&stage, &body), full);
    let page = stage.server.get("/v1/webhooks?limit=30", Some(&stage.key)).expect(200).json();
    let cursor = page["pagination"]["nextCursor"].as_str().expect("a cursor");
    let rest =
        stage.server.get(&format!("/v1/webhooks?cursor={cursor}&limit=100"), Some(&stage.key)).expect(200).json();
    let ids = |page: &Value| {
        page["data"].as_array().expect("a list").iter().map(|one| one["id"].to_string()).collect::<Vec<_>>()
    };
    let all: std::collections::BTreeSet<_> = ids(&page).into_iter().chain(ids(&rest)).collect();
    assert_eq!((all.len(), &rest["pagination"]["nextCursor"]), (50, &Value::Null));
    let one = ids(&page).remove(0);
    stage.server.delete(&format!("/v1/webhooks/{}", one.trim_matches('"')), Some(&stage.key)).expect(200);
    create(&stage, &body).expect(201);
    // Live keys have webhooks of their own.
    let live = create_key(&stage.home, "live", "webhooks.read,webhooks.write", "unlimited");
    stage.server.post("/v1/webhooks", &live, &body).expect(201);
}

#[test]
fn the_log_has_pages_and_filters() {
    let receiver = crate::webhooks::receiver::Receiver::start();
    let stage = Stage::set();
    let hook = stage.hook(&receiver.url("/"), &["message.sent", "message.read"], &json!({}));
    (0..5).for_each(|number| drop(stage.send(&format!("551199999888{number}"))));
    receiver.until(10);
    crate::harness::wait_for("ten deliveries", || {
        stage.log(&hook).iter().filter(|one| one["status"] == "DELIVERED").count() == 10
    });
    let all: Vec<_> = stage.log(&hook).iter().map(|one| one["id"].clone()).collect();
    let page =
        |query: &str| stage.server.get(&format!("{}/logs?{query}", hook.path), Some(&stage.key)).expect(200).json();
    let ids =
        |page: &Value| page["data"].as_array().expect("a list").iter().map(|one| one["id"].clone()).collect::<Vec<_>>();
    // By cursors.
    let (mut found, mut query) = (Vec::new(), "limit=4".to_owned());
    loop {
        let one = page(&query);
        assert_eq!((&one["pagination"]["total"], &one["pagination"]["offset"]), (&Value::Null, &Value::Null));
        found.extend(ids(&one));
        let Some(cursor) = one["pagination"]["nextCursor"].as_str() else { break };
        query = format!("limit=4&cursor={cursor}");
    }
    assert_eq!(found, all);
    // By numbers.
    let third = page("limit=4&page=3");
    assert_eq!(ids(&third), all[8..]);
    assert_eq!((&third["pagination"]["total"], &third["pagination"]["offset"]), (&json!(10), &json!(8)));
    assert_eq!(ids(&page("page=1&limit=100&event=message.read")).len(), 5);
    assert_eq!(page("page=1&event=message.read")["pagination"]["total"], 5);
    for (query, count) in [
        ("status=DELIVERED", 10),
        ("status=FAILED", 0),
        ("event=message.sent", 5),
        ("from=2020-01-01T00:00:00Z", 10),
        ("to=2020-01-01T00:00:00Z", 0),
        ("from=2999-01-01T00:00:00Z", 0),
    ] {
        assert_eq!(ids(&page(query)).len(), count, "{query}");
    }
    for bad in
        ["page=0", "page=1&cursor=5", "page=501", "status=X", "event=x", "from=x", "to=x", "cursor=x", "limit=0", "x=1"]
    {
        stage.server.get(&format!("{}/logs?{bad}", hook.path), Some(&stage.key)).expect(400);
    }
}

#[test]
fn a_server_without_a_secret_key_has_no_webhooks() {
    let home = Home::init();
    let key = crate::v1::every_scope(&home);
    let server = home.serve();
    let missing = (
        501,
        r#"{"message":"O servidor nao tem RECADO_SECRET_KEY: webhooks exigem uma chave para guardar segredos.","code":"SECRET_KEY_MISSING"}"#,
    );
    let body = json!({"url": PUBLIC, "events": ["*"]});
    assert_refused("no key", &server.post("/v1/webhooks", &key, &body), missing);
    assert_eq!(server.get("/v1/webhooks", Some(&key)).expect(200).json()["data"], json!([]));
}
