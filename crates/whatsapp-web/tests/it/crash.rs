//! The process is killed repeatedly while it sends: nothing is lost, and nothing becomes unreadable.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::{sleep, timeout};

use crate::harness::{self, card, link, network};
use crate::rows::SqliteRows;

const ROUNDS: u64 = 8;

fn id(number: usize) -> String {
    format!("3EB0CRASH{number:08}")
}

#[tokio::test]
async fn nothing_is_lost_when_the_process_is_killed() -> Result<()> {
    let whatsapp = network();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("session.db");
    link(&whatsapp, &SqliteRows::at(&file)).await?;
    let mut next = 1;
    for round in 0..ROUNDS {
        next = killed_while_sending(&whatsapp.url(), &file, next, round).await?;
    }
    let mut copies: HashMap<String, usize> = HashMap::new();
    for received in whatsapp.inbox() {
        *copies.entry(received.id).or_default() += 1;
    }
    let missing: Vec<_> = (1..next).map(id).filter(|id| !copies.contains_key(id)).collect();
    let twice = copies.values().filter(|count| **count > 1).count();
    let unreadable = whatsapp.counters().undecryptable;
    println!("{ROUNDS} kills: {} cards acknowledged, {twice} received twice", next - 1);
    assert_eq!((missing, unreadable), (Vec::new(), 0));
    Ok(())
}

/// Sends from `next` on in its own process until the process is killed, and returns the number after the last answer.
async fn killed_while_sending(url: &str, file: &Path, mut next: usize, round: u64) -> Result<usize> {
    let mut child = tokio::process::Command::new(std::env::current_exe()?)
        .args(["--exact", "crash::child", "--ignored", "--nocapture"])
        .envs([("RECADO_WEB_URL", url), ("RECADO_WEB_NEXT", &next.to_string())])
        .env("RECADO_WEB_FILE", file)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("it has an output")?).lines();
    let wanted = next + 2 + usize::try_from(round * 7 % 9)?;
    while next < wanted {
        let Some(line) = timeout(Duration::from_mins(1), lines.next_line()).await?? else {
            bail!("the child ended in round {round}")
        };
        next = acked(&line).unwrap_or(next);
    }
    // A moment between two answers.
    sleep(Duration::from_micros(round * 1373 % 9000)).await;
    child.start_kill()?;
    child.wait().await?;
    while let Ok(Some(line)) = lines.next_line().await {
        next = acked(&line).unwrap_or(next);
    }
    Ok(next)
}

/// The number after the one that the output names.
fn acked(line: &str) -> Option<usize> {
    let (_, number) = line.split_once("acked ")?;
    Some(number.trim().parse::<usize>().ok()? + 1)
}

#[tokio::test]
#[ignore = "a part of the test above, run by it in a process of its own"]
async fn child() -> Result<()> {
    let (url, file) = (std::env::var("RECADO_WEB_URL")?, std::env::var("RECADO_WEB_FILE")?);
    let mut client = harness::Client::up_at(&url, Arc::new(SqliteRows::at(Path::new(&file)))).await?;
    for number in std::env::var("RECADO_WEB_NEXT")?.parse()?.. {
        client.session.submit(&card(&id(number))).await?;
        client.acked(&id(number)).await?;
        println!("acked {number}");
    }
    Ok(())
}
