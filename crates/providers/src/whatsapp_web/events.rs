//! What a session tells, one after another: codes for the pairing, the line's ups and downs, answers and receipts.

use std::sync::Arc;
use std::time::Duration;

use recado_domain::clock::{Millis, millis};
use recado_domain::ids::NetworkId;
use recado_domain::party::Party;
use recado_domain::phone::PhoneNumber;
use recado_domain::queue::{MessageRef, Receipt};
use recado_domain::status::MessageStatus;
use recado_whatsapp_web::{Event, Person, Session, backlog};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::pairing::Pairing;
use crate::whatsapp_web::accounts::party;
use crate::whatsapp_web::answers::Answer;
use crate::whatsapp_web::line::Line;

/// The wait before the store is asked again to take receipts. The network does not tell them twice.
const STORE_RETRY: Duration = Duration::from_millis(500);
/// How long an account rests that is banned for a time, where the network does not say for how long.
const BAN: Duration = Duration::from_hours(1);

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The line was put down here.
    Stopped,
    /// It could not be opened.
    NotOpened(String),
    /// It broke off.
    Lost,
    /// The network refuses it, with this code.
    Refused { code: u16 },
    /// The phone, or the network, ended it.
    LoggedOut,
    /// The network ended it, and may still know the device.
    Expelled,
    /// Somebody else opened it.
    Replaced,
    /// The account is banned until then.
    TemporarilyBanned { until: Millis },
    /// The account is banned.
    Banned { code: u16 },
    /// The network takes this version of the protocol no more.
    Outdated,
    /// No phone linked it.
    NotLinked { reason: String },
}

/// The longest for handing in what was told while the session ended.
const LEFT: Duration = Duration::from_secs(3);

/// The events of one session.
pub struct Events<'a> {
    line: Arc<Line>,
    receiver: backlog::Receiver<Event>,
    session: Arc<Session>,
    /// For whose phone a code to type is asked for, and was not yet.
    phone: Option<&'a PhoneNumber>,
    /// What the store is asked to take. A line is put down while the store is away, and this outlasts it.
    taken: TaskTracker,
}

impl<'a> Events<'a> {
    pub fn new(
        line: Arc<Line>,
        receiver: backlog::Receiver<Event>,
        session: Arc<Session>,
        phone: Option<&'a PhoneNumber>,
    ) -> Self {
        Self { line, receiver, session, phone, taken: TaskTracker::new() }
    }

    /// Takes events until the session has ended.
    pub async fn until_ended(&mut self, stop: &CancellationToken) -> End {
        loop {
            if let Some(end) = self.one(stop).await {
                return end;
            }
        }
    }

    /// Hands in what the network told while the session ended: it tells no receipt twice. Waits a while for the store, which
    /// goes on to be asked after that.
    pub async fn take_what_is_left(&mut self) {
        let (mut left, mut wrote) = (Vec::new(), Vec::new());
        let receipts = |ids: &[String], status, at, from| {
            party(from).map_or_else(Vec::new, |from| self.line.receipts_of(ids, status, at, Some(&from)))
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
        let line = self.line.clone();
        self.taken.spawn(async move {
            if !left.is_empty() {
                line.hand_in(left).await;
            }
            for who in wrote {
                line.was_written_to(who).await;
            }
        });
        self.taken.close();
        drop(tokio::time::timeout(LEFT, self.taken.wait()).await);
    }

    async fn one(&mut self, stop: &CancellationToken) -> Option<End> {
        let mut restriction = self.line.restriction.subscribe();
        let (restricted_until, typed_until) = (*restriction.borrow_and_update(), self.types());
        let reached = async |at: Option<Millis>| match at {
            Some(at) => self.line.until(at).await,
            None => std::future::pending().await,
        };
        let event = tokio::select! {
            () = stop.cancelled() => return Some(End::Stopped),
            event = self.receiver.recv() => event,
            _ = restriction.changed() => return None,
            () = reached(restricted_until) => {
                self.line.restriction_ended().await;
                return None;
            }
            () = reached(typed_until) => return Some(not_linked("Ninguem digitou o codigo a tempo. Conecte de novo.")),
        };
        let lost = self.receiver.turned_away();
        if lost > 0 {
            tracing::warn!(channel.id = %self.line.via.id, events = lost, "session events lost: queue full");
        }
        let Some(event) = event else { return Some(End::Lost) };
        tokio::select! {
            biased;
            end = self.take(event) => end,
            // Neither a slow network nor a store that is away keeps a line from being put down.
            () = stop.cancelled() => Some(End::Stopped),
        }
    }

    async fn take(&mut self, event: Event) -> Option<End> {
        let line = &self.line;
        let now = line.shared.clock.now();
        match event {
            Event::Qr { code, valid_for } => return self.code_to_scan(code, now + millis(valid_for)).await,
            Event::PairingCode { code, valid_for } => {
                line.pairing.send_replace(Pairing::PhoneCode { code, expires_at: now + millis(valid_for) });
            }
            Event::QrExhausted => return Some(not_linked("Nenhum telefone leu o codigo a tempo. Conecte de novo.")),
            // Without the library's words, in which a number may stand.
            Event::PairingFailed { .. } => {
                tracing::warn!(channel.id = %line.via.id, "pairing failed");
                return Some(not_linked("O WhatsApp nao ligou o canal ao telefone. Conecte de novo."));
            }
            Event::Linked { .. } => drop(line.pairing.send_replace(Pairing::Linked)),
            Event::Up => return line.is_now_up(self.session.phone()).await,
            Event::Down => line.is_now_down().await,
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
                tracing::warn!(channel.id = %line.via.id, error = text, "whatsapp session connection failed");
            }
            Event::Acked { id } => {
                // One that nobody waits for any more says what became of a message whose fate was not known.
                if !line.answers.came(&id, Answer::Taken) && !line.answers.reached_nobody(&id) {
                    let receipts = self.line.receipts_of(&[id], MessageStatus::Sent, now / 1_000, None);
                    self.receipts(receipts).await;
                }
            }
            Event::Nacked { id, code } => {
                line.answers.came(&id, Answer::Refused { code });
            }
            Event::Delivered { ids, at, from } => self.said(&ids, MessageStatus::Delivered, at, from).await,
            Event::Read { ids, at, from } => self.said(&ids, MessageStatus::Read, at, from).await,
            Event::Wrote { who } => line.was_written_to(who).await,
        }
        None
    }

    async fn code_to_scan(&mut self, code: String, expires_at: Millis) -> Option<End> {
        match self.phone.take() {
            // The network talks to us now: it can be asked for a code to type. The answer is an event.
            Some(phone) => {
                if self.session.pair_by_phone(phone.digits()).await.is_err() {
                    tracing::warn!(channel.id = %self.line.via.id, "pairing code refused by network");
                    return Some(not_linked(
                        "O WhatsApp nao deu um codigo para este telefone. Confira o numero, ou use o QR code.",
                    ));
                }
            }
            // One who types is not shown codes to scan.
            None if self.types().is_some() => {}
            None => drop(self.line.pairing.send_replace(Pairing::QrCode { code, expires_at })),
        }
        None
    }

    /// Until when the code that somebody is to type holds, where one was given.
    fn types(&self) -> Option<Millis> {
        match *self.line.pairing.borrow() {
            Pairing::PhoneCode { expires_at, .. } => Some(expires_at),
            _ => None,
        }
    }

    /// Takes somebody's word on messages.
    async fn said(&self, ids: &[String], status: MessageStatus, at: i64, from: Person) {
        let Some(from) = party(from) else { return };
        self.receipts(self.line.receipts_of(ids, status, at, Some(&from))).await;
        // Who has it was sent it: an answer that is lost holds nobody behind it.
        for id in ids {
            self.line.answers.arrived(id, &from);
        }
    }

    /// Hands receipts in, however long the store takes, and whatever becomes of the session meanwhile.
    async fn receipts(&self, receipts: Vec<Receipt>) {
        let line = self.line.clone();
        drop(self.taken.spawn(async move { line.hand_in(receipts).await }).await);
    }
}

impl Line {
    /// `from`: whose word it is; the network's own, where that is `None`.
    fn receipts_of(&self, ids: &[String], status: MessageStatus, at: i64, from: Option<&Party>) -> Vec<Receipt> {
        let channel = self.via.key;
        let receipt = |id: NetworkId| Receipt {
            channel,
            of: MessageRef::NetworkId(id),
            status,
            // The network tells whole seconds: the last millisecond of that one, so that it is not before the send.
            at: at.saturating_mul(1_000).saturating_add(999),
            from: from.cloned(),
            account: None,
            error: None,
            pauses: None,
        };
        // An id in another form is none of ours.
        ids.iter().filter_map(|id| id.parse().ok()).map(receipt).collect()
    }

    /// Asks the store until it has taken these receipts: the network tells none twice. They are right whoever holds the
    /// channel by then.
    async fn hand_in(&self, receipts: Vec<Receipt>) {
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

fn not_linked(reason: &str) -> End {
    End::NotLinked { reason: reason.to_owned() }
}
