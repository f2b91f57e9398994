//! The least rate of a download. Without it, a server that sends one byte now and then would keep a slot for ten minutes.

use std::time::Duration;

use futures_util::StreamExt;
use hyper::body::Bytes;
use recado_providers::media::{Chunks, MediaError};
use tokio::time::{Instant, timeout_at};

/// How slow a download may be.
#[derive(Clone, Copy)]
pub struct Pace {
    /// The time before the rate counts. A server may take some time to begin.
    pub grace: Duration,
    /// Bytes per second, on average over the time after the grace.
    pub rate: u64,
}

/// 100 MiB at this rate take longer than a download may take in all, so it does not refuse a slow line.
pub const LEAST: Pace = Pace { grace: Duration::from_secs(30), rate: 16 << 10 };

/// The bytes of a download, as long as they are not too slow.
pub struct Paced {
    bytes: Chunks,
    pace: Pace,
    began: Instant,
    got: u64,
}

impl Paced {
    pub fn new(bytes: Chunks, pace: Pace) -> Self {
        Self { bytes, pace, began: Instant::now(), got: 0 }
    }

    /// The next bytes; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes, MediaError>> {
        let earned = Duration::from_millis(self.got.saturating_mul(1_000) / self.pace.rate);
        let next = timeout_at(self.began + self.pace.grace + earned, self.bytes.next()).await;
        let next = next.unwrap_or(Some(Err(MediaError::Unavailable("too slow"))));
        self.got += next.as_ref().and_then(|bytes| bytes.as_ref().ok()).map_or(0, |bytes| bytes.len() as u64);
        next
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    /// Pieces of this many bytes, each after a wait.
    fn pieces(count: usize, bytes: usize, wait: Duration) -> Paced {
        let pieces = stream::iter(0..count).then(move |_| async move {
            tokio::time::sleep(wait).await;
            Ok(Bytes::from(vec![0; bytes]))
        });
        Paced::new(pieces.boxed(), Pace { grace: Duration::from_millis(300), rate: 10_000 })
    }

    async fn end(mut paced: Paced) -> (u64, Option<MediaError>) {
        loop {
            match paced.next().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return (paced.got, Some(error)),
                None => return (paced.got, None),
            }
        }
    }

    #[tokio::test]
    async fn a_download_below_the_least_rate_ends_and_another_does_not() {
        let wait = Duration::from_millis(50);
        // 1,000 bytes per second, and 40,000.
        let (got, error) = end(pieces(40, 50, wait)).await;
        assert_eq!(error, Some(MediaError::Unavailable("too slow")));
        assert!((50..800).contains(&got), "{got}");
        assert_eq!(end(pieces(20, 2_000, wait)).await, (40_000, None));
        // Nothing comes at all.
        let none = pieces(1, 1, Duration::from_mins(1));
        assert_eq!(end(none).await, (0, Some(MediaError::Unavailable("too slow"))));
    }
}
