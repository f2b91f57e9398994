//! The whole way of a message: accepted, sent, acknowledged, delivered, read. And the latency of a single message.

use std::time::Duration;

use anyhow::Result;

use super::{CHANNELS, Numbered, median, rate, wait_until_read};
use crate::load::Until;
use crate::report::{Goal, Report};
use crate::server::Home;
use crate::{Setting, check};

const NAME: &str = "dispatch";
/// The number of single messages.
const SINGLE: u32 = 200;
const REST: Duration = Duration::from_millis(20);

pub async fn run(setting: &Setting, report: &mut Report) -> Result<()> {
    single(setting, report).await?;
    let home = Numbered::new(Home::make(setting, CHANNELS).await?);
    let server = home.home.serve()?;
    let before = Used::of(&home.home)?;
    let outcome = home.load(&server, 256, Until::Time(setting.time * setting.rounds)).await?;
    let total = u64::try_from(outcome.accepted.len())?;
    report.note(NAME, "accepts while dispatching, 256 connections", outcome.rate, "/s");
    report.note(NAME, "accepts while dispatching, p99", outcome.latency(0.99), "ms");
    wait_until_read(&home.home, total).await?;
    let (rss, _) = server.memory()?;
    server.stop()?;
    report.note(NAME, "from the first call to the last READ", whole_way(&home.home)?, "/s");
    report.note(NAME, "memory after it", rss, "MB");
    if let Some(before) = before {
        before.report(report, &home.home, total)?;
    }
    check::stored(&home.home.tables, &outcome.accepted)?;
    check::all_arrived(&home.home.tables)
}

/// Messages a second, from the acceptance of the first to the reading of the last.
fn whole_way(home: &Home) -> Result<f64> {
    let sql = "SELECT count(*), max(read_at) - min(queued_at) FROM messages";
    home.tables.one(sql, |row| rate(row.number(0)?, row.number(1)?))
}

/// What PostgreSQL has written to its log, and the bytes of the messages and of the sandbox network.
struct Used {
    log: i64,
    messages: i64,
    network: i64,
}

impl Used {
    /// `None` for files.
    fn of(home: &Home) -> Result<Option<Self>> {
        if !home.is_shared() {
            return Ok(None);
        }
        let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint,
                          pg_total_relation_size('messages'),
                          pg_total_relation_size('sandbox_phone') + pg_total_relation_size('sandbox_arrivals')";
        let used = home
            .tables
            .one(sql, |row| Ok(Self { log: row.number(0)?, messages: row.number(1)?, network: row.number(2)? }));
        used.map(Some)
    }

    /// Reports the increase for each message.
    fn report(&self, report: &mut Report, home: &Home, messages: u64) -> Result<()> {
        let Some(now) = Self::of(home)? else { return Ok(()) };
        let each = |before: i64, now: i64| Ok::<_, anyhow::Error>((now - before) / i64::try_from(messages)?);
        let mut note = |what: &str, bytes: i64| -> Result<()> {
            report.note(NAME, format!("{what}, each message"), i32::try_from(bytes)?.into(), "bytes");
            Ok(())
        };
        note("written to PostgreSQL's log", each(self.log, now.log)?)?;
        note("on disk, read, indexes included", each(self.messages, now.messages)?)?;
        note("on disk, of the sandbox network", each(self.network, now.network)?)
    }
}

async fn single(setting: &Setting, report: &mut Report) -> Result<()> {
    let home = Numbered::new(Home::make(setting, CHANNELS).await?);
    let server = home.home.serve()?;
    let mut calls = Vec::new();
    let mut accepted = Vec::new();
    for _ in 0..SINGLE {
        let outcome = home.load(&server, 1, Until::Count(1)).await?;
        calls.push(outcome.latency(0.5));
        accepted.extend(outcome.accepted);
        tokio::time::sleep(REST).await;
    }
    wait_until_read(&home.home, u64::from(SINGLE)).await?;
    server.stop()?;
    report.note(NAME, "one call when idle, p50", median(calls), "ms");
    let mut delays = delays(&home.home)?;
    delays.sort_unstable_by(f64::total_cmp);
    let p99 = delays.get(delays.len() * 99 / 100).copied().unwrap_or(f64::NAN);
    report.goal(NAME, "accept to sandbox phone when idle, p50", (median(delays), "ms"), Goal::AtMost(5.0));
    report.note(NAME, "accept to sandbox phone when idle, p99", p99, "ms");
    check::stored(&home.home.tables, &accepted)?;
    check::all_arrived(&home.home.tables)
}

/// Milliseconds between acceptance and arrival, of every message.
fn delays(home: &Home) -> Result<Vec<f64>> {
    let sql = "SELECT received_at - queued_at
               FROM messages JOIN sandbox_phone ON sandbox_phone.network_id = messages.network_id";
    let mut delays = Vec::new();
    home.tables.each(sql, |row| {
        delays.push(i32::try_from(row.number(0)?)?.into());
        Ok(())
    })?;
    Ok(delays)
}
