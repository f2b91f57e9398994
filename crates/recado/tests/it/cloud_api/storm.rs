//! Ten thousand messages go through a network with many faults, with three `kill -9` in between. Every message ends in a
//! true state, according to the records of the network.
//!
//! `RECADO_TEST_SEED` repeats the behaviour of the network in an earlier run.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;
use std::time::{Duration, Instant};

use fake_graph::{Answer, Attempt, Behaviour, Callback, GraphError, Number, Status};
use serde_json::{Value, json};

use super::Stage;
use crate::harness::{agent, call, wait_for};

const MESSAGES: usize = 10_000;
/// Many channels, because a channel with errors waits for a second or more.
const CHANNELS: usize = 50;
/// Fewer recipients than the messages of a channel, so that some recipients get several messages.
const RECIPIENTS: usize = 150;
/// The server is killed between two rounds.
const ROUNDS: usize = 4;
const SENDERS: usize = 8;
/// Longer than any server of this test lives: an attempt with this delay is in flight until its server is killed.
const UNTIL_THE_KILL: Duration = Duration::from_hours(1);

#[test]
fn every_message_ends_in_a_true_state() {
    let seed = std::env::var("RECADO_TEST_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(MESSAGES));
    println!("RECADO_TEST_SEED={seed} repeats what the network does");
    let began = Instant::now();
    let mut stage = Stage::set();
    for channel in 0..CHANNELS {
        stage.graph.add_number(Number::example(&number_id(channel)));
        stage.link(&channel_id(channel), &number_id(channel));
    }
    stage.take_callbacks();
    let mut attempts_of = HashMap::<String, u32>::new();
    // The network keeps the next attempt without an answer.
    let keeps_next = Arc::new(AtomicBool::new(false));
    let keeps = keeps_next.clone();
    stage.graph.behave(move |attempt| {
        let tried = attempts_of.entry(attempt.opaque_id.clone().expect("our id")).or_default();
        *tried += 1;
        let behaviour = behaviour(seed, number_of(&attempt.body["contacts"][0]["name"]["formatted_name"]), *tried);
        if keeps.swap(false, Ordering::Relaxed) { behaviour.after(UNTIL_THE_KILL) } else { behaviour }
    });
    let mut accepted = HashSet::new();
    let mut kills = Vec::new();
    for round in 0..ROUNDS {
        accepted.extend(accept(&stage, round));
        let is_killed = round + 1 < ROUNDS;
        keeps_next.store(is_killed, Ordering::Relaxed);
        // A slow machine may have sent all others by now: then the network keeps this one.
        accepted.insert(submit(&agent(), &stage, last_of(round)));
        if is_killed {
            wait_for("a send in flight", || !keeps_next.load(Ordering::Relaxed));
            kills.push(Instant::now());
            stage = stage.crash();
        }
    }
    wait_for_the_end(&stage);
    let messages: Vec<Value> = (0..CHANNELS).flat_map(|channel| all(&stage, channel)).collect();
    let ids: HashSet<String> = messages.iter().map(|message| text(&message["id"])).collect();
    assert_eq!((messages.len(), ids.len()), (MESSAGES, MESSAGES));
    assert!(ids == accepted, "what is listed is what was accepted");
    let faulty = stage.graph.invalid_bodies();
    assert!(faulty.is_empty(), "{:?}", faulty[0].faults);
    let mut tally = Tally { kills, ..Tally::default() };
    let attempts = stage.graph.attempts();
    let mut by_id: HashMap<&str, Vec<&Attempt>> = HashMap::new();
    attempts
        .iter()
        .for_each(|attempt| by_id.entry(attempt.opaque_id.as_deref().unwrap_or("")).or_default().push(attempt));
    assert!(by_id.keys().all(|id| ids.contains(*id)), "every attempt is one of a message");
    for message in &messages {
        tally.check(message, by_id.get(message["id"].as_str().expect("an id")).map_or(&[], Vec::as_slice));
    }
    tally.print(&attempts, stage.graph.callbacks_acknowledged(), began.elapsed());
    // Each kill can have interrupted an attempt that the network kept.
    assert!(tally.lost > ROUNDS && tally.failed > 0, "the storm was none");
}

fn channel_id(channel: usize) -> String {
    format!("c{channel:02}")
}

fn number_id(channel: usize) -> String {
    format!("1060000000000{channel:02}")
}

/// The number of the message, from the name of its card.
fn number_of(name: &Value) -> usize {
    name.as_str().and_then(|name| name.strip_prefix("Maria ")).and_then(|n| n.parse().ok()).expect("a name of ours")
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// Whether the network accepts a message and then fails to deliver it.
fn fails_late(number: usize) -> bool {
    number % 33 == 7
}

/// The network's behaviour for an attempt. 5 % of its answers are lost after it accepted the message, and 5 % of the
/// attempts fail with each class of retryable error. A recipient is throttled only at a message's first two attempts: later
/// ones would wait for 64 and 256 s.
fn behaviour(seed: u64, number: usize, tried: u32) -> Behaviour {
    let mut dice = Dice(seed ^ (number as u64) << 8 ^ u64::from(tried));
    let error = |status, code| Behaviour::refuse(GraphError::new(status, code, format!("(#{code}) Not now")));
    let behaviour = match dice.below(100) {
        0..5 => match dice.below(3) {
            0 => error(429, 130_429),
            1 => error(500, 131_016),
            _ => error(503, 2),
        },
        5..10 if tried <= 2 => error(400, 131_056),
        10..15 => error(500, 131_000),
        15..18 => accepted(&mut dice, number).answering(Answer::Lost),
        18..20 => accepted(&mut dice, number).answering(a_proxys_page()),
        20 => Behaviour::refuse([Answer::Lost, Answer::Reset, a_proxys_page()][dice.index(3)].clone()),
        _ => accepted(&mut dice, number),
    };
    behaviour.after(Duration::from_millis(dice.below(50)))
}

fn a_proxys_page() -> Answer {
    Answer::Foreign { status: 502, content_type: "text/html", body: "<h1>Bad Gateway</h1>".to_owned() }
}

/// Accepts the message. Its callbacks come out of order, and some come twice or before the answer.
fn accepted(dice: &mut Dice, number: usize) -> Behaviour {
    let window = GraphError::new(0, 131_047, "Re-engagement message");
    let mut statuses = if fails_late(number) {
        vec![Status::Sent, Status::Failed(vec![window])]
    } else {
        vec![Status::Sent, Status::Delivered, Status::Read]
    };
    for last in (1..statuses.len()).rev() {
        statuses.swap(last, dice.index(last + 1));
    }
    let mut callbacks = if dice.below(3) == 0 {
        vec![Callback::of(statuses)]
    } else {
        statuses.into_iter().map(Callback::from).collect()
    };
    let twice = dice.index(callbacks.len());
    callbacks[twice] = callbacks[twice].clone().times(2).after(Duration::from_millis(dice.below(50)));
    // The other callbacks name our id, so that this one is matched when our id is known.
    if callbacks.len() > 1 && dice.below(5) == 0 {
        callbacks[0] = callbacks[0].clone().without_opaque_id();
    }
    let behaviour = Behaviour::accept().calling_back(callbacks);
    if dice.below(5) == 0 { behaviour.callbacks_first() } else { behaviour }
}

/// A small generator of random numbers (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("a small number")
    }
}

/// A message's index in its channel determines its round and its recipient.
fn index(number: usize) -> usize {
    number / CHANNELS
}

/// The message that is submitted after all others of a round.
fn last_of(round: usize) -> usize {
    round * CHANNELS
}

/// Submits the messages of a round but the last. Returns their ids.
fn accept(stage: &Stage, round: usize) -> Vec<String> {
    let send = |sender: usize| {
        let agent = agent();
        let numbers = (0..MESSAGES).filter(|n| index(*n) % ROUNDS == round && n % SENDERS == sender);
        let sent = numbers.filter(|n| *n != last_of(round)).map(|number| submit(&agent, stage, number));
        sent.collect::<Vec<_>>()
    };
    scope(|scope| {
        let senders: Vec<_> = (0..SENDERS).map(|sender| scope.spawn(move || send(sender))).collect();
        senders.into_iter().flat_map(|sender| sender.join().expect("a sender that did not fail")).collect()
    })
}

/// Submits a message. Returns its id.
fn submit(agent: &ureq::Agent, stage: &Stage, number: usize) -> String {
    let to = format!("55119{:08}", index(number) % RECIPIENTS);
    let body = json!({"to": to, "name": format!("Maria {number}"), "phone": "5511988887777"}).to_string();
    let url = stage.server.url(&format!("/v1/channels/{}/messages/contact", channel_id(number % CHANNELS)));
    let headers = [("Content-Type", "application/json")];
    let answer = call(agent, &url, "POST", Some(&stage.key), &headers, Some(body.as_bytes()));
    answer.expect("an answer").expect(202).header("X-Message-Id").expect("an id").to_owned()
}

/// Waits until no message is to be sent and no callback is to come.
fn wait_for_the_end(stage: &Stage) {
    for channel in 0..CHANNELS {
        // A message moves from one state to the other, so both are checked twice.
        for status in ["QUEUED", "SENDING", "QUEUED", "SENDING"] {
            let path = format!("/v1/channels/{}/messages?limit=1&status={status}", channel_id(channel));
            wait_for(&format!("no {status} on {path}"), || {
                let page = stage.server.get(&path, Some(&stage.key)).expect(200).json();
                page["data"].as_array().expect("a list").is_empty() && page["pagination"]["nextCursor"].is_null()
            });
        }
    }
    wait_for("every callback to be acknowledged", || stage.graph.callbacks_waiting() == 0);
}

/// Every message of a channel.
fn all(stage: &Stage, channel: usize) -> Vec<Value> {
    let (mut messages, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/channels/{}/messages?limit=100{cursor}", channel_id(channel));
        let page = stage.server.get(&path, Some(&stage.key)).expect(200).json();
        messages.extend(page["data"].as_array().expect("a list").iter().cloned());
        match page["pagination"]["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return messages,
        }
    }
}

/// The counts of the messages' outcomes.
#[derive(Default)]
struct Tally {
    kills: Vec<Instant>,
    read: usize,
    failed: usize,
    gave_up: usize,
    /// Never accepted, and unknown because the answer was lost.
    lost: usize,
    /// The same, because the gateway was killed.
    interrupted: usize,
}

impl Tally {
    /// Checks that the message's state agrees with the records of the network.
    fn check(&mut self, message: &Value, attempts: &[&Attempt]) {
        let status = message["status"].as_str().expect("a status");
        let code = message["error"]["code"].as_str();
        let what =
            || format!("{message}\n{:?}", attempts.iter().map(|a| (a.at, a.answered, &a.wamid)).collect::<Vec<_>>());
        let unclear = |attempt: &&&Attempt| attempt.wamid.is_some() || matches!(attempt.answered, None | Some(502));
        let (last, before) = attempts.split_last().map_or((None, attempts), |(last, before)| (Some(last), before));
        assert_eq!(before.iter().find(unclear).map(|_| ()), None, "sent again, perhaps twice: {}", what());
        assert!(message["attempts"].as_u64() >= Some(attempts.len() as u64), "{}", what());
        if let Some(wamid) = last.and_then(|attempt| attempt.wamid.as_ref()) {
            assert_eq!(message["networkId"], json!(wamid), "{}", what());
            if fails_late(number_of(&message["contact"]["name"])) {
                assert_eq!((status, code), ("FAILED", Some("WINDOW_CLOSED")), "{}", what());
                self.failed += 1;
            } else {
                assert_eq!((status, code), ("READ", None), "{}", what());
                self.read += 1;
            }
        } else if status == "FAILED" {
            assert_eq!(code, Some("NETWORK_TROUBLE"), "{}", what());
            assert!(attempts.iter().filter(|attempt| attempt.answered == Some(500)).count() >= 4, "{}", what());
            self.gave_up += 1;
        } else {
            assert_eq!(status, "UNKNOWN", "{}", what());
            if last.is_some_and(|last| unclear(&last)) {
                self.lost += 1;
            } else {
                // The message was claimed once more and the process was killed before the send, or between an answer and its
                // record.
                let never_left = message["attempts"].as_u64() > Some(attempts.len() as u64);
                let explained = never_left || last.is_some_and(|last| self.killed_after(last));
                assert!(explained, "an answer that was not recorded: {}", what());
                self.interrupted += 1;
            }
        }
    }

    /// Whether a kill may have happened between the answer to an attempt and its record.
    fn killed_after(&self, attempt: &Attempt) -> bool {
        let second = Duration::from_secs(1);
        self.kills.iter().any(|kill| attempt.at < *kill + second && *kill < attempt.at + 3 * second)
    }

    fn print(&self, attempts: &[Attempt], callbacks: u64, took: Duration) {
        let refused = attempts.iter().filter(|attempt| attempt.answered.is_some_and(|status| status != 200)).count();
        println!(
            "messages={MESSAGES} channels={CHANNELS} kills={} attempts={} answers_not_200={refused} accepted={} doubled=0 \
             callbacks={callbacks} read={} failed_late={} gave_up={} unknown_lost={} unknown_killed={} seconds={:.1}",
            self.kills.len(),
            attempts.len(),
            self.read + self.failed,
            self.read,
            self.failed,
            self.gave_up,
            self.lost,
            self.interrupted,
            took.as_secs_f64(),
        );
    }
}
