//! The server is killed at random moments while five linked phones send. Every accepted card is read by its recipient, in
//! order, and no phone shows a card twice.
//!
//! `RECADO_TEST_KILLS` sets the number of kills (20), `RECADO_TEST_SEED` repeats the moments of an earlier run. With
//! `RECADO_TEST_NODES=2` the channels move between the node that is killed and one that is not, and senders type.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::Ordering::SeqCst;
use std::thread::{ScopedJoinHandle, scope, sleep};
use std::time::{Duration, Instant};

use fake_whatsapp::{Account, FakeWhatsApp};
use serde_json::json;

use super::{Stage, TYPED, serve};
use crate::harness::wait_for;
use crate::load::{Dice, Load, Sender, card_name, channel_id, join, setting};

const CHANNELS: usize = 5;
/// Each channel sends to all of them, one after another.
const RECIPIENTS: usize = 4;
/// The shortest and the longest time from the start of the load to a kill, in milliseconds. The shortest ends before any
/// session is connected.
const LOAD: (u64, u64) = (50, 2_000);
/// The same if another node acquires the channels meanwhile, and releases some again.
const MOVES: (u64, u64) = (50, 8_000);
/// The kills of every run of the tests.
const KILLS: u64 = 20;
/// The pause of a sender after a card. Sessions connect more slowly than cards arrive, so that some cards always wait.
const PAUSE: Duration = Duration::from_millis(50);

/// The same if each card is typed for a second or two.
const TYPES: Duration = Duration::from_millis(2_500);

#[test]
fn killed_at_random_moments_each_card_is_read_once_and_in_order() {
    let kills = setting("RECADO_TEST_KILLS").unwrap_or(KILLS);
    let seed = setting("RECADO_TEST_SEED").unwrap_or_else(|| RandomState::new().hash_one(kills));
    println!("RECADO_TEST_SEED={seed} repeats the moments of these {kills} kills");
    let (mut dice, begun) = (Dice(seed), Instant::now());
    let stage = Stage::set();
    for number in 0..RECIPIENTS {
        stage.whatsapp.add_contact(&recipient(number), &format!("90000000000010{number}"));
    }
    for channel in 0..CHANNELS {
        stage.link(&channel_id(channel), &Account::new(&owner(channel), &format!("90000000000020{channel}")));
    }
    let moves = moves();
    if moves {
        for channel in 0..CHANNELS {
            stage.settings(&channel_id(channel), &json!({"typing": true}));
        }
    }
    let Stage { home, mut server, whatsapp, key } = stage;
    let load = Load::new(key, if moves { TYPES } else { PAUSE }, card);
    load.enter(&server);
    let (server, senders) = scope(|scope| {
        let run = |channel| Sender::new(channel, &load).run();
        let threads: Vec<_> = (0..CHANNELS).map(|channel| scope.spawn(move || run(channel))).collect();
        for _ in 0..kills {
            sleep(dice.between(if moves { MOVES } else { LOAD }));
            load.leave(&server.address);
            server.kill();
            server = serve(&home, &whatsapp);
            load.enter(&server);
            // A sender that ended has failed: its reason follows when it is joined.
            if threads.iter().any(ScopedJoinHandle::is_finished) {
                break;
            }
        }
        load.stop.store(true, SeqCst);
        (server, threads.into_iter().map(join).collect::<Vec<_>>())
    });
    let stage = Stage { home, server, whatsapp, key: load.key.clone() };
    wait_until_sent(&stage);
    check(&stage.whatsapp, &senders, (kills, begun));
}

/// Whether the channels move between two nodes.
fn moves() -> bool {
    setting("RECADO_TEST_NODES") == Some(2)
}

fn owner(channel: usize) -> String {
    format!("5511400020{channel:02}")
}

fn recipient(number: usize) -> String {
    format!("55319999100{:02}", number % RECIPIENTS)
}

fn card(channel: usize, number: usize) -> String {
    json!({"to": recipient(number), "name": card_name(channel, number), "phone": TYPED}).to_string()
}

/// Waits until no message is in flight, then checks that all were sent.
fn wait_until_sent(stage: &Stage) {
    let (begun, waited) = (stage.whatsapp.inbox().len(), Instant::now());
    let any = |channel: usize, status: &str| {
        let path = format!("/v1/channels/{}/messages?status={status}&limit=1", channel_id(channel));
        stage.get(&path).expect(200).json()["data"].as_array().expect("a list").first().cloned()
    };
    for channel in 0..CHANNELS {
        // A message moves from one state to the other, so both are checked twice.
        for status in ["QUEUED", "SENDING", "QUEUED", "SENDING"] {
            // The wait has no limit as long as the queue moves.
            while any(channel, status).is_some() {
                let read = stage.whatsapp.inbox().len();
                let what = format!("channel {channel} to send more, with messages that are {status}");
                wait_for(&what, || stage.whatsapp.inbox().len() > read || any(channel, status).is_none());
            }
        }
        for status in ["FAILED", "EXPIRED", "CANCELLED", "UNKNOWN"] {
            assert_eq!(any(channel, status), None, "channel {channel}");
        }
    }
    println!("left={} in {:?}", stage.whatsapp.inbox().len() - begun, waited.elapsed());
}

/// Compares the accepted cards with the cards that the recipients' phones read.
fn check(whatsapp: &FakeWhatsApp, senders: &[Sender<'_>], (kills, begun): (u64, Instant)) {
    let (inbox, counters) = (whatsapp.inbox(), whatsapp.counters());
    let mut shown: HashMap<&str, usize> = HashMap::new();
    inbox.iter().for_each(|received| *shown.entry(&received.id).or_default() += 1);
    let accepted: usize = senders.iter().map(|sender| sender.ids.len()).sum();
    let repeated: usize = senders.iter().map(|sender| sender.repeated).sum();
    let resent = inbox.len() - shown.len();
    println!(
        "kills={kills} channels={CHANNELS} accepted={accepted} read={} distinct={} re-sent={resent} undecryptable={} \
         repeated_calls={repeated} connections={} seconds={:.1}",
        inbox.len(),
        shown.len(),
        counters.undecryptable,
        counters.connections,
        begun.elapsed().as_secs_f64(),
    );
    for sender in senders {
        let channel = sender.channel;
        let mut seen = HashSet::new();
        // A phone shows a network id once, at its first arrival.
        let read = inbox.iter().filter(|received| received.from == owner(channel) && seen.insert(&received.id));
        let read: Vec<_> = read.map(|received| (received.display_name().expect("a name"), &*received.to)).collect();
        let sent: Vec<_> = (0..sender.ids.len()).map(|n| (card_name(channel, n), recipient(n))).collect();
        let sent: Vec<_> = sent.iter().map(|(name, to)| (&**name, &**to)).collect();
        let wrong = read.iter().zip(&sent).find(|(read, sent)| read != sent);
        assert_eq!(wrong, None, "what was read, where the sender's order has the other");
        assert_eq!(read.len(), sent.len(), "cards of channel {channel} that were read, and accepted ones");
    }
    assert_eq!(shown.len(), accepted, "network ids that were read, cards that were accepted");
    assert_eq!(counters.undecryptable, 0, "copies that a phone could not read");
    assert!(repeated > 0, "no kill hit a call");
    // In a short run, or if typing takes most of the time, possibly no kill falls between a send and its record.
    assert!(kills < KILLS || moves() || resent > 0, "nothing was sent again: the kills proved little");
}
