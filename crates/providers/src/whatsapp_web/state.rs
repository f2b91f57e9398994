//! The channel's state after connects, disconnects and ends of a session, each with a reason that says what a person has to
//! do.
//!
//! Each transition reads the channel, computes the new state, and is retried after a concurrent transition.
//!
//! | Event | The channel becomes |
//! |---|---|
//! | `connect` | `CONNECTING`; without a session the codes go to the subscribers of `Pairing` |
//! | `Up` | `CONNECTED`; `RESTRICTED` while a restriction lasts; a pause stays |
//! | `Down`, or a restart | `DISCONNECTED` if it was `CONNECTED` (after a restart also `CONNECTING` with a session); the library or the start reconnects |
//! | logged out (the device was removed, or login code 401) | `LOGGED_OUT`; the session's rows are deleted |
//! | ended by a conflict of another kind | `LOGGED_OUT`; the rows stay, and the next `connect` tries them first |
//! | replaced, outdated | `DISCONNECTED`, until a person connects |
//! | banned | `BANNED`; with an end `RESTRICTED`, and the session is opened again then, at least a minute later |
//! | away for 30 seconds, refused with another code, cannot be opened | `DISCONNECTED` unless it is restricted or paused; opened again with backoff |
//! | any of these before a phone has linked the channel | the former state; the linking ends with the reason |
//! | no phone scanned, or the server ended before | `CREATED`, or `LOGGED_OUT` if it was linked before |

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use recado_domain::channel::{Actor, Channel, ChannelMove, ChannelState, Link};
use recado_domain::clock::{Millis, millis, random};
use recado_domain::pacing::Pacing;
use recado_store::StoreError;
use recado_store::clock::rfc3339;
use recado_store::sealed::Place;
use recado_whatsapp_web::Person;
use serde_json::json;

use crate::counted::{Counted, PairingEnd, Reconnect};
use crate::pairing::{Pairing, RESTRICTED};
use crate::whatsapp_web::accounts::party;
use crate::whatsapp_web::connection::{Connection, LOST};
use crate::whatsapp_web::events::End;

/// How often a transition is retried after a concurrent one.
const TRIES: usize = 20;
/// The wait between two tries.
const RETRY: Duration = Duration::from_millis(250);
/// The waits before a lost session is opened again. They do not include the wait for a login slot.
const LOST_FOR: Waits = Waits { first: Duration::from_secs(4), longest: Duration::from_mins(1) };
/// The waits before a session is opened again that cannot be opened, or that the network refuses.
const REFUSED_FOR: Waits = Waits { first: Duration::from_secs(30), longest: Duration::from_mins(15) };
/// The minimum wait for the end of a ban, whatever end the network names.
const BANNED_FOR: Waits = Waits { first: Duration::from_mins(2), longest: Duration::from_hours(1) };
/// The minimum time between two logins of a session, also across a restart.
pub const BETWEEN_LOGINS: Duration = Duration::from_secs(3);

/// The wait before a session is opened again that another node may have opened. It is longer than a late node needs to find
/// that it lost the channel.
const LATE_NODE_WAIT: Duration = Duration::from_secs(15);
/// A second replacement within this time is not by a late node.
const SOON: Duration = Duration::from_hours(1);

const REPLACED: &str = "Outro programa abriu esta sessao do WhatsApp (uma copia do Recado?). Pare-o e conecte de novo.";
const LOGGED_OUT: &str = "O telefone desconectou este aparelho, ou o WhatsApp o fez. Conecte de novo e leia o QR code.";
fn suspended(until: Millis) -> String {
    format!("O WhatsApp suspendeu este numero ate {}. O Recado religa depois disso.", rfc3339(until))
}

const EXPELLED: &str = "O WhatsApp encerrou a sessao sem dizer por que. Conecte de novo: se o telefone ja nao tem este \
                        aparelho, leia o QR code.";
pub(super) const OUTDATED: &str = "O WhatsApp nao aceita mais esta versao do protocolo. Atualize o Recado, ou ajuste \
                        RECADO_WHATSAPP_WEB_VERSION, e conecte de novo.";

/// Waits that double with each failure in a row.
struct Waits {
    first: Duration,
    longest: Duration,
}

/// A state, and its reason.
type Next = (ChannelState, Option<String>);

impl Connection {
    /// Moves the channel to the state that `next` returns; `None` leaves the channel as it is. A failing store is retried
    /// until it records the state: a wrong state would stay, because no later event may correct it.
    async fn transition(&self, by: Actor, next: impl Fn(&Channel) -> Option<Next>) {
        let mut tries = 0;
        while tries < TRIES {
            match self.try_transition(by, &next).await {
                Ok(true) => return,
                Ok(false) => tries += 1,
                Err(error) => {
                    tracing::warn!(channel.id = %self.via.id, %error, "channel state update failed; retrying");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Moves the channel on behalf of its network.
    async fn transition_by_network(&self, next: impl Fn(&Channel) -> Option<Next>) {
        self.transition(Actor::Network, next).await;
    }

    async fn try_transition(&self, by: Actor, next: impl Fn(&Channel) -> Option<Next>) -> Result<bool, StoreError> {
        let (store, key) = (&self.shared.store, self.via.key);
        // If another node may own the channel, that node sets its state.
        let Some(held) = self.exclusively_held() else { return Ok(true) };
        // A new channel under the same id, or a later session, sets its own state.
        let is_ours = |channel: &Channel| channel.deleted_at.is_none() && channel.session == held.session;
        let Some(channel) = store.channel(key).await?.filter(is_ours) else { return Ok(true) };
        let Some((state, reason)) = next(&channel) else { return Ok(true) };
        let at = self.shared.clock.now();
        let to = ChannelMove { from: channel.state, to: state, reason, by, at };
        match store.move_held_channel(held, to).await {
            Ok(true) => {
                tracing::info!(channel.id = %self.via.id, from = channel.state.name(), to = state.name(), "channel moved");
                Ok(true)
            }
            // Another node owns the channel by now, and this node will notice soon.
            Err(StoreError::Fenced) => Ok(true),
            other => other,
        }
    }

    /// Sets the state after a restart of the server, before it is known whether the connection opens.
    pub async fn on_restart(&self, channel: &Channel) -> Result<(), StoreError> {
        self.restriction.send_replace(channel.restricted_until);
        let was_up = |channel: &Channel| matches!(channel.state, ChannelState::Connected | ChannelState::Connecting);
        let next = |channel: &Channel| was_up(channel).then(|| (ChannelState::Disconnected, Some(LOST.to_owned())));
        self.try_transition(Actor::Recado, next).await.map(drop)
    }

    /// The connection is open for the account of this phone. Nothing is sent before the account is recorded: a message that
    /// may have arrived from another number must not be sent from this one.
    pub async fn on_up(self: &Arc<Self>, phone: Option<String>) -> Option<End> {
        if let Some(phone) = phone
            && !self.note_link(&json!({ "phone": phone }).to_string()).await
        {
            return Some(End::Lost);
        }
        self.up.send_replace(true);
        self.failures.store(0, Ordering::Relaxed);
        if self.lost.swap(false, Ordering::Relaxed) {
            (self.shared.count)(Counted::Reconnect(Reconnect::Ok));
        }
        if *self.pairing.borrow() != Pairing::Linked {
            self.pairing.send_replace(Pairing::Idle);
        }
        if let Err(error) = self.shared.store.note_login(self.via.key, self.shared.clock.now()).await {
            tracing::warn!(channel.id = %self.via.id, %error, "login time update failed");
        }
        self.set_connected(Actor::Network).await;
        self.search();
        None
    }

    /// Records the phone that links the channel. Returns whether it did. A failing store is retried.
    async fn note_link(&self, details: &str) -> bool {
        loop {
            match self.try_note_link(details).await {
                Ok(noted) => return noted,
                Err(error) => {
                    tracing::warn!(channel.id = %self.via.id, %error, "channel phone update failed; retrying");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn try_note_link(&self, details: &str) -> Result<bool, StoreError> {
        use ChannelState::{Connected, Connecting, Disconnected, Paused, Restricted};
        let (store, key) = (&self.shared.store, self.via.key);
        let linked = |channel: &Channel| channel.link.as_deref() == Some(details);
        if store.channel(key).await?.as_ref().is_none_or(linked) {
            return Ok(true);
        }
        // A message in flight sees the connection closed and ends, so its outcome is recorded under the former number.
        let _none_in_flight = self.in_flight.write().await;
        for _ in 0..TRIES {
            let Some(held) = self.exclusively_held() else { return Ok(false) };
            let Some(channel) = store.channel(key).await? else { return Ok(false) };
            // In other states nothing is sent, and the connection is about to be closed.
            if !matches!(channel.state, Connected | Connecting | Disconnected | Paused | Restricted) {
                return Ok(false);
            }
            // The secrets are in the session's rows. The link contains none.
            let sealed = self.shared.secrets.seal(Place::Link(key), b"{}", &*self.shared.entropy);
            let Ok(sealed) = sealed else { return Ok(false) };
            let link = Link { channel: key, details: details.to_owned(), sealed };
            match store.link_held_channel(link, held, channel.state, self.shared.clock.now()).await {
                // A concurrent transition changed the channel.
                Ok(false) => {}
                Err(StoreError::Fenced) => return Ok(false),
                Ok(true) => {
                    if channel.state != Paused {
                        tracing::info!(channel.id = %self.via.id, from = channel.state.name(), to = "CONNECTED", "channel moved");
                    }
                    return Ok(true);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Sets the state of an open connection. Only a caller's request ends a pause.
    pub async fn set_connected(&self, by: Actor) {
        let ends_pause = matches!(by, Actor::Key { .. } | Actor::Operator);
        let now = self.shared.clock.now();
        let next = |channel: &Channel| {
            let restricted = channel.restricted_until.is_some_and(|until| until > now);
            match channel.state {
                ChannelState::Paused if !ends_pause => None,
                ChannelState::Restricted if restricted => None,
                _ if restricted => Some((ChannelState::Restricted, Some(RESTRICTED.to_owned()))),
                ChannelState::Connected => None,
                ChannelState::Banned => None,
                _ => Some((ChannelState::Connected, None)),
            }
        };
        self.transition(by, next).await;
        self.shared.wake(self.via.key);
    }

    pub async fn on_down(&self) {
        self.up.send_replace(false);
        self.lost.store(true, Ordering::Relaxed);
        // A restricted channel stays `RESTRICTED`, and a paused one `PAUSED`.
        let was_up = |channel: &Channel| channel.state == ChannelState::Connected;
        self.transition_by_network(|channel| {
            was_up(channel).then(|| (ChannelState::Disconnected, Some(LOST.to_owned())))
        })
        .await;
    }

    /// The restriction by the network has ended.
    pub async fn restriction_ended(&self) {
        let now = self.shared.clock.now();
        // A later restriction may have begun meanwhile.
        self.restriction.send_if_modified(|until| until.take_if(|until| *until <= now).is_some());
        if self.is_up() {
            self.set_connected(Actor::Recado).await;
        }
    }

    /// A person wrote to this account, and is no new recipient any more.
    pub async fn was_written_to(self: &Arc<Self>, who: Person) {
        let Some(who) = party(who).filter(|_| !self.is_forgotten()) else { return };
        let hidden = who.lid().filter(|_| who.number().is_none()).map(str::to_owned);
        if let Err(error) = self.shared.store.note_chat(self.via.key, who).await {
            tracing::warn!(channel.id = %self.via.id, %error, "chat update failed");
        }
        hidden.into_iter().for_each(|lid| self.search_for(&lid));
    }

    /// Handles the end of a session. Returns when it is to be opened again, or `None` if a person has to act.
    pub async fn ended(&self, end: End) -> Option<Millis> {
        let now = self.shared.clock.now();
        self.log_end(&end);
        if !matches!(end, End::NotLinked { .. }) {
            self.pairing.send_replace(Pairing::Idle);
        }
        let down = |reason: &str| (ChannelState::Disconnected, Some(reason.to_owned()));
        match end {
            End::Stopped => None,
            End::NotOpened(_) => {
                self.set_reconnecting(" A sessao guardada nao pode ser aberta: veja o log do servidor.".to_owned())
                    .await;
                Some(now + self.back_off(&REFUSED_FOR))
            }
            End::Lost => {
                self.set_reconnecting(String::new()).await;
                Some(now + self.back_off(&LOST_FOR))
            }
            End::Refused { code } => {
                self.set_reconnecting(format!(" O WhatsApp recusou a conexao (erro {code}).")).await;
                Some(now + self.back_off(&REFUSED_FOR))
            }
            End::LoggedOut | End::Expelled => {
                // Without a report that the device is unlinked, the session stays: the next `connect` tries it.
                let reason = if end == End::Expelled { EXPELLED } else { LOGGED_OUT };
                if end == End::LoggedOut {
                    self.forget_session().await;
                }
                self.transition_by_network(|_| Some((ChannelState::LoggedOut, Some(reason.to_owned())))).await;
                None
            }
            End::Replaced => {
                self.transition_by_network(|_| Some(down(REPLACED))).await;
                self.may_have_been_a_late_node(now).then_some(now + millis(LATE_NODE_WAIT))
            }
            End::Outdated => {
                self.transition_by_network(|_| Some(down(OUTDATED))).await;
                None
            }
            End::Banned { code } => {
                let reason = format!("O WhatsApp baniu este numero (erro {code}). Recorra no aplicativo do telefone.");
                self.transition_by_network(|_| Some((ChannelState::Banned, Some(reason.clone())))).await;
                None
            }
            End::TemporarilyBanned { until } => {
                // The network may report too early that a ban is over, and this clock may be wrong.
                let until = until.max(now) + self.back_off(&BANNED_FOR);
                self.banned_until(until).await;
                Some(until)
            }
            End::NotLinked { reason } => {
                // The channel gets the state that it had before the linking.
                let connecting = |channel: &Channel| channel.state == ChannelState::Connecting;
                self.transition_by_network(|channel| {
                    connecting(channel).then(|| (channel.unlinked(), Some(reason.clone())))
                })
                .await;
                self.pairing.send_replace(Pairing::Ended { reason });
                None
            }
        }
    }

    /// Shows the channel as disconnected while the connection reopens by itself. A paused or restricted channel keeps its
    /// state meanwhile.
    async fn set_reconnecting(&self, reason: String) {
        let keeps = |channel: &Channel| matches!(channel.state, ChannelState::Paused | ChannelState::Restricted);
        let reason = format!("{LOST}{reason}");
        self.transition_by_network(|channel| {
            (!keeps(channel)).then(|| (ChannelState::Disconnected, Some(reason.clone())))
        })
        .await;
    }

    /// Until then nothing is sent, not even to recipients who wrote first.
    async fn banned_until(&self, until: Millis) {
        let reason = suspended(until);
        if self.is_forgotten() {
            return;
        }
        if let Err(error) = self.shared.store.ban_link(self.via.key, until).await {
            tracing::warn!(channel.id = %self.via.id, %error, "ban end update failed");
        }
        if let Err(error) = self.shared.store.defer_channel(self.via.key, until).await {
            tracing::warn!(channel.id = %self.via.id, %error, "channel hold failed");
        }
        self.restrict(until, reason.clone()).await;
        self.transition_by_network(|channel| {
            let shown = matches!(channel.state, ChannelState::Restricted | ChannelState::Paused);
            (!shown).then(|| (ChannelState::Restricted, Some(reason.clone())))
        })
        .await;
    }

    fn log_end(&self, end: &End) {
        match end {
            End::Stopped => {}
            // In an outage every session is lost, and the channels' states show it.
            End::Lost => tracing::info!(channel.id = %self.via.id, "session lost; reopening"),
            End::NotOpened(why) => {
                tracing::warn!(channel.id = %self.via.id, error = why.error, "session open failed; retrying");
            }
            end => tracing::warn!(channel.id = %self.via.id, ?end, "session ended"),
        }
    }

    /// Sets the state of a channel that a caller connects while it is banned.
    pub(super) async fn set_banned(&self, channel: &Channel, until: Millis) -> Result<(), StoreError> {
        let (store, now) = (&self.shared.store, self.shared.clock.now());
        if channel.state != ChannelState::Restricted {
            let held = self.exclusively_held().ok_or(StoreError::Fenced)?;
            let (from, to, reason) = (channel.state, ChannelState::Restricted, Some(suspended(until)));
            store.move_held_channel(held, ChannelMove { from, to, reason, by: Actor::Network, at: now }).await?;
        }
        store.restrict_channel(self.via.key, until, suspended(until), now).await?;
        self.restricted(until);
        Ok(())
    }

    /// The wait after another failure. It is random, so that sessions that failed together do not return together.
    fn back_off(&self, waits: &Waits) -> Millis {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).min(16);
        let max = waits.first.saturating_mul(1 << failures).min(waits.longest);
        let random = u64::from_le_bytes(random(&*self.shared.entropy));
        millis(Pacing { min: max / 2, max }.interval(random))
    }

    /// Changes the end of a session that no phone has linked: reopening it would request codes that no caller wants.
    pub(super) async fn of_linking(self: &Arc<Self>, end: End) -> End {
        let reason = match &end {
            End::Stopped | End::NotLinked { .. } | End::LoggedOut | End::Expelled | End::Replaced => return end,
            End::NotOpened(why) => format!("A sessao nao pode ser aberta: {}. Veja o log do servidor.", why.cause),
            End::Lost => "O WhatsApp nao respondeu. Conecte de novo.".to_owned(),
            End::Outdated => OUTDATED.to_owned(),
            End::Refused { code } | End::Banned { code } => {
                format!("O WhatsApp recusou a ligacao (erro {code}). Tente mais tarde.")
            }
            End::TemporarilyBanned { .. } => "O WhatsApp recusou a ligacao por enquanto. Tente mais tarde.".to_owned(),
        };
        // An unreadable session may be linked.
        if self.has_session(self.number()).await.unwrap_or(true) {
            return end;
        }
        if let End::NotOpened(why) = &end {
            tracing::warn!(channel.id = %self.via.id, error = why.error, "session for a pairing not opened");
        }
        (self.shared.count)(Counted::Pairing(PairingEnd::Failed));
        End::NotLinked { reason }
    }

    /// Whether one of our own nodes may have opened the session: a frozen node that had not noticed the loss of the channel.
    /// It notices within seconds. A second replacement soon after is by another process.
    fn may_have_been_a_late_node(&self, now: Millis) -> bool {
        let before = self.replaced_at.swap(now, Ordering::Relaxed);
        !self.shared.leases.is_standalone() && now - before > millis(SOON)
    }

    /// Deletes the session's rows. The channel continues with a new session number.
    pub(super) async fn forget_session(&self) {
        // If another node owns the channel by now, it may have its own session.
        while let Some(held) = self.held(self.number()) {
            match self.shared.store.end_session(held).await {
                Ok(()) => return self.set_number(held.session + 1),
                Err(StoreError::Fenced) => return,
                Err(error) => {
                    tracing::warn!(channel.id = %self.via.id, %error, "session removal failed; retrying");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}
