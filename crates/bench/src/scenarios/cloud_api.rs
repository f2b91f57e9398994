//! One Cloud API channel with a slow network: does it keep as many sends in flight as it may, and does it still do so with
//! many waiting messages?

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use fake_graph::{Behaviour, FakeGraph};
use tokio::time::sleep;

use super::{Numbered, median, settled};
use crate::load::{Client, Until};
use crate::report::{Goal, Report};
use crate::server::{Home, Server};
use crate::{Setting, check};

const NAME: &str = "cloud-api";
/// The latency of the network.
const ANSWERS_AFTER: Duration = Duration::from_millis(50);
/// The default number of sends in flight of such a channel.
const PIPELINE: u32 = 16;
/// The default backlog cap of a channel.
const BACKLOG_CAP: u64 = 100_000;

pub async fn run(setting: &Setting, report: &mut Report) -> Result<()> {
    let bound = f64::from(PIPELINE) / ANSWERS_AFTER.as_secs_f64();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some thousands")]
    let count = (bound * setting.time.as_secs_f64()).ceil() as u64 + u64::from(PIPELINE);
    let waiting = setting.backlog.min(BACKLOG_CAP).max(count);
    let mut few = Setup::set(setting).await?;
    let mut many = Setup::set(setting).await?;
    many.load(waiting).await?;
    let (mut with_few, mut with_many) = (Vec::new(), Vec::new());
    for _ in 0..setting.rounds {
        few.load(count).await?;
        with_few.push(few.send(count).await?);
        with_many.push(many.send(count).await?);
        // As many as before for the next round.
        many.load(count).await?;
    }
    let what = format!("bound: {PIPELINE} on their way, answers after {} ms", ANSWERS_AFTER.as_millis());
    report.note(NAME, what, bound, "/s");
    report_figures(report, bound, count, &with_few);
    report_figures(report, bound, waiting, &with_many);
    let ratio = median(with_few.iter().zip(&with_many).map(|(few, many)| many.rate / few.rate).collect());
    let what = format!("sends, {waiting} waiting, share of {count} waiting");
    report.goal(NAME, what, (ratio, ""), Goal::AtLeast(0.95));
    few.end()?;
    many.end()
}

fn report_figures(report: &mut Report, bound: f64, waiting: u64, rounds: &[Sent]) {
    let of = |figure: &dyn Fn(&Sent) -> f64| median(rounds.iter().map(figure).collect());
    let at = |what: &str| format!("{what}, {waiting} waiting");
    let rate = of(&|sent| sent.rate);
    report.note(NAME, at("sends"), rate, "/s");
    report.goal(NAME, at("sends, share of the bound"), (rate / bound, ""), Goal::AtLeast(0.9));
    report.note(NAME, at("from resume to the first send"), of(&|sent| sent.first), "ms");
    report.note(NAME, at("processor time each, with receipts"), of(&|sent| sent.busy), "us");
    report.note(NAME, at("memory at most"), of(&|sent| sent.memory), "MB");
}

/// The network's view of some sends.
struct Sent {
    /// Sends a second, from the first to the last.
    rate: f64,
    /// Milliseconds from the channel's resume to the first send.
    first: f64,
    /// Microseconds of the server's processor time for each send.
    busy: f64,
    /// The peak memory, in megabytes.
    memory: f64,
}

/// A server, its paused channel, and the network that the channel is linked to.
struct Setup {
    graph: FakeGraph,
    server: Server,
    numbered: Numbered,
    accepted: Vec<u128>,
}

impl Setup {
    async fn set(setting: &Setting) -> Result<Self> {
        let graph = FakeGraph::start();
        graph.behave(|_| Behaviour::accept().after(ANSWERS_AFTER));
        let numbered = Numbered::new(Home::linked(setting, &graph).await?);
        let server = numbered.home.serve()?;
        graph.send_callbacks_to(Some(format!("http://{}/v1/callbacks/meta", server.address)));
        let setup = Self { graph, server, numbered, accepted: Vec::new() };
        setup.act("pause").await?;
        Ok(setup)
    }

    async fn act(&self, action: &str) -> Result<()> {
        let mut client = Client::connect(self.server.address).await?;
        let path = format!("/v1/channels/c0/{action}");
        client.post(&path, &self.numbered.home.maker, String::new()).await?.expect(200)?;
        Ok(())
    }

    /// Sends that many messages to the server, each to another number.
    async fn load(&mut self, count: u64) -> Result<()> {
        self.accepted.extend(self.numbered.load(&self.server, 64, Until::Count(count)).await?.accepted);
        Ok(())
    }

    /// Resumes the channel until at least that many messages are read.
    async fn send(&self, count: u64) -> Result<Sent> {
        let (before, busy) = (self.graph.accepted(), self.server.busy()?);
        let resumed = Instant::now();
        self.act("resume").await?;
        self.wait("not all were sent", || Ok(self.graph.accepted() >= before + count)).await?;
        self.act("pause").await?;
        self.wait("not every receipt was recorded", || settled(&self.numbered.home)).await?;
        let busy = self.server.busy()? - busy;
        let (_, memory) = self.server.memory()?;
        let sends = self.graph.attempts().into_iter().filter(|attempt| attempt.wamid.is_some());
        let times: Vec<_> = sends.skip(usize::try_from(before)?).map(|attempt| attempt.at).collect();
        let measured = times.get(..usize::try_from(count)?).unwrap_or(&times);
        let [first, .., last] = measured else { bail!("{} sends are no rate", times.len()) };
        // The first sends leave at once: the time between first and last is that of the others.
        let others = f64::from(u32::try_from(measured.len())? - PIPELINE);
        Ok(Sent {
            rate: others / last.duration_since(*first).as_secs_f64(),
            first: first.duration_since(resumed).as_secs_f64() * 1_000.0,
            busy: busy * 1e6 / f64::from(u32::try_from(times.len())?),
            memory,
        })
    }

    /// Waits until the condition holds, for as long as the network sees progress.
    async fn wait(&self, trouble: &str, done: impl Fn() -> Result<bool>) -> Result<()> {
        let seen = || (self.graph.accepted(), self.graph.callbacks_acknowledged());
        let (mut before, mut moved) = (seen(), Instant::now());
        while !done()? {
            sleep(Duration::from_millis(20)).await;
            if seen() != before {
                (before, moved) = (seen(), Instant::now());
            } else if moved.elapsed() > Duration::from_secs(30) {
                bail!("{trouble}: {} messages, {} receipts, and no more come", before.0, before.1);
            }
        }
        Ok(())
    }

    /// Stops the server, and checks its tables.
    fn end(self) -> Result<()> {
        self.server.stop()?;
        if let [attempt, ..] = &*self.graph.invalid_bodies() {
            bail!("Meta would refuse a body: {}", attempt.faults.join("; "));
        }
        let tables = &self.numbered.home.tables;
        check::stored(tables, &self.accepted)?;
        let accepted: Vec<_> = self.graph.attempts().into_iter().filter_map(|attempt| attempt.wamid).collect();
        check::read_once(tables, &accepted)
    }
}
