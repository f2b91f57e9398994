//! Sends a message.

use std::sync::Arc;
use std::time::Duration;

use whatsapp_rust::client::ClientError;
use whatsapp_rust::futures::FutureExt;
use whatsapp_rust::futures::channel::oneshot;
use whatsapp_rust::lid_pn_cache::LearningSource;
use whatsapp_rust::wacore::iq::usync::LidQuerySpec;
use whatsapp_rust::wacore::messages::MessageUtils;
use whatsapp_rust::wacore::time::now_secs;
use whatsapp_rust::wacore_binary::{Jid, Node, OwnedNodeRef};
use whatsapp_rust::{Client, Freshness, NodeFilter, SendError, SendOptions};

use super::body::{self, Body, Quote};
use super::bounded::within;
use super::{Session, own_addresses};

/// Longer than a recipient's devices and keys take to fetch, shorter than anybody waits.
const LIMIT: Duration = Duration::from_secs(15);
/// The longest for each of two questions for what is known already.
const REFRESH: Duration = Duration::from_secs(3);
/// Seconds for which the devices of an account are believed.
const KEPT: i64 = 24 * 60 * 60;

/// A message to one account.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The message's id on the network: the same id again is the same message again.
    pub id: String,
    /// Digits, as [`Session::look_up`] gave them.
    pub account: String,
    pub body: Body,
    /// The message that it answers.
    pub quote: Option<Quote>,
    /// The recipient's devices are asked for anew: there is reason to doubt those that are known.
    pub refresh: bool,
}

/// A message that was handed to the network.
pub struct Submitted {
    ack: oneshot::Receiver<Arc<OwnedNodeRef>>,
    /// A hash of the devices that it was sent to, as the network makes it.
    devices: Option<String>,
}

impl Submitted {
    /// Whether the network knows other devices than those that the message was sent to: the same id is to be submitted once
    /// more, to devices that were asked for anew. It is known when [`Acked`](crate::Event::Acked) is told.
    pub fn missed_devices(&mut self) -> bool {
        let Ok(Some(ack)) = self.ack.try_recv() else { return false };
        let known = ack.get().get_attr("phash");
        known.zip(self.devices.as_deref()).is_some_and(|(known, ours)| known.as_str() != ours)
    }
}

/// Why a message, or a sign, did not leave.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// It may have left all the same: the line broke on the way. The same id may be submitted again.
    #[error("the line is down")]
    Down,
    /// Nothing of it left: its devices or their keys could not be asked for, or the line was down before it was ready.
    #[error("nothing was sent: {0}")]
    NotSent(String),
    /// The network knows no device of the recipient: the message went to the sender's own phone alone.
    #[error("the recipient has no device that could receive the message")]
    NoDevice,
    #[error("{0}")]
    Other(String),
}

impl Session {
    /// Hands the message to the network. Whether the network takes it comes as
    /// [`Acked`](crate::Event::Acked) or [`Nacked`](crate::Event::Nacked): no answer is no answer, and the same id may
    /// be submitted again.
    pub async fn submit(&self, message: &Outgoing) -> Result<Submitted, SubmitError> {
        if !self.is_up() {
            return Err(SubmitError::Down);
        }
        if (message.refresh || self.devices_are_old(&message.account).await) && self.ask_for_lid(&message.account).await
        {
            match self.hand_over(message, Freshness::Refresh, REFRESH).await {
                // What is known has to do.
                Err(SubmitError::NotSent(_)) => {}
                sent => return sent,
            }
        }
        self.hand_over(message, Freshness::CachePreferred, LIMIT).await
    }

    async fn hand_over(
        &self,
        message: &Outgoing,
        devices: Freshness,
        limit: Duration,
    ) -> Result<Submitted, SubmitError> {
        let stanza = self.client.wait_for_sent_node(NodeFilter::tag("message").attr("id", &message.id));
        let ack = self.client.wait_for_node(NodeFilter::tag("ack").attr("id", &message.id).attr("class", "message"));
        let to = Jid::pn(&message.account);
        let options = SendOptions::default().with_message_id(&message.id).with_device_freshness(devices);
        let Some(own) = self.client.pn() else { return Err(SubmitError::NotSent("no account is linked".to_owned())) };
        let content = body::message(&message.body, message.quote.as_ref(), &own.to_non_ad(), &to);
        let client = Arc::clone(&self.client);
        let sent = within(limit, async move { client.send_message_with_options(to, content, options).await }).await;
        // The library tells of a stanza before it hands the bytes on. Of one that it did not tell of, none has left.
        let stanza = stanza.now_or_never().and_then(Result::ok);
        match (sent, stanza) {
            // The library says `Ok` too when nobody but the sender's own phone is in the stanza.
            (Ok(Ok(_)), Some(stanza)) if reaches(&self.client, &stanza, &message.account) => {
                let devices = MessageUtils::participant_list_hash(&addressees(&stanza)).ok();
                Ok(Submitted { ack, devices })
            }
            (Ok(Ok(_)), Some(_)) => Err(SubmitError::NoDevice),
            (Ok(Ok(_)), None) => Err(SubmitError::Down),
            (Ok(Err(error)), Some(_)) => Err(send_error(error)),
            (Err(error), Some(_)) => Err(SubmitError::Other(error.to_string())),
            (Ok(Err(error)), None) => Err(SubmitError::NotSent(error.to_string())),
            (Err(error), None) => Err(SubmitError::NotSent(error.to_string())),
        }
    }

    /// Whether the devices of an account were last asked for too long ago. The library keeps them without an end, and asks
    /// by itself only where it knows none.
    async fn devices_are_old(&self, account: &str) -> bool {
        let lid = self.client.get_lid_pn_entry(&Jid::pn(account)).await.ok().flatten();
        let backend = self.client.persistence_manager().backend();
        // Under the hidden id, where that is known.
        for user in lid.iter().map(|entry| &*entry.lid).chain([account]) {
            if let Ok(Some(devices)) = backend.get_devices(user).await {
                return devices.timestamp.saturating_add(KEPT) <= now_secs();
            }
        }
        false
    }

    /// Asks which hidden id a number has now: it may have gone to somebody else. Whether the network answered.
    async fn ask_for_lid(&self, account: &str) -> bool {
        let client = Arc::clone(&self.client);
        let (asked, sid) = (Jid::pn(account), format!("lid.{account}"));
        let answer = within(REFRESH, async move {
            let answer = client.execute(LidQuerySpec::new(vec![asked], sid)).await.ok()?;
            for mapping in &answer.lid_mappings {
                // Where it cannot be kept, it is asked for again.
                let _ = client.add_lid_pn_mapping(&mapping.lid, &mapping.phone_number, LearningSource::Usync).await;
            }
            Some(())
        });
        matches!(answer.await, Ok(Some(())))
    }
}

/// The devices that get a copy of their own.
fn addressees(stanza: &Node) -> Vec<Jid> {
    let listed = stanza.get_optional_child("participants").into_iter().flat_map(|list| list.get_children_by_tag("to"));
    listed.filter_map(|to| to.attrs.get("jid")?.to_string().parse().ok()).collect()
}

/// Whether a device that is not ours gets a copy; our own, when we write to ourselves.
fn reaches(client: &Client, stanza: &Node, account: &str) -> bool {
    let own = own_addresses(client);
    let is_ours = |user: &str| own.iter().any(|jid| jid.user == *user);
    addressees(stanza).iter().any(|jid| !is_ours(&jid.user) || is_ours(account))
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
