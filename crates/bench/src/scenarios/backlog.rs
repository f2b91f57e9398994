//! A store with many waiting messages compared with an empty one: accepts, dispatch, memory and the start.

use std::time::Duration;

use anyhow::Result;

use super::{CHANNELS, Numbered, median};
use crate::load::Until;
use crate::report::{Goal, Report};
use crate::server::Home;
use crate::{Setting, check};

const NAME: &str = "backlog";
/// The wait before a server's memory is read.
const SETTLE: Duration = Duration::from_secs(2);

pub async fn run(setting: &Setting, report: &mut Report) -> Result<()> {
    let full = Numbered::new(Home::make(setting, CHANNELS).await?);
    let server = full.home.serve()?;
    tokio::time::sleep(SETTLE).await;
    report.goal(NAME, "memory when idle", (server.memory()?.0, "MB"), Goal::AtMost(20.0));
    server.stop()?;
    full.home.set_channels("PAUSED")?;
    let server = full.home.serve()?;
    let mut accepted = full.fill(&server, setting.backlog).await?;
    tokio::time::sleep(SETTLE).await;
    let (resident, most) = server.memory()?;
    let waiting = format!("{} waiting", setting.backlog);
    report.goal(NAME, format!("memory, {waiting}"), (resident, "MB"), Goal::AtMost(60.0));
    report.note(NAME, format!("memory at most while they came, {waiting}"), most, "MB");
    report.note(NAME, format!("the store's files, {waiting}"), full.home.tables.size()?, "MB");
    server.stop()?;
    start(&full.home, report, &waiting).await?;
    accepted.extend(accepts(setting, &full, report, &waiting).await?);
    check::stored(&full.home.tables, &accepted)?;
    dispatch(setting, &full, report, &waiting).await
}

async fn start(home: &Home, report: &mut Report, waiting: &str) -> Result<()> {
    let server = home.serve()?;
    let ready = server.ready_after.as_secs_f64() * 1_000.0;
    report.goal(NAME, format!("ready after start, {waiting}"), (ready, "ms"), Goal::AtMost(300.0));
    tokio::time::sleep(SETTLE).await;
    let (resident, _) = server.memory()?;
    report.goal(NAME, format!("memory after start, {waiting}"), (resident, "MB"), Goal::AtMost(60.0));
    server.stop()
}

/// Accepts on the full store and on an empty one, alternately. The empty store is new each time.
async fn accepts(setting: &Setting, full: &Numbered, report: &mut Report, waiting: &str) -> Result<Vec<u128>> {
    let until = Until::Time(setting.time);
    let (mut rates, mut accepted) = (Vec::new(), Vec::new());
    for _ in 0..setting.rounds {
        let empty = Numbered::new(Home::make(setting, CHANNELS).await?);
        empty.home.set_channels("PAUSED")?;
        let server = empty.home.serve()?;
        let with_none = empty.load(&server, 256, until).await?.rate;
        server.stop()?;
        let server = full.home.serve()?;
        let outcome = full.load(&server, 256, until).await?;
        server.stop()?;
        rates.push((with_none, outcome.rate));
        accepted.extend(outcome.accepted);
    }
    report_figures(setting, report, ("accepts", waiting), &rates);
    Ok(accepted)
}

/// Dispatch of the first messages of the full store, and of as many messages that are the only ones, alternately.
async fn dispatch(setting: &Setting, full: &Numbered, report: &mut Report, waiting: &str) -> Result<()> {
    let mut rates = Vec::new();
    for _ in 0..setting.rounds {
        let few = super::waiting(setting, CHANNELS, setting.dispatched).await?.home;
        let rate = super::dispatch(&few, 1, setting.dispatched).await?.rate;
        check::all_arrived(&few.tables)?;
        rates.push((rate, super::dispatch(&full.home, 1, setting.dispatched).await?.rate));
        check::in_order(&full.home.tables)?;
    }
    report_figures(setting, report, ("dispatch", waiting), &rates);
    Ok(())
}

fn report_figures(setting: &Setting, report: &mut Report, (what, waiting): (&str, &str), rates: &[(f64, f64)]) {
    let of = |figure: &dyn Fn(&(f64, f64)) -> f64| median(rates.iter().map(figure).collect());
    report.note(NAME, format!("{what}, none waiting"), of(&|(none, _)| *none), "/s");
    report.note(NAME, format!("{what}, {waiting}"), of(&|(_, many)| *many), "/s");
    let ratio = of(&|(none, many)| many / none);
    report.goal(
        NAME,
        format!("{what}, {waiting}, share of none waiting"),
        (ratio, ""),
        Goal::AtLeast(setting.engine.pick(0.95, 0.9)),
    );
}
