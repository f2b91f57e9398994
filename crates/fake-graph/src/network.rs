//! The server's state. Locks are held for a few lines, and never across an await.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, watch};

use crate::body::Schemas;
use crate::callbacks::{Client, client};
use crate::clock::unix_seconds;
use crate::{Attempt, Behaviour, File, GraphError, Number, RefusedCallback};

/// The most concurrent callbacks, because any sender has a limit.
const POSTS_AT_A_TIME: usize = 64;

type Behave = Box<dyn FnMut(&Attempt) -> Behaviour + Send>;

/// The networks of this process.
static NETWORKS: AtomicU32 = AtomicU32::new(0);

pub struct Network {
    /// The prefix of message ids, unique among the networks of all processes.
    pub id: u128,
    pub numbers: Mutex<HashMap<String, Number>>,
    pub files: Mutex<HashMap<String, File>>,
    pub behave: Mutex<Behave>,
    /// Messages that a number marked as read: its id, and the id of the message.
    pub reads: Mutex<Vec<(String, String)>>,
    pub attempts: Mutex<Vec<Attempt>>,
    pub accepted: AtomicU64,
    pub schemas: Schemas,

    pub callbacks_to: watch::Sender<Option<String>>,
    pub callbacks_waiting: AtomicU64,
    pub callbacks_acknowledged: AtomicU64,
    pub refused: Mutex<Vec<RefusedCallback>>,
    pub client: Client,
    pub posts: Semaphore,
}

impl Network {
    pub fn new() -> Self {
        let networks = u128::from(NETWORKS.fetch_add(1, Relaxed));
        Self {
            id: u128::from(unix_seconds()) << 96 | u128::from(std::process::id()) << 64 | networks << 32,
            numbers: Mutex::default(),
            files: Mutex::default(),
            behave: Mutex::new(Box::new(|_| Behaviour::accept())),
            reads: Mutex::default(),
            attempts: Mutex::default(),
            accepted: AtomicU64::new(0),
            schemas: Schemas::new(),
            callbacks_to: watch::Sender::new(None),
            callbacks_waiting: AtomicU64::new(0),
            callbacks_acknowledged: AtomicU64::new(0),
            refused: Mutex::default(),
            client: client(),
            posts: Semaphore::new(POSTS_AT_A_TIME),
        }
    }

    /// The number with this id, if `token` is right. The token is checked first, as Graph does.
    pub fn authorised(&self, method: &str, id: &str, token: Option<&str>) -> Result<Number, GraphError> {
        let numbers = lock(&self.numbers);
        let opens = |number: &Number| Some(&*number.access_token) == token;
        if !numbers.values().any(opens) {
            return Err(GraphError::token());
        }
        let number = numbers.get(id).filter(|number| opens(number)).cloned();
        number.ok_or_else(|| GraphError::no_such_object(method, id))
    }
}

/// Acquires a lock. A panic in a test's closure must not make every later call panic too.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
