//! A load of cards on servers that are killed meanwhile, and the checks afterwards.

use std::collections::HashSet;
use std::panic::resume_unwind;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{ScopedJoinHandle, sleep};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{PATIENCE, Server, agent, call, wait_for};

/// The answer to an accepted call.
pub const ACCEPTED: &str = r#"{"success":true,"message":"Mensagem enfileirada para envio"}"#;

/// The sandbox number whose network accepts a card and loses the answer: each such card is sent twice without any failure of
/// ours.
pub const LOST_ANSWER: &str = "5511900000005";

/// The result of the thread, or its failure as a failure of this test.
pub fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// A number from the environment.
pub fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

pub fn channel_id(channel: usize) -> String {
    format!("c{channel:03}")
}

pub fn card_name(channel: usize, number: usize) -> String {
    format!("c{channel:03} n{number:06}")
}

pub fn card(channel: usize, number: usize) -> String {
    let name = card_name(channel, number);
    json!({"to": format!("5511980000{channel:03}"), "name": name, "phone": "5511988887777"}).to_string()
}

pub fn open_channel(server: &Server, key: &str, id: &str) {
    server.post("/v1/channels", key, &json!({"name": id, "type": "SANDBOX", "id": id})).expect(201);
    let answer = server.call("POST", &format!("/v1/channels/{id}/connect"), Some(key), &[], None).expect(200);
    assert_eq!(answer.json()["data"]["state"], "CONNECTED");
}

/// A small generator of random numbers (splitmix64), because a run must be repeatable.
pub struct Dice(pub u64);

impl Dice {
    pub fn between(&mut self, (low, high): (u64, u64)) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Duration::from_millis(low + (mixed ^ (mixed >> 31)) % (high - low))
    }
}

/// The state that the senders share.
pub struct Load {
    pub key: String,
    pause: Duration,
    /// The body of a sender's call, by its channel and the card's number.
    card: fn(usize, usize) -> String,
    pub stop: AtomicBool,
    /// The cards that were accepted so far.
    pub accepted: AtomicUsize,
    /// The calls that were repeated so far, because there was no answer or a 503.
    pub repeated: AtomicUsize,
    /// The addresses of the running servers. A killed server is removed, because another process may use its port by then.
    addresses: RwLock<Vec<String>>,
}

impl Load {
    pub fn new(key: String, pause: Duration, card: fn(usize, usize) -> String) -> Self {
        let (stop, accepted, repeated) = Default::default();
        Self { key, pause, card, stop, accepted, repeated, addresses: RwLock::default() }
    }

    pub fn enter(&self, server: &Server) {
        self.addresses.write().expect("not poisoned").push(server.address.clone());
    }

    pub fn leave(&self, address: &str) {
        self.addresses.write().expect("not poisoned").retain(|known| known != address);
    }

    /// One of the addresses; another number gets another one.
    pub fn address(&self, number: usize) -> String {
        let now = || {
            let addresses = self.addresses.read().expect("not poisoned");
            (!addresses.is_empty()).then(|| addresses[number % addresses.len()].clone())
        };
        wait_for("the next server", || now().is_some());
        // It may just have been removed; a call to this address gets no answer.
        now().unwrap_or_else(|| "127.0.0.1:1".to_owned())
    }
}

/// Stops the senders when it is dropped, also if a test fails while they run, because their threads are joined.
pub struct StopAtEnd<'a>(pub &'a Load);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, SeqCst);
    }
}

/// Sends one card after another through one channel.
pub struct Sender<'a> {
    load: &'a Load,
    pub channel: usize,
    agent: ureq::Agent,
    /// The message id of every accepted card, in the order of sending.
    pub ids: Vec<String>,
    /// Calls that were repeated with their key, because there was no answer.
    pub repeated: usize,
    /// Cards whose 202 was lost: the repeated call reported that the first one had been accepted.
    replayed: usize,
}

impl<'a> Sender<'a> {
    pub fn new(channel: usize, load: &'a Load) -> Self {
        Self { load, channel, agent: agent(), ids: Vec::new(), repeated: 0, replayed: 0 }
    }

    pub fn run(mut self) -> Self {
        while !self.load.stop.load(SeqCst) {
            let number = self.ids.len();
            let repeated = self.repeated;
            let (id, replayed) = self.deliver(number);
            self.ids.push(id);
            self.load.accepted.fetch_add(1, SeqCst);
            self.replayed += usize::from(replayed);
            // After a kill the server still knows the last card that it accepted before. This is checked sometimes without a
            // kill, too.
            if self.repeated > repeated || number.is_multiple_of(32) {
                self.ask_again(number.saturating_sub(1));
            }
            sleep(self.load.pause);
        }
        self
    }

    /// Calls until the card is accepted. Returns its message id, and whether an earlier call had been accepted.
    fn deliver(&mut self, number: usize) -> (String, bool) {
        let idempotency_key = format!("c{:03}-{number}", self.channel);
        let headers = [("Content-Type", "application/json"), ("Idempotency-Key", &idempotency_key)];
        let card = (self.load.card)(self.channel, number);
        let end = Instant::now() + 2 * PATIENCE;
        loop {
            let url = format!(
                "http://{}/v1/channels/c{:03}/messages/contact",
                self.load.address(self.channel + number + self.repeated),
                self.channel
            );
            let key = Some(self.load.key.as_str());
            let failure = match call(&self.agent, &url, "POST", key, &headers, Some(card.as_bytes())) {
                // A 503, which the contract permits at any time.
                Ok(answer) if answer.status == 503 => answer.text().to_owned(),
                Ok(answer) => {
                    let answer = answer.expect(202);
                    assert_eq!(answer.text(), ACCEPTED);
                    let id = answer.header("X-Message-Id").expect("the id of the message").to_owned();
                    return (id, answer.header("Idempotent-Replayed") == Some("true"));
                }
                Err(error) => error.to_string(),
            };
            assert!(Instant::now() < end, "{idempotency_key} is not accepted: {failure}");
            self.repeated += 1;
            self.load.repeated.fetch_add(1, SeqCst);
            sleep(Duration::from_millis(5));
        }
    }

    /// Repeats an accepted call: it returns the same id, and creates nothing.
    fn ask_again(&mut self, number: usize) {
        let (id, replayed) = self.deliver(number);
        assert_eq!((&id, replayed), (&self.ids[number], true), "{} again", card_name(self.channel, number));
    }
}

/// A card in the sandbox inbox.
pub struct Shown {
    pub name: String,
    pub network_id: String,
    pub arrivals: u64,
    /// The arrivals that are expected.
    owed: u64,
}

/// The cards in the inbox, in the order of first arrival.
pub fn phone(server: &Server, key: &str) -> Vec<Shown> {
    let agent = agent();
    let mut shown = Vec::new();
    let mut cursor = String::new();
    loop {
        let url = server.url(&format!("/v1/sandbox/messages?limit=100{cursor}"));
        let page = call(&agent, &url, "GET", Some(key), &[], None).expect("an answer").expect(200).json();
        for row in page["data"].as_array().expect("a list") {
            let text = |name: &str| row.pointer(name).and_then(|value| value.as_str()).expect(name).to_owned();
            let arrivals = row["arrivals"].as_u64().filter(|arrivals| *arrivals > 0).expect("arrivals");
            let (name, network_id) = (text("/contact/name"), text("/networkId"));
            let owed = if text("/to") == LOST_ANSWER { 2 } else { 1 };
            assert!(name.starts_with(&text("/channelId")), "a card came through the wrong channel: {row}");
            shown.push(Shown { name, network_id, arrivals, owed });
        }
        match page["pagination"]["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    shown.reverse();
    shown
}

/// Waits until no message is in flight, then checks that all of them ended well.
pub fn wait_until_read(server: &Server, key: &str, senders: &[Sender<'_>]) {
    let any = |channel: usize, status: &str| {
        let path = format!("/v1/channels/c{channel:03}/messages?status={status}&limit=1");
        server.get(&path, Some(key)).expect(200).json()["data"].as_array().expect("a list").first().cloned()
    };
    for sender in senders {
        for status in ["QUEUED", "SENDING", "SENT", "DELIVERED"] {
            let what = format!("no message of channel {} to be {status}", sender.channel);
            wait_for(&what, || any(sender.channel, status).is_none());
        }
    }
    for sender in senders {
        // All of them again, because a message in flight could have changed from one state to another unseen.
        for status in ["QUEUED", "SENDING", "SENT", "DELIVERED", "FAILED", "EXPIRED", "CANCELLED", "UNKNOWN"] {
            assert_eq!(any(sender.channel, status), None, "channel {}", sender.channel);
        }
        assert!(any(sender.channel, "READ").is_some(), "channel {} sent nothing", sender.channel);
    }
}

/// The first and the last card of every sender can be read under the id that its 202 named.
pub fn check_that_messages_can_be_read(server: &Server, key: &str, senders: &[Sender<'_>]) {
    for (sender, number) in senders.iter().flat_map(|sender| [(sender, 0), (sender, sender.ids.len() - 1)]) {
        let path = format!("/v1/channels/c{:03}/messages/{}", sender.channel, sender.ids[number]);
        let message = server.get(&path, Some(key)).expect(200).json()["data"].clone();
        let name = card_name(sender.channel, number);
        assert_eq!((&message["status"], &message["contact"]["name"]), (&json!("READ"), &json!(name)), "{message}");
    }
}

/// Evidence that the faults had an effect.
pub struct Counted {
    /// Calls that were repeated, because there was no answer.
    pub repeated: usize,
    /// Cards that were sent again although the network had lost no answer: a process was stopped between a card's arrival
    /// and its record.
    pub resent: u64,
}

/// Compares the accepted cards with the inbox.
pub fn check(faults: u64, senders: &[Sender<'_>], shown: &[Shown]) -> Counted {
    let all = |sender: &Sender<'_>| (0..sender.ids.len()).map(|number| card_name(sender.channel, number)).collect();
    let lines: Vec<Vec<String>> = senders.iter().map(all).collect();
    let sent: HashSet<&str> = lines.iter().flatten().map(String::as_str).collect();
    let on_phone: HashSet<&str> = shown.iter().map(|card| card.name.as_str()).collect();
    let network_ids: HashSet<&str> = shown.iter().map(|card| card.network_id.as_str()).collect();
    let ids: HashSet<&str> = senders.iter().flat_map(|sender| &sender.ids).map(String::as_str).collect();
    let (accepted, distinct, doubled) = (sent.len(), network_ids.len(), shown.len() - on_phone.len());
    let arrivals: u64 = shown.iter().map(|card| card.arrivals).sum();
    let resent = shown.iter().map(|card| card.arrivals.saturating_sub(card.owed)).sum();
    let lost: Vec<_> = sent.difference(&on_phone).collect();
    let sum = |count: fn(&Sender<'_>) -> usize| senders.iter().map(count).sum::<usize>();
    let (repeated, replayed) = (sum(|sender| sender.repeated), sum(|sender| sender.replayed));
    println!(
        "faults={faults} accepted={accepted} arrivals={arrivals} distinct={distinct} re-sent={resent} lost={} \
         doubled={doubled} repeated_calls={repeated} of_them_lost_202s={replayed}",
        lost.len(),
    );
    assert!(lost.is_empty(), "accepted, and not on the phone: {lost:?}");
    assert_eq!(on_phone.difference(&sent).next(), None, "on the phone, and never sent");
    assert_eq!(doubled, 0, "on the phone more than once");
    assert_eq!(distinct, accepted, "network ids on the phone, cards accepted");
    assert_eq!(ids.len(), accepted, "message ids in the answers, cards accepted");
    for (sender, sent) in senders.iter().zip(&lines) {
        let channel = channel_id(sender.channel);
        let line = shown.iter().map(|card| &card.name).filter(|name| name.starts_with(&channel));
        let wrong = line.zip(sent).find(|(arrived, sent)| arrived != sent);
        assert_eq!(wrong, None, "what arrived, where the sender's order has the other");
    }
    Counted { repeated, resent }
}
