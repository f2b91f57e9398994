//! Starts the real `recado` binary on a free port in a temporary directory, and calls it over HTTP.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a test waits for an expected event, before it fails and names the event.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The key that encrypts the secrets of tests.
pub const SECRET_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// The built binary.
pub fn recado() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_recado"));
    // The settings of the person who runs the tests must not reach the server under test.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RECADO_")) {
        command.env_remove(name);
    }
    command.env_remove("NOTIFY_SOCKET");
    // A drain would only delay tests that do not examine it.
    command.env("RECADO_DRAIN", "0s");
    command
}

/// How long a command of the binary may take.
const COMMAND: Duration = Duration::from_mins(2);

/// Commands of the binary that must end by themselves.
pub trait Ended {
    /// Runs it to its end, and fails the test otherwise. A server that should not have started would stay forever.
    fn ended(&mut self) -> Output;
}

impl Ended for Command {
    fn ended(&mut self) -> Output {
        let child = self.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let child = child.expect("the binary starts");
        let (pid, (sender, receiver)) = (child.id(), mpsc::channel());
        std::thread::spawn(move || sender.send(child.wait_with_output()));
        let Ok(output) = receiver.recv_timeout(COMMAND) else {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
            panic!("{self:?} did not end within {COMMAND:?}");
        };
        output.expect("the binary can be waited for")
    }
}

/// Runs a command of the binary to its end, and fails the test if it does not succeed.
pub fn run(args: &[&str]) -> String {
    run_on(None, args)
}

/// The same with the store in a database, if one is named.
pub fn run_on(database: Option<&str>, args: &[&str]) -> String {
    let mut command = recado();
    command.envs(database.map(|url| ("RECADO_DATABASE_URL", url)));
    let output = command.args(args).ended();
    assert!(
        output.status.success(),
        "recado {args:?} failed: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("the binary prints UTF-8")
}

/// A data directory created by `recado init`, with the command's output.
pub struct Home {
    /// Removed on drop; `None` if the test owns the directory.
    pub temporary: Option<tempfile::TempDir>,
    pub dir: PathBuf,
    pub institution: String,
    pub test_key: String,
    pub live_key: String,
    pub sandbox_channel: String,
    /// The location of the store, if it is not in the directory.
    pub database: Option<String>,
    /// Values that must live as long as the store.
    #[cfg_attr(not(feature = "whatsapp-web"), expect(dead_code, reason = "other tests hold such things themselves"))]
    pub held: Vec<Box<dyn std::any::Any + Send + Sync>>,
}

impl Home {
    pub fn init() -> Self {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let dir = temporary.path().join("data");
        let mut home = Self::init_in(&dir);
        home.temporary = Some(temporary);
        home
    }

    /// The same in a directory of the test, on another file system for instance.
    pub fn init_in(dir: &Path) -> Self {
        Self::init_with(dir, None)
    }

    /// The same with the store in this database.
    pub fn on_postgres(url: &str) -> Self {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let mut home = Self::init_with(&temporary.path().join("data"), Some(url));
        home.temporary = Some(temporary);
        home
    }

    /// The same with its own database, which is dropped with it.
    #[cfg(feature = "whatsapp-web")]
    pub fn in_own_database() -> Self {
        let database = test_postgres::Database::new();
        let mut home = Self::on_postgres(database.url());
        home.held.push(Box::new(database));
        home
    }

    /// Another data directory for the same database, for another node.
    pub fn node(&self, name: &str) -> Self {
        let texts = [&self.institution, &self.test_key, &self.live_key, &self.sandbox_channel];
        let [institution, test_key, live_key, sandbox_channel] = texts.map(Clone::clone);
        let dir = self.dir.with_file_name(name);
        let (database, held) = (self.database.clone(), Vec::new());
        Self { temporary: None, dir, institution, test_key, live_key, sandbox_channel, database, held }
    }

    fn init_with(dir: &Path, database: Option<&str>) -> Self {
        let printed = run_on(database, &["init", "--data-dir", dir.to_str().expect("UTF-8"), "--json"]);
        let printed: Value = serde_json::from_str(&printed).expect("init --json prints JSON");
        let text = |name: &str| printed[name].as_str().unwrap_or_else(|| panic!("init prints {name}")).to_owned();
        Self {
            temporary: None,
            dir: dir.to_owned(),
            institution: text("institutionId"),
            test_key: text("testKey"),
            live_key: text("liveKey"),
            sandbox_channel: text("sandboxChannel"),
            database: database.map(ToOwned::to_owned),
            held: Vec::new(),
        }
    }

    pub fn dir(&self) -> &str {
        self.dir.to_str().expect("UTF-8")
    }

    /// Runs `recado <args> --data-dir <dir> --json`.
    pub fn cli(&self, args: &[&str]) -> Value {
        let printed = run_on(self.database.as_deref(), &[args, &["--data-dir", self.dir(), "--json"]].concat());
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{args:?} printed no JSON ({error}): {printed}"))
    }

    /// A test key without a rate limit.
    pub fn unlimited_key(&self) -> String {
        let scopes = "messages.send,messages.read,channels.read,channels.write,sandbox.read,sandbox.write";
        let args = ["keys", "create", "--name", "tests", "--environment", "test", "--scopes", scopes, "--rate-limit"];
        self.cli(&[&args[..], &["unlimited"]].concat())["key"].as_str().expect("a key").to_owned()
    }

    pub fn serve(&self) -> Server {
        self.serve_with(&[])
    }

    /// Starts the server on a free port with further flags, and waits until it is ready.
    pub fn serve_with(&self, flags: &[&str]) -> Server {
        Server::start(self.command(flags), self)
    }

    /// The same with a key that encrypts secrets.
    pub fn serve_sealing(&self, flags: &[&str]) -> Server {
        let mut command = self.command(flags);
        command.env("RECADO_SECRET_KEY", SECRET_KEY);
        Server::start(command, self)
    }

    /// The same on a given address.
    pub fn serve_at(&self, address: &str, flags: &[&str]) -> Server {
        Server::start(self.command_at(address, flags), self)
    }

    pub fn command(&self, flags: &[&str]) -> Command {
        self.command_at("127.0.0.1:0", flags)
    }

    /// The same on a given address.
    pub fn command_at(&self, address: &str, flags: &[&str]) -> Command {
        let mut command = recado();
        command.args(["serve", "--data-dir", self.dir(), "--listen", address]).args(flags);
        command.envs(self.database.as_ref().map(|url| ("RECADO_DATABASE_URL", url)));
        command
    }
}

/// A running server, killed when dropped.
pub struct Server {
    child: Child,
    pub address: String,
    /// Held open, because a failing test may remove the directory before the server that logs there.
    log: File,
}

impl Server {
    /// Starts `command`, which must end in a `recado serve` that prints its address on its first line.
    pub fn start(command: Command, home: &Home) -> Self {
        // Beside the data directory, so that a test with a full disk still gets its log.
        let file = File::options().append(true).create(true).open(home.dir.with_extension("log"));
        Self::start_logging_to(command, home, file.expect("a log file"))
    }

    /// The same with another standard error.
    pub fn start_logging_to(mut command: Command, home: &Home, stderr: impl Into<Stdio>) -> Self {
        let log = File::options().read(true).append(true).create(true).open(home.dir.with_extension("log"));
        let log = log.expect("the log can be read");
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).spawn().expect("the server starts");
        // A resource that only the server may hold, such as the end of a pipe, is not held here.
        drop(command);
        let (mut output, (sender, receiver)) = (BufReader::new(child.stdout.take().expect("piped")), mpsc::channel());
        std::thread::spawn(move || {
            let mut line = String::new();
            sender.send(output.read_line(&mut line).map(|_| line))
        });
        let Ok(line) = receiver.recv_timeout(COMMAND) else {
            let _ = child.kill();
            panic!("the server did not print its address within {COMMAND:?}");
        };
        let line = line.expect("the server prints a line");
        let address = line.trim().rsplit("http://").next().unwrap_or_default().to_owned();
        let server = Self { child, address, log };
        assert!(server.address.starts_with("127.0.0.1:"), "no address in {line:?}: {}", server.log());
        server.wait_until_ready();
        server
    }

    pub fn wait_until_ready(&self) {
        wait_for("the server to be ready", || self.get("/health/ready", None).status == 200);
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        let (mut log, mut text) = (&self.log, Vec::new());
        // From its beginning, each time. It is called while a test panics, so an unreadable log must not panic again.
        let read = log.rewind().and_then(|()| log.read_to_end(&mut text));
        read.map_or_else(|error| error.to_string(), |_| String::from_utf8_lossy(&text).into_owned())
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn get(&self, path: &str, key: Option<&str>) -> Answer {
        self.call("GET", path, key, &[], None)
    }

    pub fn delete(&self, path: &str, key: Option<&str>) -> Answer {
        self.call("DELETE", path, key, &[], None)
    }

    pub fn post(&self, path: &str, key: &str, body: &Value) -> Answer {
        self.call("POST", path, Some(key), &[("Content-Type", "application/json")], Some(body.to_string().as_bytes()))
    }

    /// One call on a new connection. Panics without an answer; see [`Server::try_call`].
    pub fn call(
        &self,
        method: &str,
        path: &str,
        key: Option<&str>,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Answer {
        self.try_call(method, path, key, headers, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.log()))
    }

    pub fn try_call(
        &self,
        method: &str,
        path: &str,
        key: Option<&str>,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Answer, ureq::Error> {
        call(&agent(), &self.url(path), method, key, headers, body)
    }

    /// `SIGKILL`, and the end of the process.
    pub fn kill(mut self) {
        self.child.kill().expect("the server can be killed");
        self.child.wait().expect("the server ends");
    }

    /// `SIGTERM`, without waiting.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(status.expect("kill runs").success(), "kill -{name} failed");
    }

    /// Waits for the end of the process.
    pub fn wait(mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("the server can be waited for") {
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the server did not end: {}", self.log());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the log of {}:\n{}", self.address, self.log());
        } else {
            // Every commit wakes the tasks that it concerns, so the safety scan finds nothing.
            let log = self.log();
            assert!(!log.contains("open messages had no task"), "{log}");
        }
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that keeps its connections and treats any status as an answer.
pub fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        .proxy(None)
        .allow_non_standard_methods(true)
        .build()
        .into()
}

/// One call through `agent`.
pub fn call(
    agent: &ureq::Agent,
    url: &str,
    method: &str,
    key: Option<&str>,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
) -> Result<Answer, ureq::Error> {
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    if let Some(key) = key {
        request = request.header("Authorization", format!("Bearer {key}"));
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut answer = match body {
        Some(body) => agent.run(request.body(body).expect("a valid request"))?,
        None => agent.run(request.body(()).expect("a valid request"))?,
    };
    let body = answer.body_mut().with_config().limit(64 << 20).read_to_vec()?;
    Ok(Answer { status: answer.status().as_u16(), headers: answer.headers().clone(), body })
}

/// The server's answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("answers are UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.text()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("visible ASCII"))
    }

    /// Fails the test unless the status is this one, and returns the answer.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }
}

/// Polls until `done`, and fails the test after [`PATIENCE`].
#[track_caller]
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
