//! Several nodes on one database: the throughput of one, two and three nodes, and the delay of a failover after a kill.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{CHANNELS, Numbered, dispatch, median, wait_until_read, waiting};
use crate::load::Until;
use crate::report::{Goal, Report};
use crate::server::{Home, Server};
use crate::{Setting, check};

const NAME: &str = "nodes";
const NODES: usize = 3;
/// Enough that no node waits for the answers of one channel.
const SPREAD: u64 = 300;
/// The interval of the light load during the kills.
const PAUSE: Duration = Duration::from_millis(10);
/// How long the channels of a crashed node may wait.
const PATIENCE: Duration = Duration::from_secs(30);
/// The promised maximum.
const FAILOVER_MILLIS: f64 = 15_000.0;

pub async fn run(setting: &Setting, report: &mut Report) -> Result<()> {
    for nodes in 1..=NODES {
        let mut rates = Vec::new();
        for _ in 0..setting.rounds {
            let home = waiting(setting, SPREAD, setting.dispatched).await?.home;
            rates.push(dispatch(&home, nodes, setting.dispatched).await?.rate);
            check::all_arrived(&home.tables)?;
        }
        report.note(NAME, format!("dispatch, {SPREAD} channels, nodes: {nodes}"), median(rates), "/s");
    }
    deaths(setting, report).await
}

async fn deaths(setting: &Setting, report: &mut Report) -> Result<()> {
    let numbered = Numbered::new(Home::make(setting, CHANNELS).await?);
    let mut nodes = (0..NODES).map(|number| numbered.home.node(number)).collect::<Result<Vec<_>>>()?;
    let calls = nodes.remove(0);
    let (mut accepted, mut deaths) = (Vec::new(), Vec::new());
    tokio::select! {
        done = light_load(&numbered, &calls, &mut accepted) => done?,
        done = kill_repeatedly(&numbered.home, nodes, setting.rounds, &mut deaths) => done?,
    }
    let home = &numbered.home;
    wait_until_read(home, u64::try_from(home.tables.number("SELECT count(*) FROM messages")?)?).await?;
    calls.stop()?;
    let of = |figure: &dyn Fn(&Death) -> f64| deaths.iter().map(figure).collect::<Vec<_>>();
    let what = "from a node's crash to the new owner's first send";
    let firsts = of(&|death| death.first);
    report.note(
        NAME,
        format!("{what}, least of {}", firsts.len()),
        firsts.iter().copied().fold(f64::MAX, f64::min),
        "ms",
    );
    let most = firsts.iter().copied().fold(0.0, f64::max);
    report.goal(NAME, format!("{what}, most"), (most, "ms"), Goal::AtMost(FAILOVER_MILLIS));
    report.note(NAME, format!("{what}, median"), median(firsts), "ms");
    report.note(NAME, "until every channel of it sends, median", median(of(&|death| death.last)), "ms");
    check::stored(&home.tables, &accepted)?;
    // The network gets the messages again that were in flight on the crashed node, and shows each once.
    let (stored, shown) = (home.tables.number("SELECT count(*) FROM messages")?, check::shown_in_order(&home.tables)?);
    if shown != stored {
        bail!("{stored} messages are in the store, {shown} arrived");
    }
    Ok(())
}

/// Sends one message after another, until it is cancelled.
async fn light_load(numbered: &Numbered, calls: &Server, accepted: &mut Vec<u128>) -> Result<()> {
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        accepted.extend(numbered.load(calls, 1, Until::Count(1)).await?.accepted);
    }
}

/// Milliseconds from a node's crash.
struct Death {
    /// To the first send on one of its channels.
    first: f64,
    /// To the first send on the last of its channels.
    last: f64,
}

/// Kills these nodes repeatedly; each restarts before the next kill.
async fn kill_repeatedly(home: &Home, mut nodes: Vec<Server>, rounds: u32, deaths: &mut Vec<Death>) -> Result<()> {
    for _ in 0..rounds {
        for number in 1..NODES {
            home.wait_until_spread(NODES).await?;
            // Some sends of each node.
            sleep(Duration::from_secs(1)).await;
            let sql = format!("SELECT max(id) FROM nodes WHERE name = 'node{number}'");
            let victim = home.tables.number(&sql)?;
            let mut held = Vec::new();
            home.tables.each(
                &format!("SELECT key FROM channels WHERE lease_node = {victim} AND id LIKE 'c%'"),
                |row| {
                    held.push(row.number(0)?.to_string());
                    Ok(())
                },
            )?;
            // Dropping kills it.
            drop(nodes.remove(0));
            let died = home.tables.number("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint")?;
            deaths.push(new_owners(home, died, &held).await?);
            nodes.push(home.node(number)?);
        }
    }
    for node in nodes {
        node.stop()?;
    }
    Ok(())
}

/// Waits until every one of these channels has sent since the crash.
async fn new_owners(home: &Home, died: i64, held: &[String]) -> Result<Death> {
    let sql = format!(
        "SELECT count(*), coalesce(min(first), 0) - {died}, coalesce(max(first), 0) - {died}
         FROM (SELECT min(received_at) AS first FROM sandbox_phone
               WHERE channel_key IN ({}) AND received_at > {died} GROUP BY channel_key) AS sends",
        held.join(", ")
    );
    let since = Instant::now();
    loop {
        sleep(Duration::from_millis(50)).await;
        let (sending, first, last) =
            home.tables.one(&sql, |row| Ok((row.number(0)?, row.number(1)?, row.number(2)?)))?;
        if usize::try_from(sending)? == held.len() {
            return Ok(Death { first: i32::try_from(first)?.into(), last: i32::try_from(last)?.into() });
        }
        if since.elapsed() > PATIENCE {
            bail!("{sending} of {} channels send since their node crashed", held.len());
        }
    }
}
