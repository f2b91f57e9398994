//! The event stream: whose events a reader gets, when events are deleted, and what is recorded from when on.

use futures_util::future::join_all;
use recado_domain::api_key::Environment;
use recado_domain::channel::{ChannelState, NewChannel};
use recado_domain::clock::Millis;
use recado_domain::event::{Event, EventQuery, NewEvent, OwnedRange, Owner, Patterns, Recording};
use recado_domain::ids::InstitutionId;
use recado_domain::institution::Institution;
use recado_domain::phone::DefaultCountry;
use recado_domain::queue::PurgeRequest;

use crate::fixtures::{Ground, NOW, new_event};

fn event(owner: Owner, at: Millis) -> NewEvent {
    NewEvent { at, ..new_event(owner, 1) }
}

/// All events of these owners, or of all, without the markers of the fixture.
async fn read(ground: &Ground, owner: Option<Owner>) -> Vec<Event> {
    let events = ground.events(EventQuery { owner, ..ground.event_query() }).await;
    let is_marker = |event: &Event| event.channel.as_ref().is_some_and(|channel| channel.id.starts_with("marco-"));
    events.into_iter().filter(|event| !is_marker(event)).collect()
}

pub(super) async fn each_owner_reads_its_own_events(ground: Ground) {
    let neighbour = InstitutionId::new(NOW, [8; 10]);
    let row = Institution {
        id: neighbour,
        name: "Vizinha".to_owned(),
        default_country: DefaultCountry::Server,
        created_at: NOW,
    };
    ground.store.create_institution(row).await.expect("stored");
    let mut owners = Vec::new();
    for institution in [ground.institution, neighbour] {
        for environment in [Environment::Live, Environment::Test] {
            let owner = (institution, environment);
            assert!(ground.store.record_messages(owner, Recording::All).await.expect("stored"));
            let new = NewChannel { institution, environment, ..ground.new_channel("loja", ChannelState::Connected) };
            let channel = ground.store.create_channel(new).await.expect("stored").expect("a free id").key;
            ground.accept(channel, "551").await;
            let with_channel = NewEvent { channel: Some(channel), name: "message.received", ..event(owner, NOW) };
            for event in [with_channel, event(owner, NOW)] {
                assert!(ground.store.record_event(event).await.expect("stored"));
            }
            owners.push(owner);
        }
    }
    let all = read(&ground, None).await;
    let mut ranges = Vec::new();
    for owner in owners {
        let own = read(&ground, Some(owner)).await;
        let kinds: Vec<_> = own.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(kinds, ["channel.created", "message.queued", "message.received", "contact.created"], "{owner:?}");
        assert_eq!(own, all.iter().filter(|event| event.owner == owner).cloned().collect::<Vec<_>>());
        ranges.push(OwnedRange { owner, first: own[0].seq, last: own[3].seq });
    }
    // The same, in short: all of it, and without the events of the first owner and the last event.
    let mut reader = ground.store.event_reader();
    let mut of = async |after, until| {
        let mut found = reader.owners(after, until).await.expect("read");
        found.sort_by_key(|range| range.first);
        found
    };
    assert_eq!(of(ranges[0].first - 1, ranges[3].last).await, ranges);
    let last = OwnedRange { last: all[14].seq, ..ranges[3] };
    assert_eq!(of(ranges[0].last, all[14].seq).await, [ranges[1], ranges[2], last]);
    assert_eq!(of(ranges[3].last, ranges[3].last).await, []);
}

pub(super) async fn an_event_from_the_future_keeps_no_old_ones(ground: Ground) {
    let owner = (ground.institution, Environment::Live);
    ground.record_messages(Environment::Live, true).await;
    // Records events of these times, deletes those from before 2,000 at 6,000, and gives the times of the others.
    let kept = async |times: &[Millis]| {
        let purge = async |now, events_before| {
            let mut request = PurgeRequest { now, finished_before: 0, used_before: 0, events_before, after: 0 };
            while let Some(after) = ground.store.purge(request).await.expect("purged").next {
                request.after = after;
            }
        };
        for at in times {
            ground.store.record_event(event(owner, *at)).await.expect("stored");
        }
        purge(6_000, 2_000).await;
        let events = read(&ground, Some(owner)).await;
        let left: Vec<_> = events.into_iter().filter(|event| event.complete).map(|event| event.at).collect();
        purge(Millis::MAX, Millis::MAX).await;
        left
    };
    assert_eq!(kept(&[1_000, 9_000, 1_001, 5_000]).await, [5_000]);
    assert_eq!(kept(&[9_000, 9_001, 1_000]).await, Vec::<Millis>::new());
    // Nothing says yet how old they are.
    assert_eq!(kept(&[1_000, 9_000]).await, [9_000]);
    assert_eq!(kept(&[1_000, 9_000, 5_000, 1_001]).await, [9_000, 5_000, 1_001]);
    // More than one batch of the purge.
    join_all((0..510).map(|_| ground.store.record_event(event(owner, 9_000)))).await;
    assert_eq!(kept(&[1_000, 5_000]).await, [5_000]);
}

pub(super) async fn a_log_that_is_set_is_not_begun_again(ground: Ground) {
    let owner = (ground.institution, Environment::Live);
    let begin = async |owner| ground.store.begin_event_log(owner, Patterns::default_log()).await.expect("stored");
    assert_eq!(begin(owner).await, Patterns::default_log());
    assert_eq!(ground.store.event_log(owner).await.expect("read"), Some(Patterns::default_log()));
    assert!(ground.store.record_event(event(owner, NOW)).await.expect("stored"), "the recording has begun");
    let test = (ground.institution, Environment::Test);
    assert!(ground.store.set_event_log(test, Patterns::default()).await.expect("stored"));
    assert_eq!(begin(test).await, Patterns::default());
    assert!(!ground.store.record_event(event(test, NOW)).await.expect("answered"), "and this one has not");
    let unknown = (InstitutionId::new(1, [8; 10]), Environment::Live);
    assert_eq!(begin(unknown).await, Patterns::default_log());
    assert_eq!(ground.store.event_log(unknown).await.expect("read"), None);
}
