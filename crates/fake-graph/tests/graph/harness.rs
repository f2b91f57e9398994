//! A minimal gateway: it sends over HTTP/1.1 and receives callbacks.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Router, extract::State};
use fake_graph::{FakeGraph, Number};
use serde_json::{Value, json};

pub const NUMBER: &str = "106540352242922";
pub const TO: &str = "5511999998888";

/// How long a test waits for an expected event.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A network with one number.
pub fn graph() -> FakeGraph {
    let graph = FakeGraph::start();
    graph.add_number(Number::example(NUMBER));
    graph
}

/// A body that Meta would accept.
pub fn message(to: &str) -> Value {
    json!({
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": to,
        "type": "contacts",
        "contacts": [{
            "name": { "formatted_name": "Maria Silva", "first_name": "Maria Silva" },
            "phones": [{ "phone": "+5511988887777" }],
        }],
        "biz_opaque_callback_data": "msg_1",
    })
}

/// Sends a good message with the right token.
pub fn send(graph: &FakeGraph) -> Result<(u16, String), ureq::Error> {
    call(graph, "POST", &messages(NUMBER), Some(&Number::example(NUMBER).access_token), Some(&message(TO)))
}

/// The path of sends.
pub fn messages(number: &str) -> String {
    format!("/v23.0/{number}/messages")
}

/// Makes one call, and returns the status and the body of its answer.
pub fn call(
    graph: &FakeGraph,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Option<&Value>,
) -> Result<(u16, String), ureq::Error> {
    let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", graph.url()));
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        .proxy(None)
        .allow_non_standard_methods(true)
        .build()
        .into();
    let mut answer = match body {
        Some(body) => agent
            .run(request.header("Content-Type", "application/json").body(body.to_string()).expect("a valid request")),
        None => agent.run(request.body(()).expect("a valid request")),
    }?;
    let text = answer.body_mut().read_to_string()?;
    Ok((answer.status().as_u16(), text))
}

/// Sends a valid message by hand, and returns the connection.
pub fn raw_send(graph: &FakeGraph) -> TcpStream {
    let body = message(TO).to_string();
    let token = Number::example(NUMBER).access_token;
    let mut stream = TcpStream::connect(graph.url().trim_start_matches("http://")).expect("the fake listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    write!(
        stream,
        "POST {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        messages(NUMBER),
        body.len()
    )
    .expect("the fake reads");
    stream
}

/// Reads a connection to its end.
pub fn read_to_end(mut stream: TcpStream) -> std::io::Result<Vec<u8>> {
    let mut read = Vec::new();
    stream.read_to_end(&mut read).map(|_| read)
}

/// A received callback.
#[derive(Debug, Clone)]
pub struct ReceivedCallback {
    pub signature: Option<String>,
    pub body: Bytes,
    pub at: Instant,
}

impl ReceivedCallback {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("callbacks are JSON")
    }

    /// Its `statuses`.
    pub fn statuses(&self) -> Vec<Value> {
        let body = self.json();
        body["entry"][0]["changes"][0]["value"]["statuses"].as_array().expect("a list").clone()
    }

    /// The names of its statuses, joined.
    pub fn names(&self) -> String {
        let names: Vec<_> =
            self.statuses().iter().map(|status| status["status"].as_str().expect("a name").to_owned()).collect();
        names.join("+")
    }
}

/// Receives callbacks, and answers them with 200 or with the configured status.
pub struct Sink {
    pub url: String,
    received: Arc<Mutex<Vec<ReceivedCallback>>>,
    answers: Arc<Mutex<VecDeque<u16>>>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Sink {
    pub fn start() -> Self {
        Self::on(std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"))
    }

    pub fn on(listener: std::net::TcpListener) -> Self {
        listener.set_nonblocking(true).expect("a listener");
        let url = format!("http://{}/webhook", listener.local_addr().expect("an address"));
        let (received, answers) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<Mutex<VecDeque<_>>>::default());
        let state = (received.clone(), answers.clone());
        let app = Router::new().route("/webhook", post(receive)).with_state(state);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("one");
        runtime.spawn(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            axum::serve(listener, app).await
        });
        Self { url, received, answers, runtime: Some(runtime) }
    }

    /// Sets the answers of the next callbacks.
    pub fn answer(&self, statuses: impl IntoIterator<Item = u16>) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).extend(statuses);
    }

    pub fn received(&self) -> Vec<ReceivedCallback> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for this many callbacks, with any answer.
    pub fn wait(&self, count: usize) -> Vec<ReceivedCallback> {
        wait_for("callbacks", || self.received().len() >= count);
        self.received()
    }

    /// The names of all statuses, one text for each callback.
    pub fn names(&self) -> Vec<String> {
        self.received().iter().map(ReceivedCallback::names).collect()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

type Shared = (Arc<Mutex<Vec<ReceivedCallback>>>, Arc<Mutex<VecDeque<u16>>>);

async fn receive(State((received, answers)): State<Shared>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let signature = headers.get("X-Hub-Signature-256").map(|value| value.to_str().expect("ASCII").to_owned());
    received.lock().expect("not poisoned").push(ReceivedCallback { signature, body, at: Instant::now() });
    let status = answers.lock().expect("not poisoned").pop_front().unwrap_or(200);
    StatusCode::from_u16(status).expect("a status")
}

/// Waits until every callback was acknowledged.
#[track_caller]
pub fn wait_for_callbacks(graph: &FakeGraph) {
    wait_for("every callback to be acknowledged", || graph.callbacks_waiting() == 0);
}

#[track_caller]
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
