//! A few messages on each of very many channels, compared with as many messages on few channels. In PostgreSQL three nodes
//! send on the many, and one node on the few.

use anyhow::Result;

use super::{CHANNELS, Dispatched, dispatch, median, waiting};
use crate::report::{Goal, Report};
use crate::{Setting, check};

const NAME: &str = "channels";
/// Messages on each of the many channels.
const EACH: u64 = 5;

pub async fn run(setting: &Setting, report: &mut Report) -> Result<()> {
    let messages = setting.channels * EACH;
    let mut rounds = Vec::new();
    for _ in 0..setting.rounds {
        let few = dispatched(setting, CHANNELS, 1, messages).await?;
        let many = dispatched(setting, setting.channels, setting.engine.pick(1, 3), messages).await?;
        rounds.push((few, many));
    }
    let of = |figure: &dyn Fn(&(Dispatched, Dispatched)) -> f64| median(rounds.iter().map(figure).collect());
    let at = |what: &str, channels: u64| format!("{what}, {channels} channels, {messages} messages");
    report.note(NAME, at("dispatch", CHANNELS), of(&|(few, _)| few.rate), "/s");
    report.note(NAME, at("dispatch", setting.channels), of(&|(_, many)| many.rate), "/s");
    let what = format!("dispatch, share of that of {CHANNELS} channels");
    report.goal(NAME, what, (of(&|(few, many)| many.rate / few.rate), ""), Goal::AtLeast(0.8));
    report.note(NAME, at("most memory of a server", CHANNELS), of(&|(few, _)| few.memory), "MB");
    report.note(NAME, at("most memory of a server", setting.channels), of(&|(_, many)| many.memory), "MB");
    Ok(())
}

async fn dispatched(setting: &Setting, channels: u64, nodes: usize, messages: u64) -> Result<Dispatched> {
    let home = waiting(setting, channels, messages).await?.home;
    let dispatched = dispatch(&home, nodes, messages).await?;
    check::all_arrived(&home.tables)?;
    Ok(dispatched)
}
