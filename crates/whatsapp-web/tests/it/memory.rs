//! The memory that an idle session needs.

use std::fs::read_to_string;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use fake_whatsapp::Account;
use recado_whatsapp_web::{Kind, Rows};

use crate::harness::{Client, network, put_device};
use crate::memory_rows::MemoryRows;

const SESSIONS: u64 = 50;

/// The sessions run in their own process, so that the figure includes neither the server's side nor the rows.
#[tokio::test]
async fn idle_sessions_are_small() -> Result<()> {
    let whatsapp = network();
    let folder = tempfile::tempdir()?;
    for number in 0..SESSIONS {
        let account = Account::new(&format!("5511400{number:05}"), &format!("9000000001{number:05}"));
        std::fs::write(folder.path().join(number.to_string()), serde_json::to_vec(&whatsapp.linked_device(&account))?)?;
    }
    let child = tokio::process::Command::new(std::env::current_exe()?)
        .args(["--exact", "memory::child", "--ignored", "--nocapture"])
        .env("RECADO_WEB_URL", whatsapp.url())
        .env("RECADO_WEB_DEVICES", folder.path())
        .kill_on_drop(true)
        .output()
        .await?;
    let output = String::from_utf8_lossy(&child.stdout);
    let figures = output.lines().find_map(|line| line.split_once("idle: ")).with_context(|| output.to_string())?.1;
    println!("{figures}");
    let each: u64 = figures.split(' ').next().unwrap_or_default().parse()?;
    ensure!(each < 1024, "{figures}");
    Ok(())
}

#[tokio::test]
#[ignore = "a part of the test above, run by it in a process of its own"]
async fn child() -> Result<()> {
    let (url, devices) = (std::env::var("RECADO_WEB_URL")?, PathBuf::from(std::env::var("RECADO_WEB_DEVICES")?));
    let mut clients = Vec::new();
    let (mut first, mut writes, mut bytes) = (0, 0, 0);
    for number in 0..SESSIONS {
        let rows = Arc::new(MemoryRows::default());
        put_device(&*rows, std::fs::read(devices.join(number.to_string()))?).await?;
        clients.push(Client::up_at(&url, rows.clone()).await?);
        // The keys are created when the session is connected.
        while rows.list(Kind::PreKey, Vec::new()).await?.is_empty() {
            tokio::task::yield_now().await;
        }
        (writes, bytes) = (rows.writes(), kib_of(&*rows).await?);
        if number == 9 {
            first = resident();
        }
    }
    let each = (resident() - first) / (SESSIONS - 10);
    println!(
        "idle: {} KiB for each further session, beside {bytes} KiB of rows; {writes} writes until it has its keys",
        each - bytes
    );
    for client in clients {
        client.session.stop().await;
    }
    Ok(())
}

async fn kib_of(rows: &dyn Rows) -> Result<u64> {
    let mut bytes = 0;
    for kind in Kind::ALL {
        bytes += rows.list(*kind, Vec::new()).await?.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
    }
    Ok(u64::try_from(bytes)? / 1024)
}

/// Resident memory in KiB.
fn resident() -> u64 {
    let status = read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|value| value.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
