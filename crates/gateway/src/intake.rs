//! Limits the memory of request bodies and of answers, and the work on bodies.
//!
//! A byte counts from its arrival until the work on its body is finished. A body without room is refused at once: bodies
//! that waited for each other's room would keep what they have.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use recado_domain::clock::{Millis, millis};
use recado_domain::error::AppError;
use recado_domain::ids::InstitutionId;
use tokio::sync::Semaphore;

use crate::rate_limit::{Peer, network_of};

const MIB: usize = 1 << 20;

/// The owner of body bytes, who has a share of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A caller with a key.
    Institution(InstitutionId),
    /// A caller who is known only by the address.
    Network(IpAddr),
}

/// A limit of bytes that may be held at once.
pub struct Budget {
    total: usize,
    /// The most bytes of one owner.
    share: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    all: usize,
    by: HashMap<Owner, usize>,
}

impl Budget {
    /// A budget of `total` bytes, of which one owner may hold `share`.
    pub fn new(total: usize, share: usize) -> Arc<Self> {
        Arc::new(Self { total, share, held: Mutex::default() })
    }

    /// Room for a body, which holds no bytes yet.
    fn open(self: &Arc<Self>, of: Owner) -> Room {
        Room { budget: self.clone(), whole: None, of, bytes: 0 }
    }

    /// The bytes that are held now.
    #[cfg(test)]
    fn held(&self) -> usize {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).all
    }
}

/// The bytes that one body holds; released when dropped.
pub struct Room {
    budget: Arc<Budget>,
    /// The budget that a complete body counts in instead.
    whole: Option<Arc<Budget>>,
    of: Owner,
    bytes: usize,
}

impl Room {
    /// Reserves the bytes of a body that arrived completely with its first frame; false if there is no room.
    pub fn grow_whole(&mut self, bytes: usize) -> bool {
        if let Some(whole) = self.whole.take() {
            self.budget = whole;
        }
        self.grow(bytes)
    }

    /// Reserves more bytes; false if there is no room.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let mut held = self.budget.held.lock().unwrap_or_else(PoisonError::into_inner);
        let own = held.by.get(&self.of).copied().unwrap_or(0) + bytes;
        let all = held.all + bytes;
        if own > self.budget.share || all > self.budget.total {
            return false;
        }
        held.all = all;
        held.by.insert(self.of, own);
        self.bytes += bytes;
        true
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut held = self.budget.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.all -= self.bytes;
        let left = held.by.get(&self.of).map_or(0, |own| own - self.bytes);
        if left == 0 {
            held.by.remove(&self.of);
        } else {
            held.by.insert(self.of, left);
        }
    }
}

/// The limits for one group of callers without a key.
pub struct CallbackLimits {
    /// For bodies that declare at most [`SMALL`] bytes, as most of Meta's do. Large bodies cannot block small ones.
    small: Arc<Budget>,
    /// For all other bodies.
    large: Arc<Budget>,
    /// The most bodies that are processed at once.
    workers: Arc<Semaphore>,
}

impl CallbackLimits {
    /// With these budgets and this number of workers.
    pub fn new(small: Arc<Budget>, large: Arc<Budget>, workers: usize) -> Self {
        Self { small, large, workers: Arc::new(Semaphore::new(workers)) }
    }

    /// Room for a body from this address with this declared size.
    pub fn open(&self, peer: Option<Peer>, announced: Option<u64>) -> Room {
        let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |Peer(address)| network_of(address));
        let budget = if announced.is_some_and(|bytes| bytes <= SMALL) { &self.small } else { &self.large };
        budget.open(Owner::Network(address))
    }

    /// Processes a body on a blocking thread. If the caller is dropped, the work keeps its worker and its room until it
    /// ends.
    pub async fn run<T: Send + 'static>(
        &self,
        room: Room,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(T, Room), AppError> {
        let worker = tokio::time::timeout(CALLBACK_TIMEOUT, self.workers.clone().acquire_owned()).await;
        let Ok(Ok(worker)) = worker else { return Err(AppError::Unavailable) };
        let running = tokio::task::spawn_blocking(move || {
            let _worker = worker;
            (work(), room)
        });
        running.await.map_err(|_| AppError::Internal)
    }
}

/// The budgets of a server.
pub struct Intake {
    /// For bodies of callers with a key.
    keyed: Arc<Budget>,
    /// For those of them that arrive completely. Bodies that are kept incomplete cannot block these.
    whole: Arc<Budget>,
    /// For callbacks from addresses that have sent signed ones.
    verified: CallbackLimits,
    /// For callbacks from all other addresses.
    unverified: CallbackLimits,
    /// For large answers that clients have not read yet.
    answers: Arc<Budget>,
    /// The addresses that have sent signed callbacks, with the time of the last one.
    verified_addresses: Mutex<HashMap<IpAddr, Millis>>,
}

/// The time limit for a body of a caller without a key to arrive, and then for its wait for a worker. Meta repeats a
/// callback that takes longer.
pub const CALLBACK_TIMEOUT: Duration = Duration::from_secs(5);
/// The most bytes of a small body.
const SMALL: u64 = 64 << 10;
/// The most verified addresses; beyond it the least recent one is removed.
const MAX_VERIFIED: usize = 1_024;
/// How long an address stays verified.
const VERIFIED_FOR: Duration = Duration::from_hours(24);

/// Most bytes of answers that clients have not read yet.
pub const ANSWERS: Answers = Answers { all: 256 * MIB, institution: 32 * MIB };

/// Most bytes: of a process, and of one institution.
pub struct Answers {
    pub all: usize,
    pub institution: usize,
}

impl Default for Intake {
    fn default() -> Self {
        Self {
            keyed: Budget::new(64 * MIB, 8 * MIB),
            whole: Budget::new(64 * MIB, 16 * MIB),
            // A tenant can have its own address verified. One address cannot fill a budget.
            verified: CallbackLimits::new(Budget::new(8 * MIB, 4 * MIB), Budget::new(32 * MIB, 24 * MIB), 2),
            // Unverified addresses do not use Meta's workers.
            unverified: CallbackLimits::new(Budget::new(8 * MIB, MIB), Budget::new(16 * MIB, 4 * MIB), 1),
            answers: Budget::new(ANSWERS.all, ANSWERS.institution),
            verified_addresses: Mutex::default(),
        }
    }
}

impl Intake {
    /// Room for a body of a caller with a key.
    pub fn keyed(&self, institution: InstitutionId) -> Room {
        let mut room = self.keyed.open(Owner::Institution(institution));
        room.whole = Some(self.whole.clone());
        room
    }

    /// Room for an answer to an institution, which holds no bytes yet.
    pub fn answer(&self, institution: InstitutionId) -> Room {
        self.answers.open(Owner::Institution(institution))
    }

    /// The limits for a callback.
    pub fn callbacks(&self, known: bool) -> &CallbackLimits {
        if known { &self.verified } else { &self.unverified }
    }

    /// Whether signed callbacks came from the address recently. Behind a proxy, Meta and other callers share an address.
    pub fn is_verified(&self, peer: Option<Peer>, now: Millis) -> bool {
        let Some(Peer(address)) = peer else { return false };
        let verified_addresses = self.verified_addresses.lock().unwrap_or_else(PoisonError::into_inner);
        verified_addresses.get(&network_of(address)).is_some_and(|at| now - at < millis(VERIFIED_FOR))
    }

    /// Records that a signed callback came from the address.
    pub fn note_verified(&self, peer: Option<Peer>, now: Millis) {
        let Some(Peer(address)) = peer else { return };
        let mut verified_addresses = self.verified_addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let network = network_of(address);
        if verified_addresses.len() >= MAX_VERIFIED && !verified_addresses.contains_key(&network) {
            let quietest = verified_addresses.iter().min_by_key(|(_, at)| **at).map(|(network, _)| *network);
            quietest.and_then(|network| verified_addresses.remove(&network));
        }
        verified_addresses.insert(network, now);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn network(last: u8) -> Owner {
        Owner::Network(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn one_owner_cannot_hold_the_whole_budget() {
        let budget = Budget::new(10, 4);
        let [mut a, mut b, mut c] = [1, 2, 3].map(|last| budget.open(network(last)));
        assert!(a.grow(4) && !a.grow(1) && !budget.open(network(1)).grow(1), "a share is of all bodies of one");
        assert!(b.grow(4) && c.grow(2) && !c.grow(1), "all together have a limit, too");
        drop(a);
        assert!(c.grow(2) && budget.held() == 8);
        drop((b, c));
        assert_eq!((budget.held(), budget.held.lock().unwrap().by.len()), (0, 0));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_number_of_processed_bodies_is_limited() {
        static RUNNING: AtomicUsize = AtomicUsize::new(0);
        static MOST: AtomicUsize = AtomicUsize::new(0);
        let limits = Arc::new(CallbackLimits::new(Budget::new(1, 1), Budget::new(1, 1), 3));
        let runs: Vec<_> = (0..16)
            .map(|_| {
                let limits = limits.clone();
                tokio::spawn(async move {
                    let slow = || {
                        MOST.fetch_max(RUNNING.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(20));
                        RUNNING.fetch_sub(1, Ordering::SeqCst);
                    };
                    limits.run(limits.open(None, None), slow).await
                })
            })
            .collect();
        // The work of a dropped caller keeps its worker.
        runs[0].abort();
        for work in runs {
            let _ = work.await;
        }
        assert!((1..=3).contains(&MOST.load(Ordering::SeqCst)), "{MOST:?} at a time");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_body_counts_until_the_work_on_it_ends() {
        let budget = Budget::new(10, 10);
        let limits = Arc::new(CallbackLimits::new(Budget::new(1, 1), budget.clone(), 1));
        let mut room = limits.open(None, None);
        assert!(room.grow(7));
        let (started, has_started) = std::sync::mpsc::channel();
        let (end, ending) = std::sync::mpsc::channel::<()>();
        let running = tokio::spawn(async move {
            let work = limits.run(room, move || {
                started.send(()).expect("the test waits");
                ending.recv()
            });
            work.await.map(|_| ())
        });
        has_started.recv().expect("the work begins");
        assert_eq!(budget.held(), 7);
        // The caller is dropped.
        running.abort();
        assert!(running.await.is_err());
        assert_eq!(budget.held(), 7, "the work goes on");
        end.send(()).expect("the work waits");
        tokio::time::timeout(Duration::from_mins(1), async {
            while budget.held() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("room again");
    }

    #[test]
    fn incomplete_bodies_do_not_block_complete_ones() {
        let intake = Intake::default();
        let institution = |last: u8| InstitutionId::from_bytes([last; 16]);
        let mut held: Vec<_> = (0..16).map(|last| intake.keyed(institution(last))).collect();
        held.iter_mut().for_each(|room| while room.grow(1 << 10) {});
        assert!(!intake.keyed(institution(99)).grow(1), "the room for incomplete bodies is used up");
        assert!(intake.keyed(institution(99)).grow_whole(64 << 10));
        drop(held);
        let mut alone = intake.keyed(institution(1));
        while alone.grow(1 << 10) {}
        assert!(intake.keyed(institution(99)).grow(7 * MIB), "one institution leaves room for others");
    }

    #[test]
    fn large_bodies_do_not_block_small_ones() {
        let intake = Intake::default();
        let peer = |last: u8| Some(Peer(IpAddr::from([192, 0, 2, last])));
        for limits in [intake.callbacks(true), intake.callbacks(false)] {
            let mut large: Vec<_> = (0..16).map(|last| limits.open(peer(last), None)).collect();
            large.iter_mut().for_each(|room| while room.grow(MIB) {});
            assert!(!limits.open(peer(99), Some(SMALL + 1)).grow(1), "all room for large bodies is used up");
            assert!(limits.open(peer(99), Some(SMALL)).grow(64 << 10));
            let mut small = limits.open(peer(1), Some(1));
            while small.grow(1 << 10) {}
            assert!(limits.open(peer(99), Some(SMALL)).grow(64 << 10), "one address does not fill it");
            drop(large);
            let mut alone = limits.open(peer(1), None);
            while alone.grow(MIB) {}
            assert!(limits.open(peer(99), None).grow(3 * MIB), "one address leaves room for another's largest body");
        }
    }

    #[test]
    fn verified_addresses_are_bounded_and_expire() {
        let intake = Intake::default();
        let peer = |number: u32| Some(Peer(IpAddr::from(number.to_be_bytes())));
        for number in 0..2_000 {
            intake.note_verified(peer(number), Millis::from(number));
        }
        assert_eq!(intake.verified_addresses.lock().unwrap().len(), MAX_VERIFIED);
        assert!(intake.is_verified(peer(1_999), 2_000) && !intake.is_verified(peer(0), 2_000));
        assert!(!intake.is_verified(peer(1_999), 2_000 + millis(VERIFIED_FOR)));
    }
}
