//! New recipients wait where the network watches how many chats a channel opens.

use futures_util::future::join_all;
use recado_domain::channel::{ChannelKey, ChannelState, ChannelType};
use recado_domain::clock::Millis;
use recado_domain::ids::MessageId;
use recado_domain::message::{Enqueued, NewMessage};
use recado_domain::party::Party;
use recado_domain::queue::{Claim, ClaimRequest, Settlement};
use recado_domain::status::MessageStatus;

use crate::fixtures::{DAY, Ground, MINUTE, NOW, ids, request, sent};

const UNTIL: Millis = NOW + 60 * MINUTE;

async fn linked(ground: &Ground) -> ChannelKey {
    ground.channel_of(ChannelType::WhatsAppWeb, "loja").await
}

async fn restrict(ground: &Ground, channel: ChannelKey, until: Millis) {
    let reason = "Restrito pelo WhatsApp.".to_owned();
    assert!(ground.store.restrict_channel(channel, until, reason, NOW).await.expect("stored"));
}

async fn knows(ground: &Ground, channel: ChannelKey, account: &str) -> bool {
    ground.store.note_chat(channel, Party::of_number(account)).await.expect("stored")
}

/// Accepts a message that has been visible for a while: a scan may read a newer one again, because another may still
/// appear before it.
async fn accept_until(ground: &Ground, channel: ChannelKey, recipient: &str, expires_at: Millis) -> MessageId {
    let accepted_at = NOW - MINUTE;
    let message = NewMessage { accepted_at, expires_at, ..ground.new_message(channel, recipient) };
    let id = message.id;
    assert_eq!(ground.enqueue(message).await, Enqueued::Accepted);
    id
}

/// A claim at this time, by this limit.
async fn claim_at(ground: &Ground, channel: ChannelKey, now: Millis, per_day: Option<u32>) -> Claim {
    let claimed_until = now + MINUTE;
    ground.claim(ClaimRequest { now, claimed_until, new_recipients_per_day: per_day, ..request(channel) }).await
}

/// Sends all messages that may go at this time. Returns their ids in order, and when to claim again.
async fn send_all(
    ground: &Ground,
    channel: ChannelKey,
    now: Millis,
    per_day: Option<u32>,
) -> (Vec<MessageId>, Option<Millis>) {
    let mut all = Vec::new();
    loop {
        let claim = claim_at(ground, channel, now, per_day).await;
        let Some(message) = claim.messages.first() else { return (all, claim.next_at) };
        all.push(message.id);
        ground.settle_at(channel, vec![(message.seq, sent())], now).await;
    }
}

pub(super) async fn a_restricted_channel_writes_to_known_recipients(mut ground: Ground) {
    let channel = linked(&ground).await;
    knows(&ground, channel, "552").await;
    let mut by_recipient = [Vec::new(), Vec::new()];
    for _ in 0..3 {
        for (own, recipient) in by_recipient.iter_mut().zip(["551", "552"]) {
            own.push(ground.accept(channel, recipient).await);
        }
    }
    restrict(&ground, channel, UNTIL).await;
    ground.reopen().await;
    assert_eq!(send_all(&ground, channel, NOW, None).await, (by_recipient[1].clone(), Some(UNTIL)));
    assert!(!claim_at(&ground, channel, NOW, None).await.holds_all, "whom it knows may still be written to");
    let late = ground.accept(channel, "552").await;
    assert_eq!(send_all(&ground, channel, UNTIL - 1, None).await, (vec![late], Some(UNTIL)), "past those that wait");
    assert_eq!(send_all(&ground, channel, UNTIL, None).await, (by_recipient[0].clone(), None), "its time is over");
}

pub(super) async fn a_lifted_restriction_blocks_no_recipient(ground: Ground) {
    let channel = linked(&ground).await;
    restrict(&ground, channel, UNTIL).await;
    let waiting = ground.accept(channel, "551").await;
    assert_eq!(send_all(&ground, channel, NOW, None).await.0, []);
    ground.move_channel(channel, ChannelState::Restricted, ChannelState::Connected).await;
    assert_eq!(send_all(&ground, channel, NOW, None).await.0, [waiting]);
}

pub(super) async fn messages_for_a_recipient_that_became_known_are_sent_in_order(ground: Ground) {
    let channel = linked(&ground).await;
    restrict(&ground, channel, UNTIL).await;
    let mut accepted = Vec::new();
    for recipient in ["551", "552", "551", "553", "552"] {
        accepted.push(ground.accept(channel, recipient).await);
    }
    assert_eq!(send_all(&ground, channel, NOW, None).await.0, []);
    assert!(knows(&ground, channel, "552").await);
    assert!(!knows(&ground, channel, "552").await, "known already");
    assert_eq!(ground.claim_one(channel).await.id, accepted[1]);
    ground.settle(channel, ground.message(channel, accepted[1]).await.seq, sent()).await;
    // Before the second message to 552: the order is that of acceptance, whichever recipient was known first.
    assert!(knows(&ground, channel, "551").await);
    assert_eq!(send_all(&ground, channel, NOW, None).await.0, [accepted[0], accepted[2], accepted[4]]);
}

pub(super) async fn an_account_is_known_by_its_number(ground: Ground) {
    let channel = linked(&ground).await;
    restrict(&ground, channel, UNTIL).await;
    let typed = ground.accept(channel, "5511999").await;
    knows(&ground, channel, "551199").await;
    assert_eq!(send_all(&ground, channel, NOW, None).await.0, []);
    let account = Some(Party::of_number("551199"));
    ground.store.note_account(channel, "5511999".to_owned(), account, NOW).await.expect("stored");
    assert_eq!(send_all(&ground, channel, NOW, None).await.0, [typed]);
}

pub(super) async fn a_person_is_known_by_every_name(mut ground: Ground) {
    let (with, without, lid) = ("5511988887777", "551188887777", "900");
    let hidden = || Party::new(None, Some(lid.to_owned())).expect("a person");
    let named = |number: &str| Party::new(Some(number.to_owned()), Some(lid.to_owned()));
    // The person writes under one form of the number; messages for the other form are sent.
    for (n, (writes, waits)) in [(with, without), (without, with)].into_iter().enumerate() {
        let channel = ground.channel_of(ChannelType::WhatsAppWeb, &format!("loja{n}")).await;
        restrict(&ground, channel, UNTIL).await;
        let waiting = ground.accept(channel, waits).await;
        assert_eq!(send_all(&ground, channel, NOW, None).await.0, []);
        assert!(knows(&ground, channel, writes).await);
        assert!(!knows(&ground, channel, waits).await, "known already");
        ground.reopen().await;
        assert_eq!(send_all(&ground, channel, NOW, None).await.0, [waiting]);
        // A recipient whose chat is refused is new again, under every name.
        let refused = ground.accept(channel, waits).await;
        let claimed = ground.claim_one(channel).await;
        let refusal = Settlement::NewChatBlocked { until: UNTIL, reason: String::new() };
        ground.settle(channel, claimed.seq, refusal).await;
        let other = ground.accept(channel, writes).await;
        assert_eq!(send_all(&ground, channel, NOW, None).await.0, []);
        assert_eq!(send_all(&ground, channel, UNTIL, None).await.0, [refused, other]);
    }
    // The person writes under a hidden id, and the network names its number later, or did so before.
    for (n, before) in [false, true].into_iter().enumerate() {
        let channel = ground.channel_of(ChannelType::WhatsAppWeb, &format!("banca{n}")).await;
        let note = async || {
            let noted = ground.store.note_account(channel, with.to_owned(), named(without), NOW).await;
            noted.expect("stored");
        };
        restrict(&ground, channel, UNTIL).await;
        let waiting = ground.accept(channel, with).await;
        assert_eq!(send_all(&ground, channel, NOW, None).await.0, []);
        if before {
            note().await;
            assert_eq!(send_all(&ground, channel, NOW, None).await.0, []);
        }
        assert!(ground.store.note_chat(channel, hidden()).await.expect("stored"));
        if !before {
            assert_eq!(send_all(&ground, channel, NOW, None).await.0, []);
            note().await;
        }
        assert_eq!(send_all(&ground, channel, NOW, None).await.0, [waiting]);
        // The hidden id is forgotten too.
        let refused = ground.accept(channel, with).await;
        let claimed = ground.claim_one(channel).await;
        ground.settle(channel, claimed.seq, Settlement::NewChatBlocked { until: UNTIL, reason: String::new() }).await;
        assert_eq!(send_all(&ground, channel, NOW, None).await.0, []);
        assert_eq!(send_all(&ground, channel, UNTIL, None).await.0, [refused]);
    }
}

pub(super) async fn a_chat_that_we_opened_has_both_forms_and_is_counted_once(ground: Ground) {
    let (with, without) = ("5511988887777", "551188887777");
    let channel = linked(&ground).await;
    let (first, other) = (ground.accept(channel, with).await, ground.accept(channel, without).await);
    let next = ground.accept(channel, "552").await;
    assert_eq!(send_all(&ground, channel, NOW, Some(2)).await.0, [first, other, next]);
    restrict(&ground, channel, UNTIL).await;
    let again = ground.accept(channel, without).await;
    assert_eq!(send_all(&ground, channel, NOW, None).await.0, [again]);
}

pub(super) async fn only_so_many_chats_are_opened_in_a_day(mut ground: Ground) {
    let channel = linked(&ground).await;
    let mut accepted = Vec::new();
    for recipient in ["551", "552", "553", "551", "554", "552"] {
        accepted.push(accept_until(&ground, channel, recipient, NOW + 9 * DAY).await);
    }
    let first = claim_at(&ground, channel, NOW, Some(2)).await;
    ground.settle(channel, first.messages[0].seq, sent()).await;
    let (then, next_at) = send_all(&ground, channel, NOW + 10, Some(2)).await;
    assert_eq!(ids(&first), accepted[..1]);
    assert_eq!(then, [accepted[1], accepted[3], accepted[5]], "two new ones, and whom it knows by then");
    assert_eq!(next_at, Some(NOW + DAY), "when the first is no longer counted");
    ground.reopen().await;
    assert_eq!(send_all(&ground, channel, NOW + DAY - 1, Some(2)).await, (vec![], Some(NOW + DAY)));
    assert_eq!(send_all(&ground, channel, NOW + DAY, Some(2)).await, (vec![accepted[2]], Some(NOW + DAY + 10)));
    assert_eq!(send_all(&ground, channel, NOW + DAY + 10, Some(2)).await, (vec![accepted[4]], None));
}

pub(super) async fn a_changed_limit_applies_at_once(ground: Ground) {
    let channel = linked(&ground).await;
    let mut accepted = Vec::new();
    for n in 0..6 {
        accepted.push(ground.accept(channel, &format!("55{n}")).await);
    }
    assert_eq!(send_all(&ground, channel, NOW, Some(3)).await.0, accepted[..3]);
    assert_eq!(send_all(&ground, channel, NOW, Some(2)).await.0, [], "already more than that");
    assert_eq!(send_all(&ground, channel, NOW, Some(4)).await.0, accepted[3..4]);
    assert_eq!(send_all(&ground, channel, NOW, None).await.0, accepted[4..]);
}

pub(super) async fn a_chat_is_counted_once(ground: Ground) {
    let channel = linked(&ground).await;
    knows(&ground, channel, "559").await;
    let first = ground.accept(channel, "5511999").await;
    let claimed = ground.claim_one(channel).await;
    // The receipt arrives before the acknowledgement that names the account.
    ground.receipt(channel, &claimed.network_id, MessageStatus::Delivered).await;
    let account =
        |digits: &str| Settlement::Sent { account: Some(digits.to_owned()), remote_id: None, rendition: None };
    ground.settle(channel, claimed.seq, account("551199")).await;
    assert_eq!(ground.status(channel, first).await, MessageStatus::Delivered);
    let known = ground.accept(channel, "559000").await;
    let claimed = ground.claim_one(channel).await;
    assert_eq!(claimed.id, known);
    ground.settle(channel, claimed.seq, account("559")).await;

    let mut accepted = Vec::new();
    for recipient in ["551", "552", "551199", "5511999", "559000", "559"] {
        accepted.push(ground.accept(channel, recipient).await);
    }
    let expected = [accepted[0], accepted[2], accepted[3], accepted[4], accepted[5]];
    assert_eq!(send_all(&ground, channel, NOW, Some(2)).await.0, expected, "one chat before, one now");
}

pub(super) async fn an_acknowledgement_that_was_overtaken_opens_the_chat(ground: Ground) {
    let channel = linked(&ground).await;
    ground.accept(channel, "551").await;
    let claimed = ground.claim_one(channel).await;
    ground.receipt(channel, &claimed.network_id, MessageStatus::Failed).await;
    ground.settle(channel, claimed.seq, sent()).await;
    restrict(&ground, channel, UNTIL).await;
    let again = ground.accept(channel, "551").await;
    assert_eq!(send_all(&ground, channel, NOW, None).await.0, [again]);
}

pub(super) async fn waiting_messages_expire_in_time(ground: Ground) {
    let channel = linked(&ground).await;
    restrict(&ground, channel, NOW + DAY).await;
    let mut accepted = Vec::new();
    for expires_at in [NOW + 10, NOW + 20, NOW + 40, NOW + 30, NOW + 50] {
        accepted.push(accept_until(&ground, channel, "551", expires_at).await);
    }
    let statuses = async |now| {
        let claim = claim_at(&ground, channel, now, None).await;
        assert!(claim.messages.is_empty());
        let expired = |message: &recado_domain::message::Message| message.status == MessageStatus::Expired;
        let expired = ground.all(channel).await.iter().filter(|message| expired(message)).count();
        (expired, claim.next_at.map_or(0, |at| at - NOW))
    };
    assert_eq!(statuses(NOW).await, (0, 10));
    assert_eq!(statuses(NOW + 9).await, (0, 10));
    assert_eq!(statuses(NOW + 10).await, (1, 20));
    assert_eq!(statuses(NOW + 20).await, (2, 40));
    assert_eq!(statuses(NOW + 40).await, (4, 50), "one that outlives none before it is found when its turn comes");
    assert_eq!(statuses(NOW + 50).await.0, 5);
    let other = accept_until(&ground, channel, "551", NOW + 6 * MINUTE).await;
    let stray = accept_until(&ground, channel, "551", NOW + 5 * MINUTE).await;
    assert_eq!(statuses(NOW + 4 * MINUTE).await.1, 5 * MINUTE);
    assert_eq!(statuses(NOW + 5 * MINUTE).await, (5, 6 * MINUTE), "behind one that lives longer: a minute late");
    assert_eq!(statuses(NOW + 6 * MINUTE - 1).await, (5, 6 * MINUTE));
    assert_eq!(statuses(NOW + 6 * MINUTE).await.0, 7);
    for id in [other, stray] {
        assert_eq!(ground.status(channel, id).await, MessageStatus::Expired);
    }
}

pub(super) async fn many_waiting_messages_are_passed_in_parts(ground: Ground) {
    let channel = linked(&ground).await;
    restrict(&ground, channel, UNTIL).await;
    let recipients: Vec<_> = (0..1_200).map(|n| format!("55{n}")).collect();
    join_all(recipients.iter().map(|recipient| accept_until(&ground, channel, recipient, NOW + DAY))).await;
    knows(&ground, channel, "77").await;
    let known = ground.accept(channel, "77").await;
    for _ in 0..2 {
        let claim = ground.claim(request(channel)).await;
        assert_eq!((claim.messages, claim.next_at), (vec![], Some(NOW)), "others wait, too");
    }
    assert_eq!(send_all(&ground, channel, NOW, None).await, (vec![known], Some(UNTIL)));
}

pub(super) async fn a_refused_chat_waits_like_any_new_chat(mut ground: Ground) {
    let channel = linked(&ground).await;
    let refused = ground.accept(channel, "551").await;
    let claimed = ground.claim_one(channel).await;
    ground.store.note_account(channel, "551".to_owned(), Some(Party::of_number("5519")), NOW).await.expect("stored");
    knows(&ground, channel, "5519").await;
    knows(&ground, channel, "551").await;
    knows(&ground, channel, "552").await;
    let settlement = Settlement::NewChatBlocked { until: UNTIL, reason: "Sem conversas novas.".to_owned() };
    ground.settle(channel, claimed.seq, settlement.clone()).await;
    ground.reopen().await;
    let row = ground.store.channel(channel).await.expect("read").expect("there");
    assert_eq!((row.state, row.restricted_until), (ChannelState::Restricted, Some(UNTIL)));
    assert_eq!(row.state_reason.as_deref(), Some("Sem conversas novas."));
    let known = ground.accept(channel, "552").await;
    assert_eq!(send_all(&ground, channel, NOW, None).await, (vec![known], Some(UNTIL)));
    let claim = claim_at(&ground, channel, UNTIL, None).await;
    assert_eq!(ids(&claim), [refused]);
    assert_eq!((claim.messages[0].failures, claim.messages[0].attempts), (0, 2), "no failure of the message's own");
    // An acknowledgement of an already delivered message has the same effect on the channel.
    ground.receipt(channel, &claimed.network_id, MessageStatus::Delivered).await;
    ground.settle(channel, claimed.seq, settlement).await;
    assert_eq!(ground.status(channel, refused).await, MessageStatus::Delivered);
}

pub(super) async fn other_channels_ask_nobody(ground: Ground) {
    for kind in [ChannelType::Sandbox, ChannelType::CloudApi] {
        let channel = ground.channel_of(kind, kind.name()).await;
        restrict(&ground, channel, UNTIL).await;
        let accepted = [ground.accept(channel, "551").await, ground.accept(channel, "552").await];
        assert_eq!(send_all(&ground, channel, NOW, Some(1)).await.0, accepted);
    }
}

pub(super) async fn queued_messages_of_a_paused_channel_expire(ground: Ground) {
    let channel = linked(&ground).await;
    restrict(&ground, channel, UNTIL).await;
    let old = accept_until(&ground, channel, "551", NOW + 10).await;
    let young = ground.accept(channel, "552").await;
    assert_eq!(send_all(&ground, channel, NOW, None).await.0, []);
    ground.move_channel(channel, ChannelState::Restricted, ChannelState::Paused).await;
    assert_eq!(claim_at(&ground, channel, NOW, None).await.next_at, Some(NOW + 10));
    assert_eq!(claim_at(&ground, channel, NOW + 10, None).await.next_at, Some(NOW + DAY));
    assert_eq!(ground.status(channel, old).await, MessageStatus::Expired);
    ground.move_channel(channel, ChannelState::Paused, ChannelState::Restricted).await;
    assert_eq!(send_all(&ground, channel, NOW + 10, None).await, (vec![], Some(UNTIL)), "it is not forgotten");
    assert_eq!(send_all(&ground, channel, UNTIL, None).await.0, [young]);
}

pub(super) async fn a_deleted_channel_forgets_its_recipients(ground: Ground) {
    let channel = linked(&ground).await;
    knows(&ground, channel, "551").await;
    ground.store.note_account(channel, "552".to_owned(), Some(Party::of_number("551")), NOW).await.expect("stored");
    restrict(&ground, channel, UNTIL).await;
    let waiting = ground.accept(channel, "553").await;
    assert_eq!(send_all(&ground, channel, NOW, None).await.0, []);
    ground.delete_channel(channel, NOW).await;
    assert!(!knows(&ground, channel, "554").await, "a deleted channel learns nothing");
    ground.store.note_account(channel, "554".to_owned(), None, NOW).await.expect("answered");
    assert_eq!(claim_at(&ground, channel, NOW, None).await, Claim::default());
    assert_eq!(ground.status(channel, waiting).await, MessageStatus::Cancelled);

    let mut again = ground.new_channel("loja", ChannelState::Connected);
    again.kind = ChannelType::WhatsAppWeb;
    let made = ground.store.create_channel(again).await.expect("stored").expect("its place is free again");
    assert_eq!((made.key, made.restricted_until), (channel, None));
    for phone in ["552", "554"] {
        assert_eq!(ground.store.known_account(channel, phone.to_owned()).await.expect("read"), None);
    }
    assert!(knows(&ground, channel, "551").await, "as a new one");
}

pub(super) async fn a_deferred_recipient_is_passed_and_keeps_its_order(mut ground: Ground) {
    let channel = linked(&ground).await;
    let mut accepted = Vec::new();
    for recipient in ["551", "552", "551"] {
        accepted.push(ground.accept(channel, recipient).await);
    }
    let seq = ground.claim_one(channel).await.seq;
    ground.settle(channel, seq, Settlement::HoldRecipient { until: NOW + 4_000, hold: Some(NOW + 1_000) }).await;
    ground.reopen().await;
    let resting = claim_at(&ground, channel, NOW, None).await;
    assert_eq!((ids(&resting), resting.next_at), (vec![], Some(NOW + 1_000)), "the channel rests, too");
    assert_eq!(send_all(&ground, channel, NOW + 1_000, None).await, (vec![accepted[1]], Some(NOW + 4_000)));
    // A later message is behind the waiting ones for the same recipient.
    for recipient in ["551", "553"] {
        accepted.push(ground.accept(channel, recipient).await);
    }
    assert_eq!(send_all(&ground, channel, NOW + 3_999, None).await, (vec![accepted[4]], Some(NOW + 4_000)));
    let claim = claim_at(&ground, channel, NOW + 4_000, None).await;
    assert_eq!((ids(&claim), claim.messages[0].failures, claim.messages[0].recipient_holds), (vec![accepted[0]], 0, 1));
    ground.settle_at(channel, vec![(seq, sent())], NOW + 4_000).await;
    assert_eq!(send_all(&ground, channel, NOW + 4_000, None).await, (vec![accepted[2], accepted[3]], None));
    // The other form of their number is theirs, too.
    let both = [ground.accept(channel, "5511988887777").await, ground.accept(channel, "551188887777").await];
    let seq = claim_at(&ground, channel, NOW + 4_000, None).await.messages[0].seq;
    let hold = Settlement::HoldRecipient { until: NOW + 8_000, hold: None };
    ground.settle_at(channel, vec![(seq, hold)], NOW + 4_000).await;
    assert_eq!(send_all(&ground, channel, NOW + 4_000, None).await, (vec![], Some(NOW + 8_000)));
    assert_eq!(send_all(&ground, channel, NOW + 8_000, None).await, (both.to_vec(), None));
}

pub(super) async fn messages_for_a_deferred_recipient_expire_in_time(ground: Ground) {
    let channel = linked(&ground).await;
    let old = accept_until(&ground, channel, "551", NOW + 10).await;
    let seq = ground.claim_one(channel).await.seq;
    ground.settle(channel, seq, Settlement::HoldRecipient { until: NOW + 4_000, hold: None }).await;
    let young = ground.accept(channel, "551").await;
    assert_eq!(send_all(&ground, channel, NOW, None).await, (vec![], Some(NOW + 10)));
    assert_eq!(send_all(&ground, channel, NOW + 10, None).await, (vec![], Some(NOW + 4_000)));
    assert_eq!(ground.status(channel, old).await, MessageStatus::Expired);
    // A pause blocks all messages.
    ground.move_channel(channel, ChannelState::Connected, ChannelState::Paused).await;
    assert_eq!(send_all(&ground, channel, NOW + 4_000, None).await.0, []);
    ground.move_channel(channel, ChannelState::Paused, ChannelState::Connected).await;
    assert_eq!(send_all(&ground, channel, NOW + 4_000, None).await.0, [young]);
}

pub(super) async fn recipients_that_were_never_asked_for_are_listed(ground: Ground) {
    let channel = linked(&ground).await;
    let unasked =
        async |lid: &str, limit| ground.store.unasked_recipients(channel, lid.to_owned(), limit).await.expect("read");
    for recipient in ["551", "552", "553", "551", "554", "555"] {
        ground.accept(channel, recipient).await;
    }
    let other = ground.channel_of(ChannelType::WhatsAppWeb, "outra").await;
    ground.accept(other, "559").await;
    assert_eq!(unasked("900", 9).await, ["551", "552", "553", "554", "555"], "each once, in queue order");
    assert_eq!(unasked("900", 2).await, ["551", "552"]);
    // One was looked up, one is not on the network, and one is known already.
    let account = Party::new(Some("551".to_owned()), Some("901".to_owned()));
    ground.store.note_account(channel, "551".to_owned(), account, NOW).await.expect("stored");
    ground.store.note_account(channel, "552".to_owned(), None, NOW).await.expect("stored");
    knows(&ground, channel, "553").await;
    assert_eq!(unasked("900", 9).await, ["554", "555"]);
    assert!(unasked("901", 9).await.is_empty(), "whose hidden id that is, is known");
    // Finished messages need no look-up.
    let claimed = ground.claim_one(channel).await;
    ground.settle(channel, claimed.seq, sent()).await;
    ground.delete_channel(channel, NOW).await;
    assert!(unasked("900", 9).await.is_empty());
}
