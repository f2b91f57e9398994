//! How a session ends.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use fake_whatsapp::{ConnectFailure, FakeWhatsApp};
use recado_whatsapp_web::{Event, Rows, SubmitError};
use tokio::runtime::Builder;

use crate::harness::{ACCOUNT, Client, link, network};
use crate::memory_rows::MemoryRows;

async fn linked(whatsapp: &FakeWhatsApp) -> Result<Arc<dyn Rows>> {
    let rows: Arc<dyn Rows> = Arc::new(MemoryRows::default());
    link(whatsapp, &*rows).await?;
    Ok(rows)
}

/// The events from here to the end of the session.
async fn end_of(mut client: Client) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    loop {
        let event = client.until(|_| true).await?;
        let last = !matches!(event, Event::Down | Event::Trouble { .. });
        events.push(event);
        if last {
            break;
        }
    }
    assert!(!client.session.is_up());
    client.session.stop().await;
    while let Ok(event) = client.events.try_recv() {
        events.push(event);
    }
    Ok(events)
}

async fn ended_by(end: impl FnOnce(&FakeWhatsApp)) -> Result<Vec<Event>> {
    let whatsapp = network();
    let client = Client::up(&whatsapp, linked(&whatsapp).await?).await?;
    end(&whatsapp);
    end_of(client).await
}

#[tokio::test]
async fn another_process_replaces_the_session() -> Result<()> {
    let events = ended_by(|whatsapp| whatsapp.replace(ACCOUNT)).await?;
    assert_eq!(events, [Event::Down, Event::Replaced]);
    Ok(())
}

#[tokio::test]
async fn a_logout_on_the_phone_ends_the_session() -> Result<()> {
    let events = ended_by(|whatsapp| whatsapp.log_out(ACCOUNT)).await?;
    assert_eq!(events, [Event::Down, Event::LoggedOut { code: Some(401) }]);
    Ok(())
}

/// Not every reason for an end says that the device is unlinked.
#[tokio::test]
async fn an_unexplained_end_expels_the_session() -> Result<()> {
    let events = ended_by(|whatsapp| whatsapp.expel(ACCOUNT, "something_new")).await?;
    assert_eq!(events, [Event::Down, Event::Expelled]);
    Ok(())
}

#[tokio::test]
async fn a_refused_login_ends_the_session() -> Result<()> {
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
        assert_eq!(end_of(Client::open(&whatsapp, rows).await?).await?, [end]);
    }
    Ok(())
}

/// The network is away for a moment, which does not end the session.
#[tokio::test]
async fn an_unavailable_network_does_not_end_the_session() -> Result<()> {
    let whatsapp = network();
    let rows = linked(&whatsapp).await?;
    whatsapp.faults(|faults| faults.connect_failure = Some(ConnectFailure::new(503)));
    let mut client = Client::open(&whatsapp, rows).await?;
    let trouble = Event::Trouble { text: "the network refused the connection: 503".into() };
    client.until(|event| *event == trouble).await?;
    whatsapp.faults(|faults| faults.connect_failure = None);
    client.until(|event| *event == Event::Up).await?;
    client.session.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_logout_ends_the_session() -> Result<()> {
    let whatsapp = network();
    let rows = linked(&whatsapp).await?;
    let client = Client::up(&whatsapp, Arc::clone(&rows)).await?;
    whatsapp.start_trace();
    // The network closes the connection on its answer, which may be lost with it.
    let answer = client.session.log_out().await;
    assert!(matches!(answer, Ok(()) | Err(SubmitError::Down)), "{answer:?}");
    client.session.stop().await;
    assert_eq!(client.session.log_out().await, Err(SubmitError::Down));
    let asked = |stanza: &&String| stanza.ends_with("[remove-companion-device]");
    assert_eq!(whatsapp.trace().iter().filter(asked).count(), 1, "{:#?}", whatsapp.trace());
    // The network no longer knows the device.
    let end = end_of(Client::open(&whatsapp, rows).await?).await?;
    assert_eq!(end, [Event::LoggedOut { code: Some(401) }]);
    Ok(())
}

#[test]
fn no_task_outlives_the_session() -> Result<()> {
    // The session has its own runtime, which runs only while the test blocks on it. What is alive in that runtime after the
    // session has stopped was leaked by the session.
    let sessions = Builder::new_current_thread().enable_all().build()?;
    let whatsapp = network();
    let client = sessions.block_on(async {
        let mut client = Client::up(&whatsapp, linked(&whatsapp).await?).await?;
        client.send("3EB0T1").await?;
        anyhow::Ok(client)
    })?;
    let tasks = || sessions.metrics().num_alive_tasks();
    assert!(tasks() > 0);
    sessions.block_on(client.session.stop());
    assert_eq!(tasks(), 0);
    Ok(())
}
