//! Durable accepts compared with a bare handler's answers, while dispatch is paused.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;

use super::{CHANNELS, Numbered, median};
use crate::load::{self, Outcome, Target, Until};
use crate::report::{Goal, Report};
use crate::server::{Home, Server};
use crate::{Engine, Setting, check};

const NAME: &str = "accept";
/// The numbers of connections, and the goal for each as a share of the bare handler's rate.
const LOADS: [(u32, Option<f64>); 2] = [(256, Some(0.70)), (64, Some(0.50))];
/// The same in PostgreSQL.
const LOADS_POSTGRES: [(u32, Option<f64>); 2] = [(256, Some(0.50)), (64, None)];
/// The goal for the ratio of the 99th percentiles at 256 connections.
const P99: f64 = 2.5;

/// The result of one round of a server.
struct Round {
    outcome: Outcome,
    /// Microseconds of processor time for each answer, warm-up included.
    busy: f64,
}

impl Round {
    async fn run(server: &Server, target: &Target<'_>, connections: u32, until: Until) -> Result<Self> {
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
        let mut rounds = Vec::new();
        for _ in 0..setting.rounds {
            let until = Until::Time(setting.time);
            let theirs = Round::run(&bare, &theirs, connections, until).await?;
            let ours = Round::run(&recado, &ours.target(&recado), connections, until).await?;
            rounds.push((theirs, ours));
        }
        report_rounds(setting, report, (connections, goal), &rounds);
        accepted.extend(rounds.into_iter().flat_map(|(_, ours)| ours.outcome.accepted));
    }
    recado.stop()?;
    check::stored(&ours.home.tables, &accepted)
}

fn report_rounds(
    setting: &Setting,
    report: &mut Report,
    (connections, goal): (u32, Option<f64>),
    rounds: &[(Round, Round)],
) {
    let both = |figure: &dyn Fn(&Round) -> f64| {
        let of = |round: &dyn Fn(&(Round, Round)) -> f64| median(rounds.iter().map(round).collect());
        let ratio = of(&|(bare, recado)| figure(recado) / figure(bare));
        (of(&|(bare, _)| figure(bare)), of(&|(_, recado)| figure(recado)), ratio)
    };
    let at = |what: &str| format!("{what}, {connections} connections");
    let (bare, recado, ratio) = both(&|round| round.outcome.rate);
    report.note(NAME, at("bare handler"), bare, "/s");
    report.note(NAME, at("durable accepts"), recado, "/s");
    let what = at("durable accepts, share of the bare handler");
    match goal {
        Some(goal) => report.goal(NAME, what, (ratio, ""), Goal::AtLeast(goal)),
        None => report.note(NAME, what, ratio, ""),
    }
    let (bare, recado, _) = both(&|round| round.busy);
    report.note(NAME, at("bare handler, processor time each"), bare, "us");
    report.note(NAME, at("durable accepts, processor time each"), recado, "us");
    let (bare, recado, _) = both(&|round| round.outcome.latency(0.5));
    report.note(NAME, at("bare handler, p50"), bare, "ms");
    report.note(NAME, at("durable accepts, p50"), recado, "ms");
    let (bare, recado, ratio) = both(&|round| round.outcome.latency(0.99));
    report.note(NAME, at("bare handler, p99"), bare, "ms");
    report.note(NAME, at("durable accepts, p99"), recado, "ms");
    let what = at("p99, times the bare handler's");
    if connections == 256 && setting.engine == Engine::Sqlite {
        report.goal(NAME, what, (ratio, ""), Goal::AtMost(P99));
    } else {
        report.note(NAME, what, ratio, "");
    }
}
