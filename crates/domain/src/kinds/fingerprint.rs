//! The fingerprint of a call: it covers the channel, the meaning of the fields, and the scenario.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use super::{Call, Common};
use crate::channel::ChannelKey;

/// The parts of a fingerprint, in an order that is the same in every version.
pub struct Parts<'a> {
    /// Whether addresses are composed (NFC) first. Earlier versions stored them as given, which is `composed` false.
    pub composed: bool,
    before: Vec<Option<Cow<'a, str>>>,
    after: Vec<Option<Cow<'a, str>>>,
}

impl<'a> Parts<'a> {
    /// Adds values without names, before the scenario.
    pub fn push(&mut self, values: impl IntoIterator<Item = Option<Cow<'a, str>>>) {
        self.before.extend(values);
    }

    /// Adds values without names, after the scenario.
    pub fn push_behind(&mut self, values: impl IntoIterator<Item = Option<Cow<'a, str>>>) {
        self.after.extend(values);
    }

    /// Adds a value with its name, if there is a value: an absent field leaves the fingerprint as it was before the field
    /// existed. A mark before the name distinguishes it from a value.
    pub fn push_named(&mut self, name: &'static str, value: Option<Cow<'a, str>>) {
        if value.is_some() {
            self.after.extend([None, Some(name.into()), value]);
        }
    }

    /// Adds the name of a kind, and its content. No contact begins like this, because a contact always has a name.
    pub fn push_content(&mut self, kind: &'static str, values: impl IntoIterator<Item = Option<Cow<'a, str>>>) {
        self.before.extend([None, Some(kind.into())]);
        self.before.extend(values);
    }
}

impl Call {
    /// The fingerprint of the call on a channel. `composed`: see [`Parts::composed`].
    pub fn fingerprint(&self, channel: ChannelKey, scenario: Option<&str>, composed: bool) -> [u8; 32] {
        let mut parts = Parts { composed, before: Vec::with_capacity(8), after: Vec::new() };
        let Common { to, conversation, .. } = &self.common;
        // The address of a conversation may change between a call and its repetition.
        let to = || to.as_ref().map(|to| to.address.as_str().into());
        parts.push([conversation.map(|id| id.to_string().into()).or_else(to)]);
        self.content.fingerprint(&mut parts);
        self.common.fingerprint(&mut parts);
        let mut hash = Sha256::new().chain_update(channel.to_be_bytes());
        let scenario = scenario.map(Cow::Borrowed);
        for part in parts.before.into_iter().chain([scenario]).chain(parts.after) {
            // With its length before it, so that text cannot move from one field to the next.
            let length = part.as_deref().map_or(u64::MAX, |text| text.len() as u64);
            hash = hash.chain_update(length.to_be_bytes()).chain_update(part.as_deref().unwrap_or_default());
        }
        hash.finalize().into()
    }
}
