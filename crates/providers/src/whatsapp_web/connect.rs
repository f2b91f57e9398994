//! How a line comes up: because somebody asks for it, or because it was up when a server ended.
//!
//! `channels.session` counts a channel's sessions: one more where the network ends one, and where a channel is created under
//! the id of a deleted one. A line reads the number when it comes up, and names it (`Held`: channel, epoch, session) in
//! everything that it writes. So it reads no row of another session, and where the channel has another session by now, it
//! writes nothing and moves no state.
//!
//! The first event `Up` stores the account's number in the channel's link. Where that is another number than before, the same
//! transaction makes `UNKNOWN` what may have arrived from the former number, before anything is sent from the new one.

use std::sync::Arc;
use std::time::Duration;

use recado_domain::channel::types::ConnectField;
use recado_domain::channel::types::whatsapp_web::CONNECT;
use recado_domain::channel::{Actor, Channel, ChannelAction, ChannelMove, ChannelState, SessionNumber};
use recado_domain::error::AppError;
use recado_domain::field_errors::FieldErrors;
use recado_domain::phone::{BAD_PHONE, PhoneNumber};
use recado_store::StoreError;
use recado_whatsapp_web::{Rows, RowsError, Session};

use crate::pairing::{LineError, Pairing};
use crate::whatsapp_web::WhatsAppWeb;
use crate::whatsapp_web::events::End;
use crate::whatsapp_web::line::{LOST, Line};
use crate::{ChannelDriver, Connect};

/// How often a move is tried again when somebody else moved the channel meanwhile.
const TRIES: usize = 5;

/// Whether a channel's line is to be looked after when the server starts: it was up, or about to be, when that ended.
fn is_open(channel: &Channel) -> bool {
    match channel.state {
        ChannelState::Connecting | ChannelState::Connected | ChannelState::Restricted | ChannelState::Paused => true,
        ChannelState::Disconnected => channel.state_reason.as_deref().is_some_and(|reason| reason.starts_with(LOST)),
        ChannelState::Created | ChannelState::LoggedOut | ChannelState::Banned => false,
    }
}

/// A session that cannot be read is no fault of the network's, but nobody can go on without it.
#[expect(clippy::needless_pass_by_value, reason = "it stands where an error is mapped")]
fn unreadable(error: RowsError) -> LineError {
    tracing::error!(%error, "stored session not readable");
    LineError::NoAnswer
}

/// How long a call waits for the network's first code. What takes longer is to be followed.
const FIRST_CODE: Duration = Duration::from_secs(10);

impl WhatsAppWeb {
    /// Connects a channel by its session, else by pairing; with a phone number, which is the account's own, by a code that is
    /// typed on that phone. Gives how far the linking has come.
    pub(super) async fn connect_channel(&self, request: Connect<'_>) -> Result<Pairing, AppError> {
        let phone = phone(&request)?;
        if self.shared.secrets.is_empty() {
            return Err(AppError::SecretKeyMissing);
        }
        let found = self.shared.store.channel(request.channel.key).await?;
        let channel = found.filter(|channel| channel.deleted_at.is_none()).ok_or(AppError::ChannelNotFound)?;
        channel.state.after(ChannelAction::Connect).ok_or(AppError::ChannelNotConnected)?;
        let line = self.line(request.channel);
        line.connect(phone.as_ref(), request.by).await?;
        self.shared.wake(channel.key);
        let mut pairing = self.follow(channel.key);
        let is_code = |pairing: &Pairing| match pairing {
            Pairing::Waiting => false,
            // A code for a phone was asked for while codes to scan were shown.
            Pairing::QrCode { .. } => phone.is_none(),
            _ => true,
        };
        // Where no code comes in time, the answer says how far the linking is.
        drop(tokio::time::timeout(FIRST_CODE, pairing.wait_for(is_code)).await);
        let pairing = pairing.borrow().clone();
        Ok(pairing)
    }
}

/// The number of the phone on which a code is to be typed, where the call names one.
fn phone(request: &Connect<'_>) -> Result<Option<PhoneNumber>, FieldErrors> {
    let [ConnectField { name, .. }] = CONNECT;
    let mut errors = request.given.unknown.clone();
    let given = request.given.field(name);
    let given = errors.take(name, given.text(name)).flatten();
    let parsed = given.map(|given| PhoneNumber::parse(given, request.country)).transpose();
    let phone = errors.take(name, parsed.map_err(|fault| fault.text(BAD_PHONE).into())).flatten();
    if errors.is_empty() { Ok(phone) } else { Err(errors) }
}

impl Line {
    /// The channel as it stands; `None` where it is not this line's any more. A session that it had before has ended then.
    async fn channel(&self) -> Result<Option<Channel>, StoreError> {
        let found = self.shared.store.channel(self.via.key).await?;
        let found = found.filter(|channel| channel.deleted_at.is_none() && !self.is_forgotten());
        if let Some(channel) = found.as_ref().filter(|channel| channel.session > self.number()) {
            self.stop().await;
            self.set_number(channel.session);
        }
        Ok(found)
    }

    /// Brings the line up, by the session or by pairing. One that is up, or coming up, stays as it is.
    pub async fn connect(self: &Arc<Self>, phone: Option<&PhoneNumber>, by: Actor) -> Result<(), LineError> {
        let _one_at_a_time = self.linking.lock().await;
        let channel = self.channel().await?.ok_or(LineError::Gone)?;
        self.restriction.send_replace(channel.restricted_until);
        let running = self.is_running();
        let pairs =
            matches!(*self.pairing.borrow(), Pairing::Waiting | Pairing::QrCode { .. } | Pairing::PhoneCode { .. });
        if running && !(pairs && phone.is_some()) {
            self.keeps_up(by).await;
            return Ok(());
        }
        let linked = self.has_session(self.number()).await.map_err(unreadable)?;
        // A session that the network ended without saying that the device is unlinked: it is tried, or another phone follows.
        let tries = linked && channel.state == ChannelState::LoggedOut;
        let (store, now) = (&self.shared.store, self.shared.clock.now());
        if let Some(phone) = phone.filter(|_| !linked || tries) {
            self.shared.codes.take(&self.via, phone, now)?;
        }
        // Codes to scan may be shown now where one to type was asked for. One that is about to end has the last word first.
        self.stop().await;
        // Before the state: who sees that it is connecting finds how far it has come.
        self.pairing.send_replace(if linked && !tries { Pairing::Idle } else { Pairing::Waiting });
        let banned = if linked { store.login_limits(self.via.key).await?.banned_until } else { None };
        match banned.filter(|until| *until > now) {
            Some(until) => self.shows_ban(&channel, until).await?,
            None => self.shows_connecting(channel, by).await?,
        }
        self.start(phone.cloned(), tries).await;
        Ok(())
    }

    /// The channel's state says that it connects.
    async fn shows_connecting(&self, mut channel: Channel, by: Actor) -> Result<(), LineError> {
        for _ in 0..TRIES {
            if matches!(channel.state, ChannelState::Connecting | ChannelState::Restricted) {
                return Ok(());
            }
            let held = self.sure_held().ok_or(LineError::NoAnswer)?;
            let (to, at) = (ChannelState::Connecting, self.shared.clock.now());
            let to = ChannelMove { from: channel.state, to, reason: None, by, at };
            if self.shared.store.move_held_channel(held, to).await? {
                return Ok(());
            }
            // Somebody else moved it meanwhile, or it is gone.
            channel = self.channel().await?.ok_or(LineError::Gone)?;
        }
        Err(LineError::NoAnswer)
    }

    /// Restores the session that was open when the server ended. A linking is not restored: its code has gone.
    pub async fn restore(self: &Arc<Self>) -> Result<(), StoreError> {
        let _one_at_a_time = self.linking.lock().await;
        let Some(channel) = self.channel().await?.filter(is_open) else { return Ok(()) };
        if self.is_running() {
            // Somebody who asked for it was faster.
            return Ok(());
        }
        match self.has_session(self.number()).await {
            Ok(false) if channel.state == ChannelState::Connecting => {
                let reason = "O servidor foi reiniciado antes de um telefone ler o codigo. Conecte de novo.".to_owned();
                self.ended(End::NotLinked { reason }).await;
            }
            Ok(false) => {
                self.ended(End::LoggedOut).await;
            }
            // One that cannot be read now is opened again and again.
            Ok(true) | Err(_) => {
                self.was_cut(&channel).await?;
                self.start(None, false).await;
            }
        }
        Ok(())
    }

    /// Whether a phone has linked the channel.
    pub async fn is_linked(self: &Arc<Self>) -> Result<bool, RowsError> {
        let found = self.shared.store.channel(self.via.key).await.map_err(|error| RowsError(error.to_string()))?;
        match found {
            Some(channel) => self.has_session(channel.session).await,
            None => Ok(false),
        }
    }

    /// Whether a phone has linked this one of the channel's sessions.
    pub(super) async fn has_session(self: &Arc<Self>, session: SessionNumber) -> Result<bool, RowsError> {
        if let Some(former) = &self.former {
            // Two that speak to the network at a time are for this channel one too many.
            former.cancelled().await;
        }
        let rows: Arc<dyn Rows> = self.rows(session);
        Session::is_linked(&rows).await
    }
}
