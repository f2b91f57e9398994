//! The measurements, with one file for each scenario.

pub mod accept;
pub mod backlog;
pub mod channels;
pub mod cloud_api;
pub mod dispatch;
pub mod nodes;
pub mod purge;
pub mod webhooks;
#[cfg(feature = "whatsapp-web")]
pub mod whatsapp_web;

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::Setting;
use crate::load::{self, Outcome, Target, Until};
use crate::server::{Home, Server};

/// The default number of channels that a load is spread over.
const CHANNELS: u64 = 20;

/// A home, and the number of the next contact for it.
struct Numbered {
    home: Home,
    next: AtomicU64,
    /// The number of recipients, used in rotation.
    people: u64,
}

impl Numbered {
    fn new(home: Home) -> Self {
        Self { home, next: AtomicU64::new(0), people: u64::MAX }
    }

    fn target(&self, server: &Server) -> Target<'_> {
        let Home { keys, channels, .. } = &self.home;
        Target { address: server.address, keys, channels: *channels, people: self.people, next: &self.next }
    }

    async fn load(&self, server: &Server, connections: u32, until: Until) -> Result<Outcome> {
        load::run(&self.target(server), connections, until).await
    }

    /// Adds this many waiting messages, and returns the ids of those that were accepted. If the store can multiply messages
    /// by itself, it does so from [`SOME`] on, because a million calls take minutes.
    async fn fill(&self, server: &Server, messages: u64) -> Result<Vec<u128>> {
        let by_calls = if self.home.is_shared() { messages.min(SOME) } else { messages };
        let accepted = self.load(server, 256, Until::Count(by_calls)).await?.accepted;
        if messages > by_calls {
            self.home.tables.change(&format!(
                "INSERT INTO messages (id, channel_key, status, head, expires_at, queued_at, network_id, recipient,
                                       kind, payload, rendition)
                 SELECT substring(id for 8) || int8send(n), channel_key, 0, head, expires_at, queued_at,
                        '3EB0' || upper(substring(md5(n::text) for 18)), '55119' || 10000000 + n, kind,
                        regexp_replace(payload, '(Maria Silva) \\d+ \\d+', '\\1 1000000 ' || n, 'g'),
                        regexp_replace(rendition, '(Maria Silva) \\d+ \\d+', '\\1 1000000 ' || n, 'g')
                 FROM generate_series(1, {}) AS n
                 JOIN (SELECT DISTINCT ON (channel_key) * FROM messages) AS first
                      ON channel_key = (array(SELECT DISTINCT channel_key FROM messages))[1 + n % {}]
                 ORDER BY n",
                messages - by_calls,
                self.home.channels,
            ))?;
            // The database would do this itself, but later.
            self.home.tables.change("VACUUM (ANALYZE) messages")?;
        }
        Ok(accepted)
    }
}

/// The messages that are always created by calls.
const SOME: u64 = 20_000;

/// A store with this many waiting messages on paused channels, without a running server.
async fn waiting(setting: &Setting, channels: u64, messages: u64) -> Result<Numbered> {
    let waiting = Numbered::new(Home::make(setting, channels).await?);
    waiting.home.set_channels("PAUSED")?;
    let server = waiting.home.serve()?;
    waiting.fill(&server, messages).await?;
    server.stop()?;
    Ok(waiting)
}

/// The result of one dispatch.
struct Dispatched {
    /// Arrivals a second.
    rate: f64,
    /// The peak memory of a server, in megabytes.
    memory: f64,
}

/// Lets this many servers send that many messages, and pauses the channels again.
async fn dispatch(home: &Home, nodes: usize, count: u64) -> Result<Dispatched> {
    let before = shown(home)?;
    let servers = home.send_from(nodes).await?;
    wait_until_shown(home, before + count).await?;
    let mut memory = 0.0_f64;
    for server in servers {
        memory = memory.max(server.memory()?.1);
        server.stop()?;
    }
    home.set_channels("PAUSED")?;
    Ok(Dispatched { rate: arrival_rate(home, before, count)?, memory })
}

/// The number of messages in the sandbox inbox. The query is cheap, because it runs during measurements.
fn shown(home: &Home) -> Result<u64> {
    Ok(home.tables.number("SELECT coalesce(max(n), 0) FROM sandbox_phone")?.try_into()?)
}

/// Whether receipts are due that the gateway has not recorded.
fn has_receipts_due(home: &Home) -> Result<bool> {
    Ok(home.tables.number("SELECT EXISTS (SELECT 1 FROM sandbox_phone WHERE receipts < 2)")? == 1)
}

/// Whether no message is in flight, and every sent message is read.
fn settled(home: &Home) -> Result<bool> {
    // The network's own count would miss a message that is about to be sent.
    Ok(home.tables.number("SELECT NOT EXISTS (SELECT 1 FROM messages WHERE status BETWEEN 1 AND 4)")? == 1)
}

/// Waits until the inbox contains that many messages.
async fn wait_until_shown(home: &Home, count: u64) -> Result<()> {
    let (mut before, mut moved) = (0, Instant::now());
    while before < count {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = shown(home)?;
        if now > before {
            (before, moved) = (now, Instant::now());
        } else if moved.elapsed() > Duration::from_secs(30) {
            bail!("only {now} of {count} messages arrived, and no more come");
        }
    }
    Ok(())
}

/// Waits until every receipt was recorded.
async fn wait_until_read(home: &Home, count: u64) -> Result<()> {
    wait_until_shown(home, count).await?;
    while has_receipts_due(home)? {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Arrivals a second, of this many messages in the inbox after the first `before`.
fn arrival_rate(home: &Home, before: u64, count: u64) -> Result<f64> {
    let (first, last) = (before + 1, before + count);
    let sql = format!(
        "SELECT count(*), max(received_at) - min(received_at) FROM sandbox_phone WHERE n BETWEEN {first} AND {last}"
    );
    home.tables.one(&sql, |row| rate(row.number(0)?, row.number(1)?))
}

/// The rate a second of a count in this many milliseconds.
fn rate(count: i64, millis: i64) -> Result<f64> {
    Ok(f64::from(u32::try_from(count)?) * 1_000.0 / f64::from(u32::try_from(millis)?.max(1)))
}

/// The middle value, or the upper one of two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
