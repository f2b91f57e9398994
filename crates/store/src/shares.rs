//! What the calls of one owner may read and write at a time.
//!
//! All calls of a process share a few readers, one writing thread or some connections. Without shares the parallel calls of
//! one owner fill the line in front of them, and everything else waits there: the calls of other owners, webhooks, the event
//! stream, the dispatcher. So the operations of a call wait in a line of its owner, which has a limit, and only a part of the
//! readers and connections is for calls. What the server does for itself waits in none of these lines.
//!
//! The owner travels with the task of the call, and not with each of the many operations of the ports. So no operation
//! can forget it, and a call that waits for something else, such as an event, holds nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use recado_domain::event::Owner;
use recado_domain::ids::InstitutionId;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{Result, StoreError};

/// The most operations of one owner that run or wait in one line, for calls that only look.
pub const LOOKING: usize = 100;
/// The same for calls that change something. A burst of messages must pass.
pub const CHANGING: usize = 1_000;
/// How many lines are remembered before the empty ones are forgotten.
const REMEMBERED: usize = 1_024;

tokio::task_local! {
    /// The call that the task answers. `None`: what the task does counts as the server's own.
    static CALL: Option<Call>;
}

/// A call that uses the store.
#[derive(Debug, Clone)]
pub enum Call {
    /// The call changes nothing. The token is cancelled when its client has left, or sends nothing more: it waits no longer.
    Looks(Owner, CancellationToken),
    /// The call may change something, so it runs to its end.
    Changes(Owner),
}

/// Runs the work of a call: its operations wait in lines of its owner.
pub async fn of_call<T>(call: Call, work: impl Future<Output = T>) -> T {
    CALL.scope(Some(call), work).await
}

/// Runs a part of a call that counts as the server's own. For work under a lock that calls of other owners wait
/// for: they must not wait for the line of this owner.
pub async fn of_server<T>(work: impl Future<Output = T>) -> T {
    CALL.scope(None, work).await
}

/// The lines of all owners in front of one thing that they share.
pub(crate) struct Shares {
    lines: Mutex<Lines>,
    /// Operations of all calls at a time.
    all: Arc<Semaphore>,
    /// Operations of one institution at a time.
    each: usize,
}

#[derive(Default)]
struct Lines {
    /// Limits the operations of an owner that run or wait. Each holds a place, so a line whose places nobody holds is empty. Calls
    /// that only look have a line apart from the others.
    places: HashMap<(Owner, bool), Arc<Semaphore>>,
    /// Limits the operations that run: of all lines of an institution together, so that one institution leaves something to others.
    turns: HashMap<InstitutionId, Arc<Semaphore>>,
}

/// The right of a call to begin an operation. Held until the operation ends.
pub(crate) struct Share {
    _held: [OwnedSemaphorePermit; 3],
}

impl Shares {
    /// So many operations of all calls at a time, and so many of one institution.
    pub(crate) fn new(all: usize, each: usize) -> Self {
        Self { lines: Mutex::default(), all: Arc::new(Semaphore::new(all)), each }
    }

    /// Waits until the call of this task may go on. `None`: the task answers no call, and needs no share.
    /// [`Overloaded`](StoreError::Overloaded): the line is full, or the client has left.
    pub(crate) async fn acquire(&self) -> Result<Option<Share>> {
        let Some(call) = CALL.try_with(Clone::clone).ok().flatten() else { return Ok(None) };
        let (places, turns) = self.line(&call);
        let place = places.try_acquire_owned().map_err(|_| StoreError::Overloaded)?;
        let share = async {
            let turn = turns.acquire_owned().await?;
            // Last, so that an institution whose turns are taken does not stand in the way of others.
            let of_all = self.all.clone().acquire_owned().await?;
            Ok::<_, AcquireError>(Share { _held: [place, turn, of_all] })
        };
        tokio::select! {
            biased;
            share = share => share.map(Some).map_err(|error| StoreError::Unavailable(error.to_string())),
            () = call.left() => Err(StoreError::Overloaded),
        }
    }

    /// The places and the turns of a call.
    fn line(&self, call: &Call) -> (Arc<Semaphore>, Arc<Semaphore>) {
        let (key, places) = match call {
            Call::Looks(owner, _) => ((*owner, true), LOOKING),
            Call::Changes(owner) => ((*owner, false), CHANGING),
        };
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.places.len() >= REMEMBERED {
            lines.places.retain(|_, places| Arc::strong_count(places) > 1);
            lines.turns.retain(|_, turns| Arc::strong_count(turns) > 1);
        }
        let of = |permits| Arc::new(Semaphore::new(permits));
        let places = lines.places.entry(key).or_insert_with(|| of(places)).clone();
        (places, lines.turns.entry(key.0.0).or_insert_with(|| of(self.each)).clone())
    }
}

impl Call {
    /// Waits until the client has left, if that ends the call.
    async fn left(&self) {
        match self {
            Self::Looks(_, left) => left.cancelled().await,
            Self::Changes(_) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::{FutureExt, LocalBoxFuture, poll_immediate};
    use recado_domain::api_key::Environment;

    use super::*;

    fn owner(n: u8) -> Owner {
        (InstitutionId::from_bytes([n; 16]), Environment::Live)
    }

    fn looks(n: u8) -> Call {
        Call::Looks(owner(n), CancellationToken::new())
    }

    fn acquire(shares: &Arc<Shares>, call: Call) -> LocalBoxFuture<'static, Result<Option<Share>>> {
        let shares = shares.clone();
        of_call(call, async move { shares.acquire().await }).boxed_local()
    }

    async fn is_refused(shares: &Arc<Shares>, call: Call) -> bool {
        matches!(poll_immediate(acquire(shares, call)).await, Some(Err(StoreError::Overloaded)))
    }

    #[tokio::test]
    async fn an_owner_has_its_share_and_its_line() {
        let shares = Arc::new(Shares::new(3, 2));
        let held = [acquire(&shares, looks(1)).await.expect("free"), acquire(&shares, looks(1)).await.expect("free")];
        let mut waiting: Vec<_> = (2..LOOKING).map(|_| acquire(&shares, looks(1))).collect();
        for read in &mut waiting {
            assert!(poll_immediate(read).await.is_none(), "the owner has its share");
        }
        assert!(is_refused(&shares, looks(1)).await, "its line is full");
        // What it changes has places of its own, and the turns of the institution, whose test keys have the same.
        let test = Call::Changes((owner(1).0, Environment::Test));
        let mut more = [acquire(&shares, Call::Changes(owner(1))), acquire(&shares, test)];
        for operation in &mut more {
            assert!(poll_immediate(operation).await.is_none(), "the institution has its share");
        }
        let other = acquire(&shares, looks(2)).await.expect("not refused").expect("a share");
        let mut third = acquire(&shares, looks(3));
        assert!(poll_immediate(&mut third).await.is_none(), "all shares are taken");
        assert!(shares.acquire().await.expect("never refused").is_none(), "the server takes no share");
        let of_server = of_call(looks(1), of_server(shares.acquire()));
        assert!(of_server.await.expect("never refused").is_none());
        // The third institution has waited longest for a reader: those in the lines before it wait for their institution.
        drop(other);
        let third = poll_immediate(&mut third).await.expect("its turn").expect("not refused");
        drop((third, held));
        let [first, second] = [0, 1].map(|_| waiting.remove(0));
        assert!(first.await.expect("its turn").is_some());
        assert!(second.await.expect("its turn").is_some());
    }

    #[tokio::test]
    async fn a_call_that_ends_leaves_its_place_to_the_next() {
        let shares = Arc::new(Shares::new(1, 1));
        let held = acquire(&shares, looks(1)).await.expect("free");
        let left = CancellationToken::new();
        let mut leaving = acquire(&shares, Call::Looks(owner(1), left.clone()));
        assert!(poll_immediate(&mut leaving).await.is_none());
        let mut waiting: Vec<_> = (2..LOOKING).map(|_| acquire(&shares, looks(1))).collect();
        for read in &mut waiting {
            assert!(poll_immediate(read).await.is_none());
        }
        assert!(is_refused(&shares, looks(1)).await, "the line is full");
        left.cancel();
        assert!(matches!(poll_immediate(leaving).await, Some(Err(StoreError::Overloaded))), "nobody waits for it");
        let mut next = acquire(&shares, looks(1));
        assert!(poll_immediate(&mut next).await.is_none(), "there is a place");
        assert!(is_refused(&shares, looks(1)).await, "the line is full again");
        // A call that is dropped gives its place back, too.
        drop(next);
        let mut next = acquire(&shares, looks(1));
        assert!(poll_immediate(&mut next).await.is_none());
        drop((held, waiting));
        assert!(next.await.expect("its turn").is_some());
    }

    #[tokio::test]
    async fn lines_of_owners_that_do_not_read_are_forgotten() {
        let shares = Arc::new(Shares::new(2, 1));
        let held = acquire(&shares, looks(0)).await.expect("free");
        for n in 0..2 * REMEMBERED {
            let id = InstitutionId::from_bytes(u128::try_from(n + 1).expect("a number").to_be_bytes());
            drop(acquire(&shares, Call::Changes((id, Environment::Test))).await.expect("free"));
        }
        assert!(shares.lines.lock().expect("not poisoned").places.len() <= REMEMBERED);
        assert!(poll_immediate(acquire(&shares, looks(0))).await.is_none(), "its read still counts");
        drop(held);
    }
}
