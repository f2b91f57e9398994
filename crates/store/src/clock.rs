//! The system's time and randomness. No other code may ask the system for them (clippy checks that), so tests can
//! control both.

use std::cell::RefCell;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use recado_domain::clock::{Clock, Entropy, Millis, millis};

/// The system's clock, which in this process does not go backwards; see `Forward`.
pub struct SystemClock;

static FORWARD: Forward = Forward { last: AtomicI64::new(0), slow: Mutex::new(None) };

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system for the time")]
    fn now(&self) -> Millis {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        FORWARD.read(Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX), Instant::now)
    }
}

/// The farthest that the system's clock is set back without this process following at once. A clock that was several hours
/// wrong is no small correction: its times must not go on to be written.
const FARTHEST_BACK: Millis = 4 * 60 * 60 * 1_000;
/// Smaller steps back are not logged.
const WORTH_A_LINE: Millis = 1_000;

/// Time that does not go backwards. When the system's clock is set back, this clock runs at half speed until the
/// system's clock has caught up. So each wait for a stored time (a retry, a send interval, the end of a claim) takes
/// twice as long at most, instead of the whole time by which the clock was set back.
struct Forward {
    /// The latest time that was returned.
    last: AtomicI64,
    /// When the half speed began, and the time that was returned then.
    slow: Mutex<Option<(Instant, Millis)>>,
}

impl Forward {
    /// The time to return when the system's clock shows `wall`.
    fn read(&self, wall: Millis, now: impl Fn() -> Instant) -> Millis {
        let last = self.last.fetch_max(wall, Ordering::Relaxed);
        if wall >= last {
            return wall;
        }
        let mut slow = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have returned a later time, or have gone back, while this one waited.
        let last = self.last.load(Ordering::Relaxed);
        if last - wall > FARTHEST_BACK {
            tracing::warn!(milliseconds = last - wall, "clock set back by hours; following at once");
            self.last.store(wall, Ordering::Relaxed);
            *slow = None;
            return wall;
        }
        // The system's clock had caught up since: this is another step back.
        let begins = slow.is_none_or(|(since, shown)| last > shown + half(now().duration_since(since)));
        if begins {
            *slow = Some((now(), last));
            if last - wall > WORTH_A_LINE {
                tracing::warn!(milliseconds = last - wall, "clock set back; running at half speed until it is right");
            }
        }
        let shown = slow.map_or(last, |(since, shown)| shown + half(now().duration_since(since)));
        self.last.fetch_max(shown, Ordering::Relaxed).max(shown)
    }
}

fn half(span: Duration) -> Millis {
    millis(span / 2)
}

/// The system's random source. Ids use a pool, because three ids a request would be three system calls. Secrets do not:
/// a virtual machine that is started twice from one snapshot has the same pool twice.
pub struct SystemEntropy;

/// Bytes of one system call.
const POOL: usize = 1_024;

/// Random bytes, and how many of them are used.
struct Pool([u8; POOL], usize);

thread_local! {
    static RANDOM: RefCell<Pool> = const { RefCell::new(Pool([0; POOL], POOL)) };
}

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        RANDOM.with_borrow_mut(|pool| bytes.chunks_mut(POOL).for_each(|bytes| pool.fill(bytes)));
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system for randomness")]
    fn fill_secret(&self, bytes: &mut [u8]) {
        // Without randomness there are no safe keys and no unique ids: the process has to end.
        getrandom::fill(bytes).expect("the system has a random source");
    }
}

impl Pool {
    fn fill(&mut self, bytes: &mut [u8]) {
        let Self(random, used) = self;
        if random.len() - *used < bytes.len() {
            SystemEntropy.fill_secret(random);
            *used = 0;
        }
        bytes.copy_from_slice(&random[*used..*used + bytes.len()]);
        *used += bytes.len();
    }
}

/// A time as the API writes it: RFC 3339 in UTC, with milliseconds.
pub fn rfc3339(millis: Millis) -> String {
    match jiff::Timestamp::from_millisecond(millis) {
        Ok(time) => format!("{time:.3}"),
        // Out of the calendar: only a broken clock gets here.
        Err(_) => millis.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use recado_domain::clock::{random, secret};

    use super::*;

    #[test]
    fn time_goes_on_at_half_speed_after_a_step_back() {
        const HOUR: Millis = 3_600_000;
        let (forward, start) = (Forward { last: AtomicI64::new(0), slow: Mutex::new(None) }, Instant::now());
        let at = |wall: Millis, passed: u64| forward.read(wall, || start + Duration::from_millis(passed));
        assert_eq!(at(10 * HOUR, 0), 10 * HOUR);
        assert_eq!(at(10 * HOUR + 5, 5), 10 * HOUR + 5);
        // Back by an hour.
        assert_eq!(at(9 * HOUR + 5, 5), 10 * HOUR + 5);
        assert_eq!(at(9 * HOUR + 1_005, 1_005), 10 * HOUR + 505);
        assert_eq!(at(9 * HOUR + 1_004, 1_004), 10 * HOUR + 505, "a thread that asked earlier and is late");
        // Two hours later both are one again, and go at full speed.
        assert_eq!(at(11 * HOUR + 5, 7_200_005), 11 * HOUR + 5);
        assert_eq!(at(11 * HOUR + 1_005, 7_201_005), 11 * HOUR + 1_005);
        // Another step back, and then one by hours.
        assert_eq!(at(11 * HOUR, 7_201_005), 11 * HOUR + 1_005);
        assert_eq!(at(11 * HOUR + 10, 7_201_015), 11 * HOUR + 1_010);
        assert_eq!(at(HOUR, 7_201_015), HOUR);
        assert_eq!(at(HOUR + 1, 7_201_016), HOUR + 1);
    }

    #[test]
    fn ids_come_of_the_pool_and_secrets_do_not() {
        let used = || RANDOM.with_borrow(|pool| pool.1);
        let _: [u8; 10] = random(&SystemEntropy);
        assert_eq!(used(), 10);
        assert_ne!(secret::<64>(&SystemEntropy), secret::<64>(&SystemEntropy));
        assert_eq!(used(), 10);
    }
}
