//! Who sent something, in which chat, and when.

use std::collections::HashMap;
use std::fmt::Write;

use recado_domain::clock::Millis;
use recado_domain::ids::NetworkId;
use recado_domain::incoming::{Arrival, Group, SenderIds, What};
use serde::{Deserialize, Serialize};
use whatsapp_rust::wacore_binary::Jid;

/// What is known of a message beside its content.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Envelope {
    /// The network's id.
    pub id: String,
    /// The address of the group; `None`: a chat with one person.
    pub group: Option<String>,
    /// The other person of a direct chat, or the author in a group.
    pub person: SenderIds,
    /// The names of the linked account.
    pub own: SenderIds,
    /// Whether another device of the account sent it.
    pub from_me: bool,
    pub sent_at: Millis,
    /// How long the message is shown, as the network says beside it.
    pub expires_in_seconds: Option<u32>,
    /// Whether the network says that an administrator revokes a message of another member.
    pub by_admin: bool,
    /// The numbers behind hidden ids in the content, as far as the session knows them.
    pub numbers: HashMap<String, String>,
}

impl Envelope {
    /// This, in this envelope.
    pub fn arrival(&self, what: What) -> Arrival {
        Arrival {
            network_id: network_id(&self.id),
            group: self.group.clone().map(|address| Group { address, name: None }),
            person: self.person.clone(),
            from_me: self.from_me,
            sent_at: self.sent_at,
            what,
        }
    }

    /// The time of sending with the milliseconds that the author says, if they are of the second that the network says. Two
    /// changes within a second have an order then.
    pub fn within_second(&self, author_says: Option<i64>) -> Millis {
        author_says.filter(|at| at.div_euclid(1_000) == self.sent_at.div_euclid(1_000)).unwrap_or(self.sent_at)
    }

    /// Who wrote it.
    pub fn author(&self) -> &SenderIds {
        if self.from_me { &self.own } else { &self.person }
    }

    /// Digits of the number of an account; `None` if only the hidden id is known.
    pub fn number_of(&self, account: &Jid) -> Option<String> {
        if account.server.is_pn_family() {
            return Some(account.user.to_string());
        }
        let known = [&self.person, &self.own].into_iter().find(|known| known.lid.as_deref() == Some(&*account.user));
        let known = known.and_then(|known| known.phone.clone());
        known.or_else(|| self.numbers.get(&*account.user).cloned()).filter(|_| account.server.is_lid_family())
    }
}

/// An id as it is stored. What is no id of the usual form gets one that is the same for the same text.
pub fn network_id(id: &str) -> NetworkId {
    id.parse().unwrap_or_else(|_| {
        let mut hashed = String::from("sha256.");
        for byte in whatsapp_rust::wacore::poll::compute_option_hash(id) {
            // Writing to a `String` cannot fail.
            let _ = write!(hashed, "{byte:02x}");
        }
        NetworkId::from_stored(hashed)
    })
}
