//! Posts an event to the receiver, as the delivery of a webhook does, and prints each attempt.

use std::time::Duration;

use anyhow::Result;
use axum::http::header::{CONTENT_TYPE, USER_AGENT};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use recado_domain::clock::{Clock, millis};
use recado_gateway::signature::{ID_HEADER, SIGNATURE_HEADER, SigningKey, TIMESTAMP_HEADER, sign};
use recado_providers::outbound::address::{Allowed, Network};
use recado_providers::outbound::client::{Answer, Client, Failure};
use recado_providers::outbound::url::{Host, TargetUrl};
use recado_store::clock::{SystemClock, rfc3339};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::events::Event;
use crate::{Output, output};

/// The longest wait between two attempts.
const LONGEST: Duration = Duration::from_secs(30);

/// Posts events to one URL.
pub struct Forwarder<'a> {
    url: TargetUrl,
    client: Client,
    key: SigningKey,
    attempts: u8,
    output: &'a Output,
}

impl<'a> Forwarder<'a> {
    pub fn new(url: TargetUrl, secret: &str, attempts: u8, output: &'a Output) -> Self {
        // Every address is allowed: the user who typed the URL may call any address from this machine.
        let all: Vec<Network> = ["0.0.0.0/0", "::/0"].into_iter().filter_map(|text| text.parse().ok()).collect();
        let client = Client::new(Allowed::new(all, Vec::new()));
        Self { url, client, key: SigningKey::of_secret(secret), attempts, output }
    }

    /// Whether events cross a network without TLS.
    pub fn leaves_this_machine_in_clear(&self) -> bool {
        let is_here = match &self.url.host {
            Host::Address(address) => address.is_loopback(),
            Host::Name(name) => name == "localhost" || name.ends_with(".localhost"),
        };
        !self.url.secure && !is_here
    }

    /// Posts an event until the receiver accepts it, or the attempts are used up. Returns whether it was accepted.
    pub async fn forward(&self, event: &Event) -> Result<bool> {
        for attempt in 1..=self.attempts {
            let started = Instant::now();
            let answer =
                self.client.post(&self.url, None, self.headers(event, attempt)?, event.text.clone().into()).await;
            let is_accepted = answer.is_ok_and(|answer| answer.status.is_success());
            let wait = (!is_accepted && attempt < self.attempts).then(|| wait_after(attempt));
            self.print(event, attempt, (answer, started.elapsed()), wait)?;
            if is_accepted {
                return Ok(true);
            }
            if let Some(wait) = wait {
                sleep(wait).await;
            }
        }
        Ok(false)
    }

    fn headers(&self, event: &Event, attempt: u8) -> Result<HeaderMap> {
        let id = event.value["id"].as_str().unwrap_or_default();
        let seconds = SystemClock.now().div_euclid(1_000);
        let signature = sign(std::slice::from_ref(&self.key), id, seconds, event.text.as_bytes());
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static("Recado-Webhooks/1"));
        for (name, value) in [(ID_HEADER, id), (TIMESTAMP_HEADER, &seconds.to_string()), (SIGNATURE_HEADER, &signature)]
        {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value)?);
        }
        if attempt > 1 {
            headers.insert(HeaderName::from_static("webhook-attempt"), u16::from(attempt).into());
        }
        Ok(headers)
    }

    /// Prints an attempt. `wait` is the time until the next one.
    fn print(
        &self,
        event: &Event,
        attempt: u8,
        (answer, took): (Result<Answer, Failure>, Duration),
        wait: Option<Duration>,
    ) -> Result<()> {
        let (at, took) = (rfc3339(SystemClock.now()), millis(took));
        let (id, name) = (&event.value["id"], &event.value["event"]);
        let status = answer.ok().map(|answer| answer.status.as_u16());
        let error = match answer {
            Ok(answer) if answer.status.is_success() => None,
            Ok(answer) if answer.status.is_redirection() => Some("REDIRECT".to_owned()),
            Ok(_) => Some("HTTP_STATUS".to_owned()),
            Err(failure) => Some(failure.to_string()),
        };
        let value = json!({
            "at": at, "eventId": id, "event": name, "attempt": attempt, "statusCode": status, "responseTime": took,
            "error": error, "retryInSeconds": wait.map(|wait| wait.as_secs()),
        });
        output::print(self.output, &value, || {
            let result = status.map_or_else(|| error.clone().unwrap_or_default(), |status| status.to_string());
            let then = match (wait, &error) {
                (Some(wait), _) => format!("  attempt {attempt}, again in {} s", wait.as_secs()),
                (None, Some(_)) => format!("  attempt {attempt}, given up"),
                (None, None) => String::new(),
            };
            format!("{at}  {result}  {took} ms  {}  {}{then}", output::cell(name), output::cell(id))
        })
    }
}

/// The wait after a failed attempt: 1, 2, 4 … 30 seconds.
fn wait_after(attempt: u8) -> Duration {
    Duration::from_secs(1 << (attempt - 1).min(5)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit() {
        let waits: Vec<_> = (1..=20).map(|attempt| wait_after(attempt).as_secs()).collect();
        assert_eq!(waits[..7], [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(waits[19], 30);
    }

    #[test]
    fn only_plain_http_to_another_machine_is_in_clear() {
        let is_clear = |url: &str| {
            let output = Output { json: false };
            let url = TargetUrl::parse(url).expect("a URL");
            Forwarder::new(url, "0123456789abcdef", 1, &output).leaves_this_machine_in_clear()
        };
        for url in ["http://localhost:3000/", "http://127.0.0.1:3000", "http://[::1]:3000", "https://example.com"] {
            assert!(!is_clear(url), "{url}");
        }
        for url in ["http://example.com", "http://10.0.0.1", "http://localhost.example.com"] {
            assert!(is_clear(url), "{url}");
        }
    }
}
