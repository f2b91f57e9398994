//! Accepts beside a webhook on all events, compared with accepts beside none. The dispatch is paused, so that each accept has
//! one event, and the receiver is the bare handler.

use std::time::Instant;

use anyhow::Result;

use super::{CHANNELS, Numbered, median};
use crate::load::{Client, Until};
use crate::report::{Goal, Report};
use crate::server::{Home, Server};
use crate::{Setting, check};

const NAME: &str = "webhooks";
const CONNECTIONS: u32 = 64;
/// The goal for the rate with a webhook, as a share of the rate without one.
const SHARE: f64 = 0.8;

pub async fn run(setting: &Setting, report: &mut Report) -> Result<()> {
    let (with, without) = (home(setting).await?, home(setting).await?);
    let (hooked, plain, receiver) = (with.home.serve()?, without.home.serve()?, Server::bare()?);
    let url = format!("http://{}/hook", receiver.address);
    let body = serde_json::json!({"url": url, "events": ["*"]}).to_string();
    Client::connect(hooked.address).await?.post("/v1/webhooks", &with.home.maker, body).await?.expect(201)?;
    let (mut ratios, mut rates, mut accepted) = (Vec::new(), Vec::new(), (Vec::new(), Vec::new()));
    let mut delivered = Vec::new();
    for _ in 0..setting.rounds {
        let until = Until::Time(setting.time);
        let none = without.load(&plain, CONNECTIONS, until).await?;
        let before = deliveries(&with.home)?;
        let one = with.load(&hooked, CONNECTIONS, until).await?;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52 deliveries")]
        delivered.push((deliveries(&with.home)? - before) as f64);
        ratios.push(one.rate / none.rate);
        rates.push((none.rate, one.rate));
        accepted.0.extend(none.accepted);
        accepted.1.extend(one.accepted);
    }
    report.note(NAME, "durable accepts, no webhook", median(rates.iter().map(|(none, _)| *none).collect()), "/s");
    report.note(NAME, "durable accepts, one webhook", median(rates.iter().map(|(_, one)| *one).collect()), "/s");
    report.note(NAME, "deliveries during a measurement", median(delivered), "");
    report.goal(NAME, "durable accepts, share of those without", (median(ratios), ""), Goal::AtLeast(SHARE));
    // The events of the accepts above still wait.
    let (begun, before) = (Instant::now(), deliveries(&with.home)?);
    tokio::time::sleep(setting.time).await;
    let (made, took) = (deliveries(&with.home)? - before, begun.elapsed());
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 deliveries")]
    report.note(NAME, "deliveries of one webhook beside no calls", made as f64 / took.as_secs_f64(), "/s");
    plain.stop()?;
    hooked.stop()?;
    check::stored(&without.home.tables, &accepted.0)?;
    check::stored(&with.home.tables, &accepted.1)
}

async fn home(setting: &Setting) -> Result<Numbered> {
    let numbered = Numbered::new(Home::with_webhooks(setting, CHANNELS).await?);
    numbered.home.set_channels("PAUSED")?;
    Ok(numbered)
}

/// The deliveries that the receiver accepted.
fn deliveries(home: &Home) -> Result<i64> {
    home.tables.number("SELECT count(*) FROM deliveries WHERE state = 1")
}
