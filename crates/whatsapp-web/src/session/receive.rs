//! Passes what arrives to the gateway. The library acknowledges a message to the network after [`Inbox::receive`] has
//! stored it.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use recado_domain::incoming::{Arrival, UnsupportedReason, What};
use tokio::sync::Semaphore;
use whatsapp_rust::types::durability_hook::InboundMessage;
use whatsapp_rust::types::message::MessageInfo;
use whatsapp_rust::wacore::types::events::{
    ContactNumberChanged, DecryptFailMode, GroupUpdate, UnavailableType, UndecryptableMessage,
};
use whatsapp_rust::{Client, InboundDurabilityHook, anyhow};

use super::calls::Calls;
use super::unreadable::{Place, Unreadable};
use super::{ConnectionState, envelopes, former, group_changes};
use crate::incoming::{self, Delivered, Inbound, Inbox, NotStored, network_id};
use crate::storage::Storage;

/// The most events of a session that wait for the store although the network does not deliver them again: of read messages, of
/// changed numbers, and of changed groups.
const INSISTING: usize = 100;
/// How often the inbox, which has patience of its own, is asked again, and the wait between.
const INSISTED: u32 = 60;
const INSIST_AGAIN: Duration = Duration::from_secs(10);

/// The way from the library to the inbox.
pub struct Receiver {
    inbox: Arc<dyn Inbox>,
    /// Messages that could not be read, and whose sender was asked for them again.
    pub unreadable: Unreadable,
    /// The rows in which a former version kept messages.
    former: Storage,
    /// The rights to wait for the store: of read messages, and of changed numbers.
    insisting: [Arc<Semaphore>; 2],
    /// Changes of groups, which are stored one after another: who was added and removed must not be stored the other way round.
    groups: Arc<Mutex<InOrder>>,
    pub calls: Calls,
    state: Arc<ConnectionState>,
}

/// What waits to be stored one after another. A task stores it, and ends when nothing waits.
#[derive(Default)]
struct InOrder {
    waiting: VecDeque<Delivered>,
    is_storing: bool,
}

/// Called by the library with every message that it decrypts, before it acknowledges the message.
pub struct Hook(pub Arc<Receiver>);

#[async_trait]
impl InboundDurabilityHook for Hook {
    async fn on_messages(&self, client: Arc<Client>, batch: &[InboundMessage]) -> anyhow::Result<()> {
        self.0.messages(&client, batch).await.map_err(anyhow::Error::from)
    }
}

impl Receiver {
    /// `storages`: one for each of the two.
    pub fn new(inbox: Arc<dyn Inbox>, storages: [Storage; 2], state: &Arc<ConnectionState>) -> Self {
        let [unreadable, former] = storages;
        let insisting = [(); 2].map(|()| Arc::new(Semaphore::new(INSISTING)));
        let (groups, calls, state) = (Arc::default(), Calls::new(Arc::clone(&inbox)), Arc::clone(state));
        Self { inbox, unreadable: Unreadable::new(unreadable), former, insisting, groups, calls, state }
    }

    /// Passes on what a former version kept in the rows of the session.
    pub async fn pass_former(&self, client: &Client) {
        let Ok(rows) = self.former.not_taken().await else { return };
        for (key, row) in rows {
            // What this version cannot read, no later one reads.
            if let Some(inbound) = former::read(&row)
                && self.pass(client, vec![inbound]).await.is_err()
            {
                return;
            }
            if self.former.delete_not_taken(key).await.is_err() {
                return;
            }
        }
    }

    /// Stores messages, in their order.
    pub async fn messages(&self, client: &Client, batch: &[InboundMessage]) -> Result<(), NotStored> {
        let mut inbound = Vec::with_capacity(batch.len());
        for message in batch {
            if let Some(envelope) = envelopes::of(client, &message.info, Some(&message.message)).await {
                inbound.extend(incoming::read(&message.message, &envelope));
            }
        }
        let arrived: Vec<_> = inbound.iter().filter_map(body).map(Place::of).collect();
        let stored = self.pass(client, inbound).await;
        if stored.as_ref().is_err_and(|error| !error.is_lasting) {
            // The network delivers it again at the next login only.
            self.state.unstored.store(true, Ordering::Relaxed);
        }
        stored?;
        self.unreadable.forget(&arrived).await;
        Ok(())
    }

    /// Stores this, unless it is nothing.
    pub async fn pass(&self, client: &Client, inbound: Vec<Inbound>) -> Result<(), NotStored> {
        if inbound.is_empty() {
            return Ok(());
        }
        let number = envelopes::own(client).phone;
        self.inbox.receive(Delivered { number, inbound }).await
    }

    /// Stores what the network does not deliver again. While the store does not answer, the tries go on, also after the end of
    /// the session.
    pub fn insist(&self, client: &Client, inbound: Inbound) {
        let [reads, numbers] = &self.insisting;
        let rights = if matches!(inbound, Inbound::Read(_)) { reads } else { numbers };
        let delivered = Delivered { number: envelopes::own(client).phone, inbound: vec![inbound] };
        let Ok(permit) = Arc::clone(rights).try_acquire_owned() else {
            tracing::warn!("event of the network not stored: too many wait for the store");
            return;
        };
        let inbox = Arc::clone(&self.inbox);
        tokio::spawn(async move {
            let _permit = permit;
            insist(&*inbox, delivered).await;
        });
    }

    /// A message could not be read. The library asks its sender for it again.
    pub async fn undecryptable(&self, client: &Client, event: &UndecryptableMessage) {
        let is_once = event.unavailable_type == UnavailableType::ViewOnce;
        // Hidden failures are of changes, which no person sees as a message.
        if event.decrypt_fail_mode == DecryptFailMode::Hide && !is_once {
            return;
        }
        let reason = if is_once { UnsupportedReason::ViewOnce } else { UnsupportedReason::Undecryptable };
        if let Some(envelope) = envelopes::of(client, &event.info, None).await {
            self.unreadable.note(&incoming::unreadable(&envelope, reason)).await;
        }
    }

    /// Stores messages that could not be read and whose time is over.
    pub async fn report_unreadable(&self, client: &Client) {
        for arrival in self.unreadable.due().await {
            let place = Place::of(&arrival);
            if self.pass(client, vec![Inbound::Arrival(Box::new(arrival))]).await.is_err() {
                return;
            }
            self.unreadable.forget(&[place]).await;
        }
    }

    /// A person has another number, or another hidden id.
    pub async fn number_changed(&self, client: &Client, event: &ContactNumberChanged) {
        let old = envelopes::names(client, [Some(&event.old_jid), event.old_lid.as_ref()].into_iter().flatten()).await;
        let new = envelopes::names(client, [Some(&event.new_jid), event.new_lid.as_ref()].into_iter().flatten()).await;
        let at = event.timestamp.timestamp();
        // The network gives it no id that is passed on: the same change has the same one.
        let id = format!("number-change {} {} {at}", event.old_jid.user, event.new_jid.user);
        let arrival = Arrival {
            network_id: network_id(&id),
            group: None,
            person: new,
            from_me: false,
            sent_at: at.saturating_mul(1_000),
            what: What::IdentityChanged { old },
        };
        self.insist(client, Inbound::Arrival(Box::new(arrival)));
    }

    /// A group, or who is in it, changed.
    pub async fn group_changed(&self, client: &Client, update: &GroupUpdate) {
        for arrival in group_changes::arrivals(client, update).await {
            let inbound = vec![Inbound::Arrival(Box::new(arrival))];
            self.insist_in_order(Delivered { number: envelopes::own(client).phone, inbound });
        }
    }

    fn insist_in_order(&self, delivered: Delivered) {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if groups.waiting.len() >= INSISTING {
            tracing::warn!("event of the network not stored: too many wait for the store");
            return;
        }
        groups.waiting.push_back(delivered);
        if std::mem::replace(&mut groups.is_storing, true) {
            return;
        }
        let (inbox, groups) = (Arc::clone(&self.inbox), Arc::clone(&self.groups));
        tokio::spawn(async move {
            while let Some(delivered) = next(&groups) {
                insist(&*inbox, delivered).await;
            }
        });
    }
}

/// The next one to store; `None` ends the task.
fn next(groups: &Mutex<InOrder>) -> Option<Delivered> {
    let mut groups = groups.lock().unwrap_or_else(PoisonError::into_inner);
    let next = groups.waiting.pop_front();
    groups.is_storing = next.is_some();
    next
}

/// Stores what the network does not deliver again.
pub async fn insist(inbox: &dyn Inbox, delivered: Delivered) {
    for _ in 0..INSISTED {
        if inbox.receive(delivered.clone()).await.is_ok() {
            return;
        }
        tokio::time::sleep(INSIST_AGAIN).await;
    }
    tracing::warn!("event of the network not stored");
}

/// The message, if this is one.
fn body(inbound: &Inbound) -> Option<&Arrival> {
    match inbound {
        Inbound::Arrival(arrival) if matches!(arrival.what, What::Message(_)) => Some(arrival),
        _ => None,
    }
}

/// Whether the library passed the message by the hook although people write there: the phone delivered it after the network
/// could not.
pub fn is_recovered(info: &MessageInfo) -> bool {
    info.unavailable_request_id.is_some()
}
