//! The server is killed between the bytes of a callback and the delivered webhook: each message is stored once, and its
//! event is delivered under one id.
//!
//! `RECADO_TEST_KILLS` sets the number of kills (12), `RECADO_TEST_SEED` repeats the moments of an earlier run.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::thread::sleep;
use std::time::Duration;

use fake_graph::{Delivery, FakeGraph, Number, Person, Said};
use serde_json::{Value, json};

use super::{NUMBER, command, credentials};
use crate::harness::{Home, Server, wait_for};
use crate::load::{Dice, setting};
use crate::v1::{ALL_SCOPES, create_key};
use crate::webhooks::LOOPBACK;
use crate::webhooks::receiver::{Arrival, Receiver, Reply};

const KILLS: u64 = 12;
/// The time from the first callback of a round to the kill, in milliseconds: at least and at most.
const MOMENT: (u64, u64) = (0, 120);
/// The time that the receiver takes for an answer, so that a kill hits deliveries.
const ANSWER: Duration = Duration::from_millis(20);
/// In each round: the callbacks, and the messages of each. Every second callback is posted twice.
const CALLBACKS: usize = 4;
const MESSAGES: usize = 3;
const PEOPLE: usize = 7;

struct Stage {
    home: Home,
    graph: FakeGraph,
    key: String,
    receiver: Receiver,
    /// The network ids of all messages.
    said: BTreeSet<String>,
}

impl Stage {
    fn set(home: Home) -> (Self, Server) {
        let graph = FakeGraph::start();
        graph.add_number(Number::example(NUMBER));
        let key = create_key(&home, "live", ALL_SCOPES, "unlimited");
        let receiver = Receiver::answering(|_, _| Reply::Late(ANSWER));
        let stage = Self { home, graph, key, receiver, said: BTreeSet::new() };
        let server = stage.serve();
        let channel = json!({"name": "vendas", "type": "WHATSAPP_WABA", "id": "vendas"});
        server.post("/v1/channels", &stage.key, &channel).expect(201);
        server.post("/v1/channels/vendas/connect", &stage.key, &credentials(NUMBER)).expect(200);
        let hook = json!({"url": stage.receiver.url("/"), "events": ["message.received"], "order": "conversation"});
        server.post("/v1/webhooks", &stage.key, &hook).expect(201);
        (stage, server)
    }

    fn serve(&self) -> Server {
        let mut command = command(&self.home, &self.graph);
        command.args(["serve", "--data-dir", self.home.dir(), "--listen", "127.0.0.1:0"]).args(LOOPBACK);
        command.envs(self.home.database.as_ref().map(|url| ("RECADO_DATABASE_URL", url)));
        let server = Server::start(command, &self.home);
        self.graph.send_callbacks_to(Some(server.url("/v1/callbacks/meta")));
        server
    }

    fn deliver(&mut self) {
        for callback in 0..CALLBACKS {
            let mut delivery = Delivery::new().times(if callback % 2 == 1 { 2 } else { 1 });
            for _ in 0..MESSAGES {
                let number = self.said.len();
                let person = Person::with_phone(&format!("55119777760{:02}", number % PEOPLE), "Ana");
                let said = Said::text("Oi").with_id(&format!("wamid.{number:06}"));
                self.said.insert(said.id().to_owned());
                delivery = delivery.message(&person, &said);
            }
            self.graph.deliver(NUMBER, &delivery);
        }
    }

    /// The network ids of all stored messages, which must be different.
    fn stored(&self, server: &Server) -> BTreeSet<String> {
        let (mut ids, mut cursor) = (BTreeSet::new(), String::new());
        loop {
            let path = format!("/v1/channels/vendas/messages?direction=INBOUND&limit=100{cursor}");
            let page = server.get(&path, Some(&self.key)).expect(200).json();
            for message in page["data"].as_array().expect("a list") {
                let id = message["networkId"].as_str().expect("an id").to_owned();
                assert!(ids.insert(id.clone()), "{id} was stored twice");
            }
            let Some(next) = page["pagination"]["nextCursor"].as_str() else { return ids };
            cursor = format!("&cursor={next}");
        }
    }

    /// The events of all messages, in the order of the stream: the id of each, its message and its conversation.
    fn events(&self, server: &Server) -> Vec<(String, String, String)> {
        let (mut position, mut events) = ("from=oldest".to_owned(), Vec::new());
        loop {
            let path = format!("/v1/events?limit=500&events=message.received&{position}");
            let page = server.get(&path, Some(&self.key)).expect(200).json();
            let found = page["data"].as_array().expect("a list");
            if found.is_empty() {
                return events;
            }
            events.extend(found.iter().map(of_event));
            position = format!("cursor={}", page["pagination"]["nextCursor"].as_str().expect("a cursor"));
        }
    }
}

fn of_event(event: &Value) -> (String, String, String) {
    let message = &event["data"]["message"];
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    (text(&event["id"]), text(&message["networkId"]), text(&message["conversationId"]))
}

/// The ids of the events of each conversation, in the order in which each first arrived.
fn in_order<'a>(events: impl Iterator<Item = &'a (String, String, String)>) -> BTreeMap<&'a str, Vec<&'a str>> {
    let (mut seen, mut order) = (BTreeSet::new(), BTreeMap::<_, Vec<_>>::new());
    for (id, _, conversation) in events {
        if seen.insert(id) {
            order.entry(&**conversation).or_default().push(&**id);
        }
    }
    order
}

fn kill_between_network_and_webhook(home: Home, kills: u64) {
    let seed = setting("RECADO_TEST_SEED").unwrap_or_else(|| RandomState::new().hash_one(kills));
    println!("RECADO_TEST_SEED={seed} repeats the moments of these {kills} kills");
    let mut dice = Dice(seed);
    let (mut stage, mut server) = Stage::set(home);
    for _ in 0..kills {
        stage.deliver();
        sleep(dice.between(MOMENT));
        // First, because another process may soon use the port. What was posted by then is cut off by the kill.
        stage.graph.send_callbacks_to(None);
        server.kill();
        server = stage.serve();
    }
    // After many kills most callbacks and deliveries are still to come. The waits have no limit as long as they come.
    let mut waiting = u64::MAX;
    while waiting > 0 {
        let before = waiting;
        wait_for(&format!("fewer callbacks than {before} without an acknowledgement"), || {
            waiting = stage.graph.callbacks_waiting();
            waiting < before
        });
    }
    let arrived = |arrivals: &[Arrival]| arrivals.iter().map(|arrival| of_event(&arrival.json())).collect::<Vec<_>>();
    let (mut arrivals, mut heard) = (Vec::new(), 0);
    while heard < stage.said.len() {
        let before = heard;
        wait_for(&format!("more events than the {heard} that came"), || {
            sleep(Duration::from_millis(200));
            arrivals = arrived(&stage.receiver.arrivals());
            heard = arrivals.iter().map(|(_, message, _)| message).collect::<BTreeSet<_>>().len();
            heard > before
        });
    }
    assert_eq!(stage.stored(&server), stage.said);
    let events = stage.events(&server);
    let of_messages: HashMap<_, _> = events.iter().map(|(id, message, _)| (message, id)).collect();
    assert_eq!((events.len(), of_messages.len()), (stage.said.len(), stage.said.len()), "one event for each message");
    for (id, message, _) in &arrivals {
        assert_eq!(of_messages.get(message), Some(&id), "{message} has another event");
    }
    assert_eq!(in_order(arrivals.iter()), in_order(events.iter()));
    let repeated = arrivals.len() - events.len();
    println!("{kills} kills: {} messages, {repeated} requests repeated", events.len());
    // On PostgreSQL the fan-out waits for the lease of the node that was killed, so deliveries begin after the last kill.
    assert!(kills < KILLS || stage.home.database.is_some() || repeated > 0, "no kill hit a delivery");
    assert_eq!(stage.graph.refused_callbacks().len(), 0);
}

#[test]
fn killed_between_the_network_and_the_webhook_it_loses_and_doubles_nothing() {
    kill_between_network_and_webhook(Home::init(), setting("RECADO_TEST_KILLS").unwrap_or(KILLS));
}

#[test]
fn killed_on_postgres_it_loses_and_doubles_nothing() {
    let database = test_postgres::Database::new();
    kill_between_network_and_webhook(Home::on_postgres(database.url()), setting("RECADO_TEST_KILLS").unwrap_or(KILLS));
}
