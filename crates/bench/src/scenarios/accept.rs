//! Durable accepts beside a bare handler's answers, with the dispatch paused.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;

use super::{CHANNELS, Numbered, median};
use crate::load::{self, Outcome, Target, Until};
use crate::report::{Goal, Report};
use crate::server::{Home, Server};
use crate::{Engine, Setting, check};

const NAME: &str = "accept";
/// Connections, and the share of the bare handler's rate that is the goal at so many.
const LOADS: [(u32, Option<f64>); 2] = [(256, Some(0.70)), (64, Some(0.50))];
/// The same in PostgreSQL.
const LOADS_POSTGRES: [(u32, Option<f64>); 2] = [(256, Some(0.50)), (64, None)];
/// How much longer the slowest percent may take at 256 connections.
const P99: f64 = 2.5;

/// What one turn of a server showed.
struct Turn {
    outcome: Outcome,
    /// Microseconds of processor time for each answer, warm-up included.
    busy: f64,
}

impl Turn {
    async fn take(server: &Server, target: &Target<'_>, connections: u32, until: Until) -> Result<Self> {
        let (before, first) = (server.busy()?, target.next.load(Ordering::Relaxed));
        let outcome = load::run(target, connections, until).await?;
        let answers = u32::try_from(target.next.load(Ordering::Relaxed) - first)?;
        Ok(Self { outcome, busy: (server.busy()? - before) * 1e6 / f64::from(answers) })
    }
}

pub async fn run(setting: &Setting, report: &mut Report) -> Result<()> {
    let ours = Numbered::new(Home::make(setting, CHANNELS).await?);
    ours.home.set_channels("PAUSED")?;
    let (bare, recado) = (Server::bare()?, ours.home.serve()?);
    let next = AtomicU64::new(0);
    let theirs =
        Target { address: bare.address, keys: &ours.home.keys, channels: CHANNELS, people: u64::MAX, next: &next };
    let mut accepted = Vec::new();
    for (connections, goal) in setting.engine.pick(LOADS, LOADS_POSTGRES) {
        let mut turns = Vec::new();
        for _ in 0..setting.rounds {
            let until = Until::Time(setting.time);
            let theirs = Turn::take(&bare, &theirs, connections, until).await?;
            let ours = Turn::take(&recado, &ours.target(&recado), connections, until).await?;
            turns.push((theirs, ours));
        }
        tell(setting, report, (connections, goal), &turns);
        accepted.extend(turns.into_iter().flat_map(|(_, ours)| ours.outcome.accepted));
    }
    recado.stop()?;
    check::stored(&ours.home.tables, &accepted)
}

fn tell(setting: &Setting, report: &mut Report, (connections, goal): (u32, Option<f64>), turns: &[(Turn, Turn)]) {
    let both = |figure: &dyn Fn(&Turn) -> f64| {
        let of = |turn: &dyn Fn(&(Turn, Turn)) -> f64| median(turns.iter().map(turn).collect());
        let ratio = of(&|(bare, recado)| figure(recado) / figure(bare));
        (of(&|(bare, _)| figure(bare)), of(&|(_, recado)| figure(recado)), ratio)
    };
    let at = |what: &str| format!("{what}, {connections} connections");
    let (bare, recado, ratio) = both(&|turn| turn.outcome.rate);
    report.note(NAME, at("bare handler"), bare, "/s");
    report.note(NAME, at("durable accepts"), recado, "/s");
    let what = at("durable accepts, share of the bare handler");
    match goal {
        Some(goal) => report.goal(NAME, what, (ratio, ""), Goal::AtLeast(goal)),
        None => report.note(NAME, what, ratio, ""),
    }
    let (bare, recado, _) = both(&|turn| turn.busy);
    report.note(NAME, at("bare handler, processor time each"), bare, "us");
    report.note(NAME, at("durable accepts, processor time each"), recado, "us");
    let (bare, recado, _) = both(&|turn| turn.outcome.latency(0.5));
    report.note(NAME, at("bare handler, p50"), bare, "ms");
    report.note(NAME, at("durable accepts, p50"), recado, "ms");
    let (bare, recado, ratio) = both(&|turn| turn.outcome.latency(0.99));
    report.note(NAME, at("bare handler, p99"), bare, "ms");
    report.note(NAME, at("durable accepts, p99"), recado, "ms");
    let what = at("p99, times the bare handler's");
    if connections == 256 && setting.engine == Engine::Sqlite {
        report.goal(NAME, what, (ratio, ""), Goal::AtMost(P99));
    } else {
        report.note(NAME, what, ratio, "");
    }
}
