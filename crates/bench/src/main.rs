//! Measures Recado's release binary. Compared variants are measured in the same run and alternately: the figures are mainly
//! ratios, because machines are noisy. A slow result is no failure; a lost, doubled or disordered message is.

mod check;
mod load;
mod postgres;
mod report;
mod scenarios;
mod server;
mod tables;

use std::path::PathBuf;
use std::time::Duration;

#[cfg(not(feature = "whatsapp-web"))]
use anyhow::anyhow;
use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};

use postgres::Postgres;
use report::Report;
#[cfg(feature = "whatsapp-web")]
use scenarios::whatsapp_web;
use scenarios::{accept, backlog, channels, cloud_api, dispatch, nodes, purge, webhooks};

/// Measures Recado and a bare handler.
#[derive(Parser)]
#[command(name = "bench", max_term_width = 110)]
struct Bench {
    /// What to measure; everything of the engine except whatsapp-web if omitted
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,

    #[command(flatten)]
    setting: Setting,

    /// Also write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The settings of the measurements.
#[derive(clap::Args)]
struct Setting {
    /// The engine of the store
    #[arg(long, value_enum, default_value_t = Engine::Sqlite, value_name = "ENGINE")]
    engine: Engine,

    #[arg(skip)]
    postgres: Postgres,

    /// The binary under test
    #[arg(long, value_name = "FILE")]
    recado: PathBuf,

    /// Directory of the stores: on the kind of disk that a server would use
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    /// How long each measurement lasts, after its warm-up
    #[arg(long, default_value = "4s", value_parser = humantime::parse_duration, value_name = "TIME")]
    time: Duration,

    /// Rounds of compared variants
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Waiting messages, in scenarios with many
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    backlog: u64,

    /// Messages that are dispatched while many wait
    #[arg(long, default_value_t = 40_000, value_name = "N")]
    dispatched: u64,

    /// Channels, in scenarios with many
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
enum Engine {
    /// Files of the one process that serves
    Sqlite,
    /// A durable PostgreSQL that is installed on this machine; it is started for the run, in the folder for temporary files
    Postgres,
}

impl Engine {
    /// The first value for files, the second for PostgreSQL.
    fn pick<T>(self, sqlite: T, postgres: T) -> T {
        match self {
            Self::Sqlite => sqlite,
            Self::Postgres => postgres,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Durable accepts beside a bare handler's answers, with the dispatch paused
    Accept,
    /// Everything accepted, sent, acknowledged, delivered and read; and the delay of one message when idle
    Dispatch,
    /// Memory, start, accepts and dispatch with many messages waiting
    Backlog,
    /// Dispatch over many channels beside that over twenty; in PostgreSQL by three nodes beside one
    Channels,
    /// Sends on one channel of Meta's Cloud API beside what its pipeline allows, with few and with many messages waiting
    CloudApi,
    /// Durable accepts with one webhook on all events beside those with none
    Webhooks,
    /// PostgreSQL: dispatch by one, two and three nodes; and how long after a node's crash other nodes send for it
    Nodes,
    /// PostgreSQL: accepts while old messages are deleted, beside accepts while as many young ones stay
    Purge,
    /// Memory and start of idle sessions of WhatsApp Web, beside as many Baileys sockets; needs a build of its own, which
    /// `./dev bench whatsapp-web` makes
    WhatsappWeb,
}

impl Scenario {
    fn is_of(self, engine: Engine) -> bool {
        match self {
            // With files, a purge starts with the server, before anything can be measured.
            Self::Nodes | Self::Purge => engine == Engine::Postgres,
            Self::WhatsappWeb => engine == Engine::Sqlite,
            _ => true,
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let Bench { mut scenarios, setting, json } = Bench::parse();
    if scenarios.is_empty() {
        scenarios = Scenario::value_variants().to_vec();
        // It needs another build than the others.
        scenarios.retain(|scenario| scenario.is_of(setting.engine) && *scenario != Scenario::WhatsappWeb);
    }
    let mut report = Report::default();
    if setting.engine == Engine::Postgres {
        report.measured_on(&format!("PostgreSQL, every commit on disk: {}", postgres::SETTINGS.join(", ")));
    }
    for scenario in scenarios {
        ensure!(scenario.is_of(setting.engine), "{scenario:?} is not measured on {:?}", setting.engine);
        match scenario {
            Scenario::Accept => accept::run(&setting, &mut report).await,
            Scenario::Dispatch => dispatch::run(&setting, &mut report).await,
            Scenario::Backlog => backlog::run(&setting, &mut report).await,
            Scenario::Channels => channels::run(&setting, &mut report).await,
            Scenario::CloudApi => cloud_api::run(&setting, &mut report).await,
            Scenario::Webhooks => webhooks::run(&setting, &mut report).await,
            Scenario::Nodes => nodes::run(&setting, &mut report).await,
            Scenario::Purge => purge::run(&setting, &mut report).await,
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
