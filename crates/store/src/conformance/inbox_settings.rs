//! Settings that change received messages without a call: `autoRead`, `keepText`.

use recado_domain::channel::ChannelKey;
use recado_domain::conversation::ReadClaim;
use recado_domain::incoming::{
    Arrival, CONTENT_FETCHED, Captioned, Content, NewIncoming, NewMedia, Outcome, Quoted, UnsupportedReason, What,
};
use recado_domain::queue::Submitted;
use recado_domain::webhook::Lane;
use serde_json::{Value, json};

use super::inbox::{
    ANA, arrival, both, change_settings, conversations, delivered, events, owner, receive, record, text,
};
use super::webhooks;
use crate::fixtures::{Ground, MINUTE, NOW};

/// The network ids of the messages that are to be reported to the network as read.
async fn signalled(ground: &Ground) -> Vec<String> {
    let claim = ReadClaim { owned: None, busy: Vec::new(), limit: 9, now: NOW, lost_at: NOW + MINUTE };
    let signals = ground.store.due_reads(claim).await.expect("stored").signals;
    let mut ids = Vec::new();
    for signal in signals {
        ids.extend(signal.messages.iter().map(|mark| mark.network_id.clone()));
        ground.store.end_read(signal, None, NOW).await.expect("stored");
    }
    ids
}

/// The network ids of the unread messages of a channel, oldest first.
async fn unread(ground: &Ground, channel: ChannelKey) -> Vec<String> {
    let unread = delivered(ground, channel).await.into_iter().filter(|message| message.read_at.is_none());
    unread.map(|message| message.network_id).collect()
}

async fn answer(ground: &Ground, channel: ChannelKey) {
    ground.accept(channel, ANA).await;
    let claimed = ground.claim_one(channel).await;
    let kind = ground.store.channel(channel).await.expect("read").expect("a channel").kind;
    let submitted = Submitted::new((channel, kind), &claimed);
    ground.store.join_conversations(owner(ground), vec![submitted], NOW).await.expect("stored");
    ground.settle(channel, claimed.seq, crate::fixtures::sent()).await;
}

pub(super) async fn messages_are_read_when_they_arrive_if_the_channel_wants_it(ground: Ground) {
    record(&ground).await;
    let channel = ground.channel("vendas").await;
    receive(&ground, channel, vec![text("A1", both(), "Oi")]).await;
    assert_eq!(unread(&ground, channel).await, ["A1"], "without the setting");
    change_settings(&ground, channel, json!({"autoRead": "received"})).await;
    let unreadable = || Content::Unsupported { reason: UnsupportedReason::Undecryptable };
    let lost = What::Message(Box::new(NewIncoming::new(unreadable(), "")));
    receive(&ground, channel, vec![arrival("A2", both(), lost)]).await;
    assert_eq!(unread(&ground, channel).await, ["A1", "A2"], "what could not be read was not read");
    receive(&ground, channel, vec![text("A2", both(), "agora")]).await;
    assert_eq!(unread(&ground, channel).await, [""; 0], "its body arrived");
    receive(&ground, channel, vec![text("A3", both(), "Oi"), text("A4", both(), "Oi")]).await;
    receive(&ground, channel, vec![text("A4", both(), "Oi")]).await;
    assert_eq!(signalled(&ground).await, ["A4", "A3", "A2", "A1"]);
    assert_eq!(conversations(&ground).await[0].unread, 0);
    let received = events(&ground).await.into_iter().rfind(|event| event.kind == "message.received").expect("one");
    let received: Value = serde_json::from_str(&received.data).expect("JSON");
    assert_eq!(received["message"]["status"], "RECEIVED", "the event reports it as it arrived");
}

pub(super) async fn messages_are_read_when_they_are_answered_if_the_channel_wants_it(ground: Ground) {
    let channel = ground.channel("vendas").await;
    receive(&ground, channel, vec![text("A1", both(), "Oi"), text("A2", both(), "Oi")]).await;
    answer(&ground, channel).await;
    receive(&ground, channel, vec![Arrival { from_me: true, ..text("E1", both(), "Oi") }]).await;
    assert_eq!(unread(&ground, channel).await, ["A1", "A2", "E1"], "without the setting");
    change_settings(&ground, channel, json!({"autoRead": "answered"})).await;
    receive(&ground, channel, vec![text("A3", both(), "Oi")]).await;
    assert_eq!(signalled(&ground).await, [""; 0]);
    answer(&ground, channel).await;
    assert_eq!(signalled(&ground).await, ["A3", "A2", "A1"]);
    receive(&ground, channel, vec![text("A4", both(), "Oi")]).await;
    let other = Arrival { from_me: true, ..text("E2", recado_domain::incoming::SenderIds::of_lid("7"), "Oi") };
    receive(&ground, channel, vec![other]).await;
    assert_eq!(signalled(&ground).await, [""; 0], "another chat was answered");
    receive(&ground, channel, vec![Arrival { from_me: true, ..text("E3", both(), "Oi") }]).await;
    assert_eq!(signalled(&ground).await, ["A4"], "the phone answered");
    assert_eq!(conversations(&ground).await.iter().map(|one| one.unread).sum::<u32>(), 0);
}

/// Everything that is stored of the received messages, and of their events.
async fn stored(ground: &Ground, channel: ChannelKey) -> String {
    let messages = delivered(ground, channel).await;
    let mut all = format!("{messages:?} {:?}", conversations(ground).await);
    for message in &messages {
        let raw = ground.store.incoming_raw(channel, message.id).await.expect("read");
        all.push_str(&String::from_utf8_lossy(&raw.unwrap_or_default()));
    }
    events(ground).await.iter().for_each(|event| all.push_str(&event.data));
    all
}

async fn look(ground: &Ground, now: i64) -> usize {
    let mut looked = 0;
    loop {
        let some = ground.store.delete_contents(now).await.expect("stored");
        if some.looked == 0 {
            return looked;
        }
        looked += some.looked;
    }
}

pub(super) async fn content_that_is_not_kept_goes_after_its_events_were_delivered(ground: Ground) {
    record(&ground).await;
    let (channel, other) = (ground.channel("vendas").await, ground.channel("loja").await);
    let webhook = webhooks::create(&ground, webhooks::settings()).await;
    change_settings(&ground, channel, json!({"keepText": false})).await;
    let media =
        NewMedia { mime_type: "image/jpeg".to_owned(), file_name: Some("segredo".to_owned()), ..NewMedia::default() };
    let image = Content::Image(Captioned { caption: Some("segredo".to_owned()), ..Captioned::default() });
    let quoted = Quoted { content: Some("segredo".to_owned()), ..Quoted::of_id("Q1") };
    let new = NewIncoming {
        media: Some(media),
        raw: Some(b"segredo".to_vec()),
        reply_to: Some(quoted),
        ..NewIncoming::new(image, "segredo")
    };
    receive(&ground, channel, vec![arrival("A1", both(), What::Message(Box::new(new)))]).await;
    receive(&ground, other, vec![text("B1", both(), "fica")]).await;
    let due = NOW + CONTENT_FETCHED;
    assert_eq!(look(&ground, due - 1).await, 0, "files can be fetched until then");
    assert_eq!(look(&ground, due).await, 1, "no delivery was created yet");
    webhooks::fan_out(&ground, NOW).await;
    assert_eq!(look(&ground, due + 10 * MINUTE).await, 1, "deliveries wait");
    let before = stored(&ground, channel).await;
    assert!(before.matches("segredo").count() > 5, "nothing is gone: {before}");
    loop {
        let claimed = webhooks::claim(&ground, Lane::First, 100, NOW).await;
        if claimed.is_empty() {
            break;
        }
        webhooks::settle(&ground, &claimed, 200, NOW).await;
    }
    assert_eq!(look(&ground, due + 20 * MINUTE).await, 1);
    assert_eq!(look(&ground, due + 90 * MINUTE).await, 0, "it is done");
    let after = stored(&ground, channel).await;
    assert!(!after.contains("segredo"), "{after}");
    assert!(stored(&ground, other).await.contains("fica"), "the other channel keeps it");
    let [message] = &delivered(&ground, channel).await[..] else { panic!("one message") };
    assert_eq!((message.body.content.name(), &*message.network_id, message.media.as_ref()), ("image", "A1", None));
    assert_eq!(message.body.sender.phone.as_deref(), Some(ANA), "the sender stays");
    assert_eq!(message.body.reply_to.as_ref().map(|quoted| &*quoted.network_id), Some("Q1"));
    let received = events(&ground).await.into_iter().find(|event| event.kind == "message.received").expect("one");
    let received: Value = serde_json::from_str(&received.data).expect("JSON");
    let view = &received["message"];
    assert_eq!((&view["id"], &view["type"], &view["from"]), (&json!(message.id), &json!("image"), &json!(ANA)));
    assert_eq!((&view["content"], &view["media"], &view["mediaUrl"]), (&json!(""), &json!(null), &json!(null)));
    // An edit brings content again.
    let what = What::Edit { target: "A1".parse().expect("an id"), content: "outro segredo".to_owned() };
    receive(&ground, channel, vec![arrival("X1", both(), what)]).await;
    assert!(stored(&ground, channel).await.contains("outro segredo"));
    drop(webhooks::set_active(&ground, &webhook, false, NOW).await);
    assert_eq!(look(&ground, due).await, 1);
    let after = stored(&ground, channel).await;
    assert!(!after.contains("segredo"), "{after}");
}

/// The network id of a message that cannot be changed, in [`a_message_that_cannot_be_changed_keeps_no_other_from_its_turn`].
pub(crate) const BAD: &str = "A2";

/// `break_it` prepares the store so that no statement can change the message [`BAD`].
pub(crate) async fn a_message_that_cannot_be_changed_keeps_no_other_from_its_turn(
    ground: Ground,
    break_it: impl FnOnce(),
) {
    let channel = ground.channel("vendas").await;
    change_settings(&ground, channel, json!({"keepText": false})).await;
    let arrivals = ["A1", BAD, "A3"].map(|id| text(id, both(), "segredo")).to_vec();
    receive(&ground, channel, arrivals).await;
    break_it();
    assert_eq!(look(&ground, NOW + CONTENT_FETCHED).await, 3);
    let left: Vec<_> = delivered(&ground, channel).await.into_iter().map(|message| message.body.text).collect();
    assert_eq!(left.iter().filter(|text| *text == "segredo").count(), 1, "{left:?}");
    // It is due again later, and the others are not.
    assert_eq!(look(&ground, NOW + 2 * CONTENT_FETCHED).await, 1);
}

pub(super) async fn a_held_change_goes_with_content_that_is_not_kept(ground: Ground) {
    let (channel, other) = (ground.channel("vendas").await, ground.channel("loja").await);
    change_settings(&ground, channel, json!({"keepText": false})).await;
    let target = || "A1".parse().expect("an id");
    let held = || {
        let edit = What::Edit { target: target(), content: "segredo".to_owned() };
        let vote = What::PollVote { target: target(), options: vec!["segredo".to_owned()] };
        let revoke = What::Revoke { target: target(), by_admin: false };
        vec![arrival("X1", both(), edit), arrival("X2", both(), vote), arrival("X3", both(), revoke)]
    };
    for channel in [channel, other] {
        let received = receive(&ground, channel, held()).await;
        assert!(received.iter().all(|one| one.outcome == Outcome::Held));
    }
    let due = NOW + CONTENT_FETCHED;
    assert_eq!(look(&ground, due - 1).await, 0, "the message may come");
    assert_eq!(look(&ground, due).await, 2);
    let again = receive(&ground, channel, held()).await;
    assert!(again.iter().all(|one| one.outcome == Outcome::Repeated), "they are known");
    for (channel, edited) in [(channel, false), (other, true)] {
        receive(&ground, channel, vec![text("A1", both(), "original")]).await;
        let message = delivered(&ground, channel).await.remove(0);
        assert_eq!((message.edited_at.is_some(), message.revoked_at.is_some()), (edited, true));
    }
}
