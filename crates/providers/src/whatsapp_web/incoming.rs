//! Stores what the session delivers. The driver acknowledges it to the network after that.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use recado_domain::channel::types::whatsapp_web::Settings;
use recado_domain::channel::{Held, SessionNumber};
use recado_domain::clock::millis;
use recado_domain::ids::NetworkId;
use recado_domain::incoming::{ARRIVALS_AT_ONCE, Arrival, Arrivals, Group, Incoming, RAW_LIMIT, SenderIds, What};
use recado_store::StoreError;
use recado_store::sealed::{Place, ReceivedPart, SealError};
use recado_whatsapp_web::{Delivered, Inbound, Inbox, NotStored, Vote};
use secrecy::ExposeSecret;

use crate::arrivals::{Receives, store, takes};
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
        let clock = &self.connection.shared.clock;
        let (until, mut wait) = (clock.now() + millis(PATIENCE), RETRY);
        loop {
            let error = match self.try_receive(&delivered).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            // Another node holds the channel, or there is no such session any more.
            let is_final = matches!(error, StoreError::Fenced) || self.connection.held(self.session).is_none();
            if is_final || clock.now() >= until {
                tracing::warn!(channel.id = %self.connection.via.id, %error, "received messages not stored");
                return Err(NotStored(error.to_string()));
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST);
        }
    }
}

impl SessionInbox {
    async fn try_receive(&self, delivered: &Delivered) -> Result<(), StoreError> {
        let connection = &self.connection;
        let held = connection.held(self.session).ok_or(StoreError::Fenced)?;
        let channel = connection.shared.store.channel(connection.via.key).await?.ok_or(StoreError::Fenced)?;
        let settings: Settings = channel.settings.into();
        let mut arrivals = Vec::with_capacity(delivered.inbound.len());
        for inbound in &delivered.inbound {
            let read = match inbound {
                Inbound::Arrival(arrival) => vec![(**arrival).clone()],
                Inbound::Vote(vote) => self.open(vote, &arrivals).await?.into_iter().collect(),
                Inbound::Read(ids) => self.read(ids).await?,
            };
            arrivals.extend(read.into_iter().filter(|arrival| takes(arrival, settings.groups, settings.own_device)));
        }
        for arrival in &mut arrivals {
            self.seal(arrival).map_err(|error| StoreError::Refused(error.to_string()))?;
        }
        for part in arrivals.chunks(ARRIVALS_AT_ONCE) {
            let arrivals = Arrivals {
                channel: connection.via.key,
                number: delivered.number.clone(),
                business: None,
                windowed: false,

                arrivals: part.to_vec(),
            };
            store(&HeldInbox { connection, held }, arrivals).await?;
        }
        Ok(())
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
        let Some(message) = store.incoming_of_network(key, poll).await? else { return Ok(None) };
        let Some(sealed) = store.incoming_raw(key, message.id).await? else { return Ok(None) };
        let place = self.place(&message.network_id, ReceivedPart::Message);
        let Ok(raw) = self.connection.shared.secrets.open(place, &sealed) else { return Ok(None) };
        Ok(vote.open(raw.expose_secret()))
    }

    /// What the phone has read, in the chats in which it is. The network does not always name the chat.
    async fn read(&self, ids: &[String]) -> Result<Vec<Arrival>, StoreError> {
        let mut arrivals = Vec::new();
        for id in ids {
            let found = self.connection.shared.store.incoming_of_network(self.connection.via.key, id.clone()).await?;
            arrivals.extend(found.map(|message| read_arrival(&message, id)));
        }
        Ok(arrivals)
    }

    fn place<'a>(&self, network_id: &'a str, part: ReceivedPart) -> Place<'a> {
        Place::Received { channel: self.connection.via.key, network_id, part }
    }

    /// Encrypts what holds keys.
    fn seal(&self, arrival: &mut Arrival) -> Result<(), SealError> {
        let What::Message(new) = &mut arrival.what else { return Ok(()) };
        let shared = &self.connection.shared;
        let id = arrival.network_id.as_str();
        let seal = |part, bytes: &[u8]| shared.secrets.seal(self.place(id, part), bytes, &*shared.entropy);
        if let Some(raw) = new.raw.take().filter(|raw| raw.len() <= RAW_LIMIT) {
            new.raw = Some(seal(ReceivedPart::Message, &raw)?);
        }
        if let Some(media) = &mut new.media
            && let Some(file) = media.sealed.take()
        {
            media.sealed = Some(seal(ReceivedPart::File, &file)?);
        }
        Ok(())
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
    async fn receive(&self, arrivals: Arrivals) -> Result<(), StoreError> {
        let shared = &self.connection.shared;
        let stored = shared.store.receive_held(self.held, arrivals, shared.clock.now()).await?;
        stored.map(drop).ok_or(StoreError::Fenced)
    }
}
