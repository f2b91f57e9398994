//! Bodies in memory: how many bytes of them are held at a time, whose they are, and who works on them.
//!
//! A byte counts from its arrival until the work on its body is finished. A body that finds no room is refused at once:
//! bodies that waited for each other's room would hold what they have.

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

/// Whose bytes are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Whose {
    /// A caller with a key.
    Institution(InstitutionId),
    /// A caller who is known by the address alone.
    Network(IpAddr),
}

/// Bytes that may be held at a time.
pub struct Budget {
    total: usize,
    /// Most for one [`Whose`].
    share: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    all: usize,
    by: HashMap<Whose, usize>,
}

impl Budget {
    /// Of so many bytes, of which one may hold that share.
    pub fn new(total: usize, share: usize) -> Arc<Self> {
        Arc::new(Self { total, share, held: Mutex::default() })
    }

    /// Room for a body, of no bytes yet.
    fn open(self: &Arc<Self>, of: Whose) -> Room {
        Room { budget: self.clone(), whole: None, of, bytes: 0 }
    }

    /// The bytes that are held now.
    #[cfg(test)]
    fn held(&self) -> usize {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).all
    }
}

/// The bytes that one body holds; given back when dropped.
pub struct Room {
    budget: Arc<Budget>,
    /// Where it counts instead if it comes whole.
    whole: Option<Arc<Budget>>,
    of: Whose,
    bytes: usize,
}

impl Room {
    /// Takes so many bytes of a body that came whole with its first bytes; false where there is no room for them.
    pub fn grow_whole(&mut self, bytes: usize) -> bool {
        if let Some(whole) = self.whole.take() {
            self.budget = whole;
        }
        self.grow(bytes)
    }

    /// Takes so many more; false where there is no room for them.
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

/// What one kind of callers without a key may cost.
pub struct Lane {
    /// For bodies that announce [`SMALL`] bytes at most, as most of Meta's do: who holds many bytes of large bodies keeps
    /// no small one out.
    small: Arc<Budget>,
    /// For all others.
    large: Arc<Budget>,
    /// Bodies that are worked on at a time.
    hands: Arc<Semaphore>,
}

impl Lane {
    /// Of these bytes, with so many bodies worked on at a time.
    pub fn new(small: Arc<Budget>, large: Arc<Budget>, hands: usize) -> Self {
        Self { small, large, hands: Arc::new(Semaphore::new(hands)) }
    }

    /// Room for a body from this address, of which so many bytes were announced.
    pub fn open(&self, peer: Option<Peer>, announced: Option<u64>) -> Room {
        let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |Peer(address)| network_of(address));
        let budget = if announced.is_some_and(|bytes| bytes <= SMALL) { &self.small } else { &self.large };
        budget.open(Whose::Network(address))
    }

    /// Works on a body, off the threads that answer. Should the caller go away, the work keeps its hand and its room until
    /// it ends.
    pub async fn work<T: Send + 'static>(
        &self,
        room: Room,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(T, Room), AppError> {
        let hand = tokio::time::timeout(CALLBACK_TIMEOUT, self.hands.clone().acquire_owned()).await;
        let Ok(Ok(hand)) = hand else { return Err(AppError::Unavailable) };
        let working = tokio::task::spawn_blocking(move || {
            let _hand = hand;
            (work(), room)
        });
        working.await.map_err(|_| AppError::Internal)
    }
}

/// The budgets of a server.
pub struct Intake {
    /// For bodies of callers with a key.
    keyed: Arc<Budget>,
    /// For those of them that came whole: bodies that are kept incomplete keep none of these out.
    whole: Arc<Budget>,
    /// For callbacks from addresses that have sent signed ones.
    known: Lane,
    /// For callbacks from all others.
    strangers: Lane,
    /// The addresses that have sent signed callbacks, with the time of the last.
    vouched: Mutex<HashMap<IpAddr, Millis>>,
}

/// The time that a caller without a key has for a body, and that the body then waits for a hand. Meta repeats a callback
/// that takes longer.
pub const CALLBACK_TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of a body that counts as small.
const SMALL: u64 = 64 << 10;
/// Addresses that are known to have sent signed callbacks; beyond it the one that was quiet for longest makes room.
const VOUCHED: usize = 1_024;
/// How long an address stays known.
const VOUCHED_FOR: Duration = Duration::from_hours(24);

impl Default for Intake {
    fn default() -> Self {
        Self {
            keyed: Budget::new(64 * MIB, 8 * MIB),
            whole: Budget::new(64 * MIB, 16 * MIB),
            // A tenant can have its own address known. One address alone fills no budget.
            known: Lane::new(Budget::new(8 * MIB, 4 * MIB), Budget::new(32 * MIB, 24 * MIB), 2),
            // The hand of strangers is not Meta's.
            strangers: Lane::new(Budget::new(8 * MIB, MIB), Budget::new(16 * MIB, 4 * MIB), 1),
            vouched: Mutex::default(),
        }
    }
}

impl Intake {
    /// Room for a body of a caller with a key.
    pub fn keyed(&self, institution: InstitutionId) -> Room {
        let mut room = self.keyed.open(Whose::Institution(institution));
        room.whole = Some(self.whole.clone());
        room
    }

    /// What a callback from this address may cost.
    pub fn lane(&self, known: bool) -> &Lane {
        if known { &self.known } else { &self.strangers }
    }

    /// Whether signed callbacks have come from the address of late: a proxy's address is that of Meta and of strangers.
    pub fn knows(&self, peer: Option<Peer>, now: Millis) -> bool {
        let Some(Peer(address)) = peer else { return false };
        let vouched = self.vouched.lock().unwrap_or_else(PoisonError::into_inner);
        vouched.get(&network_of(address)).is_some_and(|at| now - at < millis(VOUCHED_FOR))
    }

    /// Notes that a signed callback came from the address.
    pub fn vouch(&self, peer: Option<Peer>, now: Millis) {
        let Some(Peer(address)) = peer else { return };
        let mut vouched = self.vouched.lock().unwrap_or_else(PoisonError::into_inner);
        let network = network_of(address);
        if vouched.len() >= VOUCHED && !vouched.contains_key(&network) {
            let quietest = vouched.iter().min_by_key(|(_, at)| **at).map(|(network, _)| *network);
            quietest.and_then(|network| vouched.remove(&network));
        }
        vouched.insert(network, now);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn network(last: u8) -> Whose {
        Whose::Network(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn one_cannot_hold_what_is_for_all() {
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
    async fn only_so_many_bodies_are_worked_on_at_a_time() {
        static RUNNING: AtomicUsize = AtomicUsize::new(0);
        static MOST: AtomicUsize = AtomicUsize::new(0);
        let lane = Arc::new(Lane::new(Budget::new(1, 1), Budget::new(1, 1), 3));
        let works: Vec<_> = (0..16)
            .map(|_| {
                let lane = lane.clone();
                tokio::spawn(async move {
                    let slow = || {
                        MOST.fetch_max(RUNNING.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(20));
                        RUNNING.fetch_sub(1, Ordering::SeqCst);
                    };
                    lane.work(lane.open(None, None), slow).await
                })
            })
            .collect();
        // One whose caller went away keeps its hand.
        works[0].abort();
        for work in works {
            let _ = work.await;
        }
        assert!((1..=3).contains(&MOST.load(Ordering::SeqCst)), "{MOST:?} at a time");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_body_counts_until_the_work_on_it_ends() {
        let budget = Budget::new(10, 10);
        let lane = Arc::new(Lane::new(Budget::new(1, 1), budget.clone(), 1));
        let mut room = lane.open(None, None);
        assert!(room.grow(7));
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ending) = std::sync::mpsc::channel::<()>();
        let working = tokio::spawn(async move {
            let work = lane.work(room, move || {
                tell.send(()).expect("the test waits");
                ending.recv()
            });
            work.await.map(|_| ())
        });
        told.recv().expect("the work begins");
        assert_eq!(budget.held(), 7);
        // Its caller goes away.
        working.abort();
        assert!(working.await.is_err());
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
    fn incomplete_bodies_keep_no_whole_one_out() {
        let intake = Intake::default();
        let institution = |last: u8| InstitutionId::from_bytes([last; 16]);
        let mut held: Vec<_> = (0..16).map(|last| intake.keyed(institution(last))).collect();
        held.iter_mut().for_each(|room| while room.grow(1 << 10) {});
        assert!(!intake.keyed(institution(99)).grow(1), "the room for incomplete ones is taken");
        assert!(intake.keyed(institution(99)).grow_whole(64 << 10));
        drop(held);
        let mut alone = intake.keyed(institution(1));
        while alone.grow(1 << 10) {}
        assert!(intake.keyed(institution(99)).grow(7 * MIB), "one institution leaves room for others");
    }

    #[test]
    fn large_bodies_keep_no_small_one_out() {
        let intake = Intake::default();
        let peer = |last: u8| Some(Peer(IpAddr::from([192, 0, 2, last])));
        for lane in [intake.lane(true), intake.lane(false)] {
            let mut large: Vec<_> = (0..16).map(|last| lane.open(peer(last), None)).collect();
            large.iter_mut().for_each(|room| while room.grow(MIB) {});
            assert!(!lane.open(peer(99), Some(SMALL + 1)).grow(1), "all room for large ones is taken");
            assert!(lane.open(peer(99), Some(SMALL)).grow(64 << 10));
            let mut small = lane.open(peer(1), Some(1));
            while small.grow(1 << 10) {}
            assert!(lane.open(peer(99), Some(SMALL)).grow(64 << 10), "one address does not fill it");
            drop(large);
            let mut alone = lane.open(peer(1), None);
            while alone.grow(MIB) {}
            assert!(lane.open(peer(99), None).grow(3 * MIB), "one address leaves room for another's largest body");
        }
    }

    #[test]
    fn addresses_that_are_known_are_bounded_and_forgotten() {
        let intake = Intake::default();
        let peer = |number: u32| Some(Peer(IpAddr::from(number.to_be_bytes())));
        for number in 0..2_000 {
            intake.vouch(peer(number), Millis::from(number));
        }
        assert_eq!(intake.vouched.lock().unwrap().len(), VOUCHED);
        assert!(intake.knows(peer(1_999), 2_000) && !intake.knows(peer(0), 2_000));
        assert!(!intake.knows(peer(1_999), 2_000 + millis(VOUCHED_FOR)));
    }
}
