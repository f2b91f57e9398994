//! How a session ends.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use fake_whatsapp::{ConnectFailure, FakeWhatsApp};
use recado_whatsapp_web::{Event, Rows, SubmitError};
use tokio::runtime::Builder;

use crate::harness::{ACCOUNT, Line, link, network};
use crate::memory_rows::MemoryRows;

async fn linked(whatsapp: &FakeWhatsApp) -> Result<Arc<dyn Rows>> {
    let rows: Arc<dyn Rows> = Arc::new(MemoryRows::default());
    link(whatsapp, &*rows).await?;
    Ok(rows)
}

/// What is told from here to the end.
async fn end_of(mut line: Line) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    loop {
        let event = line.until(|_| true).await?;
        let last = !matches!(event, Event::Down | Event::Trouble { .. });
        events.push(event);
        if last {
            break;
        }
    }
    assert!(!line.session.is_up());
    line.session.stop().await;
    while let Ok(event) = line.events.try_recv() {
        events.push(event);
    }
    Ok(events)
}

async fn ended_by(end: impl FnOnce(&FakeWhatsApp)) -> Result<Vec<Event>> {
    let whatsapp = network();
    let line = Line::up(&whatsapp, linked(&whatsapp).await?).await?;
    end(&whatsapp);
    end_of(line).await
}

#[tokio::test]
async fn replaced() -> Result<()> {
    let events = ended_by(|whatsapp| whatsapp.replace(ACCOUNT)).await?;
    assert_eq!(events, [Event::Down, Event::Replaced]);
    Ok(())
}

#[tokio::test]
async fn logged_out() -> Result<()> {
    let events = ended_by(|whatsapp| whatsapp.log_out(ACCOUNT)).await?;
    assert_eq!(events, [Event::Down, Event::LoggedOut { code: Some(401) }]);
    Ok(())
}

/// Not every word that ends a session says that the device is unlinked.
#[tokio::test]
async fn expelled() -> Result<()> {
    let events = ended_by(|whatsapp| whatsapp.expel(ACCOUNT, "something_new")).await?;
    assert_eq!(events, [Event::Down, Event::Expelled]);
    Ok(())
}

#[tokio::test]
async fn refused() -> Result<()> {
    let ban = |code, expires_in| Event::TemporarilyBanned { code, expires_in };
    for (failure, end) in [
        (ConnectFailure::new(401), Event::LoggedOut { code: Some(401) }),
        (ConnectFailure::ban_for(3600), ban(101, Some(Duration::from_hours(1)))),
        (ConnectFailure::new(402), ban(0, None)),
        (ConnectFailure::new(403), Event::Banned { code: 403 }),
        (ConnectFailure::new(405), Event::Outdated),
        (ConnectFailure::new(406), Event::Banned { code: 406 }),
    ] {
        let whatsapp = network();
        let rows = linked(&whatsapp).await?;
        whatsapp.faults(|faults| faults.connect_failure = Some(failure));
        assert_eq!(end_of(Line::open(&whatsapp, rows).await?).await?, [end]);
    }
    Ok(())
}

/// The network is not there for a moment: no end.
#[tokio::test]
async fn unavailable() -> Result<()> {
    let whatsapp = network();
    let rows = linked(&whatsapp).await?;
    whatsapp.faults(|faults| faults.connect_failure = Some(ConnectFailure::new(503)));
    let mut line = Line::open(&whatsapp, rows).await?;
    let trouble = Event::Trouble { text: "the network refused the connection: 503".into() };
    line.until(|event| *event == trouble).await?;
    whatsapp.faults(|faults| faults.connect_failure = None);
    line.until(|event| *event == Event::Up).await?;
    line.session.stop().await;
    Ok(())
}

#[tokio::test]
async fn by_our_own_wish() -> Result<()> {
    let whatsapp = network();
    let rows = linked(&whatsapp).await?;
    let line = Line::up(&whatsapp, Arc::clone(&rows)).await?;
    whatsapp.start_trace();
    // The network hangs up on its answer, which may be lost with the line.
    let answer = line.session.log_out().await;
    assert!(matches!(answer, Ok(()) | Err(SubmitError::Down)), "{answer:?}");
    line.session.stop().await;
    assert_eq!(line.session.log_out().await, Err(SubmitError::Down));
    let asked = |stanza: &&String| stanza.ends_with("[remove-companion-device]");
    assert_eq!(whatsapp.trace().iter().filter(asked).count(), 1, "{:#?}", whatsapp.trace());
    // The network knows the device no more.
    let end = end_of(Line::open(&whatsapp, rows).await?).await?;
    assert_eq!(end, [Event::LoggedOut { code: Some(401) }]);
    Ok(())
}

#[test]
fn no_task_outlives_the_session() -> Result<()> {
    // The session has a runtime of its own, which rests where nobody waits on it: whatever is alive there when the
    // session has stopped is what the session left behind.
    let sessions = Builder::new_current_thread().enable_all().build()?;
    let whatsapp = network();
    let line = sessions.block_on(async {
        let mut line = Line::up(&whatsapp, linked(&whatsapp).await?).await?;
        line.send("3EB0T1").await?;
        anyhow::Ok(line)
    })?;
    let tasks = || sessions.metrics().num_alive_tasks();
    assert!(tasks() > 0);
    sessions.block_on(line.session.stop());
    assert_eq!(tasks(), 0);
    Ok(())
}
