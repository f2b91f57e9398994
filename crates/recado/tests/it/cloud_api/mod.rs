//! Channels of Meta's Cloud API: the real binary against a Graph API on loopback.

mod callbacks;
mod connect;
mod incoming;
mod killed;
mod kinds;
mod media;
mod outcomes;
mod secrets;
mod sending;
mod storm;

use std::path::PathBuf;
use std::process::Command;

use fake_graph::{FakeGraph, Number};
use serde_json::{Value, json};

use crate::harness::{Answer, Home, Server, recado, wait_for};
use crate::v1::create_key;

/// The number of the tests, as Meta's dashboard shows it.
pub const NUMBER: &str = "106540352242922";
pub const VERIFY_TOKEN: &str = "uma-senha-nossa";
/// The key that encrypts the secrets of the tests.
pub const SECRET_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
pub const ANOTHER_KEY: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";

/// A gateway, and the Graph API that it calls.
pub struct Stage {
    pub home: Home,
    pub server: Server,
    pub graph: FakeGraph,
    /// A live key without a rate limit.
    pub key: String,
}

impl Stage {
    /// A stage with the number [`NUMBER`] and without a channel.
    pub fn set() -> Self {
        Self::with(FakeGraph::start())
    }

    pub fn with(graph: FakeGraph) -> Self {
        graph.add_number(Number::example(NUMBER));
        let home = Home::init();
        let scopes = "messages.send,messages.read,channels.read,channels.write";
        let key = create_key(&home, "live", scopes, "unlimited");
        let server = serve(&home, &graph);
        Self { home, server, graph, key }
    }

    /// A stage with one channel `vendas`, linked to [`NUMBER`], whose callbacks arrive.
    pub fn linked() -> Self {
        let stage = Self::set();
        stage.link("vendas", NUMBER);
        stage.take_callbacks();
        stage
    }

    /// `SIGKILL`, and a new server on another port. Callbacks wait meanwhile.
    pub fn crash(self) -> Self {
        self.graph.send_callbacks_to(None);
        let Self { home, server, graph, key } = self;
        server.kill();
        let server = serve(&home, &graph);
        let stage = Self { home, server, graph, key };
        stage.take_callbacks();
        stage
    }

    /// Sends the callbacks to the address of the app.
    pub fn take_callbacks(&self) {
        self.graph.send_callbacks_to(Some(self.server.url("/v1/callbacks/meta")));
    }

    pub fn create(&self, channel: &str) {
        let body = json!({"name": channel, "type": "WHATSAPP_WABA", "id": channel});
        self.server.post("/v1/channels", &self.key, &body).expect(201);
    }

    pub fn connect(&self, channel: &str, body: &Value) -> Answer {
        self.server.post(&format!("/v1/channels/{channel}/connect"), &self.key, body)
    }

    /// Creates a channel and connects it to a number of the network.
    pub fn link(&self, channel: &str, number: &str) {
        self.create(channel);
        self.connect(channel, &credentials(number)).expect(200);
    }

    pub fn channel(&self, channel: &str) -> Value {
        self.server.get(&format!("/v1/channels/{channel}"), Some(&self.key)).expect(200).json()["data"].clone()
    }

    /// Submits a card. Returns the id of its message.
    pub fn accept(&self, channel: &str, to: &str) -> String {
        let body = json!({"to": to, "name": "Maria Silva", "phone": "5511988887777"});
        let answer =
            self.server.post(&format!("/v1/channels/{channel}/messages/contact"), &self.key, &body).expect(202);
        answer.header("X-Message-Id").expect("an id").to_owned()
    }

    pub fn message(&self, channel: &str, id: &str) -> Value {
        let path = format!("/v1/channels/{channel}/messages/{id}");
        self.server.get(&path, Some(&self.key)).expect(200).json()["data"].clone()
    }

    /// Waits until a message has this state.
    #[track_caller]
    pub fn until(&self, channel: &str, id: &str, status: &str) -> Value {
        let mut message = Value::Null;
        wait_for(&format!("{status} of {id}"), || {
            message = self.message(channel, id);
            message["status"] == status
        });
        message
    }
}

/// The body that links a channel to a number made by [`Number::example`].
pub fn credentials(number: &str) -> Value {
    let number = Number::example(number);
    json!({
        "phoneNumberId": number.id,
        "businessAccountId": number.business_account_id,
        "accessToken": number.access_token,
        "verifyToken": VERIFY_TOKEN,
        "appSecret": number.app_secret,
    })
}

pub fn serve(home: &Home, graph: &FakeGraph) -> Server {
    let mut command = command(home, graph);
    command.args(["serve", "--data-dir", home.dir(), "--listen", "127.0.0.1:0"]);
    Server::start(command, home)
}

/// The binary, with the settings of a server that has such channels.
pub fn command(home: &Home, graph: &FakeGraph) -> Command {
    let mut command = recado();
    command.env("RECADO_SECRET_KEY", SECRET_KEY).env("RECADO_GRAPH_URL", graph.url());
    if let Some(pem) = graph.ca_pem() {
        command.env("SSL_CERT_FILE", ca_file(home, pem));
    }
    command
}

fn ca_file(home: &Home, pem: &str) -> PathBuf {
    let path = home.dir.with_extension("pem");
    std::fs::write(&path, pem).expect("a file");
    path
}
