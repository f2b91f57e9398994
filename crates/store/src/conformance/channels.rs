//! Channels.

use std::time::Duration;

use recado_domain::account::KnownAccount;
use recado_domain::api_key::Environment;
use recado_domain::channel::{Channel, ChannelChange, ChannelState, ChannelType, Held, NewChannel};
use recado_domain::field_errors::FieldErrors;
use recado_domain::ids::InstitutionId;
use recado_domain::institution::Institution;
use recado_domain::message::{Enqueued, NewMessage};
use recado_domain::pacing::RecipientPacing;
use recado_domain::party::Party;
use recado_domain::phone::DefaultCountry;
use recado_domain::queue::{ClaimRequest, MessageRef, PurgeRequest, Receipt, Settlement, UnknownOutcomePolicy};
use recado_domain::status::MessageStatus;
use serde_json::{Value, json};

use crate::fixtures::{DAY, Ground, NOW, ids, request, sent};

pub(super) async fn a_channel_comes_back_as_it_was_made(ground: Ground) {
    let new = ground.new_channel("loja", ChannelState::Created);
    let made = ground.store.create_channel(new.clone()).await.expect("stored").expect("a free id");
    let expected = Channel {
        settings: new.kind.default_settings(),
        link: None,
        key: made.key,
        institution: new.institution,
        environment: new.environment,
        id: new.id,
        name: new.name,
        kind: new.kind,
        state: ChannelState::Created,
        state_reason: None,
        connected_at: None,
        created_at: NOW,
        deleted_at: None,
        restricted_until: None,
        next_send_at: 0,
        session: 0,
    };
    assert_eq!(made, expected);
    assert_eq!(ground.store.channel(made.key).await.expect("read"), Some(expected.clone()));
    assert_eq!(ground.store.channels().await.expect("read"), [expected]);
    assert_eq!(ground.store.channel(made.key + 1).await.expect("read"), None);
}

pub(super) async fn an_id_is_unique_per_institution_and_environment(ground: Ground) {
    let new = ground.new_channel("loja", ChannelState::Created);
    let first = ground.store.create_channel(new.clone()).await.expect("stored").expect("a free id");
    let renamed = NewChannel { name: "Outro".to_owned(), ..new.clone() };
    assert_eq!(ground.store.create_channel(renamed).await.expect("answered"), None);
    assert_eq!(ground.store.channel(first.key).await.expect("read"), Some(first), "untouched");

    let test = NewChannel { environment: Environment::Test, ..new.clone() };
    assert!(ground.store.create_channel(test).await.expect("stored").is_some(), "another environment");
    let neighbour = InstitutionId::new(NOW, [8; 10]);
    let row = Institution {
        id: neighbour,
        name: "Vizinha".to_owned(),
        default_country: DefaultCountry::Server,
        created_at: NOW,
    };
    ground.store.create_institution(row).await.expect("stored");
    let theirs = NewChannel { institution: neighbour, ..new };
    assert!(ground.store.create_channel(theirs).await.expect("stored").is_some(), "another institution");
}

pub(super) async fn a_deleted_channel_is_restored_with_its_history(ground: Ground) {
    let key = ground.channel("loja").await;
    let (sent, waiting) = (ground.accept(key, "551").await, ground.accept(key, "551").await);
    let claimed = ground.claim_one(key).await;
    ground.settle(key, claimed.seq, Settlement::HoldChannel { until: NOW + 5 }).await;
    ground.move_channel(key, ChannelState::Connected, ChannelState::Paused).await;
    ground.delete_channel(key, NOW).await;
    assert_eq!(ground.store.cancel_former(key, 10, NOW).await.expect("stored"), 2);

    let again =
        NewChannel { name: "Nova".to_owned(), now: NOW + 9, ..ground.new_channel("loja", ChannelState::Created) };
    let made = ground.store.create_channel(again).await.expect("stored").expect("its place is free again");
    assert_eq!(made.key, key, "the history is its own");
    assert_eq!((made.name.as_str(), made.state, made.deleted_at), ("Nova", ChannelState::Created, None));
    assert_eq!((made.state_reason, made.connected_at, made.created_at), (None, None, NOW + 9));
    for id in [sent, waiting] {
        assert_eq!(ground.status(key, id).await, MessageStatus::Cancelled);
    }

    ground.move_channel(key, ChannelState::Created, ChannelState::Connected).await;
    let id = ground.accept(key, "551").await;
    assert_eq!(ground.claim_one(key).await.id, id, "neither the pause nor the hold of its former life is left");
}

pub(super) async fn a_new_channel_has_the_settings_of_its_call(ground: Ground) {
    let Value::Object(settings) = json!({"closeAfterHours": 48, "keepText": false}) else { panic!("an object") };
    let (change, mut errors) = (ChannelChange { name: None, settings }, FieldErrors::default());
    let settings = ChannelType::Sandbox.default_settings().changed(&change, &mut errors);
    assert!(errors.is_empty(), "{errors:?}");
    let new = NewChannel { settings: Some(settings.clone()), ..ground.new_channel("loja", ChannelState::Created) };
    let made = ground.store.create_channel(new).await.expect("stored").expect("a free id");
    assert_eq!(made.settings, settings);
    assert_eq!(ground.store.channel(made.key).await.expect("read"), Some(made.clone()));
    // A channel that is created again has no settings of its former life.
    ground.delete_channel(made.key, NOW).await;
    let again = ground.new_channel("loja", ChannelState::Created);
    let again = ground.store.create_channel(again).await.expect("stored").expect("a free id");
    assert_eq!(again.settings, ChannelType::Sandbox.default_settings());
}

/// In any order of events, messages that were queued before are cancelled, and do not count in the new channel.
pub(super) async fn a_channel_created_again_starts_empty(mut ground: Ground) {
    for kind in [ChannelType::Sandbox, ChannelType::CloudApi, ChannelType::WhatsAppWeb] {
        for reopens in [false, true] {
            let id = format!("{}-{reopens}", kind.name());
            let key = ground.channel_of(kind, &id).await;
            let former =
                [ground.accept(key, "551").await, ground.accept(key, "551").await, ground.accept(key, "552").await];
            ground.delete_channel(key, NOW).await;
            if reopens {
                ground.reopen().await;
            }
            assert_eq!(ground.channel_of(kind, &id).await, key);
            if reopens {
                ground.reopen().await;
            }
            let room = |ground: &Ground| NewMessage { backlog_cap: 1, ..ground.new_message(key, "551") };
            let new = room(&ground);
            assert_eq!(ground.enqueue(new.clone()).await, Enqueued::Accepted, "{kind:?}: the backlog is empty");
            assert_eq!(ground.enqueue(room(&ground)).await, Enqueued::QueueFull);
            assert!(ground.store.open_channels().await.expect("read").contains(&key), "they have to be cancelled");
            let claim = ground.claim(ClaimRequest { limit: 9, ..request(key) }).await;
            assert_eq!(ids(&claim), [new.id], "{kind:?}");
            for id in former {
                assert_eq!(ground.status(key, id).await, MessageStatus::Cancelled, "{kind:?}");
            }
            ground.settle(key, claim.messages[0].seq, sent()).await;
            assert_eq!(ground.enqueue(room(&ground)).await, Enqueued::Accepted, "as many as it has itself");
        }
    }
}

pub(super) async fn a_message_in_flight_at_a_deletion_settles_and_is_not_sent_again(mut ground: Ground) {
    let outcomes = [
        (sent(), MessageStatus::Sent),
        (Settlement::Retry { run_at: NOW }, MessageStatus::Cancelled),
        (Settlement::HoldRecipient { until: NOW, hold: None }, MessageStatus::Cancelled),
        (Settlement::HoldChannel { until: NOW + 9 }, MessageStatus::Cancelled),
        (Settlement::PauseChannel { reason: "Autorize.".to_owned() }, MessageStatus::Cancelled),
        (Settlement::NewChatBlocked { until: NOW + 9, reason: "Restrito.".to_owned() }, MessageStatus::Cancelled),
        (Settlement::RetryUnanswered { run_at: NOW }, MessageStatus::Unknown),
        (Settlement::Unknown { resend_at: Some(NOW), hold: Some(NOW + 9) }, MessageStatus::Unknown),
    ];
    for kind in [ChannelType::CloudApi, ChannelType::WhatsAppWeb] {
        for (n, (outcome, end)) in outcomes.iter().enumerate() {
            let id = format!("{}-{n}", kind.name());
            let key = ground.channel_of(kind, &id).await;
            let former = ground.accept(key, "551").await;
            let seq = ground.claim_one(key).await.seq;
            ground.delete_channel(key, NOW).await;
            ground.channel_of(kind, &id).await;
            let new = ground.accept(key, "551").await;
            ground.settle(key, seq, outcome.clone()).await;
            ground.reopen().await;
            let asked =
                ClaimRequest { limit: 9, unanswered: UnknownOutcomePolicy::MarkUnknown(Some(0)), ..request(key) };
            assert_eq!(ids(&ground.claim(asked).await), [new], "{kind:?} {outcome:?}");
            assert_eq!(ground.status(key, former).await, *end, "{kind:?} {outcome:?}");
            let channel = ground.store.channel(key).await.expect("read").expect("there");
            assert_eq!((channel.state, channel.restricted_until), (ChannelState::Connected, None), "{outcome:?}");
        }
    }
}

/// Rate limits of recipients, chats and receipts of the former channel do not apply to the new one.
pub(super) async fn a_channel_created_again_has_no_former_restrictions(ground: Ground) {
    let key = ground.channel_by_recipient("loja").await;
    let pacing = Some(RecipientPacing { burst: 1, every: Duration::from_secs(6) });
    let paced = || ClaimRequest { recipient_pacing: pacing, ..request(key) };
    ground.accept(key, "551").await;
    let seq = ground.claim(paced()).await.messages.remove(0).seq;
    let early = |status| Receipt {
        channel: key,
        of: MessageRef::RemoteId { remote_id: "wamid.1".parse().unwrap(), ours: None },
        status,
        at: NOW,
        from: None,
        account: None,
        error: None,
        pauses: None,
        pricing: None,
    };
    ground.apply(early(MessageStatus::Delivered)).await;
    ground.delete_channel(key, NOW).await;
    assert_eq!(ground.channel_by_recipient("loja").await, key);
    ground.settle(key, seq, sent()).await;
    let new = ground.accept(key, "551").await;
    let claim = ground.claim(paced()).await;
    assert_eq!(ids(&claim), [new], "the recipient is new");
    let named = Settlement::Sent { account: None, remote_id: Some("wamid.1".parse().unwrap()), rendition: None };
    ground.settle(key, claim.messages[0].seq, named).await;
    assert_eq!(ground.status(key, new).await, MessageStatus::Sent, "the receipt was the former one's");

    let key = ground.channel_of(ChannelType::WhatsAppWeb, "zap").await;
    let former = ground.accept(key, "551").await;
    let seq = ground.claim_one(key).await.seq;
    ground.delete_channel(key, NOW).await;
    ground.channel_of(ChannelType::WhatsAppWeb, "zap").await;
    ground.settle(key, seq, sent()).await;
    ground.receipt(key, &ground.message(key, former).await.network_id, MessageStatus::Read).await;
    assert_eq!(ground.status(key, former).await, MessageStatus::Read);
    assert!(ground.store.note_chat(key, Party::of_number("551")).await.expect("stored"), "no chat of the new one");
}

/// A new message must not get the number of a message that a deletion cancelled and that was purged since.
pub(super) async fn numbers_after_a_deletion_are_not_reused(mut ground: Ground) {
    let key = ground.channel("loja").await;
    for _ in 0..3 {
        ground.accept(key, "551").await;
    }
    ground.delete_channel(key, NOW).await;
    while ground.store.cancel_former(key, 9, NOW).await.expect("stored") > 0 {}
    let all = PurgeRequest { now: NOW + DAY, finished_before: NOW + DAY, used_before: NOW, events_before: 0, after: 0 };
    ground.store.purge(all).await.expect("stored");
    assert_eq!(ground.all(key).await, []);
    ground.reopen().await;
    ground.channel("loja").await;
    let id = ground.accept(key, "551").await;
    assert_eq!(ground.claim_one(key).await.id, id);
}

pub(super) async fn a_deleted_channel_of_another_type_keeps_its_id(ground: Ground) {
    let key = ground.channel("loja").await;
    ground.delete_channel(key, NOW).await;
    let other = NewChannel { kind: ChannelType::WhatsAppWeb, ..ground.new_channel("loja", ChannelState::Connected) };
    assert_eq!(ground.store.create_channel(other).await.expect("answered"), None);
    let kept = ground.store.channel(key).await.expect("read").expect("there");
    assert_eq!((kept.kind, kept.deleted_at), (ChannelType::Sandbox, Some(NOW)));
}

pub(super) async fn a_channel_moves_only_from_the_expected_state(ground: Ground) {
    let key = ground.channel_in("loja", ChannelState::Connected).await;
    let reason = Some("Pausado a pedido.".to_owned());
    let (connected, paused) = (ChannelState::Connected, ChannelState::Paused);
    assert!(ground.try_move(key, connected, paused, reason.clone(), NOW).await);
    let moved = ground.store.channel(key).await.expect("read").expect("there");
    assert_eq!((moved.state, moved.state_reason), (paused, reason));

    assert!(!ground.try_move(key, connected, ChannelState::Banned, None, NOW).await);
    assert_eq!(ground.store.channel(key).await.expect("read").expect("there").state, paused);

    assert!(ground.try_move(key, paused, connected, None, NOW).await);
    assert_eq!(ground.store.channel(key).await.expect("read").expect("there").state_reason, None);

    let held = |from, to| {
        ground.store.move_held_channel(
            Held { channel: key, epoch: 0, session: 0 },
            crate::fixtures::channel_move(from, to, NOW),
        )
    };
    assert!(!held(paused, connected).await.expect("answered"));
    assert!(held(connected, paused).await.expect("stored"));
    assert!(held(paused, connected).await.expect("stored"));

    ground.delete_channel(key, NOW).await;
    assert!(!ground.try_move(key, connected, paused, None, NOW).await, "deleted");
    assert!(!ground.try_move(key + 1, connected, paused, None, NOW).await, "unknown");
}

pub(super) async fn the_first_connection_is_remembered(ground: Ground) {
    let key = ground.channel_in("loja", ChannelState::Created).await;
    let steps = [
        (ChannelState::Created, ChannelState::Connecting, None),
        (ChannelState::Connecting, ChannelState::Connected, Some(NOW + 2)),
        (ChannelState::Connected, ChannelState::Disconnected, Some(NOW + 2)),
        (ChannelState::Disconnected, ChannelState::Connected, Some(NOW + 2)),
    ];
    for ((from, to, connected_at), now) in steps.into_iter().zip(NOW + 1..) {
        assert!(ground.try_move(key, from, to, None, now).await);
        assert_eq!(ground.store.channel(key).await.expect("read").expect("there").connected_at, connected_at);
    }
}

pub(super) async fn deleting_twice_keeps_the_first_time(ground: Ground) {
    let key = ground.channel("loja").await;
    let id = ground.accept(key, "551").await;
    for now in [NOW + 1, NOW + 2] {
        ground.delete_channel(key, now).await;
    }
    assert_eq!(ground.store.channel(key).await.expect("read").expect("there").deleted_at, Some(NOW + 1));
    assert_eq!(ground.claim(request(key)).await.messages, [], "a deleted channel sends nothing");
    assert_eq!(ground.message(key, id).await.id, id, "its history can be read");
}

pub(super) async fn pages_of_channels_hold_only_the_owners(ground: Ground) {
    let mut own = Vec::new();
    for id in ["a", "b", "c", "d"] {
        own.push(ground.channel(id).await);
        let test = NewChannel { environment: Environment::Test, ..ground.new_channel(id, ChannelState::Created) };
        ground.store.create_channel(test).await.expect("stored").expect("a free id");
    }
    ground.delete_channel(own[1], NOW).await;
    let owner = (ground.institution, Environment::Live);
    let page = async |after, limit| {
        let page = ground.store.channels_of(owner, after, limit).await.expect("read");
        page.iter().map(|channel| channel.key).collect::<Vec<_>>()
    };
    assert_eq!(page(0, 10).await, [own[0], own[2], own[3]], "no deleted one, none of the other environment");
    assert_eq!(page(0, 2).await, [own[0], own[2]]);
    assert_eq!(page(own[2], 2).await, [own[3]]);
    assert!(page(own[3], 2).await.is_empty());
    let stranger = (InstitutionId::new(NOW, [8; 10]), Environment::Live);
    assert_eq!(ground.store.channels_of(stranger, 0, 10).await.expect("read"), []);
}

pub(super) async fn a_restriction_outlasts_a_pause_and_a_lost_connection(ground: Ground) {
    use ChannelState::{Banned, Connected, Connecting, Created, Disconnected, LoggedOut, Paused, Restricted};
    let (until, reason) = (NOW + 9, "Restrito pelo WhatsApp.".to_owned());
    for (n, next) in ChannelState::ALL.into_iter().enumerate() {
        let key = ground.channel(&format!("canal-{n}")).await;
        assert!(ground.store.restrict_channel(key, until, reason.clone(), NOW).await.expect("stored"));
        ground.move_channel(key, Restricted, next).await;
        let kept = ground.store.channel(key).await.expect("read").expect("there").restricted_until;
        let expected = matches!(next, Restricted | Paused | Disconnected | Connecting).then_some(until);
        assert_eq!(kept, expected, "{next:?}");
    }
    for (n, state) in ChannelState::ALL.into_iter().enumerate() {
        let key = ground.channel_in(&format!("outro-{n}"), state).await;
        let restricted = ground.store.restrict_channel(key, until, reason.clone(), NOW).await.expect("answered");
        let after = ground.store.channel(key).await.expect("read").expect("there");
        let (next, noted) = match state {
            Connected | Restricted => (Restricted, Some(until)),
            Paused | Disconnected | Connecting => (state, Some(until)),
            Created | LoggedOut | Banned => (state, None),
        };
        assert_eq!((after.state, after.restricted_until, restricted), (next, noted, noted.is_some()), "{state:?}");
        let said = after.state_reason.as_ref() == Some(&reason);
        assert_eq!(said, next == Restricted, "{state:?}");
    }
}

pub(super) async fn the_later_end_of_a_restriction_stays(mut ground: Ground) {
    let key = ground.channel("loja").await;
    for (until, reason, later) in [(NOW + 9, "um", NOW + 9), (NOW + 5, "dois", NOW + 9), (NOW + 12, "tres", NOW + 12)] {
        assert!(ground.store.restrict_channel(key, until, reason.to_owned(), NOW).await.expect("stored"));
        ground.reopen().await;
        let after = ground.store.channel(key).await.expect("read").expect("there");
        assert_eq!((after.restricted_until, after.state_reason.as_deref()), (Some(later), Some(reason)));
    }
    ground.delete_channel(key, NOW).await;
    for gone in [key, key + 1] {
        assert!(!ground.store.restrict_channel(gone, NOW, String::new(), NOW).await.expect("answered"));
    }
}

pub(super) async fn the_account_of_a_number_is_remembered(mut ground: Ground) {
    let (key, neighbour) = (ground.channel("loja").await, ground.channel("outra").await);
    let note = async |ground: &Ground, account: Option<Party>, now| {
        ground.store.note_account(key, "5511999".to_owned(), account, now).await.expect("stored");
    };
    note(&ground, None, NOW).await;
    let known = async |ground: &Ground, key| ground.store.known_account(key, "5511999".to_owned()).await.expect("read");
    assert_eq!(
        known(&ground, key).await,
        Some(KnownAccount { account: None, lid: None, checked_at: NOW, unconfirmed_at: None }),
        "not on WhatsApp"
    );
    note(&ground, Party::new(Some("551199".to_owned()), Some("900".to_owned())), NOW + 1).await;
    ground.reopen().await;
    let expected = KnownAccount {
        account: Some("551199".to_owned()),
        lid: Some("900".to_owned()),
        checked_at: NOW + 1,
        unconfirmed_at: None,
    };
    assert_eq!(known(&ground, key).await, Some(expected));
    assert_eq!(known(&ground, neighbour).await, None, "each channel asks for itself");
}

/// A message that was sent to a number, and of which no receipt came.
pub(super) async fn an_unconfirmed_message_casts_doubt_on_its_account(ground: Ground) {
    let key = ground.channel("loja").await;
    let note = async |now| {
        let account = Some(Party::of_number("551199"));
        ground.store.note_account(key, "5511999".to_owned(), account, now).await.expect("stored");
    };
    let unconfirmed = async || {
        let known = ground.store.known_account(key, "5511999".to_owned()).await.expect("read");
        known.expect("an account").unconfirmed_at
    };
    note(NOW).await;
    let mut sent_as = Vec::new();
    for at in [NOW + 2, NOW + 3, NOW + 4] {
        ground.accept(key, "5511999").await;
        let claimed = ground.claim_one(key).await;
        ground.settle_at(key, vec![(claimed.seq, sent())], at).await;
        sent_as.push(claimed.network_id);
    }
    assert_eq!(unconfirmed().await, Some(NOW + 2));
    ground.receipt(key, &sent_as[0], MessageStatus::Delivered).await;
    assert_eq!(unconfirmed().await, Some(NOW + 3));
    // Looked up again when the first message is a day old.
    note(NOW + 3 + DAY).await;
    assert_eq!(unconfirmed().await, Some(NOW + 4));
    ground.receipt(key, &sent_as[2], MessageStatus::Read).await;
    assert_eq!(unconfirmed().await, None);
}

/// A node of a newer version stored a setting, and then a node of this version changes the channel. `change` runs a statement, and
/// `count` reads a number.
pub(crate) async fn settings_of_a_newer_version_stay(
    ground: Ground,
    change: impl Fn(&str),
    count: impl Fn(&str) -> i64,
) {
    let key = ground.channel("loja").await;
    change(r#"UPDATE channels SET settings = '{"ofTheFuture":{"a":7},"keepRevoked":true,"closeAfterHours":9}'"#);
    let channel = ground.store.channel(key).await.expect("read").expect("a channel");
    assert!(channel.settings.common().keep_revoked);
    let mut errors = FieldErrors::default();
    let Value::Object(settings) = json!({"keepRevoked": false, "closeAfterHours": null}) else { panic!("an object") };
    let settings = channel.settings.changed(&ChannelChange { name: None, settings }, &mut errors);
    assert!(ground.store.update_channel(key, "Loja".to_owned(), settings).await.expect("stored"));
    let channel = ground.store.channel(key).await.expect("read").expect("a channel");
    let common = channel.settings.common();
    assert_eq!((&*channel.name, common.keep_revoked, common.close_after_hours), ("Loja", false, None));
    assert_eq!(count(r#"SELECT count(*) FROM channels WHERE settings LIKE '%"ofTheFuture":{"a":7}%'"#), 1);
}
