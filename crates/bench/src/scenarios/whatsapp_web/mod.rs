//! WhatsApp Web sessions in one process: the memory of each further idle session, the duration of a start until all are
//! connected, the recovery after an outage, and the send rate. The simulated network runs in this process, so that its
//! memory does not count.

mod baileys;
mod link;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use fake_whatsapp::FakeWhatsApp;
use rusqlite::Connection;
use tokio::time::sleep;

use super::{Numbered, median, settled};
use crate::load::{CARD_PHONE, Until, recipient};
use crate::report::{Goal, Report};
use crate::server::{Home, Server};
use crate::{Setting, check};

const NAME: &str = "whatsapp-web";
/// The longest wait without progress.
const PATIENCE: Duration = Duration::from_mins(3);
/// The duration of the outage, in multiples of the measuring time: a minute by default.
const OUTAGE: u32 = 15;
/// The recipients of a session that sends as fast as it can, and a time in which it sends at least one card.
const PEOPLE: u64 = 20;
const CARDS_IN_TIME: Duration = Duration::from_millis(8);

pub async fn run(setting: &Setting, report: &mut Report) -> Result<()> {
    let many = setting.sessions;
    // The cost of the first sessions belongs to the process.
    let few = (many / 10).max(1);
    let network = Arc::new(FakeWhatsApp::start());
    let mut setup = Setup::set(setting, network.clone()).await?;
    // A device creates hundreds of keys when it first connects. The later starts are measured.
    let first = setup.start(many).await?;
    report.note(NAME, format!("first start of {many} devices, until all are up"), first.ready + first.up, "s");
    report.note(NAME, "memory, idle, first start", first.idle, "MB");
    let mut rounds = Vec::new();
    for _ in 0..setting.rounds {
        rounds.push((setup.start(few).await?, setup.start(many).await?));
    }
    report_figures(report, (few, many), &rounds);
    setup.outage(many, report).await?;
    for sessions in [1, many.min(20)] {
        setup.send_fast(sessions, report).await?;
    }
    setup.check()?;
    let each = each_further((few, many), &rounds, |started| started.used);
    match baileys::measure(setting, &network, (few, many)).await? {
        None => eprintln!("{NAME}: Baileys is not installed, so nothing is measured beside it"),
        Some(baileys) => {
            let what = format!("Baileys: memory, each further of {many}, after a card");
            report.note(NAME, what, baileys, "MB");
            report.note(NAME, "memory, each further, share of Baileys'", each / baileys, "");
        }
    }
    Ok(())
}

fn report_figures(report: &mut Report, (few, many): (u64, u64), rounds: &[(Started, Started)]) {
    let of = |figure: &dyn Fn(&Started) -> f64| median(rounds.iter().map(|(_, many)| figure(many)).collect());
    let at = |what: &str| format!("{what}, {many} sessions");
    report.note(NAME, at("from the start until it is ready"), of(&|started| started.ready), "s");
    report.note(NAME, at("from then until all are up"), of(&|started| started.up), "s");
    report.note(NAME, at("processor time of both"), of(&|started| started.busy), "s");
    report.note(NAME, at("memory, idle"), of(&|started| started.idle), "MB");
    let idle = each_further((few, many), rounds, |started| started.idle);
    let what = format!("memory, each further of {many}, idle");
    report.goal(NAME, what, (idle, "MB"), Goal::AtMost(0.15));
    let used = each_further((few, many), rounds, |started| started.used);
    report.note(NAME, format!("memory, each further of {many}, after a card"), used, "MB");
}

/// The memory of each further session, from a few to many: two starts of the same server.
fn each_further((few, many): (u64, u64), rounds: &[(Started, Started)], of: impl Fn(&Started) -> f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "some hundreds")]
    let further = (many - few) as f64;
    median(rounds.iter().map(|(with_few, with_many)| (of(with_many) - of(with_few)) / further).collect())
}

/// The result of a start.
struct Started {
    /// Seconds until the server reported that it is ready. It starts to connect sessions before that.
    ready: f64,
    /// Seconds from then until every session was connected.
    up: f64,
    /// Seconds of processor time until then.
    busy: f64,
    /// Resident megabytes while idle.
    idle: f64,
    /// The same after each session has sent a card.
    used: f64,
}

/// Linked channels and their network, without a running server.
struct Setup<'a> {
    setting: &'a Setting,
    network: Arc<FakeWhatsApp>,
    numbered: Numbered,
    accepted: Vec<u128>,
}

impl<'a> Setup<'a> {
    async fn set(setting: &'a Setting, network: Arc<FakeWhatsApp>) -> Result<Self> {
        network.add_contact(CARD_PHONE, "900000000000001");
        let home = Home::unlinked(setting, network.url(), setting.sessions).await?;
        link::link(&home, &network).await?;
        Ok(Self { setting, network, numbered: Numbered::new(home), accepted: Vec::new() })
    }

    /// Starts a server that connects this many sessions, lets each send a card, and stops it.
    async fn start(&mut self, sessions: u64) -> Result<Started> {
        self.hold_open(sessions)?;
        let server = self.numbered.home.serve()?;
        let (ready, since) = (server.ready_after.as_secs_f64(), Instant::now());
        self.wait(|| self.up(), sessions).await?;
        let (up, busy) = (since.elapsed().as_secs_f64(), server.busy()?);
        let idle = self.memory(&server).await?;
        self.send(&server, sessions).await?;
        let used = self.memory(&server).await?;
        server.stop()?;
        Ok(Started { ready, up, busy, idle, used })
    }

    /// Cuts all sessions off for a while, and waits until they are back.
    async fn outage(&mut self, sessions: u64, report: &mut Report) -> Result<()> {
        self.hold_open(sessions)?;
        let server = self.numbered.home.serve()?;
        self.wait(|| self.up(), sessions).await?;
        let (before, busy) = (self.network.counters().connections, server.busy()?);
        let outage = self.setting.time * OUTAGE;
        self.network.cut_off(true);
        sleep(outage).await;
        let share = (server.busy()? - busy) / outage.as_secs_f64();
        let at = |what: &str| format!("outage of {} s, {sessions} sessions: {what}", outage.as_secs());
        report.note(NAME, at("processor time a second meanwhile"), share, "s");
        self.network.cut_off(false);
        let since = Instant::now();
        self.wait(|| self.up(), sessions).await?;
        report.goal(NAME, at("until all are back"), (since.elapsed().as_secs_f64(), "s"), Goal::AtMost(120.0));
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let logins = (self.network.counters().connections - before) as f64;
        report.note(NAME, at("logins"), logins, "");
        server.stop()
    }

    /// Sends as fast as the network answers, to known recipients of each session.
    async fn send_fast(&mut self, sessions: u64, report: &mut Report) -> Result<()> {
        self.hold_open(sessions)?;
        let settings = "UPDATE channels SET settings = '{\"delayMinSeconds\":0,\"delayMaxSeconds\":0}'
                        WHERE type = 'WHATSAPP_BAILEYS'";
        Connection::open(self.numbered.home.store())?.execute(settings, [])?;
        self.numbered.people = sessions * PEOPLE;
        let server = self.numbered.home.serve()?;
        self.wait(|| self.up(), sessions).await?;
        self.send(&server, sessions * PEOPLE).await?;
        let cards = sessions * u64::try_from(self.setting.time.as_millis() / CARDS_IN_TIME.as_millis())?;
        let (before, since) = (self.arrived()?, Instant::now());
        self.accepted.extend(self.numbered.load(&server, 64, Until::Count(cards)).await?.accepted);
        self.wait(|| self.arrived(), before + cards).await?;
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let rate = cards as f64 / since.elapsed().as_secs_f64();
        let (what, least) = match sessions {
            1 => ("cards of one session, without rests".to_owned(), 200.0),
            sessions => (format!("cards of {sessions} sessions, without rests"), 1_000.0),
        };
        report.goal(NAME, what, (rate, "/s"), Goal::AtLeast(least));
        let read = || settled(&self.numbered.home).map(u64::from);
        self.wait(read, 1).await?;
        server.stop()
    }

    /// Makes a start connect this many sessions, and not the others.
    fn hold_open(&mut self, sessions: u64) -> Result<()> {
        self.numbered.home.channels = sessions;
        let sql = "UPDATE channels SET connected_at = coalesce(connected_at, created_at),
                   state = iif(cast(substr(id, 2) AS integer) < ?1, 'CONNECTING', 'LOGGED_OUT')
                   WHERE type = 'WHATSAPP_BAILEYS'";
        Connection::open(self.numbered.home.store())?.execute(sql, [i64::try_from(sessions)?])?;
        Ok(())
    }

    /// The number of connected channels.
    fn up(&self) -> Result<u64> {
        let sql = "SELECT count(*) FROM channels WHERE type = 'WHATSAPP_BAILEYS' AND state = 'CONNECTED'";
        Ok(self.numbered.home.tables.number(sql)?.try_into()?)
    }

    /// Resident megabytes, after memory of recent work was released.
    async fn memory(&self, server: &Server) -> Result<f64> {
        sleep(self.setting.time).await;
        Ok(server.memory()?.0)
    }

    /// Sends a card on each channel, each to a new recipient, and waits until all are read.
    async fn send(&mut self, server: &Server, cards: u64) -> Result<()> {
        let next = self.numbered.next.load(Ordering::Relaxed);
        for number in (next..next + cards).map(|number| number % self.numbered.people) {
            self.network.add_contact(&recipient(number), &format!("91{number:013}"));
        }
        let before = self.arrived()?;
        self.accepted.extend(self.numbered.load(server, 16, Until::Count(cards)).await?.accepted);
        self.wait(|| self.arrived(), before + cards).await?;
        let read = || settled(&self.numbered.home).map(u64::from);
        self.wait(read, 1).await
    }

    fn arrived(&self) -> Result<u64> {
        Ok(self.network.inbox().len().try_into()?)
    }

    /// Waits for this count, as long as it increases.
    async fn wait(&self, count: impl Fn() -> Result<u64>, wanted: u64) -> Result<()> {
        let (mut before, mut moved) = (count()?, Instant::now());
        while before < wanted {
            sleep(Duration::from_millis(10)).await;
            let now = count()?;
            if now != before {
                (before, moved) = (now, Instant::now());
            } else if moved.elapsed() > PATIENCE {
                bail!("{} sessions are up, {} cards arrived, and no more come", self.up()?, self.arrived()?);
            }
        }
        Ok(())
    }

    /// Every accepted card is stored, and was read once.
    fn check(&self) -> Result<()> {
        let tables = &self.numbered.home.tables;
        check::stored(tables, &self.accepted)?;
        let accepted: Vec<_> = self.network.inbox().into_iter().map(|received| received.id).collect();
        check::read_once(tables, &accepted)
    }
}
