//! The load: connections that send one contact after another, each as soon as the previous one was answered.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::future::try_join_all;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::header::HeaderValue;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;

/// The phone number on every card.
pub const CARD_PHONE: &str = "5511988887777";

/// One connection to a server.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
}

/// An answer.
pub struct Answer {
    pub status: StatusCode,
    pub message: Option<u128>,
    pub body: Bytes,
}

impl Answer {
    /// Returns the answer if it has this status.
    pub fn expect(self, status: u16) -> Result<Self> {
        if self.status != status {
            bail!("{} instead of {status}: {}", self.status, String::from_utf8_lossy(&self.body));
        }
        Ok(self)
    }
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = tokio::net::TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    pub async fn post(&mut self, path: &str, key: &str, body: String) -> Result<Answer> {
        self.call(path, HeaderValue::from_str(&format!("Bearer {key}"))?, body).await
    }

    async fn call(&mut self, path: &str, authorization: HeaderValue, body: String) -> Result<Answer> {
        let request = Request::post(path)
            .header("host", "bench")
            .header("authorization", authorization)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let message = response.headers().get("x-message-id").map(message_id).transpose()?;
        let body = response.into_body().collect().await?.to_bytes();
        Ok(Answer { status, message, body })
    }
}

fn message_id(value: &HeaderValue) -> Result<u128> {
    u128::from_str_radix(&value.to_str()?.replace('-', ""), 16).context("a message's id is a UUID")
}

/// Keys that the calls use in rotation.
#[derive(Default)]
pub struct Keys(Vec<HeaderValue>);

impl Keys {
    pub fn add(&mut self, key: &str) {
        self.0.extend(HeaderValue::from_str(&format!("Bearer {key}")));
    }

    fn of(&self, number: u64) -> HeaderValue {
        let index = usize::try_from(number).unwrap_or_default() % self.0.len().max(1);
        self.0.get(index).cloned().unwrap_or(HeaderValue::from_static("Bearer none"))
    }
}

/// The target of a load, and the numbers of its contacts.
pub struct Target<'a> {
    pub address: SocketAddr,
    pub keys: &'a Keys,
    pub channels: u64,
    /// The number of recipients, used in rotation.
    pub people: u64,
    /// The number of the next contact, which continues from load to load.
    pub next: &'a AtomicU64,
}

/// The duration of a load.
#[derive(Clone, Copy)]
pub enum Until {
    /// Answers during the time after the warm-up count.
    Time(Duration),
    Count(u64),
}

const WARM_UP: Duration = Duration::from_secs(1);

/// The result of a load.
pub struct Outcome {
    /// Answers a second.
    pub rate: f64,
    /// The latency of each answer, ascending.
    latencies: Vec<Duration>,
    /// The accepted ids, warm-up included.
    pub accepted: Vec<u128>,
}

impl Outcome {
    /// The latency in milliseconds that this share of the answers did not exceed.
    pub fn latency(&self, share: f64) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small"
        )]
        let place = (self.latencies.len() as f64 * share) as usize;
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get(place.min(last)).map_or(0.0, |latency| latency.as_secs_f64() * 1_000.0)
    }
}

/// Runs a load over this many connections.
pub async fn run(target: &Target<'_>, connections: u32, until: Until) -> Result<Outcome> {
    let started = Instant::now();
    let (from, to, last) = match until {
        Until::Time(time) => (started + WARM_UP, started + WARM_UP + time, u64::MAX),
        Until::Count(count) => {
            (started, started + Duration::from_hours(24), target.next.load(Ordering::Relaxed) + count)
        }
    };
    let work = (0..connections).map(|connection| async move {
        let mut client = Client::connect(target.address).await?;
        let mut done = Vec::new();
        while Instant::now() < to {
            let number = target.next.fetch_add(1, Ordering::Relaxed);
            if number >= last {
                break;
            }
            let asked = Instant::now();
            let id = send(&mut client, target, connection, number).await?;
            done.push((asked, Instant::now(), id));
        }
        anyhow::Ok(done)
    });
    let done: Vec<_> = try_join_all(work).await?.into_iter().flatten().collect();
    let counts = |answered: Instant| answered >= from && answered < to;
    let mut latencies: Vec<_> = done
        .iter()
        .filter(|(_, answered, _)| counts(*answered))
        .map(|(asked, answered, _)| *answered - *asked)
        .collect();
    latencies.sort_unstable();
    let end = done.iter().map(|(_, answered, _)| *answered).filter(|answered| counts(*answered)).max().unwrap_or(to);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 answers")]
    let rate = latencies.len() as f64 / (end - from).as_secs_f64();
    if let Until::Count(_) = until {
        // Returns the numbers that were drawn to find the end.
        target.next.store(last, Ordering::Relaxed);
    }
    Ok(Outcome { rate, latencies, accepted: done.into_iter().filter_map(|(_, _, id)| id).collect() })
}

/// The recipient of the contact with this number.
pub fn recipient(number: u64) -> String {
    // Outside the numbers that request a scenario.
    format!("55119{}", 10_000_000 + number % 90_000_000)
}

/// Sends the contact with this number. Its name contains the connection and the position in its order.
async fn send(client: &mut Client, target: &Target<'_>, connection: u32, number: u64) -> Result<Option<u128>> {
    let path = format!("/v1/channels/c{}/messages/contact", number % target.channels);
    let body = format!(
        "{{\"to\":\"{}\",\"name\":\"Maria Silva {connection} {number}\",\"phone\":\"{CARD_PHONE}\",\
         \"email\":\"maria@empresa.com.br\",\"organization\":\"Empresa LTDA\"}}",
        recipient(number % target.people)
    );
    let answer = client.call(&path, target.keys.of(number), body).await?;
    if answer.status != StatusCode::ACCEPTED {
        bail!("{} for contact {number}: {}", answer.status, String::from_utf8_lossy(&answer.body));
    }
    Ok(answer.message)
}
