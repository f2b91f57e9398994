//! Troubles of a recipient, of a channel, and of answers, where several messages are on their way.

use recado_domain::channel::ChannelState;
use recado_domain::party::Party;

use super::*;

fn answer(outcome: SendOutcome) -> Act {
    Act::Answer(outcome)
}

#[tokio::test]
async fn a_busy_recipient_slows_nobody_else() {
    let stand = Stand::new(Network::side_by_side(2)).await;
    stand.network.act("551", [answer(SendOutcome::RecipientThrottled)]);
    let busy = [stand.accept("551").await, stand.accept("551").await];
    for n in 0..50 {
        stand.accept(&format!("56{n}")).await;
    }
    stand.store.until_settled(51).await;
    assert_eq!(stand.sent().len(), 51, "all but one, and that one waits");
    stand.store.until_waiting(NOW + 4_000).await;
    stand.pass(4_000);
    stand.store.until_settled(53).await;
    assert_eq!(stand.sent()[51..], busy, "in their order");
    assert_eq!(stand.network.sent()[51].failures, 0);
}

#[tokio::test]
async fn a_busy_recipient_is_let_be_longer_each_time() {
    let stand = Stand::new(Network::side_by_side(2)).await;
    // Other troubles before it do not count.
    let trouble = || answer(SendOutcome::ChannelUnavailable { wait: Duration::from_millis(1) });
    stand.network.act("551", (0..3).map(|_| trouble()));
    stand.network.act("551", (0..3).map(|_| answer(SendOutcome::RecipientThrottled)));
    stand.accept("551").await;
    for attempt in 1..=3 {
        stand.store.until_waiting(NOW + attempt).await;
        stand.pass(1);
    }
    let mut at = NOW + 3;
    for wait in [4_000, 16_000, 64_000] {
        at += wait;
        stand.store.until_waiting(at).await;
        stand.pass(wait);
    }
    stand.store.until_settled(7).await;
}

/// When the last hold of the channel ends.
async fn held_until(stand: &Stand, settled: usize) -> Millis {
    stand.store.until_settled(settled).await;
    stand.look().await.next_at.expect("it waits")
}

#[tokio::test]
async fn a_busy_channel_backs_off_until_something_is_taken() {
    let stand = Stand::new(Network::side_by_side(3)).await;
    for recipient in ["551", "552", "553"] {
        stand.network.act(recipient, (0..2).map(|_| answer(SendOutcome::ChannelThrottled)));
    }
    stand.network.answer(false);
    for recipient in ["551", "552", "553"] {
        stand.accept(recipient).await;
    }
    stand.network.until_sent(3).await;
    stand.network.answer(true);
    let first = held_until(&stand, 3).await;
    assert!((NOW + 1_000..=NOW + 1_250).contains(&first), "three that were on their way met one trouble: {first}");
    stand.pass(first - NOW);
    let second = held_until(&stand, 6).await;
    assert!((first + 2_000..=first + 2_500).contains(&second), "twice as long: {}", second - first);
    // Behind those that are taken then, so that the channel's task lives on.
    stand.network.act("554", [answer(SendOutcome::ChannelThrottled)]);
    stand.accept("554").await;
    stand.pass(second - first);
    let third = held_until(&stand, 10).await;
    assert!((second + 1_000..=second + 1_250).contains(&third), "from the start again: {}", third - second);
}

#[tokio::test]
async fn a_refused_channel_is_paused_and_loses_nothing() {
    let stand = Stand::new(Network::side_by_side(2)).await;
    let reason = "Conecte de novo com um accessToken valido.".to_owned();
    stand.network.act("551", [answer(SendOutcome::ChannelDisabled { reason: reason.clone() })]);
    let refused = stand.accept("551").await;
    stand.store.until_settled(1).await;
    let waiting = stand.accept("552").await;
    assert_eq!(stand.look().await.messages, []);
    let channel = stand.ground.store.channel(stand.channel).await.expect("read").expect("there");
    assert_eq!((channel.state, channel.state_reason), (ChannelState::Paused, Some(reason)));
    stand.ground.move_channel(stand.channel, ChannelState::Paused, ChannelState::Connected).await;
    stand.dispatcher.wake(stand.channel);
    stand.store.until_settled(3).await;
    assert_eq!(stand.status(refused).await, MessageStatus::Sent);
    assert_eq!(stand.status(waiting).await, MessageStatus::Sent);
}

#[tokio::test]
async fn a_lost_answer_is_sent_again_only_by_policy() {
    let hour = Duration::from_hours(1);
    for (network, sends) in [(Network::side_by_side(1), 1), (Network::side_by_side(1).sending_again_after(hour), 2)] {
        let stand = Stand::new(network).await;
        stand.network.act("551", [no_answer()]);
        let id = stand.accept("551").await;
        stand.store.until_settled(1).await;
        assert_eq!(stand.status(id).await, MessageStatus::Unknown);
        stand.pass(millis(hour));
        if sends == 2 {
            stand.store.until_settled(2).await;
            assert_eq!(stand.status(id).await, MessageStatus::Sent);
        } else {
            stand.look().await;
        }
        assert_eq!(stand.sent().len(), sends);
    }
}

/// What the first claim took and nobody was told of was never sent: it is not unknown.
#[tokio::test]
async fn the_first_claims_lost_answer_makes_nothing_unknown() {
    let stand = Stand::new(Network::side_by_side(2)).await;
    stand.store.trouble([Trouble::ClaimUntold]);
    let ids = [stand.accept("551").await, stand.accept("552").await];
    stand.store.until_settled(2).await;
    assert_eq!(stand.store.troubles_left(), 0);
    for id in ids {
        assert_eq!(stand.status(id).await, MessageStatus::Sent);
    }
}

/// Else an hour's outage would make the whole backlog unknown, and none of it would be sent again.
#[tokio::test]
async fn a_network_that_answers_nothing_is_asked_by_one_message_at_a_time() {
    let stand = Stand::new(Network::side_by_side(4)).await;
    let recipients: Vec<_> = (0..30).map(|n| format!("55{n}")).collect();
    for recipient in &recipients[..6] {
        stand.network.act(recipient, [no_answer()]);
    }
    stand.network.answer(false);
    let mut accepted = Vec::new();
    for recipient in &recipients {
        accepted.push(stand.accept(recipient).await);
    }
    stand.network.until_sent(4).await;
    stand.network.answer(true);
    let mut at = NOW;
    for settled in [4, 5, 6] {
        let next = held_until(&stand, settled).await;
        assert_eq!(stand.sent().len(), settled, "one more, to find out");
        stand.pass(next - at);
        at = next;
    }
    stand.store.until_settled(30).await;
    for (n, id) in accepted.into_iter().enumerate() {
        let expected = if n < 6 { MessageStatus::Unknown } else { MessageStatus::Sent };
        assert_eq!(stand.status(id).await, expected, "{n}");
    }
    assert_eq!(stand.network.most_in_flight(), 4);
}

#[tokio::test]
async fn a_second_sending_that_is_refused_leaves_the_first_unknown() {
    let wait = Duration::from_mins(1);
    let stand = Stand::new(Network::side_by_side(1).sending_again_after(wait)).await;
    let refused = SendOutcome::PermanentFailure { code: "UNDELIVERABLE", message: "Nao.".to_owned() };
    stand.network.act("551", [no_answer(), answer(refused)]);
    let id = stand.accept("551").await;
    stand.store.until_settled(1).await;
    stand.pass(millis(wait));
    stand.store.until_settled(2).await;
    assert_eq!(stand.status(id).await, MessageStatus::Unknown);
}

#[tokio::test]
async fn a_broken_line_sends_again_and_counts_only_where_one_message_breaks_it() {
    let stand = Stand::new(Network::web()).await;
    stand.network.act("551", (0..4).map(|_| answer(SendOutcome::ConnectionLost)));
    let (first, second) = (stand.accept("551").await, stand.accept("552").await);
    for second in 1..=4 {
        stand.store.until_waiting(NOW + second * 1_000).await;
        stand.pass(1_000);
    }
    stand.store.until_settled(6).await;
    let sent = stand.network.sent();
    assert_eq!(ids(&sent), [[first; 5].as_slice(), &[second]].concat());
    let failures: Vec<_> = sent[..5].iter().map(|message| (message.failures, message.unanswered)).collect();
    assert_eq!(failures, [(0, false), (0, true), (0, true), (0, true), (1, true)], "the fourth in a row counts");
    assert!(sent[..5].iter().all(|message| message.network_id == sent[0].network_id));
}

/// The first attempt may have arrived: that a later one is refused says nothing of it.
#[tokio::test]
async fn what_is_refused_after_a_lost_answer_is_unknown() {
    let stand = Stand::new(Network::web()).await;
    let refused = answer(SendOutcome::PermanentFailure { code: "WHATSAPP_REFUSED", message: String::new() });
    stand.network.act("551", [no_answer(), refused]);
    let first = stand.accept("551").await;
    stand.store.until_waiting(NOW + 1_000).await;
    stand.pass(1_000);
    stand.store.until_settled(2).await;
    assert_eq!(stand.status(first).await, MessageStatus::Unknown);
}

#[tokio::test]
async fn without_any_answer_a_real_network_leaves_it_unknown() {
    let stand = Stand::new(Network::web()).await;
    stand.network.act("551", (0..4).map(|_| no_answer()));
    let first = stand.accept("551").await;
    for (wait, at) in [(1_000, 1_000), (5_000, 6_000), (15_000, 21_000)] {
        stand.store.until_waiting(NOW + at).await;
        stand.pass(wait);
    }
    stand.store.until_settled(4).await;
    assert_eq!(stand.status(first).await, MessageStatus::Unknown);
}

#[tokio::test]
async fn a_refused_chat_restricts_the_channel_and_holds_only_new_recipients() {
    let stand = Stand::new(Network::web()).await;
    stand.ground.store.note_chat(stand.channel, Party::of_number("552")).await.expect("stored");
    let until = NOW + 60_000;
    stand.network.act("551", [answer(SendOutcome::NewChatBlocked { until, reason: "Espere.".to_owned() })]);
    let (new, known) = (stand.accept("551").await, stand.accept("552").await);
    stand.store.until_waiting(until).await;
    assert_eq!(stand.sent(), [new, known]);
    let row = stand.ground.store.channel(stand.channel).await.expect("read").expect("there");
    assert_eq!((row.state, row.restricted_until), (ChannelState::Restricted, Some(until)));
    stand.pass(60_000);
    stand.store.until_settled(3).await;
    assert_eq!(stand.sent(), [new, known, new]);
    assert_eq!(stand.network.sent()[2].failures, 0);
}

/// One recipient to whom nothing can be sent holds nobody else, and is tried later and later.
#[tokio::test]
async fn a_recipient_to_whom_nothing_can_be_sent_holds_nobody_else() {
    let stand = Stand::new(Network::web()).await;
    stand.network.act("551", (0..3).map(|_| answer(SendOutcome::NotSent)));
    let held = [stand.accept("551").await, stand.accept("551").await];
    let mut others = vec![stand.accept("552").await];
    stand.store.until_settled(2).await;
    assert_eq!(ids(&stand.network.sent()), [held[0], others[0]], "no hold of the channel");
    let mut settled = 2;
    for longest in [1_250, 2_500, 5_000] {
        stand.pass(longest);
        settled += 1;
        stand.store.until_settled(settled).await;
        others.push(stand.accept("552").await);
        settled += 1;
        stand.store.until_settled(settled).await;
    }
    stand.store.until_settled(settled + 1).await;
    let sent = stand.network.sent();
    let to = |recipient: &str| -> Vec<_> { sent.iter().filter(|message| message.recipient == recipient).collect() };
    assert_eq!(ids(&to("552").into_iter().cloned().collect::<Vec<_>>()), others);
    let tries: Vec<_> = to("551").iter().map(|message| (message.id, message.failures, message.unanswered)).collect();
    assert_eq!(tries[..4], [(held[0], 0, false); 4], "no failure of the message's own, and in their order");
    assert_eq!(tries[4].0, held[1]);
    assert_eq!(stand.status(held[0]).await, MessageStatus::Sent);
}

/// Else each message that waits would be tried at once while the network tells nothing.
#[tokio::test]
async fn where_nothing_can_be_sent_to_anybody_the_channel_backs_off() {
    let stand = Stand::new(Network::web()).await;
    let recipients: Vec<_> = (0..6).map(|n| format!("55{n}")).collect();
    for recipient in &recipients {
        stand.network.act(recipient, (0..9).map(|_| answer(SendOutcome::NotSent)));
        stand.accept(recipient).await;
    }
    // The second one shows that it is not the first one's own trouble.
    let first = held_until(&stand, 2).await;
    assert!((NOW + 1_000..=NOW + 1_250).contains(&first), "{}", first - NOW);
    assert_eq!(stand.sent().len(), 2);
    assert_eq!(stand.look().await.messages, []);
}

/// Who cannot be sent to leaves the next turn to those who were not tried yet.
#[tokio::test]
async fn those_to_whom_nothing_can_be_sent_leave_turns_to_others() {
    let stand = Stand::new(Network::web()).await;
    for bad in ["551", "552"] {
        stand.network.act(bad, (0..99).map(|_| answer(SendOutcome::NotSent)));
        stand.accept(bad).await;
    }
    held_until(&stand, 2).await;
    let good = stand.accept("553").await;
    // The channel's first hold is over, and the first one's.
    stand.pass(1_250);
    stand.network.until_handed(good).await;
    assert!(stand.sent().len() <= 4, "the first one is tried again at most: {}", stand.sent().len());
}

/// The wait of a recipient is over before the channel sends again: that next turn is another's all the same.
#[tokio::test]
async fn who_cannot_be_sent_to_waits_longer_than_the_channel_rests() {
    for (kind, act) in [("nothing sent", SendOutcome::NotSent), ("busy", SendOutcome::RecipientThrottled)] {
        let longest = Duration::from_secs(400);
        let (stand, rest) = (Stand::new(Network::web().resting(longest)).await, millis(longest));
        stand.network.act("551", (0..99).map(|_| answer(act.clone())));
        let (bad, good) = (stand.accept("551").await, stand.accept("552").await);
        stand.store.until_waiting(NOW + rest).await;
        stand.pass(rest);
        stand.network.until_sent(2).await;
        assert_eq!(stand.sent(), [bad, good], "{kind}");
    }
}

/// What is refused without a question to the network does not show that the network answers.
#[tokio::test]
async fn a_refusal_by_what_is_known_here_is_no_answer() {
    let stand = Stand::new(Network::web()).await;
    let refused = SendOutcome::PermanentFailure { code: "NUMBER_NOT_ON_WHATSAPP", message: "Nao esta.".to_owned() };
    stand.network.act("551", [answer(SendOutcome::NotSent)]);
    stand.network.act("552", [answer(refused)]);
    stand.network.act("553", [answer(SendOutcome::NotSent)]);
    for recipient in ["551", "552", "553", "554"] {
        stand.accept(recipient).await;
    }
    held_until(&stand, 3).await;
    assert_eq!((stand.sent().len(), stand.look().await.messages), (3, vec![]), "the channel waits");
}

/// Both forms of a Brazilian number are one person, whose trouble is not the channel's.
#[tokio::test]
async fn the_two_forms_of_a_number_are_one_recipient_in_trouble() {
    let stand = Stand::new(Network::web()).await;
    for form in ["5511988887777", "551188887777"] {
        stand.network.act(form, [answer(SendOutcome::NotSent)]);
        stand.accept(form).await;
    }
    let other = stand.accept("552").await;
    stand.network.until_handed(other).await;
}
