//! Changes of messages: reactions, edits, revocations, votes, readings.

use recado_domain::clock::Millis;
use recado_domain::incoming::{
    Arrival, Captioned, Content, Group, Ignored, NewIncoming, NewMedia, Outcome, Quoted, Received, SenderIds,
    UnsupportedReason, What,
};
use recado_domain::queue::Settlement;
use serde_json::{Value, json};

use super::inbox::{
    ANA, BIA, arrival, both, change_settings, contacts, conversations, data, delivered, events, message, names, one,
    receive, record, text,
};
use crate::fixtures::{Ground, NOW};

pub(super) async fn changes_wait_for_their_message_and_old_ones_change_nothing(ground: Ground) {
    record(&ground).await;
    let channel = ground.channel("vendas").await;
    let target = || "A1".parse().expect("an id");
    let change = |id: &str, seconds: Millis, what| Arrival {
        sent_at: NOW - 9_000 + seconds * 1_000,
        ..arrival(id, both(), what)
    };
    let edit = |id: &str, seconds, content: &str| {
        change(id, seconds, What::Edit { target: target(), content: content.to_owned() })
    };
    let held = one(&ground, channel, edit("E2", 2, "dois")).await;
    assert_eq!(held, Received::of(Outcome::Held, None, None));
    let stored =
        one(&ground, channel, change("A1", 0, What::Message(Box::new(NewIncoming::new(Content::text(), "zero")))))
            .await;
    let shown = message(&ground, channel, stored).await;
    assert_eq!((&*shown.body.text, shown.edited_at), ("dois", Some(NOW - 7_000)));
    assert_eq!(one(&ground, channel, edit("E1", 1, "um")).await.outcome, Outcome::Ignored(Ignored::Stale));
    assert_eq!(one(&ground, channel, edit("E3", 3, "tres")).await.outcome, Outcome::Applied);
    assert_eq!(one(&ground, channel, edit("E3", 3, "tres")).await.outcome, Outcome::Repeated);
    assert_eq!(conversations(&ground).await[0].last.as_ref().map(|last| &*last.content), Some("tres"));
    let react = |id: &str, seconds, emoji: Option<&str>| {
        change(id, seconds, What::Reaction { target: target(), emoji: emoji.map(str::to_owned) })
    };
    assert_eq!(one(&ground, channel, react("R1", 4, Some("👍"))).await.outcome, Outcome::Applied);
    assert_eq!(one(&ground, channel, react("R3", 6, None)).await.outcome, Outcome::Applied);
    assert_eq!(one(&ground, channel, react("R2", 5, Some("😀"))).await.outcome, Outcome::Ignored(Ignored::Stale));
    let view = serde_json::to_value(crate::views::message(&message(&ground, channel, stored).await)).expect("JSON");
    assert_eq!(view["reactions"], json!([]), "it was taken back");
    // Another person edits nothing.
    let strange = Arrival { person: SenderIds::of_phone(BIA), ..edit("X1", 7, "outro") };
    assert_eq!(one(&ground, channel, strange).await.outcome, Outcome::Held, "it is another chat's");
    let group = Some(Group { address: "1@g.us".to_owned(), name: None });
    let in_group = |arrival: Arrival| Arrival { group: group.clone(), ..arrival };
    one(&ground, channel, in_group(text("G1", both(), "Oi"))).await;
    let what = |content: &str| What::Edit { target: "G1".parse().expect("an id"), content: content.to_owned() };
    let strange = in_group(arrival("X2", SenderIds::of_phone(BIA), what("outro")));
    assert_eq!(one(&ground, channel, strange).await.outcome, Outcome::Ignored(Ignored::Stale));
    let all = events(&ground).await;
    let edits: Vec<_> = all.iter().filter(|event| event.kind == "message.edited").map(data).collect();
    let texts: Vec<_> = edits.iter().map(|edit| (&edit["previousContent"], &edit["content"])).collect();
    assert_eq!(texts, [(&json!("zero"), &json!("dois")), (&json!("dois"), &json!("tres"))]);
    assert_eq!(edits[0]["sender"]["phone"], ANA);
    let emojis: Vec<_> =
        all.iter().filter(|event| event.kind == "message.reaction").map(|event| data(event)["emoji"].clone()).collect();
    assert_eq!(emojis, [json!("👍"), Value::Null]);
}

pub(super) async fn a_revoked_message_has_no_content_unless_it_is_kept(ground: Ground) {
    record(&ground).await;
    let channel = ground.channel("vendas").await;
    let media = NewMedia { mime_type: "image/jpeg".to_owned(), ..NewMedia::default() };
    let image = Content::Image(Captioned { caption: Some("segredo".to_owned()), ..Captioned::default() });
    let new = NewIncoming { media: Some(media), raw: Some(vec![1]), ..NewIncoming::new(image, "segredo") };
    for (n, keep) in [false, true].into_iter().enumerate() {
        let id = format!("A{n}");
        let stored = one(&ground, channel, arrival(&id, both(), What::Message(Box::new(new.clone())))).await;
        let target = id.parse().expect("an id");
        let revoke = arrival(&format!("R{n}"), both(), What::Revoke { target, by_admin: false });
        change_settings(&ground, channel, json!({"keepRevoked": keep})).await;
        receive(&ground, channel, vec![revoke]).await;
        let shown = message(&ground, channel, stored).await;
        assert_eq!(shown.revoked_at, Some(NOW - 1_000));
        let raw = ground.store.incoming_raw(channel, shown.id).await.expect("read");
        if keep {
            assert_eq!((&*shown.body.text, shown.media.is_some(), raw), ("segredo", true, Some(vec![1])));
        } else {
            assert_eq!((&*shown.body.text, shown.media, raw), ("", None, None));
            assert!(!serde_json::to_string(&shown.body).expect("JSON").contains("segredo"));
            assert_eq!(conversations(&ground).await[0].last.as_ref().map(|last| &*last.content), Some(""));
        }
    }
    let revoked = events(&ground).await.into_iter().find(|event| event.kind == "message.revoked").expect("recorded");
    assert_eq!(data(&revoked)["by"], "SENDER");
}

pub(super) async fn votes_are_counted_by_person(ground: Ground) {
    record(&ground).await;
    let channel = ground.channel("vendas").await;
    let group = Some(Group { address: "1@g.us".to_owned(), name: None });
    let options = || vec!["Sim".to_owned(), "Nao".to_owned()];
    let poll =
        Content::Poll { question: "Vem?".to_owned(), options: options(), max_selections: Some(1), results: Vec::new() };
    let in_group = |arrival: Arrival| Arrival { group: group.clone(), ..arrival };
    let asked = What::Message(Box::new(NewIncoming::new(poll, "Vem?")));
    one(&ground, channel, in_group(arrival("P1", both(), asked))).await;
    let vote = |id: &str, person: SenderIds, option: &str| {
        let options = vec![option.to_owned()];
        in_group(arrival(id, person, What::PollVote { target: "P1".parse().expect("an id"), options }))
    };
    let bia = || SenderIds::of_phone(BIA);
    one(&ground, channel, vote("V1", both(), "Sim")).await;
    one(&ground, channel, vote("V2", bia(), "Sim")).await;
    one(&ground, channel, Arrival { sent_at: NOW, ..vote("V3", bia(), "Nao") }).await;
    let last = events(&ground).await.pop().expect("recorded");
    assert_eq!(last.kind, "message.poll_vote");
    // People of a group who never wrote are people as well.
    let strange = ["5521911112222", "5521933334444"].map(SenderIds::of_phone);
    for (n, person) in strange.into_iter().enumerate() {
        one(&ground, channel, vote(&format!("S{n}"), person.clone(), "Sim")).await;
        let react = What::Reaction { target: "P1".parse().expect("an id"), emoji: Some("👍".to_owned()) };
        one(&ground, channel, in_group(arrival(&format!("T{n}"), person, react))).await;
    }
    let [poll] = &delivered(&ground, channel).await[..] else { panic!("one message") };
    assert_eq!(poll.reactions.len(), 2);
    let results = json!([{"option": "Sim", "votes": 3}, {"option": "Nao", "votes": 1}]);
    assert_eq!(poll.body.content.object()["results"], results, "the poll shows them too");
    let strangers =
        events(&ground).await.into_iter().rfind(|event| event.kind == "message.poll_vote").expect("recorded");
    assert_eq!(data(&strangers)["results"][0], json!({"option": "Sim", "votes": 3}));
    let results = json!([{"option": "Sim", "votes": 1}, {"option": "Nao", "votes": 1}]);
    assert_eq!((&data(&last)["results"], &data(&last)["options"]), (&results, &json!(["Nao"])));
}

pub(super) async fn a_reaction_to_a_sent_message_is_reported(ground: Ground) {
    record(&ground).await;
    let channel = ground.channel("vendas").await;
    let id = ground.accept(channel, ANA).await;
    let claimed = ground.claim_one(channel).await;
    let remote_id = "wamid.1".parse().ok();
    ground.settle(channel, claimed.seq, Settlement::Sent { account: None, remote_id, rendition: None }).await;
    let what = What::Reaction { target: "wamid.1".parse().expect("an id"), emoji: Some("👍".to_owned()) };
    let made = one(&ground, channel, arrival("R1", SenderIds::of_phone(ANA), what)).await;
    assert_eq!((made.outcome, made.message), (Outcome::Applied, Some(id)));
    let [event] = &events(&ground).await[..] else { panic!("one event") };
    let said = data(event);
    assert_eq!((&said["messageId"], &said["networkId"], &said["from"]), (&json!(id), &json!("wamid.1"), &json!(ANA)));
    assert_eq!(contacts(&ground).await, [], "a reaction creates nothing");
    // And an answer names it.
    let quoted = Quoted { content: Some("x".repeat(300)), ..Quoted::of_id("wamid.1") };
    let new = NewIncoming { reply_to: Some(quoted), ..NewIncoming::new(Content::text(), "Certo") };
    let answer = one(&ground, channel, arrival("A1", both(), What::Message(Box::new(new)))).await;
    let reply = message(&ground, channel, answer).await.body.reply_to.expect("a quote");
    assert_eq!((reply.message_id, reply.from.as_deref()), (Some(id), Some("551140000000")));
    let unknown = Quoted { content: Some("x".repeat(300)), ..Quoted::of_id("outro") };
    let new = NewIncoming { reply_to: Some(unknown), ..NewIncoming::new(Content::text(), "Certo") };
    let answer = one(&ground, channel, arrival("A2", both(), What::Message(Box::new(new)))).await;
    let reply = message(&ground, channel, answer).await.body.reply_to.expect("a quote");
    assert_eq!((reply.message_id, reply.content.map(|content| content.len())), (None, Some(256)));
    let new = NewIncoming { reply_to: Some(Quoted::of_id("A1")), ..NewIncoming::new(Content::text(), "!") };
    let answer = one(&ground, channel, arrival("A3", both(), What::Message(Box::new(new)))).await;
    let reply = message(&ground, channel, answer).await.body.reply_to.expect("a quote");
    assert_eq!(
        (reply.from.as_deref(), reply.content.as_deref(), reply.kind.as_deref()),
        (Some(ANA), Some("Certo"), Some("text"))
    );
}

pub(super) async fn a_message_that_could_not_be_read_is_recovered_once(ground: Ground) {
    record(&ground).await;
    let channel = ground.channel("vendas").await;
    let unreadable = Content::Unsupported { reason: UnsupportedReason::Undecryptable };
    let lost = arrival("A1", both(), What::Message(Box::new(NewIncoming::new(unreadable, ""))));
    let stored = one(&ground, channel, lost.clone()).await;
    for outcome in [Outcome::Recovered, Outcome::Repeated] {
        let again = one(&ground, channel, text("A1", both(), "Oi")).await;
        assert_eq!((again.outcome, again.message), (outcome, stored.message));
    }
    assert_eq!(one(&ground, channel, lost).await.outcome, Outcome::Repeated);
    assert_eq!(message(&ground, channel, stored).await.body.text, "Oi");
    assert_eq!(conversations(&ground).await[0].last.as_ref().map(|last| &*last.content), Some("Oi"));
    let recovered: Vec<_> = names(&ground).await.into_iter().filter(|name| name == "message.recovered").collect();
    assert_eq!(recovered.len(), 1);
}

pub(super) async fn the_phone_reads_messages(ground: Ground) {
    let channel = ground.channel("vendas").await;
    let read =
        |id: &str, target: &str| arrival(id, both(), What::ReadSelf { targets: vec![target.parse().expect("an id")] });
    let first = one(&ground, channel, text("A1", both(), "um")).await;
    let second = one(&ground, channel, text("A2", both(), "dois")).await;
    one(&ground, channel, text("A3", both(), "tres")).await;
    assert_eq!(conversations(&ground).await[0].unread, 3);
    assert_eq!(one(&ground, channel, read("read:A2", "A2")).await.outcome, Outcome::Applied);
    assert_eq!(conversations(&ground).await[0].unread, 1);
    for read in [first, second] {
        assert_eq!(message(&ground, channel, read).await.read_at, Some(NOW));
    }
    // The news that it was read comes first.
    assert_eq!(one(&ground, channel, read("read:A4", "A4")).await.outcome, Outcome::Held);
    one(&ground, channel, text("A4", both(), "quatro")).await;
    assert_eq!(conversations(&ground).await[0].unread, 0);
}

pub(super) async fn only_so_many_changes_wait_for_one_message(ground: Ground) {
    let channel = ground.channel("vendas").await;
    let react = |n: usize| {
        let what = What::Reaction { target: "A1".parse().expect("an id"), emoji: Some("👍".to_owned()) };
        arrival(&format!("R{n}"), both(), what)
    };
    let first = receive(&ground, channel, (0..64).map(react).collect()).await;
    assert!(first.iter().all(|held| held.outcome == Outcome::Held));
    assert_eq!(one(&ground, channel, react(64)).await.outcome, Outcome::Ignored(Ignored::Stale));
    let stored = one(&ground, channel, text("A1", both(), "Oi")).await;
    assert_eq!(message(&ground, channel, stored).await.reactions.len(), 1);
}
