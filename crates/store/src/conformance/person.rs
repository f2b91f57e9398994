//! The data of one person: found by every number, returned, and erased without harm to others.

use recado_domain::api_key::Environment;
use recado_domain::channel::{ChannelKey, ChannelType, NewChannel};
use recado_domain::clock::Millis;
use recado_domain::ids::{InstitutionId, MessageId};
use recado_domain::institution::Institution;
use recado_domain::message::{Enqueued, NewMessage};
use recado_domain::party::Party;
use recado_domain::phone::DefaultCountry;
use recado_domain::queue::{ClaimRequest, MessageRef, Receipt, Settlement};
use recado_domain::status::MessageStatus;

use crate::fixtures::{DAY, Ground, NOW, rendition, request, sent};
use crate::person::{Erased, Erasure, PLACES, Person, PersonPart, PersonQuery, PersonRow, Place};

const MARIA: &str = "5531988887777";
/// The account of the person.
const ACCOUNT: &str = "553188887777";
const OTHER: &str = "5511999998888";

fn person(numbers: &[&str]) -> Person {
    Person::new(numbers.iter().map(|number| (*number).to_owned()).collect(), None)
}

/// All rows of a part, and on how many pages they came.
async fn all(ground: &Ground, person: &Person, part: PersonPart) -> (Vec<PersonRow>, usize) {
    let (mut rows, mut pages, mut after) = (Vec::new(), 0, 0);
    loop {
        let query = PersonQuery { person: person.clone(), part, after };
        let page = ground.store.person(query).await.expect("read");
        rows.extend(page.rows);
        let Some(next) = page.next else { return (rows, pages) };
        assert!(next > after, "a page that does not go on");
        (after, pages) = (next, pages + 1);
    }
}

async fn names(ground: &Ground, numbers: &[&str]) -> Vec<String> {
    let (rows, _) = all(ground, &person(numbers), PersonPart::Names).await;
    let name = |row| if let PersonRow::Name(name) = row { name } else { panic!("no name") };
    let mut names: Vec<_> = rows.into_iter().map(name).collect();
    names.sort();
    names.dedup();
    names
}

async fn messages(ground: &Ground, person: &Person) -> Vec<MessageId> {
    let (rows, _) = all(ground, person, PersonPart::Messages).await;
    let id =
        |row: &PersonRow| if let PersonRow::Message { message, .. } = row { message.id } else { panic!("no message") };
    rows.iter().map(id).collect()
}

async fn places(ground: &Ground, person: &Person) -> Vec<Place> {
    let key = |row| if let PersonRow::Key { n, message, .. } = row { (message, n) } else { panic!("no key") };
    let keys: Vec<_> = all(ground, person, PersonPart::Keys).await.0.into_iter().map(key).collect();
    let place = |row| {
        let PersonRow::Place(place) = row else { panic!("no place") };
        Place { key: keys.iter().find(|(id, _)| *id == place.id).map(|(_, n)| *n), ..place }
    };
    all(ground, person, PersonPart::Places).await.0.into_iter().map(place).collect()
}

/// Erases the messages as `recado data erase` does.
async fn erase_messages(ground: &Ground, person: &Person, now: Millis) -> Erased {
    let places = places(ground, person).await;
    assert!(places.len() <= PLACES);
    ground.store.erase_person(Erasure::Messages(places), now).await.expect("stored")
}

async fn erase_contacts(ground: &Ground, person: &Person) -> Erased {
    let (mut total, mut after) = (Erased::default(), 0);
    loop {
        let erasure = Erasure::Contacts { person: person.clone(), after };
        let done = ground.store.erase_person(erasure, NOW).await.expect("stored");
        total.accounts += done.accounts;
        total.chats += done.chats;
        total.recipient_paces += done.recipient_paces;
        let Some(next) = done.next else { return total };
        after = next;
    }
}

/// Settles the next message of a channel as sent to this account.
async fn send(ground: &Ground, channel: ChannelKey, account: &str) {
    let claimed = ground.claim_one(channel).await;
    let account = Some(account.to_owned());
    ground.settle(channel, claimed.seq, Settlement::Sent { account, remote_id: None, rendition: None }).await;
}

pub(super) async fn a_person_is_found_by_number_and_account(ground: Ground) {
    let channel = ground.channel("loja").await;
    let typed = ground.accept(channel, MARIA).await;
    send(&ground, channel, ACCOUNT).await;
    ground.accept(channel, OTHER).await;
    send(&ground, channel, OTHER).await;
    let by_account = ground.accept(channel, ACCOUNT).await;
    let waiting = ground.accept(channel, MARIA).await;
    assert_eq!(messages(&ground, &person(&[MARIA])).await, [typed, waiting]);
    assert_eq!(messages(&ground, &person(&[ACCOUNT])).await, [typed, by_account]);
    assert_eq!(messages(&ground, &person(&[MARIA, ACCOUNT])).await, [typed, by_account, waiting]);
    assert_eq!(messages(&ground, &person(&["5511900000000"])).await, []);
    // The account that the network reported leads from one number to the other, even without messages.
    assert_eq!(names(&ground, &[MARIA]).await, [ACCOUNT, MARIA]);
    ground.store.note_account(channel, "551".to_owned(), Some(Party::of_number("552")), NOW).await.expect("stored");
    assert_eq!(
        (names(&ground, &["551"]).await, names(&ground, &["552"]).await),
        (vec!["551".into(), "552".into()], vec!["551".into(), "552".into()])
    );
}

pub(super) async fn all_data_of_a_person_is_returned(ground: Ground) {
    let channel = ground.channel_of(ChannelType::WhatsAppWeb, "loja").await;
    let keyed = NewMessage {
        idempotency: Some(ground.idempotency("chave", 1)),
        scenario: Some("timeout".to_owned()),
        ..ground.new_message(channel, MARIA)
    };
    ground.enqueue(keyed.clone()).await;
    send(&ground, channel, ACCOUNT).await;
    let account = Party::new(Some(ACCOUNT.to_owned()), Some("900".to_owned()));
    ground.store.note_account(channel, MARIA.to_owned(), account.clone(), NOW).await.expect("stored");
    let maria = person(&[MARIA, ACCOUNT]);
    let (shown, _) = all(&ground, &maria, PersonPart::Messages).await;
    let message = Box::new(ground.message(channel, keyed.id).await);
    assert!(shown == [PersonRow::Message { message, scenario: keyed.scenario.clone(), early: Vec::new() }]);
    let (keys, _) = all(&ground, &maria, PersonPart::Keys).await;
    let [PersonRow::Key { message, route, key, used_at, .. }] = &keys[..] else { panic!("one key") };
    assert_eq!((*message, &**route, &**key, *used_at), (keyed.id, "contact", "chave", NOW));
    // The hidden id is a name of theirs, under which a chat may be on record.
    assert!(ground.store.note_chat(channel, account.expect("a person")).await.expect("stored"));
    assert_eq!(names(&ground, &[MARIA]).await, [ACCOUNT, MARIA, "900@lid"]);
    let maria = person(&[MARIA, ACCOUNT, "900@lid"]);
    let (contacts, _) = all(&ground, &maria, PersonPart::Contacts).await;
    let has = |row: &PersonRow| contacts.contains(row);
    let account = PersonRow::Account {
        channel,
        phone: MARIA.into(),
        account: Some(ACCOUNT.into()),
        lid: Some("900".into()),
        checked_at: NOW,
    };
    assert!(has(&account));
    assert!(has(&PersonRow::Chat { channel, account: ACCOUNT.into(), opened_at: Some(NOW) }));
    assert!(has(&PersonRow::Chat { channel, account: MARIA.into(), opened_at: None }));
    assert!(has(&PersonRow::Chat { channel, account: "900@lid".into(), opened_at: None }));
    assert_eq!(contacts.len(), 4);
    let (others, _) = all(&ground, &person(&[OTHER]), PersonPart::Contacts).await;
    assert!(others.is_empty());
}

pub(super) async fn only_one_institutions_person_is_shown_and_erased(ground: Ground) {
    let other = InstitutionId::new(NOW, [9; 10]);
    let row = Institution {
        id: other,
        name: "Farmacia".to_owned(),
        default_country: DefaultCountry::Server,
        created_at: NOW,
    };
    ground.store.create_institution(row).await.expect("stored");
    let ours = ground.channel("loja").await;
    let new = NewChannel {
        institution: other,
        ..ground.new_channel("farmacia", recado_domain::channel::ChannelState::Connected)
    };
    let theirs = ground.store.create_channel(new).await.expect("stored").expect("a free id").key;
    let (here, there) = (ground.accept(ours, MARIA).await, ground.accept(theirs, MARIA).await);
    for channel in [ours, theirs] {
        ground.store.note_account(channel, MARIA.to_owned(), None, NOW).await.expect("stored");
    }
    let maria = Person { institution: Some(other), ..person(&[MARIA]) };
    assert_eq!(messages(&ground, &maria).await, [there]);
    assert_eq!(all(&ground, &maria, PersonPart::Contacts).await.0.len(), 1);
    assert_eq!(erase_messages(&ground, &maria, NOW).await.messages, 1);
    assert_eq!(erase_contacts(&ground, &maria).await.accounts, 1);
    assert_eq!(messages(&ground, &person(&[MARIA])).await, [here]);
    assert_eq!(all(&ground, &person(&[MARIA]), PersonPart::Contacts).await.0.len(), 1);
}

pub(super) async fn a_person_of_one_owner_is_found_by_every_index(ground: Ground) {
    let channel = ground.channel("loja").await;
    let new = NewChannel {
        environment: Environment::Test,
        ..ground.new_channel("teste", recado_domain::channel::ChannelState::Connected)
    };
    let of_tests = ground.store.create_channel(new).await.expect("stored").expect("a free id").key;
    ground.accept(of_tests, MARIA).await;
    let keyed = NewMessage { idempotency: Some(ground.idempotency("chave", 1)), ..ground.new_message(channel, MARIA) };
    ground.enqueue(keyed.clone()).await;
    send(&ground, channel, ACCOUNT).await;
    let by_account = ground.accept(channel, ACCOUNT).await;
    send(&ground, channel, ACCOUNT).await;
    ground.accept(channel, OTHER).await;
    send(&ground, channel, OTHER).await;
    let queued = ground.accept(channel, MARIA).await;
    let scheduled = NewMessage { send_at: Some(NOW + DAY), ..ground.new_message(channel, MARIA) };
    ground.enqueue(scheduled.clone()).await;
    let of_owner = |numbers: &[&str]| Person {
        institution: Some(ground.institution),
        environment: Some(Environment::Live),
        ..person(numbers)
    };
    let found = async |numbers: &[&str]| -> Vec<Place> {
        let place = |row| if let PersonRow::Place(place) = row { place } else { panic!("no place") };
        all(&ground, &of_owner(numbers), PersonPart::Places).await.0.into_iter().map(place).collect()
    };
    let ids = |places: &[Place]| places.iter().map(|place| place.id).collect::<Vec<_>>();
    assert_eq!(ids(&found(&[ACCOUNT]).await), [keyed.id, by_account]);
    let maria = found(&[MARIA, ACCOUNT]).await;
    assert_eq!(ids(&maria), [scheduled.id, keyed.id, by_account, queued]);
    // Each as a search through all messages finds it, with its key.
    let slow = Person { institution: Some(ground.institution), ..person(&[MARIA, ACCOUNT]) };
    let slow: Vec<_> = places(&ground, &slow).await.into_iter().filter(|place| place.channel == channel).collect();
    assert_eq!(maria, slow);
    assert_eq!(maria.iter().filter(|place| place.key.is_some()).count(), 1);
    let (rows, _) = all(&ground, &of_owner(&[ACCOUNT]), PersonPart::Names).await;
    assert!(rows.contains(&PersonRow::Name(MARIA.to_owned())));
    let (rows, _) = all(&ground, &of_owner(&[]), PersonPart::Channels).await;
    assert!(rows == [PersonRow::Channel(channel)]);
    // More than a page.
    for _ in 0..PLACES {
        ground.accept(channel, MARIA).await;
    }
    let (rows, pages) = all(&ground, &of_owner(&[MARIA, ACCOUNT]), PersonPart::Places).await;
    assert_eq!((rows.len(), pages), (PLACES + 4, 1));
    let erased = ground.store.erase_person(Erasure::Messages(maria), NOW).await.expect("stored");
    assert_eq!((erased.messages, erased.idempotency_keys, erased.cancelled), (4, 1, 2));
    assert_eq!(erase_contacts(&ground, &of_owner(&[MARIA])).await, Erased::default());
}

pub(super) async fn queued_messages_are_cancelled_and_erased(ground: Ground) {
    for channel in [ground.channel("loja").await, ground.channel_by_recipient("meta").await] {
        let first = ground.accept(channel, MARIA).await;
        let sending = ground.claim_one(channel).await;
        assert_eq!(sending.id, first);
        let waiting = ground.accept(channel, MARIA).await;
        let neighbour = ground.accept(channel, OTHER).await;
        let maria = person(&[MARIA]);
        let erased = erase_messages(&ground, &maria, NOW).await;
        let wanted = Erased { messages: 1, cancelled: 1, sending: 1, ..Erased::default() };
        assert_eq!(erased, wanted, "what is on its way is left");
        assert_eq!(ground.store.message(channel, waiting).await.expect("read"), None);
        assert_eq!(ground.status(channel, first).await, MessageStatus::Sending);
        // The outcome is stored, and then the message is erased too; the queue goes on.
        ground.settle(channel, sending.seq, sent()).await;
        assert_eq!(ground.claim_one(channel).await.id, neighbour);
        assert_eq!(erase_messages(&ground, &maria, NOW).await, Erased { messages: 1, ..Erased::default() });
        assert_eq!(erase_messages(&ground, &maria, NOW).await, Erased::default(), "again is nothing");
        assert_eq!(ground.all(channel).await.len(), 1);
        // The backlog is counted as it is.
        let last = NewMessage { backlog_cap: 2, ..ground.new_message(channel, MARIA) };
        assert_eq!(ground.enqueue(last.clone()).await, Enqueued::Accepted);
        let full = NewMessage { backlog_cap: 2, ..ground.new_message(channel, MARIA) };
        assert_eq!(ground.enqueue(full).await, Enqueued::QueueFull);
        erase_messages(&ground, &maria, NOW).await;
    }
}

/// A card that may have arrived cannot be called back, but it is not sent again either.
pub(super) async fn queued_messages_with_an_unknown_outcome_are_erased_too(ground: Ground) {
    let channel = ground.channel("loja").await;
    let id = ground.accept(channel, MARIA).await;
    let claimed = ground.claim_one(channel).await;
    ground.settle(channel, claimed.seq, Settlement::RetryUnanswered { run_at: NOW + DAY / 2 }).await;
    assert_eq!(ground.status(channel, id).await, MessageStatus::Queued);
    let wanted = Erased { messages: 1, cancelled: 1, ..Erased::default() };
    assert_eq!(erase_messages(&ground, &person(&[MARIA]), NOW).await, wanted);
    let claim = ground.claim(ClaimRequest { now: NOW + DAY / 2, ..request(channel) }).await;
    assert_eq!((claim.messages, ground.all(channel).await), (Vec::new(), Vec::new()));
}

pub(super) async fn every_finished_message_goes_and_others_stay(ground: Ground) {
    let channel = ground.channel("loja").await;
    let settlements = [
        sent(),
        Settlement::Failed { code: "X".to_owned(), message: "x".to_owned() },
        Settlement::Unknown { resend_at: Some(NOW + 1), hold: None },
    ];
    for recipient in [MARIA, OTHER] {
        for settlement in settlements.clone() {
            ground.accept(channel, recipient).await;
            let claimed = ground.claim_one(channel).await;
            ground.settle(channel, claimed.seq, settlement).await;
        }
        for status in [MessageStatus::Delivered, MessageStatus::Read] {
            let id = ground.accept(channel, recipient).await;
            send(&ground, channel, recipient).await;
            ground.receipt(channel, &ground.message(channel, id).await.network_id, status).await;
        }
        let cancelled = ground.accept(channel, recipient).await;
        ground.store.cancel(channel, cancelled, NOW).await.expect("stored");
        ground.enqueue(NewMessage { expires_at: NOW, ..ground.new_message(channel, recipient) }).await;
        ground.claim(request(channel)).await;
    }
    assert_eq!(ground.all(channel).await.len(), 14);
    let erased = erase_messages(&ground, &person(&[MARIA]), NOW).await;
    assert_eq!(erased, Erased { messages: 7, ..Erased::default() });
    let left = ground.all(channel).await;
    assert!(left.len() == 7 && left.iter().all(|message| message.recipient == OTHER), "{left:?}");
}

pub(super) async fn an_erased_key_is_as_new(ground: Ground) {
    let channel = ground.channel("loja").await;
    let call = |key: &str, recipient: &str| NewMessage {
        idempotency: Some(ground.idempotency(key, 1)),
        ..ground.new_message(channel, recipient)
    };
    // The first message is in flight. Its key is still needed, or a repeated call would send the message twice.
    let sending = call("a caminho", MARIA);
    ground.enqueue(sending.clone()).await;
    let claimed = ground.claim_one(channel).await;
    ground.enqueue(call("fica", OTHER)).await;
    ground.enqueue(call("vai", MARIA)).await;
    let erased = erase_messages(&ground, &person(&[MARIA]), NOW).await;
    assert_eq!((erased.messages, erased.idempotency_keys, erased.sending), (1, 1, 1));
    assert_eq!(ground.enqueue(call("vai", MARIA)).await, Enqueued::Accepted, "a call of its own");
    assert_eq!(ground.enqueue(call("a caminho", MARIA)).await, Enqueued::Replayed(sending.id));
    assert!(matches!(ground.enqueue(call("fica", OTHER)).await, Enqueued::Replayed(_)));
    ground.settle(channel, claimed.seq, sent()).await;
}

pub(super) async fn contacts_are_erased_on_every_channel(ground: Ground) {
    let mut channels = Vec::new();
    for id in ["um", "dois", "tres"] {
        let channel = ground.channel_of(ChannelType::WhatsAppWeb, id).await;
        for who in [MARIA, OTHER] {
            ground.store.note_account(channel, who.to_owned(), Some(Party::of_number(who)), NOW).await.expect("stored");
            assert!(ground.store.note_chat(channel, Party::of_number(who)).await.expect("stored"));
        }
        channels.push(channel);
    }
    let paced = ground.channel_by_recipient("meta").await;
    let pacing = recado_domain::pacing::RecipientPacing { burst: 1, every: std::time::Duration::from_secs(6) };
    ground.accept(paced, MARIA).await;
    ground.claim(ClaimRequest { recipient_pacing: Some(pacing), ..request(paced) }).await;
    let erased = erase_contacts(&ground, &person(&[MARIA])).await;
    assert_eq!((erased.accounts, erased.chats, erased.recipient_paces), (3, 3, 1));
    assert_eq!(all(&ground, &person(&[MARIA]), PersonPart::Contacts).await.0.len(), 0);
    assert_eq!(all(&ground, &person(&[OTHER]), PersonPart::Contacts).await.0.len(), 6);
    assert!(ground.store.note_chat(channels[0], Party::of_number(MARIA)).await.expect("stored"), "as a new person");
}

/// An outcome that was on its way when its message was erased.
pub(super) async fn settling_an_erased_message_does_no_harm(ground: Ground) {
    let channel = ground.channel_of(ChannelType::WhatsAppWeb, "loja").await;
    let id = ground.accept(channel, MARIA).await;
    let claimed = ground.claim_one(channel).await;
    ground.receipt(channel, &claimed.network_id, MessageStatus::Delivered).await;
    assert_eq!(ground.status(channel, id).await, MessageStatus::Delivered, "a receipt overtook");
    assert_eq!(erase_messages(&ground, &person(&[MARIA]), NOW).await.messages, 1);
    erase_contacts(&ground, &person(&[MARIA, ACCOUNT])).await;
    // Its number is not given again.
    let next = ground.accept(channel, OTHER).await;
    let in_hand = ground.claim_one(channel).await;
    assert!(in_hand.id == next && in_hand.seq != claimed.seq, "{in_hand:?}");
    let account = || Some(ACCOUNT.to_owned());
    let rendition = Some(rendition(MARIA, true));
    let outcomes = [
        Settlement::Sent { account: account(), remote_id: Some("wamid.1".parse().unwrap()), rendition },
        Settlement::NewChatBlocked { until: NOW + 1, reason: "x".to_owned() },
        Settlement::Retry { run_at: NOW },
    ];
    for outcome in outcomes {
        ground.settle(channel, claimed.seq, outcome).await;
    }
    ground.receipt(channel, &claimed.network_id, MessageStatus::Read).await;
    assert_eq!(all(&ground, &person(&[MARIA, ACCOUNT]), PersonPart::Contacts).await.0.len(), 0);
    assert_eq!(ground.status(channel, next).await, MessageStatus::Sending);
}

pub(super) async fn receipts_of_what_is_erased_go_too(ground: Ground) {
    let channel = ground.channel_by_recipient("meta").await;
    ground.accept(channel, MARIA).await;
    let claimed = ground.claim_one(channel).await;
    let remote_id = "wamid.1".parse().ok();
    ground.settle(channel, claimed.seq, Settlement::Sent { account: None, remote_id, rendition: None }).await;
    let receipt = |status| Receipt {
        channel,
        of: MessageRef::RemoteId { remote_id: "wamid.1".parse().unwrap(), ours: None },
        status,
        at: NOW,
        from: None,
        account: None,
        error: Some(("131026".to_owned(), "x".to_owned())).filter(|_| status == MessageStatus::Failed),
        pauses: None,
        pricing: None,
    };
    // A receipt after the erasure finds no message, and is kept for a while.
    for status in [MessageStatus::Failed, MessageStatus::Failed] {
        ground.apply(receipt(status)).await;
    }
    let maria = person(&[MARIA]);
    let (rows, _) = all(&ground, &maria, PersonPart::Messages).await;
    let [PersonRow::Message { early, .. }] = &rows[..] else { panic!("one message") };
    assert_eq!(early.len(), 1, "{early:?}");
    assert_eq!(early[0].error, Some(("131026".to_owned(), "x".to_owned())));
    let erased = erase_messages(&ground, &maria, NOW).await;
    assert_eq!((erased.messages, erased.early_receipts), (1, 1));
}

pub(super) async fn a_page_of_a_person_is_bounded(ground: Ground) {
    let channel = ground.channel("loja").await;
    let many = futures_util::future::join_all((0..450).map(|_| ground.accept(channel, MARIA))).await;
    let maria = person(&[MARIA]);
    let (rows, pages) = all(&ground, &maria, PersonPart::Messages).await;
    assert!(rows.len() == many.len() && pages >= 4, "{} on {pages}", rows.len());
    let mut after = 0;
    loop {
        let query = PersonQuery { person: maria.clone(), part: PersonPart::Places, after };
        let page = ground.store.person(query).await.expect("read");
        assert!(page.rows.len() <= PLACES);
        let Some(next) = page.next else { break };
        after = next;
    }
    // A person without messages is searched in parts, too.
    assert!(i64::try_from(many.len()).expect("few") < recado_domain::message::SCANNED_AT_MOST);
    assert_eq!(all(&ground, &person(&[OTHER]), PersonPart::Places).await.1, 1);
}
