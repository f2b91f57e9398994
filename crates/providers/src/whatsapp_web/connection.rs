//! The connection of a channel. Its task keeps the session open.

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

use crate::counted::{Counted, Reconnect};
use crate::pairing::Pairing;
use crate::whatsapp_web::Shared;
use crate::whatsapp_web::accounts::QUESTIONS;
use crate::whatsapp_web::answers::Answers;
use crate::whatsapp_web::events::{End, Events, NotOpened};
use crate::whatsapp_web::groups::GroupNames;
use crate::whatsapp_web::incoming::SessionInbox;
use crate::whatsapp_web::searches::Searches;
use crate::whatsapp_web::session_rows::SessionRows;
use crate::whatsapp_web::state::BETWEEN_LOGINS;

/// How long a message waits before another attempt while the connection is closed. An opened connection wakes the
/// dispatcher.
pub const RETRY_WHEN_DOWN: Duration = Duration::from_secs(5);
/// How long a message in flight waits for a connection that is opening.
const OPENING_TIMEOUT: Duration = Duration::from_secs(2);
/// The time limit for unlinking the device on the phone.
const LOG_OUT: Duration = Duration::from_secs(5);

/// The time limit for closing the session of a connection that is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(600);
/// The longest sleep between two readings of the clock while waiting for a time of day.
const CLOCK_CHECK_INTERVAL: Duration = Duration::from_secs(20);
/// The time limit for reporting how the session of a closed connection ended.
const REPORT_TIMEOUT: Duration = Duration::from_millis(300);

/// The reason of a disconnected channel that reconnects by itself. The server restores such a connection when it starts.
pub const LOST: &str = "A linha caiu; o Recado esta religando.";

/// The reason of a disconnected channel that only a person reconnects.
pub const DISCONNECTED: &str = "A linha esta desligada. Conecte o canal.";

/// Waits until the connection is closed, and then for this time.
async fn after(stop: &CancellationToken, time: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(time).await;
}

/// The connection of a channel.
pub struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) via: ChannelRef,
    /// The rate limit for number lookups.
    pub(super) questions: Bucket,
    pub(super) searches: Searches,
    pub(super) groups: GroupNames,
    pub(super) pairing: watch::Sender<Pairing>,
    pub(super) up: watch::Sender<bool>,
    /// The time until which the network restricts the channel.
    pub(super) restriction: watch::Sender<Option<Millis>>,
    /// When another process last opened the session.
    pub(super) replaced_at: AtomicI64,
    /// The number of failed sessions in a row since the connection was last open.
    pub(super) failures: AtomicU32,
    /// Whether the session was lost since it was last open.
    pub(super) lost: AtomicBool,
    /// Locked for reading while a message is being sent, and for writing while the number of the account changes.
    pub(super) in_flight: tokio::sync::RwLock<()>,
    session: RwLock<Option<Arc<Session>>>,
    /// The session of the channel that the connection has, or had last.
    number: AtomicI64,
    pub(super) answers: Answers,
    /// The task that keeps the session open, or the last one that did.
    run: Mutex<Option<Run>>,
    /// How often the connection was closed.
    stops: AtomicU64,
    /// Held while a caller opens the connection.
    pub(super) linking: tokio::sync::Mutex<()>,
    /// The channel was deleted. A new channel under the same key has its own connection, and this one writes nothing for it.
    forgotten: AtomicBool,
    /// Cancelled when the connection of a deleted channel under this key has ended.
    pub(super) former: Option<CancellationToken>,
}

/// A task that keeps the session open.
#[derive(Clone)]
struct Run {
    stop: CancellationToken,
    /// Cancelled when the task has ended for any reason.
    ended: CancellationToken,
}

impl Run {
    fn is_active(&self) -> bool {
        !self.stop.is_cancelled() && !self.ended.is_cancelled()
    }
}

impl Connection {
    /// A closed connection. It waits for the end of `former`, the connection of a deleted channel under this key.
    pub fn new(shared: Arc<Shared>, via: ChannelRef, former: Option<CancellationToken>) -> Self {
        Self {
            shared,
            via,
            questions: Bucket::new(Some(QUESTIONS)),
            searches: Searches::default(),
            groups: GroupNames::default(),
            pairing: watch::Sender::new(Pairing::Idle),
            up: watch::Sender::new(false),
            restriction: watch::Sender::new(None),
            replaced_at: AtomicI64::new(0),
            failures: AtomicU32::new(0),
            lost: AtomicBool::new(false),
            in_flight: tokio::sync::RwLock::default(),
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

    /// The right of this node to write for this session of the channel. `None` if the channel was deleted or is another
    /// node's.
    pub(super) fn held(&self, session: SessionNumber) -> Option<Held> {
        let epoch = self.shared.epoch(self.via.key).filter(|_| !self.is_forgotten())?;
        Some(Held { channel: self.via.key, epoch, session })
    }

    /// The right to write for the connection's own session, or `None` if another node may own the channel.
    pub(super) fn exclusively_held(&self) -> Option<Held> {
        self.held(self.number()).filter(|_| self.shared.leases.is_valid())
    }

    /// The session of the channel that the connection uses.
    pub(super) fn number(&self) -> SessionNumber {
        self.number.load(Ordering::Acquire)
    }

    pub(super) fn set_number(&self, session: SessionNumber) {
        self.number.store(session, Ordering::Release);
    }

    /// Whether the channel was deleted.
    pub(super) fn is_forgotten(&self) -> bool {
        self.forgotten.load(Ordering::Acquire)
    }

    /// Marks the channel as deleted: the connection writes nothing more.
    pub fn forget(&self) {
        self.forgotten.store(true, Ordering::Release);
    }

    pub fn pairing(&self) -> watch::Receiver<Pairing> {
        self.pairing.subscribe()
    }

    pub fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    /// Waits a limited time for a connection that may be opening.
    pub async fn until_up(&self) {
        drop(tokio::time::timeout(OPENING_TIMEOUT, self.up.subscribe().wait_for(|up| *up)).await);
    }

    pub async fn until_down(&self) {
        // This struct holds the sender, so the wait cannot fail.
        drop(self.up.subscribe().wait_for(|up| !*up).await);
    }

    /// The session, while the connection is open.
    pub fn session(&self) -> Option<Arc<Session>> {
        self.session.read().unwrap_or_else(PoisonError::into_inner).clone().filter(|_| self.is_up())
    }

    fn set_session(&self, session: Option<Arc<Session>>) {
        *self.session.write().unwrap_or_else(PoisonError::into_inner) = session;
    }

    /// Restricts the channel, and shows the reason.
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

    /// Schedules the end of a restriction.
    pub fn restricted(&self, until: Millis) {
        self.restriction.send_modify(|known| *known = Some(known.map_or(until, |known| known.max(until))));
    }

    /// Whether the task that keeps the session open is running.
    pub fn is_running(&self) -> bool {
        self.run().is_some_and(|run| run.is_active())
    }

    fn run(&self) -> Option<Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the channel's state again if the connection is open, after another transition.
    pub(super) async fn refresh_state(&self, by: Actor) {
        if self.is_up() {
            self.set_connected(by).await;
        }
    }

    pub(super) fn rows(self: &Arc<Self>, session: SessionNumber) -> Arc<SessionRows> {
        Arc::new(SessionRows { connection: self.clone(), stored: self.shared.store.clone(), session })
    }

    /// Keeps the session open from now on, unless the connection is closed meanwhile. If `tries` is set and the network
    /// refuses the session, pairing follows.
    pub async fn start(self: &Arc<Self>, phone: Option<PhoneNumber>, tries: bool) {
        let stops = self.stops.load(Ordering::Acquire);
        // Two sessions of the same rows would damage each other.
        if let Some(former) = self.run().filter(|run| run.stop.is_cancelled()) {
            former.ended.cancelled().await;
        }
        let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        if stops != self.stops.load(Ordering::Acquire) || run.as_ref().is_some_and(|run| !run.ended.is_cancelled()) {
            return;
        }
        // The lease is checked too: while a channel is being released, its connection is already closed or about to be.
        if self.exclusively_held().is_none() || self.shared.leases.epoch(self.via.key).is_none() {
            // The channel was deleted, or another node may own it. If this node still owns it, the connection is restored
            // when the lease is valid again.
            return;
        }
        self.lost.store(false, Ordering::Relaxed);
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let (ends, held) = (ended.clone().drop_guard(), self.clone().run_session(stop.clone(), phone, tries));
        tokio::spawn(async move {
            let _ends = ends;
            held.await;
        });
        *run = Some(Run { stop, ended });
    }

    /// Closes the connection, and waits for the end: less than a second for the network, a little longer for a store that is
    /// slow to record receipts. The session stays linked.
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

    /// Ends the session, and unlinks the device on the phone if the network can be reached.
    pub async fn log_out(&self) {
        if let Some(session) = self.session() {
            let result = tokio::time::timeout(LOG_OUT, session.log_out()).await;
            if !matches!(result, Ok(Ok(()))) {
                tracing::warn!(channel.id = %self.via.id, "device logout failed");
            }
        }
        self.stop().await;
    }

    /// Opens the session repeatedly, until it has ended for good.
    async fn run_session(self: Arc<Self>, stop: CancellationToken, phone: Option<PhoneNumber>, tries: bool) {
        let mut end = self.open(&stop, phone.as_ref()).await;
        if tries && end == End::LoggedOut && *self.pairing.borrow() == Pairing::Waiting {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.forget_session() => {}
            }
            end = self.open(&stop, phone.as_ref()).await;
        }
        loop {
            self.count_failed_reconnect(&end);
            let again = tokio::select! {
                biased;
                again = self.ended(end) => again,
                // Report the end if the store answers at once.
                () = after(&stop, REPORT_TIMEOUT) => None,
            };
            let Some(again) = again else { return };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.until(again) => {}
            }
            self.lost.store(true, Ordering::Relaxed);
            end = self.open(&stop, phone.as_ref()).await;
        }
    }

    /// A session that was lost, and ended before it was open again, could not be opened.
    fn count_failed_reconnect(&self, end: &End) {
        let failed = matches!(end, End::NotOpened(_) | End::Lost | End::Refused { .. } | End::Outdated);
        if failed && self.lost.load(Ordering::Relaxed) {
            (self.shared.count)(Counted::Reconnect(Reconnect::Failed));
        }
    }

    /// Opens the session and handles its events, until it ends.
    async fn open(self: &Arc<Self>, stop: &CancellationToken, phone: Option<&PhoneNumber>) -> End {
        let (sender, receiver) = backlog::channel();
        let opened = async {
            self.wait_for_login().await?;
            let inbox = Arc::new(SessionInbox { connection: self.clone(), session: self.number() });
            let opened = Session::open(self.rows(self.number()), &self.options(), inbox, sender).await;
            opened.map_err(NotOpened::from)
        };
        let session = tokio::select! {
            () = stop.cancelled() => return End::Stopped,
            opened = opened => match opened {
                Ok(session) => Arc::new(session),
                Err(why) => return self.of_linking(End::NotOpened(why)).await,
            },
        };
        self.set_session(Some(session.clone()));
        let mut events = Events::new(self.clone(), receiver, session.clone(), phone);
        let ended = tokio::select! {
            ended = events.until_ended(stop) => ended,
            never = self.name_groups(&session) => match never {},
        };
        let end = self.of_linking(ended).await;
        self.set_session(None);
        // No answers can come any more.
        self.up.send_replace(false);
        tokio::select! {
            () = session.stop() => {}
            // If the network does not answer, abort the session as the end of the process would.
            () = after(stop, CLOSE_TIMEOUT) => session.abort().await,
        }
        events.drain().await;
        end
    }

    /// The network options of its session, with the login slots of its institution.
    fn options(&self) -> Options {
        let logins = self.shared.options.logins.of_group(u128::from_le_bytes(*self.via.institution.as_bytes()));
        Options { logins, ..self.shared.options.clone() }
    }

    /// Waits until the session may log in: a few seconds after its last login, and after the end of a ban. Both times are
    /// stored, so a restart does not shorten the wait. A last login in the future was recorded by a wrong clock, and counts
    /// as now.
    async fn wait_for_login(self: &Arc<Self>) -> Result<(), NotOpened> {
        if !self.has_session(self.number()).await.map_err(|error| NotOpened::unreadable(&error))? {
            return Ok(());
        }
        let limits = self.shared.store.login_limits(self.via.key).await;
        let limits = limits.map_err(|error| NotOpened::unreadable(&error))?;
        let logged_in_at = limits.logged_in_at.map(|at| at.min(self.shared.clock.now()) + millis(BETWEEN_LOGINS));
        if let Some(until) = logged_in_at.max(limits.banned_until) {
            self.until(until).await;
        }
        Ok(())
    }

    /// Waits for a time of day.
    pub(super) async fn until(&self, at: Millis) {
        // In parts, because the machine's clock may be set meanwhile.
        while let Ok(wait @ 1..) = u64::try_from(at - self.shared.clock.now()) {
            tokio::time::sleep(Duration::from_millis(wait).min(CLOCK_CHECK_INTERVAL)).await;
        }
    }
}
