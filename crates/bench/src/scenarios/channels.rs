//! A few messages on each of very many channels, beside as many messages on few channels.

use anyhow::Result;

use super::{CHANNELS, Numbered, arrival_rate, median, wait_until_shown};
use crate::load::Until;
use crate::report::{Goal, Report};
use crate::server::Home;
use crate::{Setting, check};

const NAME: &str = "channels";
/// Messages on each of the many channels.
const EACH: u64 = 5;

/// What one dispatch showed.
struct Turn {
    /// Arrivals a second.
    rate: f64,
    /// Most memory, in megabytes.
    memory: f64,
}

pub async fn run(setting: &Setting, report: &mut Report) -> Result<()> {
    let messages = setting.channels * EACH;
    let mut turns = Vec::new();
    for _ in 0..setting.rounds {
        let few = dispatched(setting, CHANNELS, messages).await?;
        let many = dispatched(setting, setting.channels, messages).await?;
        turns.push((few, many));
    }
    let of = |figure: &dyn Fn(&(Turn, Turn)) -> f64| median(turns.iter().map(figure).collect());
    let at = |what: &str, channels: u64| format!("{what}, {channels} channels, {messages} messages");
    report.note(NAME, at("dispatch", CHANNELS), of(&|(few, _)| few.rate), "/s");
    report.note(NAME, at("dispatch", setting.channels), of(&|(_, many)| many.rate), "/s");
    let what = format!("dispatch, share of that of {CHANNELS} channels");
    report.goal(NAME, what, (of(&|(few, many)| many.rate / few.rate), ""), Goal::AtLeast(0.8));
    report.note(NAME, at("memory at most", CHANNELS), of(&|(few, _)| few.memory), "MB");
    report.note(NAME, at("memory at most", setting.channels), of(&|(_, many)| many.memory), "MB");
    Ok(())
}

/// Lets so many messages go out over so many channels.
async fn dispatched(setting: &Setting, channels: u64, messages: u64) -> Result<Turn> {
    let home = Numbered::new(Home::make(setting, channels).await?);
    home.home.set_channels("PAUSED")?;
    let server = home.home.serve()?;
    home.load(&server, 256, Until::Count(messages)).await?;
    server.stop()?;
    home.home.set_channels("CONNECTED")?;
    let server = home.home.serve()?;
    wait_until_shown(&home.home, messages).await?;
    let (_, memory) = server.memory()?;
    server.stop()?;
    check::all_arrived(&home.home.store(), &home.home.sandbox())?;
    Ok(Turn { rate: arrival_rate(&home.home, 0)?, memory })
}
