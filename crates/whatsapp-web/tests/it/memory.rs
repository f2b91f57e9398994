//! What an idle session costs.

use std::fs::read_to_string;
use std::sync::Arc;

use anyhow::Result;
use fake_whatsapp::Account;

use crate::harness::{Line, link_as, network};
use crate::memory_rows::MemoryRows;

const SESSIONS: u64 = 50;

/// The server's side of each session is in the figure, and so are its rows.
#[tokio::test]
async fn idle_sessions_are_small() -> Result<()> {
    let whatsapp = network();
    let mut lines = Vec::new();
    let (mut first, mut writes) = (0, 0);
    for number in 0..SESSIONS {
        let rows = Arc::new(MemoryRows::default());
        let account = Account::new(&format!("5511400{number:05}"), &format!("9000000001{number:05}"));
        link_as(&whatsapp, &*rows, &account).await?;
        lines.push(Line::up(&whatsapp, rows.clone()).await?);
        writes = rows.writes();
        if number == 9 {
            first = resident();
        }
    }
    let each = (resident() - first) / (SESSIONS - 10);
    println!("{each} KiB for each further idle session; {writes} writes until it is up; {} KiB in all", resident());
    assert!(each < 2048, "{each} KiB");
    for line in lines {
        line.session.stop().await;
    }
    Ok(())
}

/// KiB.
fn resident() -> u64 {
    let status = read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|value| value.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
