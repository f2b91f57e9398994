//! The bytes of files that people send to a linked channel: decrypted, verified and stored, and asked for again from the phone
//! when the network has lost them.

use fake_whatsapp::{FakeWhatsApp, MediaType, MessageField, Reupload, Said, proto};
use serde_json::{Value, json};

use super::{MARIA, OWNER, Stage, owner};
use crate::harness::wait_for;
use crate::v1::assert_refused;

const EXPIRED: (u16, &str) = (410, r#"{"message":"Midia expirada na rede.","code":"MEDIA_EXPIRED"}"#);

fn bytes() -> Vec<u8> {
    (0..200_000).map(|n| u8::try_from(n % 251).expect("a byte")).collect()
}

/// Maria sends a picture. Its path is the first part.
fn picture(whatsapp: &FakeWhatsApp) -> (String, proto::Message) {
    let file = whatsapp.upload(&bytes(), MediaType::Image);
    let path = file.direct_path.split('?').next().expect("a path").to_owned();
    let image = proto::message::ImageMessage {
        mimetype: Some("image/jpeg".to_owned()),
        direct_path: Some(file.direct_path),
        // A person could name any host here.
        url: Some("https://127.0.0.1:1/x".to_owned()),
        media_key: Some(file.media_key),
        file_sha256: Some(file.file_sha256),
        file_enc_sha256: Some(file.file_enc_sha256),
        file_length: Some(file.file_length),
        ..Default::default()
    };
    (path, proto::Message { image_message: MessageField::some(image), ..Default::default() })
}

/// A stage to whose channel people can write.
fn ready(stage: Stage) -> Stage {
    wait_for("keys to write with", || stage.whatsapp.one_time_keys(OWNER).iter().all(|left| *left > 0));
    stage
}

/// The received message with this network id, as the API shows it now.
fn received(stage: &Stage, id: &str) -> Option<Value> {
    let list = stage.get("/v1/channels/vendas/messages?direction=INBOUND").expect(200).json();
    list["data"].as_array().expect("a list").iter().find(|message| message["networkId"] == id).cloned()
}

/// Receives a picture under this id. Returns the path at the network, and the path of the bytes here.
fn receive(stage: &Stage, id: &str) -> (String, String) {
    let (path, message) = picture(&stage.whatsapp);
    stage.whatsapp.say_as(MARIA, OWNER, Said::from(message).id(id)).expect("Maria can write");
    wait_for("the picture", || received(stage, id).is_some());
    let url = received(stage, id).expect("a message")["mediaUrl"].as_str().expect("a path").to_owned();
    (path, url)
}

fn state(stage: &Stage, id: &str) -> String {
    received(stage, id).expect("a message")["media"]["state"].as_str().expect("a state").to_owned()
}

fn fetched_stored_and_uploaded_again(stage: &Stage) {
    let (path, url) = receive(stage, "3EB0AA01");
    assert_eq!(state(stage, "3EB0AA01"), "REMOTE");
    let answer = stage.get(&url).expect(200);
    assert!(answer.body == bytes(), "other bytes");
    assert_eq!(answer.header("Content-Security-Policy"), Some("sandbox; default-src 'none'"));
    wait_for("STORED", || state(stage, "3EB0AA01") == "STORED");
    assert!(stage.get(&url).expect(200).body == bytes(), "other bytes");
    assert_eq!(stage.whatsapp.downloads().get(&path), Some(&1), "{:?}", stage.whatsapp.downloads());

    // The network has lost it, and the phone uploads it again.
    let (_, lost) = receive(stage, "3EB0AA02");
    stage.whatsapp.lose_files();
    assert!(stage.get(&lost).expect(200).body == bytes(), "other bytes");
    // The phone does not have it any more.
    let (_, gone) = receive(stage, "3EB0AA03");
    stage.whatsapp.lose_files();
    stage.whatsapp.faults(|faults| faults.reupload = Reupload::Gone);
    assert_refused("a lost file", &stage.get(&gone), EXPIRED);
    assert_eq!(state(stage, "3EB0AA03"), "GONE");
}

#[test]
fn a_file_is_fetched_with_its_key_and_again_from_the_phone() {
    fetched_stored_and_uploaded_again(&ready(Stage::linked()));
}

#[test]
fn a_file_is_fetched_with_its_key_on_postgres() {
    let stage = Stage::set_on(1);
    stage.link("vendas", &owner());
    fetched_stored_and_uploaded_again(&ready(stage));
}

#[test]
fn a_file_is_fetched_without_a_connection_and_at_once_where_the_channel_wants_that() {
    let stage = ready(Stage::linked());
    let (_, url) = receive(&stage, "3EB0AA01");
    stage.act("vendas", "disconnect").expect(200);
    assert!(stage.get(&url).expect(200).body == bytes(), "other bytes");
    stage.connect("vendas");
    stage.until_state("vendas", "CONNECTED");
    stage.settings("vendas", &json!({"inboundMedia": "eager"}));
    let (path, eager) = receive(&stage, "3EB0AA02");
    wait_for("STORED", || state(&stage, "3EB0AA02") == "STORED");
    assert!(stage.get(&eager).expect(200).body == bytes(), "other bytes");
    assert_eq!(stage.whatsapp.downloads().get(&path), Some(&1));
}
