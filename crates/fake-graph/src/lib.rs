//! Simulates Meta's Graph API on loopback, as far as the WhatsApp Cloud API needs it, for the tests of the gateway and for
//! the bench. The gateway under test is another process that calls [`FakeGraph::url`]. The test sets the network's behaviour
//! in process:
//!
//! ```
//! use std::time::Duration;
//! use fake_graph::{Answer, Behaviour, Callback, FakeGraph, GraphError, Number, Status};
//!
//! let graph = FakeGraph::start();
//! graph.add_number(Number::example("106540352242922"));
//! graph.behave(|attempt| match &*attempt.to {
//!     // Accepted, but the answer is lost; the last callback comes first, and one comes twice.
//!     "5511999990001" => Behaviour::accept()
//!         .answering(Answer::Lost)
//!         .calling_back([Status::Read.into(), Callback::from(Status::Sent).times(2)]),
//!     "5511999990002" => Behaviour::refuse(GraphError::new(429, 130_429, "(#130429) Rate limit hit")),
//!     _ => Behaviour::accept().after(Duration::from_millis(50)),
//! });
//! graph.send_callbacks_to(Some("http://127.0.0.1:8080/v1/webhooks/meta".to_owned()));
//! assert!(graph.invalid_bodies().is_empty());
//! ```
//!
//! Like Meta, it gives every accepted message its own id, even if a message comes twice; it checks sends against Meta's own
//! schema; and it posts a callback repeatedly until it is answered with 200.

mod attempt;
mod behaviour;
mod body;
mod callbacks;
mod calls;
mod clock;
mod error;
mod files;
mod incoming;
mod network;
mod server;
mod signature;
mod tls;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use hyper::body::Bytes;
use serde_json::Value;

use network::{Network, lock};
use server::Server;

pub use attempt::{Attempt, account};
pub use behaviour::{Answer, Behaviour, Callback, Signed, Status};
pub use error::GraphError;
pub use files::{File, FileCalls, Serving};
pub use incoming::{Delivery, Person, Said};
pub use signature::signature;

/// A sending number, with its account and app.
#[derive(Clone)]
pub struct Number {
    /// The phone number id, as in paths.
    pub id: String,
    pub business_account_id: String,
    pub access_token: String,
    /// The secret that signs callbacks. Without it they are not signed.
    pub app_secret: Option<String>,
    pub display_phone_number: String,
    pub verified_name: String,
}

impl Number {
    /// A number with this id, and example values for the rest.
    pub fn example(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            business_account_id: "102290129340398".to_owned(),
            access_token: format!("EAAG{id}ZD"),
            app_secret: Some("f1e2d3c4b5a697887766554433221100".to_owned()),
            display_phone_number: "+55 11 4000-0000".to_owned(),
            verified_name: "Recado".to_owned(),
        }
    }
}

/// A callback that was answered with another status than 200.
#[derive(Debug, Clone)]
pub struct RefusedCallback {
    pub status: u16,
    pub body: String,
}

/// The running network. It ends when dropped, with its waiting callbacks.
pub struct FakeGraph {
    // The first field is dropped first: the server must stop before the others are dropped.
    server: Server,
    network: Arc<Network>,
    ca_pem: Option<String>,
}

impl FakeGraph {
    /// HTTP/1.1 without TLS, on a free port of loopback.
    pub fn start() -> Self {
        let network = Arc::new(Network::new());
        Self { server: Server::start(network.clone(), None), network, ca_pem: None }
    }

    /// The same over TLS; a client may choose HTTP/2. It must trust [`FakeGraph::ca_pem`].
    pub fn start_with_tls() -> Self {
        let (config, ca_pem) = tls::loopback();
        let network = Arc::new(Network::new());
        Self { server: Server::start(network.clone(), Some(config)), network, ca_pem: Some(ca_pem) }
    }

    /// Its address: `http://127.0.0.1:PORT`, or `https`.
    pub fn url(&self) -> String {
        let scheme = if self.ca_pem.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.server.address)
    }

    /// The certificate authority of the server's certificate, as PEM for `SSL_CERT_FILE`; `None` without TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Adds a number, or replaces the one with its id.
    pub fn add_number(&self, number: Number) {
        lock(&self.network.numbers).insert(number.id.clone(), number);
    }

    /// Sets the access token of a number. From now on the former one is refused with code 190.
    pub fn set_access_token(&self, number_id: &str, token: &str) {
        let mut numbers = lock(&self.network.numbers);
        let number = numbers.get_mut(number_id).expect("a number that was added");
        token.clone_into(&mut number.access_token);
    }

    /// Adds a file that a person sent, or replaces the one with its id.
    pub fn put_file(&self, id: &str, file: File) {
        lock(&self.network.files).insert(id.to_owned(), file);
    }

    /// Deletes a file. From now on Graph does not know its id.
    pub fn delete_file(&self, id: &str) {
        lock(&self.network.files).remove(id);
    }

    /// How often a file was asked for since it was added.
    pub fn file_calls(&self, id: &str) -> FileCalls {
        lock(&self.network.files)[id].calls()
    }

    /// The address for callbacks. While it is `None`, they wait.
    pub fn send_callbacks_to(&self, url: Option<String>) {
        self.network.callbacks_to.send_replace(url);
    }

    /// Called from now on for every send with the right token and a valid body, in order. Without it every such send is
    /// [`Behaviour::accept`]. It must not block: no other call is answered while it runs.
    pub fn behave(&self, behave: impl FnMut(&Attempt) -> Behaviour + Send + 'static) {
        *lock(&self.network.behave) = Box::new(behave);
    }

    /// Every send so far, in order.
    pub fn attempts(&self) -> Vec<Attempt> {
        lock(&self.network.attempts).clone()
    }

    /// The sends whose body Meta would refuse. A test of a gateway should check at its end that there are none.
    pub fn invalid_bodies(&self) -> Vec<Attempt> {
        lock(&self.network.attempts).iter().filter(|attempt| !attempt.faults.is_empty()).cloned().collect()
    }

    /// The messages that numbers marked as read, each with the id of the number, in order.
    pub fn reads(&self) -> Vec<(String, String)> {
        lock(&self.network.reads).clone()
    }

    /// The number of accepted messages.
    pub fn accepted(&self) -> u64 {
        self.network.accepted.load(Relaxed)
    }

    /// The number of callbacks that are not acknowledged yet, including those whose time has not come.
    pub fn callbacks_waiting(&self) -> u64 {
        self.network.callbacks_waiting.load(Relaxed)
    }

    /// The number of callbacks that were answered with 200.
    pub fn callbacks_acknowledged(&self) -> u64 {
        self.network.callbacks_acknowledged.load(Relaxed)
    }

    /// Every answer to a callback that was not 200.
    pub fn refused_callbacks(&self) -> Vec<RefusedCallback> {
        lock(&self.network.refused).clone()
    }

    /// Posts a callback of the test: statuses of accepted messages of one number in one body, correctly signed. It waits
    /// with the others until it is acknowledged.
    pub fn call_back(&self, statuses: &[(&Attempt, Status)]) {
        let (first, _) = statuses.first().expect("a callback has a status");
        let number = lock(&self.network.numbers)[&first.number_id].clone();
        assert!(statuses.iter().all(|(attempt, _)| attempt.number_id == number.id), "a callback is of one number");
        let statuses = statuses.iter().map(|(attempt, status)| callbacks::entry(attempt, status, true));
        let body = callbacks::payload(&number, &statuses.collect::<Vec<_>>());
        self.post(number, &body, 1, Signed::Rightly);
    }

    /// Posts a callback of what people wrote to a number. It waits with the others until it is acknowledged.
    pub fn deliver(&self, number_id: &str, delivery: &Delivery) {
        let number = lock(&self.network.numbers)[number_id].clone();
        let body = delivery.body(&number);
        self.post(number, &body, delivery.times, delivery.signed);
    }

    fn post(&self, number: Number, body: &Value, times: u32, signed: Signed) {
        let body = Bytes::from(body.to_string());
        self.network.callbacks_waiting.fetch_add(u64::from(times), Relaxed);
        let network = self.network.clone();
        self.server.runtime.spawn(async move {
            for _ in 0..times {
                callbacks::post_until_acknowledged(&network, &number, &body, signed).await;
            }
        });
    }
}
