//! Sends a message.

use std::sync::Arc;
use std::time::Duration;

use whatsapp_rust::client::ClientError;
use whatsapp_rust::futures::FutureExt;
use whatsapp_rust::futures::channel::oneshot;
use whatsapp_rust::lid_pn_cache::LearningSource;
use whatsapp_rust::request::IqError;
use whatsapp_rust::wacore::iq::usync::LidQuerySpec;
use whatsapp_rust::wacore::messages::MessageUtils;
use whatsapp_rust::wacore::time::now_secs;
use whatsapp_rust::wacore::types::message::AddressingMode;
use whatsapp_rust::wacore_binary::{Jid, Node, OwnedNodeRef};
use whatsapp_rust::{Client, Freshness, NodeFilter, SendError, SendOptions};

use super::body::{self, Author, Body, Quote};
use super::bounded::within;
use super::{Session, own_addresses};

/// Longer than fetching a recipient's devices and keys takes, and shorter than any caller waits.
const LIMIT: Duration = Duration::from_secs(15);
/// The time limit for each of two queries that refresh cached data.
const REFRESH: Duration = Duration::from_secs(3);
/// The seconds for which the cached devices of an account are trusted.
const KEPT: i64 = 24 * 60 * 60;

/// Whom a message or a typing indicator is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addressee {
    /// The digits of the number that [`Session::look_up`] returned.
    Number(String),
    /// The digits of a hidden id (LID), of a person whose number the network does not show.
    Lid(String),
    /// The part of a group's address before `@g.us`.
    Group(String),
}

impl Addressee {
    pub(super) fn jid(&self) -> Jid {
        match self {
            Self::Number(digits) => Jid::pn(digits),
            Self::Lid(digits) => Jid::lid(digits),
            Self::Group(id) => Jid::group(id),
        }
    }

    /// The digits of a person.
    fn person(&self) -> Option<&str> {
        match self {
            Self::Number(digits) | Self::Lid(digits) => Some(digits),
            Self::Group(_) => None,
        }
    }
}

/// A message to one person, or to a group.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The message's id on the network. The network treats a second submission with the same id as the same message.
    pub id: String,
    /// To whom it goes.
    pub to: Addressee,
    pub body: Body,
    /// The message that this message answers.
    pub quote: Option<Quote>,
    /// Fetch the recipient's devices, or the members of the group, again, because the cached ones may be wrong.
    pub refresh: bool,
}

/// A submitted message.
pub struct Submitted {
    ack: oneshot::Receiver<Arc<OwnedNodeRef>>,
    /// The network's hash of the devices that received the message. `None` in a group, where the library sends the keys of
    /// the group to missed devices by itself.
    devices: Option<String>,
}

impl Submitted {
    /// Whether the network knows devices that did not get the message. Then submit the same id once more with `refresh`. The
    /// answer is known when [`Acked`](crate::Event::Acked) has been reported.
    pub fn missed_devices(&mut self) -> bool {
        let Ok(Some(ack)) = self.ack.try_recv() else { return false };
        let known = ack.get().get_attr("phash");
        known.zip(self.devices.as_deref()).is_some_and(|(known, ours)| known.as_str() != ours)
    }
}

/// Why a message, or a typing indicator, was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The connection broke while sending, so the message may have left. The same id may be submitted again.
    #[error("the session is disconnected")]
    Down,
    /// Nothing was sent: the recipient's devices or keys could not be fetched, or the session was disconnected before.
    #[error("nothing was sent: {0}")]
    NotSent(String),
    /// The network knows no device of the recipient: the message reached only the sender's own phone.
    #[error("the recipient has no device that could receive the message")]
    NoDevice,
    /// Nothing was sent: the network says that there is no such group, or that the account is no member of it.
    #[error("the group cannot be written to: {0}")]
    NoGroup(u16),
    #[error("{0}")]
    Other(String),
}

impl Session {
    /// Submits the message to the network. The network's answer comes as [`Acked`](crate::Event::Acked) or
    /// [`Nacked`](crate::Event::Nacked). If no answer comes, the outcome is unknown and the same id may be submitted again.
    pub async fn submit(&self, message: &Outgoing) -> Result<Submitted, SubmitError> {
        if !self.is_up() {
            return Err(SubmitError::Down);
        }
        if (message.refresh || self.devices_are_old(&message.to).await) && self.ask_for_lid(&message.to).await {
            match self.submit_once(message, Freshness::Refresh, REFRESH).await {
                // Use the cached data.
                Err(SubmitError::NotSent(_)) => {}
                sent => return sent,
            }
        }
        self.submit_once(message, Freshness::CachePreferred, LIMIT).await
    }

    async fn submit_once(
        &self,
        message: &Outgoing,
        devices: Freshness,
        limit: Duration,
    ) -> Result<Submitted, SubmitError> {
        let stanza = self.client.wait_for_sent_node(NodeFilter::tag("message").attr("id", &message.id));
        let ack = self.client.wait_for_node(NodeFilter::tag("ack").attr("id", &message.id).attr("class", "message"));
        let to = message.to.jid();
        let options = SendOptions::default()
            .with_message_id(&message.id)
            .with_device_freshness(devices)
            .with_group_metadata_freshness(devices);
        let Some(own) = self.client.pn() else { return Err(SubmitError::NotSent("no account is linked".to_owned())) };
        let author = match &message.quote {
            Some(quote) => self.author(&quote.author, &own, &to).await,
            None => None,
        };
        let quote = message.quote.as_ref().map(|quote| (quote, author.as_ref()));
        let content = body::message(&message.body, quote, &to);
        let client = Arc::clone(&self.client);
        let sent = within(limit, async move { client.send_message_with_options(to, content, options).await }).await;
        // The library reports a stanza before it writes the bytes. A stanza that it did not report has not left.
        let stanza = stanza.now_or_never().and_then(Result::ok);
        match (sent, stanza) {
            // The library also returns `Ok` when the stanza addresses only the sender's own phone.
            (Ok(Ok(_)), Some(stanza)) => match message.to.person() {
                Some(digits) if !reaches(&self.client, &stanza, digits) => Err(SubmitError::NoDevice),
                Some(_) => {
                    let devices = MessageUtils::participant_list_hash(&addressees(&stanza)).ok();
                    Ok(Submitted { ack, devices })
                }
                // The stanza of a group lists only devices that need its keys, so the acknowledgement alone decides.
                None => Ok(Submitted { ack, devices: None }),
            },
            (Ok(Ok(_)), None) => Err(SubmitError::Down),
            (Ok(Err(error)), Some(_)) => Err(send_error(error)),
            (Err(error), Some(_)) => Err(SubmitError::Other(error.to_string())),
            (Ok(Err(error)), None) => Err(not_sent(&error, &message.to)),
            (Err(error), None) => Err(SubmitError::NotSent(error.to_string())),
        }
    }

    /// The address of the author of a quoted message, as the members of the chat know it.
    async fn author(&self, author: &Author, own: &Jid, to: &Jid) -> Option<Jid> {
        match author {
            Author::Own => Some(own.to_non_ad()),
            Author::Recipient => Some(to.clone()),
            Author::Member { phone, lid } => {
                let (phone, lid) = (phone.as_ref().map(Jid::pn), lid.as_ref().map(Jid::lid));
                if phone.is_none() || lid.is_none() {
                    return phone.or(lid);
                }
                let (client, group) = (Arc::clone(&self.client), to.clone());
                // The library caches it, and needs it for the message, too.
                let asked = within(REFRESH, async move { client.groups().query_info(&group).await }).await;
                // A group that may hide numbers must not get one.
                let shows = asked.is_ok_and(|info| info.is_ok_and(|info| info.addressing_mode == AddressingMode::Pn));
                if shows { phone } else { lid }
            }
        }
    }

    /// Whether the devices of an account were fetched too long ago. The library caches them forever, and fetches them by
    /// itself only when it knows none.
    async fn devices_are_old(&self, to: &Addressee) -> bool {
        // The library learns from the network who joins and leaves a group.
        let Some(digits) = to.person() else { return false };
        let lid = self.client.get_lid_pn_entry(&to.jid()).await.ok().flatten();
        let backend = self.client.persistence_manager().backend();
        // The devices are cached under the hidden id, if it is known.
        for user in lid.iter().map(|entry| &*entry.lid).chain([digits]) {
            if let Ok(Some(devices)) = backend.get_devices(user).await {
                return devices.timestamp.saturating_add(KEPT) <= now_secs();
            }
        }
        false
    }

    /// Fetches the current hidden id of a number, which may have a new owner. Returns whether the network answered. A hidden
    /// id itself is of one person forever.
    async fn ask_for_lid(&self, to: &Addressee) -> bool {
        let Addressee::Number(account) = to else { return true };
        let client = Arc::clone(&self.client);
        let (asked, sid) = (Jid::pn(account), format!("lid.{account}"));
        let answer = within(REFRESH, async move {
            let answer = client.execute(LidQuerySpec::new(vec![asked], sid)).await.ok()?;
            for mapping in &answer.lid_mappings {
                // If the mapping cannot be stored, it is fetched again later.
                let _ = client.add_lid_pn_mapping(&mapping.lid, &mapping.phone_number, LearningSource::Usync).await;
            }
            Some(())
        });
        matches!(answer.await, Ok(Some(())))
    }
}

/// The devices that get their own copy.
fn addressees(stanza: &Node) -> Vec<Jid> {
    let listed = stanza.get_optional_child("participants").into_iter().flat_map(|list| list.get_children_by_tag("to"));
    listed.filter_map(|to| to.attrs.get("jid")?.to_string().parse().ok()).collect()
}

/// Whether a device that is not ours gets a copy, or one of ours if we write to ourselves.
fn reaches(client: &Client, stanza: &Node, account: &str) -> bool {
    let own = own_addresses(client);
    let is_ours = |user: &str| own.iter().any(|jid| jid.user == *user);
    addressees(stanza).iter().any(|jid| !is_ours(&jid.user) || is_ours(account))
}

/// The error of a message that has not left.
fn not_sent(error: &SendError, to: &Addressee) -> SubmitError {
    match (error, to) {
        // The question about the group comes before the message. For a person the same codes may be of the login.
        (SendError::Iq(IqError::ServerError { code, .. }), Addressee::Group(_))
            if matches!(code, 401 | 403 | 404 | 410) =>
        {
            SubmitError::NoGroup(*code)
        }
        _ => SubmitError::NotSent(error.to_string()),
    }
}

fn send_error(error: SendError) -> SubmitError {
    match error {
        SendError::NotLoggedIn
        | SendError::Client(ClientError::NotConnected | ClientError::NotLoggedIn | ClientError::Socket(_)) => {
            SubmitError::Down
        }
        error => SubmitError::Other(error.to_string()),
    }
}
