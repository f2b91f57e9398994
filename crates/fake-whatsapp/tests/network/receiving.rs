//! What reaches a linked device: files, groups, repetitions, other orders, and messages that it cannot decrypt.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use fake_whatsapp::baileys::Sender;
use fake_whatsapp::{FakeWhatsApp, MediaType, MessageField, NodeBuilder, Reupload, Said, Uploaded, proto};
use serde_json::json;
use wacore::download::DownloadUtils;
use wacore::media_retry::MediaRetryResult;
use wacore::types::events::Event;
use whatsapp_rust::{Jid, MediaReuploadRequest};

use crate::harness::{ACCOUNT, CONTACT, CONTACT_LID, TestSession, linked, network, wait_for};

const PEER: &str = "551150003000";
const PEER_LID: &str = "900000000000030";
const GROUP: &str = "120363000000000001";

/// A session that contacts can write to.
async fn session(whatsapp: &FakeWhatsApp) -> TestSession {
    let session = TestSession::up(whatsapp).await;
    wait_for("keys to write with", || whatsapp.one_time_keys(ACCOUNT)[0] > 0).await;
    session
}

/// Waits for the message with this id: its text, chat and sender.
async fn received(session: &mut TestSession, id: &str) -> (proto::Message, Jid, Jid) {
    session
        .until("a message", |event| {
            let item = event.messages().find(|item| item.info.id == id)?;
            Some(((*item.message).clone(), item.info.source.chat.clone(), item.info.source.sender.clone()))
        })
        .await
}

/// Waits until so many messages were acknowledged; their texts in the order in which the session heard them.
async fn texts(session: &mut TestSession, count: usize) -> Vec<String> {
    let mut heard = Vec::new();
    session
        .until("the messages", |event| {
            heard.extend(event.messages().filter_map(|item| item.message.conversation.clone()));
            (heard.len() == count).then_some(())
        })
        .await;
    heard
}

/// The ids of what contacts said.
fn said(ids: impl Iterator<Item = String>) -> Vec<String> {
    ids.filter(|id| id.starts_with("PEERMSG")).collect()
}

fn acknowledged(whatsapp: &FakeWhatsApp) -> Vec<String> {
    said(whatsapp.acknowledged().into_iter().map(|done| done.id))
}

fn host(whatsapp: &FakeWhatsApp) -> String {
    whatsapp.url().replace("ws://", "http://").replace("/ws/chat", "")
}

/// The status of a download, and the bytes.
fn download(whatsapp: &FakeWhatsApp, direct_path: &str) -> (u16, Vec<u8>) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    // The form of the client: its own query follows that of the path.
    let mut answer = agent.get(format!("{}{direct_path}?token=x", host(whatsapp))).call().expect("an answer");
    let mut bytes = Vec::new();
    answer.body_mut().as_reader().read_to_end(&mut bytes).expect("bytes");
    (answer.status().as_u16(), bytes)
}

fn decrypt(bytes: &[u8], key: &[u8], kind: MediaType) -> Vec<u8> {
    DownloadUtils::decrypt_stream(bytes, key, kind).expect("a file of this key")
}

#[tokio::test(flavor = "multi_thread")]
async fn baileys_sends_files_writes_in_groups_and_sends_again() {
    let whatsapp = Arc::new(network());
    let mut session = session(&whatsapp).await;
    let mut baileys = tokio::task::block_in_place(|| Sender::link(&whatsapp, PEER, PEER_LID));
    let mut send = |to: &str, content: serde_json::Value, options: serde_json::Value| {
        let sent = tokio::task::block_in_place(|| baileys.send(to, &content, &options));
        sent["id"].as_str().expect("an id").to_owned()
    };
    let to = format!("{ACCOUNT}@s.whatsapp.net");

    let picture =
        json!({"image": {"base64": "cGljdHVyZQ=="}, "caption": "Olha", "jpegThumbnail": "", "width": 4, "height": 3});
    let id = send(&to, picture, json!({}));
    let image = received(&mut session, &id).await.0.image_message.as_option().cloned().expect("an image");
    assert_eq!((image.caption.as_deref(), image.width, image.file_length), (Some("Olha"), Some(4), Some(7)));
    let (status, bytes) = download(&whatsapp, image.direct_path.as_deref().expect("a path"));
    assert_eq!(
        (status, decrypt(&bytes, &image.media_key.expect("a key"), MediaType::Image)),
        (200, b"picture".to_vec())
    );
    let downloads: Vec<u64> = whatsapp.downloads().into_values().collect();
    assert_eq!(downloads, [1]);

    for by_lid in [true, false] {
        let group = format!("{GROUP}{}", u8::from(by_lid));
        whatsapp.add_group(&group, "Vendas", &[ACCOUNT, PEER, CONTACT], by_lid);
        let ids = ["um", "dois"].map(|text| send(&format!("{group}@g.us"), json!({"text": text}), json!({})));
        for id in ids {
            let (message, chat, sender) = received(&mut session, &id).await;
            assert!(message.extended_text_message.is_set(), "{message:?}");
            let name = if by_lid { PEER_LID } else { PEER };
            assert_eq!((chat.to_string(), sender.user.as_str()), (format!("{group}@g.us"), name));
        }
    }

    // The device asks for what it cannot decrypt; Baileys answers.
    whatsapp.faults(|faults| faults.garbled = 1);
    let id = send(&to, json!({"text": "de novo"}), json!({}));
    let failed = session.until("a failure", |event| match event {
        Event::UndecryptableMessage(failed) => Some(failed.info.id.clone()),
        _ => None,
    });
    assert_eq!(failed.await, id);
    assert_eq!(received(&mut session, &id).await.0.extended_text_message.text.as_deref(), Some("de novo"));

    // Encrypted again under the same id, from the other address.
    whatsapp.faults(|faults| faults.by_lid = vec![PEER.to_owned()]);
    let again = json!({"messageId": id});
    assert_eq!(send(&to, json!({"text": "de novo"}), again), id);
    let by_lid = |event: &Event| {
        let item = event.messages().find(|item| item.info.id == id)?;
        (item.info.source.sender.user == PEER_LID).then_some(())
    };
    session.until("the message from the LID", by_lid).await;
    wait_for("all to be acknowledged", || whatsapp.unacknowledged(ACCOUNT).is_empty()).await;
    session.stop().await;
}

#[tokio::test]
async fn held_messages_come_in_another_order_and_twice() {
    let whatsapp = network();
    let mut session = session(&whatsapp).await;
    whatsapp.hold(ACCOUNT, true);
    whatsapp.faults(|faults| (faults.extra_messages, faults.shuffle) = (1, Some(7)));
    let ids: Vec<String> = (0..8).map(|n| whatsapp.say(CONTACT, ACCOUNT, &n.to_string()).expect("sent")).collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!((whatsapp.unacknowledged(ACCOUNT), acknowledged(&whatsapp)), (ids.clone(), vec![]));
    whatsapp.hold(ACCOUNT, false);
    let heard = texts(&mut session, 8).await;
    let sent: Vec<String> = (0..8).map(|n| n.to_string()).collect();
    assert_ne!(heard, sent);
    assert_eq!(heard.iter().collect::<BTreeSet<_>>(), sent.iter().collect());
    // Every copy gets a receipt; the first one acknowledges.
    wait_for("every receipt", || said(whatsapp.receipts(ACCOUNT).into_iter().map(|(id, _)| id)).len() == 16).await;
    let mut done = acknowledged(&whatsapp);
    done.sort();
    assert_eq!(done, ids);
    session.stop().await;
}

#[tokio::test]
async fn a_backlog_comes_in_another_order_and_twice() {
    let whatsapp = network();
    let store = linked(&whatsapp).await;
    let mut first = TestSession::start(&whatsapp, store.clone()).await;
    first.connected().await;
    wait_for("keys to write with", || whatsapp.one_time_keys(ACCOUNT)[0] > 0).await;
    first.stop().await;
    wait_for("the device to be gone", || !whatsapp.is_online(ACCOUNT)).await;
    (0..8).for_each(|n| drop(whatsapp.say(CONTACT, ACCOUNT, &n.to_string()).expect("sent")));
    whatsapp.faults(|faults| (faults.extra_messages, faults.shuffle) = (1, Some(7)));
    let mut session = TestSession::start(&whatsapp, store).await;
    let heard = texts(&mut session, 8).await;
    assert_ne!(heard, (0..8).map(|n| n.to_string()).collect::<Vec<_>>());
    wait_for("all to be acknowledged", || whatsapp.unacknowledged(ACCOUNT).is_empty()).await;
    session.stop().await;
}

#[tokio::test]
async fn a_contact_is_named_in_three_ways_and_the_owner_writes_on_the_phone() {
    let whatsapp = network();
    let mut session = session(&whatsapp).await;
    let naming = |faults: &mut fake_whatsapp::Faults, hidden: bool, by_lid: bool| {
        let of = |named: bool| if named { vec![CONTACT.to_owned()] } else { vec![] };
        (faults.hidden, faults.by_lid) = (of(hidden), of(by_lid));
    };
    for (hidden, by_lid, user) in [(false, false, CONTACT), (false, true, CONTACT_LID), (true, false, CONTACT_LID)] {
        whatsapp.faults(|faults| naming(faults, hidden, by_lid));
        let id = whatsapp.say_as(CONTACT, ACCOUNT, Said::text("oi").name("Ana").at(1_790_000_000)).expect("sent");
        let (name, sender, at) = session
            .until("a message", |event| {
                let item = event.messages().find(|item| item.info.id == id)?;
                let info = &item.info;
                Some((info.push_name.clone(), info.source.sender.user.to_string(), info.timestamp.timestamp()))
            })
            .await;
        assert_eq!((name.as_str(), sender.as_str(), at), ("Ana", user, 1_790_000_000));
    }
    let to = format!("{CONTACT}@s.whatsapp.net");
    let id = whatsapp.say_as(ACCOUNT, ACCOUNT, Said::text("do celular").to(&to)).expect("sent");
    let own = session.until("an echo", |event| {
        let item = event.messages().find(|item| item.info.id == id)?;
        Some((item.message.conversation.clone(), item.info.source.is_from_me, item.info.source.chat.user.to_string()))
    });
    assert_eq!(own.await, (Some("do celular".to_owned()), true, CONTACT.to_owned()));
    session.stop().await;
}

#[tokio::test]
async fn a_phone_sends_again_what_a_device_cannot_decrypt() {
    let whatsapp = network();
    let mut session = session(&whatsapp).await;
    whatsapp.faults(|faults| faults.garbled = 1);
    let id = whatsapp.say(CONTACT, ACCOUNT, "oi").expect("sent");
    assert_eq!(received(&mut session, &id).await.0.conversation.as_deref(), Some("oi"));
    assert!(whatsapp.receipts(ACCOUNT).contains(&(id, "retry".to_owned())), "{:?}", whatsapp.receipts(ACCOUNT));

    whatsapp.faults(|faults| (faults.garbled, faults.no_retries) = (1, true));
    let lost = whatsapp.say(CONTACT, ACCOUNT, "perdida").expect("sent");
    let next = whatsapp.say(CONTACT, ACCOUNT, "depois").expect("sent");
    let heard = session.until("the next", |event| event.messages().map(|item| item.info.id.clone()).next());
    assert_eq!(heard.await, next);
    wait_for("both to be acknowledged", || whatsapp.unacknowledged(ACCOUNT).is_empty()).await;
    let by = whatsapp.acknowledged().into_iter().find(|done| done.id == lost).map(|done| done.by);
    assert_eq!(by.as_deref(), Some("ack"));

    // A kind that is for phones alone.
    let unavailable = NodeBuilder::new("message")
        .attr("from", format!("{CONTACT}@s.whatsapp.net"))
        .attr("id", "VIEWONCE1")
        .attr("type", "media")
        .attr("t", "1790000000")
        .children([NodeBuilder::new("unavailable").attr("type", "view_once").build()]);
    whatsapp.send_stanza(ACCOUNT, &unavailable.build());
    let id = session.until("the notice", |event| match event {
        Event::UndecryptableMessage(failed) => Some(failed.info.id.clone()),
        _ => None,
    });
    assert_eq!(id.await, "VIEWONCE1");
    session.stop().await;
}

fn image(file: &Uploaded) -> proto::Message {
    let image = proto::message::ImageMessage {
        direct_path: Some(file.direct_path.clone()),
        media_key: Some(file.media_key.clone()),
        file_length: Some(file.file_length),
        ..Default::default()
    };
    proto::Message { image_message: MessageField::some(image), ..Default::default() }
}

#[tokio::test]
async fn a_phone_uploads_a_lost_file_again() {
    let whatsapp = network();
    let mut session = session(&whatsapp).await;
    let file = whatsapp.upload(b"picture", MediaType::Image);
    let id = whatsapp.say_message(CONTACT, ACCOUNT, &image(&file)).expect("sent");
    received(&mut session, &id).await;
    assert_eq!(decrypt(&download(&whatsapp, &file.direct_path).1, &file.media_key, MediaType::Image), b"picture");
    assert_eq!(download(&whatsapp, "/v/unknown").0, 404);
    whatsapp.faults(|faults| faults.media_status = Some(503));
    assert_eq!(download(&whatsapp, &file.direct_path).0, 503);
    whatsapp.faults(|faults| faults.media_status = None);
    whatsapp.lose_files();
    assert_eq!(download(&whatsapp, &file.direct_path).0, 410);

    let chat = Jid::pn(CONTACT);
    let request = MediaReuploadRequest {
        msg_id: &id,
        chat_jid: &chat,
        media_key: &file.media_key,
        is_from_me: false,
        participant: None,
    };
    whatsapp.faults(|faults| faults.reupload = Reupload::Gone);
    let answer = session.client.media_reupload().request(&request).await.expect("an answer");
    assert!(matches!(answer, MediaRetryResult::NotFound), "{answer:?}");
    whatsapp.faults(|faults| faults.reupload = Reupload::Done);
    let answer = session.client.media_reupload().request(&request).await.expect("an answer");
    let MediaRetryResult::Success { direct_path } = answer else { panic!("{answer:?}") };
    let (status, bytes) = download(&whatsapp, &direct_path);
    assert_eq!((status, decrypt(&bytes, &file.media_key, MediaType::Image)), (200, b"picture".to_vec()));
    session.stop().await;
}
