//! What is measured: a file a scenario.

pub mod accept;
pub mod backlog;
pub mod channels;
pub mod cloud_api;
pub mod dispatch;
#[cfg(feature = "whatsapp-web")]
pub mod whatsapp_web;

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::Setting;
use crate::check::read_only;
use crate::load::{self, Outcome, Target, Until};
use crate::server::{Home, Server};

/// The channels that a load is spread over, where nothing else is said.
const CHANNELS: u64 = 20;

/// A home, and the number of the next contact for it.
struct Numbered {
    home: Home,
    next: AtomicU64,
}

impl Numbered {
    fn new(home: Home) -> Self {
        Self { home, next: AtomicU64::new(0) }
    }

    fn target(&self, server: &Server) -> Target<'_> {
        let Home { keys, channels, .. } = &self.home;
        Target { address: server.address, keys, channels: *channels, next: &self.next }
    }

    async fn load(&self, server: &Server, connections: u32, until: Until) -> Result<Outcome> {
        load::run(&self.target(server), connections, until).await
    }
}

/// A store with so many messages waiting on paused channels; no server runs on it.
async fn waiting(setting: &Setting, channels: u64, messages: u64) -> Result<Numbered> {
    let waiting = Numbered::new(Home::make(setting, channels).await?);
    waiting.home.set_channels("PAUSED")?;
    let server = waiting.home.serve()?;
    waiting.load(&server, 256, Until::Count(messages)).await?;
    server.stop()?;
    Ok(waiting)
}

/// What one dispatch showed.
struct Dispatched {
    /// Arrivals a second.
    rate: f64,
    /// Most memory, in megabytes.
    memory: f64,
}

/// Lets that many messages go, and has what is left wait again.
async fn dispatch(home: &Home, count: u64) -> Result<Dispatched> {
    let before = shown(home)?;
    home.set_channels("CONNECTED")?;
    let server = home.serve()?;
    wait_until_shown(home, before + count).await?;
    let (_, memory) = server.memory()?;
    server.stop()?;
    home.set_channels("PAUSED")?;
    Ok(Dispatched { rate: arrival_rate(home, before)?, memory })
}

/// How many messages the sandbox phone shows. Cheap on purpose: it is asked while something is measured.
fn shown(home: &Home) -> Result<u64> {
    let sql = "select coalesce(max(n), 0) from phone";
    Ok(read_only(&home.sandbox())?.query_row(sql, [], |row| row.get::<_, u32>(0))?.into())
}

/// Whether receipts are due that the gateway has not taken.
fn has_receipts_due(home: &Home) -> Result<bool> {
    let sql = "select exists (select 1 from phone indexed by phone_pending where receipts < 2)";
    Ok(read_only(&home.sandbox())?.query_row(sql, [], |row| row.get(0))?)
}

/// Whether nothing is on its way to a network, and everything that was sent is read.
fn settled(home: &Home) -> Result<bool> {
    // The network's own count would miss a message that is just about to leave.
    let sql = "select not exists (select 1 from messages indexed by messages_in_network where status between 1 and 4)";
    Ok(read_only(&home.store())?.query_row(sql, [], |row| row.get(0))?)
}

/// Waits until the phone shows that many messages.
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

/// Waits until every receipt was taken.
async fn wait_until_read(home: &Home, count: u64) -> Result<()> {
    wait_until_shown(home, count).await?;
    while has_receipts_due(home)? {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Arrivals a second, of the messages that the phone shows behind the first `before`.
fn arrival_rate(home: &Home, before: u64) -> Result<f64> {
    let sql = "select count(*) * 1000.0 / max(max(received_at) - min(received_at), 1) from phone where n > ?1";
    Ok(read_only(&home.sandbox())?.query_row(sql, [i64::try_from(before)?], |row| row.get(0))?)
}

/// The middle value, or the upper one of two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
