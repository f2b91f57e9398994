//! Accepting messages.

use futures_util::future::join_all;
use recado_domain::api_key::Environment;
use recado_domain::channel::ChannelState;
use recado_domain::ids::InstitutionId;
use recado_domain::message::{CardAccount, ContactRendition, Enqueued, Idempotency, Message, NewMessage};
use recado_domain::queue::Settlement;
use recado_domain::status::MessageStatus;

use crate::StoreError;
use crate::fixtures::{DAY, Ground, NOW};

/// The same call again: a new id, the same key.
fn repeated(ground: &Ground, first: &NewMessage) -> NewMessage {
    NewMessage { idempotency: first.idempotency.clone(), ..ground.new_message(first.channel, &first.recipient) }
}

fn with_key(ground: &Ground, message: NewMessage, key: &str, content: u8) -> NewMessage {
    NewMessage { idempotency: Some(ground.idempotency(key, content)), ..message }
}

pub(super) async fn an_accepted_message_is_stored_as_given(ground: Ground) {
    let channel = ground.channel("loja").await;
    let new = NewMessage {
        kind: "text",
        rendition: None,
        reference: Some("pedido-1".to_owned()),
        payload: r#"{"to":"+55 11","name":"Zé 🎉"}"#.to_owned(),
        scenario: Some("timeout".to_owned()),
        ..ground.new_message(channel, "5511999990000")
    };
    assert_eq!(ground.enqueue(new.clone()).await, Enqueued::Accepted);
    let stored = ground.message(channel, new.id).await;
    let mut reached = [None; MessageStatus::ALL.len()];
    reached[0] = Some(NOW);
    let expected = Message {
        remote_id: None,
        seq: stored.seq,
        id: new.id,
        channel,
        network_id: new.network_id,
        status: MessageStatus::Queued,
        recipient: new.recipient,
        account: None,
        kind: "text".to_owned(),
        payload: new.payload,
        rendition: None,
        reference: new.reference,
        send_at: None,
        attempts: 0,
        error: None,
        expires_at: NOW + DAY,
        conversation: None,
        reached,
    };
    assert_eq!(stored, expected);
    let claimed = ground.claim_one(channel).await;
    assert_eq!((claimed.kind, claimed.rendition, claimed.payload), (stored.kind, None, stored.payload));
    assert_eq!(claimed.scenario.as_deref(), Some("timeout"));
}

/// The columns with the vCard in a row of the versions before kinds. Whether the network named the account follows.
pub(crate) const MAKE_OLD: &str = "UPDATE messages SET kind = NULL, rendition = NULL, card = 'BEGIN:VCARD old',
                                                       card_account = '5511', card_account_known = ";

/// Needs direct access to the rows: `make_old` turns all messages into rows of the versions before kinds.
pub(crate) async fn a_card_of_the_versions_before_is_a_contact(ground: Ground, make_old: impl Fn()) {
    let channel = ground.channel("loja").await;
    let id = ground.accept(channel, "551").await;
    make_old();
    let account = CardAccount { digits: "5511".to_owned(), known: true };
    let old = Some(ContactRendition::of_one("BEGIN:VCARD old".to_owned(), account).to_json());
    let stored = ground.message(channel, id).await;
    assert_eq!((stored.kind.as_str(), &stored.rendition), ("contact", &old));
    let claimed = ground.claim_one(channel).await;
    assert_eq!((claimed.kind.as_str(), &claimed.rendition), ("contact", &old));
    let rendition = Some("as sent".to_owned());
    let sent = Settlement::Sent { account: None, remote_id: None, rendition: rendition.clone() };
    ground.settle(channel, claimed.seq, sent).await;
    let stored = ground.message(channel, id).await;
    assert_eq!((stored.kind.as_str(), stored.rendition), ("contact", rendition));
}

pub(super) async fn a_repeated_call_is_replayed(ground: Ground) {
    let channel = ground.channel("loja").await;
    let first = with_key(&ground, ground.new_message(channel, "551"), "chave", 1);
    assert_eq!(ground.enqueue(first.clone()).await, Enqueued::Accepted);
    for _ in 0..2 {
        assert_eq!(ground.enqueue(repeated(&ground, &first)).await, Enqueued::Replayed(first.id));
    }
    assert_eq!(ground.all(channel).await.len(), 1);
}

pub(super) async fn an_earlier_use_of_a_key_is_found(ground: Ground) {
    let channel = ground.channel("loja").await;
    let first = with_key(&ground, ground.new_message(channel, "551"), "chave", 1);
    let key = first.idempotency.clone().expect("just set");
    let found = async |key: Idempotency| ground.store.earlier_use(key).await.expect("read");
    assert_eq!(found(key.clone()).await, None);
    ground.enqueue(first.clone()).await;
    assert_eq!(found(key.clone()).await, Some(Enqueued::Replayed(first.id)));
    assert_eq!(found(ground.idempotency("chave", 2)).await, Some(Enqueued::KeyReused));
    assert_eq!(found(ground.idempotency("outra", 1)).await, None);
    assert_eq!(found(Idempotency { route: "text", ..key.clone() }).await, None);
    assert_eq!(found(Idempotency { forget_before: NOW + 1, ..key }).await, None, "forgotten");
}

pub(super) async fn a_key_used_with_other_content_is_refused(ground: Ground) {
    let channel = ground.channel("loja").await;
    let first = with_key(&ground, ground.new_message(channel, "551"), "chave", 1);
    ground.enqueue(first.clone()).await;
    let other = with_key(&ground, ground.new_message(channel, "551"), "chave", 2);
    assert_eq!(ground.enqueue(other).await, Enqueued::KeyReused);
    assert_eq!(ground.enqueue(repeated(&ground, &first)).await, Enqueued::Replayed(first.id), "the first use stays");
    assert_eq!(ground.all(channel).await.len(), 1);
}

pub(super) async fn keys_differ_by_institution_environment_and_route(ground: Ground) {
    let channel = ground.channel("loja").await;
    let key = ground.idempotency("chave", 1);
    let apart = [
        key.clone(),
        Idempotency { environment: Environment::Test, ..key.clone() },
        Idempotency { institution: InstitutionId::new(NOW, [8; 10]), ..key.clone() },
        Idempotency { route: "text", ..key.clone() },
        Idempotency { key: "Chave".to_owned(), ..key },
    ];
    for idempotency in apart {
        let message = NewMessage { idempotency: Some(idempotency), ..ground.new_message(channel, "551") };
        assert_eq!(ground.enqueue(message).await, Enqueued::Accepted);
    }
}

pub(super) async fn a_forgotten_key_counts_as_new(ground: Ground) {
    let channel = ground.channel("loja").await;
    let first = with_key(&ground, ground.new_message(channel, "551"), "chave", 1);
    ground.enqueue(first.clone()).await;
    let later = |forget_before| {
        let mut message = with_key(&ground, ground.new_message(channel, "551"), "chave", 2);
        message.accepted_at = NOW + DAY;
        message.idempotency.as_mut().expect("just set").forget_before = forget_before;
        message
    };
    assert_eq!(ground.enqueue(later(NOW)).await, Enqueued::KeyReused, "to the last millisecond");
    let second = later(NOW + 1);
    assert_eq!(ground.enqueue(second.clone()).await, Enqueued::Accepted);
    assert_eq!(ground.enqueue(repeated(&ground, &second)).await, Enqueued::Replayed(second.id), "the new use counts");
}

pub(super) async fn two_calls_with_one_key_make_one_message(ground: Ground) {
    let channel = ground.channel("loja").await;
    let calls: Vec<_> = (0..50).map(|_| with_key(&ground, ground.new_message(channel, "551"), "chave", 1)).collect();
    let ids: Vec<_> = calls.iter().map(|call| call.id).collect();
    let answers = join_all(calls.into_iter().map(|call| ground.enqueue(call))).await;
    let stored = ground.all(channel).await;
    assert_eq!(stored.len(), 1);
    for (answer, id) in answers.into_iter().zip(ids) {
        let expected = if id == stored[0].id { Enqueued::Accepted } else { Enqueued::Replayed(stored[0].id) };
        assert_eq!(answer, expected);
    }
}

pub(super) async fn the_state_table_decides_which_messages_are_claimed(ground: Ground) {
    use ChannelState::{Banned, Connected, Connecting, Created, Disconnected, LoggedOut, Paused, Restricted};
    let table = [
        (Created, false),
        (Connecting, false),
        (Connected, true),
        (Disconnected, true),
        (Connecting, true),
        (Restricted, true),
        (Paused, true),
        (LoggedOut, false),
        (Banned, false),
        (Connecting, true),
    ];
    let channel = ground.channel_in("loja", Created).await;
    let mut state = Created;
    for (next, accepts) in table {
        if next != state {
            ground.move_channel(channel, state, next).await;
            state = next;
        }
        let expected = if accepts { Enqueued::Accepted } else { Enqueued::NotConnected };
        assert_eq!(ground.enqueue(ground.new_message(channel, "551")).await, expected, "{state:?}");
    }
    assert_eq!(ground.all(channel).await.len(), 6);
}

pub(super) async fn a_replay_asks_neither_state_nor_backlog(ground: Ground) {
    let channel = ground.channel("loja").await;
    let first = with_key(&ground, ground.new_message(channel, "551"), "chave", 1);
    ground.enqueue(first.clone()).await;
    let again = NewMessage { backlog_cap: 1, ..repeated(&ground, &first) };
    assert_eq!(ground.enqueue(again).await, Enqueued::Replayed(first.id), "the backlog is full");
    ground.move_channel(channel, ChannelState::Connected, ChannelState::LoggedOut).await;
    assert_eq!(ground.enqueue(repeated(&ground, &first)).await, Enqueued::Replayed(first.id), "not connected");
    let other = with_key(&ground, ground.new_message(channel, "551"), "chave", 2);
    assert_eq!(ground.enqueue(other).await, Enqueued::KeyReused, "before the state");
}

pub(super) async fn the_backlog_has_a_cap(ground: Ground) {
    let (channel, neighbour) = (ground.channel("loja").await, ground.channel("outra").await);
    let capped = || NewMessage { backlog_cap: 3, ..ground.new_message(channel, "551") };
    for _ in 0..3 {
        assert_eq!(ground.enqueue(capped()).await, Enqueued::Accepted);
    }
    assert_eq!(ground.enqueue(capped()).await, Enqueued::QueueFull);
    ground.accept(neighbour, "551").await;
    let claimed = ground.claim_one(channel).await;
    assert_eq!(ground.enqueue(capped()).await, Enqueued::QueueFull, "what is being sent still counts");
    ground
        .settle(channel, claimed.seq, recado_domain::queue::Settlement::Unknown { resend_at: None, hold: None })
        .await;
    assert_eq!(ground.enqueue(capped()).await, Enqueued::Accepted, "a place came free");
    assert_eq!(ground.enqueue(capped()).await, Enqueued::QueueFull);
    let id = ground.all(channel).await[1].id;
    ground.store.cancel(channel, id, NOW).await.expect("stored");
    assert_eq!(ground.enqueue(capped()).await, Enqueued::Accepted, "a cancelled one gives its place up");
}

pub(super) async fn a_deleted_or_unknown_channel_accepts_nothing(ground: Ground) {
    let channel = ground.channel("loja").await;
    ground.delete_channel(channel, NOW).await;
    for channel in [channel, channel + 1] {
        assert_eq!(ground.enqueue(ground.new_message(channel, "551")).await, Enqueued::NoChannel);
    }
    assert_eq!(ground.all(channel).await, []);
}

pub(super) async fn a_refused_call_does_not_use_the_key_up(ground: Ground) {
    let channel = ground.channel_in("loja", ChannelState::Created).await;
    let call = |cap| {
        let message = NewMessage { backlog_cap: cap, ..ground.new_message(channel, "551") };
        with_key(&ground, message, "chave", 1)
    };
    assert_eq!(ground.enqueue(call(1)).await, Enqueued::NotConnected);
    ground.move_channel(channel, ChannelState::Created, ChannelState::Connected).await;
    assert_eq!(ground.enqueue(call(0)).await, Enqueued::QueueFull);
    let refused = {
        let accepted = ground.accept(channel, "551").await;
        ground.store.enqueue(NewMessage { id: accepted, ..call(9) }).await
    };
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    assert_eq!(ground.enqueue(call(9)).await, Enqueued::Accepted);
}

pub(super) async fn a_refused_message_fails_alone(ground: Ground) {
    let channel = ground.channel("loja").await;
    let accepted = ground.accept(channel, "551").await;
    let calls = (0..30).map(|n| {
        let message = NewMessage { backlog_cap: 30, ..ground.new_message(channel, "551") };
        let message = with_key(&ground, message, &format!("chave {n}"), 1);
        if n % 10 == 4 { NewMessage { id: accepted, ..message } } else { message }
    });
    let answers = join_all(calls.map(|call| ground.store.enqueue(call))).await;
    for (n, answer) in answers.iter().enumerate() {
        if n % 10 == 4 {
            assert!(matches!(answer, Err(StoreError::Refused(_))), "{answer:?}");
        } else {
            assert_eq!(*answer.as_ref().expect("a neighbour of a bad row"), Enqueued::Accepted);
        }
    }
    assert_eq!(ground.all(channel).await.len(), 28);
    assert_eq!(ground.open(channel).await, 28, "bad rows fill no backlog");
}
