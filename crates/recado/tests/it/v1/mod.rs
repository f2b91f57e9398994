//! Version 1 of the API as its callers see it. Folders and files mirror the URLs.

mod api_keys;
mod channels;
mod contacts;
mod conversations;
mod events;
mod incoming;
pub mod media;
mod sandbox;
pub mod transient;
mod webhooks;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, Home, PATIENCE, Server, wait_for};

/// The card of the seed document.
pub const CARD: &str = r#"{"to":"5511999998888","name":"Maria Silva - Suporte","phone":"5511988887777"}"#;
pub const JSON: (&str, &str) = ("Content-Type", "application/json");
/// All scopes.
pub const ALL_SCOPES: &str = "messages.send,messages.read,channels.read,channels.write,keys.read,keys.write,\
                              webhooks.read,webhooks.write,sandbox.read,sandbox.write,events.read,\
                              conversations.read,conversations.write,contacts.read,contacts.write";

/// A test key of the first institution with every scope and no limit.
pub fn every_scope(home: &Home) -> String {
    let args = ["keys", "create", "--name", "every scope", "--environment", "test", "--rate-limit", "unlimited"];
    home.cli(&[&args[..], &["--scopes", ALL_SCOPES]].concat())["key"].as_str().expect("a key").to_owned()
}

/// A refusal on the wire: its status, and its body byte for byte.
pub type Refusal = (u16, &'static str);

pub const UNAUTHORIZED: Refusal =
    (401, r#"{"message":"Token de autenticacao invalido ou ausente.","code":"UNAUTHORIZED"}"#);
pub const FORBIDDEN: Refusal = (403, r#"{"message":"Permissao insuficiente para esta operacao.","code":"FORBIDDEN"}"#);
pub const NO_CHANNEL: Refusal = (404, r#"{"message":"Canal nao encontrado.","code":"CHANNEL_NOT_FOUND"}"#);
pub const NO_MESSAGE: Refusal = (404, r#"{"message":"Mensagem nao encontrada.","code":"MESSAGE_NOT_FOUND"}"#);
pub const NO_PATH: Refusal = (404, r#"{"message":"Recurso nao encontrado.","code":"NOT_FOUND"}"#);
pub const NO_METHOD: Refusal = (405, r#"{"message":"Metodo nao permitido.","code":"METHOD_NOT_ALLOWED"}"#);
pub const NOT_CONNECTED: Refusal = (409, r#"{"message":"Canal nao conectado.","code":"CHANNEL_NOT_CONNECTED"}"#);
pub const NOT_CANCELLABLE: Refusal =
    (409, r#"{"message":"Mensagem nao pode mais ser cancelada.","code":"MESSAGE_NOT_CANCELLABLE"}"#);
pub const TOO_LARGE: Refusal =
    (413, r#"{"message":"Corpo da requisicao excede o limite.","code":"PAYLOAD_TOO_LARGE"}"#);
pub const NO_JSON: Refusal =
    (415, r#"{"message":"Content-Type deve ser application/json.","code":"UNSUPPORTED_MEDIA_TYPE"}"#);
pub const KEY_REUSED: Refusal =
    (422, r#"{"message":"Idempotency-Key ja usada com outro conteudo.","code":"IDEMPOTENCY_KEY_REUSED"}"#);
pub const TOO_MANY: Refusal = (
    429,
    r#"{"message":"Limite de requisicoes excedido. Tente novamente em alguns segundos.","code":"RATE_LIMIT_EXCEEDED"}"#,
);
#[cfg(not(feature = "whatsapp-web"))]
pub const NO_WHATSAPP_WEB: Refusal = (
    501,
    r#"{"message":"Este servidor foi compilado sem WhatsApp Web: compile com --features whatsapp-web, ou inicie com ./dev run --whatsapp-web.","code":"WHATSAPP_WEB_MISSING"}"#,
);
pub const NO_SECRET_KEY: Refusal = (
    501,
    r#"{"message":"O servidor nao tem RECADO_SECRET_KEY: canais deste tipo exigem uma chave para guardar segredos.","code":"SECRET_KEY_MISSING"}"#,
);
pub const QUEUE_FULL: Refusal =
    (503, r#"{"message":"Fila do canal cheia. Tente novamente mais tarde.","code":"QUEUE_FULL"}"#);

/// The body of a 400 that names these fields.
pub fn faults(errors: &[(&str, &str)]) -> String {
    let errors: Vec<_> = errors
        .iter()
        .map(|(field, message)| format!(r#"{{"field":{},"message":"{message}"}}"#, json!(field)))
        .collect();
    format!(r#"{{"message":"Dados de entrada invalidos.","code":"VALIDATION_ERROR","errors":[{}]}}"#, errors.join(","))
}

#[track_caller]
pub fn assert_refused(what: &str, answer: &Answer, (status, body): Refusal) {
    assert_answer(what, answer, status, body);
}

#[track_caller]
pub fn assert_faults(what: &str, answer: &Answer, errors: &[(&str, &str)]) {
    assert_answer(what, answer, 400, &faults(errors));
}

/// Checks a refusal byte for byte: it has the headers of its status, and not those of an accepted message.
#[track_caller]
fn assert_answer(what: &str, answer: &Answer, status: u16, body: &str) {
    assert_eq!((answer.status, answer.text()), (status, body), "{what}");
    assert_eq!(answer.header("Content-Type"), Some("application/json; charset=utf-8"), "{what}");
    assert!(answer.header("X-Request-Id").is_some_and(|id| !id.is_empty()), "{what}: no X-Request-Id");
    let retry_after = answer.header("Retry-After").map(|seconds| seconds.parse::<u32>().expect("whole seconds"));
    assert_eq!(retry_after.is_some_and(|seconds| seconds > 0), matches!(status, 429 | 503), "{what}: {retry_after:?}");
    let challenge = answer.header("WWW-Authenticate");
    // A 403 for a missing scope names the scope.
    let scope = challenge.and_then(|text| text.strip_prefix("Bearer error=\"insufficient_scope\", scope=\""));
    if status != 403 || scope.is_none() {
        assert_eq!(challenge, (status == 401).then_some("Bearer"), "{what}");
    }
    assert_eq!(answer.header("Allow").is_some(), status == 405, "{what}: Allow");
    for header in ["Location", "X-Message-Id", "Idempotent-Replayed", "Preference-Applied", "X-Ignored-Fields"] {
        assert_eq!(answer.header(header), None, "{what}: {header}");
    }
}

pub fn contact_path(channel: &str) -> String {
    format!("/v1/channels/{channel}/messages/contact")
}

pub fn card(to: &str, name: &str) -> String {
    json!({"to": to, "name": name, "phone": "5511988887777"}).to_string()
}

/// Creates a key of the home's first institution.
pub fn create_key(home: &Home, environment: &str, scopes: &str, rate_limit: &str) -> String {
    let args = ["keys", "create", "--institution", &home.institution, "--name", "tests", "--environment", environment];
    let printed = home.cli(&[&args[..], &["--scopes", scopes, "--rate-limit", rate_limit]].concat());
    printed["key"].as_str().expect("a key").to_owned()
}

pub fn location(answer: &Answer) -> String {
    answer.header("Location").unwrap_or_else(|| panic!("no Location: {}", answer.text())).to_owned()
}

pub fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no text under {name}: {value}"))
}

/// A time of the API in milliseconds.
pub fn millis(value: &Value, name: &str) -> i64 {
    text(value, name).parse::<jiff::Timestamp>().expect("a time of RFC 3339").as_millisecond()
}

/// A running server, with a test key that has all scopes and no limit.
pub struct Stage {
    // Before `home`, so that the server ends before its files are removed.
    pub server: Server,
    pub key: String,
    pub home: Home,
}

impl Stage {
    pub fn set() -> Self {
        Self::with(&[])
    }

    /// A server with further flags of `recado serve`.
    pub fn with(flags: &[&str]) -> Self {
        Self::of(Home::init(), flags)
    }

    /// A server on this data directory.
    pub fn of(home: Home, flags: &[&str]) -> Self {
        let key = create_key(&home, "test", ALL_SCOPES, "unlimited");
        let server = home.serve_with(flags);
        Self { server, key, home }
    }

    /// `SIGKILL`, and a new server on the same files.
    pub fn crash(self, flags: &[&str]) -> Self {
        let Self { server, key, home } = self;
        server.kill();
        Self { server: home.serve_with(flags), key, home }
    }

    /// Creates a channel and applies these steps (`connect`, `pause`, ...).
    pub fn open(&self, channel: &str, steps: &[&str]) {
        self.server
            .post("/v1/channels", &self.key, &json!({"name": channel, "type": "SANDBOX", "id": channel}))
            .expect(201);
        steps.iter().for_each(|step| self.act(channel, step));
    }

    pub fn act(&self, channel: &str, step: &str) {
        self.server.call("POST", &format!("/v1/channels/{channel}/{step}"), Some(&self.key), &[], None).expect(200);
    }

    /// The contact call.
    pub fn send(&self, channel: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.send_with(&self.key, channel, headers, body)
    }

    pub fn send_with(&self, key: &str, channel: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let headers = [&[JSON], headers].concat();
        self.server.call("POST", &contact_path(channel), Some(key), &headers, Some(body.as_bytes()))
    }

    /// The contact call, which must be accepted. Returns the location of the message.
    #[track_caller]
    pub fn accept(&self, channel: &str, headers: &[(&str, &str)], body: &str) -> String {
        location(&self.send(channel, headers, body).expect(202))
    }

    pub fn get(&self, path: &str) -> Answer {
        self.server.get(path, Some(&self.key))
    }

    /// The `data` of the answer at a path.
    #[track_caller]
    pub fn data(&self, path: &str) -> Value {
        self.get(path).expect(200).json()["data"].take()
    }

    /// The rows of a list on one page.
    #[track_caller]
    pub fn rows(&self, path: &str) -> Vec<Value> {
        let list = self.get(path).expect(200).json();
        assert!(list["pagination"]["nextCursor"].is_null(), "{path} has a second page");
        list["data"].as_array().expect("a list").clone()
    }

    /// The phone's messages of a recipient, newest first.
    pub fn phone(&self, to: &str) -> Vec<Value> {
        self.rows(&format!("/v1/sandbox/messages?limit=100&to={to}"))
    }

    /// Waits until a message has come to this state; gives it.
    #[track_caller]
    pub fn until(&self, location: &str, status: &str) -> Value {
        let mut message = Value::Null;
        wait_for(&format!("{location} to be {status}"), || {
            message = self.data(location);
            message["status"] == status
        });
        message
    }
}

/// The same test on a store in a file, and on one in a database.
pub fn on_both_engines(test: impl Fn(&Stage)) {
    test(&Stage::set());
    let database = test_postgres::Database::new();
    test(&Stage::of(Home::on_postgres(database.url()), &[]));
}

/// Something arrives at a channel of the sandbox. Returns the ids of what was stored.
#[track_caller]
pub fn simulate(stage: &Stage, body: &Value) -> Value {
    let answer = stage.server.post("/v1/sandbox/simulate/incoming", &stage.key, body).expect(202);
    answer.json()["data"].take()
}

/// A request put on the wire as it is, for what a client library would not send. `Content-Length` is added unless the
/// headers say how long the body is.
pub fn wire(server: &Server, line: &str, headers: &[(&str, &[u8])], body: &[u8]) -> Answer {
    let mut request = format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n").into_bytes();
    for (name, value) in headers {
        request.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    let framed = |name: &str| ["content-length", "transfer-encoding"].contains(&&*name.to_ascii_lowercase());
    if !headers.iter().any(|(name, _)| framed(name)) {
        request.extend(format!("Content-Length: {}\r\n", body.len()).bytes());
    }
    request.extend([b"\r\n", body].concat());
    let mut stream = TcpStream::connect(&server.address).expect("the server accepts connections");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    // A server that refuses early may close before it has read all; what it said can still be read.
    let _ = stream.write_all(&request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    parse(&answer)
}

fn parse(answer: &[u8]) -> Answer {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no answer: {}", String::from_utf8_lossy(answer)));
    let head = std::str::from_utf8(&answer[..end]).expect("heads are ASCII");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let pairs = lines.map(|line| {
        let (name, value) = line.split_once(':').expect("a header");
        let name: ureq::http::HeaderName = name.parse().expect("a header's name");
        (name, value.trim().parse::<ureq::http::HeaderValue>().expect("a header's value"))
    });
    Answer { status: status.expect("a status"), headers: pairs.collect(), body: answer[end + 4..].to_vec() }
}

/// A time for which a message can be scheduled, about as early as possible.
#[expect(clippy::disallowed_methods, reason = "the server under test has the machine's clock")]
pub fn soon() -> String {
    (jiff::Timestamp::now() + Duration::from_secs(7)).to_string()
}

/// A time for which a message can be scheduled, and that does not come during a test.
#[expect(clippy::disallowed_methods, reason = "the server under test has the machine's clock")]
pub fn in_an_hour() -> String {
    (jiff::Timestamp::now() + Duration::from_hours(1)).to_string()
}

/// A message was not sent before its `sendAt`, and lives for its `ttlSeconds` from then on.
#[track_caller]
pub fn assert_sent_in_time(message: &Value, ttl_seconds: i64) {
    let due = millis(message, "sendAt");
    assert!(millis(message, "sendingAt") >= due && millis(message, "queuedAt") >= due, "{message}");
    assert_eq!(millis(message, "expiresAt") - due, ttl_seconds * 1_000, "{message}");
}
