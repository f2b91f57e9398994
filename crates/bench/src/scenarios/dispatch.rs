//! The whole way: accepted, sent, acknowledged, delivered, read. And the delay of one message when nothing else happens.

use std::time::Duration;

use anyhow::Result;

use super::{CHANNELS, Numbered, median, wait_until_read};
use crate::check::read_only;
use crate::load::Until;
use crate::report::{Goal, Report};
use crate::server::Home;
use crate::{Setting, check};

const NAME: &str = "dispatch";
/// Messages sent one at a time, and the rest between two.
const SINGLE: u32 = 200;
const REST: Duration = Duration::from_millis(20);

pub async fn run(setting: &Setting, report: &mut Report) -> Result<()> {
    single(setting, report).await?;
    let home = Numbered::new(Home::make(setting, CHANNELS).await?);
    let server = home.home.serve()?;
    let outcome = home.load(&server, 256, Until::Time(setting.time * setting.rounds)).await?;
    let total = u64::try_from(outcome.accepted.len())?;
    report.note(NAME, "accepts while dispatching, 256 connections", outcome.rate, "/s");
    report.note(NAME, "accepts while dispatching, p99", outcome.latency(0.99), "ms");
    wait_until_read(&home.home, total).await?;
    let (rss, _) = server.memory()?;
    server.stop()?;
    report.note(NAME, "from the first call to the last READ", whole_way(&home.home)?, "/s");
    report.note(NAME, "memory after it", rss, "MB");
    check::stored(&home.home.store(), &outcome.accepted)?;
    check::all_arrived(&home.home.store(), &home.home.sandbox())
}

/// Messages a second, from the acceptance of the first to the reading of the last.
fn whole_way(home: &Home) -> Result<f64> {
    let store = read_only(&home.store())?;
    let sql = "select count(*) * 1000.0 / (max(read_at) - min(queued_at)) from messages";
    Ok(store.query_row(sql, [], |row| row.get(0))?)
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
    check::stored(&home.home.store(), &accepted)?;
    check::all_arrived(&home.home.store(), &home.home.sandbox())
}

/// Milliseconds between acceptance and arrival, of every message.
fn delays(home: &Home) -> Result<Vec<f64>> {
    let store = read_only(&home.store())?;
    let sandbox = home.sandbox();
    store.execute("attach database ?1 as sandbox", [sandbox.to_string_lossy()])?;
    let sql = "select cast(received_at - queued_at as real)
               from messages join sandbox.phone on phone.network_id = messages.network_id";
    let mut statement = store.prepare(sql)?;
    Ok(statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}
