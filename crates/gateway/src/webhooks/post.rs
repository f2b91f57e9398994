//! One signed request, and how it ended.

use std::time::{Duration, UNIX_EPOCH};

use axum::http::header::{CONTENT_TYPE, USER_AGENT};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::body::Bytes;
use recado_domain::clock::{Millis, millis};
use recado_domain::webhook::{Attempt, DeliveryError, Webhook};
use recado_providers::outbound::client::{Answer, Failure};
use recado_providers::outbound::url::TargetUrl;
use tokio::time::Instant;

use super::Webhooks;
use super::sealing::Opened;
use crate::signature::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, sign};

const AGENT: HeaderValue = HeaderValue::from_static("Recado-Webhooks/1");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const ATTEMPT: HeaderName = HeaderName::from_static("webhook-attempt");
const REPLAY: HeaderName = HeaderName::from_static("webhook-replay");

/// A request to make.
pub(super) struct Request<'a> {
    /// The id of the event.
    pub id: &'a str,
    pub body: Bytes,
    /// 1 for the first attempt.
    pub attempt: u32,
    pub replay: bool,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    pub status: Option<StatusCode>,
    /// `None`: the receiver accepted the event.
    pub error: Option<DeliveryError>,
    pub time: Duration,
    /// How long the receiver asks the server to wait before the next request.
    pub retry_after: Option<Duration>,
    /// The receiver was not called, because this process looks up too many names.
    pub busy: bool,
}

impl Outcome {
    fn new(answer: Result<Answer, Failure>, time: Duration, now: Millis) -> Self {
        let busy = answer == Err(Failure::Busy);
        let (status, error, retry_after) = match answer {
            Ok(Answer { status, retry_after }) => {
                let waits = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status);
                let error = match status {
                    _ if status.is_success() => None,
                    _ if status.is_redirection() => Some(DeliveryError::Redirect),
                    _ => Some(DeliveryError::HttpStatus),
                };
                let now = UNIX_EPOCH + Duration::from_millis(now.unsigned_abs());
                (Some(status), error, retry_after.filter(|_| waits).map(|asked| asked.wait(now)))
            }
            Err(failure) => {
                let error = match failure {
                    Failure::Timeout | Failure::Busy => DeliveryError::Timeout,
                    Failure::ConnectFailed => DeliveryError::ConnectFailed,
                    Failure::TlsFailed => DeliveryError::TlsFailed,
                    Failure::AddressRefused => DeliveryError::AddressRefused,
                    Failure::TooLarge => DeliveryError::TooLarge,
                };
                (None, Some(error), None)
            }
        };
        Self { status, error, time, retry_after, busy }
    }

    /// The outcome for the store.
    pub(super) fn attempt(&self, at: i64, random: u64) -> Attempt {
        Attempt {
            at,
            status_code: self.status.map(|status| status.as_u16()),
            response_time: millis(self.time),
            error: self.error,
            retry_after: self.retry_after.map(millis),
            random,
        }
    }
}

impl Webhooks {
    /// Sends a request. The timestamp is the time of this attempt. The body has the same bytes on every attempt.
    pub(super) async fn post(&self, webhook: &Webhook, opened: &Opened, request: Request<'_>) -> Outcome {
        let began = Instant::now();
        // The API checks a URL when it is set, but a later version may refuse a URL that an earlier version accepted.
        let Ok(url) = TargetUrl::parse(&webhook.settings.url) else {
            return Outcome::new(Err(Failure::AddressRefused), Duration::ZERO, self.clock.now());
        };
        let Some(headers) = self.headers(opened, &request) else {
            return Outcome::new(Err(Failure::ConnectFailed), Duration::ZERO, self.clock.now());
        };
        let answer = self.client.post(&url, Some(webhook.owner.0), headers, request.body).await;
        Outcome::new(answer, began.elapsed(), self.clock.now())
    }

    /// The headers. `None`: a text is not a valid header value, which does not happen.
    fn headers(&self, opened: &Opened, request: &Request<'_>) -> Option<HeaderMap> {
        let timestamp = self.clock.now() / 1_000;
        let signature = sign(&opened.keys, request.id, timestamp, &request.body);
        let mut headers = opened.headers.clone();
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(USER_AGENT, AGENT);
        headers.insert(ID_HEADER, HeaderValue::from_str(request.id).ok()?);
        headers.insert(TIMESTAMP_HEADER, timestamp.into());
        headers.insert(SIGNATURE_HEADER, HeaderValue::try_from(signature).ok()?);
        if request.attempt > 1 {
            headers.insert(ATTEMPT, request.attempt.into());
        }
        if request.replay {
            headers.insert(REPLAY, HeaderValue::from_static("true"));
        }
        Some(headers)
    }
}

#[cfg(test)]
mod tests {
    use recado_providers::outbound::client::RetryAfter;

    use super::*;

    #[test]
    fn a_date_is_a_wait_from_now() {
        let retry_after = Some(RetryAfter::Until(UNIX_EPOCH + Duration::from_secs(1_007)));
        let answer = Answer { status: StatusCode::SERVICE_UNAVAILABLE, retry_after };
        let outcome = Outcome::new(Ok(answer), Duration::ZERO, 1_000_000);
        assert_eq!(outcome.retry_after, Some(Duration::from_secs(7)));
    }

    #[test]
    fn only_2xx_is_a_success_and_two_statuses_may_ask_for_a_wait() {
        let wait = Some(Duration::from_secs(7));
        let of = |status| {
            let status = StatusCode::from_u16(status).expect("a status");
            let retry_after = wait.map(RetryAfter::Wait);
            let outcome = Outcome::new(Ok(Answer { status, retry_after }), Duration::ZERO, 0);
            (outcome.error, outcome.retry_after)
        };
        let table = [
            (200, None, None),
            (204, None, None),
            (299, None, None),
            (304, Some(DeliveryError::Redirect), None),
            (307, Some(DeliveryError::Redirect), None),
            (404, Some(DeliveryError::HttpStatus), None),
            (410, Some(DeliveryError::HttpStatus), None),
            (429, Some(DeliveryError::HttpStatus), wait),
            (503, Some(DeliveryError::HttpStatus), wait),
            (500, Some(DeliveryError::HttpStatus), None),
        ];
        for (status, error, retry_after) in table {
            assert_eq!(of(status), (error, retry_after), "{status}");
        }
    }
}
