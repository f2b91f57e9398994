//! A line's ups, downs and ends, as the channel's state shows them: each with what a person is to do.
//!
//! Each move reads the channel, says what follows from its state, and is tried again where somebody else was faster.
//!
//! | Event | The channel becomes |
//! |---|---|
//! | `connect` | `CONNECTING`; without a session the codes go to the subscribers of `Pairing` |
//! | `Up` | `CONNECTED`; `RESTRICTED` while a restriction lasts; a pause stays |
//! | `Down`, or a restart | `DISCONNECTED` where it was `CONNECTED` (after a restart also `CONNECTING` with a session); the library or the start reconnects |
//! | logged out (the device was removed, or login code 401) | `LOGGED_OUT`; the session's rows are deleted |
//! | ended by a conflict of another kind | `LOGGED_OUT`; the rows stay, and the next `connect` tries them first |
//! | replaced, outdated | `DISCONNECTED`, until a person connects |
//! | banned | `BANNED`; with an end `RESTRICTED`, and the session is opened again then, at least a minute later |
//! | away for 30 seconds, refused with another code, cannot be opened | `DISCONNECTED` where it is not restricted or paused; opened again with backoff |
//! | any of these before a phone has linked the channel | the former state; the linking ends with the reason |
//! | no phone scanned, or the server ended before | `CREATED`, or `LOGGED_OUT` where it was linked before |

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

use crate::pairing::{Pairing, RESTRICTED};
use crate::whatsapp_web::accounts::party;
use crate::whatsapp_web::events::End;
use crate::whatsapp_web::line::{LOST, Line};

/// How often a move is tried again when somebody else moved the channel meanwhile, or the store did not take it.
const TRIES: usize = 20;
/// The wait between two tries.
const RETRY: Duration = Duration::from_millis(250);
/// The waits before a session is opened again that has broken off. Turns to log in are apart from that.
const LOST_FOR: Waits = Waits { first: Duration::from_secs(4), longest: Duration::from_mins(1) };
/// The same of a session that cannot be opened, or that the network refuses.
const REFUSED_FOR: Waits = Waits { first: Duration::from_secs(30), longest: Duration::from_mins(15) };
/// The least that is waited for the end of a ban, whatever the network says of it.
const BANNED_FOR: Waits = Waits { first: Duration::from_mins(2), longest: Duration::from_hours(1) };
/// The time from one login of a session to the next, at least; also where the process ends in between.
pub const BETWEEN_LOGINS: Duration = Duration::from_secs(3);

/// The wait before a session is opened again that another node may have opened: longer than one that is late takes to find
/// that it is.
const LATE: Duration = Duration::from_secs(15);
/// Who replaces a session again within that time is no late node.
const SOON: Duration = Duration::from_hours(1);

const REPLACED: &str = "Outro programa abriu esta sessao do WhatsApp (uma copia do Recado?). Pare-o e conecte de novo.";
const LOGGED_OUT: &str = "O telefone desconectou este aparelho, ou o WhatsApp o fez. Conecte de novo e leia o QR code.";
fn suspended(until: Millis) -> String {
    format!("O WhatsApp suspendeu este numero ate {}. O Recado religa depois disso.", rfc3339(until))
}

const EXPELLED: &str = "O WhatsApp encerrou a sessao sem dizer por que. Conecte de novo: se o telefone ja nao tem este \
                        aparelho, leia o QR code.";
const OUTDATED: &str = "O WhatsApp nao aceita mais esta versao do protocolo. Atualize o Recado, ou ajuste \
                        RECADO_WHATSAPP_WEB_VERSION, e conecte de novo.";

/// Waits that double with each failure in a row.
struct Waits {
    first: Duration,
    longest: Duration,
}

/// A state, and why.
type Next = (ChannelState, Option<String>);

impl Line {
    /// Moves the channel to what `next` says of it; `None` leaves it as it is. A store that does not take it is asked
    /// again until it does: a state that is not told would be a lie, and nothing may come that corrects it.
    async fn moves(&self, by: Actor, next: impl Fn(&Channel) -> Option<Next>) {
        let mut tries = 0;
        while tries < TRIES {
            match self.try_move(by, &next).await {
                Ok(true) => return,
                Ok(false) => tries += 1,
                Err(error) => {
                    tracing::warn!(channel.id = %self.via.id, %error, "channel state update failed; retrying");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Moves the channel by the word of its network.
    async fn is_told(&self, next: impl Fn(&Channel) -> Option<Next>) {
        self.moves(Actor::Network, next).await;
    }

    async fn try_move(&self, by: Actor, next: impl Fn(&Channel) -> Option<Next>) -> Result<bool, StoreError> {
        let (store, key) = (&self.shared.store, self.via.key);
        // What another node may hold is not this one's to tell of.
        let Some(held) = self.sure_held() else { return Ok(true) };
        // Nor is what a channel has that was made anew.
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
            // It is another node's by now, and this one is about to hear of that.
            Err(StoreError::Fenced) => Ok(true),
            other => other,
        }
    }

    /// The server was started anew: nobody knows yet whether the line comes up.
    pub async fn was_cut(&self, channel: &Channel) -> Result<(), StoreError> {
        self.restriction.send_replace(channel.restricted_until);
        let was_up = |channel: &Channel| matches!(channel.state, ChannelState::Connected | ChannelState::Connecting);
        let next = |channel: &Channel| was_up(channel).then(|| (ChannelState::Disconnected, Some(LOST.to_owned())));
        self.try_move(Actor::Recado, next).await.map(drop)
    }

    /// The line is up, for the account of this phone. Nothing is sent from it before it is noted: what may have arrived
    /// from another number must not go from this one.
    pub async fn is_now_up(self: &Arc<Self>, phone: Option<String>) -> Option<End> {
        if let Some(phone) = phone
            && !self.note_link(&json!({ "phone": phone }).to_string()).await
        {
            return Some(End::Lost);
        }
        self.up.send_replace(true);
        self.failures.store(0, Ordering::Relaxed);
        if *self.pairing.borrow() != Pairing::Linked {
            self.pairing.send_replace(Pairing::Idle);
        }
        if let Err(error) = self.shared.store.note_login(self.via.key, self.shared.clock.now()).await {
            tracing::warn!(channel.id = %self.via.id, %error, "login time update failed");
        }
        self.shows_up(Actor::Network).await;
        self.search();
        None
    }

    /// Shows whose phone links the channel; whether it could. A store that does not take it is asked again until it does.
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
        // What is in hand finds the line down, and ends: the store hears what became of it under the former number.
        let _none_in_hand = self.in_hand.write().await;
        for _ in 0..TRIES {
            let Some(held) = self.sure_held() else { return Ok(false) };
            let Some(channel) = store.channel(key).await? else { return Ok(false) };
            // In other states nothing is sent, and the line is about to be put down.
            if !matches!(channel.state, Connected | Connecting | Disconnected | Paused | Restricted) {
                return Ok(false);
            }
            // The secrets are in the session's rows; here are none.
            let sealed = self.shared.secrets.seal(Place::Link(key), b"{}", &*self.shared.entropy);
            let Ok(sealed) = sealed else { return Ok(false) };
            let link = Link { channel: key, details: details.to_owned(), sealed };
            match store.link_held_channel(link, held, channel.state, self.shared.clock.now()).await {
                // Somebody else moved the channel meanwhile.
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

    /// The channel's state says that the line is up. A pause ends only where a caller has asked for it.
    pub async fn shows_up(&self, by: Actor) {
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
        self.moves(by, next).await;
        self.shared.wake(self.via.key);
    }

    pub async fn is_now_down(&self) {
        self.up.send_replace(false);
        // A restriction keeps its name, as a pause does.
        let was_up = |channel: &Channel| channel.state == ChannelState::Connected;
        self.is_told(|channel| was_up(channel).then(|| (ChannelState::Disconnected, Some(LOST.to_owned())))).await;
    }

    /// The time until which the network restricted the channel is over.
    pub async fn restriction_ended(&self) {
        let now = self.shared.clock.now();
        // A later one may have been stated meanwhile.
        self.restriction.send_if_modified(|until| until.take_if(|until| *until <= now).is_some());
        if self.is_up() {
            self.shows_up(Actor::Recado).await;
        }
    }

    /// Somebody wrote to us: they are no new recipient.
    pub async fn was_written_to(self: &Arc<Self>, who: Person) {
        let Some(who) = party(who).filter(|_| !self.is_forgotten()) else { return };
        let hidden = who.lid().filter(|_| who.number().is_none()).map(str::to_owned);
        if let Err(error) = self.shared.store.note_chat(self.via.key, who).await {
            tracing::warn!(channel.id = %self.via.id, %error, "chat update failed");
        }
        hidden.into_iter().for_each(|lid| self.search_for(&lid));
    }

    /// The session has ended. Gives when it is to be opened again, where that is not for a person to say.
    pub async fn ended(&self, end: End) -> Option<Millis> {
        let now = self.shared.clock.now();
        self.log_end(&end);
        if !matches!(end, End::NotLinked { .. }) {
            self.pairing.send_replace(Pairing::Idle);
        }
        let down = |reason: &str| (ChannelState::Disconnected, Some(reason.to_owned()));
        // Such a line comes back by itself. A pause and a restriction keep their names meanwhile.
        let comes_back = async |reason: String| {
            let keeps = |channel: &Channel| matches!(channel.state, ChannelState::Paused | ChannelState::Restricted);
            self.is_told(|channel| (!keeps(channel)).then(|| down(&format!("{LOST}{reason}")))).await;
        };
        match end {
            End::Stopped => None,
            End::NotOpened(_) => {
                comes_back(" A sessao guardada nao pode ser aberta: veja o log do servidor.".to_owned()).await;
                Some(now + self.back_off(&REFUSED_FOR))
            }
            End::Lost => {
                comes_back(String::new()).await;
                Some(now + self.back_off(&LOST_FOR))
            }
            End::Refused { code } => {
                comes_back(format!(" O WhatsApp recusou a conexao (erro {code}).")).await;
                Some(now + self.back_off(&REFUSED_FOR))
            }
            End::LoggedOut | End::Expelled => {
                // Without a word of unlinking the session stays: the next `connect` finds out whether it still is one.
                let reason = if end == End::Expelled { EXPELLED } else { LOGGED_OUT };
                if end == End::LoggedOut {
                    self.forget_session().await;
                }
                self.is_told(|_| Some((ChannelState::LoggedOut, Some(reason.to_owned())))).await;
                None
            }
            End::Replaced => {
                self.is_told(|_| Some(down(REPLACED))).await;
                self.may_have_been_a_late_node(now).then_some(now + millis(LATE))
            }
            End::Outdated => {
                self.is_told(|_| Some(down(OUTDATED))).await;
                None
            }
            End::Banned { code } => {
                let reason = format!("O WhatsApp baniu este numero (erro {code}). Recorra no aplicativo do telefone.");
                self.is_told(|_| Some((ChannelState::Banned, Some(reason.clone())))).await;
                None
            }
            End::TemporarilyBanned { until } => {
                // The network may say that a ban is over which is not, and this clock may be wrong.
                let until = until.max(now) + self.back_off(&BANNED_FOR);
                self.banned_until(until).await;
                Some(until)
            }
            End::NotLinked { reason } => {
                // It is what it was before it was to be linked.
                let connecting = |channel: &Channel| channel.state == ChannelState::Connecting;
                self.is_told(|channel| connecting(channel).then(|| (channel.unlinked(), Some(reason.clone())))).await;
                self.pairing.send_replace(Pairing::Ended { reason });
                None
            }
        }
    }

    /// Nothing goes until then, not even to those who wrote first.
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
        self.is_told(|channel| {
            let shown = matches!(channel.state, ChannelState::Restricted | ChannelState::Paused);
            (!shown).then(|| (ChannelState::Restricted, Some(reason.clone())))
        })
        .await;
    }

    fn log_end(&self, end: &End) {
        match end {
            End::Stopped => {}
            // In an outage all of them are, and the channel's state tells of it.
            End::Lost => tracing::info!(channel.id = %self.via.id, "session lost; reopening"),
            End::NotOpened(reason) => {
                tracing::warn!(channel.id = %self.via.id, error = reason, "session open failed; retrying");
            }
            end => tracing::warn!(channel.id = %self.via.id, ?end, "session ended"),
        }
    }

    /// The channel, which somebody connects, is banned until then.
    pub(super) async fn shows_ban(&self, channel: &Channel, until: Millis) -> Result<(), StoreError> {
        let (store, now) = (&self.shared.store, self.shared.clock.now());
        if channel.state != ChannelState::Restricted {
            let held = self.sure_held().ok_or(StoreError::Fenced)?;
            let (from, to, reason) = (channel.state, ChannelState::Restricted, Some(suspended(until)));
            store.move_held_channel(held, ChannelMove { from, to, reason, by: Actor::Network, at: now }).await?;
        }
        store.restrict_channel(self.via.key, until, suspended(until), now).await?;
        self.restricted(until);
        Ok(())
    }

    /// A wait after one more failure. Random, so that sessions that failed together do not come back together.
    fn back_off(&self, waits: &Waits) -> Millis {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).min(16);
        let max = waits.first.saturating_mul(1 << failures).min(waits.longest);
        let random = u64::from_le_bytes(random(&*self.shared.entropy));
        millis(Pacing { min: max / 2, max }.rest(random))
    }

    /// The same end where no phone has linked the channel: what comes back by itself then asks for codes that nobody
    /// wants.
    pub(super) async fn of_linking(self: &Arc<Self>, end: End) -> End {
        let reason = match end {
            End::Stopped | End::NotLinked { .. } | End::LoggedOut | End::Expelled | End::Replaced => return end,
            End::NotOpened(_) => "A sessao nao pode ser aberta: veja o log do servidor.".to_owned(),
            End::Lost => "O WhatsApp nao respondeu. Conecte de novo.".to_owned(),
            End::Outdated => OUTDATED.to_owned(),
            End::Refused { code } | End::Banned { code } => {
                format!("O WhatsApp recusou a ligacao (erro {code}). Tente mais tarde.")
            }
            End::TemporarilyBanned { .. } => "O WhatsApp recusou a ligacao por enquanto. Tente mais tarde.".to_owned(),
        };
        // What cannot be read may be linked.
        if self.has_session(self.number()).await.unwrap_or(true) { end } else { End::NotLinked { reason } }
    }

    /// Whether one of our own nodes may have opened the session: one whose machine stood still, and that did not know yet
    /// that it had lost the channel. It finds out within seconds. Who replaces us again soon is somebody else.
    fn may_have_been_a_late_node(&self, now: Millis) -> bool {
        let before = self.replaced_at.swap(now, Ordering::Relaxed);
        !self.shared.leases.is_standalone() && now - before > millis(SOON)
    }

    /// Deletes the session's rows; what the channel has from now on is another session.
    pub(super) async fn forget_session(&self) {
        // Where another node has the channel by now, it may have a session of its own.
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
