//! What a linked channel receives: for its session alone, and sealed.

use recado_domain::channel::{ChannelKey, ChannelType, Held};
use recado_domain::incoming::{Content, NewIncoming, NewMedia, Outcome, SealedIncoming, SenderIds, What};

use super::inbox::{ANA, arrival, batch, delivered, text};
use crate::fixtures::{Ground, NOW};

fn ana() -> SenderIds {
    SenderIds::of_phone(ANA)
}

fn held(channel: ChannelKey, session: i64) -> Held {
    Held { channel, epoch: 0, session }
}

pub(super) async fn only_the_session_of_a_channel_receives(ground: Ground) {
    let channel = ground.channel_of(ChannelType::WhatsAppWeb, "loja").await;
    let receive = |held, id: &str| ground.store.receive_held(held, batch(channel, vec![text(id, ana(), "Oi")]), NOW);
    let stored = receive(held(channel, 0), "A1").await.expect("asked").expect("its session");
    assert_eq!(stored[0].outcome, Outcome::Stored);
    assert!(receive(held(channel, 1), "A2").await.expect("asked").is_none(), "a session that is not there yet");
    assert!(receive(held(channel + 1, 0), "A2").await.expect("asked").is_none(), "the session of another channel");
    ground.store.end_session(held(channel, 0)).await.expect("ended");
    assert!(receive(held(channel, 0), "A2").await.expect("asked").is_none(), "its session has ended");
    assert_eq!(delivered(&ground, channel).await.len(), 1);
    let repeated = receive(held(channel, 1), "A1").await.expect("asked").expect("the new session");
    assert_eq!(repeated[0].outcome, Outcome::Repeated, "the network delivers it to the new session once more");
    ground.delete_channel(channel, NOW).await;
    assert!(receive(held(channel, 1), "A3").await.expect("asked").is_none(), "the channel is deleted");
}

fn sealed(id: &str) -> recado_domain::incoming::Arrival {
    let media = NewMedia { sealed: Some(b"file".to_vec()), ..NewMedia::default() };
    let new = NewIncoming { raw: Some(b"raw".to_vec()), ..NewIncoming::new(Content::text(), "Oi") };
    arrival(id, ana(), What::Message(Box::new(NewIncoming { media: Some(media), ..new })))
}

pub(super) async fn sealed_parts_are_replaced_by_the_same_under_another_key(ground: Ground) {
    let channel = ground.channel_of(ChannelType::WhatsAppWeb, "loja").await;
    let meta = ground.channel_of(ChannelType::CloudApi, "meta").await;
    for (channel, arrivals) in
        [(channel, vec![sealed("A1"), text("A2", ana(), "Oi"), sealed("A3")]), (meta, vec![sealed("A4")])]
    {
        ground.store.receive(batch(channel, arrivals), NOW).await.expect("stored");
    }
    let first = ground.store.sealed_incoming(i64::MIN, 1).await.expect("read").remove(0);
    assert_eq!((first.channel, first.network_id.as_str(), first.raw.as_deref()), (channel, "A1", Some(&b"raw"[..])));
    let (file, bytes) = first.file.clone().expect("a file");
    assert_eq!(bytes, b"file");
    let rest = ground.store.sealed_incoming(first.seq, 9).await.expect("read");
    assert_eq!(rest.iter().map(|one| one.network_id.as_str()).collect::<Vec<_>>(), ["A3"], "Meta's is not sealed");
    let new = SealedIncoming { raw: Some(b"RAW".to_vec()), file: Some((file, b"FILE".to_vec())), ..first.clone() };
    assert!(ground.store.reseal_incoming(first.clone(), new.clone()).await.expect("stored"));
    assert!(!ground.store.reseal_incoming(first, new.clone()).await.expect("asked"), "it was changed meanwhile");
    assert_eq!(ground.store.sealed_incoming(i64::MIN, 1).await.expect("read"), [new]);
}
