//! One channel's line: its session, held open by a task.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use recado_domain::channel::{Actor, ChannelRef, Held, SessionNumber};
use recado_domain::clock::{Millis, millis};
use recado_domain::phone::PhoneNumber;
use recado_domain::rate_limit::Bucket;
use recado_whatsapp_web::{Options, Session, backlog};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::pairing::Pairing;
use crate::whatsapp_web::Shared;
use crate::whatsapp_web::accounts::QUESTIONS;
use crate::whatsapp_web::answers::Answers;
use crate::whatsapp_web::events::{End, Events};
use crate::whatsapp_web::searches::Searches;
use crate::whatsapp_web::session_rows::SessionRows;
use crate::whatsapp_web::state::BETWEEN_LOGINS;

/// What a message waits for that meets a line which is down. The line wakes the dispatcher when it comes up.
pub const DOWN: Duration = Duration::from_secs(5);
/// How long a message in hand waits for a line that is about to come up.
const COMING_UP: Duration = Duration::from_secs(2);
/// The longest for telling the phone that the device is gone.
const LOG_OUT: Duration = Duration::from_secs(5);

/// How long the session of a line that is put down may take to close.
const CLOSING: Duration = Duration::from_millis(600);
/// How often a wait for a time of day looks at the clock.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(20);
/// How long a line that is put down may take to tell how its session ended.
const LAST_WORD: Duration = Duration::from_millis(300);

/// Why a line is down that comes back by itself. Such a line is taken up again when the server starts.
pub const LOST: &str = "A linha caiu; o Recado esta religando.";

/// Why a line is down that only a person brings up.
pub const PUT_DOWN: &str = "A linha esta desligada. Conecte o canal.";

/// Waits until the line is put down, and then for this time.
async fn after(stop: &CancellationToken, time: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(time).await;
}

/// A channel's line.
pub struct Line {
    pub(super) shared: Arc<Shared>,
    pub(super) via: ChannelRef,
    /// How often numbers may be looked up.
    pub(super) questions: Bucket,
    pub(super) searches: Searches,
    pub(super) pairing: watch::Sender<Pairing>,
    pub(super) up: watch::Sender<bool>,
    /// Until when the network restricts the channel.
    pub(super) restriction: watch::Sender<Option<Millis>>,
    /// When somebody else opened the session last.
    pub(super) replaced_at: AtomicI64,
    /// How often the session could not be held open since the line was last up.
    pub(super) failures: AtomicU32,
    /// Held by each message that is being sent, and by who notes that the line is another number's.
    pub(super) in_hand: tokio::sync::RwLock<()>,
    session: RwLock<Option<Arc<Session>>>,
    /// Which of its channel's sessions it has, or had last.
    number: AtomicI64,
    pub(super) answers: Answers,
    /// The task that holds the session open, or the last one that did.
    run: Mutex<Option<Run>>,
    /// How often the line was put down.
    stops: AtomicU64,
    /// Held by who brings the line up.
    pub(super) linking: tokio::sync::Mutex<()>,
    /// Its channel was deleted: one that is made anew under the same key has a line of its own, of which this one says
    /// nothing.
    forgotten: AtomicBool,
    /// Cancelled when the line has ended that a deleted channel had under this key.
    pub(super) former: Option<CancellationToken>,
}

/// A task that holds the session open.
#[derive(Clone)]
struct Run {
    stop: CancellationToken,
    /// Cancelled when the task has ended, however it did.
    ended: CancellationToken,
}

impl Run {
    fn goes_on(&self) -> bool {
        !self.stop.is_cancelled() && !self.ended.is_cancelled()
    }
}

impl Line {
    /// A line that is down. It waits for the end of the one before it, where a deleted channel had one under this key.
    pub fn new(shared: Arc<Shared>, via: ChannelRef, former: Option<CancellationToken>) -> Self {
        Self {
            shared,
            via,
            questions: Bucket::new(Some(QUESTIONS)),
            searches: Searches::default(),
            pairing: watch::Sender::new(Pairing::Idle),
            up: watch::Sender::new(false),
            restriction: watch::Sender::new(None),
            replaced_at: AtomicI64::new(0),
            failures: AtomicU32::new(0),
            in_hand: tokio::sync::RwLock::default(),
            session: RwLock::default(),
            number: AtomicI64::new(0),
            answers: Answers::default(),
            run: Mutex::default(),
            stops: AtomicU64::new(0),
            linking: tokio::sync::Mutex::default(),
            forgotten: AtomicBool::new(false),
            former,
        }
    }

    /// As what this node speaks for the channel, in the name of this one of its sessions, as long as the channel has this
    /// line.
    pub(super) fn held(&self, session: SessionNumber) -> Option<Held> {
        let epoch = self.shared.epoch(self.via.key).filter(|_| !self.is_forgotten())?;
        Some(Held { channel: self.via.key, epoch, session })
    }

    /// The same of the line's own session, while no other node can hold the channel.
    pub(super) fn sure_held(&self) -> Option<Held> {
        self.held(self.number()).filter(|_| self.shared.leases.is_valid())
    }

    /// Which of its channel's sessions it has.
    pub(super) fn number(&self) -> SessionNumber {
        self.number.load(Ordering::Acquire)
    }

    pub(super) fn set_number(&self, session: SessionNumber) {
        self.number.store(session, Ordering::Release);
    }

    /// Whether its channel was deleted.
    pub(super) fn is_forgotten(&self) -> bool {
        self.forgotten.load(Ordering::Acquire)
    }

    /// Its channel was deleted: it writes nothing more.
    pub fn forget(&self) {
        self.forgotten.store(true, Ordering::Release);
    }

    pub fn pairing(&self) -> watch::Receiver<Pairing> {
        self.pairing.subscribe()
    }

    pub fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    /// Waits a little for a line that may be about to come up.
    pub async fn until_up(&self) {
        drop(tokio::time::timeout(COMING_UP, self.up.subscribe().wait_for(|up| *up)).await);
    }

    pub async fn until_down(&self) {
        // The sender is ours: it does not go.
        drop(self.up.subscribe().wait_for(|up| !*up).await);
    }

    /// The session, while the line is up.
    pub fn session(&self) -> Option<Arc<Session>> {
        self.session.read().unwrap_or_else(PoisonError::into_inner).clone().filter(|_| self.is_up())
    }

    fn set_session(&self, session: Option<Arc<Session>>) {
        *self.session.write().unwrap_or_else(PoisonError::into_inner) = session;
    }

    /// Restricts the channel, and shows why.
    pub async fn restrict(&self, until: Millis, reason: String) {
        if self.is_forgotten() {
            return;
        }
        let now = self.shared.clock.now();
        match self.shared.store.restrict_channel(self.via.key, until, reason, now).await {
            Ok(_) => self.restricted(until),
            Err(error) => tracing::warn!(channel.id = %self.via.id, %error, "restriction update failed"),
        }
    }

    /// Remembers to end a restriction in time.
    pub fn restricted(&self, until: Millis) {
        self.restriction.send_modify(|known| *known = Some(known.map_or(until, |known| known.max(until))));
    }

    /// Whether the session is held open, or about to be.
    pub fn is_running(&self) -> bool {
        self.run().is_some_and(|run| run.goes_on())
    }

    fn run(&self) -> Option<Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The line runs: the channel's state says so, whatever held it.
    pub(super) async fn keeps_up(&self, by: Actor) {
        if self.is_up() {
            self.shows_up(by).await;
        }
    }

    pub(super) fn rows(self: &Arc<Self>, session: SessionNumber) -> Arc<SessionRows> {
        Arc::new(SessionRows { line: self.clone(), stored: self.shared.store.clone(), session })
    }

    /// Holds the session open from now on, unless the line is put down meanwhile. One that is only tried is replaced by
    /// pairing where the network refuses it.
    pub async fn start(self: &Arc<Self>, phone: Option<PhoneNumber>, tries: bool) {
        let stops = self.stops.load(Ordering::Acquire);
        // Two sessions of the same rows would harm each other.
        if let Some(former) = self.run().filter(|run| run.stop.is_cancelled()) {
            former.ended.cancelled().await;
        }
        let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        if stops != self.stops.load(Ordering::Acquire) || run.as_ref().is_some_and(|run| !run.ended.is_cancelled()) {
            return;
        }
        // Not while the channel is about to be given back, either: its line has been put down, or is just about to be.
        if self.sure_held().is_none() || self.shared.leases.epoch(self.via.key).is_none() {
            // Its channel has gone, or has just gone to another node, or may have. One that is still held is taken up when
            // that is sure again.
            return;
        }
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let (ends, held) = (ended.clone().drop_guard(), self.clone().hold(stop.clone(), phone, tries));
        tokio::spawn(async move {
            let _ends = ends;
            held.await;
        });
        *run = Some(Run { stop, ended });
    }

    /// Puts the line down, and waits until it is: for the network less than a second, for a store that is slow to take
    /// receipts a little longer. The session stays.
    pub async fn stop(&self) {
        self.up.send_replace(false);
        let ended = {
            let run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
            self.stops.fetch_add(1, Ordering::AcqRel);
            run.as_ref().map(|run| {
                run.stop.cancel();
                run.ended.clone()
            })
        };
        if let Some(ended) = ended {
            ended.cancelled().await;
        }
    }

    /// Ends the session, also on the phone if it can be told.
    pub async fn log_out(&self) {
        if let Some(session) = self.session() {
            let told = tokio::time::timeout(LOG_OUT, session.log_out()).await;
            if !matches!(told, Ok(Ok(()))) {
                tracing::warn!(channel.id = %self.via.id, "device logout failed");
            }
        }
        self.stop().await;
    }

    /// Opens the session again and again, until it has ended for good.
    async fn hold(self: Arc<Self>, stop: CancellationToken, phone: Option<PhoneNumber>, tries: bool) {
        let mut end = self.open(&stop, phone.as_ref()).await;
        if tries && end == End::LoggedOut && *self.pairing.borrow() == Pairing::Waiting {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.forget_session() => {}
            }
            end = self.open(&stop, phone.as_ref()).await;
        }
        loop {
            let again = tokio::select! {
                biased;
                again = self.ended(end) => again,
                // What the store takes at once is told all the same.
                () = after(&stop, LAST_WORD) => None,
            };
            let Some(again) = again else { return };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.until(again) => {}
            }
            end = self.open(&stop, phone.as_ref()).await;
        }
    }

    /// Opens the session and lives with it, until it ends.
    async fn open(self: &Arc<Self>, stop: &CancellationToken, phone: Option<&PhoneNumber>) -> End {
        let (sender, receiver) = backlog::channel();
        let opened = async {
            self.rest().await?;
            Session::open(self.rows(self.number()), &self.options(), sender).await.map_err(|error| error.to_string())
        };
        let session = tokio::select! {
            () = stop.cancelled() => return End::Stopped,
            opened = opened => match opened {
                Ok(session) => Arc::new(session),
                Err(error) => return self.of_linking(End::NotOpened(error)).await,
            },
        };
        self.set_session(Some(session.clone()));
        let mut events = Events::new(self.clone(), receiver, session.clone(), phone);
        let end = self.of_linking(events.until_ended(stop).await).await;
        self.set_session(None);
        // Answers cannot come any more.
        self.up.send_replace(false);
        tokio::select! {
            () = session.stop() => {}
            // Where the network does not answer, it ends as it would with the process.
            () = after(stop, CLOSING) => session.break_off().await,
        }
        events.take_what_is_left().await;
        end
    }

    /// How its session reaches the network: in the turns of its institution.
    fn options(&self) -> Options {
        let logins = self.shared.options.logins.of_group(u128::from_le_bytes(*self.via.institution.as_bytes()));
        Options { logins, ..self.shared.options.clone() }
    }

    /// Waits until the session may log in: not within moments of its last login, nor before the end of a ban. Both outlast
    /// the process. A last login that lies ahead was written by a clock that was wrong, and costs no more than one now.
    async fn rest(self: &Arc<Self>) -> Result<(), String> {
        if !self.has_session(self.number()).await.map_err(|error| error.to_string())? {
            return Ok(());
        }
        let rest = self.shared.store.login_limits(self.via.key).await.map_err(|error| error.to_string())?;
        let logged_in_at = rest.logged_in_at.map(|at| at.min(self.shared.clock.now()) + millis(BETWEEN_LOGINS));
        if let Some(until) = logged_in_at.max(rest.banned_until) {
            self.until(until).await;
        }
        Ok(())
    }

    /// Waits for a time of day.
    pub(super) async fn until(&self, at: Millis) {
        // In parts: the machine's clock may be set meanwhile.
        while let Ok(wait @ 1..) = u64::try_from(at - self.shared.clock.now()) {
            tokio::time::sleep(Duration::from_millis(wait).min(LOOK_AT_CLOCK)).await;
        }
    }
}
