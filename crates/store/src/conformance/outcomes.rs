//! Outcomes of attempts: which transitions they make, and what else they leave.

use std::sync::{Arc, Mutex};

use recado_domain::channel::{Actor, ChannelKey, ChannelMove, ChannelState};
use recado_domain::ids::MessageId;
use recado_domain::message::{Cancelled, NewMessage};
use recado_domain::queue::{ClaimRequest, Settlement};
use recado_domain::status::MessageStatus;

use super::receipts::receipt;
use crate::commits::{Change, Follow, Reached};
use crate::fixtures::{Ground, NOW, ids, request, sent};

pub(super) fn failed() -> Settlement {
    Settlement::Failed { code: "TIMEOUT".to_owned(), message: "A rede nao respondeu.".to_owned() }
}

/// A message in this state, on a channel of its own.
pub(super) async fn message_in(ground: &Ground, status: MessageStatus) -> (ChannelKey, MessageId) {
    use MessageStatus::{Delivered, Expired, Failed, Queued, Read, Sending, Sent, Unknown};
    let unique = ground.unique().map(|byte| format!("{byte:02x}")).concat();
    let channel = ground.channel(&unique).await;
    let expires_at = if status == Expired { NOW } else { NOW + 1_000_000 };
    let message = NewMessage { expires_at, ..ground.new_message(channel, "551") };
    let (id, network_id) = (message.id, message.network_id.clone());
    ground.enqueue(message).await;
    match status {
        Queued => {}
        MessageStatus::Cancelled => {
            ground.store.cancel(channel, id, NOW).await.expect("stored");
        }
        _ => {
            let claim = ground.claim(request(channel)).await;
            let settlement = match status {
                Sent | Delivered | Read => Some(sent()),
                Unknown => Some(Settlement::Unknown { resend_at: None, hold: None }),
                Failed => Some(failed()),
                Queued | Sending | Expired | MessageStatus::Cancelled => None,
            };
            if let Some(settlement) = settlement {
                ground.settle(channel, claim.messages[0].seq, settlement).await;
            }
        }
    }
    if matches!(status, Delivered | Read) {
        ground.receipt(channel, &network_id, status).await;
    }
    assert_eq!(ground.status(channel, id).await, status, "as the test wants it");
    (channel, id)
}

/// Keeps what a store reports.
#[derive(Default)]
struct Reports(Mutex<Vec<Reached>>);

impl Follow for Reports {
    fn committed(&self, _: Vec<Change>) {}

    fn reached(&self, reached: Vec<Reached>) {
        self.0.lock().expect("no panic").extend(reached);
    }
}

pub(super) async fn statuses_and_states_that_are_reached_are_reported(ground: Ground) {
    use MessageStatus::{Cancelled, Delivered, Failed, Read, Sending, Sent};
    let reports = Arc::new(Reports::default());
    ground.store.follow(reports.clone());
    let channel = ground.channel("loja").await;
    let reported = || std::mem::take(&mut *reports.0.lock().expect("no panic"));
    let reached = |status, after| Reached::Message { channel, status, after };
    let moved = |state| Reached::Channel { channel, state };
    let pause = |from| ChannelMove { from, to: ChannelState::Paused, reason: None, by: Actor::Operator, at: NOW };
    // A move from another state than the channel's moves nothing.
    for (from, done) in [(ChannelState::Banned, false), (ChannelState::Connected, true)] {
        assert_eq!(ground.store.move_channel(channel, pause(from)).await.expect("stored"), done, "{from:?}");
    }
    let resume = ChannelMove { from: ChannelState::Paused, to: ChannelState::Connected, ..pause(ChannelState::Paused) };
    assert!(ground.store.move_channel(channel, resume).await.expect("stored"));
    assert_eq!(reported(), [moved(ChannelState::Paused), moved(ChannelState::Connected)]);

    ground.accept(channel, "551").await;
    let claimed = ground.claim_one(channel).await;
    assert_eq!(claimed.queued_at, NOW);
    ground.settle(channel, claimed.seq, sent()).await;
    // A repeated outcome moves nothing.
    ground.settle(channel, claimed.seq, failed()).await;
    assert_eq!(reported(), [reached(Sending, None), reached(Sent, None)]);

    let receipt = |status, at| receipt(channel, &claimed.network_id, status, at);
    let receipts = vec![receipt(Delivered, NOW + 1_500), receipt(Delivered, NOW + 1_700), receipt(Read, NOW + 9_000)];
    ground.store.apply_receipts(receipts, NOW + 9_000).await.expect("stored");
    assert_eq!(reported(), [reached(Delivered, Some(1_500)), reached(Read, Some(9_000))]);

    let cancelled = ground.accept(channel, "552").await;
    assert_eq!(
        ground.store.cancel(channel, cancelled, NOW).await.expect("stored"),
        recado_domain::message::Cancelled::Done
    );
    ground.accept(channel, "553").await;
    let claimed = ground.claim_one(channel).await;
    ground.settle(channel, claimed.seq, failed()).await;
    assert_eq!(reported(), [reached(Cancelled, None), reached(Sending, None), reached(Failed, None)]);
}

pub(super) async fn every_settlement_moves_only_what_is_sending(ground: Ground) {
    let settlements = [
        (sent(), MessageStatus::Sent),
        (failed(), MessageStatus::Failed),
        (Settlement::Retry { run_at: NOW }, MessageStatus::Queued),
        (Settlement::HoldRecipient { until: NOW, hold: None }, MessageStatus::Queued),
        (Settlement::HoldChannel { until: NOW }, MessageStatus::Queued),
        (Settlement::PauseChannel { reason: "Autorize.".to_owned() }, MessageStatus::Queued),
        (Settlement::Unknown { resend_at: None, hold: None }, MessageStatus::Unknown),
    ];
    for from in MessageStatus::ALL {
        for (settlement, to) in &settlements {
            let (channel, id) = message_in(&ground, from).await;
            let before = ground.message(channel, id).await;
            ground.settle(channel, before.seq, settlement.clone()).await;
            let expected = if from == MessageStatus::Sending { *to } else { from };
            let after = ground.message(channel, id).await;
            assert_eq!(after.status, expected, "{from:?} settled as {settlement:?}");
            if from != MessageStatus::Sending {
                assert_eq!(after, before, "{from:?} settled as {settlement:?}");
            }
            ground.claim(ClaimRequest { limit: 0, held: vec![after.seq], ..request(channel) }).await;
            let open = ground.open(channel).await;
            assert_eq!(open, usize::from(expected.is_open()), "{from:?} settled as {settlement:?}");
        }
    }
}

pub(super) async fn a_settlement_leaves_its_traces(ground: Ground) {
    let (channel, id) = message_in(&ground, MessageStatus::Sending).await;
    let seq = ground.message(channel, id).await.seq;
    let sent = Settlement::Sent { account: Some("5511888".to_owned()), remote_id: None, rendition: None };
    ground.settle_at(channel, vec![(seq, sent)], NOW + 7).await;
    let message = ground.message(channel, id).await;
    assert_eq!(message.account.as_deref(), Some("5511888"));
    assert_eq!(message.reached[usize::from(MessageStatus::Sent.number())], Some(NOW + 7));
    assert_eq!(message.error, None);

    let (channel, id) = message_in(&ground, MessageStatus::Failed).await;
    let error = Some(("TIMEOUT".to_owned(), "A rede nao respondeu.".to_owned()));
    assert_eq!(ground.message(channel, id).await.error, error);
}

pub(super) async fn several_outcomes_are_recorded_together(ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    for recipient in ["551", "552", "553"] {
        ground.accept(channel, recipient).await;
    }
    let all = ClaimRequest { limit: 3, ..request(channel) };
    let claim = ground.claim(all.clone()).await;
    let settlements =
        [sent(), Settlement::Retry { run_at: NOW + 9 }, Settlement::Unknown { resend_at: None, hold: None }];
    let outcomes = claim.messages.iter().map(|message| message.seq).zip(settlements).collect();
    ground.settle_at(channel, outcomes, NOW).await;
    let statuses = ground.all(channel).await.into_iter().map(|message| message.status);
    let expected = [MessageStatus::Sent, MessageStatus::Queued, MessageStatus::Unknown];
    assert_eq!(statuses.collect::<Vec<_>>(), expected);
    assert_eq!(ground.claim(all).await.next_at, Some(NOW + 9));
}

pub(super) async fn a_lost_connection_is_no_failure(ground: Ground) {
    let (channel, id) = message_in(&ground, MessageStatus::Sending).await;
    let (seq, behind) = (ground.message(channel, id).await.seq, ground.accept(channel, "552").await);
    ground.settle(channel, seq, Settlement::ConnectionLost { run_at: NOW + 5 }).await;
    let claim = ground.claim(request(channel)).await;
    assert_eq!((claim.messages, claim.next_at), (vec![], Some(NOW + 5)), "it keeps its place");
    let claim = ground.claim(ClaimRequest { now: NOW + 5, ..request(channel) }).await;
    assert_eq!((ids(&claim), claim.messages[0].failures, claim.messages[0].attempts), (vec![id], 0, 2));
    ground.settle(channel, seq, Settlement::ConnectionLost { run_at: NOW + 5 }).await;
    assert_eq!(ground.store.cancel(channel, id, NOW).await.expect("answered"), Cancelled::TooLate, "it may be there");
    let old = NOW + 2_000_000_000;
    ground.claim(ClaimRequest { now: old, ..request(channel) }).await;
    assert_eq!(ground.status(channel, id).await, MessageStatus::Unknown);
    assert_eq!(ground.status(channel, behind).await, MessageStatus::Expired);
}

pub(super) async fn the_rendition_that_was_sent_is_kept(ground: Ground) {
    for overtook in [None, Some(MessageStatus::Delivered)] {
        let (channel, id) = message_in(&ground, MessageStatus::Sending).await;
        let sending = ground.message(channel, id).await;
        if let Some(status) = overtook {
            ground.receipt(channel, &sending.network_id, status).await;
        }
        let rendition = Some("as sent".to_owned());
        let settlement = Settlement::Sent { account: None, remote_id: None, rendition: rendition.clone() };
        ground.settle(channel, sending.seq, settlement).await;
        let message = ground.message(channel, id).await;
        assert_eq!((message.kind.as_str(), message.rendition), ("contact", rendition), "{overtook:?}");
        assert_eq!(message.status, overtook.unwrap_or(MessageStatus::Sent));
    }
}
