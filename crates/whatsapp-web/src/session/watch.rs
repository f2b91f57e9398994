//! Follows the library, and reports events.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use whatsapp_rust::Client;
use whatsapp_rust::bot::Bot;
use whatsapp_rust::types::presence::ReceiptType;
use whatsapp_rust::wacore::types::events::{self as library, EventHandler, EventInterest, EventKind};
use whatsapp_rust::waproto::codec::message_encoded_len;

use super::receive::{Receiver, is_recovered};
use super::tasks::Tasks;
use super::{CLOSE, ConnectionState, translate};
use crate::backlog::{self, Weigh};
use crate::{Event, Inbound};

/// The interval between two checks of the connection. The library does not report a connection that breaks while it is being
/// opened, or that it reopens on purpose.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// How long the library may retry the login by itself. It waits up to a quarter of an hour between two attempts, and does
/// not share the login rate of the other sessions.
const AWAY: Duration = Duration::from_secs(30);

/// The library goes online when it learns the account's name, a moment after it reports the name.
const ONLINE_BY_ITSELF: Duration = Duration::from_secs(2);

/// The interval between two looks at messages that could not be read.
const UNREADABLE_INTERVAL: Duration = Duration::from_secs(5);
/// How long the session stays open after something could not be stored. Each login delivers it once more.
const UNSTORED: Duration = Duration::from_secs(30);

/// Bytes of an id beside its text.
const ID: usize = size_of::<String>();
/// Bytes of a message beside its content: its author, chat and time.
const MESSAGE: usize = 1_024;

/// The most reports of what people do for the moment that wait for the names of these people.
const SEEN: usize = 64;

/// The state of the connection as last reported, and the queue that reports go to.
pub struct Tracker {
    events: backlog::Sender<Event>,
    state: Arc<ConnectionState>,
    /// An event has said why the session ended.
    ended: bool,
    /// The time since when the network has been away, or has not answered the login.
    away_since: Option<Instant>,
    /// The time since when something is not stored.
    unstored_since: Option<Instant>,
}

impl Tracker {
    pub fn new(events: backlog::Sender<Event>, state: &Arc<ConnectionState>) -> Self {
        Self { events, state: Arc::clone(state), ended: false, away_since: None, unstored_since: None }
    }

    fn report(&self, event: Event) {
        self.events.send(event);
    }

    /// Reports only a change.
    fn set_up(&self, up: bool) {
        if self.state.up.swap(up, Ordering::Relaxed) != up {
            self.report(if up { Event::Up } else { Event::Down });
        }
    }
}

/// Runs the library, and follows it until the session ends.
pub fn start(bot: Bot, tasks: &Arc<Tasks>, receiver: Arc<Receiver>, tracker: Tracker) {
    let client = bot.client();
    let (sender, events) = backlog::channel();
    client.subscribe_handler(Arc::new(Listener(sender))).detach();
    // A panic in `run` drops its end of the channel too.
    let (running, ran) = mpsc::channel::<()>(1);
    tasks.spawn(async move {
        let _running = running;
        bot.run().await;
    });
    let (reporter, its_client) = (Arc::clone(&receiver), Arc::clone(&client));
    tasks.spawn(async move {
        reporter.pass_former(&its_client).await;
        loop {
            sleep(UNREADABLE_INTERVAL).await;
            reporter.report_unreadable(&its_client).await;
        }
    });
    let (people, seen) = mpsc::channel(SEEN);
    tasks.spawn(see(Arc::clone(&client), tracker.events.clone(), seen));
    let follower = Follower { client, tasks: Arc::clone(tasks), receiver, tracker, people };
    tasks.spawn(follower.follow(events, ran));
}

struct Follower {
    client: Arc<Client>,
    tasks: Arc<Tasks>,
    receiver: Arc<Receiver>,
    tracker: Tracker,
    /// What people do for the moment.
    people: mpsc::Sender<Arc<library::Event>>,
}

/// Reports what people do for the moment, in its order. Apart from the other events: it looks for names in the store, and
/// acknowledgements must not wait for that.
async fn see(client: Arc<Client>, reports: backlog::Sender<Event>, mut seen: mpsc::Receiver<Arc<library::Event>>) {
    while let Some(event) = seen.recv().await {
        translate::events(&client, &event).await.into_iter().for_each(|event| reports.send(event));
    }
}

impl Follower {
    async fn follow(mut self, mut received: backlog::Receiver<Arc<library::Event>>, mut ran: mpsc::Receiver<()>) {
        let mut checks = interval(CHECK_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let tasks = Arc::clone(&self.tasks);
        loop {
            tokio::select! {
                // Events received before the end are reported before it.
                biased;
                Some(event) = received.recv() => {
                    self.handle(&event).await;
                    let lost = received.take_dropped_count();
                    if lost > 0 {
                        self.tracker.report(Event::Trouble { text: format!("{lost} events of the network were too many") });
                    }
                }
                () = tasks.panicked() => {
                    self.tracker.report(Event::Trouble { text: "the library panicked".into() });
                    self.tracker.ended = false;
                    break;
                }
                _ = ran.recv() => break,
                _ = checks.tick() => {
                    if let Some(why) = self.check() {
                        tracing::debug!(error = why, "session closing; reopening");
                        // The library writes its unsaved data. Its own attempts end with it.
                        let _ = timeout(CLOSE, self.client.disconnect()).await;
                        while let Ok(event) = received.try_recv() {
                            self.handle(&event).await;
                        }
                        self.tracker.ended = false;
                        break;
                    }
                }
            }
        }
        self.tracker.set_up(false);
        if !self.tracker.ended {
            self.tracker.report(Event::Stopped);
        }
        self.receiver.calls.close();
        // Nothing of the library may go on when the session is over.
        self.tasks.end();
    }

    async fn handle(&mut self, event: &Arc<library::Event>) {
        if is_transient(event) {
            // If too many wait, this one is lost.
            let _ = self.people.try_send(Arc::clone(event));
            return;
        }
        match &**event {
            library::Event::Connected(_) => {
                // No recipient has seen us typing on this new connection.
                self.tracker.state.typing.store(false, Ordering::Relaxed);
                self.tracker.state.pairing.store(false, Ordering::Relaxed);
                // A code that expired before the login is no reason for an end any more.
                self.tracker.ended = false;
                self.tracker.set_up(true);
                self.go_offline(Duration::ZERO);
            }
            library::Event::Disconnected(_) => self.tracker.set_up(false),
            library::Event::SelfPushNameUpdated(_) => self.go_offline(ONLINE_BY_ITSELF),
            library::Event::PairSuccess(_) => {
                // Store the device now, and not when the library's saver wakes.
                if let Err(error) = self.client.persistence_manager().flush().await {
                    self.tracker
                        .report(Event::Trouble { text: format!("the linked device could not be stored: {error}") });
                }
            }
            library::Event::GroupUpdate(update) => self.receiver.group_changed(&self.client, update).await,
            library::Event::IncomingCall(call) => self.receiver.calls.heard(&self.client, call).await,
            library::Event::MissedCall(call) => self.receiver.calls.missed(&self.client, call).await,
            _ => self.receive(event),
        }
        for event in translate::events(&self.client, event).await {
            if is_final(&event) {
                self.tracker.ended = true;
                self.tracker.set_up(false);
            }
            self.tracker.report(event);
        }
    }

    /// Stores what the library does not pass through the hook. The network does not repeat it, and no event waits for it.
    fn receive(&self, event: &Arc<library::Event>) {
        let (client, receiver) = (Arc::clone(&self.client), Arc::clone(&self.receiver));
        let is_for_inbox = match &**event {
            library::Event::Messages(batch) => !batch.hook_committed,
            library::Event::UndecryptableMessage(_) | library::Event::ContactNumberChanged(_) => true,
            library::Event::Receipt(receipt) => is_read_self(&receipt.r#type),
            _ => false,
        };
        if !is_for_inbox {
            return;
        }
        let event = Arc::clone(event);
        self.tasks.spawn(async move {
            let stored = match &*event {
                library::Event::Messages(batch) => {
                    let recovered: Vec<_> =
                        batch.messages.iter().filter(|it| is_recovered(&it.info)).cloned().collect();
                    receiver.messages(&client, &recovered).await
                }
                library::Event::UndecryptableMessage(message) => {
                    receiver.undecryptable(&client, message).await;
                    Ok(())
                }
                library::Event::ContactNumberChanged(change) => {
                    receiver.number_changed(&client, change).await;
                    Ok(())
                }
                library::Event::Receipt(receipt) => {
                    let ids = receipt.message_ids.iter().map(ToString::to_string).collect();
                    receiver.insist(&client, Inbound::Read(ids));
                    Ok(())
                }
                _ => Ok(()),
            };
            if let Err(error) = stored {
                tracing::warn!(%error, "event of the network not stored");
            }
        });
    }

    /// Checks what the library does not report. Returns the reason if the session has to be reopened.
    fn check(&mut self) -> Option<&'static str> {
        let connected = self.client.is_connected();
        if !(connected && self.client.is_logged_in()) {
            self.tracker.set_up(false);
        }
        // A device that is not linked yet does not log in. A device that has logged in may read for minutes before it is
        // connected.
        if connected && (self.client.is_logged_in() || self.client.pn().is_none()) {
            self.tracker.away_since = None;
        }
        let away_since = *self.tracker.away_since.get_or_insert_with(Instant::now);
        if self.client.persistence_manager().is_saver_halted() {
            Some("the device could not be stored ten times: reopening the session with what is stored")
        } else if away_since.elapsed() >= AWAY {
            // Also on a connection that is open: the network may have ended only the login.
            Some("the network was away for too long: reopening the session")
        } else if self.is_unstored() {
            Some("messages could not be stored: reopening the session, so that the network delivers them again")
        } else {
            None
        }
    }

    /// Whether something that arrived has not been stored for some time.
    fn is_unstored(&mut self) -> bool {
        let state = &self.tracker.state;
        if !state.unstored.load(Ordering::Relaxed) && !state.broken.load(Ordering::Relaxed) {
            return false;
        }
        self.tracker.unstored_since.get_or_insert_with(Instant::now).elapsed() >= UNSTORED
    }

    /// The library goes online at every login. While the web client is online, the phone gets no notifications.
    fn go_offline(&self, after: Duration) {
        let (client, state) = (Arc::clone(&self.client), Arc::clone(&self.tracker.state));
        self.tasks.spawn(async move {
            sleep(after).await;
            if !state.typing.load(Ordering::Relaxed) {
                // Refused while the account has no name; then we are not online either.
                let _ = client.presence().set_unavailable().await;
            }
        });
    }
}

/// Whether the account's own phone has read messages.
fn is_read_self(kind: &ReceiptType) -> bool {
    matches!(kind, ReceiptType::ReadSelf | ReceiptType::PlayedSelf)
}

/// Whether the library does not reconnect after this event.
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
    fn is_transient(&self) -> bool {
        is_transient(self)
    }

    fn weight(&self) -> Option<usize> {
        let own = size_of::<library::Event>();
        match &**self {
            library::Event::Receipt(receipt) => {
                Some(own + receipt.message_ids.iter().map(|id| ID + id.len()).sum::<usize>())
            }
            library::Event::Messages(_) => {
                Some(own + self.messages().map(|it| MESSAGE + message_encoded_len(&it.message)).sum::<usize>())
            }
            library::Event::UndecryptableMessage(_)
            | library::Event::GroupUpdate(_)
            | library::Event::IncomingCall(_)
            | library::Event::MissedCall(_) => Some(own + MESSAGE),
            library::Event::ContactNumberChanged(_) | library::Event::ChatPresence(_) | library::Event::Presence(_) => {
                Some(own)
            }
            library::Event::ServerAck(_) => Some(own + ID),
            _ => None,
        }
    }
}

fn is_transient(event: &library::Event) -> bool {
    matches!(event, library::Event::ChatPresence(_) | library::Event::Presence(_))
}

/// Queues the library's events in their order. The library calls it synchronously, so it must not block.
struct Listener(backlog::Sender<Arc<library::Event>>);

impl EventHandler for Listener {
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
            EventKind::UndecryptableMessage,
            EventKind::ContactNumberChanged,
            EventKind::GroupUpdate,
            EventKind::IncomingCall,
            EventKind::MissedCall,
            EventKind::Receipt,
            EventKind::ChatPresence,
            EventKind::Presence,
            EventKind::ServerAck,
            EventKind::SelfPushNameUpdated,
            EventKind::StreamReplaced,
            EventKind::TemporaryBan,
            EventKind::ConnectFailure,
            EventKind::StreamError,
        ])
    }
}
