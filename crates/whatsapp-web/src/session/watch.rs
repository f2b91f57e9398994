//! Follows the library, and tells what happens.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use whatsapp_rust::Client;
use whatsapp_rust::bot::Bot;
use whatsapp_rust::wacore::types::events::{self as library, EventHandler, EventInterest, EventKind};
use whatsapp_rust::waproto::codec::message_encoded_len;

use super::tasks::Tasks;
use super::{CLOSE, Shown, translate};
use crate::Event;
use crate::backlog::{self, Weigh};

/// A line that breaks while it is being opened, or is opened anew on purpose, breaks without a word of the library.
const LOOK: Duration = Duration::from_secs(2);

/// How long the library tries to log in again by itself. It waits up to a quarter of an hour between two attempts, and
/// knows nothing of the other sessions.
const AWAY: Duration = Duration::from_secs(30);

/// The library shows us online when it learns the account's name, a moment after it tells of the name.
const ONLINE_BY_ITSELF: Duration = Duration::from_secs(2);

/// Bytes of an id beside its text.
const ID: usize = size_of::<String>();
/// Bytes of a message beside its content: who wrote it, where and when.
const MESSAGE: usize = 1_024;

/// What is known of the line, and who is told.
pub struct Line {
    events: backlog::Sender<Event>,
    shown: Arc<Shown>,
    /// An event has said why the session ended.
    ended: bool,
    /// Since when the network has been away, or has not answered the login.
    away_since: Option<Instant>,
}

impl Line {
    pub fn new(events: backlog::Sender<Event>, shown: &Arc<Shown>) -> Self {
        Self { events, shown: Arc::clone(shown), ended: false, away_since: None }
    }

    fn tell(&self, event: Event) {
        self.events.send(event);
    }

    /// Tells of a change only.
    fn set_up(&self, up: bool) {
        if self.shown.up.swap(up, Ordering::Relaxed) != up {
            self.tell(if up { Event::Up } else { Event::Down });
        }
    }
}

/// Runs the library, and follows it until the session ends.
pub fn start(bot: Bot, tasks: &Arc<Tasks>, line: Line) {
    let client = bot.client();
    let (sender, heard) = backlog::channel();
    client.subscribe_handler(Arc::new(Ear(sender))).detach();
    // A panic in `run` drops its end of the channel too.
    let (running, ran) = mpsc::channel::<()>(1);
    tasks.spawn(async move {
        let _running = running;
        bot.run().await;
    });
    let follower = Follower { client, tasks: Arc::clone(tasks), line };
    tasks.spawn(follower.follow(heard, ran));
}

struct Follower {
    client: Arc<Client>,
    tasks: Arc<Tasks>,
    line: Line,
}

impl Follower {
    async fn follow(mut self, mut heard: backlog::Receiver<Arc<library::Event>>, mut ran: mpsc::Receiver<()>) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let tasks = Arc::clone(&self.tasks);
        loop {
            tokio::select! {
                // What was heard before the end is told before it.
                biased;
                Some(event) = heard.recv() => {
                    self.hear(&event).await;
                    let lost = heard.turned_away();
                    if lost > 0 {
                        self.line.tell(Event::Trouble { text: format!("{lost} events of the network were too many") });
                    }
                }
                () = tasks.panicked() => {
                    self.line.tell(Event::Trouble { text: "the library panicked".into() });
                    self.line.ended = false;
                    break;
                }
                _ = ran.recv() => break,
                _ = look.tick() => {
                    if let Some(why) = self.look() {
                        tracing::debug!(error = why, "session closing; reopening");
                        // What the library holds back is written. Its own attempts end with it.
                        let _ = timeout(CLOSE, self.client.disconnect()).await;
                        while let Ok(event) = heard.try_recv() {
                            self.hear(&event).await;
                        }
                        self.line.ended = false;
                        break;
                    }
                }
            }
        }
        self.line.set_up(false);
        if !self.line.ended {
            self.line.tell(Event::Stopped);
        }
        // Nothing of the library may go on when the session is over.
        self.tasks.end();
    }

    async fn hear(&mut self, event: &library::Event) {
        match event {
            library::Event::Connected(_) => {
                // Nobody has been shown on this connection that we type.
                self.line.shown.typing.store(false, Ordering::Relaxed);
                self.line.shown.pairing.store(false, Ordering::Relaxed);
                // What was said of codes that ran out is over.
                self.line.ended = false;
                self.line.set_up(true);
                self.go_offline(Duration::ZERO);
            }
            library::Event::Disconnected(_) => self.line.set_up(false),
            library::Event::SelfPushNameUpdated(_) => self.go_offline(ONLINE_BY_ITSELF),
            library::Event::PairSuccess(_) => {
                // The device is stored from here on, and not when the library's saver wakes.
                if let Err(error) = self.client.persistence_manager().flush().await {
                    self.line.tell(Event::Trouble { text: format!("the linked device could not be stored: {error}") });
                }
            }
            _ => {}
        }
        for event in translate::events(&self.client, event).await {
            if is_final(&event) {
                self.line.ended = true;
                self.line.set_up(false);
            }
            self.line.tell(event);
        }
    }

    /// Looks at what the library does not tell. Gives why the session has to be opened anew.
    fn look(&mut self) -> Option<&'static str> {
        let connected = self.client.is_connected();
        if !(connected && self.client.is_logged_in()) {
            self.line.set_up(false);
        }
        // A device that is not linked yet logs in nowhere. One that has logged in may read for minutes before it is up.
        if connected && (self.client.is_logged_in() || self.client.pn().is_none()) {
            self.line.away_since = None;
        }
        let away_since = *self.line.away_since.get_or_insert_with(Instant::now);
        if self.client.persistence_manager().is_saver_halted() {
            Some("the device could not be stored ten times: the session is opened anew with what is stored")
        } else if away_since.elapsed() >= AWAY {
            // Also on a connection that lives: the network may have ended the login alone.
            Some("the network was away for too long: the session is opened anew")
        } else {
            None
        }
    }

    /// The library shows us online at every login. Whoever is online on the web gets no notification on the phone.
    fn go_offline(&self, after: Duration) {
        let (client, shown) = (Arc::clone(&self.client), Arc::clone(&self.line.shown));
        self.tasks.spawn(async move {
            sleep(after).await;
            if !shown.typing.load(Ordering::Relaxed) {
                // Refused as long as the account has no name; then we are not online either.
                let _ = client.presence().set_unavailable().await;
            }
        });
    }
}

/// The library does not connect again after these.
fn is_final(event: &Event) -> bool {
    matches!(
        event,
        Event::LoggedOut { .. }
            | Event::Expelled
            | Event::Replaced
            | Event::TemporarilyBanned { .. }
            | Event::Banned { .. }
            | Event::Outdated
            | Event::Refused { .. }
            | Event::QrExhausted
    )
}

impl Weigh for Arc<library::Event> {
    fn weight(&self) -> Option<usize> {
        let own = size_of::<library::Event>();
        match &**self {
            library::Event::Receipt(receipt) => {
                Some(own + receipt.message_ids.iter().map(|id| ID + id.len()).sum::<usize>())
            }
            library::Event::Messages(_) => {
                Some(own + self.messages().map(|it| MESSAGE + message_encoded_len(&it.message)).sum::<usize>())
            }
            library::Event::ServerAck(_) => Some(own + ID),
            _ => None,
        }
    }
}

/// Hears the library's events in their order. It is called where they happen, and must not wait.
struct Ear(backlog::Sender<Arc<library::Event>>);

impl EventHandler for Ear {
    fn handle_event(&self, event: Arc<library::Event>) {
        self.0.send(event);
    }

    fn interest(&self) -> EventInterest {
        EventInterest::of(&[
            EventKind::Connected,
            EventKind::Disconnected,
            EventKind::PairSuccess,
            EventKind::PairError,
            EventKind::LoggedOut,
            EventKind::PairingQrCode,
            EventKind::PairingCode,
            EventKind::PairingCodeRefresh,
            EventKind::PairingCodeError,
            EventKind::PairingQrCodesExhausted,
            EventKind::QrScannedWithoutMultidevice,
            EventKind::PairPasskeyRequest,
            EventKind::PairPasskeyError,
            EventKind::ClientOutdated,
            EventKind::Messages,
            EventKind::Receipt,
            EventKind::ServerAck,
            EventKind::SelfPushNameUpdated,
            EventKind::StreamReplaced,
            EventKind::TemporaryBan,
            EventKind::ConnectFailure,
            EventKind::StreamError,
        ])
    }
}
