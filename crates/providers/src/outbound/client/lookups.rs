//! Lookups of names. Each takes a thread until the system's resolver gives up, also if the call gives up before, and a name
//! whose servers do not answer takes its thread for long. So an institution has a share of the lookups, and a call that gets
//! none has not failed: what it would call may be well.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use recado_domain::ids::InstitutionId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::Failure;

/// Lookups at a time: of all, and of one institution.
pub(super) const LOOKUPS: (usize, usize) = (128, 16);
/// How long a call waits for its lookup.
const WAIT: Duration = Duration::from_secs(5);
/// How long a name is refused without a lookup after a call gave up a lookup of this name.
const GIVEN_UP: Duration = Duration::from_secs(30);
/// Most names that are remembered as given up.
const NAMES: usize = 1_024;

/// Looks up names. A lookup may continue after its caller has given it up. Its result is dropped.
#[async_trait]
pub trait Resolve: Send + Sync {
    /// All addresses of a name.
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's resolver.
pub(super) struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// The lookups of a client.
pub(super) struct Lookups {
    resolver: Arc<dyn Resolve>,
    pub(super) all: Arc<Semaphore>,
    /// Those of institutions that use some.
    institutions: Mutex<HashMap<InstitutionId, Arc<Semaphore>>>,
    wait: Duration,
    /// Names whose last lookup was given up, and until when these names are refused. So they do not take the threads
    /// that other names need.
    given_up: Mutex<HashMap<String, Instant>>,
}

/// The right to look up a name. It is held until the thread of the lookup is free.
pub(super) struct Seat {
    _own: Option<OwnedSemaphorePermit>,
    _all: OwnedSemaphorePermit,
}

impl Lookups {
    pub fn new(resolver: Arc<dyn Resolve>) -> Self {
        let (institutions, given_up) = (Mutex::default(), Mutex::default());
        Self { resolver, all: Arc::new(Semaphore::new(LOOKUPS.0)), institutions, wait: WAIT, given_up }
    }

    /// The same with another wait for a lookup.
    pub fn waiting(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }

    /// Permits the lookup of a name for an institution. `None`: for the operator.
    pub async fn seat(&self, name: &str, of: Option<InstitutionId>) -> Result<Seat, Failure> {
        self.check(name)?;
        let own = of.map(|of| self.share(of));
        let seat = async {
            // The share comes first: a call that waits for it takes nothing from others.
            let own = match own {
                Some(own) => Some(own.acquire_owned().await.ok()?),
                None => None,
            };
            Some(Seat { _own: own, _all: self.all.clone().acquire_owned().await.ok()? })
        };
        let seat = timeout(self.wait, seat).await.ok().flatten().ok_or(Failure::Busy)?;
        // Another call may have given it up meanwhile.
        self.check(name)?;
        Ok(seat)
    }

    /// Looks up a name.
    pub async fn find(&self, name: &str, seat: Seat) -> io::Result<Vec<IpAddr>> {
        let (resolver, asked) = (self.resolver.clone(), name.to_owned());
        // The thread of a lookup cannot be stopped. So the seat is held until the thread is free, also if the call gives up.
        let lookup = tokio::spawn(async move {
            let found = resolver.resolve(&asked).await;
            drop(seat);
            found
        });
        let mut waiting = Waiting { lookups: self, name: Some(name) };
        let found = lookup.await;
        waiting.name = None;
        found.map_err(io::Error::other)?
    }

    /// Refuses a name whose lookup was given up.
    fn check(&self, name: &str) -> Result<(), Failure> {
        let is_given_up = self.given_up().get(name).is_some_and(|until| Instant::now() < *until);
        if is_given_up { Err(Failure::ConnectFailed) } else { Ok(()) }
    }

    fn share(&self, of: InstitutionId) -> Arc<Semaphore> {
        let mut institutions = self.institutions.lock().unwrap_or_else(PoisonError::into_inner);
        // Remove those of institutions that wait for none and use none, so that the map stays small.
        institutions.retain(|_, seats| Arc::strong_count(seats) > 1);
        institutions.entry(of).or_insert_with(|| Arc::new(Semaphore::new(LOOKUPS.1))).clone()
    }

    fn given_up(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Remembers a name whose lookup is given up.
struct Waiting<'a> {
    lookups: &'a Lookups,
    name: Option<&'a str>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(name) = self.name else { return };
        let (now, mut names) = (Instant::now(), self.lookups.given_up());
        if names.len() >= NAMES {
            names.retain(|_, until| now < *until);
        }
        if names.len() < NAMES {
            names.insert(name.to_owned(), now + GIVEN_UP);
        }
    }
}
