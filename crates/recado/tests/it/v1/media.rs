//! `GET /v1/media/{mediaId}/content` on the sandbox, whose files are where the simulation says.

use serde_json::{Value, json};

use crate::harness::{Home, wait_for};
use crate::receiver::Receiver;
use crate::v1::{ALL_SCOPES, FORBIDDEN, Refusal, Stage, assert_faults, assert_refused, create_key, simulate, text};

pub const NO_MEDIA: Refusal = (404, r#"{"message":"Midia nao encontrada.","code":"MEDIA_NOT_FOUND"}"#);
const EXPIRED: Refusal = (410, r#"{"message":"Midia expirada na rede.","code":"MEDIA_EXPIRED"}"#);
const UNAVAILABLE: Refusal = (
    503,
    r#"{"message":"A rede nao entregou a midia. Tente novamente em alguns segundos.","code":"MEDIA_UNAVAILABLE"}"#,
);
const REFUSED: Refusal = (422, r#"{"message":"O endereco da midia nao e permitido.","code":"MEDIA_REFUSED"}"#);
const FLAGS: [&str; 2] = ["--allow-networks", "127.0.0.0/8"];

/// The same test on both engines, on servers that may fetch files of this machine.
fn on_both_engines(test: impl Fn(&Stage)) {
    test(&Stage::with(&FLAGS));
    let database = test_postgres::Database::new();
    test(&Stage::of(Home::on_postgres(database.url()), &FLAGS));
}

/// Ana sends a file. Returns the message as the API shows it.
fn receive(stage: &Stage, kind: &str, content: &Value) -> Value {
    let body = json!({"from": "5511977776666", "name": "Ana", "type": kind, "content": content});
    let id = text(&simulate(stage, &body), "messageId").to_owned();
    stage.data(&format!("/v1/channels/sandbox/messages/{id}"))
}

#[test]
fn a_file_of_the_sandbox_is_fetched_from_its_url() {
    on_both_engines(|stage| {
        let host = Receiver::start(&[("", "<svg/>"), ("404 Not Found", ""), ("500 Oops", ""), ("", "again")]);
        let message = receive(stage, "document", &json!({"url": host.url, "mimeType": "text/html"}));
        let path = text(&message, "mediaUrl");
        let answer = stage.get(path).expect(200);
        assert_eq!((answer.text(), host.next().line.as_str()), ("<svg/>", "GET /"));
        // Nothing that a browser would show as a page.
        assert_eq!(answer.header("Content-Type"), Some("application/octet-stream"));
        let shown = stage.data(&format!("/v1/channels/sandbox/messages/{}", text(&message, "id")));
        assert_eq!((&shown["media"]["state"], &shown["media"]["size"]), (&json!("STORED"), &json!(6)));
        assert_eq!((stage.get(path).expect(200).text(), host.is_quiet()), ("<svg/>", true));

        let named = json!({"url": host.url, "mimeType": "application/pdf", "fileName": "boleto.pdf", "expires": true});
        let named = receive(stage, "document", &named);
        let head = stage.server.call("HEAD", text(&named, "mediaUrl"), Some(&stage.key), &[], None).expect(200);
        let id = text(&named["media"], "id");
        let disposition = format!("attachment; filename=\"{id}.pdf\"; filename*=UTF-8''boleto.pdf");
        assert_eq!(head.header("Content-Disposition"), Some(&*disposition));

        let lost = receive(stage, "image", &json!({"url": host.url}));
        assert_refused("lost", &stage.get(text(&lost, "mediaUrl")), EXPIRED);
        let later = receive(stage, "image", &json!({"url": host.url}));
        assert_refused("later", &stage.get(text(&later, "mediaUrl")), UNAVAILABLE);
        assert_eq!(stage.get(text(&later, "mediaUrl")).expect(200).text(), "again");
        let expired = receive(stage, "image", &json!({"url": host.url, "expires": true}));
        assert_refused("expired", &stage.get(text(&expired, "mediaUrl")), EXPIRED);
        let lost = receive(stage, "image", &json!({"url": "http://10.0.0.1/", "expires": true}));
        assert_refused("a private one that is never fetched", &stage.get(text(&lost, "mediaUrl")), EXPIRED);

        // Other keys do not get it, and its own key does not get it after it was removed.
        let other = |environment: &str| create_key(&stage.home, environment, ALL_SCOPES, "unlimited");
        assert_refused("live", &stage.server.get(path, Some(&other("live"))), NO_MEDIA);
        let institution = stage.home.cli(&["institutions", "create", "--name", "Another"]);
        assert_refused("another", &stage.server.get(path, Some(text(&institution, "testKey"))), NO_MEDIA);
        let weak = create_key(&stage.home, "test", "channels.read", "unlimited");
        assert_refused("weak", &stage.server.get(path, Some(&weak)), FORBIDDEN);
        let strange = "/v1/media/01a2085f-0c22-7d04-8a8e-2b1f3c4d5e6f/content";
        for path in [strange, "/v1/media/x/content"] {
            assert_refused("strange", &stage.get(path), NO_MEDIA);
        }
        let files = || std::fs::read_dir(stage.home.dir.join("media")).expect("a directory").count();
        assert_eq!(files(), 2);
        stage.server.delete("/v1/sandbox/data", Some(&stage.key)).expect(200);
        assert_refused("removed", &stage.get(path), NO_MEDIA);
        wait_for("the bytes to go", || files() == 0);
    });
}

#[test]
fn a_received_file_is_simulated_again() {
    on_both_engines(|stage| {
        let host = Receiver::start(&[("", "bytes"), ("404 Not Found", "")]);
        let first = json!({"url": host.url, "mimeType": "image/png", "fileName": "a.png"});
        let first = receive(stage, "image", &first);
        let id = text(&first["media"], "id");
        let again = receive(stage, "document", &json!({"mediaId": id, "caption": "De novo"}));
        assert_ne!(again["media"]["id"], id);
        let media = (&again["content"], &again["media"]["mimeType"], &again["media"]["fileName"]);
        assert_eq!(media, (&json!("De novo"), &json!("image/png"), &json!("a.png")));
        assert_eq!(stage.get(text(&again, "mediaUrl")).expect(200).text(), "bytes");
        let expired = receive(stage, "image", &json!({"mediaId": id, "expires": true}));
        assert_refused("expired", &stage.get(text(&expired, "mediaUrl")), EXPIRED);
        // The network has lost the bytes of the first one.
        assert_refused("gone", &stage.get(text(&first, "mediaUrl")), EXPIRED);
        let institution = stage.home.cli(&["institutions", "create", "--name", "Another"]);
        let other = text(&institution, "testKey");
        let body = |id: &str| json!({"from": "5511977776666", "type": "image", "content": {"mediaId": id}});
        let call = |key: &str, id: &str| stage.server.post("/v1/sandbox/simulate/incoming", key, &body(id));
        let missing =
            [("content.mediaId", "O campo content.mediaId deve ser o id de uma midia recebida que ainda existe.")];
        assert_faults("gone", &call(&stage.key, id), &missing);
        assert_faults("expired", &call(&stage.key, text(&expired["media"], "id")), &missing);
        assert_faults("of another institution", &call(other, text(&again["media"], "id")), &missing);
        assert_faults("unknown", &call(&stage.key, "01a2085f-0c22-7d04-8a8e-2b1f3c4d5e6f"), &missing);
        assert_faults("no id", &call(&stage.key, "x"), &missing);
    });
}

#[test]
fn a_file_at_an_address_that_is_not_called_is_refused_for_good() {
    let stage = Stage::set();
    let public = "O campo content.url deve ser uma URL publica http ou https.";
    for (url, message) in [
        ("http://192.168.0.10/a.png", public),
        ("https://192.168.0.10/a.png", public),
        ("https://2130706433/", public),
        ("https://[::1]/", public),
        ("https://user:pw@files.example.com/", public),
        ("https://files.example.com:22/", public),
        ("http://files.example.com/a.png", "O campo content.url deve ser uma URL https."),
    ] {
        let body = json!({"from": "5511977776666", "type": "image", "content": {"url": url}});
        let answer = stage.server.post("/v1/sandbox/simulate/incoming", &stage.key, &body);
        assert_faults(url, &answer, &[("content.url", message)]);
    }
    // Only the lookup of a name shows its address.
    let message = receive(&stage, "image", &json!({"url": "https://localhost/a.png"}));
    assert_refused("a private name", &stage.get(text(&message, "mediaUrl")), REFUSED);
}

#[test]
fn the_address_of_a_file_is_whole_where_the_server_has_one() {
    let stage = Stage::with(&["--public-url", "https://recado.example.com/"]);
    stage.get("/v1/events").expect(200);
    let message = receive(&stage, "image", &json!({"url": "https://example.com/a"}));
    let id = text(&message["media"], "id");
    let whole = format!("https://recado.example.com/v1/media/{id}/content");
    assert_eq!(text(&message, "mediaUrl"), whole);
    let conversation = text(&message, "conversationId");
    for path in [
        "/v1/channels/sandbox/messages?direction=INBOUND".to_owned(),
        format!("/v1/channels/sandbox/conversations/{conversation}"),
    ] {
        assert_eq!(stage.rows(&path)[0]["mediaUrl"], json!(whole), "{path}");
    }
    let mut events = Vec::new();
    wait_for("the event", || {
        let page = stage.get("/v1/events?from=oldest&events=message.received").expect(200).json();
        events = page["data"].as_array().expect("events").clone();
        !events.is_empty()
    });
    assert_eq!(events[0]["data"]["message"]["mediaUrl"], json!(whole));
    let one = stage.data(&format!("/v1/events/{}", text(&events[0], "id")));
    assert_eq!(one["data"]["message"]["mediaUrl"], json!(whole));
}
