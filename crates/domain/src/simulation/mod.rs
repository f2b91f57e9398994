//! The simulation of a person on the sandbox's network: the call, and the arrival that it produces.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

mod emoji;
mod parse;
mod types;

use serde::{Deserialize, Serialize};

use crate::address::GROUP;
use crate::clock::Millis;
use crate::ids::{ChannelId, NetworkId};
use crate::incoming::{
    Arrival, Choice, ChoiceKind, Content, Group, MatchedBy, NewIncoming, NewMedia, Quoted, SenderIds, What,
};

use crate::transient::Typing;

pub use types::{EXAMPLE, body_schema, names};

/// A valid call.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulation {
    /// The names of the person who acts.
    pub person: SenderIds,
    pub act: Act,
    /// The message that the act is about: its id, or its network id.
    pub target: Option<Target>,
    /// The channel; `None`: the channel `sandbox` of the institution.
    pub channel: Option<ChannelId>,
    /// The name or the address of a group.
    pub group: Option<String>,
    pub sent_at: Option<Millis>,
    /// How often the network delivers it.
    pub repeat: u32,
    /// Whether the network delivers it only after the next act of the channel.
    pub out_of_order: bool,
    /// Whether the channel behaves from now on as if it had Meta's window; `None`: as before.
    pub windowed: Option<bool>,
}

/// The message that an act is about, and the field that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub name: String,
    pub field: &'static str,
}

/// What the person does. The form is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case")]
pub enum Act {
    /// Writes a message. `echo`: another device of the channel writes it.
    Say {
        content: Content,
        text: String,
        #[serde(default)]
        media: Option<Box<NewMedia>>,
        #[serde(default)]
        choice: Option<ChoiceKind>,
        #[serde(default)]
        echo: bool,
    },
    React {
        emoji: Option<String>,
    },
    Edit {
        text: String,
    },
    Revoke,
    Vote {
        options: Vec<String>,
    },
    /// The person gets these names.
    Change {
        new: SenderIds,
    },
    /// Types, or stops. It is no arrival, because nothing stores it.
    Typing {
        state: Typing,
    },
}

/// The prefix of the remote id of a file that the network has lost.
pub const EXPIRED: &str = "expired:";

/// The prefix of the remote id of a file whose bytes are those of a received one, before the id of that one. The gateway puts
/// the remote id of the received file in its place.
pub const OF_MEDIA: &str = "media:";

/// The text for a medium that is not there.
pub const NO_MEDIA: &str = "O campo content.mediaId deve ser o id de uma midia recebida que ainda existe.";

/// An act as the network delivers it. All values are fixed, so that each repetition is the same. The form is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Simulated {
    pub network_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<SimulatedGroup>,
    pub person: SenderIds,
    pub sent_at: Millis,
    /// The network id of the message that the act is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    pub act: Act,
}

/// A group of the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimulatedGroup {
    pub address: String,
    pub name: Option<String>,
}

impl SimulatedGroup {
    /// The group of this name. A group that is named by its address has no name.
    pub fn named(given: &str) -> Self {
        let is_address = |digits: &str| crate::ids::is_account(digits);
        if given.strip_suffix(GROUP).is_some_and(is_address) {
            return Self { address: given.to_owned(), name: None };
        }
        // FNV-1a: the same name always gives the same address.
        let hash = given
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self { address: format!("{hash:020}{GROUP}"), name: Some(given.to_owned()) }
    }
}

impl Simulated {
    /// The name of the type, as the call has it.
    pub fn kind(&self) -> &'static str {
        match &self.act {
            Act::Say { echo: true, .. } => "echo",
            Act::Say { content, .. } => content.name(),
            Act::React { .. } => "reaction",
            Act::Edit { .. } => "edit",
            Act::Revoke => "revoke",
            Act::Vote { .. } => "poll_vote",
            Act::Change { .. } => "number_change",
            Act::Typing { .. } => "typing",
        }
    }

    /// The arrival that the gateway receives. `None`: nothing arrives. A row of a newer version may lack a target that this act
    /// needs.
    pub fn arrival(&self) -> Option<Arrival> {
        let target = self.target.clone();
        let id = || target.clone().map(NetworkId::from_stored);
        let mut person = self.person.clone();
        let mut from_me = false;
        let what = match &self.act {
            Act::Say { content, text, media, choice, echo } => {
                from_me = *echo;
                let choice = choice.map(|kind| chosen(kind, content, target.clone()));
                let reply_to = target.clone().map(Quoted::of_id);
                let new = NewIncoming {
                    media: media.as_deref().cloned(),
                    choice,
                    reply_to,
                    ..NewIncoming::new(content.clone(), text)
                };
                What::Message(Box::new(new))
            }
            Act::React { emoji } => What::Reaction { target: id()?, emoji: emoji.clone() },
            Act::Edit { text } => What::Edit { target: id()?, content: text.clone() },
            Act::Revoke => What::Revoke { target: id()?, by_admin: false },
            Act::Vote { options } => What::PollVote { target: id()?, options: options.clone() },
            Act::Change { new } => {
                let old = std::mem::replace(&mut person, SenderIds { name: self.person.name.clone(), ..new.clone() });
                What::IdentityChanged { old }
            }
            Act::Typing { .. } => return None,
        };
        let group = self.group.clone().map(|group| Group { address: group.address, name: group.name });
        let network_id = NetworkId::from_stored(self.network_id.clone());
        // In a group the person of a message is its author. An echo has none, because the channel is no person.
        let person = if from_me && group.is_some() { SenderIds::default() } else { person };
        Some(Arrival { network_id, group, person, from_me, sent_at: self.sent_at, what })
    }
}

fn chosen(kind: ChoiceKind, content: &Content, target: Option<String>) -> Choice {
    let (id, title) = match content {
        Content::Button { id, title, .. } => (id.clone(), title.clone()),
        _ => (None, None),
    };
    Choice { message_id: None, network_id: target, id, title, kind, matched_by: MatchedBy::Network }
}

#[cfg(test)]
mod tests;
