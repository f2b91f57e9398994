//! Contacts: those who wrote, and those that a caller added.

use serde_json::{Value, json};

use crate::harness::{Answer, wait_for};
use crate::v1::{JSON, Refusal, Stage, assert_faults, assert_refused, on_both_engines, simulate, text};

const NO_CONTACT: Refusal = (404, r#"{"message":"Contato nao encontrado.","code":"CONTACT_NOT_FOUND"}"#);

const ANA: &str = "5511977776666";
/// The same number without its ninth digit.
const SHORT: &str = "551177776666";

fn put(stage: &Stage, id: &str, body: &Value) -> Answer {
    let path = format!("/v1/contacts/{id}");
    stage.server.call("PUT", &path, Some(&stage.key), &[JSON], Some(body.to_string().as_bytes()))
}

fn add(stage: &Stage, body: &Value) -> Value {
    let answer = stage.server.post("/v1/contacts", &stage.key, body).expect(201);
    let contact = answer.json()["data"].take();
    assert_eq!(answer.header("Location"), Some(&*format!("/v1/contacts/{}", text(&contact, "id"))));
    contact
}

fn names(stage: &Stage, query: &str) -> Vec<String> {
    let list = stage.get(&format!("/v1/contacts?{query}")).expect(200).json();
    list["data"].as_array().expect("a list").iter().map(|row| text(row, "name").to_owned()).collect()
}

fn says(stage: &Stage, from: &Value, content: &str) -> Value {
    let mut body = json!({"type": "text", "content": {"text": content}, "name": "Ana"});
    body.as_object_mut().expect("an object").extend(from.as_object().expect("an object").clone());
    let conversation = text(&simulate(stage, &body), "conversationId").to_owned();
    stage.data(&format!("/v1/conversations/{conversation}"))
}

#[test]
fn who_writes_becomes_a_contact_that_callers_change() {
    on_both_engines(|stage| {
        let first = says(stage, &json!({"from": ANA}), "Oi");
        let id = text(&first["contact"], "id").to_owned();
        let ana = stage.data(&format!("/v1/contacts/{id}"));
        assert_eq!((&ana["name"], &ana["phone"], &ana["source"]), (&json!("Ana"), &json!(ANA), &json!("INBOUND")));
        assert_eq!((&ana["optOut"], &ana["tags"], &ana["metadata"]), (&json!(false), &json!([]), &json!({})));
        assert!(ana["lastInboundAt"].is_string(), "{ana}");
        assert_eq!(stage.rows("/v1/contacts"), std::slice::from_ref(&ana));

        let change = json!({"name": "Ana Maria", "email": "ana@exemplo.com.br", "tags": ["VIP", "vip"],
                            "metadata": {"crm": "4711", "n": 1}});
        let changed = put(stage, &id, &change).expect(200).json()["data"].take();
        assert_eq!((&changed["name"], &changed["tags"]), (&json!("Ana Maria"), &json!(["VIP"])));
        assert_eq!(changed, stage.data(&format!("/v1/contacts/{id}")));
        let merged = put(stage, &id, &json!({"email": null, "metadata": {"n": null, "x": true}})).expect(200).json();
        assert_eq!(merged["data"]["metadata"], json!({"crm": "4711", "x": true}));
        assert_eq!((&merged["data"]["email"], &merged["data"]["name"]), (&Value::Null, &json!("Ana Maria")));
        // The name that the network reports replaces none that a caller gave.
        let again = says(stage, &json!({"from": SHORT}), "Oi de novo");
        assert_eq!(again["contact"]["name"], "Ana Maria");
        assert_eq!(again["id"], first["id"], "both forms of the number are one person");
    });
}

#[test]
fn a_number_is_searched_as_people_write_it() {
    on_both_engines(|stage| {
        add(stage, &json!({"name": "Ana", "phone": "5511977779999"}));
        add(stage, &json!({"name": "Bloco 12-34", "phone": "5521966665555"}));
        for written in
            ["7777-9999", "(11)%2097777-9999", "%2B55%2011%2097777", "+5511977779999", "97777.9999", "77779999"]
        {
            assert_eq!(names(stage, &format!("search={written}")), ["Ana"], "{written}");
        }
        assert_eq!(names(stage, "search=12-34"), ["Bloco 12-34"]);
        assert_eq!(names(stage, "search=7777-9998"), [""; 0]);
    });
}

#[test]
fn an_identity_shows_the_number_as_it_is_known() {
    on_both_engines(|stage| {
        let identity = |contact: &Value| contact["identities"][0].clone();
        let added = add(stage, &json!({"name": "Ana", "phone": ANA}));
        assert_eq!(identity(&added), json!({"kind": "PHONE", "value": ANA}));
        // The network names the account without the ninth digit.
        says(stage, &json!({"from": SHORT}), "Oi");
        let known = stage.data(&format!("/v1/contacts/{}", text(&added, "id")));
        assert_eq!((identity(&known), &known["phone"]), (json!({"kind": "PHONE", "value": SHORT}), &json!(ANA)));
        let bia = says(stage, &json!({"from": "5521966665555"}), "Oi");
        let bia = stage.data(&format!("/v1/contacts/{}", text(&bia["contact"], "id")));
        assert_eq!(identity(&bia)["value"], "5521966665555");
    });
}

#[test]
fn a_cursor_shows_no_name_and_outlives_its_contact() {
    on_both_engines(|stage| {
        let name = |first: char| format!("{first}{}", "é".repeat(199));
        let ids: Vec<_> = ('a'..='d')
            .zip(0..)
            .map(|(first, n)| add(stage, &json!({"name": name(first), "phone": format!("551140000{n:03}")})))
            .map(|contact| text(&contact, "id").to_owned())
            .collect();
        let page = |query: &str| {
            let page = stage.get(&format!("/v1/contacts?limit=1{query}")).expect(200).json();
            let cursor = page["pagination"]["nextCursor"].as_str().map(|cursor| format!("&cursor={cursor}"));
            (text(&page["data"][0], "id").to_owned(), cursor)
        };
        let (first, next) = page("");
        let next = next.expect("another page");
        assert_eq!((&first, next.len()), (&ids[0], "&cursor=".len() + 128));
        assert!(!next.contains("65656565"), "the letters of the name: {next}");
        assert_eq!(page(&next).0, ids[1]);
        // The contact before the place is renamed, and that before the next place is deleted.
        put(stage, &ids[0], &json!({"name": "z"})).expect(200);
        let (second, next) = page(&next);
        assert_eq!(second, ids[1]);
        stage.server.delete(&format!("/v1/contacts/{second}"), Some(&stage.key)).expect(200);
        assert_eq!(page(&next.expect("another page")).0, ids[2]);
    });
}

#[test]
fn a_merge_says_what_changed() {
    on_both_engines(|stage| {
        stage.get("/v1/events?from=oldest").expect(200);
        says(stage, &json!({"lid": "103899771998284"}), "Oi");
        let added = add(
            stage,
            &json!({"name": "Ana Maria", "phone": ANA, "email": "ana@exemplo.com.br", "tags": ["vip"],
                    "metadata": {"crm": "4711"}, "optOut": true}),
        );
        says(stage, &json!({"lid": "103899771998284", "from": ANA}), "Sou eu");
        let merged = || {
            let page = stage.get("/v1/events?from=oldest&limit=500&events=contact.updated").expect(200).json();
            let events = page["data"].as_array().expect("events").clone();
            events.into_iter().map(|event| event["data"].clone()).find(|data| data["mergedFrom"] == added["id"])
        };
        wait_for("the event", || merged().is_some());
        let data = merged().expect("an event");
        assert_eq!(data["changes"], json!(["name", "phone", "email", "tags", "metadata", "optOut"]));
        assert_eq!((&data["contact"]["name"], &data["contact"]["optOut"]), (&json!("Ana Maria"), &json!(true)));
    });
}

#[test]
fn a_number_leads_to_its_contact() {
    on_both_engines(|stage| {
        let by_phone = |phone: &str, body: &Value| put(stage, &format!("by-phone/{phone}"), body);
        let nameless = [("name", "O nome do contato e obrigatorio.")];
        assert_faults("a new one needs a name", &by_phone(ANA, &json!({"tags": ["vip"]})), &nameless);
        let created = by_phone(ANA, &json!({"name": "Ana", "metadata": {"crm": "1", "gone": null}})).expect(201);
        let ana = created.json()["data"].take();
        assert_eq!(created.header("Location"), Some(&*format!("/v1/contacts/{}", text(&ana, "id"))));
        assert_eq!(
            (&ana["phone"], &ana["metadata"], &ana["source"]),
            (&json!(ANA), &json!({"crm": "1"}), &json!("API"))
        );
        // In either form, and as people write it.
        for phone in [SHORT, "+55%20(11)%2097777-6666"] {
            let changed = by_phone(phone, &json!({"tags": ["vip"], "metadata": {"n": 1}})).expect(200).json();
            assert_eq!((&changed["data"]["id"], &changed["data"]["name"]), (&ana["id"], &json!("Ana")));
            assert_eq!(changed["data"]["metadata"], json!({"crm": "1", "n": 1}));
        }
        let other = [("phone", "O telefone deve ser o da URL.")];
        assert_faults("another number", &by_phone(ANA, &json!({"name": "x", "phone": "5531988887777"})), &other);
        by_phone(ANA, &json!({"phone": SHORT})).expect(200);
        assert_eq!(stage.data(&format!("/v1/contacts/{}", text(&ana, "id")))["phone"], SHORT);
        let bad = [("phone", "O telefone deve estar no formato DDI+DDD+NUM.")];
        assert_faults("no number", &by_phone("12", &json!({"name": "x"})), &bad);
        assert_faults("a name", &by_phone(ANA, &json!({"name": null})), &nameless);
        assert_eq!(names(stage, ""), ["Ana"]);
    });
}

#[test]
fn a_removed_contact_leaves_what_was_said() {
    on_both_engines(|stage| {
        let before = says(stage, &json!({"from": ANA}), "Oi");
        let id = text(&before["contact"], "id").to_owned();
        let path = format!("/v1/contacts/{id}");
        let delete = || stage.server.delete(&path, Some(&stage.key));
        assert_eq!(delete().expect(200).text(), r#"{"success":true,"message":"Contato removido."}"#);
        assert_refused("again", &delete(), NO_CONTACT);
        assert_refused("it is gone", &stage.get(&path), NO_CONTACT);
        assert_eq!(names(stage, ""), [""; 0]);
        let conversation = stage.data(&format!("/v1/conversations/{}", text(&before, "id")));
        assert_eq!((&conversation["contact"], &conversation["chat"]["address"]), (&Value::Null, &json!(ANA)));
        let said = stage.rows(&format!("/v1/channels/sandbox/conversations/{}", text(&before, "id")));
        let sender = &said[0]["sender"];
        assert_eq!((&sender["contactId"], &sender["phone"]), (&Value::Null, &json!(ANA)), "no id of what is gone");
        let after = says(stage, &json!({"from": ANA}), "Oi de novo");
        assert_eq!(after["id"], before["id"], "the conversation goes on");
        assert_ne!(after["contact"]["id"], before["contact"]["id"]);
        assert_eq!(stage.rows("/v1/contacts").len(), 1);
    });
}

#[test]
fn a_person_is_erased_with_the_contact() {
    on_both_engines(|stage| {
        stage.get("/v1/events").expect(200);
        let before = says(stage, &json!({"from": ANA}), "segredo");
        says(stage, &json!({"from": ANA, "group": "Vendas"}), "segredo");
        let beto = says(stage, &json!({"from": "5511966665555"}), "de outro");
        let sent = |to: &str| {
            let body = json!({"to": to, "content": "resposta"});
            crate::v1::location(&stage.server.post("/v1/channels/sandbox/messages/text", &stage.key, &body).expect(202))
        };
        let (answer, other) = (sent(ANA), sent("5511966665555"));
        for message in [&answer, &other] {
            stage.until(message, "READ");
        }
        let path = format!("/v1/contacts/{}", text(&before["contact"], "id"));
        let erase = |value: &str| stage.server.delete(&format!("{path}?erase={value}"), Some(&stage.key));
        let bad = [("erase", "O parametro erase deve ser true ou false.")];
        assert_faults("another value", &erase("sim"), &bad);
        assert_eq!(erase("true").expect(200).text(), r#"{"success":true,"message":"Contato removido."}"#);
        assert_refused("again", &erase("true"), NO_CONTACT);
        stage.get(&answer).expect(404);
        stage.get(&format!("/v1/conversations/{}", text(&before, "id"))).expect(404);
        for list in [
            "contacts",
            "conversations",
            "channels/sandbox/messages",
            "sandbox/messages",
            "events?from=oldest&limit=500",
        ] {
            let shown = stage.get(&format!("/v1/{list}")).expect(200).text().to_owned();
            for trace in [ANA, SHORT, "segredo"] {
                assert!(!shown.contains(trace), "{list} shows {trace}: {shown}");
            }
        }
        let received = stage.rows("/v1/channels/sandbox/messages?direction=INBOUND");
        assert_eq!(received.iter().map(|message| text(message, "content")).collect::<Vec<_>>(), ["de outro"]);
        assert_eq!(stage.data(&format!("/v1/conversations/{}", text(&beto, "id")))["contact"], beto["contact"]);
        assert_eq!(stage.data(&other)["status"], "READ");
    });
}

#[test]
fn a_word_opts_out_and_a_call_in() {
    on_both_engines(|stage| {
        let conversation = says(stage, &json!({"from": ANA}), "quero sair");
        let id = text(&conversation["contact"], "id").to_owned();
        let contact = || stage.data(&format!("/v1/contacts/{id}"));
        assert_eq!(contact()["optOut"], false);
        says(stage, &json!({"from": ANA}), " Sair. ");
        let out = contact();
        assert_eq!(out["optOut"], true);
        assert!(out["optOutAt"].is_string() && out["optOutSource"].is_string(), "{out}");
        says(stage, &json!({"from": ANA}), "mudei de ideia");
        assert_eq!(contact()["optOut"], true, "only a call lets a person in again");
        assert_eq!(names(stage, "optOut=true"), ["Ana"]);
        put(stage, &id, &json!({"optOut": false})).expect(200);
        let back = contact();
        assert_eq!((&back["optOut"], &back["optOutAt"]), (&json!(false), &Value::Null));
        put(stage, &id, &json!({"optOut": true})).expect(200);
        assert_eq!(contact()["optOutSource"], "API");
        assert_eq!(names(stage, "optOut=false"), [""; 0]);
    });
}

#[test]
fn contacts_are_added_found_and_paged() {
    on_both_engines(|stage| {
        let maria =
            add(stage, &json!({"name": "Maria Conceição", "phone": "+55 (31) 98888-7777", "tags": ["vip", "Café"]}));
        assert_eq!((&maria["phone"], &maria["source"]), (&json!("5531988887777"), &json!("API")));
        add(stage, &json!({"name": "joão", "phone": "5531988886666", "tags": ["vip"]}));
        add(stage, &json!({"name": "Bruno", "phone": "5531988885555", "optOut": true}));
        says(stage, &json!({"lid": "103899771998284"}), "Oi");
        assert_eq!(names(stage, ""), ["Ana", "Bruno", "joão", "Maria Conceição"]);
        for (query, found) in [
            ("search=conceicao", &["Maria Conceição"][..]),
            ("search=CEIC", &["Maria Conceição"]),
            ("search=jo", &["joão"]),
            ("search=ao", &[]),
            ("search=8888", &["Bruno", "joão", "Maria Conceição"]),
            ("tags=VIP", &["joão", "Maria Conceição"]),
            ("tags=cafe,nada", &["Maria Conceição"]),
            ("tagsAll=vip,cafe", &["Maria Conceição"]),
            ("tagsAll=vip,nada", &[]),
            ("phone=553188887777", &["Maria Conceição"]),
            ("phone=5531988881111", &[]),
            ("optOut=true", &["Bruno"]),
            ("source=INBOUND", &["Ana"]),
            ("updatedSince=2999-01-01T00:00:00Z", &[]),
            ("updatedSince=2020-01-01T00:00:00Z&tags=vip&search=maria", &["Maria Conceição"]),
        ] {
            assert_eq!(names(stage, query), found, "{query}");
        }
        let page = |query: &str| stage.get(&format!("/v1/contacts?{query}")).expect(200).json();
        let first = page("limit=3&page=1");
        assert_eq!((&first["pagination"]["total"], &first["pagination"]["offset"]), (&json!(4), &json!(0)));
        assert_eq!(names(stage, "limit=3&page=2"), ["Maria Conceição"]);
        assert_eq!(page("limit=3&page=2")["pagination"]["offset"], 3);
        assert_eq!(names(stage, "limit=3&page=3"), [""; 0]);
        let begin = page("limit=3");
        assert_eq!((&begin["pagination"]["total"], &begin["pagination"]["offset"]), (&Value::Null, &json!(0)));
        let cursor = text(&begin["pagination"], "nextCursor");
        assert_eq!(names(stage, &format!("limit=3&cursor={cursor}")), ["Maria Conceição"]);

        // One number is one contact, in either form.
        let twin = json!({"name": "Outra", "phone": "553188887777"});
        let refused = stage.server.post("/v1/contacts", &stage.key, &twin).expect(409);
        assert_eq!(
            refused.json(),
            json!({"message": "Ja existe um contato com este telefone.", "code": "CONTACT_ALREADY_EXISTS"})
        );
        let id = text(&maria, "id");
        assert_eq!(refused.header("Location"), Some(&*format!("/v1/contacts/{id}")));
        put(stage, id, &json!({"phone": "5531988886666"})).expect(409);
        let moved = put(stage, id, &json!({"phone": "553188887777"})).expect(200).json();
        assert_eq!(moved["data"]["phone"], "553188887777");
    });
}

#[test]
fn invalid_calls_are_told_what_is_wrong() {
    let stage = Stage::set();
    for (query, field, message) in [
        ("limit=101", "limit", "O limite deve ser um numero de 1 a 100."),
        ("page=0", "page", "A pagina deve ser um numero a partir de 1."),
        ("page=501", "page", "Use cursor para paginas alem de 10000 itens."),
        ("page=1&cursor=x", "page", "Informe page ou cursor, nao ambos."),
        ("search=", "search", "A busca deve ter de 1 a 200 caracteres."),
        ("search=%1F", "search", "A busca deve ter de 1 a 200 caracteres."),
        ("tags=a,,b", "tags", "Informe de 1 a 20 etiquetas de ate 50 caracteres, separadas por virgulas."),
        ("phone=123", "phone", "O telefone deve estar no formato DDI+DDD+NUM."),
        ("optOut=1", "optOut", "O filtro optOut deve ser true ou false."),
        ("source=api", "source", "Origem desconhecida."),
        ("updatedSince=ontem", "updatedSince", "O campo updatedSince deve ser uma data em RFC 3339."),
        ("name=x", "name", "Campo desconhecido."),
    ] {
        let answer = stage.get(&format!("/v1/contacts?{query}"));
        let errors = answer.json()["errors"].as_array().expect("errors").clone();
        assert!(errors.contains(&json!({"field": field, "message": message})), "{query}: {}", answer.text());
    }
    assert_faults(
        "nothing",
        &stage.server.post("/v1/contacts", &stage.key, &json!({})),
        &[("name", "O nome do contato e obrigatorio."), ("phone", "O telefone do contato e obrigatorio.")],
    );
    let contact = add(&stage, &json!({"name": "Ana", "phone": ANA}));
    let id = text(&contact, "id");
    for body in [json!({"name": ""}), json!({"name": null})] {
        assert_faults("no name", &put(&stage, id, &body), &[("name", "O nome do contato e obrigatorio.")]);
    }
    let many: serde_json::Map<_, _> = (0..50).map(|n| (format!("k{n}"), json!(n))).collect();
    put(&stage, id, &json!({"metadata": many})).expect(200);
    let more = put(&stage, id, &json!({"metadata": {"one more": 1}}));
    assert_faults(
        "key",
        &more,
        &[("metadata", "As chaves de metadata devem ter de 1 a 64 caracteres ASCII visiveis.")],
    );
    let more = put(&stage, id, &json!({"metadata": {"oneMore": 1}}));
    assert_faults("many", &more, &[("metadata", "O campo metadata deve ser um objeto com ate 50 chaves.")]);
    for unknown in ["00000000-0000-7000-8000-000000000000", "x"] {
        assert_refused(unknown, &stage.get(&format!("/v1/contacts/{unknown}")), NO_CONTACT);
        assert_refused(unknown, &put(&stage, unknown, &json!({"name": "Ana"})), NO_CONTACT);
    }
}
