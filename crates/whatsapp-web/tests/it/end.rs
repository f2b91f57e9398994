//! How a session ends.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use recado_whatsapp_web::{Event, Rows};
use tokio::runtime::Builder;
use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use crate::harness::{ACCOUNT, DEVICE, Line, link, server};
use crate::memory_rows::MemoryRows;

async fn ended_by(stanza: Node) -> Result<Vec<Event>> {
    let server = server().await?;
    let rows: Arc<dyn Rows> = Arc::new(MemoryRows::default());
    link(&server, &*rows).await?;
    let mut line = Line::up(&server, rows).await?;
    assert!(server.send_stanza(ACCOUNT, DEVICE, stanza));
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
    let conflict = NodeBuilder::new("conflict").attr("type", "replaced").build();
    let events = ended_by(NodeBuilder::new("stream:error").children([conflict]).build()).await?;
    assert_eq!(events, [Event::Down, Event::Replaced]);
    Ok(())
}

#[tokio::test]
async fn logged_out() -> Result<()> {
    let events = ended_by(NodeBuilder::new("stream:error").attr("code", "516").build()).await?;
    assert_eq!(events, [Event::Down, Event::LoggedOut { code: Some(401) }]);
    Ok(())
}

#[test]
fn no_task_outlives_the_session() -> Result<()> {
    // The session has a runtime of its own: whatever is alive there is the session's.
    let (servers, sessions) =
        (Builder::new_multi_thread().enable_all().build()?, Builder::new_multi_thread().enable_all().build()?);
    let server = servers.block_on(server())?;
    let line = sessions.block_on(async {
        let rows: Arc<dyn Rows> = Arc::new(MemoryRows::default());
        link(&server, &*rows).await?;
        let mut line = Line::up(&server, rows).await?;
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
