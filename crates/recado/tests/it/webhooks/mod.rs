//! Events reach the URLs of webhooks: the real binary, and receivers on loopback.

mod deliveries;
mod failures;
mod fairness;
pub mod receiver;
mod replays;

use serde_json::{Value, json};

use crate::harness::{Answer, Home, Server, wait_for};
use crate::v1::every_scope;

/// The flags of a server whose webhooks may lead to this machine.
pub const LOOPBACK: [&str; 2] = ["--allow-networks", "127.0.0.0/8"];

/// A server whose webhooks may lead to loopback, and a test key with every scope.
pub struct Stage {
    // Before `home`, so that the server ends before its files are removed.
    pub server: Server,
    pub key: String,
    pub home: Home,
}

/// A webhook that a test created.
pub struct Hook {
    pub path: String,
    pub id: String,
    /// The secret that the server made.
    pub secret: String,
}

impl Stage {
    pub fn set() -> Self {
        Self::at(Home::init())
    }

    pub fn at(home: Home) -> Self {
        let key = every_scope(&home);
        Self { server: home.serve_sealing(&LOOPBACK), key, home }
    }

    /// `SIGKILL`, and a new server on the same files.
    pub fn crash(self) -> Self {
        let Self { server, key, home } = self;
        server.kill();
        Self { server: home.serve_sealing(&LOOPBACK), key, home }
    }

    /// Creates a webhook for these events, with further fields.
    #[track_caller]
    pub fn hook(&self, url: &str, events: &[&str], more: &Value) -> Hook {
        let mut body = json!({"url": url, "events": events});
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        let created = self.server.post("/v1/webhooks", &self.key, &body).expect(201).json()["data"].take();
        let text = |name: &str| created[name].as_str().unwrap_or_default().to_owned();
        Hook { path: format!("/v1/webhooks/{}", text("id")), id: text("id"), secret: text("secret") }
    }

    pub fn put(&self, path: &str, body: &Value) -> Answer {
        let json = [("Content-Type", "application/json")];
        self.server.call("PUT", path, Some(&self.key), &json, Some(body.to_string().as_bytes()))
    }

    pub fn post(&self, path: &str) -> Answer {
        self.server.call("POST", path, Some(&self.key), &[], None)
    }

    /// The `data` of the answer at a path.
    #[track_caller]
    pub fn data(&self, path: &str) -> Value {
        self.server.get(path, Some(&self.key)).expect(200).json()["data"].take()
    }

    /// Sends a text by the sandbox; the id of its message.
    pub fn send(&self, to: &str) -> String {
        send(&self.server, &self.key, to)
    }

    /// The deliveries of a webhook, newest first.
    #[track_caller]
    pub fn log(&self, hook: &Hook) -> Vec<Value> {
        self.data(&format!("{}/logs?limit=100", hook.path)).as_array().expect("a list").clone()
    }

    /// Waits until a delivery of the webhook is in this state; gives it.
    #[track_caller]
    pub fn until(&self, hook: &Hook, status: &str) -> Value {
        let mut found = None;
        wait_for(&format!("a delivery that is {status}"), || {
            found = self.log(hook).into_iter().find(|delivery| delivery["status"] == status);
            found.is_some()
        });
        found.expect("it was found")
    }
}

pub fn send(server: &Server, key: &str, to: &str) -> String {
    let body = json!({"to": to, "content": "Ola", "reference": "pedido-1"});
    let answer = server.post("/v1/channels/sandbox/messages/text", key, &body).expect(202);
    answer.header("X-Message-Id").expect("an id").to_owned()
}
