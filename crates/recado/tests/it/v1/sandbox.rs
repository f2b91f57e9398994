//! `/v1/sandbox`: what the simulated phone shows.

use serde_json::{Value, json};

use crate::v1::{CARD, FORBIDDEN, Stage, assert_faults, assert_refused, card, millis, text};

const LIST: &str = "/v1/sandbox/messages";

#[test]
fn a_shown_message_is_complete() {
    let stage = Stage::set();
    let empty = stage.get(LIST).expect(200);
    assert_eq!(empty.text(), r#"{"data":[],"pagination":{"limit":20,"nextCursor":null}}"#);
    let body = json!({"to": "+55 (11) 99999-8888", "name": "Zé", "phone": "5511988887777", "email": "a@b.co"});
    let location = stage.accept("sandbox", &[], &body.to_string());
    let message = stage.until(&location, "READ");
    let shown = stage.rows(LIST);
    assert_eq!(shown.len(), 1);
    let fields =
        ["id", "channelId", "networkId", "direction", "to", "type", "contact", "vcard", "receivedAt", "arrivals"];
    assert_eq!(shown[0].as_object().expect("an object").keys().collect::<Vec<_>>(), fields);
    let file = stage.get(&format!("{location}/vcard")).expect(200).text().to_owned();
    let contact = json!({"name": "Zé", "phone": "5511988887777", "email": "a@b.co", "organization": null});
    for (field, value) in [
        ("channelId", json!("sandbox")),
        ("networkId", message["networkId"].clone()),
        ("direction", json!("OUTBOUND")),
        ("to", json!("5511999998888")),
        ("type", json!("contact")),
        ("contact", contact),
        // The card as it was sent; the file has other line ends.
        ("vcard", json!(file.trim_end().replace("\r\n", "\n"))),
        ("arrivals", json!(1)),
    ] {
        assert_eq!(shown[0][field], value, "{field}");
    }
    assert!(millis(&shown[0], "receivedAt") >= millis(&message, "sendingAt"), "{shown:?}");
}

#[test]
fn the_phone_is_listed_newest_first_and_filtered() {
    let stage = Stage::set();
    let all: Vec<_> = (0..7)
        .map(|number| stage.accept("sandbox", &[], &card(&format!("551199999640{}", number % 2), &number.to_string())))
        .collect();
    all.iter().for_each(|location| drop(stage.until(location, "READ")));
    let names = |list: &Value| -> Vec<String> {
        list["data"].as_array().expect("a list").iter().map(|row| text(&row["contact"], "name").to_owned()).collect()
    };
    let found = |query: &str| names(&stage.get(&format!("{LIST}?{query}")).expect(200).json());
    assert_eq!(found(""), ["6", "5", "4", "3", "2", "1", "0"]);
    assert_eq!(found("to=%2B55%2011%2099999-6401"), ["5", "3", "1"]);
    assert_eq!(found("direction=OUTBOUND&to=5511999996400"), ["6", "4", "2", "0"]);
    assert_eq!(found("direction=INBOUND"), Vec::<String>::new());
    for limit in [1, 3, 7] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = stage.get(&format!("{LIST}?limit={limit}{cursor}")).expect(200).json();
            seen.extend(names(&page));
            let Some(next) = page["pagination"]["nextCursor"].as_str() else { break };
            assert!(seen.len() < 20, "the pages have no end: {seen:?}");
            cursor = format!("&cursor={next}");
        }
        assert_eq!(seen, ["6", "5", "4", "3", "2", "1", "0"], "limit {limit}");
    }
    for (query, expected) in [
        ("limit=101", ("limit", "O limite deve ser um numero de 1 a 100.")),
        ("direction=outbound", ("direction", "A direcao deve ser INBOUND ou OUTBOUND.")),
        ("to=12", ("to", "O numero do destinatario deve estar no formato DDI+DDD+NUM.")),
        ("cursor=x", ("cursor", "Cursor invalido.")),
        ("page=1", ("page", "Campo desconhecido.")),
    ] {
        assert_faults(query, &stage.get(&format!("{LIST}?{query}")), &[expected]);
    }
}

#[test]
fn the_phone_can_be_emptied() {
    let stage = Stage::set();
    let other = stage.home.cli(&["institutions", "create", "--name", "Another"]);
    let other = text(&other, "testKey");
    let mine = stage.accept("sandbox", &[], CARD);
    stage.until(&mine, "READ");
    stage.send_with(other, "sandbox", &[], CARD).expect(202);
    let theirs = || stage.server.get(LIST, Some(other)).expect(200).json()["data"].as_array().expect("a list").len();
    crate::harness::wait_for("their card to arrive", || theirs() == 1);
    let answer = stage.server.delete("/v1/sandbox/data", Some(&stage.key)).expect(200);
    assert_eq!(answer.json()["success"], true, "{}", answer.text());
    assert_eq!((stage.rows(LIST), theirs()), (vec![], 1));
    // Clearing the phone does not change the gateway's messages, and the phone continues to receive.
    assert_eq!(stage.data(&mine)["status"], "READ");
    stage.until(&stage.accept("sandbox", &[], CARD), "READ");
    assert_eq!(stage.rows(LIST).len(), 1);
    assert_eq!(stage.rows(LIST)[0]["arrivals"], 1);
}

#[test]
fn live_keys_have_no_sandbox() {
    let stage = Stage::set();
    assert_refused("list", &stage.server.get(LIST, Some(&stage.home.live_key)), FORBIDDEN);
    assert_refused("clear", &stage.server.delete("/v1/sandbox/data", Some(&stage.home.live_key)), FORBIDDEN);
}
