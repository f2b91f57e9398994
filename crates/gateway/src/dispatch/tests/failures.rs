//! Failures of a recipient, of a channel and of answers, while several messages are in flight.

use recado_domain::channel::ChannelState;
use recado_domain::party::Party;

use super::*;

fn answer(outcome: SendOutcome) -> Act {
    Act::Answer(outcome)
}

#[tokio::test]
async fn a_throttled_recipient_delays_no_other_recipient() {
    let harness = DispatcherHarness::new(Network::side_by_side(2)).await;
    harness.network.act("551", [answer(SendOutcome::RecipientThrottled)]);
    let busy = [harness.accept("551").await, harness.accept("551").await];
    for n in 0..50 {
        harness.accept(&format!("56{n}")).await;
    }
    harness.store.until_settled(51).await;
    assert_eq!(harness.sent().len(), 51, "all but one, and that one waits");
    harness.store.until_waiting(NOW + 4_000).await;
    harness.advance(4_000);
    harness.store.until_settled(53).await;
    assert_eq!(harness.sent()[51..], busy, "in their order");
    assert_eq!(harness.network.sent()[51].failures, 0);
}

#[tokio::test]
async fn a_busy_recipient_is_let_be_longer_each_time() {
    let harness = DispatcherHarness::new(Network::side_by_side(2)).await;
    // Earlier failures of other kinds do not count.
    let failure = || answer(SendOutcome::ChannelUnavailable { wait: Duration::from_millis(1) });
    harness.network.act("551", (0..3).map(|_| failure()));
    harness.network.act("551", (0..3).map(|_| answer(SendOutcome::RecipientThrottled)));
    harness.accept("551").await;
    for attempt in 1..=3 {
        harness.store.until_waiting(NOW + attempt).await;
        harness.advance(1);
    }
    let mut at = NOW + 3;
    for wait in [4_000, 16_000, 64_000] {
        at += wait;
        harness.store.until_waiting(at).await;
        harness.advance(wait);
    }
    harness.store.until_settled(7).await;
}

/// The end of the channel's last hold.
async fn held_until(harness: &DispatcherHarness, settled: usize) -> Millis {
    harness.store.until_settled(settled).await;
    harness.poll().await.next_at.expect("it waits")
}

#[tokio::test]
async fn a_throttled_channel_backs_off_until_a_message_is_accepted() {
    let harness = DispatcherHarness::new(Network::side_by_side(3)).await;
    for recipient in ["551", "552", "553"] {
        harness.network.act(recipient, (0..2).map(|_| answer(SendOutcome::ChannelThrottled)));
    }
    harness.network.answer(false);
    for recipient in ["551", "552", "553"] {
        harness.accept(recipient).await;
    }
    harness.network.until_sent(3).await;
    harness.network.answer(true);
    let first = held_until(&harness, 3).await;
    assert!((NOW + 1_000..=NOW + 1_250).contains(&first), "three that were on their way met one trouble: {first}");
    harness.advance(first - NOW);
    let second = held_until(&harness, 6).await;
    assert!((first + 2_000..=first + 2_500).contains(&second), "twice as long: {}", second - first);
    // Behind the accepted messages, so that the channel's task continues.
    harness.network.act("554", [answer(SendOutcome::ChannelThrottled)]);
    harness.accept("554").await;
    harness.advance(second - first);
    let third = held_until(&harness, 10).await;
    assert!((second + 1_000..=second + 1_250).contains(&third), "from the start again: {}", third - second);
}

#[tokio::test]
async fn a_refused_channel_is_paused_and_loses_nothing() {
    let harness = DispatcherHarness::new(Network::side_by_side(2)).await;
    let reason = "Conecte de novo com um accessToken valido.".to_owned();
    harness.network.act("551", [answer(SendOutcome::ChannelDisabled { reason: reason.clone() })]);
    let refused = harness.accept("551").await;
    harness.store.until_settled(1).await;
    let waiting = harness.accept("552").await;
    assert_eq!(harness.poll().await.messages, []);
    let channel = harness.ground.store.channel(harness.channel).await.expect("read").expect("there");
    assert_eq!((channel.state, channel.state_reason), (ChannelState::Paused, Some(reason)));
    harness.ground.move_channel(harness.channel, ChannelState::Paused, ChannelState::Connected).await;
    harness.dispatcher.wake(harness.channel);
    harness.store.until_settled(3).await;
    assert_eq!(harness.status(refused).await, MessageStatus::Sent);
    assert_eq!(harness.status(waiting).await, MessageStatus::Sent);
}

#[tokio::test]
async fn a_lost_answer_is_sent_again_only_by_policy() {
    let hour = Duration::from_hours(1);
    for (network, sends) in [(Network::side_by_side(1), 1), (Network::side_by_side(1).resending_after(hour), 2)] {
        let harness = DispatcherHarness::new(network).await;
        harness.network.act("551", [no_answer()]);
        let id = harness.accept("551").await;
        harness.store.until_settled(1).await;
        assert_eq!(harness.status(id).await, MessageStatus::Unknown);
        harness.advance(millis(hour));
        if sends == 2 {
            harness.store.until_settled(2).await;
            assert_eq!(harness.status(id).await, MessageStatus::Sent);
        } else {
            harness.poll().await;
        }
        assert_eq!(harness.sent().len(), sends);
    }
}

/// A message of the first claim, whose answer was lost, was never sent, so it is not unknown.
#[tokio::test]
async fn a_lost_answer_of_the_first_claim_makes_no_message_unknown() {
    let harness = DispatcherHarness::new(Network::side_by_side(2)).await;
    harness.store.fail([Fault::ClaimAnswerLost]);
    let ids = [harness.accept("551").await, harness.accept("552").await];
    harness.store.until_settled(2).await;
    assert_eq!(harness.store.troubles_left(), 0);
    for id in ids {
        assert_eq!(harness.status(id).await, MessageStatus::Sent);
    }
}

/// Otherwise an outage of an hour would make the whole backlog unknown, and none of it would be sent again.
#[tokio::test]
async fn an_unresponsive_network_is_probed_by_one_message_at_a_time() {
    let harness = DispatcherHarness::new(Network::side_by_side(4)).await;
    let recipients: Vec<_> = (0..30).map(|n| format!("55{n}")).collect();
    for recipient in &recipients[..6] {
        harness.network.act(recipient, [no_answer()]);
    }
    harness.network.answer(false);
    let mut accepted = Vec::new();
    for recipient in &recipients {
        accepted.push(harness.accept(recipient).await);
    }
    harness.network.until_sent(4).await;
    harness.network.answer(true);
    let mut at = NOW;
    for settled in [4, 5, 6] {
        let next = held_until(&harness, settled).await;
        assert_eq!(harness.sent().len(), settled, "one more, to find out");
        harness.advance(next - at);
        at = next;
    }
    harness.store.until_settled(30).await;
    for (n, id) in accepted.into_iter().enumerate() {
        let expected = if n < 6 { MessageStatus::Unknown } else { MessageStatus::Sent };
        assert_eq!(harness.status(id).await, expected, "{n}");
    }
    assert_eq!(harness.network.most_in_flight(), 4);
}

#[tokio::test]
async fn a_refused_second_attempt_leaves_the_message_unknown() {
    let wait = Duration::from_mins(1);
    let harness = DispatcherHarness::new(Network::side_by_side(1).resending_after(wait)).await;
    let refused = SendOutcome::PermanentFailure { code: "UNDELIVERABLE", message: "Nao.".to_owned() };
    harness.network.act("551", [no_answer(), answer(refused)]);
    let id = harness.accept("551").await;
    harness.store.until_settled(1).await;
    harness.advance(millis(wait));
    harness.store.until_settled(2).await;
    assert_eq!(harness.status(id).await, MessageStatus::Unknown);
}

#[tokio::test]
async fn a_broken_connection_counts_only_if_one_message_breaks_it_repeatedly() {
    let harness = DispatcherHarness::new(Network::web()).await;
    harness.network.act("551", (0..4).map(|_| answer(SendOutcome::ConnectionLost)));
    let (first, second) = (harness.accept("551").await, harness.accept("552").await);
    for second in 1..=4 {
        harness.store.until_waiting(NOW + second * 1_000).await;
        harness.advance(1_000);
    }
    harness.store.until_settled(6).await;
    let sent = harness.network.sent();
    assert_eq!(ids(&sent), [[first; 5].as_slice(), &[second]].concat());
    let failures: Vec<_> = sent[..5].iter().map(|message| (message.failures, message.unanswered)).collect();
    assert_eq!(failures, [(0, false), (0, true), (0, true), (0, true), (1, true)], "the fourth in a row counts");
    assert!(sent[..5].iter().all(|message| message.network_id == sent[0].network_id));
}

/// The first attempt may have arrived. The refusal of a later attempt proves nothing about it.
#[tokio::test]
async fn a_message_refused_after_a_lost_answer_is_unknown() {
    let harness = DispatcherHarness::new(Network::web()).await;
    let refused = answer(SendOutcome::PermanentFailure { code: "WHATSAPP_REFUSED", message: String::new() });
    harness.network.act("551", [no_answer(), refused]);
    let first = harness.accept("551").await;
    harness.store.until_waiting(NOW + 1_000).await;
    harness.advance(1_000);
    harness.store.until_settled(2).await;
    assert_eq!(harness.status(first).await, MessageStatus::Unknown);
}

#[tokio::test]
async fn a_message_without_any_answer_of_a_real_network_is_unknown() {
    let harness = DispatcherHarness::new(Network::web()).await;
    harness.network.act("551", (0..4).map(|_| no_answer()));
    let first = harness.accept("551").await;
    for (wait, at) in [(1_000, 1_000), (5_000, 6_000), (15_000, 21_000)] {
        harness.store.until_waiting(NOW + at).await;
        harness.advance(wait);
    }
    harness.store.until_settled(4).await;
    assert_eq!(harness.status(first).await, MessageStatus::Unknown);
}

#[tokio::test]
async fn a_refused_chat_restricts_the_channel_and_delays_only_new_recipients() {
    let harness = DispatcherHarness::new(Network::web()).await;
    harness.ground.store.note_chat(harness.channel, Party::of_number("552")).await.expect("stored");
    let until = NOW + 60_000;
    harness.network.act("551", [answer(SendOutcome::NewChatBlocked { until, reason: "Espere.".to_owned() })]);
    let (new, known) = (harness.accept("551").await, harness.accept("552").await);
    harness.store.until_waiting(until).await;
    assert_eq!(harness.sent(), [new, known]);
    let row = harness.ground.store.channel(harness.channel).await.expect("read").expect("there");
    assert_eq!((row.state, row.restricted_until), (ChannelState::Restricted, Some(until)));
    harness.advance(60_000);
    harness.store.until_settled(3).await;
    assert_eq!(harness.sent(), [new, known, new]);
    assert_eq!(harness.network.sent()[2].failures, 0);
}

/// A recipient to whom nothing can be sent delays no other, and is tried at growing intervals.
#[tokio::test]
async fn an_unreachable_recipient_delays_no_other() {
    let harness = DispatcherHarness::new(Network::web()).await;
    harness.network.act("551", (0..3).map(|_| answer(SendOutcome::NotSent)));
    let held = [harness.accept("551").await, harness.accept("551").await];
    let mut others = vec![harness.accept("552").await];
    harness.store.until_settled(2).await;
    assert_eq!(ids(&harness.network.sent()), [held[0], others[0]], "no hold of the channel");
    let mut settled = 2;
    for longest in [1_250, 2_500, 5_000] {
        harness.advance(longest);
        settled += 1;
        harness.store.until_settled(settled).await;
        others.push(harness.accept("552").await);
        settled += 1;
        harness.store.until_settled(settled).await;
    }
    harness.store.until_settled(settled + 1).await;
    let sent = harness.network.sent();
    let to = |recipient: &str| -> Vec<_> { sent.iter().filter(|message| message.recipient == recipient).collect() };
    assert_eq!(ids(&to("552").into_iter().cloned().collect::<Vec<_>>()), others);
    let tries: Vec<_> = to("551").iter().map(|message| (message.id, message.failures, message.unanswered)).collect();
    assert_eq!(tries[..4], [(held[0], 0, false); 4], "no failure of the message's own, and in their order");
    assert_eq!(tries[4].0, held[1]);
    assert_eq!(harness.status(held[0]).await, MessageStatus::Sent);
}

/// Otherwise each waiting message would be tried at once while the network names no devices.
#[tokio::test]
async fn where_nothing_can_be_sent_to_anybody_the_channel_backs_off() {
    let harness = DispatcherHarness::new(Network::web()).await;
    let recipients: Vec<_> = (0..6).map(|n| format!("55{n}")).collect();
    for recipient in &recipients {
        harness.network.act(recipient, (0..9).map(|_| answer(SendOutcome::NotSent)));
        harness.accept(recipient).await;
    }
    // The second recipient shows that the first one is not the cause.
    let first = held_until(&harness, 2).await;
    assert!((NOW + 1_000..=NOW + 1_250).contains(&first), "{}", first - NOW);
    assert_eq!(harness.sent().len(), 2);
    assert_eq!(harness.poll().await.messages, []);
}

/// After a failed recipient, the recipients that were not tried yet come first.
#[tokio::test]
async fn unreachable_recipients_leave_sends_to_others() {
    let harness = DispatcherHarness::new(Network::web()).await;
    for bad in ["551", "552"] {
        harness.network.act(bad, (0..99).map(|_| answer(SendOutcome::NotSent)));
        harness.accept(bad).await;
    }
    held_until(&harness, 2).await;
    let good = harness.accept("553").await;
    // The channel's first hold is over, and so is the first recipient's.
    harness.advance(1_250);
    harness.network.until_submitted(good).await;
    assert!(harness.sent().len() <= 4, "the first one is tried again at most: {}", harness.sent().len());
}

/// A recipient's wait ends before the channel sends again. The next send is another recipient's all the same.
#[tokio::test]
async fn an_unreachable_recipient_waits_longer_than_the_send_interval() {
    for (kind, act) in [("nothing sent", SendOutcome::NotSent), ("busy", SendOutcome::RecipientThrottled)] {
        let longest = Duration::from_secs(400);
        let (harness, rest) = (DispatcherHarness::new(Network::web().with_interval(longest)).await, millis(longest));
        harness.network.act("551", (0..99).map(|_| answer(act.clone())));
        let (bad, good) = (harness.accept("551").await, harness.accept("552").await);
        harness.store.until_waiting(NOW + rest).await;
        harness.advance(rest);
        harness.network.until_sent(2).await;
        assert_eq!(harness.sent(), [bad, good], "{kind}");
    }
}

/// A refusal from local knowledge does not prove that the network answers.
#[tokio::test]
async fn a_refusal_from_local_knowledge_is_no_answer_of_the_network() {
    let harness = DispatcherHarness::new(Network::web()).await;
    let refused = SendOutcome::PermanentFailure { code: "NUMBER_NOT_ON_WHATSAPP", message: "Nao esta.".to_owned() };
    harness.network.act("551", [answer(SendOutcome::NotSent)]);
    harness.network.act("552", [answer(refused)]);
    harness.network.act("553", [answer(SendOutcome::NotSent)]);
    for recipient in ["551", "552", "553", "554"] {
        harness.accept(recipient).await;
    }
    held_until(&harness, 3).await;
    assert_eq!((harness.sent().len(), harness.poll().await.messages), (3, vec![]), "the channel waits");
}

/// Both forms of a Brazilian number are one person, whose failure is not the channel's.
#[tokio::test]
async fn the_two_forms_of_a_number_are_one_failing_recipient() {
    let harness = DispatcherHarness::new(Network::web()).await;
    for form in ["5511988887777", "551188887777"] {
        harness.network.act(form, [answer(SendOutcome::NotSent)]);
        harness.accept(form).await;
    }
    let other = harness.accept("552").await;
    harness.network.until_submitted(other).await;
}
