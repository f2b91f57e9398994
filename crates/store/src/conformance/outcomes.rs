//! Outcomes, receipts, cancellations: which transitions they make.

use std::sync::{Arc, Mutex};

use recado_domain::channel::{Actor, ChannelKey, ChannelMove, ChannelState, ChannelType};
use recado_domain::clock::Millis;
use recado_domain::ids::MessageId;
use recado_domain::message::{Cancelled, NewMessage};
use recado_domain::party::Party;
use recado_domain::queue::{Claim, ClaimRequest, MessageRef, Receipt, Settlement};
use recado_domain::status::MessageStatus;

use crate::commits::{Change, Follow, Reached};
use crate::fixtures::{Ground, NOW, ids, request, sent};

fn failed() -> Settlement {
    Settlement::Failed { code: "TIMEOUT".to_owned(), message: "A rede nao respondeu.".to_owned() }
}

/// A message in this state, on a channel of its own.
async fn message_in(ground: &Ground, status: MessageStatus) -> (ChannelKey, MessageId) {
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

    let of = MessageRef::NetworkId(claimed.network_id.parse().expect("an id"));
    let receipt = |status, at| Receipt {
        channel,
        of: of.clone(),
        status,
        at,
        from: None,
        account: None,
        error: None,
        pauses: None,
        pricing: None,
    };
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

pub(super) async fn a_receipt_that_overtook_the_outcome_counts(ground: Ground) {
    for overtook in [MessageStatus::Delivered, MessageStatus::Read, MessageStatus::Failed] {
        for settlement in [
            Settlement::Sent { account: Some("5511888".to_owned()), remote_id: None, rendition: None },
            Settlement::Retry { run_at: NOW + 9 },
            failed(),
        ] {
            let (channel, id) = message_in(&ground, MessageStatus::Sending).await;
            let sending = ground.message(channel, id).await;
            ground.receipt(channel, &sending.network_id, overtook).await;
            ground.settle(channel, sending.seq, settlement.clone()).await;
            let message = ground.message(channel, id).await;
            assert_eq!(message.status, overtook);
            let account = matches!(settlement, Settlement::Sent { .. }).then_some("5511888");
            assert_eq!(message.account.as_deref(), account, "the account is stored anyway");
            assert_eq!(ground.claim(request(channel)).await, Claim::default());
        }
    }
    let (channel, id) = message_in(&ground, MessageStatus::Sending).await;
    let sending = ground.message(channel, id).await;
    ground.receipt(channel, &sending.network_id, MessageStatus::Read).await;
    ground.settle(channel, sending.seq, Settlement::HoldChannel { until: NOW + 9 }).await;
    let next = ground.accept(channel, "551").await;
    let claim = ground.claim(request(channel)).await;
    assert_eq!((claim.messages, claim.next_at), (vec![], Some(NOW + 9)), "the channel's trouble is the channel's");
    assert_eq!(ids(&ground.claim(ClaimRequest { now: NOW + 9, ..request(channel) }).await), [next]);
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

pub(super) async fn a_receipt_finds_a_message_that_waits_for_a_retry(ground: Ground) {
    use MessageStatus::{Delivered, Failed, Queued, Read, Sent};
    let unanswered = [Settlement::ConnectionLost { run_at: NOW }, Settlement::RetryUnanswered { run_at: NOW }];
    for settlement in unanswered.into_iter().chain([Settlement::Retry { run_at: NOW }]) {
        for status in [Sent, Delivered, Read, Failed] {
            let (channel, id) = message_in(&ground, MessageStatus::Sending).await;
            let sending = ground.message(channel, id).await;
            ground.settle(channel, sending.seq, settlement.clone()).await;
            let stranger = ground.channel(&format!("vizinha-{id}")).await;
            ground.receipt(stranger, &sending.network_id, status).await;
            assert_eq!(ground.status(channel, id).await, Queued, "of another channel");
            ground.apply(receipt(channel, &sending.network_id, status, NOW + 3)).await;
            let arrived = matches!(status, Delivered | Read) && !matches!(settlement, Settlement::Retry { .. });
            let message = ground.message(channel, id).await;
            assert_eq!(message.status, if arrived { status } else { Queued }, "{settlement:?} {status:?}");
            if arrived {
                assert_eq!(message.reached[usize::from(status.number())], Some(NOW + 3));
                assert_eq!(ground.claim(request(channel)).await, Claim::default(), "it is not sent again");
            }
        }
    }
}

fn receipt(channel: ChannelKey, network_id: &str, status: MessageStatus, at: Millis) -> Receipt {
    Receipt {
        channel,
        of: MessageRef::NetworkId(network_id.parse().unwrap()),
        status,
        at,
        from: None,
        account: None,
        error: None,
        pauses: None,
        pricing: None,
    }
}

pub(super) async fn every_receipt_makes_only_legal_moves(ground: Ground) {
    use MessageStatus::{Delivered, Failed, Read, Sent};
    for from in MessageStatus::ALL {
        for to in [Sent, Delivered, Read, Failed] {
            let (channel, id) = message_in(&ground, from).await;
            let before = ground.message(channel, id).await;
            ground.apply(receipt(channel, &before.network_id, to, NOW + 3)).await;
            let after = ground.message(channel, id).await;
            let moves = from.awaits_receipts() && from.may_become(to, false);
            assert_eq!(after.status, if moves { to } else { from }, "{from:?} -> {to:?}");
            if moves {
                assert_eq!(after.reached[usize::from(to.number())], Some(NOW + 3), "{from:?} -> {to:?}");
            } else {
                assert_eq!(after, before, "{from:?} -> {to:?}");
            }
        }
    }
}

pub(super) async fn a_receipt_for_another_channel_means_nothing(ground: Ground) {
    let (channel, id) = message_in(&ground, MessageStatus::Sent).await;
    let neighbour = ground.channel("vizinha").await;
    let sent = ground.message(channel, id).await;
    ground.receipt(neighbour, &sent.network_id, MessageStatus::Read).await;
    ground.receipt(channel, "3EB0FFFF", MessageStatus::Read).await;
    assert_eq!(ground.message(channel, id).await, sent);

    // The same id on both: each its own.
    let twin = NewMessage { network_id: sent.network_id.clone(), ..ground.new_message(neighbour, "551") };
    let twin_id = twin.id;
    ground.enqueue(twin).await;
    ground.claim_one(neighbour).await;
    ground.receipt(neighbour, &sent.network_id, MessageStatus::Read).await;
    assert_eq!(ground.message(channel, id).await, sent);
    assert_eq!(ground.status(neighbour, twin_id).await, MessageStatus::Read);
}

pub(super) async fn only_receipts_of_the_recipient_count(ground: Ground) {
    let party = |number: Option<&str>, lid: Option<&str>| {
        Party::new(number.map(str::to_owned), lid.map(str::to_owned)).expect("a person")
    };
    let (typed, account, lid, stranger) = ("5511988887777", "551188887777", "900", "551188886666");
    let channel = ground.channel_of(ChannelType::WhatsAppWeb, "loja").await;
    let word = async |of: &str, from: Party| {
        let receipt = receipt(channel, of, MessageStatus::Read, NOW + 3);
        ground.apply(Receipt { from: Some(from), ..receipt }).await;
    };
    // What is known about the recipient when the receipt arrives: only the typed number, then the account that the
    // network named.
    for known in [None, Some(party(Some(account), Some(lid)))] {
        if known.is_some() {
            ground.store.note_account(channel, typed.to_owned(), known.clone(), NOW).await.expect("stored");
        }
        let counts = [
            (party(Some(typed), None), true),
            (party(Some(account), None), true),
            (party(Some(stranger), None), false),
            (party(Some(stranger), Some("901")), false),
            (party(None, Some(lid)), true),
            // The sender is unknown if the recipient's account is unknown too.
            (party(None, Some("901")), known.is_none()),
        ];
        for (from, counts) in counts {
            for state in [MessageStatus::Sending, MessageStatus::Sent] {
                let id = ground.accept(channel, typed).await;
                let claimed = ground.claim_one(channel).await;
                if state == MessageStatus::Sent {
                    ground.settle(channel, claimed.seq, sent()).await;
                }
                word(&claimed.network_id, from.clone()).await;
                let expected = if counts { MessageStatus::Read } else { state };
                assert_eq!(ground.status(channel, id).await, expected, "{:?}, {known:?}", from.names());
                ground.receipt(channel, &claimed.network_id, MessageStatus::Read).await;
            }
        }
    }
}

pub(super) async fn receipts_of_a_hidden_id_count_from_the_person_who_has_it(ground: Ground) {
    let channel = ground.channel_of(ChannelType::WhatsAppWeb, "loja").await;
    let party = |number: Option<&str>, lid: &str| {
        Party::new(number.map(str::to_owned), Some(lid.to_owned())).expect("a person")
    };
    // The digits look like a Brazilian number. Its other form is another person.
    for (from, counts) in [
        (party(None, "551188887777"), true),
        (party(Some("5521977776666"), "551188887777"), true),
        (party(None, "5511988887777"), false),
        (party(Some("5511988887777"), "901"), false),
    ] {
        let id = ground.accept(channel, "551188887777@lid").await;
        let claimed = ground.claim_one(channel).await;
        ground.settle(channel, claimed.seq, sent()).await;
        let receipt = receipt(channel, &claimed.network_id, MessageStatus::Read, NOW + 3);
        ground.apply(Receipt { from: Some(from.clone()), ..receipt }).await;
        let expected = if counts { MessageStatus::Read } else { MessageStatus::Sent };
        assert_eq!(ground.status(channel, id).await, expected, "{:?}", from.names());
    }
}

pub(super) async fn no_receipt_is_older_than_its_message(ground: Ground) {
    let channel = ground.channel("loja").await;
    for settles in [false, true] {
        let id = ground.accept(channel, "551").await;
        let claimed = ground.claim_one(channel).await;
        if settles {
            ground.settle(channel, claimed.seq, sent()).await;
        }
        ground.apply(receipt(channel, &claimed.network_id, MessageStatus::Delivered, 1_999)).await;
        ground.apply(receipt(channel, &claimed.network_id, MessageStatus::Read, 1_999)).await;
        let message = ground.message(channel, id).await;
        let reached = |status: MessageStatus| message.reached[usize::from(status.number())];
        assert_eq!(reached(MessageStatus::Sending), Some(NOW));
        assert_eq!((reached(MessageStatus::Delivered), reached(MessageStatus::Read)), (Some(NOW), Some(NOW)));
    }
}

pub(super) async fn repeated_and_late_receipts_change_nothing(ground: Ground) {
    let (channel, id) = message_in(&ground, MessageStatus::Sent).await;
    let network_id = ground.message(channel, id).await.network_id;
    let receipt = |status, at| receipt(channel, &network_id, status, at);
    let (delivered, read) = (MessageStatus::Delivered, MessageStatus::Read);
    let together = vec![receipt(delivered, NOW + 1), receipt(read, NOW + 2), receipt(delivered, NOW + 3)];
    ground.store.apply_receipts(together, NOW).await.expect("stored");
    let after = ground.message(channel, id).await;
    assert_eq!(after.status, read);
    assert_eq!(after.reached[usize::from(delivered.number())], Some(NOW + 1));
    assert_eq!(after.reached[usize::from(read.number())], Some(NOW + 2));
    let late = vec![receipt(read, NOW + 4), receipt(delivered, NOW + 5), receipt(MessageStatus::Failed, NOW + 6)];
    ground.store.apply_receipts(late, NOW).await.expect("stored");
    assert_eq!(ground.message(channel, id).await, after);
}

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
