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

#[cfg(not(feature = "whatsapp-web"))]
use anyhow::anyhow;
use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

use report::Report;
#[cfg(feature = "whatsapp-web")]
use scenarios::whatsapp_web;
use scenarios::{accept, backlog, channels, cloud_api, dispatch};

/// Measures Recado beside a bare handler.
#[derive(Debug, Parser)]
#[command(name = "bench", max_term_width = 110)]
struct Bench {
    /// What to measure; without it, everything but whatsapp-web
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

    /// Channels of WhatsApp Web that are linked
    #[cfg(feature = "whatsapp-web")]
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=10_000))]
    sessions: u64,

    /// Where Baileys is installed: a folder with its `node_modules`
    #[cfg(feature = "whatsapp-web")]
    #[arg(long, value_name = "DIR")]
    baileys: Option<PathBuf>,
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
    /// Memory and start of idle sessions of WhatsApp Web, beside as many Baileys sockets; needs a build of its own, which
    /// `./dev bench whatsapp-web` makes
    WhatsappWeb,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Bench { mut scenarios, setting, json } = Bench::parse();
    if scenarios.is_empty() {
        scenarios = Scenario::value_variants().to_vec();
        // Another build than that of the others.
        scenarios.retain(|scenario| *scenario != Scenario::WhatsappWeb);
    }
    let mut report = Report::default();
    for scenario in scenarios {
        match scenario {
            Scenario::Accept => accept::run(&setting, &mut report).await,
            Scenario::Dispatch => dispatch::run(&setting, &mut report).await,
            Scenario::Backlog => backlog::run(&setting, &mut report).await,
            Scenario::Channels => channels::run(&setting, &mut report).await,
            Scenario::CloudApi => cloud_api::run(&setting, &mut report).await,
            #[cfg(not(feature = "whatsapp-web"))]
            Scenario::WhatsappWeb => {
                Err(anyhow!("this bench was built without WhatsApp Web: `./dev bench whatsapp-web` builds it with"))
            }
            #[cfg(feature = "whatsapp-web")]
            Scenario::WhatsappWeb => whatsapp_web::run(&setting, &mut report).await,
        }?;
    }
    report.print();
    if let Some(path) = json {
        std::fs::write(&path, report.json()?).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
