//! Receipts: which of them count, and which transitions they make.

use recado_domain::channel::{ChannelKey, ChannelType};
use recado_domain::clock::Millis;
use recado_domain::message::NewMessage;
use recado_domain::party::Party;
use recado_domain::queue::{Claim, ClaimRequest, MessageRef, Receipt, Settlement};
use recado_domain::status::MessageStatus;

use super::outcomes::{failed, message_in};
use crate::fixtures::{Ground, NOW, ids, request, sent};

pub(super) fn receipt(channel: ChannelKey, network_id: &str, status: MessageStatus, at: Millis) -> Receipt {
    Receipt {
        channel,
        of: MessageRef::NetworkId(network_id.parse().expect("an id")),
        status,
        at,
        from: None,
        account: None,
        error: None,
        pauses: None,
        pricing: None,
    }
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
