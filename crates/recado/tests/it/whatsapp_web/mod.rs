//! Channels that a phone links: the real binary against a WhatsApp Web server on loopback.
//!
//! `RECADO_TEST_NODES=1` runs the tests on PostgreSQL, `2` with a second node that has its share of the channels.

mod baileys;
mod identity;
mod kill;
mod kinds;
mod linking;
mod media;
mod nodes;
mod pacing;
mod pairing;
mod people;
mod receiving;
mod reconnecting;
mod secrets;
mod sending;
mod sessions;
mod settings;

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fake_whatsapp::{Account, FakeWhatsApp};
use serde_json::{Value, json};

use crate::harness::{Answer, Home, PATIENCE, Server, recado, wait_for};
use crate::load::setting;
use crate::v1::create_key;

/// The phone that links the channels of the tests.
pub const OWNER: &str = "551140001000";
/// A recipient.
pub const MARIA: &str = "553199990001";
/// Another one.
pub const JOAO: &str = "553199990002";
/// A number that is not on WhatsApp.
pub const NOBODY: &str = "5531900000000";
/// The contact on the cards: typed with the ninth digit, known to the network without it.
pub const TYPED: &str = "5511988887777";
pub const KNOWN: &str = "551188887777";
/// The key that encrypts the sessions of the tests.
const SECRET_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A gateway, and the network that it reaches.
pub struct Stage {
    pub home: Home,
    pub server: Server,
    pub whatsapp: Arc<FakeWhatsApp>,
    /// A live key without a rate limit.
    pub key: String,
}

impl Stage {
    /// A stage with some people on WhatsApp, and no channel.
    pub fn set() -> Self {
        Self::set_on(setting("RECADO_TEST_NODES").unwrap_or(0))
    }

    /// The same with so many nodes on PostgreSQL; 0 is one node with a file.
    pub fn set_on(nodes: u64) -> Self {
        Self::set_in(if nodes > 0 { Home::in_own_database() } else { Home::init() }, nodes)
    }

    /// The same with this store.
    pub fn set_in(mut home: Home, nodes: u64) -> Self {
        let whatsapp = Arc::new(FakeWhatsApp::start());
        whatsapp.add_contact(MARIA, "900000000000002");
        whatsapp.add_contact(KNOWN, "900000000000003");
        whatsapp.add_contact(JOAO, "900000000000004");
        whatsapp.add_alias(TYPED, KNOWN);
        let scopes = "messages.send,messages.read,channels.read,channels.write";
        let key = create_key(&home, "live", scopes, "unlimited");
        let server = serve(&home, &whatsapp);
        if nodes > 1 {
            // At the front, so that the node ends before its database.
            home.held.insert(0, Box::new(nodes::start(&home, "beside", &whatsapp)));
        }
        Self { home, server, whatsapp, key }
    }

    /// A stage with one channel `vendas`, linked by the phone of [`OWNER`], without an interval between messages.
    pub fn linked() -> Self {
        let stage = Self::set();
        stage.link("vendas", &owner());
        stage
    }

    /// `SIGKILL`, and a new server on another port.
    pub fn crash(self) -> Self {
        self.crash_and(|_| ())
    }

    /// The same, with a change of the store in between.
    pub fn crash_and(self, between: impl FnOnce(&mut Home)) -> Self {
        let Self { mut home, server, whatsapp, key } = self;
        server.kill();
        between(&mut home);
        let killed = home.database.as_ref().map(|url| test_postgres::number(url, "SELECT max(id) FROM nodes"));
        let server = serve(&home, &whatsapp);
        if let Some((url, killed)) = home.database.as_ref().zip(killed) {
            // A killed node stays registered for some seconds, and the new node is not registered at once.
            let free = format!(
                "SELECT count(*) FROM channels WHERE deleted_at IS NULL AND coalesce(lease_node NOT IN
                     (SELECT max(id) FROM nodes GROUP BY name HAVING name <> 'first' OR max(id) > {killed}), true)"
            );
            wait_for("every channel to have a node", || test_postgres::number(url, &free) == 0);
        }
        Self { home, server, whatsapp, key }
    }

    /// The number of nodes of this test.
    pub fn nodes(&self) -> usize {
        self.home.database.as_ref().map_or(1, |url| {
            let nodes = test_postgres::number(url, "SELECT count(DISTINCT name) FROM nodes");
            usize::try_from(nodes).expect("a few")
        })
    }

    /// Whether the called server, which may be killed, owns the channel's session.
    pub fn owns_session(&self, channel: &str) -> bool {
        self.home.database.as_ref().is_none_or(|url| {
            let sql =
                "SELECT count(*) FROM channels c JOIN nodes n ON n.id = c.lease_node WHERE n.name = 'first' AND c.id";
            test_postgres::number(url, &format!("{sql} = '{channel}'")) == 1
        })
    }

    pub fn create(&self, channel: &str) {
        let body = json!({"name": channel, "type": "WHATSAPP_BAILEYS", "id": channel});
        self.server.post("/v1/channels", &self.key, &body).expect(201);
        self.settings(channel, &json!({"delayMinSeconds": 0, "delayMaxSeconds": 0}));
    }

    pub fn settings(&self, channel: &str, settings: &Value) {
        let (path, body) = (format!("/v1/channels/{channel}"), json!({"settings": settings}));
        let headers = [("Content-Type", "application/json")];
        self.server.call("PUT", &path, Some(&self.key), &headers, Some(body.to_string().as_bytes())).expect(200);
    }

    pub fn act(&self, channel: &str, action: &str) -> Answer {
        self.server.post(&format!("/v1/channels/{channel}/{action}"), &self.key, &json!({}))
    }

    /// Requests a code to scan. Returns the pairing of the answer.
    pub fn connect(&self, channel: &str) -> Value {
        self.act(channel, "connect").expect(200).json()["data"]["pairing"].clone()
    }

    /// Creates a channel, and links it with a phone.
    pub fn link(&self, channel: &str, account: &Account) {
        self.create(channel);
        let pairing = self.connect(channel);
        self.whatsapp.scan(pairing["code"].as_str().expect("a code"), account).expect("it can be scanned");
        self.until_state(channel, "CONNECTED");
    }

    pub fn get(&self, path: &str) -> Answer {
        self.server.get(path, Some(&self.key))
    }

    pub fn channel(&self, channel: &str) -> Value {
        self.get(&format!("/v1/channels/{channel}")).expect(200).json()["data"].clone()
    }

    pub fn pairing(&self, channel: &str) -> Value {
        self.get(&format!("/v1/channels/{channel}/pairing")).expect(200).json()["data"].clone()
    }

    /// Waits until a channel has this state.
    #[track_caller]
    pub fn until_state(&self, channel: &str, state: &str) -> Value {
        let shown = |seen: &Value| seen["state"] == state;
        wait_to_see(&format!("{channel} to be {state}"), || self.channel(channel), shown)
    }

    /// Submits the card of [`TYPED`]. Returns the id of its message.
    pub fn accept(&self, channel: &str, to: &str) -> String {
        self.accept_card(channel, to, TYPED)
    }

    /// The same with the card of another phone.
    pub fn accept_card(&self, channel: &str, to: &str, phone: &str) -> String {
        let body = json!({"to": to, "name": "Maria Silva - Suporte", "phone": phone});
        let path = format!("/v1/channels/{channel}/messages/contact");
        self.server.post(&path, &self.key, &body).expect(202).header("X-Message-Id").expect("an id").to_owned()
    }

    pub fn message(&self, channel: &str, id: &str) -> Value {
        self.get(&format!("/v1/channels/{channel}/messages/{id}")).expect(200).json()["data"].clone()
    }

    /// Waits until a message has this status. A status that lasts only a moment is missed: if the recipient reads at once,
    /// that is every status before `READ`.
    #[track_caller]
    pub fn until(&self, channel: &str, id: &str, status: &str) -> Value {
        let reached = |seen: &Value| seen["status"] == status;
        wait_to_see(&format!("{status} of {id}"), || self.message(channel, id), reached)
    }
}

pub fn owner() -> Account {
    Account::new(OWNER, "900000000000001")
}

/// The current time of the network.
#[expect(clippy::disallowed_methods, reason = "the server under test has the machine's clock")]
pub fn unix_seconds() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// A server of this home that reaches this network.
pub fn serve(home: &Home, whatsapp: &FakeWhatsApp) -> Server {
    if home.database.is_some() {
        return nodes::start(home, "first", whatsapp);
    }
    let mut command = command(whatsapp);
    command.args(["serve", "--data-dir", home.dir(), "--listen", "127.0.0.1:0"]);
    Server::start(command, home)
}

/// The binary, with the settings of a server that has such channels.
pub fn command(whatsapp: &FakeWhatsApp) -> Command {
    let mut command = recado();
    command.env("RECADO_SECRET_KEY", SECRET_KEY).env("RECADO_WHATSAPP_WEB_URL", whatsapp.url());
    // Receivers of webhooks are on this machine.
    command.env("RECADO_ALLOW_NETWORKS", "127.0.0.0/8");
    command
}

/// Polls `look` until `done` accepts its result, and returns the result. After [`PATIENCE`] the test fails with the last
/// result.
#[track_caller]
fn wait_to_see<T: std::fmt::Debug>(what: &str, look: impl Fn() -> T, done: impl Fn(&T) -> bool) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        let seen = look();
        if done(&seen) {
            return seen;
        }
        assert!(Instant::now() < end, "waited in vain for {what}; seen last: {seen:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
