//! `PUT /v1/channels/{channelId}`: a channel's name and settings are changed.

use serde_json::{Value, json};

use crate::harness::Answer;
use crate::v1::{JSON, NO_JSON, Stage, assert_faults, assert_refused};

const BAD_NAME: (&str, &str) = ("name", "O nome do canal deve ter de 1 a 100 caracteres.");

fn update(stage: &Stage, channel: &str, body: &Value) -> Answer {
    let path = format!("/v1/channels/{channel}");
    stage.server.call("PUT", &path, Some(&stage.key), &[JSON], Some(body.to_string().as_bytes()))
}

#[test]
fn a_name_changes_and_nothing_else() {
    let stage = Stage::set();
    stage.open("vendas", &["connect"]);
    let before = stage.data("/v1/channels/vendas");
    let after = update(&stage, "vendas", &json!({"name": " Balcão "})).expect(200).json()["data"].clone();
    let mut expected = before;
    expected["name"] = "Balcão".into();
    assert_eq!(after, expected);
    for nothing in
        [json!({}), json!({"name": null}), json!({"name": " "}), json!({"settings": null}), json!({"settings": {}})]
    {
        assert_eq!(update(&stage, "vendas", &nothing).expect(200).json()["data"], expected, "{nothing}");
    }
    let stage = stage.crash(&[]);
    assert_eq!(stage.data("/v1/channels/vendas"), expected);
}

#[test]
fn an_invalid_change_is_refused() {
    let stage = Stage::set();
    stage.open("vendas", &["connect"]);
    let before = stage.data("/v1/channels/vendas");
    let none = ("settings.pipeline", "Campo desconhecido.");
    let no_wait = ("settings.unknownWaitSeconds", "Campo desconhecido.");
    let guard = ("settings.windowGuard", "O campo settings.windowGuard deve ser off ou refuse.");
    let hours = ("settings.closeAfterHours", "O campo settings.closeAfterHours deve ser um numero de 1 a 8760.");
    let words = (
        "settings.optOutWords",
        "O campo settings.optOutWords deve ser uma lista de ate 20 palavras de 1 a 40 caracteres.",
    );
    let pipeline = ("settings.pipeline", "O campo settings.pipeline deve ser um numero de 1 a 256.");
    let wait = ("settings.unknownWaitSeconds", "O campo settings.unknownWaitSeconds deve ser um numero de 5 a 86400.");
    let policy = ("settings.unknownPolicy", "O campo settings.unknownPolicy deve ser leave ou resend.");
    for (body, faults) in [
        (json!({"name": "x".repeat(101)}), &[BAD_NAME][..]),
        (json!({"name": 1}), &[("name", "O campo name deve ser uma string.")]),
        (json!({"settings": []}), &[("settings", "O campo settings deve ser um objeto.")]),
        (json!({"settings": {"pipeline": 2}}), &[none]),
        (json!({"settings": {"pipeline": 0}}), &[none, pipeline]),
        (json!({"settings": {"pipeline": 257}}), &[none, pipeline]),
        (json!({"settings": {"pipeline": 1.5}}), &[pipeline]),
        (json!({"settings": {"pipeline": "2"}}), &[pipeline]),
        (json!({"settings": {"unknownWaitSeconds": -1, "unknownPolicy": "always"}}), &[policy, wait]),
        (json!({"settings": {"unknownWaitSeconds": 4}}), &[no_wait, wait]),
        (json!({"settings": {"unknownWaitSeconds": 5_000_000_000_u64}}), &[wait]),
        (json!({"settings": {"closeAfterHours": 0, "optOutWords": [""]}}), &[hours, words]),
        (json!({"settings": {"windowGuard": "on"}}), &[guard]),
        (
            json!({"settings": {"pipelin": 2}, "nam": ""}),
            &[("settings.pipelin", "Campo desconhecido."), ("nam", "Campo desconhecido.")],
        ),
    ] {
        assert_faults(&body.to_string(), &update(&stage, "vendas", &body), faults);
    }
    let twice = br#"{"settings":{"pipeline":2,"pipeline":3}}"#;
    let path = "/v1/channels/vendas";
    let answer = stage.server.call("PUT", path, Some(&stage.key), &[JSON], Some(twice));
    assert_faults("twice", &answer, &[("settings.pipeline", "Campo repetido.")]);
    assert_refused("no JSON", &stage.server.call("PUT", path, Some(&stage.key), &[], Some(b"{}")), NO_JSON);
    assert_eq!(stage.data(path), before);
}
