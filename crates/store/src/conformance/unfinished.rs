//! What a transaction leaves to later steps, because it would change too many rows. The limits are lower in tests.

use recado_domain::channel::ChannelKey;
use recado_domain::incoming::{Outcome, What};
use serde_json::json;

use super::inbox::{arrival, both, change_settings, conversations, delivered, one, owner, receive, text};
use crate::fixtures::{Ground, NOW};

/// More than one transaction marks in tests.
const MANY: usize = 60;

/// Does all steps; how many there were.
async fn finish(ground: &Ground) -> usize {
    let mut steps = 0;
    while ground.store.finish_left().await.expect("stored") {
        steps += 1;
        assert!(steps < 200, "the steps do not end");
    }
    steps
}

async fn receive_many(ground: &Ground, channel: ChannelKey) {
    receive(ground, channel, (0..MANY).map(|n| text(&format!("A{n}"), both(), "Oi")).collect()).await;
}

/// How many messages are shown as unread, and what their conversation counts.
async fn unread(ground: &Ground, channel: ChannelKey) -> (usize, u32) {
    let shown = delivered(ground, channel).await.iter().filter(|message| message.read_at.is_none()).count();
    (shown, conversations(ground).await[0].unread)
}

pub(super) async fn many_messages_are_read_at_once_and_marked_in_steps(ground: Ground) {
    let channel = ground.channel("vendas").await;
    receive_many(&ground, channel).await;
    let id = conversations(&ground).await[0].id;
    let read = async || ground.store.read_conversation(owner(&ground), id, NOW).await.expect("stored").expect("one");
    assert_eq!(read().await.messages.len(), MANY, "the network is told at once");
    assert_eq!(unread(&ground, channel).await, (0, 0), "they are shown as read at once");
    // What arrives meanwhile is unread.
    one(&ground, channel, text("B1", both(), "Oi?")).await;
    assert_eq!(unread(&ground, channel).await, (1, 1));
    assert!(ground.store.finish_left().await.expect("stored"));
    let again = read().await;
    assert_eq!((again.messages.len(), again.conversation.unread), (1, 0), "no message is reported twice");
    one(&ground, channel, text("B2", both(), "Oi??")).await;
    assert!(finish(&ground).await > 3, "they are marked some at a time");
    assert_eq!(unread(&ground, channel).await, (1, 1), "the one that nobody read stays unread");
}

pub(super) async fn an_arrival_marks_few_of_many_unread_messages(ground: Ground) {
    let channel = ground.channel("vendas").await;
    receive_many(&ground, channel).await;
    change_settings(&ground, channel, json!({"autoRead": "received"})).await;
    one(&ground, channel, text("B1", both(), "Oi?")).await;
    assert_eq!(unread(&ground, channel).await, (0, 0));
    one(&ground, channel, text("B2", both(), "Oi??")).await;
    assert!(finish(&ground).await > 3, "the arrivals have marked only some");
    assert_eq!(unread(&ground, channel).await, (0, 0));
}

pub(super) async fn the_phone_reads_many_messages(ground: Ground) {
    let channel = ground.channel("vendas").await;
    receive_many(&ground, channel).await;
    let read = |target: &str| {
        let what = What::ReadSelf { targets: vec![target.parse().expect("an id")] };
        arrival(&format!("read:{target}"), both(), what)
    };
    assert_eq!(one(&ground, channel, read("A49")).await.outcome, Outcome::Applied);
    assert_eq!(unread(&ground, channel).await, (10, 10));
    assert_eq!(one(&ground, channel, read("A54")).await.outcome, Outcome::Applied);
    assert_eq!(unread(&ground, channel).await, (5, 5));
    assert!(finish(&ground).await > 3);
    assert_eq!(unread(&ground, channel).await, (5, 5));
}
