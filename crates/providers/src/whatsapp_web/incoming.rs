//! Stores what the session delivers. The driver acknowledges it to the network after that.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use recado_domain::channel::types::whatsapp_web::Settings;
use recado_domain::channel::{Held, SessionNumber};
use recado_domain::ids::NetworkId;
use recado_domain::incoming::{ARRIVALS_AT_ONCE, Arrival, Arrivals, Group, Incoming, SenderIds, What};
use recado_store::StoreError;
use recado_store::sealed::{Place, ReceivedPart};
use recado_whatsapp_web::{Delivered, Inbound, Inbox, NotStored, Vote};
use secrecy::ExposeSecret;
use tokio::time::Instant;

use crate::arrivals::{Receives, takes};
use crate::refused::{self, Keeper, NotKept};
use crate::whatsapp_web::connection::Connection;

/// How long the store is asked again. After that the network has to deliver it again.
const PATIENCE: Duration = Duration::from_secs(20);
/// The first wait between two tries, which doubles.
const RETRY: Duration = Duration::from_millis(100);
/// The longest wait between two tries.
const LONGEST: Duration = Duration::from_secs(5);

/// The inbox of one of a channel's sessions.
pub struct SessionInbox {
    pub connection: Arc<Connection>,
    pub session: SessionNumber,
}

#[async_trait]
impl Inbox for SessionInbox {
    async fn receive(&self, delivered: Delivered) -> Result<(), NotStored> {
        let (begun, mut wait) = (Instant::now(), RETRY);
        loop {
            let is_last = begun.elapsed() >= PATIENCE;
            let error = match self.try_receive(&delivered, is_last).await {
                Ok(()) => return Ok(()),
                // Another login would not help.
                Err(error @ NotKept::Full) => {
                    tracing::error!(channel.id = %self.connection.via.id, %error, "received messages not acknowledged");
                    return Err(NotStored { why: error.to_string(), is_lasting: true });
                }
                Err(NotKept::Store(error)) => error,
            };
            // Another node holds the channel, or there is no such session any more.
            let is_final = matches!(error, StoreError::Fenced) || self.connection.held(self.session).is_none();
            if is_final || is_last {
                tracing::warn!(channel.id = %self.connection.via.id, %error, "received messages not stored");
                return Err(NotStored { why: error.to_string(), is_lasting: false });
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST);
        }
    }
}

impl SessionInbox {
    /// `is_last`: what cannot be read of earlier messages is left out, because one such row must not keep everything else
    /// from being stored.
    async fn try_receive(&self, delivered: &Delivered, is_last: bool) -> Result<(), NotKept> {
        let connection = &self.connection;
        let held = connection.held(self.session).ok_or(StoreError::Fenced)?;
        let channel = self.unless_unreadable(is_last, connection.shared.store.channel(connection.via.key).await)?;
        let settings: Settings = channel.flatten().map(|channel| channel.settings.into()).unwrap_or_default();
        let mut arrivals = Vec::with_capacity(delivered.inbound.len());
        for inbound in &delivered.inbound {
            let read = match inbound {
                Inbound::Arrival(arrival) => vec![(**arrival).clone()],
                Inbound::Vote(vote) => {
                    let opened = self.unless_unreadable(is_last, self.open(vote, &arrivals).await)?;
                    opened.flatten().into_iter().collect()
                }
                Inbound::Read(ids) => self.unless_unreadable(is_last, self.read(ids).await)?.unwrap_or_default(),
            };
            arrivals.extend(read.into_iter().filter(|arrival| takes(arrival, settings.groups, settings.own_device)));
        }
        for arrival in &mut arrivals {
            match (&arrival.what, &mut arrival.group) {
                // A new name.
                (What::GroupChanged { .. }, Some(Group { address, name: Some(name) })) => {
                    connection.groups.put(address, Some(name.clone()), Instant::now());
                }
                (What::Message(_) | What::GroupChanged { .. }, Some(group)) => {
                    group.name = connection.groups.look(&group.address, Instant::now());
                }
                _ => {}
            }
        }
        let shared = &connection.shared;
        let (store, secrets, clock, entropy) = (&*shared.store, &*shared.secrets, &*shared.clock, &*shared.entropy);
        let keeper = Keeper { store, secrets, clock, entropy, seals: true };
        let mut kept = Ok(());
        for part in arrivals.chunks(ARRIVALS_AT_ONCE) {
            let arrivals = Arrivals {
                channel: connection.via.key,
                number: delivered.number.clone(),
                business: None,
                windowed: false,
                arrivals: part.to_vec(),
            };
            match refused::receive(&HeldInbox { connection, held }, keeper, arrivals).await {
                // The other parts can be stored.
                Err(NotKept::Full) => kept = Err(NotKept::Full),
                stored => stored?,
            }
        }
        kept
    }

    /// What was read; `None` if it is stored in a form that this version cannot read.
    fn unless_unreadable<T>(&self, is_last: bool, read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(error) if is_last || matches!(error, StoreError::Refused(_)) => {
                tracing::warn!(channel.id = %self.connection.via.id, %error, "earlier message not readable");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// A vote with the names of its options. Its poll is among what arrived with it, or is stored. A vote for a poll that
    /// never arrived cannot be read.
    async fn open(&self, vote: &Vote, before: &[Arrival]) -> Result<Option<Arrival>, StoreError> {
        let poll = vote.poll();
        let of_batch = before.iter().rev().filter(|arrival| arrival.network_id.as_str() == poll);
        let raw = |arrival: &'_ Arrival| match &arrival.what {
            What::Message(new) => new.raw.clone(),
            _ => None,
        };
        if let Some(opened) = of_batch.filter_map(raw).find_map(|raw| vote.open(&raw)) {
            return Ok(Some(opened));
        }
        let (store, key) = (&self.connection.shared.store, self.connection.via.key);
        for message in store.incoming_of_network(key, poll).await? {
            let Some(sealed) = store.incoming_raw(key, message.id).await? else { continue };
            let place = self.place(&message.network_id, ReceivedPart::Message);
            let Ok(raw) = self.connection.shared.secrets.open(place, &sealed) else { continue };
            if let Some(opened) = vote.open(raw.expose_secret()) {
                return Ok(Some(opened));
            }
        }
        Ok(None)
    }

    /// What the phone has read, in the chats in which it is. The network does not always name the chat. An id that several
    /// people chose says nothing.
    async fn read(&self, ids: &[String]) -> Result<Vec<Arrival>, StoreError> {
        let mut arrivals = Vec::new();
        for id in ids {
            let found = self.connection.shared.store.incoming_of_network(self.connection.via.key, id.clone()).await?;
            if let [message] = &*found {
                arrivals.push(read_arrival(message, id));
            }
        }
        Ok(arrivals)
    }

    fn place<'a>(&self, network_id: &'a str, part: ReceivedPart) -> Place<'a> {
        Place::Received { channel: self.connection.via.key, network_id, part }
    }
}

/// The phone has read this message, and those before it in its conversation.
fn read_arrival(message: &Incoming, id: &str) -> Arrival {
    let is_group = message.chat == recado_domain::event::ChatKind::Group;
    let target = NetworkId::from_stored(message.network_id.clone());
    let person = if message.body.sender.is_nobody() {
        SenderIds { phone: Some(message.address.clone()), ..SenderIds::default() }.cleaned()
    } else {
        message.body.sender.clone()
    };
    Arrival {
        network_id: NetworkId::from_stored(format!("read {id}")),
        group: is_group.then(|| Group { address: message.address.clone(), name: message.chat_name.clone() }),
        person,
        from_me: false,
        sent_at: message.sent_at,
        what: What::ReadSelf { targets: vec![target] },
    }
}

/// Stores for a session that this node holds.
struct HeldInbox<'a> {
    connection: &'a Connection,
    held: Held,
}

#[async_trait]
impl Receives for HeldInbox<'_> {
    async fn receive(&self, mut arrivals: Arrivals) -> Result<(), StoreError> {
        let shared = &self.connection.shared;
        for arrival in &mut arrivals.arrivals {
            refused::seal(self.held.channel, arrival, &shared.secrets, &*shared.entropy);
        }
        let stored = shared.store.receive_held(self.held, arrivals, shared.clock.now()).await?;
        stored.map(drop).ok_or(StoreError::Fenced)
    }
}
