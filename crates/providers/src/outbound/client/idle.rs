//! Connections that wait for the next call of their URL, so that a call need not connect and shake hands again.
//!
//! A connection is kept under the whole URL, so that callers who share a host share no connection. Its address was checked
//! when it was opened, and it ends at a certain age, so that a change of the name is followed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// How long a connection waits. Several servers close a connection that is idle for five seconds.
const IDLE: Duration = Duration::from_secs(4);
/// The age at which a connection is used no more.
const AGE: Duration = Duration::from_mins(1);
/// Most connections that wait: of one URL, and of all.
const OF_URL: usize = 8;
pub const ALL: usize = 256;
/// How often connections that waited for too long are closed.
const SWEEP: Duration = Duration::from_secs(1);

/// An open connection.
pub(super) struct Connection {
    pub sender: SendRequest<Full<Bytes>>,
    /// The task of the connection. Dropping it ends the connection, however a call ends.
    _tasks: JoinSet<hyper::Result<()>>,
    opened: Instant,
    used: Instant,
}

impl Connection {
    pub fn new(sender: SendRequest<Full<Bytes>>, tasks: JoinSet<hyper::Result<()>>) -> Self {
        let now = Instant::now();
        Self { sender, _tasks: tasks, opened: now, used: now }
    }

    fn is_fresh(&self, now: Instant, times: Times) -> bool {
        now < self.opened + times.age && now < self.used + times.idle && self.sender.is_ready()
    }
}

/// How long a connection waits, and the age at which it is used no more.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub idle: Duration,
    pub age: Duration,
}

/// The connections that wait.
pub(super) struct Pool {
    waiting: Arc<Mutex<Waiting>>,
    times: Times,
}

#[derive(Default)]
struct Waiting {
    of_urls: HashMap<String, Vec<Connection>>,
    count: usize,
    /// Whether a task closes old connections. It ends when no connection waits.
    is_swept: bool,
}

impl Default for Pool {
    fn default() -> Self {
        Self::new(Times { idle: IDLE, age: AGE })
    }
}

impl Pool {
    pub fn new(times: Times) -> Self {
        Self { waiting: Arc::default(), times }
    }

    /// Takes the connection that was used last.
    pub fn take(&self, url: &str) -> Option<Connection> {
        let mut waiting = lock(&self.waiting);
        let mut of_url = waiting.of_urls.remove(url)?;
        let before = of_url.len();
        let now = Instant::now();
        of_url.retain(|connection| connection.is_fresh(now, self.times));
        let taken = of_url.pop();
        waiting.count -= before - of_url.len();
        if !of_url.is_empty() {
            waiting.of_urls.insert(url.to_owned(), of_url);
        }
        taken
    }

    /// Keeps a connection, if there is room for it.
    pub fn put(&self, url: String, mut connection: Connection) {
        let now = Instant::now();
        connection.used = now;
        let mut waiting = lock(&self.waiting);
        let used = waiting.of_urls.get(&url).map_or(0, Vec::len);
        if !connection.is_fresh(now, self.times) || used >= OF_URL || waiting.count >= ALL {
            return;
        }
        waiting.of_urls.entry(url).or_default().push(connection);
        waiting.count += 1;
        if !waiting.is_swept {
            waiting.is_swept = true;
            tokio::spawn(sweep(self.waiting.clone(), self.times));
        }
    }

    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        lock(&self.waiting).count
    }
}

async fn sweep(waiting: Arc<Mutex<Waiting>>, times: Times) {
    loop {
        sleep(SWEEP).await;
        let mut waiting = lock(&waiting);
        let now = Instant::now();
        for of_url in waiting.of_urls.values_mut() {
            of_url.retain(|connection| connection.is_fresh(now, times));
        }
        waiting.of_urls.retain(|_, of_url| !of_url.is_empty());
        waiting.count = waiting.of_urls.values().map(Vec::len).sum();
        if waiting.count == 0 {
            waiting.is_swept = false;
            return;
        }
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Pool {
    /// Closes the connections at once. Otherwise the task would keep them for some seconds.
    fn drop(&mut self) {
        lock(&self.waiting).of_urls.clear();
    }
}
