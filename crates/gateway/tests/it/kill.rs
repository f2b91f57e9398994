//! The server is killed at random moments under load: nothing that it accepted is lost, doubled or out of order.
//!
//! `RECADO_TEST_KILLS` sets how often (20), `RECADO_TEST_SEED` repeats the moments of an earlier run.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::panic::resume_unwind;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{ScopedJoinHandle, scope, sleep};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Home, PATIENCE, Server, agent, call, wait_for};

const CHANNELS: usize = 20;
/// How long the load lies on the server before a kill, in milliseconds: at least and at most.
const LOAD: (u64, u64) = (200, 900);
/// The kills that every run of the tests makes.
const KILLS: u64 = 20;
const ACCEPTED: &str = r#"{"success":true,"message":"Mensagem enfileirada para envio"}"#;

#[test]
fn killed_at_random_moments_it_loses_and_doubles_nothing() {
    let kills = setting("RECADO_TEST_KILLS").unwrap_or(KILLS);
    let seed = setting("RECADO_TEST_SEED").unwrap_or_else(|| RandomState::new().hash_one(kills));
    println!("RECADO_TEST_SEED={seed} repeats the moments of these {kills} kills");
    let mut dice = Dice(seed);
    let home = Home::init();
    let load = Load::new(home.unlimited_key(), pause(kills), card);
    let mut server = home.serve();
    (0..CHANNELS).for_each(|channel| open_channel(&server, &load.key, &channel_id(channel)));
    load.enter(&server);
    let (server, senders) = scope(|scope| {
        let run = |channel| Sender::new(channel, &load).run();
        let threads: Vec<_> = (0..CHANNELS).map(|channel| scope.spawn(move || run(channel))).collect();
        for _ in 0..kills {
            sleep(dice.between(LOAD));
            server.kill();
            load.leave();
            server = home.serve();
            load.enter(&server);
            // A sender that ended has failed: its reason follows when it is joined.
            if threads.iter().any(ScopedJoinHandle::is_finished) {
                break;
            }
        }
        load.stop.store(true, SeqCst);
        (server, threads.into_iter().map(join).collect::<Vec<_>>())
    });
    wait_until_read(&server, &load.key, &senders);
    check(kills, &senders, &phone(&server, &load.key));
    the_fate_can_be_asked_for(&server, &load.key, &senders);
}

/// What the thread gives, or its failure as one of this test.
pub fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// A number from the environment.
pub fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

/// How long a sender rests after a card, so that the check at the end stays small, whatever the machine can do: some
/// 20,000 cards in all, and in a run of very many kills at least 200 between two of them.
fn pause(kills: u64) -> Duration {
    let cards = 20_000.max(200 * kills);
    Duration::from_millis(kills * u64::midpoint(LOAD.0, LOAD.1) * CHANNELS as u64 / cards)
}

pub fn channel_id(channel: usize) -> String {
    format!("c{channel:02}")
}

pub fn card_name(channel: usize, number: usize) -> String {
    format!("c{channel:02} n{number:06}")
}

fn card(channel: usize, number: usize) -> String {
    let name = card_name(channel, number);
    json!({"to": format!("55119800000{channel:02}"), "name": name, "phone": "5511988887777"}).to_string()
}

fn open_channel(server: &Server, key: &str, id: &str) {
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

/// What the senders share.
pub struct Load {
    pub key: String,
    pause: Duration,
    /// What a sender calls with, by its channel and the card's number.
    card: fn(usize, usize) -> String,
    pub stop: AtomicBool,
    /// Where the server answers now. `None` between two servers: the old port may belong to a stranger by then.
    address: RwLock<Option<String>>,
}

impl Load {
    pub fn new(key: String, pause: Duration, card: fn(usize, usize) -> String) -> Self {
        Self { key, pause, card, stop: AtomicBool::new(false), address: RwLock::new(None) }
    }

    pub fn enter(&self, server: &Server) {
        *self.address.write().expect("not poisoned") = Some(server.address.clone());
    }

    pub fn leave(&self) {
        *self.address.write().expect("not poisoned") = None;
    }

    fn address(&self) -> String {
        let now = || self.address.read().expect("not poisoned").clone();
        wait_for("the next server", || now().is_some());
        // It may just have left again; the call to nowhere is one without an answer.
        now().unwrap_or_else(|| "127.0.0.1:1".to_owned())
    }
}

/// Sends one card after another through one channel.
pub struct Sender<'a> {
    load: &'a Load,
    pub channel: usize,
    agent: ureq::Agent,
    /// The message id of every accepted card, in the order of sending.
    pub ids: Vec<String>,
    /// Calls that were made again with their key, because there was no answer.
    pub repeated: usize,
    /// Cards whose 202 was lost: the repeat was told that the first call had been taken.
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
            self.replayed += usize::from(replayed);
            // After a kill the server still knows the card that it accepted last before it; now and then also without.
            if self.repeated > repeated || number.is_multiple_of(32) {
                self.ask_again(number.saturating_sub(1));
            }
            sleep(self.load.pause);
        }
        self
    }

    /// Calls until the card has its 202; gives its message id, and whether an earlier call had been taken.
    fn deliver(&mut self, number: usize) -> (String, bool) {
        let idempotency_key = format!("c{:02}-{number}", self.channel);
        let headers = [("Content-Type", "application/json"), ("Idempotency-Key", &idempotency_key)];
        let card = (self.load.card)(self.channel, number);
        let end = Instant::now() + 2 * PATIENCE;
        loop {
            let url = format!("http://{}/v1/channels/c{:02}/messages/contact", self.load.address(), self.channel);
            let key = Some(self.load.key.as_str());
            let failure = match call(&self.agent, &url, "POST", key, &headers, Some(card.as_bytes())) {
                // "Come again", as the contract allows a server to say at any time.
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
            sleep(Duration::from_millis(5));
        }
    }

    /// Repeats an accepted call: it is told the same id, and that nothing new was made.
    fn ask_again(&mut self, number: usize) {
        let (id, replayed) = self.deliver(number);
        assert_eq!((&id, replayed), (&self.ids[number], true), "{} again", card_name(self.channel, number));
    }
}

/// A card as the sandbox phone shows it.
struct Shown {
    name: String,
    network_id: String,
    arrivals: u64,
}

/// What the phone shows, in the order of first arrival.
fn phone(server: &Server, key: &str) -> Vec<Shown> {
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
            assert!(name.starts_with(&text("/channelId")), "a card came through the wrong channel: {row}");
            shown.push(Shown { name, network_id, arrivals });
        }
        match page["pagination"]["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    shown.reverse();
    shown
}

/// Waits until nothing is under way, then finds that all of it ended well.
fn wait_until_read(server: &Server, key: &str, senders: &[Sender<'_>]) {
    let any = |channel: usize, status: &str| {
        let path = format!("/v1/channels/c{channel:02}/messages?status={status}&limit=1");
        server.get(&path, Some(key)).expect(200).json()["data"].as_array().expect("a list").first().cloned()
    };
    for sender in senders {
        for status in ["QUEUED", "SENDING", "SENT", "DELIVERED"] {
            let what = format!("no message of channel {} to be {status}", sender.channel);
            wait_for(&what, || any(sender.channel, status).is_none());
        }
    }
    for sender in senders {
        // All of them again, because a message on its way could have slipped from one state to another unseen.
        for status in ["QUEUED", "SENDING", "SENT", "DELIVERED", "FAILED", "EXPIRED", "CANCELLED", "UNKNOWN"] {
            assert_eq!(any(sender.channel, status), None, "channel {}", sender.channel);
        }
        assert!(any(sender.channel, "READ").is_some(), "channel {} sent nothing", sender.channel);
    }
}

/// The first and the last card of every sender can be found under the id that its 202 named.
fn the_fate_can_be_asked_for(server: &Server, key: &str, senders: &[Sender<'_>]) {
    for (sender, number) in senders.iter().flat_map(|sender| [(sender, 0), (sender, sender.ids.len() - 1)]) {
        let path = format!("/v1/channels/c{:02}/messages/{}", sender.channel, sender.ids[number]);
        let message = server.get(&path, Some(key)).expect(200).json()["data"].clone();
        let name = card_name(sender.channel, number);
        assert_eq!((&message["status"], &message["contact"]["name"]), (&json!("READ"), &json!(name)), "{message}");
    }
}

/// What was accepted against what the phone shows.
fn check(kills: u64, senders: &[Sender<'_>], shown: &[Shown]) {
    let all = |sender: &Sender<'_>| (0..sender.ids.len()).map(|number| card_name(sender.channel, number)).collect();
    let lines: Vec<Vec<String>> = senders.iter().map(all).collect();
    let sent: HashSet<&str> = lines.iter().flatten().map(String::as_str).collect();
    let on_phone: HashSet<&str> = shown.iter().map(|card| card.name.as_str()).collect();
    let network_ids: HashSet<&str> = shown.iter().map(|card| card.network_id.as_str()).collect();
    let ids: HashSet<&str> = senders.iter().flat_map(|sender| &sender.ids).map(String::as_str).collect();
    let (accepted, distinct, doubled) = (sent.len(), network_ids.len(), shown.len() - on_phone.len());
    let arrivals: u64 = shown.iter().map(|card| card.arrivals).sum();
    let resent = arrivals - distinct as u64;
    let lost: Vec<_> = sent.difference(&on_phone).collect();
    let sum = |count: fn(&Sender<'_>) -> usize| senders.iter().map(count).sum::<usize>();
    let (repeated, replayed) = (sum(|sender| sender.repeated), sum(|sender| sender.replayed));
    println!(
        "kills={kills} accepted={accepted} arrivals={arrivals} distinct={distinct} re-sent={resent} lost={} \
         doubled={doubled} repeated_calls={repeated} of_them_lost_202s={replayed}",
        lost.len(),
    );
    assert!(lost.is_empty(), "accepted, and not on the phone: {lost:?}");
    assert_eq!(on_phone.difference(&sent).next(), None, "on the phone, and never sent");
    assert_eq!(doubled, 0, "on the phone more than once");
    assert_eq!(distinct, accepted, "network ids on the phone, cards accepted");
    assert_eq!(ids.len(), accepted, "message ids told to callers, cards accepted");
    for (sender, sent) in senders.iter().zip(&lines) {
        let channel = channel_id(sender.channel);
        let line = shown.iter().map(|card| &card.name).filter(|name| name.starts_with(&channel));
        let wrong = line.zip(sent).find(|(arrived, sent)| arrived != sent);
        assert_eq!(wrong, None, "what arrived, where the sender's order has the other");
    }
    assert!(repeated > 0, "no kill hit a call");
    // In a short run no kill need fall between a hand-over and the note of it.
    assert!(kills < KILLS || resent > 0, "nothing was sent again: the kills proved little");
}

#[test]
fn a_stop_breaks_no_call_and_forgets_no_202() {
    let home = Home::init();
    let key = home.unlimited_key();
    let server = home.serve();
    (0..CHANNELS).for_each(|channel| open_channel(&server, &key, &channel_id(channel)));
    // In hand for certain: the server asked for the body, and gets it only after it has closed its door.
    let held: Vec<_> = (0..5).map(|number| (number, hold(&server, &key, number))).collect();
    // A connection on which nobody calls must not keep it from ending.
    let _idle = TcpStream::connect(&server.address).expect("a connection");
    let stopping = AtomicBool::new(false);
    let mut accepted = scope(|scope| {
        let hammer = |channel| call_until_refused(&server, &key, channel, &stopping);
        let threads: Vec<_> = (1..CHANNELS).map(|channel| scope.spawn(move || hammer(channel))).collect();
        sleep(Duration::from_millis(300));
        stopping.store(true, SeqCst);
        server.terminate();
        threads.into_iter().flat_map(join).collect::<HashSet<_>>()
    });
    wait_for("the door to be closed", || TcpStream::connect(&server.address).is_err());
    for (number, mut stream) in held {
        stream.write_all(card(0, number).as_bytes()).expect("the server listens to a call that is in hand");
        let status = answer(stream).expect("an answer to a call that was in hand");
        accepted.extend((status == 202).then(|| card_name(0, number)));
    }
    assert_eq!(server.wait().code(), Some(0));
    assert_ne!(accepted.len(), 0);
    let server = home.serve();
    let mut shown = Vec::new();
    wait_for("every accepted card on the phone", || {
        shown = phone(&server, &key).into_iter().map(|card| card.name).collect();
        accepted.iter().all(|name| shown.contains(name))
    });
    let distinct: HashSet<_> = shown.iter().collect();
    assert_eq!(distinct.len(), shown.len(), "a card is on the phone more than once");
}

/// The head of a call, on a connection of its own.
fn head(server: &Server, key: &str, channel: usize, length: usize, more: &str) -> String {
    format!(
        "POST /v1/channels/c{channel:02}/messages/contact HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
         Authorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{more}\r\n",
        server.address
    )
}

/// Begins a call, and waits until the server wants its body.
fn hold(server: &Server, key: &str, number: usize) -> TcpStream {
    let mut stream = TcpStream::connect(&server.address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let head = head(server, key, 0, card(0, number).len(), "Expect: 100-continue\r\n");
    stream.write_all(head.as_bytes()).expect("the head is taken");
    let mut go_on = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    stream.read_exact(&mut go_on).expect("the server wants the body");
    assert!(go_on.starts_with(b"HTTP/1.1 100 "), "{}", String::from_utf8_lossy(&go_on));
    stream
}

/// Calls, each time on a new connection, until the server is gone; gives the names of the accepted cards.
fn call_until_refused(server: &Server, key: &str, channel: usize, stopping: &AtomicBool) -> Vec<String> {
    let mut accepted = Vec::new();
    for number in 0.. {
        let card = card(channel, number);
        let status = TcpStream::connect(&server.address).ok().and_then(|mut stream| {
            let head = head(server, key, channel, card.len(), "");
            let _ = stream.write_all(format!("{head}{card}").as_bytes());
            answer(stream)
        });
        match status {
            Some(202) => accepted.push(card_name(channel, number)),
            Some(_) => {}
            // Refused, or taken by the system and never by the server.
            None => break,
        }
    }
    assert!(stopping.load(SeqCst), "a call had no answer before the stop");
    accepted
}

/// The status of a complete answer; `None` when there is not one byte of it. A broken one fails the test.
fn answer(mut stream: TcpStream) -> Option<u16> {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut bytes = Vec::new();
    // After a reset, what was read before it is still there.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).expect("UTF-8");
    if text.is_empty() {
        return None;
    }
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("half a head: {text:?}"));
    let length = format!("content-length: {}", body.len());
    assert!(head.lines().any(|line| line.eq_ignore_ascii_case(&length)), "half a body: {text:?}");
    match head.split(' ').nth(1) {
        Some("202") => assert_eq!(body, ACCEPTED),
        status => assert_eq!(status, Some("503"), "{text}"),
    }
    head.split(' ').nth(1)?.parse().ok()
}
