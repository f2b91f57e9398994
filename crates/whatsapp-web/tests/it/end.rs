//! How a session ends.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use fake_whatsapp::FakeWhatsApp;
use recado_whatsapp_web::{Event, Rows};
use tokio::runtime::Builder;

use crate::harness::{ACCOUNT, Line, link, network};
use crate::memory_rows::MemoryRows;

async fn ended_by(end: impl FnOnce(&FakeWhatsApp)) -> Result<Vec<Event>> {
    let whatsapp = network();
    let rows: Arc<dyn Rows> = Arc::new(MemoryRows::default());
    link(&whatsapp, &*rows).await?;
    let mut line = Line::up(&whatsapp, rows).await?;
    end(&whatsapp);
    let mut events = Vec::new();
    while let Some(event) = line.events.recv().await {
        let last = !matches!(event, Event::Down | Event::Trouble { .. });
        events.push(event);
        if last {
            break;
        }
    }
    assert!(!line.session.is_up());
    line.session.stop().await;
    Ok(events)
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

#[test]
fn no_task_outlives_the_session() -> Result<()> {
    // The session has a runtime of its own: whatever is alive there is the session's.
    let sessions = Builder::new_multi_thread().enable_all().build()?;
    let whatsapp = network();
    let line = sessions.block_on(async {
        let rows: Arc<dyn Rows> = Arc::new(MemoryRows::default());
        link(&whatsapp, &*rows).await?;
        let mut line = Line::up(&whatsapp, rows).await?;
        line.send("3EB0T1").await?;
        anyhow::Ok(line)
    })?;
    let tasks = || sessions.metrics().num_alive_tasks();
    assert!(tasks() > 0);
    sessions.block_on(line.session.stop());
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while tasks() > 0 && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(tasks(), 0);
    Ok(())
}
