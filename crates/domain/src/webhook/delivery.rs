//! What an attempt changes in its delivery and its webhook.

use super::retry::{RetryPolicy, delay_after};
use crate::clock::Millis;

/// The state of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeliveryStatus {
    /// The delivery waits for an attempt, or an attempt is in flight.
    Pending,
    Delivered,
    /// A dead letter.
    Failed,
}

impl DeliveryStatus {
    pub const ALL: [Self; 3] = [Self::Pending, Self::Delivered, Self::Failed];

    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Delivered => "DELIVERED",
            Self::Failed => "FAILED",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// The number of the state in the store: its index in [`Self::ALL`]. Database indexes contain the number of
    /// `Pending`.
    pub fn number(self) -> i16 {
        match self {
            Self::Pending => 0,
            Self::Delivered => 1,
            Self::Failed => 2,
        }
    }

    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.number() == number)
    }
}

/// Why an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeliveryError {
    Timeout,
    ConnectFailed,
    TlsFailed,
    AddressRefused,
    HttpStatus,
    Redirect,
    TooLarge,
}

impl DeliveryError {
    pub const ALL: [Self; 7] = [
        Self::Timeout,
        Self::ConnectFailed,
        Self::TlsFailed,
        Self::AddressRefused,
        Self::HttpStatus,
        Self::Redirect,
        Self::TooLarge,
    ];

    /// The name in the API and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Timeout => "TIMEOUT",
            Self::ConnectFailed => "CONNECT_FAILED",
            Self::TlsFailed => "TLS_FAILED",
            Self::AddressRefused => "ADDRESS_REFUSED",
            Self::HttpStatus => "HTTP_STATUS",
            Self::Redirect => "REDIRECT",
            Self::TooLarge => "TOO_LARGE",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|error| error.name() == name)
    }
}

/// An attempt that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// When it began.
    pub at: Millis,
    pub status_code: Option<u16>,
    /// How long it took, in milliseconds.
    pub response_time: Millis,
    /// `None`: the receiver accepted the event.
    pub error: Option<DeliveryError>,
    /// What the receiver's `Retry-After` asked for, with 429 or 503.
    pub retry_after: Option<Millis>,
    /// A random number for the jitter, uniform over all of `u64`.
    pub random: u64,
}

/// The result of an attempt for its delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Delivered,
    /// The delivery is tried again after this delay.
    Retry(Millis),
    Failed,
}

impl Attempt {
    pub fn is_success(&self) -> bool {
        self.error.is_none()
    }

    /// Whether the receiver answered that its address is gone. Such an answer disables the webhook at once.
    pub fn is_gone(&self) -> bool {
        self.status_code == Some(410) && !self.is_success()
    }

    /// Decides the result for the delivery. `failures` is the number of failed attempts before this attempt. `ends`
    /// says that the webhook was disabled in the meantime.
    pub fn verdict(&self, failures: u32, policy: Option<RetryPolicy>, ends: bool) -> Verdict {
        if self.is_success() {
            return Verdict::Delivered;
        }
        if ends || self.is_gone() {
            return Verdict::Failed;
        }
        delay_after(failures.saturating_add(1), policy, self.retry_after, self.random)
            .map_or(Verdict::Failed, Verdict::Retry)
    }
}

/// How the last attempts of a webhook ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Streak {
    /// Failed attempts since the last successful one.
    pub failures: u32,
    /// When the first of these failed attempts ended.
    pub failing_since: Option<Millis>,
    pub last_delivered_at: Option<Millis>,
}

/// A webhook is disabled when all its attempts have failed for this time: 5 days.
const FAILING_FOR: Millis = 5 * 24 * 60 * 60 * 1_000;

impl Streak {
    /// Adds an attempt that ended at this time.
    pub fn add(&mut self, attempt: &Attempt, now: Millis) {
        if attempt.is_success() {
            *self = Self { last_delivered_at: Some(now), ..Self::default() };
        } else {
            self.failures = self.failures.saturating_add(1);
            self.failing_since.get_or_insert(now);
        }
    }

    /// Whether all attempts have failed for so long that the webhook is disabled.
    pub fn is_over(&self, now: Millis) -> bool {
        self.failing_since.is_some_and(|since| now - since >= FAILING_FOR)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn attempt(status_code: u16) -> Attempt {
        let error = (!(200..300).contains(&status_code)).then_some(DeliveryError::HttpStatus);
        Attempt { at: 1, status_code: Some(status_code), response_time: 3, error, retry_after: None, random: 0 }
    }

    #[test]
    fn an_attempt_decides_what_becomes_of_its_delivery() {
        let policy = Some(RetryPolicy { max_retries: 1, delay: 5_000 });
        let table = [
            // The status code, the number of earlier failures, whether the webhook was disabled, and the result.
            (200, 0, false, Verdict::Delivered),
            (204, 9, true, Verdict::Delivered),
            (500, 0, false, Verdict::Retry(5_000)),
            (500, 1, false, Verdict::Failed),
            (500, 0, true, Verdict::Failed),
            (410, 0, false, Verdict::Failed),
        ];
        for (code, failures, ends, verdict) in table {
            assert_eq!(attempt(code).verdict(failures, policy, ends), verdict, "{code}, {failures}, {ends}");
        }
    }

    #[test]
    fn five_days_of_failures_alone_end_a_webhook() {
        let mut streak = Streak::default();
        streak.add(&attempt(500), 7);
        assert!(!streak.is_over(7 + FAILING_FOR - 1) && streak.is_over(7 + FAILING_FOR));
        streak.add(&attempt(500), 8);
        assert_eq!(streak, Streak { failures: 2, failing_since: Some(7), last_delivered_at: None });
        streak.add(&attempt(200), 9);
        assert_eq!(streak, Streak { failures: 0, failing_since: None, last_delivered_at: Some(9) });
        assert!(!streak.is_over(Millis::MAX));
    }

    #[test]
    fn names_and_numbers_are_read_as_they_are_written() {
        for status in DeliveryStatus::ALL {
            assert_eq!(DeliveryStatus::from_number(status.number()), Some(status));
            assert_eq!(DeliveryStatus::from_name(status.name()), Some(status));
        }
        for error in DeliveryError::ALL {
            assert_eq!(DeliveryError::from_name(error.name()), Some(error));
        }
    }
}
