//! Opens a connection: when a caller requests it, and for the channels that were connected when a server ended.
//!
//! `channels.session` counts a channel's sessions: it grows by one when the network ends a session, and when a channel is
//! created under the id of a deleted one. A connection reads this number when it opens, and names it (`Held`: channel,
//! epoch, session) in every write. So it reads no row of another session. If the channel has another session by now, the
//! connection writes nothing and changes no state.
//!
//! The first event `Up` stores the account's number in the channel's link. If the number differs from the previous one, the
//! same transaction marks as `UNKNOWN` what may have arrived from the previous number, before anything is sent from the new
//! one.

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

use crate::pairing::{ConnectionError, Pairing};
use crate::whatsapp_web::WhatsAppWeb;
use crate::whatsapp_web::connection::{Connection, LOST};
use crate::whatsapp_web::events::End;
use crate::{ChannelDriver, Connect};

/// How often a transition is retried after a concurrent one.
const TRIES: usize = 5;

/// Whether a channel's connection is to be restored when the server starts: the channel was connected or connecting when the
/// previous process ended.
fn is_open(channel: &Channel) -> bool {
    match channel.state {
        ChannelState::Connecting | ChannelState::Connected | ChannelState::Restricted | ChannelState::Paused => true,
        ChannelState::Disconnected => channel.state_reason.as_deref().is_some_and(|reason| reason.starts_with(LOST)),
        ChannelState::Created | ChannelState::LoggedOut | ChannelState::Banned => false,
    }
}

/// An unreadable session is no failure of the network, but the call cannot continue without it.
#[expect(clippy::needless_pass_by_value, reason = "the signature that `map_err` needs")]
fn unreadable(error: RowsError) -> ConnectionError {
    tracing::error!(%error, "stored session not readable");
    ConnectionError::NoAnswer
}

/// How long a call waits for the network's first code. After that the caller follows the progress.
const FIRST_CODE: Duration = Duration::from_secs(10);

impl WhatsAppWeb {
    /// Connects a channel with its session, or else by pairing. With a phone number, which is the account's own, the code is
    /// typed on that phone. Returns the progress of the linking.
    pub(super) async fn connect_channel(&self, request: Connect<'_>) -> Result<Pairing, AppError> {
        let phone = phone(&request)?;
        if self.shared.secrets.is_empty() {
            return Err(AppError::SecretKeyMissing);
        }
        let found = self.shared.store.channel(request.channel.key).await?;
        let channel = found.filter(|channel| channel.deleted_at.is_none()).ok_or(AppError::ChannelNotFound)?;
        channel.state.after(ChannelAction::Connect).ok_or(AppError::ChannelNotConnected)?;
        let connection = self.connection(request.channel);
        connection.connect(phone.as_ref(), request.by).await?;
        self.shared.wake(channel.key);
        let mut pairing = self.follow(channel.key);
        let is_code = |pairing: &Pairing| match pairing {
            Pairing::Waiting => false,
            // The call requested a code to type while codes to scan were shown.
            Pairing::QrCode { .. } => phone.is_none(),
            _ => true,
        };
        // If no code comes in time, the answer shows the progress.
        drop(tokio::time::timeout(FIRST_CODE, pairing.wait_for(is_code)).await);
        let pairing = pairing.borrow().clone();
        Ok(pairing)
    }
}

/// The number of the phone on which the code is typed, if the call names one.
fn phone(request: &Connect<'_>) -> Result<Option<PhoneNumber>, FieldErrors> {
    let [ConnectField { name, .. }] = CONNECT;
    let mut errors = request.given.unknown.clone();
    let given = request.given.field(name);
    let given = errors.collect(name, given.text(name)).flatten();
    let parsed = given.map(|given| PhoneNumber::parse(given, request.country)).transpose();
    let phone = errors.collect(name, parsed.map_err(|fault| fault.text(BAD_PHONE).into())).flatten();
    if errors.is_empty() { Ok(phone) } else { Err(errors) }
}

impl Connection {
    /// The channel, or `None` if the connection no longer belongs to it. Another session of the channel has ended then.
    async fn channel(&self) -> Result<Option<Channel>, StoreError> {
        let found = self.shared.store.channel(self.via.key).await?;
        let found = found.filter(|channel| channel.deleted_at.is_none() && !self.is_forgotten());
        if let Some(channel) = found.as_ref().filter(|channel| channel.session > self.number()) {
            self.stop().await;
            self.set_number(channel.session);
        }
        Ok(found)
    }

    /// Opens the connection with the session or by pairing. A connection that is open or opening stays.
    pub async fn connect(self: &Arc<Self>, phone: Option<&PhoneNumber>, by: Actor) -> Result<(), ConnectionError> {
        let _one_at_a_time = self.linking.lock().await;
        let channel = self.channel().await?.ok_or(ConnectionError::Gone)?;
        self.restriction.send_replace(channel.restricted_until);
        let running = self.is_running();
        let pairs =
            matches!(*self.pairing.borrow(), Pairing::Waiting | Pairing::QrCode { .. } | Pairing::PhoneCode { .. });
        if running && !(pairs && phone.is_some()) {
            self.refresh_state(by).await;
            return Ok(());
        }
        let linked = self.has_session(self.number()).await.map_err(unreadable)?;
        // The network ended this session without reporting that the device is unlinked. Try the session before another phone
        // is linked.
        let tries = linked && channel.state == ChannelState::LoggedOut;
        let (store, now) = (&self.shared.store, self.shared.clock.now());
        if let Some(phone) = phone.filter(|_| !linked || tries) {
            self.shared.codes.acquire(&self.via, phone, now)?;
        }
        // The previous run may show codes to scan while this call requests one to type. A run that is ending must report its
        // end first.
        self.stop().await;
        // Set the progress before the state, so that a caller who sees the channel connecting finds the progress.
        self.pairing.send_replace(if linked && !tries { Pairing::Idle } else { Pairing::Waiting });
        let banned = if linked { store.login_limits(self.via.key).await?.banned_until } else { None };
        match banned.filter(|until| *until > now) {
            Some(until) => self.set_banned(&channel, until).await?,
            None => self.set_connecting(channel, by).await?,
        }
        self.start(phone.cloned(), tries).await;
        Ok(())
    }

    /// Sets the channel's state to `CONNECTING`.
    async fn set_connecting(&self, mut channel: Channel, by: Actor) -> Result<(), ConnectionError> {
        for _ in 0..TRIES {
            if matches!(channel.state, ChannelState::Connecting | ChannelState::Restricted) {
                return Ok(());
            }
            let held = self.exclusively_held().ok_or(ConnectionError::NoAnswer)?;
            let (to, at) = (ChannelState::Connecting, self.shared.clock.now());
            let to = ChannelMove { from: channel.state, to, reason: None, by, at };
            if self.shared.store.move_held_channel(held, to).await? {
                return Ok(());
            }
            // A concurrent transition changed the channel, or the channel was deleted.
            channel = self.channel().await?.ok_or(ConnectionError::Gone)?;
        }
        Err(ConnectionError::NoAnswer)
    }

    /// Restores the session that was open when the server ended. A linking is not restored, because its code has expired.
    pub async fn restore(self: &Arc<Self>) -> Result<(), StoreError> {
        let _one_at_a_time = self.linking.lock().await;
        let Some(channel) = self.channel().await?.filter(is_open) else { return Ok(()) };
        if self.is_running() {
            // A concurrent call has already started the connection.
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
            // A session that is unreadable now is retried until it can be opened.
            Ok(true) | Err(_) => {
                self.on_restart(&channel).await?;
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

    /// Whether a phone has linked this session of the channel.
    pub(super) async fn has_session(self: &Arc<Self>, session: SessionNumber) -> Result<bool, RowsError> {
        if let Some(former) = &self.former {
            // Two connections of one channel must not be open at the same time.
            former.cancelled().await;
        }
        let rows: Arc<dyn Rows> = self.rows(session);
        Session::is_linked(&rows).await
    }
}
