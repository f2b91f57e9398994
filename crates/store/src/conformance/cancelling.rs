//! Cancelled messages, and the channels that have open ones.

use recado_domain::ids::MessageId;
use recado_domain::message::Cancelled;
use recado_domain::queue::{Claim, ClaimRequest, Settlement};
use recado_domain::status::MessageStatus;

use super::outcomes::message_in;
use crate::fixtures::{Ground, NOW, request};

pub(super) async fn only_a_queued_message_can_be_cancelled(ground: Ground) {
    for from in MessageStatus::ALL {
        let (channel, id) = message_in(&ground, from).await;
        let before = ground.message(channel, id).await;
        let elsewhere = ground.store.cancel(channel + 1, id, NOW).await.expect("answered");
        assert_eq!(elsewhere, Cancelled::NoMessage);
        let answer = ground.store.cancel(channel, id, NOW + 2).await.expect("answered");
        let after = ground.message(channel, id).await;
        if from == MessageStatus::Queued {
            assert_eq!((answer, after.status), (Cancelled::Done, MessageStatus::Cancelled));
            assert_eq!(after.reached[usize::from(MessageStatus::Cancelled.number())], Some(NOW + 2));
            assert_eq!(ground.claim(request(channel)).await, Claim::default());
        } else {
            assert_eq!((answer, after), (Cancelled::TooLate, before));
        }
    }
    let unknown = MessageId::new(NOW, [9; 10]);
    assert_eq!(ground.store.cancel(1, unknown, NOW).await.expect("answered"), Cancelled::NoMessage);
}

pub(super) async fn cancelling_a_channel_begins_with_the_oldest(ground: Ground) {
    let (channel, neighbour) = (ground.channel("loja").await, ground.channel("outra").await);
    for _ in 0..4 {
        ground.accept(channel, "551").await;
    }
    let other = ground.accept(neighbour, "551").await;
    let sending = ground.claim_one(channel).await;
    let statuses = async || ground.all(channel).await.iter().map(|message| message.status).collect::<Vec<_>>();
    let (sent, cancelled, queued) = (MessageStatus::Sending, MessageStatus::Cancelled, MessageStatus::Queued);

    ground.delete_channel(channel, NOW).await;
    assert_eq!(ground.store.cancel_former(channel, 2, NOW).await.expect("stored"), 2);
    assert_eq!(statuses().await, [sent, cancelled, cancelled, queued], "messages in flight settle");
    assert_eq!(ground.store.cancel_former(channel, 2, NOW).await.expect("stored"), 1);
    assert_eq!(ground.store.cancel_former(channel, 2, NOW).await.expect("stored"), 0);
    assert_eq!(ground.status(neighbour, other).await, queued);
    let held = ClaimRequest { held: vec![sending.seq], ..request(channel) };
    ground.claim(held).await;
    assert_eq!(ground.open(channel).await, 1);
}

pub(super) async fn open_channels_are_those_with_work(mut ground: Ground) {
    let (idle, waiting) = (ground.channel("parada").await, ground.channel("espera").await);
    let (sending, done) = (ground.channel("envia").await, ground.channel("feita").await);
    for channel in [waiting, sending, done] {
        ground.accept(channel, "551").await;
    }
    ground.claim_one(sending).await;
    let seq = ground.claim_one(done).await.seq;
    ground.settle(done, seq, Settlement::Unknown { resend_at: None, hold: None }).await;
    for _ in 0..2 {
        let mut open = ground.store.open_channels().await.expect("read");
        open.sort_unstable();
        assert_eq!(open, [waiting, sending], "not {idle}, not {done}");
        ground.reopen().await;
    }
}
