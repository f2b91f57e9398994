//! Tries to store what the store refused when it arrived.

use recado_domain::clock::{Entropy, Millis};
use recado_domain::incoming::{Arrivals, RefusedArrival};
use recado_store::sealed::KeyRing;
use recado_store::{Refusals, StoreError};

use super::{open, short};
use crate::arrivals::simplified;

/// Arrivals that are held in memory.
const AT_ONCE: usize = 20;
/// How long an arrival is kept. A version that can store it should be there by then.
const KEPT: Millis = 30 * DAY;
/// How long one is kept that cannot be opened: another key or another version may open it.
const KEPT_CLOSED: Millis = 31 * DAY;
/// None is given up before so many tries, which take a day: a clock may be ahead for a moment.
const LEAST_TRIES: u32 = 144;
const DAY: Millis = 24 * 60 * 60 * 1_000;

/// Tries everything that is due at this time. What fails for another reason, as when the inbox of its owner is busy, is due again
/// later and keeps nothing else from its turn; the first such failure is returned.
pub async fn retry_due<S>(store: &S, secrets: &KeyRing, entropy: &dyn Entropy, now: Millis) -> Result<(), StoreError>
where
    S: Refusals + ?Sized,
{
    let mut failed = None;
    loop {
        let due = store.due_refused(now, AT_ONCE).await?;
        if due.is_empty() {
            return failed.map_or(Ok(()), Err);
        }
        for one in due {
            let arrivals = open(&one, secrets, entropy);
            let is_old = now - one.since >= if arrivals.is_some() { KEPT } else { KEPT_CLOSED };
            let is_over = is_old && one.tries >= LEAST_TRIES;
            let done = match arrivals {
                Some(arrivals) => try_one(store, &one, arrivals, (is_over, now)).await,
                None if is_over => {
                    let refused = short(&one.key.id);
                    tracing::error!(refused, "received message lost: no secret key here opens it");
                    store.forget_refused(one.key.clone()).await.map(drop)
                }
                None => store.defer_refused(one.key.clone(), now).await,
            };
            if let Err(error) = done {
                // If the store does not work at all, this fails too and ends the search.
                store.defer_refused(one.key, now).await?;
                failed.get_or_insert(error);
            }
        }
    }
}

/// The last time a simpler form is enough.
async fn try_one<S>(
    store: &S,
    one: &RefusedArrival,
    arrivals: Arrivals,
    (is_last, now): (bool, Millis),
) -> Result<(), StoreError>
where
    S: Refusals + ?Sized,
{
    let refused = short(&one.key.id);
    let simple = simple(&arrivals).filter(|_| is_last);
    match (store.store_refused(one.key.clone(), arrivals, now).await, simple) {
        (Err(StoreError::Refused(_)), Some(simple)) => match store.store_refused(one.key.clone(), simple, now).await {
            Err(StoreError::Refused(_)) => give_up(store, one).await,
            stored => {
                stored?;
                tracing::error!(refused, "message refused by the store; only its text is kept");
                Ok(())
            }
        },
        (Err(StoreError::Refused(_)), None) if is_last => give_up(store, one).await,
        (Err(StoreError::Refused(_)), None) => store.defer_refused(one.key.clone(), now).await,
        (stored, _) => {
            if stored?.is_some() {
                tracing::info!(refused, "received message stored that was refused before");
            }
            Ok(())
        }
    }
}

fn simple(arrivals: &Arrivals) -> Option<Arrivals> {
    let simple = arrivals.arrivals.iter().map(simplified).collect::<Option<Vec<_>>>()?;
    Some(Arrivals { arrivals: simple, ..arrivals.clone() })
}

async fn give_up<S>(store: &S, one: &RefusedArrival) -> Result<(), StoreError>
where
    S: Refusals + ?Sized,
{
    tracing::error!(refused = short(&one.key.id), tries = one.tries, "received message lost: the store refuses it");
    store.forget_refused(one.key.clone()).await.map(drop)
}
