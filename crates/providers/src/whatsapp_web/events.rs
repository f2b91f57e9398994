//! Handles the events of a session in order: codes for the pairing, connects and disconnects, answers and receipts.

use std::sync::Arc;
use std::time::Duration;

use recado_domain::api_key::Environment;
use recado_domain::clock::{Millis, millis};
use recado_domain::ids::NetworkId;
use recado_domain::incoming::{Group, SenderIds};
use recado_domain::party::Party;
use recado_domain::phone::PhoneNumber;
use recado_domain::queue::{MessageRef, Receipt};
use recado_domain::status::MessageStatus;
use recado_domain::transient::{Transient, TransientState};
use recado_whatsapp_web::{Event, OpenError, Person, Session, backlog};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::counted::{Counted, PairingEnd};
use crate::pairing::Pairing;
use crate::whatsapp_web::accounts::party;
use crate::whatsapp_web::answers::Answer;
use crate::whatsapp_web::connection::Connection;

/// The wait before the store is asked again to record receipts. The network does not repeat them.
const STORE_RETRY: Duration = Duration::from_millis(500);
/// How long a banned account waits if the network does not name the end of the ban.
const BAN: Duration = Duration::from_hours(1);

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// This node closed the connection.
    Stopped,
    /// The session could not be opened.
    NotOpened(NotOpened),
    /// The connection was lost.
    Lost,
    /// The network refuses the session with this code.
    Refused { code: u16 },
    /// The phone or the network unlinked the device.
    LoggedOut,
    /// The network ended the session, and may still know the device.
    Expelled,
    /// Another process opened the session.
    Replaced,
    /// The account is banned until this time.
    TemporarilyBanned { until: Millis },
    /// The account is banned.
    Banned { code: u16 },
    /// The network no longer accepts this version of the protocol.
    Outdated,
    /// No phone linked it.
    NotLinked { reason: String },
}

/// Why a session could not be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotOpened {
    /// The cause, for callers.
    pub cause: &'static str,
    /// The same in detail, for the log.
    pub error: String,
}

impl NotOpened {
    /// What the store has of it cannot be read.
    pub fn unreadable(error: &impl ToString) -> Self {
        Self { cause: "seus dados nao podem ser lidos", error: error.to_string() }
    }
}

impl From<OpenError> for NotOpened {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Storage(_) => Self::unreadable(&error),
            OpenError::NotLoopback | OpenError::LoopbackOnly => {
                Self { cause: "este programa e de testes e so alcanca a propria maquina", error: error.to_string() }
            }
        }
    }
}

/// How long the end of a session waits for its last receipts to be stored.
const LEFT: Duration = Duration::from_secs(3);

/// The events of one session.
pub struct Events<'a> {
    connection: Arc<Connection>,
    receiver: backlog::Receiver<Event>,
    session: Arc<Session>,
    /// The phone for which a code to type is still to be requested.
    phone: Option<&'a PhoneNumber>,
    /// The writes to the store. They continue when the connection is closed while the store is unavailable.
    writes: TaskTracker,
}

impl<'a> Events<'a> {
    pub fn new(
        connection: Arc<Connection>,
        receiver: backlog::Receiver<Event>,
        session: Arc<Session>,
        phone: Option<&'a PhoneNumber>,
    ) -> Self {
        Self { connection, receiver, session, phone, writes: TaskTracker::new() }
    }

    /// Handles events until the session has ended.
    pub async fn until_ended(&mut self, stop: &CancellationToken) -> End {
        loop {
            if let Some(end) = self.one(stop).await {
                return end;
            }
        }
    }

    /// Records what the network reported while the session ended, because the network repeats no receipt. Waits a limited
    /// time for the store; the writes continue after that.
    pub async fn drain(&mut self) {
        let (mut left, mut wrote) = (Vec::new(), Vec::new());
        let receipts = |ids: &[String], status, at, from| {
            party(from).map_or_else(Vec::new, |from| self.connection.receipts_of(ids, status, at, Some(&from)))
        };
        while let Ok(event) = self.receiver.try_recv() {
            match event {
                Event::Delivered { ids, at, from } => {
                    left.extend(receipts(&ids, MessageStatus::Delivered, at, from));
                }
                Event::Read { ids, at, from } => {
                    left.extend(receipts(&ids, MessageStatus::Read, at, from));
                }
                Event::Wrote { who } => wrote.push(who),
                _ => {}
            }
        }
        let connection = self.connection.clone();
        self.writes.spawn(async move {
            if !left.is_empty() {
                connection.store_receipts(left).await;
            }
            for who in wrote {
                connection.was_written_to(who).await;
            }
        });
        self.writes.close();
        drop(tokio::time::timeout(LEFT, self.writes.wait()).await);
    }

    async fn one(&mut self, stop: &CancellationToken) -> Option<End> {
        let mut restriction = self.connection.restriction.subscribe();
        let (restricted_until, typed_until) = (*restriction.borrow_and_update(), self.typed_code_expiry());
        let reached = async |at: Option<Millis>| match at {
            Some(at) => self.connection.until(at).await,
            None => std::future::pending().await,
        };
        let event = tokio::select! {
            () = stop.cancelled() => return Some(End::Stopped),
            event = self.receiver.recv() => event,
            _ = restriction.changed() => return None,
            () = reached(restricted_until) => {
                self.connection.restriction_ended().await;
                return None;
            }
            () = reached(typed_until) => {
                return Some(self.not_linked(PairingEnd::Expired, "Ninguem digitou o codigo a tempo. Conecte de novo."));
            }
        };
        let lost = self.receiver.take_dropped_count();
        if lost > 0 {
            tracing::warn!(channel.id = %self.connection.via.id, events = lost, "session events lost: queue full");
        }
        let Some(event) = event else { return Some(End::Lost) };
        tokio::select! {
            biased;
            end = self.handle(event) => end,
            // The connection can be closed even while the network is slow or the store is unavailable.
            () = stop.cancelled() => Some(End::Stopped),
        }
    }

    async fn handle(&mut self, event: Event) -> Option<End> {
        let connection = &self.connection;
        let now = connection.shared.clock.now();
        match event {
            Event::Qr { code, valid_for } => return self.code_to_scan(code, now + millis(valid_for)).await,
            Event::PairingCode { code, valid_for } => {
                connection.pairing.send_replace(Pairing::PhoneCode { code, expires_at: now + millis(valid_for) });
            }
            Event::QrExhausted => {
                return Some(
                    self.not_linked(PairingEnd::Expired, "Nenhum telefone leu o codigo a tempo. Conecte de novo."),
                );
            }
            // The library's text is omitted, because it may contain a number.
            Event::PairingFailed { .. } => {
                tracing::warn!(channel.id = %connection.via.id, "pairing failed");
                return Some(
                    self.not_linked(PairingEnd::Failed, "O WhatsApp nao ligou o canal ao telefone. Conecte de novo."),
                );
            }
            Event::Linked { .. } => {
                (connection.shared.count)(Counted::Pairing(PairingEnd::Linked));
                connection.pairing.send_replace(Pairing::Linked);
            }
            Event::Up => return connection.on_up(self.session.phone()).await,
            Event::Down => connection.on_down().await,
            Event::LoggedOut { .. } => return Some(End::LoggedOut),
            Event::Expelled => return Some(End::Expelled),
            Event::Replaced => return Some(End::Replaced),
            Event::TemporarilyBanned { expires_in, .. } => {
                return Some(End::TemporarilyBanned { until: now + millis(expires_in.unwrap_or(BAN)) });
            }
            Event::Banned { code } => return Some(End::Banned { code }),
            Event::Outdated => return Some(End::Outdated),
            Event::Refused { code } => return Some(End::Refused { code }),
            Event::Stopped => return Some(End::Lost),
            Event::Trouble { text } => {
                tracing::warn!(channel.id = %connection.via.id, error = text, "whatsapp session connection failed");
            }
            Event::Acked { id } => {
                // An acknowledgement without a waiter is the outcome of a message that was `UNKNOWN`.
                if !connection.answers.resolve(&id, Answer::Accepted) && !connection.answers.had_no_device(&id) {
                    let receipts = self.connection.receipts_of(&[id], MessageStatus::Sent, now / 1_000, None);
                    self.receipts(receipts).await;
                }
            }
            Event::Nacked { id, code } => {
                connection.answers.resolve(&id, Answer::Refused { code });
            }
            Event::Delivered { ids, at, from } => self.report_status(&ids, MessageStatus::Delivered, at, from).await,
            Event::Read { ids, at, from } => self.report_status(&ids, MessageStatus::Read, at, from).await,
            Event::Wrote { who } => connection.was_written_to(who).await,
            Event::Seen { who, group, state } => connection.saw(who, group, state, now),
        }
        None
    }

    async fn code_to_scan(&mut self, code: String, expires_at: Millis) -> Option<End> {
        match self.phone.take() {
            // The network is connected now, so the code to type can be requested. The answer is an event.
            Some(phone) => {
                if self.session.pair_by_phone(phone.digits()).await.is_err() {
                    tracing::warn!(channel.id = %self.connection.via.id, "pairing code refused by network");
                    return Some(self.not_linked(
                        PairingEnd::Failed,
                        "O WhatsApp nao deu um codigo para este telefone. Confira o numero, ou use o QR code.",
                    ));
                }
            }
            // While a code to type is valid, codes to scan are not shown.
            None if self.typed_code_expiry().is_some() => {}
            None => drop(self.connection.pairing.send_replace(Pairing::QrCode { code, expires_at })),
        }
        None
    }

    /// The end of a session that no phone has linked.
    fn not_linked(&self, how: PairingEnd, reason: &str) -> End {
        (self.connection.shared.count)(Counted::Pairing(how));
        End::NotLinked { reason: reason.to_owned() }
    }

    /// When the code to type expires, if there is one.
    fn typed_code_expiry(&self) -> Option<Millis> {
        match *self.connection.pairing.borrow() {
            Pairing::PhoneCode { expires_at, .. } => Some(expires_at),
            _ => None,
        }
    }

    /// Records what a person reports about messages.
    async fn report_status(&self, ids: &[String], status: MessageStatus, at: i64, from: Person) {
        let Some(from) = party(from) else { return };
        self.receipts(self.connection.receipts_of(ids, status, at, Some(&from))).await;
        // A delivered message was accepted: a lost answer must not delay the next messages.
        for id in ids {
            self.connection.answers.resolve_delivered(id, &from);
        }
    }

    /// Records receipts however long the store takes, even if the session ends meanwhile.
    async fn receipts(&self, receipts: Vec<Receipt>) {
        let connection = self.connection.clone();
        drop(self.writes.spawn(async move { connection.store_receipts(receipts).await }).await);
    }
}

impl Connection {
    /// Passes to open streams what a person does for the moment.
    fn saw(&self, person: SenderIds, group: Option<String>, state: TransientState, at: Millis) {
        // The network is not asked for the name: nothing may come of this.
        let group = group.map(|address| Group { address, name: None });
        let transient = Transient { channel: self.via.key, group, person, state, at };
        self.shared.transients.publish((self.via.institution, Environment::Live), transient);
    }

    /// `from` is the person who reports, or `None` for the network itself.
    fn receipts_of(&self, ids: &[String], status: MessageStatus, at: i64, from: Option<&Party>) -> Vec<Receipt> {
        let channel = self.via.key;
        let receipt = |id: NetworkId| Receipt {
            channel,
            of: MessageRef::NetworkId(id),
            status,
            // The network reports whole seconds. Use the last millisecond of the second, so that the time is not before the
            // send.
            at: at.saturating_mul(1_000).saturating_add(999),
            from: from.cloned(),
            account: None,
            error: None,
            pauses: None,
            pricing: None,
        };
        // An id in another form is not of this gateway.
        ids.iter().filter_map(|id| id.parse().ok()).map(receipt).collect()
    }

    /// Retries until the store has recorded these receipts, because the network does not repeat them. They are valid even if
    /// another node owns the channel by then.
    async fn store_receipts(&self, receipts: Vec<Receipt>) {
        let mut waits = false;
        while let Err(error) = self.shared.store.record_receipts(&receipts, self.shared.clock.now()).await {
            if !waits {
                tracing::warn!(channel.id = %self.via.id, %error, "receipt update failed; retrying");
            }
            waits = true;
            tokio::time::sleep(STORE_RETRY).await;
        }
    }
}
