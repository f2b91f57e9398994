//! Builds the content of one message: its body, the accounts of the numbers on its cards, and the message that it quotes.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream};
use recado_domain::address::AddressKind;
use recado_domain::incoming::{Direction, Incoming};
use recado_domain::kinds::Content;
use recado_domain::kinds::contact::Contact;
use recado_domain::message::{ContactRendition, Target};
use recado_domain::queue::Claimed;
use recado_store::StoreError;
use recado_store::sealed::{Place, ReceivedPart};
use recado_whatsapp_web::{Author, Body, Card, Quote, Quoted};
use secrecy::ExposeSecret;
use tokio::time::{Instant, timeout_at};

use super::connection::Connection;
use crate::SendOutcome;
use crate::pairing::ConnectionError;
use crate::quoted::{self, readable};

/// The time limit for finding the accounts of the numbers on cards. The cards can be sent without them.
const CARD: Duration = Duration::from_secs(3);
/// Numbers of cards that are looked up concurrently.
const LOOK_UPS: usize = 8;

/// The body of a message. `None`: a newer version stored the message in another form.
pub(super) fn body(content: &Content, rendition: Option<&ContactRendition>) -> Option<Body> {
    match content {
        Content::Contact(contact) => cards(contact, rendition?),
        Content::Text(content) => Some(Body::Text(content.text.content.clone())),
        Content::Location(content) => {
            let place = content.location.clone();
            let (latitude, longitude) = (place.latitude, place.longitude);
            Some(Body::Location { latitude, longitude, name: place.name, address: place.address })
        }
    }
}

fn cards(contact: &Contact, rendition: &ContactRendition) -> Option<Body> {
    let names = contact.cards().ok()?;
    if names.len() != rendition.cards.len() {
        return None;
    }
    let cards = names.into_iter().zip(&rendition.cards);
    let mut cards: Vec<_> =
        cards.map(|(card, rendered)| Card { display_name: card.name, vcard: rendered.vcard.clone() }).collect();
    match cards.len() {
        1 => cards.pop().map(Body::Contact),
        // WhatsApp's own clients use this name for a list of cards.
        several => Some(Body::Contacts { display_name: format!("{several} contatos"), contacts: cards }),
    }
}

impl Connection {
    /// The cards with the accounts that the network names for their numbers. `None`: the cards stay as they were accepted,
    /// also if a number has no account or the lookup fails, because the recipient can still receive them. The message shows
    /// the source of each account.
    pub(super) async fn find_accounts(
        &self,
        content: &Content,
        accepted: Option<&ContactRendition>,
    ) -> Result<Option<ContactRendition>, SendOutcome> {
        let Content::Contact(contact) = content else { return Ok(None) };
        let Some(accepted) = accepted.filter(|accepted| !accepted.is_complete()) else { return Ok(None) };
        let cards = contact.cards().map_err(|_| super::send::unreadable())?;
        let mut named = accepted.all_named();
        let phones = cards.iter().zip(&named).flat_map(|(card, named)| card.phones.iter().zip(named));
        let unknown =
            phones.filter(|(_, account)| account.is_none()).map(|(phone, _)| phone.number.digits().to_owned());
        let found = self.accounts_of(unknown.collect()).await.map_err(|error| self.lookup_failed(error))?;
        if found.is_empty() {
            return Ok(None);
        }
        for (phone, account) in cards.iter().zip(&mut named).flat_map(|(card, named)| card.phones.iter().zip(named)) {
            if account.is_none() {
                *account = found.get(phone.number.digits()).cloned();
            }
        }
        Ok(Some(ContactRendition::of(&cards, &named)))
    }

    /// The accounts that are found in time, by their numbers.
    async fn accounts_of(&self, numbers: BTreeSet<String>) -> Result<HashMap<String, String>, ConnectionError> {
        let until = Instant::now() + CARD;
        let look_ups: Vec<_> = numbers.into_iter().map(|number| self.account_of(number, until).boxed()).collect();
        let found: Vec<_> = stream::iter(look_ups).buffer_unordered(LOOK_UPS).collect().await;
        found.into_iter().filter_map(Result::transpose).collect()
    }

    async fn account_of(&self, number: String, until: Instant) -> Result<Option<(String, String)>, ConnectionError> {
        match timeout_at(until, self.look_up(&number)).await {
            Ok(Ok(known)) => Ok(known.account.map(|account| (number, account))),
            // A rate-limited lookup must not delay a message either: the typed digits stay.
            Ok(Err(ConnectionError::NoAnswer | ConnectionError::TooMany(_))) | Err(_) => Ok(None),
            Ok(Err(error)) => Err(error),
        }
    }

    /// The message that another one quotes. If the outcome of that message is unknown, the quote includes its content.
    pub(super) async fn quote(&self, message: &Claimed, target: Option<Target>) -> Result<Option<Quote>, SendOutcome> {
        let Some(target) = target else { return Ok(None) };
        if target.received {
            let quote = self.received(target, AddressKind::of(&message.recipient) == AddressKind::Group).await;
            return quote.map(Some).map_err(|error| self.lookup_failed(error.into()));
        }
        let quoted = match quoted::read(&*self.shared.store, self.via.key, target).await {
            Ok(quoted) => quoted,
            Err(error) => return Err(error.outcome().unwrap_or_else(|error| self.lookup_failed(error.into()))),
        };
        let body = quoted.content.and_then(|(content, rendition)| body(&content, rendition.as_ref()));
        Ok(Some(Quote { id: quoted.network_id, author: Author::Own, content: body.map(Quoted::Body) }))
    }

    /// A quote of a message that the network delivered.
    async fn received(&self, target: Target, in_group: bool) -> Result<Quote, StoreError> {
        let nobody = Author::Member { phone: None, lid: None };
        let Some(message) = readable(self.shared.store.incoming(self.via.key, target.id).await)? else {
            // It was purged since, or this version cannot read it.
            let author = if in_group { nobody } else { Author::Recipient };
            return Ok(Quote { id: target.network_id, author, content: None });
        };
        let sender = &message.body.sender;
        let author = match message.direction {
            Direction::Outbound => Author::Own,
            Direction::Inbound if in_group => Author::Member { phone: sender.phone.clone(), lid: sender.lid.clone() },
            Direction::Inbound => Author::Recipient,
        };
        let content = self.content_of(&message).await?;
        Ok(Quote { id: message.network_id, author, content })
    }

    /// The content of a message that the network delivered: its own form, or else the text.
    async fn content_of(&self, message: &Incoming) -> Result<Option<Quoted>, StoreError> {
        if message.revoked_at.is_some() {
            return Ok(None);
        }
        // The network's form is that before an edit.
        if message.edited_at.is_none()
            && let Some(sealed) = readable(self.shared.store.incoming_raw(self.via.key, message.id).await)?
        {
            let (channel, network_id, part) = (self.via.key, &*message.network_id, ReceivedPart::Message);
            let opened = self.shared.secrets.open(Place::Received { channel, network_id, part }, &sealed);
            if let Ok(raw) = opened {
                return Ok(Some(Quoted::Raw(raw.expose_secret().to_vec())));
            }
        }
        let text = Some(message.body.text.clone()).filter(|text| !text.is_empty());
        Ok(text.map(|text| Quoted::Body(Body::Text(text))))
    }
}
