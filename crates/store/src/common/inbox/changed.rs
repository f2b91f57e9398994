//! The events of changes, and the votes of polls.

use recado_domain::contact_book::Contact;
use recado_domain::event::{ChatKind, EventSubject};
use recado_domain::ids::{ContactId, ConversationId, MessageId};
use recado_domain::incoming::{Arrival, Content, Direction, Incoming, PollResult, SenderIds};
use serde_json::json;

use super::{Receiving, announce, deliver, json, targets, to_json};
use crate::clock::rfc3339;
use crate::common::PageScan;
use crate::sqlkit::both::{Row, values};

/// The voter that is the channel itself.
pub(super) const ME: &str = "me";

/// The author of a change of a message.
pub(super) struct By<'a> {
    pub contact: Option<&'a Contact>,
    pub arrival: &'a Arrival,
}

impl By<'_> {
    pub fn contact(&self) -> Option<ContactId> {
        self.contact.map(|contact| contact.id).filter(|_| !self.arrival.from_me)
    }

    /// The number of the person, from the contact if this change hides it.
    pub fn phone(&self) -> Option<String> {
        let known = || self.contact.and_then(|contact| contact.account.clone());
        self.arrival.person.phone.clone().or_else(known).filter(|_| !self.arrival.from_me)
    }

    /// The name under which a vote or a reaction of the person is stored.
    pub fn voter(&self) -> String {
        match self.contact() {
            Some(contact) => contact.to_string(),
            None if self.arrival.from_me => ME.to_owned(),
            None => self.arrival.person.address(),
        }
    }

    pub fn sender(&self) -> serde_json::Value {
        let arrival = self.arrival;
        let names = if arrival.from_me { SenderIds::default() } else { arrival.person.clone() };
        let names = SenderIds { phone: self.phone(), ..names };
        let view = crate::views::sender(&names, self.contact().map(|id| id.to_string()), arrival.from_me);
        serde_json::to_value(view).unwrap_or_default()
    }

    /// Whether the message is the person's own.
    pub fn wrote(&self, message: &Incoming) -> bool {
        match message.direction {
            Direction::Outbound => self.arrival.from_me,
            Direction::Inbound => {
                let same = self.contact().is_some() && message.contact == self.contact();
                let direct = message.chat == ChatKind::Direct;
                !self.arrival.from_me && (same || direct || targets::share(&message.body.sender, &self.arrival.person))
            }
        }
    }
}

/// The message that an event of a change names.
pub(super) struct About {
    pub id: MessageId,
    pub network_id: String,
    pub conversation: Option<ConversationId>,
}

impl About {
    pub fn of(message: &Incoming) -> Self {
        Self { id: message.id, network_id: message.network_id.clone(), conversation: Some(message.conversation) }
    }

    fn subjects(&self) -> (EventSubject, Option<EventSubject>) {
        (*self.id.as_bytes(), self.conversation.map(|id| *id.as_bytes()))
    }
}

async fn record<E: PageScan>(
    of: &Receiving<'_, E>,
    name: &'static str,
    about: &About,
    by: &By<'_>,
    data: String,
) -> Result<(), E::Error> {
    let kind = deliver::chat(by.arrival, by.contact).kind;
    of.announce(name, about.subjects(), kind, data).await
}

pub(super) async fn reaction<E: PageScan>(
    of: &Receiving<'_, E>,
    about: &About,
    by: &By<'_>,
    emoji: Option<&str>,
) -> Result<(), E::Error> {
    if !of.announces {
        return Ok(());
    }
    let from = if by.arrival.from_me { of.batch.number.clone() } else { by.phone() };
    let data = json!({
        "messageId": about.id, "networkId": about.network_id, "conversationId": about.conversation, "from": from,
        "sender": by.sender(), "emoji": emoji, "at": rfc3339(by.arrival.sent_at),
    });
    record(of, "message.reaction", about, by, data.to_string()).await
}

pub(super) async fn edit<E: PageScan>(
    of: &Receiving<'_, E>,
    about: &About,
    by: &By<'_>,
    content: &str,
    previous: Option<&str>,
) -> Result<(), E::Error> {
    if !of.announces {
        return Ok(());
    }
    let data = json!({
        "messageId": about.id, "networkId": about.network_id, "conversationId": about.conversation,
        "sender": by.sender(), "content": announce::shortened(content),
        "previousContent": previous.map(announce::shortened), "at": rfc3339(by.arrival.sent_at),
    });
    record(of, "message.edited", about, by, data.to_string()).await
}

pub(super) async fn revocation<E: PageScan>(
    of: &Receiving<'_, E>,
    about: &About,
    by: &By<'_>,
    by_admin: bool,
) -> Result<(), E::Error> {
    if !of.announces {
        return Ok(());
    }
    let data = json!({
        "messageId": about.id, "networkId": about.network_id, "conversationId": about.conversation,
        "sender": by.sender(), "by": if by_admin { "ADMIN" } else { "SENDER" }, "at": rfc3339(by.arrival.sent_at),
    });
    record(of, "message.revoked", about, by, data.to_string()).await
}

/// The most options in the result of a poll that is not stored.
const NAMES: usize = 32;

/// Stores a vote, and counts the votes of the poll. `None`: a later vote of the person is stored.
pub(super) async fn vote<E: PageScan>(
    of: &Receiving<'_, E>,
    by: &By<'_>,
    about: &About,
    options: &[String],
    poll: Option<&Incoming>,
) -> Result<Option<Vec<PollResult>>, E::Error> {
    let voter = by.voter();
    let sql = "INSERT INTO poll_votes (channel_key, poll, voter, options, at) VALUES (?1, ?2, ?3, ?4, ?5)
               ON CONFLICT (channel_key, poll, voter) DO UPDATE SET options = excluded.options, at = excluded.at
                   WHERE poll_votes.at < excluded.at";
    let (chosen, at) = (to_json(&options), by.arrival.sent_at);
    if of.db.run(sql, values![of.channel, about.network_id, voter, chosen, at]).await? == 0 {
        return Ok(None);
    }
    let sql = "SELECT options FROM poll_votes WHERE channel_key = ?1 AND poll = ?2 LIMIT 5000";
    let read = |row: &Row<'_>| json::<Vec<String>>(row, "options");
    let given: Vec<String> =
        of.db.rows(sql, values![of.channel, about.network_id], read).await?.into_iter().flatten().collect();
    let mut names: Vec<String> = match poll.map(|poll| &poll.body.content) {
        Some(Content::Poll { options, .. }) => options.clone(),
        _ => Vec::new(),
    };
    // If the poll is not stored, its options are those of the votes, so their number is limited.
    for name in given.iter().filter(|_| poll.is_none()) {
        if names.len() < NAMES && !names.contains(name) {
            names.push(name.clone());
        }
    }
    let count = |name: &String| given.iter().filter(|vote| *vote == name).count();
    let results: Vec<_> = names.iter().map(|name| PollResult { option: name.clone(), votes: count(name) }).collect();
    if !of.announces {
        return Ok(Some(results));
    }
    let data = json!({
        "messageId": about.id, "conversationId": about.conversation, "sender": by.sender(), "options": options,
        "results": results, "at": rfc3339(by.arrival.sent_at),
    });
    record(of, "message.poll_vote", about, by, data.to_string()).await?;
    Ok(Some(results))
}
