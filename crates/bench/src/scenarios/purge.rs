//! Accepts during a purge of old messages, compared with accepts while as many recent messages stay.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{CHANNELS, Numbered, median};
use crate::load::Until;
use crate::report::{Goal, Report};
use crate::server::Home;
use crate::{Setting, check};

const NAME: &str = "purge";
/// A node on a shared store starts to purge a minute after its start.
const BEGIN: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(500);

pub async fn run(setting: &Setting, report: &mut Report) -> Result<()> {
    let mut rounds = Vec::new();
    for _ in 0..setting.rounds {
        rounds.push(round(setting).await?);
    }
    let of = |figure: &dyn Fn(&[f64; 3]) -> f64| median(rounds.iter().map(figure).collect());
    report.note(NAME, format!("accepts, {} finished messages", setting.backlog), of(&|round| round[0]), "/s");
    report.note(NAME, "accepts, while they are deleted", of(&|round| round[1]), "/s");
    report.note(NAME, "messages deleted meanwhile", of(&|round| round[2]), "/s");
    let share = of(&|round| round[1] / round[0]);
    report.goal(NAME, "accepts while old messages are deleted, share", (share, ""), Goal::AtLeast(0.9));
    Ok(())
}

/// Accepts a second without a purge and during one, and deleted messages a second.
async fn round(setting: &Setting) -> Result<[f64; 3]> {
    let finished = Numbered::new(Home::make(setting, CHANNELS).await?);
    finished.home.set_channels("PAUSED")?;
    let server = finished.home.serve()?;
    finished.fill(&server, setting.backlog).await?;
    server.stop()?;
    let tables = &finished.home.tables;
    let change = |sql: &str| {
        tables.change(sql)?;
        // The database would do this itself, but later.
        if finished.home.is_shared() { tables.change("VACUUM (ANALYZE) messages") } else { Ok(()) }
    };
    change("UPDATE messages SET status = 5, read_at = queued_at")?;
    tables.change("CREATE TABLE finished AS SELECT max(seq) AS last FROM messages")?;
    let left = || tables.number("SELECT count(*) FROM messages WHERE seq <= (SELECT last FROM finished)");

    let server = finished.home.serve()?;
    let mut without = finished.load(&server, 256, Until::Time(setting.time)).await?;
    server.stop()?;
    change("UPDATE messages SET queued_at = 1, read_at = 1 WHERE seq <= (SELECT last FROM finished)")?;
    let (server, all) = (finished.home.serve()?, left()?);
    tokio::time::timeout(BEGIN, async {
        while left()? == all {
            tokio::time::sleep(LOOK).await;
        }
        anyhow::Ok(())
    })
    .await??;
    let before = left()?;
    let during = finished.load(&server, 256, Until::Time(setting.time)).await?;
    let after = left()?;
    server.stop()?;
    ensure!(after > 0, "the purge ended before the measurement: give it more messages (--backlog)");
    without.accepted.extend(during.accepted);
    check::stored(tables, &without.accepted)?;
    #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
    let deleted = (before - after) as f64 / setting.time.as_secs_f64();
    Ok([without.rate, during.rate, deleted])
}
