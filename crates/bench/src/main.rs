//! Measures Recado's release binary. What is compared is measured in the same run and in turn: these figures are ratios
//! first, because machines are noisy. Nothing fails because it was slow; what fails is a lost, doubled or disordered
//! message.

mod check;
mod load;
mod report;
mod scenarios;
mod server;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

use report::Report;
use scenarios::{accept, backlog, channels, cloud_api, dispatch};

/// Measures Recado beside a bare handler.
#[derive(Debug, Parser)]
#[command(name = "bench", max_term_width = 110)]
struct Bench {
    /// What to measure; everything without it
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,

    #[command(flatten)]
    setting: Setting,

    /// Also write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// How everything is measured.
#[derive(Debug, clap::Args)]
struct Setting {
    /// The binary under test
    #[arg(long, value_name = "FILE")]
    recado: PathBuf,

    /// Where the stores are made: on the kind of disk that a server would use
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    /// How long each measurement lasts, after its warm-up
    #[arg(long, default_value = "4s", value_parser = humantime::parse_duration, value_name = "TIME")]
    time: Duration,

    /// How often compared things take turns
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Messages that wait, where many wait
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    backlog: u64,

    /// Messages that are dispatched while many wait
    #[arg(long, default_value_t = 40_000, value_name = "N")]
    dispatched: u64,

    /// Channels, where there are many
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u64).range(20..))]
    channels: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Durable accepts beside a bare handler's answers, with the dispatch paused
    Accept,
    /// Everything accepted, sent, acknowledged, delivered and read; and the delay of one message when idle
    Dispatch,
    /// Memory, start, accepts and dispatch with many messages waiting
    Backlog,
    /// Dispatch over many channels beside that over twenty
    Channels,
    /// Sends on one channel of Meta's Cloud API beside what its pipeline allows, with few and with many messages waiting
    CloudApi,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Bench { mut scenarios, setting, json } = Bench::parse();
    if scenarios.is_empty() {
        scenarios = Scenario::value_variants().to_vec();
    }
    let mut report = Report::default();
    for scenario in scenarios {
        match scenario {
            Scenario::Accept => accept::run(&setting, &mut report).await,
            Scenario::Dispatch => dispatch::run(&setting, &mut report).await,
            Scenario::Backlog => backlog::run(&setting, &mut report).await,
            Scenario::Channels => channels::run(&setting, &mut report).await,
            Scenario::CloudApi => cloud_api::run(&setting, &mut report).await,
        }?;
    }
    report.print();
    if let Some(path) = json {
        std::fs::write(&path, report.json()?).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
