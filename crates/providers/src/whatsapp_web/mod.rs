//! WhatsApp Web: channels that a person's phone links. The protocol is in the driver crate; here its sessions become lines of
//! channels.
//!
//! | File | |
//! |---|---|
//! | `line` | one channel's line: its session, held open |
//! | `connect` | how a line comes up: asked for, or taken up at a start |
//! | `events` | what a session tells: codes, answers, receipts |
//! | `state` | a line's ups, downs and ends, as the channel's state shows them |
//! | `send` | one message: the accounts looked up, handed over, the network's answer awaited |
//! | `message` | what one message shows: its body, the accounts on its cards, its quote |
//! | `answers` | who waits for which answer, and what was found of the devices that messages went to |
//! | `refusal` | what the network's codes of refusal mean, in one table |
//! | `codes` | how often codes are asked for that are typed on a phone |
//! | `accounts` | which account is behind a number: kept, and asked for sparingly |
//! | `session_rows` | a session's rows in the store, sealed |

mod accounts;
mod answers;
mod codes;
mod connect;
mod events;
mod line;
mod message;
mod refusal;
mod searches;
mod send;
mod session_rows;
mod state;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use futures_util::future::join_all;
use recado_domain::account::KnownAccount;
use recado_domain::channel::{ChannelKey, ChannelRef, ChannelSettings, Epoch};
use recado_domain::clock::{Clock, Entropy};
use recado_domain::error::AppError;
use recado_domain::phone::PhoneNumber;
use recado_domain::queue::{Claimed, UnknownOutcomePolicy};
use recado_store::lease::{Leases, Waker};
use recado_store::sealed::KeyRing;
use recado_store::{Store, StoreError};
use recado_whatsapp_web::Options;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::pairing::{LineError, Pairing};
use crate::whatsapp_web::codes::Codes;
use crate::whatsapp_web::line::Line;
use crate::{ChannelDriver, Connect, Connected, Context, SendOutcome};

/// The network, with the lines of all channels.
pub struct WhatsAppWeb {
    shared: Arc<Shared>,
    lines: Mutex<HashMap<ChannelKey, Arc<Line>>>,
}

/// What all lines work with.
struct Shared {
    store: Arc<dyn Store>,
    secrets: Arc<KeyRing>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    options: Options,
    /// A line of a channel that is another node's writes nothing.
    leases: Arc<Leases>,
    /// Who has asked for codes that are typed on a phone.
    codes: Codes,
    /// Told of lines that come up; there once the server runs.
    waker: OnceLock<Arc<dyn Waker>>,
}

impl Shared {
    /// Under which epoch this node holds the channel.
    fn epoch(&self, channel: ChannelKey) -> Option<Epoch> {
        self.leases.session_epoch(channel)
    }

    fn wake(&self, channel: ChannelKey) {
        if let Some(waker) = self.waker.get() {
            waker.wake(channel);
        }
    }
}

impl WhatsAppWeb {
    /// Without lines yet.
    pub fn new(context: Context, options: Options) -> Self {
        let Context { store, secrets, clock, entropy, leases, .. } = context;
        let (codes, waker) = (Codes::default(), OnceLock::new());
        let shared = Shared { store, secrets, clock, entropy, options, leases, codes, waker };
        Self { shared: Arc::new(shared), lines: Mutex::default() }
    }

    /// A channel's line, up or not.
    fn line(&self, via: &ChannelRef) -> Arc<Line> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.entry(via.key).or_insert_with(|| Arc::new(Line::new(self.shared.clone(), via.clone(), None))).clone()
    }

    fn known_line(&self, key: ChannelKey) -> Option<Arc<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }
}

#[async_trait]
impl ChannelDriver for WhatsAppWeb {
    fn unanswered(&self, _: &ChannelSettings) -> UnknownOutcomePolicy {
        UnknownOutcomePolicy::Resend
    }

    async fn known_account(&self, via: &ChannelRef, phone: &PhoneNumber) -> Option<String> {
        let known = self.shared.store.known_account(via.key, phone.digits().to_owned()).await.ok().flatten();
        known.filter(|known| accounts::is_fresh(known, self.shared.clock.now()))?.account
    }

    async fn send(&self, via: &ChannelRef, message: &Claimed) -> SendOutcome {
        // A channel that comes from another node may be claimed before its line is taken up: the message waits for that.
        self.line(via).send(message).await
    }
    fn start(&self, waker: Arc<dyn Waker>) {
        // Nobody else sets it.
        let _ = self.shared.waker.set(waker);
    }

    async fn restore(&self, via: &ChannelRef) -> Result<(), StoreError> {
        self.line(via).restore().await
    }

    async fn stop(&self) {
        let lines: Vec<_> = self.lines.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        join_all(lines.iter().map(|line| line.stop())).await;
    }

    async fn connect(&self, request: Connect<'_>) -> Result<Connected, AppError> {
        self.connect_channel(request).await.map(Connected::Pairing)
    }

    fn follow(&self, channel: ChannelKey) -> watch::Receiver<Pairing> {
        match self.known_line(channel) {
            Some(line) => line.pairing(),
            // Nobody has asked; there is nobody to change that either.
            None => watch::channel(Pairing::Idle).1,
        }
    }

    async fn disconnect(&self, channel: ChannelKey) {
        if let Some(line) = self.known_line(channel) {
            line.stop().await;
        }
    }

    async fn is_linked(&self, via: &ChannelRef) -> bool {
        // What cannot be read is there.
        self.line(via).is_linked().await.unwrap_or(true)
    }

    fn forget(&self, channel: ChannelKey) -> Option<JoinHandle<()>> {
        let ended = CancellationToken::new();
        let former = {
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.get_mut(&channel).map(|line| {
                let anew = Line::new(self.shared.clone(), line.via.clone(), Some(ended.clone()));
                std::mem::replace(line, Arc::new(anew))
            })
        };
        former.iter().for_each(|line| line.forget());
        let ended = ended.drop_guard();
        Some(tokio::spawn(async move {
            let _ended = ended;
            if let Some(line) = former {
                line.log_out().await;
            }
        }))
    }

    fn why_down(&self, channel: ChannelKey) -> Option<String> {
        match self.known_line(channel) {
            Some(line) if line.is_up() => None,
            Some(line) if line.is_running() => Some(line::LOST.to_owned()),
            _ => Some(line::PUT_DOWN.to_owned()),
        }
    }

    async fn look_up(&self, via: &ChannelRef, phone: &PhoneNumber) -> Result<KnownAccount, AppError> {
        let line = self.known_line(via.key).ok_or(LineError::Down)?;
        Ok(line.look_up(phone.digits()).await?)
    }
}
